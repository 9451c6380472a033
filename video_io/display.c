// SPDX-License-Identifier: Apache-2.0
// SDL2 window: an I420 texture, scaled by SDL. See display.h.
#include "video_io/display.h"

#include <stdlib.h>
#include <string.h>

#include <SDL.h>

#define MAX_WAIT_MS 10000       // a gap in pts is no reason to freeze for longer

struct display {
    struct l2d_sink base;
    SDL_Window *window;
    SDL_Renderer *renderer;
    SDL_Texture *texture;
    int32_t width, height;      // of the texture
    int32_t shown_w, shown_h;   // width:height as displayed, in square pixels
    bool sdl_open, paced, closed;
    bool clock_runs;            // frame of clock_pts_ms was shown at clock_start_ms
    double clock_pts_ms;
    uint64_t clock_start_ms;
};

static void handle(struct display *d, const SDL_Event *event)
{
    SDL_Keycode key = event->type == SDL_KEYDOWN ? event->key.keysym.sym : 0;
    if (event->type == SDL_QUIT || key == SDLK_q || key == SDLK_ESCAPE ||
        (event->type == SDL_WINDOWEVENT && event->window.event == SDL_WINDOWEVENT_CLOSE))
        d->closed = true;
}

static void handle_pending(struct display *d)
{
    SDL_Event event;
    while (SDL_PollEvent(&event))
        handle(d, &event);
}

// Until pts is due, or the window closes.
static void wait_until_due(struct display *d, double pts_ms)
{
    double due_ms = (double) d->clock_start_ms + pts_ms - d->clock_pts_ms;
    double now_ms = (double) SDL_GetTicks64();
    if (!d->clock_runs || due_ms < now_ms || due_ms > now_ms + MAX_WAIT_MS) {
        d->clock_runs = true;
        d->clock_start_ms = SDL_GetTicks64();
        d->clock_pts_ms = pts_ms;
        return;
    }
    while (!d->closed && (now_ms = (double) SDL_GetTicks64()) < due_ms) {
        SDL_Event event;
        if (SDL_WaitEventTimeout(&event, (int) (due_ms - now_ms) + 1))
            handle(d, &event);
    }
}

static SDL_Rect fit(const struct display *d, int out_w, int out_h)
{
    SDL_Rect r = { 0, 0, out_w, out_h };
    if ((int64_t) out_w * d->shown_h > (int64_t) out_h * d->shown_w)
        r.w = (int) ((int64_t) out_h * d->shown_w / d->shown_h);
    else
        r.h = (int) ((int64_t) out_w * d->shown_h / d->shown_w);
    r.x = (out_w - r.w) / 2;
    r.y = (out_h - r.h) / 2;
    return r;
}

static int write_video(struct l2d_sink *sink, struct l2d_frame *f, struct l2d_error *err)
{
    struct display *d = (struct display *) sink;
    if (f->width != d->width || f->height != d->height || f->num_planes != 3)
        return l2d_error_set(err, L2D_EINVAL, "window: frame of %dx%d, opened for I420 of %dx%d",
                             f->width, f->height, d->width, d->height);
    handle_pending(d);
    if (d->paced && !d->closed)
        wait_until_due(d, 1e3 * (double) f->pts * f->time_base_num / f->time_base_den);
    if (d->closed)
        return l2d_error_set(err, L2D_ECLOSED, "the window was closed");

    const uint64_t *at = f->plane_offset_bytes;
    int failed = SDL_UpdateYUVTexture(d->texture, NULL,
                                      f->data + at[0], (int) f->plane_stride_bytes[0],
                                      f->data + at[1], (int) f->plane_stride_bytes[1],
                                      f->data + at[2], (int) f->plane_stride_bytes[2]);
    int w = 0, h = 0;
    failed = failed || SDL_GetRendererOutputSize(d->renderer, &w, &h) ||
             SDL_SetRenderDrawColor(d->renderer, 0, 0, 0, 255) || SDL_RenderClear(d->renderer);
    SDL_Rect where = fit(d, w, h);
    failed = failed || SDL_RenderCopy(d->renderer, d->texture, NULL, &where);
    if (failed)
        return l2d_error_set(err, L2D_EIO, "window: %s", SDL_GetError());
    SDL_RenderPresent(d->renderer);
    sink->stats.frames++;
    return L2D_OK;
}

static int write_audio(struct l2d_sink *sink, const struct AVPacket *packet, struct l2d_error *err)
{
    (void) packet;
    (void) err;
    handle_pending((struct display *) sink);
    return L2D_OK;
}

