// SPDX-License-Identifier: Apache-2.0
// The text tower in forward's order. See clip_text.h.
#include "pipeline/models/clip_text.h"

#include <stdlib.h>

#define EPS 1e-5f

void l2d_clip_text_load(struct l2d_clip_text *text, struct l2d_weights *ld,
                        const struct l2d_text_config *config)
{
    static const char *const qkv[] = { "q_proj", "k_proj", "v_proj" };
    int32_t c = config->hidden_size, inner = config->intermediate_size;
    *text = (struct l2d_clip_text) { .config = *config };
    text->token_embedding = l2d_ld_host(ld, 2, (int64_t[]) { config->vocab_size, c }, false,
                                        "embeddings.token_embedding.weight");
    text->position_embedding =
        l2d_ld_host(ld, 2, (int64_t[]) { config->max_position_embeddings, c }, false,
                    "embeddings.position_embedding.weight");
    for (int32_t i = 0; i < config->num_hidden_layers; i++) {
        struct l2d_clip_layer *l = &text->layer[i];
        l2d_ld_norm(ld, &l->layer_norm1, c, "encoder.layers.%d.layer_norm1", i);
        l2d_ld_linears(ld, &l->qkv, c, c, L2D_LD_BIAS, qkv, 3, "encoder.layers.%d.self_attn", i);
        l2d_ld_conv(ld, &l->out_proj, 1, c, c, L2D_LD_BIAS,
                    "encoder.layers.%d.self_attn.out_proj", i);
        l2d_ld_norm(ld, &l->layer_norm2, c, "encoder.layers.%d.layer_norm2", i);
        l2d_ld_conv(ld, &l->fc1, 1, c, inner, L2D_LD_BIAS, "encoder.layers.%d.mlp.fc1", i);
        l2d_ld_conv(ld, &l->fc2, 1, inner, c, L2D_LD_BIAS, "encoder.layers.%d.mlp.fc2", i);
    }
    l2d_ld_norm(ld, &text->final_layer_norm, c, "final_layer_norm");
}

void l2d_clip_text_finish(struct l2d_clip_text *text)
{
    free(text->token_embedding);
    free(text->position_embedding);
    text->token_embedding = text->position_embedding = NULL;
}

void l2d_clip_text_embed(const struct l2d_clip_text *text, const int32_t *ids, float *out)
{
    int32_t c = text->config.hidden_size;
    for (int32_t t = 0; t < text->config.max_position_embeddings; t++)
        for (int32_t i = 0; i < c; i++)
            out[t * c + i] = text->token_embedding[(int64_t) ids[t] * c + i] +
                             text->position_embedding[t * c + i];
}

// x + linear(h)
static struct l2d_tensor add_linear(struct l2d_graph *graph, const struct l2d_conv *linear,
                                    struct l2d_tensor h, struct l2d_tensor x)
{
    struct l2d_conv_desc d = L2D_CONV_DESC(linear, h);
    d.residual = x;
    return l2d_conv2d(graph, &d);
}

struct l2d_tensor l2d_clip_text_forward(struct l2d_graph *graph, const struct l2d_clip_text *text,
                                        struct l2d_tensor x)
{
    int32_t c = text->config.hidden_size, heads = text->config.num_attention_heads;
    for (int32_t i = 0; i < text->config.num_hidden_layers - text->config.clip_skip; i++) {
        const struct l2d_clip_layer *l = &text->layer[i];
        struct l2d_tensor h = l2d_layer_norm(graph, &l->layer_norm1, x, EPS);
        h = l2d_conv2d(graph, &L2D_CONV_DESC(&l->qkv, h));
        h = l2d_attention(graph, h, 0, h, c, 2 * c, c, heads, true);
        x = add_linear(graph, &l->out_proj, h, x);
        h = l2d_layer_norm(graph, &l->layer_norm2, x, EPS);
        struct l2d_conv_desc fc1 = L2D_CONV_DESC(&l->fc1, h);
        fc1.act = L2D_ACT_QUICK_GELU;
        x = add_linear(graph, &l->fc2, l2d_conv2d(graph, &fc1), x);
        l2d_graph_probe(graph, x, "text_model.encoder.layers.%d", i);
    }
    x = l2d_layer_norm(graph, &text->final_layer_norm, x, EPS);
    l2d_graph_probe(graph, x, "text_model.final_layer_norm");
    return x;
}
