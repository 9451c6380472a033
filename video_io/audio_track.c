// SPDX-License-Identifier: Apache-2.0
// Copying and transcoding of sound. See audio_track.h. libswresample keeps it in time: it fills
// gaps with silence and drops overlaps, as ffmpeg's aresample=async=1. Long gaps stay gaps, where
// the format has such.
#include "video_io/audio_track.h"

#include <stdlib.h>
#include <string.h>

#include <libavcodec/bsf.h>
#include <libavutil/audio_fifo.h>
#include <libavutil/avstring.h>
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>

#include "video_io/libav.h"

#define BITS_PER_CHANNEL 80000
#define LONG_GAP_S 1            // is not left to libswresample

struct l2d_audio_track {
    struct l2d_log log;
    const char *name;                   // of the output; the caller's
    const AVCodecParameters *in;        // the reader's
    AVRational in_time_base;
    AVPacket *pkt;
    AVBSFContext *filter;               // of copied packets; NULL: none
    uint64_t damaged;                   // packets that it could not read
    unsigned format_bits;               // of the first packet that it had: profile, rate, channels
    bool told_format;

    AVCodecContext *dec, *enc;          // NULL: copy
    AVFrame *decoded, *chunk;
    struct SwrContext *swr;             // for the format of the last decoded frame
    int swr_format, swr_rate;
    AVChannelLayout swr_layout;
    AVAudioFifo *fifo;                  // in the encoder's format
    int64_t next_pts;                   // of the first sample in fifo, in 1/sample_rate
    bool started, counted;              // counted: see l2d_audio_track_is_counted
    bool gapless;                       // that, or counted from where it begins
};

bool l2d_audio_track_is_counted(const AVOutputFormat *format)
{
    return av_match_name(format->name, "avi,mxf,mxf_d10");
}

// Where the muxers' lists are not the truth: FLV lists MP3, but only at three rates; MOV lists what
// only MP4 may hold.
static bool takes_sound(const AVOutputFormat *format, enum AVCodecID id, int sample_rate)
{
    static const enum AVCodecID mpegts[] = {
        AV_CODEC_ID_AAC, AV_CODEC_ID_MP2, AV_CODEC_ID_MP3, AV_CODEC_ID_AC3, AV_CODEC_ID_EAC3,
        AV_CODEC_ID_DTS, AV_CODEC_ID_OPUS,
    };
    if (!strcmp(format->name, "flv") && id == AV_CODEC_ID_MP3 && sample_rate != 44100 &&
        sample_rate != 22050 && sample_rate != 11025)
        return false;
    if (!strcmp(format->name, "mov") &&
        (id == AV_CODEC_ID_OPUS || id == AV_CODEC_ID_FLAC || id == AV_CODEC_ID_TRUEHD))
        return false;
    if (!strcmp(format->name, "avi") && id == AV_CODEC_ID_FLAC)     // written, and never read
        return false;
    if (av_match_name(format->name, "mp4,ipod,ismv") &&     // experimental in there, says the muxer
        (id == AV_CODEC_ID_FLAC || id == AV_CODEC_ID_TRUEHD))
        return false;
    if (av_match_name(format->name, "mxf,mxf_d10") && id == AV_CODEC_ID_PCM_S24LE)
        return true;
    int takes = avformat_query_codec(format, id, FF_COMPLIANCE_NORMAL);
    if (takes >= 0)
        return takes == 1;
    bool is_ts = av_match_name(format->name, L2D_TS_MUXERS);
    for (size_t i = 0; is_ts && i < sizeof(mpegts) / sizeof(*mpegts); i++)
        if (mpegts[i] == id)
            return true;
    return id != AV_CODEC_ID_NONE && id == format->audio_codec;
}

static bool is_pcm(enum AVCodecID id)
{
    return av_get_exact_bits_per_sample(id) >= 8;
}

static const AVCodec *choose_encoder(const AVOutputFormat *format, enum AVCodecID from,
                                     int sample_rate)
{
    static const char *const names[] = { "aac", "libopus", "libmp3lame", "libvorbis", "ac3", "mp2",
                                         "flac", "pcm_s16le" };
    const AVCodec *same = is_pcm(from) ? avcodec_find_encoder(from) : NULL;
    if (same && takes_sound(format, from, sample_rate))
        return same;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        const AVCodec *c = avcodec_find_encoder_by_name(names[i]);
        if (c && takes_sound(format, c->id, sample_rate))
            return c;
    }
    return NULL;
}

