# SPDX-License-Identifier: Apache-2.0
"""Trains denoiser and text encoder, in two stages: `--stage image`, then `--stage clip`.

Both regress the clean styled latent on the runtime's own trajectory: the *source* latent is noised
to the first timestep, the network's estimate is noised again to the second, and so on; a later step
learns on what the earlier ones really produced. The image stage leaves the motion modules out; the
clip stage runs whole clips through the runtime's attention window and asks for stable motion. The
text encoder starts from train_text.py's and goes on learning; in the clip stage so does the decoder,
which gets to know the denoiser's latents.
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
        self.device = args.device
        settings = common.read_config(os.path.join(args.data, "autoencoder.json"))
        self.vae = Taesd({**config["vae"], "scaling_factor": settings["scaling_factor"]})
        self.vae.load_state_dict(common.load_ema(os.path.join(args.data, "autoencoder.pt"), "vae"))
        self.vae.to(args.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        self.unet, self.text = UNet(config["unet"]), ClipText(config["text"])
        self.schedules = [Scheduler({**config["scheduler"], "t_index_list": i}) for i in SCHEDULES]
        self.tokenizer = bpe.tokenizer(config["text"])

    def prompts(self, rng, looks):
        """Embeddings of random prompts for looks: (style's number or -1, palette or None)."""
        ids = [self.tokenizer.encode(grammar.prompt(rng, data.STYLES[style] if style >= 0 else None,
                                                    palette)) for style, palette in looks]
        return self.text(torch.tensor(ids, device=self.device))

    @torch.no_grad()
    def encode(self, image):
        return self.vae.encode(image.contiguous(memory_format=torch.channels_last)).float()

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

    def picture_loss(self, x0, images):
        y = self.vae.decoder(x0 / self.vae.scaling_factor).float()
        return F.l1_loss(y, images) + .5 * detail_loss(y, images), y


def pictures(stills, rng, count, size, device):
    """Crops: sources, some with sensor noise, targets, and their looks."""
    sources, targets, looks = [], [], []
    for _ in range(count):
        style = int(rng.integers(len(data.STYLES))) if rng.random() > .1 else -1
        palette = data.some_palette(rng)
        source, target = data.to_float(stills.crop(rng, size, [0, style + 1]), device).split(1)
        if rng.random() < .3:
            source = source + rng.uniform(0, .04) * torch.randn_like(source)
        sources.append(source.clamp(-1, 1))
        targets.append(data.grade(palette, target))
        looks.append((style, palette))
    return torch.cat(sources), torch.cat(targets), looks


def image_step(painter, stage, stills, args):
    shared, own = (np.random.default_rng(s) for s in stage.seeds())
    big = stage.progress > .3 and shared.random() < .2      # other sizes than the usual crop
    size, count = (args.crop + 64, args.batch // 3) if big else (args.crop, args.batch)
    plan, picture = painter.plan(shared, stage.progress), stage.progress > .1
    source, target, looks = pictures(stills, own, count, size, args.device)
    with stage.autocast():
        z, structure, z_target = painter.encode(torch.cat([source, luma(source), target])).chunk(3)
        x0 = painter.run(z, structure, lambda k: torch.randn_like(z), painter.prompts(own, looks),
                         plan)
        loss = flat = painter.latent_loss(x0, z_target)
        logs = {}
        if picture:
            some = slice(0, max(1, count // 3))
            logs["picture"], _ = painter.picture_loss(x0[some], target[some])
            loss = flat + logs["picture"]
    return stage.update(loss, **{f"latent{min(plan[1], 1)}": flat}, **logs)


def clip_step(painter, stage, stills, args):
    shared, rng = (np.random.default_rng(s) for s in stage.seeds())
    plan = painter.plan(shared, 1)
    clips, streamed = args.batch, 8
    first = 8 if rng.random() < .4 else int(rng.integers(9, 160))
    numbers = list(range(8)) + list(range(first, first + streamed))
    made = [data.moving(stills, rng, numbers, args.crop, args.device) for _ in range(clips)]
    source, target = torch.cat([m[0] for m in made]), torch.cat([m[1] for m in made])
    latents = painter.encode(torch.cat([source, luma(source), target]))
    z, structure, z_target = latents.chunk(3)
    share = 1.0 if rng.random() < .6 else rng.random()
    length = len(numbers)

    def noise(_):
        own = torch.randn_like(z).unflatten(0, (clips, length))
        return (share**.5 * own[:, :1] + (1 - share)**.5 * own).flatten(0, 1) if share < 1 \
            else own[:, :1].expand_as(own).flatten(0, 1)

    with stage.autocast():
        x0 = painter.run(z, structure, noise, painter.prompts(rng, [m[2:] for m in made]), plan,
                         ClipWindow(numbers, device=args.device))
        flat = painter.latent_loss(x0, z_target)
        change = (x0 - z_target).unflatten(0, (clips, length)).diff(dim=1)
        adjacent = [i for i in range(length - 1) if numbers[i + 1] == numbers[i] + 1]
        flicker = change[:, adjacent].abs().mean()
        first = rng.integers(clips, size=2) * length + rng.choice(adjacent, 2)
        some = torch.from_numpy(np.concatenate([first, first + 1])).to(args.device)
        picture, shown = painter.picture_loss(x0[some], target[some])
        error = shown - target[some]
        flicker = flicker + 2 * (error[2:] - error[:2]).abs().mean()
        codec, _ = painter.picture_loss(z[some[:2]], source[some[:2]])  # the decoder stays one
    return stage.update(flat + flicker + picture + .5 * codec,
                        **{f"latent{min(plan[1], 1)}": flat, "flicker": flicker,
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
            z, structure, _ = painter.encode(torch.cat([pair[:1], luma(pair[:1]), pair[1:]])).split(1)
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
    modules = {"unet": painter.unet, "text": painter.text}
    groups = None
    if args.stage == "image":
        painter.text.load_state_dict(common.load_ema(os.path.join(args.data, "text.pt"), "text"))
        start_as_identity(painter.unet, painter.schedules[0].b[0])
        start_mapping_as_identity(painter.unet.flow_conv_in)
    else:
        for name, module in modules.items():
            module.load_state_dict(common.load_ema(os.path.join(args.data, "image.pt"), name))
        modules["decoder"] = painter.vae.decoder.requires_grad_(True)
        motion = [p for n, p in painter.unet.named_parameters() if ".motion_modules." in n]
        ids = {id(p) for p in motion}
        rest = [p for m in modules.values() for p in m.parameters() if id(p) not in ids]
        groups = [{"params": rest, "scale": .5}, {"params": motion, "scale": 1.0}]
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
    common.launch(work, parser.parse_args())
