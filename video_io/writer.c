// SPDX-License-Identifier: Apache-2.0
// Container and time of the encoding sink. See writer.h. The video encoder is encoder.c, the sound
// audio_track.c, the file new_file.c, or parts.c where a format has several.
#include "video_io/writer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libavformat/avformat.h>
#include <libavutil/avstring.h>
#include <libavutil/opt.h>
#include <libavutil/time.h>

#include "video_io/audio_track.h"
#include "video_io/camera.h"
#include "video_io/encoder.h"
#include "video_io/host.h"
#include "video_io/libav.h"
#include "video_io/new_file.h"
#include "video_io/packet_queue.h"
#include "video_io/parts.h"

#define IO_TIMEOUT_US  INT64_C(10000000)
#define MAX_HELD_AUDIO 16384    // packets; a badly interleaved input gets its sound written early

static const AVRational US = { 1, 1000000 };

struct writer {
    struct l2d_sink base;
    struct l2d_log log;
    struct l2d_sink_params p;       // its strings are the caller's, valid during open only
    char *name;                     // as given, for messages: "standard output" for "-"
    struct l2d_new_file file;       // has no part_name where it is written directly
    const atomic_bool *abort;
    int64_t deadline_us;            // of libav's clock: no waiting beyond it; 0: none
    bool is_network;
    struct l2d_parts parts;         // of a format that opens its files by itself
    int own_pipe;                   // see open_pipe; -1: none

    AVFormatContext *fmt;
    struct l2d_encoder *encoder;
    struct l2d_audio_track *audio;  // NULL: none
    AVStream *video_st, *audio_st;
    bool finished;
    bool own_zero;                  // see place_run_in
    bool counted;                   // has no time; the first picture is at 0
    int64_t last_dts[2];            // by stream index, in the stream's time base

    struct l2d_packet_queue held;   // sound that is ahead of the frames
    int64_t video_end_us;           // where the last frame ends
    bool have_video;
    bool began;                     // a frame has come:
    int64_t begin;                  // its pts
    AVRational begin_base;
    int64_t origin;                 // the pts that is time 0 here: begin, if it joins; else 0

    struct l2d_frame *held_frame;   // fps conversion: shown from held_index on, not written yet
    int64_t held_index, held_distance;  // ticks; thousandths of a tick between its pts and its tick
    int64_t last_pts;               // in the encoder's time base
    bool warned_rate, warned_damage;
};

static bool is_late(const struct writer *w)
{
    return w->deadline_us > 0 && av_gettime_relative() > w->deadline_us;
}

static int interrupted(void *writer)
{
    const struct writer *w = writer;
    return (w->abort && atomic_load(w->abort)) || is_late(w);
}

// Before anything that may wait for the network.
static void begin_io(struct writer *w)
{
    bool bounded = w->p.live || w->p.joins;
    w->deadline_us = bounded && w->is_network ? av_gettime_relative() + IO_TIMEOUT_US : 0;
}

// What was recorded live will not come again. As far as it goes it can be played.
static bool keeps_part(const struct writer *w)
{
    return w->p.live && w->file.part_name && w->have_video;
}