static int nearest_rate(const AVCodec *codec, int rate)
{
    int best = 0;
    for (const int *r = codec->supported_samplerates; r && *r; r++)
        if (!best || abs(*r - rate) < abs(best - rate))
            best = *r;
    return best ? best : rate;
}

// Speakers at the sides alone, as AC-3 has them, are those at the back of AAC, Opus and Vorbis.
static void move_to_back(AVChannelLayout *layout)
{
    const uint64_t side = AV_CH_SIDE_LEFT | AV_CH_SIDE_RIGHT;
    const uint64_t back = AV_CH_BACK_LEFT | AV_CH_BACK_RIGHT, any = back | AV_CH_BACK_CENTER;
    if (layout->order == AV_CHANNEL_ORDER_NATIVE && (layout->u.mask & side) == side &&
        !(layout->u.mask & any))
        layout->u.mask ^= side | back;
}

static int choose_layout(const AVCodec *codec, const AVChannelLayout *in, AVChannelLayout *out)
{
    AVChannelLayout want = { 0 };
    if (in->order == AV_CHANNEL_ORDER_UNSPEC)
        av_channel_layout_default(&want, in->nb_channels);
    else if (av_channel_layout_copy(&want, in) < 0)
        return AVERROR(ENOMEM);
    if (!codec->ch_layouts && !is_pcm(codec->id))
        move_to_back(&want);
    bool ok = av_channel_layout_check(&want) &&
              (codec->ch_layouts || is_pcm(codec->id) || want.nb_channels <= 8);
    for (const AVChannelLayout *l = codec->ch_layouts; l && l->nb_channels; l++) {
        ok = av_channel_layout_compare(l, &want) == 0;
        if (ok)
            break;
    }
    if (!ok) {
        int channels = want.nb_channels == 1 ? 1 : 2;
        av_channel_layout_uninit(&want);
        av_channel_layout_default(&want, channels);
    }
    *out = want;
    return 0;
}

// AAC as streams have it tells its format in each packet, and in files once. Muxers convert it too,
// but end where a packet is damaged.
static int open_filter(struct l2d_audio_track *t, const AVOutputFormat *format)
{
    if (t->in->codec_id != AV_CODEC_ID_AAC || t->in->extradata_size > 0 ||
        !av_match_name(format->name, "mp4,mov,ipod,ismv,f4v,3gp,3g2,psp,flv,matroska"))
        return 0;
    int rc = av_bsf_alloc(av_bsf_get_by_name("aac_adtstoasc"), &t->filter);
    if (rc >= 0)
        rc = avcodec_parameters_copy(t->filter->par_in, t->in);
    if (rc < 0)
        return rc;
    t->filter->time_base_in = t->in_time_base;
    return av_bsf_init(t->filter);
}

static int open_decoder(struct l2d_audio_track *t)
{
    const AVCodec *codec = avcodec_find_decoder(t->in->codec_id);
    if (!codec)
        return AVERROR_DECODER_NOT_FOUND;
    t->dec = avcodec_alloc_context3(codec);
    if (!t->dec)
        return AVERROR(ENOMEM);
    int rc = avcodec_parameters_to_context(t->dec, t->in);
    t->dec->pkt_timebase = t->in_time_base;
    return rc < 0 ? rc : avcodec_open2(t->dec, codec, NULL);
}

