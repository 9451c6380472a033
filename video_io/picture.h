// SPDX-License-Identifier: Apache-2.0
// Frames as libav's pictures: upright, with square pixels, in one format. Internal to video_io.
#ifndef L2D_VIDEO_IO_PICTURE_H
#define L2D_VIDEO_IO_PICTURE_H

#include <libavutil/frame.h>

#include "base/error.h"
#include "base/frame.h"

struct l2d_picture_params {
    enum AVPixelFormat format;      // AV_PIX_FMT_RGB24 or AV_PIX_FMT_YUV420P, and of the latter
    enum l2d_matrix matrix;
    bool full_range;
    int32_t max_side;               // larger ones are scaled down to it; 0: none
};

// Opaque: keeps the scaler between pictures of one size. One thread at a time.
struct l2d_picture;

/** returns  L2D_OK or L2D_ENOMEM. */
int l2d_picture_create(struct l2d_picture **out, const struct l2d_picture_params *params,
                       struct l2d_error *err);

/** Accepts NULL; sets *picture to NULL. */
void l2d_picture_destroy(struct l2d_picture **picture);

/**
 * A frame, of any size and format, which may differ from one call to the next.
 * out      a new picture, to be freed; NULL on failure
 * returns  L2D_OK, L2D_EUNSUPPORTED (libav has no such format), L2D_EINVAL (libswscale refuses its
 *          size), L2D_ENOMEM.
 */
int l2d_picture_convert(struct l2d_picture *picture, const struct l2d_frame *frame, AVFrame **out,
                        struct l2d_error *err);

#endif
