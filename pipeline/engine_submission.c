// SPDX-License-Identifier: Apache-2.0
// One submission to the GPU. See engine_submission.h.
#include "pipeline/engine_submission.h"

#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "pipeline/window.h"

_Static_assert(L2D_SINKS == L2D_WINDOW_SINKS && L2D_WINDOW == L2D_WINDOW_SIZE,
               "the shaders and the window disagree");

// ---- what a row of a call is

struct l2d_row_params l2d_row_idle(void)
{
    return (struct l2d_row_params) {
        .kv_slot = L2D_SINKS, .own_pos = L2D_SINKS, .num_open = L2D_SINKS + 1, .a = 1, .a_next = 1,
        .pred_a = 1,
    };
}

struct l2d_row_params l2d_row_of_step(const struct l2d_engine *e,
                                      const struct l2d_frame_settings *settings, int32_t step)
{
    const struct l2d_schedule *s = &e->schedule;
    bool last = step == s->num_steps - 1;
    return (struct l2d_row_params) {
        .is_active = 1,
        .step = (uint32_t) step,
        .is_last = last,
        .a = s->a[step], .b = s->b[step], .c_skip = s->c_skip[step], .c_out = s->c_out[step],
        .pred_a = s->pred_a[step], .pred_b = s->pred_b[step],
        .a_next = last ? 0 : s->a[step + 1], .b_next = last ? 0 : s->b[step + 1],
        .seed_lo = (uint32_t) settings->seed, .seed_hi = (uint32_t) (settings->seed >> 32),
    };
}

struct l2d_row_params l2d_row_of(const struct l2d_engine *e, uint32_t frame, int32_t step)
{
    const struct l2d_frame_settings *settings = &e->settings[frame % L2D_TIMES];
    struct l2d_window window = l2d_window_at(frame - settings->base);
    struct l2d_row_params row = l2d_row_of_step(e, settings, step);
    row.frame = settings->shared_noise ? 0 : frame;
    row.ring = frame % e->ring;
    row.kv_slot = (uint32_t) window.slot;
    row.own_pos = (uint32_t) window.position;
    row.num_open = (uint32_t) window.num_open;
    return row;
}

// ---- its calls

struct l2d_call *l2d_submission_add(struct l2d_submission *s, struct l2d_graph *graph,
                                    enum l2d_stage stage)
{
    struct l2d_call *c = &s->call[s->num_calls++];
    *c = (struct l2d_call) { .graph = graph, .stage = stage };
    return c;
}

void l2d_submission_add_frame(struct l2d_submission *s, struct l2d_graph *graph,
                              enum l2d_stage stage, uint32_t frame)
{
    struct l2d_call *c = l2d_submission_add(s, graph, stage);
    c->num_rows = 1;
    c->frame[0] = frame;
    c->step[0] = -1;
}

void l2d_submission_add_unet(struct l2d_submission *s, struct l2d_graph *select,
                             struct l2d_graph *unet, const struct l2d_call *rows)
{
    l2d_submission_add(s, select, L2D_STAGE_UNET);
    struct l2d_call *c = l2d_submission_add(s, unet, L2D_STAGE_UNET);
    c->num_rows = rows->num_rows;
    memcpy(c->frame, rows->frame, sizeof(c->frame));
    memcpy(c->step, rows->step, sizeof(c->step));
}

void l2d_submission_add_upload(struct l2d_submission *s)
{
    l2d_submission_add(s, s->slot->upload_ahead, L2D_STAGE_UPLOAD);
    l2d_submission_add(s, s->slot->upload_params, L2D_STAGE_UPLOAD);
}

void l2d_submission_add_output(struct l2d_engine *e, struct l2d_submission *s,
                               struct l2d_graph *graph, uint32_t frame,
                               const struct l2d_color_out_fit *place,
                               const struct l2d_frame_time *time)
{
    l2d_color_out_setup(&s->block->color_out, e->output, e->geometry.out_canvas_width,
                        e->geometry.out_canvas_height, place);
    l2d_submission_add_frame(s, graph, L2D_STAGE_DECODE, frame);
    l2d_submission_add(s, s->slot->download, L2D_STAGE_DOWNLOAD);
    s->slot->has_output = true;
    s->slot->frame = frame;
    s->slot->time = *time;
    e->decoded = frame + 1;
}

// ---- what comes back

