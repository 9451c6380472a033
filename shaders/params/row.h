// SPDX-License-Identifier: Apache-2.0
// What one row of the denoiser's batch is in this call: which frame at which step, where its latent
// lies, which cache slots it may see. The engine writes an array of these for each UNet call;
// shaders index it with the row number. Source: the window's closed form, the LCM update.
#ifndef L2D_SHADERS_ROW_H
#define L2D_SHADERS_ROW_H

#include "shared.h"

#define L2D_MAX_ROWS 8          // rows in a batch: 8 warm-up frames, or 1..8 denoising steps
#define L2D_SINKS 8             // cache slots of the warm-up frames
#define L2D_WINDOW 16           // cache slots in all

struct l2d_row_params {
    u32 is_active;              // 0: no frame is here (fill and drain); its results go nowhere
    u32 frame;                  // for noise; 0 in noise mode "shared"
    u32 step;                   // row of the KV cache and of the time-bias table
    u32 ring;                   // where in their rings its latent and its condition map lie
    u32 kv_slot;                // where its key and value go: 0..15
    u32 own_pos;                // its positional index
    u32 num_open;               // slots 0..num_open-1 may be seen
    u32 is_last;                // 1 at the last step: x0 is the result and is not noised again
    f32 a, b, c_skip, c_out;    // of its timestep
    f32 a_next, b_next;         // of the next one
    f32 pred_a, pred_b;         // x0 is (x - pred_b prediction) / pred_a, but for c_skip and c_out
    u32 seed_lo, seed_hi;
};

#endif
