// SPDX-License-Identifier: Apache-2.0
// Temporal attention where a head is wide for a subgroup.
#version 460
#extension GL_GOOGLE_include_directive : require
#define SHARED 0
#define KV_INT8 0
#include "lib/temporal_attention.glsl"
