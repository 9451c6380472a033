// SPDX-License-Identifier: Apache-2.0
// Greedy assignment of offsets. See planner.h.
#include "tensor/planner.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static uint64_t aligned(uint64_t size_bytes)
{
    return (size_bytes + L2D_PLANNER_ALIGNMENT - 1) / L2D_PLANNER_ALIGNMENT * L2D_PLANNER_ALIGNMENT;
}

static bool alive_together(const struct l2d_planner_buffer *a, const struct l2d_planner_buffer *b)
{
    return a->first_op <= b->last_op && b->first_op <= a->last_op;
}

// Largest first. Equal ones by time and then by place in the array, so that the order is total.
static int by_size(const void *pa, const void *pb)
{
    const struct l2d_planner_buffer *a = *(struct l2d_planner_buffer *const *) pa;
    const struct l2d_planner_buffer *b = *(struct l2d_planner_buffer *const *) pb;
    if (a->size_bytes != b->size_bytes)
        return a->size_bytes > b->size_bytes ? -1 : 1;
    if (a->first_op != b->first_op)
        return a->first_op < b->first_op ? -1 : 1;
    return a < b ? -1 : a > b;
}

// The smallest gap that holds b between those of placed[0..count-1], sorted by offset, that are
// alive together with it; behind all of them if there is none.
static uint64_t best_fit(struct l2d_planner_buffer *const *placed, size_t count,
                         const struct l2d_planner_buffer *b)
{
    uint64_t end = 0;                           // of what is taken so far
    uint64_t best = 0, best_gap = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        const struct l2d_planner_buffer *p = placed[i];
        if (!alive_together(p, b))
            continue;
        if (p->offset_bytes > end) {
            uint64_t gap = p->offset_bytes - end;
            if (gap >= b->size_bytes && gap < best_gap) {
                best = end;
                best_gap = gap;
            }
        }
        uint64_t p_end = p->offset_bytes + aligned(p->size_bytes);
        end = p_end > end ? p_end : end;
    }
    return best_gap < UINT64_MAX ? best : end;
}

static void insert_by_offset(struct l2d_planner_buffer **placed, size_t count,
                             struct l2d_planner_buffer *b)
{
    size_t at = count;
    while (at > 0 && placed[at - 1]->offset_bytes > b->offset_bytes)
        at--;
    memmove(&placed[at + 1], &placed[at], (count - at) * sizeof(*placed));
    placed[at] = b;
}

int l2d_planner_assign(struct l2d_planner_buffer *buffers, size_t count, uint64_t *total_bytes,
                       struct l2d_error *err)
{
    *total_bytes = 0;
    uint64_t sum = 0;                           // bounds every offset, so nothing below can wrap
    for (size_t i = 0; i < count; i++) {
        assert(buffers[i].first_op <= buffers[i].last_op);
        if (buffers[i].size_bytes > (uint64_t) INT64_MAX - L2D_PLANNER_ALIGNMENT ||
            aligned(buffers[i].size_bytes) > (uint64_t) INT64_MAX - sum)
            return l2d_error_set(err, L2D_EINVAL, "planner: buffer %zu of %" PRIu64 " bytes is too "
                                 "large", i, buffers[i].size_bytes);
        sum += aligned(buffers[i].size_bytes);
    }

    struct l2d_planner_buffer **order = calloc(2 * count + 1, sizeof(*order));
    if (!order)
        return l2d_error_set(err, L2D_ENOMEM, "planner: %zu buffers: out of memory", count);
    struct l2d_planner_buffer **placed = order + count;
    for (size_t i = 0; i < count; i++)
        order[i] = &buffers[i];
    qsort(order, count, sizeof(*order), by_size);

    size_t num_placed = 0;
    for (size_t i = 0; i < count; i++) {
        struct l2d_planner_buffer *b = order[i];
        b->offset_bytes = 0;
        if (b->size_bytes == 0)
            continue;
        b->offset_bytes = best_fit(placed, num_placed, b);
        insert_by_offset(placed, num_placed++, b);
        uint64_t end = b->offset_bytes + aligned(b->size_bytes);
        *total_bytes = end > *total_bytes ? end : *total_bytes;
    }
    free(order);
    return L2D_OK;
}

uint64_t l2d_planner_lower_bound(const struct l2d_planner_buffer *buffers, size_t count)
{
    uint64_t most = 0;                          // reached where some buffer's life begins
    for (size_t i = 0; i < count; i++) {
        uint64_t alive = 0;
        for (size_t j = 0; j < count; j++)
            if (buffers[j].first_op <= buffers[i].first_op &&
                buffers[i].first_op <= buffers[j].last_op)
                alive += aligned(buffers[j].size_bytes);
        most = alive > most ? alive : most;
    }
    return most;
}
