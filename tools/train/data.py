# SPDX-License-Identifier: Apache-2.0
"""The training set: photos, their styled versions, and random crops and clips of both.

`python data.py --data D` styles every photo and cut-out once. Caches a photo and its styled
versions in D/cache as one uint8 array [1 + styles, H, W, 3], a cut-out in D/cutouts with its alpha
[H, W] beside such an array. `Stills` serves aligned crops from the caches, `moving` clips.
"""
import argparse
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
    return torch.stack(teachers.recolor(palette, (x / 2 + .5).unbind(1)), 1) * 2 - 1


def some_palette(rng):
    return PALETTES[rng.integers(len(PALETTES))] if rng.random() < .45 else None


class Stills:
    """All cached photos and cut-outs, mapped or in memory; crops by a seeded generator."""

    def __init__(self, data, held_out=False, limit=None):
        self.stacks = [np.load(f, mmap_mode="r") for f in self.files(f"{data}/cache/*.npy", held_out)[:limit]]
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
    return reach * torch.sin(6.2832 * (t / period + rng.random()))


class Path:
    """How a picture lies under each frame: frames look at (cx, cy) of it, `zoom` pixels a pixel, turned."""

    def __init__(self, cx, cy, zoom, angle, size):
        step = torch.arange(size, device=zoom.device) - (size - 1) / 2
        self.y, self.x = torch.meshgrid(step, step, indexing="ij")
        self.cx, self.cy, self.size = cx[:, None, None], cy[:, None, None], size
        self.cos, self.sin = (zoom * angle.cos())[:, None, None], (zoom * angle.sin())[:, None, None]
        self.square = (zoom * zoom)[:, None, None]

    def points(self):
        """Where each frame's pixels lie on the picture: x and y [F,S,S]."""
        return (self.cx + self.cos * self.x - self.sin * self.y,
                self.cy + self.sin * self.x + self.cos * self.y)

    def sample(self, picture, padding):
        """The frames [F,C,S,S] of `picture` [C,H,W]."""
        h, w = picture.shape[1:]
        px, py = self.points()
        grid = torch.stack([(2 * px + 1) / w - 1, (2 * py + 1) / h - 1], -1)
        return F.grid_sample(picture[None].expand(len(grid), -1, -1, -1), grid, mode="bilinear",
                             padding_mode=padding, align_corners=False)

    def back(self):
        """For grid_sample, [F-1,S,S,2]: where the frame before shows what each pixel shows."""
        px, py = self.points()
        dx, dy = px[1:] - self.cx[:-1], py[1:] - self.cy[:-1]
        cos, sin = self.cos[:-1] / self.square[:-1], self.sin[:-1] / self.square[:-1]
        return torch.stack([cos * dx + sin * dy, cos * dy - sin * dx], -1) * (2 / self.size)


def camera(picture, rng, numbers, size, still=False, spread=1.):
    """A smooth path over `picture` [C,H,W] at the given frame numbers.

    Small `spread`: it begins near the picture's own scale, at which its styled version was made.
    """
    h, w = picture.shape[1:]
    t = torch.tensor(list(numbers), dtype=torch.float32, device=picture.device)
    moves = 0 if still else 1
    zoom = float(np.exp(spread * rng.uniform(-.25, .15))) * torch.exp(moves * wave(rng, t, .15, .012))
    angle = moves * wave(rng, t, .15, .01)
    half = .5 * size * float(zoom.max()) * 1.1
    cx = rng.uniform(min(half, w / 2), max(w - half, w / 2)) + moves * wave(rng, t, w / 4, 4)
    cy = rng.uniform(min(half, h / 2), max(h - half, h / 2)) + moves * wave(rng, t, h / 4, 3)
    return Path(cx, cy, zoom, angle, size)


def warp(picture, rng, numbers, size):
    """Frames [F,C,S,S] of `picture` [C,H,W] under a moving camera."""
    return camera(picture, rng, numbers, size).sample(picture, "reflection")


