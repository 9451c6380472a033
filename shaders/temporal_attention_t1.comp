// SPDX-License-Identifier: Apache-2.0
// Temporal attention for GPUs.
#version 460
#extension GL_GOOGLE_include_directive : require
#define KV_INT8 0
#include "lib/temporal_lanes.glsl"
