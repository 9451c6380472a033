// SPDX-License-Identifier: Apache-2.0
// The original program's YAML files, as what is to be imported. `base` names a file that this one
// goes over. A path is looked for from the working folder, then from the file's own, then from the
// folder above that (where the original keeps its configs/).
// Two keys are ours, for what the original downloads: tiny_vae_path and lcm_lora_path. The model is
// named after the file.
#ifndef L2D_PIPELINE_IMPORT_RECIPE_H
#define L2D_PIPELINE_IMPORT_RECIPE_H

#include "base/error.h"
#include "pipeline/import/import.h"

struct l2d_recipe;              // owns the strings

/**
 * returns  L2D_OK, L2D_EIO, L2D_ENOMEM, L2D_EFORMAT (not YAML; an unknown key or a value that makes
 *          no sense) or L2D_EUNSUPPORTED; the message names file and line
 */
int l2d_recipe_read(struct l2d_recipe **out, const char *path, struct l2d_error *err);

/** Accepts NULL. */
void l2d_recipe_destroy(struct l2d_recipe **recipe);

/** What it asks for; valid as long as the recipe. */
const struct l2d_import *l2d_recipe_import(const struct l2d_recipe *recipe);

#endif
