// SPDX-License-Identifier: Apache-2.0
// What the kernels of temporal attention read and write (the cache, binding 2 and maybe 5, is
// theirs to declare) and where a cached frame stands in time.
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "lib/math.glsl"
#include "params/attention.h"
#include "params/row.h"

layout(constant_id = 1) const uint QUADS = 1;   // d / 4
layout(constant_id = 2) const uint WARMUP_ROWS = 0;     // 1: rows are the warm-up's
IN_QUADS(0, qkv)
IN_QUADS(1, pos)
layout(binding = 3, std430) readonly buffer Rows { l2d_row_params rows[]; };
layout(binding = 4, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_temporal_attention_params p; };

const bool WARMUP = WARMUP_ROWS != 0;

// The position of the frame in a slot, of an active row that is no warm-up frame.
uint position_of_slot(l2d_row_params r, uint slot)
{
    return r.own_pos < L2D_WINDOW - 1u || slot < L2D_SINKS ? slot
           : L2D_WINDOW - 1u - (r.kv_slot - slot & 7u);
}