static int write_failed(const struct writer *w, int averror, struct l2d_error *err)
{
    if (is_late(w))
        return l2d_error_set(err, L2D_EIO, "%s: it has taken nothing for %d s", w->name,
                             (int) (IO_TIMEOUT_US / 1000000));
    if (averror == AVERROR(EPIPE) && !w->file.part_name)     // a viewer's choice of a pipe only
        return l2d_error_set(err, w->is_network ? L2D_EIO : L2D_ECLOSED, "%s: its reader has gone",
                             w->name);
    if (averror == AVERROR(EEXIST))
        return l2d_error_set(err, L2D_EINVAL, "%s: the next of its files exists already; "
                             "--overwrite replaces it", w->name);
    if (averror == AVERROR(EINVAL) && !strcmp(w->fmt->oformat->name, "image2"))
        return l2d_error_set(err, L2D_EINVAL, "%s: one picture, but there are more; number them "
                             "with a name such as %%05d.png, or take one with --frames 1", w->name);
    bool full = averror == AVERROR(ENOSPC), keeps = keeps_part(w);
    int rc = full ? l2d_error_set(err, L2D_EIO, "%s: the disk is full%s", w->name,
                                  w->parts.picture ? "; the unfinished picture is removed"
                                  : w->file.part_name && !keeps ? "; the unfinished file is removed"
                                  : "")
                  : l2d_libav_error(err, averror, "writing %s", w->name);
    size_t len = err ? strlen(err->msg) : 0;
    if (keeps && err)
        snprintf(err->msg + len, sizeof(err->msg) - len, "; until then it is in %s",
                 w->file.part_name);
    return rc;
}

// What writing met behind the muxer's back; 0: nothing.
static int io_error(const struct writer *w)
{
    return w->fmt->pb && w->fmt->pb->error < 0 ? w->fmt->pb->error : 0;
}

// --- packets to the file

static int mux(void *user, AVPacket *pkt, AVRational time_base, AVStream *st, struct l2d_error *err)
{
    struct writer *w = user;
    int i = st->index;
    pkt->stream_index = i;
    pkt->pos = -1;
    av_packet_rescale_ts(pkt, time_base, st->time_base);
    // Rounding to a coarser time base must not turn time back.
    int64_t least = w->last_dts[i] == AV_NOPTS_VALUE ? INT64_MIN
                  : w->last_dts[i] + (w->fmt->oformat->flags & AVFMT_TS_NONSTRICT ? 0 : 1);
    if (pkt->dts != AV_NOPTS_VALUE) {
        if (pkt->dts < least)
            pkt->dts = least;
        if (pkt->pts != AV_NOPTS_VALUE && pkt->pts < pkt->dts)
            pkt->pts = pkt->dts;
        w->last_dts[i] = pkt->dts;
    }
    begin_io(w);
    // Live, sound leaves after the pictures of its time, and waiting for either costs the other.
    int rc = w->p.live ? av_write_frame(w->fmt, pkt) : av_interleaved_write_frame(w->fmt, pkt);
    if (w->p.live)
        av_packet_unref(pkt);
    if (rc >= 0 && io_error(w))
        rc = io_error(w);
    if (rc == AVERROR_INVALIDDATA && w->audio && !io_error(w)) {
        if (!w->warned_damage)          // what is copied may be; what is encoded here is not
            l2d_log_print(&w->log, L2D_LOG_WARN, "%s: a damaged packet of sound is left out",
                          w->name);
        w->warned_damage = true;
        rc = 0;
    }
    if (w->p.live && rc >= 0)
        l2d_parts_tell(&w->parts, w->name, &w->log);    // the next one may do
    else if (w->parts.error)
        rc = w->parts.error;
    if (w->is_network && w->fmt->pb)    // a session that breaks off has written them all the same
        w->base.stats.bytes = (uint64_t) avio_tell(w->fmt->pb);
    return rc < 0 ? write_failed(w, rc, err) : L2D_OK;
}

static void note_video_end(struct writer *w, int64_t end_us)
{
    w->video_end_us = end_us;
    w->have_video = true;
}

// How long the last picture is shown they know of an option alone, which they read at the end.
static void note_delay(struct writer *w, int64_t duration, AVRational time_base)
{
    int64_t hundredths = av_rescale_q(duration, time_base, (AVRational) { 1, 100 });
    if (hundredths <= 0 || hundredths > UINT16_MAX)
        return;
    if (!strcmp(w->fmt->oformat->name, "gif"))
        av_opt_set_int(w->fmt->priv_data, "final_delay", hundredths, 0);
    else if (!strcmp(w->fmt->oformat->name, "apng"))
        av_opt_set_q(w->fmt->priv_data, "final_delay", (AVRational) { (int) hundredths, 100 }, 0);
}

