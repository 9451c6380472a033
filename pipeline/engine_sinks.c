// SPDX-License-Identifier: Apache-2.0
// The attention sinks, kept so that they can be warmed anew: under another prompt, for other steps,
// or from newer frames. See engine_state.h.
//
// What is kept of a frame is its clean latent and its structure's map, so that noise, prompt and
// steps may be others than they were. A re-warm is the warm-up on buffers of its own, since frames
// in flight need theirs: one call of 8 rows for each step. The call for step k comes right before
// the first frame takes step k that shall see the new sinks, so that earlier frames see the old
// ones to their end: a batch draws what a sequence draws, and in a batch the cost is spread.
#include "pipeline/engine_submission.h"

// ---- buffers and graphs

int l2d_sinks_declare(struct l2d_engine *e, struct l2d_error *err)
{
    struct l2d_engine_sinks *k = &e->sinks;
    uint64_t size = e->latents->size_bytes;
    int rc = l2d_engine_declare(e, &k->recent, size, L2D_MEMORY_DEVICE, "clean latents", err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &k->clean, size, L2D_MEMORY_DEVICE, "sinks", err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &k->work, size, L2D_MEMORY_DEVICE, "sinks at work", err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &k->cond, e->cond->size_bytes, L2D_MEMORY_DEVICE,
                                "condition maps of sinks", err);
    if (rc == L2D_OK && e->guidance_mode == L2D_GUIDANCE_INITIALIZE)
        rc = l2d_engine_declare(e, &k->origins, size, L2D_MEMORY_DEVICE, "origins of sinks", err);
    return rc;
}

// The kept ring gets what the newest frames' has; or all of it what one frame has.
static int build_keep(struct l2d_engine *e, struct l2d_error *err)
{
    struct l2d_engine_sinks *k = &e->sinks;
    struct l2d_tensor from = l2d_engine_ring(e, k->recent), to = l2d_engine_ring(e, k->clean);
    struct l2d_tensor cond = e->state.cond, kept = cond;
    kept.buf = k->cond;
    int rc = l2d_engine_copy_graph(e, &k->keep_newest, "keep newest", to, from, err);
    if (rc != L2D_OK)
        return rc;
    l2d_graph_copy(k->keep_newest, kept, cond);
    for (int32_t i = 0; i < from.rows; i++) {
        rc = l2d_engine_new_graph(e, &k->keep_still[i], "keep still", err);
        for (int32_t at = 0; at < L2D_SINKS && rc == L2D_OK; at++) {
            l2d_graph_copy(k->keep_still[i], l2d_tensor_rows(to, at, 1),
                           l2d_tensor_rows(from, i, 1));
            l2d_graph_copy(k->keep_still[i], l2d_tensor_rows(kept, at, 1),
                           l2d_tensor_rows(cond, i, 1));
        }
        if (rc != L2D_OK)
            return rc;
    }
    return L2D_OK;
}

