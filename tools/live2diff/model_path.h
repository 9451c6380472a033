// SPDX-License-Identifier: Apache-2.0
// Where the model is when nobody says so, or a YAML of the original does.
#ifndef L2D_PROGRAM_MODEL_PATH_H
#define L2D_PROGRAM_MODEL_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/**
 * The model folder: asked (from -m) if not NULL, then $LIVE2DIFF_MODEL, then the shipped model:
 * beside the program's installation, in its sources, in the installation prefix it was built for.
 * returns  L2D_OK, or L2D_EIO with the places that were looked at.
 */
int model_path(char *out, size_t size, const char *asked, struct l2d_error *err);

/**
 * The folder that the files named by config (from --config) were imported to, which is done if it
 * is the first time; pipeline/import/cache.h has the rules. Unless quiet, lines on stderr tell.
 * returns  L2D_OK, or what went wrong
 */
int model_path_import(char *out, size_t size, const char *config, bool quiet,
                      struct l2d_error *err);

#endif
