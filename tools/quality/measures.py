# SPDX-License-Identifier: Apache-2.0
"""The figures, on uint8 RGB pictures: nothing here knows a model, a style or a file.

All differences are in levels of 255. `self_check` tries every measure on pictures whose figure is known.
"""
import cv2
import numpy as np


def psnr(a, b):
    error = np.mean((a.astype(np.float64) - b)**2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def difference(a, b):
    return float(np.abs(a.astype(np.float64) - b).mean())


def nearest(picture, candidates):
    """The index of the candidate with the smallest mean square error."""
    return int(np.argmin([np.mean((picture.astype(np.float32) - c)**2) for c in candidates]))


def gradient(image):
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.hypot(cv2.Sobel(gray, -1, 1, 0), cv2.Sobel(gray, -1, 0, 1))


def structure(frames, source):
    """Correlation of the luminance gradient's magnitude with the source's, mean over the frames."""
    pairs = zip(frames, source)
    return float(np.mean([np.corrcoef(gradient(a).ravel(), gradient(b).ravel())[0, 1] for a, b in pairs]))


class Motion:
    """Optical flow of a clip, each frame to the one before it, and where it can be trusted.

    A pixel counts where forward and backward flow agree (Sundaram et al. 2010) and where it comes
    from inside the picture. A pair of frames of which less than a third counts is a cut: left out.
    """

    def __init__(self, source):
        dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        gray = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in source]
        h, w = gray[0].shape
        y, x = np.mgrid[:h, :w].astype(np.float32)
        self.steps = []
        for t in range(1, len(gray)):
            flow = dis.calc(gray[t], gray[t - 1], None)
            back = dis.calc(gray[t - 1], gray[t], None)
            px, py = x + flow[..., 0], y + flow[..., 1]
            back = cv2.remap(back, px, py, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            miss = ((flow + back)**2).sum(2)
            seen = miss < .01 * ((flow**2).sum(2) + (back**2).sum(2)) + .5
            seen &= (px >= 0) & (px <= w - 1) & (py >= 0) & (py <= h - 1)
            if seen.mean() > 1 / 3:
                self.steps.append((t, px, py, seen))

    def error(self, frames):
        """mean |frame - the frame before it, moved along the flow|"""
        errors = []
        for t, px, py, seen in self.steps:
            moved = cv2.remap(frames[t - 1], px, py, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            errors.append(np.abs(frames[t].astype(np.float32) - moved)[seen].mean())
        return float(np.mean(errors)) if errors else None


def flicker(frames, static):
    """Standard deviation in time of the pixels of `static`, a mask [H,W]."""
    return float(np.std(frames.astype(np.float32), axis=0, ddof=1)[static].mean())


def drift(means, first, loop):
    """How far the mean colour of whole loops moves: at the end, and at most. means [N,3]."""
    start = means[first:first + loop].mean(0)
    away = [float(np.abs(means[at:at + loop].mean(0) - start).max())
            for at in range(first, len(means) - loop + 1)]
    return away[-1], max(away)


def relative_l2(pairs):
    """sqrt(sum (a - b)^2 / sum b^2) over all pairs, and of the worst pair."""
    wrong = np.array([np.sum((a.astype(np.float64) - b)**2) for a, b in pairs])
    whole = np.array([np.sum(b.astype(np.float64)**2) for _, b in pairs])
    return float(np.sqrt(wrong.sum() / whole.sum())), float(np.sqrt((wrong / whole).max()))


def self_check(styles, style_of):
    """Yields (what, value, whether it is as it must be). style_of(style, image) is the teacher."""
    rng = np.random.default_rng(1)
    noise = rng.uniform(0, 255, (200, 200, 3)).astype(np.float32)
    big = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    still = np.stack([big[20:148, 20:148]] * 6)
    moving = np.stack([big[20 + t:148 + t, 20 + 2 * t:148 + 2 * t] for t in range(6)])
    shimmer = np.clip(still + rng.normal(0, 4, still.shape), 0, 255).astype(np.uint8)
    gray = np.full((6, 32, 32, 3), 128, np.uint8)
    everywhere = np.ones(gray.shape[1:3], bool)
    blinking = gray + np.uint8([0, 4] * 3)[:, None, None, None]
    cut = np.concatenate([still[:3], 255 - moving[3:, ::-1]])
    pictures = [style_of(s, still[0]) for s in styles]
    right = np.mean([nearest(p, pictures) == i for i, p in enumerate(pictures)])
    means = np.zeros((100, 3))
    means[:, 0] = np.tile([-1., 1.], 50) + np.linspace(0, 3, 100)

    value = psnr(gray, gray + np.uint8(1))
    yield "PSNR of one level", value, abs(value - 48.13) < .01
    value = difference(gray, gray + np.uint8(3))
    yield "difference of three levels", value, value == 3
    value = Motion(moving).error(moving)
    yield "warp error of a moving picture", value, value < 1
    value = Motion(moving).error(still) / Motion(moving).error(moving)
    yield "warp error of one that stays, over that", value, value > 4
    value = Motion(still).error(shimmer)
    yield "warp error of noise, sigma 4", value, abs(value - 4 * 2 / np.sqrt(np.pi)) < .3
    value = len(Motion(cut).steps)
    yield "pairs of frames around a cut", value, value == 4
    value = flicker(blinking, everywhere)
    yield "flicker of 0, 4, 0, 4, 0, 4", value, abs(value - 2 * np.sqrt(6 / 5)) < 1e-5
    value = structure(still, still)
    yield "structure of the source", value, abs(value - 1) < 1e-6
    value = structure(noise[None, 40:168, 40:168].astype(np.uint8), still[:1])
    yield "structure of noise", value, abs(value) < .1
    value = right
    yield "teachers' pictures recognised", value, value == 1
    value = drift(means, 10, 10)[0]
    yield "drift of 3 in 100 frames, last 10", value, abs(value - 3 * 80 / 99) < 1e-9
    value = relative_l2([(np.float32([3, 4.]), np.float32([3, 5.]))])[0]
    yield "relative L2", value, abs(value - 1 / np.sqrt(34)) < 1e-6
