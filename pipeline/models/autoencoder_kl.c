// SPDX-License-Identifier: Apache-2.0
// AutoencoderKL in forward's order. See autoencoder_kl.h.
#include "pipeline/models/autoencoder_kl.h"

#include <math.h>
#include <stdio.h>

#include "gpu/device.h"

#define EPS 1e-6f
#define LEVELS L2D_MAX_LEVELS
#define MAX_TENSOR_BYTES (UINT64_C(512) << 20)      // what needs more is coded in tiles
#define MIN_TILE 16                     // latents a side: below, little is left between the shares

typedef struct l2d_tensor T;

// ---- loading

static void load_resnet(struct l2d_kl_resnet *r, struct l2d_weights *ld, int32_t cin, int32_t cout,
                        const char *base, int32_t index)
{
    l2d_ld_norm(ld, &r->norm1, cin, "%s.resnets.%d.norm1", base, index);
    l2d_ld_conv(ld, &r->conv1, 3, cin, cout, L2D_LD_BIAS, "%s.resnets.%d.conv1", base, index);
    l2d_ld_norm(ld, &r->norm2, cout, "%s.resnets.%d.norm2", base, index);
    l2d_ld_conv(ld, &r->conv2, 3, cout, cout, L2D_LD_BIAS, "%s.resnets.%d.conv2", base, index);
    r->has_shortcut = cin != cout;
    if (r->has_shortcut)
        l2d_ld_conv(ld, &r->conv_shortcut, 1, cin, cout, L2D_LD_BIAS,
                    "%s.resnets.%d.conv_shortcut", base, index);
}

static void load_mid(struct l2d_kl_mid *m, struct l2d_weights *ld, int32_t c, const char *net)
{
    static const char *const qkv[] = { "to_q", "to_k", "to_v" };
    char base[48];
    snprintf(base, sizeof(base), "%s.mid_block", net);
    load_resnet(&m->resnet[0], ld, c, c, base, 0);
    l2d_ld_norm(ld, &m->group_norm, c, "%s.attentions.0.group_norm", base);
    l2d_ld_linears(ld, &m->qkv, c, c, L2D_LD_BIAS, qkv, 3, "%s.attentions.0", base);
    l2d_ld_conv(ld, &m->to_out, 1, c, c, L2D_LD_BIAS, "%s.attentions.0.to_out.0", base);
    load_resnet(&m->resnet[1], ld, c, c, base, 1);
}

// Number i in forward's order, from cin channels to cout.
static void load_level(struct l2d_kl_level *l, struct l2d_weights *ld, int32_t i, int32_t count,
                       int32_t cin, int32_t cout, bool down)
{
    char base[48];
    snprintf(base, sizeof(base), "%s.%d", down ? "encoder.down_blocks" : "decoder.up_blocks", i);
    l->num_resnets = count;
    for (int32_t j = 0; j < count; j++)
        load_resnet(&l->resnet[j], ld, j == 0 ? cin : cout, cout, base, j);
    if (i < LEVELS - 1)
        l2d_ld_conv(ld, &l->change, 3, cout, cout, L2D_LD_BIAS | (down ? 0 : L2D_LD_UPSAMPLE),
                    "%s.%s.0.conv", base,
                    down ? "downsamplers" : "upsamplers");
}

void l2d_autoencoder_kl_load(struct l2d_autoencoder_kl *vae, struct l2d_weights *ld,
                             const struct l2d_vae_config *config)
{
    *vae = (struct l2d_autoencoder_kl) { .config = *config };
    const int32_t *c = config->enc_channels, last = LEVELS - 1;
    int32_t latent = config->latent_channels;

    struct l2d_kl_net *enc = &vae->encoder;
    l2d_ld_conv(ld, &enc->conv_in, 3, 3, c[0], L2D_LD_BIAS, "encoder.conv_in");
    for (int32_t i = 0; i <= last; i++)
        load_level(&enc->level[i], ld, i, config->enc_blocks[i], c[i > 0 ? i - 1 : 0], c[i], true);
    load_mid(&enc->mid, ld, c[last], "encoder");
    l2d_ld_norm(ld, &enc->conv_norm_out, c[last], "encoder.conv_norm_out");
    l2d_ld_conv(ld, &enc->conv_out, 3, c[last], 2 * latent, L2D_LD_BIAS, "encoder.conv_out");
    l2d_ld_conv(ld, &vae->quant_conv, 1, 2 * latent, latent, L2D_LD_BIAS | L2D_LD_FIRST_HALF,
                "quant_conv");
    l2d_ld_scale(ld, &vae->quant_conv, config->scaling_factor);

    struct l2d_kl_net *dec = &vae->decoder;
    l2d_ld_conv(ld, &vae->post_quant_conv, 1, latent, latent, L2D_LD_BIAS, "post_quant_conv");
    l2d_ld_scale_input(ld, &vae->post_quant_conv, 1 / config->scaling_factor);
    l2d_ld_conv(ld, &dec->conv_in, 3, latent, c[last], L2D_LD_BIAS, "decoder.conv_in");
    load_mid(&dec->mid, ld, c[last], "decoder");
    for (int32_t i = 0; i <= last; i++)
        load_level(&dec->level[i], ld, i, config->dec_blocks[last - i],
                   c[i > 0 ? last - i + 1 : last], c[last - i], false);
    l2d_ld_norm(ld, &dec->conv_norm_out, c[0], "decoder.conv_norm_out");
    l2d_ld_conv(ld, &dec->conv_out, 3, c[0], 3, L2D_LD_BIAS, "decoder.conv_out");
}

