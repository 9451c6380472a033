// SPDX-License-Identifier: Apache-2.0
// Demuxing, decoding and the repair of time. See reader.h. This is what happens to every packet and
// frame; reader_open.c is how it begins. Opening the input is input.c's, pixels pixfmt.c's.
#include "video_io/reader_parts.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include <libavutil/avstring.h>
#include <libavutil/time.h>

#include "video_io/av_compat.h"
#include "video_io/libav.h"

#define MAX_READ_ERRORS 64              // in a row, before the input counts as ended
#define IN_VAIN_PACKETS 50              // for so long, before a live input counts as another's
#define IN_VAIN_US      (5 * INT64_C(1000000))
#define JUMP_US         (10 * INT64_C(1000000))     // as ffmpeg's -dts_delta_threshold
#define BACK_US         INT64_C(100000)
#define FOREVER_US      (INT64_C(3155760000) * 1000000)     // a century; fits in nanoseconds too

static const AVRational US = { 1, 1000000 };

// --- time

// A start rounded up to a microsecond must still take the frame that it names.
static int64_t start_ticks(const struct l2d_reader *r, const struct l2d_reader_track *t)
{
    return av_rescale_q_rnd(r->start_us, US, t->st->time_base, AV_ROUND_DOWN);
}

void l2d_reader_set_shift(struct l2d_reader *r, int64_t base_us)
{
    struct l2d_reader_track *tracks[] = { &r->video, &r->audio };
    for (int i = 0; i < 2; i++) {
        struct l2d_reader_track *t = tracks[i];
        if (!t->st)
            continue;
        t->shift = av_rescale_q(base_us, US, t->st->time_base) + start_ticks(r, t);
    }
    r->shift_known = true;
}

static void note_end(struct l2d_reader_track *t, int64_t end_us)
{
    if (end_us > t->end_us)
        t->end_us = end_us;
}

// Broadcast formats may restart their clock in the middle (joined files), and so may live senders.
// Close the gap as ffmpeg does: jumps of more than 10 s, or back by more than 0.1 s.
static void close_discontinuity(struct l2d_reader *r, struct l2d_reader_track *t, AVPacket *pkt)
{
    if (pkt->dts == AV_NOPTS_VALUE && pkt->pts != AV_NOPTS_VALUE)
        note_end(t, av_rescale_q(pkt->pts + pkt->duration, t->st->time_base, US) + r->offset_us);
    if (pkt->dts == AV_NOPTS_VALUE)
        return;
    int64_t dts_us = av_rescale_q(pkt->dts, t->st->time_base, US) + r->offset_us;
    bool may_jump = r->in.fmt->iformat->flags & AVFMT_TS_DISCONT || r->info.live;
    if (may_jump && t->next_dts_us != AV_NOPTS_VALUE) {
        int64_t delta = dts_us - t->next_dts_us;
        if (delta > JUMP_US || delta < -BACK_US) {
            l2d_log_print(&r->log, L2D_LOG_INFO, "%s: the clock jumps by %.3f s; closed",
                          r->in.shown, (double) delta / 1e6);
            r->offset_us -= delta;
            dts_us -= delta;
            r->stats.discontinuities++;
        }
    }
    int64_t offset = av_rescale_q(r->offset_us, US, t->st->time_base);
    pkt->dts += offset;
    if (pkt->pts != AV_NOPTS_VALUE)
        pkt->pts += offset;
    int64_t duration_us = av_rescale_q(pkt->duration, t->st->time_base, US), end_us;
    t->next_dts_us = end_us = dts_us + duration_us;
    if (pkt->pts != AV_NOPTS_VALUE)     // which pictures that wait for others are shown after
        end_us = av_rescale_q(pkt->pts, t->st->time_base, US) + duration_us;
    note_end(t, end_us);
}

static int64_t frame_ticks(const struct l2d_reader *r, int64_t num_frames)
{
    return av_rescale_q(num_frames, av_inv_q(r->frame_rate), r->video.st->time_base);
}

// pts of the decoded frame: its own where it has one that goes forward.
static int64_t repair_pts(struct l2d_reader *r, int64_t pts)
{
    if (pts != AV_NOPTS_VALUE)
        pts -= r->video.shift;
    bool missing = pts == AV_NOPTS_VALUE;
    if (!missing && !(r->have_last && pts <= r->last_pts)) {
        r->repair_base = pts;
        r->repair_count = 0;
    } else {
        r->stats.repaired_pts++;
        if (!r->have_last) {
            pts = r->repair_base = r->from_start ? -start_ticks(r, &r->video) : 0;
        } else {
            pts = r->repair_base + frame_ticks(r, ++r->repair_count);
            if (pts <= r->last_pts)
                pts = r->last_pts + 1;
        }
        if (r->stats.repaired_pts == 1)
            l2d_log_print(&r->log, L2D_LOG_WARN, "%s: a timestamp %s; counted on at %.3f frames/s",
                          r->in.shown, missing ? "is missing" : "goes backwards",
                          av_q2d(r->frame_rate));
    }
    r->last_pts = pts;
    r->have_last = true;
    return pts;
}

