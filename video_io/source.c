// SPDX-License-Identifier: Apache-2.0
// Sessions of a reader, one after the other, on one clock. See source.h.
#include "video_io/source.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavutil/time.h>

#include "base/backoff.h"
#include "video_io/camera.h"
#include "video_io/host.h"
#include "video_io/live_clock.h"

#define TIMEOUT_US   INT64_C(10000000)  // of networks and devices that say nothing
#define SETTLE_US    INT64_C(3000000)   // a backlog that lasts longer is the pace of the input
#define SETTLE_FRAMES 5
#define SLICE_US     20000              // between looks at the stop
#define PACE_LATE_US INT64_C(500000)    // from there on what is late is not caught up with
#define LISTENED_US  INT64_C(200000)
#define PACE_GAP_US  INT64_C(10000000)  // and a gap in the times is not waited for

static const AVRational TICK = { 1, L2D_LIVE_CLOCK_HZ }, US = { 1, 1000000 };

struct l2d_source {
    struct l2d_log log;
    struct l2d_source_params p;
    struct l2d_reader *reader;          // NULL: lost
    struct l2d_reader_info info;        // of the first session
    AVCodecParameters *codecpar;        // what info.audio points to
    bool live, paced, bursts, reopen;
    struct l2d_backoff backoff;
    struct l2d_live_clock clock;
    struct l2d_reader_stats past;       // of sessions that are over

    // --- of this session
    bool settled, begun;
    bool audio_fits;                    // its sound is what the first session's was
    int64_t begun_us;                   // when its first picture came
    struct { int64_t raw, us; } past_frame[SETTLE_FRAMES];  // the last ones, while not settled
    unsigned num_frames;                // of this session, while not settled
    int64_t pace_us;                    // wall clock at time 0 of the session; paced
    int64_t ahead;                      // of the last frame, see l2d_live_clock_ahead

    int64_t last_video, last_audio;     // given out, in TICKs and in the audio's time base

    pthread_mutex_t lock;
    // --- guarded by lock
    struct l2d_source_status status;
    int64_t seen_us;                    // when the last picture came
    int64_t usual_us;                   // the longest wait for one lately
};

static bool is_stopped(const struct l2d_source *s)
{
    return atomic_load(s->p.reader.stop);
}

static int stopped(const struct l2d_source *s, struct l2d_error *err)
{
    return l2d_error_set(err, L2D_ECLOSED, "%s: stopped", s->p.reader.name);
}

// returns false if stopped on the way.
static bool wait_until(const struct l2d_source *s, int64_t due_us)
{
    for (;;) {
        int64_t left = due_us - av_gettime_relative();
        if (is_stopped(s))
            return false;
        if (left <= 0)
            return true;
        av_usleep((unsigned) (left < SLICE_US ? left : SLICE_US));
    }
}

// --- a session

bool l2d_source_may_return(const char *name)
{
    return l2d_host_is_url(name) || l2d_camera_is_path(name);
}

static int open_session(struct l2d_source *s, struct l2d_error *err)
{
    struct l2d_reader_params p = s->p.reader;
    if (l2d_source_may_return(p.name))
        p.timeout_us = TIMEOUT_US;
    int rc = l2d_reader_create(&s->reader, &p, err);
    s->settled = s->begun = false;
    s->num_frames = 0;
    return rc;
}

static void end_session(struct l2d_source *s)
{
    struct l2d_reader_stats now = l2d_source_stats(s);
    l2d_reader_destroy(&s->reader);
    s->past = now;
}

// Sound is copied into outputs that were told once what it is.
static bool fits_first(struct l2d_source *s)
{
    const struct l2d_reader_info *info = l2d_reader_info(s->reader);
    const AVCodecParameters *a = s->codecpar, *b = info->audio.codecpar;
    if (!a || !info->has_audio)
        return false;
    if (a->codec_id == b->codec_id && a->sample_rate == b->sample_rate &&
        a->ch_layout.nb_channels == b->ch_layout.nb_channels)
        return true;
    l2d_log_print(&s->log, L2D_LOG_WARN, "%s: its sound was %s, %d Hz and is %s, %d Hz now; it is "
                  "left out", s->p.reader.name, s->info.audio.codec, a->sample_rate,
                  info->audio.codec, b->sample_rate);
    return false;
}

