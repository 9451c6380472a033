// SPDX-License-Identifier: Apache-2.0
// A model folder, loaded: model.json, its weight files, LoRAs that it keeps apart, a tokenizer
// (vocab.json, merges.txt, and added_tokens.json if there is one). Read-only once it is loaded.
#ifndef L2D_PIPELINE_MODELS_MODEL_H
#define L2D_PIPELINE_MODELS_MODEL_H

#include "pipeline/config.h"
#include "pipeline/models/clip_text.h"
#include "pipeline/models/codec.h"
#include "pipeline/models/dpt.h"
#include "pipeline/models/loras.h"
#include "pipeline/models/tokenizer.h"
#include "pipeline/models/unet.h"
#include "pipeline/models/weights.h"

struct l2d_model {
    struct l2d_model_config config;
    struct l2d_weights *weights;
    bool bytes;                     // the UNet's weights are kept so
    struct l2d_loras *loras;        // NULL: it keeps none
    struct l2d_tokenizer *tokenizer;
    struct l2d_unet unet;
    struct l2d_codec vae;
    struct l2d_clip_text text;
    struct l2d_dpt depth;           // if config.structure is L2D_STRUCTURE_DEPTH
};

/** Whether the path is that of a description alone: a file, and it is called *.json. */
bool l2d_model_is_description(const char *path);

/**
 * Read and check everything in the folder but the weights' values. GPU memory is taken, and those
 * are read, by l2d_weights_upload(model->weights); graphs can be built before.
 * path     of the folder; or of a model.json alone, which graphs can be planned for: there is no
 *          tokenizer then, and nothing to upload
 * bytes    the UNet's weights are kept in bytes: see l2d_weights_keep_bytes
 * returns  L2D_OK or a code; the message names file and tensor or key.
 */
int l2d_model_create(struct l2d_model **out, const char *path, struct l2d_gpu *gpu,
                     enum l2d_dtype precision, bool bytes, struct l2d_error *err);

/** Accepts NULL. */
void l2d_model_destroy(struct l2d_model **model);

#endif