struct l2d_frame_time l2d_frame_time_of(const struct l2d_frame *frame)
{
    return (struct l2d_frame_time) {
        frame->pts, frame->duration, frame->time_base_num, frame->time_base_den,
    };
}

int l2d_engine_emit(struct l2d_engine *e, const void *pixels, const struct l2d_frame_time *t,
                    struct l2d_error *err)
{
    struct l2d_frame *out;
    int rc = l2d_frame_create(&out, e->output->width, e->output->height, &e->output->format, err);
    if (rc != L2D_OK)
        return rc;
    memcpy(out->data, pixels, out->size_bytes);
    out->pts = t->pts;
    out->duration = t->duration;
    out->time_base_num = t->time_base_num;
    out->time_base_den = t->time_base_den;
    e->stats.frames_out++;
    if (e->emit)
        e->emit(e->user, out);
    else
        l2d_frame_unref(&out);
    return L2D_OK;
}

static int collect(struct l2d_engine *e, struct l2d_engine_slot *slot, struct l2d_error *err)
{
    if (!slot->busy)
        return L2D_OK;
    double ms[L2D_MAX_STAGES];
    int rc = l2d_gpu_wait(e->gpu, slot->ticket, err);
    if (rc != L2D_OK) {
        e->stuck = true;
        return rc;
    }
    slot->busy = false;
    if (l2d_gpu_stage_ms(e->gpu, slot->ticket, ms)) {
        e->stats.timed += !slot->is_part;
        for (int i = 0; i < L2D_NUM_STAGES; i++)
            e->stats.stage_ms[i] += ms[i];
    }
    if (!slot->has_output)
        return L2D_OK;
    uint32_t at = slot->frame % L2D_TIMES;
    rc = l2d_buf_invalidate(slot->readback, err);
    if (rc == L2D_OK)
        rc = l2d_engine_emit(e, slot->readback->mapped, &slot->time, err);
    for (uint32_t i = 0; i < e->num_repeats[at] && rc == L2D_OK; i++)
        rc = l2d_engine_emit(e, slot->readback->mapped, &e->repeat[at][i], err);
    if (e->filter)
        memcpy(e->last_out->data, slot->readback->mapped, e->last_out->size_bytes);
    e->shown = slot->frame;
    e->last_pixels = slot->readback->mapped;
    return rc;
}

int l2d_engine_collect_all(struct l2d_engine *e, uint32_t keep, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t i = 0; i + keep < e->num_slots && rc == L2D_OK; i++)
        rc = collect(e, &e->slot[(e->next_slot + i) % e->num_slots], err);
    return rc;
}

// ---- begin

int l2d_submission_begin(struct l2d_engine *e, struct l2d_submission *s,
                         struct l2d_error *err)
{
    *s = (struct l2d_submission) { .slot = &e->slot[e->next_slot] };
    e->next_slot = (e->next_slot + 1) % e->num_slots;
    int rc = collect(e, s->slot, err);
    s->block = s->slot->params->mapped;
    s->slot->has_output = s->slot->is_part = false;
    return rc;
}

// Stored pixels and their description into the slot; with a new size, new graphs to carry them.
static int put_frame(struct l2d_engine *e, struct l2d_submission *s, const struct l2d_frame *frame,
                     struct l2d_error *err)
{
    if (frame->size_bytes != e->input_bytes) {
        int rc = l2d_engine_resize_input(e, frame->size_bytes, err);
        if (rc != L2D_OK)
            return rc;
    }
    struct l2d_color_rect source;
    struct l2d_color_out_fit fit;
    l2d_geometry_place(&e->geometry, e->fit, frame, &source, &fit);
    l2d_color_in_setup(&s->block->color_in, frame, e->geometry.canvas_width,
                       e->geometry.canvas_height, source);
    if (e->sources)
        l2d_color_in_setup(&e->source_params, frame, e->geometry.out_canvas_width,
                           e->geometry.out_canvas_height, source);
    memcpy(s->slot->pixels->mapped, frame->data, frame->size_bytes);
    l2d_submission_add(s, s->slot->upload_pixels, L2D_STAGE_UPLOAD);
    e->place[e->frames % L2D_TIMES] = fit;
    return L2D_OK;
}

int l2d_submission_begin_frame(struct l2d_engine *e, struct l2d_submission *s,
                               const struct l2d_frame *frame, struct l2d_error *err)
{
    int rc = l2d_submission_begin(e, s, err);
    if (rc == L2D_OK)
        rc = put_frame(e, s, frame, err);
    if (rc != L2D_OK)
        return rc;
    l2d_submission_add_upload(s);
    l2d_submission_add(s, e->color_in, L2D_STAGE_UPLOAD);
    return L2D_OK;
}

