// SPDX-License-Identifier: Apache-2.0
// The newest pictures of a run, for whoever looks: its two ends hand over a reference and go on,
// and nobody ever makes them wait. Also measures how long frames take in between.
#ifndef L2D_CONTROL_FRAMES_H
#define L2D_CONTROL_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/frame.h"
#include "state.h"

struct control_frames;          // opaque. Any thread may call all but create and destroy

struct control_pair {           // one moment; unref both with control_pair_finish
    uint64_t number;            // of the result, from 1; 0: there is none yet
    struct l2d_frame *result;
    struct l2d_frame *source;   // of that result; of the newest frame read where that is not kept
};

int control_frames_create(struct control_frames **out, struct l2d_error *err);
void control_frames_destroy(struct control_frames **frames);

/** A frame is about to enter the stream. Takes a reference of its own. */
void control_frames_source(struct control_frames *frames, struct l2d_frame *frame);

/** A frame has come out; its pts is that of its source. Takes a reference of its own. */
void control_frames_result(struct control_frames *frames, struct l2d_frame *frame);

enum control_viewer {
    CONTROL_PAGE,               // shows the newest pair
    CONTROL_WINDOW,             // shows results a little later, and asks for their sources then
};

/**
 * Whether sources are kept until their results come, so that they can be shown side by side: up to
 * 16 frames of memory more, for a window 26. Without anybody who wants them only the newest is.
 */
void control_frames_keep_sources(struct control_frames *frames, enum control_viewer who,
                                 bool keep);

/** For a window: the source of one of the last 10 results, a reference of the caller's; or NULL. */
struct l2d_frame *control_frames_source_of(struct control_frames *frames, int64_t pts);

/** The newest pictures, with references of the caller's. */
struct control_pair control_frames_newest(struct control_frames *frames);
void control_pair_finish(struct control_pair *pair);

/**
 * Wait until a result after number seen has come, somebody called control_frames_wake, or the time
 * is over.
 */
void control_frames_wait(struct control_frames *frames, uint64_t seen, int timeout_ms);
void control_frames_wake(struct control_frames *frames);

/** latency, interval and fps of the state. */
void control_frames_measure(struct control_frames *frames, struct control_state *state);

#endif
