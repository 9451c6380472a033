// SPDX-License-Identifier: Apache-2.0
// Latents in the ring: noise in, gather, consistency step, way out. See kernels.h.
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/latent.h"

static bool check_ring(struct l2d_graph *graph, const char *op, const struct l2d_tensor *ring,
                       const struct l2d_tensor *rows, int32_t num_rows)
{
    if (!l2d_check_shape(graph, op, "ring", ring, L2D_F32, -1, -1, -1, -1) ||
        !l2d_check_bytes(graph, op, "rows", rows,
                         (uint64_t) num_rows * sizeof(struct l2d_row_params)))
        return false;
    if (num_rows >= 1 && num_rows <= L2D_MAX_ROWS && ring->c % 4 == 0)
        return true;
    l2d_graph_fail(graph, L2D_EINVAL, "%s: %d rows of %d channels", op, num_rows, ring->c);
    return false;
}

// Absent, or a ring like the latents'.
static bool check_origin(struct l2d_graph *graph, const char *op, const struct l2d_tensor *origin,
                         const struct l2d_tensor *ring)
{
    return !l2d_tensor_exists(origin) ||
           l2d_check_shape(graph, op, "origin", origin, L2D_F32, ring->rows, ring->h, ring->w,
                           ring->c);
}

// The shaders declare that they write it: in its absence they get what they write anyway.
static struct l2d_tensor origin_or(const struct l2d_tensor *origin, struct l2d_tensor ring)
{
    return l2d_tensor_exists(origin) ? *origin : ring;
}

static void dispatch(struct l2d_graph *graph, const char *shader, struct l2d_tensor ring,
                     struct l2d_latent_params params, uint32_t guide,
                     const struct l2d_binding *bind, uint32_t num_bind)
{
    uint32_t size = flat_size(graph);
    params.quads = (u32) (ring.h * ring.w * ring.c / 4);
    struct l2d_dispatch d = {
        .shader = shader, .spec = (uint32_t[]) { size, guide }, .num_spec = guide ? 2 : 1,
        .params = &params, .params_size = sizeof(params),
        .bind = bind, .num_bind = num_bind,
    };
    flat_groups(d.groups, (uint64_t) params.quads * params.num_rows, size);
    l2d_graph_dispatch(graph, &d);
}

void l2d_latent_noise(struct l2d_graph *graph, struct l2d_tensor z, float scale,
                      struct l2d_tensor ring, struct l2d_tensor rows, struct l2d_tensor origin)
{
    if (!check_ring(graph, "latent_noise", &ring, &rows, 1) ||
        !l2d_check_shape(graph, "latent_noise", "z", &z, l2d_graph_precision(graph), 1, ring.h,
                         ring.w, ring.c) || !check_origin(graph, "latent_noise", &origin, &ring))
        return;
    dispatch(graph, "latent_noise", ring,
             (struct l2d_latent_params) {
                 .num_rows = 1, .scale = scale, .write_origin = l2d_tensor_exists(&origin),
             }, 0,
             (struct l2d_binding[]) {
                 { z, L2D_READ }, { ring, L2D_READ_WRITE }, { rows, L2D_READ },
                 { origin_or(&origin, ring), L2D_WRITE },
             }, 4);
}

struct l2d_tensor l2d_latent_load(struct l2d_graph *graph, struct l2d_tensor ring,
                                  struct l2d_tensor rows, int32_t num_rows)
{
    if (!check_ring(graph, "latent_load", &ring, &rows, num_rows))
        return L2D_NO_TENSOR;
    struct l2d_tensor x = l2d_graph_alloc(graph, l2d_graph_precision(graph), num_rows, ring.h,
                                          ring.w, ring.c);
    if (!l2d_graph_failed(graph))
        dispatch(graph, "latent_load", ring,
                 (struct l2d_latent_params) { .num_rows = (u32) num_rows }, 0,
                 (struct l2d_binding[]) {
                     { ring, L2D_READ }, { rows, L2D_READ }, { x, L2D_WRITE },
                 }, 3);
    return x;
}

void l2d_lcm_step(struct l2d_graph *graph, struct l2d_tensor pred, struct l2d_tensor ring,
                  struct l2d_tensor rows, struct l2d_tensor x0, const struct l2d_guide *guide)
{
    enum l2d_dtype type = l2d_graph_precision(graph);
    struct l2d_guide none = { .negative = L2D_NO_TENSOR, .origin = L2D_NO_TENSOR };
    const struct l2d_guide *g = guide ? guide : &none;
    bool negative = l2d_tensor_exists(&g->negative), origin = l2d_tensor_exists(&g->origin);
    if (!check_ring(graph, "lcm_step", &ring, &rows, pred.rows) ||
        !l2d_check_shape(graph, "lcm_step", "pred", &pred, type, -1, ring.h, ring.w, ring.c) ||
        (l2d_tensor_exists(&x0) &&
         !l2d_check_shape(graph, "lcm_step", "x0", &x0, L2D_F32, pred.rows, ring.h, ring.w,
                          ring.c)) ||
        (negative && !l2d_check_shape(graph, "lcm_step", "negative", &g->negative, type,
                                      origin ? -1 : pred.rows, ring.h, ring.w, ring.c)) ||
        !check_origin(graph, "lcm_step", &g->origin, &ring))
        return;
    dispatch(graph, "lcm_step", ring,
             (struct l2d_latent_params) {
                 .num_rows = (u32) pred.rows, .write_x0 = l2d_tensor_exists(&x0),
                 .guidance = g->scale, .delta = g->delta,
             }, (negative ? L2D_GUIDE_NEGATIVE : 0) | (origin ? L2D_GUIDE_ORIGIN : 0),
             (struct l2d_binding[]) {
                 { pred, L2D_READ }, { ring, L2D_READ_WRITE }, { rows, L2D_READ },
                 { x0, L2D_WRITE }, { g->negative, L2D_READ },
                 { origin_or(&g->origin, ring), L2D_READ_WRITE },
             }, 6);
}

struct l2d_tensor l2d_latent_decode(struct l2d_graph *graph, struct l2d_tensor ring,
                                    struct l2d_tensor rows, float scale)
{
    if (!check_ring(graph, "latent_decode", &ring, &rows, 1))
        return L2D_NO_TENSOR;
    struct l2d_tensor x = l2d_graph_alloc(graph, l2d_graph_precision(graph), 1, ring.h, ring.w,
                                          ring.c);
    if (!l2d_graph_failed(graph))
        dispatch(graph, "latent_decode", ring,
                 (struct l2d_latent_params) { .num_rows = 1, .scale = scale }, 0,
                 (struct l2d_binding[]) {
                     { ring, L2D_READ }, { rows, L2D_READ }, { x, L2D_WRITE },
                 }, 3);
    return x;
}
