// SPDX-License-Identifier: Apache-2.0
// Tiles out of maps and back. See kernels.h.
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/tile.h"

// whole is cut or pasted into; tile is the other one.
static void dispatch(struct l2d_graph *graph, const char *shader, const struct l2d_tile *t,
                     struct l2d_tensor whole, struct l2d_tensor tile,
                     const struct l2d_binding bind[2])
{
    if (t->left < 0 || t->top < 0 || t->w > whole.w - t->left || t->h > whole.h - t->top ||
        t->fade_left + t->fade_right > t->w || t->fade_top + t->fade_bottom > t->h) {
        l2d_graph_fail(graph, L2D_EINVAL, "%s: %dx%d at %d,%d of %dx%d, fading over %d, %d, %d, %d",
                       shader, t->w, t->h, t->left, t->top, whole.w, whole.h, t->fade_left,
                       t->fade_right, t->fade_top, t->fade_bottom);
        return;
    }
    uint32_t size = flat_size(graph);
    struct l2d_dispatch d = {
        .shader = shader, .spec = &size, .num_spec = 1,
        .params = &(struct l2d_tile_params) {
            .num_rows = (u32) whole.rows, .w = (u32) t->w, .h = (u32) t->h,
            .whole_w = (u32) whole.w, .whole_h = (u32) whole.h, .left = (u32) t->left,
            .top = (u32) t->top, .quads = (u32) whole.c / 4, .fade_left = (u32) t->fade_left,
            .fade_right = (u32) t->fade_right, .fade_top = (u32) t->fade_top,
            .fade_bottom = (u32) t->fade_bottom,
        },
        .params_size = sizeof(struct l2d_tile_params), .bind = bind, .num_bind = 2,
    };
    flat_groups(d.groups, l2d_tensor_count(&tile) / 4, size);
    l2d_graph_dispatch(graph, &d);
}

struct l2d_tensor l2d_tile_cut(struct l2d_graph *graph, struct l2d_tensor x,
                               const struct l2d_tile *t)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    if (!l2d_check_shape(graph, "tile_cut", "x", &x, type, -1, -1, -1, -1))
        return L2D_NO_TENSOR;
    struct l2d_tensor y = l2d_graph_alloc(graph, type, x.rows, t->h, t->w, x.c);
    if (!l2d_graph_failed(graph))
        dispatch(graph, "tile_cut", t, x, y,
                 (struct l2d_binding[]) { { x, L2D_READ }, { y, L2D_WRITE } });
    return y;
}

void l2d_tile_paste(struct l2d_graph *graph, struct l2d_tensor y, struct l2d_tensor x,
                    const struct l2d_tile *t)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    if (l2d_check_shape(graph, "tile_paste", "y", &y, type, -1, -1, -1, -1) &&
        l2d_check_shape(graph, "tile_paste", "x", &x, type, y.rows, t->h, t->w, y.c))
        dispatch(graph, "tile_paste", t, y, x,
                 (struct l2d_binding[]) { { x, L2D_READ }, { y, L2D_READ_WRITE } });
}
