// SPDX-License-Identifier: Apache-2.0
// The keys of the window, and what it shows of the run: by the same table of parameters from which
// the control server speaks.
#ifndef L2D_PROGRAM_KEYS_H
#define L2D_PROGRAM_KEYS_H

#include "base/error.h"
#include "base/log.h"
#include "control/frames.h"
#include "run_params.h"
#include "run_status.h"
#include "video_io/display.h"

struct keys;

struct keys_setup {                     // all of it outlives the keys
    struct l2d_stream *stream;
    struct run_params *params;
    struct run_board *board;
    struct control_frames *frames;
    enum l2d_display_fit fit;
    const char *folder;                 // of pictures that are saved; NULL: the current one
    const struct l2d_log *log;
};

int keys_create(struct keys **out, const struct keys_setup *setup, struct l2d_error *err);

/** When no window is open any more. Accepts NULL. */
void keys_destroy(struct keys **keys);

/** For any number of windows; live as long as the keys. */
const struct l2d_display_hooks *keys_hooks(const struct keys *keys);

#endif
