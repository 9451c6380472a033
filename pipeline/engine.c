// SPDX-License-Identifier: Apache-2.0
// The flow of frames through the graphs. See engine.h; engine_state.c makes what is used here.
//
// A frame is encoded once and then denoised D times. Frames 0..7 wait for each other and are
// denoised together (warm-up); from frame 8 on, one call takes the D steps of D consecutive frames
// (batch) or D calls take the D steps of one frame (sequential). Both compute the same: rows never
// interact.
#include "pipeline/engine.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "pipeline/engine_state.h"
#include "pipeline/window.h"

_Static_assert(L2D_SINKS == L2D_WINDOW_SINKS && L2D_WINDOW == L2D_WINDOW_SIZE,
               "the shaders and the window disagree");

const char *l2d_stage_str(enum l2d_stage stage)
{
    switch (stage) {
    case L2D_STAGE_UPLOAD:   return "upload";
    case L2D_STAGE_ENCODE:   return "encode";
    case L2D_STAGE_UNET:     return "unet";
    case L2D_STAGE_DECODE:   return "decode";
    case L2D_STAGE_DOWNLOAD: return "download";
    case L2D_NUM_STAGES:     break;
    }
    return "?";
}

const char *l2d_guidance_mode_str(enum l2d_guidance_mode mode)
{
    switch (mode) {
    case L2D_GUIDANCE_NONE:       return "none";
    case L2D_GUIDANCE_FULL:       return "full";
    case L2D_GUIDANCE_SELF:       return "self";
    case L2D_GUIDANCE_INITIALIZE: return "initialize";
    }
    return "?";
}

// ---- what a row of a call is

static struct l2d_row_params idle_row(void)
{
    return (struct l2d_row_params) {
        .kv_slot = L2D_SINKS, .own_pos = L2D_SINKS, .num_open = L2D_SINKS + 1, .a = 1, .a_next = 1,
        .pred_a = 1,
    };
}

static struct l2d_row_params row_of(const struct l2d_engine *e, uint32_t frame, int32_t step)
{
    const struct l2d_schedule *s = &e->schedule;
    struct l2d_window window = l2d_window_at(frame);
    bool last = step == s->num_steps - 1;
    return (struct l2d_row_params) {
        .is_active = 1,
        .frame = e->shared_noise ? 0 : frame,
        .step = (uint32_t) step,
        .ring = frame % L2D_RING,
        .kv_slot = (uint32_t) window.slot,
        .own_pos = (uint32_t) window.position,
        .num_open = (uint32_t) window.num_open,
        .is_last = last,
        .a = s->a[step], .b = s->b[step], .c_skip = s->c_skip[step], .c_out = s->c_out[step],
        .pred_a = s->pred_a[step], .pred_b = s->pred_b[step],
        .a_next = last ? 0 : s->a[step + 1], .b_next = last ? 0 : s->b[step + 1],
        .seed_lo = (uint32_t) e->seed, .seed_hi = (uint32_t) (e->seed >> 32),
    };
}

// ---- one submission

struct call {                           // of a graph, with what its rows are, for probes
    struct l2d_graph *graph;
    enum l2d_stage stage;
    uint32_t num_rows;
    uint32_t frame[L2D_MAX_ROWS];
    int step[L2D_MAX_ROWS];             // -1: per frame; -2: nobody's row
};

struct submission {
    struct l2d_engine_slot *slot;
    struct l2d_frame_block *block;      // mapped parameters of the slot
    struct call call[2 * L2D_MAX_STEPS + 8];
    uint32_t num_calls;
};

static struct call *add_call(struct submission *s, struct l2d_graph *graph, enum l2d_stage stage)
{
    struct call *c = &s->call[s->num_calls++];
    *c = (struct call) { .graph = graph, .stage = stage };
    return c;
}

static void add_frame_call(struct submission *s, struct l2d_graph *graph, enum l2d_stage stage,
                           uint32_t frame)
{
    struct call *c = add_call(s, graph, stage);
    c->num_rows = 1;
    c->frame[0] = frame;
    c->step[0] = -1;
}

