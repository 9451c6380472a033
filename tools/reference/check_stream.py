# SPDX-License-Identifier: Apache-2.0
"""Checks that the uses of the UNet are one function, on the golden models' synthetic weights.

    python3 check_stream.py ../../tests/data/tiny3

The stream, the same stream batched, and one forward over the whole clip must agree, for D = 1..8.
"""
import json
import sys
from pathlib import Path

import torch

from make_golden import input_frame, load_recipe
from model.folder import read_model
from model.window import ClipWindow
from stream import Recorder, Stream

FRAMES = 20


def run(model, steps, batch):
    """-> {name: tensor}, images"""
    seen, config = {}, model.config["default"]
    recorder = Recorder(model, lambda name, tensor: seen.__setitem__(name, tensor.clone()))
    stream = Stream(model, config["prompt"], config["width"], config["height"], 5, steps, 50, batch=batch,
                    recorder=recorder)
    shown = list(stream.run(input_frame(f, config["width"], config["height"]) for f in range(FRAMES)))
    recorder.close()
    assert [index for index, _ in shown] == list(range(FRAMES))
    return stream, seen


def difference(a, b):
    return ((a - b).norm() / b.norm()).item()


@torch.no_grad()
def main():
    folder = Path(sys.argv[1])
    model = load_recipe(read_model(folder), json.loads((folder / "weights.json").read_text()))
    for count in range(1, 9):
        steps = [20 + 3 * k for k in range(count)]
        stream, one = run(model, steps, batch=False)
        _, many = run(model, steps, batch=True)
        assert one.keys() == many.keys()
        batched = max(difference(many[name], one[name]) for name in one)
        clip = 0.0
        for k, t in enumerate(stream.scheduler.timesteps):
            def whole(name):
                rows = [one[f"warmup.{k}/{name}"]] + [one[f"frame.{f}.step.{k}/{name}"] for f in range(8, FRAMES)]
                return torch.cat(rows).permute(0, 3, 1, 2)
            cond = torch.cat([one[f"frame.{f}/unet.flow_conv_in"] for f in range(FRAMES)]).permute(0, 3, 1, 2)
            eps = model.unet(whole("x"), t, stream.text, cond, ClipWindow(range(FRAMES)))
            clip = max(clip, difference(eps, whole("unet.conv_out")))
        print(f"D = {count}: batched {batched:.1e}, clip {clip:.1e}")
        if max(batched, clip) > 1e-4:
            sys.exit("the schedules differ")


main()
