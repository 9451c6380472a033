# SPDX-License-Identifier: Apache-2.0
"""The structure image "luma": luminance with its local contrast raised, on a fixed range so that it does
not flicker. It stands where Live2Diff has a depth map, and is encoded by the same codec."""
import torch
import torch.nn.functional as F

SIGMA, RADIUS = 1.5, 4          # of the blur, in blocks of 8x8 pixels


def luma(image):
    """image [N, 3, H, W] RGB in [-1, 1] -> [N, 3, H, W], three equal channels in [-1, 1]."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=image.dtype, device=image.device)
    y = (((image + 1) / 2) * weights[:, None, None]).sum(1, keepdim=True)
    x = torch.arange(-RADIUS, RADIUS + 1, dtype=image.dtype, device=image.device)
    taps = torch.exp(-x * x / (2 * SIGMA * SIGMA))
    taps = taps / taps.sum()
    blurred = F.avg_pool2d(y, 8)
    blurred = F.conv2d(F.pad(blurred, [RADIUS, RADIUS, 0, 0], mode="replicate"), taps[None, None, None, :])
    blurred = F.conv2d(F.pad(blurred, [0, 0, RADIUS, RADIUS], mode="replicate"), taps[None, None, :, None])
    blurred = F.interpolate(blurred, scale_factor=8.0, mode="bilinear", align_corners=False)
    s = (0.8 * (y - blurred) + 0.5 * y + 48 / 255).clamp(0, 1)
    return (2 * s - 1).expand(-1, 3, -1, -1)
