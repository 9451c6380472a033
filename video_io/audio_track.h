// SPDX-License-Identifier: Apache-2.0
// The sound of a writer: packets as they are where the container takes their codec, else decoded
// and encoded again. Internal to video_io.
#ifndef L2D_VIDEO_IO_AUDIO_TRACK_H
#define L2D_VIDEO_IO_AUDIO_TRACK_H

#include "video_io/encoder.h"
#include "video_io/reader.h"

struct l2d_audio_track;

/**
 * Decide between copy and transcode, and open what that needs.
 * out      NULL with L2D_OK where the container holds no sound, or none that can be made: the log
 *          has a warning then, and the video goes on alone.
 */
int l2d_audio_track_create(struct l2d_audio_track **out, const struct l2d_audio_info *info,
                           const AVOutputFormat *format, const char *name,
                           const struct l2d_log *log, struct l2d_error *err);

void l2d_audio_track_destroy(struct l2d_audio_track **track);

/** Parameters and time base for the muxer's stream. */
int l2d_audio_track_describe(const struct l2d_audio_track *track, AVStream *st,
                             struct l2d_error *err);

/** Packets in, in order. Packets out go to emit. Damaged ones are skipped. */
int l2d_audio_track_push(struct l2d_audio_track *track, const AVPacket *pkt, l2d_packet_fn *emit,
                         void *user, struct l2d_error *err);

/** The end. end_us: that of the pictures, to which sound goes on in silence if it is counted. */
int l2d_audio_track_end(struct l2d_audio_track *track, int64_t end_us, l2d_packet_fn *emit,
                        void *user, struct l2d_error *err);

/** Whether a format has no time, but counts samples: sound begins at 0 and has no gaps there. */
bool l2d_audio_track_is_counted(const AVOutputFormat *format);

#endif
