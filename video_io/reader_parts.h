// SPDX-License-Identifier: Apache-2.0
// Internal to the reader: what it is, of which reader_open.c makes the beginning, and reader.c all
// that follows.
#ifndef L2D_VIDEO_IO_READER_PARTS_H
#define L2D_VIDEO_IO_READER_PARTS_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>

#include "video_io/deinterlacer.h"
#include "video_io/input.h"
#include "video_io/orientation.h"
#include "video_io/packet_queue.h"
#include "video_io/pixfmt.h"
#include "video_io/reader.h"

struct l2d_reader_track {                          // one of the two streams that we read
    AVStream *st;                       // NULL: none
    int64_t shift;                      // taken from every timestamp, in ticks: reader.h, pts
    int64_t next_dts_us;                // expected, for discontinuities; AV_NOPTS_VALUE at first
    int64_t end_us;                     // of the last packet, before the shift
};

struct l2d_reader {
    struct l2d_log log;
    struct l2d_input in;
    int64_t start_us, max_frames, timeout_us;
    struct l2d_reader_info info;
    struct l2d_reader_stats stats;

    AVCodecContext *dec;
    AVCodecParserContext *parser;       // sees a change of picture coming; NULL: codec has none
    AVCodecContext *parser_dec;         // parsers write to theirs
    AVPacket *pkt, *next_pkt;           // next_pkt waits, if it has data, until dec is drained
    AVFrame *frame;                     // the decoded picture that is next, if frame_ready
    struct l2d_deinterlacer *deinterlacer;
    struct l2d_importer *importer;
    struct l2d_reader_track video, audio;
    struct l2d_packet_queue audio_queue;    // waits while video is given out

    bool frame_ready;                   // frame_pts is set; not yet given out
    bool input_ended, decoder_ended;
    int read_errors, convert_errors;    // in a row
    bool waits;                         // the last try to read gave nothing yet
    int in_vain;                        // packets since the last picture that was whole
    int64_t in_vain_since_us;           // of libav's clock
    int last_decode_error;              // AVERROR code, for the message if nothing can be decoded

    struct l2d_orientation orientation; // of pictures that do not tell their own
    bool shift_known;
    int64_t offset_us;                  // closes discontinuities; added to every timestamp
    AVRational known_rate;              // as the caller knows it
    AVRational frame_rate;              // {25,1} if unknown
    int64_t frame_pts, last_pts;        // in ticks, shifted
    bool have_last;
    int64_t repair_base, repair_count;  // missing pts count on from the last real one,
    bool from_start;                    // the first from the start of the input, if it is read
    int64_t end_pts;                    // with max_frames reached: where audio ends too
    int32_t width, height;              // of the last frame, to tell of a change
};

/** All of creation but the memory, whose numbers are set. */
int l2d_reader_open(struct l2d_reader *reader, const struct l2d_reader_params *params,
                    struct l2d_error *err);

/** From now on base_us is where timestamps begin. */
void l2d_reader_set_shift(struct l2d_reader *reader, int64_t base_us);

/** A decoded frame becomes ready, or a packet is consumed, or the end is noted. */
int l2d_reader_step(struct l2d_reader *reader, struct l2d_error *err);

#endif
