// SPDX-License-Identifier: Apache-2.0
// Textual inversions: files with the vectors of one word that a text encoder has been taught.
#ifndef L2D_PIPELINE_IMPORT_EMBEDDING_H
#define L2D_PIPELINE_IMPORT_EMBEDDING_H

#include <stdint.h>

#include "base/error.h"

#define L2D_EMBEDDING_MAX_VECTORS 75    // a prompt of SD1.5 has room for no more

struct l2d_embedding {
    char *token;                // the word
    int32_t num_vectors;
    int32_t width;              // of one; the text encoder's
    float *values;              // [num_vectors][width]
};

/**
 * Read a file of A1111 (a pickle with "string_to_param", or safetensors with "emb_params") or of
 * diffusers (one tensor that is called as the word).
 * token    the word; NULL: as the file says, or else its name without folder and ending
 * returns  L2D_OK; L2D_EIO; L2D_EFORMAT: damaged, or not one embedding; L2D_EUNSUPPORTED: SDXL's;
 *          L2D_ENOMEM. Finish it in any case.
 */
int l2d_embedding_read(struct l2d_embedding *embedding, const char *path, const char *token,
                       struct l2d_error *err);

/** Accepts a zeroed embedding. */
void l2d_embedding_finish(struct l2d_embedding *embedding);

#endif
