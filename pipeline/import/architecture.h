// SPDX-License-Identifier: Apache-2.0
// The numbers of the networks, told by the names and shapes of their tensors. What these cannot
// tell (heads, groups) comes from diffusers' config.json where there is one, else it is SD1.5's.
#ifndef L2D_PIPELINE_IMPORT_ARCHITECTURE_H
#define L2D_PIPELINE_IMPORT_ARCHITECTURE_H

#include <jansson.h>

#include "pipeline/import/sources.h"

/**
 * The content of model.json.
 * num_added    rows that will follow those of the text encoder's table of words
 * out      the caller's reference
 * returns  L2D_OK; L2D_EFORMAT: tensors of a network are missing; L2D_EUNSUPPORTED: it is of
 *          another family than SD1.5; L2D_ENOMEM
 */
int l2d_architecture_infer(json_t **out, const struct l2d_sources *sources,
                           const struct l2d_import *import, int32_t num_added,
                           struct l2d_error *err);

#endif