static int open_encoder(struct l2d_audio_track *t, const AVCodec *codec,
                        const AVOutputFormat *format, const AVChannelLayout *layout)
{
    t->enc = avcodec_alloc_context3(codec);
    if (!t->enc)
        return AVERROR(ENOMEM);
    t->enc->sample_fmt = codec->sample_fmts ? codec->sample_fmts[0] : AV_SAMPLE_FMT_S16;
    bool is_mxf = !strncmp(format->name, "mxf", 3);     // its muxer knows one rate
    t->enc->sample_rate = is_mxf ? 48000 : nearest_rate(codec, t->in->sample_rate);
    t->enc->time_base = (AVRational) { 1, t->enc->sample_rate };
    int rc = choose_layout(codec, layout, &t->enc->ch_layout);
    if (rc < 0)
        return rc;
    t->enc->bit_rate = (int64_t) BITS_PER_CHANNEL * t->enc->ch_layout.nb_channels;
    if (format->flags & AVFMT_GLOBALHEADER)
        t->enc->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    int channels = t->enc->ch_layout.nb_channels;
    rc = avcodec_open2(t->enc, codec, NULL);
    if (rc == AVERROR(EINVAL) && channels > 2) {
        avcodec_free_context(&t->enc);          // Opus knows but some layouts, and lists none
        return open_encoder(t, codec, format, &(AVChannelLayout) AV_CHANNEL_LAYOUT_STEREO);
    }
    if (rc < 0)
        return rc;
    t->fifo = av_audio_fifo_alloc(t->enc->sample_fmt, t->enc->ch_layout.nb_channels, 4096);
    t->decoded = av_frame_alloc();
    t->chunk = av_frame_alloc();
    return t->fifo && t->decoded && t->chunk ? 0 : AVERROR(ENOMEM);
}

int l2d_audio_track_create(struct l2d_audio_track **out, const struct l2d_audio_info *info,
                           const AVOutputFormat *format, const char *name,
                           const struct l2d_log *log, struct l2d_error *err)
{
    *out = NULL;
    const char *codec = avcodec_get_name(info->codecpar->codec_id);
    bool counted = l2d_audio_track_is_counted(format);
    bool gapless = counted ||
                   (!strcmp(format->name, "mov") && is_pcm(info->codecpar->codec_id));
    bool copy = !gapless &&
                takes_sound(format, info->codecpar->codec_id, info->codecpar->sample_rate);
    const AVCodec *encoder = copy ? NULL : choose_encoder(format, info->codecpar->codec_id,
                                                          info->codecpar->sample_rate);
    if (!copy && !encoder) {
        l2d_log_print(log, L2D_LOG_WARN, "%s: format %s holds no sound; the input's is left out",
                      name, format->name);
        return L2D_OK;
    }
    struct l2d_audio_track *t = calloc(1, sizeof(*t));
    if (!t)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", name);
    t->log = *log;
    t->name = name;
    t->counted = counted;
    t->gapless = gapless;
    t->in = info->codecpar;
    t->in_time_base = (AVRational) { info->time_base_num, info->time_base_den };
    t->pkt = av_packet_alloc();
    int av = t->pkt ? 0 : AVERROR(ENOMEM);
    if (copy && av >= 0)
        av = open_filter(t, format);
    if (!copy && av >= 0)
        av = open_decoder(t);
    if (!copy && av >= 0)
        av = open_encoder(t, encoder, format, &t->in->ch_layout);
    if (av == AVERROR(ENOMEM)) {
        l2d_audio_track_destroy(&t);
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", name);
    }
    if (av < 0) {
        char why[AV_ERROR_MAX_STRING_SIZE] = "";
        av_strerror(av, why, sizeof(why));
        l2d_log_print(log, L2D_LOG_WARN, "%s: sound is left out: %s cannot be put into %s (%s)",
                      name, codec, format->name, why);
        l2d_audio_track_destroy(&t);
        return L2D_OK;
    }
    if (!copy && encoder->id != info->codecpar->codec_id)
        l2d_log_print(log, L2D_LOG_INFO, "%s: format %s does not hold %s%s; sound is encoded as %s",
                      name, format->name, codec, counted ? " with its times" : "",
                      avcodec_get_name(encoder->id));
    *out = t;
    return L2D_OK;
}

void l2d_audio_track_destroy(struct l2d_audio_track **track)
{
    struct l2d_audio_track *t = *track;
    *track = NULL;
    if (!t)
        return;
    if (t->damaged)
        l2d_log_print(&t->log, L2D_LOG_WARN, "%s: %llu damaged packets of sound were left out",
                      t->name, (unsigned long long) t->damaged);
    av_packet_free(&t->pkt);
    av_bsf_free(&t->filter);
    avcodec_free_context(&t->dec);
    avcodec_free_context(&t->enc);
    av_frame_free(&t->decoded);
    av_frame_free(&t->chunk);
    swr_free(&t->swr);
    av_channel_layout_uninit(&t->swr_layout);
    av_audio_fifo_free(t->fifo);
    free(t);
}

