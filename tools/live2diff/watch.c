// SPDX-License-Identifier: Apache-2.0
// See watch.h.
#include "watch.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define LOOK_EVERY_US 50000
#define PUBLISH_EVERY_S 0.25
#define CHECK_EVERY_S 1.0
#define HURRY_AFTER_S 0.75      // live outputs that are still not finished then are cut off

static void copy_name(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%.*s", (int) size - 1, from);
}

void watch_status(struct watch *watch, struct run_status *status)
{
    struct flow *flow = watch->flow;
    const struct l2d_reader_info *in = l2d_source_info(flow->source);
    memset(status, 0, sizeof(*status));
    status->live = flow->live;
    copy_name(status->input, sizeof(status->input), watch->input);
    status->source = l2d_source_status(flow->source);
    status->fates = fate_counts(&flow->ledger, status->source.backlog);
    status->unfair = watch->unfair;
    struct l2d_engine_stats engine = l2d_stream_stats(flow->stream).engine;
    status->similar = engine.frames_skipped;
    status->moved = engine.frames_moved;
    pthread_mutex_lock(&flow->lock);
    status->media_s = (double) (flow->last_pts - flow->first_pts) * in->time_base_num /
                      in->time_base_den;
    status->wall_s = flow->last_s - flow->first_s;
    pthread_mutex_unlock(&flow->lock);
    outputs_status(&flow->outputs, status);
}

struct progress_state watch_progress(const struct run_status *status, int64_t total)
{
    struct progress_state state = {
        .live = status->live, .frames = status->fates.out, .total = total,
        .dropped = status->fates.late + status->fates.overtaken + status->fates.backlog,
        .media_s = status->media_s, .wall_s = status->wall_s, .in = status->fates.in,
        .in_flight = status->fates.in_flight, .held = status->fates.held,
        .state = l2d_source_state_str(status->source.state),
    };
    for (unsigned i = 0; i < status->num_outputs; i++)      // the slowest
        if (status->output[i].latency.p95 > state.latency_ms)
            state.latency_ms = status->output[i].latency.p95;
    return state;
}

// The parts keep their own counts; between two looks at the ledger these may be one apart.
static void check_fates(struct watch *watch)
{
    struct flow *flow = watch->flow;
    struct fates before = fate_counts(&flow->ledger, 0);
    uint64_t dropped = l2d_stream_stats(flow->stream).frames_dropped;
    struct fates after = fate_counts(&flow->ledger, 0);
    bool fair = fates_add_up(&before) && fates_add_up(&after) && before.late <= dropped &&
                dropped <= after.late + 1;
    if (outputs_are_fair(&flow->outputs) && fair)
        return;
    if (watch->unfair++ == 0)
        l2d_log_print(&flow->log, L2D_LOG_ERROR, "frames without a fate: %llu in, %llu out, %llu "
                      "late, %llu in flight", (unsigned long long) after.in,
                      (unsigned long long) after.out, (unsigned long long) after.late,
                      (unsigned long long) after.in_flight);
}

static void log_state(struct watch *watch, enum l2d_source_state state)
{
    if (state != watch->state && (state == L2D_SOURCE_BUFFERING ||
                                  watch->state == L2D_SOURCE_BUFFERING))
        l2d_log_print(&watch->flow->log, L2D_LOG_INFO, "source: %s, was %s",
                      l2d_source_state_str(state), l2d_source_state_str(watch->state));
    watch->state = state;
}

static void pass_on_signals(struct watch *watch)
{
    struct flow *flow = watch->flow;
    // A run that was paused at its window would stand still for ever once that is closed.
    bool alone = flow->keys && !flow->control && !outputs_has(&flow->outputs, "display");
    if (atomic_load(&flow->stops->input) || alone)
        l2d_stream_pause(flow->stream, false);
    if (atomic_load(&flow->stops->input) && !watch->stop_said) {
        progress_print(watch->progress, flow->live ? "stopping" : "stopping: finishing what was "
                       "read (again to stop at once)");
        watch->stop_said = true;
    }
    if (atomic_load(&flow->stops->now) && !watch->aborted) {
        watch->aborted = true;
        l2d_stream_stop(flow->stream);
        outputs_abort(&flow->outputs);
    }
}

static void finish_outputs(struct watch *watch, double now_s)
{
    struct flow *flow = watch->flow;
    bool failed = flow_error(flow).code != L2D_OK;
    bool cut = atomic_load(&flow->stops->input) || watch->frame_limit;
    if (failed && !flow->live)
        outputs_abort(&flow->outputs);
    else
        outputs_end(&flow->outputs, cut);
    watch->finishing = true;
    watch->finishing_s = now_s;
}

static void look(struct watch *watch, double now_s)
{
    struct flow *flow = watch->flow;
    pass_on_signals(watch);
    if (atomic_load(&flow->ended) && !watch->finishing && !watch->aborted)
        finish_outputs(watch, now_s);
    if (watch->stop_said)
        outputs_give_up(&flow->outputs);
    if (watch->finishing && flow->live && now_s - watch->finishing_s > HURRY_AFTER_S)
        outputs_hurry(&flow->outputs);
    outputs_tend(&flow->outputs, now_s);
    if (now_s - watch->checked_s >= CHECK_EVERY_S) {
        watch->checked_s = now_s;
        check_fates(watch);
    }
    static struct run_status status;            // large; main's alone
    if (now_s - watch->published_s < PUBLISH_EVERY_S)
        return;
    watch->published_s = now_s;
    watch_status(watch, &status);
    log_state(watch, status.source.state);
    run_board_publish(watch->board, &status);
    struct progress_state state = watch_progress(&status,
                                                 l2d_source_info(flow->source)->num_frames);
    progress_update(watch->progress, &state);
}

void watch_until_end(struct watch *watch)
{
    watch->checked_s = l2d_clock_s();
    while (!outputs_all_ended(&watch->flow->outputs)) {
        look(watch, l2d_clock_s());
        usleep(LOOK_EVERY_US);
    }
}
