// SPDX-License-Identifier: Apache-2.0
// Encoders in hardware: which to try, and the memory of those that read frames from the GPU's own.
// Internal to video_io.
#ifndef L2D_VIDEO_IO_HARDWARE_H
#define L2D_VIDEO_IO_HARDWARE_H

#include <stdbool.h>

#include <libavcodec/avcodec.h>

/** For H.264, in the order to try; ends with NULL. */
extern const char *const l2d_hardware_encoders[];

/** Whether a codec takes frames only from memory that l2d_hardware_attach sets up. */
bool l2d_hardware_needs_upload(const AVCodec *codec);

/** Before opening: the device, and a pool of frames of ctx's size. returns an AVERROR. */
int l2d_hardware_attach(AVCodecContext *ctx);

/** The format in which l2d_hardware_upload takes pictures. */
enum AVPixelFormat l2d_hardware_upload_format(const AVCodecContext *ctx);

/** A frame in the encoder's memory with the pixels and properties of from. returns an AVERROR. */
int l2d_hardware_upload(AVCodecContext *ctx, const AVFrame *from, AVFrame *to);

#endif