static int mux_video(void *user, AVPacket *pkt, AVRational time_base, struct l2d_error *err)
{
    struct writer *w = user;
    note_delay(w, pkt->duration, time_base);
    if (w->p.live && pkt->pts != AV_NOPTS_VALUE)
        note_video_end(w, av_rescale_q(pkt->pts + pkt->duration, time_base, US));
    return mux(w, pkt, time_base, w->video_st, err);
}

// Sound before time 0 is a codec's run-in. Matroska can say so only for Opus, by a delay that
// readers subtract; before version 60 libavformat writes the delay but does not add it to the
// timestamps, and shifts all streams, the video's timestamps too, to make the first one 0. So this
// does the adding, and leaves out what would be below 0.
static bool place_run_in(const struct writer *w, AVPacket *pkt, AVRational time_base)
{
    if (w->counted)
        return pkt->pts >= 0;
    if (!w->own_zero)
        return true;
    const AVCodecParameters *par = w->audio_st->codecpar;
    AVRational sample = { 1, par->sample_rate > 0 ? par->sample_rate : 48000 };
    if (par->codec_id == AV_CODEC_ID_OPUS) {
        int64_t delay = av_rescale_q(par->initial_padding, sample, time_base);
        pkt->pts += delay;
        pkt->dts += delay;
    }
    return pkt->pts >= 0;
}

static int mux_audio(void *user, AVPacket *pkt, AVRational time_base, struct l2d_error *err)
{
    struct writer *w = user;
    if (!place_run_in(w, pkt, time_base)) {
        av_packet_unref(pkt);
        return L2D_OK;
    }
    w->base.stats.audio_packets++;
    return mux(user, pkt, time_base, w->audio_st, err);
}

// --- sound waits for the frames of its time

// A packet's time in this output.
static int64_t audio_pts(const struct writer *w, const AVPacket *pkt, int64_t pts)
{
    return !w->origin || pts == AV_NOPTS_VALUE
         ? pts : pts - av_rescale_q(w->origin, w->begin_base, pkt->time_base);
}

static int release_audio(struct writer *w, bool all, struct l2d_error *err)
{
    int rc = L2D_OK;
    const AVPacket *next;
    while (rc == L2D_OK && (next = l2d_packet_queue_peek(&w->held)) != NULL) {
        bool due = w->have_video &&
                   av_compare_ts(audio_pts(w, next, next->pts), next->time_base, w->video_end_us,
                                 US) < 0;
        bool patient = w->p.live || w->p.joins || w->held.len < MAX_HELD_AUDIO;
        if (!all && !due && patient)
            break;
        AVPacket *pkt = l2d_packet_queue_pop(&w->held);
        pkt->pts = audio_pts(w, pkt, pkt->pts);
        pkt->dts = audio_pts(w, pkt, pkt->dts);
        rc = l2d_audio_track_push(w->audio, pkt, mux_audio, w, err);
        av_packet_free(&pkt);
    }
    return rc;
}

// Live, joining a run, or without time, an output begins with its first picture. Sound of before
// may still come, if that is one that is held while the network is late; FLV refuses it.
static bool is_before_begin(const struct writer *w, const AVPacket *pkt)
{
    return w->began && (w->p.live || w->p.joins || w->counted) &&
           av_compare_ts(pkt->pts, pkt->time_base, w->begin, w->begin_base) < 0;
}

static void begin(struct writer *w, int64_t pts, AVRational time_base)
{
    const AVPacket *next;
    w->began = true;
    w->begin = pts;
    w->begin_base = time_base;
    w->origin = w->p.joins || w->counted ? pts : 0;
    while ((next = l2d_packet_queue_peek(&w->held)) != NULL && is_before_begin(w, next)) {
        AVPacket *pkt = l2d_packet_queue_pop(&w->held);
        av_packet_free(&pkt);
    }
}

