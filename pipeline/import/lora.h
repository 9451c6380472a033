// SPDX-License-Identifier: Apache-2.0
// LoRA files: low-rank changes of weights, in the names of kohya's scripts, diffusers and PEFT, for
// linear layers and convolutions. W += factor * up * down. PEFT's own files (base_model.model.*)
// need their adapter_config.json beside them, unless they are taken raw.
// LoHa, LoKr, CP-decomposed and DoRA files are refused: they are other formulas.
#ifndef L2D_PIPELINE_IMPORT_LORA_H
#define L2D_PIPELINE_IMPORT_LORA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "pipeline/import/names.h"

struct l2d_lora;                // opaque; one thread at a time

/**
 * scale    of all of it; 0 leaves it without effect
 * raw      the factor is scale alone, as the original Live2Diff has it for its presets; else it is
 *          scale * alpha / rank, as the rest of the world has it. A file without alpha has alpha =
 *          rank.
 */
int l2d_lora_open(struct l2d_lora **out, const char *path, float scale, bool raw,
                  struct l2d_error *err);

/** Where PEFT's adapter_config.json would be, for the LoRA file of this path. */
void l2d_lora_config_path(char *out, size_t size, const char *path);

/** Accepts NULL. */
void l2d_lora_close(struct l2d_lora **lora);

/**
 * Add the file's change of one weight.
 * module   the weight's name without ".weight", as in names.h
 * weight   [cout][cin][k][k] or [cout][cin], num_elements of them; untouched if there is no change
 * applied  receives whether the file has one
 * returns  L2D_OK, or L2D_EFORMAT if it is of another shape
 */
int l2d_lora_add(struct l2d_lora *lora, enum l2d_part part, const char *module, float *weight,
                 uint64_t cout, uint64_t num_elements, bool *applied, struct l2d_error *err);

struct l2d_lora_change {        // of a weight: += scale * factor * up * down
    const struct l2d_checkpoint_tensor *up, *down;      // [cout,rank] and [rank,inner]
    uint64_t rank, inner;
    float factor;
};

/** The same, not yet done. found receives whether there is one; else *change is untouched. */
int l2d_lora_find(struct l2d_lora *lora, enum l2d_part part, const char *module, uint64_t cout,
                  uint64_t num_elements, struct l2d_lora_change *change, bool *found,
                  struct l2d_error *err);

/** Read one of its halves: malloc'ed, the caller's to free after an error too. */
int l2d_lora_read(struct l2d_lora *lora, const struct l2d_checkpoint_tensor *tensor, float **out,
                  struct l2d_error *err);

/** Tensors that nobody asked for, and the first of them; 0 and NULL if all were used. */
size_t l2d_lora_unused(const struct l2d_lora *lora, const char **first);

#endif
