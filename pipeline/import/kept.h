// SPDX-License-Identifier: Apache-2.0
// LoRAs that an import leaves apart: their matrices under our names, as models/loras.h wants them.
// They keep the precision that they come in, and so do the weights that they change, so that
// fusing them later gives what fusing them now, after all others, would have given.
#ifndef L2D_PIPELINE_IMPORT_KEPT_H
#define L2D_PIPELINE_IMPORT_KEPT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "pipeline/import/import.h"
#include "pipeline/import/lora.h"
#include "pipeline/import/manifest.h"

struct l2d_kept;                // opaque; one thread at a time

/**
 * Give each LoRA that an import keeps its name: its file's, or its folder's where every file is
 * called so, in letters that a name may have; a second one of a name gets a number.
 * import   kept, not copied
 * returns  L2D_OK, L2D_ENOMEM, or L2D_EINVAL: too many
 */
int l2d_kept_create(struct l2d_kept **out, const struct l2d_import *import, struct l2d_error *err);

/** Accepts NULL. */
void l2d_kept_destroy(struct l2d_kept **kept);

/** model.json's "loras"; NULL: out of memory. */
json_t *l2d_kept_json(const struct l2d_kept *kept);

/**
 * Look whether LoRAs change a weight, and remember what of them.
 * lora     the import's, in its order
 * module   the weight's name without ".weight", as in names.h
 * name     what the matrices' names shall begin with: "unet.conv_in"
 */
int l2d_kept_look(struct l2d_kept *kept, struct l2d_lora *const *lora, enum l2d_part part,
                  const char *module, const char *name, uint64_t cout, uint64_t num_elements,
                  bool *changed, struct l2d_error *err);

/**
 * Write the files of all LoRAs.
 * say      is given a line for people for each; may be NULL
 * returns  L2D_OK; L2D_EINVAL: a LoRA changes nothing of this model; or what its file is
 */
int l2d_kept_write(const struct l2d_kept *kept, struct l2d_lora *const *lora, const char *folder,
                   struct l2d_manifest *manifest, void (*say)(void *user, const char *line),
                   void *user, struct l2d_error *err);

#endif
