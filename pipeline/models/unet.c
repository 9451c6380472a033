// SPDX-License-Identifier: Apache-2.0
// The UNet's weights by name and its forward pass in diffusers' order. See unet.h.
#include "pipeline/models/unet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESNET_EPS 1e-5f
#define TRANSFORMER_EPS 1e-6f           // of the GroupNorm before a transformer
#define LAYER_NORM_EPS 1e-5f

typedef struct l2d_tensor T;

// ---- weights by name

static void load_resnet(struct l2d_unet *u, struct l2d_weights *ld, struct l2d_resnet *r,
                        int32_t cin, int32_t cout, const char *name)
{
    int32_t time_channels = 4 * u->config.block_out_channels[0];
    r->cout = cout;
    r->index = u->num_resnets++;
    r->has_shortcut = cin != cout;
    l2d_ld_norm(ld, &r->norm1, cin, "%s.norm1", name);
    l2d_ld_conv(ld, &r->conv1, 3, cin, cout, L2D_LD_BIAS, "%s.conv1", name);
    r->time_weight = l2d_ld_host(ld, 2, (int64_t[]) { cout, time_channels }, false,
                                 "%s.time_emb_proj.weight", name);
    r->time_bias = l2d_ld_host(ld, 1, (int64_t[]) { cout }, false, "%s.time_emb_proj.bias", name);
    l2d_ld_norm(ld, &r->norm2, cout, "%s.norm2", name);
    l2d_ld_conv(ld, &r->conv2, 3, cout, cout, L2D_LD_BIAS, "%s.conv2", name);
    if (r->has_shortcut)
        l2d_ld_conv(ld, &r->conv_shortcut, 1, cin, cout, L2D_LD_BIAS, "%s.conv_shortcut", name);
}

static void load_feed_forward(struct l2d_weights *ld, struct l2d_feed_forward *ff, int32_t c,
                              const char *name)
{
    l2d_ld_conv(ld, &ff->proj, 1, c, 8 * c, L2D_LD_BIAS | L2D_LD_GEGLU, "%s.ff.net.0.proj", name);
    l2d_ld_conv(ld, &ff->out, 1, 4 * c, c, L2D_LD_BIAS, "%s.ff.net.2", name);
}

static const char *const qkv_names[] = { "to_q", "to_k", "to_v" };

static void load_transformer(struct l2d_unet *u, struct l2d_weights *ld, struct l2d_transformer *t,
                             int32_t c, const char *name)
{
    int32_t text = u->config.cross_attention_dim;
    char block[256];
    snprintf(block, sizeof(block), "%s.transformer_blocks.0", name);
    t->index = u->num_transformers++;
    l2d_ld_norm(ld, &t->norm, c, "%s.norm", name);
    l2d_ld_conv(ld, &t->proj_in, 1, c, c, L2D_LD_BIAS, "%s.proj_in", name);
    l2d_ld_norm(ld, &t->norm1, c, "%s.norm1", block);
    l2d_ld_linears(ld, &t->qkv, c, c, 0, qkv_names, 3, "%s.attn1", block);
    l2d_ld_conv(ld, &t->out1, 1, c, c, L2D_LD_BIAS, "%s.attn1.to_out.0", block);
    l2d_ld_norm(ld, &t->norm2, c, "%s.norm2", block);
    l2d_ld_conv(ld, &t->q, 1, c, c, 0, "%s.attn2.to_q", block);
    l2d_ld_linears(ld, &t->kv, text, c, 0, qkv_names + 1, 2, "%s.attn2", block);
    l2d_ld_conv(ld, &t->out2, 1, c, c, L2D_LD_BIAS, "%s.attn2.to_out.0", block);
    l2d_ld_norm(ld, &t->norm3, c, "%s.norm3", block);
    load_feed_forward(ld, &t->ff, c, block);
    l2d_ld_conv(ld, &t->proj_out, 1, c, c, L2D_LD_BIAS, "%s.proj_out", name);
}

