// SPDX-License-Identifier: Apache-2.0
// Where finished frames go: an encoded file or stream, a window, or nowhere. One interface for all
// of them, so that a program can write the same frames to several at once.
#ifndef L2D_VIDEO_IO_SINK_H
#define L2D_VIDEO_IO_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/error.h"
#include "base/frame.h"
#include "base/log.h"

struct AVPacket;
struct l2d_audio_info;      // video_io/reader.h
struct l2d_display_hooks;   // video_io/display.h

// What every frame will be, and how to write it. Zero means: the default. audio, abort, the
// log's user and what is in hooks are used until destroy; other strings only by l2d_sink_open.
struct l2d_sink_params {
    int32_t width, height;                      // required
    int32_t time_base_num, time_base_den;       // required; kept, so that pts come through
    int32_t frame_rate_num, frame_rate_den;     // average, as a hint; 0: 25
    int32_t sar_num, sar_den;                   // 0: square
    enum l2d_matrix matrix;                     // for the file's tags; L2D_MATRIX_RGB is refused
    bool full_range;
    const struct l2d_audio_info *audio;         // NULL: none will come

    const char *format;             // "matroska", "flv", "yuv4mpegpipe"; NULL: by name
    const char *codec;              // encoder: "libx264", "libx265", "ffv1"; NULL: by format
    const char *codec_options;      // "crf=20:preset=slow"; NULL: crf 18, preset medium
    int32_t fps_num, fps_den;       // constant rate by repeating and dropping frames; 0: pts kept
    bool live;                      // must keep up, and may be cut off at any time: see writer.h
    bool joins;                     // a run that goes on: its first frame is at time 0, for this
                                    // output, and what sounds before that is left out
    bool overwrite;                 // replace an existing file
    const char *input;              // the file that must not be written on; NULL: none
    const char *title;              // of the window
    bool unpaced;                   // window: show at once instead of when pts is due
    const struct l2d_display_hooks *hooks;      // of the window, see display.h; NULL: none
    const atomic_bool *abort;       // optional; true interrupts a blocked network write
    const struct l2d_log *log;      // optional; copied
};

struct l2d_sink_stats {
    uint64_t frames;                // written or shown
    uint64_t duplicated, dropped;   // by fps_num/fps_den
    uint64_t audio_packets;         // written
    uint64_t bytes;                 // of the file, once finished
};

// One thread at a time. A window belongs to the thread that opened it.
struct l2d_sink;             // opaque to users: implementations see it at the end

/**
 * Open an output.
 * target   "display" (a window), "null", or what writer.h describes: file, URL, "-".
 * returns  L2D_OK; L2D_EINVAL (exists already, unknown extension, is the input, options, size,
 *          time base, rate), L2D_EIO (cannot be written, no display), L2D_EUNSUPPORTED (no
 *          encoder), L2D_ENOMEM.
 */
int l2d_sink_open(struct l2d_sink **out, const char *target, const struct l2d_sink_params *params,
                  struct l2d_error *err);

/**
 * Write or show a frame; blocks while that takes. A sink that keeps frame takes its own
 * reference.
 * frame    I420 of the size given at opening, with pts greater than the one before.
 * returns  L2D_OK; L2D_ECLOSED if the viewer closed the window or stopped reading standard output,
 *          which is an end and no failure; L2D_EIO, L2D_EINVAL, L2D_ENOMEM. After an error other
 *          than L2D_ECLOSED only destroy.
 */
int l2d_sink_write_video(struct l2d_sink *sink, struct l2d_frame *frame, struct l2d_error *err);

/**
 * Write an audio packet that a reader gave out, in the order in which it gave them. Not kept; the
 * caller still owns it. Ignored by sinks without sound. returns as l2d_sink_write_video.
 */
int l2d_sink_write_audio(struct l2d_sink *sink, const struct AVPacket *packet,
                         struct l2d_error *err);

/**
 * Nothing has come for a while: a window hears its keys. returns as l2d_sink_write_video, at once.
 */
int l2d_sink_idle(struct l2d_sink *sink, struct l2d_error *err);

/**
 * Complete the output: a file gets its index and its name only here.
 * cut_audio    leave out audio that begins after the last frame ended: for a run that was stopped
 *              or had a limit of frames. false writes all of it.
 * returns  as l2d_sink_write_video; L2D_EFORMAT if no frame was written. Only stats and destroy
 *          after.
 */
int l2d_sink_finish(struct l2d_sink *sink, bool cut_audio, struct l2d_error *err);

/** So far; on the sink's thread. */
struct l2d_sink_stats l2d_sink_stats(const struct l2d_sink *sink);

/** Without finish, remove the unfinished file. Accepts NULL; sets *sink to NULL. */
void l2d_sink_destroy(struct l2d_sink **sink);

// --- for implementations: a sink begins with this struct

struct l2d_sink_ops {
    int (*write_video)(struct l2d_sink *sink, struct l2d_frame *frame, struct l2d_error *err);
    int (*write_audio)(struct l2d_sink *sink, const struct AVPacket *packet, struct l2d_error *err);
    int (*finish)(struct l2d_sink *sink, bool cut_audio, struct l2d_error *err);
    int (*idle)(struct l2d_sink *sink, struct l2d_error *err);      // NULL: nothing to do
    void (*destroy)(struct l2d_sink *sink);
};

struct l2d_sink {
    const struct l2d_sink_ops *ops;
    struct l2d_sink_stats stats;
};

#endif
