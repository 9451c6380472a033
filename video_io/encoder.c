// SPDX-License-Identifier: Apache-2.0
// Choice, settings and running of the video encoder. See encoder.h.
#include "video_io/encoder.h"

#include <stdlib.h>
#include <string.h>

#include <libavutil/avstring.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

#include "video_io/av_compat.h"
#include "video_io/hardware.h"
#include "video_io/libav.h"
#include "video_io/pixfmt.h"

#define MAX_DELAY 256           // frames inside an encoder, of which durations are remembered

struct l2d_encoder {
    struct l2d_log log;
    const char *name;           // of the output; the caller's
    AVCodecContext *ctx;
    struct SwsContext *sws;     // where the codec does not take yuv420p
    AVFrame *picture, *converted, *uploaded;
    AVPacket *pkt;
    struct { int64_t pts, duration; } timing[MAX_DELAY];
    bool ended;                 // it was told so
    unsigned num_timing;        // ever put in; the ring holds the last MAX_DELAY
};

static const char *const h264_formats[] = {
    "mp4", "mov", "ipod", "3gp", "3g2", "f4v", "ismv", "matroska", "flv", "mpegts", "rtp_mpegts",
    "hls", "dash", "rtsp", "segment",
};

// Tried in this order; the first that opens is taken.
static const char *const h264_encoders[] = { "libx264", "libopenh264", "mpeg4", NULL };
static const char *const webm_encoders[] = { "libvpx-vp9", "libvpx", NULL };

static const char *const *preferred_encoders(const AVOutputFormat *format)
{
    if (format->video_codec == AV_CODEC_ID_NONE && format->audio_codec != AV_CODEC_ID_NONE)
        return NULL;                    // .mka is Matroska by name too
    for (size_t i = 0; i < sizeof(h264_formats) / sizeof(*h264_formats); i++)
        if (!strcmp(format->name, h264_formats[i]))
            return h264_encoders;
    return !strcmp(format->name, "webm") ? webm_encoders : NULL;
}

static bool is_one_of(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(name, *list))
            return true;
    return false;
}

static void default_options(const AVCodec *codec, const struct l2d_sink_params *p, bool live,
                            AVCodecContext *ctx, AVDictionary **opts)
{
    static const char *const x26x[] = { "libx264", "libx264rgb", "libx265", NULL };
    static const char *const quantised[] = { "mpeg4", "mjpeg", "mpeg2video", "mpeg1video",
                                             "libtheora", "msmpeg4", "flv", NULL };
    double rate = av_q2d(ctx->framerate);
    if (live) {
        ctx->gop_size = (int) (2 * rate + 0.5) > 0 ? (int) (2 * rate + 0.5) : 1;
        ctx->max_b_frames = 0;
    }
    if (is_one_of(codec->name, x26x)) {
        av_dict_set(opts, "crf", !strcmp(codec->name, "libx265") ? "22" : "18", 0);
        av_dict_set(opts, "preset", live ? "veryfast" : "medium", 0);
        if (live)
            av_dict_set(opts, "tune", "zerolatency", 0);
        if (!strcmp(codec->name, "libx265"))    // prints by itself; the user's follow
            av_dict_set(opts, "x265-params", "log-level=none:", 0);
    } else if (!strncmp(codec->name, "libvpx", 6)) {
        av_dict_set(opts, "crf", !strcmp(codec->name, "libvpx") ? "10" : "28", 0);
        av_dict_set(opts, "b", !strcmp(codec->name, "libvpx") ? "4M" : "0", 0);
        av_dict_set(opts, "deadline", live ? "realtime" : "good", 0);
        av_dict_set(opts, "cpu-used", live ? "8" : "3", 0);
    } else if (is_one_of(codec->name, quantised)) {
        ctx->flags |= AV_CODEC_FLAG_QSCALE;
        // Theora's scale goes up to 10, the others' down to 1.
        ctx->global_quality = (codec->id == AV_CODEC_ID_THEORA ? 8 : 3) * FF_QP2LAMBDA;
    } else {
        if (live && strstr(codec->name, "_nvenc")) {
            av_dict_set(opts, "tune", "ll", 0);
            av_dict_set(opts, "delay", "0", 0);
        } else if (live && strstr(codec->name, "_qsv")) {
            av_dict_set(opts, "async_depth", "1", 0);
        }
        ctx->bit_rate = (int64_t) (0.15 * p->width * p->height * rate) + 200000;
    }
}

