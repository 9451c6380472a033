// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) and
// Box-Muller: the same numbers as runtime/base/philox.c, to the rounding of f32.
#ifndef L2D_LIB_PHILOX
#define L2D_LIB_PHILOX

#include "lib/math.glsl"

uvec4 philox(uvec4 counter, uvec2 key)
{
    for (int round = 0; round < 10; round++) {
        uint high0, low0, high1, low1;
        umulExtended(0xD2511F53u, counter.x, high0, low0);
        umulExtended(0xCD9E8D57u, counter.z, high1, low1);
        counter = uvec4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key += uvec2(0x9E3779B9u, 0xBB67AE85u);
    }
    return counter;
}

vec2 box_muller(uint first, uint second)
{
    float u1 = float((first >> 8) + 1u) * 5.9604644775390625e-8;    // (0, 1]
    float u2 = float(second >> 8) * 5.9604644775390625e-8;          // [0, 1)
    return sqrt(-2.0 * log1(u1)) * cos_sin_turns(u2);
}

// Elements 4*quad .. 4*quad+3 of the normal noise of (seed, frame, step).
vec4 noise4(uvec2 seed, uint frame, uint step, uint quad)
{
    uvec4 u = philox(uvec4(quad, frame, step, 0u), seed);
    return vec4(box_muller(u.x, u.y), box_muller(u.z, u.w));
}

#endif
