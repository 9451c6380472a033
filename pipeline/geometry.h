// SPDX-License-Identifier: Apache-2.0
// Sizes: which part of a picture lands where. Output pixels are square. The network's canvas is
// what is drawn grown to the network's multiple; what it has more shows more of the picture, or its
// edge repeated, and is cropped away again. Numbers in, numbers out.
#ifndef L2D_PIPELINE_GEOMETRY_H
#define L2D_PIPELINE_GEOMETRY_H

#include "base/frame.h"

struct l2d_color_rect;          // kernels/color.h
struct l2d_color_out_fit;

enum l2d_fit { L2D_FIT_COVER, L2D_FIT_CONTAIN, L2D_FIT_STRETCH };

struct l2d_geometry {
    int32_t width, height;              // that is drawn
    int32_t canvas_width, canvas_height;
    int32_t out_width, out_height;      // of the output, and of the canvas enlarged as that is
    int32_t out_canvas_width, out_canvas_height;
};

/**
 * The output's size where none was asked for: the picture's shape at about the given area, both
 * sides multiples of align.
 * shown_w, shown_h     of the picture, upright, in square pixels
 */
void l2d_geometry_choose_size(double shown_w, double shown_h, double area, int32_t align,
                              int32_t *width, int32_t *height);

/**
 * The canvas for a size that is drawn: sides rounded up to multiples of align; and the output,
 * enlarge times as large, of even sides.
 */
struct l2d_geometry l2d_geometry_make(int32_t width, int32_t height, int32_t align,
                                      double enlarge);

/** Upright size of a frame in square pixels. */
void l2d_geometry_shown(const struct l2d_frame *frame, double *shown_w, double *shown_h);

/** Where a frame lies on the canvas, and what of the enlarged canvas the output shows. */
void l2d_geometry_place(const struct l2d_geometry *geometry, enum l2d_fit fit,
                        const struct l2d_frame *frame, struct l2d_color_rect *source,
                        struct l2d_color_out_fit *out);

#endif