// Bits asked for by rate exclude the default of bits by quality.
static int user_options(const char *text, AVDictionary **opts, struct l2d_error *err)
{
    AVDictionary *user = NULL;
    if (text && av_dict_parse_string(&user, text, "=", ":", 0) < 0) {
        av_dict_free(&user);
        return l2d_error_set(err, L2D_EINVAL, "encoder options '%s': expected key=value:key=value",
                             text);
    }
    if (av_dict_get(user, "b", NULL, 0) || av_dict_get(user, "qp", NULL, 0))
        av_dict_set(opts, "crf", NULL, 0);
    const AVDictionaryEntry *x265 = av_dict_get(user, "x265-params", NULL, 0);
    if (x265 && av_dict_get(*opts, "x265-params", NULL, 0)) {
        av_dict_set(opts, "x265-params", x265->value, AV_DICT_APPEND);
        av_dict_set(&user, "x265-params", NULL, 0);
    }
    av_dict_copy(opts, user, 0);
    av_dict_free(&user);
    return L2D_OK;
}

// Whatever the size of a picture, players take it for BT.601.
static bool has_one_matrix(enum AVCodecID id)
{
    return id == AV_CODEC_ID_VP8 || id == AV_CODEC_ID_THEORA || id == AV_CODEC_ID_MPEG1VIDEO ||
           id == AV_CODEC_ID_WEBP || id == AV_CODEC_ID_TIFF;
}

static enum AVPixelFormat pixel_format_for(const AVCodec *codec, const AVOutputFormat *format)
{
    const enum AVPixelFormat *list = codec->pix_fmts, want = AV_PIX_FMT_YUV420P;
    if (l2d_hardware_needs_upload(codec))
        return list[0];
    if (codec->id == AV_CODEC_ID_MJPEG)
        return AV_PIX_FMT_YUVJ420P;             // JPEG is full range
    if (codec->id == AV_CODEC_ID_JPEG2000)
        return AV_PIX_FMT_RGB24;                // its files do not tell a range, and mean full
    if (codec->id == AV_CODEC_ID_RAWVIDEO && !strcmp(format->name, "mov"))
        return AV_PIX_FMT_UYVY422;              // QuickTime knows no planes
    for (int i = 0; list && list[i] != AV_PIX_FMT_NONE; i++)
        if (list[i] == want)
            return want;
    return list ? avcodec_find_best_pix_fmt_of_list(list, want, 0, NULL) : want;
}

// What counts its pictures: AVI, Y4M, Theora, and MPEG-1 and -2, which know certain rates only.
// The list of the latter also has rates below 20, which no standard knows.
static void choose_constant_rate(struct l2d_encoder *e, const AVCodec *codec, const char *who,
                                 struct l2d_sink_params *p, AVRational rate)
{
    AVRational best = codec->supported_framerates ? (AVRational) { 25, 1 } : rate;
    for (const AVRational *r = codec->supported_framerates; r && r->num; r++)
        if (av_q2d(*r) > 20 && av_nearer_q(rate, *r, best) > 0)
            best = *r;
    l2d_log_print(&e->log, L2D_LOG_INFO, "%s: %s needs a constant rate; writing %.3f frames/s",
                  e->name, who, av_q2d(best));
    p->fps_num = best.num;
    p->fps_den = best.den;
}

