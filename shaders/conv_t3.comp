// SPDX-License-Identifier: Apache-2.0
// Convolution by matrices of any size (VK_NV_cooperative_matrix2), as a product of pixels by
// channels: a workgroup's tile of the output is one matrix, or with GEGLU one of values and one of
// gates. SCOPE says whose they are: the workgroup's, or its only subgroup's on drivers that have no
// more. Slices of the sum over taps and input channels go through two buffers in shared memory:
// while one is multiplied the next is on its way in registers. Halves in, sums in f32.
// Debian 12's compiler does not know the extension: see shaders/spirv/README.md.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_NV_cooperative_matrix2 : require
#include "lib/conv_element.glsl"

layout(constant_id = 4) const uint SCOPE = gl_ScopeWorkgroup;
layout(constant_id = 5) const uint TILE_M = 128;    // pixels
layout(constant_id = 6) const uint TILE_N = 128;    // columns of weights
layout(constant_id = 7) const uint TILE_K = 32;     // of the sum at a time
layout(constant_id = 8) const uint SIZE = 256;      // what gl_WorkGroupSize.x is

const uint PARTS = ACT == ACT_GEGLU ? 2 : 1;        // matrices: columns alternate between them
const uint PART_N = TILE_N / PARTS;
const uint DEPTH_Q = TILE_K / 4, COLUMNS_Q = TILE_N / 4;
const uint PITCH_A = DEPTH_Q + 2;                   // of a line, in quads, to spread the banks
const uint PITCH_B = COLUMNS_Q + 2;
const uint LOADS_A = TILE_M * DEPTH_Q / SIZE;       // quads that an invocation loads for a slice
const uint LOADS_B = TILE_K * COLUMNS_Q / SIZE;

shared f16vec4 a[2 * TILE_M * PITCH_A];             // [buffer][pixel][k]
shared f16vec4 b[2 * TILE_K * PITCH_B];             // [buffer][k][part][channel]

#define SUMS(T) coopmat<T, SCOPE, TILE_M, PART_N, gl_MatrixUseAccumulator>

float finish_sum(const in uint line, const in uint column, const in float sum,
                 const in uint first_pixel, const in uint first_channel)
{
    uint m = first_pixel + line, pixels = p.ow * p.oh, channel = first_channel + column;
    float v = sum;
    if (ACT != ACT_GEGLU)
        v += bias_of(min(channel, num_channels() - 1u));
    return finish_element(m / pixels, m % pixels, channel, v);
}

float finish_gate(const in uint line, const in uint column, const in float value,
                  const in float gate, const in uint first_channel)
{
    return gated(value, gate, first_channel + column);
}

float put_part(const in uint line, const in uint column, const in float v,
               const in uint first_pixel, const in uint first_column)
{
    uint m = first_pixel + line, num_pixels = p.num_rows * p.ow * p.oh, c = first_column + column;
    if (m < num_pixels && c < 4u * p.out_quads)
        parts[(gl_WorkGroupID.z * num_pixels + m) * p.out_quads + c / 4u][c % 4u] = v;
    return v;
}

float put(const in uint line, const in uint column, const in float v, const in uint first_pixel,
          const in uint first_channel)
{
    uint m = first_pixel + line, pixels = p.ow * p.oh;
    put_element(m / pixels, m % pixels, first_channel + column, v);
    return v;
}

