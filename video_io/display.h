// SPDX-License-Identifier: Apache-2.0
// The sink that is a window (SDL2). It keeps the aspect, can be resized, and closes on q, Escape or
// its close button. Sound is not played.
#ifndef L2D_VIDEO_IO_DISPLAY_H
#define L2D_VIDEO_IO_DISPLAY_H

#include "video_io/sink.h"

/**
 * Open a window. Its writes wait until a frame is due by pts, unless params->unpaced or late; a
 * late frame is shown at once and the clock starts anew from it, so a slow producer sees no
 * waiting. Once closed, writes return L2D_ECLOSED. SDL's video is initialised here and ended by
 * destroy; SDL_VIDEODRIVER=dummy works without a screen.
 * returns  L2D_OK, L2D_EIO (no display), L2D_ENOMEM.
 */
int l2d_display_open(struct l2d_sink **out, const struct l2d_sink_params *params,
                     struct l2d_error *err);

#endif
