// SPDX-License-Identifier: Apache-2.0
// Where activations lie in their one block of memory. Operations run in a known order, a buffer is
// alive from the operation that first touches it to the last one that does, and two buffers that
// are never alive together may share bytes. Knows numbers only: no tensors, no GPU.
// Greedy by size, best fit: Pisarchyk & Lee, "Efficient memory management for deep neural net
// inference", 2020, section 5.2.
#ifndef L2D_TENSOR_PLANNER_H
#define L2D_TENSOR_PLANNER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define L2D_PLANNER_ALIGNMENT 256       // bytes; no device asks for more in a storage buffer offset

struct l2d_planner_buffer {
    uint64_t size_bytes;                // 0: takes no place, offset 0
    uint32_t first_op, last_op;         // both included; first_op <= last_op
    uint64_t offset_bytes;              // out: a multiple of L2D_PLANNER_ALIGNMENT
};

/**
 * Give every buffer its offset.
 * total_bytes  out: size of the block, a multiple of L2D_PLANNER_ALIGNMENT; 0 without buffers.
 * returns      L2D_OK, L2D_ENOMEM, L2D_EINVAL if the sizes exceed 63 bits.
 * The same input gives the same plan. Time grows with count squared: meant for some thousands.
 */
int l2d_planner_assign(struct l2d_planner_buffer *buffers, size_t count, uint64_t *total_bytes,
                       struct l2d_error *err);

/** What no plan can do without: the most bytes that are alive at one operation, each rounded up. */
uint64_t l2d_planner_lower_bound(const struct l2d_planner_buffer *buffers, size_t count);

#endif
