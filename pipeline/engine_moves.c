// SPDX-License-Identifier: Apache-2.0
// Frames that are not drawn because it is not their turn: the picture that came out last, each
// pixel of it moved to where the source's has gone (l2d_move). They come out behind the drawn
// frame that they follow, which may be some frames later. See engine_steady.c for the flow.
#include "pipeline/engine_submission.h"

bool l2d_moves_next(const struct l2d_engine *e)
{
    return e->moves_left > 0 && !l2d_live_begins(e);
}

static void add_move(struct l2d_engine *e, struct l2d_submission *s, const struct l2d_moved *m)
{
    l2d_steady_move(e, s, m->sight);
    l2d_submission_add_output(e, s, e->move, e->decoded - 1, &m->place, &m->time);
    l2d_mix_out(e, s, m->sight, m->mix);
}

int l2d_engine_push_moved(struct l2d_engine *e, const struct l2d_frame *frame,
                          struct l2d_error *err)
{
    struct l2d_submission s;
    uint32_t last = e->frames - 1, at = last % L2D_TIMES;
    int rc = l2d_submission_begin_frame(e, &s, frame, err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_moved m = {
        l2d_frame_time_of(frame), e->place[e->frames % L2D_TIMES], l2d_steady_keep(e, &s),
        e->now.mix,
    };
    l2d_mix_see(e, &s, m.sight, m.mix);
    if (e->decoded > last)
        add_move(e, &s, &m);
    else
        e->moved[at][e->num_moved[at]++] = m;
    e->moves_left--;
    e->stats.frames_moved++;
    s.beside = true;
    return l2d_submission_submit(e, &s, err);
}

int l2d_moves_send(struct l2d_engine *e, struct l2d_error *err)
{
    uint32_t at = (e->decoded - 1) % L2D_TIMES, count = e->decoded > 0 ? e->num_moved[at] : 0;
    int rc = L2D_OK;
    for (uint32_t i = 0; i < count && rc == L2D_OK; i++) {
        struct l2d_submission s;
        rc = l2d_submission_begin(e, &s, err);
        if (rc != L2D_OK)
            break;
        l2d_submission_add_upload(&s);
        add_move(e, &s, &e->moved[at][i]);
        s.beside = s.slot->is_part = true;
        rc = l2d_submission_submit(e, &s, err);
    }
    if (count > 0)
        e->num_moved[at] = 0;
    return rc;
}