static int fill_context(struct l2d_encoder *e, const AVCodec *codec, struct l2d_sink_params *p,
                        const AVOutputFormat *format, struct l2d_error *err)
{
    AVCodecContext *c = e->ctx;
    AVRational rate = p->fps_num ? (AVRational) { p->fps_num, p->fps_den }
                                 : (AVRational) { p->frame_rate_num, p->frame_rate_den };
    if (rate.num <= 0 || rate.den <= 0)
        rate = (AVRational) { 25, 1 };
    bool counts = !strcmp(format->name, "avi") || !strcmp(format->name, "yuv4mpegpipe");
    if (codec->supported_framerates ||
        ((counts || codec->id == AV_CODEC_ID_THEORA) && !p->fps_num))
        choose_constant_rate(e, codec, counts ? format->name : codec->name, p, rate);
    if (p->fps_num)
        rate = (AVRational) { p->fps_num, p->fps_den };
    c->width = p->width;
    c->height = p->height;
    c->pix_fmt = pixel_format_for(codec, format);
    if (av_image_check_size2(p->width, p->height, INT64_MAX, c->pix_fmt, 0, NULL) < 0)
        return l2d_error_set(err, L2D_EINVAL, "%s: %dx%d is more than FFmpeg's encoders take",
                             e->name, p->width, p->height);
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(c->pix_fmt);
    bool block_codec = codec->id == AV_CODEC_ID_H264 || codec->id == AV_CODEC_ID_HEVC;
    if (block_codec && ((p->width & ((1 << d->log2_chroma_w) - 1)) ||
                        (p->height & ((1 << d->log2_chroma_h) - 1))))
        return l2d_error_set(err, L2D_EINVAL, "%s: %dx%d is odd; %s in %s needs an even width and "
                             "height", e->name, p->width, p->height, codec->name, d->name);
    c->framerate = rate;
    // Where the format has no time, H.264 tells its ticks for the rate.
    c->time_base = p->fps_num || format->flags & AVFMT_NOTIMESTAMPS
                 ? av_inv_q(rate) : (AVRational) { p->time_base_num, p->time_base_den };
    // MPEG-4's clock has 16 bits; 60000 holds 24, 25, 30, 50, 60 and their NTSC kin.
    if (codec->id == AV_CODEC_ID_MPEG4 && c->time_base.den > 65535)
        c->time_base = (AVRational) { 1, 60000 };
    c->sample_aspect_ratio = p->sar_num > 0 && p->sar_den > 0
                             ? (AVRational) { p->sar_num, p->sar_den } : (AVRational) { 1, 1 };
    c->thread_count = 0;
    if (format->flags & AVFMT_GLOBALHEADER)
        c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;

    // The same tags as a picture's: take them from one.
    struct l2d_frame *tagged = NULL;
    struct l2d_pixel_format i420 = l2d_pixel_format_i420(p->matrix, p->full_range);
    int rc = l2d_frame_create(&tagged, 2, 2, &i420, err);
    if (rc == L2D_OK)
        rc = l2d_pixfmt_export(tagged, e->picture, err);
    l2d_frame_unref(&tagged);
    if (rc != L2D_OK)
        return rc;
    c->color_range = e->picture->color_range;
    c->colorspace = e->picture->colorspace;
    c->color_primaries = e->picture->color_primaries;
    c->color_trc = e->picture->color_trc;
    c->chroma_sample_location = e->picture->chroma_location;
    if (d->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) {
        c->color_range = AVCOL_RANGE_JPEG;
        c->colorspace = AVCOL_SPC_RGB;
    } else if (d->nb_components == 1) {                 // PGM has no other range
        c->color_range = AVCOL_RANGE_JPEG;
    } else if (c->pix_fmt == AV_PIX_FMT_YUVJ420P) {     // of JPEG, which has no other matrix
        c->color_range = AVCOL_RANGE_JPEG;
        c->colorspace = AVCOL_SPC_BT470BG;
    } else if (has_one_matrix(codec->id)) {
        c->colorspace = AVCOL_SPC_SMPTE170M;
    }
    av_frame_unref(e->picture);
    return L2D_OK;
}