// A picture leaves, with the time of its source.
static int emit(struct l2d_engine *e, const void *pixels, const struct l2d_frame_time *t,
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
    slot->busy = false;
    if (rc != L2D_OK)
        return rc;
    if (l2d_gpu_stage_ms(e->gpu, slot->ticket, ms)) {
        e->stats.timed += !slot->is_part;
        for (int i = 0; i < L2D_NUM_STAGES; i++)
            e->stats.stage_ms[i] += ms[i];
    }
    if (!slot->has_output)
        return L2D_OK;
    uint32_t at = slot->frame % L2D_TIMES;
    rc = emit(e, slot->readback->mapped, &e->time[at], err);
    for (uint32_t i = 0; i < e->num_repeats[at] && rc == L2D_OK; i++)
        rc = emit(e, slot->readback->mapped, &e->repeat[at][i], err);
    if (e->filter)
        memcpy(e->last_out->data, slot->readback->mapped, e->last_out->size_bytes);
    e->shown = slot->frame;
    return rc;
}

// Everything that is on the GPU, oldest first.
static int collect_all(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t i = 0; i < L2D_ENGINE_SLOTS && rc == L2D_OK; i++)
        rc = collect(e, &e->slot[(e->next_slot + i) % L2D_ENGINE_SLOTS], err);
    return rc;
}

static int begin(struct l2d_engine *e, struct submission *s, struct l2d_error *err)
{
    *s = (struct submission) { .slot = &e->slot[e->next_slot] };
    e->next_slot = (e->next_slot + 1) % L2D_ENGINE_SLOTS;
    int rc = collect(e, s->slot, err);
    s->block = s->slot->params->mapped;
    s->slot->has_output = s->slot->is_part = false;
    return rc;
}

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
static int emit_probes(struct l2d_engine *e, const struct call *call, struct l2d_error *err)
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
    struct call call = { .graph = graph, .num_rows = 1, .frame = { UINT32_MAX }, .step = { -1 } };
    return emit_probes(e, &call, err);
}

static int submit(struct l2d_engine *e, struct submission *s, struct l2d_error *err)
{
    struct l2d_submit item[COUNT_OF(s->call)];
    int rc = L2D_OK;
    for (uint32_t i = 0; i < s->num_calls; i++)
        item[i] = (struct l2d_submit) { s->call[i].graph, s->call[i].stage };
    s->slot->busy = true;
    if (!e->probe)
        return l2d_gpu_submit(e->gpu, item, s->num_calls, &s->slot->ticket, err);
    for (uint32_t i = 0; i < s->num_calls && rc == L2D_OK; i++) {
        rc = l2d_gpu_submit(e->gpu, &item[i], 1, &s->slot->ticket, err);
        if (rc == L2D_OK)
            rc = l2d_gpu_wait(e->gpu, s->slot->ticket, err);
        if (rc == L2D_OK)
            rc = emit_probes(e, &s->call[i], err);
    }
    return rc;
}

// ---- the parts that submissions are made of

// Stored pixels and their description into the slot; with a new size, new graphs to carry them.
static int put_frame(struct l2d_engine *e, struct submission *s, const struct l2d_frame *frame,
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
    memcpy(s->slot->pixels->mapped, frame->data, frame->size_bytes);
    add_call(s, s->slot->upload_pixels, L2D_STAGE_UPLOAD);
    e->place[e->frames % L2D_TIMES] = fit;
    return L2D_OK;
}

static void add_upload(struct submission *s)
{
    add_call(s, s->slot->upload_params, L2D_STAGE_UPLOAD);
}

static void add_encode(struct l2d_engine *e, struct submission *s, uint32_t frame)
{
    s->block->encode = row_of(e, frame, 0);
    add_frame_call(s, e->encode, L2D_STAGE_ENCODE, frame);
    // With a range of its own, a warm-up frame's structure waits for all maps.
    if (e->structure && !(e->ring_range && frame < L2D_SINKS)) {
        add_call(s, e->map_range, L2D_STAGE_ENCODE);
        add_frame_call(s, e->structure, L2D_STAGE_ENCODE, frame);
    }
}

