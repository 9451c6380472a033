// SPDX-License-Identifier: Apache-2.0
// What C and GLSL both need in order to read one definition of an op's parameters. 32-bit scalars
// only, so that std430 and C lay a struct out alike.
#ifndef L2D_SHADERS_SHARED_H
#define L2D_SHADERS_SHARED_H

#if defined(__STDC_VERSION__) || defined(__cplusplus)
#include <stdint.h>
typedef uint32_t u32;
typedef int32_t  i32;
typedef float    f32;
#define L2D_STRUCT(type) struct type     // of a member
#define L2D_PUSH_CHECK(type) _Static_assert(sizeof(struct type) <= 128, #type)
#else
#define u32 uint
#define i32 int
#define f32 float
#define L2D_STRUCT(type) type
#define L2D_PUSH_CHECK(type)
#endif

#endif
