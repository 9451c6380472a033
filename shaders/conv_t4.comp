// SPDX-License-Identifier: Apache-2.0
// Convolution by matrices that are loaded by coordinates (VK_NV_cooperative_matrix2 with tensor
// addressing): a patch of pixels times a run of channels is one slice of the input, moved by the
// tap and zero outside, so there is no test for borders and no shared memory of ours: how numbers
// come to the units is the driver's business. As in conv_t3.comp, a tile is one matrix of the
// workgroup, or with GEGLU one of values and one of gates. Halves in, sums in f32.
// Debian 12's compiler does not know the extension: see shaders/spirv/README.md.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_NV_cooperative_matrix2 : require
#include "lib/conv_element.glsl"
#include "params/conv_tensor.h"

layout(constant_id = 4) const uint TILE_H = 8;      // pixels; by TILE_W
layout(constant_id = 5) const uint TILE_W = 16;
layout(constant_id = 6) const uint TILE_N = 128;    // columns of weights, a multiple of a panel's
layout(constant_id = 7) const uint TILE_K = 64;     // channels at a time
// Zero outside; or 0, and then all must be inside.
layout(constant_id = 8) const uint CLAMP = gl_CooperativeMatrixClampModeConstantNV;

const uint TILE_M = TILE_H * TILE_W;
const uint PARTS = ACT == ACT_GEGLU ? 2 : 1;        // matrices: columns alternate between them
const uint PART_N = TILE_N / PARTS;
const uint PANELS = TILE_N / L2D_CONV_PANEL;

#define SUMS(T) coopmat<T, gl_ScopeWorkgroup, TILE_M, PART_N, gl_MatrixUseAccumulator>
#define WEIGHTS coopmat<float16_t, gl_ScopeWorkgroup, TILE_K, PART_N, gl_MatrixUseB>

// Of the tile: its row, and its first pixel among those that the output's phase has.
uint tile_row()
{
    return gl_WorkGroupID.z >> (2u * p.upsample);
}

ivec2 tile_phase()
{
    return ivec2(gl_WorkGroupID.z & 1u, gl_WorkGroupID.z >> 1 & 1u) * int(p.upsample);
}

l2d_conv_axis outputs_x() { return l2d_conv_outputs(int(p.ow), int(p.upsample), tile_phase().x); }
l2d_conv_axis outputs_y() { return l2d_conv_outputs(int(p.oh), int(p.upsample), tile_phase().y); }

ivec2 tile_at()
{
    uint across = (uint(outputs_x().count) + TILE_W - 1u) / TILE_W;
    return ivec2(gl_WorkGroupID.x % across * TILE_W, gl_WorkGroupID.x / across * TILE_H);
}

float finish_sum(const in uint line, const in uint column, const in float sum,
                 const in uint first_channel)
{
    l2d_conv_axis across = outputs_x(), down = outputs_y();
    ivec2 at = tile_at() + ivec2(line % TILE_W, line / TILE_W);
    uint pixel = uint((down.first + at.y * down.step) * int(p.ow) +
                      across.first + at.x * across.step);
    uint channel = first_channel + column;
    float v = sum;
    if (ACT != ACT_GEGLU)
        v += bias_of(min(channel, num_channels() - 1u));
    return finish_element(tile_row(), pixel, channel, v);
}

float finish_gate(const in uint line, const in uint column, const in float value,
                  const in float gate, const in uint first_channel)
{
    return gated(value, gate, first_channel + column);
}

// Weights k0 and on, of one part of the tile's columns: [panel][k][4 groups][part][4].
void load_weights(out WEIGHTS m, uint k0, uint part)
{
    uint depth = 4u * TAPS * (p.q0 + p.q1), panels = (p.out_quads + 7u) / 8u;
    int panel = int(gl_WorkGroupID.y * PANELS);
    if (ACT == ACT_GEGLU) {
        tensorLayoutNV<5, CLAMP> all = createTensorLayoutNV(5, CLAMP);
        all = setTensorLayoutDimensionNV(all, panels, depth, 4, 2, 4);
        coopMatLoadTensorNV(m, weight, 0,
                            sliceTensorLayoutNV(all, panel, PANELS, int(k0), TILE_K, 0, 4,
                                                int(part), 1, 0, 4),
                            createTensorViewNV(5, false, 1, 0, 2, 3, 4));
    } else {
        tensorLayoutNV<3, CLAMP> all = createTensorLayoutNV(3, CLAMP);
        all = setTensorLayoutDimensionNV(all, panels, depth, L2D_CONV_PANEL);
        coopMatLoadTensorNV(m, weight, 0,
                            sliceTensorLayoutNV(all, panel, PANELS, int(k0), TILE_K, 0,
                                                L2D_CONV_PANEL),
                            createTensorViewNV(3, false, 1, 0, 2));
    }
}

