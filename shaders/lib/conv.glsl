// SPDX-License-Identifier: Apache-2.0
// What the convolution shaders of all tiers share: operands, padding, epilogue.
#include "lib/precision.glsl"
#include "params/conv.h"
#include "params/row.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint KSIZE = 1;
layout(constant_id = 2) const uint ACT = 0;
layout(constant_id = 3) const uint FLAGS = 0;
layout(constant_id = 4) const uint PARTS = 1;
IN_QUADS(0, x)
IN_QUADS(1, x2)
IN_QUADS(2, weight)                     // [panel][tap][cin][8]
IN_QUADS_F32(3, bias)
IN_QUADS_F32(4, step_bias)
IN_QUADS(5, residual)
layout(binding = 6, std430) readonly buffer Rows { l2d_row_params rows[]; };
layout(binding = 7, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_conv_params p; };

#include "lib/activate.glsl"

const uint TAPS = KSIZE * KSIZE;

// Upsampling, a workgroup has the output pixels whose x and y are both even or odd as the phase is,
// a kernel of their own, and p.ow x p.oh pixels as all of a row.
uint phase()
{
    return (FLAGS & L2D_CONV_UP) != 0u ? gl_WorkGroupID.z / PARTS : 0u;
}

// A panel has the taps of all phases; its weights in quads. In bytes a quad is a word, and a panel
// begins with the steps of its columns.
const bool BYTES = (FLAGS & L2D_CONV_BYTES) != 0u;
const uint STEP_WORDS = L2D_CONV_PANEL;

uint panel_quads()
{
    return ((FLAGS & L2D_CONV_UP) != 0u ? 4u * TAPS : TAPS) * (p.q0 + p.q1) * 32u;
}

// Where the weights of a quad of columns begin.
uint weights_at(uint column)
{
    uint steps = BYTES ? (column / 8u + 1u) * STEP_WORDS : 0u;
    return column / 8u * panel_quads() + phase() * TAPS * (p.q0 + p.q1) * 32u + column % 8u +
           steps;
}

// In bytes, where the first of the steps of a quad of columns is.
uint steps_at(uint column)
{
    return column / 8u * (panel_quads() + STEP_WORDS) + column % 8u * 4u;
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

// Where a pixel of the result, which counts through all rows, has what is added to it and goes to.
struct Place {
    uint step, residual, out_pixel;
};

Place place_of(uint pixel)
{
    const uint RINGS = L2D_CONV_RESIDUAL_RING | L2D_CONV_OUT_RING;
    uint pixels = p.ow * p.oh;
    if ((FLAGS & L2D_CONV_UP) != 0u) {  // where it is in the upsampled picture
        pixel = (pixel / p.ow * 2u + phase() / 2u) * 2u * p.ow + pixel % p.ow * 2u + phase() % 2u;
        pixels *= 4u;
    }
    Place at = Place(0u, pixel, pixel);
    if ((FLAGS & L2D_CONV_STEP_BIAS) != 0u || (p.flags & RINGS) != 0u) {
        uint row = pixel / pixels, rest = pixel % pixels;       // which takes its time
        at.step = rows[row].step;
        if ((p.flags & L2D_CONV_RESIDUAL_RING) != 0u)
            at.residual = rows[row].ring * pixels + rest;
        if ((p.flags & L2D_CONV_OUT_RING) != 0u)
            at.out_pixel = rows[row].ring * pixels + rest;
    }
    return at;
}

// quad: of the result's channels.
void finish(Place at, uint quad, uint quads, vec4 v)
{
    vec4 added = vec4(0.0);
    if ((FLAGS & L2D_CONV_STEP_BIAS) != 0u)
        v += FETCH4_F32(step_bias, at.step * quads + quad);
    if ((FLAGS & L2D_CONV_RESIDUAL) != 0u)
        added = FETCH4(residual, at.residual * quads + quad);
    bool last = (p.flags & L2D_CONV_ACT_LAST) != 0u;
    v = activate(last ? v + added : v) + (last ? vec4(0.0) : added);
    y[at.out_pixel * quads + quad] = STORE4(v);
}

// The bias of two neighbouring quads of weight columns, of which the second may not be there.
void bias_of(uint column, out vec4 b0, out vec4 b1)
{
    b0 = b1 = vec4(0.0);
    if ((FLAGS & L2D_CONV_BIAS) == 0u)
        return;
    uint first = ACT == ACT_GEGLU ? column / 2u : column;
    uint second = ACT == ACT_GEGLU ? p.out_quads / 2u + first : column + 1u;
    b0 = FETCH4_F32(bias, first);
    if (second < p.out_quads)
        b1 = FETCH4_F32(bias, second);
}

// Two neighbouring quads of weight columns with their bias; with GEGLU a value and its gate.
void finish_pair(Place at, uint column, vec4 v0, vec4 v1)
{
    if (ACT == ACT_GEGLU) {
        finish(at, column / 2u, p.out_quads / 2u, v0 * gelu4(v1));
        return;
    }
    finish(at, column, p.out_quads, v0);
    if (column + 1u < p.out_quads)
        finish(at, column + 1u, p.out_quads, v1);
}

// The same without their bias; the first may not be there.
void finish2(Place at, uint column, vec4 v0, vec4 v1)
{
    vec4 b0, b1;
    if (column >= p.out_quads)
        return;
    bias_of(column, b0, b1);
    finish_pair(at, column, v0 + b0, v1 + b1);
}
