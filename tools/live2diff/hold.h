// SPDX-License-Identifier: Apache-2.0
// The output goes on while a live source is silent: after about one missing frame, the last
// picture or a slate is given out at the rate that the output had, with times that go on as the
// wall clock does. Frames that come later but belong to times that have been filled are overtaken.
// The fan-out's thread alone.
#ifndef L2D_PROGRAM_HOLD_H
#define L2D_PROGRAM_HOLD_H

#include <stdbool.h>

#include "base/frame.h"
#include "fate.h"

enum on_loss { ON_LOSS_HOLD, ON_LOSS_SLATE, ON_LOSS_END };      // the option's words, in order

struct hold {
    enum on_loss kind;
    struct fate_ledger *ledger;
    double frame_s;             // the source's nominal frame time
    struct l2d_frame *picture;  // the last one; NULL: none yet
    int64_t last_pts;           // given out, held pictures too
    int64_t real_pts;           // of picture
    double real_s;              // when it was given out
    double usual_s[2];          // the longest waits for one: of the last seconds, and before them
    double usual_since_s;
    double rate_s;              // mean time between pictures
    bool holding;
    double since_s;             // when the holding began
    double due_s;               // when the next held picture is due
};

void hold_init(struct hold *hold, enum on_loss kind, struct fate_ledger *ledger, double frame_s);
void hold_finish(struct hold *hold);

/** For how many milliseconds there is nothing to do but wait for a frame. */
int hold_wait_ms(const struct hold *hold, double now_s);

/** Whether a frame still comes in time; if so it is the last picture from here on. */
bool hold_take(struct hold *hold, struct l2d_frame *frame, double now_s);

/**
 * The picture that is due now, to be asked for while the model has nothing to draw.
 * *out is NULL if none is. returns L2D_OK or L2D_ENOMEM.
 */
int hold_give(struct hold *hold, double now_s, struct l2d_frame **out, struct l2d_error *err);

#endif
