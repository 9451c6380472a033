# SPDX-License-Identifier: Apache-2.0
"""Philox4x32-10 and the normal noise keyed by (seed, frame, step, element).

Any order of evaluation gives the same noise. Origin: Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3" (2011); Box-Muller on pairs of outputs.
"""
import numpy as np

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = 0x9E3779B9, 0xBB67AE85
LOW = np.uint64(0xFFFFFFFF)


def philox(key, counter):
    """key: two ints; counter: four ints or arrays that broadcast -> uint32 array [..., 4]."""
    k0, k1 = (int(k) & 0xFFFFFFFF for k in key)
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, np.uint64) for c in counter))
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = ((p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), p1 & LOW,
                          (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1), p0 & LOW)
        k0, k1 = (k0 + W0) & 0xFFFFFFFF, (k1 + W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], -1).astype(np.uint32)


def normal(seed, frame, step, h, w, channels):
    """-> float32 [h, w, channels], N(0, 1)."""
    count = h * w * channels
    u = philox((seed & 0xFFFFFFFF, seed >> 32), (np.arange((count + 3) // 4), frame, step, 0))
    scale = np.float32(2.0 ** -24)
    u1 = ((u[:, 0::2] >> np.uint32(8)) + np.uint32(1)).astype(np.float32) * scale
    u2 = (u[:, 1::2] >> np.uint32(8)).astype(np.float32) * scale
    radius, angle = np.sqrt(np.float32(-2) * np.log(u1)), np.float32(2 * np.pi) * u2
    n = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)      # pairs (0, 1), (2, 3)
    return n.reshape(-1)[:count].reshape(h, w, channels)
