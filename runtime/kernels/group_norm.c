// SPDX-License-Identifier: Apache-2.0
// GroupNorm: statistics, then application; on GPUs in one dispatch where a workgroup can keep a
// group, since a dispatch that waits for another costs microseconds. See kernels.h.
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/norm.h"

#define MAX_KEPT 16                     // loads that an invocation keeps in registers

#define MAX_SUBGROUPS 16                // of a workgroup: no known device has less
#define MAX_CHANNELS 1024               // that a CPU driver's workgroup keeps statistics of

// How a GPU's workgroups read a group, see group_part.glsl; parts: how many of them share one.
struct reading {
    uint32_t unit, size, each, parts;
};

static struct reading reading(const struct l2d_graph *graph, const struct l2d_tensor *x,
                              struct l2d_group_norm_params *params)
{
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(l2d_graph_gpu(graph));
    uint32_t width = (params->c0 + params->c1) / params->groups;
    struct reading r = { .unit = width % 4 == 0 ? 4 : width % 2 == 0 ? 2 : 1, .size = 512 };
    while (r.size > caps->max_invocations || r.size > MAX_SUBGROUPS * caps->subgroup_size)
        r.size /= 2;
    uint32_t units = width / r.unit, most = MAX_KEPT * r.size / units;
    if (!most)
        return r;
    r.parts = div_up(params->pixels, most);
    if (r.parts > 1) {                  // then enough of them to have all cores read
        uint32_t wanted = div_up(2 * (uint64_t) caps->num_cores,
                                 params->groups * (uint64_t) x->rows);
        r.parts = r.parts < wanted ? wanted : r.parts;
    }
    params->part_pixels = div_up(params->pixels, r.parts);
    r.parts = div_up(params->pixels, params->part_pixels);
    uint32_t items = params->part_pixels * units;
    while (r.size > 128 && r.size / 2 >= caps->subgroup_size && items <= 2 * r.size)
        r.size /= 2;
    r.each = div_up(items, r.size);
    return r;
}

static void in_one(struct l2d_graph *graph, const struct l2d_norm *norm, struct l2d_tensor x,
                   struct l2d_tensor x2, struct l2d_tensor residual, struct l2d_tensor y,
                   const struct l2d_group_norm_params *params, const struct reading *r,
                   enum l2d_act act)
{
    uint32_t width = (params->c0 + params->c1) / params->groups;
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "group_norm_t1",
        .spec = (uint32_t[]) { r->size, r->unit, width, r->each, (uint32_t) act,
                               l2d_tensor_exists(&residual) },
        .num_spec = 6,
        .params = params, .params_size = sizeof(*params),
        .bind = (struct l2d_binding[]) {
            { x, L2D_READ }, { x2, L2D_READ }, { norm->weight, L2D_READ },
            { norm->bias, L2D_READ }, { residual, L2D_READ }, { y, L2D_WRITE },
        },
        .num_bind = 6,
        .groups = { params->groups, (uint32_t) x.rows, 1 },
    });
}

// The fewest quads of channels that hold whole groups.
static uint32_t quads_of_groups(uint32_t width)
{
    return width % 4 == 0 ? width / 4 : width % 2 == 0 ? width / 2 : width;
}

// On a CPU driver, one subgroup for each of them, as long as it gets to the end.
static bool by_quads(struct l2d_graph *graph, const struct l2d_group_norm_params *p, uint32_t quads,
                     uint32_t rows, const struct l2d_binding bind[3])
{
    uint32_t lanes = subgroup_lanes(graph), width = (p->c0 + p->c1) / p->groups;
    uint64_t rounds = (uint64_t) quads * (2 * div_up(p->pixels, lanes) + 6) + 8 * width;
    if (!is_tier0(graph) || rounds > CPU_LOOP_ROUNDS / 2 || 4 * quads > MAX_CHANNELS)
        return false;
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "group_norm_stats_t0",
        .spec = (uint32_t[]) { lanes, quads, width }, .num_spec = 3,
        .params = p, .params_size = sizeof(*p), .bind = bind, .num_bind = 3,
        .groups = { (p->c0 + p->c1) / 4 / quads, rows, 1 },
    });
    return true;
}

// r->parts of each group's statistics, or all of them at once if it is 0.
static struct l2d_tensor statistics(struct l2d_graph *graph, struct l2d_tensor x,
                                    struct l2d_tensor x2,
                                    const struct l2d_group_norm_params *params,
                                    const struct reading *r)
{
    uint32_t groups = params->groups, width = (params->c0 + params->c1) / groups;
    uint32_t parts = r->parts ? r->parts : 1, size = r->size;
    struct l2d_tensor stats = l2d_graph_alloc(graph, L2D_F32, x.rows, (int32_t) parts,
                                              (int32_t) groups, 2);
    const struct l2d_binding bind[] = { { x, L2D_READ }, { x2, L2D_READ }, { stats, L2D_WRITE } };
    if (!r->parts && by_quads(graph, params, quads_of_groups(width), (uint32_t) x.rows, bind))
        return stats;
    if (!r->parts)
        size = l2d_reduction_size(graph, "group_norm", &x,
                                  2 * (uint64_t) params->pixels * (width + 2));
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = r->parts ? "group_norm_stats_t1" : "group_norm_stats",
        .spec = (uint32_t[]) { size, r->unit, width, r->each }, .num_spec = r->parts ? 4 : 1,
        .params = params, .params_size = sizeof(*params),
        .bind = bind, .num_bind = 3, .groups = { groups, (uint32_t) x.rows, parts },
    });
    return stats;
}

static void in_two(struct l2d_graph *graph, const struct l2d_norm *norm, struct l2d_tensor x,
                   struct l2d_tensor x2, struct l2d_tensor residual, struct l2d_tensor y,
                   const struct l2d_group_norm_params *params, const struct reading *r,
                   enum l2d_act act)
{
    struct l2d_tensor stats = statistics(graph, x, x2, params, r);
    uint32_t quads = (params->c0 + params->c1) / 4, size = flat_size(graph);
    uint32_t items = quads * div_up(params->pixels, params->pixels_per_item);
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "group_norm_apply",
        .spec = (uint32_t[]) { size, (uint32_t) act, l2d_tensor_exists(&residual), r->parts },
        .num_spec = 4,
        .params = params, .params_size = sizeof(*params),
        .bind = (struct l2d_binding[]) {
            { x, L2D_READ }, { x2, L2D_READ }, { stats, L2D_READ }, { norm->weight, L2D_READ },
            { norm->bias, L2D_READ }, { residual, L2D_READ }, { y, L2D_WRITE },
        },
        .num_bind = 7,
        .groups = { div_up(items, size), (uint32_t) x.rows, 1 },
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
    struct reading r = is_tier0(graph) ? (struct reading) { 0 } : reading(graph, &x, &params);
    struct l2d_tensor y = l2d_graph_alloc(graph, type, x.rows, x.h, x.w, c);
    if (l2d_graph_failed(graph))
        return L2D_NO_TENSOR;
    if (r.parts)                                // which each invocation adds up
        params.pixels_per_item = r.parts > 16 ? 64 : 8;
    (r.parts == 1 ? in_one : in_two)(graph, norm, x, x2, residual, y, &params, &r, act);
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
