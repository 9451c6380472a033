// SPDX-License-Identifier: Apache-2.0
// Convolution for GPUs that calculate with halves, where activations are halves.
#version 460
#extension GL_GOOGLE_include_directive : require
#define HALVES L2D_F16
#include "lib/conv_tiles.glsl"
