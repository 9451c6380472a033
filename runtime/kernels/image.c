// SPDX-License-Identifier: Apache-2.0
// Pictures to and from the codec's patches, and enlarged. See kernels.h.
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/image.h"

static void dispatch(struct l2d_graph *graph, const char *shader, const void *params,
                     uint32_t params_size, struct l2d_tensor from, struct l2d_tensor to,
                     uint64_t items)
{
    uint32_t size = flat_size(graph);
    struct l2d_dispatch d = {
        .shader = shader, .spec = &size, .num_spec = 1,
        .params = params, .params_size = params_size,
        .bind = (struct l2d_binding[]) { { from, L2D_READ }, { to, L2D_WRITE } }, .num_bind = 2,
    };
    flat_groups(d.groups, items, size);
    l2d_graph_dispatch(graph, &d);
}

struct l2d_tensor l2d_image_pack(struct l2d_graph *graph, const struct l2d_tensor *images,
                                 int32_t n, int32_t patch, enum l2d_range range)
{
    int32_t w = images[0].w, h = images[0].h, c = (3 * patch * patch + 3) & ~3;
    for (int32_t i = 0; i < n; i++)
        if (!l2d_check_shape(graph, "image_pack", "image", &images[i], L2D_F32, 1, h, w, 4))
            return L2D_NO_TENSOR;
    if (patch < 1 || w % patch || h % patch) {
        l2d_graph_fail(graph, L2D_EINVAL, "image_pack: %dx%d pixels in patches of %d", w, h, patch);
        return L2D_NO_TENSOR;
    }
    struct l2d_tensor x = l2d_graph_alloc(graph, l2d_graph_precision(graph), n, h / patch,
                                          w / patch, c);
    struct l2d_image_params params = {
        .w = (u32) (w / patch), .h = (u32) (h / patch), .patch_size = (u32) patch,
        .channels = (u32) c, .scale = range == L2D_RANGE_0_1 ? 0.5f : 1,
        .shift = range == L2D_RANGE_0_1 ? 0.5f : 0,
    };
    for (int32_t i = 0; i < n && !l2d_graph_failed(graph); i++) {
        params.row = (u32) i;
        dispatch(graph, "image_pack", &params, sizeof(params), images[i], x,
                 l2d_tensor_count(&x) / (uint64_t) (4 * n));
    }
    return x;
}

struct l2d_tensor l2d_image_unpack(struct l2d_graph *graph, struct l2d_tensor x, int32_t patch,
                                   enum l2d_range range)
{
    if (!l2d_check_shape(graph, "image_unpack", "x", &x, l2d_graph_precision(graph), 1, -1, -1, -1))
        return L2D_NO_TENSOR;
    if (patch < 1 || x.c < 3 * patch * patch) {
        l2d_graph_fail(graph, L2D_EINVAL, "image_unpack: %d channels, patches of %d", x.c, patch);
        return L2D_NO_TENSOR;
    }
    struct l2d_tensor image = l2d_graph_alloc(graph, L2D_F32, 1, x.h * patch, x.w * patch, 4);
    if (!l2d_graph_failed(graph))
        dispatch(graph, "image_unpack",
                 &(struct l2d_image_params) {
                     .w = (u32) x.w, .h = (u32) x.h, .patch_size = (u32) patch,
                     .channels = (u32) x.c, .scale = range == L2D_RANGE_0_1 ? 2 : 1,
                     .shift = range == L2D_RANGE_0_1 ? -1 : 0,
                 }, sizeof(struct l2d_image_params), x, image, l2d_tensor_count(&image) / 4);
    return image;
}

struct l2d_tensor l2d_enlarge(struct l2d_graph *graph, struct l2d_tensor picture, int32_t h,
                              int32_t w)
{
    if (!l2d_check_shape(graph, "enlarge", "picture", &picture, L2D_F32, 1, -1, -1, 4))
        return L2D_NO_TENSOR;
    struct l2d_tensor y = l2d_graph_alloc(graph, L2D_F32, 1, h, w, 4);
    if (!l2d_graph_failed(graph))
        dispatch(graph, "enlarge",
                 &(struct l2d_enlarge_params) {
                     .w = (u32) picture.w, .h = (u32) picture.h, .ow = (u32) w, .oh = (u32) h,
                 }, sizeof(struct l2d_enlarge_params), picture, y, l2d_tensor_count(&y) / 4);
    return y;
}