// ---- submit

// A picture has a fourth channel, a depth map three more, which is nobody's business: [n][4] ->
// [n][3] or [n][1] in place. returns the channels that are left.
static int32_t drop_padding(const struct l2d_probe *p, float *value)
{
    bool picture = strcmp(p->name, "structure") == 0 || strcmp(p->name, "image") == 0;
    uint64_t c = picture ? 3 : 1;
    if (!picture && strcmp(p->name, "depth") != 0)
        return p->tensor.c;
    for (uint64_t i = 0; i < l2d_tensor_count(&p->tensor) / 4; i++)
        memmove(value + c * i, value + 4 * i, c * sizeof(*value));
    return (int32_t) c;
}

int l2d_engine_read(const struct l2d_tensor *t, float *out, struct l2d_error *err)
{
    uint64_t count = l2d_tensor_count(t);
    if (t->dtype == L2D_F32)
        return l2d_buf_read(t->buf, t->offset_bytes, out, l2d_tensor_bytes(t), err);
    uint16_t *half = malloc(count * sizeof(*half));
    int rc = half ? l2d_buf_read(t->buf, t->offset_bytes, half, count * sizeof(*half), err)
                  : l2d_error_set(err, L2D_ENOMEM, "readback: out of memory");
    for (uint64_t i = 0; rc == L2D_OK && i < count; i++)
        out[i] = l2d_half_to_f32(half[i]);
    free(half);
    return rc;
}

// Read back and hand on what a graph's probes hold.
static int emit_probes(struct l2d_engine *e, const struct l2d_call *call, struct l2d_error *err)
{
    for (uint32_t i = 0; i < l2d_graph_num_probes(call->graph); i++) {
        const struct l2d_probe *p = l2d_graph_probe_at(call->graph, i);
        const struct l2d_tensor *t = &p->tensor;
        float *value = malloc(l2d_tensor_count(t) * sizeof(*value));
        int rc = value ? l2d_engine_read(t, value, err)
                       : l2d_error_set(err, L2D_ENOMEM, "probe %s: out of memory", p->name);
        int32_t c = rc == L2D_OK ? drop_padding(p, value) : 0;
        uint64_t row = (uint64_t) t->h * (uint64_t) t->w * (uint64_t) c;
        for (uint32_t r = 0; rc == L2D_OK && r < call->num_rows && r < (uint32_t) t->rows; r++)
            if (call->step[r] >= -1)
                e->probe(e->user, call->frame[r], call->step[r], p->name, value + r * row, t->h,
                         t->w, c);
        free(value);
        if (rc != L2D_OK)
            return rc;
    }
    return L2D_OK;
}

int l2d_engine_emit_probes(struct l2d_engine *e, struct l2d_graph *graph, struct l2d_error *err)
{
    struct l2d_call call = {
        .graph = graph, .num_rows = 1, .frame = { UINT32_MAX }, .step = { -1 },
    };
    return emit_probes(e, &call, err);
}

int l2d_submission_submit(struct l2d_engine *e, struct l2d_submission *s,
                          struct l2d_error *err)
{
    struct l2d_submit item[COUNT_OF(s->call)];
    int rc = L2D_OK;
    for (uint32_t i = 0; i < s->num_calls; i++)
        item[i] = (struct l2d_submit) { s->call[i].graph, s->call[i].stage };
    s->slot->busy = true;
    if (!e->probe) {
        uint64_t before = e->last_ticket > e->chunk ? e->last_ticket - e->chunk : 0;
        uint64_t after = before > e->last_whole ? before : e->last_whole;
        rc = l2d_gpu_submit_after(e->gpu, item, s->num_calls, after, &s->slot->ticket, err);
        e->last_ticket = s->slot->ticket;
        if (!s->beside)
            e->last_whole = e->last_ticket;
        return rc;
    }
    for (uint32_t i = 0; i < s->num_calls && rc == L2D_OK; i++) {
        rc = l2d_gpu_submit(e->gpu, &item[i], 1, &s->slot->ticket, err);
        if (rc == L2D_OK)
            rc = l2d_gpu_wait(e->gpu, s->slot->ticket, err);
        if (rc == L2D_OK)
            rc = emit_probes(e, &s->call[i], err);
    }
    return rc;
}
