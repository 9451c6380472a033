// SPDX-License-Identifier: Apache-2.0
// Reading a small file whole. Large ones are mapped where they are needed.
#ifndef L2D_BASE_FILE_H
#define L2D_BASE_FILE_H

#include <stddef.h>

#include "base/error.h"

/**
 * The bytes of a file and a zero behind them, which size_bytes does not count.
 * out          the caller frees it; untouched on failure.
 * max_bytes    a larger file is refused.
 * returns      L2D_OK; L2D_EIO; L2D_EFORMAT: too large; L2D_ENOMEM. The message begins with path.
 */
int l2d_file_read(char **out, size_t *size_bytes, const char *path, size_t max_bytes,
                  struct l2d_error *err);

#endif
