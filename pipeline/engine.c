// SPDX-License-Identifier: Apache-2.0
// The flow of frames through the graphs. See engine.h; engine_state.c makes what is used here.
//
// A frame is encoded once and then denoised D times. Frames 0..7 wait for each other and are
// denoised together (warm-up); from frame 8 on, one call takes the D steps of D consecutive frames
// (batch), D calls take the D steps of one frame (sequential), or of several that follow each other
// (chunk). All compute the same: rows never interact, but that a chunk's frames see those before.
#include "pipeline/engine.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/engine_submission.h"

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

const char *l2d_engine_kv_str(const struct l2d_engine_info *info)
{
    return info->kv_type == L2D_KV_INT8 ? "int8" : info->kv_type == L2D_KV_FP16 ? "fp16" : "fp32";
}

// ---- the parts that submissions are made of

// With a range of their own, the warm-up frames' structures wait for all maps.
static void add_depth(struct l2d_engine *e, struct l2d_submission *s, uint32_t frame)
{
    if (e->depth)
        l2d_submission_add(s, e->depth, L2D_STAGE_ENCODE);
    if (e->warm_done || !e->ring_range) {
        l2d_submission_add(s, e->map_range, L2D_STAGE_ENCODE);
        l2d_submission_add_frame(s, e->structure, L2D_STAGE_ENCODE, frame);
    }
}

// depth_later: with those of its chunk.
static void add_encode(struct l2d_engine *e, struct l2d_submission *s, uint32_t frame,
                       bool depth_later)
{
    e->settings[frame % L2D_TIMES] = e->now;
    s->block->encode = l2d_row_of(e, frame, 0);
    l2d_steady_see(e, s, frame);
    l2d_mix_see(e, s, e->sight[frame % L2D_TIMES], e->now.mix);
    l2d_submission_add_frame(s, e->encode, L2D_STAGE_ENCODE, frame);
    if (depth_later)
        l2d_submission_add(s, e->put_depth[e->gathered], L2D_STAGE_ENCODE);
    else if (e->structure)
        add_depth(e, s, frame);
}

static void add_output(struct l2d_engine *e, struct l2d_submission *s, struct l2d_graph *decode,
                       uint32_t frame)
{
    if (!e->passthrough)
        s->block->decode = l2d_row_of(e, frame, e->schedule.num_steps - 1);
    l2d_submission_add_output(e, s, decode, frame, &e->place[frame % L2D_TIMES],
                              &e->time[frame % L2D_TIMES]);
}

static void add_drawn(struct l2d_engine *e, struct l2d_submission *s, uint32_t frame)
{
    uint32_t at = frame % L2D_TIMES;
    add_output(e, s, l2d_steady_decode(e, s, frame), frame);
    l2d_mix_out(e, s, e->sight[at], e->settings[at].mix);
}

// And the frames that follow what comes out.
static int submit(struct l2d_engine *e, struct l2d_submission *s, struct l2d_error *err)
{
    int rc = l2d_submission_submit(e, s, err);
    return rc == L2D_OK ? l2d_moves_send(e, err) : rc;
}

static void put_row(struct l2d_engine *e, struct l2d_submission *s, uint32_t set,
                    struct l2d_call *rows, int64_t frame, int32_t step, bool active)
{
    uint32_t r = rows->num_rows++;
    rows->frame[r] = (uint32_t) frame;
    rows->step[r] = active ? step : -2;
    s->block->set[set][r] = active ? l2d_row_of(e, (uint32_t) frame, step) : l2d_row_idle();
}

// ---- warm-up

// The structures of the warm-up frames, whose depths share one range.
static int add_warm_structures(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t f = 0; f < L2D_SINKS && rc == L2D_OK; f++) {
        struct l2d_submission s;
        rc = l2d_submission_begin(e, &s, err);
        if (rc != L2D_OK)
            return rc;
        s.block->encode = l2d_row_of(e, f, 0);
        l2d_submission_add_upload(&s);
        if (f == 0)
            l2d_submission_add(&s, e->ring_range, L2D_STAGE_ENCODE);
        l2d_submission_add_frame(&s, e->structure, L2D_STAGE_ENCODE, f);
        rc = l2d_submission_submit(e, &s, err);
    }
    return rc;
}