static int write_audio(struct l2d_sink *sink, const struct AVPacket *packet, struct l2d_error *err)
{
    struct writer *w = (struct writer *) sink;
    if (!w->audio || is_before_begin(w, packet))
        return L2D_OK;
    if ((w->p.live || w->p.joins) && w->held.len >= MAX_HELD_AUDIO) {
        AVPacket *oldest = l2d_packet_queue_pop(&w->held);
        av_packet_free(&oldest);
    }
    if (!l2d_packet_queue_push(&w->held, packet))
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", w->name);
    return release_audio(w, false, err);
}

// --- frames

static int encode(struct writer *w, struct l2d_frame *f, int64_t pts, int64_t duration,
                  struct l2d_error *err)
{
    if (w->base.stats.frames > 0 && pts <= w->last_pts)
        pts = w->last_pts + 1;          // a codec's coarse clock
    w->last_pts = pts;
    int rc = l2d_encoder_push(w->encoder, f, pts, duration, mux_video, w, err);
    w->base.stats.frames += rc == L2D_OK;
    return rc;
}

// Write the held frame for every tick up to next.
static int repeat_held(struct writer *w, int64_t next, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (int64_t i = w->held_index; rc == L2D_OK && i < next; i++) {
        rc = encode(w, w->held_frame, i, 1, err);
        w->base.stats.duplicated += i > w->held_index;
    }
    return rc;
}

// One frame a tick, the nearest. Half a tick away counts as late for the tick before.
static int convert_rate(struct writer *w, struct l2d_frame *f, AVRational in, struct l2d_error *err)
{
    AVRational tick = l2d_encoder_context(w->encoder)->time_base;
    int64_t fine = av_rescale(f->pts - w->origin, 1000 * (int64_t) in.num * tick.den,
                              (int64_t) in.den * tick.num);     // thousandths of a tick
    int64_t index = fine >= -499 ? (fine + 499) / 1000 : (fine - 500) / 1000;
    int64_t distance = llabs(fine - 1000 * index);
    int rc = L2D_OK;
    if (w->held_frame && index <= w->held_index) {
        w->base.stats.dropped++;
        if (distance >= w->held_distance)
            return L2D_OK;
    } else if (w->held_frame) {
        rc = repeat_held(w, index, err);
    }
    l2d_frame_unref(&w->held_frame);
    w->held_frame = l2d_frame_ref(f);
    w->held_index = index;
    w->held_distance = distance;
    return rc;
}

static int end_rate(struct writer *w, struct l2d_error *err)
{
    if (!w->held_frame)
        return L2D_OK;
    AVRational tick = l2d_encoder_context(w->encoder)->time_base;
    int64_t end = av_rescale_q(w->video_end_us, US, tick);
    int rc = repeat_held(w, end > w->held_index ? end : w->held_index + 1, err);
    l2d_frame_unref(&w->held_frame);
    return rc;
}

static void check_constant_rate(struct writer *w, int64_t pts, AVRational frame)
{
    bool timeless = w->fmt->oformat->flags & AVFMT_NOTIMESTAMPS;
    if (!timeless || w->warned_rate || w->base.stats.frames == 0)
        return;
    AVRational tb = l2d_encoder_context(w->encoder)->time_base;
    double step = (double) (pts - w->last_pts) * av_q2d(tb) / av_q2d(frame);
    if (step > 0.5 && step < 1.5)
        return;
    w->warned_rate = true;
    l2d_log_print(&w->log, L2D_LOG_WARN, "%s: format %s has no timestamps, and the frame rate "
                  "varies: the speed will be wrong; --fps makes the rate constant", w->name,
                  w->fmt->oformat->name);
}

