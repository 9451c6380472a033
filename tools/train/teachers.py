# SPDX-License-Identifier: Apache-2.0
"""The painterly filters that the network learns to imitate.

Each teacher maps an RGB picture (float32, 0..255) to a styled one. All are local, deterministic
and free of random texture, so a network can predict their output exactly, and so a styled still
warped with its source is a temporally exact target. They are sized for an autoencoder that
reduces 8x: lines of at least 2.5 pixels, strokes of at least 4.

Known building blocks, written here anew: the generalised Kuwahara filter (Papari et al. 2007),
XDoG lines (Winnemoeller et al. 2012), line integral convolution along the smoothed structure
tensor (Cabral & Leedom 1993; Kyprianidis & Kang 2011).
"""
import cv2
import numpy as np


def rgb(*values):
    return np.float32(values)


def luma(x):
    return x @ rgb(.299, .587, .114)


def saturate(x, amount):
    gray = luma(x)[..., None]
    return gray + (x - gray) * amount


def blur(x, sigma):
    return cv2.GaussianBlur(x, (0, 0), sigma)


def ramp(t, *colors):
    """Piecewise linear palette over t in 0..1."""
    t = np.clip(t, 0, 1) * (len(colors) - 1)
    low = np.minimum(t.astype(int), len(colors) - 2)
    table = np.stack([rgb(*c) for c in colors])
    part = (t - low)[..., None]
    return table[low] * (1 - part) + table[low + 1] * part


def kuwahara(x, radius=5, sectors=8, sharpness=8.):
    """Averages the calmest sector around each pixel: patches of paint with crisp borders."""
    yy, xx = np.mgrid[-radius:radius + 1, -radius:radius + 1].astype(np.float32)
    distance, angle = np.hypot(xx, yy), np.arctan2(yy, xx)
    disc = np.exp(-distance**2 / (2 * (radius / 2)**2)) * (distance <= radius)
    total, weights = np.zeros_like(x), np.zeros(x.shape[:2] + (1,), np.float32)
    for i in range(sectors):
        off = np.angle(np.exp(1j * (angle - 2 * np.pi * i / sectors)))
        kernel = (disc * np.exp(-(off / (np.pi / sectors * 1.2))**2)).astype(np.float32)
        kernel /= kernel.sum()
        mean = cv2.filter2D(x, -1, kernel)
        var = np.abs(cv2.filter2D(x * x, -1, kernel) - mean * mean).sum(2, keepdims=True)
        w = 1 / (1 + (np.sqrt(var) / 6)**sharpness)
        total += mean * w
        weights += w
    return total / np.maximum(weights, 1e-12)


def lines(gray, sigma=1.5, p=15., threshold=.46, phi=7.):
    """XDoG on locally normalised luminance: 1 on paper, towards 0 on a line."""
    flat = np.clip((gray - blur(gray, 12)) * 1.2 + 150, 0, 255) / 255
    d = (1 + p) * blur(flat, sigma) - p * blur(flat, sigma * 1.6)
    return np.where(d >= threshold, 1., 1 + np.tanh(phi * (d - threshold))).astype(np.float32)


def flow_angle(gray, sigma=5.):
    gx, gy = cv2.Sobel(gray, -1, 1, 0), cv2.Sobel(gray, -1, 0, 1)
    a, b, c = (blur(v, sigma) for v in (gx * gx, gx * gy, gy * gy))
    return .5 * np.arctan2(2 * b, a - c) + np.pi / 2


