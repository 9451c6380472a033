#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks `live2diff import` with files of every format, made of random numbers.

    python3 check_import.py PROGRAM             narrow networks of SD1.5's topology: a minute
    python3 check_import.py PROGRAM --full      SD1.5's real widths: 16 GB of memory, 20 GB of disk, hours
    python3 check_import.py PROGRAM --only ldm --no-run
    python3 check_import.py PROGRAM --full --only dreambooth_yaml --precision fp16

The same files are fused here, by formulas of their own, in float32. Each imported tensor must be that
number rounded to fp16 (or its neighbour); then the program runs the folder and every activation is
compared with the reference's.
"""
import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tools/quality")]

from model.folder import Model, read_safetensors, write_safetensors     # noqa: E402
from runtime import Runtime                                             # noqa: E402
from stream import Recorder, Stream                                     # noqa: E402

WORDS = {"<toy>": 1, "ghost": 3}                    # textual inversions, and their vectors
PROMPT = "a <toy> of ghost"
ENDINGS = [(".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight")]


def config(full, depth, kl):
    """model.json, as import should infer it from what is written below."""
    groups = 32
    codec = {"arch": "kl", "latent_channels": 4, "block_out_channels": [32, 32, 64, 64], "layers_per_block": 2,
             "norm_num_groups": groups, "scaling_factor": .18215}
    dpt = {"input_size": 96, "stem_channels": 32, "stage_channels": [128, 128, 128], "stage_blocks": [1, 2, 1],
           "norm_num_groups": groups, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 1,
           "intermediate_size": 128, "hooks": [2, 3], "features": 32, "head_channels": 8}
    if full:
        codec["block_out_channels"] = [128, 256, 512, 512]
        dpt = {"input_size": 384, "stem_channels": 64, "stage_channels": [256, 512, 1024], "stage_blocks": [3, 4, 9],
               "norm_num_groups": groups, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
               "intermediate_size": 3072, "hooks": [8, 11], "features": 256, "head_channels": 32}
    channels = [320, 640, 1280, 1280] if full else [32, 64, 64, 64]
    width = [64] * 4 if full else [16] * 4
    return {
        "format": "live2diff-1", "name": "checked", "license": "see manifest.json",
        "default": {"width": 128, "height": 128, "prompt": "a cat", "prompt_template": "a painting of {}"},
        "unet": {
            "in_channels": 4, "out_channels": 4, "block_out_channels": channels, "layers_per_block": 2,
            "down_block_types": ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"],
            "mid_block_type": "UNetMidBlock3DCrossAttn",
            "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3,
            "attention_head_dim": 8, "norm_num_groups": 32, "cross_attention_dim": 768 if full else 64,
            "flip_sin_to_cos": True, "freq_shift": 0, "cond_mapping": depth,
            "cond_mapping_channels": [16, 32, 96, 256] if full and depth else [16, 24] if depth else [16],
            "use_motion_module": True, "motion_module_resolutions": [1, 2, 4, 8],
            "motion_module_mid_block": False,
            "motion_module_kwargs": {
                "num_attention_heads": 8, "num_transformer_block": 1,
                "attention_block_types": ["Temporal_Self", "Temporal_Self"],
                "temporal_position_encoding": True, "temporal_position_encoding_max_len": 24,
                "window_size": 16, "sink_size": 8}},
        "vae": codec if kl else {"arch": "taesd", "patch": 1, "latent_channels": 4, "enc_channels": width,
                "enc_blocks": [1, 3, 3, 3] if full else [1, 1, 1, 2], "dec_channels": width,
                "dec_blocks": [1, 3, 3, 3] if full else [1, 1, 2, 1], "scaling_factor": 1.0},
        "text": {"arch": "clip_text", "vocab_size": (49408 if full else 554) + sum(WORDS.values()),
                 "max_position_embeddings": 77 if full else 24, "hidden_size": 768 if full else 64,
                 "num_hidden_layers": 12 if full else 3, "num_attention_heads": 12 if full else 1,
                 "intermediate_size": 3072 if full else 128, "hidden_act": "quick_gelu", "clip_skip": 1},
        "structure": {"type": "depth", "normalize": "frame", "dpt": dpt} if depth else {"type": "luma"},
        "scheduler": {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
                      "beta_schedule": "linear", "prediction": "epsilon", "num_inference_steps": 50,
                      "t_index_list": [25, 37], "noise": "fresh"},
    }


def random_state(module, seed):
    """Makes every tensor random, none zero, and scaled so that signals keep their size. What it returns is the module's
    own memory, as long as nobody puts other tensors in."""
    generator, state = torch.Generator().manual_seed(seed), dict(module.state_dict())
    for name, tensor in state.items():
        if name.endswith("pos_encoder.pe"):
            continue
        tensor.normal_(generator=generator)
        if tensor.dim() > 1:
            tensor *= tensor[0].numel() ** -.5
        elif name.endswith("weight"):
            tensor.mul_(.1).add_(1)
        else:
            tensor *= .1
    return state


def random_depth(module, seed):
    """The same for DPT, whose trunk's residual branches add little to what they are added to, as trained ones do. If
    they add as much, any difference grows a hundredfold through 16 blocks: rounding no more than the picture to fp16
    then moves the structure by 2e-2."""
    state = random_state(module, seed)
    for name, tensor in state.items():
        if ".norm3." in name:
            tensor *= .3
    return state


def is_motion(name):
    return ".motion_modules." in name or name.startswith("flow_conv_in.")


# ---- other names --------------------------------------------------------------------------------

def ldm_unet_name(name):
    """diffusers' name of a UNet tensor in a CompVis checkpoint, from the order of its blocks."""
    parts = name.split(".")
    ends = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    inner = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
             "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    if parts[0] in ends:
        return f"{ends[parts[0]]}.{parts[-1]}"
    if parts[0] == "time_embedding":
        return f"time_embed.{0 if parts[1] == 'linear_1' else 2}.{parts[-1]}"
    if parts[0] == "mid_block":
        place = {"attentions": 1, "resnets": 2 * int(parts[2])}[parts[1]]
        rest = parts[3:] if parts[1] == "attentions" else [inner[parts[3]], parts[4]]
        return ".".join(["middle_block", str(place), *rest])
    down, block, kind, index, rest = parts[0] == "down_blocks", int(parts[1]), parts[2], int(parts[3]), parts[4:]
    if kind == "downsamplers":
        return f"input_blocks.{3 * block + 3}.0.op.{parts[-1]}"
    if kind == "upsamplers":
        return f"output_blocks.{3 * block + 2}.{1 if block == 0 else 2}.conv.{parts[-1]}"
    number = 3 * block + index + (1 if down else 0)
    rest = [inner[rest[0]], rest[1]] if kind == "resnets" else rest
    return ".".join(["input_blocks" if down else "output_blocks", str(number),
                     "0" if kind == "resnets" else "1", *rest])


