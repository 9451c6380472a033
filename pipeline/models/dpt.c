// SPDX-License-Identifier: Apache-2.0
// DPT in forward's order. See dpt.h.
#include "pipeline/models/dpt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_EPS 1e-5f
#define LAYER_EPS 1e-6f
#define WEIGHT_EPS 1e-8             // of the weights' standardisation
#define MODEL "pretrained.model"
#define BACKBONE MODEL ".patch_embed.backbone"

typedef struct l2d_tensor T;

// ---- loading

static void ld_std_conv(struct l2d_weights *ld, struct l2d_conv *conv, int32_t ksize, int32_t cin,
                        int32_t cout, const char *base, const char *name)
{
    l2d_ld_conv(ld, conv, ksize, cin, cout, 0, "%s.%s", base, name);
    l2d_ld_standardise(ld, conv, WEIGHT_EPS);
}

static void load_bottleneck(struct l2d_dpt_bottleneck *b, struct l2d_weights *ld, int32_t stage,
                            int32_t index, int32_t cin, int32_t cout)
{
    char base[96];
    int32_t mid = cout / 4;
    snprintf(base, sizeof(base), BACKBONE ".stages.%d.blocks.%d", stage, index);
    b->stride2 = stage > 0 && index == 0;
    ld_std_conv(ld, &b->conv1, 1, cin, mid, base, "conv1");
    l2d_ld_norm(ld, &b->norm1, mid, "%s.norm1", base);
    ld_std_conv(ld, &b->conv2, 3, mid, mid, base, "conv2");
    l2d_ld_norm(ld, &b->norm2, mid, "%s.norm2", base);
    ld_std_conv(ld, &b->conv3, 1, mid, cout, base, "conv3");
    l2d_ld_norm(ld, &b->norm3, cout, "%s.norm3", base);
    if (index == 0) {
        ld_std_conv(ld, &b->downsample_conv, 1, cin, cout, base, "downsample.conv");
        l2d_ld_norm(ld, &b->downsample_norm, cout, "%s.downsample.norm", base);
    }
}

// The class token is always the same, so its position is added here.
static void load_tokens(struct l2d_dpt *dpt, struct l2d_weights *ld)
{
    int32_t c = dpt->config.hidden_size, n = dpt->config.input_size / 16;
    size_t others = (size_t) (n * n) * (size_t) c;
    float *pos = l2d_ld_host(ld, 3, (int64_t[]) { 1, 1 + n * n, c }, false, MODEL ".pos_embed");
    float *cls = l2d_ld_host(ld, 3, (int64_t[]) { 1, 1, c }, false, MODEL ".cls_token");
    float *each = pos && cls ? malloc(L2D_DPT_MAX_ROWS * others * sizeof(*each)) : NULL;
    if (each) {
        for (int32_t i = 0; i < c; i++)
            cls[i] += pos[i];
        for (int32_t r = 0; r < L2D_DPT_MAX_ROWS; r++)
            memcpy(each + (size_t) r * others, pos + c, others * sizeof(*each));
    }
    free(pos);
    l2d_ld_values(ld, &dpt->cls_token, cls, 1, 1, 1, c);
    l2d_ld_values(ld, &dpt->pos_embed, each, L2D_DPT_MAX_ROWS, n, n, c);
}

