# SPDX-License-Identifier: Apache-2.0
"""Trains the autoencoder on photos (45 %), styled images (45 %) and structure maps (10 %).

Loss: L1, L1 of chroma, L1 of image gradients at two scales, and a light pull of the latents towards
zero with a little noise on them, which keeps them smooth enough for the denoiser. A fifth of the
colored images have their channels shuffled, so that every hue is well represented.
"""
import json
import os

import numpy as np
import torch
import torch.nn.functional as F

import common
import data
from model.structure import luma
from model.taesd import Taesd


def batch_of(stills, rng, count, size, device):
    images = []
    for _ in range(count):
        kind = rng.random()
        which = 0 if kind < .45 or kind >= .9 else 1 + int(rng.integers(len(data.STYLES)))
        image = data.to_float(stills.crop(rng, size, [which]), device)
        image = data.grade(data.some_palette(rng), image)
        if rng.random() < .2:
            image = image[:, rng.permutation(3).tolist()]
        images.append(luma(image) if kind >= .9 else image)
    return torch.cat(images).contiguous(memory_format=torch.channels_last)


def chroma(x):
    return x - x.mean(1, keepdim=True)


def detail_loss(a, b):
    loss = F.l1_loss(chroma(a), chroma(b))
    for _ in range(2):
        for axis in (2, 3):
            loss = loss + F.l1_loss(a.diff(dim=axis), b.diff(dim=axis))
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return loss


@torch.no_grad()
def evaluate(vae, stills, device, size=256):
    """PSNR of a round trip, per kind of image, and the latents' standard deviation."""
    kinds = ["photo"] + data.STYLES + ["structure"]
    errors, stds = {k: [] for k in kinds}, []
    for i in range(len(stills.stacks)):
        x = data.to_float(stills.centre(i, size), device)
        x = torch.cat([x, luma(x[:1])])
        z = vae.encode(x)
        stds.append(z.std().item())
        for k, e in zip(kinds, (vae.decode(z) - x).square().mean((1, 2, 3)).tolist()):
            errors[k].append(10 * np.log10(4 / e))
    return {k: float(np.mean(v)) for k, v in errors.items()}, float(np.mean(stds))


def work(args):
    torch.manual_seed(args.seed)
    vae = Taesd(common.read_config(args.config)["vae"])
    stage = common.Stage("autoencoder", {"vae": vae}, args)
    stills = data.Stills(args.data, limit=args.limit)
    running = stage.progress < 1
    while running:
        seed = stage.seeds()[1]
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        x = batch_of(stills, rng, args.batch, args.crop, args.device)
        with stage.autocast():
            z = vae.encoder(x)
            y = vae.decoder(z + .03 * torch.randn_like(z))
        l1, detail = F.l1_loss(y, x), detail_loss(y.float(), x)
        loss = l1 + .5 * detail + .002 * z.float().square().mean()
        running = stage.update(loss, l1=l1, std=z.detach().float().std())
    if common.rank() > 0:
        return
    vae.load_state_dict({k[4:]: v for k, v in stage.ema.items()})
    psnr, std = evaluate(vae.float(), data.Stills(args.data, held_out=True), args.device)
    with open(os.path.join(args.data, "autoencoder.json"), "w") as f:
        json.dump({"scaling_factor": round(1 / std, 4), "psnr": psnr}, f, indent=2)
    print("PSNR", {k: round(v, 2) for k, v in psnr.items()}, "latent std", round(std, 3))


if __name__ == "__main__":
    common.launch(work, common.arguments(__doc__, minutes=28, batch=8, lr=2e-3).parse_args())