static int keep_info(struct l2d_source *s, struct l2d_error *err)
{
    s->info = *l2d_reader_info(s->reader);
    s->live = s->info.live || s->p.realtime;
    // A playlist comes in pieces of several seconds each.
    s->paced = s->p.realtime || (s->info.live && !strcmp(s->info.format, "hls"));
    s->bursts = !s->paced && l2d_host_is_url(s->p.reader.name);
    s->reopen = s->info.live && s->p.reopen;
    s->info.live = s->live;
    if (s->live) {
        l2d_reader_unlimit(s->reader);
        s->info.time_base_num = TICK.num;
        s->info.time_base_den = TICK.den;
    }
    s->audio_fits = s->info.has_audio;
    if (!s->info.has_audio)
        return L2D_OK;
    s->codecpar = avcodec_parameters_alloc();
    if (!s->codecpar || avcodec_parameters_copy(s->codecpar, s->info.audio.codecpar) < 0)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", s->p.reader.name);
    s->info.audio.codecpar = s->codecpar;
    return L2D_OK;
}

// What is wrong with options stays wrong.
static bool may_come(const struct l2d_source *s, int rc)
{
    return l2d_source_may_return(s->p.reader.name) && (rc == L2D_EIO || rc == L2D_EFORMAT);
}

static int open_first(struct l2d_source *s, struct l2d_error *err)
{
    int64_t until_us = av_gettime_relative() + (int64_t) (1e6 * s->p.wait_s);
    for (bool waited = false;; waited = true) {
        struct l2d_error why = { 0 };
        int64_t begin_us = av_gettime_relative();
        int rc = open_session(s, &why);
        double left_s = 1e-6 * (double) (until_us - av_gettime_relative());
        // Somebody came who is no sender. An address that cannot be listened at fails at once.
        bool came = s->p.reader.listen && av_gettime_relative() - begin_us > LISTENED_US;
        left_s = came && left_s < 1 ? 1 : left_s;
        if (rc == L2D_OK && waited)
            l2d_log_print(&s->log, L2D_LOG_INFO, "%s: there now", s->p.reader.name);
        if (rc == L2D_OK) {
            l2d_backoff_reset(&s->backoff);
            return rc;
        }
        if (!may_come(s, rc) || left_s <= 0)
            return l2d_error_set(err, rc, "%s", why.msg);
        double wait_s = l2d_backoff_next(&s->backoff);
        wait_s = wait_s < left_s ? wait_s : left_s;
        l2d_log_print(&s->log, L2D_LOG_WARN, "%s; waiting for it, trying again in %.1f s", why.msg,
                      wait_s);
        if (!wait_until(s, av_gettime_relative() + (int64_t) (1e6 * wait_s)))
            return stopped(s, err);
    }
}

int l2d_source_create(struct l2d_source **out, const struct l2d_source_params *params,
                      struct l2d_error *err)
{
    assert(params->reader.stop);
    struct l2d_source *s = calloc(1, sizeof(*s));
    if (!s)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", params->reader.name);
    s->p = *params;
    s->log = l2d_log_named(params->reader.log, "source");
    s->last_video = s->last_audio = INT64_MIN;
    pthread_mutex_init(&s->lock, NULL);
    int rc = open_first(s, err);
    if (rc == L2D_OK)
        rc = keep_info(s, err);
    s->seen_us = av_gettime_relative();
    if (rc != L2D_OK) {
        l2d_source_destroy(&s);
        return rc;
    }
    *out = s;
    return L2D_OK;
}

