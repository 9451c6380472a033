// SPDX-License-Identifier: Apache-2.0
// Which way up a decoded picture is, as a display matrix tells it: one of the stream, or a
// picture's own.
#ifndef L2D_VIDEO_IO_ORIENTATION_H
#define L2D_VIDEO_IO_ORIENTATION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

struct AVFrame;

struct l2d_orientation {
    int32_t rotation;       // 0, 90, 180, 270 clockwise makes it upright,
    bool mirrored;          // after its rows have been reversed
};

/**
 * What libav's display matrix says; NULL: upright. Only quarter turns are known, the nearest is
 * taken.
 * log      optional: told, as a warning about name, where another angle was meant
 */
struct l2d_orientation l2d_orientation_of(const uint8_t *matrix, const struct l2d_log *log,
                                          const char *name);

/** The picture's own orientation, if it has one; otherwise that of the others. */
struct l2d_orientation l2d_orientation_of_frame(const struct AVFrame *frame,
                                                struct l2d_orientation others);

/** Of a decoded picture, in place: data and linesize change, not the pixels. */
void l2d_orientation_reverse_rows(struct AVFrame *frame);

#endif
