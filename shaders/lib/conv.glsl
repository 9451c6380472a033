// SPDX-License-Identifier: Apache-2.0
// What the convolution shaders of all tiers share: operands, padding, epilogue.
#include "lib/precision.glsl"
#include "lib/math.glsl"
#include "params/conv.h"
#include "params/row.h"

#define ACT_SILU       1u       // enum l2d_act
#define ACT_RELU       2u
#define ACT_GELU       3u
#define ACT_QUICK_GELU 4u
#define ACT_GEGLU      5u

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint KSIZE = 1;
layout(constant_id = 2) const uint ACT = 0;
layout(constant_id = 3) const uint FLAGS = 0;
layout(constant_id = 4) const uint PARTS = 1;
layout(binding = 0, std430) readonly buffer X { IN4 x[]; };
layout(binding = 1, std430) readonly buffer X2 { IN4 x2[]; };
layout(binding = 2, std430) readonly buffer Weight { IN4 weight[]; };    // [panel][tap][cin][8]
layout(binding = 3, std430) readonly buffer Bias { vec4 bias[]; };
layout(binding = 4, std430) readonly buffer StepBias { vec4 step_bias[]; };
layout(binding = 5, std430) readonly buffer Residual { IN4 residual[]; };
layout(binding = 6, std430) readonly buffer Rows { l2d_row_params rows[]; };
layout(binding = 7, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_conv_params p; };

const uint TAPS = KSIZE * KSIZE;

// Upsampling, a workgroup has the output pixels whose x and y are both even or odd as the phase is,
// a kernel of their own, and p.ow x p.oh pixels as all of a row.
uint phase()
{
    return (FLAGS & L2D_CONV_UP) != 0u ? gl_WorkGroupID.z / PARTS : 0u;
}

// Where the weights of a quad of columns begin; a panel has the taps of all phases.
uint weights_at(uint column)
{
    uint panel_taps = (FLAGS & L2D_CONV_UP) != 0u ? 4u * TAPS : TAPS;
    return (column / 8u * panel_taps + phase() * TAPS) * (p.q0 + p.q1) * 32u + column % 8u;
}

// What lies in front of an output pixel's first tap.
ivec2 pads()
{
    return (FLAGS & L2D_CONV_UP) != 0u ? ivec2(1u - phase() % 2u, 1u - phase() / 2u)
                                       : ivec2(p.pad_x, p.pad_y);
}

// Input pixel of a tap of an output pixel; false outside, where pixel is some valid one.
bool input_pixel(uint row, uvec2 at, uvec2 tap, out uint pixel)
{
    ivec2 size = ivec2(p.w, p.h), from = ivec2(at * p.stride + tap) - pads();
    uvec2 safe = uvec2(clamp(from, ivec2(0), size - 1));
    pixel = (row * p.h + safe.y) * p.w + safe.x;
    return all(lessThan(uvec2(from), uvec2(size)));
}

// The least value that x and x2 are read as.
vec4 floor_in()
{
    return vec4((p.flags & L2D_CONV_RELU_IN) != 0u ? 0.0 : -3.40282347e38);
}

// Pixel of x2 that goes with a pixel of x.
uint pixel2(uint row, uint pixel)
{
    return (p.flags & L2D_CONV_X2_ONE) != 0u ? row : pixel;
}

vec4 activate(vec4 v)
{
    if (ACT == ACT_SILU)
        return silu4(v);
    if (ACT == ACT_RELU)
        return max(v, 0.0);
    if (ACT == ACT_GELU)
        return gelu4(v);
    if (ACT == ACT_QUICK_GELU)
        return v * sigmoid4(1.702 * v);
    return v;
}

// From here pixels count through all rows, and quad among the output's channels.
void finish(uint pixel, uint quad, uint quads, vec4 v)
{
    const uint RINGS = L2D_CONV_RESIDUAL_RING | L2D_CONV_OUT_RING;
    uint pixels = p.ow * p.oh, row = 0u;
    if ((FLAGS & L2D_CONV_UP) != 0u) {  // where it is in the upsampled picture
        pixel = (pixel / p.ow * 2u + phase() / 2u) * 2u * p.ow + pixel % p.ow * 2u + phase() % 2u;
        pixels *= 4u;
    }
    uint rest = pixel;
    vec4 added = vec4(0.0);
    if ((FLAGS & L2D_CONV_STEP_BIAS) != 0u || (p.flags & RINGS) != 0u) {
        row = pixel / pixels;           // which takes its time
        rest = pixel % pixels;
    }
    if ((FLAGS & L2D_CONV_STEP_BIAS) != 0u)
        v += step_bias[rows[row].step * quads + quad];
    if ((FLAGS & L2D_CONV_RESIDUAL) != 0u) {
        uint r = (p.flags & L2D_CONV_RESIDUAL_RING) != 0u ? rows[row].ring : row;
        added = LOAD4(residual[(r * pixels + rest) * quads + quad]);
    }
    bool last = (p.flags & L2D_CONV_ACT_LAST) != 0u;
    v = activate(last ? v + added : v) + (last ? vec4(0.0) : added);
    uint r = (p.flags & L2D_CONV_OUT_RING) != 0u ? rows[row].ring : row;
    y[(r * pixels + rest) * quads + quad] = STORE4(v);
}

// Two neighbouring quads of weight columns; with GEGLU a value and its gate.
void finish2(uint pixel, uint column, vec4 v0, vec4 v1)
{
    if (ACT == ACT_GEGLU) {
        uint quads = p.out_quads / 2u, quad = column / 2u;
        if (quad >= quads)
            return;
        if ((FLAGS & L2D_CONV_BIAS) != 0u) {
            v0 += bias[quad];
            v1 += bias[quads + quad];
        }
        finish(pixel, quad, quads, v0 * gelu4(v1));
        return;
    }
    if (column < p.out_quads)
        finish(pixel, column, p.out_quads,
               (FLAGS & L2D_CONV_BIAS) != 0u ? v0 + bias[column] : v0);
    if (column + 1u < p.out_quads)
        finish(pixel, column + 1u, p.out_quads,
               (FLAGS & L2D_CONV_BIAS) != 0u ? v1 + bias[column + 1u] : v1);
}