// --- packets and frames

static bool reached_max(const struct l2d_reader *r)
{
    return r->max_frames > 0 && (int64_t) r->stats.frames >= r->max_frames;
}

static int take_audio(struct l2d_reader *r, AVPacket *pkt, struct l2d_error *err)
{
    AVRational tb = r->audio.st->time_base;
    if (pkt->pts == AV_NOPTS_VALUE)
        pkt->pts = pkt->dts;
    if (pkt->pts == AV_NOPTS_VALUE)
        return L2D_OK;                  // cannot be placed
    pkt->pts -= r->audio.shift;
    pkt->dts = pkt->dts == AV_NOPTS_VALUE ? pkt->pts : pkt->dts - r->audio.shift;
    pkt->time_base = tb;
    if (r->start_us > 0 && pkt->pts < 0)
        return L2D_OK;
    if (reached_max(r) && av_compare_ts(pkt->pts, tb, r->end_pts, r->video.st->time_base) >= 0) {
        r->input_ended = r->decoder_ended = true;
        return L2D_OK;
    }
    if (!l2d_packet_queue_push(&r->audio_queue, pkt))
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", r->in.shown);
    return L2D_OK;
}

static bool is_damaged(const AVFrame *av)
{
    return av->flags & AV_FRAME_FLAG_CORRUPT || av->decode_error_flags;
}

static void count_decode_error(struct l2d_reader *r, int averror)
{
    r->stats.decode_errors++;
    r->last_decode_error = averror;
    if (r->stats.decode_errors == 1) {
        char why[AV_ERROR_MAX_STRING_SIZE] = "";
        av_strerror(averror, why, sizeof(why));
        l2d_log_print(&r->log, L2D_LOG_WARN, "%s: a damaged packet was skipped (%s); going on",
                      r->in.shown, why);
    }
}

static int send_packet(struct l2d_reader *r, const AVPacket *pkt, struct l2d_error *err)
{
    int rc = avcodec_send_packet(r->dec, pkt);
    if (rc == AVERROR(ENOMEM))
        return l2d_error_set(err, L2D_ENOMEM, "%s: decoder: out of memory", r->in.shown);
    if (rc < 0 && rc != AVERROR_EOF)
        count_decode_error(r, rc);
    return L2D_OK;
}

// Whether a packet starts pictures of another size or format. Decoders forget the pictures that
// they still hold when that happens, so they are drained first.
static bool changes_picture(struct l2d_reader *r, const AVPacket *pkt)
{
    AVCodecParserContext *p = r->parser;
    if (av_packet_get_side_data(pkt, AV_PKT_DATA_NEW_EXTRADATA, NULL))
        return true;
    if (!p)
        return false;
    int w = p->width, h = p->height, format = p->format, size;
    uint8_t *data;
    av_parser_parse2(p, r->parser_dec, &data, &size, pkt->data, pkt->size, pkt->pts, pkt->dts,
                     pkt->pos);
    return w > 0 && p->width > 0 && (w != p->width || h != p->height || format != p->format);
}

static int take_video(struct l2d_reader *r, AVPacket *pkt, struct l2d_error *err)
{
    if (reached_max(r)) {               // only audio is still of interest, and not for long
        AVRational tb = r->video.st->time_base;
        int64_t slack = av_rescale_q(1000000, US, tb);
        if (!r->audio.st || (pkt->dts != AV_NOPTS_VALUE &&
                             pkt->dts - r->video.shift > r->end_pts + slack))
            r->input_ended = r->decoder_ended = true;
        return L2D_OK;
    }
    if (!changes_picture(r, pkt))
        return send_packet(r, pkt, err);
    av_packet_move_ref(r->next_pkt, pkt);
    return send_packet(r, NULL, err);
}

static void end_input(struct l2d_reader *r)
{
    r->input_ended = true;
    if (reached_max(r))
        r->decoder_ended = true;
    else
        avcodec_send_packet(r->dec, NULL);
}