static int write_video(struct l2d_sink *sink, struct l2d_frame *f, struct l2d_error *err)
{
    struct writer *w = (struct writer *) sink;
    if (f->width != w->p.width || f->height != w->p.height)
        return l2d_error_set(err, L2D_EINVAL, "%s: frame of %dx%d, opened for %dx%d", w->name,
                             f->width, f->height, w->p.width, w->p.height);
    const AVCodecContext *c = l2d_encoder_context(w->encoder);
    AVRational in = { f->time_base_num, f->time_base_den }, frame = av_inv_q(c->framerate);
    int64_t duration = f->duration > 0 ? f->duration : av_rescale_q(1, frame, in);
    int rc;
    if (!w->began)
        begin(w, f->pts, in);
    if (w->p.fps_num) {
        rc = convert_rate(w, f, in, err);
    } else {
        int64_t pts = av_rescale_q(f->pts - w->origin, in, c->time_base);
        check_constant_rate(w, pts, frame);
        rc = encode(w, f, pts, av_rescale_q(duration, in, c->time_base), err);
    }
    if (!w->p.live)                     // else when it has left the encoder
        note_video_end(w, av_rescale_q(f->pts - w->origin + duration, in, US));
    return rc == L2D_OK && w->audio ? release_audio(w, false, err) : rc;
}

// --- opening

const char *l2d_writer_path(const char *target)
{
    const char *path = target;
    if (access(target, F_OK) != 0)
        av_strstart(target, "file:", &path);
    return !strncmp(path, "///", 3) ? path + 2 : path;
}

// Of what has no extension. NULL: nothing known.
static const char *format_of_target(const char *target)
{
    static const char *const known[][2] = {
        { "rtmp", "flv" }, { "srt://", "mpegts" }, { "udp://", "mpegts" }, { "tcp://", "mpegts" },
        { "rtp://", "rtp_mpegts" }, { "rtsp", "rtsp" },
    };
    for (size_t i = 0; l2d_host_is_url(target) && i < sizeof(known) / sizeof(*known); i++)
        if (!strncmp(target, known[i][0], strlen(known[i][0])))
            return known[i][1];
    return l2d_camera_is_path(target) ? "v4l2" : NULL;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int choose_format(const struct writer *w, const char *target, const AVOutputFormat **out,
                         struct l2d_error *err)
{
    const char *format = w->p.format ? w->p.format : !strcmp(target, "-") ? "yuv4mpegpipe"
                       : format_of_target(target);
    *out = av_guess_format(format, format ? NULL : target, NULL);
    if (*out)
        return L2D_OK;
    if (w->p.format)
        return l2d_error_set(err, L2D_EINVAL, "no output format '%s'; 'ffmpeg -muxers' lists them",
                             w->p.format);
    if (format)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "%s: this build of FFmpeg cannot write format "
                             "%s", w->name, format);
    const char *dot = strrchr(base_name(target), '.');
    return l2d_error_set(err, L2D_EINVAL, "%s: %s%s is no extension of a video format; use .mp4, "
                         ".mkv, .mov or .webm, or name a format with -f", w->name,
                         dot ? "" : "no extension, and ", dot ? dot : "the name alone");
}

// Formats that open files by themselves write them in place: what is there stays, unless told.
static int check_files(const struct writer *w, const char *target, const AVOutputFormat *format,
                       struct l2d_error *err)
{
    char first[PATH_MAX];
    bool numbered = !strcmp(format->name, "image2") || !strcmp(format->name, "segment");
    if (!strcmp(format->name, "null"))
        return L2D_OK;
    for (int i = !strcmp(format->name, "image2"); numbered && i < 2; i++)
        if (av_get_frame_filename2(first, sizeof(first), target, i, 0) == 0) {
            int rc = l2d_new_file_check(&w->file, target, first, err);
            if (rc != L2D_OK)
                return rc;
        }
    return l2d_new_file_check(&w->file, target, target, err);
}

