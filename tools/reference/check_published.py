# SPDX-License-Identifier: Apache-2.0
"""Compares our UNet with tensors that the published Live2Diff modules wrote.

    python3 check_published.py unet_narrow.safetensors

The file holds `weights.*`, `text`, per call `warmup.K.*` and `stream.NN.*` (latent, depth, noise_pred,
act.NAME) and the KV caches. Prints the largest relative L2 error by kind of tensor.
"""
import collections
import sys

import torch

from model.folder import load_state, read_safetensors
from model.unet import UNet
from model.window import ClipWindow, KvCache, StreamWindow

TIMESTEPS = [399, 199]


def config_of(weights):
    """Widths from the tensors themselves; the rest is SD1.5's shape."""
    return {
        "in_channels": weights["conv_in.weight"].shape[1], "out_channels": weights["conv_out.weight"].shape[0],
        "block_out_channels": [weights[f"down_blocks.{i}.resnets.0.conv1.bias"].shape[0] for i in range(4)],
        "layers_per_block": 2, "attention_head_dim": 8, "norm_num_groups": 32,
        "down_block_types": ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"],
        "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3,
        "cross_attention_dim": weights["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        "flip_sin_to_cos": True, "freq_shift": 0, "cond_mapping": True, "cond_mapping_channels": [16, 32, 96, 256],
        "use_motion_module": True, "motion_module_resolutions": [1, 2, 4, 8], "motion_module_mid_block": False,
        "motion_module_kwargs": {"num_attention_heads": 8, "num_transformer_block": 1,
                                 "attention_block_types": ["Temporal_Self"] * 2,
                                 "temporal_position_encoding_max_len": 24}}


class Check:
    def __init__(self):
        self.worst = collections.defaultdict(lambda: (0.0, "", 0))

    def __call__(self, kind, name, ours, golden):
        golden = torch.from_numpy(golden.copy()).float()
        if ours.shape != golden.shape:
            raise ValueError(f"{name}: shape {tuple(ours.shape)}, published {tuple(golden.shape)}")
        error = ((ours.float() - golden).norm() / golden.norm()).item()
        worst, where, count = self.worst[kind]
        self.worst[kind] = (error, name, count + 1) if error >= worst else (worst, where, count + 1)


@torch.no_grad()
def main():
    file = read_safetensors(sys.argv[1])
    tensor = {n: torch.from_numpy(a.copy()) for n, a in file.items() if not n.startswith("weights.")}
    weights = {n[len("weights."):]: a for n, a in file.items() if n.startswith("weights.")}
    unet, check = UNet(config_of(weights)), Check()
    load_state(unet, weights)
    unet.eval()
    seen = {}
    for name, module in unet.named_modules():
        module.register_forward_hook(lambda m, i, out, name=name: seen.__setitem__(name, out))

    def call(prefix, window, t, rows=slice(None)):
        seen.clear()
        cond = unet.flow_conv_in(tensor[f"{prefix}.depth"][rows].float())
        eps = unet(tensor[f"{prefix}.latent"][rows].float(), t, tensor["text"].float(), cond, window)
        check("noise_pred", f"{prefix}.noise_pred", eps, file[f"{prefix}.noise_pred"][rows])
        for name in (n for n in file if n.startswith(f"{prefix}.act.")):
            module = name[len(f"{prefix}.act."):]
            parts = [part for part in module.split(".") if not part.isdigit()]
            check(parts[-1], name, seen[module], file[name][rows])

    def compare_caches(prefix, cache, slots):
        for i, kv in cache.kv.items():
            if f"{prefix}.{i}" in file:
                check("kv cache", f"{prefix}.{i}", kv.permute(0, 3, 1, 2, 4)[:, :, :, :slots],
                      file[f"{prefix}.{i}"][:, :, :, :slots])

    cache = KvCache(len(TIMESTEPS))
    for k, t in enumerate(TIMESTEPS):
        call(f"warmup.{k}", ClipWindow(range(8), cache, k), t)
    compare_caches("warmup.cache", cache, 8)            # the other slots are not written yet
    for n in range(sum(name.endswith("noise_pred") for name in file) - len(TIMESTEPS)):
        prefix, rows = f"stream.{n:02d}", min(n + 1, len(TIMESTEPS))    # row k is real from call k on
        window = StreamWindow([8 + n - k for k in range(rows)], cache)
        if window.slot.tolist() != file[f"{prefix}.write_slot"][:rows].tolist():
            raise ValueError(f"{prefix}: another slot is written")
        if window.tables[2][:, 0].int().tolist() != file[f"{prefix}.open"][:rows].tolist():
            raise ValueError(f"{prefix}: other slots are open")
        pe_index = torch.where(window.tables[2], window.tables[1], tensor[f"{prefix}.pe_index"][:rows, None])
        if pe_index[:, 0].tolist() != file[f"{prefix}.pe_index"][:rows].tolist():
            raise ValueError(f"{prefix}: other positions")
        call(prefix, window, torch.tensor(TIMESTEPS[:rows]), slice(rows))
    compare_caches("stream.cache", cache, 16)
    for kind, (error, name, count) in sorted(check.worst.items()):
        print(f"{kind:16s} {count:5d} tensors, largest relative L2 {error:.2e} at {name}")


main()
