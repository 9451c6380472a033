// SPDX-License-Identifier: Apache-2.0
// Codec output to a picture: pixel-shuffle, its range to [-1,1], fourth channel 0.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "params/image.h"

layout(binding = 0, std430) readonly buffer X { T x[]; };
layout(binding = 1, std430) writeonly buffer Image { vec4 image[]; };
layout(push_constant, std430) uniform Push { l2d_image_params p; };

void main()
{
    uint item = flat_invocation(), w = p.w * p.patch_size, h = p.h * p.patch_size;
    if (item >= w * h)
        return;
    uint px = item % w, py = item / w, area = p.patch_size * p.patch_size;
    uint at = (py / p.patch_size * p.w + px / p.patch_size) * p.channels +
              py % p.patch_size * p.patch_size + px % p.patch_size;
    vec3 v = vec3(float(x[at]), float(x[at + area]), float(x[at + 2u * area]));
    image[item] = vec4(clamp(p.scale * v + p.shift, -1.0, 1.0), 0.0);
}