// ---- forward

struct kl {                             // what every block needs
    struct l2d_graph *graph;
    int32_t groups;
};

static void probe(struct kl k, T x, const char *base, const char *list, int32_t index)
{
    l2d_graph_probe(k.graph, l2d_tensor_rows(x, 0, 1), "vae.%s.%s.%d", base, list, index);
}

static T norm_silu(struct kl k, const struct l2d_norm *norm, T x)
{
    return l2d_group_norm(k.graph, norm, x, L2D_NO_TENSOR, k.groups, EPS, L2D_ACT_SILU);
}

// conv(x) + residual
static T add_conv(struct kl k, const struct l2d_conv *conv, T x, T residual)
{
    struct l2d_conv_desc d = L2D_CONV_DESC(conv, x);
    d.residual = residual;
    return l2d_conv2d(k.graph, &d);
}

static T resnet(struct kl k, const struct l2d_kl_resnet *r, T x, const char *base, int32_t index)
{
    T h = l2d_conv2d(k.graph, &L2D_CONV_DESC(&r->conv1, norm_silu(k, &r->norm1, x)));
    if (r->has_shortcut)
        x = l2d_conv2d(k.graph, &L2D_CONV_DESC(&r->conv_shortcut, x));
    x = add_conv(k, &r->conv2, norm_silu(k, &r->norm2, h), x);
    probe(k, x, base, "resnets", index);
    return x;
}

static T mid(struct kl k, const struct l2d_kl_mid *m, T x, const char *base)
{
    x = resnet(k, &m->resnet[0], x, base, 0);
    T h = l2d_group_norm(k.graph, &m->group_norm, x, L2D_NO_TENSOR, k.groups, EPS, L2D_ACT_NONE);
    h = l2d_conv2d(k.graph, &L2D_CONV_DESC(&m->qkv, h));
    h = l2d_attention(k.graph, h, 0, h, x.c, 2 * x.c, x.c, 1, false);
    x = add_conv(k, &m->to_out, h, x);
    probe(k, x, base, "attentions", 0);
    return resnet(k, &m->resnet[1], x, base, 1);
}

static T level(struct kl k, const struct l2d_kl_level *l, T x, int32_t i, bool down)
{
    char base[48];
    snprintf(base, sizeof(base), "%s.%d", down ? "encoder.down_blocks" : "decoder.up_blocks", i);
    l2d_graph_push(k.graph, "%s", base);
    for (int32_t j = 0; j < l->num_resnets; j++)
        x = resnet(k, &l->resnet[j], x, base, j);
    if (i < LEVELS - 1) {               // down: padded on the right and below alone
        struct l2d_conv_desc d = L2D_CONV_DESC(&l->change, x);
        d.stride2 = d.pad_same = down;
        x = l2d_conv2d(k.graph, &d);
        probe(k, x, base, down ? "downsamplers" : "upsamplers", 0);
    }
    l2d_graph_pop(k.graph);
    return x;
}

// pixels [n,H,W,4] -> scaled latents
static T encode(struct kl k, const struct l2d_autoencoder_kl *vae, T x)
{
    const struct l2d_kl_net *enc = &vae->encoder;
    x = l2d_conv2d(k.graph, &L2D_CONV_DESC(&enc->conv_in, x));
    l2d_graph_probe(k.graph, l2d_tensor_rows(x, 0, 1), "vae.encoder.conv_in");
    for (int32_t i = 0; i < LEVELS; i++)
        x = level(k, &enc->level[i], x, i, true);
    x = mid(k, &enc->mid, x, "encoder.mid_block");
    x = l2d_conv2d(k.graph, &L2D_CONV_DESC(&enc->conv_out, norm_silu(k, &enc->conv_norm_out, x)));
    l2d_graph_probe(k.graph, l2d_tensor_rows(x, 0, 1), "vae.encoder.conv_out");
    return l2d_conv2d(k.graph, &L2D_CONV_DESC(&vae->quant_conv, x));
}

// scaled latent -> pixels [1,H,W,4]
static T decode(struct kl k, const struct l2d_autoencoder_kl *vae, T x)
{
    const struct l2d_kl_net *dec = &vae->decoder;
    x = l2d_conv2d(k.graph, &L2D_CONV_DESC(&vae->post_quant_conv, x));
    x = l2d_conv2d(k.graph, &L2D_CONV_DESC(&dec->conv_in, x));
    l2d_graph_probe(k.graph, x, "vae.decoder.conv_in");
    x = mid(k, &dec->mid, x, "decoder.mid_block");
    for (int32_t i = 0; i < LEVELS; i++)
        x = level(k, &dec->level[i], x, i, false);
    return l2d_conv2d(k.graph,
                      &L2D_CONV_DESC(&dec->conv_out, norm_silu(k, &dec->conv_norm_out, x)));
}