void l2d_source_destroy(struct l2d_source **source)
{
    struct l2d_source *s = *source;
    *source = NULL;
    if (!s)
        return;
    l2d_reader_destroy(&s->reader);
    avcodec_parameters_free(&s->codecpar);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

// --- lost and found

// Messages begin with the input's name, and so does the line that quotes them.
static void set_reason(struct l2d_source *s, const char *reason)
{
    size_t length = strlen(s->p.reader.name);
    if (!strncmp(reason, s->p.reader.name, length) && !strncmp(reason + length, ": ", 2))
        reason += length + 2;
    pthread_mutex_lock(&s->lock);
    snprintf(s->status.reason, sizeof(s->status.reason), "%.255s", reason);
    pthread_mutex_unlock(&s->lock);
}

static void lose(struct l2d_source *s, const char *reason)
{
    set_reason(s, reason);
    pthread_mutex_lock(&s->lock);
    s->status.losses++;
    s->status.state = L2D_SOURCE_RETRYING;
    pthread_mutex_unlock(&s->lock);
    end_session(s);
}

// One try. What comes back with a length is a recording of what was live.
static int try_again(struct l2d_source *s, struct l2d_error *err)
{
    double wait_s = s->p.reader.listen ? 0.1 : l2d_backoff_next(&s->backoff);
    l2d_log_print(&s->log, L2D_LOG_WARN, "%s: lost (%s); trying again in %.1f s", s->p.reader.name,
                  s->status.reason, wait_s);
    if (!wait_until(s, av_gettime_relative() + (int64_t) (1e6 * wait_s)))
        return stopped(s, err);
    s->p.reader.frame_rate_num = s->info.frame_rate_num;
    s->p.reader.frame_rate_den = s->info.frame_rate_den;
    s->p.reader.start_us = 0;           // it was for the beginning
    struct l2d_error why = { 0 };
    int rc = open_session(s, &why);
    if (rc == L2D_ECLOSED || rc == L2D_ENOMEM)
        return l2d_error_set(err, rc, "%s", why.msg);
    if (rc != L2D_OK) {
        set_reason(s, why.msg);
        return L2D_OK;
    }
    if (!l2d_reader_info(s->reader)->live) {
        end_session(s);
        s->reopen = false;
        return L2D_OK;
    }
    l2d_reader_unlimit(s->reader);
    s->audio_fits = fits_first(s);
    return L2D_OK;
}

static void come_back(struct l2d_source *s)
{
    pthread_mutex_lock(&s->lock);
    bool was_lost = s->status.state == L2D_SOURCE_RETRYING;
    s->status.state = L2D_SOURCE_RUNNING;
    pthread_mutex_unlock(&s->lock);
    if (was_lost) {
        l2d_log_print(&s->log, L2D_LOG_INFO, "%s: running again", s->p.reader.name);
        l2d_backoff_reset(&s->backoff);
    }
}

// --- time

// A server that has kept the last seconds sends them at once; live is where that ends. The last few
// pictures came at their pace if they took half of their time or more.
static bool settles(struct l2d_source *s, int64_t raw, int64_t now_us)
{
    unsigned slot = s->num_frames++ % SETTLE_FRAMES;
    int64_t took = now_us - s->past_frame[slot].us;
    int64_t time = av_rescale_q(raw - s->past_frame[slot].raw, TICK, US);
    if (s->num_frames == 1)             // what came while a model was loaded is backlog too
        s->begun_us = now_us;
    s->past_frame[slot].raw = raw;
    s->past_frame[slot].us = now_us;
    s->settled = (s->num_frames > SETTLE_FRAMES && 2 * took >= time) ||
                 now_us - s->begun_us > SETTLE_US;
    return s->settled;
}

static bool wait_for_pace(struct l2d_source *s, int64_t raw)
{
    int64_t at_us = av_rescale_q(raw, TICK, US), now_us = av_gettime_relative();
    int64_t early = s->pace_us + at_us - now_us;
    if (!s->begun || early < -PACE_LATE_US || early > PACE_GAP_US)
        s->pace_us = now_us - at_us;
    return wait_until(s, s->pace_us + at_us);
}

static void note_frame(struct l2d_source *s, int64_t now_us)
{
    pthread_mutex_lock(&s->lock);
    int64_t waited = now_us - s->seen_us;
    if (s->status.state == L2D_SOURCE_RUNNING && s->status.frames > 0)
        s->usual_us = waited > s->usual_us ? waited : s->usual_us - s->usual_us / 64;
    s->seen_us = now_us;
    s->status.frames++;
    pthread_mutex_unlock(&s->lock);
}

static bool skip_backlog(struct l2d_source *s)
{
    pthread_mutex_lock(&s->lock);
    s->status.backlog++;
    pthread_mutex_unlock(&s->lock);
    return false;
}

// returns false for a frame that is not to be given out.
static bool place_video(struct l2d_source *s, struct l2d_frame *f)
{
    AVRational tb = { f->time_base_num, f->time_base_den };
    int64_t raw = av_rescale_q(f->pts, tb, TICK);
    if (s->paced && !wait_for_pace(s, raw))
        return false;
    int64_t now_us = av_gettime_relative(), wall = av_rescale_q(now_us, US, TICK), at;
    if (s->bursts && !s->settled && !settles(s, raw, now_us))
        return skip_backlog(s);
    if (!s->begun)
        l2d_live_clock_begin(&s->clock, raw, wall);
    s->begun = true;
    if (l2d_live_clock_map(&s->clock, raw, wall, &at)) {
        l2d_log_print(&s->log, L2D_LOG_INFO, "%s: its clock jumped; moved to the present",
                      s->p.reader.name);
        pthread_mutex_lock(&s->lock);
        s->status.moves++;
        pthread_mutex_unlock(&s->lock);
    }
    if (at <= s->last_video)
        return skip_backlog(s);
    s->ahead = l2d_live_clock_ahead(&s->clock, at, wall);
    s->last_video = f->pts = at;
    f->duration = av_rescale_q(f->duration, tb, TICK);
    f->time_base_num = TICK.num;
    f->time_base_den = TICK.den;
    note_frame(s, now_us);
    return true;
}

static bool place_audio(struct l2d_source *s, AVPacket *pkt)
{
    if (!s->audio_fits || !s->begun)
        return false;
    AVRational tb = { s->info.audio.time_base_num, s->info.audio.time_base_den };
    int64_t offset = av_rescale_q(s->clock.offset, TICK, tb);
    av_packet_rescale_ts(pkt, pkt->time_base, tb);
    pkt->time_base = tb;
    pkt->pts += offset;
    pkt->dts += offset;
    if (pkt->dts <= s->last_audio)
        return false;
    s->last_audio = pkt->dts;
    return true;
}

// --- items

// A reader counts what is left out here too, so live sources count by themselves.
static bool reached_max(const struct l2d_source *s)
{
    int64_t most = s->p.reader.max_frames;
    return s->live && most > 0 && s->status.frames >= (uint64_t) most;  // only we write it
}

static int read_item(struct l2d_source *s, struct l2d_item *item, struct l2d_error *err)
{
    struct l2d_error why = { 0 };
    int rc = l2d_reader_next(s->reader, item, &why);
    if (rc == L2D_OK && item->kind != L2D_ITEM_END)
        return L2D_OK;
    bool lost = s->reopen && rc != L2D_ECLOSED && rc != L2D_ENOMEM;
    if (lost)
        lose(s, rc != L2D_OK ? why.msg
                : l2d_reader_stats(s->reader).truncated ? "it broke off" : "it ended");
    else if (rc != L2D_OK)
        return l2d_error_set(err, rc, "%s", why.msg);
    return L2D_OK;
}

static int end(struct l2d_source *s)
{
    pthread_mutex_lock(&s->lock);
    s->status.state = L2D_SOURCE_ENDED;
    pthread_mutex_unlock(&s->lock);
    return L2D_OK;
}

int l2d_source_next(struct l2d_source *source, struct l2d_item *item, struct l2d_error *err)
{
    struct l2d_source *s = source;
    for (;;) {
        *item = (struct l2d_item) { .kind = L2D_ITEM_END };
        if (is_stopped(s))
            return stopped(s, err);
        if ((!s->reader && !s->reopen) || reached_max(s))
            return end(s);
        bool lost = !s->reader;
        int rc = lost ? try_again(s, err) : read_item(s, item, err);
        if (rc != L2D_OK)
            return rc;
        if (!lost && s->reader && item->kind == L2D_ITEM_END)
            return end(s);
        if (item->kind == L2D_ITEM_END)
            continue;
        bool placed = !s->live || (item->kind == L2D_ITEM_VIDEO ? place_video(s, item->frame)
                                                                : place_audio(s, item->packet));
        if (placed) {
            if (s->live && item->kind == L2D_ITEM_VIDEO)
                come_back(s);
            return L2D_OK;
        }
        l2d_item_clear(item);
    }
}

const struct l2d_reader_info *l2d_source_info(const struct l2d_source *source)
{
    return &source->info;
}

double l2d_source_late_s(const struct l2d_source *source)
{
    return source->ahead < 0 ? (double) -source->ahead / L2D_LIVE_CLOCK_HZ : 0;
}

bool l2d_source_is_live(const struct l2d_source *source)
{
    return source->live;
}

struct l2d_reader_stats l2d_source_stats(const struct l2d_source *source)
{
    struct l2d_reader_stats all = source->past;
    if (!source->reader)
        return all;
    struct l2d_reader_stats now = l2d_reader_stats(source->reader);
    all.frames += now.frames;
    all.concealed += now.concealed;
    all.decode_errors += now.decode_errors;
    all.repaired_pts += now.repaired_pts;
    all.discontinuities += now.discontinuities;
    all.truncated |= now.truncated;
    all.failed |= now.failed;
    return all;
}

struct l2d_source_status l2d_source_status(struct l2d_source *source)
{
    struct l2d_source *s = source;
    int64_t now_us = av_gettime_relative();
    pthread_mutex_lock(&s->lock);
    struct l2d_source_status status = s->status;
    int64_t usual = 2 * s->usual_us > 250000 ? 2 * s->usual_us : 250000;
    bool waits = s->live && now_us - s->seen_us > usual;
    pthread_mutex_unlock(&s->lock);
    if (status.state == L2D_SOURCE_RUNNING && waits)
        status.state = L2D_SOURCE_BUFFERING;
    return status;
}

const char *l2d_source_state_str(enum l2d_source_state state)
{
    switch (state) {
    case L2D_SOURCE_RUNNING:   return "running";
    case L2D_SOURCE_BUFFERING: return "buffering";
    case L2D_SOURCE_RETRYING:  return "retrying";
    case L2D_SOURCE_ENDED:     break;
    }
    return "ended";
}
