// SPDX-License-Identifier: Apache-2.0
// The sink that is a window (SDL2). It keeps the aspect, can be resized, fills the screen on F or
// F11, and closes on Q, Escape or its close button. Sound is not played. With hooks it shows text
// over the picture and takes a prompt:
//     I status on and off, H help, P or Return a line for the prompt, and in that line Return to
//     take it, Escape to leave it, Backspace, Ctrl+W, Ctrl+U, Ctrl+V
//     C the source over the left part, up to a line that the mouse draws along
#ifndef L2D_VIDEO_IO_DISPLAY_H
#define L2D_VIDEO_IO_DISPLAY_H

#include "video_io/sink.h"

enum l2d_display_fit { L2D_DISPLAY_COVER, L2D_DISPLAY_CONTAIN, L2D_DISPLAY_STRETCH };

// What the window shows of the program and tells it. All are called on the window's thread, which
// they hold up, and any may be NULL.
struct l2d_display_hooks {
    void *user;
    /** Write lines, separated by '\n': asked for each picture while the status is shown. */
    void (*status)(void *user, char *out, size_t size);
    /** Write what the line for the prompt begins with. Without it there is no such line. */
    void (*prompt)(void *user, char *out, size_t size);
    /** The line that was entered. */
    void (*entered)(void *user, const char *line);
    /** A key that is not the window's own, as SDL names it: "N", "Left", "F5", "=". */
    void (*key)(void *user, const char *name);
    /** Whether sources will be asked for; not once the window is gone. */
    void (*compare)(void *user, bool on);
    /** The source of the picture with that pts: a reference of the window's, or NULL. */
    struct l2d_frame *(*source)(void *user, int64_t pts);
    enum l2d_display_fit fit;       // how a source lies in the picture
    const char *help;               // lines on those keys
};

/**
 * Open a window. Its writes wait until a frame is due by pts, unless params->unpaced or late; a
 * late frame is shown at once and the clock starts anew from it, so a slow producer sees no
 * waiting. Frames wait for the screen's refresh where it tells. Once closed, writes return
 * L2D_ECLOSED. SDL's video is initialised here and ended by destroy; SDL_VIDEODRIVER=dummy works
 * without a screen. One at a time in a process: all would take from SDL's one queue of events.
 * returns  L2D_OK, L2D_EIO (no display), L2D_ENOMEM.
 */
int l2d_display_open(struct l2d_sink **out, const struct l2d_sink_params *params,
                     struct l2d_error *err);

#endif
