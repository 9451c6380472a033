#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/torch: small files of torch.save(), for the reader that does without Python.

    python tools/reference/make_torch_files.py

Tensor k of a file holds k, k + 1/4, k + 2/4, ... in row-major order, so that a test can compute them.
Needs PyTorch 2.1 or newer for the float8 file, which is left alone otherwise.
"""
import collections
import os
import pickle
from pathlib import Path

import torch

OUT = Path(__file__).resolve().parents[2] / "tests/data/torch"


def numbers(k, *shape):
    count = torch.Size(shape).numel()
    return (k + torch.arange(count, dtype=torch.float32) / 4).reshape(shape)


def tensors():
    """Names sorted, as the reader gives them."""
    shared = numbers(3, 12)
    return collections.OrderedDict([
        ("a.weight", numbers(0, 2, 3)),
        ("b.channels_last", numbers(1, 2, 3, 2, 2).to(memory_format=torch.channels_last)),
        ("c.half", numbers(2, 5).half()),
        ("d.slice", shared[4:12].reshape(2, 4)),
        ("e.transposed", numbers(4, 3, 2).t().contiguous().t()),
        ("f.bfloat16", numbers(5, 3).bfloat16()),
        ("g.double", numbers(6, 2).double()),
        ("h.empty", torch.zeros(0, 4)),
        ("i.scalar", torch.tensor(8.0)),
        ("j.long", torch.tensor([9, -1])),
        ("k.parameter", torch.nn.Parameter(numbers(10, 2))),
        ("l.tied", shared[4:12].reshape(2, 4)),
    ])


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/pwned",)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(), OUT / "zip.pt")
    torch.save(tensors(), OUT / "legacy.pt", _use_new_zipfile_serialization=False)
    training = {"epoch": 3, "global_step": 2**40, "lr": .5, "state_dict": {"m.weight": numbers(0, 4)},
                "optimizer": {"state": {0: {"exp_avg": numbers(7, 4)}}, "lists": [1, (2, 3), None, True]},
                "callbacks": collections.defaultdict(dict, {"x": {"best": float("inf")}}), "set": {1, 2}}
    torch.save(training, OUT / "training.pt")
    torch.save({"a": numbers(0, 2), "b": Malicious()}, OUT / "malicious.pt")
    (OUT / "malicious.pkl").write_bytes(pickle.dumps({"a": Malicious()}, protocol=4))
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": numbers(1, 3, 8).requires_grad_()},
                "name": "painted", "step": 500, "sd_checkpoint": "81761151", "sd_checkpoint_name": None},
               OUT / "embedding_a1111.pt")
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": {"*": numbers(2, 1, 8).half()}},
               OUT / "embedding_old.pt", _use_new_zipfile_serialization=False)
    torch.save({"<cat-toy>": numbers(3, 8)}, OUT / "embedding_diffusers.bin")
    if hasattr(torch, "float8_e4m3fn"):
        torch.save({"a": numbers(0, 7).to(torch.float8_e4m3fn), "b": numbers(1, 7).to(torch.float8_e5m2)},
                   OUT / "float8.pt")


if __name__ == "__main__":
    main()
