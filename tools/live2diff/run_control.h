// SPDX-License-Identifier: Apache-2.0
// A run as the control server sees it: which parameters its stream has, what its numbers are, and
// where its frames pass by. All functions accept NULL: a run without --control.
#ifndef L2D_PROGRAM_RUN_CONTROL_H
#define L2D_PROGRAM_RUN_CONTROL_H

#include "base/error.h"
#include "base/frame.h"
#include "base/log.h"
#include "control/address.h"
#include "control/state.h"
#include "run_params.h"
#include "run_status.h"

struct run_control;

struct run_control_params {
    struct control_address address;
    const char *token;                  // NULL: none
    const struct control_address *osc;  // NULL: none
    struct l2d_stream *stream;
    struct run_params *params;
    const char *fit;                    // how the source lies in the result: "cover", ...
    struct run_board *board;
    const struct l2d_log *log;
};

/** Start serving. What params points to outlives it. */
int run_control_start(struct run_control **out, const struct run_control_params *params,
                      struct l2d_error *err);

/** Before the stream is destroyed. */
void run_control_stop(struct run_control **control);

/** A frame goes into the stream; a frame came out. Never waits. */
void run_control_source(struct run_control *control, struct l2d_frame *frame);
void run_control_result(struct run_control *control, struct l2d_frame *frame);

#endif
