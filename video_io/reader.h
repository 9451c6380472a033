// SPDX-License-Identifier: Apache-2.0
// The source: one input opened with libavformat or libavdevice, read as a sequence of decoded video
// frames and, for copying, audio packets in file order. It repairs timestamps, conceals damage and
// counts both. What becomes of the frames is not its business.
#ifndef L2D_VIDEO_IO_READER_H
#define L2D_VIDEO_IO_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/error.h"
#include "base/frame.h"
#include "base/log.h"

struct AVPacket;
struct AVCodecParameters;

// stop and the log's user are used until destroy; strings are not needed after create.
struct l2d_reader_params {
    const char *name;           // file, URL, device, or "-" for standard input
    const char *format;         // "v4l2", "lavfi", "rawvideo", ...; NULL: by content
    const char *options;        // of the demuxer, "video_size=640x480:framerate=30"; NULL: none
    int64_t start_us;           // from the start of the input; frames before it are not given out
    int64_t max_frames;         // 0: all
    bool no_audio;
    bool listen;                // wait for a sender at that address, instead of fetching from it
    int32_t frame_rate_num, frame_rate_den; // known from before; 0: measured, which takes 20 frames
    int64_t timeout_us;         // an input that gives nothing for so long has ended; 0: never
    const atomic_bool *stop;    // optional; true has the effect of l2d_reader_stop, already while
                                // opening, and may be set from a signal handler
    const struct l2d_log *log;  // optional; copied
};

// What the audio packets are. codecpar belongs to the reader.
struct l2d_audio_info {
    const struct AVCodecParameters *codecpar;
    int32_t time_base_num, time_base_den;
    const char *codec;          // "aac"
    int32_t sample_rate, channels;
};

// Of the input as its header tells; every frame describes itself and may differ.
struct l2d_reader_info {
    const char *format, *codec, *pixel_format;  // "matroska,webm", "h264", "yuv420p"
    int32_t width, height;                      // as stored, before rotation
    int32_t sar_num, sar_den;                   // 0/1: unknown
    int32_t rotation;                           // 0, 90, 180, 270 clockwise makes it upright
    int32_t time_base_num, time_base_den;       // of pts and duration of every frame
    int32_t frame_rate_num, frame_rate_den;     // average; 0/1 if unknown
    int64_t duration_us;                        // of what will be given out; -1 if unknown
    int64_t num_frames;                         // an estimate for progress; -1 if unknown
    bool live;                                  // a camera or a live stream: does not wait for us
    bool has_audio;
    struct l2d_audio_info audio;
};

struct l2d_reader_stats {
    uint64_t frames;            // given out
    uint64_t concealed;         // of these, known to be damaged
    uint64_t decode_errors;     // packets that gave no picture
    uint64_t repaired_pts;      // timestamps that were missing or went backwards
    uint64_t discontinuities;   // jumps of the input's clock that were closed
    bool truncated;             // the input ended earlier than it said, or with a read error
    bool failed;                // of these the latter: what there is more of could not be read
};

enum l2d_item_kind { L2D_ITEM_END, L2D_ITEM_VIDEO, L2D_ITEM_AUDIO };

struct l2d_item {
    enum l2d_item_kind kind;
    struct l2d_frame *frame;    // VIDEO: one reference
    struct AVPacket *packet;    // AUDIO: owned; times in l2d_audio_info's time base
};

// Opaque. One thread at a time, but for l2d_reader_stop.
struct l2d_reader;

/**
 * Open an input and find its best video and audio streams.
 * Device and lavfi inputs need l2d_libav_init first.
 * returns  L2D_OK; L2D_EIO (missing, unreadable), L2D_EFORMAT (empty, not a video, no video stream,
 *          start beyond the end), L2D_EUNSUPPORTED (no decoder), L2D_EINVAL (format, options),
 *          L2D_ECLOSED (stopped), L2D_ENOMEM. Messages name the input and what to do.
 */
int l2d_reader_create(struct l2d_reader **out, const struct l2d_reader_params *params,
                      struct l2d_error *err);

/** Accepts NULL; sets *reader to NULL. Frames and packets given out stay valid. */
void l2d_reader_destroy(struct l2d_reader **reader);

/** Valid until destroy. */
const struct l2d_reader_info *l2d_reader_info(const struct l2d_reader *reader);

/** The picture's size upright and in square pixels, as an engine's params want it. */
void l2d_reader_info_upright(const struct l2d_reader_info *info, int32_t *width, int32_t *height);

/** Give out all frames, whatever max_frames was. */
void l2d_reader_unlimit(struct l2d_reader *reader);

/** So far. The reader's thread, or after it ended. */
struct l2d_reader_stats l2d_reader_stats(const struct l2d_reader *reader);

/**
 * The next frame or audio packet, in the order of the file; blocks for input. At the end, and ever
 * after, kind is END. item is overwritten, not cleared.
 * Frames have strictly increasing pts in info's time base. pts are the input's own, except that
 * time 0 is `start_us` where one was given, and the first timestamp for broadcast formats and
 * devices, whose clocks start anywhere (MPEG-TS, v4l2, RTMP).
 * Audio before start_us and after the last of max_frames is left out.
 * returns  L2D_OK; L2D_ECLOSED after a stop; L2D_EFORMAT if the input ended without one frame that
 *          could be decoded; L2D_EUNSUPPORTED (pixel format), L2D_ENOMEM. After an error only
 *          destroy.
 */
int l2d_reader_next(struct l2d_reader *reader, struct l2d_item *item, struct l2d_error *err);

/** Free what an item holds; it becomes END. Accepts a zeroed item. */
void l2d_item_clear(struct l2d_item *item);

/** Make a blocked and every later l2d_reader_next return L2D_ECLOSED soon. Any thread. */
void l2d_reader_stop(struct l2d_reader *reader);

#endif
