// SPDX-License-Identifier: Apache-2.0
// Where a new scene begins, and when the attention sinks are of another one: pictures in, a
// decision out. On the host and before the picture goes to the GPU, so that nobody waits for it,
// and the same on every device.
//
// A picture is reduced to the brightness of 16 x 16 fields. It begins a scene if these differ from
// the last picture's by much, and by much more than is usual in this video: a shaking hand or a
// strobe light is not a cut every time. A dissolve or a pan is none, but what it leads to is
// another scene: the sinks are stale when the fields, whatever their mean and contrast, are no
// longer like those of the sinks, but like those of the last moments, so that new sinks would last.
#ifndef L2D_PIPELINE_CUT_H
#define L2D_PIPELINE_CUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/frame.h"

#define L2D_CUT_FIELDS 16               // a side
#define L2D_CUT_COUNT (L2D_CUT_FIELDS * L2D_CUT_FIELDS)
#define L2D_CUT_AGE 250                 // frames that sinks are kept at least, but for a cut: new
                                        // ones cost the work of 8
#define L2D_CUT_STAY 8                  // frames that a picture has to stay

enum l2d_sight { L2D_SIGHT_GOES_ON, L2D_SIGHT_CUT, L2D_SIGHT_STALE };

struct l2d_cut {                        // all zero: no picture yet
    float field[L2D_CUT_COUNT];         // of the last picture, 0..1
    float recent[L2D_CUT_COUNT];        // a moving mean of them
    float anchor[L2D_CUT_COUNT];        // of the newest frame that sinks are of, if anchored
    float usual;                        // difference, a moving mean
    uint32_t age, stays;                // pictures since then; that were another scene, and stayed
    bool seen, anchored;
};

/** Look at the next picture. returns CUT if a scene begins with it, STALE if the sinks are. */
enum l2d_sight l2d_cut_look(struct l2d_cut *cut, const struct l2d_frame *frame);

/** The sinks are of the last pictures now. */
void l2d_cut_anchor(struct l2d_cut *cut);

#endif
