// SPDX-License-Identifier: Apache-2.0
// When frames of a live stream go to the GPU. Each picture is to come out when it is drawn, so it
// is waited for. But a GPU that has its next frame only then does nothing meanwhile, and its second
// queue nothing beside. So where there is one, and frames come faster than they are drawn, the next
// goes there shortly before the one in flight is done: as long as what is done ahead of its steps
// takes, which is over when these can begin. There are more pictures, and none of them is older.
#ifndef L2D_PIPELINE_PACE_H
#define L2D_PIPELINE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "pipeline/engine.h"

struct l2d_pace {               // zero at first; of one thread
    bool in_flight;             // the last pushed frame is still being drawn,
    double begun_s;             // since its steps began, or will have
    double drawn_s;             // means of what a frame takes from there on; 0: not known
    double ahead_s, given_s;    // of what is done ahead, and of the processor to give it
    uint64_t timed;             // frames whose times are in them, and the sum of ahead's
    double ahead_ms;
};

/**
 * Push a frame, emit the one before it, and wait until this one is drawn, which is then emitted, or
 * until it is time for the next: then pace->in_flight is true. returns as l2d_engine_push.
 */
int l2d_pace_push(struct l2d_pace *pace, struct l2d_engine *engine, const struct l2d_frame *frame,
                  struct l2d_error *err);

/** The next frame is not there yet: emit the one in flight, waiting for it. returns as push. */
int l2d_pace_collect(struct l2d_pace *pace, struct l2d_engine *engine, struct l2d_error *err);

#endif
