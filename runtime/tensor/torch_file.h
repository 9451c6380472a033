// SPDX-License-Identifier: Apache-2.0
// Files of PyTorch's torch.save(): a zip archive (since PyTorch 1.6) or a row of pickles with the
// tensors' bytes behind them (before). Read without Python, and without running what is inside.
// Source: pytorch/torch/serialization.py.
#ifndef L2D_TENSOR_TORCH_FILE_H
#define L2D_TENSOR_TORCH_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "tensor/pickle.h"

struct l2d_torch_file;          // opaque; one thread at a time

/** Whether the first bytes of a file, at least 16, are those of such a file. */
bool l2d_torch_file_is(const void *first_bytes, size_t size_bytes);

/**
 * Open a file and read what tensors it has.
 * returns  L2D_OK; L2D_EIO; L2D_EFORMAT: damaged, truncated, or of a kind that is not read; the
 *          message says which, and begins with path; L2D_ENOMEM.
 */
int l2d_torch_file_open(struct l2d_torch_file **out, const char *path, struct l2d_error *err);

/** Accepts NULL. */
void l2d_torch_file_close(struct l2d_torch_file **tf);

/** The tensors, sorted by name. Valid until the file is closed. */
size_t l2d_torch_file_count(const struct l2d_torch_file *tf);
const struct l2d_pickle_tensor *l2d_torch_file_get(const struct l2d_torch_file *tf, size_t index);

/** The string under a key of the dictionary at the top, or NULL. Valid until the file is closed. */
const char *l2d_torch_file_text(const struct l2d_torch_file *tf, const char *key);

/**
 * Read a tensor's elements, row-major whatever its strides in the file are.
 * out      count times the bytes of its type
 * returns  L2D_OK, L2D_EIO, L2D_EFORMAT (also: the archive's checksum is wrong), L2D_ENOMEM
 */
int l2d_torch_file_read(struct l2d_torch_file *tf, const struct l2d_pickle_tensor *tensor,
                        void *out, struct l2d_error *err);

#endif
