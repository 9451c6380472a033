// SPDX-License-Identifier: Apache-2.0
// Tiles of maps: [R,h,w,c] at (left, top) of [R,whole_h,whole_w,c].
#ifndef L2D_SHADERS_TILE_H
#define L2D_SHADERS_TILE_H

#include "shared.h"

struct l2d_tile_params {
    u32 num_rows, w, h, whole_w, whole_h, left, top, quads;
    u32 fade_left, fade_right, fade_top, fade_bottom;   // tile_paste: pixels shared with neighbours
};
L2D_PUSH_CHECK(l2d_tile_params);

#endif
