// SPDX-License-Identifier: Apache-2.0
// SHA-256 of files, the number by which model sites know them, and a folder that remembers it.
#ifndef L2D_PIPELINE_IMPORT_DIGEST_H
#define L2D_PIPELINE_IMPORT_DIGEST_H

#include <stddef.h>

#include "base/error.h"

#define L2D_DIGEST_CHARS 65         // in hexadecimal, with the zero behind it

/** Of bytes in memory. */
void l2d_digest_bytes(char out[L2D_DIGEST_CHARS], const void *data, size_t size_bytes);

/**
 * Of a file.
 * memory   a folder, made when it is needed, or NULL. A file that was read before is not read again
 *          while its path (resolved), size and times of modification and of change, to the
 *          nanosecond, are what they were: the system sets the last one itself at every change.
 *          Of what changed within the last second nothing is remembered.
 * returns  L2D_OK; L2D_EIO: it cannot be read, or changed meanwhile; L2D_ENOMEM. A memory that
 *          cannot be written is no error.
 */
int l2d_digest_file(char out[L2D_DIGEST_CHARS], const char *path, const char *memory,
                    struct l2d_error *err);

#endif
