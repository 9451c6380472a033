# SPDX-License-Identifier: Apache-2.0
"""Trains all networks together, in two stages: `--stage image`, then `--stage clip`.

Both regress the styled picture on the runtime's own trajectory: the *source* latent is noised to the
first timestep, the network's estimate is noised again to the second, and so on; a later step learns
on what the earlier ones really produced. The image stage leaves the motion modules out; the clip
stage runs whole clips through the runtime's attention window and asks for stable motion. Text
encoder and autoencoder start from train_text.py's and train_autoencoder.py's and go on learning: in
the image stage the encoder learns to keep what the styles need of a photo, in both the decoder gets to
know the denoiser's latents.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F

import bpe
import common
import data
import grammar
from model.clip_text import ClipText
from model.scheduler import Scheduler
from model.structure import luma
from model.taesd import Taesd
from model.unet import UNet
from model.window import ClipWindow
from train_autoencoder import detail_loss

# t_index_list, of 50, for 1, 2 and 4 steps; a timestep comes either first or later, never both.
SCHEDULES = ([43], [43, 47], [40, 44, 46, 48])
MOVE = 5        # pixels that a picture's second view may be moved by


def start_as_identity(unet, gain):
    """Lets a fresh denoiser say "the noise is gain * input", a far better start than zero.

    The input's 16 channels travel as pairs (x, -x) through conv_in, the last skip connection and
    its 1x1 shortcut to the output, where silu(x) - silu(-x) = x.
    """
    count = unet.conv_in.in_channels
    last = unet.up_blocks[-1].resnets[-1]
    width = last.conv2.out_channels
    with torch.no_grad():
        for conv in (last.conv2, unet.conv_out):
            conv.weight.zero_()
            conv.bias.zero_()
        unet.conv_in.weight[:2 * count] = 0
        unet.conv_in.bias[:2 * count] = 0
        last.conv_shortcut.weight[:2 * count] = 0
        last.conv_shortcut.bias[:2 * count] = 0
        skip_at = last.conv_shortcut.in_channels - width
        for i in range(count):
            for channel, sign in ((2 * i, 1.), (2 * i + 1, -1.)):
                unet.conv_in.weight[channel, i, 1, 1] = sign
                last.conv_shortcut.weight[channel, skip_at + channel] = 1
                unet.conv_out.weight[i, channel, 1, 1] = sign * gain


def start_mapping_as_identity(net):
    """Lets the fresh structure net pass its input on: deep and narrow, it would lose most of it.

    The first 16 channels run through every layer unchanged, lifted by 3 into the range where silu
    is nearly linear; the others start as random features.
    """
    lift, count = 3.0, net.conv_in.in_channels
    with torch.no_grad():
        for i, conv in enumerate([net.conv_in, *net.blocks]):
            torch.nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
            conv.weight[:count] = 0
            conv.bias.zero_()
            conv.bias[:count] = lift - (float(F.silu(torch.tensor(lift))) if i else 0)
            for c in range(count):
                conv.weight[c, c, 1, 1] = 1
        free = 2 * count        # channels of the denoiser's first layer that its own input leaves
        for c in range(count):
            net.conv_out.weight[free + c, c, 1, 1] = 1
            net.conv_out.bias[free + c] = -float(F.silu(torch.tensor(lift)))


class Painter:
    """The networks and the sampler's steps, shared by both stages."""

    def __init__(self, config, args):
        self.device, self.frozen = args.device, args.freeze
        settings = common.read_config(os.path.join(args.data, "autoencoder.json"))
        self.vae = Taesd({**config["vae"], "scaling_factor": settings["scaling_factor"]})
        self.luma = config["structure"]["type"] == "luma"
        self.unet, self.text = UNet(config["unet"]), ClipText(config["text"])
        self.schedules = [Scheduler({**config["scheduler"], "t_index_list": i}) for i in SCHEDULES]
        self.tokenizer = bpe.tokenizer(config["text"])

    def prompts(self, rng, looks):
        """Embeddings of random prompts for looks: (style's number or -1, palette or None)."""
        ids = [self.tokenizer.encode(grammar.prompt(rng, data.STYLES[style] if style >= 0 else None,
                                                    palette)) for style, palette in looks]
        return self.text(torch.tensor(ids, device=self.device))

    def encode(self, image):
        return self.vae.encode(image.contiguous(memory_format=torch.channels_last)).float()

    def structure(self, image, z):
        """The structure latent of images whose own latents are z."""
        return self.encode(luma(image)) if self.luma else z

    def decode(self, z):
        return self.vae.decoder(z / self.vae.scaling_factor).float()

    def denoise(self, x, schedule, k, text, cond, window):
        eps = self.unet(x, schedule.timesteps[k], text, cond, window)
        return schedule.x0(x, eps.float(), k)

    def run(self, z, structure, noise, text, plan, window=None):
        """x0 of step plan[1] of a schedule; the steps before it run without gradient."""
        schedule, last = plan
        x = schedule.add_noise(z, noise(0), 0)
        cond = self.unet.flow_conv_in(structure)
        for k in range(last):
            with torch.no_grad():
                x0 = self.denoise(x, schedule, k, text, cond, window)
            x = schedule.add_noise(x0, noise(k + 1), k + 1)
        return self.denoise(x, schedule, last, text, cond, window)

    def plan(self, rng, progress):
        """Which schedule, and which of its steps, to learn now; first steps come first."""
        count = rng.choice(3, p=[.4, .4, .2])
        schedule = self.schedules[count]
        last = int(rng.integers(4)) if count == 2 else count
        return schedule, last if progress > .2 else 0

    def latent_loss(self, x0, target):
        flat = F.smooth_l1_loss(x0, target, beta=.1)
        return flat + .3 * sum(F.l1_loss(x0.diff(dim=d), target.diff(dim=d)) for d in (2, 3))

    def picture_loss(self, y, images):
        """Level, detail, and each picture's PSNR: a style that is nearly right counts like the others."""
        nepers = (y - images).square().mean((1, 2, 3)).add(1e-5).log().mean()
        return F.l1_loss(y, images) + .5 * detail_loss(y, images) + .1 * (nepers + 5)

    def flicker_loss(self, shown, target, back):
        """How the errors of successive frames [clips,F,3,S,S] differ where they show the same thing.

        back [clips,F-1,S,S,2] says where that was; where the target did not move along it, it was
        not to be seen. An error that sticks to the surface does not count: it is the picture's.
        """
        def moved(x):
            return F.grid_sample(x[:, :-1].flatten(0, 1), back.flatten(0, 1), align_corners=False)

        error = shown - target
        new, old = target[:, 1:].flatten(0, 1), moved(target)
        seen = ((new - old).abs().amax(1, keepdim=True) < .15).float()
        return (seen * (error[:, 1:].flatten(0, 1) - moved(error))).abs().mean()

    def codec_loss(self, z, images):
        """Keeps the autoencoder one: pictures come back from their own latents. One that is frozen does."""
        if "vae" in self.frozen:
            return 0
        return self.picture_loss(self.decode(z + .03 * torch.randn_like(z)), images)