// The positions' table, from the file or computed.
static float *load_positions(struct l2d_weights *ld, const struct l2d_motion_config *config,
                             int32_t c, const char *name)
{
    const int64_t dims[3] = { 1, config->position_encoding_max_len, c };
    float *pe = config->position_encoding
              ? l2d_ld_host(ld, 3, dims, true, "%s.pos_encoder.pe", name) : NULL;
    if (pe)
        return pe;
    pe = calloc((size_t) L2D_WINDOW * (size_t) c, sizeof(*pe));
    for (int32_t p = 0; pe && config->position_encoding && p < L2D_WINDOW; p++)
        for (int32_t i = 0; i < c; i += 2) {
            double arg = p * pow(10000, -(double) i / c);
            pe[p * c + i] = (float) sin(arg);
            pe[p * c + i + 1] = (float) cos(arg);
        }
    return pe;
}

static void load_motion(struct l2d_unet *u, struct l2d_weights *ld, struct l2d_motion *m, int32_t c,
                        int32_t level, const char *name)
{
    const struct l2d_motion_config *config = &u->config.motion_kwargs;
    l2d_ld_norm(ld, &m->norm, c, "%s.norm", name);
    l2d_ld_conv(ld, &m->proj_in, 1, c, c, L2D_LD_BIAS, "%s.proj_in", name);
    for (int32_t b = 0; b < config->num_transformer_blocks; b++) {
        struct l2d_motion_block *block = &m->block[b];
        char path[288];
        snprintf(path, sizeof(path), "%s.transformer_blocks.%d", name, b);
        for (int32_t j = 0; j < config->num_attention_blocks; j++) {
            struct l2d_temporal_attention_block *a = &block->attention[j];
            char attention[320];
            snprintf(attention, sizeof(attention), "%s.attention_blocks.%d", path, j);
            a->index = u->num_attentions++;
            u->cache_channels[a->index] = c;
            u->cache_level[a->index] = level;
            l2d_ld_norm(ld, &a->norm, c, "%s.norms.%d", path, j);
            l2d_ld_linears(ld, &a->qkv, c, c, 0, qkv_names, 3, "%s", attention);
            l2d_ld_conv(ld, &a->out, 1, c, c, L2D_LD_BIAS, "%s.to_out.0", attention);
            a->pe = load_positions(ld, config, c, attention);
        }
        l2d_ld_norm(ld, &block->ff_norm, c, "%s.ff_norm", path);
        load_feed_forward(ld, &block->ff, c, path);
    }
    l2d_ld_conv(ld, &m->proj_out, 1, c, c, L2D_LD_BIAS, "%s.proj_out", name);
}

// cin: input channels of each resnet.
static void load_block(struct l2d_unet *u, struct l2d_weights *ld, struct l2d_unet_block *b,
                       const int32_t *cin, bool up, const char *name)
{
    char path[128];
    for (int32_t i = 0; i < b->num_layers; i++) {
        snprintf(path, sizeof(path), "%s.resnets.%d", name, i);
        load_resnet(u, ld, &b->resnet[i], cin[i], b->channels, path);
        snprintf(path, sizeof(path), "%s.attentions.%d", name, i);
        if (b->has_attention)
            load_transformer(u, ld, &b->attention[i], b->channels, path);
        snprintf(path, sizeof(path), "%s.motion_modules.%d.temporal_transformer", name, i);
        if (b->has_motion)
            load_motion(u, ld, &b->motion[i], b->channels, b->level, path);
    }
    if (b->has_sampler)
        l2d_ld_conv(ld, &b->sampler, 3, b->channels, b->channels,
                    L2D_LD_BIAS | (up ? L2D_LD_UPSAMPLE : 0), "%s.%ssamplers.0.conv", name,
                    up ? "up" : "down");
}

static void load_mid(struct l2d_unet *u, struct l2d_weights *ld, int32_t c)
{
    struct l2d_unet_block *mid = &u->mid;
    *mid = (struct l2d_unet_block) { .num_layers = 2, .channels = c, .has_attention = true };
    load_resnet(u, ld, &mid->resnet[0], c, c, "mid_block.resnets.0");
    load_transformer(u, ld, &mid->attention[0], c, "mid_block.attentions.0");
    load_resnet(u, ld, &mid->resnet[1], c, c, "mid_block.resnets.1");
}

