// SPDX-License-Identifier: Apache-2.0
// 16-bit floats as the files and the GPU hold them, converted bit exactly and without the help of
// the compiler or the CPU. IEEE 754 binary16 both ways; bfloat16 (the upper half of an f32) only
// to f32, since nothing here writes it.
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

/** bf16 -> f32. Exact. */
float l2d_half_bf16_to_f32(uint16_t bf16);

#endif