def ldm_vae_name(name):
    """diffusers' name of an AutoencoderKL's tensor in a CompVis checkpoint."""
    for a, b in (("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2"),
                 ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"), ("to_out.0", "proj_out"),
                 ("mid_block.attentions.0.", "mid.attn_1."), ("to_", ""), ("conv_norm_out", "norm_out"),
                 ("conv_shortcut", "nin_shortcut"), ("downsamplers.0", "downsample"), ("upsamplers.0", "upsample"),
                 ("resnets", "block"), ("down_blocks", "down")):
        name = name.replace(a, b)
    for level in range(4):
        name = name.replace(f"up_blocks.{level}", f"up.{3 - level}")
    return name


def single_file(unet, text, dtype, vae=None):
    """A CompVis checkpoint, with the things in it that nobody needs here."""
    state = {"model.diffusion_model." + ldm_unet_name(n): t.to(dtype) for n, t in unet.items() if not is_motion(n)}
    state.update({f"cond_stage_model.transformer.text_model.{n}": t.to(dtype) for n, t in text.items()})
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    for name, tensor in (vae or {"encoder.conv_in.weight": torch.ones(4, 3, 3, 3)}).items():
        square = ".attentions." in name and tensor.dim() == 2       # 1x1 convolutions there
        state["first_stage_model." + ldm_vae_name(name)] = tensor[:, :, None, None] if square else tensor
    state["model_ema.decay"], state["alphas_cumprod"] = torch.tensor(.9999), torch.rand(1000)
    return state


