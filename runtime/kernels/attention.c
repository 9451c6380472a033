// SPDX-License-Identifier: Apache-2.0
// Spatial and cross attention. See kernels.h.
#include <math.h>
#include <string.h>

#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/attention.h"

#define WIDE 160                // beyond it a head does not fit one invocation
#define WIDEST 1024
#define WIDE_QUERIES 16         // of a workgroup, see attention_wide.comp
#define WIDE_KEYS 32

// A shader and how many queries one of its workgroups has.
struct variant {
    const char *shader;
    uint32_t queries;
    uint32_t spec[9], num_spec;
};

// On matrix units; no shader if the device's subgroups or shared memory are too small for it.
static struct variant tier2_variant(const struct l2d_gpu_caps *caps, uint32_t quads, bool causal)
{
    const struct l2d_matrix_shape *m = &caps->matrix;
    uint32_t lanes = caps->subgroup_size, block = quads <= 12 ? 64 : 32, subgroups = 4;
    uint32_t deep = div_up(4 * quads, m->k) * m->k, wide = div_up(4 * quads, m->n) * m->n;
    uint32_t part = lanes / m->m;
    uint32_t shared = block * (deep / 4 + 2) * 8 + wide * (block / 2 + 4) * 4 +
                      subgroups * m->m * ((block + 4) * 4 + (block / 4 + 2) * 8);
    if (part * m->m != lanes || (part & (part - 1)) || shared > caps->max_shared_bytes)
        return (struct variant) { 0 };
    return (struct variant) {
        "attention_t2", subgroups * m->m,
        { subgroups * lanes, quads, causal, m->m, m->n, m->k, subgroups, lanes, block }, 9,
    };
}

// By matrices of any size; no shader if the device's are too small, or heads are not of octets.
static struct variant tier3_variant(const struct l2d_gpu_caps *caps, uint32_t quads, bool causal)
{
    const struct l2d_matrix_shape *g = &caps->matrix2.grain;
    uint32_t grain = g->n > g->k ? g->n : g->k, subgroups = 4, lanes = caps->subgroup_size;
    uint32_t depth = grain ? div_up(4 * quads, grain) * grain : 0;
    // lavapipe 26 reduces rows wrongly where a matrix has more than one grain both ways.
    bool cpu = caps->type == L2D_GPU_CPU;
    uint32_t queries = cpu || depth > 48 ? g->m : 2 * g->m;
    uint32_t keys = cpu || depth > 96 ? grain : 2 * grain;
    uint32_t lines = subgroups * queries > 2 * keys ? subgroups * queries : 2 * keys;
    if (!grain || quads % 2 || depth > caps->matrix2.max_side ||
        16 * lines * (depth / 8 + 1) > caps->max_shared_bytes)
        return (struct variant) { 0 };
    return (struct variant) {
        "attention_t3", subgroups * queries,
        { subgroups * lanes, quads, causal, queries, keys, depth, subgroups, lanes }, 8,
    };
}

static struct variant choose(const struct l2d_graph *graph, uint32_t quads, bool causal)
{
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(l2d_graph_gpu(graph));
    if (4 * quads > WIDE)
        return (struct variant) { "attention_wide", WIDE_QUERIES, { 128, quads, causal }, 3 };
    if (caps->tier == L2D_TIER_0) {         // queries of a lane: what compiles in time and fits it
        uint32_t lanes = subgroup_lanes(graph), per_lane = quads <= 4 ? 4 : quads <= 10 ? 2 : 1;
        return (struct variant) { "attention_t0", lanes * per_lane,
                                  { lanes, quads, causal, per_lane }, 4 };
    }
    struct variant v = { 0 };
    bool f16 = l2d_graph_precision(graph) == L2D_F16;
    if (f16 && caps->tier >= L2D_TIER_3)
        v = tier3_variant(caps, quads, causal);
    if (f16 && caps->tier >= L2D_TIER_2 && !v.shader)
        v = tier2_variant(caps, quads, causal);
    return v.shader ? v : (struct variant) { "attention", 64, { 64, quads, causal }, 3 };
}

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
    if (d < 4 || d > WIDEST || d % 4 || d * heads != c || (q_first | k_first | v_first) % 4 ||
        q_first < 0 || k_first < 0 || v_first < 0 || q_first + c > q.c || k_first + c > kv.c ||
        v_first + c > kv.c) {
        l2d_graph_fail(graph, L2D_EINVAL, "attention: %d channels in %d heads; q at %d of %d, k at "
                       "%d, v at %d of %d", c, heads, q_first, q.c, k_first, v_first, kv.c);
        return L2D_NO_TENSOR;
    }
    struct l2d_tensor y = l2d_graph_alloc(graph, type, q.rows, q.h, q.w, c);
    if (l2d_graph_failed(graph))
        return y;
    uint32_t queries = (uint32_t) (q.h * q.w), keys = (uint32_t) (kv.h * kv.w);
    uint32_t quads = (uint32_t) d / 4, kv_stride = (uint32_t) kv.c / 4;
    struct variant v = choose(graph, quads, causal);
    if (is_for_cpu(graph, &kv) && d > WIDE &&
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
        .flops = 4.0 * queries * keys * c * q.rows,
    });
    return y;
}
