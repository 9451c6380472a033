// SPDX-License-Identifier: Apache-2.0
// Convolution for GPUs, as a matrix product: tiles of 64 output pixels by 64 output channels, 32 of
// the sum over taps and input channels at a time through shared memory. 128 invocations, each with
// 4 pixels by 8 channels in registers. Nothing depends on the subgroup size.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/conv.glsl"

#define TILE 64u
#define DEPTH 32u               // of the sum, in channels
#define PITCH 68u               // of a line of pixels: not a multiple of the 32 banks

shared float a[DEPTH * PITCH];          // [k][pixel]
shared vec4 b[DEPTH * TILE / 4u];       // [k][channel quad]

void main()
{
    uint t = gl_LocalInvocationID.x;
    uint pixels = p.ow * p.oh, num_pixels = p.num_rows * pixels;
    uint first_pixel = gl_WorkGroupID.x * TILE, first_quad = gl_WorkGroupID.y * (TILE / 4u);
    uint qin = p.q0 + p.q1, depth = TAPS * qin * 4u;

    // Loads of a: quad t%8 of the slice, for the pixels t/8, 16 + t/8, ...
    uint load_quad = t % 8u;
    uvec3 load_at[4];                   // x, y, row
    for (uint j = 0u; j < 4u; j++) {
        uint m = min(first_pixel + t / 8u + 16u * j, num_pixels - 1u);
        load_at[j] = uvec3(m % p.ow, m / p.ow % p.oh, m / pixels);
    }
    // Loads of b: quad t%16, for the channels t/16, 8 + t/16, ...
    uint column = min(first_quad + t % 16u, (p.out_quads + 7u) / 8u * 8u - 1u);
    uint panel_at = column / 8u * depth * 8u + column % 8u;

    vec4 low = floor_in();
    vec4 acc[4][2];
    for (uint i = 0u; i < 4u; i++)
        acc[i][0] = acc[i][1] = vec4(0.0);

    for (uint k0 = 0u; k0 < depth; k0 += DEPTH) {
        uint kq = k0 / 4u + load_quad, tap = kq / qin, quad = kq % qin;
        for (uint j = 0u; j < 4u; j++) {
            vec4 v = vec4(0.0);
            uint pixel;
            if (tap < TAPS && input_pixel(load_at[j].z, load_at[j].xy,
                                          uvec2(tap % KSIZE, tap / KSIZE), pixel)) {
                if ((FLAGS & L2D_CONV_X2) == 0u || quad < p.q0)
                    v = LOAD4(x[pixel * p.q0 + quad]);
                else
                    v = LOAD4(x2[pixel2(load_at[j].z, pixel) * p.q1 + quad - p.q0]);
                v = max(v, low);
            }
            for (uint i = 0u; i < 4u; i++)
                a[(load_quad * 4u + i) * PITCH + t / 8u + 16u * j] = v[i];
            uint k = t / 16u + 8u * j;
            b[k * (TILE / 4u) + t % 16u] =
                k0 + k < depth ? LOAD4(weight[panel_at + (k0 + k) * 8u]) : vec4(0.0);
        }
        barrier();
        uint a_at = t / 8u * 4u, b_at = t % 8u * 2u;
        for (uint k = 0u; k < DEPTH; k++) {
            vec4 b0 = b[k * (TILE / 4u) + b_at], b1 = b[k * (TILE / 4u) + b_at + 1u];
            for (uint i = 0u; i < 4u; i++) {
                float v = a[k * PITCH + a_at + i];
                acc[i][0] += v * b0;
                acc[i][1] += v * b1;
            }
        }
        barrier();
    }

    for (uint i = 0u; i < 4u; i++) {
        uint m = first_pixel + t / 8u * 4u + i;
        if (m < num_pixels)
            finish2(m / pixels, m % pixels, first_quad + t % 8u * 2u, acc[i][0], acc[i][1]);
    }
}
