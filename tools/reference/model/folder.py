# SPDX-License-Identifier: Apache-2.0
"""The model folder: model.json, unet/vae/text_encoder[/depth].safetensors, vocab.json, merges.txt,
perhaps added_tokens.json.

Also a small reader and writer of safetensors (8-byte header length, JSON header, raw little-endian
data), so that NumPy is the only dependency besides PyTorch.
"""
import json
import struct
from pathlib import Path

import numpy as np
import torch

from . import dpt
from .autoencoder_kl import AutoencoderKL
from .clip_text import ClipText
from .prompt import encode, parse, weigh
from .taesd import Taesd
from .tokenizer import Tokenizer
from .unet import UNet

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}
FILES = {"unet": "unet.safetensors", "vae": "vae.safetensors", "text": "text_encoder.safetensors",
         "depth": "depth.safetensors"}
CODECS = {"taesd": Taesd, "kl": AutoencoderKL}
UNUSED = {"depth": dpt.UNUSED}                      # tensors of published files


def read_safetensors(path):
    """-> {name: array}; BF16 is widened to float32."""
    data = np.memmap(path, np.uint8, "r")
    length = struct.unpack("<Q", data[:8].tobytes())[0]
    tensors = {}
    for name, info in json.loads(data[8:8 + length].tobytes()).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in info["data_offsets"])
        if info["dtype"] == "BF16":
            array = (data[begin:end].view("<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            array = data[begin:end].view(DTYPES[info["dtype"]])
        tensors[name] = array.reshape(info["shape"])
    return tensors


def write_safetensors(path, tensors, metadata=None):
    """tensors: {name: array or tensor}, written in the order given."""
    arrays, header, offset = [], {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, value in tensors.items():
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        end = offset + array.nbytes
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        arrays.append(array)
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays:
            file.write(array.tobytes())


class Model:
    """All networks of one folder. `model.unet`, `model.vae`, `model.text` and `model.depth`, which may be None, are
    modules; `model.config` is model.json."""

    def __init__(self, config, vocab, merges, added={}):
        self.config = config
        self.unet, self.text = UNet(config["unet"]), ClipText(config["text"])
        self.vae = CODECS[config["vae"]["arch"]](config["vae"])
        structure = config["structure"]
        self.depth = dpt.Dpt(structure.get("dpt")) if structure["type"] == "depth" else None
        self.tokenizer = Tokenizer(vocab, merges, config["text"]["max_position_embeddings"], added)

    def parts(self):
        parts = {"unet": self.unet, "vae": self.vae, "text": self.text, "depth": self.depth}
        return {part: module for part, module in parts.items() if module is not None}

    def eval(self):
        for module in self.parts().values():
            module.eval().requires_grad_(False)
        return self

    def to(self, *args, **kwargs):
        for module in self.parts().values():
            module.to(*args, **kwargs)
        return self

    def prompt_parts(self, prompt, syntax="numbers", template=None):
        if template is None:
            template = self.config["default"].get("prompt_template", "{}")
        return parse(template, prompt, syntax)

    def prompt_embedding(self, prompt, syntax="numbers", template=None):
        """prompt -> [1, T, C], by the folder's template if no other is given; see prompt.py."""
        device = next(self.text.parameters()).device
        total = 0
        for share, runs in self.prompt_parts(prompt, syntax, template):
            ids, weights = encode(self.tokenizer, runs)
            total = total + share * weigh(self.text(torch.tensor([ids], device=device)), weights)
        return total


def load_state(module, tensors, unused=()):
    """Strict, but for the positional tables, which may be computed, and tensors that are known to be of no use."""
    state = {name: torch.from_numpy(np.array(array)).float() for name, array in tensors.items()
             if not name.endswith("position_ids") and not name.startswith(tuple(unused))}
    missing, unexpected = module.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("pos_encoder.pe")]
    if missing or unexpected:
        raise ValueError(f"tensors missing: {missing[:8]}, unexpected: {unexpected[:8]}")


def read_model(folder):
    """Folder without weights is fine for the caller to fill: see `load_weights`."""
    folder = Path(folder)
    config = json.loads((folder / "model.json").read_text())
    if config["format"] != "live2diff-1":
        raise ValueError(f"{folder}: format {config['format']!r} is not live2diff-1")
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    merges = (folder / "merges.txt").read_text(encoding="utf-8")
    added = folder / "added_tokens.json"
    return Model(config, vocab, merges, json.loads(added.read_text(encoding="utf-8")) if added.exists() else {})


def load_model(folder):
    model = read_model(folder)
    for part, module in model.parts().items():
        load_state(module, read_safetensors(Path(folder) / FILES[part]), UNUSED.get(part, ()))
    return model.eval()


def write_model(folder, model, dtype=np.float16):
    """model.json and the weight files; the tokenizer's files are the caller's."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(model.config, indent=2) + "\n")
    for part, module in model.parts().items():
        write_safetensors(folder / FILES[part], {
            name: tensor.detach().float().cpu().numpy().astype(dtype)
            for name, tensor in module.state_dict().items() if not name.endswith("pos_encoder.pe")})
