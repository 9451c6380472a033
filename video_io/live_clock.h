// SPDX-License-Identifier: Apache-2.0
// One clock for a live source that comes and goes. Every session's timestamps begin anywhere and
// may jump; what leaves here goes on as the wall clock does, so that a picture after a gap is as
// much later as the gap was long. Video and audio of a session are moved by the same amount.
// Numbers in, numbers out. Internal to video_io. One thread.
#ifndef L2D_VIDEO_IO_LIVE_CLOCK_H
#define L2D_VIDEO_IO_LIVE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define L2D_LIVE_CLOCK_HZ 90000   // ticks a second, of all times here

struct l2d_live_clock {           // zeroed: nothing has come yet
    bool started;
    int64_t offset;             // added to the session's own times
    int64_t lead[2];            // greatest (time - wall clock) of the last seconds, and before them
    int64_t lead_since;         // wall clock: when lead[0] began
    int64_t end;                // the latest time given out
    bool lags;                  // times have been too early since lag_since
    int64_t lag_since;
    int64_t last_raw, last_wall;        // of the picture before
    int64_t pace_since, pace_raw;       // wall clock and raw: at their pace from there on, but late
    int64_t pushed_until;       // moved forward, and what comes early until then undoes it
};

/** A session begins: its time raw is now. The very first one gets time 0. */
void l2d_live_clock_begin(struct l2d_live_clock *clock, int64_t raw, int64_t wall);

/**
 * The time of a session's next picture on the clock; sound takes raw + clock->offset. Times
 * more than 2 s ahead of the clock move the session back at once; those that stay 0.4 s behind and
 * go on at their pace for half a second move it forward, or whatever their pace for 3 s; less is a
 * network that catches up. If it does after that, 0.1 s ahead move the session back, in as
 * many steps as it takes, which are not counted.
 * returns  whether the session was moved.
 */
bool l2d_live_clock_map(struct l2d_live_clock *clock, int64_t raw, int64_t wall, int64_t *out);

/** How much earlier than the clock's pace a time of it was given out at wall; below 0: later. */
int64_t l2d_live_clock_ahead(const struct l2d_live_clock *clock, int64_t at, int64_t wall);

#endif