static int open_codec(struct l2d_encoder *e, const AVCodec *codec, struct l2d_sink_params *p,
                      const AVOutputFormat *format, bool live, struct l2d_error *err)
{
    avcodec_free_context(&e->ctx);
    e->ctx = avcodec_alloc_context3(codec);
    if (!e->ctx)
        return l2d_error_set(err, L2D_ENOMEM, "encoder %s: out of memory", codec->name);
    int rc = fill_context(e, codec, p, format, err);
    if (rc != L2D_OK)
        return rc;
    AVDictionary *opts = NULL;
    default_options(codec, p, live, e->ctx, &opts);
    rc = user_options(p->codec_options, &opts, err);
    if (rc == L2D_OK) {
        int av = l2d_hardware_needs_upload(codec) ? l2d_hardware_attach(e->ctx) : 0;
        if (av >= 0)
            av = avcodec_open2(e->ctx, codec, &opts);
        const AVDictionaryEntry *left = av_dict_get(opts, "", NULL, AV_DICT_IGNORE_SUFFIX);
        if (av < 0)
            rc = l2d_libav_error(err, av, "%s: encoder %s refuses %dx%d%s%s", e->name, codec->name,
                                 p->width, p->height, p->codec_options ? " with " : "",
                                 p->codec_options ? p->codec_options : "");
        if (av == AVERROR(EINVAL) && p->codec_options) {
            rc = L2D_EINVAL;
            if (err)
                err->code = L2D_EINVAL;
        } else if (av >= 0 && left)
            rc = l2d_error_set(err, L2D_EINVAL, "encoder %s has no option '%s'; 'ffmpeg -h "
                               "encoder=%s' lists them", codec->name, left->key, codec->name);
    }
    av_dict_free(&opts);
    return rc;
}

// Matroska does not list what it holds as AVI does, under a FourCC. MOV lists what only MP4 may
// hold.
static bool takes_video(const AVOutputFormat *format, enum AVCodecID id)
{
    static const enum AVCodecID mpegts[] = {
        AV_CODEC_ID_H264, AV_CODEC_ID_HEVC, AV_CODEC_ID_MPEG1VIDEO, AV_CODEC_ID_MPEG2VIDEO,
        AV_CODEC_ID_MPEG4, AV_CODEC_ID_CAVS, AV_CODEC_ID_AVS2, AV_CODEC_ID_AVS3,
        AV_CODEC_ID_DIRAC, AV_CODEC_ID_VC1,
    };
    const struct AVCodecTag *const riff[] = { avformat_get_riff_video_tags(), NULL };
    unsigned fourcc;
    if (!strcmp(format->name, "mov") &&
        (id == AV_CODEC_ID_VP8 || id == AV_CODEC_ID_VP9 || id == AV_CODEC_ID_AV1))
        return false;
    int takes = avformat_query_codec(format, id, FF_COMPLIANCE_NORMAL);
    if (takes == 0 && !strcmp(format->name, "matroska"))
        return av_codec_get_tag2(riff, id, &fourcc);
    if (takes >= 0 || !av_match_name(format->name, L2D_TS_MUXERS))
        return takes != 0;
    for (size_t i = 0; i < sizeof(mpegts) / sizeof(*mpegts); i++)
        if (mpegts[i] == id)
            return true;
    return false;
}

static int open_named(struct l2d_encoder *e, struct l2d_sink_params *p,
                      const AVOutputFormat *format, bool live, struct l2d_error *err)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(p->codec);
    if (!codec || codec->type != AVMEDIA_TYPE_VIDEO)
        return l2d_error_set(err, L2D_EINVAL, "no video encoder '%s'; 'ffmpeg -encoders' lists "
                             "them", p->codec);
    if (!takes_video(format, codec->id))
        return l2d_error_set(err, L2D_EINVAL, "%s: format %s cannot hold %s", e->name, format->name,
                             avcodec_get_name(codec->id));
    return open_codec(e, codec, p, format, live, err);
}

