# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data: narrow random models, the cases to run on them, and what this reference got.

    python3 make_golden.py ../../tests/data [NAME ...]

Weights and input frames are not stored: both sides compute them bit for bit (see tests/data/README.md).
"""
import collections
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import torch

from model.folder import FILES, load_state, read_model, write_safetensors
from model.noise import philox
from model.prompt import PromptError, parse
from model.tokenizer import END, START, Tokenizer, byte_symbols, clean, split
from stream import Recorder, Stream

WEIGHT_KEY = 0x4C324421
GAINS = [(re.compile(pattern), gain) for pattern, gain in (
    (r"to_[qk]\.|[qk]_proj", 2.0),                          # attention that picks
    (r"motion_modules.*proj_out", 1.4),                     # or time would hardly be heard
    (r"attn\.proj", 0.7),
    (r"to_out|net\.2|conv2|out_proj|fc2|proj_out", 0.7),    # branches added to a trunk
    (r"decoder\.layers\.\d+\.conv\.", 0.7),
    (r"decoder\.layers\.(9|13)\.weight", 0.5),
    (r"decoder\.layers", 1.0),
    (r"encoder\.layers\.\d+\.conv\.", 1.0),
    (r"flow_conv_in|encoder\.layers", 1.4),
    (r"^conv_out", 2.0),
    (r"post_quant_conv", 0.2),                              # latents are scaled by 0.18215
    (r"quant_conv", 5.0),
    (r"decoder\.conv_out", 0.5),
    (r"", 1.0))]
SAMPLES, KV_SAMPLES = 24, 256
FULL_FRAMES = (8, 14, 15, 16, 17)                 # all activations of these and of the last frame
FEW = ("x", "x0", "image", "unet.conv_out", "negative.unet.conv_out")     # of runs with few, no more
EVERY_FRAME = ("x", "x0", "image", "depth", "structure", "latent.image", "latent.structure", "unet.flow_conv_in")
OPTIONS = ("prediction", "guidance_mode", "guidance", "guidance_delta", "negative", "changes", "kv_cache")
CORPUS = "a photo of a cat, a painting of the street in warm colors, an ink drawing of a bird, cold colors, 1girl's"
MERGES = 40
TEXTS = ["", "a cat", "a painting of a street, warm colors", "It's   the DOG'S 2024 café!!", "don't we'll I'M",
         "naïve 🙂", "ink<|endoftext|>bird", "日本語 of the_cat (1girl)), 42", "x" * 60,
         "A\tPhoto\nof É\u0301 ½ Ⅷ ǅ"]
PROMPTS = [                                       # template, prompt, syntax
    ("{}", "a cat", "numbers"), ("a painting of {}", "", "numbers"), ("{}", "{} of {}", "numbers"),
    ("{}", "a (red:1.3) house", "numbers"), ("{}", "((a:1.2) b:0.5) c", "numbers"), ("{}", "(a (b) c:1.5)d", "numbers"),
    ("{}", "(masterpiece),best [quality], a | b, 16:9", "numbers"), ("{}", ":( and :-) (re:zero)", "numbers"),
    ("{}", r"a \(red:1.3\) \[x\] \| \\ \n", "numbers"), ("{}", r"(a\:1.3)", "numbers"),
    ("{}", r"(a\\:1.5)", "numbers"), ("{}", r"(a\\\:1.5)", "numbers"), ("{}", "(a:1." + "0" * 38 + ")", "numbers"),
    ("{}", "(a:1." + "0" * 39 + ")", "numbers"),
    ("({}:3)", "(((a:4):0):4) ((b:2):4) (c:2)", "numbers"), ("{}", "(" * 20 + "a" + ")" * 20, "brackets"),
    ("{}", "(a : 1.25 )b", "numbers"), ("{}", "(:2)", "numbers"),
    ("{}", "(é:+.5)日本", "numbers"), ("{}", "(a:1.2.3) (b:1e1)", "numbers"),
    ("oil of {}, good", "a cat :0.7 | a (dog:1.2) :0.3", "numbers"),
    ("({}:1.5), (old:0.5)", "a (b:2)", "numbers"),
    ("{}", "a :1 | b :2 | c", "numbers"), ("{}", "a (b|c:1.1) :3|:1", "numbers"), ("{}", " a | b :0", "numbers"),
    ("(masterpiece), {}", "(a [b]) c | d", "brackets"), ("{}", "((a)) [[b]] (c:1.5)", "brackets"),
    ("(m), {}", r"(a:1.2) | b :2 \(", "plain"),
    ("{}", "a é(b:9)", "numbers"), ("{}", "(a:-1)", "numbers"), ("{}", "a (b:1.2", "numbers"),
    ("{}", "a :1 | ", "numbers"),
    ("{}", "a :0 | b :0", "numbers"), ("{}", "a :-1 | b", "numbers"), ("{}", "a" + " |a" * 8 + ":1", "numbers"),
    ("{}", "é (b", "brackets"), ("{}", "b) c", "brackets"), ("{}", "b] c", "brackets"), ("{}", "[b:2]", "brackets"),
    ("{}", "([)]", "brackets"), ("{}", "a ||b", "brackets"), ("(x:5) {}", "a", "numbers")]

MOTION = {"num_attention_heads": 8, "num_transformer_block": 1, "attention_block_types": ["Temporal_Self"] * 2,
          "temporal_position_encoding": True, "temporal_position_encoding_max_len": 24,
          "window_size": 16, "sink_size": 8}
COMMON_UNET = {"mid_block_type": "UNetMidBlock3DCrossAttn", "attention_head_dim": 8, "flip_sin_to_cos": True,
               "freq_shift": 0, "cond_mapping": True, "use_motion_module": True, "motion_module_mid_block": False,
               "motion_module_kwargs": MOTION}
SCHEDULER = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear",
             "prediction": "epsilon", "num_inference_steps": 50, "t_index_list": [25, 37]}

# SD1.5's topology, every block type, patch 1.
NARROW4 = {
    "format": "live2diff-1", "name": "narrow4", "license": "Apache-2.0",
    "default": {"width": 128, "height": 64, "prompt": "a cat", "prompt_template": "a painting of {}"},
    "unet": {"in_channels": 4, "out_channels": 4, "block_out_channels": [32, 64, 64, 64], "layers_per_block": 2,
             "down_block_types": ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"],
             "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3, "norm_num_groups": 8,
             "cross_attention_dim": 32, "cond_mapping_channels": [8, 16, 16, 24],
             "motion_module_resolutions": [1, 2, 4, 8], **COMMON_UNET},
    "vae": {"arch": "taesd", "patch": 1, "latent_channels": 4, "enc_channels": [16] * 4, "enc_blocks": [1, 1, 1, 2],
            "dec_channels": [16] * 4, "dec_blocks": [1, 1, 1, 2], "scaling_factor": 1.0},
    "text": {"arch": "clip_text", "vocab_size": 512 + MERGES + 2, "max_position_embeddings": 24, "hidden_size": 32,
             "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "hidden_act": "quick_gelu",
             "clip_skip": 0},
    "structure": {"type": "luma"}, "scheduler": {**SCHEDULER, "noise": "shared"}}

# The small model's topology: three levels, one layer a block, no attention on top, patch 2.
TINY3 = {
    "format": "live2diff-1", "name": "tiny3", "license": "Apache-2.0",
    "default": {"width": 96, "height": 64, "prompt": "a bird", "prompt_template": "{}"},
    "unet": {"in_channels": 16, "out_channels": 16, "block_out_channels": [32, 96, 96], "layers_per_block": 1,
             "down_block_types": ["DownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D"],
             "up_block_types": ["CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"], "norm_num_groups": 32,
             "cross_attention_dim": 48, "cond_mapping_channels": [16, 16, 32], "motion_module_resolutions": [1, 2, 4],
             **COMMON_UNET},
    "vae": {"arch": "taesd", "patch": 2, "latent_channels": 16, "enc_channels": [16, 24, 32], "enc_blocks": [1, 1, 2],
            "dec_channels": [16, 24, 32], "dec_blocks": [0, 1, 2], "scaling_factor": 0.75},
    "text": {"arch": "clip_text", "vocab_size": 512 + MERGES + 2, "max_position_embeddings": 32, "hidden_size": 48,
             "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "hidden_act": "quick_gelu",
             "clip_skip": 1},
    "structure": {"type": "image"}, "scheduler": {**SCHEDULER, "noise": "fresh"}}


# The depth network and a codec of Stable Diffusion's kind; little else.
NARROWD = {
    "format": "live2diff-1", "name": "narrowd", "license": "Apache-2.0",
    "default": {"width": 64, "height": 48, "prompt": "a street", "prompt_template": "{}"},
    "unet": {"in_channels": 4, "out_channels": 4, "block_out_channels": [64, 64], "layers_per_block": 1,
             "down_block_types": ["DownBlock3D", "CrossAttnDownBlock3D"],
             "up_block_types": ["CrossAttnUpBlock3D", "UpBlock3D"], "norm_num_groups": 8, "cross_attention_dim": 32,
             "cond_mapping_channels": [8, 16], "motion_module_resolutions": [2], **COMMON_UNET},
    "vae": {"arch": "kl", "latent_channels": 4, "block_out_channels": [16, 24, 32, 32], "layers_per_block": 1,
            "norm_num_groups": 4, "scaling_factor": 0.18215},
    "text": {"arch": "clip_text", "vocab_size": 512 + MERGES + 2, "max_position_embeddings": 24, "hidden_size": 32,
             "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "quick_gelu",
             "clip_skip": 0},
    "structure": {"type": "depth", "normalize": "frame",
                  "dpt": {"input_size": 96, "stem_channels": 8, "stage_channels": [32, 64, 64],
                          "stage_blocks": [1, 2, 1], "norm_num_groups": 4, "hidden_size": 40, "num_hidden_layers": 3,
                          "num_attention_heads": 5, "intermediate_size": 80, "hooks": [0, 2], "features": 16,
                          "head_channels": 8}},
    "scheduler": {**SCHEDULER, "noise": "shared"}}


def case(name, config, steps, frames, seed, noise=None, prompt=None, **options):
    return {"name": name, "width": config["default"]["width"], "height": config["default"]["height"],
            "prompt": prompt or config["default"]["prompt"], "seed": seed, "t_index_list": steps,
            "num_inference_steps": 50, "noise": noise or config["scheduler"]["noise"], "frames": frames, **options}


CASES = {
    "narrow4": (NARROW4, [case("d1", NARROW4, [25], 20, 7), case("d2", NARROW4, [25, 37], 32, 7),
                          case("d4", NARROW4, [25, 31, 37, 43], 20, 0x123456789AB, "fresh", "a bird, cold colors"),
                          case("kv4", NARROW4, [25, 31, 37, 43], 18, 7, kv_cache="int8", few=True)]),
    "tiny3": (TINY3, [case("d1", TINY3, [25], 18, 3), case("d2", TINY3, [25, 37], 18, 3),
                      case("short", TINY3, [25, 37], 5, 3, "shared"),
                      case("v", TINY3, [25, 37], 10, 3, prediction="v"),
                      *[case(mode + str(len(steps)), TINY3, steps, 17, 3, guidance_mode=mode, guidance=guidance,
                             guidance_delta=delta, negative="cold ink", **options)
                        for mode, steps, guidance, delta, options in (
                            ("full", [25, 37], 2.0, 1.0, {}), ("full", [25, 31, 37], 1.5, 1.0, {"prediction": "v"}),
                            ("self", [25, 37], 1.5, 0.8, {"prediction": "v"}), ("self", [25, 31, 37], 1.25, 1.0, {}),
                            ("initialize", [25, 37], 1.5, 1.0, {}), ("initialize", [25, 31, 37], 1.5, 0.7, {}))],
                      case("live", TINY3, [25, 37], 25, 3, cut=14, changes={
                          9: {"prompt": "ink drawing of a street", "fade": 3}, 11: {"rewarm": "kept"},
                          14: {"rewarm": "still"}, 22: {"rewarm": "newest"}}),
                      case("kv1", TINY3, [25], 18, 3, kv_cache="int8", few=True),
                      case("kv2", TINY3, [25, 37], 18, 3, kv_cache="int8"),
                      case("kv3", TINY3, [25, 31, 37], 17, 3, kv_cache="int8", guidance_mode="full",
                           guidance=1.5, guidance_delta=1.0, negative="cold ink"),
                      case("prompt", TINY3, [25], 1, 3, prompt="a (bird:1.4) :0.7 | ink (drawing:0.5), [cold] :0.3")]),
    "narrowd": (NARROWD, [case("d1", NARROWD, [25], 10, 11), case("d2", NARROWD, [25, 37], 10, 11),
                          case("short", NARROWD, [25], 3, 11),
                          {**case("smooth", NARROWD, [25], 10, 11), "normalize": "smooth"}])}


def train_merges(corpus, count):
    """Byte-pair encoding, the most frequent pair first, ties by order."""
    symbols = byte_symbols()
    words = []
    for piece in split(clean(corpus)):
        word = [symbols[b] for b in piece.encode()]
        words.append(word[:-1] + [word[-1] + "</w>"])
    merges = []
    while len(merges) < count:
        pairs = collections.Counter(pair for word in words for pair in zip(word, word[1:]))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == best:
                    word[i:i + 2] = ["".join(best)]
                i += 1
    return merges


def write_tokenizer(folder):
    merges = train_merges(CORPUS, MERGES)
    alphabet = list(byte_symbols().values())
    entries = alphabet + [s + "</w>" for s in alphabet] + [a + b for a, b in merges] + [START, END]
    vocab = {symbol: i for i, symbol in enumerate(entries)}
    assert len(vocab) == len(entries)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")


def power_of_two(x):
    return 2.0 ** round(math.log2(x))


def spread(name, shape):
    """-> (scale, offset) that keep activations near 1 and every branch audible.

    Powers of two, so that offset + scale*(2u-1) rounds once in fp32, however it is compiled.
    """
    if len(shape) == 1:
        if "norm" in name and name.endswith("weight"):
            return 0.25, 1.0
        if shape[0] == 1:                                   # of a depth, mostly above 0
            return 0.125, 2.0
        image = name.startswith("decoder.layers") and shape[0] in (3, 12)
        return 0.125, 0.5 if image else 0.0                 # pictures around grey, not clipped
    if "embedding.weight" in name:
        return 1.0, 0.0
    if name.endswith(("pos_embed", "cls_token")):
        return 0.5, 0.0
    gain = next(gain for pattern, gain in GAINS if pattern.search(name))
    return power_of_two(gain * math.sqrt(3 / math.prod(shape[1:]))), 0.0


def recipe_file(part):
    return FILES[part].split(".")[0]


def weights_recipe(model):
    return [dict(zip(("file", "name", "shape", "scale", "offset"),
                     (recipe_file(part), name, list(tensor.shape), *spread(name, tensor.shape))))
            for part, module in model.parts().items() for name, tensor in module.state_dict().items()
            if not name.endswith("pos_encoder.pe")]


def synthesise(number, tensor):
    """Tensor `number` of the recipe -> float16 array."""
    count = math.prod(tensor["shape"])
    bits = philox((number, WEIGHT_KEY), (np.arange((count + 3) // 4), 0, 0, 0)).reshape(-1)[:count] >> np.uint32(8)
    u = bits.astype(np.float32) * np.float32(2.0 ** -24)
    value = np.float32(tensor["offset"]) + np.float32(tensor["scale"]) * (np.float32(2) * u - np.float32(1))
    return value.astype(np.float16).reshape(tensor["shape"])


def load_recipe(model, recipe):
    for part, module in model.parts().items():
        load_state(module, {tensor["name"]: synthesise(i, tensor) for i, tensor in enumerate(recipe)
                            if tensor["file"] == recipe_file(part)})
    return model.eval()


def input_frame(f, width, height):
    """Integers only: two triangle waves that drift, and a square that inverts what is under it."""
    def triangle(n):
        return np.abs(n % 510 - 255)

    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    value = (2 * triangle(4 * x + 2 * y + 9 * f + 80 * c) + triangle(3 * x + 7 * y + 5 * f + 170 * c)) // 3
    inside = ((x + 2 * f) % width < width // 4) & ((y + f) % height < height // 4)
    return np.where(inside, 255 - value, value).astype(np.uint8)


def sample(array, count):
    """-> float32 [L2 norm, number of elements, samples...]"""
    flat = np.ascontiguousarray(array, np.float32).reshape(-1)
    at = [(s * 2654435761 + 12345) % flat.size for s in range(min(count, flat.size))]
    return np.array([np.sqrt(np.sum(flat.astype(np.float64) ** 2)), flat.size, *flat[at]], np.float32)


def run_case(model, case):
    golden, few = {}, "few" in case or "guidance" in case or "changes" in case
    full = {f"frame.{f}" for f in (*FULL_FRAMES, case["frames"] - 1)}

    def sink(name, tensor):
        label, activation = name.split("/")
        frame = ".".join(label.split(".")[:2])
        if few:
            if activation in FEW:
                golden[f"{case['name']}/{name}"] = sample(tensor.numpy(), SAMPLES)
            return
        if label == "text" or label.startswith("warmup") or frame in full or activation in EVERY_FRAME:
            golden[f"{case['name']}/{name}"] = sample(tensor.numpy(), SAMPLES)

    if "normalize" in case:
        model.config["structure"]["normalize"] = case["normalize"]
    recorder = Recorder(model, sink)
    stream = Stream(model, case["prompt"], case["width"], case["height"], case["seed"], case["t_index_list"],
                    case["num_inference_steps"], case["noise"], recorder=recorder,
                    **{key: case[key] for key in OPTIONS if key in case})
    frames = [input_frame(f, case["width"], case["height"]) for f in range(case["frames"])]
    if "cut" in case:                                      # two scenes, a dark one and a bright negative
        frames = [255 - frame // 2 if f >= case["cut"] else frame // 2 for f, frame in enumerate(frames)]
    shown = [image for _, image in stream.run(frames)]
    assert len(shown) == len(frames)
    if case["frames"] >= stream.cache.size:                # every slot is written
        caches = list(stream.cache.kv.values()) + list(stream.negative_cache.kv.values())
        for index, kv in enumerate(caches):
            count = SAMPLES if few else KV_SAMPLES
            golden[f"{case['name']}/final/kv/{index}"] = sample(kv.numpy(), count)
    recorder.close()
    return golden


def read_prompt(template, text, syntax):
    row = {"template": template, "text": text, "syntax": syntax}
    try:
        return {**row, "parts": [{"share": share, "runs": runs} for share, runs in parse(template, text, syntax)]}
    except PromptError as error:
        return {**row, "column": error.column}


def write_json_lines(path, rows):
    """A JSON array, one row a line."""
    path.write_text("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n", encoding="utf-8")


def main():
    data = Path(sys.argv[1])
    write_json_lines(data / "prompts.json", [read_prompt(*prompt) for prompt in PROMPTS])
    for name in sys.argv[2:] or CASES:
        config, cases = CASES[name]
        folder = data / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.json").write_text(json.dumps(config, indent=2) + "\n")
        write_tokenizer(folder)
        model = read_model(folder)
        recipe = weights_recipe(model)
        write_json_lines(folder / "weights.json", recipe)
        write_json_lines(folder / "cases.json", cases)
        write_json_lines(folder / "tokens.json", [{"text": t, "ids": model.tokenizer.encode(t)} for t in TEXTS])
        load_recipe(model, recipe)
        golden = {}
        for one in cases:
            golden.update(run_case(model, one))
        path = data / f"golden_{name}.safetensors"
        write_safetensors(path, golden)
        print(f"{path}: {len(golden)} entries, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
