// SPDX-License-Identifier: Apache-2.0
// model.json as plain structs: the numbers of every network of a model folder. Reading is strict:
// what is missing, unknown, out of bounds or contradicts another key is an error that names its
// path. After it, every number below is within the bounds written beside it, so those who build the
// networks need not ask again. Weights are not looked at.
#ifndef L2D_PIPELINE_CONFIG_H
#define L2D_PIPELINE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define L2D_MAX_LEVELS 4
#define L2D_MAX_STEPS 8                     // denoising steps per frame, D
#define L2D_MAX_INFERENCE_STEPS 50          // of which they are taken
#define L2D_STEPS_TEXT 32                   // bytes of "0,7,14,21,28,35,42,49/50"
#define L2D_MAX_COND_CHANNELS 8
#define L2D_MAX_STAGE_BLOCKS 32
#define L2D_MAX_VIT_LAYERS 32
#define L2D_KL_MAX_LAYERS 4                 // resnets per level of the encoder
#define L2D_MAX_LORAS 8                     // that a model keeps apart
#define L2D_LORA_NAME_BYTES 33
#define L2D_MAX_LORA_SCALE 100              // to both sides of 0
#define L2D_STEADY_MOST 0.95
#define L2D_LATENT_SCALE 8                  // pixels of the picture to one of the latent, each way

// All channel counts are 4..4096 and multiples of 4. Arrays are full resolution first.
struct l2d_motion_config {                  // motion_module_kwargs
    int32_t num_attention_heads;            // divides the channels of every level with motion
    int32_t num_transformer_blocks;         // 1..4
    int32_t num_attention_blocks;           // 1..4, all temporal self attention
    bool position_encoding;
    int32_t position_encoding_max_len;      // 16..1024 rows of pos_encoder.pe; 16 of them are used
};                                          // the window is 16 frames, 8 of them sinks: window.h

struct l2d_unet_config {
    int32_t in_channels, out_channels;      // equal, 4..64
    int32_t num_levels;                     // 1..L2D_MAX_LEVELS
    int32_t block_out_channels[L2D_MAX_LEVELS];     // multiples of norm_num_groups
    int32_t layers_per_block;               // 1..4
    bool down_attention[L2D_MAX_LEVELS];    // CrossAttnDownBlock3D, or DownBlock3D; by level
    bool up_attention[L2D_MAX_LEVELS];      // the same, by up block: lowest level first
    int32_t num_attention_heads;            // the key is attention_head_dim; divides where used
    int32_t norm_num_groups;
    int32_t cross_attention_dim;            // equals text.hidden_size
    bool flip_sin_to_cos;                   // time embedding: cosines first
    int32_t freq_shift;                     // 0 or 1

    bool cond_mapping;                      // the structure latent is mapped and added
    int32_t num_cond_channels;              // 1..L2D_MAX_COND_CHANNELS
    int32_t cond_mapping_channels[L2D_MAX_COND_CHANNELS];

    bool motion[L2D_MAX_LEVELS];            // level has motion modules, down and up alike
    bool motion_mid;                        // so has the mid block
    struct l2d_motion_config motion_kwargs;
};

enum l2d_vae_arch {
    L2D_VAE_TAESD,                          // AutoencoderTiny with free widths
    L2D_VAE_KL,                             // AutoencoderKL: patch 1, 4 levels, channels alike both
};                                          // ways (block_out_channels), the last at most 1024

struct l2d_vae_config {
    enum l2d_vae_arch arch;
    int32_t patch;                          // 1, 2, 4, 8; patch << (num_levels - 1) is 8
    int32_t num_levels;                     // 1..L2D_MAX_LEVELS
    int32_t latent_channels;                // equals unet.in_channels
    int32_t enc_channels[L2D_MAX_LEVELS], enc_blocks[L2D_MAX_LEVELS];   // blocks 0..16
    int32_t dec_channels[L2D_MAX_LEVELS], dec_blocks[L2D_MAX_LEVELS];
    int32_t norm_num_groups;                // KL; divides all channels
    float scaling_factor;                   // > 0
};

