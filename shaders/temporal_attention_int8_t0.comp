// SPDX-License-Identifier: Apache-2.0
// Temporal attention with a cache of bytes, for CPU drivers with subgroups of 8.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define SHARED 8
#define KV_INT8 1
#include "lib/temporal_attention.glsl"
