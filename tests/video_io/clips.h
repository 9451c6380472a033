// SPDX-License-Identifier: Apache-2.0
// Clips for the tests of video_io, made by the ffmpeg program in a temporary folder, and what
// ffprobe says about files that we wrote.
#ifndef L2D_TESTS_VIDEO_IO_CLIPS_H
#define L2D_TESTS_VIDEO_IO_CLIPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/frame.h"
#include "base/log.h"
#include "video_io/reader.h"
#include "video_io/sink.h"

// A test's .init and .fini: enters a fresh folder, and removes it.
void clips_open(void);
void clips_close(void);

/** Run a shell command (printf format); fails the test unless it exits with 0. */
void clips_run(const char *fmt, ...) L2D_PRINTF(1, 2);

/** What a shell command prints, without its last newline; at most 64 KiB. Static memory. */
const char *clips_output(const char *fmt, ...) L2D_PRINTF(1, 2);

bool clips_exists(const char *path);

// Lines logged at WARN or above, joined by newlines.
struct clips_log {
    struct l2d_log log;
    int warnings, infos;
    char text[8192];
};
void clips_log_init(struct clips_log *log);

// All frames of an input, and what was seen on the way.
struct clips_frames {
    size_t num_frames, num_packets;
    struct l2d_frame *frame[512];
    int64_t packet_pts[4096];
    struct l2d_reader_stats stats;
};
/** returns the first error's code, with what came before it. */
int clips_read(struct clips_frames *out, const struct l2d_reader_params *params,
               struct l2d_error *err);
void clips_frames_clear(struct clips_frames *frames);

/** Copy an input to an output as a program would, frame by frame, converted to I420 for 8-bit
 *  4:2:0 inputs only. params may have fields set; size, times and sound come from the input. */
int clips_copy(const char *from, const char *to, const struct l2d_reader_params *reader,
               const struct l2d_sink_params *sink, struct l2d_sink_stats *stats,
               struct l2d_error *err);

/** A grey-ramp I420 frame. */
struct l2d_frame *clips_frame(int32_t width, int32_t height, int64_t pts, int32_t tb_den);

#endif
