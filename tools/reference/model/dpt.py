# SPDX-License-Identifier: Apache-2.0
"""DPT-hybrid, the depth network: a ResNetV2 trunk, a ViT on its last map, and a decoder that fuses four taps.

Names are those of dpt_hybrid_384.pt, of which the ViT's last norm, its head and refinenet4.resConfUnit1 do
nothing. The sizes are free; `DPT_HYBRID` are the published ones. RGB in [-1, 1] goes in, inverse depth comes out:
larger is nearer, the scale is arbitrary.
Origin: Ranftl et al., "Vision transformers for dense prediction" (2021), isl-org/MiDaS, timm (MIT, Apache-2.0).
"""
import torch
from torch import nn
import torch.nn.functional as F

DPT_HYBRID = {"input_size": 384, "stem_channels": 64, "stage_channels": [256, 512, 1024], "stage_blocks": [3, 4, 9],
              "norm_num_groups": 32, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
              "intermediate_size": 3072, "hooks": [8, 11], "features": 256, "head_channels": 32}
UNUSED = ("pretrained.model.norm.", "pretrained.model.head.", "scratch.refinenet4.resConfUnit1.")


def same_pad(x, kernel, stride, value=0.0):
    """TensorFlow's "SAME": what is odd goes behind."""
    pads = []
    for n in (x.shape[-1], x.shape[-2]):
        total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


class StdConv2d(nn.Conv2d):
    """Weights are standardised over each output channel; no bias."""

    def __init__(self, cin, cout, kernel, stride=1):
        super().__init__(cin, cout, kernel, stride=stride, bias=False)

    def forward(self, x):
        w = self.weight.double()
        mean, var = w.mean([1, 2, 3], keepdim=True), w.var([1, 2, 3], unbiased=False, keepdim=True)
        w = ((w - mean) / (var + 1e-8).sqrt()).to(x.dtype)
        return F.conv2d(same_pad(x, self.kernel_size[0], self.stride[0]), w, stride=self.stride)


class Stem(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.conv = StdConv2d(3, channels, 7, 2)
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x):
        return F.max_pool2d(same_pad(F.relu(self.norm(self.conv(x))), 3, 2, -float("inf")), 3, 2)


class Downsample(nn.Module):
    def __init__(self, cin, cout, stride, groups):
        super().__init__()
        self.conv = StdConv2d(cin, cout, 1, stride)
        self.norm = nn.GroupNorm(groups, cout)

    def forward(self, x):
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    def __init__(self, cin, cout, stride, groups, first):
        super().__init__()
        mid = cout // 4
        self.conv1, self.norm1 = StdConv2d(cin, mid, 1), nn.GroupNorm(groups, mid)
        self.conv2, self.norm2 = StdConv2d(mid, mid, 3, stride), nn.GroupNorm(groups, mid)
        self.conv3, self.norm3 = StdConv2d(mid, cout, 1), nn.GroupNorm(groups, cout)
        self.downsample = Downsample(cin, cout, stride, groups) if first else nn.Identity()

    def forward(self, x):
        h = F.relu(self.norm1(self.conv1(x)))
        h = F.relu(self.norm2(self.conv2(h)))
        return F.relu(self.norm3(self.conv3(h)) + self.downsample(x))


class Stage(nn.Module):
    def __init__(self, cin, cout, count, stride, groups):
        super().__init__()
        first = [Bottleneck(cin, cout, stride, groups, True)]
        self.blocks = nn.Sequential(*first, *(Bottleneck(cout, cout, 1, groups, False) for _ in range(count - 1)))

    def forward(self, x):
        return self.blocks(x)


class Backbone(nn.Module):
    def __init__(self, c):
        super().__init__()
        channels, groups = [c["stem_channels"], *c["stage_channels"]], c["norm_num_groups"]
        self.stem = Stem(channels[0], groups)
        self.stages = nn.ModuleList(
            Stage(channels[s], channels[s + 1], c["stage_blocks"][s], 1 if s == 0 else 2, groups) for s in range(3))

    def forward(self, x):
        """-> the maps at 1/4, 1/8 and 1/16"""
        maps, x = [], self.stem(x)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads, inner):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), Mlp(width, inner)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.backbone = Backbone(c)
        self.proj = nn.Conv2d(c["stage_channels"][2], c["hidden_size"], 1)


