# SPDX-License-Identifier: Apache-2.0
"""Writes a model folder from the checkpoints: fp16 weights, model.json, vocab.json, merges.txt.

Takes the clip stage's weights, or the image stage's where there is no clip stage yet (its motion
modules then do nothing). MODEL_CARD.md is written by hand and left alone.
"""
import argparse
import json
import os
import re

import bpe
import common
from model import folder


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", required=True)
    p.add_argument("--config", default=os.path.join(common.HERE, "paint-s.json"))
    p.add_argument("--stage", choices=["image", "clip"])
    p.add_argument("--out", required=True)
    args = p.parse_args()
    with open(os.path.join(args.data, "autoencoder.json")) as f:
        factor = json.load(f)["scaling_factor"]
    with open(args.config) as f:
        text = re.sub(r'("scaling_factor": )[0-9.]+', rf"\g<1>{factor}", f.read())
    config = json.loads(text)
    stage = args.stage or ("clip" if os.path.exists(f"{args.data}/clip.pt") else "image")
    model = folder.Model(config, *bpe.build(config["text"]))
    for name, module in model.parts().items():
        module.load_state_dict(common.load_ema(f"{args.data}/{stage}.pt", name))
    folder.write_model(args.out, model)
    bpe.write(args.out, config["text"])
    with open(os.path.join(args.out, "model.json"), "w") as f:
        f.write(text)
    total = sum(os.path.getsize(os.path.join(args.out, n)) for n in os.listdir(args.out))
    print(f"{args.out}: {stage} stage, {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
