// SPDX-License-Identifier: Apache-2.0
// AutoencoderKL, Stable Diffusion's image codec, with free widths. The latent is the mean of the
// moments: nothing is drawn, so that the same picture gives the same latent.
//
// A picture that needs a tensor of more than 512 MiB, or than the device binds at once, is coded in
// tiles that share a quarter of their side with the next and fade into each other linearly, as
// diffusers' tiled VAE does. That is an approximation: group norms and the attention of the middle
// see a tile only, so that tiles may differ a little in tone. Smaller pictures are coded whole.
// Source: CompVis/latent-diffusion (MIT), diffusers AutoencoderKL; names are diffusers'.
#ifndef L2D_PIPELINE_MODELS_AUTOENCODER_KL_H
#define L2D_PIPELINE_MODELS_AUTOENCODER_KL_H

#include "pipeline/config.h"
#include "pipeline/models/weights.h"

struct l2d_kl_resnet {
    struct l2d_norm norm1, norm2;
    struct l2d_conv conv1, conv2, conv_shortcut;
    bool has_shortcut;
};

struct l2d_kl_mid {
    struct l2d_kl_resnet resnet[2];
    struct l2d_norm group_norm;             // of the attention, which has one head
    struct l2d_conv qkv, to_out;
};

struct l2d_kl_level {
    struct l2d_kl_resnet resnet[L2D_KL_MAX_LAYERS + 1];
    int32_t num_resnets;
    struct l2d_conv change;                 // of size; not in the last level
};

struct l2d_kl_net {
    struct l2d_conv conv_in, conv_out;
    struct l2d_kl_level level[L2D_MAX_LEVELS];      // in forward's order
    struct l2d_kl_mid mid;
    struct l2d_norm conv_norm_out;
};

struct l2d_autoencoder_kl {
    struct l2d_vae_config config;
    struct l2d_kl_net encoder, decoder;
    struct l2d_conv quant_conv;             // to the mean alone, scaled
    struct l2d_conv post_quant_conv;        // of scaled latents
};

/** Declare the weights. Both convolutions next to the latent include its scaling factor. */
void l2d_autoencoder_kl_load(struct l2d_autoencoder_kl *vae, struct l2d_weights *ld,
                             const struct l2d_vae_config *config);

/**
 * images: n f32 [1,H,W,4] in [-1,1] -> scaled latents T [n,H/8,W/8,latent]. Probes image 0, unless
 * it is in tiles.
 */
struct l2d_tensor l2d_autoencoder_kl_encode(struct l2d_graph *graph,
                                            const struct l2d_autoencoder_kl *vae,
                                            const struct l2d_tensor *images, int32_t n);

/** The latent of rows[0] in the ring -> f32 [1,H,W,4] in [-1,1]. */
struct l2d_tensor l2d_autoencoder_kl_decode(struct l2d_graph *graph,
                                            const struct l2d_autoencoder_kl *vae,
                                            struct l2d_tensor ring, struct l2d_tensor rows);

#endif