// Clean latents get the noise of step 0. That is a step whose prediction does not count, so that x0
// is what it is at, and which the noise of the next step follows.
static int build_noise(struct l2d_engine *e, struct l2d_error *err)
{
    struct l2d_engine_sinks *k = &e->sinks;
    struct l2d_tensor work = l2d_engine_ring(e, k->work);
    int rc = l2d_engine_copy_graph(e, &k->noise, "noise", work, l2d_engine_ring(e, k->clean), err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_tensor pred = l2d_latent_load(k->noise, work, e->state.rows, L2D_SINKS);
    l2d_lcm_step(k->noise, pred, work, e->state.rows, L2D_NO_TENSOR, NULL);
    return L2D_OK;
}

int l2d_sinks_build(struct l2d_engine *e, struct l2d_error *err)
{
    struct l2d_engine_sinks *k = &e->sinks;
    int32_t negative = e->guidance_mode == L2D_GUIDANCE_FULL ? L2D_SINKS : 0;
    struct l2d_tensor rows = e->state.rows;
    int rc = build_keep(e, err);
    if (rc == L2D_OK)
        rc = build_noise(e, err);
    if (rc == L2D_OK)
        rc = l2d_engine_build_unet(e, &k->warm, "re-warm", L2D_SINKS, negative,
                                   L2D_ROWS_WARMUP, true, err);
    if (rc == L2D_OK && e->guidance_mode == L2D_GUIDANCE_INITIALIZE)
        rc = l2d_engine_build_unet(e, &k->warm_first, "re-warm of step 0", L2D_SINKS, L2D_SINKS,
                                   L2D_ROWS_WARMUP, true, err);
    if (rc == L2D_OK)
        rc = l2d_engine_copy_graph(e, &k->select_noise, "select", rows,
                                   L2D_BLOCK_VIEW(e, sinks_noise), err);
    for (int32_t i = 0; i < e->max_steps && rc == L2D_OK; i++)
        rc = l2d_engine_copy_graph(e, &k->select[i], "select", rows, L2D_BLOCK_VIEW(e, sinks[i]),
                                   err);
    return rc;
}

// ---- which frames they are

void l2d_sinks_keep_newest(struct l2d_engine *e, struct l2d_submission *s, uint32_t frame)
{
    for (uint32_t r = 0; r < L2D_SINKS; r++) {
        e->sinks.frame[r] = frame - L2D_SINKS + r;
        e->sinks.ring[r] = e->sinks.frame[r] % e->ring;
    }
    l2d_submission_add(s, e->sinks.keep_newest, L2D_STAGE_UNET);
}

// As if the picture had stood still for 8 frames: each has the noise of a frame of its own.
void l2d_sinks_keep_still(struct l2d_engine *e, struct l2d_submission *s, uint32_t frame)
{
    for (uint32_t r = 0; r < L2D_SINKS; r++) {
        e->sinks.frame[r] = frame + 1 - L2D_SINKS + r;
        e->sinks.ring[r] = r;
    }
    l2d_submission_add(s, e->sinks.keep_still[frame % e->ring], L2D_STAGE_UNET);
}

// ---- warming them

static struct l2d_row_params row_of(const struct l2d_engine *e, uint32_t r, int32_t step)
{
    const struct l2d_engine_sinks *k = &e->sinks;
    struct l2d_row_params row = l2d_row_of_step(e, &k->settings, step);
    row.frame = k->settings.shared_noise ? 0 : k->frame[r];
    row.ring = k->ring[r];
    row.kv_slot = row.own_pos = r;
    row.num_open = L2D_SINKS;
    return row;
}

static struct l2d_row_params noise_row_of(const struct l2d_engine *e, uint32_t r)
{
    struct l2d_row_params row = row_of(e, r, 0);
    row.step = UINT32_MAX;              // the one before step 0
    row.is_last = 0;
    row.pred_a = row.c_out = 1;
    row.pred_b = row.c_skip = 0;
    row.a_next = row.a;
    row.b_next = row.b;
    return row;
}

void l2d_sinks_begin(struct l2d_engine *e, struct l2d_submission *s, uint32_t frame)
{
    e->sinks.settings = e->settings[frame % L2D_TIMES];
    e->sinks.begun = frame;
    e->sinks.busy = true;
    e->sinks.free_at = frame + (uint32_t) e->schedule.num_steps;
    for (uint32_t r = 0; r < L2D_SINKS; r++)
        s->block->sinks_noise[r] = noise_row_of(e, r);
    l2d_submission_add(s, e->prompt.keep, L2D_STAGE_UNET);
    if (e->negative_prompt.kv)
        l2d_submission_add(s, e->negative_prompt.keep, L2D_STAGE_UNET);
    l2d_submission_add(s, e->sinks.select_noise, L2D_STAGE_UNET);
    l2d_submission_add(s, e->sinks.noise, L2D_STAGE_UNET);
}

void l2d_sinks_step(struct l2d_engine *e, struct l2d_submission *s, uint32_t frame, int32_t step)
{
    struct l2d_engine_sinks *k = &e->sinks;
    if (!k->busy || frame != k->begun)
        return;
    struct l2d_call rows = { .num_rows = L2D_SINKS };
    for (uint32_t r = 0; r < L2D_SINKS; r++) {
        s->block->sinks[step][r] = row_of(e, r, step);
        rows.frame[r] = frame;
        rows.step[r] = L2D_PROBE_SINK * ((int) r + 1) + step;
    }
    l2d_submission_add_unet(s, k->select[step], step == 0 && k->warm_first ? k->warm_first
                                                                           : k->warm, &rows);
    k->busy = step + 1 < e->schedule.num_steps;
}
