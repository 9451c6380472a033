// SPDX-License-Identifier: Apache-2.0
// Main's part of a run: it waits for the end, passes on what signals ask for, draws progress,
// publishes the status, and once a second checks that every frame has a fate.
#ifndef L2D_PROGRAM_WATCH_H
#define L2D_PROGRAM_WATCH_H

#include "flow.h"
#include "progress.h"
#include "run_status.h"

struct watch {
    struct flow *flow;
    struct progress *progress;
    struct run_board *board;
    const char *input;
    bool frame_limit;           // sound is cut at the last frame
    uint64_t unfair;            // see run_status.h
    double checked_s, published_s, finishing_s;
    bool finishing, aborted, stop_said;
    enum l2d_source_state state;    // as logged last
};

/** Until every output has ended, one way or another. */
void watch_until_end(struct watch *watch);

/** What is published, as it is now. */
void watch_status(struct watch *watch, struct run_status *status);

/** The same in the words of the progress bar. */
struct progress_state watch_progress(const struct run_status *status, int64_t total);

#endif
