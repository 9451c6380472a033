// SPDX-License-Identifier: Apache-2.0
// What changes at which time of the source, from a file: one JSON object a line, in order of time.
//
//     {"at": 0, "prompt": "a pencil drawing"}
//     {"at": 2.5, "prompt": "a van gogh painting", "fade": 1.5, "easing": "smooth"}
//     {"at": 4, "steps": "43,47", "seed": 7}
//     {"at": 5, "show": "source"}
//
// at           seconds from the beginning of the source
// prompt, negative, blend ("0.7, 0.3", of the prompt's parts), and for them fade (seconds, 0) and
//              easing ("linear", "smooth")
// lora.NAME    the scale of a LoRA that the model keeps apart
// steps        as --steps takes them; seed; noise: "model", "shared", "fresh"
// show         "drawn", "source", "frozen"
// steady       as --steady takes it
// mix          as --mix takes it
// rewarm       true: forget what was before
// Empty lines and those that begin with # are left out. Whatever else there is, is an error.
#ifndef L2D_PROGRAM_TIMELINE_H
#define L2D_PROGRAM_TIMELINE_H

#include <stddef.h>

#include "pipeline/engine.h"

// The words for the enums of change.h.
extern const char *const timeline_easing[], *const timeline_noise[], *const timeline_show[];

struct timeline_event {
    double at_s, fade_s;
    struct l2d_change change;           // text is the event's; fade_frames is left 0
    char *text;
    int line;                           // of the file
};

struct timeline {
    struct timeline_event *event;       // in order of time, and of the file
    size_t num_events, next;
    const char *more_steps[L2D_MAX_STEP_SETS - 1];      // what steps name, but for those of the run
};

/**
 * Read a file of up to 16 MiB and 65536 changes.
 * path         kept for nothing
 * steps        --steps, or NULL: set 0, which "steps" can name too; others become more_steps
 * negative     there can be a negative prompt
 * returns      L2D_OK, L2D_EIO, L2D_ENOMEM, or L2D_EFORMAT with file and line. *timeline then owns
 *              nothing.
 */
int timeline_load(struct timeline *timeline, const char *path, const char *steps,
                  enum l2d_prompt_syntax syntax, bool negative, struct l2d_error *err);

/**
 * What only a model can tell: whether it has the LoRAs, and each blend as many shares as the prompt
 * has parts by then.
 * path     begins the messages
 * prompt   that the run begins with
 * returns  L2D_OK, L2D_ENOMEM, or L2D_EINVAL with file and line
 */
int timeline_check(const struct timeline *timeline, const char *path,
                   const struct l2d_engine_info *info, const char *prompt,
                   enum l2d_prompt_syntax syntax, struct l2d_error *err);

/** Whether it ever mixes some of the source in. */
bool timeline_mixes(const struct timeline *timeline);

/** Accepts a zeroed struct. */
void timeline_finish(struct timeline *timeline);

/**
 * The next change that is due at a time, or NULL: to be called until it is.
 * frame_rate   of the source: makes frames of a fade's seconds
 */
const struct l2d_change *timeline_next(struct timeline *timeline, double at_s, double frame_rate);

#endif
