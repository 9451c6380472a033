// SPDX-License-Identifier: Apache-2.0
// The program's voice on stderr: log lines, and below them a bar on a terminal or a plain line
// every five seconds elsewhere. Both go through one lock, so that they never run into each other.
#ifndef L2D_PROGRAM_PROGRESS_H
#define L2D_PROGRAM_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

struct progress_state {
    uint64_t frames;            // out
    int64_t total;              // expected; -1: unknown
    uint64_t dropped;
    double media_s, wall_s;     // since the first frame came out
    bool live;                  // what follows is shown instead of the estimates
    uint64_t in, in_flight, held;
    double latency_ms;          // 95 of 100 frames of the slowest output
    const char *state;          // of the source
};

#define PROGRESS_MARKS 10

struct progress {
    pthread_mutex_t lock;
    bool enabled, tty;
    bool drawn;                 // a bar stands on the terminal's last line
    double last_s;              // when something was drawn
    struct progress_state mark[PROGRESS_MARKS];     // of the last seconds, one each: recent speed
    double mark_s;
    unsigned num_marks;
};

void progress_init(struct progress *progress, bool enabled);

/** Draw if it is time to. */
void progress_update(struct progress *progress, const struct progress_state *state);

/** Draw the last bar, if there is one, and leave it standing. */
void progress_end(struct progress *progress, const struct progress_state *state);

/** Print "live2diff: <line>", above the bar. Any thread. */
void progress_print(struct progress *progress, const char *fmt, ...) L2D_PRINTF(2, 3);

/** A log that prints through progress, at most as detailed as level. */
struct l2d_log progress_log(struct progress *progress, enum l2d_log_level level);

#endif
