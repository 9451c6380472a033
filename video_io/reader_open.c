// SPDX-License-Identifier: Apache-2.0
// How reading begins: which streams, with what decoder, and from where. See reader_parts.h. Opening
// the input is input.c's.
#include "video_io/reader_parts.h"

#include <string.h>

#include <libavutil/avstring.h>
#include <libavutil/pixdesc.h>

#include "video_io/av_compat.h"
#include "video_io/host.h"
#include "video_io/libav.h"

static const AVRational US = { 1, 1000000 };

static bool is_live(const struct l2d_reader *r)
{
    const AVInputFormat *in = r->in.fmt->iformat;
    if (in->flags & AVFMT_NOFILE)
        return strncmp(in->name, "lavfi", 5) != 0 && !strstr(in->name, "image2");
    bool network = l2d_host_is_url(r->in.name);
    // What has a size has an end, though it may not say when (MPEG-TS, or a server without ranges);
    // but for lists of what is elsewhere, and cameras' pictures.
    bool no_end = av_match_name("hls", in->name) || av_match_name("dash", in->name) ||
                  av_match_name("sdp", in->name) || av_match_name("mpjpeg", in->name);
    bool has_size = !no_end && r->in.fmt->pb && avio_size(r->in.fmt->pb) > 0;
    return network && r->in.fmt->duration <= 0 && !has_size;
}

// A sender may say how long what it sends is. It is live all the same, and may end before or after.
static void forget_length(AVFormatContext *fmt)
{
    fmt->duration = AV_NOPTS_VALUE;
    for (unsigned i = 0; i < fmt->nb_streams; i++)
        fmt->streams[i]->duration = AV_NOPTS_VALUE;
}

// What the input has and nothing here passes on.
static void tell_left_out(const struct l2d_reader *r, const struct l2d_reader_params *p)
{
    unsigned count[AVMEDIA_TYPE_NB] = { 0 };
    for (unsigned i = 0; i < r->in.fmt->nb_streams; i++) {
        const AVStream *st = r->in.fmt->streams[i];
        if (st != r->video.st && st != r->audio.st && st->codecpar->codec_type >= 0 &&
            !(st->disposition & AV_DISPOSITION_ATTACHED_PIC))
            count[st->codecpar->codec_type]++;
    }
    unsigned sounds = p->no_audio ? 0 : count[AVMEDIA_TYPE_AUDIO];
    if (sounds + count[AVMEDIA_TYPE_VIDEO] + count[AVMEDIA_TYPE_SUBTITLE] +
        r->in.fmt->nb_chapters > 0)
        l2d_log_print(&r->log, L2D_LOG_INFO, "%s: left out of it: %u more tracks of video, %u of "
                      "sound, %u of subtitles, %u chapters", r->in.shown, count[AVMEDIA_TYPE_VIDEO],
                      sounds, count[AVMEDIA_TYPE_SUBTITLE], r->in.fmt->nb_chapters);
}

static int find_streams(struct l2d_reader *r, const struct l2d_reader_params *p,
                        struct l2d_error *err)
{
    if (r->known_rate.num > 0)
        r->in.fmt->fps_probe_size = 0;
    int rc = avformat_find_stream_info(r->in.fmt, NULL);
    if (l2d_input_is_stopped(&r->in))
        return l2d_input_closed(&r->in, err);
    if (rc < 0)
        return l2d_libav_error(err, rc, "%s: its streams cannot be read", r->in.shown);
    if (p->listen && av_match_name("flv", r->in.fmt->iformat->name))
        forget_length(r->in.fmt);
    const AVCodec *codec = NULL;
    int v = av_find_best_stream(r->in.fmt, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0);
    if (v == AVERROR_DECODER_NOT_FOUND)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "%s: this build of FFmpeg has no decoder for "
                             "its video", r->in.shown);
    if (v >= 0 && r->in.fmt->streams[v]->disposition & AV_DISPOSITION_ATTACHED_PIC)
        return l2d_error_set(err, L2D_EFORMAT, "%s: no video stream, only a cover picture",
                             r->in.shown);
    if (v < 0)
        return l2d_error_set(err, L2D_EFORMAT, "%s: no video stream in it (%s, %u stream%s)",
                             r->in.shown, r->in.fmt->iformat->name, r->in.fmt->nb_streams,
                             r->in.fmt->nb_streams == 1 ? "" : "s");
    int a = p->no_audio ? -1 : av_find_best_stream(r->in.fmt, AVMEDIA_TYPE_AUDIO, -1, v, NULL, 0);
    r->video.st = r->in.fmt->streams[v];
    r->audio.st = a >= 0 ? r->in.fmt->streams[a] : NULL;
    for (unsigned i = 0; i < r->in.fmt->nb_streams; i++)
        if ((int) i != v && (int) i != a)
            r->in.fmt->streams[i]->discard = AVDISCARD_ALL;

    r->dec = avcodec_alloc_context3(codec);
    r->pkt = av_packet_alloc();
    r->frame = av_frame_alloc();
    r->next_pkt = av_packet_alloc();
    r->parser = av_parser_init((int) codec->id);
    r->parser_dec = avcodec_alloc_context3(NULL);
    if (!r->dec || !r->parser_dec || !r->pkt || !r->next_pkt || !r->frame)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", r->in.shown);
    if (r->parser)
        r->parser->flags |= PARSER_FLAG_COMPLETE_FRAMES;
    rc = avcodec_parameters_to_context(r->parser_dec, r->video.st->codecpar);
    if (rc >= 0)
        rc = avcodec_parameters_to_context(r->dec, r->video.st->codecpar);
    r->dec->pkt_timebase = r->video.st->time_base;
    r->dec->thread_count = 0;
    if (is_live(r))                                 // threads of frames cost a frame's time each
        r->dec->thread_type = FF_THREAD_SLICE;
    r->dec->flags |= AV_CODEC_FLAG_UNALIGNED;       // crop exactly
    r->dec->max_pixels = (int64_t) L2D_FRAME_MAX_DIM * L2D_FRAME_MAX_DIM;
    if (rc >= 0)
        rc = avcodec_open2(r->dec, codec, NULL);
    if (rc < 0)
        return l2d_libav_error(err, rc, "%s: decoder %s", r->in.shown, codec->name);
    return L2D_OK;
}

