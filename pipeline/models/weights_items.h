// SPDX-License-Identifier: Apache-2.0
// What weights.c, which declares, and weights_upload.c, which packs, know of a model's weights.
// Private to them.
#ifndef L2D_PIPELINE_MODELS_WEIGHTS_ITEMS_H
#define L2D_PIPELINE_MODELS_WEIGHTS_ITEMS_H

#include "pipeline/models/weights.h"
#include "tensor/safetensors.h"

#define L2D_WEIGHTS_MAX_FILES 4
#define L2D_WEIGHTS_MAX_PARTS 3
#define L2D_WEIGHTS_MAX_BLOCKS 64

typedef const struct l2d_safetensors_entry *entry_ref;

struct item {
    struct l2d_conv *conv;          // one of these four is the destination
    struct l2d_norm *norm;
    struct l2d_tensor *tensor;
    float *values;                  // tensor's, as they come: no parts
    float *host;                    // the caller's, and not the GPU's
    entry_ref weight[L2D_WEIGHTS_MAX_PARTS], bias[L2D_WEIGHTS_MAX_PARTS];
    int32_t num_parts;
    int32_t src_cin, src_cout;      // of one part, as in the file
    float scale, bias_scale;
    double standardise_eps;         // 0: not standardised
    uint64_t at;                    // place in its block
    uint32_t block;
    uint32_t file;                  // that the weights are in
    bool changed;                   // by LoRAs
    enum l2d_dtype type;            // of a conv's weights on the GPU; U32: bytes
};

struct file {
    struct l2d_safetensors *st;
    char path[512];
    char network[32];               // its name, without folder and ending
    char prefix[64];
    bool *used;                     // by entry index
};

struct l2d_weights {
    struct l2d_gpu *gpu;
    enum l2d_dtype precision;
    bool in_bytes;                  // what is declared now
    struct l2d_error error;         // the first

    struct l2d_loras *loras;        // NULL: none
    float scale[L2D_MAX_LORAS];     // that an upload gives them

    struct file file[L2D_WEIGHTS_MAX_FILES];
    uint32_t num_files;
    l2d_weights_want *want;         // not NULL: a listing
    void *want_user;
    struct item *item;
    uint32_t num_items, cap_items;

    struct l2d_buf *block[L2D_WEIGHTS_MAX_BLOCKS];
    uint32_t num_blocks;
    double pack_seconds;            // of all threads together
};

/** Bytes on the GPU; a multiple of 256 each. */
uint64_t l2d_weights_weight_bytes(const struct item *item);
uint64_t l2d_weights_item_bytes(const struct item *item);

/** Values of a tensor in a file. */
uint64_t l2d_weights_count(entry_ref e);

/** Convert the first n values to f32 and scale. false if one of them is not finite. */
bool l2d_weights_to_f32(float *out, entry_ref e, uint64_t n, float scale);

void l2d_weights_close_files(struct l2d_weights *w);

#endif
