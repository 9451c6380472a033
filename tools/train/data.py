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

import teachers

STYLES = list(teachers.STYLES)
SHORT_SIDES = (256, 320, 400)   # cycled over the photos: strokes meet objects of several sizes
HELD_OUT = 16                   # every 16th photo is for evaluation only


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
        chosen = [f for i, f in enumerate(files) if (i % HELD_OUT == 0) == held_out]
        self.stacks = [np.load(f) for f in chosen[:limit]]

    def crop(self, rng, size, which):
        """One aligned crop of each entry of `which` (0 = source, 1 + s = style s): [len,S,S,3]."""
        stack = self.stacks[rng.integers(len(self.stacks))]
        h, w = stack.shape[1:3]
        top, left = rng.integers(h - size + 1), rng.integers(w - size + 1)
        out = stack[which, top:top + size, left:left + size]
        return out[:, :, ::-1] if rng.random() < .5 else out

    def pairs(self, rng, count, size):
        """Source and target crops with the target's style number (-1: the source itself)."""
        sources, targets, styles = [], [], []
        for _ in range(count):
            style = int(rng.integers(len(STYLES))) if rng.random() > .08 else -1
            source, target = self.crop(rng, size, [0, style + 1])
            sources.append(source)
            targets.append(target)
            styles.append(style)
        return np.stack(sources), np.stack(targets), styles

    def centre(self, index, size):
        """The central crop of one photo with all its styled versions: [1 + styles,S,S,3]."""
        stack = self.stacks[index]
        h, w = stack.shape[1:3]
        top, left = (h - size) // 2, (w - size) // 2
        return stack[:, top:top + size, left:left + size]


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", required=True)
    p.add_argument("--workers", type=int, default=2)
    args = p.parse_args()
    build(args.data, args.workers)
