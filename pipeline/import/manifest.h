// SPDX-License-Identifier: Apache-2.0
// manifest.json of an imported model: which files it was made of, and where each tensor comes from.
#ifndef L2D_PIPELINE_IMPORT_MANIFEST_H
#define L2D_PIPELINE_IMPORT_MANIFEST_H

#include <jansson.h>

#include "base/error.h"
#include "pipeline/import/import.h"
#include "pipeline/import/sources.h"

struct l2d_manifest {
    json_t *files, *tensors;
};

/** returns  L2D_OK or L2D_ENOMEM. Finish it in any case. */
int l2d_manifest_init(struct l2d_manifest *manifest, struct l2d_error *err);
void l2d_manifest_finish(struct l2d_manifest *manifest);

/** All files that an import reads, with their SHA-256. returns  L2D_OK, L2D_EIO, L2D_ENOMEM, ... */
int l2d_manifest_add_files(struct l2d_manifest *manifest, const struct l2d_sources *sources,
                           const struct l2d_import *import, struct l2d_error *err);

/** A tensor of the folder: the path of its source, and of a change on top of it (may be NULL). */
void l2d_manifest_add_tensor(struct l2d_manifest *manifest, const char *file, const char *name,
                             const char *source);
void l2d_manifest_add_change(struct l2d_manifest *manifest, const char *file, const char *name,
                             const char *source);

int l2d_manifest_write(const struct l2d_manifest *manifest, const char *path,
                       struct l2d_error *err);

#endif
