// SPDX-License-Identifier: Apache-2.0
// See frames.h.
#include "frames.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"

#define MAX_INSIDE 64           // frames in a stream: queues of 4, 8 steps in flight
#define MAX_KEPT 16             // whose pictures are kept meanwhile
#define MAX_SHOWN 10            // results whose sources are kept: a window's queue, and one more
#define MAX_RECENT 256          // that quantiles are of
#define RATE_WINDOW_S 4.0

struct recent {                 // the last values of many
    double value[MAX_RECENT];
    uint64_t count;
    double sum;
};

struct inside {                 // a frame that has gone in and not come out
    int64_t pts;
    double at_s;
    struct l2d_frame *picture;  // or NULL
};

struct control_frames {
    pthread_mutex_t lock;       // held for a few assignments; no frame is freed under it
    pthread_cond_t changed;     // on the monotonic clock

    // --- guarded by lock
    struct l2d_frame *source, *result;
    bool paired;                // source is that of result
    unsigned keep;              // a bit for each viewer
    bool woken;
    struct { int64_t pts; struct l2d_frame *source; } shown[MAX_SHOWN];    // a ring, by number
    uint64_t number;
    struct inside inside[MAX_INSIDE];
    unsigned first, num_inside;
    struct recent latency, interval;    // ms
    double result_s[MAX_RECENT];        // when the last ones came, by number
};

int control_frames_create(struct control_frames **out, struct l2d_error *err)
{
    struct control_frames *f = calloc(1, sizeof(*f));
    if (!f)
        return l2d_error_set(err, L2D_ENOMEM, "control: out of memory");
    pthread_mutex_init(&f->lock, NULL);
    l2d_cond_init(&f->changed);
    *out = f;
    return L2D_OK;
}

