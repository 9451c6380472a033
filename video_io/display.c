// SPDX-License-Identifier: Apache-2.0
// SDL2 window: an I420 texture, scaled by SDL. See display.h.
#include "video_io/display.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <SDL.h>
#include <SDL_syswm.h>

#include "video_io/line_entry.h"
#include "video_io/overlay.h"
#include "video_io/wipe.h"

#define MAX_WAIT_MS 10000       // a gap in pts is no reason to freeze for longer
#define TEXT_BYTES 2048         // of each text over the picture

static const char own_keys[] = "Q, Esc  close\nF, F11  full screen\nI  status\nH  this help";
static const char prompt_keys[] = "\nP, Return  type a prompt";
static const char compare_keys[] = "\nC  compare with the source; the mouse moves the line";

struct display {
    struct l2d_sink base;
    SDL_Window *window;
    SDL_Renderer *renderer;
    SDL_Texture *texture;
    int32_t width, height;      // of the texture
    int32_t shown_w, shown_h;   // width:height as displayed, in square pixels
    enum l2d_matrix matrix;
    bool full_range;
    bool sdl_open, paced, closed;
    bool lost;                  // the display server has gone
    bool clock_runs;            // frame of clock_pts_ms was shown at clock_start_ms
    double clock_pts_ms;
    uint64_t clock_start_ms;

    struct l2d_display_hooks hooks;
    struct l2d_overlay *overlay;        // NULL: no hooks, or no font
    struct l2d_line_entry entry;
    bool shows_status, shows_help;
    struct l2d_wipe *wipe;              // NULL: nothing is compared
    double split;
    SDL_Rect shown;             // where in the renderer's output the picture was drawn
    bool changed;               // what is drawn over the picture
};

// --- drawing

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

static void draw_text(struct display *d, SDL_Rect bounds)
{
    char text[TEXT_BYTES] = "";
    if (!d->overlay)
        return;
    if (d->shows_status && d->hooks.status) {
        d->hooks.status(d->hooks.user, text, sizeof(text));
        l2d_overlay_draw(d->overlay, L2D_OVERLAY_TOP, text, bounds);
    }
    if (d->shows_help) {
        snprintf(text, sizeof(text), "%s%s%s%s%s", own_keys, d->hooks.source ? compare_keys : "",
                 d->hooks.prompt ? prompt_keys : "", d->hooks.help ? "\n" : "",
                 d->hooks.help ? d->hooks.help : "");
        l2d_overlay_draw(d->overlay, L2D_OVERLAY_MIDDLE, text, bounds);
    }
    if (d->entry.open) {
        snprintf(text, sizeof(text), "%s\u258f", d->entry.text);
        l2d_overlay_draw(d->overlay, L2D_OVERLAY_BOTTOM, text, bounds);
    }
}

// The last picture, and what is over it.
static int draw(struct display *d, struct l2d_error *err)
{
    int w = 0, h = 0;
    int failed = SDL_GetRendererOutputSize(d->renderer, &w, &h) ||
                 SDL_SetRenderDrawColor(d->renderer, 0, 0, 0, 255) || SDL_RenderClear(d->renderer);
    SDL_Rect where = fit(d, w, h);
    failed = failed || SDL_RenderCopy(d->renderer, d->texture, NULL, &where);
    if (failed)
        return l2d_error_set(err, L2D_EIO, "window: %s", SDL_GetError());
    d->shown = where;
    if (d->wipe)
        l2d_wipe_draw(d->wipe, where, d->hooks.fit, d->split);
    draw_text(d, (SDL_Rect) { 0, 0, w, h });
    SDL_RenderPresent(d->renderer);
    d->changed = false;
    return L2D_OK;
}

// --- what happens to the window

static void open_entry(struct display *d)
{
    char text[L2D_LINE_ENTRY_BYTES] = "";
    d->hooks.prompt(d->hooks.user, text, sizeof(text));
    l2d_line_entry_open(&d->entry, text);
    SDL_StartTextInput();
}

static void close_entry(struct display *d, bool take)
{
    d->entry.open = false;
    SDL_StopTextInput();
    if (take && d->hooks.entered)
        d->hooks.entered(d->hooks.user, d->entry.text);
}

static void paste(struct display *d)
{
    char *text = SDL_GetClipboardText();
    if (text)
        l2d_line_entry_append(&d->entry, text);
    SDL_free(text);
}

static void entry_key(struct display *d, SDL_Keysym key)
{
    bool ctrl = key.mod & KMOD_CTRL;
    if (key.sym == SDLK_ESCAPE)
        close_entry(d, false);
    else if (key.sym == SDLK_RETURN || key.sym == SDLK_KP_ENTER)
        close_entry(d, true);
    else if (key.sym == SDLK_BACKSPACE || (ctrl && key.sym == SDLK_w))
        l2d_line_entry_erase(&d->entry, ctrl);
    else if (ctrl && key.sym == SDLK_u)
        l2d_line_entry_clear(&d->entry);
    else if (ctrl && key.sym == SDLK_v)
        paste(d);
}

