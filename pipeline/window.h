// SPDX-License-Identifier: Apache-2.0
// Which frames the temporal attention of a frame sees, and at which position: a function of the
// frame's number alone, the same for every denoising step. The cache of a step has 16 slots. Frames
// 0..7 (the warm-up) fill slots 0..7, see each other both ways, and stay: they are the attention
// sinks. A later frame f overwrites the oldest of the other slots and sees the sinks and the up to
// 8 frames that end with itself.
// Source: Live2Diff, stream_motion_module.py, in closed form and without its start-up defect, by
// which the third and later steps attend to frames that do not exist.
#ifndef L2D_PIPELINE_WINDOW_H
#define L2D_PIPELINE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define L2D_WINDOW_SIZE 16          // slots of the cache, and positions
#define L2D_WINDOW_SINKS 8          // warm-up frames

struct l2d_window {
    int slot;                       // where the frame's keys and values go
    int position;                   // of the frame itself, 0..15: its query's, and that of its slot
    int num_open;                   // slots 0..num_open-1 are seen
};

/** For frame 0, 1, ... of the stream; 0..7 are the warm-up, seen as one clip. */
struct l2d_window l2d_window_at(uint32_t frame);

/** The position at which frame sees the keys in slot 0..15, if it sees them. */
int l2d_window_slot_position(uint32_t frame, int slot);

/** Does frame see slot 0..15? */
bool l2d_window_visible(uint32_t frame, int slot);

#endif
