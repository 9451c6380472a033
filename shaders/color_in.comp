// SPDX-License-Identifier: Apache-2.0
// Stored picture to canvas: each component is read in its own plane through a triangle filter as
// wide as the scale (bilinear where it is enlarged), then the matrix, HDR or wide gamut to SDR,
// then [-1,1]. Edges repeat. A filter wider than L2D_COLOR_IN_TAPS to either side leaves samples
// out: some CPU drivers end an invocation's loops after 65535 rounds in all.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "params/color.h"
#include "lib/light.glsl"

layout(constant_id = 1) const uint PACKED = 0;      // one of the last two is written
layout(binding = 0, std430) readonly buffer Bytes { uint words[]; };
layout(binding = 1, std430) readonly buffer Params { l2d_color_in_params p; };
layout(binding = 2, std430) writeonly buffer Canvas { vec4 canvas[]; };
layout(binding = 3, std430) writeonly buffer Packed { uint packed[]; };

uint byte_at(uint at)
{
    return words[at / 4u] >> at % 4u * 8u & 0xffu;
}

// What is asked for at every sample is read once: CPU drivers load it for each invocation apart.
struct component {
    uint at, stride, step, shift, mask;
    bool is_wide;                       // of two bytes
};

component component_of(uint c)
{
    uint depth = p.component[c].depth_bits, shift = p.component[c].shift_bits;
    return component(p.component[c].plane_offset_bytes + p.component[c].offset_bytes,
                     p.component[c].stride_bytes, p.component[c].step_bytes, shift,
                     (1u << depth) - 1u, depth + shift > 8u);
}

float code_at(component c, int x, int y)
{
    uint at = c.at + uint(y) * c.stride + uint(x) * c.step, code = byte_at(at);
    if (c.is_wide)
        code |= byte_at(at + 1u) << 8;
    return float(code >> c.shift & c.mask);
}

// at: stored position in pixels, where pixel 0's centre is 0.5. scale: stored pixels per output.
float filtered(uint c, vec2 at, vec2 scale)
{
    uvec2 sub = uvec2(p.component[c].sub_w_log2, p.component[c].sub_h_log2);
    uvec2 step_luma = uvec2(1u) << sub;
    ivec2 size = ivec2(uvec2(p.width, p.height) + step_luma - 1u >> sub);
    vec2 step = vec2(step_luma);
    vec2 zero = vec2(sub.x > 0u ? p.chroma_x : 0.5, sub.y > 0u ? p.chroma_y : 0.5);
    vec2 centre = (at - zero) / step, width = max(vec2(1.0), scale / step);
    ivec2 stride = 1 + ivec2(width / float(L2D_COLOR_IN_TAPS));
    // Within the triangle, which is 0 at its ends: where nothing is scaled, 1 sample and not 9.
    ivec2 first = (ivec2(floor((centre - width) / vec2(stride))) + 1) * stride;
    ivec2 last = ivec2(ceil(centre + width)) - 1;
    component source = component_of(c);
    float sum = 0.0, weight = 0.0;
    for (int y = first.y; y <= last.y; y += stride.y) {
        float wy = max(0.0, 1.0 - abs(float(y) - centre.y) / width.y);
        float line = 0.0, line_weight = 0.0;
        for (int x = first.x; x <= last.x; x += stride.x) {
            float wx = max(0.0, 1.0 - abs(float(x) - centre.x) / width.x);
            line += wx * code_at(source, clamp(x, 0, size.x - 1), clamp(y, 0, size.y - 1));
            line_weight += wx;
        }
        sum += wy * line;
        weight += wy * line_weight;
    }
    return sum / weight / float(source.mask);
}

void main()
{
    uint item = flat_invocation();
    if (item >= p.canvas_w * p.canvas_h)
        return;
    vec2 scale = vec2(p.scale_x, p.scale_y);
    vec2 up = vec2(p.origin_x, p.origin_y) +
              (vec2(item % p.canvas_w, item / p.canvas_w) + 0.5) * scale;
    vec2 size = vec2(p.width, p.height);
    vec2 at = p.rotation == 0u ? up
            : p.rotation == 1u ? vec2(up.y, size.y - up.x)
            : p.rotation == 2u ? size - up
                               : vec2(size.x - up.y, up.x);
    if ((p.rotation & 1u) != 0u)
        scale = scale.yx;

    vec4 c = vec4(filtered(0u, at, scale), 0.0, 0.0, 1.0);
    if (p.num_components > 1u)
        c.yz = vec2(filtered(1u, at, scale), filtered(2u, at, scale));
    vec3 rgb;
    for (int i = 0; i < 3; i++)
        rgb[i] = dot(c, vec4(p.to_rgb[i * 4], p.to_rgb[i * 4 + 1], p.to_rgb[i * 4 + 2],
                             p.to_rgb[i * 4 + 3]));
    if (p.light != L2D_LIGHT_AS_IS) {
        mat3 to_709 = transpose(mat3(p.to_709[0], p.to_709[1], p.to_709[2], p.to_709[3],
                                     p.to_709[4], p.to_709[5], p.to_709[6], p.to_709[7],
                                     p.to_709[8]));
        rgb = light_to_sdr(p.light, to_709, p.peak, rgb);
    }
    if (PACKED != 0u)
        packed[p.first + item] = packUnorm4x8(vec4(rgb, 0.0));
    else
        canvas[item] = vec4(clamp(2.0 * rgb - 1.0, -1.0, 1.0), 0.0);
}
