// SPDX-License-Identifier: Apache-2.0
// Pictures for brighter screens or of more colours than an SDR screen has (HDR, wide gamut), as
// that screen shows them best. The shader of color_in does the same; this is for pictures that do
// not go through it. Numbers in, numbers out; any thread.
#ifndef L2D_BASE_LIGHT_H
#define L2D_BASE_LIGHT_H

#include "base/frame.h"

struct l2d_light {              // how a format's R, G, B become those of BT.709
    bool is_sdr;                // they are: nothing is to be done, the rest is not set
    enum l2d_transfer transfer;
    double to_709[9];           // linear light, rows R, G, B
    double peak;                // PQ's code of the brightest light in it
};

struct l2d_light l2d_light_of(const struct l2d_pixel_format *format);

/**
 * rgb      in the curve and primaries of the source, 0..1; afterwards 0..1 in those of BT.709, for
 *          a screen with a gamma of 2.4 (BT.1886)
 * Light is ITU-R BT.2100's, of HLG as on a screen of 1000 cd/m2; 203 cd/m2 are an SDR screen's
 * white (BT.2408). What is brighter is let in below it by BT.2390's curve, on the brightest of the
 * three, so that hues stay. Colours that BT.709 has not are clipped.
 */
void l2d_light_to_sdr(const struct l2d_light *light, double rgb[3]);

#endif