struct l2d_text_config {                    // "clip_text", quick GELU
    int32_t vocab_size;                     // 3..2^20
    int32_t max_position_embeddings;        // 3..1024
    int32_t hidden_size;                    // a multiple of num_attention_heads
    int32_t num_hidden_layers;              // 1..64
    int32_t num_attention_heads;
    int32_t intermediate_size;              // 4..16384, a multiple of 4
    int32_t clip_skip;                      // 0..num_hidden_layers-1 last layers left out
};

enum l2d_structure_type {                   // what the denoiser is told of the frame, free of noise
    L2D_STRUCTURE_LUMA,                     // the latent of a map of luminance and local contrast
    L2D_STRUCTURE_IMAGE,                    // the frame's own latent: no second encode
    L2D_STRUCTURE_DEPTH,                    // the latent of a depth map, by l2d_depth_config
};

// A ResNetV2 trunk of three stages, a ViT, a decoder. Without "dpt" it is DPT-hybrid.
struct l2d_dpt_config {
    int32_t input_size;                     // of the square input: 64..1024, a multiple of 32
    int32_t stem_channels;                  // a multiple of norm_num_groups
    int32_t stage_channels[3];              // multiples of 16 and of 4 * norm_num_groups
    int32_t stage_blocks[3];                // 1..L2D_MAX_STAGE_BLOCKS
    int32_t norm_num_groups;
    int32_t hidden_size;                    // a multiple of 4 * num_attention_heads
    int32_t num_hidden_layers;              // 2..L2D_MAX_VIT_LAYERS
    int32_t num_attention_heads;
    int32_t intermediate_size;
    int32_t hook;                           // layer whose tokens are tapped; so are the last one's
    int32_t features;                       // of the decoder, a multiple of 8
    int32_t head_channels;
};

struct l2d_depth_config {
    bool smooth;                            // the depths' range follows slowly, or is each frame's
    struct l2d_dpt_config dpt;
};
enum l2d_prediction {                       // what the denoiser predicts
    L2D_PREDICT_EPSILON,                    // the noise
    L2D_PREDICT_V,                          // a noise - b x0 (Salimans and Ho, 2022)
};
enum l2d_noise_mode { L2D_NOISE_SHARED, L2D_NOISE_FRESH };  // one for all frames, or each its own

struct l2d_scheduler_config {               // beta is linear in t
    int32_t num_train_timesteps;            // 50..10000
    double beta_start, beta_end;            // 0 < start <= end < 1
    enum l2d_prediction prediction;
    int32_t num_inference_steps;            // 1..L2D_MAX_INFERENCE_STEPS
    int32_t num_steps;                      // 1..L2D_MAX_STEPS
    int32_t t_index[L2D_MAX_STEPS];         // t_index_list, as l2d_schedule_check() wants it
    enum l2d_noise_mode noise;
};

struct l2d_lora_config {                    // its matrices are in lora.NAME.safetensors: loras.h
    char name[L2D_LORA_NAME_BYTES];         // letters, digits, '_', '-'
    float scale;                            // if nobody says another
};

struct l2d_model_config {
    char name[65];                          // letters, digits, '.', '_', '-'
    char license[65];
    int32_t width, height;                  // default size: multiples of l2d_model_config_align()
    char prompt[1024];                      // default prompt; may be empty
    char prompt_template[1024];             // has one "{}", where the prompt goes
    double steady;                          // 0..L2D_STEADY_MOST: see struct l2d_engine_params
    struct l2d_unet_config unet;
    struct l2d_vae_config vae;
    struct l2d_text_config text;
    enum l2d_structure_type structure;
    struct l2d_depth_config depth;          // if structure is L2D_STRUCTURE_DEPTH
    struct l2d_scheduler_config scheduler;
    int32_t num_loras;                      // 0 where the key "loras" is not there
    struct l2d_lora_config lora[L2D_MAX_LORAS];     // added in this order
};

/**
 * Read model.json.
 * path     of the file itself; begins every message.
 * returns  L2D_OK, L2D_EIO, L2D_ENOMEM, or L2D_EFORMAT: "<path>: unet.block_out_channels[1]: ...".
 */
int l2d_model_config_read(struct l2d_model_config *config, const char *path, struct l2d_error *err);

/** The sides must be multiples of this many pixels: 8 for the latent, times 2 per lower level. */
int32_t l2d_model_config_align(const struct l2d_model_config *config);

#endif