static void add_output(struct l2d_engine *e, struct submission *s, struct l2d_graph *decode,
                       uint32_t frame)
{
    if (!e->passthrough)
        s->block->decode = row_of(e, frame, e->schedule.num_steps - 1);
    l2d_color_out_setup(&s->block->color_out, e->output, e->geometry.canvas_width,
                        e->geometry.canvas_height, &e->place[frame % L2D_TIMES]);
    add_frame_call(s, decode, L2D_STAGE_DECODE, frame);
    add_call(s, s->slot->download, L2D_STAGE_DOWNLOAD);
    s->slot->has_output = true;
    s->slot->frame = frame;
}

// UNet call number set of this submission, on rows that have been put into block->set[set].
static void add_unet(struct l2d_engine *e, struct submission *s, uint32_t set,
                     struct l2d_graph *unet, const struct call *rows)
{
    add_call(s, e->select[set], L2D_STAGE_UNET);
    struct call *c = add_call(s, unet, L2D_STAGE_UNET);
    c->num_rows = rows->num_rows;
    memcpy(c->frame, rows->frame, sizeof(c->frame));
    memcpy(c->step, rows->step, sizeof(c->step));
}

static void put_row(struct l2d_engine *e, struct submission *s, uint32_t set, struct call *rows,
                    int64_t frame, int32_t step, bool active)
{
    uint32_t r = rows->num_rows++;
    rows->frame[r] = (uint32_t) frame;
    rows->step[r] = active ? step : -2;
    s->block->set[set][r] = active ? row_of(e, (uint32_t) frame, step) : idle_row();
}

// Begin a submission with a new frame: its pixels on the canvas.
static int begin_frame(struct l2d_engine *e, struct submission *s, const struct l2d_frame *frame,
                       struct l2d_error *err)
{
    int rc = begin(e, s, err);
    if (rc == L2D_OK)
        rc = put_frame(e, s, frame, err);
    if (rc != L2D_OK)
        return rc;
    add_upload(s);
    add_call(s, e->color_in, L2D_STAGE_UPLOAD);
    return L2D_OK;
}

// ---- warm-up

// The structures of the warm-up frames, whose depths share one range.
static int add_warm_structures(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t f = 0; f < L2D_SINKS && rc == L2D_OK; f++) {
        struct submission s;
        rc = begin(e, &s, err);
        if (rc != L2D_OK)
            return rc;
        s.block->encode = row_of(e, f, 0);
        add_upload(&s);
        if (f == 0)
            add_call(&s, e->ring_range, L2D_STAGE_ENCODE);
        add_frame_call(&s, e->structure, L2D_STAGE_ENCODE, f);
        rc = submit(e, &s, err);
    }
    return rc;
}

// All 8 warm-up frames have been encoded: denoise them together, D calls, then decode what is real.
static int warm_up(struct l2d_engine *e, struct l2d_error *err)
{
    struct submission s;
    int rc = e->ring_range ? add_warm_structures(e, err) : L2D_OK;
    if (rc == L2D_OK)
        rc = begin(e, &s, err);
    if (rc != L2D_OK)
        return rc;
    add_upload(&s);
    for (int32_t k = 0; k < e->schedule.num_steps; k++) {
        struct call rows = { .num_rows = 0 };
        for (uint32_t f = 0; f < L2D_SINKS; f++)
            put_row(e, &s, (uint32_t) k, &rows, f, k, true);
        add_unet(e, &s, (uint32_t) k, k == 0 && e->warm_first ? e->warm_first : e->warm, &rows);
    }
    rc = submit(e, &s, err);
    for (uint32_t f = 0; f < L2D_SINKS && f < e->frames && rc == L2D_OK; f++) {
        rc = begin(e, &s, err);
        if (rc != L2D_OK)
            break;
        add_upload(&s);
        add_output(e, &s, e->decode, f);
        rc = submit(e, &s, err);
    }
    e->warm_done = true;
    return rc;
}

static int push_warmup(struct l2d_engine *e, const struct l2d_frame *frame, struct l2d_error *err)
{
    struct submission s;
    int rc = begin_frame(e, &s, frame, err);
    if (rc != L2D_OK)
        return rc;
    add_encode(e, &s, e->frames);
    rc = submit(e, &s, err);
    if (rc == L2D_OK && ++e->frames == L2D_SINKS)
        rc = warm_up(e, err);
    return rc;
}

