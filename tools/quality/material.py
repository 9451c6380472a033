# SPDX-License-Identifier: Apache-2.0
"""What is evaluated on: held-out photos seen by a moving or by a fixed camera, and video files. All seeded."""
import subprocess
from pathlib import Path

import cv2
import numpy as np

import data
import teachers
from runtime import Failure


def held_out(folder):
    stills = data.Stills(folder, held_out=True)
    if not stills.stacks:
        raise Failure(f"{folder}/cache: no styled photos; tools/train/README.md says how they come there")
    if len(stills.stacks[0]) != 1 + len(teachers.STYLES):
        raise Failure(f"{folder}/cache: {len(stills.stacks[0]) - 1} styles, but teachers.py has "
                      f"{len(teachers.STYLES)}: style the photos again (data.py)")
    return stills


def moving(stills, photo, count, size):
    """A camera over a photo and, along the same path, over each style's picture of it: [1 + styles,N,H,W,3].

    The styled still is warped like its source, so these targets stick to the surfaces exactly.
    """
    stack = data.to_float(stills.stacks[photo % len(stills.stacks)], "cpu").flatten(0, 1)
    frames = data.warp(stack, np.random.default_rng(100 + photo), range(count), size)
    return np.stack([data.to_uint8(f) for f in frames.split(3, 1)])


def fixed(stills, photo, count, size):
    """A fixed camera with sensor noise (sigma 2) while a patch of another photo passes: frames, static mask.

    Static is what the patch never comes nearer to than 8 pixels.
    """
    rng = np.random.default_rng(300 + photo)
    scene = stills.centre(photo % len(stills.stacks), size)[0]
    side = size // 4
    patch = stills.centre((photo + 1) % len(stills.stacks), side)[0]
    top = size // 2
    lefts = np.linspace(size // 8, size // 2, count).astype(int)
    frames = np.stack([scene] * count).astype(np.float32)
    for frame, left in zip(frames, lefts):
        frame[top:top + side, left:left + side] = patch
    frames += rng.normal(0, 2, frames.shape)
    static = np.ones((size, size), bool)
    static[top - 8:top + side + 8, lefts[0] - 8:lefts[-1] + side + 8] = False
    return np.clip(frames + .5, 0, 255).astype(np.uint8), static


def loop(stills, photo, half, size):
    """A camera that goes and comes back, 2 * half - 2 frames, ready to be repeated."""
    frames = moving(stills, photo, half, size)[0]
    return np.concatenate([frames, frames[-2:0:-1]])


def video(path, count, size):
    """The middle square of a video from 1.2 s on, 12 frames a second: `cuts.mp4` cuts at 2 s."""
    if not Path(path).is_file():
        raise Failure(f"{path}: no such clip")
    fit = f"fps=12,scale={size}:{size}:force_original_aspect_ratio=increase:flags=area,crop={size}:{size}"
    got = subprocess.run(["ffmpeg", "-v", "error", "-ss", "1.2", "-i", str(path), "-vf", fit, "-frames:v", str(count),
                          "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True)
    frames = np.frombuffer(got.stdout, np.uint8)
    if got.returncode or frames.size < count * size * size * 3:
        lines = got.stderr.decode(errors="replace").strip().splitlines() or [f"fewer than {count} frames"]
        raise Failure(f"{path}: {lines[0]}")
    return frames.reshape(-1, size, size, 3)


def sheet(path, rows, height=None):
    """A JPEG of pictures in rows, left to right; each scaled to `height` if that is given."""
    def fit(p):
        return p if height in (None, p.shape[0]) else cv2.resize(p, (height, height), interpolation=cv2.INTER_AREA)

    gap = 4
    lines = []
    for row in rows:
        cells = [cv2.copyMakeBorder(fit(p), 0, gap, 0, gap, cv2.BORDER_CONSTANT, value=(255,) * 3) for p in row]
        lines.append(np.concatenate(cells, 1))
    image = np.concatenate(lines)[:-gap, :-gap]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 82])
