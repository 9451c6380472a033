// SPDX-License-Identifier: Apache-2.0
// Numbers of files as f32.
#ifndef L2D_TENSOR_CONVERT_H
#define L2D_TENSOR_CONVERT_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/safetensors.h"

/** Whether l2d_convert_to_f32 reads the type: all floats, and signed integers of 32 and 64 bits. */
bool l2d_convert_reads(enum l2d_safetensors_dtype dtype);

/**
 * Convert count numbers; exact but for F64 and large integers, which are rounded.
 * src      not aligned for its type
 * returns  whether all are finite; they are written in any case
 */
bool l2d_convert_to_f32(float *out, enum l2d_safetensors_dtype dtype, const void *src,
                        uint64_t count);

#endif