static int finish(struct l2d_sink *sink, bool cut_audio, struct l2d_error *err)
{
    (void) sink;
    (void) cut_audio;
    (void) err;
    return L2D_OK;
}

static void destroy(struct l2d_sink *sink)
{
    struct display *d = (struct display *) sink;
    if (d->texture)
        SDL_DestroyTexture(d->texture);
    if (d->renderer)
        SDL_DestroyRenderer(d->renderer);
    if (d->window)
        SDL_DestroyWindow(d->window);
    if (d->sdl_open)
        SDL_QuitSubSystem(SDL_INIT_VIDEO);
    free(d);
}

static const struct l2d_sink_ops ops = { write_video, write_audio, finish, destroy };

// As large as the picture, but within four fifths of the screen.
static void window_size(const struct display *d, int *w, int *h)
{
    SDL_Rect screen = { 0, 0, 1280, 720 };
    SDL_GetDisplayUsableBounds(0, &screen);
    int max_w = screen.w * 4 / 5, max_h = screen.h * 4 / 5;
    *w = d->shown_w;
    *h = d->shown_h;
    if (*w <= max_w && *h <= max_h)
        return;
    SDL_Rect r = fit(d, max_w, max_h);
    *w = r.w > 0 ? r.w : 1;
    *h = r.h > 0 ? r.h : 1;
}

static int open_window(struct display *d, const struct l2d_sink_params *p, struct l2d_error *err)
{
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");      // Ctrl-C belongs to the program
    SDL_SetHint(SDL_HINT_RENDER_SCALE_QUALITY, "linear");
    SDL_SetHint(SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "0");
    if (SDL_InitSubSystem(SDL_INIT_VIDEO) != 0)
        return l2d_error_set(err, L2D_EIO, "no window can be opened (%s): is there a screen, and "
                             "is $DISPLAY or $WAYLAND_DISPLAY set?", SDL_GetError());
    d->sdl_open = true;
    const char *driver = SDL_GetCurrentVideoDriver();   // these show nothing to anybody
    if (driver && !SDL_getenv("SDL_VIDEODRIVER") &&
        (!strcmp(driver, "offscreen") || !strcmp(driver, "dummy")))
        return l2d_error_set(err, L2D_EIO, "no window can be opened: is there a screen, and is "
                             "$DISPLAY or $WAYLAND_DISPLAY set?");
    SDL_SetYUVConversionMode(p->full_range ? SDL_YUV_CONVERSION_JPEG
                             : p->matrix == L2D_MATRIX_BT601 ? SDL_YUV_CONVERSION_BT601
                             : SDL_YUV_CONVERSION_BT709);
    int w, h;
    window_size(d, &w, &h);
    d->window = SDL_CreateWindow(p->title ? p->title : "live2diff", SDL_WINDOWPOS_CENTERED,
                                 SDL_WINDOWPOS_CENTERED, w, h, SDL_WINDOW_RESIZABLE);
    if (d->window)
        d->renderer = SDL_CreateRenderer(d->window, -1, 0);
    if (d->renderer)
        d->texture = SDL_CreateTexture(d->renderer, SDL_PIXELFORMAT_IYUV,
                                       SDL_TEXTUREACCESS_STREAMING, d->width, d->height);
    if (!d->texture)
        return l2d_error_set(err, L2D_EIO, "window of %dx%d: %s", w, h, SDL_GetError());
    return L2D_OK;
}

int l2d_display_open(struct l2d_sink **out, const struct l2d_sink_params *params,
                     struct l2d_error *err)
{
    struct display *d = calloc(1, sizeof(*d));
    if (!d)
        return l2d_error_set(err, L2D_ENOMEM, "window: out of memory");
    d->base.ops = &ops;
    d->width = params->width;
    d->height = params->height;
    d->shown_w = params->width;
    d->shown_h = params->height;
    if (params->sar_num > 0 && params->sar_den > 0) {
        double w = (double) params->width * params->sar_num / params->sar_den;
        d->shown_w = w < 1 ? 1 : w > 4.0 * L2D_FRAME_MAX_DIM ? 4 * L2D_FRAME_MAX_DIM : (int32_t) w;
    }
    d->paced = !params->unpaced;
    int rc = open_window(d, params, err);
    if (rc != L2D_OK) {
        destroy(&d->base);
        return rc;
    }
    *out = &d->base;
    return L2D_OK;
}
