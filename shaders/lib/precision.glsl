// SPDX-License-Identifier: Apache-2.0
// The type of activations. Every shader is compiled for both; values travel in f32, and only memory
// holds T. All channel counts are multiples of 4, so memory is read and written four at a time.
#ifndef L2D_LIB_PRECISION
#define L2D_LIB_PRECISION

#if L2D_F16
#extension GL_EXT_shader_16bit_storage : require
#define T  float16_t
#define T4 f16vec4
#else
#define T  float
#define T4 vec4
#endif

#define LOAD4(v)  vec4(v)
#define STORE4(v) T4(v)

#endif