def save(path, state):
    write_safetensors(path, {n: t.contiguous() for n, t in state.items()}, {"format": "pt"})


def save_torch(path, state, legacy=False):
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)


class Lora:
    """Random changes of some modules of the UNet and the text encoder."""

    def __init__(self, unet, text, seed, rank=4, alpha=2.0, every=1, convs=True):
        generator = torch.Generator().manual_seed(seed)
        self.alpha, self.modules = alpha, {}
        for part, state in (("unet", unet), ("text", text)):
            names = [n for n, t in state.items() if n.endswith(".weight") and t.dim() >= 2 and
                     not is_motion(n) and "embedding" not in n and (convs or t.dim() == 2)]
            for name in names[::every]:
                weight, r = state[name], min(rank, *state[name].shape[:2])
                down = torch.randn(r, *weight.shape[1:], generator=generator) * weight[0].numel() ** -.5
                up = torch.randn(weight.shape[0], r, *[1] * (weight.dim() - 2), generator=generator) * .3
                self.modules[part, name[:-len(".weight")]] = down, up

    def apply(self, part, state, scale, raw, dtype):
        for (p, module), (down, up) in self.modules.items():
            if p == part:
                r = down.shape[0]
                down, up = down.to(dtype).float(), up.to(dtype).float()
                delta = (up.reshape(-1, r).double() @ down.reshape(r, -1).double()).float()
                factor = scale if raw else scale * self.alpha / r
                state[f"{module}.weight"] += factor * delta.reshape(state[f"{module}.weight"].shape)

    def kohya(self, dtype):
        out = {}
        for (part, module), (down, up) in self.modules.items():
            base = ("lora_unet_" if part == "unet" else "lora_te_text_model_") + module.replace(".", "_")
            out[f"{base}.lora_down.weight"], out[f"{base}.lora_up.weight"] = down.to(dtype), up.to(dtype)
            out[f"{base}.alpha"] = torch.tensor(self.alpha)
        return out

    def peft(self, dtype):
        """Without alpha: then it is the rank."""
        out = {}
        for (part, module), (down, up) in self.modules.items():
            base = ("unet." if part == "unet" else "text_encoder.text_model.") + module
            out[f"{base}.lora_A.weight"], out[f"{base}.lora_B.weight"] = down.to(dtype), up.to(dtype)
        return out


# ---- cases --------------------------------------------------------------------------------------