// A pipe of which nobody reads would block in open(2) or write(2) past every stop; a description of
// our own does not, and leaves the one that others share as it is. Others than pipes: none. Of one
// that has a name somebody may read yet.
static void open_pipe(struct writer *w, const char *path)
{
    struct stat s;
    if (stat(path, &s) != 0 || !S_ISFIFO(s.st_mode))
        return;
    bool named = strncmp(path, "/proc/", 6) != 0 && strncmp(path, "/dev/fd/", 8) != 0 &&
                 strncmp(path, "/dev/std", 8) != 0;
    do {
        w->own_pipe = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    } while (named && w->own_pipe < 0 && errno == ENXIO && !interrupted(w) &&
             av_usleep(20000) == 0);
}

static char *url_of(struct writer *w, const char *target, bool is_file)
{
    bool is_stdout = !strcmp(target, "-");
    if (is_stdout || is_file)
        open_pipe(w, is_stdout ? "/proc/self/fd/1" : target);
    if (w->own_pipe >= 0 || is_stdout)
        return av_asprintf("pipe:%d", w->own_pipe >= 0 ? w->own_pipe : STDOUT_FILENO);
    const char *path = w->file.part_name ? w->file.part_name : target;
    bool like_scheme = !w->is_network && !l2d_camera_is_path(path) && *path != '[' &&
                       path[strcspn(path, ":/")] == ':';
    return is_file || like_scheme ? av_asprintf("file:%s", path) : av_strdup(path);
}

static int add_streams(struct writer *w, struct l2d_error *err)
{
    const AVCodecContext *c = l2d_encoder_context(w->encoder);
    w->video_st = avformat_new_stream(w->fmt, NULL);
    w->audio_st = w->audio ? avformat_new_stream(w->fmt, NULL) : NULL;
    if (!w->video_st || (w->audio && !w->audio_st))
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", w->name);
    int av = avcodec_parameters_from_context(w->video_st->codecpar, c);
    if (av < 0)
        return l2d_libav_error(err, av, "%s: video", w->name);
    w->video_st->time_base = c->time_base;
    w->video_st->avg_frame_rate = w->video_st->r_frame_rate = c->framerate;
    w->video_st->sample_aspect_ratio = c->sample_aspect_ratio;
    return w->audio ? l2d_audio_track_describe(w->audio, w->audio_st, err) : L2D_OK;
}

// Why it could not be opened, where libav's words for it are not the ones to use; L2D_OK: they are.
static int explain(struct writer *w, int averror, struct l2d_error *err)
{
    if (averror < 0 && interrupted(w))      // it was late, or the run ended meanwhile
        return l2d_error_set(err, is_late(w) ? L2D_EIO : L2D_ECLOSED, "%s: no answer", w->name);
    return w->is_network ? l2d_host_explain(w->name, averror, err) : L2D_OK;
}

