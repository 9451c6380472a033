// SPDX-License-Identifier: Apache-2.0
// See deinterlacer.h.
#include "video_io/deinterlacer.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <libavfilter/avfilter.h>
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
#include <libavutil/mem.h>

#include "video_io/av_compat.h"

struct l2d_deinterlacer {
    struct l2d_log log;
    char name[256];
    AVFilterGraph *graph;               // NULL: nothing was interlaced yet
    AVFilterContext *source, *sink;
    int width, height, format, matrix, range;       // of the graph
    AVFrame *next;                      // not in the graph yet; no data: none
    bool ended;                         // nothing follows
    bool told, unable;
};

int l2d_deinterlacer_create(struct l2d_deinterlacer **out, const char *name,
                            const struct l2d_log *log, struct l2d_error *err)
{
    struct l2d_deinterlacer *d = calloc(1, sizeof(*d));
    if (d)
        d->next = av_frame_alloc();
    if (!d || !d->next) {
        l2d_deinterlacer_destroy(&d);
        return l2d_error_set(err, L2D_ENOMEM, "deinterlacer: out of memory");
    }
    d->log = log ? *log : (struct l2d_log) { 0 };
    snprintf(d->name, sizeof(d->name), "%s", name ? name : "");
    *out = d;
    return L2D_OK;
}

void l2d_deinterlacer_reset(struct l2d_deinterlacer *d)
{
    avfilter_graph_free(&d->graph);
    av_frame_unref(d->next);
    d->ended = false;
}

void l2d_deinterlacer_destroy(struct l2d_deinterlacer **deinterlacer)
{
    struct l2d_deinterlacer *d = *deinterlacer;
    *deinterlacer = NULL;
    if (!d)
        return;
    avfilter_graph_free(&d->graph);
    av_frame_free(&d->next);
    free(d);
}

static int make_source(struct l2d_deinterlacer *d, const AVFrame *frame)
{
    AVBufferSrcParameters *p = av_buffersrc_parameters_alloc();
    d->source = avfilter_graph_alloc_filter(d->graph, avfilter_get_by_name("buffer"), "in");
    if (!p || !d->source) {
        av_free(p);
        return AVERROR(ENOMEM);
    }
    p->format = frame->format;
    p->width = frame->width;
    p->height = frame->height;
    p->sample_aspect_ratio = frame->sample_aspect_ratio;
    p->time_base = (AVRational) { 1, 1000000 };     // unused: best_effort_timestamp goes through
    l2d_av_set_source_colour(p, frame);
    int rc = av_buffersrc_parameters_set(d->source, p);
    av_free(p);
    return rc < 0 ? rc : avfilter_init_str(d->source, NULL);
}

static int make_graph(struct l2d_deinterlacer *d, const AVFrame *frame)
{
    AVFilterContext *bwdif;
    d->graph = avfilter_graph_alloc();
    if (!d->graph)
        return AVERROR(ENOMEM);
    int rc = make_source(d, frame);
    if (rc >= 0)
        rc = avfilter_graph_create_filter(&bwdif, avfilter_get_by_name("bwdif"), "bwdif",
                                          "mode=send_frame:deint=interlaced", NULL, d->graph);
    if (rc >= 0)
        rc = avfilter_graph_create_filter(&d->sink, avfilter_get_by_name("buffersink"), "out",
                                          NULL, NULL, d->graph);
    if (rc >= 0)
        rc = avfilter_link(d->source, 0, bwdif, 0);
    if (rc >= 0)
        rc = avfilter_link(bwdif, 0, d->sink, 0);
    if (rc >= 0)
        rc = avfilter_graph_config(d->graph, NULL);
    d->width = frame->width;
    d->height = frame->height;
    d->format = frame->format;
    d->matrix = (int) frame->colorspace;
    d->range = (int) frame->color_range;
    return rc;
}

static bool fits(const struct l2d_deinterlacer *d, const AVFrame *f)
{
    return f->width == d->width && f->height == d->height && f->format == d->format &&
           (int) f->colorspace == d->matrix && (int) f->color_range == d->range;
}

// The next picture into the graph, which is made if it is the first that is interlaced.
static int put_next(struct l2d_deinterlacer *d)
{
    if (d->graph && !fits(d, d->next))
        return av_buffersrc_add_frame(d->source, NULL);     // it waits until the others are out
    if (!d->graph) {
        if (d->unable || !L2D_AV_IS_INTERLACED(d->next))
            return 0;
        int rc = make_graph(d, d->next);
        if (rc < 0) {
            char why[AV_ERROR_MAX_STRING_SIZE] = "";
            av_strerror(rc, why, sizeof(why));
            avfilter_graph_free(&d->graph);
            d->unable = true;
            l2d_log_print(&d->log, L2D_LOG_WARN, "%s: interlaced, and taken as it is (%s): combs "
                          "where something moves", d->name, why);
            return rc == AVERROR(ENOMEM) ? rc : 0;
        }
        if (!d->told)
            l2d_log_print(&d->log, L2D_LOG_INFO, "%s: interlaced; made whole", d->name);
        d->told = true;
    }
    // The filter doubles its time base; of some versions durations follow and of others not.
    d->next->opaque = (void *) (intptr_t) L2D_AV_DURATION(d->next);
    return av_buffersrc_add_frame(d->source, d->next);
}

int l2d_deinterlacer_push(struct l2d_deinterlacer *d, AVFrame *frame)
{
    if (!frame) {
        d->ended = true;
        return d->graph ? av_buffersrc_add_frame(d->source, NULL) : 0;
    }
    av_frame_move_ref(d->next, frame);
    return put_next(d);
}

int l2d_deinterlacer_pull(struct l2d_deinterlacer *d, AVFrame *frame)
{
    if (d->graph) {
        int rc = av_buffersink_get_frame(d->sink, frame);
        if (rc >= 0)
            L2D_AV_DURATION(frame) = (intptr_t) frame->opaque;
        if (rc != AVERROR_EOF)
            return rc;
        avfilter_graph_free(&d->graph);
        if (d->next->buf[0]) {
            rc = put_next(d);
            if (rc < 0 || d->graph)
                return rc < 0 ? rc : AVERROR(EAGAIN);
        }
    }
    if (d->next->buf[0]) {
        av_frame_move_ref(frame, d->next);
        return 0;
    }
    bool ended = d->ended;
    d->ended = false;
    return ended ? AVERROR_EOF : AVERROR(EAGAIN);
}