static void toggle_compare(struct display *d)
{
    struct l2d_error err = { 0 };
    bool on = !d->wipe;
    l2d_wipe_destroy(&d->wipe);
    if (on && l2d_wipe_create(&d->wipe, d->renderer, d->matrix, d->full_range, &err) != L2D_OK)
        return;
    d->hooks.compare(d->hooks.user, on);
}

// The line follows the mouse while its button is down. x: in the window's own units.
static void drag(struct display *d, int x)
{
    int window_w = 0, output_w = 0;
    SDL_GetWindowSize(d->window, &window_w, NULL);
    SDL_GetRendererOutputSize(d->renderer, &output_w, NULL);
    if (!d->wipe || window_w < 1 || d->shown.w < 1)
        return;
    double split = ((double) x * output_w / window_w - d->shown.x) / d->shown.w;
    d->split = split < 0 ? 0 : split > 1 ? 1 : split;
}

static void window_key(struct display *d, SDL_Keycode key)
{
    bool full = SDL_GetWindowFlags(d->window) & SDL_WINDOW_FULLSCREEN_DESKTOP;
    if (key == SDLK_q || key == SDLK_ESCAPE)
        d->closed = true;
    else if (key == SDLK_f || key == SDLK_F11)
        SDL_SetWindowFullscreen(d->window, full ? 0 : SDL_WINDOW_FULLSCREEN_DESKTOP);
    else if (key == SDLK_i && d->overlay)
        d->shows_status = !d->shows_status;
    else if (key == SDLK_h && d->overlay)
        d->shows_help = !d->shows_help;
    else if (key == SDLK_c && d->hooks.source && d->hooks.compare)
        toggle_compare(d);
    else if ((key == SDLK_p || key == SDLK_RETURN) && d->overlay && d->hooks.prompt)
        open_entry(d);
    else if (d->hooks.key)
        d->hooks.key(d->hooks.user, SDL_GetKeyName(key));
}

static void handle(struct display *d, const SDL_Event *event)
{
    bool is_key = event->type == SDL_KEYDOWN;
    if (event->type == SDL_QUIT ||
        (event->type == SDL_WINDOWEVENT && event->window.event == SDL_WINDOWEVENT_CLOSE))
        d->closed = true;
    else if (is_key && d->entry.open)
        entry_key(d, event->key.keysym);
    else if (is_key && !event->key.repeat)
        window_key(d, event->key.keysym.sym);
    else if (event->type == SDL_MOUSEBUTTONDOWN)
        drag(d, event->button.x);
    else if (event->type == SDL_MOUSEMOTION && event->motion.state)
        drag(d, event->motion.x);
    else if (event->type == SDL_TEXTINPUT && d->entry.open)
        l2d_line_entry_append(&d->entry, event->text.text);
    else if (event->type != SDL_WINDOWEVENT)
        return;
    d->changed = true;
}

// returns  L2D_ECLOSED once the window is closed.
static int handle_pending(struct display *d, struct l2d_error *err)
{
    SDL_Event event;
    while (!d->lost && SDL_PollEvent(&event))
        handle(d, &event);
    if (d->lost)
        return l2d_error_set(err, L2D_EIO, "window: its display server has gone");
    return d->closed ? l2d_error_set(err, L2D_ECLOSED, "the window was closed") : L2D_OK;
}

// Until pts is due, or the window closes.
static int wait_until_due(struct display *d, double pts_ms, struct l2d_error *err)
{
    double due_ms = (double) d->clock_start_ms + pts_ms - d->clock_pts_ms;
    double now_ms = (double) SDL_GetTicks64();
    if (!d->clock_runs || due_ms < now_ms || due_ms > now_ms + MAX_WAIT_MS) {
        d->clock_runs = true;
        d->clock_start_ms = SDL_GetTicks64();
        d->clock_pts_ms = pts_ms;
        return L2D_OK;
    }
    int rc = L2D_OK;
    while (rc == L2D_OK && !d->closed && (now_ms = (double) SDL_GetTicks64()) < due_ms) {
        SDL_Event event;
        if (SDL_WaitEventTimeout(&event, (int) (due_ms - now_ms) + 1))
            handle(d, &event);
        if (d->changed && d->base.stats.frames > 0)
            rc = draw(d, err);
    }
    return rc;
}

// --- the sink