class Case:
    """Files in a folder, the options that import them, and the numbers that must come out."""

    def __init__(self, folder, full, depth, kl):
        self.folder, self.config = Path(folder), config(full, depth, kl)
        bpe = ROOT / "tests/data/narrow4"
        self.vocab, self.merges = ((bpe / f).read_text() for f in ("vocab.json", "merges.txt"))
        self.words, ids, known = {}, {}, self.config["text"]["vocab_size"] - sum(WORDS.values())
        for word, count in WORDS.items():
            first = known + len(ids)
            self.words[word] = slice(first, first + count)
            ids.update({f"{word}_{i}" if i else word: first + i for i in range(count)})
        self.model = Model(self.config, json.loads(self.vocab), self.merges, ids).eval()
        prompt = self.config["default"]["prompt_template"].replace("{}", PROMPT)
        if not set(ids.values()) <= set(self.model.tokenizer.encode(prompt)):
            raise SystemExit("the prompt does not have all of the words")
        self.unet = random_state(self.model.unet, 1)
        self.text = {n.replace("text_model.", "", 1): t for n, t in random_state(self.model.text, 2).items()}
        self.vae = random_state(self.model.vae, 3)
        self.depth = random_depth(self.model.depth, 4) if depth else {}
        self.options = ["--depth-range", "frame"]

    def tokenizer(self, folder):
        folder.mkdir(parents=True)
        (folder / "vocab.json").write_text(self.vocab)
        (folder / "merges.txt").write_text(self.merges)

    def known_text(self):
        """The text encoder without the words that it is yet to learn."""
        table = "embeddings.token_embedding.weight"
        return {**self.text, table: self.text[table][:self.words[next(iter(WORDS))].start]}

    def embeddings(self, form):
        """The words as textual inversions: their files' paths."""
        paths, table = [], self.text["embeddings.token_embedding.weight"]
        for word, rows in self.words.items():
            vectors = table[rows].clone()
            paths.append(self.folder / f"{word}.{form}")
            if form == "pt":
                save_torch(paths[-1], {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": word})
            elif form == "bin":
                save_torch(paths[-1], {word: vectors[0] if len(vectors) == 1 else vectors})
            else:
                save(paths[-1], {"emb_params": vectors})
        return paths

    def embedding_options(self, form):
        return [option for path in self.embeddings(form) for option in ("--embedding", path)]

    def spatial(self, dtype=torch.float32):
        """The UNet without motion, rounded as its file rounds it; also in what is expected."""
        self.unet = {n: t if is_motion(n) else t.to(dtype).float() for n, t in self.unet.items()}
        self.text = {n: t.to(dtype).float() for n, t in self.text.items()}
        return {n: t.to(dtype) for n, t in self.unet.items() if not is_motion(n)}

    def diffusers(self, unet, dtype, ending="safetensors"):
        """A folder; returns its path."""
        base = self.folder / "base"
        self.tokenizer(base / "tokenizer")
        for part in ("unet", "text_encoder"):
            (base / part).mkdir()
        c = self.config
        (base / "unet/config.json").write_text(json.dumps({
            "_class_name": "UNet2DConditionModel", "attention_head_dim": 8, "norm_num_groups": 32}))
        if self.config["vae"]["arch"] == "kl":
            (base / "vae").mkdir()
            old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
            state = dict(self.vae)
            for name in [n for n in state if ".attentions.0.to_" in n]:
                new = next(name.replace(a, b) for a, b in old.items() if f".{a}." in name)
                state[new] = state.pop(name)
            save_torch(base / "vae/diffusion_pytorch_model.bin", state)
        (base / "text_encoder/config.json").write_text(json.dumps({
            "hidden_act": "quick_gelu", "num_attention_heads": c["text"]["num_attention_heads"]}))
        text = {f"text_model.{n}": t.to(dtype) for n, t in self.known_text().items()}
        if ending == "safetensors":
            save(base / "unet/diffusion_pytorch_model.safetensors", unet)
            save(base / "text_encoder/model.safetensors", text)
        elif ending == "shards":
            names, index = list(unet), {}
            for i in range(3):
                shard = f"diffusion_pytorch_model-{i + 1:05d}-of-00003.safetensors"
                save(base / "unet" / shard, {n: unet[n] for n in names[i::3]})
                index.update({n: shard for n in names[i::3]})
            (base / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(
                json.dumps({"metadata": {"total_size": 1}, "weight_map": index}))
            save_torch(base / "text_encoder/pytorch_model.bin", text)
        else:
            save_torch(base / "unet/diffusion_pytorch_model.bin", unet)
            save_torch(base / "text_encoder/pytorch_model.bin", text, legacy=True)
        return base

    def motion(self, prefix="", **form):
        path = self.folder / "live2diff.ckpt"
        state = {prefix + n: t for n, t in self.unet.items() if is_motion(n)}
        save_torch(path, {"state_dict": state, "global_step": 7, "epoch": 1}, **form)
        return path

    def dpt(self):
        """As MiDaS's file: the old form, and with some maps as channels-last tensors."""
        unused = {"pretrained.model.norm.weight": torch.ones(4), "pretrained.model.head.weight": torch.ones(4, 4)}
        state = {n: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for n, t in self.depth.items()}
        save_torch(self.folder / "dpt_hybrid_384.pt", {**state, **unused}, legacy=True)
        return self.folder / "dpt_hybrid_384.pt"

    def taesd(self, original):
        if not original:
            save(self.folder / "taesd.safetensors", self.vae)
            return self.folder / "taesd.safetensors"
        for half, plus in (("encoder", 0), ("decoder", 1)):
            start = f"{half}.layers."
            state = {}
            for name, t in self.vae.items():
                if name.startswith(start):
                    index, rest = name[len(start):].split(".", 1)
                    state[f"{int(index) + plus}.{rest}"] = t
            save_torch(self.folder / f"taesd_{half}.pth", state, legacy=True)
        return self.folder

    def add(self, lora, scale, raw, dtype):
        lora.apply("unet", self.unet, scale, raw, dtype)
        lora.apply("text", self.text, scale, raw, dtype)


def diffusers_folder(case):
    base = case.diffusers(case.spatial(torch.float16), torch.float16)
    first = Lora(case.unet, case.text, 11)
    second = Lora(case.unet, case.text, 12, every=3, alpha=None)
    second.alpha = 4.0
    save(case.folder / "first.safetensors", first.kohya(torch.float16))
    save(case.folder / "second.safetensors", second.peft(torch.float32))
    case.options += case.embedding_options("pt")
    case.options += ["--base", base, "--motion", case.motion("module."), "--vae", case.taesd(True),
                     "--depth", case.dpt(),
                     "--lora", f"{case.folder}/first.safetensors:0.8", "--lora", f"{case.folder}/second.safetensors"]
    case.add(first, .8, False, torch.float16)
    case.add(second, 1.0, False, torch.float32)


def bin_files(case):
    base = case.diffusers(case.spatial(), torch.float32, "bin")
    lora = Lora(case.unet, case.text, 21, convs=False)
    save_torch(case.folder / "lora.pt", lora.kohya(torch.float32))
    case.options += case.embedding_options("bin")
    case.options += ["--base", base, "--motion", case.motion(legacy=True),
                     "--lora", f"{case.folder}/lora.pt:-0.5:raw"]
    case.add(lora, -.5, True, torch.float32)


def ldm(case):
    case.spatial(torch.bfloat16)
    save_torch(case.folder / "base.ckpt", {"state_dict": single_file(case.unet, case.known_text(), torch.bfloat16,
                                                                    case.vae), "global_step": 1})
    case.tokenizer(case.folder / "tokenizer")
    case.options += case.embedding_options("safetensors")
    case.options += ["--base", case.folder / "base.ckpt", "--tokenizer", case.folder / "tokenizer",
                     "--motion", case.motion()]


def dreambooth_yaml(case):
    """As the original's presets: shards below, a DreamBooth over them, a LoRA, all from YAML."""
    base = case.diffusers({n: t + 1 for n, t in case.spatial().items()}, torch.float32, "shards")
    save(case.folder / "style.safetensors", single_file(case.spatial(torch.float16), case.known_text(), torch.float16))
    lora = Lora(case.unet, case.text, 31)
    save(case.folder / "lora.safetensors", lora.kohya(torch.float16))
    case.add(lora, .7, True, torch.float16)
    (case.folder / "configs").mkdir()
    (case.folder / "configs/base.yaml").write_text(f"""
pretrained_model_path: "{base.name}"      # from the folder above
motion_module_path: './{case.motion().name}'
depth_model_path: './{case.dpt().name}'
unet_additional_kwargs:
  cond_mapping: true
noise_scheduler_kwargs:
  beta_schedule: "linear"
  clip_sample:   False
""")
    words = "".join(f"    '{w}': '{p.name}'\n" for w, p in zip(WORDS, case.embeddings("safetensors")))
    (case.folder / "configs/style.yaml").write_text(f"""
base: "base.yaml"
prompt_template: 'a painting of {{}}'
third_party_dict:
  lora_list:
    - lora: "./lora.safetensors"
      lora_alpha: 0.7
  dreambooth: "./style.safetensors"
  clip_skip: 1
  text_embedding_dict:
{words}num_inference_steps: 50
t_index_list: [25, 37]
""")
    case.options += ["--config", case.folder / "configs/style.yaml", "--vae", case.taesd(False)]


# The files, whether a depth network is among them, and whether the codec is AutoencoderKL.
CASES = {"diffusers_folder": (diffusers_folder, True, False), "bin_files": (bin_files, False, True),
         "ldm": (ldm, False, True), "dreambooth_yaml": (dreambooth_yaml, True, False)}


# Steps of 50, precision, height and width.
LIMITS = {"fp32": 1e-4, "fp16": 1e-2}              # of the relative L2
RUNS = (("25,37", "fp32", (128, 128)), ("20,30,40", "fp32", (128, 192)), ("25,37", "fp16", (128, 128)))


# ---- checks -------------------------------------------------------------------------------------

def check_weights(case, out):
    """Each tensor is the expected number, rounded once."""
    count = 0
    for file, prefix, state in (("unet", "", case.unet), ("vae", "", case.vae),
                                ("text_encoder", "text_model.", case.text), ("depth", "", case.depth)):
        if not state:
            continue
        got = read_safetensors(out / f"{file}.safetensors")
        want = {prefix + n: t.numpy() for n, t in state.items()}
        if sorted(got) != sorted(want):
            raise SystemExit(f"{file}: names differ: {sorted(set(got) ^ set(want))[:5]}")
        for name, x in want.items():
            x = x.reshape(got[name].shape)
            near = np.abs(got[name].astype(np.float32) - x) <= np.abs(x) * 2.0 ** -10.9 + 1e-7
            if not near.all():
                i = np.unravel_index((~near).argmax(), x.shape)
                raise SystemExit(f"{file}: {name}{list(i)} is {got[name][i]}, expected {x[i]}")
            count += x.size
    return count


def run_watched(command):
    """The most memory of its own that the program was seen to hold, in MiB; files that it maps are not counted."""
    peak = 0
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            held = re.search(r"RssAnon:\s+(\d+)", status.read_text())
            peak = max(peak, int(held[1]) if held else 0)
            time.sleep(.02)
        if process.returncode:
            said.seek(0)
            raise SystemExit(said.read().strip())
    return peak / 1024


def reference(case):
    """The networks with the numbers that import should have made. Takes those from the case, to hold them once."""
    texts = {f"text_model.{n}": t for n, t in case.text.items()}
    model, case.model, case.text = case.model, None, None
    for module, state in ((model.unet, case.unet), (model.vae, case.vae), (model.text, texts),
                          (model.depth, case.depth)):
        for name, tensor in (module.state_dict() if state else {}).items():
            number = state.pop(name)
            tensor.copy_(number if name.endswith(".pe") else number.half())
    return model


def smooth_noise(frames, height, width):
    noise = np.random.default_rng(5).integers(0, 256, (frames, 3, 9, 9)).astype(np.float32)
    large = torch.nn.functional.interpolate(torch.from_numpy(noise), size=(height, width), mode="bilinear")
    return list(large.permute(0, 2, 3, 1).contiguous().numpy().astype(np.uint8))


def reference_run(model, clip, steps):
    """Every activation of a stream, by the label that the program's dump gives it."""
    seen, (height, width) = {}, clip[0].shape[:2]
    recorder = Recorder(model, lambda name, x: seen.__setitem__(name, x.float().clone()))
    for _ in Stream(model, PROMPT, width, height, 0, [int(i) for i in steps.split(",")], 50,
                    recorder=recorder).run(clip):
        pass
    recorder.close()
    for name in [n for n in seen if n.startswith("warmup.")]:
        label, rest = name.split("/", 1)
        rows = seen.pop(name)
        for frame in range(8):
            seen[f"frame.{frame}.step.{label.split('.')[1]}/{rest}"] = rows[frame:frame + 1]
    return seen


def compare(dump, seen):
    """Relative L2 over all frames, by activation."""
    sums = {}
    for index, got in dump:
        for name, x in got.items():
            label, _, rest = name.rpartition("/") if name.startswith("step.") else ("", "", name)
            want = seen[f"frame.{index}.{label}/{rest}" if label else f"frame.{index}/{rest}"].numpy()
            s = sums.setdefault(name, np.zeros(2))
            s += np.square(x - want, dtype=np.float64).sum(), np.square(want, dtype=np.float64).sum()
    return {name: (s[0] / s[1]) ** .5 for name, s in sums.items()}


def check_runs(case, out, program, precision):
    """The program on the folder against the reference, which is through and gone before the program starts."""
    runs = [run for run in RUNS if precision in (None, run[1])]
    clips = {size: smooth_noise(18, *size) for *_, size in runs}
    model, kept = reference(case), {}
    for steps, _, size in runs:
        if (steps, size) not in kept:
            kept[steps, size] = case.folder / f"seen.{len(kept)}"
            torch.save(reference_run(model, clips[size], steps), kept[steps, size])
    del model
    for steps, precision, size in runs:
        runtime = Runtime(program, out, f"{steps}/50", precision, "model")
        errors = compare(runtime.dump(clips[size], PROMPT, precision), torch.load(kept[steps, size]))
        worst, last = max(errors, key=errors.get), f"step.{steps.count(',')}/x0"
        print(f"  {size[1]}x{size[0]}, {steps}/50, {precision}: image {errors['image']:.1e}, latent {errors[last]:.1e},"
              f" worst of {len(errors)} activations {errors[worst]:.1e}, {worst}", flush=True)
        if not errors[worst] <= LIMITS[precision]:
            raise SystemExit(f"more than {LIMITS[precision]:g}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program")
    p.add_argument("--full", action="store_true")
    p.add_argument("--only", choices=list(CASES))
    p.add_argument("--precision", choices=list(LIMITS), help="run in this one only")
    p.add_argument("--no-run", action="store_true", help="compare the weights only")
    args = p.parse_args()
    torch.manual_seed(0)
    for name, (make, depth, kl) in CASES.items():
        if args.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            case = Case(folder, args.full, depth, kl)
            make(case)
            out, began = Path(folder) / "out", time.monotonic()
            command = [args.program, "import", *map(str, case.options), "-o", str(out), "--name", "checked",
                       "--size", "128x128", "--steps", "25,37/50", "--clip-skip", "1",
                       "--prompt", "a cat", "--prompt-template", "a painting of {}"]
            peak, took = run_watched(command), time.monotonic() - began
            got = json.loads((out / "model.json").read_text())
            for part in ("unet", "vae", "text", "structure"):
                if got[part] != case.config[part]:
                    raise SystemExit(f"{name}: model.json: {got[part]}, expected {case.config[part]}")
            print(f"{name}: {check_weights(case, out)} numbers right, imported in {took:.1f} s, {peak:.0f} MiB held",
                  flush=True)
            if not args.no_run:
                check_runs(case, out, args.program, args.precision)


if __name__ == "__main__":
    main()
