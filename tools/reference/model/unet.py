# SPDX-License-Identifier: Apache-2.0
"""The denoiser: SD1.5's UNet, a motion module after every resnet, and a net that maps the structure latent.

Module names are diffusers' (state_dict() is unet.safetensors); shapes are NCHW with frames in the batch.
UNet(x, t, text, cond, window) covers three uses, by `window` (window.py): None skips the motion modules
(single images), a ClipWindow runs warm-up or a training clip, a StreamWindow one frame per row with a KV cache.
Origin: CompVis/diffusers UNet2DConditionModel, AnimateDiff's motion module, Live2Diff's depth mapping
and streaming attention (Apache-2.0).
"""
import math

import torch
from torch import nn
import torch.nn.functional as F


def zeroed(module):
    """Zero at birth, so that a fresh branch leaves its trunk alone."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def split_heads(x, heads):                    # [N, T, C] -> [N, heads, T, d]
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


def merge_heads(x):
    return x.transpose(-2, -3).flatten(-2)


def attend(q, k, v):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v)
    return ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1) @ v


class TimestepEmbedding(nn.Module):
    def __init__(self, channels, flip_sin_to_cos, freq_shift):
        super().__init__()
        self.half, self.flip, self.shift = channels // 2, flip_sin_to_cos, freq_shift
        self.linear_1 = nn.Linear(channels, 4 * channels)
        self.linear_2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, t):
        i = torch.arange(self.half, dtype=torch.float32, device=t.device)
        arg = t.float()[:, None] * torch.exp(-math.log(10000) * i / (self.half - self.shift))
        waves = [arg.cos(), arg.sin()] if self.flip else [arg.sin(), arg.cos()]
        x = torch.cat(waves, 1).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(x)))


class Resnet(nn.Module):
    def __init__(self, cin, cout, time_channels, groups):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, cin, eps=1e-5)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_channels, cout)
        self.norm2 = nn.GroupNorm(groups, cout, eps=1e-5)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        if cin != cout:
            self.conv_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Geglu(nn.Module):
    def __init__(self, channels, inner):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x):
        a, gate = self.proj(x).chunk(2, dim=-1)
        return a * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(Geglu(channels, 4 * channels), nn.Dropout(0.0), nn.Linear(4 * channels, channels))

    def forward(self, x):
        return self.net(x)


class Attention(nn.Module):
    """Spatial self-attention, or cross-attention where a context is given."""

    def __init__(self, channels, heads, context_channels=None):
        super().__init__()
        context_channels = context_channels or channels
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x, context=None):
        shape = x.shape
        if context is None:
            context = x
        else:                       # frames that share a prompt are one long row of queries
            x = x.reshape(context.shape[0], -1, shape[-1])
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        x = merge_heads(attend(*(split_heads(y, self.heads) for y in (q, k, v))))
        return self.to_out[0](x).reshape(shape)


class TransformerBlock(nn.Module):
    def __init__(self, channels, heads, text_channels):
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(channels), Attention(channels, heads)
        self.norm2, self.attn2 = nn.LayerNorm(channels), Attention(channels, heads, text_channels)
        self.norm3, self.ff = nn.LayerNorm(channels), FeedForward(channels)

    def forward(self, x, text):
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), text)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, channels, heads, text_channels, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, text_channels)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x, text):
        h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            h = block(h, text)
        return x + self.proj_out(h.transpose(1, 2).reshape(x.shape))


class PositionalEncoding(nn.Module):
    def __init__(self, channels, length):
        super().__init__()
        p = torch.arange(length)[:, None] * torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels))
        self.register_buffer("pe", torch.stack([p.sin(), p.cos()], -1).flatten(1)[None])


class TemporalAttention(nn.Module):
    """Attention over frames, pixel by pixel. The positional term enters q, k and v after projection:
    W(y + pe) = Wy + W pe, so that cached Wk y and Wv y can be read at another index each frame."""

    def __init__(self, channels, heads, max_length):
        super().__init__()
        self.heads, self.index = heads, None
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.pos_encoder = PositionalEncoding(channels, max_length)

    def forward(self, y, window):
        query_pos, key_pos, visible = window.tables
        pe = self.pos_encoder.pe[0, :window.num_positions].to(y.dtype)
        qp, kp, vp = self.to_q(pe), self.to_k(pe), self.to_v(pe)
        q, k, v = (f(y).unflatten(0, (-1, window.length)) for f in (self.to_q, self.to_k, self.to_v))
        k, v = window.keys(self.index, k, v)
        q = q + qp[query_pos][:, :, None]

        q, k, v = (x.unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1, 4) for x in (q, k, v))  # B P heads T d
        kp, vp = split_heads(kp, self.heads), split_heads(vp, self.heads)                        # heads pos d
        q = q * q.shape[-1] ** -0.5
        scores = q @ k.transpose(-1, -2)
        at = key_pos[:, None, None].expand(scores.shape)
        scores = scores + (q @ kp.transpose(-1, -2)).gather(-1, at).to(scores.dtype)
        p = scores.masked_fill(~visible[:, None, None], -math.inf).softmax(-1)
        p_at = p.new_zeros(p.shape[:-1] + (window.num_positions,)).scatter_add(-1, at, p)
        x = p.to(v.dtype) @ v + p_at.to(v.dtype) @ vp.to(v.dtype)
        x = x.permute(0, 3, 1, 2, 4).flatten(-2).flatten(0, 1)                                   # B*T P C
        return self.to_out[0](x)


class TemporalBlock(nn.Module):
    def __init__(self, channels, heads, num_attentions, max_length):
        super().__init__()
        self.attention_blocks = nn.ModuleList(
            TemporalAttention(channels, heads, max_length) for _ in range(num_attentions))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(num_attentions))
        self.ff = FeedForward(channels)
        self.ff_norm = nn.LayerNorm(channels)

    def forward(self, x, window):
        for attention, norm in zip(self.attention_blocks, self.norms):
            x = x + attention(norm(x), window)
        return x + self.ff(self.ff_norm(x))


class TemporalTransformer(nn.Module):
    def __init__(self, channels, groups, kwargs):
        super().__init__()
        heads, attentions = kwargs["num_attention_heads"], len(kwargs["attention_block_types"])
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            TemporalBlock(channels, heads, attentions, kwargs["temporal_position_encoding_max_len"])
            for _ in range(kwargs["num_transformer_block"]))
        self.proj_out = zeroed(nn.Linear(channels, channels))

    def forward(self, x, window):
        h = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        for block in self.transformer_blocks:
            h = block(h, window)
        return x + self.proj_out(h).transpose(1, 2).reshape(x.shape)


class MotionModule(nn.Module):
    def __init__(self, channels, groups, kwargs):
        super().__init__()
        self.temporal_transformer = TemporalTransformer(channels, groups, kwargs)

    def forward(self, x, window):
        return self.temporal_transformer(x, window)


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x)


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Block(nn.Module):
    """One level, down or up: per layer a resnet, a spatial transformer if any, a motion module if any."""

    def __init__(self, config, channels_in, channels_out, cross_attention, motion):
        super().__init__()
        groups, heads = config["norm_num_groups"], config["attention_head_dim"]
        time_channels = 4 * config["block_out_channels"][0]
        self.resnets = nn.ModuleList(Resnet(c, channels_out, time_channels, groups) for c in channels_in)
        if cross_attention:
            self.attentions = nn.ModuleList(
                SpatialTransformer(channels_out, heads, config["cross_attention_dim"], groups) for _ in channels_in)
        if motion:
            self.motion_modules = nn.ModuleList(
                MotionModule(channels_out, groups, config["motion_module_kwargs"]) for _ in channels_in)

    def layer(self, i, x, time, text, window):
        x = self.resnets[i](x, time)
        if hasattr(self, "attentions"):
            x = self.attentions[i](x, text)
        if window is not None and hasattr(self, "motion_modules"):
            x = self.motion_modules[i](x, window)
        return x


class DownBlock(Block):
    def __init__(self, *args, downsample):
        super().__init__(*args)
        if downsample:
            self.downsamplers = nn.ModuleList([Downsample(self.resnets[-1].conv2.out_channels)])

    def forward(self, x, skips, time, text, window):
        for i in range(len(self.resnets)):
            x = self.layer(i, x, time, text, window)
            skips.append(x)
        if hasattr(self, "downsamplers"):
            x = self.downsamplers[0](x)
            skips.append(x)
        return x


class UpBlock(Block):
    def __init__(self, *args, upsample):
        super().__init__(*args)
        if upsample:
            self.upsamplers = nn.ModuleList([Upsample(self.resnets[-1].conv2.out_channels)])

    def forward(self, x, skips, time, text, window):
        for i in range(len(self.resnets)):
            x = self.layer(i, torch.cat([x, skips.pop()], 1), time, text, window)
        return self.upsamplers[0](x) if hasattr(self, "upsamplers") else x


class MidBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        c, groups = config["block_out_channels"][-1], config["norm_num_groups"]
        time_channels = 4 * config["block_out_channels"][0]
        self.resnets = nn.ModuleList(Resnet(c, c, time_channels, groups) for _ in range(2))
        self.attentions = nn.ModuleList(
            [SpatialTransformer(c, config["attention_head_dim"], config["cross_attention_dim"], groups)])

    def forward(self, x, time, text):
        x = self.resnets[0](x, time)
        x = self.attentions[0](x, text)
        return self.resnets[1](x, time)


class MappingNet(nn.Module):
    """Structure latent -> a map that is added to conv_in's output. Once per frame: it knows no timestep."""

    def __init__(self, cin, channels, cout):
        super().__init__()
        self.conv_in = nn.Conv2d(cin, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for a, b in zip(channels[:-1], channels[1:]):
            self.blocks += [nn.Conv2d(a, a, 3, padding=1), nn.Conv2d(a, b, 3, padding=1)]
        self.conv_out = zeroed(nn.Conv2d(channels[-1], cout, 3, padding=1))

    def forward(self, x):
        x = F.silu(self.conv_in(x))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class UNet(nn.Module):
    """`config` is the "unet" section of model.json."""

    def __init__(self, config):
        super().__init__()
        channels, layers = config["block_out_channels"], config["layers_per_block"]
        levels = len(channels)
        if config["motion_module_mid_block"]:
            raise ValueError("unet: a motion module in the mid block is not supported")

        def has_motion(level):
            return config["use_motion_module"] and 2 ** level in config["motion_module_resolutions"]

        self.conv_in = nn.Conv2d(config["in_channels"], channels[0], 3, padding=1)
        if config["cond_mapping"]:
            self.flow_conv_in = MappingNet(config["in_channels"], config["cond_mapping_channels"], channels[0])
        self.time_embedding = TimestepEmbedding(channels[0], config["flip_sin_to_cos"], config["freq_shift"])

        self.down_blocks = nn.ModuleList()
        skips = [channels[0]]                                     # channel counts, in the order pushed
        for level, kind in enumerate(config["down_block_types"]):
            cin = [skips[-1]] + [channels[level]] * (layers - 1)
            last = level == levels - 1
            self.down_blocks.append(DownBlock(config, cin, channels[level], kind.startswith("CrossAttn"),
                                              has_motion(level), downsample=not last))
            skips += [channels[level]] * (layers + (not last))
        self.mid_block = MidBlock(config)
        self.up_blocks = nn.ModuleList()
        x = channels[-1]
        for i, kind in enumerate(config["up_block_types"]):
            level = levels - 1 - i
            cin = []
            for _ in range(layers + 1):
                cin.append(x + skips.pop())
                x = channels[level]
            self.up_blocks.append(UpBlock(config, cin, x, kind.startswith("CrossAttn"),
                                          has_motion(level), upsample=level > 0))
        self.conv_norm_out = nn.GroupNorm(config["norm_num_groups"], channels[0], eps=1e-5)
        self.conv_out = nn.Conv2d(channels[0], config["out_channels"], 3, padding=1)

        in_order = list(self.down_blocks.modules()) + list(self.up_blocks.modules())
        for index, module in enumerate(m for m in in_order if isinstance(m, TemporalAttention)):
            module.index = index                                  # the KV cache's number

    def forward(self, x, t, text, cond=None, window=None):
        """x [N, C, h, w]; t: number or [M]; text [M, T, C]; cond: flow_conv_in's map [N, C0, h, w].
        M divides N: consecutive rows of x (a clip's frames) may share a timestep and a prompt."""
        t = torch.as_tensor(t, device=x.device).reshape(-1)
        time = self.time_embedding(t)[:, None].expand(-1, x.shape[0] // t.shape[0], -1).flatten(0, 1)
        x = self.conv_in(x)
        if cond is not None:
            x = x + cond
        skips = [x]
        for block in self.down_blocks:
            x = block(x, skips, time, text, window)
        x = self.mid_block(x, time, text)
        for block in self.up_blocks:
            x = block(x, skips, time, text, window)
        return self.conv_out(F.silu(self.conv_norm_out(x)))
