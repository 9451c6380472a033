// SPDX-License-Identifier: Apache-2.0
// GroupNorm: statistics, then application; in one dispatch where a workgroup can keep a group, or
// on CPU drivers go through it, since one that waits for another costs microseconds. See kernels.h.
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/norm.h"

#define MAX_KEPT 16                     // loads that an invocation keeps in registers
#define MAX_CHANNELS 1024               // that a CPU driver's workgroup keeps statistics of

struct operands {
    const struct l2d_norm *norm;
    struct l2d_tensor x, x2, residual, y;       // x2 and residual may be missing
};

// How workgroups of `size` read groups; parts: how many of them share one, 1: all in one dispatch.
// On GPUs each invocation reads `each` units of so many channels, see group_part.glsl; on CPU
// drivers a unit is all channels of a workgroup.
struct reading {
    uint32_t unit, size, each, parts;
};

static uint32_t width_of(const struct l2d_group_norm_params *params)
{
    return (params->c0 + params->c1) / params->groups;
}

// One subgroup for the fewest quads that hold whole groups, as long as it gets to the end.
static struct reading cpu_reading(const struct l2d_graph *graph,
                                  const struct l2d_group_norm_params *params)
{
    uint32_t lanes = subgroup_lanes(graph), width = width_of(params);
    uint32_t quads = width % 4 == 0 ? width / 4 : width % 2 == 0 ? width / 2 : width;
    uint64_t rounds = (uint64_t) quads * (3 * div_up(params->pixels, lanes) + 10) + 8 * width;
    if (rounds > CPU_LOOP_ROUNDS / 2 || 4 * quads > MAX_CHANNELS)
        return (struct reading) { 0 };
    return (struct reading) { .unit = 4 * quads, .size = lanes, .parts = 1 };
}

static struct reading gpu_reading(const struct l2d_graph *graph,
                                  struct l2d_group_norm_params *params)
{
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(l2d_graph_gpu(graph));
    uint32_t width = width_of(params);
    struct reading r = { .unit = width % 4 == 0 ? 4 : width % 2 == 0 ? 2 : 1, .size = 512 };
    while (r.size > caps->max_invocations)
        r.size /= 2;
    uint32_t units = width / r.unit, most = MAX_KEPT * r.size / units;
    if (!most)
        return r;
    r.parts = div_up(params->pixels, most);
    if (r.parts > 1) {                  // then enough of them to have all cores read two rows,
        uint32_t wanted = div_up(caps->num_cores, params->groups);
        r.parts = r.parts < wanted ? wanted : r.parts;          // however many there are
    }
    params->part_pixels = div_up(params->pixels, r.parts);
    r.parts = div_up(params->pixels, params->part_pixels);
    uint32_t items = params->part_pixels * units;
    while (r.size > 128 && r.size / 2 >= caps->subgroup_size && items <= 2 * r.size)
        r.size /= 2;
    r.each = div_up(items, r.size);
    return r;
}

static void in_one(struct l2d_graph *graph, const struct operands *o,
                   const struct l2d_group_norm_params *params, const struct reading *r,
                   enum l2d_act act)
{
    uint32_t width = width_of(params), has = l2d_tensor_exists(&o->residual);
    uint32_t t0[] = { r->size, r->unit / 4, width, (uint32_t) act, has };
    uint32_t t1[] = { r->size, r->unit, width, r->each, (uint32_t) act, has };
    bool tier0 = is_tier0(graph);
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = tier0 ? "group_norm_t0" : "group_norm_t1",
        .spec = tier0 ? t0 : t1, .num_spec = tier0 ? COUNT_OF(t0) : COUNT_OF(t1),
        .params = params, .params_size = sizeof(*params),
        .bind = (struct l2d_binding[]) {
            { o->x, L2D_READ }, { o->x2, L2D_READ }, { o->norm->weight, L2D_READ },
            { o->norm->bias, L2D_READ }, { o->residual, L2D_READ }, { o->y, L2D_WRITE },
        },
        .num_bind = 6,
        .groups = { tier0 ? (params->c0 + params->c1) / r->unit : params->groups,
                    (uint32_t) o->x.rows, 1 },
    });
}

// r->parts of each group's statistics, or all of them at once if it is 0.
static struct l2d_tensor statistics(struct l2d_graph *graph, const struct operands *o,
                                    const struct l2d_group_norm_params *params,
                                    const struct reading *r)
{
    uint32_t groups = params->groups, width = width_of(params);
    uint32_t parts = r->parts ? r->parts : 1, size = r->size;
    struct l2d_tensor stats = l2d_graph_alloc(graph, L2D_F32, o->x.rows, (int32_t) parts,
                                              (int32_t) groups, 2);
    if (!r->parts)
        size = l2d_reduction_size(graph, "group_norm", &o->x,
                                  2 * (uint64_t) params->pixels * (width + 2));
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = r->parts ? "group_norm_stats_t1" : "group_norm_stats",
        .spec = (uint32_t[]) { size, r->unit, width, r->each }, .num_spec = r->parts ? 4 : 1,
        .params = params, .params_size = sizeof(*params),
        .bind = (struct l2d_binding[]) {
            { o->x, L2D_READ }, { o->x2, L2D_READ }, { stats, L2D_WRITE },
        },
        .num_bind = 3, .groups = { groups, (uint32_t) o->x.rows, parts },
    });
    return stats;
}

