// SPDX-License-Identifier: Apache-2.0
// See overlay.h.
#include "video_io/overlay.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <SDL_ttf.h>
#include <fontconfig/fontconfig.h>

#define LINES_PER_HEIGHT 30     // size of the text: so many lines would fill the window
#define MIN_TEXT 12             // pixels
#define MAX_TEXT 32
#define NUM_PLACES 3

struct panel {                  // the text drawn last in one place
    char *text;
    int width;                  // it was wrapped to
    SDL_Texture *texture;
};

struct l2d_overlay {
    SDL_Renderer *renderer;
    TTF_Font *font;
    int font_size;
    bool ttf_open;
    struct panel panel[NUM_PLACES];
};

// returns  the path of a font for plain text, to be freed, or NULL
static char *find_font(void)
{
    char *path = NULL;
    FcConfig *config = FcInitLoadConfigAndFonts();
    FcPattern *want = FcNameParse((const FcChar8 *) "sans-serif:scalable=true");
    if (config && want && FcConfigSubstitute(config, want, FcMatchPattern)) {
        FcResult result;
        FcChar8 *file = NULL;
        FcDefaultSubstitute(want);
        FcPattern *font = FcFontMatch(config, want, &result);
        if (font && FcPatternGetString(font, FC_FILE, 0, &file) == FcResultMatch)
            path = strdup((const char *) file);
        if (font)
            FcPatternDestroy(font);
    }
    if (want)
        FcPatternDestroy(want);
    if (config)
        FcConfigDestroy(config);
    return path;
}

int l2d_overlay_create(struct l2d_overlay **out, SDL_Renderer *renderer, struct l2d_error *err)
{
    struct l2d_overlay *o = calloc(1, sizeof(*o));
    if (!o)
        return l2d_error_set(err, L2D_ENOMEM, "window: out of memory for its text");
    o->renderer = renderer;
    o->font_size = MIN_TEXT;
    o->ttf_open = TTF_Init() == 0;
    char *path = find_font();
    if (o->ttf_open && path)
        o->font = TTF_OpenFont(path, o->font_size);
    free(path);
    if (!o->font) {
        l2d_overlay_destroy(&o);
        return l2d_error_set(err, L2D_EUNSUPPORTED, "the window shows no text: no font was found; "
                             "install one, such as fonts-dejavu-core");
    }
    *out = o;
    return L2D_OK;
}

static void forget(struct panel *panel)
{
    if (panel->texture)
        SDL_DestroyTexture(panel->texture);
    free(panel->text);
    *panel = (struct panel) { 0 };
}

void l2d_overlay_destroy(struct l2d_overlay **overlay)
{
    struct l2d_overlay *o = *overlay;
    *overlay = NULL;
    if (!o)
        return;
    for (int i = 0; i < NUM_PLACES; i++)
        forget(&o->panel[i]);
    if (o->font)
        TTF_CloseFont(o->font);
    if (o->ttf_open)
        TTF_Quit();
    free(o);
}

static void fit_font(struct l2d_overlay *o, int height)
{
    int size = height / LINES_PER_HEIGHT;
    size = size < MIN_TEXT ? MIN_TEXT : size > MAX_TEXT ? MAX_TEXT : size;
    if (size == o->font_size || TTF_SetFontSize(o->font, size) != 0)
        return;
    o->font_size = size;
    for (int i = 0; i < NUM_PLACES; i++)
        forget(&o->panel[i]);
}

// Of the widest line, at most max: a panel no wider than its text.
static int text_width(const struct l2d_overlay *o, const char *text, int max)
{
    int widest = 0;
    while (*text) {
        size_t bytes = strcspn(text, "\n");
        char *line = strndup(text, bytes);
        int w = 0;
        if (line && TTF_SizeUTF8(o->font, line, &w, NULL) == 0 && w > widest)
            widest = w;
        free(line);
        text += bytes + (text[bytes] == '\n');
    }
    widest += o->font_size;             // SDL2_ttf wraps a line that is nearly so wide
    return widest < max ? widest : max;
}

static void render(struct l2d_overlay *o, struct panel *panel, const char *text, int width)
{
    if (panel->text && panel->width == width && !strcmp(panel->text, text))
        return;
    forget(panel);
    const SDL_Color light = { 240, 240, 240, 255 };
    Uint32 wrap = (Uint32) text_width(o, text, width);
    SDL_Surface *surface = TTF_RenderUTF8_Blended_Wrapped(o->font, text, light, wrap);
    if (!surface)
        return;
    panel->texture = SDL_CreateTextureFromSurface(o->renderer, surface);
    panel->text = strdup(text);
    panel->width = width;
    SDL_FreeSurface(surface);
}

void l2d_overlay_draw(struct l2d_overlay *o, enum l2d_overlay_place place, const char *text,
                      SDL_Rect bounds)
{
    fit_font(o, bounds.h);
    int pad = o->font_size / 2;
    struct panel *panel = &o->panel[place];
    if (!*text || bounds.w <= 4 * pad)
        return;
    render(o, panel, text, bounds.w - 4 * pad);
    int w = 0, h = 0;
    if (!panel->texture || SDL_QueryTexture(panel->texture, NULL, NULL, &w, &h) != 0)
        return;
    SDL_Rect back = { bounds.x + pad, bounds.y + pad, w + 2 * pad, h + pad };
    if (place == L2D_OVERLAY_MIDDLE) {
        back.x = bounds.x + (bounds.w - back.w) / 2;
        back.y = bounds.y + (bounds.h - back.h) / 2;
    } else if (place == L2D_OVERLAY_BOTTOM) {
        back.y = bounds.y + bounds.h - back.h - pad;
    }
    SDL_Rect where = { back.x + pad, back.y + pad / 2, w, h };
    SDL_SetRenderDrawBlendMode(o->renderer, SDL_BLENDMODE_BLEND);
    SDL_SetRenderDrawColor(o->renderer, 16, 16, 20, 176);
    SDL_RenderFillRect(o->renderer, &back);
    SDL_RenderCopy(o->renderer, panel->texture, NULL, &where);
}