int l2d_audio_track_describe(const struct l2d_audio_track *track, AVStream *st,
                             struct l2d_error *err)
{
    int av = track->enc ? avcodec_parameters_from_context(st->codecpar, track->enc)
                        : avcodec_parameters_copy(st->codecpar, track->in);
    if (av < 0)
        return l2d_libav_error(err, av, "%s: sound", track->name);
    if (!track->enc)
        st->codecpar->codec_tag = 0;        // the number is the input container's
    st->time_base = track->enc ? track->enc->time_base : track->in_time_base;
    return L2D_OK;
}

static int encode(struct l2d_audio_track *t, AVFrame *frame, l2d_packet_fn *emit, void *user,
                  struct l2d_error *err)
{
    int av = avcodec_send_frame(t->enc, frame);
    while (av >= 0) {
        av = avcodec_receive_packet(t->enc, t->pkt);
        if (av >= 0) {
            int rc = emit(user, t->pkt, t->enc->time_base, err);
            if (rc != L2D_OK)
                return rc;
        }
    }
    if (av == AVERROR(EAGAIN) || av == AVERROR_EOF)
        return L2D_OK;
    return l2d_libav_error(err, av, "%s: encoder %s", t->name, t->enc->codec->name);
}

static int frame_size(const struct l2d_audio_track *t)
{
    return t->enc->frame_size > 0 ? t->enc->frame_size : 1024;
}

// Whole encoder frames, or with all set whatever is left.
static int drain_fifo(struct l2d_audio_track *t, bool all, l2d_packet_fn *emit, void *user,
                      struct l2d_error *err)
{
    int size = frame_size(t), have;
    while ((have = av_audio_fifo_size(t->fifo)) >= size || (all && have > 0)) {
        AVFrame *f = t->chunk;
        f->nb_samples = have < size ? have : size;
        f->format = t->enc->sample_fmt;
        f->sample_rate = t->enc->sample_rate;
        int av = av_channel_layout_copy(&f->ch_layout, &t->enc->ch_layout);
        if (av >= 0)
            av = av_frame_get_buffer(f, 0);
        if (av >= 0)
            av = av_audio_fifo_read(t->fifo, (void **) f->extended_data, f->nb_samples);
        if (av < 0) {
            av_frame_unref(f);
            return l2d_libav_error(err, av, "%s: sound", t->name);
        }
        f->pts = t->next_pts;
        t->next_pts += f->nb_samples;
        int rc = encode(t, f, emit, user, err);
        av_frame_unref(f);
        if (rc != L2D_OK)
            return rc;
    }
    return L2D_OK;
}

// What in becomes, into the fifo; NULL: the resampler's tail.
static int resample(struct l2d_audio_track *t, const AVFrame *in, struct l2d_error *err)
{
    const uint8_t **data = in ? (const uint8_t **) in->extended_data : NULL;
    int count = in ? in->nb_samples : 0;
    AVFrame *f = t->chunk;
    f->nb_samples = swr_get_out_samples(t->swr, count) + 1;
    f->format = t->enc->sample_fmt;
    f->sample_rate = t->enc->sample_rate;
    int av = av_channel_layout_copy(&f->ch_layout, &t->enc->ch_layout);
    if (av >= 0)
        av = av_frame_get_buffer(f, 0);
    if (av >= 0)
        av = swr_convert(t->swr, f->extended_data, f->nb_samples, data, count);
    if (av > 0)
        av = av_audio_fifo_write(t->fifo, (void **) f->extended_data, av);
    av_frame_unref(f);
    return av < 0 ? l2d_libav_error(err, av, "%s: resampling sound", t->name) : L2D_OK;
}

// Nobody knows what many channels without a layout are: the first ones are kept.
static int keep_first(struct SwrContext *swr, int from, int to)
{
    double *matrix = calloc((size_t) from * (size_t) to, sizeof(*matrix));
    if (!matrix)
        return AVERROR(ENOMEM);
    for (int i = 0; i < to && i < from; i++)
        matrix[i * from + i] = 1;
    int av = swr_set_matrix(swr, matrix, from);
    free(matrix);
    return av;
}

