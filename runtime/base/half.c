// SPDX-License-Identifier: Apache-2.0
// Conversions of 16-bit floats by integer arithmetic on their bits. See half.h.
// f32: 1 sign, 8 exponent (bias 127), 23 mantissa bits. f16: 1, 5 (bias 15), 10.
#include "base/half.h"

#include <string.h>

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

uint16_t l2d_half_from_f32(float value)
{
    uint32_t u = bits_of(value);
    uint32_t sign = u >> 16 & 0x8000, exponent = u >> 23 & 0xff, mantissa = u & 0x7fffff;

    if (exponent == 0xff)
        return (uint16_t) (sign | 0x7c00 | (mantissa ? 0x200 | mantissa >> 13 : 0));
    if (exponent < 102)                     // below 2^-25, half of the least subnormal
        return (uint16_t) sign;

    // The result before rounding, as an integer of exponent and mantissa, and what was cut off. A
    // mantissa that rounds over carries into the exponent, up to infinity: that is what IEEE asks.
    uint32_t drop = exponent >= 113 ? 13 : 126 - exponent;
    uint32_t whole = exponent >= 113 ? (exponent - 112) << 23 | mantissa : 0x800000 | mantissa;
    uint32_t kept = whole >> drop, rest = whole & ((1u << drop) - 1), half = 1u << (drop - 1);
    if (rest > half || (rest == half && (kept & 1)))
        kept++;
    return (uint16_t) (sign | (kept < 0x7c00 ? kept : 0x7c00));
}

float l2d_half_to_f32(uint16_t half)
{
    uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 0x1f, mantissa = half & 0x3ff;

    if (exponent == 0x1f)
        return float_of(sign | 0x7f800000 | mantissa << 13);
    if (exponent == 0 && mantissa == 0)
        return float_of(sign);
    if (exponent == 0) {                    // subnormal: shift until the leading one is implicit
        exponent = 1;
        while (!(mantissa & 0x400)) {
            mantissa <<= 1;
            exponent--;                     // wraps below zero; the sum below does not care
        }
        mantissa &= 0x3ff;
    }
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

float l2d_half_e4m3_to_f32(uint8_t e4m3)
{
    uint32_t sign = (e4m3 & 0x80u) << 24, rest = e4m3 & 0x7f;
    if (rest == 0x7f)
        return float_of(sign | 0x7fc00000);
    if (rest < 8)                           // subnormal, in units of 2^-9
        return (sign ? -1.0f : 1.0f) * (float) rest / 512;
    return float_of(sign | ((rest >> 3) + 120) << 23 | (rest & 7) << 20);
}

float l2d_half_bf16_to_f32(uint16_t bf16)
{
    return float_of((uint32_t) bf16 << 16);
}