// All 8 warm-up frames have been encoded: denoise them together, D calls, then decode what is real.
static int warm_up(struct l2d_engine *e, struct l2d_error *err)
{
    struct l2d_submission s;
    int rc = e->ring_range ? add_warm_structures(e, err) : L2D_OK;
    if (rc == L2D_OK)
        rc = l2d_submission_begin(e, &s, err);
    if (rc != L2D_OK)
        return rc;
    l2d_submission_add_upload(&s);
    for (int32_t k = 0; k < e->schedule.num_steps; k++) {
        struct l2d_call rows = { .num_rows = 0 };
        for (uint32_t f = 0; f < L2D_SINKS; f++)
            put_row(e, &s, (uint32_t) k, &rows, f, k, true);
        l2d_submission_add_unet(&s, e->select[k], k == 0 && e->warm_first ? e->warm_first
                                                                          : e->warm, &rows);
    }
    l2d_sinks_keep_newest(e, &s, L2D_SINKS);
    rc = l2d_submission_submit(e, &s, err);
    for (uint32_t f = 0; f < L2D_SINKS && f < e->frames && rc == L2D_OK; f++) {
        rc = l2d_submission_begin(e, &s, err);
        if (rc != L2D_OK)
            break;
        l2d_submission_add_upload(&s);
        add_drawn(e, &s, f);
        rc = l2d_submission_submit(e, &s, err);
    }
    e->warm_done = true;
    e->moves_left = e->draw_every - 1;
    l2d_cut_anchor(&e->cut);
    e->flight_begin = L2D_SINKS;
    return rc;
}

static int push_warmup(struct l2d_engine *e, const struct l2d_frame *frame, struct l2d_error *err)
{
    struct l2d_submission s;
    int rc = l2d_submission_begin_frame(e, &s, frame, err);
    if (rc != L2D_OK)
        return rc;
    add_encode(e, &s, e->frames, false);
    rc = l2d_submission_submit(e, &s, err);
    if (rc == L2D_OK && ++e->frames == L2D_SINKS)
        rc = warm_up(e, err);
    return rc;
}

// Fewer frames than the warm-up needs: the last one, which the canvas still holds, fills it up.
static int pad_warmup(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t f = e->frames; f < L2D_SINKS && rc == L2D_OK; f++) {
        struct l2d_submission s;
        rc = l2d_submission_begin(e, &s, err);
        if (rc != L2D_OK)
            return rc;
        l2d_submission_add_upload(&s);
        add_encode(e, &s, f, false);
        rc = l2d_submission_submit(e, &s, err);
    }
    return rc == L2D_OK ? warm_up(e, err) : rc;
}

// ---- streaming

// One call of the pipeline: row k holds frame newest - k, if there is one. The frame at the last
// step, if there is one, comes out.
static void add_batch(struct l2d_engine *e, struct l2d_submission *s, int64_t newest)
{
    int32_t steps = e->schedule.num_steps;
    struct l2d_call rows = { .num_rows = 0 };
    for (int32_t k = 0; k < steps; k++) {
        int64_t f = newest - k;
        bool active = f >= e->flight_begin && f < e->frames;
        if (active)
            l2d_sinks_step(e, s, (uint32_t) f, k);
        put_row(e, s, 0, &rows, f, k, active);
    }
    l2d_submission_add_unet(s, e->select[0], e->stream[steps - 1], &rows);
    int64_t done = newest - (steps - 1);
    if (done >= e->flight_begin)
        add_drawn(e, s, (uint32_t) done);
}

