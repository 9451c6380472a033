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
import pixels
import recipes
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
        self.device, self.frozen = args.device, args.freeze
        settings = common.read_config(os.path.join(args.data, "autoencoder.json"))
        self.vae = Taesd({**config["vae"], "scaling_factor": settings["scaling_factor"]})
        self.luma = config["structure"]["type"] == "luma"
        self.unet, self.text = UNet(config["unet"]), ClipText(config["text"])
        self.schedules = [Scheduler({**config["scheduler"], "t_index_list": i}) for i in SCHEDULES]
        # On the device, since to bring a number there would wait for all that is under way.
        self.times = {t: torch.tensor([t], device=self.device) for s in self.schedules for t in s.timesteps}

    def encode(self, image):
        return self.vae.encode(image.contiguous(memory_format=torch.channels_last)).float()

    def structure(self, image, z):
        """The structure latent of images whose own latents are z."""
        return self.encode(luma(image)) if self.luma else z

    def decode(self, z):
        return self.vae.decoder(z / self.vae.scaling_factor).float()

    def denoise(self, x, schedule, k, text, cond, window):
        eps = self.unet(x, self.times[schedule.timesteps[k]], text, cond, window)
        return schedule.x0(x, eps.float(), k)

    def run(self, z, structure, noise, text, plan, window=None):
        """x0 of step plan[1] of schedule plan[0]; the steps before it run without gradient."""
        schedule, last = self.schedules[plan[0]], plan[1]
        x = schedule.add_noise(z, noise(0), 0)
        cond = self.unet.flow_conv_in(structure)
        for k in range(last):
            with torch.no_grad():
                x0 = self.denoise(x, schedule, k, text, cond, window)
            x = schedule.add_noise(x0, noise(k + 1), k + 1)
        return self.denoise(x, schedule, last, text, cond, window)

    def latent_loss(self, x0, target):
        flat = F.smooth_l1_loss(x0, target, beta=.1)
        return flat + .3 * sum(F.l1_loss(x0.diff(dim=d), target.diff(dim=d)) for d in (2, 3))

    def differences(self, y, images):
        nepers = (y - images).square().mean((1, 2, 3)).add(1e-5).log().mean()
        return F.l1_loss(y, images) + .5 * detail_loss(y, images), nepers + 5

    def picture_loss(self, y, images, progress=0.):
        """Level, detail, and each picture's PSNR: a style that is nearly right counts like the others.

        Towards the end of a stage the PSNR counts more.
        """
        level, nepers = self.differences(y, images)
        return level + (.1 + .1 * progress) * nepers

    def compile(self, what):
        """Lets PyTorch fuse kernels: steps become quicker after some minutes of compilation."""
        if what:
            torch._dynamo.config.cache_size_limit = 64      # sizes of pictures, with and without gradient
        if "codec" in what:
            self.vae.encoder.compile()
            self.vae.decoder.compile()
        if "unet" in what:
            self.unet.compile()
        if "loss" in what:
            self.differences = torch.compile(self.differences)

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