static int write_video(struct l2d_sink *sink, struct l2d_frame *f, struct l2d_error *err)
{
    struct display *d = (struct display *) sink;
    if (f->width != d->width || f->height != d->height || f->num_planes != 3)
        return l2d_error_set(err, L2D_EINVAL, "window: frame of %dx%d, opened for I420 of %dx%d",
                             f->width, f->height, d->width, d->height);
    int rc = handle_pending(d, err);
    if (rc == L2D_OK && d->paced) {
        rc = wait_until_due(d, 1e3 * (double) f->pts * f->time_base_num / f->time_base_den, err);
        if (rc == L2D_OK)
            rc = handle_pending(d, err);
    }
    if (rc != L2D_OK)
        return rc;
    const uint64_t *at = f->plane_offset_bytes;
    if (SDL_UpdateYUVTexture(d->texture, NULL, f->data + at[0], (int) f->plane_stride_bytes[0],
                             f->data + at[1], (int) f->plane_stride_bytes[1],
                             f->data + at[2], (int) f->plane_stride_bytes[2]) != 0)
        return l2d_error_set(err, L2D_EIO, "window: %s", SDL_GetError());
    struct l2d_frame *source = d->wipe ? d->hooks.source(d->hooks.user, f->pts) : NULL;
    if (source)
        l2d_wipe_set(d->wipe, source);
    l2d_frame_unref(&source);
    rc = draw(d, err);
    sink->stats.frames += rc == L2D_OK;
    return rc;
}

static int idle(struct l2d_sink *sink, struct l2d_error *err)
{
    struct display *d = (struct display *) sink;
    int rc = handle_pending(d, err);
    return rc == L2D_OK && d->changed && sink->stats.frames > 0 ? draw(d, err) : rc;
}

static int write_audio(struct l2d_sink *sink, const struct AVPacket *packet, struct l2d_error *err)
{
    (void) packet;
    return handle_pending((struct display *) sink, err);
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
    if (d->wipe)
        d->hooks.compare(d->hooks.user, false);
    if (d->lost) {                      // whatever SDL would give back is there no more
        free(d);
        return;
    }
    l2d_overlay_destroy(&d->overlay);
    l2d_wipe_destroy(&d->wipe);
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

static const struct l2d_sink_ops ops = {
    .write_video = write_video, .write_audio = write_audio, .finish = finish, .idle = idle,
    .destroy = destroy,
};

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

// ---- a display server that goes away

#ifdef SDL_VIDEO_DRIVER_X11
static int on_loss(Display *server)
{
    (void) server;
    return 0;
}

// What libGL does at the end of a program would wait forever for a lock of that server.
static void leave(int status, void *unused)
{
    (void) unused;
    fflush(NULL);
    _exit(status);
}

static void after_loss(Display *server, void *lost)
{
    (void) server;
    if (!*(bool *) lost)
        on_exit(leave, NULL);
    *(bool *) lost = true;
}

// Xlib ends the program, and with it all other outputs, in its handler of a lost server and again
// behind it.
static void survive_server(struct display *d)
{
    int (*(*set_handler)(int (*)(Display *)))(Display *) = NULL;
    void (*set_exit)(Display *, void (*)(Display *, void *), void *) = NULL;
    SDL_SysWMinfo info;
    SDL_VERSION(&info.version);
    if (!SDL_GetWindowWMInfo(d->window, &info) || info.subsystem != SDL_SYSWM_X11)
        return;
    void *xlib = SDL_LoadObject("libX11.so.6");         // which SDL has loaded, and keeps
    void *handler = xlib ? SDL_LoadFunction(xlib, "XSetIOErrorHandler") : NULL;
    void *exits = xlib ? SDL_LoadFunction(xlib, "XSetIOErrorExitHandler") : NULL;
    memcpy(&set_handler, &handler, sizeof(handler));
    memcpy(&set_exit, &exits, sizeof(exits));
    if (set_handler && set_exit) {
        set_handler(on_loss);
        set_exit(info.info.x11.display, after_loss, &d->lost);
    }
}
#else
static void survive_server(struct display *d)
{
    (void) d;
}
#endif

static int open_window(struct display *d, const struct l2d_sink_params *p, struct l2d_error *err)
{
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");      // Ctrl-C belongs to the program
    SDL_SetHint(SDL_HINT_RENDER_SCALE_QUALITY, "linear");
    SDL_SetHint(SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "0");
    SDL_SetHint(SDL_HINT_RENDER_VSYNC, "1");            // no tearing
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
                                 SDL_WINDOWPOS_CENTERED, w, h,
                                 SDL_WINDOW_RESIZABLE | SDL_WINDOW_ALLOW_HIGHDPI);
    if (d->window)
        survive_server(d);
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
    d->matrix = params->matrix;
    d->full_range = params->full_range;
    d->split = 0.5;
    if (params->sar_num > 0 && params->sar_den > 0) {
        double w = (double) params->width * params->sar_num / params->sar_den;
        d->shown_w = w < 1 ? 1 : w > 4.0 * L2D_FRAME_MAX_DIM ? 4 * L2D_FRAME_MAX_DIM : (int32_t) w;
    }
    d->paced = !params->unpaced;
    if (params->hooks)
        d->hooks = *params->hooks;
    int rc = open_window(d, params, err);
    if (rc != L2D_OK) {
        destroy(&d->base);
        return rc;
    }
    SDL_StopTextInput();                // on by default; a line for text turns it on
    struct l2d_error no_font = { 0 };
    if (params->hooks && l2d_overlay_create(&d->overlay, d->renderer, &no_font) != L2D_OK)
        l2d_log_print(params->log, L2D_LOG_WARN, "%s", no_font.msg);
    *out = &d->base;
    return L2D_OK;
}
