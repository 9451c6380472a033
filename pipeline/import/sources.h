// SPDX-License-Identifier: Apache-2.0
// The files of an import, and which of them a network's tensors are taken from: the last of its
// layers that has a tensor gives it.
#ifndef L2D_PIPELINE_IMPORT_SOURCES_H
#define L2D_PIPELINE_IMPORT_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "pipeline/import/import.h"
#include "pipeline/import/names.h"

#define L2D_SOURCES_MAX_FILES 16
#define L2D_SOURCES_MAX_LAYERS 8
#define L2D_NETWORKS (L2D_PART_DEPTH + 1)

struct l2d_source {
    struct l2d_checkpoint *file;
    const char *role;               // "base", "motion", ...
    bool *used;                     // by index of its tensors
};

struct l2d_sources {
    struct l2d_source source[L2D_SOURCES_MAX_FILES];
    int32_t num_sources;
    struct { int32_t source; enum l2d_part part; } layer[L2D_NETWORKS][L2D_SOURCES_MAX_LAYERS];
    int32_t num_layers[L2D_NETWORKS];
    char unet_config[4096], text_config[4096];      // diffusers' config.json; may not exist
    char vocab[4096], merges[4096];
};

/** Open all weight files but the LoRAs. Finish the sources in any case. */
int l2d_sources_open(struct l2d_sources *sources, const struct l2d_import *import,
                     struct l2d_error *err);

/** Accepts zeroed sources. */
void l2d_sources_finish(struct l2d_sources *sources);

/** The tensor of a network, and the source that has it; NULL: none has. Marks nothing. */
const struct l2d_checkpoint_tensor *l2d_sources_find(const struct l2d_sources *sources,
                                                     enum l2d_part network, const char *name,
                                                     int32_t *source);

#endif
