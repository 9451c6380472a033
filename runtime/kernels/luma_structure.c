// SPDX-License-Identifier: Apache-2.0
// The luma structure map, in three passes. See kernels.h.
#include <math.h>

#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/luma.h"

#define SIGMA 1.5               // of the blur, in blocks

struct l2d_tensor l2d_luma_structure(struct l2d_graph *graph, struct l2d_tensor canvas)
{
    if (!l2d_check_shape(graph, "luma_structure", "canvas", &canvas, L2D_F32, 1, -1, -1, 4))
        return L2D_NO_TENSOR;
    if (canvas.h % L2D_LUMA_BLOCK || canvas.w % L2D_LUMA_BLOCK) {
        l2d_graph_fail(graph, L2D_EINVAL, "luma_structure: %dx%d is not a multiple of %d", canvas.w,
                       canvas.h, L2D_LUMA_BLOCK);
        return L2D_NO_TENSOR;
    }
    struct l2d_luma_params params = { .w = (u32) canvas.w, .h = (u32) canvas.h };
    double tap[L2D_LUMA_RADIUS + 1], sum = 0;
    for (int i = 0; i <= L2D_LUMA_RADIUS; i++) {
        tap[i] = exp(-i * i / (2 * SIGMA * SIGMA));
        sum += i ? 2 * tap[i] : tap[i];
    }
    for (int i = 0; i <= L2D_LUMA_RADIUS; i++)
        params.tap[i] = (f32) (tap[i] / sum);

    int32_t bh = canvas.h / L2D_LUMA_BLOCK, bw = canvas.w / L2D_LUMA_BLOCK;
    struct l2d_tensor blocks = l2d_graph_alloc(graph, L2D_F32, 1, bh, bw, 1);
    struct l2d_tensor blurred = l2d_graph_alloc(graph, L2D_F32, 1, bh, bw, 1);
    struct l2d_tensor map = l2d_graph_alloc(graph, L2D_F32, 1, canvas.h, canvas.w, 4);
    if (l2d_graph_failed(graph))
        return L2D_NO_TENSOR;
    uint32_t size = flat_size(graph);
    struct l2d_dispatch d = {
        .shader = "luma_blocks", .spec = &size, .num_spec = 1,
        .params = &params, .params_size = sizeof(params),
        .bind = (struct l2d_binding[]) { { canvas, L2D_READ }, { blocks, L2D_WRITE } },
        .num_bind = 2,
    };
    flat_groups(d.groups, l2d_tensor_count(&blocks), size);
    l2d_graph_dispatch(graph, &d);
    d.shader = "luma_blur";
    d.bind = (struct l2d_binding[]) { { blocks, L2D_READ }, { blurred, L2D_WRITE } };
    l2d_graph_dispatch(graph, &d);
    d.shader = "luma_combine";
    d.bind = (struct l2d_binding[]) {
        { canvas, L2D_READ }, { blurred, L2D_READ }, { map, L2D_WRITE },
    };
    d.num_bind = 3;
    flat_groups(d.groups, l2d_tensor_count(&map) / 4, size);
    l2d_graph_dispatch(graph, &d);
    return map;
}