def smear(fields, angle, steps):
    """Averages each field along the flow lines, `steps` pixels to either side."""
    h, w = angle.shape
    yy, xx = np.mgrid[:h, :w].astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    sums = [np.zeros_like(f) for f in fields]

    def take(f, px, py):
        return cv2.remap(f, px, py, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    for sign in (1, -1):
        px, py, dx, dy = xx.copy(), yy.copy(), sign * cos, sign * sin
        for _ in range(steps):
            for s, f in zip(sums, fields):
                s += take(f, px, py)
            a, b = take(cos, px, py), take(sin, px, py)
            turn = np.where(a * dx + b * dy < 0, -1, 1).astype(np.float32)
            dx, dy = a * turn, b * turn
            px, py = px + dx, py + dy
    return [s / (2 * steps) for s in sums]


def van_gogh(x):
    paint = kuwahara(x, 4)
    gray = luma(x)
    # Bands of the source's own detail, at stroke width, stretched along the flow.
    band = blur(gray, 1.6) - blur(gray, 3.6)
    bristle = band / np.sqrt(blur(band * band, 8) + 1.)
    color, stroke = smear([paint, bristle], flow_angle(luma(paint)), 9)
    tone = luma(color) / 255
    tone = np.clip((tone - .5) * 1.15 + .5, 0, 1)
    scheme = ramp(tone, (10, 18, 70), (30, 78, 160), (96, 150, 150), (232, 190, 70),
                  (255, 240, 160))
    out = .5 * saturate(color, 1.5) + .5 * scheme
    return out * (1 + .34 * np.tanh(1.6 * stroke)[..., None])


def ink(x):
    wash = np.clip(luma(kuwahara(x, 5)) / 255, 0, 1)
    wash = .2 + .8 * (np.clip((wash - .08) / .72, 0, 1))**.8
    return ramp(lines(luma(kuwahara(x, 3)), 1.6) * wash, (24, 20, 44), (120, 104, 106),
                (214, 200, 172), (246, 236, 212))


def neon(x):
    soft = blur(x, 1.4)
    edge = np.stack([np.hypot(cv2.Sobel(soft[..., c], -1, 1, 0), cv2.Sobel(soft[..., c], -1, 0, 1))
                     for c in range(3)], -1).max(2)
    edge = np.clip(edge / (24 + 1.1 * blur(edge, 14)) - .35, 0, 1.3)
    glow = edge + .55 * blur(edge, 4)
    hue = blur(x, 3)
    warm = np.clip((hue[..., 0] - .5 * hue[..., 1] - .5 * hue[..., 2]) / 60 + .5, 0, 1)
    tube = ramp(warm, (0, 235, 255), (60, 90, 255), (255, 30, 200), (255, 120, 60))
    dark = ramp(luma(kuwahara(x, 4)) / 255, (8, 3, 26), (34, 10, 70), (70, 22, 110))
    return dark + tube * glow[..., None] * .85


def cartoon(x):
    flat = kuwahara(x, 5)
    for _ in range(2):
        flat = cv2.bilateralFilter(flat, 9, 28, 5)
    tone = luma(flat)
    level = 255 / 5
    base = np.floor(tone / level)
    part = tone / level - base
    steps = (base + 1 / (1 + np.exp(-14 * (part - .5)))) * level
    out = saturate(flat * ((steps + 14) / (tone + 14))[..., None], 1.9)
    out = np.clip(out * 1.1 + 12, 0, 255)
    return out * lines(luma(kuwahara(x, 3)), 1.5, 14., .42)[..., None]**1.2


def watercolor(x):
    paint = kuwahara(x, 6)
    gray = luma(blur(paint, 1.))
    rim = np.hypot(cv2.Sobel(gray, -1, 1, 0), cv2.Sobel(gray, -1, 0, 1))
    rim = np.clip(rim / 130, 0, 1)[..., None]
    density = np.clip(1 - gray / 235, 0, 1)[..., None]**.9
    pigment = saturate(paint, 2.6)
    pigment = np.clip(pigment * (150 / (luma(pigment)[..., None] + 60)), 0, 255)
    out = rgb(254, 250, 242) * (1 - density) + pigment * density
    return np.clip(out - rgb(74, 84, 60) * rim - 60 * density**3, 0, 255)


STYLES = {"van gogh": van_gogh, "ink": ink, "neon": neon, "cartoon": cartoon,
          "watercolor": watercolor}


def apply(style, image):
    """uint8 RGB -> uint8 RGB. Pads by reflection, so borders look like the inside."""
    pad = 24
    x = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REFLECT_101).astype(np.float32)
    y = STYLES[style](x)[pad:-pad, pad:-pad]
    return np.clip(y + .5, 0, 255).astype(np.uint8)
