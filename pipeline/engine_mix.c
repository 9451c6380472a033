// SPDX-License-Identifier: Apache-2.0
// The source mixed into what is drawn: all over the picture, and more where a mask says so. A
// frame's source is kept, as large as the output, from its encoding until it has come out; sights
// count them as they do luminances (engine_steady.c). How much is mixed belongs to the frame.
#include "pipeline/engine_submission.h"

static uint64_t source_pixels(const struct l2d_engine *e)
{
    return (uint64_t) e->geometry.out_canvas_width * (uint64_t) e->geometry.out_canvas_height;
}

static uint64_t mask_bytes(const struct l2d_engine *e)
{
    return (uint64_t) e->geometry.out_width * (uint64_t) e->geometry.out_height * 4;
}

int l2d_mix_check(double mix, struct l2d_error *err)
{
    return mix >= 0 && mix <= 1 ? L2D_OK
         : l2d_error_set(err, L2D_EINVAL, "mix %g: must be within 0..1", mix);
}

int l2d_engine_declare_mix(struct l2d_engine *e, const struct l2d_engine_params *p,
                           struct l2d_error *err)
{
    int rc = l2d_mix_check(p->mix, err);
    e->now.mix = (float) p->mix;
    e->info.mix = p->mix;
    e->masked = p->mask != NULL;
    e->info.can_mix = p->can_mix || p->mix > 0 || p->mask;
    if (rc != L2D_OK || !e->info.can_mix)
        return rc;
    rc = l2d_engine_declare(e, &e->sources, source_pixels(e) * 4 * l2d_num_sights(e),
                            L2D_MEMORY_DEVICE, "sources", err);
    if (rc == L2D_OK && e->masked)
        rc = l2d_engine_declare(e, &e->mask, mask_bytes(e), L2D_MEMORY_DEVICE, "mask", err);
    return rc;
}

// The mask as large as the output: by the graph that does it for sources.
static int convert_mask(struct l2d_engine *e, struct l2d_graph *g, struct l2d_buf *pixels,
                        struct l2d_buf *params, const struct l2d_frame *mask,
                        struct l2d_error *err)
{
    int32_t w = e->geometry.out_width, h = e->geometry.out_height;
    bool turned = mask->rotation % 180 != 0;
    struct l2d_color_rect whole = {
        .w = (float) (turned ? mask->height : mask->width),
        .h = (float) (turned ? mask->width : mask->height),
    };
    struct l2d_color_in_params p;
    uint64_t ticket, activations;
    l2d_color_in_setup(&p, mask, w, h, whole);
    l2d_color_in_packed(g, l2d_engine_whole(pixels), l2d_engine_whole(params), h, w,
                        l2d_engine_whole(e->mask));
    int rc = l2d_buf_write(pixels, 0, mask->data, mask->size_bytes, err);
    if (rc == L2D_OK)
        rc = l2d_buf_write(params, 0, &p, sizeof(p), err);
    if (rc == L2D_OK)
        rc = l2d_graph_plan(g, &activations, err);
    if (rc == L2D_OK)
        rc = l2d_graph_finish(g, NULL, err);
    if (rc == L2D_OK)
        rc = l2d_gpu_submit(e->gpu, &(struct l2d_submit) { g, L2D_STAGE_UPLOAD }, 1, &ticket, err);
    return rc == L2D_OK ? l2d_gpu_wait(e->gpu, ticket, err) : rc;
}

int l2d_engine_load_mask(struct l2d_engine *e, const struct l2d_frame *mask, struct l2d_error *err)
{
    struct l2d_graph *g = NULL;
    struct l2d_buf *pixels = NULL, *params = NULL;
    int rc = l2d_buf_create(&pixels, e->gpu, mask->size_bytes, L2D_MEMORY_DEVICE, "mask as stored",
                            err);
    if (rc == L2D_OK)
        rc = l2d_buf_create(&params, e->gpu, sizeof(struct l2d_color_in_params), L2D_MEMORY_DEVICE,
                            "mask params", err);
    if (rc == L2D_OK)
        rc = l2d_graph_create(&g, e->gpu, L2D_F32, "mask", err);
    if (rc == L2D_OK)
        rc = convert_mask(e, g, pixels, params, mask, err);
    l2d_graph_destroy(&g);
    l2d_buf_destroy(&pixels);
    l2d_buf_destroy(&params);
    return rc;
}

static bool mixes(const struct l2d_engine *e, float mix)
{
    return e->sources && (mix > 0 || e->masked);
}

static u32 place_of(const struct l2d_engine *e, uint32_t sight)
{
    return (u32) (sight % l2d_num_sights(e) * source_pixels(e));
}

void l2d_mix_see(struct l2d_engine *e, struct l2d_submission *s, uint32_t sight, float mix)
{
    if (!mixes(e, mix))
        return;
    s->block->source_in = e->source_params;
    s->block->source_in.first = place_of(e, sight);
    l2d_submission_add(s, e->source_in, L2D_STAGE_UPLOAD);
}

void l2d_mix_out(struct l2d_engine *e, struct l2d_submission *s, uint32_t sight, float mix)
{
    if (!mixes(e, mix))
        return;
    s->block->color_out.under = place_of(e, sight);
    s->block->color_out.mix = mix;
    s->block->color_out.masked = e->masked;
}