// All steps of the oldest gathered frames, one or a whole chunk.
static void add_steps(struct l2d_engine *e, struct l2d_submission *s, uint32_t count)
{
    struct l2d_graph *unet = count > 1 ? e->in_chunk : e->stream[0];
    struct l2d_graph *first = count > 1 ? e->in_chunk_first : e->stream_first;
    uint32_t frame = e->frames - e->gathered;
    for (int32_t k = 0; k < e->schedule.num_steps; k++) {
        struct l2d_call rows = { .num_rows = 0 };
        l2d_sinks_step(e, s, frame, k);
        for (uint32_t i = 0; i < count; i++)
            put_row(e, s, (uint32_t) k, &rows, frame + i, k, true);
        l2d_submission_add_unet(s, e->select[k], k == 0 && first ? first : unet, &rows);
    }
    e->gathered -= count;
}

// The oldest frame that has taken its steps, if there is one, goes out: one a submission, so that
// no more than a chunk of them waits for that.
static void add_oldest(struct l2d_engine *e, struct l2d_submission *s)
{
    uint32_t frame = e->flight_begin;
    if (frame == e->frames - e->gathered)
        return;
    add_drawn(e, s, frame);
    e->flight_begin++;
}

// The depths of the whole chunk that has been gathered, and what is made of them.
static void add_depths(struct l2d_engine *e, struct l2d_submission *s)
{
    for (uint32_t i = 0; i < e->gathered; i++) {
        struct l2d_row_params row = l2d_row_of(e, e->frames - e->gathered + i, 0);
        s->block->each[i].row = row;
        s->block->together[i / L2D_DPT_MAX_ROWS].row[i % L2D_DPT_MAX_ROWS] = row;
    }
    l2d_submission_add(s, e->depths, L2D_STAGE_ENCODE);
}

// The new frame is gathered; one whose depth did not wait takes its steps alone.
static void add_sequence(struct l2d_engine *e, struct l2d_submission *s, bool depth_later)
{
    if (e->gathered++ == 0)
        e->taken = 0;
    if (e->depths && !depth_later) {
        add_steps(e, s, 1);
    } else if (e->gathered == e->chunk) {
        if (e->depths)
            add_depths(e, s);
        add_steps(e, s, e->chunk);
    }
    add_oldest(e, s);
}

// The depth of the oldest gathered frame, before its chunk is whole.
static void take_depth(struct l2d_engine *e, struct l2d_submission *s)
{
    uint32_t frame = e->frames - e->gathered;
    s->block->encode = l2d_row_of(e, frame, 0);
    l2d_submission_add(s, e->take_depth[e->taken++], L2D_STAGE_ENCODE);
    add_depth(e, s, frame);
}

// One more gathered frame, if there is one, takes its steps alone, and the oldest goes out.
static int send_oldest(struct l2d_engine *e, struct l2d_error *err)
{
    struct l2d_submission s;
    int rc = l2d_submission_begin(e, &s, err);
    if (rc != L2D_OK)
        return rc;
    l2d_submission_add_upload(&s);
    if (e->gathered > 0) {
        if (e->depths)
            take_depth(e, &s);
        add_steps(e, &s, 1);
    }
    add_oldest(e, &s);
    s.beside = s.slot->is_part = true;
    return submit(e, &s, err);
}

// What follows shall not be in one chunk with what is gathered: that takes its steps.
static int end_chunk(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = L2D_OK;
    while (e->gathered > 0 && rc == L2D_OK)
        rc = send_oldest(e, err);
    return rc;
}

int l2d_engine_stream_frame(struct l2d_engine *e, struct l2d_submission *s,
                            struct l2d_error *err)
{
    uint32_t f = e->frames++;
    if (e->filter)
        l2d_submission_add(s, e->keep, L2D_STAGE_UPLOAD);
    l2d_live_before(e, s, f);
    bool depth_later = e->depths && e->beginning != L2D_REWARM_STILL;   // whose sinks it is itself
    add_encode(e, s, f, depth_later);
    l2d_live_after(e, s, f);
    if (e->sequential)
        add_sequence(e, s, depth_later);
    else
        add_batch(e, s, f);
    s->beside = true;
    e->moves_left = e->draw_every - 1;
    return submit(e, s, err);
}