static void load_vit(struct l2d_dpt *dpt, struct l2d_weights *ld)
{
    const struct l2d_dpt_config *c = &dpt->config;
    int32_t width = c->hidden_size, inner = c->intermediate_size;
    l2d_ld_conv(ld, &dpt->patch_proj, 1, c->stage_channels[2], width, L2D_LD_BIAS,
                MODEL ".patch_embed.proj");
    load_tokens(dpt, ld);
    for (int32_t i = 0; i < c->num_hidden_layers; i++) {
        struct l2d_dpt_layer *l = &dpt->layer[i];
        l2d_ld_norm(ld, &l->norm1, width, MODEL ".blocks.%d.norm1", i);
        l2d_ld_conv(ld, &l->qkv, 1, width, 3 * width, L2D_LD_BIAS, MODEL ".blocks.%d.attn.qkv", i);
        l2d_ld_conv(ld, &l->proj, 1, width, width, L2D_LD_BIAS, MODEL ".blocks.%d.attn.proj", i);
        l2d_ld_norm(ld, &l->norm2, width, MODEL ".blocks.%d.norm2", i);
        l2d_ld_conv(ld, &l->fc1, 1, width, inner, L2D_LD_BIAS, MODEL ".blocks.%d.mlp.fc1", i);
        l2d_ld_conv(ld, &l->fc2, 1, inner, width, L2D_LD_BIAS, MODEL ".blocks.%d.mlp.fc2", i);
    }
    l2d_ld_ignore(ld, MODEL ".norm.");
    l2d_ld_ignore(ld, MODEL ".head.");
    for (int i = 0; i < 2; i++) {
        l2d_ld_conv(ld, &dpt->readout[i], 1, 2 * width, width, L2D_LD_BIAS,
                    "pretrained.act_postprocess%d.0.project.0", i + 3);
        l2d_ld_conv(ld, &dpt->reassemble[i], 1, width, width, L2D_LD_BIAS,
                    "pretrained.act_postprocess%d.3", i + 3);
    }
    l2d_ld_conv(ld, &dpt->reduce, 3, width, width, L2D_LD_BIAS, "pretrained.act_postprocess4.4");
}

static void load_unit(struct l2d_dpt_unit *u, struct l2d_weights *ld, int32_t c, int32_t level,
                      int32_t number)
{
    l2d_ld_conv(ld, &u->conv1, 3, c, c, L2D_LD_BIAS, "scratch.refinenet%d.resConfUnit%d.conv1",
                level + 1, number);
    l2d_ld_conv(ld, &u->conv2, 3, c, c, L2D_LD_BIAS, "scratch.refinenet%d.resConfUnit%d.conv2",
                level + 1, number);
}

static void load_decoder(struct l2d_dpt *dpt, struct l2d_weights *ld)
{
    const struct l2d_dpt_config *c = &dpt->config;
    const int32_t taps[L2D_DPT_LEVELS] = {
        c->stage_channels[0], c->stage_channels[1], c->hidden_size, c->hidden_size,
    };
    for (int32_t i = 0; i < L2D_DPT_LEVELS; i++) {
        l2d_ld_conv(ld, &dpt->layer_rn[i], 3, taps[i], c->features, 0, "scratch.layer%d_rn", i + 1);
        if (i < L2D_DPT_LEVELS - 1)
            load_unit(&dpt->unit1[i], ld, c->features, i, 1);
        load_unit(&dpt->unit2[i], ld, c->features, i, 2);
        l2d_ld_conv(ld, &dpt->out_conv[i], 1, c->features, c->features, L2D_LD_BIAS,
                    "scratch.refinenet%d.out_conv", i + 1);
    }
    l2d_ld_ignore(ld, "scratch.refinenet4.resConfUnit1.");
    l2d_ld_conv(ld, &dpt->output_conv[0], 3, c->features, c->features / 2, L2D_LD_BIAS,
                "scratch.output_conv.0");
    l2d_ld_conv(ld, &dpt->output_conv[1], 3, c->features / 2, c->head_channels, L2D_LD_BIAS,
                "scratch.output_conv.2");
    l2d_ld_conv(ld, &dpt->output_conv[2], 1, c->head_channels, 1, L2D_LD_BIAS,
                "scratch.output_conv.4");
}

void l2d_dpt_load(struct l2d_dpt *dpt, struct l2d_weights *ld, const struct l2d_dpt_config *config)
{
    *dpt = (struct l2d_dpt) { .config = *config };
    ld_std_conv(ld, &dpt->stem_conv, 7, 3, config->stem_channels, BACKBONE, "stem.conv");
    l2d_ld_norm(ld, &dpt->stem_norm, config->stem_channels, BACKBONE ".stem.norm");
    for (int32_t s = 0; s < 3; s++)
        for (int32_t j = 0; j < config->stage_blocks[s]; j++) {
            int32_t cin = j > 0 ? config->stage_channels[s]
                        : s > 0 ? config->stage_channels[s - 1] : config->stem_channels;
            load_bottleneck(&dpt->stage[s][j], ld, s, j, cin, config->stage_channels[s]);
        }
    load_vit(dpt, ld);
    load_decoder(dpt, ld);
}

// ---- forward

