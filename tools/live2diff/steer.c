// SPDX-License-Identifier: Apache-2.0
// See steer.h.
#include "steer.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

void steer_init(struct steer *steer, const struct l2d_log *log)
{
    memset(steer, 0, sizeof(*steer));
    steer->log = l2d_log_named(log, "deadline");
    pthread_mutex_init(&steer->lock, NULL);
}

void steer_finish(struct steer *steer)
{
    pthread_mutex_destroy(&steer->lock);
}

void steer_start(struct steer *steer, struct l2d_stream *stream, double limit_ms, bool batch)
{
    const struct l2d_engine_info *info = l2d_stream_info(stream);
    struct deadline_params params = {
        .limit_s = limit_ms / 1e3, .batch = batch, .num_sets = info->num_step_sets,
    };
    memcpy(params.steps, info->steps_of_set, sizeof(params.steps));
    steer->stream = stream;
    steer->has_deadline = limit_ms > 0;
    if (!steer->has_deadline)
        return;
    deadline_init(&steer->deadline, &params);
    for (uint32_t i = 0; i < params.num_sets; i++)
        if (params.steps[i] < params.steps[0])
            return;
    l2d_log_print(&steer->log, L2D_LOG_WARN, "no --more-steps has fewer steps than --steps, which "
                  "has %d: there is nothing to go down to", params.steps[0]);
}

int steer_change(struct steer *steer, const struct l2d_change *change, enum l2d_when when,
                 uint64_t *ticket, struct l2d_error *err)
{
    pthread_mutex_lock(&steer->lock);
    int rc = l2d_stream_change(steer->stream, change, when, ticket, err);
    if (rc == L2D_OK && steer->has_deadline && change->kind == L2D_CHANGE_STEPS &&
        change->step_set < steer->deadline.params.num_sets)
        deadline_ask(&steer->deadline, change->step_set, l2d_clock_s());
    pthread_mutex_unlock(&steer->lock);
    return rc;
}

static void describe(const struct deadline *d, uint32_t set, char *out, size_t size)
{
    const int32_t *steps = d->params.steps;
    struct deadline_look look = deadline_look(d);
    if (steps[set] < steps[d->set])
        snprintf(out, size, "steps: %d, were %d; of %u frames %u took more than %g ms and %u were "
                 "dropped", steps[set], steps[d->set], look.frames, look.slow, d->stats.limit_ms,
                 look.dropped);
    else
        snprintf(out, size, "steps: %d, were %d; for %.0f s there was time for them", steps[set],
                 steps[d->set], d->calm_s);
}

// A stream that takes no change is asked again with the next frame.
// line     "" if nothing has changed
static void decide_locked(struct steer *steer, double now_s, char *line, size_t size)
{
    struct deadline *d = &steer->deadline;
    struct l2d_change change = { .kind = L2D_CHANGE_STEPS, .step_set = deadline_choose(d),
                                 .automatic = true };
    *line = '\0';
    if (change.step_set == d->set ||
        l2d_stream_change(steer->stream, &change, L2D_WHEN_SOON, NULL, NULL) != L2D_OK)
        return;
    describe(d, change.step_set, line, size);
    deadline_change(d, change.step_set, now_s);
}

static void feed(struct steer *steer, double arrival_s, double now_s, bool dropped)
{
    char line[256];
    if (!steer->has_deadline)
        return;
    pthread_mutex_lock(&steer->lock);
    if (dropped)
        deadline_drop(&steer->deadline, now_s);
    else
        deadline_frame(&steer->deadline, arrival_s, now_s);
    decide_locked(steer, now_s, line, sizeof(line));
    pthread_mutex_unlock(&steer->lock);
    if (*line)
        l2d_log_print(&steer->log, L2D_LOG_INFO, "%s", line);
}

void steer_frame(struct steer *steer, double arrival_s, double now_s)
{
    feed(steer, arrival_s, now_s, false);
}

void steer_drop(struct steer *steer, double now_s)
{
    feed(steer, 0, now_s, true);
}

struct deadline_stats steer_stats(struct steer *steer)
{
    pthread_mutex_lock(&steer->lock);
    struct deadline_stats stats = steer->deadline.stats;
    pthread_mutex_unlock(&steer->lock);
    return stats;
}