// The mapping net: conv_in, pairs of blocks, conv_out.
static void load_cond(struct l2d_unet *u, struct l2d_weights *ld)
{
    const struct l2d_unet_config *c = &u->config;
    const int32_t *width = c->cond_mapping_channels;
    int32_t last = c->num_cond_channels - 1;
    struct l2d_conv *conv = u->cond;
    l2d_ld_conv(ld, conv++, 3, c->in_channels, width[0], L2D_LD_BIAS, "flow_conv_in.conv_in");
    for (int32_t i = 0; i < last; i++) {
        l2d_ld_conv(ld, conv++, 3, width[i], width[i], L2D_LD_BIAS, "flow_conv_in.blocks.%d",
                    2 * i);
        l2d_ld_conv(ld, conv++, 3, width[i], width[i + 1], L2D_LD_BIAS, "flow_conv_in.blocks.%d",
                    2 * i + 1);
    }
    l2d_ld_conv(ld, conv++, 3, width[last], c->block_out_channels[0], L2D_LD_BIAS,
                "flow_conv_in.conv_out");
    u->num_cond = (int32_t) (conv - u->cond);
}

void l2d_unet_load(struct l2d_unet *u, struct l2d_weights *ld, const struct l2d_unet_config *config)
{
    *u = (struct l2d_unet) { .config = *config };
    const int32_t *channels = config->block_out_channels;
    int32_t levels = config->num_levels, layers = config->layers_per_block;
    int64_t c0 = channels[0];
    char name[64];

    l2d_ld_conv(ld, &u->conv_in, 3, config->in_channels, channels[0], L2D_LD_BIAS, "conv_in");
    u->linear_1 = l2d_ld_host(ld, 2, (int64_t[]) { 4 * c0, c0 }, false,
                              "time_embedding.linear_1.weight");
    u->bias_1 = l2d_ld_host(ld, 1, (int64_t[]) { 4 * c0 }, false, "time_embedding.linear_1.bias");
    u->linear_2 = l2d_ld_host(ld, 2, (int64_t[]) { 4 * c0, 4 * c0 }, false,
                              "time_embedding.linear_2.weight");
    u->bias_2 = l2d_ld_host(ld, 1, (int64_t[]) { 4 * c0 }, false, "time_embedding.linear_2.bias");
    if (config->cond_mapping)
        load_cond(u, ld);

    int32_t skip[L2D_MAX_LEVELS * L2D_UNET_MAX_LAYERS + 1], num_skips = 0;  // channels, as pushed
    skip[num_skips++] = channels[0];
    for (int32_t l = 0; l < levels; l++) {
        int32_t cin[L2D_UNET_MAX_LAYERS];
        u->down[l] = (struct l2d_unet_block) {
            .num_layers = layers, .channels = channels[l], .level = l,
            .has_attention = config->down_attention[l], .has_motion = config->motion[l],
            .has_sampler = l < levels - 1,
        };
        for (int32_t i = 0; i < layers; i++) {
            cin[i] = skip[num_skips - 1];
            skip[num_skips++] = channels[l];
        }
        if (u->down[l].has_sampler)
            skip[num_skips++] = channels[l];
        snprintf(name, sizeof(name), "down_blocks.%d", l);
        load_block(u, ld, &u->down[l], cin, false, name);
    }
    load_mid(u, ld, channels[levels - 1]);
    int32_t c = channels[levels - 1];
    for (int32_t i = 0; i < levels; i++) {
        int32_t cin[L2D_UNET_MAX_LAYERS], l = levels - 1 - i;
        u->up[i] = (struct l2d_unet_block) {
            .num_layers = layers + 1, .channels = channels[l], .level = l,
            .has_attention = config->up_attention[i], .has_motion = config->motion[l],
            .has_sampler = l > 0,
        };
        for (int32_t k = 0; k <= layers; k++) {
            cin[k] = c + skip[--num_skips];
            c = channels[l];
        }
        snprintf(name, sizeof(name), "up_blocks.%d", i);
        load_block(u, ld, &u->up[i], cin, true, name);
    }
    l2d_ld_norm(ld, &u->conv_norm_out, channels[0], "conv_norm_out");
    l2d_ld_conv(ld, &u->conv_out, 3, channels[0], config->out_channels, L2D_LD_BIAS, "conv_out");
}

// ---- what is read on the host

static void finish_block(struct l2d_unet_block *b)
{
    for (int32_t i = 0; i < L2D_UNET_MAX_LAYERS; i++) {
        free(b->resnet[i].time_weight);
        free(b->resnet[i].time_bias);
        for (int k = 0; k < L2D_UNET_MAX_PER_MODULE; k++)
            for (int j = 0; j < L2D_UNET_MAX_PER_MODULE; j++)
                free(b->motion[i].block[k].attention[j].pe);
    }
}

