// SPDX-License-Identifier: Apache-2.0
// Four halves as arithmetic takes them, of the two words that a buffer has them in: for shaders
// that multiply halves. See precision.glsl.
#ifndef L2D_LIB_HALVES
#define L2D_LIB_HALVES

#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require

f16vec4 halves(uvec2 v)
{
    return f16vec4(unpackFloat2x16(v.x), unpackFloat2x16(v.y));
}

#endif
