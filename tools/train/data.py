# SPDX-License-Identifier: Apache-2.0
"""The training set: photos, their styled versions, and random crops of both.

`python data.py --data D` styles every photo once and caches source and results in D/cache, one
uint8 array [1 + styles, H, W, 3] a photo. `Stills` serves aligned crops from that cache.
"""
import argparse
import glob
import multiprocessing
import os

import cv2
import numpy as np
import torch
import torch.nn.functional as F

import teachers

STYLES = list(teachers.STYLES)
SHORT_SIDES = (256, 320, 400)   # cycled over the photos: strokes meet objects of several sizes
HELD_OUT = 16                   # every 16th photo is for evaluation only, and these:
HELD_OUT_NAMES = ("gcompris-qt-data-9c18c7068af6",)     # the sample clip's


def build_one(job):
    index, path, target = job
    if os.path.exists(target):
        return
    cv2.setNumThreads(1)
    image = cv2.imread(path)[..., ::-1]
    scale = SHORT_SIDES[index % len(SHORT_SIDES)] / min(image.shape[:2])
    image = cv2.resize(image, None, fx=scale, fy=scale,
                       interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    image = np.ascontiguousarray(image[:, :960])
    stack = np.stack([image] + [teachers.apply(s, image) for s in STYLES])
    np.save(target + ".part.npy", stack)
    os.rename(target + ".part.npy", target)


def build(data, workers):
    os.makedirs(f"{data}/cache", exist_ok=True)
    photos = sorted(glob.glob(f"{data}/photos/*.jpg"))
    jobs = [(i, p, f"{data}/cache/{os.path.basename(p)[:-4]}.npy") for i, p in enumerate(photos)]
    with multiprocessing.Pool(workers) as pool:
        for done, _ in enumerate(pool.imap_unordered(build_one, jobs), 1):
            if done % 50 == 0:
                print(f"styled {done} of {len(jobs)}", flush=True)


def to_float(batch, device):
    """uint8 [N,H,W,3] -> float NCHW in [-1, 1]."""
    x = torch.from_numpy(np.ascontiguousarray(batch)).to(device)
    return x.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(x):
    return ((x.clamp(-1, 1) + 1) * 127.5 + .5).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


class Stills:
    """All cached photos in memory; crops by a seeded generator."""

    def __init__(self, data, held_out=False, limit=None):
        files = sorted(glob.glob(f"{data}/cache/*.npy"))
        files = [f for f in files if not f.endswith(".part.npy")]
        out = [i % HELD_OUT == 0 or any(n in f for n in HELD_OUT_NAMES)
               for i, f in enumerate(files)]
        chosen = [f for f, o in zip(files, out) if o == held_out]
        self.stacks = [np.load(f) for f in chosen[:limit]]

    def crop(self, rng, size, which):
        """One aligned crop of each entry of `which` (0 = source, 1 + s = style s): [len,S,S,3]."""
        stack = self.stacks[rng.integers(len(self.stacks))]
        h, w = stack.shape[1:3]
        top, left = rng.integers(h - size + 1), rng.integers(w - size + 1)
        out = stack[which, top:top + size, left:left + size]
        return out[:, :, ::-1] if rng.random() < .5 else out

    def centre(self, index, size):
        """The central crop of one photo with all its styled versions: [1 + styles,S,S,3]."""
        stack = self.stacks[index]
        h, w = stack.shape[1:3]
        top, left = (h - size) // 2, (w - size) // 2
        return stack[:, top:top + size, left:left + size]


def warp(pair, rng, numbers, size, still=False):
    """A camera path over `pair` [C,H,W]: frames [F,C,S,S] at the given frame numbers."""
    h, w = pair.shape[1:]
    t = torch.tensor(list(numbers), dtype=torch.float32, device=pair.device)

    def wave(limit, speed):
        """A sine of random period that changes by at most `speed` a frame, within +-limit."""
        period = rng.uniform(24, 120)
        reach = 0 if still else min(limit, speed * period / 6.3) * rng.random()
        return reach * torch.sin(6.2832 * (t / period + rng.random()))

    zoom = float(np.exp(rng.uniform(-.25, .15))) * torch.exp(wave(.15, .012))
    angle = wave(.15, .01)
    half = .5 * size * float(zoom.max()) * 1.1
    cx = rng.uniform(min(half, w / 2), max(w - half, w / 2)) + wave(w / 4, 4)
    cy = rng.uniform(min(half, h / 2), max(h - half, h / 2)) + wave(h / 4, 3)
    step = torch.arange(size, device=pair.device) - (size - 1) / 2
    gy, gx = torch.meshgrid(step, step, indexing="ij")
    cos, sin = (zoom * angle.cos())[:, None, None], (zoom * angle.sin())[:, None, None]
    px = cx[:, None, None] + cos * gx - sin * gy
    py = cy[:, None, None] + sin * gx + cos * gy
    grid = torch.stack([(2 * px + 1) / w - 1, (2 * py + 1) / h - 1], -1)
    return F.grid_sample(pair[None].expand(len(t), -1, -1, -1), grid, mode="bilinear",
                         padding_mode="reflection", align_corners=False)


def moving(stills, rng, numbers, size, device):
    """A clip cut from one still: source and target frames [F,3,S,S], and the style's number.

    Both are warped by the same smooth camera path, so the target sticks to the surfaces; only the
    source gets exposure drift and sensor noise, so the network learns to be calmer than its input.
    """
    stack = stills.stacks[rng.integers(len(stills.stacks))]
    style = int(rng.integers(len(STYLES))) if rng.random() > .08 else -1
    pair = to_float(stack[[0, style + 1]], device).flatten(0, 1)
    source, target = warp(pair, rng, numbers, size, still=rng.random() < .12).chunk(2, 1)
    if rng.random() < .5:
        drift = .06 * rng.random() * np.sin(np.array(numbers) * rng.uniform(.03, .15))
        drift = torch.tensor(drift, dtype=torch.float32, device=device)[:, None, None, None]
        source = (source + 1) * (1 + drift) - 1 + rng.uniform(0, .04) * torch.randn_like(source)
    return source.clamp(-1, 1), target, style


def moving_pair(stills, rng, photo, style, numbers, size):
    """The same without corruption, of a given photo and style: for evaluation."""
    pair = to_float(stills.stacks[photo][[0, style + 1]], "cpu").flatten(0, 1)
    return warp(pair, rng, numbers, size).chunk(2, 1)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", required=True)
    p.add_argument("--workers", type=int, default=2)
    args = p.parse_args()
    build(args.data, args.workers)