// To a UDP port another sender may go on, with another codec, in which nothing is left of what was
// opened. Such packets give no pictures, or none that are whole.
static bool is_of_another(struct l2d_reader *r)
{
    int64_t now = av_gettime_relative();
    if (r->in_vain++ == 0)
        r->in_vain_since_us = now;
    return r->info.live && r->have_last && r->in_vain > IN_VAIN_PACKETS &&
           now - r->in_vain_since_us > IN_VAIN_US;
}

// Read one packet and hand it to the decoder or the audio queue.
static int read_packet(struct l2d_reader *r, struct l2d_error *err)
{
    if (!r->waits)
        l2d_input_set_deadline(&r->in, r->timeout_us);
    int rc = av_read_frame(r->in.fmt, r->pkt);
    if (l2d_input_is_stopped(&r->in)) {
        av_packet_unref(r->pkt);
        return l2d_input_closed(&r->in, err);
    }
    r->waits = rc == AVERROR(EAGAIN) && !l2d_input_is_late(&r->in);
    if (r->waits) {                     // a device without a new picture; libav offers no wait
        av_usleep(2000);
        return L2D_OK;
    }
    if (rc == AVERROR(ENOMEM))
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", r->in.shown);
    if (rc == AVERROR_INVALIDDATA && ++r->read_errors < MAX_READ_ERRORS) {
        count_decode_error(r, rc);
        return L2D_OK;
    }
    if (rc < 0) {
        bool pb_failed = r->in.fmt->pb && r->in.fmt->pb->error < 0;
        int why = rc != AVERROR_EOF ? rc : pb_failed ? r->in.fmt->pb->error : 0;
        if (why != 0 && why != AVERROR_EOF) {
            char text[AV_ERROR_MAX_STRING_SIZE] = "nothing came any more";
            if (why != AVERROR_EXIT)    // of our own deadline
                av_strerror(why, text, sizeof(text));
            l2d_log_print(&r->log, L2D_LOG_WARN, "%s: reading stopped early: %s", r->in.shown,
                          text);
            r->stats.truncated = true;
            r->stats.failed = pb_failed && r->in.fmt->pb->error != AVERROR_EOF && !reached_max(r);
        }
        end_input(r);
        return L2D_OK;
    }
    r->read_errors = 0;
    struct l2d_reader_track *t = r->pkt->stream_index == r->video.st->index ? &r->video
                    : r->audio.st && r->pkt->stream_index == r->audio.st->index ? &r->audio : NULL;
    int result = L2D_OK;
    if (t == &r->video && is_of_another(r)) {
        l2d_log_print(&r->log, L2D_LOG_WARN, "%s: gives no whole picture any more; what was opened "
                      "ends here", r->in.shown);
        end_input(r);
    } else if (t) {
        int64_t first = r->pkt->pts != AV_NOPTS_VALUE ? r->pkt->pts : r->pkt->dts;
        if (!r->shift_known && first != AV_NOPTS_VALUE)
            l2d_reader_set_shift(r, av_rescale_q(first, t->st->time_base, US));
        close_discontinuity(r, t, r->pkt);
        result = t == &r->video ? take_video(r, r->pkt, err) : take_audio(r, r->pkt, err);
    }
    av_packet_unref(r->pkt);
    return result;
}

// The next picture, whole. Returns as avcodec_receive_frame.
static int receive_frame(struct l2d_reader *r)
{
    for (;;) {
        int rc = l2d_deinterlacer_pull(r->deinterlacer, r->frame);
        if (rc != AVERROR(EAGAIN))
            return rc;
        rc = avcodec_receive_frame(r->dec, r->frame);
        if (rc >= 0)
            rc = l2d_deinterlacer_push(r->deinterlacer, r->frame);
        else if (rc == AVERROR_EOF)
            rc = l2d_deinterlacer_push(r->deinterlacer, NULL);
        if (rc < 0)
            return rc;
    }
}

// Advance by one step: a decoded frame becomes ready, or a packet is consumed, or the end is noted.
int l2d_reader_step(struct l2d_reader *r, struct l2d_error *err)
{
    if (reached_max(r)) {
        if (!r->input_ended)
            return read_packet(r, err);
        r->decoder_ended = true;        // by one of the last pictures, which a decoder holds back
        return L2D_OK;
    }
    int rc = receive_frame(r);
    if (rc == AVERROR(EAGAIN) && !r->input_ended)
        return read_packet(r, err);
    if (rc == AVERROR_EOF && r->next_pkt->data) {
        avcodec_flush_buffers(r->dec);
        rc = send_packet(r, r->next_pkt, err);
        av_packet_unref(r->next_pkt);
        return rc;
    }
    if (rc == AVERROR_EOF || rc == AVERROR(EAGAIN)) {
        r->decoder_ended = true;
        return L2D_OK;
    }
    if (rc == AVERROR(ENOMEM))
        return l2d_error_set(err, L2D_ENOMEM, "%s: decoder: out of memory", r->in.shown);
    if (rc < 0) {
        count_decode_error(r, rc);
        return L2D_OK;
    }
    if (!is_damaged(r->frame))
        r->in_vain = 0;
    r->frame_pts = repair_pts(r, r->frame->best_effort_timestamp);
    r->frame_ready = true;
    return L2D_OK;
}

