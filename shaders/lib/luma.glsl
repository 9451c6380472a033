// SPDX-License-Identifier: Apache-2.0
// Luminance of a pixel in [-1,1], in [0,1].
float luma_of(vec4 rgb)
{
    return dot(0.5 * rgb.xyz + 0.5, vec3(0.299, 0.587, 0.114));
}
