// SPDX-License-Identifier: Apache-2.0
// Products of two pictures.
#ifndef L2D_SHADERS_SIMILAR_H
#define L2D_SHADERS_SIMILAR_H

#include "shared.h"

#define L2D_SIMILAR_SUMS 1024           // partial sums; each adds pixels that far apart

struct l2d_similar_params {
    u32 pixels;
};
L2D_PUSH_CHECK(l2d_similar_params);

#endif
