// SPDX-License-Identifier: Apache-2.0
// GPU buffers: a few large ones, each with its own memory. Small things are views into them.
// A buffer may be declared first and take its memory later: graphs can be built on declared ones,
// so that all that will be needed is known before any of it is taken.
#ifndef L2D_GPU_BUFFER_H
#define L2D_GPU_BUFFER_H

#include <stdint.h>

#include "base/error.h"

struct l2d_gpu;

enum l2d_memory {
    L2D_MEMORY_DEVICE,      // fastest for shaders; the host may not see it
    L2D_MEMORY_UPLOAD,      // host writes, GPU copies from it
    L2D_MEMORY_READBACK,    // GPU copies to it, host reads (cached)
};

// Offsets of views that shaders bind, and sizes of buffers, are multiples of 256 bytes.
static inline uint64_t l2d_buf_align(uint64_t bytes)
{
    return (bytes + 255) & ~UINT64_C(255);
}

// Read-only for users. mapped is NULL for device memory that the host cannot see, and before the
// memory is taken.
struct l2d_buf {
    struct l2d_gpu *gpu;
    struct l2d_vk_buf *vk;
    enum l2d_memory memory;
    uint64_t size_bytes;
    void    *mapped;
    char     name[48];
};

/** A buffer without memory yet. name appears in errors and debugging tools. L2D_OK, L2D_ENOMEM. */
int l2d_buf_declare(struct l2d_buf **out, struct l2d_gpu *gpu, uint64_t size_bytes,
                    enum l2d_memory memory, const char *name, struct l2d_error *err);

/**
 * Take a declared buffer's memory, once. After an error the buffer is as it was.
 * returns  L2D_OK, L2D_EGPUMEM or L2D_ENOMEM with the size asked for, the heap and its size.
 */
int l2d_buf_take(struct l2d_buf *buf, struct l2d_error *err);

/** Both at once. */
int l2d_buf_create(struct l2d_buf **out, struct l2d_gpu *gpu, uint64_t size_bytes,
                   enum l2d_memory memory, const char *name, struct l2d_error *err);

/** Free a buffer that no submitted work uses any more. Accepts NULL. */
void l2d_buf_destroy(struct l2d_buf **buf);

/** Before the host reads what the GPU, which has been waited for, has written to one for that. */
int l2d_buf_invalidate(struct l2d_buf *buf, struct l2d_error *err);

/**
 * Copy between host memory and a device buffer, and wait. For loading and tests, not for the frame
 * path.
 */
int l2d_buf_write(struct l2d_buf *buf, uint64_t offset_bytes, const void *src, uint64_t size_bytes,
                  struct l2d_error *err);
int l2d_buf_read(struct l2d_buf *buf, uint64_t offset_bytes, void *dst, uint64_t size_bytes,
                 struct l2d_error *err);

/**
 * Write without waiting for the GPU: src may be changed on return. l2d_buf_sent waits for all that
 * was sent; until then nothing else may be submitted or touch these bytes.
 */
int l2d_buf_send(struct l2d_buf *buf, uint64_t offset_bytes, const void *src, uint64_t size_bytes,
                 struct l2d_error *err);
int l2d_buf_sent(struct l2d_gpu *gpu, struct l2d_error *err);

/**
 * Memory that such copies take at most, from the first one until the gpu is destroyed; 0 where the
 * host sees all memory.
 */
uint64_t l2d_buf_copy_bytes(const struct l2d_gpu *gpu);

/** Fill with a 32-bit pattern, and wait. Offset and size are multiples of 4. */
int l2d_buf_fill(struct l2d_buf *buf, uint64_t offset_bytes, uint64_t size_bytes, uint32_t pattern,
                 struct l2d_error *err);

#endif
