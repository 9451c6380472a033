// SPDX-License-Identifier: Apache-2.0
// Steadying: where each pixel was in the frame before, and how much of the picture that came out
// then it keeps. Luminance is 0..255; a frame's pyramid has its levels one after another.
#ifndef L2D_SHADERS_STEADY_H
#define L2D_SHADERS_STEADY_H

#include "shared.h"

#define L2D_STEADY_LEVELS 6     // of a pyramid, at most
#define L2D_STEADY_LEAST 16     // sides of a level, but of the first, at least
#define L2D_FLOW_CELL 4         // pixels a side that share a motion, which is looked for with
#define L2D_FLOW_PATCH 8        // so many around them

// Of one frame, written by the engine.
struct l2d_steady_params {
    u32 incoming;               // where the pyramid of the frame that comes in goes
    u32 now, before;            // those of the frame that goes out, and of the one before it
    f32 share;                  // of the picture before, at most; 0: there is none
};

struct l2d_pyramid_params {
    u32 w, h, first;            // the level, and where it begins
    u32 from_w, from_h, from;   // the finer one that it is made of; 0 x 0: the canvas
    u32 row;                    // floats of a pyramid
};
L2D_PUSH_CHECK(l2d_pyramid_params);

struct l2d_flow_params {
    u32 w, h, first, row;
    u32 cells_w, cells_h;
    u32 coarse_w, coarse_h;     // cells of the coarser level; 0: there is none
};
L2D_PUSH_CHECK(l2d_flow_params);

struct l2d_steady_size_params {
    u32 w, h, row;
    u32 cells_w, cells_h;
};
L2D_PUSH_CHECK(l2d_steady_size_params);

#endif