void main()
{
    uint t = gl_LocalInvocationID.x;
    uint pixels = p.ow * p.oh, num_pixels = p.num_rows * pixels;
    uint first_pixel = gl_WorkGroupID.x * TILE_M, first_quad = gl_WorkGroupID.y * COLUMNS_Q;
    uint qin = p.q0 + p.q1, depth = TAPS * qin;     // in quads

    // Of a, quad t % DEPTH_Q of the slice, for every SIZE / DEPTH_Q-th pixel of the tile.
    uint quad_a = t % DEPTH_Q, line_a = t / DEPTH_Q;
    uvec3 at[LOADS_A];                              // x, y, row
    for (uint i = 0; i < LOADS_A; i++) {
        uint m = min(first_pixel + line_a + i * (SIZE / DEPTH_Q), num_pixels - 1u);
        at[i] = uvec3(m % p.ow, m / p.ow % p.oh, m / pixels);
    }
    // Of b, quad t % COLUMNS_Q of the tile's columns, for every SIZE / COLUMNS_Q-th k.
    uint quad_b = t % COLUMNS_Q, line_b = t / COLUMNS_Q;
    uint column = min(first_quad + quad_b, (p.out_quads + 7u) / 8u * 8u - 1u);
    uint panel_at = column / 8u * depth * 32u + column % 8u;
    uint into_b = quad_b % PARTS * (PART_N / 4u) + quad_b / PARTS;
    bool relu = (p.flags & L2D_CONV_RELU_IN) != 0u;

    SUMS(float) acc[PARTS];
    for (uint i = 0; i < PARTS; i++)
        acc[i] = SUMS(float)(0.0);

    f16vec4 next_a[LOADS_A], next_b[LOADS_B];
    uvec2 part = part_of_sum();
    uint slices = (part.y - part.x + DEPTH_Q - 1u) / DEPTH_Q;
    for (uint slice = 0; slice <= slices; slice++) {
        if (slice < slices) {                       // the next slice's loads, not waited for
            uint kq = part.x + slice * DEPTH_Q + quad_a, tap = kq / qin, quad = kq % qin;
            for (uint i = 0; i < LOADS_A; i++) {
                f16vec4 v = f16vec4(0.0);
                uint pixel;
                if (kq < part.y && input_pixel(at[i].z, at[i].xy, uvec2(tap % KSIZE, tap / KSIZE),
                                              pixel)) {
                    if ((FLAGS & L2D_CONV_X2) == 0u || quad < p.q0)
                        v = halves(x[pixel * p.q0 + quad]);
                    else
                        v = halves(x2[pixel2(at[i].z, pixel) * p.q1 + quad - p.q0]);
                }
                next_a[i] = relu ? max(v, f16vec4(0.0)) : v;
            }
            for (uint i = 0; i < LOADS_B; i++) {
                uint k = 4u * part.x + slice * TILE_K + line_b + i * (SIZE / COLUMNS_Q);
                next_b[i] = k < 4u * part.y ? halves(weight[panel_at + k * 8u]) : f16vec4(0.0);
            }
        }
        if (slice > 0u) {
            uint from = (slice - 1u) & 1u;
            coopmat<float16_t, SCOPE, TILE_M, TILE_K, gl_MatrixUseA> ma;
            coopMatLoad(ma, a, from * TILE_M * PITCH_A, PITCH_A,
                        gl_CooperativeMatrixLayoutRowMajor);
            for (uint i = 0; i < PARTS; i++) {
                coopmat<float16_t, SCOPE, TILE_K, PART_N, gl_MatrixUseB> mb;
                coopMatLoad(mb, b, from * TILE_K * PITCH_B + i * (PART_N / 4u), PITCH_B,
                            gl_CooperativeMatrixLayoutRowMajor);
                acc[i] = coopMatMulAdd(ma, mb, acc[i]);
            }
        }
        if (slice < slices) {
            uint into = slice & 1u;
            for (uint i = 0; i < LOADS_A; i++)
                a[(into * TILE_M + line_a + i * (SIZE / DEPTH_Q)) * PITCH_A + quad_a] = next_a[i];
            for (uint i = 0; i < LOADS_B; i++)
                b[(into * TILE_K + line_b + i * (SIZE / COLUMNS_Q)) * PITCH_B + into_b] =
                    next_b[i];
        }
        barrier();
    }

    uint first_channel = gl_WorkGroupID.y * PART_N, channels = num_channels();
    SUMS(float) sums = acc[0];
    if ((FLAGS & L2D_CONV_SPLIT) != 0u) {
        coopMatPerElementNV(sums, sums, put_part, first_pixel, first_channel);
        return;
    }
    if (ACT == ACT_GEGLU) {
        SUMS(float) gates = acc[PARTS - 1u];
        coopMatPerElementNV(sums, sums, finish_gate, gates, first_channel);
    }
    coopMatPerElementNV(sums, sums, finish_sum, first_pixel, first_channel);
    // A tile that is all inside is stored as it is; lines begin at multiples of 16 bytes then.
    if (first_pixel + TILE_M <= num_pixels && first_channel + PART_N <= channels &&
        channels % 8u == 0u && (p.flags & L2D_CONV_OUT_RING) == 0u)
        coopMatStore(SUMS(float16_t)(sums), y, (first_pixel * channels + first_channel) / 4u,
                     channels / 4u, gl_CooperativeMatrixLayoutRowMajor);
    else
        coopMatPerElementNV(sums, sums, put, first_pixel, first_channel);
}
