// SPDX-License-Identifier: Apache-2.0
// Convolutions: what the tiers share. Specialization constants: 0 workgroup size, 1 ksize,
// 2 activation (enum l2d_act), 3 flags, 4 parts of the sum; from 5 on what the tier's tile is (T0:
// its quads of output channels; T1 to T3: see their shaders). Each variant takes a CPU driver 0.3 s
// to compile, so what costs little to decide at run time is in the parameters.
#ifndef L2D_SHADERS_CONV_H
#define L2D_SHADERS_CONV_H

#include "shared.h"

// The specialized flags: which operands there are.
#define L2D_CONV_BIAS           1u
#define L2D_CONV_STEP_BIAS      2u
#define L2D_CONV_RESIDUAL       4u
#define L2D_CONV_X2             8u
#define L2D_CONV_UP             16u     // nearest x2 first: see l2d_conv_fold in kernels.h
#define L2D_CONV_BYTES          32u     // weights are bytes: see conv_pack.c; not in tier 0
// Those of the parameters.
#define L2D_CONV_RESIDUAL_RING  1u
#define L2D_CONV_ACT_LAST       2u      // after the residual
#define L2D_CONV_OUT_RING       4u
#define L2D_CONV_RELU_IN        8u      // x and x2 are read as relu(x), relu(x2)
#define L2D_CONV_X2_ONE         16u     // x2 has one pixel a row, which goes with all of x

#define L2D_CONV_PART 32                // parts of a sum begin at multiples of so many channels
#define L2D_CONV_UNIT 64                // in tier 2: of one tap and input
#define L2D_CONV_NOWHERE 0x07fff000u    // an octet of channels behind all buffers, in tier 2
#define L2D_CONV_PANEL 32               // output channels whose weights lie together
#define L2D_CONV_T0_PIXELS 4            // output pixels per lane; 8 compile twice as long

// Quads are groups of 4 channels.
struct l2d_conv_params {
    u32 num_rows, w, h;         // of the input
    u32 ow, oh;                 // of the output; before it is upsampled
    u32 q0, q1;                 // quads of x and of x2
    u32 out_quads;              // quads of weight columns: twice the output's with GEGLU
    u32 stride;                 // 1 or 2
    u32 pad_x, pad_y;           // in front; behind it is what the output's size makes it
    u32 flags;                  // the second group above
    u32 part_quads;             // in tier 1: of a part of the sum over taps and input channels
};
L2D_PUSH_CHECK(l2d_conv_params);

#endif
