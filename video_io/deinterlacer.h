// SPDX-License-Identifier: Apache-2.0
// Interlaced pictures made whole, one for one, by libavfilter's bwdif; from the first of them on
// pictures come out one later, as it looks at the next. Before, and where it cannot, they go
// through as they are. Internal to video_io.
#ifndef L2D_VIDEO_IO_DEINTERLACER_H
#define L2D_VIDEO_IO_DEINTERLACER_H

#include <libavutil/frame.h>

#include "base/error.h"
#include "base/log.h"

struct l2d_deinterlacer;        // opaque; one thread at a time

/**
 * name     of the input, for messages. log and name may be NULL; both are copied.
 * returns  L2D_OK or L2D_ENOMEM.
 */
int l2d_deinterlacer_create(struct l2d_deinterlacer **out, const char *name,
                            const struct l2d_log *log, struct l2d_error *err);

/** Accepts NULL; sets *deinterlacer to NULL. */
void l2d_deinterlacer_destroy(struct l2d_deinterlacer **deinterlacer);

/**
 * The next picture; NULL: there are no more, and what is held back comes out. All that was pushed
 * before must have been pulled.
 * frame    moved from; best_effort_timestamp, duration and side data go with it. Size and format
 *          may change.
 * returns  0 or an AVERROR.
 */
int l2d_deinterlacer_push(struct l2d_deinterlacer *deinterlacer, AVFrame *frame);

/** returns  0; AVERROR(EAGAIN): push; AVERROR_EOF, once, after the end; or another AVERROR. */
int l2d_deinterlacer_pull(struct l2d_deinterlacer *deinterlacer, AVFrame *frame);

/** Forgets what was pushed. */
void l2d_deinterlacer_reset(struct l2d_deinterlacer *deinterlacer);

#endif
