// SPDX-License-Identifier: Apache-2.0
// Convolutions: what the tiers share. Specialization constants: 0 workgroup size, 1 ksize, 2 stride,
// 3 upsample, 4 activation (enum l2d_act), 5 flags, 6 (T0) quads of output channels in a tile.
#ifndef L2D_SHADERS_CONV_H
#define L2D_SHADERS_CONV_H

#include "shared.h"

#define L2D_CONV_BIAS           1u
#define L2D_CONV_STEP_BIAS      2u
#define L2D_CONV_RESIDUAL       4u
#define L2D_CONV_RESIDUAL_RING  8u
#define L2D_CONV_ACT_LAST       16u     // after the residual
#define L2D_CONV_OUT_RING       32u
#define L2D_CONV_X2             64u

#define L2D_CONV_PANEL 32               // output channels whose weights lie together
#define L2D_CONV_T0_PIXELS 4            // output pixels per lane of conv_t0; 8 compiles twice as long

// Quads are groups of 4 channels.
struct l2d_conv_params {
    u32 num_rows, w, h;         // of the input
    u32 ow, oh;                 // of the output
    u32 q0, q1;                 // quads of x and of x2
    u32 out_quads;              // quads of weight columns: twice the output's with GEGLU
};
L2D_PUSH_CHECK(l2d_conv_params);

#endif