static int open_preferred(struct l2d_encoder *e, struct l2d_sink_params *p,
                          const AVOutputFormat *format, const char *const *list, bool live,
                          struct l2d_error *err)
{
    int rc = L2D_EUNSUPPORTED;
    bool tried = false;
    for (const char *const *name = list; *name; name++) {
        const AVCodec *codec = avcodec_find_encoder_by_name(*name);
        if (!codec || avformat_query_codec(format, codec->id, FF_COMPLIANCE_NORMAL) == 0)
            continue;
        tried = true;
        rc = open_codec(e, codec, p, format, live, err);
        if (rc == L2D_OK && name != list)
            l2d_log_print(&e->log, L2D_LOG_WARN, "%s: encoder %s is missing; using %s", e->name,
                          list[0], *name);
        if ((rc != L2D_EUNSUPPORTED && rc != L2D_EIO) || p->codec_options)
            break;                      // options are for the first
    }
    if (!tried)
        l2d_error_set(err, rc, "%s: this build of FFmpeg has none of the encoders for %s (%s, ...)",
                      e->name, format->name, list[0]);
    return rc;
}

static int open_default(struct l2d_encoder *e, struct l2d_sink_params *p,
                        const AVOutputFormat *format, bool live, struct l2d_error *err)
{
    enum AVCodecID id = av_guess_codec(format, NULL, e->name, NULL, AVMEDIA_TYPE_VIDEO);
    bool cover_only = id == AV_CODEC_ID_PNG && format->audio_codec != AV_CODEC_ID_NONE;
    if (id == AV_CODEC_ID_NONE || cover_only)
        return l2d_error_set(err, L2D_EINVAL, "%s: format %s holds no video; use .mp4 or .mkv, or "
                             "name a format", e->name, format->name);
    const AVCodec *codec = avcodec_find_encoder(id);
    if (id == AV_CODEC_ID_WEBP && !strcmp(format->name, "image2"))   // not all of them in the first
        codec = avcodec_find_encoder_by_name("libwebp");
    if (!codec)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "%s: this build of FFmpeg has no encoder for "
                             "%s", e->name, avcodec_get_name(id));
    return open_codec(e, codec, p, format, live, err);
}

// Hardware where there is some, else what would be taken anyway.
static int open_hardware(struct l2d_encoder *e, struct l2d_sink_params *p,
                         const AVOutputFormat *format, bool live, struct l2d_error *err)
{
    if (avformat_query_codec(format, AV_CODEC_ID_H264, FF_COMPLIANCE_NORMAL) == 0)
        return L2D_EUNSUPPORTED;
    for (const char *const *name = l2d_hardware_encoders; *name; name++) {
        const AVCodec *codec = avcodec_find_encoder_by_name(*name);
        struct l2d_error why = { 0 };
        int rc = codec ? open_codec(e, codec, p, format, live, &why)
                       : l2d_error_set(&why, L2D_EUNSUPPORTED, "not in this build of FFmpeg");
        if (rc == L2D_ENOMEM)
            return l2d_error_set(err, rc, "%s", why.msg);
        l2d_log_print(&e->log, rc == L2D_OK ? L2D_LOG_INFO : L2D_LOG_DEBUG, "%s: encoder %s%s%s",
                      e->name, *name, rc == L2D_OK ? "" : ": ", why.msg);
        if (rc == L2D_OK)
            return L2D_OK;
    }
    l2d_log_print(&e->log, L2D_LOG_INFO, "%s: no encoder in hardware (h264_nvenc, h264_vaapi, "
                  "h264_qsv); using software", e->name);
    return L2D_EUNSUPPORTED;
}

static int open_any(struct l2d_encoder *e, struct l2d_sink_params *p, const AVOutputFormat *format,
                    bool live, struct l2d_error *err)
{
    const char *const *preferred = preferred_encoders(format);
    bool automatic = p->codec && !strcmp(p->codec, "auto");
    if (p->codec && !automatic)
        return open_named(e, p, format, live, err);
    int rc = automatic ? open_hardware(e, p, format, live, err) : L2D_EUNSUPPORTED;
    if (rc == L2D_OK || rc == L2D_ENOMEM)
        return rc;
    return preferred ? open_preferred(e, p, format, preferred, live, err)
                     : open_default(e, p, format, live, err);
}

