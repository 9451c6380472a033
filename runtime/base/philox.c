// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 and Box-Muller. See philox.h.
#include "base/philox.h"

#include <math.h>

void l2d_philox_block(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t) 0xD2511F53 * c0, p1 = (uint64_t) 0xCD9E8D57 * c2;
        c0 = (uint32_t) (p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t) p1;
        c2 = (uint32_t) (p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t) p0;
        k0 += 0x9E3779B9;                   // Weyl sequences: golden ratio, sqrt(3) - 1
        k1 += 0xBB67AE85;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

// Two words -> two normal numbers. U1 in (0, 1], so that the logarithm is finite; U2 in [0, 1).
static void box_muller(float out[2], uint32_t first, uint32_t second)
{
    const double two_pi = 6.283185307179586, unit = 1.0 / (1 << 24);
    double u1 = ((first >> 8) + 1) * unit, u2 = (second >> 8) * unit;
    double r = sqrt(-2.0 * log(u1));
    out[0] = (float) (r * cos(two_pi * u2));
    out[1] = (float) (r * sin(two_pi * u2));
}

void l2d_noise_fill(float *out, size_t count, uint64_t seed, uint32_t frame, uint32_t step)
{
    const uint32_t key[2] = { (uint32_t) seed, (uint32_t) (seed >> 32) };
    for (size_t e = 0; e < count; e += 4) {
        uint32_t u[4];
        float n[4];
        l2d_philox_block(u, (const uint32_t[4]) { (uint32_t) (e >> 2), frame, step, 0 }, key);
        box_muller(&n[0], u[0], u[1]);
        box_muller(&n[2], u[2], u[3]);
        for (size_t i = 0; i < 4 && e + i < count; i++)
            out[e + i] = n[i];
    }
}
