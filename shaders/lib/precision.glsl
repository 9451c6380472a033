// SPDX-License-Identifier: Apache-2.0
// The type of activations. Every shader is compiled for both; values travel in f32, and only memory
// holds T. All channel counts are multiples of 4, so memory is read and written four at a time:
// IN4 is how a buffer that is read is declared, OUT4 one that is written. Halves are read as the
// words that hold them (on CPU drivers the number of loads is what costs) and written by
// conversion, which rounds to nearest there, unlike packHalf2x16.
#ifndef L2D_LIB_PRECISION
#define L2D_LIB_PRECISION

#if L2D_F16
#extension GL_EXT_shader_16bit_storage : require
#define T    float16_t
#define IN4  uvec2
#define OUT4 f16vec4

vec4 LOAD4(uvec2 v)
{
    return vec4(unpackHalf2x16(v.x), unpackHalf2x16(v.y));
}
#else
#define T    float
#define IN4  vec4
#define OUT4 vec4
#define LOAD4(v) (v)
#endif

#define STORE4(v) OUT4(v)

#endif
