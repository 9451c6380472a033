// SPDX-License-Identifier: Apache-2.0
// Convolution for GPUs.
#version 460
#extension GL_GOOGLE_include_directive : require
#define HALVES 0
#include "lib/conv_tiles.glsl"
