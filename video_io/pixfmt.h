// SPDX-License-Identifier: Apache-2.0
// Between libav's pictures and ours. Nearly every format that a decoder gives is described rather
// than converted, so its samples reach the GPU as they are; libswscale is for the few that our
// description cannot express. No scaling and no change of colour space happen here.
#ifndef L2D_VIDEO_IO_PIXFMT_H
#define L2D_VIDEO_IO_PIXFMT_H

#include <stdbool.h>

#include "base/error.h"
#include "base/frame.h"
#include "base/log.h"

struct AVFrame;

/**
 * Describe an AVPixelFormat: which plane, byte and bits hold each component. Alpha is left out.
 * Only the components are filled; matrix, range and chroma site are a frame's, not a format's.
 * returns  false for what needs a conversion: palettes, bitstreams, float, big-endian, Bayer, less
 *          than 8 bits a component, pictures in GPU memory.
 */
bool l2d_pixfmt_describe(int av_pixel_format, struct l2d_pixel_format *out);

// Turns decoded pictures into frames. Opaque: keeps the converter for formats that need one, and
// which warnings were given. One thread at a time.
struct l2d_importer;

/** log may be NULL; it is copied. returns L2D_OK or L2D_ENOMEM. */
int l2d_importer_create(struct l2d_importer **out, const struct l2d_log *log,
                        struct l2d_error *err);

/** Accepts NULL; sets *importer to NULL. */
void l2d_importer_destroy(struct l2d_importer **importer);

/**
 * Copy a decoded picture to a new frame, as stored: no rotation, no scaling.
 * src      any size and format; both may differ from one call to the next. Not kept.
 * out      one reference; size, format, colour and sample aspect ratio set. pts, duration, time
 *          base and rotation are the caller's to fill.
 * Unspecified colour: RGB is full range; grey and yuvj are full; other YCbCr is limited, BT.709
 * from 720 lines on and BT.601 below; chroma sits left, or in the centre for yuvj.
 * PQ, HLG and matrices of BT.2020 have BT.2020's primaries, all others BT.709's. That HDR or a wide
 * gamut becomes SDR is told once, and matrices that we do not know are warned about once.
 * returns  L2D_OK, L2D_EUNSUPPORTED (names the format), L2D_EINVAL (size), L2D_ENOMEM.
 */
int l2d_importer_convert(struct l2d_importer *importer, const struct AVFrame *src,
                         struct l2d_frame **out, struct l2d_error *err);

/**
 * Copy an I420 frame to a new yuv420p picture for an encoder, with its colour tags, sample aspect
 * ratio, pts and duration (in the frame's time base).
 * dst      an empty AVFrame; owns its buffers afterwards.
 * returns  L2D_OK, L2D_EINVAL if frame is not I420, L2D_ENOMEM.
 */
int l2d_pixfmt_export(const struct l2d_frame *frame, struct AVFrame *dst, struct l2d_error *err);

#endif
