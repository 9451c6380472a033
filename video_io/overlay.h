// SPDX-License-Identifier: Apache-2.0
// Text over the window's picture: SDL2_ttf with a font that fontconfig finds. Internal to video_io,
// window's thread only.
#ifndef L2D_VIDEO_IO_OVERLAY_H
#define L2D_VIDEO_IO_OVERLAY_H

#include <SDL.h>

#include "base/error.h"

struct l2d_overlay;     // opaque

/**
 * renderer     borrowed, outlives the overlay
 * returns  L2D_OK; L2D_EUNSUPPORTED if there is no font, L2D_ENOMEM
 */
int l2d_overlay_create(struct l2d_overlay **out, SDL_Renderer *renderer, struct l2d_error *err);

/** Accepts NULL; sets *overlay to NULL. */
void l2d_overlay_destroy(struct l2d_overlay **overlay);

enum l2d_overlay_place { L2D_OVERLAY_TOP, L2D_OVERLAY_MIDDLE, L2D_OVERLAY_BOTTOM };

/**
 * Draw lines, separated by '\n', light on a dark panel within bounds; what is too wide wraps. Text
 * that was drawn there the last time costs no rendering. A failure draws nothing.
 */
void l2d_overlay_draw(struct l2d_overlay *overlay, enum l2d_overlay_place place, const char *text,
                      SDL_Rect bounds);

#endif
