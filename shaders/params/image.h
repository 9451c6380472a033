// SPDX-License-Identifier: Apache-2.0
// Between f32 pictures [H][W][4] in [-1,1] and the codec's patches [H/patch][W/patch][channels].
#ifndef L2D_SHADERS_IMAGE_H
#define L2D_SHADERS_IMAGE_H

#include "shared.h"

struct l2d_image_params {
    u32 w, h;                   // of the patched tensor
    u32 patch_size, channels;        // channels >= 3*patch^2, a multiple of 4
    u32 row;                    // image_pack: which row of the result
    f32 scale, shift;           // from what is read to what is written
};
L2D_PUSH_CHECK(l2d_image_params);

struct l2d_enlarge_params {
    u32 w, h;                   // of the picture
    u32 ow, oh;                 // of the larger one
};
L2D_PUSH_CHECK(l2d_enlarge_params);

#endif
