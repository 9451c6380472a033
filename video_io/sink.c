// SPDX-License-Identifier: Apache-2.0
// Choice of a sink by name, and the sink that only counts. See sink.h.
#include "video_io/sink.h"

#include <stdlib.h>
#include <string.h>

#include "video_io/display.h"
#include "video_io/writer.h"

static int null_video(struct l2d_sink *sink, struct l2d_frame *frame, struct l2d_error *err)
{
    (void) frame;
    (void) err;
    sink->stats.frames++;
    return L2D_OK;
}

static int null_audio(struct l2d_sink *sink, const struct AVPacket *packet, struct l2d_error *err)
{
    (void) packet;
    (void) err;
    sink->stats.audio_packets++;
    return L2D_OK;
}

static int null_finish(struct l2d_sink *sink, bool cut_audio, struct l2d_error *err)
{
    (void) sink;
    (void) cut_audio;
    (void) err;
    return L2D_OK;
}

static void null_destroy(struct l2d_sink *sink)
{
    free(sink);
}

static const struct l2d_sink_ops null_ops = {
    .write_video = null_video, .write_audio = null_audio, .finish = null_finish,
    .destroy = null_destroy,
};

static int open_null(struct l2d_sink **out, struct l2d_error *err)
{
    struct l2d_sink *s = calloc(1, sizeof(*s));
    if (!s)
        return l2d_error_set(err, L2D_ENOMEM, "null output: out of memory");
    s->ops = &null_ops;
    *out = s;
    return L2D_OK;
}

int l2d_sink_open(struct l2d_sink **out, const char *target, const struct l2d_sink_params *params,
                  struct l2d_error *err)
{
    int32_t w = params->width, h = params->height;
    if (w < 1 || h < 1 || w > L2D_FRAME_MAX_DIM || h > L2D_FRAME_MAX_DIM)
        return l2d_error_set(err, L2D_EINVAL, "%s: frames of %dx%d, expected 1 to %d a side",
                             target, w, h, L2D_FRAME_MAX_DIM);
    if (params->time_base_num < 1 || params->time_base_den < 1)
        return l2d_error_set(err, L2D_EINVAL, "%s: time base %d/%d, expected a positive one",
                             target, params->time_base_num, params->time_base_den);
    if (params->fps_num < 0 || (params->fps_num > 0 && params->fps_den < 1))
        return l2d_error_set(err, L2D_EINVAL, "%s: %d/%d frames a second, expected a positive rate",
                             target, params->fps_num, params->fps_den);
    if (!strcmp(target, "null"))
        return open_null(out, err);
    if (!strcmp(target, "display"))
        return l2d_display_open(out, params, err);
    return l2d_writer_open(out, target, params, err);
}

int l2d_sink_write_video(struct l2d_sink *sink, struct l2d_frame *frame, struct l2d_error *err)
{
    return sink->ops->write_video(sink, frame, err);
}

int l2d_sink_write_audio(struct l2d_sink *sink, const struct AVPacket *packet,
                         struct l2d_error *err)
{
    return sink->ops->write_audio(sink, packet, err);
}

int l2d_sink_finish(struct l2d_sink *sink, bool cut_audio, struct l2d_error *err)
{
    return sink->ops->finish(sink, cut_audio, err);
}

int l2d_sink_idle(struct l2d_sink *sink, struct l2d_error *err)
{
    return sink->ops->idle ? sink->ops->idle(sink, err) : L2D_OK;
}

struct l2d_sink_stats l2d_sink_stats(const struct l2d_sink *sink)
{
    return sink->stats;
}

void l2d_sink_destroy(struct l2d_sink **sink)
{
    struct l2d_sink *s = *sink;
    *sink = NULL;
    if (s)
        s->ops->destroy(s);
}
