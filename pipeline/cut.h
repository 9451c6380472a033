// SPDX-License-Identifier: Apache-2.0
// Where a new scene begins: pictures in, a decision out. On the host and before the picture goes to
// the GPU, so that nobody waits for it, and the same on every device.
//
// A picture is reduced to the brightness of 16 x 16 fields. It begins a scene if these differ from
// the last picture's by much, and by much more than is usual in this video: a shaking hand or a
// strobe light is not a cut every time. A dissolve is none.
#ifndef L2D_PIPELINE_CUT_H
#define L2D_PIPELINE_CUT_H

#include <stdbool.h>

#include "base/frame.h"

#define L2D_CUT_FIELDS 16               // a side

struct l2d_cut {                        // all zero: no picture yet
    float field[L2D_CUT_FIELDS * L2D_CUT_FIELDS];       // of the last picture, 0..1
    float usual;                        // difference, a moving mean
    bool seen;
};

/** Look at the next picture. returns true if a scene begins with it. */
bool l2d_cut_look(struct l2d_cut *cut, const struct l2d_frame *frame);

#endif