void l2d_unet_finish(struct l2d_unet *u)
{
    for (int32_t l = 0; l < L2D_MAX_LEVELS; l++) {
        finish_block(&u->down[l]);
        finish_block(&u->up[l]);
    }
    finish_block(&u->mid);
    free(u->linear_1);
    free(u->bias_1);
    free(u->linear_2);
    free(u->bias_2);
    *u = (struct l2d_unet) { 0 };
}

typedef void visit_fn(void *user, const struct l2d_unet_block *block);

static void each_block(const struct l2d_unet *u, visit_fn *visit, void *user)
{
    for (int32_t l = 0; l < u->config.num_levels; l++)
        visit(user, &u->down[l]);
    visit(user, &u->mid);
    for (int32_t l = 0; l < u->config.num_levels; l++)
        visit(user, &u->up[l]);
}

static void visit_couts(void *user, const struct l2d_unet_block *b)
{
    int32_t *cout = user;
    for (int32_t i = 0; i < b->num_layers; i++)
        cout[b->resnet[i].index] = b->resnet[i].cout;
}

int32_t l2d_unet_time_channels(const struct l2d_unet *u, int32_t *cout)
{
    int32_t sum = 0;
    each_block(u, visit_couts, cout);
    for (int32_t i = 0; i < u->num_resnets; i++)
        sum += cout[i];
    return sum;
}

// out = weight x + bias, weight [rows][cols]
static void linear(float *out, const float *weight, const float *bias, const float *x, int32_t rows,
                   int32_t cols)
{
    for (int32_t r = 0; r < rows; r++) {
        double sum = bias[r];
        for (int32_t c = 0; c < cols; c++)
            sum += (double) weight[(int64_t) r * cols + c] * x[c];
        out[r] = (float) sum;
    }
}

static void silu(float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        x[i] = x[i] / (1 + expf(-x[i]));
}

struct time_bias {
    const float *embedding;             // SiLU applied
    int32_t channels;
    const int32_t *offset;              // by resnet index
    float *out;
};

static void visit_time_bias(void *user, const struct l2d_unet_block *b)
{
    const struct time_bias *t = user;
    for (int32_t i = 0; i < b->num_layers; i++) {
        const struct l2d_resnet *r = &b->resnet[i];
        linear(t->out + t->offset[r->index], r->time_weight, r->time_bias, t->embedding, r->cout,
               t->channels);
    }
}

int l2d_unet_time_bias(const struct l2d_unet *u, int timestep, float *out, struct l2d_error *err)
{
    int32_t c0 = u->config.block_out_channels[0], n = 4 * c0, half = c0 / 2;
    float *wave = malloc((size_t) (c0 + 2 * n) * sizeof(*wave));
    if (!wave)
        return l2d_error_set(err, L2D_ENOMEM, "time embedding: out of memory");
    float *h = wave + c0, *e = h + n;
    for (int32_t i = 0; i < half; i++) {
        double arg = timestep * exp(-log(10000) * i / (half - u->config.freq_shift));
        wave[i] = (float) (u->config.flip_sin_to_cos ? cos(arg) : sin(arg));
        wave[half + i] = (float) (u->config.flip_sin_to_cos ? sin(arg) : cos(arg));
    }
    linear(h, u->linear_1, u->bias_1, wave, n, c0);
    silu(h, n);
    linear(e, u->linear_2, u->bias_2, h, n, n);
    silu(e, n);

    int32_t cout[L2D_UNET_MAX_RESNETS], offset[L2D_UNET_MAX_RESNETS];
    l2d_unet_time_channels(u, cout);
    for (int32_t i = 0, at = 0; i < u->num_resnets; at += cout[i++])
        offset[i] = at;
    each_block(u, visit_time_bias, &(struct time_bias) { e, n, offset, out });
    free(wave);
    return L2D_OK;
}

// ---- what is run once: positions, per prompt, per frame

struct find_attention {
    int32_t index;
    const struct l2d_temporal_attention_block *found;
};

static void visit_attention(void *user, const struct l2d_unet_block *b)
{
    struct find_attention *f = user;
    for (int32_t i = 0; i < b->num_layers && b->has_motion; i++)
        for (int k = 0; k < L2D_UNET_MAX_PER_MODULE; k++)
            for (int j = 0; j < L2D_UNET_MAX_PER_MODULE; j++)
                if (b->motion[i].block[k].attention[j].pe &&
                    b->motion[i].block[k].attention[j].index == f->index)
                    f->found = &b->motion[i].block[k].attention[j];
}

