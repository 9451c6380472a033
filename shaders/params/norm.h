// SPDX-License-Identifier: Apache-2.0
// GroupNorm, in two dispatches (statistics, application) or in one, and LayerNorm.
#ifndef L2D_SHADERS_NORM_H
#define L2D_SHADERS_NORM_H

#include "shared.h"

// Bindings of group_norm_stats: x [R,pixels,c0] T, x2 [R,pixels,c1] T, stats f32 [R,groups,2]
// (mean, 1/deviation); of group_norm_apply: x, x2, stats, weight f32 [c0+c1], bias f32 [c0+c1],
// residual [R,pixels,c0+c1] T, y T; of group_norm_t0 and _t1: the same without stats.
// group_norm_stats_t1 has stats f32 [R,parts,groups,2] (mean, sum of squared differences).
struct l2d_group_norm_params {
    u32 c0, c1, pixels;         // c1 = 0: there is no x2
    u32 groups;
    u32 pixels_per_item;        // apply: pixels that one invocation walks through
    u32 part_pixels;            // stats_t1: of a part of a group
    f32 eps;
};
L2D_PUSH_CHECK(l2d_group_norm_params);

struct l2d_layer_norm_params {
    u32 tokens, channels;
    f32 eps;
};
L2D_PUSH_CHECK(l2d_layer_norm_params);

#endif
