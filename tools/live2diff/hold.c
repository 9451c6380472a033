// SPDX-License-Identifier: Apache-2.0
// See hold.h.
#include "hold.h"

#include <string.h>

#define WINDOW_S 5.0
#define LONGEST_S 0.5           // a source is silent after that whatever its habits, and no two
                                // held pictures are further apart, however slow the model was

void hold_init(struct hold *hold, enum on_loss kind, struct fate_ledger *ledger, double frame_s)
{
    *hold = (struct hold) { .kind = kind, .ledger = ledger, .frame_s = frame_s, .rate_s = frame_s };
}

void hold_finish(struct hold *hold)
{
    l2d_frame_unref(&hold->picture);
}

static double longest(double a, double b)
{
    return a > b ? a : b;
}

// Jitter is no loss: half as much again as the longest wait lately.
static double patience_s(const struct hold *h)
{
    double wait_s = longest(1.5 * longest(h->usual_s[0], h->usual_s[1]), 2 * h->frame_s);
    return wait_s < LONGEST_S ? wait_s : longest(LONGEST_S, 2 * h->frame_s);
}

static double next_due_s(const struct hold *h)
{
    return h->holding ? h->due_s : h->real_s + patience_s(h);
}

int hold_wait_ms(const struct hold *hold, double now_s)
{
    double wait_s = hold->picture ? next_due_s(hold) - now_s : LONGEST_S;
    return wait_s < 0.001 ? 1 : wait_s > 0.05 ? 50 : (int) (1e3 * wait_s);
}

static void note_wait(struct hold *h, double now_s)
{
    double wait_s = now_s - h->real_s;
    if (now_s - h->usual_since_s > WINDOW_S) {
        h->usual_s[1] = h->usual_s[0];
        h->usual_s[0] = 0;
        h->usual_since_s = now_s;
    }
    h->usual_s[0] = longest(h->usual_s[0], wait_s);
    h->rate_s += (wait_s - h->rate_s) / 8;
}

// The source is back, but late: held pictures go on at half their pace, or no frame would be in
// time ever again.
static void wait_for_source(struct hold *h, double now_s)
{
    const struct l2d_frame *p = h->picture;
    double held_s = (double) (h->last_pts - h->real_pts) * p->time_base_num / p->time_base_den;
    double most_s = now_s - held_s, later_s = h->real_s + h->frame_s / 2;
    if (most_s > h->real_s)
        h->real_s = later_s < most_s ? later_s : most_s;
}

bool hold_take(struct hold *hold, struct l2d_frame *frame, double now_s)
{
    struct hold *h = hold;
    if (h->picture && frame->pts <= h->last_pts) {
        wait_for_source(h, now_s);
        return false;
    }
    if (h->picture && !h->holding)
        note_wait(h, now_s);
    l2d_frame_unref(&h->picture);
    h->picture = l2d_frame_ref(frame);
    h->last_pts = h->real_pts = frame->pts;
    h->real_s = now_s;
    h->holding = false;
    return true;
}

// Seven bars at three quarters, in the matrix of HDTV; near enough in the others.
static void draw_bars(struct l2d_frame *f)
{
    static const uint8_t bars[7][3] = {
        { 180, 128, 128 }, { 168, 44, 136 }, { 145, 147, 44 }, { 133, 63, 52 },
        { 63, 193, 204 }, { 51, 109, 212 }, { 28, 212, 120 },
    };
    for (uint32_t plane = 0; plane < f->num_planes && plane < 3; plane++) {
        uint32_t width = l2d_frame_row_bytes(f, plane);
        for (uint32_t y = 0; y < l2d_frame_num_rows(f, plane); y++) {
            uint8_t *row = f->data + f->plane_offset_bytes[plane] +
                           (size_t) y * f->plane_stride_bytes[plane];
            for (uint32_t x = 0; x < width; x++)
                row[x] = bars[x * 7 / width][plane];
        }
    }
}

static bool is_due(const struct hold *h, double now_s, int64_t pts)
{
    if (pts <= h->last_pts || now_s < next_due_s(h))
        return false;
    if (!h->holding)
        return now_s - fate_last_begun(h->ledger) > 1.5 * h->frame_s;
    int64_t next = h->last_pts; // the source is back: hold until its first frame is through
    return !fate_next(h->ledger, h->since_s, &next) || pts < next;
}

int hold_give(struct hold *hold, double now_s, struct l2d_frame **out, struct l2d_error *err)
{
    struct hold *h = hold;
    *out = NULL;
    if (h->kind == ON_LOSS_END || !h->picture)
        return L2D_OK;
    const struct l2d_frame *p = h->picture;
    double ticks = (now_s - h->real_s) * p->time_base_den / p->time_base_num;
    int64_t pts = h->real_pts + (int64_t) ticks;
    if (!is_due(h, now_s, pts))
        return L2D_OK;
    int rc = l2d_frame_create(out, p->width, p->height, &p->format, err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_frame *f = *out;
    f->time_base_num = p->time_base_num;
    f->time_base_den = p->time_base_den;
    f->pts = h->last_pts = pts;
    if (h->kind == ON_LOSS_SLATE)
        draw_bars(f);
    else
        memcpy(f->data, p->data, p->size_bytes);
    double step_s = longest(h->frame_s, h->rate_s < LONGEST_S ? h->rate_s : LONGEST_S);
    h->due_s = h->holding && now_s - h->due_s < step_s ? h->due_s + step_s : now_s + step_s;
    if (!h->holding)
        h->since_s = now_s;
    h->holding = true;
    fate_hold(h->ledger);
    return L2D_OK;
}
