// SPDX-License-Identifier: Apache-2.0
// Products of two pictures. See kernels.h.
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/similar.h"

void l2d_similar(struct l2d_graph *graph, struct l2d_tensor p, struct l2d_tensor x,
                 struct l2d_tensor sums)
{
    if (!l2d_check_shape(graph, "similar", "p", &p, L2D_F32, 1, -1, -1, 4) ||
        !l2d_check_shape(graph, "similar", "x", &x, L2D_F32, 1, p.h, p.w, 4) ||
        !l2d_check_shape(graph, "similar", "sums", &sums, L2D_F32, 1, 1, L2D_SIMILAR_SUMS, 4))
        return;
    uint32_t size = flat_size(graph);
    struct l2d_dispatch d = {
        .shader = "similar", .spec = &size, .num_spec = 1,
        .params = &(struct l2d_similar_params) { .pixels = (u32) (p.h * p.w) },
        .params_size = sizeof(struct l2d_similar_params),
        .bind = (struct l2d_binding[]) {
            { p, L2D_READ }, { x, L2D_READ }, { sums, L2D_WRITE },
        },
        .num_bind = 3,
    };
    flat_groups(d.groups, L2D_SIMILAR_SUMS, size);
    l2d_graph_dispatch(graph, &d);
}
