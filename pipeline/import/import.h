// SPDX-License-Identifier: Apache-2.0
// From the files that people have to a model folder that runs: finds each tensor, lays later files
// over earlier ones, adds LoRAs or keeps them apart, and writes fp16. Needs no GPU, and holds one
// tensor at a time.
#ifndef L2D_PIPELINE_IMPORT_IMPORT_H
#define L2D_PIPELINE_IMPORT_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "pipeline/config.h"

#define L2D_IMPORT_MAX_LORAS 32
#define L2D_IMPORT_MAX_EMBEDDINGS 32

struct l2d_import_lora {
    const char *path;
    float scale;
    bool raw;                       // see import/lora.h
    bool keep;                      // not added, but kept apart: see models/loras.h
};

struct l2d_import_embedding {       // a textual inversion, see import/embedding.h
    const char *path;
    const char *token;              // NULL: as the file says
};

struct l2d_import {                 // NULL: not given. Strings are the caller's.
    const char *base;               // a diffusers folder, or a single file with everything (LDM)
    const char *motion;             // live2diff.ckpt
    const char *dreambooth;         // a single file, or a diffusers folder: over the two above
    const char *vae;                // TAESD or AutoencoderKL: a file or folder; of the original
                                    // TAESD the folder of both halves. NULL: the model's own
    const char *depth;              // dpt_hybrid_384.pt; NULL: the structure is not told
    bool depth_by_frame;            // each frame's own range, as the original; or a slow one
    const char *tokenizer;          // folder of vocab.json and merges.txt; NULL: the base's
    struct l2d_import_lora lora[L2D_IMPORT_MAX_LORAS];      // added in this order; of
                                    // those that are kept L2D_MAX_LORAS, called as their files are
    int num_loras;
    struct l2d_import_embedding embedding[L2D_IMPORT_MAX_EMBEDDINGS];
    int num_embeddings;

    const char *name;               // of the model; NULL: "imported"
    const char *prompt;             // default prompt; NULL: none
    const char *prompt_template;    // with one "{}"; NULL: "{}"
    bool predicts_v;                // the base is a v-prediction model
    int32_t clip_skip;              // last layers of the text encoder left out
    int32_t width, height;          // default size; 0: 512
    int32_t num_inference_steps;    // 0: 50
    int32_t num_steps;              // 0: steps 30, 36, 42
    int32_t t_index[L2D_MAX_STEPS];

    const char *digests;            // folder that remembers digests, see digest.h; NULL: none
};

/**
 * Write the folder.
 * folder   must not exist. It appears when it is complete; a failure leaves nothing behind.
 * say      is given lines for people, about files as they are read; may be NULL
 * returns  L2D_OK, L2D_EINVAL (what is asked for cannot be), L2D_EIO, L2D_EFORMAT, L2D_EUNSUPPORTED
 *          or L2D_ENOMEM; the message names file and tensor
 */
int l2d_import_write(const struct l2d_import *import, const char *folder,
                     void (*say)(void *user, const char *line), void *user,
                     struct l2d_error *err);

/** Remove a model folder, or one that was left half made: the files in it, then itself. */
void l2d_import_remove(const char *folder);

#endif
