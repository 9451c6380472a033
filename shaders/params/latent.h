// SPDX-License-Identifier: Apache-2.0
// Operations on latents in the ring: f32 [ring][quads][4].
#ifndef L2D_SHADERS_LATENT_H
#define L2D_SHADERS_LATENT_H

#include "shared.h"

// lcm_step: what guidance pushes away from; a specialization constant. 0: there is none.
#define L2D_GUIDE_NEGATIVE 1    // what the denoiser predicts for the negative prompt
#define L2D_GUIDE_ORIGIN 2      // the latent that the frame came from
                                // both: rows of step 0 take their origin from the negative prompt

struct l2d_latent_params {
    u32 quads;                  // h*w*c/4 of one latent
    u32 num_rows;
    u32 write_x0;               // lcm_step: the x0 operand exists
    u32 write_origin;           // latent_noise: the origin operand exists
    f32 scale;                  // of the codec's latents
    f32 guidance, delta;        // lcm_step
};
L2D_PUSH_CHECK(l2d_latent_params);

#endif
