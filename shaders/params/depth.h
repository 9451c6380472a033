// SPDX-License-Identifier: Apache-2.0
// Depth maps T [ring][side][side][4], depth in channel 0, and their range: f32 least, greatest,
// 1 once there is one, 0.
#ifndef L2D_SHADERS_DEPTH_H
#define L2D_SHADERS_DEPTH_H

#include "shared.h"

#define L2D_DEPTH_NO_RANGE 1e-6         // a range of at most this is none

struct l2d_depth_range_params {
    u32 pixels;                 // of a map
    u32 all;                    // 1: of those of the warm-up together, 0: of that of rows[0]
    f32 rate;                   // what a new range has of the kept one; 1: all
};
L2D_PUSH_CHECK(l2d_depth_range_params);

struct l2d_depth_structure_params {
    u32 side;                   // of a map
    u32 w, h;                   // of the picture
};
L2D_PUSH_CHECK(l2d_depth_structure_params);

#endif
