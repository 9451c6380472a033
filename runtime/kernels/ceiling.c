// SPDX-License-Identifier: Apache-2.0
// Copies and multiply-adds for benchmarks. See ceiling.h.
#include "kernels/ceiling.h"

#include "kernels/dispatch.h"
#include "shaders/params/ceiling.h"

#define COPY_ROUNDS 16          // quads of an invocation: groups cost time on CPU drivers

void l2d_ceiling_copy(struct l2d_graph *graph, struct l2d_tensor dst, struct l2d_tensor src)
{
    uint32_t size = flat_size(graph), rounds = is_tier0(graph) ? 8 * COPY_ROUNDS : COPY_ROUNDS;
    if (!l2d_check_shape(graph, "ceiling_copy", "dst", &dst, L2D_F32, src.rows, src.h, src.w,
                         src.c))
        return;
    uint32_t count = (uint32_t) (l2d_tensor_count(&src) / 4);
    struct l2d_dispatch d = {
        .shader = "ceiling_copy", .spec = &size, .num_spec = 1,
        .params = &(struct l2d_ceiling_params) { .count = count, .rounds = rounds },
        .params_size = sizeof(struct l2d_ceiling_params),
        .bind = (struct l2d_binding[]) { { src, L2D_READ }, { dst, L2D_WRITE } },
        .num_bind = 2,
    };
    flat_groups(d.groups, div_up(count, rounds), size);
    l2d_graph_dispatch(graph, &d);
}

void l2d_ceiling_fma(struct l2d_graph *graph, struct l2d_tensor y, uint32_t rounds, float a,
                     float b)
{
    uint32_t size = flat_size(graph);
    if (!l2d_check_shape(graph, "ceiling_fma", "y", &y, L2D_F32, -1, -1, -1, -1))
        return;
    uint32_t count = (uint32_t) (l2d_tensor_count(&y) / 4);
    struct l2d_dispatch d = {
        .shader = "ceiling_fma", .spec = &size, .num_spec = 1,
        .params = &(struct l2d_ceiling_params) { .count = count, .rounds = rounds, .a = a, .b = b },
        .params_size = sizeof(struct l2d_ceiling_params),
        .bind = (struct l2d_binding[]) { { y, L2D_WRITE } },
        .num_bind = 1,
        .flops = 8.0 * L2D_CEILING_CHAINS * L2D_CEILING_UNROLL * rounds * count,
    };
    flat_groups(d.groups, count, size);
    l2d_graph_dispatch(graph, &d);
}
