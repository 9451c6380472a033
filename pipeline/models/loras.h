// SPDX-License-Identifier: Apache-2.0
// The LoRAs that a model folder keeps apart, so that their scales can change while it runs:
// W = base + sum of scale_i * factor_i * up_i * down_i. A file lora.NAME.safetensors has, for each
// weight that it changes,
//
//     unet.down_blocks.0....attn1.to_q.up        [cout, rank]
//     unet.down_blocks.0....attn1.to_q.down      [rank, cin] or [rank, cin, k, k]
//     unet.down_blocks.0....attn1.to_q.factor    f32, one number: alpha / rank
//
// where "unet" or "text_encoder" is the file that the weight is in, and the rest its name there.
// Sums are in f32, LoRA by LoRA and rank by rank, as import fuses: the results are the same, bit by
// bit, if the base is as exact.
#ifndef L2D_PIPELINE_MODELS_LORAS_H
#define L2D_PIPELINE_MODELS_LORAS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "pipeline/config.h"
#include "tensor/safetensors.h"

struct l2d_loras;               // opaque; read-only but for l2d_loras_ask, so any thread may add

/** Where a LoRA's matrices are. out has room for size bytes. */
void l2d_loras_path(char *out, size_t size, const char *folder, const char *name);

/**
 * Map the files of all LoRAs of a model.
 * config   the folder's; lives as long
 * returns  L2D_OK, L2D_EIO, L2D_EFORMAT or L2D_ENOMEM; the message begins with the file
 */
int l2d_loras_open(struct l2d_loras **out, const char *folder,
                   const struct l2d_model_config *config, struct l2d_error *err);

/** Accepts NULL. */
void l2d_loras_close(struct l2d_loras **loras);

/**
 * Whether any of them changes a weight, and check the shapes of those that do.
 * network  "unet", "text_encoder", ...
 * weight   as it is in that network's file
 * returns  L2D_OK, or L2D_EFORMAT
 */
int l2d_loras_ask(struct l2d_loras *loras, const char *network,
                  const struct l2d_safetensors_entry *weight, bool *changed,
                  struct l2d_error *err);

/** All weights have been asked for: whatever else the files have is an error. */
int l2d_loras_end(const struct l2d_loras *loras, struct l2d_error *err);

/**
 * Add what they change of a weight.
 * scale    of each; with 0 it adds nothing
 * values   of the weight, count of them
 * returns  L2D_OK, L2D_ENOMEM, or L2D_EFORMAT: values that are not numbers
 */
int l2d_loras_add(const struct l2d_loras *loras, const float scale[L2D_MAX_LORAS],
                  const char *network, const struct l2d_safetensors_entry *weight, float *values,
                  uint64_t count, struct l2d_error *err);

/**
 * weight[o][i] += factor * sum over r of up[o][r] down[r][i]: o below cout, i below inner. The one
 * place where that is done; nothing where factor is 0.
 */
void l2d_loras_add_product(float *weight, const float *up, const float *down, uint64_t cout,
                           uint64_t rank, uint64_t inner, float factor);

#endif
