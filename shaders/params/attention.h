// SPDX-License-Identifier: Apache-2.0
// Spatial, cross and temporal attention.
#ifndef L2D_SHADERS_ATTENTION_H
#define L2D_SHADERS_ATTENTION_H

#include "shared.h"

// Strides and offsets are in quads of channels (c / 4).
struct l2d_attention_params {
    u32 queries, keys;          // tokens per row
    u32 heads;
    u32 q_stride, q_first;
    u32 kv_stride, k_first, v_first;
    u32 kv_row_stride;          // 0: all rows share the keys and values
    f32 scale;                  // 1/sqrt(d)
};
L2D_PUSH_CHECK(l2d_attention_params);

// The words of a head in a slot of a cache of bytes: d / 4 of the key and d / 4 of the value, four
// signed bytes each, the first lowest; then one of two steps, by which a byte is multiplied: of the
// key's, in the lower half, the upper half of a float, and of the value's in the upper half.
#define L2D_KV_HEAD_WORDS(d) ((d) / 2 + 1)

struct l2d_temporal_attention_params {
    u32 pixels, heads, first_row, num_rows;     // num_rows at the same time
    u32 turns;                  // then as many more, so often; see temporal_lanes.glsl
    f32 scale;
};
L2D_PUSH_CHECK(l2d_temporal_attention_params);

#endif
