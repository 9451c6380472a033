// SPDX-License-Identifier: Apache-2.0
// A picture steadied by the one before it, moved along with the source: what flickers and shimmers
// without having moved is averaged out over time. Only where the source says so: what comes from
// outside, or looks other than what it should come from, is new. And only as far as it goes: what
// is kept is clipped to what there is around the pixel now, as in temporal antialiasing, so that
// nothing is left behind. Or, with MOVES, that one alone, moved: the picture of a frame that nobody
// has drawn, of which the source shows where everything has gone.
#version 460
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "lib/cubic.glsl"
#include "lib/math.glsl"
#include "lib/precision.glsl"
#include "params/steady.h"

#define UNLIKE 12.0             // mean miss of 3x3 pixels, of 255, where e^-1 of the share is left
#define MARGIN (6.0 / 127.5)    // beyond a standard deviation from the mean of 3x3 pixels

layout(constant_id = 1) const uint MOVES = 0;
IN_QUADS_F32(0, picture)
IN_QUADS_F32(1, last)
layout(binding = 2, std430) readonly buffer Lumas { float luma[]; };
layout(binding = 3, std430) readonly buffer Params { l2d_steady_params s; };
IN_QUADS_F32(4, flow)
layout(binding = 5, std430) writeonly buffer Steadied { vec4 steadied[]; };
layout(push_constant, std430) uniform Push { l2d_steady_size_params p; };

#include "lib/pyramid.glsl"

ivec2 size;
uint now, before;

uint index(ivec2 at)
{
    at = clamp(at, ivec2(0), size - 1);
    return uint(at.y * size.x + at.x);
}

// Of the four cells around a pixel, those count more that are nearer and that explain it better.
vec2 motion(ivec2 at)
{
    vec2 c = (vec2(at) - 0.5 * float(L2D_FLOW_CELL - 1)) / float(L2D_FLOW_CELL), sum = vec2(0.0);
    float weights = 0.0, own = luma_at(now, size, at);
    ivec2 most = ivec2(p.cells_w, p.cells_h) - 1, lo = ivec2(floor(c));
    for (int i = 0; i < 4; i++) {
        ivec2 cell = lo + ivec2(i & 1, i >> 1), there = clamp(cell, ivec2(0), most);
        vec2 u = FETCH4_F32(flow, there.y * int(p.cells_w) + there.x).xy;
        vec2 near = max(1.0 - abs(c - vec2(cell)), vec2(0.05));
        float miss = abs(luma_between(before, size, vec2(at) + u) - own);
        float weight = near.x * near.y / max(miss, 1.0);
        sum += weight * u;
        weights += weight;
    }
    return sum / weights;
}

float trust(ivec2 at, vec2 from)
{
    vec2 inside = min(from, vec2(size - 1) - from);         // a pixel beyond the border nothing is
    float known = clamp(1.0 + min(inside.x, inside.y), 0.0, 1.0), miss = 0.0;
    ivec2 lo = ivec2(floor(from)) - 1;
    vec2 f = fract(from);
    float grid[16];                                         // what the 3x3 pixels lie between
    [[unroll]] for (int i = 0; i < 16; i++)
        grid[i] = luma_at(before, size, lo + ivec2(i & 3, i >> 2));
    [[unroll]] for (int i = 0; i < 9; i++) {
        int k = i / 3 * 4 + i % 3;
        float was = mix(mix(grid[k], grid[k + 1], f.x), mix(grid[k + 4], grid[k + 5], f.x), f.y);
        miss += abs(was - luma_at(now, size, at + ivec2(i % 3, i / 3) - 1));
    }
    miss /= 9.0 * UNLIKE;
    return known * exp1(-miss * miss);
}

// Bilinear taps would blur a little more with every frame.
vec4 last_at(vec2 from)
{
    ivec2 lo = ivec2(floor(from));
    vec4 wx = catmull_rom(from.x - float(lo.x)), wy = catmull_rom(from.y - float(lo.y));
    vec4 sum = vec4(0.0);
    for (int i = 0; i < 16; i++)
        sum += wx[i & 3] * wy[i >> 2] * FETCH4_F32(last, index(lo + ivec2(i & 3, i >> 2) - 1));
    return sum;
}

vec4 clip(vec4 kept, ivec2 at)
{
    vec4 sum = vec4(0.0), squares = vec4(0.0);
    for (int i = 0; i < 9; i++) {
        vec4 x = FETCH4_F32(picture, index(at + ivec2(i % 3, i / 3) - 1));
        sum += x;
        squares += x * x;
    }
    vec4 mean = sum / 9.0;
    vec4 reach = sqrt(max(squares / 9.0 - mean * mean, 0.0)) + MARGIN;
    return clamp(kept, mean - reach, mean + reach);
}

void main()
{
    uint item = flat_invocation();
    if (item >= p.w * p.h)
        return;
    vec4 fresh = FETCH4_F32(picture, item);
    if (MOVES != 0u || s.share > 0.0) {
        size = ivec2(p.w, p.h);
        now = s.now * p.row;
        before = s.before * p.row;
        ivec2 at = ivec2(item % p.w, item / p.w);
        vec2 from = vec2(at) + motion(at);
        float share = MOVES != 0u ? 1.0 : s.share * trust(at, from);
        vec4 kept = last_at(from);
        // What is no number must not stay for ever.
        if (share > 0.0 && all(lessThanEqual(abs(kept), vec4(4.0))))
            fresh = clamp(mix(fresh, MOVES != 0u ? kept : clip(kept, at), share), -1.0, 1.0);
    }
    steadied[item] = vec4(fresh.xyz, 0.0);
}
