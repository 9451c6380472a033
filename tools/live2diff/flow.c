// SPDX-License-Identifier: Apache-2.0
// See flow.h.
#include "flow.h"

#include <string.h>

#include "base/clock.h"

void flow_init(struct flow *flow, struct flow_stops *stops, const struct l2d_log *log)
{
    flow->log = *log;
    flow->stops = stops;
    atomic_init(&flow->source_over, false);
    atomic_init(&flow->ended, false);
    pthread_mutex_init(&flow->lock, NULL);
    fate_init(&flow->ledger);
    steer_init(&flow->steer, log);
    outputs_init(&flow->outputs, log);
}

// Keeps the first.
static void fail(struct flow *flow, const struct l2d_error *err)
{
    pthread_mutex_lock(&flow->lock);
    if (flow->error.code == L2D_OK)
        flow->error = *err;
    pthread_mutex_unlock(&flow->lock);
}

struct l2d_error flow_error(struct flow *flow)
{
    pthread_mutex_lock(&flow->lock);
    struct l2d_error err = flow->error;
    pthread_mutex_unlock(&flow->lock);
    return err;
}

static void push_all(struct flow *flow, struct l2d_item *item, double arrival_s)
{
    struct shared_item *shared = shared_item_new(item, arrival_s);
    if (!shared) {
        struct l2d_error err = { 0 };
        l2d_error_set(&err, L2D_ENOMEM, "out of memory for a frame's envelope");
        fail(flow, &err);
        l2d_stream_stop(flow->stream);
        return;
    }
    outputs_push(&flow->outputs, shared);
    shared_item_unref(shared);
}

// --- the reader's thread

static double input_time_s(const struct flow *flow, const struct l2d_frame *frame)
{
    return (double) (frame->pts - flow->start_pts) * frame->time_base_num / frame->time_base_den +
           1e-6 * (double) flow->start_us;
}

double flow_input_rate(const struct flow *flow)
{
    const struct l2d_reader_info *in = l2d_source_info(flow->source);
    return in->frame_rate_num > 0 && in->frame_rate_den > 0
         ? (double) in->frame_rate_num / in->frame_rate_den : 25;
}

void flow_changed(void *user, const struct l2d_change *change, const struct l2d_frame *frame)
{
    struct flow *flow = user;
    if (flow->record)
        timeline_record_add(flow->record, change, input_time_s(flow, frame), flow_input_rate(flow));
}

// What changes with this frame.
static int make_changes(struct flow *flow, const struct l2d_frame *frame, struct l2d_error *err)
{
    double at_s = input_time_s(flow, frame), rate = flow_input_rate(flow);
    const struct l2d_change *change;
    int rc = L2D_OK;
    while (rc == L2D_OK && (change = timeline_next(flow->timeline, at_s, rate))) {
        rc = steer_change(&flow->steer, change, L2D_WHEN_IN_ORDER, NULL, err);
        run_params_follow(flow->params, change);
    }
    return rc;
}

static int push_frame(struct flow *flow, struct l2d_frame **frame, double arrival_s,
                      struct l2d_error *err)
{
    uint64_t before = l2d_stream_stats(flow->stream).frames_dropped;
    if (fate_last_begun(&flow->ledger) <= 0)
        flow->start_pts = (*frame)->pts;
    fate_begin(&flow->ledger, (*frame)->pts, arrival_s, l2d_clock_s());
    if (flow->frames)
        control_frames_source(flow->frames, *frame);
    int rc = flow->timeline ? make_changes(flow, *frame, err) : L2D_OK;
    if (rc == L2D_OK)
        rc = l2d_stream_push(flow->stream, frame, err);
    // Only a push lets go of a frame: the one that waited.
    if (rc == L2D_OK && l2d_stream_stats(flow->stream).frames_dropped > before) {
        fate_late(&flow->ledger);
        steer_drop(&flow->steer, l2d_clock_s());
    }
    return rc;
}

// A frame has waited until it is even time for it.
static bool give_delayed(void *user, struct l2d_frame **frame, double arrival_s)
{
    struct flow *flow = user;
    struct l2d_error err = { 0 };
    int rc = push_frame(flow, frame, arrival_s, &err);
    if (rc != L2D_OK && rc != L2D_ECLOSED)
        fail(flow, &err);
    return rc == L2D_OK;
}

// What is as late as the buffer is long, or later, does not wait.
static int take_frame(struct flow *flow, struct l2d_frame **frame, struct l2d_error *err)
{
    double now_s = l2d_clock_s();
    if (!flow->delay)
        return push_frame(flow, frame, now_s, err);
    double early_s = flow->buffer_s - l2d_source_late_s(flow->source);
    return delay_put(flow->delay, frame, now_s, now_s + early_s);
}

