// SPDX-License-Identifier: Apache-2.0
// Imports that are kept, so that a model is made of its files once and then found again.
// A folder of the cache is named by what goes into it: the SHA-256 of every file that the import
// reads, of what is asked of it, and of the importer's version. So a moved file costs nothing, a
// changed one makes another folder, and a folder of that name is always the right one. Files are
// read for that when they are new or changed, see digest.h.
#ifndef L2D_PIPELINE_IMPORT_CACHE_H
#define L2D_PIPELINE_IMPORT_CACHE_H

#include <stddef.h>

#include "base/error.h"
#include "pipeline/import/import.h"

/**
 * The model folder of an import, in models/ of l2d_file_cache_dir(); made if it is not there yet.
 * folder   receives its path
 * say      is given lines for people while it is made, else none; may be NULL
 * returns  L2D_OK, or as l2d_import_write; L2D_EIO also where there is no cache to write to
 * One process imports at a time, the others wait. The folder appears when it is complete; what an
 * interrupted import left is removed by the next one. Nothing else is ever removed.
 */
int l2d_cache_import(char *folder, size_t size, const struct l2d_import *import,
                     void (*say)(void *user, const char *line), void *user,
                     struct l2d_error *err);

#endif
