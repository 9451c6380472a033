// SPDX-License-Identifier: Apache-2.0
// A run as the control server sees it: which parameters its stream has, and what its numbers are.
#ifndef L2D_PROGRAM_RUN_CONTROL_H
#define L2D_PROGRAM_RUN_CONTROL_H

#include "base/error.h"
#include "base/log.h"
#include "control/address.h"
#include "control/state.h"
#include "outputs.h"
#include "run_params.h"
#include "run_status.h"

struct run_control;

struct run_control_params {
    struct control_address address;
    const char *token;                  // NULL: none
    const struct control_address *osc;  // NULL: none
    struct l2d_stream *stream;
    struct run_params *params;
    struct control_frames *frames;
    struct outputs *outputs;
    const char *fit;                    // how the source lies in the result: "cover", ...
    struct run_board *board;
    const struct l2d_log *log;
};

/** Start serving. What params points to outlives it. */
int run_control_start(struct run_control **out, const struct run_control_params *params,
                      struct l2d_error *err);

/** Before the stream is destroyed. Accepts NULL. */
void run_control_stop(struct run_control **control);

#endif
