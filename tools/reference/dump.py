# SPDX-License-Identifier: Apache-2.0
"""Runs a model folder on raw RGB frames and writes every activation: what `live2diff --dump DIR` writes.

    ffmpeg -i clip.mp4 -vf scale=256:256 -f rawvideo -pix_fmt rgb24 clip.rgb
    python3 dump.py MODEL clip.rgb --size 256x256 --out DIR [--prompt P] [--steps 25,37/50] [--limit N]

One file a frame, `frame_%06d.safetensors`: per-frame activations under their plain name, per-step ones
as `step.K/NAME`. The prompt's are in `text.safetensors`. All float32, channels last, one row.
"""
import argparse
from pathlib import Path

import numpy as np

from model.folder import load_model, write_safetensors
from model.prompt import SYNTAXES
from stream import Recorder, Stream


def read_frames(path, width, height, limit):
    frames = np.memmap(path, np.uint8, "r")
    count = frames.size // (width * height * 3)
    return frames[:count * width * height * 3].reshape(count, height, width, 3)[:limit]


class FrameFiles:
    """Gathers tensors by frame; a frame's file is written once it has left the stream."""

    def __init__(self, folder):
        self.folder, self.frames, self.text = Path(folder), {}, {}
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name, tensor):
        label, activation = name.split("/", 1)
        kind, *rest = label.split(".")
        array = tensor.float().cpu().numpy()
        if kind == "text":
            self.text[activation] = array
        elif kind == "warmup":
            for f, row in enumerate(array):
                self.frames.setdefault(f, {})[f"step.{rest[0]}/{activation}"] = row[None]
        else:
            step = f"step.{rest[2]}/" if len(rest) > 1 else ""
            self.frames.setdefault(int(rest[0]), {})[step + activation] = array

    def write(self, index):
        write_safetensors(self.folder / f"frame_{index:06d}.safetensors", self.frames.pop(index))


def parse_steps(text):
    indices, _, count = text.partition("/")
    return [int(i) for i in indices.split(",")], int(count) if count else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("frames", help="raw rgb24 frames at the network's size")
    parser.add_argument("--size", required=True, help="WxH")
    parser.add_argument("--out", required=True)
    parser.add_argument("--prompt", help="default: the model's")
    parser.add_argument("--prompt-syntax", choices=SYNTAXES, default="numbers")
    parser.add_argument("--steps", help="list/count, such as 25,37/50; default: the model's")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--guidance-mode", choices=["none", "full", "self", "initialize"], default="none")
    parser.add_argument("--guidance-delta", type=float, default=1.0)
    parser.add_argument("--negative", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", choices=["shared", "fresh"])
    parser.add_argument("--kv-cache", choices=["exact", "int8"], default="exact")
    parser.add_argument("--batch", action="store_true", help="keep a frame per step in flight")
    parser.add_argument("--limit", type=int, help="stop after this many frames")
    args = parser.parse_args()

    model = load_model(args.model)
    width, height = (int(n) for n in args.size.split("x"))
    steps, count = parse_steps(args.steps) if args.steps else (None, None)
    files = FrameFiles(args.out)
    prompt = model.config["default"]["prompt"] if args.prompt is None else args.prompt
    stream = Stream(model, prompt, width, height, args.seed, steps, count, args.noise, args.batch,
                    Recorder(model, files), args.prompt_syntax, None, args.guidance_mode, args.guidance,
                    args.guidance_delta, args.negative, kv_cache=args.kv_cache)
    write_safetensors(Path(args.out) / "text.safetensors", files.text)
    with open(Path(args.out) / "frames.rgb", "wb") as video:
        for index, rgb in stream.run(read_frames(args.frames, width, height, args.limit)):
            video.write(rgb.tobytes())
            files.write(index)


if __name__ == "__main__":
    main()
