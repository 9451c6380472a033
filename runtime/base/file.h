// SPDX-License-Identifier: Apache-2.0
// Opening files, reading a small one whole (large ones are mapped where they are needed), and the
// place for files that can be made again.
#ifndef L2D_BASE_FILE_H
#define L2D_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/error.h"

/**
 * Open a regular file for reading. Whatever else is refused: a pipe might never answer.
 * out          the caller closes it; untouched on failure.
 * returns      L2D_OK, or L2D_EIO. The message begins with path.
 */
int l2d_file_open(FILE **out, const char *path, struct l2d_error *err);

/**
 * The bytes of a regular file and a zero behind them, which size_bytes does not count.
 * out          the caller frees it; untouched on failure.
 * max_bytes    a larger file is refused.
 * returns      L2D_OK; L2D_EIO; L2D_EFORMAT: too large; L2D_ENOMEM. The message begins with path.
 */
int l2d_file_read(char **out, size_t *size_bytes, const char *path, size_t max_bytes,
                  struct l2d_error *err);

/** The same of a pipe or device as well, and waits for it: what people write may come from one. */
int l2d_file_read_pipe(char **out, size_t *size_bytes, const char *path, size_t max_bytes,
                       struct l2d_error *err);

/**
 * Whether two names are of one regular file or pipe: what is written as one would be read as the
 * other. Terminals and the like are shared by many.
 */
bool l2d_file_is_same(const char *a, const char *b);

/** $XDG_CACHE_HOME/live2diff, else ~/.cache/live2diff; "": there is neither, or no room in dir. */
void l2d_file_cache_dir(char *dir, size_t size);

/**
 * Make the folders above path that are missing. What fails shows when path itself is made.
 * path     changed meanwhile; as it was afterwards
 */
void l2d_file_make_parents(char *path);

#endif
