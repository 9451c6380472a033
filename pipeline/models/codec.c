// SPDX-License-Identifier: Apache-2.0
// One of two. See codec.h.
#include "pipeline/models/codec.h"

void l2d_codec_load(struct l2d_codec *codec, struct l2d_weights *ld,
                    const struct l2d_vae_config *config)
{
    codec->arch = config->arch;
    if (config->arch == L2D_VAE_KL)
        l2d_autoencoder_kl_load(&codec->kl, ld, config);
    else
        l2d_taesd_load(&codec->taesd, ld, config);
}

struct l2d_tensor l2d_codec_encode(struct l2d_graph *graph, const struct l2d_codec *codec,
                                   const struct l2d_tensor *images, int32_t n)
{
    return codec->arch == L2D_VAE_KL ? l2d_autoencoder_kl_encode(graph, &codec->kl, images, n)
                                     : l2d_taesd_encode(graph, &codec->taesd, images, n);
}

struct l2d_tensor l2d_codec_decode(struct l2d_graph *graph, const struct l2d_codec *codec,
                                   struct l2d_tensor ring, struct l2d_tensor rows)
{
    return codec->arch == L2D_VAE_KL ? l2d_autoencoder_kl_decode(graph, &codec->kl, ring, rows)
                                     : l2d_taesd_decode(graph, &codec->taesd, ring, rows);
}
