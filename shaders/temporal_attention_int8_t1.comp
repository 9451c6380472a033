// SPDX-License-Identifier: Apache-2.0
// Temporal attention with a cache of bytes, for GPUs.
#version 460
#extension GL_GOOGLE_include_directive : require
#define KV_INT8 1
#include "lib/temporal_lanes.glsl"