def image_step(painter, stage, store, recipe):
    """Every third picture comes twice, moved by a few pixels: what is wrong shall move along.

    Else the codec's 8x8 places show: the same thing looks different as it passes over them.
    """
    size, twins, (dy, dx), plan = (recipe[name] for name in ("size", "twins", "move", "plan"))
    source, target = store.crops(torch.cat([recipe["source"], recipe["target"]]), recipe["width"].repeat(2),
                                 recipe["flip"].repeat(2), size).chunk(2)
    source = (source + recipe["sigma"][:, None, None, None] * torch.randn_like(source)).clamp(-1, 1)
    target = data.grade_each(recipe["palette"], target)
    singles, some = len(source) - twins, max(1, len(source) // 4)

    def twice(x):
        return torch.cat([x, x[:twins]])

    with stage.autocast():
        z, z_target = painter.encode(torch.cat([source, target])).chunk(2)
        x0 = painter.run(z, painter.structure(source, z), lambda k: twice(torch.randn_like(z[:singles])),
                         twice(painter.text(recipe["words"])), plan)
        latent = painter.latent_loss(x0, z_target.detach())
        shown = painter.decode(x0)
        picture = painter.picture_loss(shown, target, stage.progress)
        error = shown - target
        flicker = F.l1_loss(error[:twins, :, dy:, dx:], error[singles:, :, :size - dy, :size - dx])
        codec = painter.codec_loss(torch.cat([z[:some], z_target[:some]]),
                                   torch.cat([source[:some], target[:some]]))
    return stage.update(.3 * latent + 2 * picture + 3 * flicker + stage.args.codec * codec,
                        **{f"latent{min(plan[1], 1)}": latent, f"picture{min(plan[1], 1)}": picture,
                           "flicker": flicker, "codec": codec})


def clip_step(painter, stage, store, recipe):
    """Whole clips; of each, four neighbours are looked at as pictures: right, and rightly moving."""
    plan, (clips, length) = recipe["plan"], recipe["numbers"].shape
    source, target, back = pixels.clips(store, recipe, stage.args.crop)
    share = recipe["share"][:, None, None, None, None]
    run, clip = recipe["run"], torch.arange(clips, device=painter.device)[:, None]
    some = (clip * length + run).flatten()

    def noise(_):
        own = torch.randn_like(z).unflatten(0, (clips, length))
        return (share.sqrt() * own[:, :1] + (1 - share).sqrt() * own).flatten(0, 1)

    with stage.autocast():
        with torch.no_grad():
            z, z_target = painter.encode(torch.cat([source, target])).chunk(2)
            structure = painter.structure(source, z)
        x0 = painter.run(z, structure, noise, painter.text(recipe["words"]), plan, ClipWindow(recipe["numbers"]))
        latent = painter.latent_loss(x0, z_target)
        shown = painter.decode(x0[some])
        picture = painter.picture_loss(shown, target[some], stage.progress)
        flicker = painter.flicker_loss(shown.unflatten(0, (clips, 4)), target[some].unflatten(0, (clips, 4)),
                                       back[clip, run[:, :3]])
        few = some[::8]
        codec = painter.codec_loss(torch.cat([z[few], z_target[few]]), torch.cat([source[few], target[few]]))
    return stage.update(.3 * latent + 2 * picture + 8 * flicker + stage.args.codec * codec,
                        **{f"latent{min(plan[1], 1)}": latent, "flicker": flicker,
                           "picture": picture, "codec": codec})


@torch.no_grad()
def painted(painter, z, structure, ids, steps):
    """Pictures by 1 or 2 steps; one noise for all of them."""
    x0 = painter.run(z, structure, lambda k: torch.randn_like(z[:1]).expand_as(z),
                     painter.text(torch.tensor(ids, device=painter.device)), (steps - 1, steps - 1))
    return painter.vae.decode(x0)


@torch.no_grad()
def evaluate(painter, words, stills, count=12, size=192):
    """On held-out photos: for each style the mean PSNR to the teacher, with 1 and with 2 steps, and that of the
    autoencoder; and how many unseen phrases are recognised, which choose the nearest teacher."""
    canonical = [words.ids(grammar.CANONICAL[name]) for name in data.STYLES]
    unseen = [(i, words.ids(phrase)) for i, name in enumerate(data.STYLES) for phrase in grammar.UNSEEN[name]]
    errors, right = [], []
    for i in range(min(count, len(stills.stacks))):
        torch.manual_seed(i)
        stack = data.to_float(stills.centre(i, size), painter.device)
        z = painter.encode(stack)
        structure, teachers = painter.structure(stack, z), stack[1:]

        def of_source(x, number):
            return x[:1].expand(number, -1, -1, -1)

        both = [painted(painter, of_source(z, len(canonical)), of_source(structure, len(canonical)), canonical, steps)
                for steps in (1, 2)]
        errors.append(torch.stack([(y - teachers).square().mean((1, 2, 3))
                                   for y in (*both, painter.vae.decode(z[1:]))]))
        some = unseen[i % 3::3]
        y = painted(painter, of_source(z, len(some)), of_source(structure, len(some)), [ids for _, ids in some], 2)
        chosen = (y[:, None] - teachers).square().mean((2, 3, 4)).argmin(1)
        right.append((chosen.cpu() == torch.tensor([style for style, _ in some])).float())
    psnr = (10 * (4 / torch.stack(errors)).log10()).mean(0).cpu()
    print("PSNR with 1 and 2 steps, of the autoencoder: mean", [round(v, 2) for v in psnr.mean(1).tolist()],
          {name: [round(v, 2) for v in column] for name, column in zip(data.STYLES, psnr.T.tolist())})
    print(f"unseen phrases recognised: {100 * torch.cat(right).mean():.0f} %", flush=True)


def networks(painter, args):
    """By name; with the groups of the optimizer, and started as the stage needs it."""
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
    return modules, groups


def work(args):
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    config = common.read_config(args.config)
    stills = data.Stills(args.data, limit=args.limit)
    photos, cutouts = pixels.tables(stills)
    words = recipes.Words(bpe.tokenizer(config["text"]))

    def recipe(progress, seeds):
        shared, own = (np.random.default_rng(s) for s in seeds)
        if args.stage == "image":
            return recipes.image(photos, words, shared, own, progress, args.crop, args.batch)
        return recipes.clip(photos, cutouts, words, shared, own, args.crop, args.batch)

    workers = (0 if args.device == "cpu" else 4) if args.workers is None else args.workers
    made = recipes.Recipes(recipe, workers)
    painter = Painter(config, args)
    painter.compile(args.compile)
    modules, groups = networks(painter, args)
    stage = common.Stage(args.stage, modules, args, groups)
    store = pixels.Pixels(stills, args.data, args.device)
    step = image_step if args.stage == "image" else clip_step
    running = stage.progress < 1
    while running:
        progress = 1. if stage.further else stage.progress
        arrays = made.next(stage.step, lambda s: (progress, stage.seeds(s)))
        torch.manual_seed(stage.seeds()[1])
        running = step(painter, stage, store, common.to_device(arrays, args.device))
    made.close()
    if common.rank() == 0:
        stage.modules.load_state_dict(stage.ema)
        evaluate(painter, words, data.Stills(args.data, held_out=True))


def parser():
    p = common.arguments(__doc__, minutes=40, batch=12, lr=1e-3)
    p.add_argument("--stage", choices=["image", "clip"], required=True)
    p.add_argument("--freeze", nargs="*", choices=["text", "vae"], default=[],
                   help="networks that keep their weights: a stage's steps are then cheaper")
    p.add_argument("--codec", type=float, default=.5, metavar="WEIGHT",
                   help="how much the autoencoder's own round trip counts beside the painted pictures")
    p.add_argument("--compile", nargs="*", choices=["codec", "unet", "loss"], default=[],
                   help="what PyTorch shall compile: quicker steps on a GPU, after minutes of work")
    p.add_argument("--workers", type=int, default=None,
                   help="processes that prepare steps; default: none on a CPU, 4 beside a GPU")
    return p


if __name__ == "__main__":
    common.launch(work, parser().parse_args())