static int write_header(struct writer *w, bool live, struct l2d_error *err)
{
    const AVOutputFormat *of = w->fmt->oformat;
    AVRational tb = l2d_encoder_context(w->encoder)->time_base;
    AVDictionary *opts = NULL;
    bool is_mov = av_match_name(of->name, "mp4,mov,ipod,3gp,3g2,f4v,ismv,psp");
    if (is_mov) {                       // a gap in it takes 31 bits
        int ticks = tb.den < 1000000 ? tb.den : 1000000;
        av_dict_set_int(&opts, "video_track_timescale", ticks, 0);
        av_dict_set_int(&opts, "movie_timescale", ticks > 1000 ? ticks : 1000, 0);
        if (w->fmt->pb && w->fmt->pb->seekable & AVIO_SEEKABLE_NORMAL && w->file.part_name &&
            !w->p.live)
            av_dict_set(&opts, "movflags", "+faststart", 0);
        else
            av_dict_set(&opts, "movflags",
                        "+frag_keyframe+empty_moov+delay_moov+default_base_moof", 0);
    }
    if (!strcmp(of->name, "flv") && live)
        av_dict_set(&opts, "flvflags", "no_duration_filesize", 0);
    if (!strcmp(of->name, "hls") && live)
        av_dict_set(&opts, "hls_flags", "delete_segments", 0);
    w->own_zero = avformat_version() >> 16 < 60 &&
                  (!strcmp(of->name, "matroska") || !strcmp(of->name, "webm"));
    if (w->own_zero)
        w->fmt->avoid_negative_ts = 0;
    if (w->p.live && (!strcmp(of->name, "matroska") || !strcmp(of->name, "webm")))
        av_dict_set(&opts, "cluster_time_limit", "1000", 0);
    if (live)
        w->fmt->max_interleave_delta = 1000000;
    if (w->p.live)
        w->fmt->flags |= AVFMT_FLAG_FLUSH_PACKETS;
    begin_io(w);
    int rc = avformat_write_header(w->fmt, &opts);
    av_dict_free(&opts);
    if (rc >= 0 && io_error(w))
        rc = io_error(w);
    bool unfit = w->audio && (rc == AVERROR(EPERM) || rc == AVERROR(ENOSYS) ||
                              rc == AVERROR(EINVAL) || rc == AVERROR_INVALIDDATA);
    if (rc < 0 && unfit)                // what a muxer has against it, it logs
        return l2d_error_set(err, L2D_EINVAL, "%s: format %s does not take this picture with this "
                             "sound (%s); --audio none leaves the sound out", w->name, of->name,
                             av_err2str(rc));
    int known = explain(w, rc, err);
    return known != L2D_OK ? known : rc < 0 ? write_failed(w, rc, err) : L2D_OK;
}

// A picture is less than a segment of TCP and would wait for the answer to the one before.
static int open_io(struct writer *w, const char *url)
{
    AVDictionary *options = NULL;       // those that a protocol does not know are left in it
    if (w->p.live)
        av_dict_set(&options, "tcp_nodelay", "1", 0);
    int av = avio_open2(&w->fmt->pb, url, AVIO_FLAG_WRITE, &w->fmt->interrupt_callback, &options);
    av_dict_free(&options);
    return av;
}

static int open_writer(struct writer *w, const char *target, const struct l2d_audio_info *audio,
                       struct l2d_error *err)
{
    const AVOutputFormat *format = NULL;
    bool is_stdout = !strcmp(target, "-"), live = w->is_network || w->p.live;
    int rc = choose_format(w, target, &format, err);
    w->counted = rc == L2D_OK && l2d_audio_track_is_counted(format);
    if (rc == L2D_OK && w->p.matrix == L2D_MATRIX_RGB)
        rc = l2d_error_set(err, L2D_EINVAL, "%s: RGB frames are not written", w->name);
    if (rc == L2D_OK)
        rc = l2d_encoder_create(&w->encoder, &w->p, format, w->name, live, &w->log, err);
    if (rc == L2D_OK && audio)
        rc = l2d_audio_track_create(&w->audio, audio, format, w->name, &w->log, err);
    bool is_file = !is_stdout && !w->is_network && !(format && format->flags & AVFMT_NOFILE);
    if (rc == L2D_OK && is_file)
        rc = l2d_new_file_open(&w->file, target, err);
    else if (rc == L2D_OK && !is_stdout && !w->is_network)
        rc = check_files(w, target, format, err);
    if (rc != L2D_OK)
        return rc;

    char *url = url_of(w, target, is_file);
    if (interrupted(w)) {
        av_free(url);
        return l2d_error_set(err, L2D_ECLOSED, "%s: stopped", w->name);
    }
    int av = url ? avformat_alloc_output_context2(&w->fmt, format, NULL, url) : AVERROR(ENOMEM);
    if (av >= 0) {
        w->fmt->interrupt_callback = (AVIOInterruptCB) { interrupted, w };
        begin_io(w);
        if (!(format->flags & AVFMT_NOFILE))
            av = open_io(w, url);
        else if (!w->is_network)
            l2d_parts_watch(&w->parts, w->fmt, w->p.overwrite);
    }
    av_free(url);
    rc = explain(w, av, err);
    if (rc != L2D_OK)
        return rc;
    if (av < 0)
        return l2d_libav_error(err, av, "%s: cannot be written", w->name);
    rc = add_streams(w, err);
    return rc == L2D_OK ? write_header(w, live, err) : rc;
}

