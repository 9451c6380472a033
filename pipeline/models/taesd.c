// SPDX-License-Identifier: Apache-2.0
// TAESD as a list of layers. See taesd.h.
#include "pipeline/models/taesd.h"

#include <assert.h>

// The next layer of a net; it takes one number of the sequence, or two with a ReLU behind it.
static struct l2d_taesd_layer *add(struct l2d_taesd_net *net, enum l2d_taesd_kind kind,
                                   int32_t *index)
{
    assert(net->num_layers < L2D_TAESD_MAX_LAYERS);
    struct l2d_taesd_layer *layer = &net->layer[net->num_layers++];
    *layer = (struct l2d_taesd_layer) { .kind = kind, .index = (*index)++ };
    return layer;
}

static void add_conv(struct l2d_taesd_net *net, struct l2d_weights *ld, const char *name,
                     enum l2d_taesd_kind kind, int32_t cin, int32_t cout, int32_t *index)
{
    struct l2d_taesd_layer *layer = add(net, kind, index);
    unsigned flags = kind == L2D_TAESD_CONV ? L2D_LD_BIAS
                   : kind == L2D_TAESD_UP ? L2D_LD_UPSAMPLE : 0;
    l2d_ld_conv(ld, &layer->conv[0], 3, cin, cout, flags, "%s.layers.%d", name, layer->index);
}

static void add_blocks(struct l2d_taesd_net *net, struct l2d_weights *ld, const char *name,
                       int32_t count, int32_t c, int32_t *index)
{
    for (int32_t i = 0; i < count; i++) {
        struct l2d_taesd_layer *layer = add(net, L2D_TAESD_BLOCK, index);
        for (int j = 0; j < 3; j++)
            l2d_ld_conv(ld, &layer->conv[j], 3, c, c, L2D_LD_BIAS, "%s.layers.%d.conv.%d", name,
                        layer->index, 2 * j);
    }
}

void l2d_taesd_load(struct l2d_taesd *vae, struct l2d_weights *ld,
                    const struct l2d_vae_config *config)
{
    int32_t pixel_channels = 3 * config->patch * config->patch;
    int32_t last = config->num_levels - 1;
    *vae = (struct l2d_taesd) {
        .patch = config->patch, .scaling_factor = config->scaling_factor,
    };

    struct l2d_taesd_net *enc = &vae->encoder;
    int32_t index = 0;
    add_conv(enc, ld, "encoder", L2D_TAESD_CONV, pixel_channels, config->enc_channels[0], &index);
    add_blocks(enc, ld, "encoder", config->enc_blocks[0], config->enc_channels[0], &index);
    for (int32_t i = 1; i <= last; i++) {
        add_conv(enc, ld, "encoder", L2D_TAESD_DOWN, config->enc_channels[i - 1],
                 config->enc_channels[i], &index);
        add_blocks(enc, ld, "encoder", config->enc_blocks[i], config->enc_channels[i], &index);
    }
    add_conv(enc, ld, "encoder", L2D_TAESD_CONV, config->enc_channels[last],
             config->latent_channels, &index);
    struct l2d_taesd_layer *to_latent = &enc->layer[enc->num_layers - 1];
    l2d_ld_scale(ld, &to_latent->conv[0], config->scaling_factor);
    to_latent->unlike = config->scaling_factor != 1;

    struct l2d_taesd_net *dec = &vae->decoder;
    index = 0;
    add_conv(dec, ld, "decoder", L2D_TAESD_CONV, config->latent_channels,
             config->dec_channels[last], &index);
    dec->layer[0].relu = true;
    index++;                            // the ReLU
    add_blocks(dec, ld, "decoder", config->dec_blocks[last], config->dec_channels[last], &index);
    for (int32_t i = last - 1; i >= 0; i--) {
        index++;                        // the upsampling, which the conv does as it reads
        add_conv(dec, ld, "decoder", L2D_TAESD_UP, config->dec_channels[i + 1],
                 config->dec_channels[i], &index);
        add_blocks(dec, ld, "decoder", config->dec_blocks[i], config->dec_channels[i], &index);
    }
    add_conv(dec, ld, "decoder", L2D_TAESD_CONV, config->dec_channels[0], pixel_channels, &index);
    dec->layer[dec->num_layers - 1].unlike = pixel_channels % 4 != 0;
}

// relu(x + conv(relu(conv(relu(conv(x))))))
static struct l2d_tensor block(struct l2d_graph *graph, const struct l2d_conv *conv,
                               struct l2d_tensor x)
{
    struct l2d_tensor h = x;
    for (int j = 0; j < 3; j++) {
        struct l2d_conv_desc d = L2D_CONV_DESC(&conv[j], h);
        d.act = L2D_ACT_RELU;
        if (j == 2) {
            d.residual = x;
            d.act_after_residual = true;
        }
        h = l2d_conv2d(graph, &d);
    }
    return h;
}

static struct l2d_tensor forward(struct l2d_graph *graph, const struct l2d_taesd_layer *layer,
                                 struct l2d_tensor x)
{
    if (layer->kind == L2D_TAESD_BLOCK)
        return block(graph, layer->conv, x);
    struct l2d_conv_desc d = L2D_CONV_DESC(&layer->conv[0], x);
    d.stride2 = layer->kind == L2D_TAESD_DOWN;
    d.act = layer->relu ? L2D_ACT_RELU : L2D_ACT_NONE;
    return l2d_conv2d(graph, &d);
}

static struct l2d_tensor run(struct l2d_graph *graph, const struct l2d_taesd_net *net,
                             const char *name, struct l2d_tensor x)
{
    l2d_graph_push(graph, "vae.%s", name);
    for (int32_t i = 0; i < net->num_layers; i++) {
        const struct l2d_taesd_layer *layer = &net->layer[i];
        x = forward(graph, layer, x);
        if (!layer->unlike)
            l2d_graph_probe(graph, l2d_tensor_rows(x, 0, 1), "vae.%s.layers.%d", name,
                            layer->index + layer->relu);
    }
    l2d_graph_pop(graph);
    return x;
}

struct l2d_tensor l2d_taesd_encode(struct l2d_graph *graph, const struct l2d_taesd *vae,
                                   const struct l2d_tensor *images, int32_t n)
{
    struct l2d_tensor x = l2d_image_pack(graph, images, n, vae->patch, L2D_RANGE_0_1);
    return run(graph, &vae->encoder, "encoder", x);
}

struct l2d_tensor l2d_taesd_decode(struct l2d_graph *graph, const struct l2d_taesd *vae,
                                   struct l2d_tensor ring, struct l2d_tensor rows)
{
    struct l2d_tensor z = l2d_latent_decode(graph, ring, rows, vae->scaling_factor);
    z = run(graph, &vae->decoder, "decoder", z);
    return l2d_image_unpack(graph, z, vae->patch, L2D_RANGE_0_1);
}
