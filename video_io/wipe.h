// SPDX-License-Identifier: Apache-2.0
// The source over the left part of the window's picture. Internal to video_io; its thread only.
#ifndef L2D_VIDEO_IO_WIPE_H
#define L2D_VIDEO_IO_WIPE_H

#include <SDL.h>

#include "base/error.h"
#include "base/frame.h"
#include "video_io/display.h"

struct l2d_wipe;        // opaque

/**
 * renderer     borrowed, outlives the wipe
 * matrix, full_range       of the window's picture: SDL converts all textures alike
 * returns  L2D_OK or L2D_ENOMEM
 */
int l2d_wipe_create(struct l2d_wipe **out, SDL_Renderer *renderer, enum l2d_matrix matrix,
                    bool full_range, struct l2d_error *err);

/** Accepts NULL; sets *wipe to NULL. */
void l2d_wipe_destroy(struct l2d_wipe **wipe);

/** A newer source. What cannot be shown is left out. */
void l2d_wipe_set(struct l2d_wipe *wipe, const struct l2d_frame *source);

/**
 * where    the window's picture
 * split    where the source ends, 0 to 1 of its width
 */
void l2d_wipe_draw(struct l2d_wipe *wipe, SDL_Rect where, enum l2d_display_fit fit, double split);

#endif