// --- the end

static int close_file(struct writer *w, struct l2d_error *err)
{
    begin_io(w);
    int av = av_write_trailer(w->fmt);
    if (av >= 0)
        av = w->parts.error;
    if (w->fmt->pb && !(w->fmt->oformat->flags & AVFMT_NOFILE)) {
        int64_t size = avio_size(w->fmt->pb);
        w->base.stats.bytes = (uint64_t) (size > 0 ? size : avio_tell(w->fmt->pb));
        int closed = avio_closep(&w->fmt->pb);
        if (av >= 0)
            av = closed;
    }
    if (av < 0)
        return write_failed(w, av, err);
    if (!w->file.part_name)
        return L2D_OK;
    return l2d_new_file_complete(&w->file, err);
}

static int finish(struct l2d_sink *sink, bool cut_audio, struct l2d_error *err)
{
    struct writer *w = (struct writer *) sink;
    assert(!w->finished);
    w->finished = true;
    if (!w->have_video && w->base.stats.frames == 0 && !w->held_frame)
        return l2d_error_set(err, L2D_EFORMAT, "%s: not one frame was written; nothing is kept",
                             w->name);
    int rc = end_rate(w, err);
    if (rc == L2D_OK)
        rc = l2d_encoder_push(w->encoder, NULL, 0, 0, mux_video, w, err);
    if (rc == L2D_OK && w->audio)
        rc = release_audio(w, !cut_audio, err);
    if (rc == L2D_OK && w->audio)
        rc = l2d_audio_track_end(w->audio, w->video_end_us, mux_audio, w, err);
    return rc == L2D_OK ? close_file(w, err) : rc;
}

static void destroy(struct l2d_sink *sink)
{
    struct writer *w = (struct writer *) sink;
    l2d_frame_unref(&w->held_frame);
    l2d_packet_queue_finish(&w->held);
    begin_io(w);
    if (w->fmt && !(w->fmt->oformat->flags & AVFMT_NOFILE))
        avio_closep(&w->fmt->pb);
    if (w->fmt)
        avformat_free_context(w->fmt);
    l2d_parts_finish(&w->parts);
    l2d_encoder_destroy(&w->encoder);
    l2d_audio_track_destroy(&w->audio);
    l2d_new_file_finish(&w->file, keeps_part(w));
    if (w->own_pipe >= 0)
        close(w->own_pipe);
    av_free(w->name);
    free(w);
}

static const struct l2d_sink_ops ops = {
    .write_video = write_video, .write_audio = write_audio, .finish = finish, .destroy = destroy,
};

int l2d_writer_open(struct l2d_sink **out, const char *target, const struct l2d_sink_params *params,
                    struct l2d_error *err)
{
    struct writer *w = calloc(1, sizeof(*w));
    if (!w)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", target);
    target = l2d_writer_path(target);
    w->base.ops = &ops;
    w->log = l2d_log_named(params->log, "writer");
    w->p = *params;
    w->abort = params->abort;
    w->own_pipe = -1;
    w->is_network = l2d_host_is_url(target);
    w->last_dts[0] = w->last_dts[1] = AV_NOPTS_VALUE;
    w->name = av_strdup(!strcmp(target, "-") ? "standard output" : target);
    w->file = (struct l2d_new_file) { .name = w->name, .params = &w->p, .lock_fd = -1 };
    int rc = w->name ? open_writer(w, target, params->audio, err)
                     : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", target);
    if (rc != L2D_OK) {
        destroy(&w->base);
        return rc;
    }
    *out = &w->base;
    return L2D_OK;
}
