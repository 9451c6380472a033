// SPDX-License-Identifier: Apache-2.0
// Optical flow at one level, one cell of 4x4 pixels an invocation: where the 8x8 pixels around it
// were in the frame before; every second one is looked at. From the coarser level's answer, or from
// standing still where that fits better, Gauss-Newton steps of inverse compositional Lucas-Kanade
// (Baker and Matthews 2004; on a grid of patches: Kroeger et al. 2016). Means are taken out, so
// that light may change.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "lib/precision.glsl"
#include "params/steady.h"

#define STEPS 2
#define LONGEST 2.0             // step, in pixels of this level
#define DAMPING 4.0             // of the normal equations: flat patches stay at the guess
#define PIXELS (L2D_FLOW_PATCH * L2D_FLOW_PATCH / 2)

layout(binding = 0, std430) readonly buffer Lumas { float luma[]; };
layout(binding = 1, std430) readonly buffer Params { l2d_steady_params s; };
IN_QUADS_F32(2, coarse)
layout(binding = 3, std430) writeonly buffer Flow { vec4 flow[]; };
layout(push_constant, std430) uniform Push { l2d_flow_params p; };

#include "lib/pyramid.glsl"

ivec2 size, first;              // of the level; of the patch
uint now, before;               // where the level begins
vec2 mean_slope;

vec2 slope_at(ivec2 at)
{
    return 0.5 * vec2(luma_at(now, size, at + ivec2(1, 0)) - luma_at(now, size, at - ivec2(1, 0)),
                      luma_at(now, size, at + ivec2(0, 1)) - luma_at(now, size, at - ivec2(0, 1)));
}

ivec2 pixel(int i)
{
    int y = 2 * i / L2D_FLOW_PATCH, x = 2 * i % L2D_FLOW_PATCH + (y & 1);
    return clamp(first + ivec2(x, y), ivec2(0), size - 1);
}

// The mean slope into mean_slope. returns sums of what slopes differ from it by: xx, xy, yy.
vec3 slopes()
{
    vec2 sum = vec2(0.0);
    vec3 products = vec3(0.0);
    for (int i = 0; i < PIXELS; i++) {
        vec2 g = slope_at(pixel(i));
        sum += g;
        products += vec3(g.x * g.x, g.x * g.y, g.y * g.y);
    }
    mean_slope = sum / float(PIXELS);
    return products - vec3(sum.x * sum.x, sum.x * sum.y, sum.y * sum.y) / float(PIXELS);
}

// What is left of the patch where it would have been: xy: slopes times that, z: its square.
vec3 miss(vec2 u)
{
    float sum = 0.0, squares = 0.0;
    vec2 along = vec2(0.0);
    for (int i = 0; i < PIXELS; i++) {
        ivec2 at = pixel(i);
        float d = luma_between(before, size, vec2(at) + u) - luma_at(now, size, at);
        sum += d;
        squares += d * d;
        along += slope_at(at) * d;
    }
    return vec3(along - mean_slope * sum, squares - sum * sum / float(PIXELS));
}

// The coarser level's answer, between its cells.
vec2 guess(ivec2 cell)
{
    if (p.coarse_w == 0u)
        return vec2(0.0);
    ivec2 most = ivec2(p.coarse_w, p.coarse_h) - 1;
    vec2 at = clamp(0.5 * vec2(cell) - 0.25, vec2(0.0), vec2(most));
    ivec2 lo = ivec2(at), hi = min(lo + 1, most);
    vec2 f = at - vec2(lo);
    ivec2 line = ivec2(lo.y, hi.y) * int(p.coarse_w);
    vec2 low = mix(FETCH4_F32(coarse, line.x + lo.x).xy, FETCH4_F32(coarse, line.x + hi.x).xy, f.x);
    vec2 high = mix(FETCH4_F32(coarse, line.y + lo.x).xy, FETCH4_F32(coarse, line.y + hi.x).xy,
                    f.x);
    return 2.0 * mix(low, high, f.y);
}

void main()
{
    uint item = flat_invocation();
    if (item >= p.cells_w * p.cells_h)
        return;
    ivec2 cell = ivec2(item % p.cells_w, item / p.cells_w);
    size = ivec2(p.w, p.h);
    first = cell * L2D_FLOW_CELL - (L2D_FLOW_PATCH - L2D_FLOW_CELL) / 2;
    now = s.now * p.row + p.first;
    before = s.before * p.row + p.first;
    vec3 n = slopes() + vec3(DAMPING, 0.0, DAMPING);

    vec2 u = guess(cell);
    vec3 here = miss(u), still = miss(vec2(0.0));
    if (still.z <= here.z) {
        u = vec2(0.0);
        here = still;
    }
    vec3 best = vec3(u, here.z);
    for (int i = 0; i < STEPS; i++) {
        vec2 off = vec2(n.z * here.x - n.y * here.y, n.x * here.y - n.y * here.x) /
                   (n.x * n.z - n.y * n.y);
        u -= clamp(off, -LONGEST, LONGEST);
        here = miss(u);
        if (here.z < best.z)
            best = vec3(u, here.z);
    }
    flow[item] = vec4(best, 0.0);
}
