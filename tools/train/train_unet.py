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


class Painter:
    """The networks and the sampler's steps, shared by both stages."""

    def __init__(self, config, args):
        self.device = args.device
        settings = common.read_config(os.path.join(args.data, "autoencoder.json"))
        self.vae = Taesd({**config["vae"], "scaling_factor": settings["scaling_factor"]})
        self.vae.load_state_dict(common.load_ema(os.path.join(args.data, "autoencoder.pt"), "vae"))
        self.vae.to(args.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        self.unet, self.text = UNet(config["unet"]), ClipText(config["text"])
        self.schedule = Scheduler(config["scheduler"])
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


def image_step(painter, stage, stills, rng, args):
    big = stage.progress > .3 and rng.random() < .2     # other sizes than the usual crop
    size, count = (args.crop * 3 // 2, args.batch // 2) if big else (args.crop, args.batch)
    sources, targets, styles = stills.pairs(rng, count, size)
    source, target = data.to_float(sources, args.device), data.to_float(targets, args.device)
    latents = painter.encode(torch.cat([source, luma(source), target]))
    z, structure, z_target = latents.chunk(3)
    last = int(rng.random() < .4)
    with stage.autocast():
        x0 = painter.run(z, structure, lambda k: torch.randn_like(z),
                         painter.prompts(rng, styles), last)
        loss = flat = painter.latent_loss(x0, z_target)
        logs = {}
        if stage.progress > .15:
            some = slice(0, max(1, count // 3))
            logs["picture"] = painter.picture_loss(x0[some], target[some])
            loss = flat + .7 * logs["picture"]
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

    last = int(rng.random() < .4)
    with stage.autocast():
        x0 = painter.run(z, structure, noise, painter.prompts(rng, [m[2] for m in made]), last,
                         ClipWindow(numbers, device=args.device))
        flat = painter.latent_loss(x0, z_target)
        change = (x0 - z_target).unflatten(0, (clips, length)).diff(dim=1)
        adjacent = [i for i in range(length - 1) if numbers[i + 1] == numbers[i] + 1]
        flicker = change[:, adjacent].abs().mean()
        some = torch.from_numpy(rng.choice(len(z), 4, replace=False)).to(args.device)
        picture = painter.picture_loss(x0[some], target[some])
    return stage.update(flat + flicker + .7 * picture,
                        **{f"latent{last}": flat, "flicker": flicker, "picture": picture})


def main():
    p = common.arguments(__doc__, minutes=33, batch=12, lr=8e-4)
    p.add_argument("--stage", choices=["image", "clip"], required=True)
    args = p.parse_args()
    torch.manual_seed(args.seed)
    painter = Painter(common.read_config(args.config), args)
    modules = {"unet": painter.unet, "text": painter.text}
    groups = None
    if args.stage == "image":
        start_as_identity(painter.unet, painter.schedule.b[0])
    else:
        for name, module in modules.items():
            module.load_state_dict(common.load_ema(os.path.join(args.data, "image.pt"), name))
        motion = [p for n, p in painter.unet.named_parameters() if ".motion_modules." in n]
        ids = {id(p) for p in motion}
        rest = [p for m in modules.values() for p in m.parameters() if id(p) not in ids]
        groups = [{"params": rest, "scale": .5}, {"params": motion, "scale": 1.0}]
    stage = common.Stage(args.stage, modules, args, groups)
    stills = data.Stills(args.data, limit=args.limit)
    step = image_step if args.stage == "image" else clip_step
    running = stage.progress < 1
    while running:
        torch.manual_seed(stage.seed())
        running = step(painter, stage, stills, np.random.default_rng(stage.seed()), args)


if __name__ == "__main__":
    main()
