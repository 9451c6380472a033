// SPDX-License-Identifier: Apache-2.0
// What the op recorders share: checks that stick to the graph, and sizes of grids.
#ifndef L2D_KERNELS_DISPATCH_H
#define L2D_KERNELS_DISPATCH_H

#include <inttypes.h>

#include "gpu/device.h"
#include "gpu/graph.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static inline uint32_t div_up(uint64_t n, uint64_t by)
{
    return (uint32_t) ((n + by - 1) / by);
}

static inline bool is_tier0(const struct l2d_graph *graph)
{
    return l2d_gpu_caps(l2d_graph_gpu(graph))->tier == L2D_TIER_0;
}

/** Lanes of a workgroup that is one subgroup, on CPU drivers: 4, 8 or 16 there. */
static inline uint32_t subgroup_lanes_of(const struct l2d_gpu_caps *caps)
{
    return caps->subgroup_size < 4 ? 1 : caps->subgroup_size < 8 ? 4 : 8;
}

static inline uint32_t subgroup_lanes(const struct l2d_graph *graph)
{
    return subgroup_lanes_of(l2d_gpu_caps(l2d_graph_gpu(graph)));
}

/** Workgroup size of ops without shared memory: one vector of a CPU driver, or a GPU's taste. */
static inline uint32_t flat_size(const struct l2d_graph *graph)
{
    return is_tier0(graph) ? 8 : 128;
}

// Mesa's llvmpipe leaves an invocation's loops after so many rounds in all, without a word.
#define CPU_LOOP_ROUNDS 65535u

/** On a CPU driver, and x can be bound: what is larger is refused when planned, with advice. */
static inline bool is_for_cpu(const struct l2d_graph *graph, const struct l2d_tensor *x)
{
    return is_tier0(graph) &&
           l2d_tensor_bytes(x) <= l2d_gpu_caps(l2d_graph_gpu(graph))->max_range_bytes;
}

/**
 * Workgroup size, a power of 2 up to 256, of an op on x whose invocations share `rounds` rounds of
 * loops evenly: on CPU drivers the smallest that ends them in time. Else the graph fails.
 */
uint32_t l2d_reduction_size(struct l2d_graph *graph, const char *op, const struct l2d_tensor *x,
                            uint64_t rounds);

/** Grid for `items` invocations that use shaders/lib/flat.glsl: a dimension ends at 65535. */
static inline void flat_groups(uint32_t groups[3], uint64_t items, uint32_t size)
{
    uint32_t n = div_up(items, size);
    groups[1] = div_up(n, 32768);
    groups[0] = div_up(n, groups[1]);
    groups[2] = 1;
}

/** The tensor exists and has this shape; -1 in a dimension accepts any. Else the graph fails. */
bool l2d_check_shape(struct l2d_graph *graph, const char *op, const char *name,
                     const struct l2d_tensor *t, enum l2d_dtype dtype, int32_t rows, int32_t h,
                     int32_t w, int32_t c);

/** It has at least so many bytes (rows of parameters, pictures). Else the graph fails. */
bool l2d_check_bytes(struct l2d_graph *graph, const char *op, const char *name,
                     const struct l2d_tensor *t, uint64_t bytes);

#endif
