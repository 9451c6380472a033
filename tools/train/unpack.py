# SPDX-License-Identifier: Apache-2.0
"""Turns a model folder back into the checkpoints that export.py made it from.

Each stage then starts from these weights with a new schedule: to train the shipped model further,
or to teach it your own pictures and styles.
"""
import argparse
import json
import os

import torch

import common
from model import folder


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", required=True, help="model folder")
    p.add_argument("--data", required=True, help="where the checkpoints go; none is overwritten")
    args = p.parse_args()
    model = folder.load_model(args.model)
    weights = {f"{part}.{name}": value for part, module in model.parts().items()
               for name, value in module.state_dict().items()}
    checkpoints = {"autoencoder": ["vae"], "text": ["text"], "image": ["unet", "text", "vae"]}
    for name, parts in checkpoints.items():
        path = os.path.join(args.data, f"{name}.pt")
        if os.path.exists(path):
            raise SystemExit(f"unpack.py: {path} exists; choose an empty folder or move it away")
        torch.save({"ema": {k: v for k, v in weights.items() if k.split(".")[0] in parts}}, path)
    with open(os.path.join(args.data, "autoencoder.json"), "w") as f:
        json.dump({"scaling_factor": model.config["vae"]["scaling_factor"]}, f)


if __name__ == "__main__":
    main()