static int push_stream(struct l2d_engine *e, const struct l2d_frame *frame, struct l2d_error *err)
{
    struct l2d_submission s;
    int rc = l2d_submission_begin_frame(e, &s, frame, err);
    if (rc != L2D_OK)
        return rc;
    if (!e->passthrough && e->shown_now == L2D_SHOW_DRAWN)
        return l2d_engine_stream_frame(e, &s, err);
    add_output(e, &s, e->passthrough ? e->decode : e->show, e->frames++);
    e->flight_begin = e->frames;        // it is not in the model
    e->moves_left = 0;
    e->sights++;
    return l2d_submission_submit(e, &s, err);
}

// The frame goes where it has to.
static int push_frame(struct l2d_engine *e, const struct l2d_frame *frame, struct l2d_error *err)
{
    int rc = e->passthrough ? L2D_OK : l2d_live_look(e, frame, err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_frame_time time = l2d_frame_time_of(frame);
    if (e->shown_now == L2D_SHOW_FROZEN) {
        e->stats.frames_frozen++;
        e->moves_left = 0;
        return l2d_engine_emit(e, e->last_pixels, &time, err);
    }
    if (l2d_live_begins(e))
        rc = end_chunk(e, err);
    if (rc != L2D_OK)
        return rc;
    e->time[e->frames % L2D_TIMES] = time;
    e->num_repeats[e->frames % L2D_TIMES] = e->num_moved[e->frames % L2D_TIMES] = 0;
    if (e->passthrough || e->shown_now == L2D_SHOW_SOURCE)
        return push_stream(e, frame, err);
    if (!e->warm_done)
        return push_warmup(e, frame, err);
    if (l2d_moves_next(e))
        return l2d_engine_push_moved(e, frame, err);
    return e->filter && e->frames > L2D_SINKS && !l2d_live_must_draw(e)
         ? l2d_engine_push_filtered(e, frame, err) : push_stream(e, frame, err);
}

// An error that stays.
static int failed(const struct l2d_engine *e, struct l2d_error *err)
{
    int rc = e->failed.code;
    return rc == L2D_OK ? L2D_OK : l2d_error_set(err, rc, "%s", e->failed.msg);
}

int l2d_engine_push(struct l2d_engine *e, const struct l2d_frame *frame, struct l2d_error *err)
{
    assert(!e->finished);
    if (e->failed.code != L2D_OK)
        return failed(e, err);
    if (e->frames == UINT32_MAX)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "more than 2^32 frames in one stream");
    if (push_frame(e, frame, &e->failed) != L2D_OK)
        return failed(e, err);
    e->stats.frames_in++;
    return L2D_OK;
}

int l2d_engine_drain(struct l2d_engine *e, struct l2d_error *err)
{
    bool in_ring = !e->sequential && e->warm_done && e->frames > e->flight_begin;
    int rc = L2D_OK;
    while (e->sequential && e->warm_done && e->frames > e->flight_begin && rc == L2D_OK)
        rc = send_oldest(e, err);
    for (int32_t i = 1; i < e->schedule.num_steps && in_ring && rc == L2D_OK; i++) {
        struct l2d_submission s;
        rc = l2d_submission_begin(e, &s, err);
        if (rc != L2D_OK)
            break;
        l2d_submission_add_upload(&s);
        l2d_words_move(&e->prompt, &s);
        l2d_words_move(&e->negative_prompt, &s);
        add_batch(e, &s, (int64_t) e->frames - 1 + i);
        rc = submit(e, &s, err);
    }
    if (rc == L2D_OK)
        rc = l2d_engine_collect_all(e, 0, err);
    e->flight_begin = e->sinks.free_at = e->frames;
    return rc;
}

