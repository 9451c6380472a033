// SPDX-License-Identifier: Apache-2.0
// Convolution for CPU drivers, which run 8 invocations as one vector: each keeps one output pixel
// and NQ quads of output channels in registers. Weights are read at addresses that all share.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/conv.glsl"

layout(constant_id = 6) const uint NQ = 8;

void main()
{
    uint pixels = p.ow * p.oh, num_pixels = p.num_rows * pixels;
    uint m = gl_GlobalInvocationID.x, safe = min(m, num_pixels - 1u);
    uint row = safe / pixels, pixel = safe % pixels;
    uvec2 at = uvec2(pixel % p.ow, pixel / p.ow);
    uint column = gl_WorkGroupID.y * NQ, qin = p.q0 + p.q1;
    uint w = column / 8u * TAPS * qin * 32u + column % 8u;

    vec4 acc[NQ];
    for (uint n = 0u; n < NQ; n++)
        acc[n] = vec4(0.0);
    uint tap = 0u;
    do {
        uint from;
        bool inside = input_pixel(row, at, uvec2(tap % KSIZE, tap / KSIZE), from);
        uint k = 0u;
        do {
            vec4 v = LOAD4(x[from * p.q0 + k]);
            v = inside ? v : vec4(0.0);
            for (uint n = 0u; n < NQ; n++)
                acc[n] += v.x * LOAD4(weight[w + n]) + v.y * LOAD4(weight[w + 8u + n]) +
                          v.z * LOAD4(weight[w + 16u + n]) + v.w * LOAD4(weight[w + 24u + n]);
            w += 32u;
            k++;
        } while (k < p.q0);
        if ((FLAGS & L2D_CONV_X2) != 0u) {
            k = 0u;
            do {
                vec4 v = LOAD4(x2[from * p.q1 + k]);
                v = inside ? v : vec4(0.0);
                for (uint n = 0u; n < NQ; n++)
                    acc[n] += v.x * LOAD4(weight[w + n]) + v.y * LOAD4(weight[w + 8u + n]) +
                              v.z * LOAD4(weight[w + 16u + n]) + v.w * LOAD4(weight[w + 24u + n]);
                w += 32u;
                k++;
            } while (k < p.q1);
        }
        tap++;
    } while (tap < TAPS);

    if (m < num_pixels)
        for (uint n = 0u; n < NQ; n += 2u)
            finish2(row, pixel, column + n, acc[n], acc[n + 1u]);
}
