// SPDX-License-Identifier: Apache-2.0
// One call of the UNet alone, for measurements. See engine.h.
#include <string.h>

#include "pipeline/engine_state.h"

// Rows of frames whose window is full, each at a step of its own.
static int write_rows(struct l2d_engine *e, int32_t count, struct l2d_error *err)
{
    struct l2d_row_params rows[L2D_MAX_ROWS];
    for (int32_t k = 0; k < count; k++)
        rows[k] = (struct l2d_row_params) {
            .is_active = 1, .step = (u32) k, .ring = (u32) k, .own_pos = L2D_WINDOW - 1,
            .kv_slot = (u32) (L2D_SINKS + k % (L2D_WINDOW - L2D_SINKS)), .num_open = L2D_WINDOW,
            .a = 1, .pred_a = 1, .a_next = 1,
        };
    return l2d_buf_write(e->rows, 0, rows, sizeof(rows[0]) * (size_t) count, err);
}

static int build(struct l2d_engine *e, const struct l2d_engine_step *step, struct l2d_graph **g,
                 struct l2d_buf **own, struct l2d_error *err)
{
    struct l2d_unet_state state = e->state;
    struct l2d_tensor ring = l2d_engine_ring(e, e->latents);
    uint64_t bytes = 0;
    state.no_motion = !step->motion;
    for (int32_t i = 0; i < e->model->unet.num_transformers; i++)
        state.text_kv[i] = l2d_tensor_rows(state.text_kv[i], 0, step->rows);
    int rc = l2d_graph_create(g, e->gpu, e->precision, "unet alone", err);
    if (rc != L2D_OK)
        return rc;
    l2d_unet_forward(*g, &e->model->unet, &state,
                     l2d_latent_load(*g, ring, state.rows, step->rows));
    rc = l2d_graph_plan(*g, &bytes, err);
    if (rc == L2D_OK && bytes > e->activations->size_bytes)
        rc = l2d_buf_create(own, e->gpu, bytes, L2D_MEMORY_DEVICE, "unet alone", err);
    return rc == L2D_OK ? l2d_graph_finish(*g, *own ? *own : e->activations, err) : rc;
}

int l2d_engine_time_step(struct l2d_engine *e, const struct l2d_engine_step *step, double *ms,
                         uint32_t count, double *gflop, struct l2d_error *err)
{
    struct l2d_graph *g = NULL;
    struct l2d_buf *own = NULL;
    if (e->passthrough || step->rows < 1 || step->rows > e->prompt.rows)
        return l2d_error_set(err, L2D_EINVAL, "unet of %d rows: the engine has %d", step->rows,
                             e->passthrough ? 0 : e->prompt.rows);
    int rc = write_rows(e, step->rows, err);
    if (rc == L2D_OK)
        rc = build(e, step, &g, &own, err);
    *gflop = rc == L2D_OK ? l2d_graph_flops(g) * 1e-9 : 0;
    for (uint32_t i = 0; i <= count && rc == L2D_OK; i++) {         // the first warms caches
        double stage[L2D_MAX_STAGES];
        uint64_t ticket;
        rc = l2d_gpu_submit(e->gpu, &(struct l2d_submit) { g, L2D_STAGE_UNET }, 1, &ticket, err);
        if (rc == L2D_OK)
            rc = l2d_gpu_wait(e->gpu, ticket, err);
        if (rc == L2D_OK && !l2d_gpu_stage_ms(e->gpu, ticket, stage))
            rc = l2d_error_set(err, L2D_EUNSUPPORTED, "%s has no timestamps",
                               l2d_gpu_caps(e->gpu)->name);
        if (rc == L2D_OK && i > 0)
            ms[i - 1] = stage[L2D_STAGE_UNET];
    }
    l2d_graph_destroy(&g);
    l2d_buf_destroy(&own);
    return rc;
}