static void in_two(struct l2d_graph *graph, const struct operands *o,
                   const struct l2d_group_norm_params *params, const struct reading *r,
                   enum l2d_act act)
{
    struct l2d_tensor stats = statistics(graph, o, params, r);
    struct l2d_group_norm_params apply = *params;
    uint32_t quads = (params->c0 + params->c1) / 4, size = flat_size(graph);
    while ((uint64_t) quads * div_up(apply.pixels, apply.pixels_per_item) > UINT64_C(65535) * size)
        apply.pixels_per_item *= 2;
    uint32_t items = quads * div_up(apply.pixels, apply.pixels_per_item);
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "group_norm_apply",
        .spec = (uint32_t[]) { size, (uint32_t) act, l2d_tensor_exists(&o->residual), r->parts },
        .num_spec = 4,
        .params = &apply, .params_size = sizeof(apply),
        .bind = (struct l2d_binding[]) {
            { o->x, L2D_READ }, { o->x2, L2D_READ }, { stats, L2D_READ },
            { o->norm->weight, L2D_READ }, { o->norm->bias, L2D_READ }, { o->residual, L2D_READ },
            { o->y, L2D_WRITE },
        },
        .num_bind = 7,
        .groups = { div_up(items, size), (uint32_t) o->x.rows, 1 },
    });
}

static struct l2d_tensor group_norm(struct l2d_graph *graph, const struct l2d_norm *norm,
                                    struct l2d_tensor x, struct l2d_tensor x2,
                                    struct l2d_tensor residual, int32_t groups, float eps,
                                    enum l2d_act act)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    bool two = l2d_tensor_exists(&x2);
    if (!l2d_check_shape(graph, "group_norm", "x", &x, type, -1, -1, -1, -1) ||
        (two && !l2d_check_shape(graph, "group_norm", "x2", &x2, type, x.rows, x.h, x.w, -1)))
        return L2D_NO_TENSOR;
    int32_t c = x.c + (two ? x2.c : 0);
    if (groups < 1 || c % groups || x.c % 4 || c % 4 || act > L2D_ACT_RELU) {
        l2d_graph_fail(graph, L2D_EINVAL, "group_norm: %d channels in %d groups, act %d", c, groups,
                       (int) act);
        return L2D_NO_TENSOR;
    }
    if (!l2d_check_bytes(graph, "group_norm", "weight", &norm->weight, 4 * (uint64_t) c) ||
        !l2d_check_bytes(graph, "group_norm", "bias", &norm->bias, 4 * (uint64_t) c))
        return L2D_NO_TENSOR;

    uint32_t pixels = (uint32_t) (x.h * x.w);
    struct l2d_group_norm_params params = {
        .c0 = (u32) x.c, .c1 = (u32) (c - x.c), .pixels = pixels, .groups = (u32) groups,
        .pixels_per_item = 16, .eps = eps,
    };
    struct reading r = is_tier0(graph) ? cpu_reading(graph, &params)
                                       : gpu_reading(graph, &params);
    struct l2d_tensor y = l2d_graph_alloc(graph, type, x.rows, x.h, x.w, c);
    if (l2d_graph_failed(graph))
        return L2D_NO_TENSOR;
    if (r.parts)                                // which each invocation adds up
        params.pixels_per_item = r.parts > 16 ? 64 : 8;
    const struct operands o = { norm, x, x2, residual, y };
    (r.parts == 1 ? in_one : in_two)(graph, &o, &params, &r, act);
    return l2d_graph_failed(graph) ? L2D_NO_TENSOR : y;
}

struct l2d_tensor l2d_group_norm(struct l2d_graph *graph, const struct l2d_norm *norm,
                                 struct l2d_tensor x, struct l2d_tensor x2, int32_t groups,
                                 float eps, enum l2d_act act)
{
    return group_norm(graph, norm, x, x2, L2D_NO_TENSOR, groups, eps, act);
}

struct l2d_tensor l2d_group_norm_add_relu(struct l2d_graph *graph, const struct l2d_norm *norm,
                                          struct l2d_tensor x, struct l2d_tensor residual,
                                          int32_t groups, float eps)
{
    if (!l2d_check_shape(graph, "group_norm", "residual", &residual, l2d_graph_precision(graph),
                         x.rows, x.h, x.w, x.c))
        return L2D_NO_TENSOR;
    return group_norm(graph, norm, x, L2D_NO_TENSOR, residual, groups, eps, L2D_ACT_RELU);
}