def pictures(stills, rng, count, size, device):
    """Crops: sources, targets, and their looks."""
    sources, targets, looks = [], [], []
    for _ in range(count):
        style = int(rng.integers(len(data.STYLES))) if rng.random() > .1 else -1
        palette = data.some_palette(rng)
        source, target = data.to_float(stills.crop(rng, size, [0, style + 1]), device).split(1)
        sources.append(source)
        targets.append(data.grade(palette, target))
        looks.append((style, palette))
    return torch.cat(sources), torch.cat(targets), looks


def sensor_noise(rng, source):
    sigma = [rng.uniform(0, .04) if rng.random() < .3 else 0 for _ in source]
    sigma = torch.tensor(sigma, dtype=source.dtype, device=source.device)[:, None, None, None]
    return (source + sigma * torch.randn_like(source)).clamp(-1, 1)


def image_step(painter, stage, stills, args):
    """Every third picture comes twice, moved by a few pixels: what is wrong shall move along.

    Else the codec's 8x8 places show: the same thing looks different as it passes over them.
    """
    shared, own = (np.random.default_rng(s) for s in stage.seeds())
    big = stage.progress > .3 and shared.random() < .2      # other sizes than the usual crop
    size, count = (args.crop + 64, args.batch // 3) if big else (args.crop, args.batch)
    plan = painter.plan(shared, stage.progress)
    twins = max(1, count // 3)
    singles = max(1, count - twins)
    dy, dx = (int(i) for i in own.integers(0, MOVE + 1, 2))
    whole, wanted, looks = pictures(stills, own, singles, size + MOVE, args.device)

    def views(x):
        return torch.cat([x[..., :size, :size], x[:twins, :, dy:dy + size, dx:dx + size]])

    source, target = sensor_noise(own, views(whole)), views(wanted)
    with stage.autocast():
        z, z_target = painter.encode(torch.cat([source, target])).chunk(2)
        noise = [torch.randn_like(z[:singles]) for _ in range(plan[1] + 1)]
        x0 = painter.run(z, painter.structure(source, z),
                         lambda k: torch.cat([noise[k], noise[k][:twins]]),
                         painter.prompts(own, looks)[[*range(singles), *range(twins)]], plan)
        latent = painter.latent_loss(x0, z_target.detach())
        shown = painter.decode(x0)
        picture = painter.picture_loss(shown, target)
        error = shown - target
        flicker = F.l1_loss(error[:twins, :, dy:, dx:],
                            error[singles:, :, :size - dy, :size - dx])
        some = slice(0, max(1, count // 4))
        codec = painter.codec_loss(torch.cat([z[some], z_target[some]]),
                                   torch.cat([source[some], target[some]]))
    return stage.update(.3 * latent + 2 * picture + 3 * flicker + .5 * codec,
                        **{f"latent{min(plan[1], 1)}": latent, f"picture{min(plan[1], 1)}": picture,
                           "flicker": flicker, "codec": codec})


def clip_step(painter, stage, stills, args):
    shared, rng = (np.random.default_rng(s) for s in stage.seeds())
    plan = painter.plan(shared, 1)
    clips, streamed = args.batch, 8
    first = 8 if rng.random() < .4 else int(rng.integers(9, 160))
    numbers = list(range(8)) + list(range(first, first + streamed))
    made = [data.moving(stills, rng, numbers, args.crop, args.device) for _ in range(clips)]
    source, target = torch.cat([m[0] for m in made]), torch.cat([m[1] for m in made])
    share = 1.0 if rng.random() < .6 else rng.random()
    length = len(numbers)

    def noise(_):
        own = torch.randn_like(z).unflatten(0, (clips, length))
        return (share**.5 * own[:, :1] + (1 - share)**.5 * own).flatten(0, 1) if share < 1 \
            else own[:, :1].expand_as(own).flatten(0, 1)

    with stage.autocast():
        with torch.no_grad():
            z, z_target = painter.encode(torch.cat([source, target])).chunk(2)
            structure = painter.structure(source, z)
        x0 = painter.run(z, structure, noise,
                         painter.prompts(rng, [m[3] for m in made]), plan,
                         ClipWindow(numbers, device=args.device))
        latent = painter.latent_loss(x0, z_target)
        # A run of neighbours of each clip as pictures: right, and rightly moving.
        runs = [i for i in range(length - 3) if numbers[i + 3] == numbers[i] + 3]
        starts = rng.choice(runs, clips)
        some = torch.cat([clip * length + int(start) + torch.arange(4, device=args.device)
                          for clip, start in enumerate(starts)])
        shown = painter.decode(x0[some])
        picture = painter.picture_loss(shown, target[some])
        flicker = painter.flicker_loss(shown.unflatten(0, (clips, 4)),
                                       target[some].unflatten(0, (clips, 4)),
                                       torch.stack([m[2][s:s + 3] for m, s in zip(made, starts)]))
        codec = painter.codec_loss(torch.cat([z[some[:2]], z_target[some[:2]]]),
                                   torch.cat([source[some[:2]], target[some[:2]]]))
    return stage.update(.3 * latent + 2 * picture + 5 * flicker + .5 * codec,
                        **{f"latent{min(plan[1], 1)}": latent, "flicker": flicker,
                           "picture": picture, "codec": codec})


@torch.no_grad()
def evaluate(painter, stills, count=12, size=192):
    """Mean PSNR to the teachers on held-out photos, for each style, with 1 and with 2 steps."""
    rows = {}
    for style, name in enumerate(data.STYLES):
        errors = []
        for i in range(min(count, len(stills.stacks))):
            torch.manual_seed(i)
            pair = data.to_float(stills.centre(i, size)[[0, style + 1]], painter.device)
            z = painter.encode(pair[:1])
            structure = painter.structure(pair[:1], z)
            ids = painter.tokenizer.encode(grammar.CANONICAL[name])
            text = painter.text(torch.tensor([ids], device=painter.device))
            for steps in (1, 2):
                x0 = painter.run(z, structure, lambda k: torch.randn_like(z), text,
                                 (painter.schedules[steps - 1], steps - 1))
                error = (painter.vae.decode(x0) - pair[1:]).square().mean().item()
                errors.append(10 * np.log10(4 / error))
        rows[name] = [round(float(np.mean(errors[k::2])), 2) for k in (0, 1)]
    return rows


def work(args):
    torch.manual_seed(args.seed)
    painter = Painter(common.read_config(args.config), args)
    modules = {"unet": painter.unet, "text": painter.text, "vae": painter.vae}
    groups = None
    if args.stage == "image":
        for name, before in (("text", "text.pt"), ("vae", "autoencoder.pt")):
            modules[name].load_state_dict(common.load_ema(os.path.join(args.data, before), name))
        start_as_identity(painter.unet, painter.schedules[0].b[0])
        start_mapping_as_identity(painter.unet.flow_conv_in)
    else:
        for name, module in modules.items():
            module.load_state_dict(common.load_ema(os.path.join(args.data, "image.pt"), name))
        painter.vae.encoder.requires_grad_(False)
        motion = [p for n, p in painter.unet.named_parameters() if ".motion_modules." in n]
        ids = {id(p) for p in [*motion, *painter.vae.encoder.parameters()]}
        rest = [p for m in modules.values() for p in m.parameters() if id(p) not in ids]
        groups = [{"params": rest, "scale": .25}, {"params": motion, "scale": 1.0}]
    for name in args.freeze:
        modules[name].requires_grad_(False)
    stage = common.Stage(args.stage, modules, args, groups)
    stills = data.Stills(args.data, limit=args.limit)
    step = image_step if args.stage == "image" else clip_step
    running = stage.progress < 1
    while running:
        torch.manual_seed(stage.seeds()[1])
        running = step(painter, stage, stills, args)
    if common.rank() == 0:
        stage.modules.load_state_dict(stage.ema)
        print("PSNR with 1 and 2 steps", evaluate(painter, data.Stills(args.data, held_out=True)))


if __name__ == "__main__":
    parser = common.arguments(__doc__, minutes=40, batch=12, lr=1e-3)
    parser.add_argument("--stage", choices=["image", "clip"], required=True)
    parser.add_argument("--freeze", nargs="*", choices=["text", "vae"], default=[],
                        help="networks that keep their weights: a stage's steps are then cheaper")
    common.launch(work, parser.parse_args())
