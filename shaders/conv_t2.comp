// SPDX-License-Identifier: Apache-2.0
// Convolution on matrix units (VK_KHR_cooperative_matrix), as a product of pixels by channels.
// Slices of the sum over taps and input channels go through two buffers in shared memory: while one
// is multiplied the next is on its way in registers. Halves in, sums in f32. A workgroup is SIDE
// subgroups across the channels and as many as fit across the pixels; each has WM x WN matrices.
// Debian 12's compiler does not know the extension: see shaders/spirv/README.md.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#include "lib/conv.glsl"
#include "lib/halves.glsl"

layout(constant_id = 4) const uint CM = 16;         // a matrix: pixels, channels, depth
layout(constant_id = 5) const uint CN = 16;
layout(constant_id = 6) const uint CK = 16;
layout(constant_id = 7) const uint WM = 2;
layout(constant_id = 8) const uint WN = 4;
layout(constant_id = 9) const uint SIDE = 2;
layout(constant_id = 10) const uint SUBGROUPS = 8;
layout(constant_id = 11) const uint LANES = 32;     // of a subgroup

const uint SIZE = SUBGROUPS * LANES;                // what gl_WorkGroupSize.x is
const uint TILE_M = SUBGROUPS / SIDE * WM * CM, TILE_N = SIDE * WN * CN;
const uint DEPTH_Q = CK / 2;                        // 2 CK deep, in quads
const uint COLUMNS_Q = TILE_N / 4;
const uint PITCH_A = DEPTH_Q + 2;                   // of a line, in quads, to spread the banks
const uint PITCH_B = COLUMNS_Q + 2;
const uint LOADS_A = TILE_M * DEPTH_Q / SIZE;       // quads that an invocation loads for a slice
const uint LOADS_B = 4 * DEPTH_Q * COLUMNS_Q / SIZE;

shared f16vec4 a[2 * TILE_M * PITCH_A];             // [buffer][pixel][k]
shared f16vec4 b[2 * 4 * DEPTH_Q * PITCH_B];        // [buffer][k][channel]
shared float sums[SUBGROUPS * CM * CN];

void main()
{
    uint t = gl_LocalInvocationID.x, sub = gl_SubgroupID;
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
    // Of b, quads t, t + SIZE, ... of the slice, which has COLUMNS_Q for each k.
    uint panel_at[LOADS_B];
    for (uint i = 0; i < LOADS_B; i++) {
        uint column = min(first_quad + (t + i * SIZE) % COLUMNS_Q,
                          (p.out_quads + 7u) / 8u * 8u - 1u);
        panel_at[i] = column / 8u * depth * 32u + column % 8u;
    }
    bool relu = (p.flags & L2D_CONV_RELU_IN) != 0u;

    coopmat<float, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator> acc[WM * WN];
    for (uint i = 0; i < WM * WN; i++)
        acc[i] = coopmat<float, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator>(0.0);

    f16vec4 next_a[LOADS_A], next_b[LOADS_B];
    uvec2 part = part_of_sum();
    uint slices = (part.y - part.x + DEPTH_Q - 1u) / DEPTH_Q;
    for (uint slice = 0; slice <= slices; slice++) {
        if (slice < slices) {                       // the next slice's loads, not waited for
            uint kq = part.x + slice * DEPTH_Q + quad_a, tap = kq / qin, quad = kq % qin;
            for (uint i = 0; i < LOADS_A; i++) {
                f16vec4 v = f16vec4(0.0);
                uint pixel;
                if (tap < TAPS && input_pixel(at[i].z, at[i].xy, uvec2(tap % KSIZE, tap / KSIZE),
                                              pixel)) {
                    if ((FLAGS & L2D_CONV_X2) == 0u || quad < p.q0)
                        v = halves(x[pixel * p.q0 + quad]);
                    else
                        v = halves(x2[pixel2(at[i].z, pixel) * p.q1 + quad - p.q0]);
                }
                next_a[i] = relu ? max(v, f16vec4(0.0)) : v;
            }
            for (uint i = 0; i < LOADS_B; i++) {
                uint k = (part.x + slice * DEPTH_Q) * 4u + (t + i * SIZE) / COLUMNS_Q;
                next_b[i] = k < depth * 4u ? halves(weight[panel_at[i] + k * 8u]) : f16vec4(0.0);
            }
        }
        if (slice > 0u) {
            uint from = (slice - 1u) & 1u;
            uint a_at = (from * TILE_M + sub / SIDE * WM * CM) * PITCH_A;
            uint b_at = from * 4u * DEPTH_Q * PITCH_B + sub % SIDE * WN * CN / 4u;
            for (uint k = 0; k < 2; k++) {
                coopmat<float16_t, gl_ScopeSubgroup, CM, CK, gl_MatrixUseA> ma[WM];
                for (uint i = 0; i < WM; i++)
                    coopMatLoad(ma[i], a, a_at + i * CM * PITCH_A + k * CK / 4u, PITCH_A,
                                gl_CooperativeMatrixLayoutRowMajor);
                for (uint j = 0; j < WN; j++) {
                    coopmat<float16_t, gl_ScopeSubgroup, CK, CN, gl_MatrixUseB> mb;
                    coopMatLoad(mb, b, b_at + k * CK * PITCH_B + j * CN / 4u, PITCH_B,
                                gl_CooperativeMatrixLayoutRowMajor);
                    for (uint i = 0; i < WM; i++)
                        acc[i * WN + j] = coopMatMulAdd(ma[i], mb, acc[i * WN + j]);
                }
            }
        }
        if (slice < slices) {
            uint into = slice & 1u;
            for (uint i = 0; i < LOADS_A; i++)
                a[(into * TILE_M + line_a + i * (SIZE / DEPTH_Q)) * PITCH_A + quad_a] = next_a[i];
            for (uint i = 0; i < LOADS_B; i++) {
                uint quad = t + i * SIZE;
                b[(into * 4u * DEPTH_Q + quad / COLUMNS_Q) * PITCH_B + quad % COLUMNS_Q] =
                    next_b[i];
            }
        }
        barrier();
    }

    // A matrix at a time through shared memory, since who holds what of it is the device's secret.
    for (uint i = 0; i < WM; i++)
        for (uint j = 0; j < WN; j++) {
            coopMatStore(acc[i * WN + j], sums, sub * CM * CN, CN,
                         gl_CooperativeMatrixLayoutRowMajor);
            subgroupMemoryBarrierShared();
            subgroupBarrier();
            for (uint pair = gl_SubgroupInvocationID; pair < CM * CN / 8u; pair += LANES) {
                uint line = pair / (CN / 8u), column = pair % (CN / 8u) * 8u;
                uint m = first_pixel + (sub / SIDE * WM + i) * CM + line;
                uint from = sub * CM * CN + line * CN + column;
                vec4 v0 = vec4(sums[from], sums[from + 1u], sums[from + 2u], sums[from + 3u]);
                vec4 v1 = vec4(sums[from + 4u], sums[from + 5u], sums[from + 6u], sums[from + 7u]);
                if (m < num_pixels)
                    finish2(m / pixels, m % pixels,
                            first_quad + ((sub % SIDE * WN + j) * CN + column) / 4u, v0, v1);
            }
            subgroupBarrier();
        }
}