int l2d_encoder_create(struct l2d_encoder **out, struct l2d_sink_params *params,
                       const AVOutputFormat *format, const char *name, bool live,
                       const struct l2d_log *log, struct l2d_error *err)
{
    struct l2d_encoder *e = calloc(1, sizeof(*e));
    if (!e)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", name);
    e->log = *log;
    e->name = name;
    e->picture = av_frame_alloc();
    e->converted = av_frame_alloc();
    e->uploaded = av_frame_alloc();
    e->pkt = av_packet_alloc();
    int rc = !e->picture || !e->converted || !e->uploaded || !e->pkt
             ? l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", name)
             : open_any(e, params, format, live, err);
    if (rc != L2D_OK) {
        l2d_encoder_destroy(&e);
        return rc;
    }
    l2d_log_print(&e->log, L2D_LOG_DEBUG, "%s: %dx%d, %s, %s, time base %d/%d", name, e->ctx->width,
                  e->ctx->height, e->ctx->codec->name, av_get_pix_fmt_name(e->ctx->pix_fmt),
                  e->ctx->time_base.num, e->ctx->time_base.den);
    *out = e;
    return L2D_OK;
}

// SVT-AV1 waits for ever when it is closed without having ended, and ends only after a picture.
static void end_quietly(struct l2d_encoder *e)
{
    AVCodecContext *c = e->ctx;
    if (!c || !avcodec_is_open(c) || e->ended || strcmp(c->codec->name, "libsvtav1"))
        return;
    e->picture->format = c->pix_fmt;
    e->picture->width = c->width;
    e->picture->height = c->height;
    if (e->num_timing == 0 && av_frame_get_buffer(e->picture, 0) >= 0)
        avcodec_send_frame(c, e->picture);
    avcodec_send_frame(c, NULL);
    while (avcodec_receive_packet(c, e->pkt) >= 0)
        av_packet_unref(e->pkt);
}

void l2d_encoder_destroy(struct l2d_encoder **encoder)
{
    struct l2d_encoder *e = *encoder;
    *encoder = NULL;
    if (!e)
        return;
    end_quietly(e);
    avcodec_free_context(&e->ctx);
    sws_freeContext(e->sws);
    av_frame_free(&e->picture);
    av_frame_free(&e->converted);
    av_frame_free(&e->uploaded);
    av_packet_free(&e->pkt);
    free(e);
}

const AVCodecContext *l2d_encoder_context(const struct l2d_encoder *encoder)
{
    return encoder->ctx;
}

static bool is_bt601(enum AVColorSpace matrix)
{
    return matrix == AVCOL_SPC_SMPTE170M || matrix == AVCOL_SPC_BT470BG;
}

// Pixel format, range and matrix of the picture, which is yuv420p.
static bool is_as_the_codec_has_it(const struct l2d_encoder *e)
{
    enum AVColorSpace have = e->picture->colorspace, wanted = e->ctx->colorspace;
    bool matrix = have == wanted || (is_bt601(have) && is_bt601(wanted));
    bool format = e->ctx->pix_fmt == AV_PIX_FMT_YUV420P ||
                  (e->ctx->pix_fmt == AV_PIX_FMT_YUVJ420P &&
                   e->picture->color_range == AVCOL_RANGE_JPEG);
    return matrix && format;
}

