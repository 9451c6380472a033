// SPDX-License-Identifier: Apache-2.0
// Convolution for GPUs, as a matrix product: tiles of TILE_M output pixels by TILE_N output
// channels, DEPTH of the sum over taps and input channels at a time through shared memory. An
// invocation has PIXELS pixels by 8 channels in registers. Nothing depends on the subgroup size.
// Whatever the tile, the terms of a sum are added in the same order. With HALVES it is done in
// halves, of which many GPUs do two at once, and every GROUP terms the sums in floats go on.
#extension GL_EXT_control_flow_attributes : require
#if HALVES
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define NUMBER  float16_t
#define NUMBER4 f16vec4
#else
#define NUMBER  float
#define NUMBER4 vec4
#endif
#include "lib/conv.glsl"
#include "lib/conv_parts.glsl"

layout(constant_id = 5) const uint TILE_M = 64;
layout(constant_id = 6) const uint TILE_N = 64;
layout(constant_id = 7) const uint PIXELS = 4;
layout(constant_id = 8) const uint DEPTH = 32;      // divides L2D_CONV_PART

layout(binding = 2, std430) readonly buffer WeightBytes { uint weight_bytes[]; };

const uint SIZE = TILE_M / PIXELS * (TILE_N / 8);   // what gl_WorkGroupSize.x is
const uint DEPTH_Q = DEPTH / 4, COLUMNS_Q = TILE_N / 4, PAIRS = TILE_N / 8;
const uint GROUP = 16;                              // terms that are summed up in halves
const uint PITCH = TILE_M + (HALVES != 0 ? 8 : 4);  // of a line of pixels: to spread the banks
const uint LOADS_A = TILE_M * DEPTH_Q / SIZE;       // quads that an invocation loads for a slice
const uint LOADS_B = DEPTH * COLUMNS_Q / SIZE;

shared NUMBER a[DEPTH * PITCH];         // [k][pixel]
shared NUMBER4 b[DEPTH * COLUMNS_Q];    // [k][channel quad]

// Four weights without their steps; see conv_pack.c.
vec4 four(uint word)
{
    return vec4(ivec4(int(word)) << ivec4(24, 8, 16, 0) >> 24);
}

// Of so many terms of the slice; not a function, since these take no arrays of such a length.
#define ADD_PRODUCTS(sum, first, count) \
    for (uint k = first; k < first + count; k++) { \
        NUMBER4 b0 = b[k * COLUMNS_Q + b_at], b1 = b[k * COLUMNS_Q + b_at + 1u]; \
        for (uint i = 0u; i < PIXELS; i++) { \
            NUMBER v = a[k * PITCH + a_at + i]; \
            sum[2u * i] += v * b0; \
            sum[2u * i + 1u] += v * b1; \
        } \
    }

void main()
{
    uint t = gl_LocalInvocationID.x;
    uint pixels = p.ow * p.oh, num_pixels = p.num_rows * pixels;
    uint first_pixel = gl_WorkGroupID.x * TILE_M, first_quad = gl_WorkGroupID.y * COLUMNS_Q;
    uint qin = p.q0 + p.q1, depth = TAPS * qin * 4u;

    // Of a, quad t % DEPTH_Q of the slice, for every SIZE / DEPTH_Q-th pixel of the tile.
    uint load_quad = t % DEPTH_Q, line_a = t / DEPTH_Q;
    uvec3 load_at[LOADS_A];             // x, y, row
    for (uint j = 0u; j < LOADS_A; j++) {
        uint m = min(first_pixel + line_a + j * (SIZE / DEPTH_Q), num_pixels - 1u);
        load_at[j] = uvec3(m % p.ow, m / p.ow % p.oh, m / pixels);
    }
    // Of b, quad t % COLUMNS_Q of the tile's channels, for every SIZE / COLUMNS_Q-th k.
    uint quad_b = t % COLUMNS_Q, line_b = t / COLUMNS_Q;
    uint column = min(first_quad + quad_b, (p.out_quads + 7u) / 8u * 8u - 1u);
    uint panel_at = weights_at(column);
    vec4 steps = vec4(1.0);
    if (BYTES)
        for (uint i = 0u; i < 4u; i++)
            steps[i] = uintBitsToFloat(weight_bytes[steps_at(column) + i]);

    vec4 low = floor_in();
    vec4 acc[PIXELS * 2];
    for (uint i = 0u; i < PIXELS * 2; i++)
        acc[i] = vec4(0.0);

    uint first_k = 0u, end_k = depth;
    if (PARTS > 1u) {
        first_k = min(part() * p.part_quads * 4u, depth);
        end_k = min(first_k + p.part_quads * 4u, depth);
    }
    for (uint k0 = first_k; k0 < end_k; k0 += DEPTH) {
        uint kq = k0 / 4u + load_quad, tap = kq / qin, quad = kq % qin;
        for (uint j = 0u; j < LOADS_A; j++) {
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
                a[(load_quad * 4u + i) * PITCH + line_a + j * (SIZE / DEPTH_Q)] = NUMBER(v[i]);
        }
        for (uint j = 0u; j < LOADS_B; j++) {
            uint k = line_b + j * (SIZE / COLUMNS_Q);
            uint at = panel_at + (k0 + k) * 8u;
            vec4 v = k0 + k >= depth ? vec4(0.0)
                   : BYTES ? four(weight_bytes[at]) * steps : LOAD4(weight[at]);
            b[k * COLUMNS_Q + quad_b] = NUMBER4(v);
        }
        barrier();
        uint a_at = t / PAIRS * PIXELS, b_at = t % PAIRS * 2u;
#if HALVES
        for (uint group = 0u; group < DEPTH; group += GROUP) {
            f16vec4 sum[PIXELS * 2];
            for (uint i = 0u; i < PIXELS * 2; i++)
                sum[i] = f16vec4(0.0);
            ADD_PRODUCTS(sum, group, GROUP)
            for (uint i = 0u; i < PIXELS * 2; i++)
                acc[i] += vec4(sum[i]);
        }
#else
        ADD_PRODUCTS(acc, 0u, DEPTH)
#endif
        barrier();
    }

    uint m0 = first_pixel + t / PAIRS * PIXELS, mine = first_quad + t % PAIRS * 2u;
    if (PARTS > 1u) {
        for (uint i = 0u; i < PIXELS; i++)
            if (m0 + i < num_pixels)
                write_part(m0 + i, mine, acc[2u * i], acc[2u * i + 1u]);
        if (!is_last_part())
            return;
        for (uint i = 0u; i < PIXELS; i++)
            if (m0 + i < num_pixels)
                add_parts(m0 + i, mine, acc[2u * i], acc[2u * i + 1u]);
    }
    for (uint i = 0u; i < PIXELS; i++)
        if (m0 + i < num_pixels)
            finish2(place_of(m0 + i), mine, acc[2u * i], acc[2u * i + 1u]);
}
