# SPDX-License-Identifier: Apache-2.0
"""Trains denoiser and text encoder, in two stages: `--stage image`, then `--stage clip`.

Both regress the clean styled latent on the runtime's own trajectory: the *source* latent is noised
to the first timestep, the network's estimate is noised again to the second, and so on; a later step
learns on what the earlier ones really produced. The image stage leaves the motion modules out; the
clip stage runs whole clips through the runtime's attention window and asks for stable motion.
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


TRAINED_STEPS = [25, 37]        # of 50; the first alone is the shipped default


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
        self.schedule = Scheduler({**config["scheduler"], "t_index_list": TRAINED_STEPS})
        self.tokenizer = bpe.tokenizer(config["text"])

    def prompts(self, rng, styles):
        names = [None if s < 0 else data.STYLES[s] for s in styles]
        ids = [self.tokenizer.encode(grammar.prompt(rng, name)) for name in names]
        return self.text(torch.tensor(ids, device=self.device))

    @torch.no_grad()
    def encode(self, image):
        return self.vae.encode(image.contiguous(memory_format=torch.channels_last)).float()

    def denoise(self, x, k, text, structure, window):
        cond = self.unet.flow_conv_in(structure)
        eps = self.unet(x, self.schedule.timesteps[k], text, cond, window)
        return self.schedule.x0(x, eps.float(), k)

    def run(self, z, structure, noise, text, last, window=None):
        """x0 of step `last`; the steps before it run without gradient."""
        x = self.schedule.add_noise(z, noise(0), 0)
        for k in range(last):
            with torch.no_grad():
                x0 = self.denoise(x, k, text, structure, window)
            x = self.schedule.add_noise(x0, noise(k + 1), k + 1)
        return self.denoise(x, last, text, structure, window)

    def latent_loss(self, x0, target):
        flat = F.smooth_l1_loss(x0, target, beta=.1)
        return flat + .3 * sum(F.l1_loss(x0.diff(dim=d), target.diff(dim=d)) for d in (2, 3))

    def picture_loss(self, x0, images):
        y = self.vae.decoder(x0 / self.vae.scaling_factor).float()
        return F.l1_loss(y, images) + .5 * detail_loss(y, images)


class LatentStills:
    """Crops of whole-photo latents; a photo is encoded when first used, and its mirror image too.

    Once complete, the latents are kept in a file; delete it after training another autoencoder.
    """

    def __init__(self, painter, stills, path):
        self.painter, self.stills, self.cache, self.path = painter, stills, {}, path
        if os.path.exists(path):
            self.cache = torch.load(path, map_location=painter.device)

    def photo(self, index, flip):
        """Latents of source, styled versions and structure map: [2 + styles, C, h, w], fp16."""
        if (index, flip) not in self.cache:
            x = data.to_float(self.pixels(index, flip), self.painter.device)
            z = torch.cat([self.painter.encode(row[None]) for row in torch.cat([x, luma(x[:1])])])
            self.cache[index, flip] = z.half()
            if len(self.cache) == 2 * len(self.stills.stacks):
                torch.save(self.cache, self.path)
        return self.cache[index, flip]

    def pixels(self, index, flip):
        stack = self.stills.stacks[index]
        stack = stack[:, :stack.shape[1] // 8 * 8, :stack.shape[2] // 8 * 8]
        return stack[:, :, ::-1] if flip else stack

    def batch(self, rng, count, size):
        """Latents of source, structure, target; target pixels; style numbers (-1: as source)."""
        rows, pictures, styles, side = [], [], [], size // 8
        for _ in range(count):
            index, flip = int(rng.integers(len(self.stills.stacks))), int(rng.integers(2))
            style = int(rng.integers(len(data.STYLES))) if rng.random() > .08 else -1
            z = self.photo(index, flip)
            top, left = (int(rng.integers(n - side + 1)) for n in z.shape[2:])
            rows.append(z[[0, -1, style + 1], :, top:top + side, left:left + side])
            pictures.append(self.pixels(index, flip)[style + 1, 8 * top:8 * top + size,
                                                     8 * left:8 * left + size])
            styles.append(style)
        z, structure, target = torch.stack(rows, 1).float()
        return z, structure, target, data.to_float(np.stack(pictures), z.device), styles


def image_step(painter, stage, stills, rng, args):
    big = stage.progress > .3 and rng.random() < .2     # other sizes than the usual crop
    size, count = (args.crop + 64, args.batch // 3) if big else (args.crop, args.batch)
    z, structure, z_target, target, styles = stills.batch(rng, count, size)
    last = int(rng.random() < .25)
    with stage.autocast():
        x0 = painter.run(z, structure, lambda k: torch.randn_like(z),
                         painter.prompts(rng, styles), last)
        loss = flat = painter.latent_loss(x0, z_target)
        logs = {}
        if stage.progress > .15:
            some = slice(0, max(1, count // 3))
            logs["picture"] = painter.picture_loss(x0[some], target[some])
            loss = flat + logs["picture"]
    return stage.update(loss, **{f"latent{last}": flat}, **logs)


def clip_step(painter, stage, stills, rng, args):
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

    last = int(rng.random() < .25)
    with stage.autocast():
        x0 = painter.run(z, structure, noise, painter.prompts(rng, [m[2] for m in made]), last,
                         ClipWindow(numbers, device=args.device))
        flat = painter.latent_loss(x0, z_target)
        change = (x0 - z_target).unflatten(0, (clips, length)).diff(dim=1)
        adjacent = [i for i in range(length - 1) if numbers[i + 1] == numbers[i] + 1]
        flicker = change[:, adjacent].abs().mean()
        some = torch.from_numpy(rng.choice(len(z), 4, replace=False)).to(args.device)
        picture = painter.picture_loss(x0[some], target[some])
    return stage.update(flat + flicker + picture,
                        **{f"latent{last}": flat, "flicker": flicker, "picture": picture})


def main():
    p = common.arguments(__doc__, minutes=40, batch=12, lr=1e-3)
    p.add_argument("--stage", choices=["image", "clip"], required=True)
    args = p.parse_args()
    torch.manual_seed(args.seed)
    painter = Painter(common.read_config(args.config), args)
    modules = {"unet": painter.unet, "text": painter.text}
    groups = None
    if args.stage == "image":
        start_as_identity(painter.unet, painter.schedule.b[0])
        start_mapping_as_identity(painter.unet.flow_conv_in)
    else:
        for name, module in modules.items():
            module.load_state_dict(common.load_ema(os.path.join(args.data, "image.pt"), name))
        motion = [p for n, p in painter.unet.named_parameters() if ".motion_modules." in n]
        ids = {id(p) for p in motion}
        rest = [p for m in modules.values() for p in m.parameters() if id(p) not in ids]
        groups = [{"params": rest, "scale": .5}, {"params": motion, "scale": 1.0}]
    stage = common.Stage(args.stage, modules, args, groups)
    stills = data.Stills(args.data, limit=args.limit)
    step = clip_step
    if args.stage == "image":
        step = image_step
        stills = LatentStills(painter, stills, os.path.join(args.data, "latents.pt"))
    running = stage.progress < 1
    while running:
        torch.manual_seed(stage.seed())
        running = step(painter, stage, stills, np.random.default_rng(stage.seed()), args)


if __name__ == "__main__":
    main()
