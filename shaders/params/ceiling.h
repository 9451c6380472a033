// SPDX-License-Identifier: Apache-2.0
// What a device can do at most, for benchmarks.
#ifndef L2D_SHADERS_CEILING_H
#define L2D_SHADERS_CEILING_H

#include "shared.h"

#define L2D_CEILING_CHAINS 3    // of four multiply-adds each: as many as a CPU has registers for
#define L2D_CEILING_UNROLL 8

// ceiling_copy: y[i] = x[i], for i < count, in quads; `rounds` of them an invocation.
// ceiling_fma: a round is L2D_CEILING_UNROLL steps of all chains; y has a quad an invocation.
struct l2d_ceiling_params {
    u32 count, rounds;
    f32 a, b;                   // x <- a x + b, |a| < 1
};
L2D_PUSH_CHECK(l2d_ceiling_params);

#endif
