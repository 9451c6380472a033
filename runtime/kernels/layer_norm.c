// SPDX-License-Identifier: Apache-2.0
// LayerNorm over the channels of each token. See kernels.h.
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/norm.h"

#define MAX_KEPT 12                     // quads of a token that an invocation keeps

struct l2d_tensor l2d_layer_norm(struct l2d_graph *graph, const struct l2d_norm *norm,
                                 struct l2d_tensor x, float eps)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    if (!l2d_check_shape(graph, "layer_norm", "x", &x, type, -1, -1, -1, -1) ||
        !l2d_check_bytes(graph, "layer_norm", "weight", &norm->weight, 4 * (uint64_t) x.c) ||
        !l2d_check_bytes(graph, "layer_norm", "bias", &norm->bias, 4 * (uint64_t) x.c))
        return L2D_NO_TENSOR;
    struct l2d_tensor y = l2d_graph_alloc(graph, type, x.rows, x.h, x.w, x.c);
    if (l2d_graph_failed(graph))
        return y;
    uint32_t tokens = (uint32_t) (x.rows * x.h * x.w), size = flat_size(graph);
    uint32_t lanes = is_tier0(graph) ? 1 : 32, quads = (uint32_t) x.c / 4;
    uint32_t subgroup = l2d_gpu_caps(l2d_graph_gpu(graph))->subgroup_size;
    uint32_t sharing = subgroup < 32 ? subgroup : 32;
    bool keeps = !is_tier0(graph) && quads <= MAX_KEPT * sharing;
    if (keeps) {
        size = subgroup > size ? subgroup : size;
        lanes = sharing;
        while (lanes > 1 && quads < lanes)
            lanes /= 2;
    }
    struct l2d_dispatch d = {
        .shader = keeps ? "layer_norm_t1" : "layer_norm",
        .spec = (uint32_t[]) { size, lanes, quads }, .num_spec = keeps ? 3 : 2,
        .params = &(struct l2d_layer_norm_params) { tokens, (u32) x.c, eps },
        .params_size = sizeof(struct l2d_layer_norm_params),
        .bind = (struct l2d_binding[]) {
            { x, L2D_READ }, { norm->weight, L2D_READ }, { norm->bias, L2D_READ }, { y, L2D_WRITE },
        },
        .num_bind = 4,
    };
    flat_groups(d.groups, (uint64_t) tokens * lanes, size);
    l2d_graph_dispatch(graph, &d);
    return y;
}
