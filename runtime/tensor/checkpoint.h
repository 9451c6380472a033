// SPDX-License-Identifier: Apache-2.0
// A file of weights, whatever its kind: safetensors, torch.save(), or the index of a checkpoint in
// several files. The kind is told by the first bytes; only an index by its name, .json.
#ifndef L2D_TENSOR_CHECKPOINT_H
#define L2D_TENSOR_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/safetensors.h"

struct l2d_checkpoint;          // opaque; one thread at a time

struct l2d_checkpoint_tensor {
    const char *name;           // what PyTorch puts around it, "state_dict", is taken off
    enum l2d_safetensors_dtype dtype;
    int ndim;
    uint64_t dims[L2D_SAFETENSORS_MAX_DIMS];
    uint64_t count;             // elements
    const void *source;         // where it lies: not for users
    uint32_t part;
};

/**
 * Open a file and list its tensors.
 * path     a file of weights, or an index: JSON with "weight_map", beside the files that it names
 * returns  L2D_OK, L2D_EIO, L2D_EFORMAT, L2D_ENOMEM; the message begins with the file concerned
 */
int l2d_checkpoint_open(struct l2d_checkpoint **out, const char *path, struct l2d_error *err);

/** Accepts NULL. */
void l2d_checkpoint_close(struct l2d_checkpoint **checkpoint);

/** The path that it was opened by. */
const char *l2d_checkpoint_path(const struct l2d_checkpoint *checkpoint);

/** All files that it is made of: that one first, then those that an index names. */
size_t l2d_checkpoint_num_files(const struct l2d_checkpoint *checkpoint);
const char *l2d_checkpoint_file(const struct l2d_checkpoint *checkpoint, size_t index);

/** "safetensors", "torch, zip", ...: for people. */
const char *l2d_checkpoint_kind(const struct l2d_checkpoint *checkpoint);

/** Tensors, sorted by name. */
size_t l2d_checkpoint_count(const struct l2d_checkpoint *checkpoint);
const struct l2d_checkpoint_tensor *l2d_checkpoint_get(const struct l2d_checkpoint *checkpoint,
                                                       size_t index);

/** NULL: there is none of that name. */
const struct l2d_checkpoint_tensor *l2d_checkpoint_find(const struct l2d_checkpoint *checkpoint,
                                                        const char *name);

/** A text beside the tensors of a torch file, under a key such as "name"; NULL: there is none. */
const char *l2d_checkpoint_text(const struct l2d_checkpoint *checkpoint, const char *key);

/**
 * Read a tensor, row-major, as f32.
 * out      tensor->count
 * returns  L2D_OK; L2D_EFORMAT: not of numbers, one is not finite, or the file is damaged; L2D_EIO;
 *          L2D_ENOMEM
 */
int l2d_checkpoint_read(struct l2d_checkpoint *checkpoint,
                        const struct l2d_checkpoint_tensor *tensor, float *out,
                        struct l2d_error *err);

#endif
