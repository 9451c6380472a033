// SPDX-License-Identifier: Apache-2.0
// Short floats as the files and the GPU hold them, converted bit exactly and without the help of
// the compiler or the CPU. IEEE 754 binary16 both ways; bfloat16 (the upper half of an f32) and
// float8 only to f32, since nothing here writes them. (float8 e5m2 is the upper half of an f16.)
#ifndef L2D_BASE_HALF_H
#define L2D_BASE_HALF_H

#include <stdint.h>

/**
 * f32 -> f16, to the nearest, ties to even. Too large becomes infinity, too small a subnormal or
 * a zero of the same sign; a NaN stays one, quiet, with the upper bits of its payload.
 */
uint16_t l2d_half_from_f32(float value);

/** f16 -> f32. Exact; NaN payloads are kept. */
float l2d_half_to_f32(uint16_t half);

/** float8 e4m3fn -> f32: 1 sign, 4 exponent (bias 7), 3 mantissa bits, no infinity. Exact. */
float l2d_half_e4m3_to_f32(uint8_t e4m3);

/** bf16 -> f32. Exact. */
float l2d_half_bf16_to_f32(uint16_t bf16);

#endif