static const struct l2d_temporal_attention_block *find_attention(const struct l2d_unet *u,
                                                                 int32_t index)
{
    struct find_attention f = { index, NULL };
    each_block(u, visit_attention, &f);
    return f.found;
}

const float *l2d_unet_positions(const struct l2d_unet *u, int32_t index)
{
    const struct l2d_temporal_attention_block *a = find_attention(u, index);
    return a ? a->pe : NULL;
}

void l2d_unet_record_positions(struct l2d_graph *g, const struct l2d_unet *u,
                               const struct l2d_unet_state *s, const T *pe)
{
    for (int32_t i = 0; i < u->num_attentions; i++) {
        const struct l2d_temporal_attention_block *a = find_attention(u, i);
        if (!a) {
            l2d_graph_fail(g, L2D_ENOMEM, "positions: out of memory");
            return;
        }
        struct l2d_conv_desc d = L2D_CONV_DESC(&a->qkv, pe[i]);
        d.out = s->pos[i];
        l2d_conv2d(g, &d);
    }
}

// Every transformer, by index.
static void list_transformers(const struct l2d_unet *u,
                              const struct l2d_transformer *list[L2D_UNET_MAX_TRANSFORMERS])
{
    for (int32_t l = 0; l < u->config.num_levels; l++) {
        const struct l2d_unet_block *pair[2] = { &u->down[l], &u->up[l] };
        for (int p = 0; p < 2; p++)
            for (int32_t i = 0; i < pair[p]->num_layers && pair[p]->has_attention; i++)
                list[pair[p]->attention[i].index] = &pair[p]->attention[i];
    }
    list[u->mid.attention[0].index] = &u->mid.attention[0];
}

void l2d_unet_transformer_channels(const struct l2d_unet *u, int32_t *channels)
{
    const struct l2d_transformer *list[L2D_UNET_MAX_TRANSFORMERS];
    list_transformers(u, list);
    for (int32_t i = 0; i < u->num_transformers; i++)
        channels[i] = list[i]->q.cout;
}

void l2d_unet_record_text(struct l2d_graph *g, const struct l2d_unet *u,
                          const struct l2d_unet_state *s, T context)
{
    const struct l2d_transformer *list[L2D_UNET_MAX_TRANSFORMERS];
    list_transformers(u, list);
    for (int32_t i = 0; i < u->num_transformers; i++) {
        struct l2d_conv_desc d = L2D_CONV_DESC(&list[i]->kv, context);
        d.out = s->text_kv[i];
        l2d_conv2d(g, &d);
    }
}

void l2d_unet_record_cond(struct l2d_graph *g, const struct l2d_unet *u,
                          const struct l2d_unet_state *s, T rows, T x)
{
    l2d_graph_push(g, "flow_conv_in");
    for (int32_t i = 0; i < u->num_cond - 1; i++) {
        struct l2d_conv_desc d = L2D_CONV_DESC(&u->cond[i], x);
        d.act = L2D_ACT_SILU;
        x = l2d_conv2d(g, &d);
    }
    struct l2d_conv_desc d = L2D_CONV_DESC(&u->cond[u->num_cond - 1], x);
    if (l2d_graph_probing(g))           // the ring's row is not known when this is recorded
        l2d_graph_probe(g, l2d_conv2d(g, &d), "unet.flow_conv_in");
    d.rows = rows;
    d.out = s->cond;
    d.out_ring = true;
    l2d_conv2d(g, &d);
    l2d_graph_pop(g);
}

// ---- forward

// linear(h) + x
static T add_linear(struct l2d_graph *g, const struct l2d_conv *linear, T h, T x)
{
    struct l2d_conv_desc d = L2D_CONV_DESC(linear, h);
    d.residual = x;
    return l2d_conv2d(g, &d);
}