// One tap's share of the sums, from one of the two inputs: its quads, and its first row of weights.
#define ADD_TAP(input, quads, k_first)                                                            \
    {                                                                                             \
        tensorLayoutNV<3, CLAMP> all = createTensorLayoutNV(3, CLAMP);                            \
        all = setTensorLayoutDimensionNV(all, uint(down.count), uint(across.count),               \
                                         4u * (quads));                                           \
        all = setTensorLayoutStrideNV(all, uint(down.step) * p.w * 4u * (quads),                  \
                                      uint(across.step) * 4u * (quads), 1);                       \
        uint base = ((tile_row() * p.h + uint(down.first)) * p.w + uint(across.first)) * (quads); \
        for (uint c = 0; c < 4u * (quads); c += TILE_K) {                                         \
            coopmat<float16_t, gl_ScopeWorkgroup, TILE_M, TILE_K, gl_MatrixUseA> ma;              \
            coopMatLoadTensorNV(ma, input, base,                                                  \
                                sliceTensorLayoutNV(all, at.y + down.shift, TILE_H,               \
                                                    at.x + across.shift, TILE_W, int(c),          \
                                                    TILE_K));                                     \
            for (uint i = 0; i < PARTS; i++) {                                                    \
                WEIGHTS mb;                                                                       \
                load_weights(mb, (k_first) + c, i);                                               \
                acc[i] = coopMatMulAdd(ma, mb, acc[i]);                                           \
            }                                                                                     \
        }                                                                                         \
    }

void main()
{
    SUMS(float) acc[PARTS];
    for (uint i = 0; i < PARTS; i++)
        acc[i] = SUMS(float)(0.0);
    ivec2 at = tile_at(), phase = tile_phase();
    for (uint tap = 0; tap < TAPS; tap++) {
        l2d_conv_axis across = l2d_conv_inputs(int(p.w), int(tap % KSIZE), int(p.pad_x),
                                               int(p.stride), int(p.upsample), phase.x);
        l2d_conv_axis down = l2d_conv_inputs(int(p.h), int(tap / KSIZE), int(p.pad_y),
                                             int(p.stride), int(p.upsample), phase.y);
        uint k_first = 4u * tap * (p.q0 + p.q1);
        // Channels beyond an input's are zero, whatever weights they meet.
        ADD_TAP(x, p.q0, k_first)
        if ((FLAGS & L2D_CONV_X2) != 0u)
            ADD_TAP(x2, p.q1, k_first + 4u * p.q0)
    }

    uint first_channel = gl_WorkGroupID.y * PART_N, channels = num_channels();
    SUMS(float) sums = acc[0];
    if (ACT == ACT_GEGLU) {
        SUMS(float) gates = acc[PARTS - 1u];
        coopMatPerElementNV(sums, sums, finish_gate, gates, first_channel);
    }
    coopMatPerElementNV(sums, sums, finish_sum, first_channel);

    l2d_conv_axis across = outputs_x(), down = outputs_y();
    uint row = (p.flags & L2D_CONV_OUT_RING) != 0u ? rows[tile_row()].ring : tile_row();
    uint base = ((row * p.oh + uint(down.first)) * p.ow + uint(across.first)) * (channels / 4u);
    tensorLayoutNV<3, CLAMP> all = createTensorLayoutNV(3, CLAMP);
    all = setTensorLayoutDimensionNV(all, uint(down.count), uint(across.count), channels);
    all = setTensorLayoutStrideNV(all, uint(down.step) * p.ow * channels,
                                  uint(across.step) * channels, 1);
    coopMatStoreTensorNV(SUMS(float16_t)(sums), y, base,
                         sliceTensorLayoutNV(all, at.y, TILE_H, at.x, TILE_W, int(first_channel),
                                             PART_N));
}
