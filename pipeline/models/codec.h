// SPDX-License-Identifier: Apache-2.0
// The image codec of a model, whichever it is.
#ifndef L2D_PIPELINE_MODELS_CODEC_H
#define L2D_PIPELINE_MODELS_CODEC_H

#include "pipeline/models/autoencoder_kl.h"
#include "pipeline/models/taesd.h"

struct l2d_codec {
    enum l2d_vae_arch arch;
    union {
        struct l2d_taesd taesd;
        struct l2d_autoencoder_kl kl;
    };
};

/** Declare the weights. */
void l2d_codec_load(struct l2d_codec *codec, struct l2d_weights *ld,
                    const struct l2d_vae_config *config);

/** images: n f32 [1,H,W,4] in [-1,1] -> scaled latents T [n,H/8,W/8,latent]. Probes image 0. */
struct l2d_tensor l2d_codec_encode(struct l2d_graph *graph, const struct l2d_codec *codec,
                                   const struct l2d_tensor *images, int32_t n);

/** The latent of rows[0] in the ring -> f32 [1,H,W,4] in [-1,1]. */
struct l2d_tensor l2d_codec_decode(struct l2d_graph *graph, const struct l2d_codec *codec,
                                   struct l2d_tensor ring, struct l2d_tensor rows);

#endif