static int open_resampler(struct l2d_audio_track *t, const AVFrame *f, struct l2d_error *err)
{
    if (t->swr && t->swr_format == f->format && t->swr_rate == f->sample_rate &&
        !av_channel_layout_compare(&t->swr_layout, &f->ch_layout))
        return L2D_OK;
    if (t->swr) {
        int rc = resample(t, NULL, err);
        if (rc != L2D_OK)
            return rc;
    }
    swr_free(&t->swr);
    AVChannelLayout in = { 0 };
    if (f->ch_layout.order == AV_CHANNEL_ORDER_UNSPEC)
        av_channel_layout_default(&in, f->ch_layout.nb_channels);
    else
        av_channel_layout_copy(&in, &f->ch_layout);
    int av = swr_alloc_set_opts2(&t->swr, &t->enc->ch_layout, t->enc->sample_fmt,
                                 t->enc->sample_rate, &in, f->format, f->sample_rate, 0, NULL);
    if (av >= 0 && in.order == AV_CHANNEL_ORDER_UNSPEC)
        av = keep_first(t->swr, in.nb_channels, t->enc->ch_layout.nb_channels);
    av_channel_layout_uninit(&in);
    if (av >= 0)
        av = av_opt_set_double(t->swr, "async", 1, 0);
    if (av >= 0)
        av = swr_init(t->swr);
    if (av < 0)
        return l2d_libav_error(err, av, "%s: resampling sound", t->name);
    t->swr_format = f->format;
    t->swr_rate = f->sample_rate;
    av_channel_layout_copy(&t->swr_layout, &f->ch_layout);
    return L2D_OK;
}

// The sound of before ends, in silence up to the end of an encoder's frame; the next begins at pts.
static int skip_gap(struct l2d_audio_track *t, int64_t pts, l2d_packet_fn *emit, void *user,
                    struct l2d_error *err)
{
    int64_t silence = av_rescale_rnd(frame_size(t), t->swr_rate, t->enc->sample_rate, AV_ROUND_UP);
    int av = swr_inject_silence(t->swr, (int) silence);
    int rc = av < 0 ? l2d_libav_error(err, av, "%s: resampling sound", t->name)
                    : resample(t, NULL, err);
    if (rc == L2D_OK)
        rc = drain_fifo(t, false, emit, user, err);
    av_audio_fifo_reset(t->fifo);
    swr_free(&t->swr);
    t->next_pts = pts;
    return rc;
}

// What is counted has silence up to pts.
static int fill_up_to(struct l2d_audio_track *t, int64_t pts, l2d_packet_fn *emit, void *user,
                      struct l2d_error *err)
{
    int rc = t->swr ? resample(t, NULL, err) : L2D_OK;
    swr_free(&t->swr);
    int64_t left;
    while (rc == L2D_OK && (left = pts - t->next_pts - av_audio_fifo_size(t->fifo)) > 0) {
        AVFrame *f = t->chunk;
        f->nb_samples = left < frame_size(t) ? (int) left : frame_size(t);
        f->format = t->enc->sample_fmt;
        int channels = t->enc->ch_layout.nb_channels;
        int av = av_channel_layout_copy(&f->ch_layout, &t->enc->ch_layout);
        if (av >= 0)
            av = av_frame_get_buffer(f, 0);
        if (av >= 0)
            av = av_samples_set_silence(f->extended_data, 0, f->nb_samples, channels, f->format);
        if (av >= 0)
            av = av_audio_fifo_write(t->fifo, (void **) f->extended_data, f->nb_samples);
        av_frame_unref(f);
        rc = av < 0 ? l2d_libav_error(err, av, "%s: silence", t->name)
                    : drain_fifo(t, false, emit, user, err);
    }
    return rc;
}

static int take_decoded(struct l2d_audio_track *t, const AVFrame *f, l2d_packet_fn *emit,
                        void *user, struct l2d_error *err)
{
    bool timed = f->best_effort_timestamp != AV_NOPTS_VALUE;
    int64_t pts = timed ? av_rescale_q(f->best_effort_timestamp, t->in_time_base, t->enc->time_base)
                        : 0;
    int64_t end = t->next_pts + av_audio_fifo_size(t->fifo) +
                  (t->swr ? swr_get_delay(t->swr, t->enc->sample_rate) : 0);
    bool gap = timed && t->swr && pts - end > LONG_GAP_S * t->enc->sample_rate;
    int rc = L2D_OK;
    if (t->gapless && (gap || (t->counted && timed && !t->started)))
        rc = fill_up_to(t, pts, emit, user, err);
    else if (gap)
        rc = skip_gap(t, pts, emit, user, err);
    if (rc == L2D_OK)
        rc = open_resampler(t, f, err);
    if (rc != L2D_OK)
        return rc;
    if (timed) {
        // swr counts in 1/(input rate * output rate), which need not fit an AVRational
        int64_t fine = (int64_t) f->sample_rate * t->enc->sample_rate * t->in_time_base.num;
        swr_next_pts(t->swr, av_rescale(f->best_effort_timestamp, fine, t->in_time_base.den));
        if (!t->started && !t->counted)
            t->next_pts = pts;
    }
    t->started = true;
    return resample(t, f, err);
}