// Fewer frames than the warm-up needs: the last one, which the canvas still holds, fills it up.
static int pad_warmup(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t f = e->frames; f < L2D_SINKS && rc == L2D_OK; f++) {
        struct submission s;
        rc = begin(e, &s, err);
        if (rc != L2D_OK)
            return rc;
        add_upload(&s);
        add_encode(e, &s, f);
        rc = submit(e, &s, err);
    }
    return rc == L2D_OK ? warm_up(e, err) : rc;
}

// ---- streaming

// One call of the pipeline: row k holds frame newest - k, if there is one. The frame at the last
// step, if there is one, comes out.
static void add_batch(struct l2d_engine *e, struct submission *s, int64_t newest)
{
    int32_t steps = e->schedule.num_steps;
    struct call rows = { .num_rows = 0 };
    for (int32_t k = 0; k < steps; k++) {
        int64_t f = newest - k;
        put_row(e, s, 0, &rows, f, k, f >= L2D_SINKS && f < e->frames);
    }
    add_unet(e, s, 0, e->stream, &rows);
    int64_t done = newest - (steps - 1);
    if (done >= L2D_SINKS)
        add_output(e, s, e->decode, (uint32_t) done);
}

static void add_sequence(struct l2d_engine *e, struct submission *s, uint32_t frame)
{
    for (int32_t k = 0; k < e->schedule.num_steps; k++) {
        struct call rows = { .num_rows = 0 };
        put_row(e, s, (uint32_t) k, &rows, frame, k, true);
        add_unet(e, s, (uint32_t) k, k == 0 && e->stream_first ? e->stream_first : e->stream,
                 &rows);
    }
    add_output(e, s, e->decode, frame);
}

// A frame that is on the canvas goes through the model.
static int stream_frame(struct l2d_engine *e, struct submission *s, struct l2d_error *err)
{
    uint32_t f = e->frames++;
    if (e->filter)
        add_call(s, e->keep, L2D_STAGE_UPLOAD);
    add_encode(e, s, f);
    if (e->sequential)
        add_sequence(e, s, f);
    else
        add_batch(e, s, f);
    return submit(e, s, err);
}

static int push_stream(struct l2d_engine *e, const struct l2d_frame *frame, struct l2d_error *err)
{
    struct submission s;
    int rc = begin_frame(e, &s, frame, err);
    if (rc != L2D_OK)
        return rc;
    if (!e->passthrough)
        return stream_frame(e, &s, err);
    add_output(e, &s, e->decode, e->frames++);
    return submit(e, &s, err);
}

static struct l2d_frame_time time_of(const struct l2d_frame *frame)
{
    return (struct l2d_frame_time) {
        frame->pts, frame->duration, frame->time_base_num, frame->time_base_den,
    };
}

// How alike the canvas and the last frame's are. Waits for all that was submitted.
static int compare(struct l2d_engine *e, struct submission *s, double *cosine,
                   struct l2d_error *err)
{
    double sum[3] = { 0 };
    add_call(s, e->compare, L2D_STAGE_UPLOAD);
    s->slot->is_part = true;
    int rc = submit(e, s, err);
    if (rc == L2D_OK)
        rc = collect_all(e, err);
    const float *part = e->sums_back->mapped;
    for (int i = 0; rc == L2D_OK && i < L2D_SIMILAR_SUMS; i++)
        for (int k = 0; k < 3; k++)
            sum[k] += (double) part[4 * i + k];
    *cosine = l2d_similar_cosine(sum[0], sum[1], sum[2]);
    return rc;
}

// The frame is not drawn: its picture is that of the last frame, now, or when that has come out.
static int repeat_last(struct l2d_engine *e, const struct l2d_frame *frame, struct l2d_error *err)
{
    uint32_t last = e->frames - 1, at = last % L2D_TIMES;
    struct l2d_frame_time t = time_of(frame);
    e->stats.frames_skipped++;
    if (e->shown == last)
        return emit(e, e->last_out->data, &t, err);
    assert(e->num_repeats[at] < L2D_MAX_SKIPS);
    e->repeat[at][e->num_repeats[at]++] = t;
    return L2D_OK;
}

