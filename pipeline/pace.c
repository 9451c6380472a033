// SPDX-License-Identifier: Apache-2.0
// See pace.h.
#include "pipeline/pace.h"

#include "base/clock.h"

#define MARGIN_S 0.5e-3         // for waking up
#define NEWEST 0.2              // of a mean, what the newest frame counts

static void learn(double *mean, double seconds)
{
    *mean += (*mean > 0 ? NEWEST : 1) * (seconds - *mean);
}

// What the GPU did ahead of the steps of frames that have come out since it was asked last.
static void look_ahead(struct l2d_pace *p, const struct l2d_engine *engine)
{
    struct l2d_engine_stats now = l2d_engine_stats(engine);
    double ms = now.stage_ms[L2D_STAGE_UPLOAD] + now.stage_ms[L2D_STAGE_ENCODE];
    if (now.timed > p->timed)
        learn(&p->ahead_s, 1e-3 * (ms - p->ahead_ms) / (double) (now.timed - p->timed));
    p->timed = now.timed;
    p->ahead_ms = ms;
}

// The frame in flight, if there is one, is done.
static void finish(struct l2d_pace *p, const struct l2d_engine *engine)
{
    if (p->in_flight)
        learn(&p->drawn_s, l2d_clock_s() - p->begun_s);
    look_ahead(p, engine);
    p->in_flight = false;
}

int l2d_pace_collect(struct l2d_pace *p, struct l2d_engine *engine, struct l2d_error *err)
{
    int rc = l2d_engine_collect(engine, 0, err);
    finish(p, engine);
    return rc;
}

// Waits until the frame in flight is done or the next one due. Until it is known how long frames
// take, that is when it is done.
static int wait_until_due(const struct l2d_pace *p, struct l2d_engine *engine, bool *done,
                          struct l2d_error *err)
{
    double due_s = p->begun_s + p->drawn_s - p->ahead_s - p->given_s - MARGIN_S;
    *done = p->drawn_s == 0;
    return *done ? L2D_OK : l2d_engine_wait_for(engine, due_s - l2d_clock_s(), done, err);
}

int l2d_pace_push(struct l2d_pace *p, struct l2d_engine *engine, const struct l2d_frame *frame,
                  struct l2d_error *err)
{
    // Before the first picture frames take other times, and where not all are drawn, unlike ones.
    const struct l2d_engine_info *info = l2d_engine_info(engine);
    bool paced = info->works_ahead && info->draw_every <= 1 &&
                 l2d_engine_stats(engine).frames_out > 0;
    bool idle = !p->in_flight, done = false;
    double begin_s = l2d_clock_s();
    int rc = l2d_engine_push(engine, frame, err);
    double given_s = l2d_clock_s() - begin_s;
    if (rc == L2D_OK)
        rc = l2d_engine_collect(engine, paced, err);
    finish(p, engine);
    if (rc != L2D_OK || !paced)
        return rc;
    learn(&p->given_s, given_s);
    p->begun_s = l2d_clock_s() + (idle ? p->ahead_s : 0);
    p->in_flight = true;
    rc = wait_until_due(p, engine, &done, err);
    return rc == L2D_OK && done ? l2d_pace_collect(p, engine, err) : rc;
}