// skip: L2D_NO_TENSOR, or what is concatenated to x
static T resnet(struct l2d_graph *g, const struct l2d_unet *u, const struct l2d_unet_state *s,
                const struct l2d_resnet *r, T x, T skip)
{
    int32_t groups = u->config.norm_num_groups;
    T h = l2d_group_norm(g, &r->norm1, x, skip, groups, RESNET_EPS, L2D_ACT_SILU);
    struct l2d_conv_desc conv1 = L2D_CONV_DESC(&r->conv1, h);
    conv1.step_bias = s->step_bias[r->index];
    conv1.rows = s->rows;
    h = l2d_conv2d(g, &conv1);
    h = l2d_group_norm(g, &r->norm2, h, L2D_NO_TENSOR, groups, RESNET_EPS, L2D_ACT_SILU);
    if (r->has_shortcut) {
        struct l2d_conv_desc shortcut = L2D_CONV_DESC(&r->conv_shortcut, x);
        shortcut.x2 = skip;
        x = l2d_conv2d(g, &shortcut);
    }
    return add_linear(g, &r->conv2, h, x);
}

static T feed_forward(struct l2d_graph *g, const struct l2d_feed_forward *ff,
                      const struct l2d_norm *norm, T x)
{
    struct l2d_conv_desc proj = L2D_CONV_DESC(&ff->proj,
                                              l2d_layer_norm(g, norm, x, LAYER_NORM_EPS));
    proj.act = L2D_ACT_GEGLU;
    return add_linear(g, &ff->out, l2d_conv2d(g, &proj), x);
}

static T transformer(struct l2d_graph *g, const struct l2d_unet *u, const struct l2d_unet_state *s,
                     const struct l2d_transformer *t, T x)
{
    int32_t c = x.c, heads = u->config.num_attention_heads;
    T h = l2d_group_norm(g, &t->norm, x, L2D_NO_TENSOR, u->config.norm_num_groups, TRANSFORMER_EPS,
                         L2D_ACT_NONE);
    h = l2d_conv2d(g, &L2D_CONV_DESC(&t->proj_in, h));

    T a = l2d_conv2d(g, &L2D_CONV_DESC(&t->qkv, l2d_layer_norm(g, &t->norm1, h, LAYER_NORM_EPS)));
    a = l2d_attention(g, a, 0, a, c, 2 * c, c, heads, false);
    h = add_linear(g, &t->out1, a, h);

    a = l2d_conv2d(g, &L2D_CONV_DESC(&t->q, l2d_layer_norm(g, &t->norm2, h, LAYER_NORM_EPS)));
    a = l2d_attention(g, a, 0, s->text_kv[t->index], 0, c, c, heads, false);
    h = add_linear(g, &t->out2, a, h);

    h = feed_forward(g, &t->ff, &t->norm3, h);
    return add_linear(g, &t->proj_out, h, x);
}

static T motion(struct l2d_graph *g, const struct l2d_unet *u, const struct l2d_unet_state *s,
                const struct l2d_motion *m, T x)
{
    const struct l2d_motion_config *config = &u->config.motion_kwargs;
    T h = l2d_group_norm(g, &m->norm, x, L2D_NO_TENSOR, u->config.norm_num_groups, TRANSFORMER_EPS,
                         L2D_ACT_NONE);
    h = l2d_conv2d(g, &L2D_CONV_DESC(&m->proj_in, h));
    for (int32_t b = 0; b < config->num_transformer_blocks; b++) {
        const struct l2d_motion_block *block = &m->block[b];
        for (int32_t j = 0; j < config->num_attention_blocks; j++) {
            const struct l2d_temporal_attention_block *a = &block->attention[j];
            T y = l2d_layer_norm(g, &a->norm, h, LAYER_NORM_EPS);
            y = l2d_conv2d(g, &L2D_CONV_DESC(&a->qkv, y));
            y = l2d_temporal_attention(g, y, s->pos[a->index], s->cache[a->index], s->rows,
                                       config->num_attention_heads, s->order);
            h = add_linear(g, &a->out, y, h);
        }
        h = feed_forward(g, &block->ff, &block->ff_norm, h);
    }
    return add_linear(g, &m->proj_out, h, x);
}

struct skips {
    T tensor[L2D_MAX_LEVELS * L2D_UNET_MAX_LAYERS + 1];
    int32_t count;
};