// To the codec's own format where it is not yuv420p (GIF, PNG): quality is swscale's.
static int convert(struct l2d_encoder *e, AVFrame **frame, struct l2d_error *err)
{
    AVFrame *from = e->picture, *to = e->converted;
    to->format = e->ctx->hw_frames_ctx ? l2d_hardware_upload_format(e->ctx) : e->ctx->pix_fmt;
    to->width = from->width;
    to->height = from->height;
    int rc = av_frame_get_buffer(to, 0);
    if (rc >= 0)
        rc = av_frame_copy_props(to, from);
    if (rc < 0)
        return l2d_libav_error(err, rc, "%s: picture", e->name);
    to->color_range = e->ctx->color_range;
    to->colorspace = e->ctx->colorspace;
    if (!e->sws) {
        e->sws = sws_getContext(from->width, from->height, from->format, to->width, to->height,
                                to->format, SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT,
                                NULL, NULL, NULL);
        if (!e->sws)
            return l2d_error_set(err, L2D_EUNSUPPORTED, "%s: no conversion from yuv420p to %s",
                                 e->name, av_get_pix_fmt_name(to->format));
        const int *in = sws_getCoefficients(from->colorspace);
        const int *out = to->colorspace == AVCOL_SPC_RGB ? in : sws_getCoefficients(to->colorspace);
        sws_setColorspaceDetails(e->sws, in, from->color_range == AVCOL_RANGE_JPEG, out,
                                 to->color_range == AVCOL_RANGE_JPEG, 0, 1 << 16, 1 << 16);
    }
    sws_scale(e->sws, (const uint8_t *const *) from->data, from->linesize, 0, from->height,
              to->data, to->linesize);
    *frame = to;
    if (!e->ctx->hw_frames_ctx)
        return L2D_OK;
    *frame = e->uploaded;
    rc = l2d_hardware_upload(e->ctx, to, e->uploaded);
    return rc < 0 ? l2d_libav_error(err, rc, "%s: picture to the encoder", e->name) : L2D_OK;
}

static int64_t duration_of(const struct l2d_encoder *e, int64_t pts)
{
    unsigned n = e->num_timing < MAX_DELAY ? e->num_timing : MAX_DELAY;
    for (unsigned i = 0; i < n; i++)
        if (e->timing[i].pts == pts)
            return e->timing[i].duration;
    return 0;
}

static int give_packets(struct l2d_encoder *e, l2d_packet_fn *emit, void *user,
                        struct l2d_error *err)
{
    for (;;) {
        int av = avcodec_receive_packet(e->ctx, e->pkt);
        if (av == AVERROR(EAGAIN) || av == AVERROR_EOF)
            return L2D_OK;
        if (av < 0)
            return l2d_libav_error(err, av, "%s: encoder %s", e->name, e->ctx->codec->name);
        if (e->pkt->duration <= 0)
            e->pkt->duration = duration_of(e, e->pkt->pts);
        int rc = emit(user, e->pkt, e->ctx->time_base, err);
        if (rc != L2D_OK)
            return rc;
    }
}

int l2d_encoder_push(struct l2d_encoder *encoder, const struct l2d_frame *frame, int64_t pts,
                     int64_t duration, l2d_packet_fn *emit, void *user, struct l2d_error *err)
{
    struct l2d_encoder *e = encoder;
    AVFrame *av_frame = NULL;
    int rc = L2D_OK;
    if (frame) {
        rc = l2d_pixfmt_export(frame, e->picture, err);
        av_frame = e->picture;
        bool jpeg = e->ctx->pix_fmt == AV_PIX_FMT_YUVJ420P;
        if (rc == L2D_OK && !is_as_the_codec_has_it(e))
            rc = convert(e, &av_frame, err);
        else if (rc == L2D_OK && jpeg)
            av_frame->format = AV_PIX_FMT_YUVJ420P;
        av_frame->pts = pts;
        L2D_AV_DURATION(av_frame) = duration;
        av_frame->sample_aspect_ratio = e->ctx->sample_aspect_ratio;
        unsigned slot = e->num_timing++ % MAX_DELAY;
        e->timing[slot].pts = pts;
        e->timing[slot].duration = duration;
    }
    if (rc == L2D_OK) {
        int av = avcodec_send_frame(e->ctx, av_frame);
        e->ended = e->ended || !frame;
        if (av < 0)
            rc = l2d_libav_error(err, av, "%s: encoder %s", e->name, e->ctx->codec->name);
    }
    av_frame_unref(e->picture);
    av_frame_unref(e->converted);
    av_frame_unref(e->uploaded);
    return rc == L2D_OK ? give_packets(e, emit, user, err) : rc;
}
