// SPDX-License-Identifier: Apache-2.0
// Optical flow between two frames, and pictures steadied along it. See kernels.h.
#include <stddef.h>

#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/steady.h"

struct level {
    u32 w, h, first;
};

static u32 cells(u32 pixels)
{
    return (pixels + L2D_FLOW_CELL - 1) / L2D_FLOW_CELL;
}

// The levels of a picture's pyramid, finest first. returns how many; *row: floats of all of them.
static int levels(struct level level[L2D_STEADY_LEVELS], int32_t w, int32_t h, u32 *row)
{
    struct level at = { (u32) w, (u32) h, 0 };
    int n = 0;
    do {
        level[n++] = at;
        at.first += at.w * at.h;
        at.w = (at.w + 1) / 2;
        at.h = (at.h + 1) / 2;
    } while (n < L2D_STEADY_LEVELS && at.w >= L2D_STEADY_LEAST && at.h >= L2D_STEADY_LEAST);
    *row = (at.first + 3) / 4 * 4;
    return n;
}

struct l2d_tensor l2d_steady_lumas_shape(int32_t frames, int32_t h, int32_t w)
{
    struct level level[L2D_STEADY_LEVELS];
    u32 row;
    levels(level, w, h, &row);
    return l2d_tensor_view(NULL, 0, L2D_F32, frames, 1, 1, (int32_t) row);
}

static bool check(struct l2d_graph *graph, const char *op, const struct l2d_tensor *lumas,
                  const struct l2d_tensor *params, int32_t h, int32_t w)
{
    struct l2d_tensor shape = l2d_steady_lumas_shape(1, h, w);
    return l2d_check_shape(graph, op, "lumas", lumas, L2D_F32, -1, 1, 1, shape.c) &&
           l2d_check_bytes(graph, op, "params", params, sizeof(struct l2d_steady_params));
}

void l2d_steady_track(struct l2d_graph *graph, struct l2d_tensor canvas, struct l2d_tensor lumas,
                      struct l2d_tensor params)
{
    struct level level[L2D_STEADY_LEVELS];
    u32 row;
    if (!l2d_check_shape(graph, "steady_track", "canvas", &canvas, L2D_F32, 1, -1, -1, 4) ||
        !check(graph, "steady_track", &lumas, &params, canvas.h, canvas.w))
        return;
    uint32_t size = flat_size(graph);
    int n = levels(level, canvas.w, canvas.h, &row);
    for (int i = 0; i < n; i++) {
        struct l2d_dispatch d = {
            .shader = "luma_pyramid", .spec = &size, .num_spec = 1,
            .params = &(struct l2d_pyramid_params) {
                .w = level[i].w, .h = level[i].h, .first = level[i].first,
                .from_w = i ? level[i - 1].w : 0, .from_h = i ? level[i - 1].h : 0,
                .from = i ? level[i - 1].first : 0, .row = row,
            },
            .params_size = sizeof(struct l2d_pyramid_params),
            .bind = (struct l2d_binding[]) {
                { canvas, L2D_READ }, { params, L2D_READ }, { lumas, L2D_READ_WRITE },
            },
            .num_bind = 3,
        };
        flat_groups(d.groups, (uint64_t) level[i].w * level[i].h, size);
        l2d_graph_dispatch(graph, &d);
    }
}

struct l2d_tensor l2d_flow(struct l2d_graph *graph, struct l2d_tensor lumas,
                           struct l2d_tensor params, int32_t h, int32_t w)
{
    struct level level[L2D_STEADY_LEVELS];
    struct l2d_tensor coarse = L2D_NO_TENSOR;
    u32 row;
    if (!check(graph, "flow", &lumas, &params, h, w))
        return L2D_NO_TENSOR;
    uint32_t size = flat_size(graph);
    for (int i = levels(level, w, h, &row) - 1; i >= 0; i--) {
        u32 cells_w = cells(level[i].w), cells_h = cells(level[i].h);
        struct l2d_tensor flow = l2d_graph_alloc(graph, L2D_F32, 1, (int32_t) cells_h,
                                                 (int32_t) cells_w, 4);
        if (l2d_graph_failed(graph))
            return L2D_NO_TENSOR;
        struct l2d_dispatch d = {
            .shader = "flow", .spec = &size, .num_spec = 1,
            .params = &(struct l2d_flow_params) {
                .w = level[i].w, .h = level[i].h, .first = level[i].first, .row = row,
                .cells_w = cells_w, .cells_h = cells_h, .coarse_w = (u32) coarse.w,
                .coarse_h = (u32) coarse.h,
            },
            .params_size = sizeof(struct l2d_flow_params),
            .bind = (struct l2d_binding[]) {
                { lumas, L2D_READ }, { params, L2D_READ }, { coarse, L2D_READ },
                { flow, L2D_WRITE },
            },
            .num_bind = 4,
        };
        flat_groups(d.groups, (uint64_t) cells_w * cells_h, size);
        l2d_graph_dispatch(graph, &d);
        coarse = flow;
    }
    return coarse;
}

static struct l2d_tensor along_flow(struct l2d_graph *graph, const char *op,
                                    struct l2d_tensor picture, struct l2d_tensor last,
                                    struct l2d_tensor lumas, struct l2d_tensor params,
                                    struct l2d_tensor flow, bool moves)
{
    u32 cells_w = cells((u32) picture.w), cells_h = cells((u32) picture.h);
    if (!l2d_check_shape(graph, op, "picture", &picture, L2D_F32, 1, -1, -1, 4) ||
        !l2d_check_shape(graph, op, "last", &last, L2D_F32, 1, picture.h, picture.w, 4) ||
        !l2d_check_shape(graph, op, "flow", &flow, L2D_F32, 1, (int32_t) cells_h,
                         (int32_t) cells_w, 4) ||
        !check(graph, op, &lumas, &params, picture.h, picture.w))
        return L2D_NO_TENSOR;
    struct l2d_tensor out = l2d_graph_alloc(graph, L2D_F32, 1, picture.h, picture.w, 4);
    if (l2d_graph_failed(graph))
        return L2D_NO_TENSOR;
    uint32_t spec[] = { flat_size(graph), moves };
    struct l2d_dispatch d = {
        .shader = "steady", .spec = spec, .num_spec = COUNT_OF(spec),
        .params = &(struct l2d_steady_size_params) {
            .w = (u32) picture.w, .h = (u32) picture.h, .row = (u32) lumas.c, .cells_w = cells_w,
            .cells_h = cells_h,
        },
        .params_size = sizeof(struct l2d_steady_size_params),
        .bind = (struct l2d_binding[]) {
            { picture, L2D_READ }, { last, L2D_READ }, { lumas, L2D_READ }, { params, L2D_READ },
            { flow, L2D_READ }, { out, L2D_WRITE },
        },
        .num_bind = 6,
    };
    flat_groups(d.groups, (uint64_t) picture.w * (uint64_t) picture.h, spec[0]);
    l2d_graph_dispatch(graph, &d);
    return out;
}

struct l2d_tensor l2d_steady(struct l2d_graph *graph, struct l2d_tensor picture,
                             struct l2d_tensor last, struct l2d_tensor lumas,
                             struct l2d_tensor params, struct l2d_tensor flow)
{
    return along_flow(graph, "steady", picture, last, lumas, params, flow, false);
}

struct l2d_tensor l2d_move(struct l2d_graph *graph, struct l2d_tensor last, struct l2d_tensor lumas,
                           struct l2d_tensor params, struct l2d_tensor flow)
{
    return along_flow(graph, "move", last, last, lumas, params, flow, true);
}
