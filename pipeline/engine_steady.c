// SPDX-License-Identifier: Apache-2.0
// Pictures steadied by the one before, moved along with the source (steady.comp): what comes out of
// the model flickers less than what a model draws, whichever it is. See engine_state.h.
//
// A frame's luminance is kept from its encoding until the frame behind it has come out, drawn or
// moved (engine_moves.c): sights count them all. The share that is kept belongs to the frame, as
// all it is drawn with.
#include "pipeline/engine_submission.h"

uint32_t l2d_num_sights(const struct l2d_engine *e)
{
    return e->ring * e->draw_every;
}

static struct l2d_tensor lumas_of(const struct l2d_engine *e)
{
    struct l2d_tensor lumas = l2d_steady_lumas_shape((int32_t) l2d_num_sights(e),
                                                     e->geometry.canvas_height,
                                                     e->geometry.canvas_width);
    lumas.buf = e->lumas;
    return lumas;
}

int l2d_engine_declare_steady(struct l2d_engine *e, const struct l2d_engine_params *p,
                              struct l2d_error *err)
{
    struct l2d_tensor canvas = l2d_engine_canvas(e);
    struct l2d_tensor lumas = lumas_of(e);
    int rc = p->steady < 0 ? L2D_OK : l2d_steady_check(p->steady, err);
    if (rc != L2D_OK)
        return rc;
    e->now.steady = (float) (p->steady > 0 ? p->steady
                             : p->steady < 0 ? 0 : e->model->config.steady);
    e->info.steady = (double) e->now.steady;
    rc = l2d_engine_declare(e, &e->lumas, l2d_tensor_bytes(&lumas), L2D_MEMORY_DEVICE, "luminance",
                            err);
    return rc == L2D_OK ? l2d_engine_declare(e, &e->last_picture, l2d_tensor_bytes(&canvas),
                                             L2D_MEMORY_DEVICE, "last picture", err) : rc;
}

int l2d_steady_check(double share, struct l2d_error *err)
{
    return share >= 0 && share <= L2D_STEADY_MOST ? L2D_OK
         : l2d_error_set(err, L2D_EINVAL, "steady %g: must be within 0..%g", share,
                         L2D_STEADY_MOST);
}

int l2d_engine_build_track(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = l2d_engine_new_ahead(e, &e->track, "track", err);
    if (rc == L2D_OK)
        l2d_steady_track(e->track, l2d_engine_canvas(e), lumas_of(e), L2D_BLOCK_VIEW(e, track));
    return rc;
}

// The next last picture: the one that is drawn, steadied by the last, or, without one, that moved.
static struct l2d_tensor record(struct l2d_engine *e, struct l2d_graph *g,
                                const struct l2d_tensor *picture)
{
    struct l2d_tensor params = L2D_BLOCK_VIEW(e, steady), last = l2d_engine_canvas(e);
    last.buf = e->last_picture;
    struct l2d_tensor flow = l2d_flow(g, lumas_of(e), params, last.h, last.w);
    struct l2d_tensor next = picture ? l2d_steady(g, *picture, last, lumas_of(e), params, flow)
                                     : l2d_move(g, last, lumas_of(e), params, flow);
    l2d_graph_copy(g, last, next);
    return next;
}

struct l2d_tensor l2d_engine_record_steady(struct l2d_engine *e, struct l2d_graph *g,
                                           struct l2d_tensor picture)
{
    return record(e, g, &picture);
}

struct l2d_tensor l2d_engine_record_move(struct l2d_engine *e, struct l2d_graph *g)
{
    return record(e, g, NULL);
}

uint32_t l2d_steady_keep(struct l2d_engine *e, struct l2d_submission *s)
{
    s->block->track.incoming = e->sights % l2d_num_sights(e);
    l2d_submission_add(s, e->track, L2D_STAGE_ENCODE);
    return e->sights++;
}

void l2d_steady_see(struct l2d_engine *e, struct l2d_submission *s, uint32_t frame)
{
    e->sight[frame % L2D_TIMES] = e->sights;
    if (e->draw_every > 1 || e->settings[frame % L2D_TIMES].steady > 0)
        l2d_steady_keep(e, s);
    else
        e->sights++;
}

// last_picture was that of the sight before, and becomes this one's.
static void put_sight(struct l2d_engine *e, struct l2d_submission *s, uint32_t sight, float share)
{
    s->block->steady.now = sight % l2d_num_sights(e);
    s->block->steady.before = (sight + l2d_num_sights(e) - 1) % l2d_num_sights(e);
    s->block->steady.share = share;
    e->steadied = sight + 1;
}

struct l2d_graph *l2d_steady_decode(struct l2d_engine *e, struct l2d_submission *s, uint32_t frame)
{
    float share = e->settings[frame % L2D_TIMES].steady;
    uint32_t sight = e->sight[frame % L2D_TIMES];
    if (e->draw_every == 1 && !(share > 0))
        return e->decode;
    put_sight(e, s, sight, sight > 0 && e->steadied == sight ? share : 0);
    return e->decode_steady;
}

void l2d_steady_move(struct l2d_engine *e, struct l2d_submission *s, uint32_t sight)
{
    put_sight(e, s, sight, 1);
}
