// SPDX-License-Identifier: Apache-2.0
// Attention over the cached frames of each pixel. See kernels.h.
#include <math.h>

#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/attention.h"

struct l2d_tensor l2d_temporal_attention(struct l2d_graph *graph, struct l2d_tensor qkv,
                                         struct l2d_tensor pos, struct l2d_tensor cache,
                                         struct l2d_tensor rows, int32_t heads, bool warmup)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    if (!l2d_check_shape(graph, "temporal_attention", "qkv", &qkv, type, warmup ? L2D_SINKS : -1,
                         -1, -1, -1))
        return L2D_NO_TENSOR;
    int32_t c = qkv.c / 3, d = heads > 0 ? c / heads : 0, pixels = qkv.h * qkv.w;
    if (qkv.c % 3 || d < 4 || d > 160 || d % 4 || d * heads != c) {
        l2d_graph_fail(graph, L2D_EINVAL, "temporal_attention: qkv of %d channels, %d heads", qkv.c,
                       heads);
        return L2D_NO_TENSOR;
    }
    bool bytes = cache.dtype == L2D_U32;
    struct l2d_tensor like = l2d_kv_cache_shape(bytes ? L2D_U32 : type, 1, pixels, c, heads);
    if (!l2d_check_shape(graph, "temporal_attention", "pos", &pos, type, 1, 1, L2D_WINDOW, 3 * c) ||
        !l2d_check_shape(graph, "temporal_attention", "cache", &cache, like.dtype, -1, like.h,
                         like.w, like.c) ||
        !l2d_check_bytes(graph, "temporal_attention", "rows", &rows,
                         (uint64_t) qkv.rows * sizeof(struct l2d_row_params)))
        return L2D_NO_TENSOR;
    struct l2d_tensor y = l2d_graph_alloc(graph, type, qkv.rows, qkv.h, qkv.w, c);
    if (l2d_graph_failed(graph))
        return y;
    bool share = is_tier0(graph) && subgroup_lanes(graph) == 8 && d <= 40;  // else it spills
    uint32_t size = flat_size(graph);
    uint64_t padded = share ? 8 * div_up((uint64_t) pixels, 8) : (uint32_t) pixels;
    static const char *const shaders[2][2] = {
        { "temporal_attention", "temporal_attention_t0" },
        { "temporal_attention_int8", "temporal_attention_int8_t0" },
    };
    struct l2d_dispatch dispatch = {
        .shader = shaders[bytes][share],
        .spec = (uint32_t[]) { size, (uint32_t) d / 4, warmup }, .num_spec = 3,
        .params = &(struct l2d_temporal_attention_params) {
            .pixels = (u32) pixels, .heads = (u32) heads, .num_rows = (u32) qkv.rows,
            .scale = (f32) (1 / sqrt(d)),
        },
        .params_size = sizeof(struct l2d_temporal_attention_params),
        .bind = (struct l2d_binding[]) {
            { qkv, L2D_READ }, { pos, L2D_READ }, { cache, L2D_READ_WRITE }, { rows, L2D_READ },
            { y, L2D_WRITE },
        },
        .num_bind = 5,
        .flops = 4.0 * qkv.rows * pixels * L2D_WINDOW * c,
        // Of a full window, and a step a row: 15 slots are read and one is written.
        .bytes = (double) qkv.rows * (double) l2d_tensor_bytes(&cache) / cache.rows +
                 (double) (l2d_tensor_bytes(&qkv) + l2d_tensor_bytes(&y) + l2d_tensor_bytes(&pos)),
    };
    flat_groups(dispatch.groups, padded * (uint64_t) (qkv.rows * heads), size);
    l2d_graph_dispatch(graph, &dispatch);
    return y;
}