static int transcode(struct l2d_audio_track *t, const AVPacket *pkt, l2d_packet_fn *emit,
                     void *user, struct l2d_error *err)
{
    int av = avcodec_send_packet(t->dec, pkt);
    if (av < 0 && av != AVERROR_INVALIDDATA && av != AVERROR_EOF)
        l2d_log_print(&t->log, L2D_LOG_DEBUG, "%s: a packet of sound was skipped", t->name);
    for (;;) {
        av = avcodec_receive_frame(t->dec, t->decoded);
        if (av < 0)
            break;
        int rc = take_decoded(t, t->decoded, emit, user, err);
        av_frame_unref(t->decoded);
        if (rc == L2D_OK)
            rc = drain_fifo(t, false, emit, user, err);
        if (rc != L2D_OK)
            return rc;
    }
    return L2D_OK;
}

// Another rate or other channels than what the container has been told.
static bool is_of_other_format(struct l2d_audio_track *t)
{
    const uint8_t *p = t->pkt->data;
    if (t->pkt->size < 7 || p[0] != 0xff || (p[1] & 0xf6) != 0xf0)
        return false;
    unsigned bits = (p[2] & 0xfdu) << 8 | (p[3] & 0xc0u);
    t->format_bits = t->format_bits ? t->format_bits : bits;
    if (bits != t->format_bits && !t->told_format)
        l2d_log_print(&t->log, L2D_LOG_WARN, "%s: sound of another rate or number of channels is "
                      "left out", t->name);
    t->told_format |= bits != t->format_bits;
    return bits != t->format_bits;
}

static int filter(struct l2d_audio_track *t, l2d_packet_fn *emit, void *user, struct l2d_error *err)
{
    if (is_of_other_format(t)) {
        av_packet_unref(t->pkt);
        return L2D_OK;
    }
    int av = av_bsf_send_packet(t->filter, t->pkt);
    while (av >= 0) {
        av = av_bsf_receive_packet(t->filter, t->pkt);
        int rc = av >= 0 ? emit(user, t->pkt, t->in_time_base, err) : L2D_OK;
        if (rc != L2D_OK)
            return rc;
    }
    av_packet_unref(t->pkt);
    if (av == AVERROR(ENOMEM))
        return l2d_libav_error(err, av, "%s: sound", t->name);
    if (av != AVERROR(EAGAIN) && t->damaged++ == 0)
        l2d_log_print(&t->log, L2D_LOG_WARN, "%s: a damaged packet of sound is left out", t->name);
    return L2D_OK;
}

int l2d_audio_track_push(struct l2d_audio_track *track, const AVPacket *pkt, l2d_packet_fn *emit,
                         void *user, struct l2d_error *err)
{
    if (track->enc)
        return transcode(track, pkt, emit, user, err);
    int av = av_packet_ref(track->pkt, pkt);
    if (av < 0)
        return l2d_libav_error(err, av, "%s: sound", track->name);
    return track->filter ? filter(track, emit, user, err)
                         : emit(user, track->pkt, track->in_time_base, err);
}

int l2d_audio_track_end(struct l2d_audio_track *track, int64_t end_us, l2d_packet_fn *emit,
                        void *user, struct l2d_error *err)
{
    struct l2d_audio_track *t = track;
    if (!t->enc)
        return L2D_OK;
    int rc = transcode(t, NULL, emit, user, err);
    if (rc == L2D_OK && t->counted)
        rc = fill_up_to(t, av_rescale(end_us, t->enc->sample_rate, 1000000), emit, user, err);
    else if (rc == L2D_OK && t->swr)
        rc = resample(t, NULL, err);
    if (rc == L2D_OK)
        rc = drain_fifo(t, true, emit, user, err);
    return rc == L2D_OK ? encode(t, NULL, emit, user, err) : rc;
}
