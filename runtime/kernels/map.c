// SPDX-License-Identifier: Apache-2.0
// Pooling, resizing, and parts of token lists. See kernels.h.
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/map.h"

struct l2d_tensor l2d_max_pool(struct l2d_graph *graph, struct l2d_tensor x)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    if (!l2d_check_shape(graph, "max_pool", "x", &x, type, -1, -1, -1, -1))
        return L2D_NO_TENSOR;
    struct l2d_tensor y = l2d_graph_alloc(graph, type, x.rows, (x.h + 1) / 2, (x.w + 1) / 2, x.c);
    if (l2d_graph_failed(graph))
        return L2D_NO_TENSOR;
    uint32_t size = flat_size(graph);
    struct l2d_dispatch d = {
        .shader = "max_pool", .spec = &size, .num_spec = 1,
        .params = &(struct l2d_map_params) {
            .num_rows = (u32) x.rows, .w = (u32) x.w, .h = (u32) x.h, .ow = (u32) y.w,
            .oh = (u32) y.h, .quads = (u32) x.c / 4,
        },
        .params_size = sizeof(struct l2d_map_params),
        .bind = (struct l2d_binding[]) { { x, L2D_READ }, { y, L2D_WRITE } }, .num_bind = 2,
    };
    flat_groups(d.groups, l2d_tensor_count(&y) / 4, size);
    l2d_graph_dispatch(graph, &d);
    return y;
}

struct l2d_tensor l2d_resize(struct l2d_graph *graph, struct l2d_tensor x, int32_t h, int32_t w,
                             bool align_corners, struct l2d_tensor add)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    bool adds = l2d_tensor_exists(&add), from_f32 = x.dtype == L2D_F32;
    if (!l2d_check_shape(graph, "resize", "x", &x, from_f32 ? L2D_F32 : type, -1, -1, -1, -1) ||
        (adds && !l2d_check_shape(graph, "resize", "add", &add, type, x.rows, h, w, x.c)))
        return L2D_NO_TENSOR;
    struct l2d_tensor y = l2d_graph_alloc(graph, type, x.rows, h, w, x.c);
    if (l2d_graph_failed(graph))
        return L2D_NO_TENSOR;
    uint32_t size = flat_size(graph);
    struct l2d_dispatch d = {
        .shader = "resize", .spec = (uint32_t[]) { size, from_f32, adds }, .num_spec = 3,
        .params = &(struct l2d_map_params) {
            .num_rows = (u32) x.rows, .w = (u32) x.w, .h = (u32) x.h, .ow = (u32) w,
            .oh = (u32) h, .quads = (u32) x.c / 4, .align_corners = align_corners,
        },
        .params_size = sizeof(struct l2d_map_params),
        .bind = (struct l2d_binding[]) {
            { x, L2D_READ }, { x, L2D_READ }, { add, L2D_READ }, { y, L2D_WRITE },
        },
        .num_bind = 4,
    };
    flat_groups(d.groups, l2d_tensor_count(&y) / 4, size);
    l2d_graph_dispatch(graph, &d);
    return y;
}

// Of each row of y, tokens from..from+count-1 of x to tokens to..; x may have one row for all.
static void copy_tokens(struct l2d_graph *graph, struct l2d_tensor y, int32_t to,
                        struct l2d_tensor x, int32_t from, int32_t count)
{
    uint32_t size = flat_size(graph), quads = (uint32_t) x.c / 4;
    uint32_t x_quads = (uint32_t) (x.h * x.w) * quads, y_quads = (uint32_t) (y.h * y.w) * quads;
    struct l2d_dispatch d = {
        .shader = "copy_quads", .spec = &size, .num_spec = 1,
        .params = &(struct l2d_copy_params) {
            .from = (u32) from * quads, .to = (u32) to * quads, .count = (u32) count * quads,
            .num_rows = (u32) y.rows, .from_row = x.rows == 1 ? 0 : x_quads, .to_row = y_quads,
        },
        .params_size = sizeof(struct l2d_copy_params),
        .bind = (struct l2d_binding[]) { { x, L2D_READ }, { y, L2D_WRITE } }, .num_bind = 2,
    };
    flat_groups(d.groups, (uint64_t) y.rows * (uint64_t) count * quads, size);
    l2d_graph_dispatch(graph, &d);
}

struct l2d_tensor l2d_token_concat(struct l2d_graph *graph, struct l2d_tensor a,
                                   struct l2d_tensor b)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    if (!l2d_check_shape(graph, "token_concat", "b", &b, type, -1, -1, -1, -1) ||
        !l2d_check_shape(graph, "token_concat", "a", &a, type, a.rows == 1 ? 1 : b.rows, -1, -1,
                         b.c))
        return L2D_NO_TENSOR;
    struct l2d_tensor y = l2d_graph_alloc(graph, type, b.rows, 1, a.h * a.w + b.h * b.w, a.c);
    if (l2d_graph_failed(graph))
        return L2D_NO_TENSOR;
    copy_tokens(graph, y, 0, a, 0, a.h * a.w);
    copy_tokens(graph, y, a.h * a.w, b, 0, b.h * b.w);
    return y;
}

struct l2d_tensor l2d_token_slice(struct l2d_graph *graph, struct l2d_tensor x, int32_t first,
                                  int32_t h, int32_t w)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    if (!l2d_check_shape(graph, "token_slice", "x", &x, type, -1, -1, -1, -1))
        return L2D_NO_TENSOR;
    if (first < 0 || h < 1 || w < 1 || first + h * w > x.h * x.w) {
        l2d_graph_fail(graph, L2D_EINVAL, "token_slice: %dx%d tokens from %d of %d", h, w, first,
                       x.h * x.w);
        return L2D_NO_TENSOR;
    }
    struct l2d_tensor y = l2d_graph_alloc(graph, type, x.rows, h, w, x.c);
    if (!l2d_graph_failed(graph))
        copy_tokens(graph, y, 0, x, first, h * w);
    return y;
}
