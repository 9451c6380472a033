// SPDX-License-Identifier: Apache-2.0
// What all of video_io needs from FFmpeg's libraries: their process-wide setup and their error
// codes as ours. Needs FFmpeg 5.1 or later.
#ifndef L2D_VIDEO_IO_LIBAV_H
#define L2D_VIDEO_IO_LIBAV_H

#include "base/error.h"
#include "base/log.h"

/**
 * Register libavdevice's inputs (v4l2, lavfi), start networking, and send libav's own messages to
 * log at DEBUG instead of stderr; SVT-AV1's are left out, unless the environment has SVT_LOG.
 * These are settings of the whole process, so a program calls this, once, before anything else of
 * video_io; a library never does. *log is copied; its user must live until the process ends or the
 * next call. NULL silences libav.
 */
void l2d_libav_init(const struct l2d_log *log);

/**
 * Set err to "<fmt>: <what libav says>".
 * returns  the l2d_code nearest to averror: ENOMEM, EFORMAT (invalid data, early end), EUNSUPPORTED
 *          (no such codec, format, protocol), ECLOSED (interrupted), otherwise EIO.
 */
int l2d_libav_error(struct l2d_error *err, int averror, const char *fmt, ...) L2D_PRINTF(3, 4);

#endif