static int push_filtered(struct l2d_engine *e, const struct l2d_frame *frame,
                         struct l2d_error *err)
{
    struct submission s;
    double cosine;
    int rc = begin_frame(e, &s, frame, err);
    if (rc == L2D_OK)
        rc = compare(e, &s, &cosine, err);
    if (rc != L2D_OK)
        return rc;
    if (l2d_similar_skip(&e->similar, cosine, e->seed, (uint32_t) e->stats.frames_in))
        return repeat_last(e, frame, err);
    rc = begin(e, &s, err);
    if (rc != L2D_OK)
        return rc;
    add_upload(&s);
    return stream_frame(e, &s, err);
}

int l2d_engine_push(struct l2d_engine *e, const struct l2d_frame *frame, struct l2d_error *err)
{
    assert(!e->finished);
    if (e->failed.code != L2D_OK)
        return l2d_error_set(err, e->failed.code, "%s", e->failed.msg);
    if (e->frames == UINT32_MAX)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "more than 2^32 frames in one stream");
    e->time[e->frames % L2D_TIMES] = time_of(frame);
    e->num_repeats[e->frames % L2D_TIMES] = 0;
    bool warm = !e->passthrough && e->frames < L2D_SINKS;
    int rc = warm ? push_warmup(e, frame, &e->failed)
           : e->filter && e->frames > L2D_SINKS ? push_filtered(e, frame, &e->failed)
           : push_stream(e, frame, &e->failed);
    if (rc != L2D_OK)
        return l2d_error_set(err, rc, "%s", e->failed.msg);
    e->stats.frames_in++;
    return L2D_OK;
}

int l2d_engine_finish(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = e->failed.code;
    if (rc != L2D_OK)
        return l2d_error_set(err, rc, "%s", e->failed.msg);
    if (!e->finished && !e->passthrough && e->frames > 0 && !e->warm_done)
        rc = pad_warmup(e, err);
    bool in_flight = !e->finished && !e->passthrough && !e->sequential && e->frames > L2D_SINKS;
    for (int32_t i = 1; i < e->schedule.num_steps && in_flight && rc == L2D_OK; i++) {
        struct submission s;
        rc = begin(e, &s, err);
        if (rc != L2D_OK)
            break;
        add_upload(&s);
        add_batch(e, &s, (int64_t) e->frames - 1 + i);
        rc = submit(e, &s, err);
    }
    if (rc == L2D_OK)
        rc = collect_all(e, err);
    e->finished = true;
    return rc;
}

// ---- the rest of the interface

const struct l2d_engine_info *l2d_engine_info(const struct l2d_engine *e)
{
    return &e->info;
}

struct l2d_engine_stats l2d_engine_stats(const struct l2d_engine *e)
{
    return e->stats;
}

int l2d_engine_read_cache(struct l2d_engine *e, uint32_t index, float *out, uint64_t *count,
                          struct l2d_error *err)
{
    uint32_t each = e->passthrough ? 0 : (uint32_t) e->model->unet.num_attentions;
    if (index >= each && (index >= 2 * each || !e->negative_keys))
        return l2d_error_set(err, L2D_EINVAL, "no KV cache %u", index);
    const struct l2d_tensor *t = index < each ? &e->state.cache[index]
                                              : &e->negative.cache[index - each];
    *count = l2d_tensor_count(t);
    if (!out)
        return L2D_OK;
    return l2d_engine_read(t, out, err);
}

int l2d_engine_profile(struct l2d_engine *e, struct l2d_profile_row *rows, uint32_t cap,
                       uint32_t *count, struct l2d_error *err)
{
    struct l2d_graph *graph[] = { e->color_in, e->encode, e->map_range, e->structure, e->stream,
                                  e->decode };
    *count = 0;
    for (size_t i = 0; i < COUNT_OF(graph); i++) {
        uint32_t n = 0;
        int rc = graph[i] ? l2d_graph_profile(graph[i], rows + *count, cap - *count, &n, err)
                          : L2D_OK;
        if (rc != L2D_OK)
            return rc;
        *count += n;
    }
    return L2D_OK;
}