static void read_main(void *arg)
{
    struct flow *flow = arg;
    struct l2d_error err = { 0 };
    int rc;
    for (;;) {
        struct l2d_item item = { 0 };
        rc = l2d_source_next(flow->source, &item, &err);
        if (rc != L2D_OK || item.kind == L2D_ITEM_END)
            break;
        if (item.kind == L2D_ITEM_AUDIO) {
            push_all(flow, &item, 0);
            continue;
        }
        rc = take_frame(flow, &item.frame, &err);
        l2d_item_clear(&item);
        if (rc != L2D_OK)
            break;
    }
    if (flow->delay && rc == L2D_OK)
        delay_drain(flow->delay);
    atomic_store(&flow->source_over, true);
    // ECLOSED: a signal, or the stream ended and pop knows why.
    if (rc != L2D_OK && rc != L2D_ECLOSED)
        fail(flow, &err);
    if (rc != L2D_OK && (rc != L2D_ECLOSED || flow->live))
        l2d_stream_stop(flow->stream);  // live: nobody waits for what is inside
    l2d_stream_end(flow->stream);
}

// --- the fan-out's thread

static void count_out(struct flow *flow, const struct l2d_frame *frame, double now_s)
{
    pthread_mutex_lock(&flow->lock);
    if (flow->frames_out++ == 0) {
        flow->first_s = now_s;
        flow->first_pts = frame->pts;
    } else {
        histogram_add(&flow->interval, 1e3 * (now_s - flow->last_s));
    }
    flow->last_s = now_s;
    flow->last_pts = frame->pts;
    pthread_mutex_unlock(&flow->lock);
}

static void give_frame(struct flow *flow, struct l2d_item *item)
{
    double now_s = l2d_clock_s();
    bool in_time = !flow->live || hold_take(&flow->hold, item->frame, now_s);
    double begun_s, arrival_s = fate_leave(&flow->ledger, item->frame->pts, !in_time, &begun_s);
    if (begun_s > 0)
        steer_frame(&flow->steer, begun_s, now_s);
    if (!in_time) {
        l2d_item_clear(item);
        return;
    }
    count_out(flow, item->frame, now_s);
    if (flow->frames)
        control_frames_result(flow->frames, item->frame);
    push_all(flow, item, arrival_s);
}

// A picture that is being drawn, however slowly, is better than one that is held.
static int hold_picture(struct flow *flow, struct l2d_item *item, struct l2d_error *err)
{
    struct l2d_stream_stats stats = l2d_stream_stats(flow->stream);
    if (atomic_load(&flow->source_over) ||
        stats.frames_in - stats.frames_dropped > stats.frames_done)
        return L2D_OK;
    int rc = hold_give(&flow->hold, l2d_clock_s(), &item->frame, err);
    if (rc == L2D_OK && item->frame)
        push_all(flow, item, 0);
    return rc;
}

// returns false at the end.
static bool fan_step(struct flow *flow, struct l2d_error *err)
{
    struct l2d_item item = { .kind = L2D_ITEM_VIDEO };
    bool timed_out = false;
    int rc = flow->live ? l2d_stream_pop_timed(flow->stream, &item.frame,
                                               hold_wait_ms(&flow->hold, l2d_clock_s()),
                                               &timed_out, err)
                        : l2d_stream_pop(flow->stream, &item.frame, err);
    if (rc == L2D_OK && timed_out) {
        rc = hold_picture(flow, &item, err);
    } else if (rc == L2D_OK && item.frame) {
        give_frame(flow, &item);
    } else if (rc == L2D_OK) {
        return false;
    }
    if (rc != L2D_OK && rc != L2D_ECLOSED)
        fail(flow, err);
    return rc == L2D_OK;
}

static void fan_main(void *arg)
{
    struct flow *flow = arg;
    struct l2d_error err = { 0 };
    while (fan_step(flow, &err))
        ;
    fate_end(&flow->ledger);
    atomic_store(&flow->ended, true);
}

// --- all of it

// Room for the buffer's time at the source's rate, and some for what comes early.
static int start_delay(struct flow *flow, struct l2d_error *err)
{
    double frames = flow->buffer_s * flow_input_rate(flow) + 8;
    return flow->buffer_s > 0
         ? delay_create(&flow->delay, frames < 256 ? (unsigned) frames : 256, give_delayed, flow,
                        err) : L2D_OK;
}

int flow_start(struct flow *flow, struct l2d_error *err)
{
    int rc = start_delay(flow, err);
    if (rc != L2D_OK)
        return rc;
    rc = l2d_thread_start(&flow->read_thread, "reader", read_main, flow, err);
    return rc != L2D_OK ? rc : l2d_thread_start(&flow->fan_thread, "fan-out", fan_main, flow, err);
}

void flow_stop(struct flow *flow)
{
    if (flow->stream)
        l2d_stream_stop(flow->stream);
    atomic_store(&flow->stops->source, true);
    if (flow->delay)
        delay_stop(flow->delay);
    l2d_thread_join(&flow->read_thread);
    fate_stop(&flow->ledger, delay_destroy(&flow->delay));
    l2d_thread_join(&flow->fan_thread);
    fate_end(&flow->ledger);            // the reader may have pushed one after the fan-out's end
}

void flow_finish(struct flow *flow)
{
    run_control_stop(&flow->control);
    flow_stop(flow);
    outputs_finish(&flow->outputs);
    keys_destroy(&flow->keys);
    control_frames_destroy(&flow->frames);
    run_params_destroy(&flow->params);
    hold_finish(&flow->hold);
    l2d_stream_destroy(&flow->stream);
    l2d_source_destroy(&flow->source);
    steer_finish(&flow->steer);
    fate_finish(&flow->ledger);
    pthread_mutex_destroy(&flow->lock);
}
