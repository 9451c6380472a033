// SPDX-License-Identifier: Apache-2.0
// Maps [R,h,w,c] to maps of another size, and tokens from one list to another.
#ifndef L2D_SHADERS_MAP_H
#define L2D_SHADERS_MAP_H

#include "shared.h"

// max_pool, resize; w, h of the input, ow, oh of the output.
struct l2d_map_params {
    u32 num_rows, w, h, ow, oh, quads;
    u32 align_corners;          // resize: 1: corner centres to corner centres
};
L2D_PUSH_CHECK(l2d_map_params);

// copy_quads, of each row: y[to + i] = x[from + i], for i < count; all in quads of channels. A row
// of x begins from_row after the one before, or 0, which is the same one; of y to_row.
struct l2d_copy_params {
    u32 from, to, count, num_rows, from_row, to_row;
};
L2D_PUSH_CHECK(l2d_copy_params);

#endif
