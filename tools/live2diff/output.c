// SPDX-License-Identifier: Apache-2.0
// See output.h.
#include "output.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "video_io/source.h"
#include "video_io/writer.h"

#define LOOK_EVERY_S 0.05
#define RECENT_S 10
#define STUCK_S  8              // a write that takes longer is one that nobody reads,
#define STUCK_AT_END_S 20       // and an end, in which an encoder may have much left to do
#define IDLE_MS  20             // a window hears its keys at least so often

static void set_error(struct output *out, const struct l2d_error *err)
{
    pthread_mutex_lock(&out->lock);
    out->err = *err;
    pthread_mutex_unlock(&out->lock);
}

// returns  what it was
static enum output_state set_state(struct output *out, enum output_state state)
{
    pthread_mutex_lock(&out->lock);
    enum output_state before = (enum output_state) atomic_exchange(&out->state, state);
    pthread_cond_broadcast(&out->opened);
    pthread_mutex_unlock(&out->lock);
    return before;
}

// returns  the state to end in.
static enum output_state state_after(int rc)
{
    return rc == L2D_OK ? OUTPUT_FINISHED : rc == L2D_ECLOSED ? OUTPUT_CLOSED : OUTPUT_FAILED;
}

static void note_latency(struct output *out, double arrival_s)
{
    double now = l2d_clock_s(), ms = 1e3 * (now - arrival_s);
    if (now - out->recent_s > RECENT_S) {
        out->recent[1] = out->recent[0];
        memset(&out->recent[0], 0, sizeof(out->recent[0]));
        out->recent_s = now;
    }
    histogram_add(&out->latency, ms);
    histogram_add(&out->recent[0], ms);
}

static int write_item(struct output *out, struct l2d_sink *sink, struct shared_item *shared,
                      struct l2d_error *err)
{
    bool picture = shared->item.kind == L2D_ITEM_VIDEO;
    pthread_mutex_lock(&out->lock);
    out->writing = picture;
    out->stuck_s = l2d_clock_s() + STUCK_S;
    pthread_mutex_unlock(&out->lock);
    int rc = picture ? l2d_sink_write_video(sink, shared->item.frame, err)
                     : l2d_sink_write_audio(sink, shared->item.packet, err);
    pthread_mutex_lock(&out->lock);
    out->writing = false;
    out->stuck_s = INFINITY;
    out->broken += picture && rc != L2D_OK;
    out->written += picture && rc == L2D_OK;
    if (rc == L2D_OK && shared->arrival_s > 0)
        note_latency(out, shared->arrival_s);
    pthread_mutex_unlock(&out->lock);
    return rc;
}

static int finish(struct output *out, struct l2d_sink *sink, struct l2d_error *err)
{
    pthread_mutex_lock(&out->lock);
    out->stuck_s = l2d_clock_s() + STUCK_AT_END_S;
    pthread_mutex_unlock(&out->lock);
    return l2d_sink_finish(sink, atomic_load(&out->cut_audio), err);
}

static enum output_state write_all(struct output *out, struct l2d_sink *sink)
{
    struct l2d_error err = { 0 };
    int patience_ms = strcmp(out->name, "display") ? -1 : IDLE_MS;
    for (;;) {
        struct shared_item *shared;
        enum l2d_queue_status status = outbox_pop(&out->box, &shared, patience_ms);
        if (status == L2D_QUEUE_ABORTED)
            return OUTPUT_ABORTED;
        int rc = status == L2D_QUEUE_CLOSED ? finish(out, sink, &err)
                 : status == L2D_QUEUE_TIMEOUT ? l2d_sink_idle(sink, &err)
                                               : write_item(out, sink, shared, &err);
        shared_item_unref(shared);
        if (rc != L2D_OK)
            set_error(out, &err);
        if (rc != L2D_OK || status == L2D_QUEUE_CLOSED)
            return state_after(rc);
    }
}

static enum output_state open_and_write(struct output *out, bool *opened)
{
    struct l2d_sink *sink = NULL;
    struct l2d_error err = { 0 };
    int rc = l2d_sink_open(&sink, out->name, &out->params, &err);
    *opened = rc == L2D_OK;
    if (rc != L2D_OK) {
        set_error(out, &err);
        return OUTPUT_FAILED;
    }
    outbox_set_there(&out->box, true);
    if (set_state(out, OUTPUT_RUNNING) == OUTPUT_RETRYING)
        l2d_log_print(out->params.log, L2D_LOG_INFO, "%s: running again", out->name);
    enum output_state state = write_all(out, sink);
    pthread_mutex_lock(&out->lock);
    struct l2d_sink_stats now = l2d_sink_stats(sink);
    out->stats.frames += now.frames;
    out->stats.duplicated += now.duplicated;
    out->stats.dropped += now.dropped;
    out->stats.audio_packets += now.audio_packets;
    out->stats.bytes += now.bytes;
    pthread_mutex_unlock(&out->lock);
    l2d_sink_destroy(&sink);
    return state;
}

