// SPDX-License-Identifier: Apache-2.0
// The tiny autoencoder: TAESD's shape with free widths and an optional patch (pixel-unshuffle).
// Source: madebyollin/taesd (MIT), diffusers AutoencoderTiny; names are diffusers'.
#ifndef L2D_PIPELINE_MODELS_TAESD_H
#define L2D_PIPELINE_MODELS_TAESD_H

#include "pipeline/config.h"
#include "pipeline/models/weights.h"

#define L2D_TAESD_MAX_LAYERS 80

enum l2d_taesd_kind { L2D_TAESD_CONV, L2D_TAESD_DOWN, L2D_TAESD_UP, L2D_TAESD_BLOCK };

struct l2d_taesd_layer {
    enum l2d_taesd_kind kind;
    int32_t index;                  // N of "encoder.layers.N"
    bool relu;                      // a CONV followed by a ReLU, which has a number of its own
    bool unlike;                    // scaled or padded, so not what its name says: no probe
    struct l2d_conv conv[3];        // one, or the three of a block
};

struct l2d_taesd_net {
    struct l2d_taesd_layer layer[L2D_TAESD_MAX_LAYERS];
    int32_t num_layers;
};

struct l2d_taesd {
    struct l2d_taesd_net encoder, decoder;
    int32_t patch;
    float scaling_factor;
};

/** Declare the weights. The encoder's last layer includes the scaling factor of latents. */
void l2d_taesd_load(struct l2d_taesd *vae, struct l2d_weights *ld,
                    const struct l2d_vae_config *config);

/** images: n f32 [1,H,W,4] in [-1,1] -> scaled latents T [n,H/8,W/8,latent]. Probes image 0. */
struct l2d_tensor l2d_taesd_encode(struct l2d_graph *graph, const struct l2d_taesd *vae,
                                   const struct l2d_tensor *images, int32_t n);

/** The latent of rows[0] in the ring -> f32 [1,H,W,4] in [-1,1]. */
struct l2d_tensor l2d_taesd_decode(struct l2d_graph *graph, const struct l2d_taesd *vae,
                                   struct l2d_tensor ring, struct l2d_tensor rows);

#endif
