// SPDX-License-Identifier: Apache-2.0
// The same with a cache of bytes.
#version 460
#extension GL_GOOGLE_include_directive : require
#define SHARED 0
#define KV_INT8 1
#include "lib/temporal_attention.glsl"
