// SPDX-License-Identifier: Apache-2.0
// Reader and writer of safetensors files: 8 bytes with the header's length, a JSON header with a
// name, type, shape and byte range per tensor, then the bytes. Everything is little endian.
// The file is mapped and not copied. What is inside is believed only after it was checked: sizes
// against shapes, ranges against the file, no overlap, no hole. What a tensor means is the
// caller's affair. Source: huggingface/safetensors, README.md, "Format".
#ifndef L2D_TENSOR_SAFETENSORS_H
#define L2D_TENSOR_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define L2D_SAFETENSORS_MAX_DIMS 8
#define L2D_SAFETENSORS_MAX_HEADER_BYTES 100000000  // the format's own limit

enum l2d_safetensors_dtype {
    L2D_SAFETENSORS_BOOL, L2D_SAFETENSORS_U8, L2D_SAFETENSORS_I8,
    L2D_SAFETENSORS_F8_E5M2, L2D_SAFETENSORS_F8_E4M3,
    L2D_SAFETENSORS_U16, L2D_SAFETENSORS_I16, L2D_SAFETENSORS_F16, L2D_SAFETENSORS_BF16,
    L2D_SAFETENSORS_U32, L2D_SAFETENSORS_I32, L2D_SAFETENSORS_F32,
    L2D_SAFETENSORS_U64, L2D_SAFETENSORS_I64, L2D_SAFETENSORS_F64,
    L2D_SAFETENSORS_NUM_DTYPES,
};

struct l2d_safetensors_entry {
    const char *name;
    enum l2d_safetensors_dtype dtype;
    int ndim;                                   // 0: one element
    uint64_t dims[L2D_SAFETENSORS_MAX_DIMS];    // row-major, the last one fastest
    const void *data;                           // not aligned for its type: copy it out
    uint64_t size_bytes;                        // elements times bytes of the type; may be 0
};

struct l2d_safetensors;         // opaque; read-only once open, so any thread may look things up

/**
 * Map a file and check its header.
 * returns  L2D_OK; L2D_EIO: cannot be read; L2D_EFORMAT: the message names the file, the tensor
 *          where there is one, and what is wrong; L2D_ENOMEM.
 * The file must not shrink while it is open.
 */
int l2d_safetensors_open(struct l2d_safetensors **out, const char *path, struct l2d_error *err);

/** Unmap. Entries and their names and data die with it. Sets *st to NULL; accepts NULL. */
void l2d_safetensors_close(struct l2d_safetensors **st);

/** Entries 0..count-1 are in the order of their bytes in the file. */
size_t l2d_safetensors_count(const struct l2d_safetensors *st);
const struct l2d_safetensors_entry *l2d_safetensors_get(const struct l2d_safetensors *st,
                                                        size_t index);

/** The entry of that name, or NULL. */
const struct l2d_safetensors_entry *l2d_safetensors_find(const struct l2d_safetensors *st,
                                                         const char *name);

/**
 * Write entries to path, in their order: to a temporary file beside it, which then takes its name.
 * A failure leaves what was at path as it was.
 * returns  L2D_OK, L2D_EINVAL (a name or size that our own reader would refuse), L2D_EIO,
 *          L2D_ENOMEM.
 */
int l2d_safetensors_write(const char *path, const struct l2d_safetensors_entry *entries,
                          size_t count, struct l2d_error *err);

/**
 * The same piece by piece, for files larger than memory: begin with all entries, whose data are not
 * looked at; then give the bytes of each, in their order; then end, which puts the file in place.
 * A writer that is destroyed before its end leaves nothing behind. One thread at a time.
 * returns  as l2d_safetensors_write; put and end also L2D_EINVAL where a size is not the entry's.
 */
struct l2d_safetensors_writer;
int l2d_safetensors_writer_create(struct l2d_safetensors_writer **out, const char *path,
                                  const struct l2d_safetensors_entry *entries, size_t count,
                                  struct l2d_error *err);
int l2d_safetensors_writer_put(struct l2d_safetensors_writer *writer, const void *data,
                               uint64_t size_bytes, struct l2d_error *err);
int l2d_safetensors_writer_end(struct l2d_safetensors_writer *writer, struct l2d_error *err);
void l2d_safetensors_writer_destroy(struct l2d_safetensors_writer **writer);

/** Whether a shape is the wanted one; 1s may follow, as in a linear layer saved as 1x1 conv. */
bool l2d_safetensors_shape_fits(int ndim, const uint64_t *dims, int want_ndim, const int64_t *want);

/** "F16", "BF16", ... as in the header, and bytes of one element. */
const char *l2d_safetensors_dtype_str(enum l2d_safetensors_dtype dtype);
uint32_t l2d_safetensors_dtype_bytes(enum l2d_safetensors_dtype dtype);

#endif
