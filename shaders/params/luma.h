// SPDX-License-Identifier: Apache-2.0
// The luma structure map. Its three passes share the parameters.
#ifndef L2D_SHADERS_LUMA_H
#define L2D_SHADERS_LUMA_H

#include "shared.h"

#define L2D_LUMA_BLOCK 8
#define L2D_LUMA_RADIUS 4

struct l2d_luma_params {
    u32 w, h;                   // of the picture; multiples of L2D_LUMA_BLOCK
    f32 tap[5];                 // of the blur, centre first, normalised over 9 taps
};
L2D_PUSH_CHECK(l2d_luma_params);

#endif