static int give_frame(struct l2d_reader *r, struct l2d_item *item, struct l2d_error *err)
{
    struct l2d_frame *f = NULL;
    AVFrame *av = r->frame;
    av->sample_aspect_ratio = av_guess_sample_aspect_ratio(r->in.fmt, r->video.st, av);
    struct l2d_orientation orientation = l2d_orientation_of_frame(av, r->orientation);
    if (orientation.mirrored)
        l2d_orientation_reverse_rows(av);
    struct l2d_error why = { 0 };
    int rc = l2d_importer_convert(r->importer, av, &f, &why);
    if (rc != L2D_OK && rc != L2D_ENOMEM && r->stats.frames > 0 &&
        ++r->convert_errors < MAX_READ_ERRORS) {        // one among many is damage
        if (r->convert_errors == 1)
            l2d_log_print(&r->log, L2D_LOG_WARN, "%s: a picture is left out: %s", r->in.shown,
                          why.msg);
        r->stats.decode_errors++;
        av_frame_unref(av);
        r->frame_ready = false;
        return L2D_OK;
    }
    if (rc != L2D_OK)
        return l2d_error_set(err, rc, "%s: %s", r->in.shown, why.msg);
    r->convert_errors = 0;
    f->pts = r->frame_pts;
    f->duration = L2D_AV_DURATION(av) > 0 ? L2D_AV_DURATION(av) : 0;
    f->time_base_num = r->info.time_base_num;
    f->time_base_den = r->info.time_base_den;
    f->rotation = orientation.rotation;
    if (r->width && (r->width != f->width || r->height != f->height))
        l2d_log_print(&r->log, L2D_LOG_INFO, "%s: the picture changes from %dx%d to %dx%d at "
                      "frame %" PRIu64, r->in.shown, r->width, r->height, f->width, f->height,
                      r->stats.frames);
    r->width = f->width;
    r->height = f->height;
    if (is_damaged(av)) {
        if (r->stats.concealed++ == 0)
            l2d_log_print(&r->log, L2D_LOG_WARN, "%s: frame %" PRIu64 " is damaged; concealed, "
                          "going on", r->in.shown, r->stats.frames);
    }
    r->stats.frames++;
    if (reached_max(r))
        r->end_pts = f->pts + (f->duration ? f->duration : frame_ticks(r, 1));
    av_frame_unref(av);
    r->frame_ready = false;
    *item = (struct l2d_item) { .kind = L2D_ITEM_VIDEO, .frame = f };
    return L2D_OK;
}

static int give_end(struct l2d_reader *r, struct l2d_item *item, struct l2d_error *err)
{
    if (r->stats.frames == 0 && r->start_us > 0 && r->have_last)
        return l2d_error_set(err, L2D_EFORMAT, "%s: nothing left after the start time of %.3f s",
                             r->in.shown, (double) r->start_us / 1e6);
    if (r->stats.frames == 0 && r->last_decode_error && l2d_input_is_pipe(&r->in))
        return l2d_error_set(err, L2D_EFORMAT, "%s: no frame could be decoded; MP4 on a pipe "
                             "needs its index at the front (ffmpeg -movflags +faststart)",
                             r->in.shown);
    if (r->stats.frames == 0 && r->last_decode_error)
        return l2d_libav_error(err, AVERROR_INVALIDDATA, "%s: none of its %" PRIu64 " video "
                               "packets could be decoded", r->in.shown, r->stats.decode_errors);
    if (r->stats.frames == 0)
        return l2d_error_set(err, L2D_EFORMAT, "%s: it has a video stream, but no frame in it",
                             r->in.shown);
    // Containers that know their length tell whether all of it came.
    int64_t end_us = r->video.end_us > r->audio.end_us ? r->video.end_us : r->audio.end_us;
    bool known = r->in.fmt->duration > 0 &&
                 r->in.fmt->duration_estimation_method == AVFMT_DURATION_FROM_STREAM;
    // Most lengths are the time of the end; those of lists of segments begin with the first.
    bool from_start = av_match_name("hls", r->in.fmt->iformat->name) ||
                      av_match_name("dash", r->in.fmt->iformat->name);
    if (from_start && r->in.fmt->start_time != AV_NOPTS_VALUE)
        end_us -= r->in.fmt->start_time;
    if (known && !reached_max(r) && !r->stats.truncated &&
        end_us + 500000 + r->in.fmt->duration / 100 < r->in.fmt->duration) {
        r->stats.truncated = true;
        l2d_log_print(&r->log, L2D_LOG_WARN, "%s: ends at %.1f s of %.1f s: the file is truncated",
                      r->in.shown, (double) end_us / 1e6, (double) r->in.fmt->duration / 1e6);
    }
    *item = (struct l2d_item) { .kind = L2D_ITEM_END };
    return L2D_OK;
}

