// SPDX-License-Identifier: Apache-2.0
// Where a tap of a convolution finds its input, as tiers that load by coordinates ask for it: a
// tile of outputs times a run of channels is one slice of a tensor, and what lies outside of the
// tensor is zero. All along one axis; C and GLSL read the same text, so the host's tests are the
// shader's.
#ifndef L2D_SHADERS_CONV_TENSOR_H
#define L2D_SHADERS_CONV_TENSOR_H

#include "shared.h"

#ifdef __STDC_VERSION__
#define L2D_FUNCTION static inline
#else
#define L2D_FUNCTION
#endif

// Positions first, first + step, ..., count of them. An output's is its own number plus shift.
struct l2d_conv_axis {
    i32 first, step, count, shift;
};

// Of the output: with upsampling every second one, which all read alike; else all of `size`.
L2D_FUNCTION L2D_STRUCT(l2d_conv_axis) l2d_conv_outputs(i32 size, i32 upsample, i32 phase)
{
    L2D_STRUCT(l2d_conv_axis) axis;
    axis.first = upsample * phase;
    axis.step = 1 + upsample;
    axis.count = (size - axis.first + upsample) / axis.step;
    axis.shift = 0;
    return axis;
}

// Of an input of `size`, for a tap. Doubling a row and taking every second output of it, or every
// second input, both leave a half of a position: its floor is the shift, for stride 2 the rest is
// where the positions begin.
L2D_FUNCTION L2D_STRUCT(l2d_conv_axis) l2d_conv_inputs(i32 size, i32 tap, i32 pad, i32 stride,
                                                       i32 upsample, i32 phase)
{
    L2D_STRUCT(l2d_conv_axis) axis;
    i32 from = tap - pad + upsample * phase, odd = from & 1;
    axis.first = stride == 2 ? odd : 0;
    axis.step = stride;
    axis.count = (size - axis.first + stride - 1) / stride;
    axis.shift = stride == 2 || upsample != 0 ? (from - odd) / 2 : from;
    return axis;
}

#endif
