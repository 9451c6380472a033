// SPDX-License-Identifier: Apache-2.0
// The parameters of a running stream as a table for the control server and the window's keys, their
// values, and what has become of the last changes.
#ifndef L2D_PROGRAM_RUN_PARAMS_H
#define L2D_PROGRAM_RUN_PARAMS_H

#include "base/error.h"
#include "control/params.h"
#include "control/state.h"
#include "model_options.h"
#include "outputs.h"
#include "pipeline/stream.h"
#include "steer.h"

struct run_params;              // opaque. Any thread may call all but create and destroy

struct run_params_setup {
    struct l2d_stream *stream;
    struct steer *steer;                // of this stream; is told of every change
    bool live;                          // cannot pause: what comes meanwhile would be lost
    struct outputs *outputs;            // of which recordings are; NULL: there are none
    const char *folder;                 // where recordings go; NULL: the current one. Outlives it
    const struct model_options *model;
    const char *model_folder;           // NULL: pictures pass through. Read at creation alone
};

int run_params_create(struct run_params **out, const struct run_params_setup *setup,
                      struct l2d_error *err);
void run_params_destroy(struct run_params **params);

/** What this stream can change, and nothing else. Lives as long as params. */
struct param_table run_params_table(struct run_params *params);

/** What the run begins with; NULL without a model. Before anything can change it. */
const char *run_params_prompt(const struct run_params *params);

/** Denoising steps per frame, as they are now: with --deadline perhaps fewer than asked for. */
int32_t run_params_num_steps(const struct run_params *params);

/** The changes that would make of a model's defaults what the run began with, one after another.
 *  tell must not call back. */
void run_params_initial(struct run_params *params,
                        void (*tell)(void *user, const struct l2d_change *change), void *user);

/** The stream was told of a change by somebody else (--timeline): its value is shown from now. */
void run_params_follow(struct run_params *params, const struct l2d_change *change);

/** Fill in the receipts; a value whose change was refused is what is in effect. */
void run_params_settle(struct run_params *params, struct control_state *state);

#endif
