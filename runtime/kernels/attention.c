// SPDX-License-Identifier: Apache-2.0
// Spatial and cross attention. See kernels.h.
#include <math.h>

#include "kernels/attention_variant.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/attention.h"

#define WIDE_KEYS 32                    // at a time, see attention_wide.comp

struct l2d_tensor l2d_attention(struct l2d_graph *graph, struct l2d_tensor q, int32_t q_first,
                                struct l2d_tensor kv, int32_t k_first, int32_t v_first, int32_t c,
                                int32_t heads, bool causal)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    int32_t kv_rows = kv.rows == 1 ? 1 : q.rows;
    if (!l2d_check_shape(graph, "attention", "q", &q, type, -1, -1, -1, -1) ||
        !l2d_check_shape(graph, "attention", "kv", &kv, type, kv_rows, -1, -1, -1))
        return L2D_NO_TENSOR;
    int32_t d = heads > 0 ? c / heads : 0;
    if (d < 4 || d > L2D_ATTENTION_WIDEST || d % 4 || d * heads != c ||
        (q_first | k_first | v_first) % 4 || q_first < 0 || k_first < 0 || v_first < 0 ||
        q_first + c > q.c || k_first + c > kv.c || v_first + c > kv.c) {
        l2d_graph_fail(graph, L2D_EINVAL, "attention: %d channels in %d heads; q at %d of %d, k at "
                       "%d, v at %d of %d", c, heads, q_first, q.c, k_first, v_first, kv.c);
        return L2D_NO_TENSOR;
    }
    struct l2d_tensor y = l2d_graph_alloc(graph, type, q.rows, q.h, q.w, c);
    if (l2d_graph_failed(graph))
        return y;
    uint32_t queries = (uint32_t) (q.h * q.w), keys = (uint32_t) (kv.h * kv.w);
    uint32_t quads = (uint32_t) d / 4, kv_stride = (uint32_t) kv.c / 4;
    double flops = 4.0 * queries * keys * c * q.rows;
    struct l2d_attention_variant v = l2d_attention_choose(graph, &(struct l2d_attention_shape) {
        .rows = (uint32_t) q.rows, .queries = queries, .keys = keys, .heads = (uint32_t) heads,
        .quads = quads, .causal = causal,
    }, flops);
    if (is_for_cpu(graph, &kv) && d > L2D_ATTENTION_WIDE &&
        div_up(keys, WIDE_KEYS) * (uint64_t) (quads / 16 + 2 * WIDE_KEYS + 4) > CPU_LOOP_ROUNDS) {
        l2d_graph_fail(graph, L2D_EUNSUPPORTED, "attention of %u tokens: too many for a CPU "
                       "driver; a smaller --size may do", keys);
        return L2D_NO_TENSOR;
    }
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = v.shader, .spec = v.spec, .num_spec = v.num_spec,
        .params = &(struct l2d_attention_params) {
            .queries = queries, .keys = keys, .heads = (u32) heads,
            .q_stride = (u32) q.c / 4, .q_first = (u32) q_first / 4, .kv_stride = kv_stride,
            .k_first = (u32) k_first / 4, .v_first = (u32) v_first / 4,
            .kv_row_stride = kv.rows == 1 ? 0 : keys * kv_stride,
            .scale = (f32) (1 / sqrt(d)),
        },
        .params_size = sizeof(struct l2d_attention_params),
        .bind = (struct l2d_binding[]) { { q, L2D_READ }, { kv, L2D_READ }, { y, L2D_WRITE } },
        .num_bind = 3,
        .groups = { div_up(queries, v.queries), (uint32_t) heads, (uint32_t) q.rows },
        .variant = v.name, .flops = flops,
    });
    return y;
}
