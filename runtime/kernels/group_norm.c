// SPDX-License-Identifier: Apache-2.0
// GroupNorm: statistics, then application; on GPUs in one dispatch where there is little to do,
// since a dispatch that waits for another costs microseconds. See kernels.h.
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/norm.h"

// Values of a group that a workgroup handles about as fast as two dispatches begin.
#define MAX_AT_ONCE 24576u

static void in_one(struct l2d_graph *graph, const struct l2d_norm *norm, struct l2d_tensor x,
                   struct l2d_tensor x2, struct l2d_tensor residual, struct l2d_tensor y,
                   const struct l2d_group_norm_params *params, enum l2d_act act)
{
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "group_norm",
        .spec = (uint32_t[]) { 256, (uint32_t) act, l2d_tensor_exists(&residual) },
        .num_spec = 3,
        .params = params, .params_size = sizeof(*params),
        .bind = (struct l2d_binding[]) {
            { x, L2D_READ }, { x2, L2D_READ }, { norm->weight, L2D_READ },
            { norm->bias, L2D_READ }, { residual, L2D_READ }, { y, L2D_WRITE },
        },
        .num_bind = 6,
        .groups = { params->groups, (uint32_t) x.rows, 1 },
    });
}

static void in_two(struct l2d_graph *graph, const struct l2d_norm *norm, struct l2d_tensor x,
                   struct l2d_tensor x2, struct l2d_tensor residual, struct l2d_tensor y,
                   const struct l2d_group_norm_params *params, enum l2d_act act)
{
    uint32_t pixels = params->pixels, c = params->c0 + params->c1, groups = params->groups;
    uint64_t rounds = 2 * (uint64_t) pixels * (c / groups + 2);
    uint32_t size = l2d_reduction_size(graph, "group_norm", &x, rounds);
    struct l2d_tensor stats = l2d_graph_alloc(graph, L2D_F32, x.rows, 1, (int32_t) groups, 2);
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "group_norm_stats",
        .spec = &size, .num_spec = 1,
        .params = params, .params_size = sizeof(*params),
        .bind = (struct l2d_binding[]) { { x, L2D_READ }, { x2, L2D_READ }, { stats, L2D_WRITE } },
        .num_bind = 3,
        .groups = { groups, (uint32_t) x.rows, 1 },
    });
    uint32_t items = c / 4 * div_up(pixels, params->pixels_per_item);
    uint32_t apply_size = flat_size(graph);
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "group_norm_apply",
        .spec = (uint32_t[]) { apply_size, (uint32_t) act, l2d_tensor_exists(&residual) },
        .num_spec = 3,
        .params = params, .params_size = sizeof(*params),
        .bind = (struct l2d_binding[]) {
            { x, L2D_READ }, { x2, L2D_READ }, { stats, L2D_READ }, { norm->weight, L2D_READ },
            { norm->bias, L2D_READ }, { residual, L2D_READ }, { y, L2D_WRITE },
        },
        .num_bind = 7,
        .groups = { div_up(items, apply_size), (uint32_t) x.rows, 1 },
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
    bool little = !is_tier0(graph) && (uint64_t) pixels * (uint32_t) (c / groups) <= MAX_AT_ONCE;
    struct l2d_tensor y = l2d_graph_alloc(graph, type, x.rows, x.h, x.w, c);
    if (l2d_graph_failed(graph))
        return L2D_NO_TENSOR;
    (little ? in_one : in_two)(graph, norm, x, x2, residual, y, &params, act);
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
