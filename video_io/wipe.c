// SPDX-License-Identifier: Apache-2.0
// See wipe.h.
#include "video_io/wipe.h"

#include <stdlib.h>

#include "video_io/picture.h"

#define MAX_SIDE 1920           // of the source's copy

struct l2d_wipe {
    SDL_Renderer *renderer;
    struct l2d_picture *converter;
    SDL_Texture *texture;       // NULL: no source yet
    int width, height;          // of the texture
};

int l2d_wipe_create(struct l2d_wipe **out, SDL_Renderer *renderer, enum l2d_matrix matrix,
                    bool full_range, struct l2d_error *err)
{
    struct l2d_wipe *w = calloc(1, sizeof(*w));
    if (!w)
        return l2d_error_set(err, L2D_ENOMEM, "window: out of memory");
    w->renderer = renderer;
    int rc = l2d_picture_create(&w->converter, &(struct l2d_picture_params) {
        .format = AV_PIX_FMT_YUV420P, .matrix = matrix, .full_range = full_range,
        .max_side = MAX_SIDE,
    }, err);
    if (rc != L2D_OK)
        l2d_wipe_destroy(&w);
    *out = w;
    return rc;
}

void l2d_wipe_destroy(struct l2d_wipe **wipe)
{
    struct l2d_wipe *w = *wipe;
    *wipe = NULL;
    if (!w)
        return;
    if (w->texture)
        SDL_DestroyTexture(w->texture);
    l2d_picture_destroy(&w->converter);
    free(w);
}

void l2d_wipe_set(struct l2d_wipe *w, const struct l2d_frame *source)
{
    AVFrame *p = NULL;
    if (l2d_picture_convert(w->converter, source, &p, NULL) != L2D_OK)
        return;
    if (!w->texture || w->width != p->width || w->height != p->height) {
        if (w->texture)
            SDL_DestroyTexture(w->texture);
        w->texture = SDL_CreateTexture(w->renderer, SDL_PIXELFORMAT_IYUV,
                                       SDL_TEXTUREACCESS_STREAMING, p->width, p->height);
        w->width = p->width;
        w->height = p->height;
    }
    if (w->texture)
        SDL_UpdateYUVTexture(w->texture, NULL, p->data[0], p->linesize[0], p->data[1],
                             p->linesize[1], p->data[2], p->linesize[2]);
    av_frame_free(&p);
}

void l2d_wipe_draw(struct l2d_wipe *w, SDL_Rect where, enum l2d_display_fit fit, double split)
{
    if (!w->texture)
        return;
    SDL_Rect left = { where.x, where.y, (int) (where.w * split + 0.5), where.h };
    SDL_Rect line = { left.x + left.w, where.y, 1, where.h };
    SDL_FRect all = { (float) where.x, (float) where.y, (float) where.w, (float) where.h };
    if (fit != L2D_DISPLAY_STRETCH) {
        float across = all.w / (float) w->width, down = all.h / (float) w->height;
        float scale = (across < down) == (fit == L2D_DISPLAY_CONTAIN) ? across : down;
        all.x += (all.w - (float) w->width * scale) / 2;
        all.y += (all.h - (float) w->height * scale) / 2;
        all.w = (float) w->width * scale;
        all.h = (float) w->height * scale;
    }
    SDL_RenderSetClipRect(w->renderer, &left);
    SDL_RenderFillRect(w->renderer, &left);         // black, where contain leaves bars
    SDL_RenderCopyF(w->renderer, w->texture, NULL, &all);
    SDL_RenderSetClipRect(w->renderer, NULL);
    SDL_SetRenderDrawColor(w->renderer, 255, 255, 255, 255);
    SDL_RenderFillRect(w->renderer, &line);
}
