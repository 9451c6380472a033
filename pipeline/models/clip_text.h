// SPDX-License-Identifier: Apache-2.0
// CLIP's text tower: token ids to the context of cross attention. Runs once per prompt.
// Source: openai/CLIP (MIT), transformers CLIPTextModel, whose names these are.
#ifndef L2D_PIPELINE_MODELS_CLIP_TEXT_H
#define L2D_PIPELINE_MODELS_CLIP_TEXT_H

#include "pipeline/config.h"
#include "pipeline/models/weights.h"

#define L2D_CLIP_MAX_LAYERS 64

struct l2d_clip_layer {
    struct l2d_norm layer_norm1, layer_norm2;
    struct l2d_conv qkv, out_proj;      // qkv: q_proj, k_proj, v_proj side by side
    struct l2d_conv fc1, fc2;
};

struct l2d_clip_text {
    struct l2d_text_config config;
    float *token_embedding;             // host, [vocab_size][hidden]
    float *position_embedding;          // host, [max_position_embeddings][hidden]
    struct l2d_clip_layer layer[L2D_CLIP_MAX_LAYERS];
    struct l2d_norm final_layer_norm;
};

/** Declare the weights; the two embedding tables are read at once and stay on the host. */
void l2d_clip_text_load(struct l2d_clip_text *text, struct l2d_weights *ld,
                        const struct l2d_text_config *config);
void l2d_clip_text_finish(struct l2d_clip_text *text);

/** Token plus position embedding of max_position_embeddings ids, into out [tokens][hidden]. */
void l2d_clip_text_embed(const struct l2d_clip_text *text, const int32_t *ids, float *out);

/** embedded: T [1,1,tokens,hidden] -> the context, same shape: layers but the last clip_skip. */
struct l2d_tensor l2d_clip_text_forward(struct l2d_graph *graph, const struct l2d_clip_text *text,
                                        struct l2d_tensor embedded);

#endif