// Options that are wrong stay wrong; servers come and go.
static bool may_return(struct output *out, enum output_state state)
{
    int code = out->err.code;           // only this thread writes it
    return out->returns && (state == OUTPUT_FAILED || state == OUTPUT_CLOSED) &&
           (code == L2D_EIO || code == L2D_ECLOSED || code == L2D_EFORMAT);
}

// Let go of what comes, for a while. returns false if the run has ended meanwhile.
static bool sit_out(struct output *out, double wait_s)
{
    double until_s = l2d_clock_s() + wait_s, left_s;
    outbox_lose(&out->box);
    while ((left_s = until_s - l2d_clock_s()) > 0) {
        struct shared_item *shared;
        enum l2d_queue_status status = outbox_pop(&out->box, &shared, (int) (1e3 * left_s) + 1);
        pthread_mutex_lock(&out->lock);
        out->broken += shared && shared->item.kind == L2D_ITEM_VIDEO;
        pthread_mutex_unlock(&out->lock);
        shared_item_unref(shared);
        if (status == L2D_QUEUE_CLOSED || status == L2D_QUEUE_ABORTED)
            return false;
    }
    return true;
}

static void output_main(void *arg)
{
    struct output *out = arg;
    struct l2d_backoff backoff = { 0 };
    enum output_state state;
    bool ever = !out->late;
    for (;;) {
        bool opened;
        state = open_and_write(out, &opened);
        ever = ever || opened;
        bool hurried = atomic_load(&out->interrupt) && state == OUTPUT_CLOSED;
        if (!(ever && may_return(out, state)) && !hurried)
            break;
        if (hurried || outbox_is_closed(&out->box)) {
            state = OUTPUT_CUT_OFF;
            break;
        }
        pthread_mutex_lock(&out->lock);
        out->losses += opened;
        pthread_mutex_unlock(&out->lock);
        if (opened)
            l2d_backoff_reset(&backoff);
        double wait_s = l2d_backoff_next(&backoff);
        l2d_log_print(out->params.log, L2D_LOG_WARN, "%s; trying again in %.1f s", out->err.msg,
                      wait_s);
        set_state(out, OUTPUT_RETRYING);
        if (!sit_out(out, wait_s)) {
            state = OUTPUT_CUT_OFF;
            break;
        }
    }
    outbox_abort(&out->box);            // who still pushes must not wait for us
    set_state(out, state);
}

int output_start(struct output *out, const char *name, const struct l2d_sink_params *params,
                 bool late, struct l2d_error *err)
{
    out->name = name;
    out->params = *params;
    out->stop = params->abort;
    out->params.abort = &out->interrupt;
    out->live = params->live;
    out->network = l2d_source_may_return(name);
    out->returns = out->live && out->network;
    out->late = late;
    atomic_init(&out->state, OUTPUT_OPENING);
    atomic_init(&out->cut_audio, false);
    atomic_init(&out->interrupt, false);
    atomic_init(&out->leaving, false);
    pthread_mutex_init(&out->lock, NULL);
    l2d_cond_init(&out->opened);
    outbox_init(&out->box, out->live);
    out->recent_s = l2d_clock_s();
    out->stuck_s = INFINITY;
    return l2d_thread_start(&out->thread, "output", output_main, out, err);
}

int output_wait_open(struct output *out, struct l2d_error *err)
{
    double until_s = l2d_clock_s() + 1;
    pthread_mutex_lock(&out->lock);
    while (atomic_load(&out->state) == OUTPUT_OPENING &&
           !(out->returns && l2d_clock_s() > until_s)) {
        struct timespec next = l2d_clock_timespec(l2d_clock_s() + LOOK_EVERY_S);
        if (out->stop && atomic_load(out->stop))
            atomic_store(&out->interrupt, true);
        pthread_cond_timedwait(&out->opened, &out->lock, &next);
    }
    pthread_mutex_unlock(&out->lock);
    if (atomic_load(&out->state) != OUTPUT_FAILED)
        return L2D_OK;
    *err = out->err;
    return out->err.code;
}