// ---- tiles

// A side of the latent: tiles of one size, at most `most` latents, that share a quarter of that, or
// one or two more, with the next.
struct cuts {
    int32_t whole, count, size;
};

static struct cuts cut(int32_t whole, int32_t most)
{
    if (whole <= most)
        return (struct cuts) { whole, 1, whole };
    int32_t shared = most / 4, count = (whole - shared - 1) / (most - shared) + 1;
    return (struct cuts) { whole, count, (whole + (count - 1) * shared - 1) / count + 1 };
}

static int32_t begin_of(const struct cuts *c, int32_t i)
{
    return c->count > 1 ? (c->whole - c->size) * i / (c->count - 1) : 0;
}

// What tile i shares with the one before.
static int32_t shared_before(const struct cuts *c, int32_t i)
{
    return i > 0 && i < c->count ? begin_of(c, i - 1) + c->size - begin_of(c, i) : 0;
}

// Tile i, j; unit is 1 for latents, 8 for pixels.
static struct l2d_tile tile_at(const struct cuts *y, const struct cuts *x, int32_t i, int32_t j,
                               int32_t unit)
{
    return (struct l2d_tile) {
        .left = unit * begin_of(x, j), .top = unit * begin_of(y, i),
        .w = unit * x->size, .h = unit * y->size,
        .fade_left = unit * shared_before(x, j), .fade_right = unit * shared_before(x, j + 1),
        .fade_top = unit * shared_before(y, i), .fade_bottom = unit * shared_before(y, i + 1),
    };
}

// Bytes of the largest tensor on the way, for each latent: 64 pixels.
static uint64_t widest(const struct l2d_vae_config *config, enum l2d_dtype type, bool down)
{
    const int32_t *c = config->enc_channels, last = LEVELS - 1;
    int32_t most = 3 * c[last];                         // qkv
    for (int32_t i = 0; i <= last; i++) {
        int32_t other = c[down ? (i > 0 ? i - 1 : 0) : (i < last ? i + 1 : last)];
        int32_t here = (c[i] > other ? c[i] : other) << 2 * (last - i);
        most = here > most ? here : most;
    }
    return (uint64_t) most * l2d_dtype_bytes(type);
}

// One way or the other, in one piece or in tiles.
static T code(struct kl k, const struct l2d_autoencoder_kl *vae, T from, bool down)
{
    struct l2d_graph *g = k.graph;
    uint64_t limit = l2d_gpu_caps(l2d_graph_gpu(g))->max_range_bytes;
    uint64_t each = (uint64_t) from.rows * widest(&vae->config, l2d_graph_precision(g), down);
    int32_t in = down ? L2D_LATENT_SCALE : 1, out = down ? 1 : L2D_LATENT_SCALE;
    int32_t h = from.h / in, w = from.w / in;
    limit = limit < MAX_TENSOR_BYTES ? limit : MAX_TENSOR_BYTES;
    if (l2d_graph_failed(g) || (uint64_t) h * (uint64_t) w * each <= limit)
        return down ? encode(k, vae, from) : decode(k, vae, from);

    int32_t most = (int32_t) fmax(sqrt((double) limit / (double) each), MIN_TILE);
    struct cuts y = cut(h, most), x = cut(w, most);
    T whole = l2d_graph_alloc(g, l2d_graph_precision(g), from.rows, h * out, w * out,
                              down ? vae->quant_conv.cout : vae->decoder.conv_out.cout);
    bool probing = l2d_graph_probing(g);
    l2d_graph_enable_probes(g, false);                  // of parts that overlap
    for (int32_t i = 0; i < y.count; i++)
        for (int32_t j = 0; j < x.count; j++) {
            struct l2d_tile here = tile_at(&y, &x, i, j, in), there = tile_at(&y, &x, i, j, out);
            l2d_graph_push(g, "tiles.%d", i * x.count + j);
            T part = l2d_tile_cut(g, from, &here);
            part = down ? encode(k, vae, part) : decode(k, vae, part);
            l2d_tile_paste(g, whole, part, &there);
            l2d_graph_pop(g);
        }
    l2d_graph_enable_probes(g, probing);
    return whole;
}

T l2d_autoencoder_kl_encode(struct l2d_graph *g, const struct l2d_autoencoder_kl *vae,
                            const T *images, int32_t n)
{
    struct kl k = { g, vae->config.norm_num_groups };
    l2d_graph_push(g, "vae");
    T x = code(k, vae, l2d_image_pack(g, images, n, 1, L2D_RANGE_PM1), true);
    l2d_graph_pop(g);
    return x;
}

T l2d_autoencoder_kl_decode(struct l2d_graph *g, const struct l2d_autoencoder_kl *vae, T ring,
                            T rows)
{
    struct kl k = { g, vae->config.norm_num_groups };
    l2d_graph_push(g, "vae");
    T x = code(k, vae, l2d_latent_load(g, ring, rows, 1), false);
    l2d_graph_pop(g);
    return l2d_image_unpack(g, x, 1, L2D_RANGE_PM1);
}
