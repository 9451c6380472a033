// SPDX-License-Identifier: Apache-2.0
// See light.h; names as in ITU-R BT.2100-2 and BT.2390. shaders/lib/light.glsl is the same again.
#include "base/light.h"

#include <math.h>
#include <string.h>

#define WHITE_NITS 203.0
#define HLG_NITS   1000.0
#define PQ_NITS    10000.0

// Light, of which 1 is 10000 cd/m2, to PQ's code and back.
static double pq_of(double light)
{
    double y = pow(light, 0.1593017578125);
    return pow((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y), 78.84375);
}

static double pq_light(double code)
{
    double e = pow(code, 1 / 78.84375);
    return pow(fmax(e - 0.8359375, 0) / (18.8515625 - 18.6875 * e), 1 / 0.1593017578125);
}

static double hlg_scene(double code)
{
    return code <= 0.5 ? code * code / 3
                       : (exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12;
}

// Light in units of an SDR screen's white.
static void to_light(enum l2d_transfer transfer, double rgb[3])
{
    switch (transfer) {
    case L2D_TRANSFER_SDR:
        for (int i = 0; i < 3; i++)
            rgb[i] = pow(rgb[i], 2.4);
        break;
    case L2D_TRANSFER_PQ:
        for (int i = 0; i < 3; i++)
            rgb[i] = pq_light(rgb[i]) * (PQ_NITS / WHITE_NITS);
        break;
    case L2D_TRANSFER_HLG:
        for (int i = 0; i < 3; i++)
            rgb[i] = hlg_scene(rgb[i]);
        double luma = 0.2627 * rgb[0] + 0.678 * rgb[1] + 0.0593 * rgb[2];
        for (int i = 0; i < 3; i++)
            rgb[i] *= pow(luma, 0.2) * (HLG_NITS / WHITE_NITS);
        break;
    }
}

// BT.2390's curve: as it is up to a knee, from there bent so that the peak becomes white.
static double bent(double light, double peak)
{
    double white = pq_of(WHITE_NITS / PQ_NITS) / peak, knee = 1.5 * white - 0.5;
    double e = fmin(pq_of(light * (WHITE_NITS / PQ_NITS)) / peak, 1);
    if (e <= knee)
        return light;
    double t = (e - knee) / (1 - knee), tt = t * t, ttt = tt * t;
    double p = (2 * ttt - 3 * tt + 1) * knee + (ttt - 2 * tt + t) * (1 - knee) +
               (3 * tt - 2 * ttt) * white;
    return pq_light(p * peak) * (PQ_NITS / WHITE_NITS);
}

struct l2d_light l2d_light_of(const struct l2d_pixel_format *format)
{
    static const double to_709[][9] = {
        [L2D_PRIMARIES_BT709] = { 1, 0, 0, 0, 1, 0, 0, 0, 1 },
        [L2D_PRIMARIES_BT2020] = {
            1.6604910, -0.5876411, -0.0728499,
            -0.1245505, 1.1328999, -0.0083494,
            -0.0181508, -0.1005789, 1.1187297,
        },
        [L2D_PRIMARIES_P3] = {
            1.2249402, -0.2249402, 0,
            -0.0420570, 1.0420570, 0,
            -0.0196376, -0.0786360, 1.0982736,
        },
    };
    struct l2d_light light = {
        .is_sdr = format->transfer == L2D_TRANSFER_SDR &&
                  format->primaries == L2D_PRIMARIES_BT709,
    };
    if (light.is_sdr)
        return light;
    double nits = format->transfer == L2D_TRANSFER_SDR ? WHITE_NITS
                : format->transfer == L2D_TRANSFER_HLG || format->peak_nits == 0 ? HLG_NITS
                : fmin(fmax(format->peak_nits, WHITE_NITS), PQ_NITS);
    light.transfer = format->transfer;
    light.peak = pq_of(nits / PQ_NITS);
    memcpy(light.to_709, to_709[format->primaries], sizeof(light.to_709));
    return light;
}

void l2d_light_to_sdr(const struct l2d_light *light, double rgb[3])
{
    double own[3];
    for (int i = 0; i < 3; i++)
        own[i] = fmin(fmax(rgb[i], 0), 1);
    to_light(light->transfer, own);
    for (int i = 0; i < 3; i++) {
        const double *m = &light->to_709[3 * i];
        rgb[i] = fmax(m[0] * own[0] + m[1] * own[1] + m[2] * own[2], 0);
    }
    double most = fmax(rgb[0], fmax(rgb[1], rgb[2]));
    double scale = most > 0 ? bent(most, light->peak) / most : 0;
    for (int i = 0; i < 3; i++)
        rgb[i] = pow(fmin(rgb[i] * scale, 1), 1 / 2.4);
}
