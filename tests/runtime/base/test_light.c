// SPDX-License-Identifier: Apache-2.0
// HDR and wide gamut as SDR: levels that BT.2100 and BT.2408 name, and what must hold for all.
#include <criterion/criterion.h>
#include <math.h>

#include "base/light.h"

static struct l2d_light light_of(enum l2d_transfer transfer, enum l2d_primaries primaries,
                                 uint32_t peak_nits)
{
    return l2d_light_of(&(struct l2d_pixel_format) {
        .transfer = transfer, .primaries = primaries, .peak_nits = peak_nits,
    });
}

// Linear light of an SDR screen, 1 being its white, of a grey.
static double shown(const struct l2d_light *light, double code)
{
    double rgb[3] = { code, code, code };
    l2d_light_to_sdr(light, rgb);
    cr_expect(fabs(rgb[0] - rgb[1]) < 1e-6 && fabs(rgb[0] - rgb[2]) < 1e-6, "grey stays grey");
    return pow(rgb[0], 2.4);
}

Test(light, sdr_in_bt709_is_left_alone)
{
    cr_expect(light_of(L2D_TRANSFER_SDR, L2D_PRIMARIES_BT709, 0).is_sdr);
    cr_expect(!light_of(L2D_TRANSFER_SDR, L2D_PRIMARIES_P3, 0).is_sdr);
    cr_expect(!light_of(L2D_TRANSFER_HLG, L2D_PRIMARIES_BT709, 0).is_sdr);
}

Test(light, named_levels)
{
    struct l2d_light pq = light_of(L2D_TRANSFER_PQ, L2D_PRIMARIES_BT2020, 203);
    struct l2d_light hlg = light_of(L2D_TRANSFER_HLG, L2D_PRIMARIES_BT2020, 0);
    // BT.2408: grey cards and skin at 26 cd/m2 are 38 % of both signals; graphics white at 203
    // cd/m2 is 58 % of PQ and 75 % of HLG. Rounded to a percent there.
    cr_expect_float_eq(shown(&pq, 0.38), 26.0 / 203, 0.01);
    cr_expect_float_eq(shown(&hlg, 0.38), 26.0 / 203, 0.01);
    cr_expect_float_eq(shown(&pq, 0.5807), 1, 0.005);
    cr_expect_float_eq(shown(&pq, 0), 0, 1e-6);
    cr_expect_float_eq(shown(&hlg, 0), 0, 1e-6);
    // 100 cd/m2 in PQ is 50.81 % (BT.2100).
    cr_expect_float_eq(shown(&pq, 0.50808), 100.0 / 203, 1e-3);
}

Test(light, what_is_brighter_than_white_is_let_in_below_it)
{
    static const uint32_t peaks[] = { 0, 100, 600, 1000, 4000, 10000, 400000 };
    for (size_t i = 0; i < sizeof(peaks) / sizeof(*peaks); i++) {
        struct l2d_light pq = light_of(L2D_TRANSFER_PQ, L2D_PRIMARIES_BT709, peaks[i]);
        double last = -1;
        for (int k = 0; k <= 1000; k++) {
            double now = shown(&pq, k / 1000.0);
            cr_assert(now >= last - 1e-9 && now <= 1, "peak %u: %g after %g", peaks[i], now, last);
            last = now;
        }
        cr_expect_float_eq(last, 1, 1e-6);
    }
    struct l2d_light hlg = light_of(L2D_TRANSFER_HLG, L2D_PRIMARIES_BT2020, 0);
    cr_expect_float_eq(shown(&hlg, 1), 1, 1e-4);
    double white = shown(&hlg, 0.75);
    cr_expect(white > 0.6 && white < 0.95, "white at %g leaves room for what is brighter", white);
}

Test(light, colours_keep_their_hue_where_bt709_has_them)
{
    // BT.709's own red, green and blue, in light of BT.2020 (BT.2087), at 50 cd/m2.
    static const double inside[3][3] = {
        { 0.6274, 0.0691, 0.0164 }, { 0.3293, 0.9195, 0.0880 }, { 0.0433, 0.0114, 0.8956 },
    };
    struct l2d_light wide = light_of(L2D_TRANSFER_SDR, L2D_PRIMARIES_BT2020, 0);
    for (int c = 0; c < 3; c++) {
        double rgb[3];
        for (int i = 0; i < 3; i++)
            rgb[i] = pow(inside[c][i] / 4, 1 / 2.4);
        l2d_light_to_sdr(&wide, rgb);
        for (int i = 0; i < 3; i++)
            cr_expect_float_eq(pow(rgb[i], 2.4), i == c ? 0.25 : 0, 1e-3);
    }
    // What it has not is clipped, not turned round.
    double green[3] = { 0, 1, 0 };
    l2d_light_to_sdr(&wide, green);
    cr_expect(green[0] == 0 && green[1] == 1 && green[2] == 0);
}
