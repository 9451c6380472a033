# SPDX-License-Identifier: Apache-2.0
"""The training set: photos, their styled versions, and the ways that a camera moves over them.

`python data.py --data D` styles every photo and cut-out once. Caches a photo and its styled
versions in D/cache as one uint8 array [1 + styles, H, W, 3], a cut-out in D/cutouts with its alpha
[H, W] beside such an array. `Stills` opens the caches; pixels.py serves whole batches from them.
"""
import argparse
import functools
import glob
import hashlib
import multiprocessing
import os
import re

import cv2
import numpy as np
import torch
import torch.nn.functional as F

import teachers

STYLES = list(teachers.STYLES)
PALETTES = list(teachers.PALETTES)
SHORT_SIDES = (256, 320, 400)   # cycled over the photos: strokes meet objects of several sizes
HELD_OUT_NAMES = ("gcompris-qt-data-9c18c7068af6",)     # what shows in the sample clips


def name_number(path):
    """A number that a picture keeps for ever; views of one photo (name_1, name_2) share it."""
    name = re.sub(r"_\d+$", "", os.path.splitext(os.path.basename(path))[0])
    return int(hashlib.sha1(name.encode()).hexdigest(), 16)


def held_out(path):
    """Whether a picture is for evaluation only: every 16th, and those of HELD_OUT_NAMES."""
    return name_number(path) % 16 == 0 or any(n in path for n in HELD_OUT_NAMES)


def styled(image):
    return np.stack([image] + [teachers.apply(s, image) for s in STYLES])


