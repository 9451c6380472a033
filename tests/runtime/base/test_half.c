// SPDX-License-Identifier: Apache-2.0
// f16 and bf16 conversions, against arithmetic in double: all 65536 halves, and floats near every
// place where rounding can go wrong.
#include "base/half.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

static double slow_to_double(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

// The default rounding mode of nearbyint() is to nearest, ties to even.
static uint16_t slow_from_f32(float f)
{
    uint16_t sign = signbit(f) ? 0x8000 : 0;
    double v = fabs((double) f);
    if (v == 0)
        return sign;
    int e;
    frexp(v, &e);                       // v = 0.1xxx * 2^e
    if (e < -13)
        e = -13;                        // subnormals share the exponent of the least normal
    double mantissa = nearbyint(ldexp(v, 11 - e));          // 1024..2048, or less if subnormal
    double value = ldexp(mantissa, e - 11);
    if (value >= 65536)
        return sign | 0x7c00;
    for (uint16_t h = (uint16_t) ((e + 13) << 10); ; h++)   // the half with that value, from below
        if (slow_to_double(h) == value)
            return sign | h;
}

Test(half, every_half_to_f32_and_back)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = l2d_half_to_f32((uint16_t) h);
        if ((h & 0x7c00) == 0x7c00 && (h & 0x3ff)) {
            cr_assert(isnan(f), "%04x", h);
            cr_assert_eq(l2d_half_from_f32(f), h | 0x200, "%04x", h);   // quiet, payload kept
            continue;
        }
        cr_assert_eq((double) f, slow_to_double((uint16_t) h), "%04x", h);
        cr_assert_eq(!!signbit(f), h >> 15, "%04x", h);
        cr_assert_eq(l2d_half_from_f32(f), h, "%04x", h);
    }
}

Test(half, rounds_to_nearest_even)
{
    for (uint32_t h = 0; h < 0x7c00; h++) {             // at, just below and just above each middle
        double lo = slow_to_double((uint16_t) h);
        double hi = h == 0x7bff ? 65536 : slow_to_double((uint16_t) (h + 1));
        uint32_t middle = bits((float) ((lo + hi) / 2));
        for (int d = -1; d <= 1; d++) {
            float f = from_bits(middle + (uint32_t) d);
            uint16_t want = (uint16_t) (d < 0 ? h : d > 0 ? h + 1 : h + (h & 1));
            cr_assert_eq(l2d_half_from_f32(f), want, "%04x %+d", h, d);
            cr_assert_eq(l2d_half_from_f32(-f), want | 0x8000, "%04x %+d", h, d);
        }
    }
}

Test(half, matches_slow_rounding)
{
    uint32_t u = 12345;
    for (int i = 0; i < 300000; i++) {
        u = u * 1664525 + 1013904223;
        uint32_t exponent = 95 + (u >> 8) % 50;         // around the range of a half
        float f = from_bits((u & 0x807fffff) | exponent << 23);
        cr_assert_eq(l2d_half_from_f32(f), slow_from_f32(f), "%08x", bits(f));
    }
}

Test(half, specials)
{
    static const struct { uint32_t f32; uint16_t f16; } cases[] = {
        { 0x00000000, 0x0000 }, { 0x80000000, 0x8000 },     // zeros
        { 0x7f800000, 0x7c00 }, { 0xff800000, 0xfc00 },     // infinities
        { 0x00000001, 0x0000 }, { 0x807fffff, 0x8000 },     // f32 subnormals
        { 0x33000000, 0x0000 }, { 0x33000001, 0x0001 },     // 2^-25 is a tie, to even
        { 0x33800000, 0x0001 }, { 0x387fc000, 0x03ff },     // least and largest subnormal
        { 0x387fe000, 0x0400 }, { 0x38800000, 0x0400 },     // rounds up to the least normal
        { 0x477fe000, 0x7bff }, { 0x477fefff, 0x7bff },     // 65504 and what still rounds to it
        { 0x477ff000, 0x7c00 }, { 0x7f7fffff, 0x7c00 },     // too large
        { 0x7fc00000, 0x7e00 }, { 0xffffffff, 0xffff }, { 0x7f800001, 0x7e00 },     // NaN
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        cr_assert_eq(l2d_half_from_f32(from_bits(cases[i].f32)), cases[i].f16, "case %zu", i);
}

Test(half, bf16_is_the_upper_half)
{
    cr_assert_eq(bits(l2d_half_bf16_to_f32(0x3f80)), 0x3f800000);
    cr_assert_eq(bits(l2d_half_bf16_to_f32(0x8000)), 0x80000000);
    cr_assert_eq(bits(l2d_half_bf16_to_f32(0x7f80)), 0x7f800000);
    cr_assert(isnan(l2d_half_bf16_to_f32(0x7fc0)));
}

Test(half, float8)
{
    static const struct { uint8_t e4m3; float f32; } cases[] = {
        { 0x00, 0 }, { 0x01, 0x1p-9f }, { 0x07, 7 * 0x1p-9f }, { 0x08, 0x1p-6f }, { 0x38, 1 },
        { 0x39, 1.125f }, { 0xc0, -2 }, { 0x7e, 448 }, { 0xfe, -448 }, { 0x81, -0x1p-9f },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        cr_assert_eq(l2d_half_e4m3_to_f32(cases[i].e4m3), cases[i].f32, "case %zu", i);
    cr_assert(isnan(l2d_half_e4m3_to_f32(0x7f)) && isnan(l2d_half_e4m3_to_f32(0xff)));
    cr_assert_eq(bits(l2d_half_e4m3_to_f32(0x80)), 0x80000000);
}
