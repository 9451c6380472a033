// SPDX-License-Identifier: Apache-2.0
// What the colour stages need to know of one input and one output frame. The engine writes it for
// each frame and the shaders read it from a buffer, since a stream may change its format midway.
#ifndef L2D_SHADERS_COLOR_H
#define L2D_SHADERS_COLOR_H

#include "shared.h"

#define L2D_LIGHT_AS_IS 0u      // SDR in BT.709's primaries
#define L2D_LIGHT_SDR   1u      // SDR in others
#define L2D_LIGHT_PQ    2u
#define L2D_LIGHT_HLG   3u

#define L2D_COLOR_IN_TAPS 48     // to either side, at most: a wider filter steps over some

struct l2d_color_component {    // as struct l2d_component of base/frame.h, its plane resolved
    u32 plane_offset_bytes, stride_bytes;
    u32 step_bytes, offset_bytes, shift_bits, depth_bits;
    u32 sub_w_log2, sub_h_log2;
};

// Stored picture -> canvas: f32 RGB in [-1,1], [1][canvas_h][canvas_w][4], the fourth channel 0; or
// packed, bytes R, G, B, 0 from word `first` on.
struct l2d_color_in_params {
    L2D_STRUCT(l2d_color_component) component[3];
    u32 num_components;         // 1 or 3
    u32 width, height;          // as stored
    u32 rotation;               // 0..3 quarter turns clockwise that make it upright
    u32 canvas_w, canvas_h;
    f32 scale_x, scale_y;       // upright source pixels per canvas pixel
    f32 origin_x, origin_y;     // upright source position of the canvas's left and top edge
    f32 chroma_x, chroma_y;     // position of chroma sample 0's centre in stored luma pixels, where
                                // luma sample 0's centre is 0.5
    f32 to_rgb[12];             // 3 rows of (c0, c1, c2, 1) -> RGB in [0,1]; c = code/(2^depth - 1)
    u32 light;                  // L2D_LIGHT_...
    f32 to_709[9], peak;        // but for AS_IS: as struct l2d_light of base/light.h
    u32 first;
};

// Canvas -> output picture, cropped: RGBA8, or I420 with chroma at the left (MPEG-2) site. With
// something of another canvas, packed, under it.
struct l2d_color_out_params {
    u32 i420;                   // 1: I420, 0: RGBA8
    u32 width, height;          // of the output
    u32 canvas_w, canvas_h;
    u32 crop_x, crop_y;         // canvas position of output pixel (0,0)
    u32 x0, y0, x1, y1;         // output pixels inside are picture, outside black bars
    u32 plane_offset_bytes[3], stride_bytes[3];     // multiples of 4
    f32 from_rgb[12];           // 3 rows of (r, g, b, 1) -> code value in 0..255 before rounding
    u32 under;                  // the word that the other canvas begins with
    f32 mix;                    // how much of it is seen, and
    u32 masked;                 // 1: where the mask is not white, more
};

#endif