// relu(norm(conv(x)))
static T conv_norm_relu(struct l2d_graph *g, const struct l2d_conv *conv,
                        const struct l2d_norm *norm, T x, bool stride2, int32_t groups)
{
    struct l2d_conv_desc d = L2D_CONV_DESC(conv, x);
    d.stride2 = stride2;
    d.pad_same = true;
    return l2d_group_norm(g, norm, l2d_conv2d(g, &d), L2D_NO_TENSOR, groups, GROUP_EPS,
                          L2D_ACT_RELU);
}

static T bottleneck(struct l2d_graph *g, const struct l2d_dpt_bottleneck *b, T x, bool first,
                    int32_t groups)
{
    T h = conv_norm_relu(g, &b->conv1, &b->norm1, x, false, groups);
    h = conv_norm_relu(g, &b->conv2, &b->norm2, h, b->stride2, groups);
    h = l2d_conv2d(g, &L2D_CONV_DESC(&b->conv3, h));
    if (first) {
        struct l2d_conv_desc d = L2D_CONV_DESC(&b->downsample_conv, x);
        d.stride2 = b->stride2;
        d.pad_same = true;
        x = l2d_group_norm(g, &b->downsample_norm, l2d_conv2d(g, &d), L2D_NO_TENSOR, groups,
                           GROUP_EPS, L2D_ACT_NONE);
    }
    return l2d_group_norm_add_relu(g, &b->norm3, h, x, groups, GROUP_EPS);
}

// The maps at 1/4, 1/8 and 1/16.
static void backbone(struct l2d_graph *g, const struct l2d_dpt *dpt, T x, T map[3])
{
    const struct l2d_dpt_config *c = &dpt->config;
    x = conv_norm_relu(g, &dpt->stem_conv, &dpt->stem_norm, x, true, c->norm_num_groups);
    x = l2d_max_pool(g, x);
    l2d_graph_probe(g, x, "depth." BACKBONE ".stem");
    for (int32_t s = 0; s < 3; s++) {
        for (int32_t j = 0; j < c->stage_blocks[s]; j++) {
            x = bottleneck(g, &dpt->stage[s][j], x, j == 0, c->norm_num_groups);
            l2d_graph_probe(g, x, "depth." BACKBONE ".stages.%d.blocks.%d", s, j);
        }
        map[s] = x;
    }
}

// x + linear(h)
static T add_linear(struct l2d_graph *g, const struct l2d_conv *linear, T h, T x)
{
    struct l2d_conv_desc d = L2D_CONV_DESC(linear, h);
    d.residual = x;
    return l2d_conv2d(g, &d);
}

// The tokens behind the hook and behind the last layer, the class token first.
static void vit(struct l2d_graph *g, const struct l2d_dpt *dpt, T map, T tokens[2])
{
    const struct l2d_dpt_config *config = &dpt->config;
    int32_t c = config->hidden_size;
    T x = l2d_token_concat(g, dpt->cls_token,
                           add_linear(g, &dpt->patch_proj, map,
                                      l2d_tensor_rows(dpt->pos_embed, 0, map.rows)));
    for (int32_t i = 0; i < config->num_hidden_layers; i++) {
        const struct l2d_dpt_layer *l = &dpt->layer[i];
        T h = l2d_layer_norm(g, &l->norm1, x, LAYER_EPS);
        h = l2d_conv2d(g, &L2D_CONV_DESC(&l->qkv, h));
        h = l2d_attention(g, h, 0, h, c, 2 * c, c, config->num_attention_heads, false);
        x = add_linear(g, &l->proj, h, x);
        h = l2d_layer_norm(g, &l->norm2, x, LAYER_EPS);
        struct l2d_conv_desc fc1 = L2D_CONV_DESC(&l->fc1, h);
        fc1.act = L2D_ACT_GELU;
        x = add_linear(g, &l->fc2, l2d_conv2d(g, &fc1), x);
        l2d_graph_probe(g, x, "depth." MODEL ".blocks.%d", i);
        if (i == config->hook)
            tokens[0] = x;
    }
    tokens[1] = x;
}

