# SPDX-License-Identifier: Apache-2.0
"""AutoencoderKL, Stable Diffusion's image codec, with free widths. The latent is the mean of the moments.

Module names are diffusers'. Channels run from full resolution to 1/8; images are NCHW RGB in [-1, 1]. Pictures may
be coded in tiles, as the runtime does with large ones: group norms and attention then see a tile only.
Origin: CompVis/latent-diffusion, diffusers AutoencoderKL (Apache-2.0).
"""
import math

import torch
from torch import nn
import torch.nn.functional as F

EPS = 1e-6


class Resnet(nn.Module):
    def __init__(self, cin, cout, groups):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, cin, eps=EPS), nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, cout, eps=EPS), nn.Conv2d(cout, cout, 3, padding=1)
        if cin != cout:
            self.conv_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Attention(nn.Module):
    """One head, as wide as the map."""

    def __init__(self, channels, groups):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x):
        h = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.to_q(h), self.to_k(h), self.to_v(h)
        h = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return x + self.to_out(h).transpose(1, 2).unflatten(2, x.shape[2:])


class Mid(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(channels, channels, groups), Resnet(channels, channels, groups)])
        self.attentions = nn.ModuleList([Attention(channels, groups)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Resnets, then a change of size but in the last one."""

    def __init__(self, cin, cout, count, groups, change=None):
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(cin if i == 0 else cout, cout, groups) for i in range(count))
        if change is not None:
            setattr(self, change, nn.ModuleList([(Downsample if change == "downsamplers" else Upsample)(cout)]))

    def forward(self, x):
        for resnet in self.resnets:
            x = resnet(x)
        for change in [*getattr(self, "downsamplers", ()), *getattr(self, "upsamplers", ())]:
            x = change(x)
        return x


class Encoder(nn.Module):
    def __init__(self, channels, layers, groups, latent_channels):
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        last = len(channels) - 1
        self.down_blocks = nn.ModuleList(
            Level(channels[max(i - 1, 0)], channels[i], layers, groups, "downsamplers" if i < last else None)
            for i in range(last + 1))
        self.mid_block = Mid(channels[last], groups)
        self.conv_norm_out = nn.GroupNorm(groups, channels[last], eps=EPS)
        self.conv_out = nn.Conv2d(channels[last], 2 * latent_channels, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, channels, layers, groups, latent_channels):
        super().__init__()
        channels, last = channels[::-1], len(channels) - 1
        self.conv_in = nn.Conv2d(latent_channels, channels[0], 3, padding=1)
        self.mid_block = Mid(channels[0], groups)
        self.up_blocks = nn.ModuleList(
            Level(channels[max(i - 1, 0)], channels[i], layers + 1, groups, "upsamplers" if i < last else None)
            for i in range(last + 1))
        self.conv_norm_out = nn.GroupNorm(groups, channels[last], eps=EPS)
        self.conv_out = nn.Conv2d(channels[last], 3, 3, padding=1)

    def forward(self, x):
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def cuts(whole, most):
    """A side in tiles of one size, at most `most`, that share a quarter of that or a little more: size, beginnings."""
    if whole <= most:
        return whole, [0]
    shared = most // 4
    count = (whole - shared - 1) // (most - shared) + 1
    size = (whole + (count - 1) * shared - 1) // count + 1
    return size, [(whole - size) * i // (count - 1) for i in range(count)]


def fade(size, begin, i):
    """The weights of tile i along a side: with those of its neighbours they are 1."""
    at, weight = torch.arange(size) + .5, torch.ones(size)
    if i > 0:
        weight = weight * (at / (begin[i - 1] + size - begin[i])).clamp(max=1)
    if i + 1 < len(begin):
        weight = weight * ((size - at) / (begin[i] + size - begin[i + 1])).clamp(max=1)
    return weight


def in_tiles(code, x, most, unit, out_unit):
    """code(x), in tiles of at most `most` latents a side. unit, out_unit: pixels or 1, of x and of the result."""
    h, w = (side // unit for side in x.shape[2:])
    if max(h, w) <= most:
        return code(x)
    (size_y, begin_y), (size_x, begin_x) = cuts(h, most), cuts(w, most)
    whole = 0
    for i, top in enumerate(begin_y):
        for j, left in enumerate(begin_x):
            tile = code(x[:, :, unit * top:unit * (top + size_y), unit * left:unit * (left + size_x)])
            weight = (fade(out_unit * size_y, [out_unit * b for b in begin_y], i)[:, None] *
                      fade(out_unit * size_x, [out_unit * b for b in begin_x], j))
            pad = (out_unit * left, out_unit * (w - left - size_x), out_unit * top, out_unit * (h - top - size_y))
            whole = whole + F.pad(tile * weight.to(tile), pad)
    return whole


class AutoencoderKL(nn.Module):
    """`config` is the "vae" section of model.json."""

    def __init__(self, config):
        super().__init__()
        channels, latent = config["block_out_channels"], config["latent_channels"]
        sizes = channels, config["layers_per_block"], config["norm_num_groups"], latent
        if len(channels) != 4:
            raise ValueError("vae: there must be 4 levels, the last at 1/8")
        self.scaling_factor = config["scaling_factor"]
        self.encoder, self.decoder = Encoder(*sizes), Decoder(*sizes)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)

    def encode(self, image, most=math.inf):
        """most: latents a side of a tile."""
        moments = in_tiles(lambda x: self.quant_conv(self.encoder(x)), image, most, 8, 1)
        return moments.chunk(2, 1)[0] * self.scaling_factor

    def decode(self, latent, most=math.inf):
        return in_tiles(lambda x: self.decoder(self.post_quant_conv(x / self.scaling_factor)), latent, most, 1, 8
                        ).clamp(-1, 1)
