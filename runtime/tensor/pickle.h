// SPDX-License-Identifier: Apache-2.0
// What a pickle of tensors says, read without running it. A pickle is a program for a stack machine
// that may call any Python function; here a call makes an inert value, except the few by which
// torch.save() writes tensors and dictionaries, which are understood. Opcodes and names of
// functions are whitelisted: a file that names another is refused, since no checkpoint needs one.
// The bytes of the tensors lie elsewhere (torch_file.h).
// Source: Python, Lib/pickletools.py; PyTorch, torch/serialization.py and torch/_utils.py.
#ifndef L2D_TENSOR_PICKLE_H
#define L2D_TENSOR_PICKLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/safetensors.h"

#define L2D_PICKLE_MAX_BYTES (8 << 20)      // that of a model has some hundred kilobytes

struct l2d_pickle_storage {     // a row of elements that tensors are views of
    const char *key;            // its name in the file
    enum l2d_safetensors_dtype dtype;
    uint64_t count;             // elements of that type
};

struct l2d_pickle_tensor {      // checked: every element lies in the storage
    const char *name;           // the keys that lead to it, such as "state_dict/conv_in.weight"
    uint32_t storage;           // index
    enum l2d_safetensors_dtype dtype;
    int ndim;                   // at most L2D_SAFETENSORS_MAX_DIMS; 0: one element
    uint64_t dims[L2D_SAFETENSORS_MAX_DIMS];
    uint64_t strides[L2D_SAFETENSORS_MAX_DIMS];     // in elements, as offset
    uint64_t offset;
    uint64_t count;             // elements, at most the storage's
    uint64_t span;              // elements from the first to behind the last; 0 if count is 0
};

struct l2d_pickle;              // opaque, read-only, independent of the bytes that it was read from

/**
 * Read one pickle.
 * file         begins the messages
 * used_bytes   receives its length, up to and with its last opcode; data may go on behind it
 * returns      L2D_OK, L2D_ENOMEM, or L2D_EFORMAT: "<file>: pickle, byte 17: ..."
 * Time and memory grow with size_bytes, whatever the bytes are.
 */
int l2d_pickle_read(struct l2d_pickle **out, const char *file, const void *data, size_t size_bytes,
                    size_t *used_bytes, struct l2d_error *err);

/** Accepts NULL. */
void l2d_pickle_destroy(struct l2d_pickle **pickle);

/** Tensors reached from the top through dictionaries with string keys, sorted by name. */
size_t l2d_pickle_count(const struct l2d_pickle *pickle);
const struct l2d_pickle_tensor *l2d_pickle_get(const struct l2d_pickle *pickle, size_t index);

/** All storages, as often as they were mentioned: twice where two tensors are views of one. */
size_t l2d_pickle_num_storages(const struct l2d_pickle *pickle);
const struct l2d_pickle_storage *l2d_pickle_storage(const struct l2d_pickle *pickle, size_t index);

/**
 * Strings of the object at the top, in order: of a list its own; of a dictionary, each key that has
 * a string, and then that.
 */
size_t l2d_pickle_num_strings(const struct l2d_pickle *pickle);
const char *l2d_pickle_string(const struct l2d_pickle *pickle, size_t index);

#endif