def build_photo(path, target):
    image = cv2.imread(path)[..., ::-1]
    name = os.path.basename(path).encode()
    side = SHORT_SIDES[int(hashlib.sha1(name).hexdigest(), 16) // 16 % len(SHORT_SIDES)]
    scale = side / min(image.shape[:2])
    image = cv2.resize(image, None, fx=scale, fy=scale,
                       interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    image = np.ascontiguousarray(image[:, :960])
    np.save(target + ".part.npy", styled(image))
    os.rename(target + ".part.npy", target)


def build_cutout(path, target):
    """Styles a cut-out on gray, so that its outline gets drawn; trims the gray rim off."""
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    image = cv2.copyMakeBorder(image, 2, 2, 2, 2, cv2.BORDER_CONSTANT)
    alpha = image[..., 3:].astype(np.float32) / 255
    color = image[..., 2::-1] * alpha + 128 * (1 - alpha)
    np.savez(target + ".part.npz", stack=styled((color + .5).astype(np.uint8)),
             alpha=(np.clip(2 * alpha[..., 0] - 1, 0, 1) * 255).astype(np.uint8))
    os.rename(target + ".part.npz", target)


def build_one(job):
    function, path, target = job
    cv2.setNumThreads(1)
    if not os.path.exists(target):
        function(path, target)


def build(data, workers):
    jobs = []
    for function, source, folder, ending in ((build_photo, "photos/*.jpg", "cache", "npy"),
                                             (build_cutout, "stamps/*.png", "cutouts", "npz")):
        os.makedirs(f"{data}/{folder}", exist_ok=True)
        for path in sorted(glob.glob(f"{data}/{source}")):
            name = os.path.splitext(os.path.basename(path))[0]
            jobs.append((function, path, f"{data}/{folder}/{name}.{ending}"))
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


def grade(palette, x):
    """teachers.grade for pictures [N,3,H,W] in [-1, 1]; the palette None changes nothing."""
    if palette is None:
        return x
    return torch.stack(teachers.recolor(teachers.PALETTES[palette], (x / 2 + .5).unbind(1)), 1) * 2 - 1


@functools.lru_cache()
def palette_table(device):
    """[1 + palettes, 11]: the numbers of no palette and of each, as recolor() takes them."""
    rows = [(0, 1, *9 * [0.])] + [(*p[:2], *sum(p[2:], ())) for p in teachers.PALETTES.values()]
    return torch.tensor(rows, dtype=torch.float32, device=device)


def grade_each(numbers, x):
    """grade() with a palette for each picture: numbers [N], 0 for none."""
    rows = palette_table(x.device)[numbers][..., None, None]
    colors = rows[:, 2:].unflatten(1, (3, 3)).permute(1, 2, 0, 3, 4)
    parameters = (rows[:, 0], rows[:, 1], *colors)
    return torch.stack(teachers.recolor(parameters, (x / 2 + .5).unbind(1)), 1) * 2 - 1


def some_palette(rng):
    return PALETTES[rng.integers(len(PALETTES))] if rng.random() < .45 else None


class Stills:
    """All cached photos, mapped, and cut-outs; crops by a seeded generator."""

    def __init__(self, data, held_out=False, limit=None):
        self.names = self.files(f"{data}/cache/*.npy", held_out)[:limit]
        self.stacks = [np.load(f, mmap_mode="c") for f in self.names]
        self.cutouts = []       # (stack [1 + styles,H,W,3], alpha [H,W])
        for f in self.files(f"{data}/cutouts/*.npz", held_out):
            with np.load(f) as z:
                self.cutouts.append((z["stack"], z["alpha"]))

    @staticmethod
    def files(pattern, wanted):
        return [f for f in sorted(glob.glob(pattern))
                if ".part." not in f and held_out(f) == wanted]

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


def wave(rng, t, limit, speed):
    """A sine of random period that changes by at most `speed` a frame, within +-limit."""
    period = rng.uniform(24, 120)
    reach = min(limit, speed * period / 6.3) * rng.random()
    return reach * np.sin(6.2832 * (t / period + rng.random()))


def camera(rng, numbers, width, height, size, still=False, spread=1.):
    """A smooth path over a picture at the given frame numbers: Path's cx, cy, zoom and angle, [F,4].

    Small `spread`: it begins near the picture's own scale, at which its styled version was made.
    """
    t = np.asarray(numbers, np.float64)
    moves = 0 if still else 1
    zoom = np.exp(spread * rng.uniform(-.25, .15)) * np.exp(moves * wave(rng, t, .15, .012))
    angle = moves * wave(rng, t, .15, .01)
    half = .5 * size * zoom.max() * 1.1
    cx = rng.uniform(min(half, width / 2), max(width - half, width / 2)) + moves * wave(rng, t, width / 4, 4)
    cy = rng.uniform(min(half, height / 2), max(height - half, height / 2)) + moves * wave(rng, t, height / 4, 3)
    return np.stack([cx, cy, zoom, angle], -1).astype(np.float32)


def passer(rng, numbers, width, height, size):
    """The same for a cut-out that moves before the frames."""
    t = np.asarray(numbers, np.float64)
    zoom = rng.uniform(.95, 1.4) * np.exp(wave(rng, t, .3, .015))
    angle = rng.uniform(-.2, .2) + wave(rng, t, .3, .02)
    # Where the middle of the frame lies on the cut-out: the cut-out moves against it.
    reach = zoom.mean() * size
    cx = width / 2 + reach * rng.uniform(-.35, .35) + wave(rng, t, .6 * reach, .04 * reach)
    cy = height / 2 + reach * rng.uniform(-.35, .35) + wave(rng, t, .4 * reach, .025 * reach)
    return np.stack([cx, cy, zoom, angle], -1).astype(np.float32)


class Path:
    """How pictures lie under frames: frames look at (cx, cy), `zoom` pixels a pixel, turned by `angle`.

    places [...,F,4] holds these four for each frame.
    """

    def __init__(self, places, size):
        step = torch.arange(size, device=places.device) - (size - 1) / 2
        self.y, self.x = step[:, None], step
        self.cx, self.cy, zoom, angle = places[..., None, None].unbind(-3)
        self.cos, self.sin, self.square = zoom * angle.cos(), zoom * angle.sin(), zoom * zoom
        self.size = size

    def points(self):
        """Where each frame's pixels lie on the picture: x and y [...,F,S,S]."""
        return (self.cx + self.cos * self.x - self.sin * self.y,
                self.cy + self.sin * self.x + self.cos * self.y)

    def back(self):
        """For grid_sample, [...,F-1,S,S,2]: where the frame before shows what each pixel shows."""
        px, py = (p[..., 1:, :, :] for p in self.points())
        cx, cy, cos, sin, square = (p[..., :-1, :, :] for p in (self.cx, self.cy, self.cos, self.sin, self.square))
        dx, dy, cos, sin = px - cx, py - cy, cos / square, sin / square
        return torch.stack([cos * dx + sin * dy, cos * dy - sin * dx], -1) * (2 / self.size)


def warp(picture, rng, numbers, size):
    """Frames [F,C,S,S] of `picture` [C,H,W] under a moving camera."""
    h, w = picture.shape[1:]
    px, py = Path(torch.from_numpy(camera(rng, numbers, w, h, size)), size).points()
    grid = torch.stack([(2 * px + 1) / w - 1, (2 * py + 1) / h - 1], -1)
    return F.grid_sample(picture[None].expand(len(grid), -1, -1, -1), grid, mode="bilinear",
                         padding_mode="reflection", align_corners=False)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", required=True)
    p.add_argument("--workers", type=int, default=2)
    args = p.parse_args()
    build(args.data, args.workers)