static void fill_info(struct l2d_reader *r)
{
    const AVStream *v = r->video.st, *a = r->audio.st;
    AVRational rate = r->known_rate.num > 0 ? r->known_rate
                                            : av_guess_frame_rate(r->in.fmt, r->video.st, NULL);
    AVRational sar = av_guess_sample_aspect_ratio(r->in.fmt, r->video.st, NULL);
    bool rate_known = rate.num > 0 && rate.den > 0;
    r->frame_rate = rate_known ? rate : (AVRational) { 25, 1 };
    const char *pixel_format = av_get_pix_fmt_name((enum AVPixelFormat) v->codecpar->format);
    r->orientation = l2d_orientation_of(l2d_av_display_matrix(v), &r->log, r->in.shown);
    r->info = (struct l2d_reader_info) {
        .format = r->in.fmt->iformat->name, .codec = avcodec_get_name(v->codecpar->codec_id),
        .pixel_format = pixel_format ? pixel_format : "unknown",
        .width = v->codecpar->width, .height = v->codecpar->height,
        .sar_num = sar.num, .sar_den = sar.den,
        .rotation = r->orientation.rotation,
        .time_base_num = v->time_base.num, .time_base_den = v->time_base.den,
        .frame_rate_num = rate_known ? rate.num : 0, .frame_rate_den = rate_known ? rate.den : 1,
        .duration_us = -1, .num_frames = -1, .live = is_live(r), .has_audio = a != NULL,
    };
    if (a)
        r->info.audio = (struct l2d_audio_info) {
            .codecpar = a->codecpar, .codec = avcodec_get_name(a->codecpar->codec_id),
            .time_base_num = a->time_base.num, .time_base_den = a->time_base.den,
            .sample_rate = a->codecpar->sample_rate, .channels = a->codecpar->ch_layout.nb_channels,
        };
    int64_t duration = v->duration > 0 ? av_rescale_q(v->duration, v->time_base, US)
                                       : r->in.fmt->duration;
    if (duration > 0) {
        duration -= r->start_us < duration ? r->start_us : duration;
        int64_t frames = av_rescale_q(duration, US, av_inv_q(r->frame_rate));
        if (v->nb_frames > 0 && r->start_us == 0)
            frames = v->nb_frames;
        r->info.duration_us = duration;
        r->info.num_frames = frames > 0 ? frames : 1;
    }
    if (r->max_frames > 0 && (r->info.num_frames < 0 || r->info.num_frames > r->max_frames)) {
        r->info.num_frames = r->max_frames;
        r->info.duration_us = av_rescale_q(r->max_frames, av_inv_q(r->frame_rate), US);
    }
}

static void forget_position(struct l2d_reader *r)
{
    avcodec_flush_buffers(r->dec);
    l2d_deinterlacer_reset(r->deinterlacer);
    av_frame_unref(r->frame);
    av_packet_unref(r->next_pkt);
    l2d_packet_queue_clear(&r->audio_queue);
    r->frame_ready = r->have_last = r->input_ended = r->decoder_ended = false;
    r->video.next_dts_us = r->audio.next_dts_us = AV_NOPTS_VALUE;
    r->offset_us = 0;
    r->stats = (struct l2d_reader_stats) { 0 };
    r->read_errors = r->last_decode_error = 0;
    r->from_start = false;
}

