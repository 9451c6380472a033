# SPDX-License-Identifier: Apache-2.0
"""Looks at a model folder through the streaming reference: a contact sheet and a few figures.

`--clip` runs a video and writes <out>.png, one row a style (source first). Figures per style are on
moving crops of held-out photos, frames after the warm-up: PSNR to the teacher's picture, the same
for the autoencoder alone (the ceiling) and for the untouched source, mean absolute difference to the
source in levels of 255, and the mean change of the error from frame to frame (flicker).
"""
import argparse

import cv2
import numpy as np
import torch

import common
import data
from model import folder
from stream import Stream

PROMPTS = {"van gogh": "a van gogh painting", "ink": "an ink drawing", "neon": "neon lights",
           "cartoon": "a cartoon", "watercolor": "a watercolor painting"}


def read_clip(path, size, count, every):
    video, frames = cv2.VideoCapture(path), []
    while len(frames) < count * every:
        ok, image = video.read()
        if not ok:
            break
        scale = size / min(image.shape[:2])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        frames.append(np.ascontiguousarray(image[top:top + size, left:left + size, ::-1]))
    return frames[::every]


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b)**2))


def run(model, prompt, frames, steps):
    stream = Stream(model, prompt, frames[0].shape[1], frames[0].shape[0], t_index_list=steps)
    return [picture for _, picture in sorted(stream.run(frames), key=lambda p: p[0])]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", required=True)
    p.add_argument("--clip")
    p.add_argument("--data", help="the training folder: figures on held-out photos")
    p.add_argument("--out", default="styles")
    p.add_argument("--size", type=int, default=256)
    p.add_argument("--frames", type=int, default=20)
    p.add_argument("--every", type=int, default=1)
    p.add_argument("--photos", type=int, default=6)
    p.add_argument("--steps", type=lambda s: [int(v) for v in s.split(",")])
    args = p.parse_args()
    model = folder.load_model(args.model)
    if args.clip:
        frames = read_clip(args.clip, args.size, args.frames, args.every)
        shown = np.linspace(0, len(frames) - 1, 5).astype(int)
        rows = [np.concatenate([frames[i] for i in shown], 1)]
        for prompt in PROMPTS.values():
            out = run(model, prompt, frames, args.steps)
            rows.append(np.concatenate([out[i] for i in shown], 1))
        cv2.imwrite(f"{args.out}.png", np.concatenate(rows)[..., ::-1])
    if not args.data:
        return
    stills = data.Stills(args.data, held_out=True)
    print(f"{'style':12} teacher  ceiling  source  |out-source|  flicker")
    for number, (style, prompt) in enumerate(PROMPTS.items()):
        sums = []
        for photo in range(args.photos):
            rng = np.random.default_rng(100 + photo)
            torch.manual_seed(photo)
            source, target = data.moving_pair(stills, rng, photo, number, range(12), args.size)
            out = np.stack(run(model, prompt, list(data.to_uint8(source)), args.steps))[8:]
            with torch.no_grad():
                ceiling = data.to_uint8(model.vae.decode(model.vae.encode(target[8:])))
            source, target = data.to_uint8(source)[8:], data.to_uint8(target)[8:]
            error = out.astype(np.float64) - target
            sums.append([psnr(out, target), psnr(ceiling, target), psnr(source, target),
                         np.abs(out.astype(np.float64) - source).mean(),
                         np.abs(np.diff(error, axis=0)).mean()])
        row = np.mean(sums, 0)
        print(f"{style:12} {row[0]:7.2f}  {row[1]:7.2f} {row[2]:7.2f}"
              f"  {row[3]:12.1f}  {row[4]:7.2f}")


if __name__ == "__main__":
    main()
