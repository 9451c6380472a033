// SPDX-License-Identifier: Apache-2.0
// Canvas to picture bytes, one 32-bit word an invocation: an RGBA8 pixel, or four samples of an
// I420 plane. Chroma at the left site: 1 2 1 across, both rows down. Outside the picture is black.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "params/color.h"

layout(constant_id = 1) const uint MIXES = 0;
layout(binding = 0, std430) readonly buffer Canvas { vec4 canvas[]; };
layout(binding = 1, std430) readonly buffer Params { l2d_color_out_params p; };
layout(binding = 2, std430) writeonly buffer Bytes { uint words[]; };
layout(binding = 3, std430) readonly buffer Under { uint under[]; };
layout(binding = 4, std430) readonly buffer Mask { uint mask[]; };

// What is asked for at every sample is read once: CPU drivers load it for each invocation apart.
ivec2 last, begin, end, crop, canvas_last;      // begin, end: of the picture, between black bars

void begin_samples()
{
    last = ivec2(p.width, p.height) - 1;
    begin = ivec2(p.x0, p.y0);
    end = ivec2(p.x1, p.y1);
    crop = ivec2(p.crop_x, p.crop_y);
    canvas_last = ivec2(p.canvas_w, p.canvas_h) - 1;
}

vec4 row_of(uint c)
{
    return vec4(p.from_rgb[c * 4u], p.from_rgb[c * 4u + 1u], p.from_rgb[c * 4u + 2u],
                p.from_rgb[c * 4u + 3u]);
}

vec3 mixed(vec3 drawn, ivec2 at, uint index)
{
    float share = 1.0 - p.mix;
    if (p.masked != 0u)
        share *= dot(unpackUnorm4x8(mask[at.y * (last.x + 1) + at.x]).xyz,
                     vec3(0.299, 0.587, 0.114));
    return share >= 1.0 ? drawn : mix(unpackUnorm4x8(under[p.under + index]).xyz, drawn, share);
}

// RGB and 1 at an output pixel; coordinates beyond the output repeat its edge.
vec4 color_at(ivec2 at)
{
    at = clamp(at, ivec2(0), last);
    vec4 rgb = vec4(0.0, 0.0, 0.0, 1.0);
    if (all(greaterThanEqual(at, begin)) && all(lessThan(at, end))) {
        ivec2 from = clamp(at + crop, ivec2(0), canvas_last);
        int index = from.y * (canvas_last.x + 1) + from.x;
        rgb.xyz = clamp(0.5 * canvas[index].xyz + 0.5, 0.0, 1.0);
        if (MIXES != 0u)
            rgb.xyz = mixed(rgb.xyz, at, uint(index));
    }
    return rgb;
}

uint byte_of(float code)
{
    return uint(clamp(floor(code + 0.5), 0.0, 255.0));
}

uint chroma(vec4 row, ivec2 at)
{
    ivec2 luma = 2 * at;
    vec4 sum = vec4(0.0);
    for (int dy = 0; dy < 2; dy++)
        sum += color_at(luma + ivec2(-1, dy)) + 2.0 * color_at(luma + ivec2(0, dy)) +
               color_at(luma + ivec2(1, dy));
    return byte_of(dot(row, sum / 8.0));
}

void main()
{
    uint word = flat_invocation(), byte = word * 4u;
    begin_samples();
    if (p.i420 == 0u) {
        if (byte < p.plane_offset_bytes[0])
            return;
        uint row = (byte - p.plane_offset_bytes[0]) / p.stride_bytes[0];
        uint col = (byte - p.plane_offset_bytes[0]) % p.stride_bytes[0] / 4u;
        vec4 v = color_at(ivec2(col, row));
        if (row < p.height && col < p.width)
            words[word] = byte_of(dot(v, row_of(0u))) | byte_of(dot(v, row_of(1u))) << 8 |
                          byte_of(dot(v, row_of(2u))) << 16 | 0xff000000u;
        return;
    }
    for (uint plane = 0u; plane < 3u; plane++) {
        uint w = plane == 0u ? p.width : (p.width + 1u) / 2u;
        uint h = plane == 0u ? p.height : (p.height + 1u) / 2u;
        if (byte < p.plane_offset_bytes[plane] ||
            byte >= p.plane_offset_bytes[plane] + h * p.stride_bytes[plane])
            continue;
        uint row = (byte - p.plane_offset_bytes[plane]) / p.stride_bytes[plane];
        uint col = (byte - p.plane_offset_bytes[plane]) % p.stride_bytes[plane];
        if (col >= w)
            return;
        vec4 to_code = row_of(plane);
        uint packed = 0u;
        for (uint i = 0u; i < 4u; i++) {
            ivec2 at = ivec2(col + i, row);
            packed |= (plane == 0u ? byte_of(dot(color_at(at), to_code))
                                   : chroma(to_code, at)) << 8u * i;
        }
        words[word] = packed;
        return;
    }
}