// Tokens to a map again: each is told of the class token.
static T reassemble(struct l2d_graph *g, const struct l2d_dpt *dpt, int32_t i, T tokens)
{
    int32_t n = dpt->config.input_size / 16;
    struct l2d_conv_desc d = L2D_CONV_DESC(&dpt->readout[i],
                                           l2d_token_slice(g, tokens, 1, n, n));
    d.x2 = l2d_token_slice(g, tokens, 0, 1, 1);
    d.act = L2D_ACT_GELU;
    T x = l2d_conv2d(g, &d);
    x = l2d_conv2d(g, &L2D_CONV_DESC(&dpt->reassemble[i], x));
    if (i == 1) {
        struct l2d_conv_desc reduce = L2D_CONV_DESC(&dpt->reduce, x);
        reduce.stride2 = true;
        x = l2d_conv2d(g, &reduce);
    }
    l2d_graph_probe(g, x, "depth.pretrained.act_postprocess%d", i + 3);
    return x;
}

static T unit(struct l2d_graph *g, const struct l2d_dpt_unit *u, T x)
{
    struct l2d_conv_desc conv1 = L2D_CONV_DESC(&u->conv1, x);
    conv1.relu_in = true;
    conv1.act = L2D_ACT_RELU;
    return add_linear(g, &u->conv2, l2d_conv2d(g, &conv1), x);
}

// From the lowest level up. out_conv is 1x1 and so may come before the resize: the weights of an
// output pixel's inputs sum to 1.
static T decoder(struct l2d_graph *g, const struct l2d_dpt *dpt, const T tap[L2D_DPT_LEVELS])
{
    T x = L2D_NO_TENSOR;
    for (int32_t i = L2D_DPT_LEVELS - 1; i >= 0; i--) {
        l2d_graph_push(g, "refinenet%d", i + 1);
        T level = l2d_conv2d(g, &L2D_CONV_DESC(&dpt->layer_rn[i], tap[i]));
        l2d_graph_probe(g, level, "depth.scratch.layer%d_rn", i + 1);
        if (i < L2D_DPT_LEVELS - 1) {
            level = unit(g, &dpt->unit1[i], level);
            l2d_graph_probe(g, level, "depth.scratch.refinenet%d.resConfUnit1", i + 1);
            level = l2d_resize(g, x, level.h, level.w, true, level);
        }
        x = unit(g, &dpt->unit2[i], level);
        l2d_graph_probe(g, x, "depth.scratch.refinenet%d.resConfUnit2", i + 1);
        x = l2d_conv2d(g, &L2D_CONV_DESC(&dpt->out_conv[i], x));
        l2d_graph_pop(g);
    }
    x = l2d_resize(g, x, 2 * x.h, 2 * x.w, true, L2D_NO_TENSOR);
    l2d_graph_probe(g, x, "depth.scratch.refinenet1");
    return x;
}

T l2d_dpt_input(struct l2d_graph *g, const struct l2d_dpt *dpt, T picture)
{
    int32_t side = dpt->config.input_size;
    return l2d_resize(g, picture, side, side, false, L2D_NO_TENSOR);
}

void l2d_dpt_record(struct l2d_graph *g, const struct l2d_dpt *dpt, T input, T rows, T maps)
{
    int32_t side = dpt->config.input_size;
    T map[3], tokens[2];
    l2d_graph_push(g, "depth");
    backbone(g, dpt, input, map);
    vit(g, dpt, map[2], tokens);
    const T tap[L2D_DPT_LEVELS] = {
        map[0], map[1], reassemble(g, dpt, 0, tokens[0]), reassemble(g, dpt, 1, tokens[1]),
    };
    T x = decoder(g, dpt, tap);

    x = l2d_conv2d(g, &L2D_CONV_DESC(&dpt->output_conv[0], x));
    l2d_graph_probe(g, x, "depth.scratch.output_conv.0");
    x = l2d_resize(g, x, side, side, true, L2D_NO_TENSOR);
    struct l2d_conv_desc head = L2D_CONV_DESC(&dpt->output_conv[1], x);
    head.act = L2D_ACT_RELU;
    x = l2d_conv2d(g, &head);
    l2d_graph_probe(g, x, "depth.scratch.output_conv.3");
    struct l2d_conv_desc last = L2D_CONV_DESC(&dpt->output_conv[2], x);
    last.act = L2D_ACT_RELU;
    if (l2d_graph_probing(g))           // the ring's row is not known when this is recorded
        l2d_graph_probe(g, l2d_conv2d(g, &last), "depth");
    last.rows = rows;
    last.out = maps;
    last.out_ring = true;
    l2d_conv2d(g, &last);
    l2d_graph_pop(g);
}
