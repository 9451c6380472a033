// SPDX-License-Identifier: Apache-2.0
// Reading a level of a luminance pyramid, `luma`, which the shader declares. Edges repeat.
float luma_at(uint first, ivec2 size, ivec2 at)
{
    at = clamp(at, ivec2(0), size - 1);
    return luma[first + uint(at.y * size.x + at.x)];
}

float luma_between(uint first, ivec2 size, vec2 at)
{
    at = clamp(at, vec2(0.0), vec2(size - 1));
    ivec2 lo = ivec2(at);
    vec2 f = at - vec2(lo);
    return mix(mix(luma_at(first, size, lo), luma_at(first, size, lo + ivec2(1, 0)), f.x),
               mix(luma_at(first, size, lo + ivec2(0, 1)), luma_at(first, size, lo + 1), f.x), f.y);
}
