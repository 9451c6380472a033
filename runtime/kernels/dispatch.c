// SPDX-License-Identifier: Apache-2.0
// Shape checks of operands. See dispatch.h.
#include "kernels/dispatch.h"

static const char *dtype_str(enum l2d_dtype dtype)
{
    return dtype == L2D_F16 ? "f16" : dtype == L2D_F32 ? "f32" : "u32";
}

bool l2d_check_shape(struct l2d_graph *graph, const char *op, const char *name,
                     const struct l2d_tensor *t, enum l2d_dtype dtype, int32_t rows, int32_t h,
                     int32_t w, int32_t c)
{
    if (l2d_graph_failed(graph))
        return false;
    if (!l2d_tensor_exists(t)) {
        l2d_graph_fail(graph, L2D_EINVAL, "%s: %s is missing", op, name);
        return false;
    }
    if (t->dtype == dtype && (rows < 0 || t->rows == rows) && (h < 0 || t->h == h) &&
        (w < 0 || t->w == w) && (c < 0 || t->c == c))
        return true;
    l2d_graph_fail(graph, L2D_EINVAL, "%s: %s is %s [%d,%d,%d,%d], expected %s [%d,%d,%d,%d]"
                   " (-1: any)", op, name, dtype_str(t->dtype), t->rows, t->h, t->w, t->c,
                   dtype_str(dtype), rows, h, w, c);
    return false;
}

bool l2d_check_bytes(struct l2d_graph *graph, const char *op, const char *name,
                     const struct l2d_tensor *t, uint64_t bytes)
{
    if (l2d_graph_failed(graph))
        return false;
    if (l2d_tensor_exists(t) && l2d_tensor_bytes(t) >= bytes)
        return true;
    l2d_graph_fail(graph, L2D_EINVAL, "%s: %s has %" PRIu64 " bytes, %" PRIu64 " are needed", op,
                   name, l2d_tensor_exists(t) ? l2d_tensor_bytes(t) : 0, bytes);
    return false;
}

uint32_t l2d_reduction_size(struct l2d_graph *graph, const char *op, const struct l2d_tensor *x,
                            uint64_t rounds)
{
    uint32_t most = l2d_gpu_caps(l2d_graph_gpu(graph))->max_invocations;
    uint32_t size = is_tier0(graph) ? 8 : most < 256 ? 128 : 256;
    while (size < 256 && rounds / size > CPU_LOOP_ROUNDS / 2)
        size *= 2;
    if (is_for_cpu(graph, x) && rounds / size > CPU_LOOP_ROUNDS)
        l2d_graph_fail(graph, L2D_EUNSUPPORTED, "%s: too large for a CPU driver; a smaller --size "
                       "may do", op);
    return size;
}
