// SPDX-License-Identifier: Apache-2.0
// From depth maps to the picture that stands for them. See kernels.h.
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/depth.h"

static bool check(struct l2d_graph *graph, const char *op, const struct l2d_tensor *maps,
                  const struct l2d_tensor *range)
{
    if (!l2d_check_shape(graph, op, "maps", maps, l2d_graph_precision(graph), -1, maps->w, -1,
                         4) ||
        !l2d_check_shape(graph, op, "range", range, L2D_F32, 1, 1, 1, 4))
        return false;
    if (maps->rows < L2D_SINKS)
        l2d_graph_fail(graph, L2D_EINVAL, "%s: a ring of %d maps", op, maps->rows);
    return maps->rows >= L2D_SINKS;
}

void l2d_depth_range(struct l2d_graph *graph, struct l2d_tensor maps, struct l2d_tensor rows,
                     struct l2d_tensor range, float rate)
{
    bool one = l2d_tensor_exists(&rows);
    if (!check(graph, "depth_range", &maps, &range) ||
        (one && !l2d_check_bytes(graph, "depth_range", "rows", &rows,
                                 sizeof(struct l2d_row_params))))
        return;
    uint32_t pixels = (uint32_t) (maps.h * maps.w);
    uint32_t size = l2d_reduction_size(graph, "depth_range", &maps,
                                       one ? pixels : pixels * L2D_SINKS);
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "depth_range", .spec = &size, .num_spec = 1,
        .params = &(struct l2d_depth_range_params) {
            .pixels = pixels, .all = !one, .rate = rate,
        },
        .params_size = sizeof(struct l2d_depth_range_params),
        .bind = (struct l2d_binding[]) {
            { maps, L2D_READ }, { rows, L2D_READ }, { range, L2D_READ_WRITE },
        },
        .num_bind = 3,
        .groups = { 1, 1, 1 },
    });
}

struct l2d_tensor l2d_depth_structure(struct l2d_graph *graph, struct l2d_tensor maps,
                                      struct l2d_tensor rows, struct l2d_tensor range, int32_t h,
                                      int32_t w)
{
    if (!check(graph, "depth_structure", &maps, &range) ||
        !l2d_check_bytes(graph, "depth_structure", "rows", &rows, sizeof(struct l2d_row_params)))
        return L2D_NO_TENSOR;
    struct l2d_tensor picture = l2d_graph_alloc(graph, L2D_F32, 1, h, w, 4);
    if (l2d_graph_failed(graph))
        return L2D_NO_TENSOR;
    uint32_t size = flat_size(graph);
    struct l2d_dispatch d = {
        .shader = "depth_structure", .spec = &size, .num_spec = 1,
        .params = &(struct l2d_depth_structure_params) {
            .side = (u32) maps.w, .w = (u32) w, .h = (u32) h,
        },
        .params_size = sizeof(struct l2d_depth_structure_params),
        .bind = (struct l2d_binding[]) {
            { maps, L2D_READ }, { rows, L2D_READ }, { range, L2D_READ }, { picture, L2D_WRITE },
        },
        .num_bind = 4,
    };
    flat_groups(d.groups, l2d_tensor_count(&picture) / 4, size);
    l2d_graph_dispatch(graph, &d);
    return picture;
}
