// SPDX-License-Identifier: Apache-2.0
// Operations on latents in the ring: f32 [L2D_RING][quads][4].
#ifndef L2D_SHADERS_LATENT_H
#define L2D_SHADERS_LATENT_H

#include "shared.h"

struct l2d_latent_params {
    u32 quads;                  // h*w*c/4 of one latent
    u32 num_rows;
    u32 write_x0;               // lcm_step: the x0 operand exists
    f32 scale;                  // of the codec's latents
};
L2D_PUSH_CHECK(l2d_latent_params);

#endif
