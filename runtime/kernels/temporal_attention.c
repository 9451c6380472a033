// SPDX-License-Identifier: Apache-2.0
// Attention over the cached frames of each pixel. See kernels.h.
#include <math.h>

#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/attention.h"

#define MAX_EACH 3                      // quads of a key that a lane keeps, if there are lanes

// An invocation a head; the same, with positions shared by subgroups of pixels; lanes that share a
// head.
enum way { ALONE, SHARED, LANES };

struct variant {
    enum way way;
    uint32_t size, lanes;               // of a workgroup; that share a head
    uint64_t padded_pixels;
};

static struct variant choose(const struct l2d_graph *graph, uint32_t quads, uint32_t pixels)
{
    struct variant v = { ALONE, flat_size(graph), 1, pixels };
    uint32_t lanes = 1, most = l2d_gpu_caps(l2d_graph_gpu(graph))->subgroup_size;
    while (quads > MAX_EACH * lanes && 2 * lanes <= most)
        lanes *= 2;
    if (!is_tier0(graph)) {
        v.way = LANES;
        v.lanes = lanes;
        v.size = most > v.size ? most : v.size;
        v.padded_pixels = (uint64_t) div_up(pixels, most / lanes) * (most / lanes);
    } else if (subgroup_lanes(graph) == 8 && quads <= 10) {     // else it spills
        v.way = SHARED;
        v.padded_pixels = 8 * div_up(pixels, 8);
    }
    return v;
}

static bool check(struct l2d_graph *graph, const struct l2d_tensor *qkv,
                  const struct l2d_tensor *pos, const struct l2d_tensor *cache,
                  const struct l2d_tensor *rows, int32_t heads, enum l2d_row_order order)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    if (!l2d_check_shape(graph, "temporal_attention", "qkv", qkv, type,
                         order == L2D_ROWS_WARMUP ? L2D_SINKS : -1, -1, -1, -1))
        return false;
    int32_t c = qkv->c / 3, d = heads > 0 ? c / heads : 0;
    if (qkv->c % 3 || d < 4 || d > 160 || d % 4 || d * heads != c) {
        l2d_graph_fail(graph, L2D_EINVAL, "temporal_attention: qkv of %d channels, %d heads",
                       qkv->c, heads);
        return false;
    }
    struct l2d_tensor like = l2d_kv_cache_shape(cache->dtype == L2D_U32 ? L2D_U32 : type, 1,
                                                qkv->h * qkv->w, c, heads);
    return l2d_check_shape(graph, "temporal_attention", "pos", pos, type, 1, 1, L2D_WINDOW,
                           3 * c) &&
           l2d_check_shape(graph, "temporal_attention", "cache", cache, like.dtype, -1, like.h,
                           like.w, like.c) &&
           l2d_check_bytes(graph, "temporal_attention", "rows", rows,
                           (uint64_t) qkv->rows * sizeof(struct l2d_row_params));
}

static void attend(struct l2d_graph *graph, const struct variant *v, struct l2d_tensor y,
                   struct l2d_tensor qkv, struct l2d_tensor pos, struct l2d_tensor cache,
                   struct l2d_tensor rows, enum l2d_row_order order, int32_t heads,
                   int32_t first_row, int32_t num_rows)
{
    int32_t c = y.c, d = c / heads, pixels = qkv.h * qkv.w;
    int32_t at_once = order == L2D_ROWS_IN_TURN ? 1 : num_rows;
    bool bytes = cache.dtype == L2D_U32;
    static const char *const shaders[2][3] = {
        { "temporal_attention", "temporal_attention_t0", "temporal_attention_t1" },
        { "temporal_attention_int8", "temporal_attention_int8_t0", "temporal_attention_int8_t1" },
    };
    struct l2d_dispatch dispatch = {
        .shader = shaders[bytes][v->way],
        .spec = (uint32_t[]) { v->size, (uint32_t) d / 4, order == L2D_ROWS_WARMUP, v->lanes },
        .num_spec = v->way == LANES ? 4 : 3,
        .params = &(struct l2d_temporal_attention_params) {
            .pixels = (u32) pixels, .heads = (u32) heads, .first_row = (u32) first_row,
            .num_rows = (u32) at_once, .turns = (u32) (num_rows / at_once),
            .scale = (f32) (1 / sqrt(d)),
        },
        .params_size = sizeof(struct l2d_temporal_attention_params),
        .bind = (struct l2d_binding[]) {
            { qkv, L2D_READ }, { pos, L2D_READ }, { cache, L2D_READ_WRITE }, { rows, L2D_READ },
            { y, L2D_WRITE }, { cache, L2D_READ },
        },
        .num_bind = v->way == LANES || bytes ? 5 : 6,
        .flops = 4.0 * num_rows * pixels * L2D_WINDOW * c,
        // Of a full window, and a step a row: 15 slots are read and one is written.
        .bytes = num_rows * ((double) l2d_tensor_bytes(&cache) / cache.rows +
                             (double) (l2d_tensor_bytes(&qkv) + l2d_tensor_bytes(&y)) / y.rows) +
                 (double) l2d_tensor_bytes(&pos),
    };
    flat_groups(dispatch.groups, v->padded_pixels * v->lanes * (uint64_t) (at_once * heads),
                v->size);
    l2d_graph_dispatch(graph, &dispatch);
}

struct l2d_tensor l2d_temporal_attention(struct l2d_graph *graph, struct l2d_tensor qkv,
                                         struct l2d_tensor pos, struct l2d_tensor cache,
                                         struct l2d_tensor rows, int32_t heads,
                                         enum l2d_row_order order)
{
    if (!check(graph, &qkv, &pos, &cache, &rows, heads, order))
        return L2D_NO_TENSOR;
    struct l2d_tensor y = l2d_graph_alloc(graph, qkv.dtype, qkv.rows, qkv.h, qkv.w, qkv.c / 3);
    if (l2d_graph_failed(graph))
        return y;
    struct variant v = choose(graph, (uint32_t) (y.c / heads / 4), (uint32_t) (y.h * y.w));
    if (order != L2D_ROWS_IN_TURN || v.way == LANES)
        attend(graph, &v, y, qkv, pos, cache, rows, order, heads, 0, y.rows);
    for (int32_t row = 0; row < y.rows && order == L2D_ROWS_IN_TURN && v.way != LANES; row++)
        attend(graph, &v, y, qkv, pos, cache, rows, L2D_ROWS_APART, heads, row, 1);
    return y;
}