void control_frames_destroy(struct control_frames **frames)
{
    struct control_frames *f = *frames;
    *frames = NULL;
    if (!f)
        return;
    for (unsigned i = 0; i < f->num_inside; i++)
        l2d_frame_unref(&f->inside[(f->first + i) % MAX_INSIDE].picture);
    for (unsigned i = 0; i < MAX_SHOWN; i++)
        l2d_frame_unref(&f->shown[i].source);
    l2d_frame_unref(&f->source);
    l2d_frame_unref(&f->result);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static void remember(struct recent *recent, double value)
{
    recent->value[recent->count++ % MAX_RECENT] = value;
    recent->sum += value;
}

static struct inside take_first(struct control_frames *f)
{
    struct inside taken = f->inside[f->first];
    f->inside[f->first].picture = NULL;
    f->first = (f->first + 1) % MAX_INSIDE;
    f->num_inside--;
    return taken;
}

// Of the frames inside, only the last MAX_KEPT have their pictures kept.
static struct l2d_frame *take_oldest_picture(struct control_frames *f)
{
    unsigned kept = 0, oldest = MAX_INSIDE;
    for (unsigned i = f->num_inside; i-- > 0;) {
        unsigned at = (f->first + i) % MAX_INSIDE;
        kept += f->inside[at].picture != NULL;
        if (kept > (f->keep ? MAX_KEPT : 0) && f->inside[at].picture)
            oldest = at;
    }
    if (oldest == MAX_INSIDE)
        return NULL;
    struct l2d_frame *picture = f->inside[oldest].picture;
    f->inside[oldest].picture = NULL;
    return picture;
}

void control_frames_source(struct control_frames *f, struct l2d_frame *frame)
{
    struct l2d_frame *old[3] = { NULL };
    struct inside entry = { frame->pts, l2d_clock_s(), NULL };
    pthread_mutex_lock(&f->lock);
    if (f->num_inside == MAX_INSIDE)
        old[0] = take_first(f).picture;
    if (f->keep)
        entry.picture = l2d_frame_ref(frame);
    f->inside[(f->first + f->num_inside++) % MAX_INSIDE] = entry;
    old[1] = take_oldest_picture(f);
    if (!f->keep || !f->result) {
        old[2] = f->source;
        f->source = l2d_frame_ref(frame);
        f->paired = false;
    }
    pthread_mutex_unlock(&f->lock);
    for (int i = 0; i < 3; i++)
        l2d_frame_unref(&old[i]);
}

static void count_result(struct control_frames *f, double now)
{
    if (f->number > 0)
        remember(&f->interval, 1e3 * (now - f->result_s[f->number % MAX_RECENT]));
    f->result_s[++f->number % MAX_RECENT] = now;
}

// returns  what had its place
static struct l2d_frame *show_source(struct control_frames *f, int64_t pts)
{
    unsigned at = (unsigned) (f->number % MAX_SHOWN);
    if (!(f->keep & 1u << CONTROL_WINDOW))
        return NULL;
    struct l2d_frame *old = f->shown[at].source;
    f->shown[at].pts = pts;
    f->shown[at].source = l2d_frame_ref(f->source);
    return old;
}

void control_frames_result(struct control_frames *f, struct l2d_frame *frame)
{
    struct l2d_frame *old[MAX_INSIDE + 3];
    unsigned num_old = 0;
    double now = l2d_clock_s();
    pthread_mutex_lock(&f->lock);
    while (f->num_inside > 0 && f->inside[f->first].pts <= frame->pts) {
        struct inside entry = take_first(f);
        if (entry.pts == frame->pts)
            remember(&f->latency, 1e3 * (now - entry.at_s));
        if (entry.pts == frame->pts && entry.picture) {
            old[num_old++] = f->source;
            f->source = entry.picture;
            f->paired = true;
            old[num_old++] = show_source(f, frame->pts);
        } else {
            old[num_old++] = entry.picture;         // dropped on the way
        }
    }
    old[num_old++] = f->result;
    f->result = l2d_frame_ref(frame);
    count_result(f, now);
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    for (unsigned i = 0; i < num_old; i++)
        l2d_frame_unref(&old[i]);
}

void control_frames_keep_sources(struct control_frames *f, enum control_viewer who, bool keep)
{
    struct l2d_frame *old[MAX_INSIDE + MAX_SHOWN];
    unsigned num_old = 0;
    pthread_mutex_lock(&f->lock);
    f->keep = keep ? f->keep | 1u << who : f->keep & ~(1u << who);
    for (unsigned i = 0; !f->keep && i < f->num_inside; i++) {
        unsigned at = (f->first + i) % MAX_INSIDE;
        old[num_old++] = f->inside[at].picture;
        f->inside[at].picture = NULL;
    }
    for (unsigned i = 0; !keep && who == CONTROL_WINDOW && i < MAX_SHOWN; i++) {
        old[num_old++] = f->shown[i].source;
        f->shown[i].source = NULL;
    }
    pthread_mutex_unlock(&f->lock);
    for (unsigned i = 0; i < num_old; i++)
        l2d_frame_unref(&old[i]);
}

struct l2d_frame *control_frames_source_of(struct control_frames *f, int64_t pts)
{
    struct l2d_frame *found = NULL;
    pthread_mutex_lock(&f->lock);
    for (unsigned i = 0; i < MAX_SHOWN && !found; i++)
        if (f->shown[i].source && f->shown[i].pts == pts)
            found = l2d_frame_ref(f->shown[i].source);
    pthread_mutex_unlock(&f->lock);
    return found;
}

struct control_pair control_frames_newest(struct control_frames *f)
{
    pthread_mutex_lock(&f->lock);
    struct control_pair pair = {
        .number = f->number, .result = f->result ? l2d_frame_ref(f->result) : NULL,
        .source = f->source ? l2d_frame_ref(f->source) : NULL,
    };
    pthread_mutex_unlock(&f->lock);
    return pair;
}

void control_pair_finish(struct control_pair *pair)
{
    l2d_frame_unref(&pair->source);
    l2d_frame_unref(&pair->result);
}

void control_frames_wait(struct control_frames *f, uint64_t seen, int timeout_ms)
{
    struct timespec until = l2d_clock_timespec(l2d_clock_s() + 1e-3 * timeout_ms);
    pthread_mutex_lock(&f->lock);
    int rc = 0;
    while (f->number <= seen && !f->woken && rc == 0)
        rc = pthread_cond_timedwait(&f->changed, &f->lock, &until);
    f->woken = false;
    pthread_mutex_unlock(&f->lock);
}

void control_frames_wake(struct control_frames *f)
{
    pthread_mutex_lock(&f->lock);
    f->woken = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static struct state_quantiles quantiles(const struct recent *recent)
{
    struct state_quantiles q = { .sum_ms = recent->sum, .count = recent->count };
    double sorted[MAX_RECENT];
    size_t n = recent->count < MAX_RECENT ? (size_t) recent->count : MAX_RECENT;
    if (n == 0)
        return q;
    memcpy(sorted, recent->value, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), by_size);
    q.p50 = sorted[(size_t) (0.50 * (double) n)];
    q.p95 = sorted[(size_t) (0.95 * (double) n)];
    q.p99 = sorted[(size_t) (0.99 * (double) n)];
    return q;
}

// Results of the last seconds over the time since the first of them, so that a stall shows.
static double rate(const uint64_t number, const double *result_s, double now)
{
    uint64_t counted = 0;
    double since = now;
    while (counted < number && counted < MAX_RECENT &&
           now - result_s[(number - counted) % MAX_RECENT] < RATE_WINDOW_S)
        since = result_s[(number - counted++) % MAX_RECENT];
    return counted > 1 && now > since ? (double) (counted - 1) / (now - since) : 0;
}

void control_frames_measure(struct control_frames *f, struct control_state *state)
{
    struct recent latency, interval;
    double result_s[MAX_RECENT];
    pthread_mutex_lock(&f->lock);
    uint64_t number = f->number;
    latency = f->latency;
    interval = f->interval;
    memcpy(result_s, f->result_s, sizeof(result_s));
    pthread_mutex_unlock(&f->lock);
    state->latency = quantiles(&latency);
    state->interval = quantiles(&interval);
    state->fps = rate(number, result_s, l2d_clock_s());
}