int l2d_engine_collect(struct l2d_engine *e, uint32_t keep, struct l2d_error *err)
{
    if (e->failed.code == L2D_OK)
        l2d_engine_collect_all(e, keep, &e->failed);
    return failed(e, err);
}

int l2d_engine_wait_for(struct l2d_engine *e, double seconds, bool *done, struct l2d_error *err)
{
    const struct l2d_engine_slot *last = &e->slot[(e->next_slot + e->num_slots - 1) % e->num_slots];
    *done = !last->busy;
    if (e->failed.code == L2D_OK && !*done)
        l2d_gpu_wait_for(e->gpu, last->ticket, seconds, done, &e->failed);
    return failed(e, err);
}

int l2d_engine_finish(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = e->failed.code;
    if (rc == L2D_OK && !e->finished && !e->passthrough && e->frames > 0 && !e->warm_done)
        rc = pad_warmup(e, &e->failed);
    if (rc == L2D_OK)
        l2d_engine_drain(e, &e->failed);
    e->finished = true;
    return failed(e, err);
}

// ---- the rest of the interface

const struct l2d_engine_info *l2d_engine_info(const struct l2d_engine *e)
{
    return &e->info;
}

struct l2d_engine_stats l2d_engine_stats(const struct l2d_engine *e)
{
    struct l2d_engine_stats stats = e->stats;
    stats.step_set = e->info.step_set;
    stats.show = e->shown_now;
    return stats;
}

// A cache of bytes as numbers.
static int read_bytes(const struct l2d_engine *e, const struct l2d_tensor *t, int32_t c, float *out,
                      struct l2d_error *err)
{
    uint64_t slots = (uint64_t) t->rows * (uint64_t) t->h * (uint64_t) t->w;
    uint32_t *words = malloc(l2d_tensor_bytes(t));
    int rc = words ? l2d_buf_read(t->buf, t->offset_bytes, words, l2d_tensor_bytes(t), err)
                   : l2d_error_set(err, L2D_ENOMEM, "KV cache: out of memory");
    if (rc == L2D_OK)
        l2d_kv_cache_unpack(out, words, slots, c,
                            e->model->unet.config.motion_kwargs.num_attention_heads);
    free(words);
    return rc;
}

int l2d_engine_read_cache(struct l2d_engine *e, uint32_t index, float *out, uint64_t *count,
                          struct l2d_error *err)
{
    uint32_t each = e->passthrough ? 0 : (uint32_t) e->model->unet.num_attentions;
    if (index >= each && (index >= 2 * each || !e->negative_prompt.kv))
        return l2d_error_set(err, L2D_EINVAL, "no KV cache %u", index);
    const struct l2d_tensor *t = index < each ? &e->state.cache[index]
                                              : &e->negative.cache[index - each];
    int32_t c = e->model->unet.cache_channels[index % each];
    uint64_t slots = (uint64_t) t->rows * (uint64_t) t->h * (uint64_t) t->w;
    *count = slots * 2 * (uint64_t) c;
    if (!out)
        return L2D_OK;
    return t->dtype == L2D_U32 ? read_bytes(e, t, c, out, err) : l2d_engine_read(t, out, err);
}

int l2d_engine_profile(struct l2d_engine *e, struct l2d_profile_row *rows, uint32_t cap,
                       uint32_t *count, struct l2d_error *err)
{
    *count = 0;
    if (e->passthrough)
        return l2d_error_set(err, L2D_EINVAL, "profile: the engine has no model");
    bool together = e->depths != NULL;
    struct l2d_graph *graph[] = { e->color_in, e->encode, e->depths,
                                  together ? NULL : e->map_range, together ? NULL : e->structure,
                                  l2d_engine_stream_call(e),
                                  e->now.steady > 0 ? e->track : NULL,
                                  e->now.steady > 0 ? e->decode_steady : e->decode };
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