def pass_by(frames, back, cutout, entries, rng, numbers):
    """Lets a cut-out move before the frames [F,6,S,S], on a smooth path of its own.

    Returns the new frames, and `back` (Path.back) with the cut-out's motion where it covers them.
    """
    stack, alpha = cutout
    size, device = frames.shape[-1], frames.device
    picture = torch.cat([to_float(stack[entries], device).flatten(0, 1),
                         torch.from_numpy(alpha).to(device)[None].float() / 255])
    if rng.random() < .5:
        picture = picture.flip(2)
    h, w = picture.shape[1:]
    t = torch.tensor(list(numbers), dtype=torch.float32, device=device)
    zoom = rng.uniform(.95, 1.4) * torch.exp(wave(rng, t, .3, .015))
    angle = rng.uniform(-.2, .2) + wave(rng, t, .3, .02)
    # Where the middle of the frame lies on the cut-out: the cut-out moves against it.
    reach = float(zoom.mean()) * size
    cx = w / 2 + reach * rng.uniform(-.35, .35) + wave(rng, t, .6 * reach, .04 * reach)
    cy = h / 2 + reach * rng.uniform(-.35, .35) + wave(rng, t, .4 * reach, .025 * reach)
    path = Path(cx, cy, zoom, angle, size)
    picture, alpha = path.sample(picture, "zeros").split([6, 1], 1)
    return (frames + (picture - frames) * alpha,
            torch.where(alpha[1:].permute(0, 2, 3, 1) > .5, path.back(), back))


def scene(stills, rng, numbers, size, style, device):
    """Source and target as [F,6,S,S] and Path.back(): a photo under a moving camera, often with cut-outs.

    In 25 % of the scenes only cut-outs move; 35 % have one or two of them.
    """
    entries, kind = [0, style + 1], rng.random()
    stack = stills.stacks[rng.integers(len(stills.stacks))]
    pair = to_float(stack[entries], device).flatten(0, 1)
    path = camera(pair, rng, numbers, size, still=kind < .3, spread=.2)
    frames, back = path.sample(pair, "reflection"), path.back()
    if stills.cutouts and (kind < .25 or kind > .9):
        for _ in range(int(rng.integers(1, 3))):
            cutout = stills.cutouts[rng.integers(len(stills.cutouts))]
            frames, back = pass_by(frames, back, cutout, entries, rng, numbers)
    return frames, back


def moving(stills, rng, numbers, size, device):
    """A clip made of stills: source and target frames [F,3,S,S], where each frame's pixels were in the
    one before (Path.back), and the look: the style's number and the palette.

    Style -1 is the plain picture, and a palette may be None. Source and target are warped by the
    same smooth paths, so the target sticks to the surfaces; only the source gets exposure drift
    and sensor noise, so the network learns to be calmer than its input. 5 % have a scene cut.
    """
    style = int(rng.integers(len(STYLES))) if rng.random() > .08 else -1
    palette = some_palette(rng)
    frames, back = scene(stills, rng, numbers, size, style, device)
    if rng.random() < .05:
        cut = int(rng.integers(1, len(numbers)))
        after, later = scene(stills, rng, numbers[cut:], size, style, device)
        frames, back = torch.cat([frames[:cut], after]), torch.cat([back[:cut], later])
    source, target = frames.chunk(2, 1)
    if rng.random() < .5:
        drift = .06 * rng.random() * np.sin(np.array(numbers) * rng.uniform(.03, .15))
        drift = torch.tensor(drift, dtype=torch.float32, device=device)[:, None, None, None]
        source = (source + 1) * (1 + drift) - 1 + rng.uniform(0, .04) * torch.randn_like(source)
    return source.clamp(-1, 1), grade(palette, target), back, (style, palette)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", required=True)
    p.add_argument("--workers", type=int, default=2)
    args = p.parse_args()
    build(args.data, args.workers)
