// SPDX-License-Identifier: Apache-2.0
// The denoiser: SD1.5's UNet with motion modules and a net that maps the structure latent. One code
// path for every size of it, for warm-up and for streaming.
// Config (numbers), weights (read-only) and state (what prompt, schedule and stream add) are three
// structs. Names are diffusers'. Sources: CompVis/diffusers UNet2DConditionModel, AnimateDiff's
// motion module, Live2Diff's mapping net and streaming attention (all Apache-2.0).
#ifndef L2D_PIPELINE_MODELS_UNET_H
#define L2D_PIPELINE_MODELS_UNET_H

#include "pipeline/config.h"
#include "pipeline/models/weights.h"
#include "pipeline/scheduler.h"

#define L2D_UNET_MAX_LAYERS 5           // resnets of an up block
#define L2D_UNET_MAX_RESNETS 40
#define L2D_UNET_MAX_TRANSFORMERS 40
#define L2D_UNET_MAX_PER_MODULE 4       // config: num_transformer_blocks, num_attention_blocks
// Temporal attentions, which have KV caches: of a motion module behind each layer, down and up.
#define L2D_UNET_MAX_ATTENTIONS (L2D_MAX_LEVELS * (2 * L2D_UNET_MAX_LAYERS - 1) * \
                                 L2D_UNET_MAX_PER_MODULE * L2D_UNET_MAX_PER_MODULE)

struct l2d_resnet {                     // ResnetBlock2D
    struct l2d_norm norm1, norm2;
    struct l2d_conv conv1, conv2, conv_shortcut;
    bool has_shortcut;
    float *time_weight, *time_bias;     // host: time_emb_proj [cout][4*c0], [cout]
    int32_t cout;
    int32_t index;                      // into state's step_bias
};

struct l2d_feed_forward {
    struct l2d_conv proj, out;          // net.0.proj (GEGLU), net.2
};

struct l2d_transformer {                // Transformer2DModel with one block
    struct l2d_norm norm, norm1, norm2, norm3;
    struct l2d_conv proj_in, proj_out;
    struct l2d_conv qkv, out1;          // attn1
    struct l2d_conv q, kv, out2;        // attn2
    struct l2d_feed_forward ff;
    int32_t index;                      // into state's text_kv
};

struct l2d_temporal_attention_block {
    struct l2d_norm norm;
    struct l2d_conv qkv, out;
    float *pe;                          // host: [16][c]
    int32_t index;                      // into state's cache and pos
};

struct l2d_motion_block {
    struct l2d_temporal_attention_block attention[L2D_UNET_MAX_PER_MODULE];
    struct l2d_norm ff_norm;
    struct l2d_feed_forward ff;
};

struct l2d_motion {                     // motion_modules.N.temporal_transformer
    struct l2d_norm norm;
    struct l2d_conv proj_in, proj_out;
    struct l2d_motion_block block[L2D_UNET_MAX_PER_MODULE];
};

struct l2d_unet_block {
    struct l2d_resnet resnet[L2D_UNET_MAX_LAYERS];
    struct l2d_transformer attention[L2D_UNET_MAX_LAYERS];
    struct l2d_motion motion[L2D_UNET_MAX_LAYERS];
    struct l2d_conv sampler;            // downsamplers.0 or upsamplers.0
    int32_t num_layers, channels, level;
    bool has_attention, has_motion, has_sampler;
};

struct l2d_unet {
    struct l2d_unet_config config;
    struct l2d_conv conv_in, conv_out;
    struct l2d_norm conv_norm_out;
    float *linear_1, *bias_1, *linear_2, *bias_2;   // host: time_embedding
    struct l2d_conv cond[2 * L2D_MAX_COND_CHANNELS];    // flow_conv_in, first to last
    int32_t num_cond;
    struct l2d_unet_block down[L2D_MAX_LEVELS], mid, up[L2D_MAX_LEVELS];
    int32_t num_resnets, num_transformers, num_attentions;
    int32_t cache_channels[L2D_UNET_MAX_ATTENTIONS];
    int32_t cache_level[L2D_UNET_MAX_ATTENTIONS];
};

// What a stream adds. The engine owns the buffers; these are views.
struct l2d_unet_state {
    struct l2d_tensor rows;             // u32: l2d_row_params[]
    enum l2d_row_order order;           // of the rows
    struct l2d_tensor step_bias[L2D_UNET_MAX_RESNETS];      // f32 [steps,1,1,cout]
    struct l2d_tensor text_kv[L2D_UNET_MAX_TRANSFORMERS];   // T [1,1,tokens,2c]
    struct l2d_tensor pos[L2D_UNET_MAX_ATTENTIONS];         // T [1,1,16,3c]
    struct l2d_tensor cache[L2D_UNET_MAX_ATTENTIONS];       // see l2d_kv_cache_shape
    struct l2d_tensor cond;             // T [ring,h,w,c0], or L2D_NO_TENSOR
    bool no_motion;                     // leave the motion modules out
};

/** Declare the weights. Small tables (time embedding, positions) are read at once. */
void l2d_unet_load(struct l2d_unet *unet, struct l2d_weights *ld,
                   const struct l2d_unet_config *config);
void l2d_unet_finish(struct l2d_unet *unet);

/**
 * The time bias of every resnet at one timestep, on the host: time_emb_proj(SiLU(embedding(t))).
 * out      [sum of the resnets' cout], in the order of their index
 * returns  L2D_OK or L2D_ENOMEM
 */
int l2d_unet_time_bias(const struct l2d_unet *unet, int timestep, float *out,
                       struct l2d_error *err);
/** cout of each resnet by index; sum of all. */
int32_t l2d_unet_time_channels(const struct l2d_unet *unet, int32_t *cout);

/** Channels of each transformer by index. */
void l2d_unet_transformer_channels(const struct l2d_unet *unet, int32_t *channels);

/** Positions 0..15 of each attention, W pe: writes state's pos. pe: T [1,1,16,c] by index. */
void l2d_unet_record_positions(struct l2d_graph *graph, const struct l2d_unet *unet,
                               const struct l2d_unet_state *state, const struct l2d_tensor *pe);

/** Host table of positions by attention index: [16][c]. */
const float *l2d_unet_positions(const struct l2d_unet *unet, int32_t index);

/** Keys and values of every cross attention, once per prompt: writes state's text_kv. */
void l2d_unet_record_text(struct l2d_graph *graph, const struct l2d_unet *unet,
                          const struct l2d_unet_state *state, struct l2d_tensor context);

/** Structure latent T [1,h,w,c] of the frame in rows[0] -> state's cond ring. */
void l2d_unet_record_cond(struct l2d_graph *graph, const struct l2d_unet *unet,
                          const struct l2d_unet_state *state, struct l2d_tensor rows,
                          struct l2d_tensor latent);

/**
 * x T [R,h,w,in] -> epsilon T [R,h,w,out]. Row r is what the state's rows[r] says.
 */
struct l2d_tensor l2d_unet_forward(struct l2d_graph *graph, const struct l2d_unet *unet,
                                   const struct l2d_unet_state *state, struct l2d_tensor x);

#endif
