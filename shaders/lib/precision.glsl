// SPDX-License-Identifier: Apache-2.0
// The type of activations, and how memory is read and written. Every shader is compiled for both
// types; values travel in f32, and only memory holds T. All channel counts are multiples of 4, so
// memory is read and written four at a time: IN4 is how a buffer that is read is declared, OUT4 one
// that is written, and STORED4 reads one again. Halves are read as the words that hold them, fewer
// loads, and written by conversion, which rounds to nearest.
// IN_QUADS and IN_QUADS_F32 declare an input that FETCH4 reads. On tier 0, where L2D_TEXELS is 1,
// it is a texel buffer: what CPU drivers do for a texel is a gather for all lanes at once, where a
// storage buffer's load is a loop over lanes, components and bounds. There halves are packed by
// hand, since both conversions are a long detour, and a store of words is a shorter one than of
// halves. Single words are best read from storage buffers.
#ifndef L2D_LIB_PRECISION
#define L2D_LIB_PRECISION

#if L2D_F16
#extension GL_EXT_shader_16bit_storage : require
#define T    float16_t
#define IN4  uvec2

vec4 LOAD4(uvec2 v)
{
    return vec4(unpackHalf2x16(v.x), unpackHalf2x16(v.y));
}
#else
#define T    float
#define IN4  vec4
#define LOAD4(v) (v)
#endif

#if L2D_F16 && L2D_TEXELS
#define OUT4 uvec2
#define STORED4(v) LOAD4(v)

// To the nearest half, of two the even one; next to what is no number there is none either.
// Source: F. Giesen, float_to_half_fast3_rtne (public domain).
uvec2 STORE4(vec4 v)
{
    uvec4 bits = floatBitsToUint(v), size = bits & 0x7fffffffu;
    uvec4 normal = size - 0x38000000u + 0xfffu + (size >> 13 & 1u) >> 13;
    uvec4 small = floatBitsToUint(abs(v) + 0.5) - 0x3f000000u;      // the sum is rounded
    uvec4 h = min(mix(normal, small, lessThan(size, uvec4(0x38800000u))), 0x7c00u);
    h |= bits >> 16 & 0x8000u;
    // Last, since CPU drivers would do simpler things again for each lane and component.
    bvec2 is_nan = greaterThan(max(size.xz, size.yw), uvec2(0x7f800000u));
    return mix(h.xz | h.yw << 16, uvec2(0x7e007e00u), is_nan);
}
#elif L2D_F16
#define OUT4 f16vec4
#define STORE4(v) OUT4(v)
#define STORED4(v) vec4(v)
#else
#define OUT4 vec4
#define STORE4(v) (v)
#define STORED4(v) (v)
#endif

#if L2D_TEXELS
#define IN_QUADS(at, name) layout(binding = at) uniform textureBuffer name;
#define IN_QUADS_F32(at, name) IN_QUADS(at, name)
#define FETCH4(name, i) texelFetch(name, int(i))
#define FETCH4_F32(name, i) FETCH4(name, i)
#else
#define IN_BUFFER(at, name, type) \
    layout(binding = at, std430) readonly buffer name##_block { type name[]; };
#define IN_QUADS(at, name) IN_BUFFER(at, name, IN4)
#define IN_QUADS_F32(at, name) IN_BUFFER(at, name, vec4)
#define FETCH4(name, i) LOAD4(name[i])
#define FETCH4_F32(name, i) name[i]
#endif

#endif
