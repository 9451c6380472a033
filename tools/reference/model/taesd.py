# SPDX-License-Identifier: Apache-2.0
"""TAESD, the tiny image codec, with free pyramid widths and an optional pixel-shuffle patch.

Layer numbers are those of diffusers' AutoencoderTiny: `encoder.layers.N`, `decoder.layers.N`.
Channel and block lists run from full resolution to 1/8. Images are NCHW RGB in [-1, 1].
Origin: madebyollin/taesd (MIT); the patch is torch's pixel_unshuffle order.
"""
import torch
from torch import nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x):
        return F.relu(x + self.conv(x))


class Encoder(nn.Module):
    """Image [-1, 1] -> latent (before scaling)."""

    def __init__(self, patch, latent_channels, channels, blocks):
        super().__init__()
        self.patch = patch
        layers = [nn.Conv2d(3 * patch * patch, channels[0], 3, padding=1)]
        layers += [Block(channels[0]) for _ in range(blocks[0])]
        for i in range(1, len(channels)):
            layers += [nn.Conv2d(channels[i - 1], channels[i], 3, stride=2, padding=1, bias=False)]
            layers += [Block(channels[i]) for _ in range(blocks[i])]
        layers += [nn.Conv2d(channels[-1], latent_channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image):
        x = (image + 1) / 2
        if self.patch > 1:
            x = F.pixel_unshuffle(x, self.patch)
        return self.layers(x)


class Decoder(nn.Module):
    """Latent (after unscaling) -> image, not yet clipped to [-1, 1]."""

    def __init__(self, patch, latent_channels, channels, blocks):
        super().__init__()
        self.patch = patch
        layers = [nn.Conv2d(latent_channels, channels[-1], 3, padding=1), nn.ReLU()]
        layers += [Block(channels[-1]) for _ in range(blocks[-1])]
        for i in reversed(range(len(channels) - 1)):
            layers += [nn.Upsample(scale_factor=2, mode="nearest")]
            layers += [nn.Conv2d(channels[i + 1], channels[i], 3, padding=1, bias=False)]
            layers += [Block(channels[i]) for _ in range(blocks[i])]
        layers += [nn.Conv2d(channels[0], 3 * patch * patch, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, latent):
        x = self.layers(3 * torch.tanh(latent / 3))
        if self.patch > 1:
            x = F.pixel_shuffle(x, self.patch)
        return x * 2 - 1


class Taesd(nn.Module):
    """`config` is the "vae" section of model.json."""

    def __init__(self, config):
        super().__init__()
        patch, latent = config["patch"], config["latent_channels"]
        if patch * 2 ** (len(config["enc_channels"]) - 1) != 8:
            raise ValueError("vae: patch * 2^(levels-1) must be 8")
        self.scaling_factor = config["scaling_factor"]
        self.encoder = Encoder(patch, latent, config["enc_channels"], config["enc_blocks"])
        self.decoder = Decoder(patch, latent, config["dec_channels"], config["dec_blocks"])

    def encode(self, image):
        return self.encoder(image) * self.scaling_factor

    def decode(self, latent):
        return self.decoder(latent / self.scaling_factor).clamp(-1, 1)