// A resnet, its transformer and its motion module. name: "down_blocks.0"
static T layer(struct l2d_graph *g, const struct l2d_unet *u, const struct l2d_unet_state *s,
               const struct l2d_unet_block *b, int32_t i, T x, T skip, const char *name)
{
    l2d_graph_push(g, "resnets.%d", i);
    x = resnet(g, u, s, &b->resnet[i], x, skip);
    l2d_graph_pop(g);
    l2d_graph_probe(g, x, "unet.%s.resnets.%d", name, i);
    if (b->has_attention) {
        l2d_graph_push(g, "attentions.%d", i);
        x = transformer(g, u, s, &b->attention[i], x);
        l2d_graph_pop(g);
        l2d_graph_probe(g, x, "unet.%s.attentions.%d", name, i);
    }
    if (b->has_motion && !s->no_motion) {
        l2d_graph_push(g, "motion_modules.%d", i);
        x = motion(g, u, s, &b->motion[i], x);
        l2d_graph_pop(g);
        l2d_graph_probe(g, x, "unet.%s.motion_modules.%d", name, i);
    }
    return x;
}

static T down_block(struct l2d_graph *g, const struct l2d_unet *u, const struct l2d_unet_state *s,
                    const struct l2d_unet_block *b, T x, struct skips *skips)
{
    char name[32];
    snprintf(name, sizeof(name), "down_blocks.%d", b->level);
    l2d_graph_push(g, "%s", name);
    for (int32_t i = 0; i < b->num_layers; i++) {
        x = layer(g, u, s, b, i, x, L2D_NO_TENSOR, name);
        skips->tensor[skips->count++] = x;
    }
    if (b->has_sampler) {
        struct l2d_conv_desc d = L2D_CONV_DESC(&b->sampler, x);
        d.stride2 = true;
        x = l2d_conv2d(g, &d);
        l2d_graph_probe(g, x, "unet.%s.downsamplers.0", name);
        skips->tensor[skips->count++] = x;
    }
    l2d_graph_pop(g);
    return x;
}

static T mid_block(struct l2d_graph *g, const struct l2d_unet *u, const struct l2d_unet_state *s,
                   T x)
{
    l2d_graph_push(g, "mid_block");
    x = resnet(g, u, s, &u->mid.resnet[0], x, L2D_NO_TENSOR);
    l2d_graph_probe(g, x, "unet.mid_block.resnets.0");
    x = transformer(g, u, s, &u->mid.attention[0], x);
    l2d_graph_probe(g, x, "unet.mid_block.attentions.0");
    x = resnet(g, u, s, &u->mid.resnet[1], x, L2D_NO_TENSOR);
    l2d_graph_probe(g, x, "unet.mid_block.resnets.1");
    l2d_graph_pop(g);
    return x;
}

static T up_block(struct l2d_graph *g, const struct l2d_unet *u, const struct l2d_unet_state *s,
                  const struct l2d_unet_block *b, T x, struct skips *skips)
{
    char name[32];
    snprintf(name, sizeof(name), "up_blocks.%d", u->config.num_levels - 1 - b->level);
    l2d_graph_push(g, "%s", name);
    for (int32_t i = 0; i < b->num_layers; i++)
        x = layer(g, u, s, b, i, x, skips->tensor[--skips->count], name);
    if (b->has_sampler) {
        x = l2d_conv2d(g, &L2D_CONV_DESC(&b->sampler, x));
        l2d_graph_probe(g, x, "unet.%s.upsamplers.0", name);
    }
    l2d_graph_pop(g);
    return x;
}

T l2d_unet_forward(struct l2d_graph *g, const struct l2d_unet *u, const struct l2d_unet_state *s,
                   T x)
{
    struct skips skips = { .count = 0 };
    struct l2d_conv_desc in = L2D_CONV_DESC(&u->conv_in, x);
    if (l2d_graph_probing(g))
        l2d_graph_probe(g, l2d_conv2d(g, &in), "unet.conv_in");
    if (u->config.cond_mapping) {
        in.residual = s->cond;
        in.residual_ring = true;
        in.rows = s->rows;
    }
    T h = l2d_conv2d(g, &in);
    skips.tensor[skips.count++] = h;
    for (int32_t l = 0; l < u->config.num_levels; l++)
        h = down_block(g, u, s, &u->down[l], h, &skips);
    h = mid_block(g, u, s, h);
    for (int32_t l = 0; l < u->config.num_levels; l++)
        h = up_block(g, u, s, &u->up[l], h, &skips);
    h = l2d_group_norm(g, &u->conv_norm_out, h, L2D_NO_TENSOR, u->config.norm_num_groups,
                       RESNET_EPS, L2D_ACT_SILU);
    h = l2d_conv2d(g, &L2D_CONV_DESC(&u->conv_out, h));
    l2d_graph_probe(g, h, "unet.conv_out");
    return h;
}