static bool rewind_input(struct l2d_reader *r)
{
    if (av_seek_frame(r->in.fmt, -1, 0, AVSEEK_FLAG_BYTE) < 0)
        return false;
    forget_position(r);
    return r->from_start = true;
}

// Put the decoder at or before the start time. Not every container finds a key frame at or before
// the time asked for, so look at the first frame that comes and go further back if it is too late.
static int seek_start(struct l2d_reader *r, int64_t base_us, struct l2d_error *err)
{
    int64_t target = base_us + r->start_us;
    int64_t first = r->in.fmt->start_time != AV_NOPTS_VALUE ? r->in.fmt->start_time : 0;
    if (target <= first || !r->in.fmt->pb || !(r->in.fmt->pb->seekable & AVIO_SEEKABLE_NORMAL))
        return L2D_OK;                  // decode and drop
    for (int64_t back = 0;; back = back ? back * 4 : 2000000) {
        int64_t to = target - back > first ? target - back : first;
        if (avformat_seek_file(r->in.fmt, -1, INT64_MIN, to, to, 0) < 0) {
            l2d_log_print(&r->log, L2D_LOG_DEBUG, "%s: no seeking; decoding from the start",
                          r->in.shown);
            rewind_input(r);            // libav may have looked for the place all through the file
            return L2D_OK;
        }
        forget_position(r);
        r->from_start = to == first;
        while (!r->frame_ready && !r->decoder_ended) {
            int rc = l2d_reader_step(r, err);
            if (rc != L2D_OK)
                return rc;
        }
        bool early = r->frame_ready && r->frame_pts <= 0;
        // Without an index a time of decoding is sought, and the first is before the first picture.
        if (to == first && !early && r->in.fmt->iformat->flags & AVFMT_TS_DISCONT)
            rewind_input(r);
        if (to == first || early)
            return L2D_OK;
    }
}

// Where the header does not tell the size, the first frame does; and which way up it is, if it has
// that by itself, as photographs do.
static int learn_size(struct l2d_reader *r, struct l2d_error *err)
{
    bool known = r->info.width > 0 && r->info.height > 0;
    if (known && r->info.live)
        return L2D_OK;
    while (!r->frame_ready && !r->decoder_ended) {
        int rc = l2d_reader_step(r, err);
        if (rc != L2D_OK)
            return rc;
    }
    if (!r->frame_ready && known)
        return L2D_OK;                  // whoever reads is told
    if (!r->frame_ready)
        return l2d_error_set(err, L2D_EFORMAT, "%s: no frame of its video can be decoded",
                             r->in.shown);
    r->orientation = l2d_orientation_of_frame(r->frame, r->orientation);
    r->info.rotation = r->orientation.rotation;
    if (known)
        return L2D_OK;
    r->info.width = r->frame->width;
    r->info.height = r->frame->height;
    const char *pixel_format = av_get_pix_fmt_name(r->frame->format);
    r->info.pixel_format = pixel_format ? pixel_format : "unknown";
    return L2D_OK;
}

int l2d_reader_open(struct l2d_reader *r, const struct l2d_reader_params *p, struct l2d_error *err)
{
    int rc = l2d_input_init(&r->in, p, err);
    l2d_input_set_deadline(&r->in, 2 * p->timeout_us);      // libav listens to 5 s of it
    if (rc == L2D_OK)
        rc = find_streams(r, p, err);
    if (rc == L2D_OK)
        rc = l2d_deinterlacer_create(&r->deinterlacer, r->in.shown, &r->log, err);
    if (rc == L2D_OK)
        rc = l2d_importer_create(&r->importer, &r->log, err);
    if (rc != L2D_OK)
        return rc;
    fill_info(r);
    tell_left_out(r, p);
    const AVInputFormat *in = r->in.fmt->iformat;
    r->video.next_dts_us = r->audio.next_dts_us = AV_NOPTS_VALUE;
    bool starts_anywhere = in->flags & (AVFMT_TS_DISCONT | AVFMT_NOFILE) || r->info.live;
    bool from_first = starts_anywhere || (r->start_us > 0 && r->in.fmt->start_time > 0);
    int64_t base = from_first ? r->in.fmt->start_time : 0;
    if (base != AV_NOPTS_VALUE)
        l2d_reader_set_shift(r, base);
    if (r->start_us > 0 && base != AV_NOPTS_VALUE) {
        rc = learn_size(r, err);        // the first picture may tell for those of after the start
        if (rc == L2D_OK)
            rc = seek_start(r, base, err);
    }
    return rc == L2D_OK ? learn_size(r, err) : rc;
}
