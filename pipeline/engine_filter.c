// SPDX-License-Identifier: Apache-2.0
// The engine's similar-frame filter: which frames are not drawn, and what comes out in their place.
// The decision is similar.c's.
#include <assert.h>

#include "pipeline/engine_submission.h"

int l2d_engine_declare_filter(struct l2d_engine *e, double threshold, struct l2d_error *err)
{
    if (!(threshold >= 0 && threshold <= 1))
        return l2d_error_set(err, L2D_EINVAL, "similarity %g: must be within 0..1", threshold);
    e->filter = threshold > 0;
    e->similar.threshold = threshold;
    e->shown = -1;
    if (!e->filter)
        return L2D_OK;
    struct l2d_tensor canvas = l2d_engine_canvas(e), last = canvas, sums, back;
    uint64_t size = L2D_SIMILAR_SUMS * 16;
    int rc = l2d_engine_declare(e, &e->last_canvas, l2d_tensor_bytes(&canvas), L2D_MEMORY_DEVICE,
                                "last canvas", err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->sums, size, L2D_MEMORY_DEVICE, "sums", err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->sums_back, size, L2D_MEMORY_READBACK, "sums readback", err);
    if (rc == L2D_OK)
        rc = l2d_frame_create(&e->last_out, e->output->width, e->output->height,
                              &e->output->format, err);
    last.buf = e->last_canvas;
    sums = l2d_tensor_view(e->sums, 0, L2D_F32, 1, 1, L2D_SIMILAR_SUMS, 4);
    back = sums;
    back.buf = e->sums_back;
    if (rc == L2D_OK)
        rc = l2d_engine_new_ahead(e, &e->keep, "keep", err);
    if (rc == L2D_OK)
        rc = l2d_engine_new_ahead(e, &e->compare, "compare", err);
    if (rc != L2D_OK)
        return rc;
    l2d_graph_copy(e->keep, last, canvas);
    l2d_similar(e->compare, last, canvas, sums);
    l2d_graph_copy(e->compare, back, sums);
    return L2D_OK;
}

// How alike the canvas and the last frame's are. Waits for all that was submitted.
static int compare(struct l2d_engine *e, struct l2d_submission *s, double *cosine,
                   struct l2d_error *err)
{
    double sum[3] = { 0 };
    l2d_submission_add(s, e->compare, L2D_STAGE_UPLOAD);
    s->slot->is_part = true;
    int rc = l2d_submission_submit(e, s, err);
    if (rc == L2D_OK)
        rc = l2d_engine_collect_all(e, 0, err);
    if (rc == L2D_OK)
        rc = l2d_buf_invalidate(e->sums_back, err);
    const float *part = e->sums_back->mapped;
    for (int i = 0; rc == L2D_OK && i < L2D_SIMILAR_SUMS; i++)
        for (int k = 0; k < 3; k++)
            sum[k] += (double) part[4 * i + k];
    *cosine = l2d_similar_cosine(sum[0], sum[1], sum[2]);
    return rc;
}

// The frame is not drawn: its picture is that of the last frame, now, or when that has come out.
static int repeat_last(struct l2d_engine *e, const struct l2d_frame *frame, struct l2d_error *err)
{
    uint32_t last = e->frames - 1, at = last % L2D_TIMES;
    struct l2d_frame_time t = l2d_frame_time_of(frame);
    e->stats.frames_skipped++;
    if (e->shown == last)
        return l2d_engine_emit(e, e->last_out->data, &t, err);
    assert(e->num_repeats[at] < L2D_MAX_SKIPS);
    e->repeat[at][e->num_repeats[at]++] = t;
    return L2D_OK;
}

int l2d_engine_push_filtered(struct l2d_engine *e, const struct l2d_frame *frame,
                             struct l2d_error *err)
{
    struct l2d_submission s;
    double cosine;
    int rc = l2d_submission_begin_frame(e, &s, frame, err);
    if (rc == L2D_OK)
        rc = compare(e, &s, &cosine, err);
    if (rc != L2D_OK)
        return rc;
    if (l2d_similar_skip(&e->similar, cosine, e->now.seed, (uint32_t) e->stats.frames_in))
        return repeat_last(e, frame, err);
    rc = l2d_submission_begin(e, &s, err);
    if (rc != L2D_OK)
        return rc;
    l2d_submission_add_upload(&s);
    return l2d_engine_stream_frame(e, &s, err);
}
