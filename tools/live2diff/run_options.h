// SPDX-License-Identifier: Apache-2.0
// What live2diff run is asked for: its options, and those that contradict each other.
#ifndef L2D_PROGRAM_RUN_OPTIONS_H
#define L2D_PROGRAM_RUN_OPTIONS_H

#include "control/address.h"
#include "model_options.h"
#include "outputs.h"

struct run_options {
    const char *input, *input_format, *input_options;
    struct output_options output[RUN_MAX_OUTPUTS];
    unsigned num_outputs;
    struct output_options next;         // what belongs to the next -i or -o
    const char *next_input_options;
    struct model_options model;
    struct option_rate fps;
    uint64_t frames;
    int64_t start_us;
    int audio, overwrite, passthrough, verbose, quiet;
    int realtime, listen, on_loss;      // enum of hold.h
    double wait_s;                      // for the input to be there; 0: not
    const char *json, *dump, *timeline, *record_timeline, *control_at, *control_token, *osc_at;
    const char *folder;                 // of recordings and saved pictures; NULL: the current one
    struct control_address control, osc;
    const char *more_steps[L2D_MAX_STEP_SETS];
    unsigned num_more_steps;
    struct { char name[L2D_LORA_NAME_BYTES]; float scale; } lora[L2D_MAX_LORAS];
    unsigned num_loras;
    double skip_similar, steady, rewarm_seconds, mix;   // steady: see struct l2d_engine_params
    const char *mask;
    int rewarm;                         // enum l2d_rewarm
    double deadline_ms, buffer_ms;      // 0: none
};

/** returns -1, or the exit status after a printed line. */
int run_options_parse(int argc, char **argv, struct run_options *options);

/** The command: cmd_run.c. */
int run_main(int argc, char **argv);

#endif