class Vit(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, grid = c["hidden_size"], c["input_size"] // 16
        self.hooks = c["hooks"]
        self.patch_embed = PatchEmbed(c)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.blocks = nn.Sequential(*(Block(width, c["num_attention_heads"], c["intermediate_size"])
                                      for _ in range(c["num_hidden_layers"])))

    def forward(self, x):
        """-> the trunk's maps at 1/4 and 1/8, the tokens (the class token first) behind either hook"""
        *maps, x = self.patch_embed.backbone(x)
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.hooks:
                maps.append(x)
        return maps


class ProjectReadout(nn.Module):
    """[token, class token] -> token"""

    def __init__(self, width):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * width, width), nn.GELU())

    def forward(self, x):
        return self.project(torch.cat([x[:, 1:], x[:, :1].expand(-1, x.shape[1] - 1, -1)], -1))


class ToMap(nn.Module):
    def __init__(self, grid):
        super().__init__()
        self.grid = grid

    def forward(self, x):
        return x.transpose(1, 2).unflatten(2, (self.grid, self.grid))


class Pretrained(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, grid = c["hidden_size"], c["input_size"] // 16
        self.model = Vit(c)
        self.act_postprocess3 = nn.Sequential(ProjectReadout(width), ToMap(grid), nn.Identity(),
                                              nn.Conv2d(width, width, 1))
        self.act_postprocess4 = nn.Sequential(ProjectReadout(width), ToMap(grid), nn.Identity(),
                                              nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 3, 2, 1))

    def forward(self, x):
        first, second, third, fourth = self.model(x)
        return first, second, self.act_postprocess3(third), self.act_postprocess4(fourth)


class ResidualConvUnit(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


def double(x):
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class FeatureFusion(nn.Module):
    def __init__(self, width, lowest):
        super().__init__()
        if not lowest:
            self.resConfUnit1 = ResidualConvUnit(width)
        self.resConfUnit2 = ResidualConvUnit(width)
        self.out_conv = nn.Conv2d(width, width, 1)

    def forward(self, tap, below=None):
        x = tap if below is None else below + self.resConfUnit1(tap)
        return self.out_conv(double(self.resConfUnit2(x)))


class Scratch(nn.Module):
    def __init__(self, c):
        super().__init__()
        width = c["features"]
        for i, channels in enumerate((*c["stage_channels"][:2], c["hidden_size"], c["hidden_size"]), 1):
            setattr(self, f"layer{i}_rn", nn.Conv2d(channels, width, 3, padding=1, bias=False))
            setattr(self, f"refinenet{i}", FeatureFusion(width, i == 4))
        self.output_conv = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(width // 2, c["head_channels"], 3, padding=1), nn.ReLU(),
            nn.Conv2d(c["head_channels"], 1, 1), nn.ReLU())

    def forward(self, taps):
        x = None
        for i in (4, 3, 2, 1):
            tap = getattr(self, f"layer{i}_rn")(taps[i - 1])
            x = getattr(self, f"refinenet{i}")(tap, x)
        return self.output_conv(x)


class Dpt(nn.Module):
    """`config` is "dpt" in the "structure" section of model.json, or nothing: DPT-hybrid."""

    def __init__(self, config=None):
        super().__init__()
        self.config = config or DPT_HYBRID
        self.pretrained, self.scratch = Pretrained(self.config), Scratch(self.config)

    def forward(self, image):
        """image [N, 3, H, W] RGB in [-1, 1] -> [N, 1, S, S], whatever its aspect; S is input_size."""
        side = self.config["input_size"]
        x = F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False)
        return self.scratch(self.pretrained(x))


def normalised(maps, size, low=None, high=None):
    """Maps [N, 1, S, S] -> [N, 3, H, W], three equal channels in [-1, 1]. The range is that of all maps together,
    unless it is given, and then what is beyond it is cut off; where there is none, all is -1."""
    low, high = maps.min() if low is None else low, maps.max() if high is None else high
    m = ((maps - low) / (high - low)).clamp(0, 1) if high - low > EPS else torch.zeros_like(maps)
    return F.interpolate(2 * m - 1, size=size, mode="bilinear", align_corners=False).expand(-1, 3, -1, -1)


EPS = 1e-6                      # a range of depths that is none
SMOOTHING = 0.1                 # what a new frame's range adds to the smoothed one