int l2d_reader_next(struct l2d_reader *reader, struct l2d_item *item, struct l2d_error *err)
{
    struct l2d_reader *r = reader;
    item->kind = L2D_ITEM_END;
    for (;;) {
        if (l2d_input_is_stopped(&r->in))
            return l2d_input_closed(&r->in, err);
        if (r->audio_queue.len > 0) {
            *item = (struct l2d_item) { .kind = L2D_ITEM_AUDIO,
                                        .packet = l2d_packet_queue_pop(&r->audio_queue) };
            return L2D_OK;
        }
        if (r->frame_ready && r->start_us > 0 && r->frame_pts < 0) {
            av_frame_unref(r->frame);
            r->frame_ready = false;
        }
        if (r->frame_ready) {
            int given = give_frame(r, item, err);
            if (given != L2D_OK || item->kind == L2D_ITEM_VIDEO)
                return given;
            continue;
        }
        if (r->decoder_ended)
            return give_end(r, item, err);
        int rc = l2d_reader_step(r, err);
        if (rc != L2D_OK)
            return rc;
    }
}

void l2d_item_clear(struct l2d_item *item)
{
    l2d_frame_unref(&item->frame);
    av_packet_free(&item->packet);
    item->kind = L2D_ITEM_END;
}

void l2d_reader_stop(struct l2d_reader *reader)
{
    atomic_store(&reader->in.stopped, true);
}

int l2d_reader_create(struct l2d_reader **out, const struct l2d_reader_params *params,
                      struct l2d_error *err)
{
    assert(params->name && params->start_us >= 0 && params->max_frames >= 0);
    struct l2d_reader *r = calloc(1, sizeof(*r));
    if (!r)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", params->name);
    r->log = l2d_log_named(params->log, "reader");
    struct l2d_reader_params p = *params;
    p.timeout_us = p.timeout_us < FOREVER_US ? p.timeout_us : FOREVER_US;
    r->start_us = p.start_us < FOREVER_US ? p.start_us : FOREVER_US;
    r->from_start = true;
    r->max_frames = params->max_frames;
    r->known_rate = (AVRational) { params->frame_rate_num, params->frame_rate_den };
    r->timeout_us = p.timeout_us;
    int rc = l2d_reader_open(r, &p, err);
    if (rc != L2D_OK) {
        l2d_reader_destroy(&r);
        return rc;
    }
    *out = r;
    return L2D_OK;
}

void l2d_reader_destroy(struct l2d_reader **reader)
{
    struct l2d_reader *r = *reader;
    *reader = NULL;
    if (!r)
        return;
    l2d_packet_queue_finish(&r->audio_queue);
    l2d_deinterlacer_destroy(&r->deinterlacer);
    l2d_importer_destroy(&r->importer);
    av_frame_free(&r->frame);
    av_packet_free(&r->pkt);
    av_packet_free(&r->next_pkt);
    if (r->parser)
        av_parser_close(r->parser);
    avcodec_free_context(&r->parser_dec);
    avcodec_free_context(&r->dec);
    l2d_input_finish(&r->in);
    free(r);
}

void l2d_reader_info_upright(const struct l2d_reader_info *info, int32_t *width, int32_t *height)
{
    double w = info->width, h = info->height, most = 4.0 * L2D_FRAME_MAX_DIM;
    if (info->sar_num > 0 && info->sar_den > 0)
        w = w * info->sar_num / info->sar_den;
    w = w < 1 ? 1 : w > most ? most : w;
    bool turned = info->rotation % 180 != 0;
    *width = (int32_t) ((turned ? h : w) + 0.5);
    *height = (int32_t) ((turned ? w : h) + 0.5);
}

const struct l2d_reader_info *l2d_reader_info(const struct l2d_reader *reader)
{
    return &reader->info;
}

void l2d_reader_unlimit(struct l2d_reader *reader)
{
    reader->max_frames = 0;
}

struct l2d_reader_stats l2d_reader_stats(const struct l2d_reader *reader)
{
    return reader->stats;
}
