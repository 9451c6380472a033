// SPDX-License-Identifier: Apache-2.0
// The video encoder of a writer: which one, its settings and tags, frames in and packets out.
// Internal to video_io. Muxing is writer.c's.
#ifndef L2D_VIDEO_IO_ENCODER_H
#define L2D_VIDEO_IO_ENCODER_H

#include <stdbool.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>

#include "video_io/sink.h"

// Muxers of MPEG-TS have no list of codecs, and write what they do not know as data that nobody can
// read.
#define L2D_TS_MUXERS "mpegts,rtp_mpegts,hls"

// Takes a packet as its own; times in time_base. returns an l2d_code.
typedef int l2d_packet_fn(void *user, AVPacket *pkt, AVRational time_base, struct l2d_error *err);

struct l2d_encoder;

/**
 * Choose and open an encoder for a container.
 * params   fps_num/fps_den are filled in where the codec knows only certain constant rates.
 * name     of the output, for messages and for formats that choose a codec by extension.
 * live     settings for a stream that must keep up.
 * returns  L2D_OK, L2D_EINVAL (codec, options, size), L2D_EUNSUPPORTED, L2D_ENOMEM.
 */
int l2d_encoder_create(struct l2d_encoder **out, struct l2d_sink_params *params,
                       const AVOutputFormat *format, const char *name, bool live,
                       const struct l2d_log *log, struct l2d_error *err);

void l2d_encoder_destroy(struct l2d_encoder **encoder);

/** For the muxer's stream: codec parameters, time base, frame rate. */
const AVCodecContext *l2d_encoder_context(const struct l2d_encoder *encoder);

/**
 * Encode a frame at pts for duration, both in the encoder's time base; NULL: the end, give out what
 * is left. Packets go to emit, with durations. returns L2D_OK, emit's error, L2D_EIO, L2D_ENOMEM.
 */
int l2d_encoder_push(struct l2d_encoder *encoder, const struct l2d_frame *frame, int64_t pts,
                     int64_t duration, l2d_packet_fn *emit, void *user, struct l2d_error *err);

#endif
