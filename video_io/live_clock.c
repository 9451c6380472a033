// SPDX-License-Identifier: Apache-2.0
// See live_clock.h. The clock is the wall clock plus a lead: by how much times were ahead of it at
// most in the last seconds. Frames that are delayed on the way do not move it; a sender whose clock
// runs slower or faster than ours does, slowly.
#include "video_io/live_clock.h"

#define SECOND ((int64_t) L2D_LIVE_CLOCK_HZ)
#define AHEAD  (2 * SECOND)
#define BEHIND (2 * SECOND / 5)
#define PATIENCE (SECOND / 2)
#define LONGEST (3 * SECOND)
#define JITTER (SECOND / 5)
#define CLOSE  (SECOND / 10)
#define WINDOW (5 * SECOND)

static int64_t now(const struct l2d_live_clock *t, int64_t wall)
{
    return wall + (t->lead[0] > t->lead[1] ? t->lead[0] : t->lead[1]);
}

int64_t l2d_live_clock_ahead(const struct l2d_live_clock *clock, int64_t at, int64_t wall)
{
    return at - now(clock, wall);
}

static int64_t move_to_now(struct l2d_live_clock *t, int64_t raw, int64_t wall)
{
    int64_t at = now(t, wall);
    if (at <= t->end)
        at = t->end + 1;
    t->offset = at - raw;
    t->lags = false;
    return at;
}

void l2d_live_clock_begin(struct l2d_live_clock *clock, int64_t raw, int64_t wall)
{
    struct l2d_live_clock *t = clock;
    if (t->started) {
        move_to_now(t, raw, wall);
        return;
    }
    *t = (struct l2d_live_clock) {
        .started = true, .offset = -raw, .lead = { -wall, -wall }, .lead_since = wall, .end = -1,
    };
}

static void note_lead(struct l2d_live_clock *t, int64_t lead, int64_t wall)
{
    if (wall - t->lead_since > WINDOW) {
        t->lead[1] = t->lead[0];
        t->lead[0] = lead;
        t->lead_since = wall;
    } else if (lead > t->lead[0]) {
        t->lead[0] = lead;
    }
}

// Whether times stay behind. Those of a clock that stood still go on at their pace; those of a
// network that stands still now and then do not, and will catch up.
static bool stays_behind(struct l2d_live_clock *t, int64_t raw, int64_t wall, int64_t ahead)
{
    bool lags = ahead < -BEHIND;
    int64_t slip = raw - t->last_raw - (wall - t->last_wall);
    if (lags && !t->lags)
        t->lag_since = wall;
    if (lags && (!t->lags || slip > JITTER || slip < -JITTER)) {
        t->pace_since = wall;
        t->pace_raw = raw;
    }
    t->lags = lags;
    t->last_raw = raw;
    t->last_wall = wall;
    int64_t waited = wall - t->pace_since, went = raw - t->pace_raw;
    bool at_pace = waited > PATIENCE && 5 * went > 4 * waited && 4 * went < 5 * waited;
    return lags && (at_pace || wall - t->lag_since > LONGEST);
}

bool l2d_live_clock_map(struct l2d_live_clock *clock, int64_t raw, int64_t wall, int64_t *out)
{
    struct l2d_live_clock *t = clock;
    int64_t at = raw + t->offset, ahead = at - now(t, wall);
    bool stays = stays_behind(t, raw, wall, ahead), moved = stays || ahead > AHEAD;
    if (stays)
        t->pushed_until = wall + 2 * WINDOW;
    bool pushed = wall < t->pushed_until;
    if (moved || (pushed && ahead > CLOSE))
        at = move_to_now(t, raw, wall);
    if (!t->lags)                       // what was pushed shall not take the clock along
        note_lead(t, pushed && ahead > 0 ? now(t, wall) - wall : at - wall, wall);
    if (at > t->end)
        t->end = at;
    *out = at;
    return moved;
}
