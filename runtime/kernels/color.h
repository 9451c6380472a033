// SPDX-License-Identifier: Apache-2.0
// From a frame's pixel format and its fit to the canvas to the parameters of the colour shaders.
#ifndef L2D_KERNELS_COLOR_H
#define L2D_KERNELS_COLOR_H

#include <stdint.h>

#include "base/frame.h"
#include "shaders/params/color.h"

struct l2d_color_rect {         // pixels; x and y to the right and down
    float x, y, w, h;
};

/**
 * source   what maps onto the whole canvas, in pixels of the upright picture (after rotation). It
 *          may reach beyond the picture, whose edges are repeated there.
 * Only the frame's description is used, not its data.
 */
void l2d_color_in_setup(struct l2d_color_in_params *p, const struct l2d_frame *frame,
                        int32_t canvas_w, int32_t canvas_h, struct l2d_color_rect source);

struct l2d_color_out_fit {      // all in pixels of the output or, unscaled, of the canvas
    int32_t crop_x, crop_y;     // canvas position of output pixel (0,0)
    int32_t x0, y0, x1, y1;     // output pixels inside show the picture, the others are black
};

/**
 * frame    its description: I420 or RGBA8 (l2d_pixel_format_i420, l2d_pixel_format_rgba8), size,
 *          plane offsets and strides
 */
void l2d_color_out_setup(struct l2d_color_out_params *p, const struct l2d_frame *frame,
                         int32_t canvas_w, int32_t canvas_h, const struct l2d_color_out_fit *fit);

#endif
