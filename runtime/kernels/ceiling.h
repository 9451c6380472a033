// SPDX-License-Identifier: Apache-2.0
// Kernels that do nothing useful as fast as the device can, for benchmarks to compare with.
#ifndef L2D_KERNELS_CEILING_H
#define L2D_KERNELS_CEILING_H

#include "gpu/graph.h"

/** dst = src, both f32 and of one size, c a multiple of 4. */
void l2d_ceiling_copy(struct l2d_graph *graph, struct l2d_tensor dst, struct l2d_tensor src);

/**
 * Multiply-adds in registers: for each of y's quads, `rounds` (at most 7000: CPU drivers end longer
 * loops) times L2D_CEILING_UNROLL steps x <- a x + b of L2D_CEILING_CHAINS quads, whose sum is
 * written.
 */
void l2d_ceiling_fma(struct l2d_graph *graph, struct l2d_tensor y, uint32_t rounds, float a,
                     float b);

#endif
