// SPDX-License-Identifier: Apache-2.0
// Frames wait until they are due, in order: what comes in bursts, as over a network that loses
// packets, goes on evenly. Who puts them in is not held up, so that the times at which they came
// stay true; only a full line lets him wait.
#ifndef L2D_PROGRAM_DELAY_H
#define L2D_PROGRAM_DELAY_H

#include <stdbool.h>

#include "base/error.h"
#include "base/frame.h"

struct delay;                   // opaque. Any thread may call all but create and destroy

/** A frame that is due, on the line's thread; taken if *frame is NULL then. returns false: stop. */
typedef bool delay_give_fn(void *user, struct l2d_frame **frame, double arrival_s);

/** Start the line. capacity: frames, at least 1. returns L2D_OK or L2D_ENOMEM. */
int delay_create(struct delay **out, unsigned capacity, delay_give_fn *give, void *user,
                 struct l2d_error *err);

/**
 * Hand over a frame that came at arrival_s, to be given at due_s, both of l2d_clock_s().
 * Ownership: on L2D_OK the line owns it and *frame is NULL. returns L2D_ECLOSED after a stop.
 */
int delay_put(struct delay *delay, struct l2d_frame **frame, double arrival_s, double due_s);

/** Wait until all that is inside has been given, each when it is due. */
void delay_drain(struct delay *delay);

/** Nothing more is given; whoever waits is woken. May be repeated. */
void delay_stop(struct delay *delay);

/** Stop, and free what is inside. returns how many frames that were. Accepts NULL: 0. */
unsigned delay_destroy(struct delay **delay);

#endif
