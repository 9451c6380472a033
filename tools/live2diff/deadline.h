// SPDX-License-Identifier: Apache-2.0
// How many denoising steps a live run can afford: fewer before its frames are late or dropped, more
// when there is time. A controller without a clock, a thread or a stream: it is told what became of
// each frame, and says which set of steps should be in effect.
//
// It looks at the last 4 s, and at the last 8 frames at least. A frame is bad that took longer than
// the limit from its arrival until it left the model, or that was dropped as late.
//
// Down, by one set: more than 1 in 20 are bad (the 95th percentile is over the limit), 3 at least,
// and from the first bad one to the last it is 1 s or more. What is shorter is a spike.
//
// Up, by one set: without a break the frames have been such that the next set would fit, with a
// tenth to spare: 95 in 100 within the limit, and half of them within the time between two frames.
// Work is reckoned to grow as the number of steps. That calm has to last 10 s; for a set that was
// gone up to and left again before it had held for six times its calm, twice as long as before, up
// to 640 s. So there are ever fewer changes where a set only seems to fit.
//
// A change, and the beginning, costs time: the model is warmed anew. Frames that had arrived before
// are not counted, nor the next 10, nor what is dropped meanwhile.
//
// What is asked for (by the run's options, its timeline, or a hand) comes first: it is in effect at
// once, and from there the controller moves among the sets with fewer steps and, back up, to that
// one at most. Of sets with equally many steps it takes the one asked for, or the first.
#ifndef L2D_PROGRAM_DEADLINE_H
#define L2D_PROGRAM_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "pipeline/engine.h"

struct deadline_params {
    double limit_s;
    bool batch;                 // with D steps a frame waits for D-1 others: see engine.h
    uint32_t num_sets;          // 0 is the one asked for at first
    int32_t steps[L2D_MAX_STEP_SETS];
};

struct deadline_stats {
    double limit_ms;            // 0: there is no deadline
    uint64_t changes;           // its own
    uint64_t frames[L2D_MAX_STEPS + 1];     // that left the model, by their number of steps
};

#define DEADLINE_ENTRIES 512    // 4 s of 128 frames a second

struct deadline {               // not locked
    struct deadline_params params;
    uint32_t set, asked;
    uint32_t before;            // the set of the frames that were in flight when it changed
    double changed_s;
    unsigned unsettled;         // frames that are still not counted
    struct { double at_s, took_s; } entry[DEADLINE_ENTRIES];    // oldest first, a ring
    unsigned head, len;
    double calm_s;              // how long the next set would have fitted
    double wait_s[L2D_MAX_STEP_SETS];       // the calm that it takes to go up to a set
    double raised_s[L2D_MAX_STEP_SETS];     // when that was done last; 0: not since it was left
    struct deadline_stats stats;
};

/** Times are seconds of any one clock, above 0. */
void deadline_init(struct deadline *deadline, const struct deadline_params *params);

/** A frame has left the model. */
void deadline_frame(struct deadline *deadline, double arrival_s, double now_s);

/** A frame was dropped, as a newer one came before the model was free. */
void deadline_drop(struct deadline *deadline, double now_s);

/** The set that should be in effect: deadline->set, or another. */
uint32_t deadline_choose(const struct deadline *deadline);

/** What was chosen is done: frames that arrive from now on have it. */
void deadline_change(struct deadline *deadline, uint32_t set, double now_s);

/** Somebody else has changed to a set, which may be the same: it is the one asked for. */
void deadline_ask(struct deadline *deadline, uint32_t set, double now_s);

/** Frames looked at, and how many of them were dropped or too slow. */
struct deadline_look { unsigned frames, slow, dropped; };
struct deadline_look deadline_look(const struct deadline *deadline);

#endif
