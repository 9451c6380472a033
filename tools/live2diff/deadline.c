// SPDX-License-Identifier: Apache-2.0
// See deadline.h.
#include "deadline.h"

#include <math.h>
#include <string.h>

#define WINDOW_S 4.0
#define LEAST_FRAMES 8
#define LEAST_BAD 3
#define FEW 20                  // 1 in 20 may be bad: the 95th percentile
#define SPIKE_S 1.0
#define SETTLE_FRAMES 10        // the warm-up's 8 sinks, or a re-warm of 8 steps, and those behind
#define FIRST_CALM_S 10.0
#define LONGEST_CALM_S 640.0
#define HELD 6                  // times its calm: that was no mistake
#define SPARE 0.9
#define DROPPED HUGE_VAL

void deadline_init(struct deadline *d, const struct deadline_params *params)
{
    memset(d, 0, sizeof(*d));
    d->params = *params;
    d->stats.limit_ms = 1e3 * params->limit_s;
    deadline_ask(d, 0, 0);
}

static unsigned slot_of(const struct deadline *d, unsigned at)
{
    return (d->head + at) % DEADLINE_ENTRIES;
}

static double at_of(const struct deadline *d, unsigned at)
{
    return d->entry[slot_of(d, at)].at_s;
}

// The one of fewer steps that has the most of them; set if there is none.
static uint32_t below(const struct deadline *d, uint32_t set)
{
    const int32_t *steps = d->params.steps;
    uint32_t found = set;
    for (uint32_t i = 0; i < d->params.num_sets; i++)
        if (steps[i] < steps[set] && (found == set || steps[i] > steps[found]))
            found = i;
    return found;
}

// The next on the way to the one that is asked for; set if it is that.
static uint32_t above(const struct deadline *d, uint32_t set)
{
    const int32_t *steps = d->params.steps;
    uint32_t found = d->asked;
    for (uint32_t i = 0; i < d->params.num_sets; i++)
        if (steps[i] > steps[set] && steps[i] < steps[found])
            found = i;
    return steps[found] > steps[set] ? found : set;
}

// How long this frame would have taken with another set: only work grows with the steps, while in a
// batch a frame also waits for others to come.
struct guess { double took_s, work_s; };

static struct guess guess(const struct deadline *d, unsigned at, uint32_t set, double interval_s)
{
    const int32_t *steps = d->params.steps;
    double took_s = d->entry[slot_of(d, at)].took_s;
    double waits_s = d->params.batch ? (steps[d->set] - 1) * interval_s : 0;
    double will_wait_s = d->params.batch ? (steps[set] - 1) * interval_s : 0;
    double work_s = took_s > waits_s ? (took_s - waits_s) * steps[set] / steps[d->set] : 0;
    return (struct guess) { work_s + will_wait_s, work_s };
}

static bool next_fits(const struct deadline *d)
{
    uint32_t next = above(d, d->set);
    if (next == d->set || d->len < LEAST_FRAMES)
        return false;
    double interval_s = (at_of(d, d->len - 1) - at_of(d, 0)) / (d->len - 1);
    unsigned late = 0, behind = 0;
    for (unsigned i = 0; i < d->len; i++) {
        struct guess g = guess(d, i, next, interval_s);
        late += g.took_s > SPARE * d->params.limit_s;
        behind += g.work_s > SPARE * interval_s;
    }
    return FEW * late <= d->len && 2 * behind <= d->len;
}

static void note(struct deadline *d, double at_s, double took_s)
{
    double gap_s = d->len > 0 ? at_s - at_of(d, d->len - 1) : 0;
    while (d->len == DEADLINE_ENTRIES ||
           (d->len >= LEAST_FRAMES && at_s - at_of(d, 0) > WINDOW_S)) {
        d->head = (d->head + 1) % DEADLINE_ENTRIES;
        d->len--;
    }
    unsigned slot = slot_of(d, d->len++);
    d->entry[slot].at_s = at_s;
    d->entry[slot].took_s = took_s;
    // A source that is lost for a minute was not a minute of calm.
    d->calm_s = next_fits(d) ? d->calm_s + fmin(fmax(gap_s, 0), 1) : 0;
}

void deadline_frame(struct deadline *d, double arrival_s, double now_s)
{
    bool in_flight = arrival_s < d->changed_s;
    d->stats.frames[d->params.steps[in_flight ? d->before : d->set]]++;
    if (in_flight)
        return;
    if (d->unsettled > 0)
        d->unsettled--;
    else
        note(d, now_s, now_s - arrival_s);
}

void deadline_drop(struct deadline *d, double now_s)
{
    if (d->unsettled == 0)
        note(d, now_s, DROPPED);
}

struct deadline_look deadline_look(const struct deadline *d)
{
    struct deadline_look look = { .frames = d->len };
    for (unsigned i = 0; i < d->len; i++) {
        double took_s = d->entry[slot_of(d, i)].took_s;
        look.dropped += took_s == DROPPED;
        look.slow += took_s > d->params.limit_s && took_s != DROPPED;
    }
    return look;
}

static bool is_late(const struct deadline *d)
{
    struct deadline_look look = deadline_look(d);
    unsigned bad = look.slow + look.dropped, first = 0, last = d->len;
    if (bad < LEAST_BAD || FEW * bad <= d->len)
        return false;
    while (d->entry[slot_of(d, first)].took_s <= d->params.limit_s)
        first++;
    while (d->entry[slot_of(d, last - 1)].took_s <= d->params.limit_s)
        last--;
    return at_of(d, last - 1) - at_of(d, first) >= SPIKE_S;
}

uint32_t deadline_choose(const struct deadline *d)
{
    uint32_t next = above(d, d->set);
    if (is_late(d))
        return below(d, d->set);
    return d->calm_s >= d->wait_s[next] ? next : d->set;
}

static void settle(struct deadline *d, uint32_t set, double now_s)
{
    d->before = d->set;
    d->set = set;
    d->changed_s = now_s;
    d->unsettled = SETTLE_FRAMES;
    d->head = d->len = 0;
    d->calm_s = 0;
}

void deadline_change(struct deadline *d, uint32_t set, double now_s)
{
    double *raised_s = &d->raised_s[d->set], *wait_s = &d->wait_s[d->set];
    if (d->params.steps[set] > d->params.steps[d->set]) {
        d->raised_s[set] = now_s;
    } else if (*raised_s > 0) {
        bool held = now_s - *raised_s >= HELD * *wait_s;
        *wait_s = held ? FIRST_CALM_S : fmin(2 * *wait_s, LONGEST_CALM_S);
        *raised_s = 0;
    }
    d->stats.changes++;
    settle(d, set, now_s);
}

void deadline_ask(struct deadline *d, uint32_t set, double now_s)
{
    d->asked = set;
    for (uint32_t i = 0; i < L2D_MAX_STEP_SETS; i++) {
        d->wait_s[i] = FIRST_CALM_S;
        d->raised_s[i] = 0;
    }
    settle(d, set, now_s);
}