void output_push(struct output *out, struct shared_item *shared)
{
    if (!out->late || atomic_load(&out->state) != OUTPUT_OPENING)
        outbox_push(&out->box, shared);
}

void output_finish(struct output *out, bool cut_audio)
{
    atomic_store(&out->cut_audio, cut_audio);
    outbox_close(&out->box);
    if (out->late && atomic_load(&out->state) == OUTPUT_OPENING)    // it has got nothing
        atomic_store(&out->interrupt, true);
}

void output_leave(struct output *out)
{
    atomic_store(&out->leaving, true);
    output_finish(out, true);
}

// If its reader may keep it waiting, it waits no more.
static void cut_off(struct output *out)
{
    struct stat s;
    const char *path = l2d_writer_path(out->name);
    if (out->network || !strcmp(path, "-") || (stat(path, &s) == 0 && S_ISFIFO(s.st_mode)))
        atomic_store(&out->interrupt, true);
}

void output_hurry(struct output *out)
{
    if (out->live || atomic_load(&out->leaving))
        cut_off(out);
}

void output_give_up(struct output *out)
{
    pthread_mutex_lock(&out->lock);
    bool stuck = l2d_clock_s() > out->stuck_s;
    pthread_mutex_unlock(&out->lock);
    if (stuck)
        cut_off(out);
}

void output_abort(struct output *out)
{
    atomic_store(&out->interrupt, true);
    outbox_abort(&out->box);
}

void output_join(struct output *out)
{
    l2d_thread_join(&out->thread);
    if (out->box.ready) {               // set with all else by output_start
        pthread_cond_destroy(&out->opened);
        pthread_mutex_destroy(&out->lock);
    }
    outbox_finish(&out->box);
}

bool output_has_ended(const struct output *out)
{
    return atomic_load(&out->state) > OUTPUT_RETRYING;
}

struct output_counts output_counts(struct output *out)
{
    struct outbox_counts box = outbox_counts(&out->box);
    pthread_mutex_lock(&out->lock);
    struct output_counts counts = {
        .given = box.given, .written = out->written, .stalled = box.stalled,
        .lost = box.lost + out->broken, .waiting = box.waiting + out->writing,
        .losses = out->losses,
    };
    pthread_mutex_unlock(&out->lock);
    return counts;
}

static uint64_t accounted(struct output *out)
{
    pthread_mutex_lock(&out->lock);
    uint64_t n = out->written + out->broken;
    pthread_mutex_unlock(&out->lock);
    return n;
}

// The outbox counts by itself, and what has left it is counted later: at the moment when we look at
// the one, the other is between what it was before and what it is after, and a picture in hand.
bool output_adds_up(struct output *out)
{
    uint64_t before = accounted(out);
    struct outbox_counts box = outbox_counts(&out->box);
    uint64_t after = accounted(out), left = box.given - box.stalled - box.lost - box.waiting;
    return before <= left && left <= after + 1;
}

struct quantiles output_latency(struct output *out, bool recent)
{
    static _Thread_local struct histogram sum;      // large
    pthread_mutex_lock(&out->lock);
    sum = recent ? out->recent[0] : out->latency;
    for (int i = 0; recent && i < HISTOGRAM_BINS; i++)
        sum.bin[i] += out->recent[1].bin[i];
    sum.count += recent ? out->recent[1].count : 0;
    pthread_mutex_unlock(&out->lock);
    return histogram_quantiles(&sum);
}

const char *output_state_str(enum output_state state)
{
    switch (state) {
    case OUTPUT_OPENING:  return "opening";
    case OUTPUT_RUNNING:  return "running";
    case OUTPUT_RETRYING: return "retrying";
    case OUTPUT_FINISHED: return "finished";
    case OUTPUT_CLOSED:   return "closed by its viewer";
    case OUTPUT_CUT_OFF:  return "not there at the end";
    case OUTPUT_ABORTED:  return "stopped before its end";
    case OUTPUT_FAILED:   break;
    }
    return "failed";
}

void output_reason(struct output *out, char *text, size_t size)
{
    pthread_mutex_lock(&out->lock);
    snprintf(text, size, "%.*s", (int) size - 1, out->err.msg);
    pthread_mutex_unlock(&out->lock);
}

void output_error(struct output *out, struct l2d_error *err)
{
    pthread_mutex_lock(&out->lock);
    *err = out->err;
    pthread_mutex_unlock(&out->lock);
}
