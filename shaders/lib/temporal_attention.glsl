// SPDX-License-Identifier: Apache-2.0
// Attention over the frames that a pixel remembers. An invocation is one pixel, head and row. The
// positional terms are added to keys and values as they are read, since a frame's index changes as
// the window slides. Keys and values of this call come from qkv, never from the cache, which is
// written here at the same time. Closed slots are skipped: they may hold anything.
// SHARED is 0; or 8, and then the 8 invocations of a workgroup are one subgroup and pixels of one
// head and row: each loads the positional terms of two positions, and shuffles show them to the
// others, which is how CPU drivers like it (see conv_t0.comp).
// KV_INT8 is 1 for a cache of bytes, see params/attention.h. What this call computes is attended to
// as it is, not as it is stored: of the 16 keys the frame's own is the one that counts most.
// Source: Live2Diff (Xing et al., 2024), AnimateDiff's motion module.
#include "lib/temporal.glsl"

#if KV_INT8
layout(binding = 2, std430) buffer Cache { uint cache[]; };
const uint HEAD_WORDS = 2u * QUADS + 1u;

uint cache_place(uint pixel_slot, uint c, uint head)
{
    return (pixel_slot * p.heads + head) * HEAD_WORDS;
}

// The steps of key and value.
vec2 cache_steps(uint at)
{
    uint both = cache[at + 2u * QUADS];
    return uintBitsToFloat(uvec2(both << 16, both & 0xffff0000u));
}

vec4 bytes(uint word)
{
    return vec4(ivec4(int(word)) << ivec4(24, 16, 8, 0) >> 24);
}

vec4 cached_k(uint at, uint c, uint i)
{
    return bytes(cache[at + i]);
}

vec4 cached_v(uint at, uint c, uint i)
{
    return bytes(cache[at + QUADS + i]);
}

// The least step with which the head at qkv[from] fits bytes, cut to the upper half of a float.
uint step_bits(uint from)
{
    vec4 most = vec4(0.0);
    for (uint i = 0u; i < QUADS; i++)
        most = max(most, abs(FETCH4(qkv, from + i)));
    float top = max(max(most.x, most.y), max(most.z, most.w));
    return floatBitsToUint(top / 127.0) + 0xffffu & 0xffff0000u;
}

void cache_bytes(uint to, uint from, float step)
{
    float inverse = step > 0.0 ? 1.0 / step : 0.0;
    for (uint i = 0u; i < QUADS; i++) {
        ivec4 b = ivec4(roundEven(FETCH4(qkv, from + i) * inverse)) & 255;
        cache[to + i] = uint(b.x | b.y << 8 | b.z << 16 | b.w << 24);
    }
}

void cache_write(uint to, uint from, uint c)
{
    uint k_bits = step_bits(from), v_bits = step_bits(from + c);
    cache_bytes(to, from, uintBitsToFloat(k_bits));
    cache_bytes(to + QUADS, from + c, uintBitsToFloat(v_bits));
    cache[to + 2u * QUADS] = k_bits >> 16 | v_bits;
}
#else
layout(binding = 2, std430) writeonly buffer Cache { OUT4 cache[]; };
IN_QUADS(5, cached)                     // the same

uint cache_place(uint pixel_slot, uint c, uint head)
{
    return pixel_slot * 2u * c + head * QUADS;
}

vec2 cache_steps(uint at)
{
    return vec2(1.0);
}

vec4 cached_k(uint at, uint c, uint i)
{
    return FETCH4(cached, at + i);
}

vec4 cached_v(uint at, uint c, uint i)
{
    return FETCH4(cached, at + c + i);
}

void cache_write(uint to, uint from, uint c)
{
    for (uint i = 0u; i < QUADS; i++) {
        cache[to + i] = STORE4(FETCH4(qkv, from + i));
        cache[to + c + i] = STORE4(FETCH4(qkv, from + c + i));
    }
}
#endif

#if SHARED
// Of positions lane and 8 + lane. Arrays of QUADS elements, since compilers unroll such loops.
vec4 k_low[QUADS], k_high[QUADS], v_low[QUADS], v_high[QUADS];

void load_positions(uint c, uint first)
{
    for (uint i = 0u; i < QUADS; i++) {
        uint low = gl_LocalInvocationID.x * 3u * c + first + i, high = low + 24u * c;
        k_low[i] = FETCH4(pos, low + c);
        v_low[i] = FETCH4(pos, low + 2u * c);
        k_high[i] = FETCH4(pos, high + c);
        v_high[i] = FETCH4(pos, high + 2u * c);
    }
}

vec4 pos_k(uint index, uint c, uint first, uint i)
{
    return subgroupShuffle(index < 8u ? k_low[i] : k_high[i], index & 7u);
}

vec4 pos_v(uint index, uint c, uint first, uint i)
{
    return subgroupShuffle(index < 8u ? v_low[i] : v_high[i], index & 7u);
}
#else
void load_positions(uint c, uint first)
{
}

vec4 pos_k(uint index, uint c, uint first, uint i)
{
    return FETCH4(pos, (index * 3u + 1u) * c + first + i);
}

vec4 pos_v(uint index, uint c, uint first, uint i)
{
    return FETCH4(pos, (index * 3u + 2u) * c + first + i);
}
#endif

// One more score: what the sum so far is worth then, and the new key's weight.
vec2 weigh(float score, inout float top, inout float sum)
{
    float new_top = max(top, score);
    vec2 weights = vec2(exp1(top - new_top), exp1(score - new_top));
    sum = sum * weights.x + weights.y;
    top = new_top;
    return weights;
}

void main()
{
#if SHARED
    uint item = flat_group(), blocks = (p.pixels + 7u) / 8u;
    uint pixel = item / p.heads % blocks * 8u + gl_LocalInvocationID.x;
    uint nth = item / p.heads / blocks;
#else
    uint item = flat_invocation();
    uint pixel = item / p.heads % p.pixels, nth = item / p.heads / p.pixels;
#endif
    uint head = item % p.heads, row = p.first_row + nth;
    if (nth >= p.num_rows)
        return;
    bool real = pixel < p.pixels;
    pixel = min(pixel, p.pixels - 1u);
    l2d_row_params r = rows[row];
    uint c = p.heads * QUADS, first = head * QUADS;
    uint own = (row * p.pixels + pixel) * 3u * c + first;
    uint out_at = (row * p.pixels + pixel) * c + first;
    if (r.is_active == 0u) {
        if (real)
            for (uint i = 0u; i < QUADS; i++)
                y[out_at + i] = STORE4(vec4(0.0));
        return;
    }
    load_positions(c, first);

    uint pixel_slot = (r.step * p.pixels + pixel) * L2D_WINDOW;
    uint own_pos = WARMUP ? row : r.own_pos;
    vec4 q[QUADS], acc[QUADS];
    for (uint i = 0u; i < QUADS; i++) {
        q[i] = (FETCH4(qkv, own + i) + FETCH4(pos, own_pos * 3u * c + first + i)) * p.scale;
        acc[i] = vec4(0.0);
    }
    if (real)
        cache_write(cache_place(pixel_slot + r.kv_slot, c, head), own + c, c);

    // Keys of this call: the pixel's own, or those of all frames of a warm-up.
    float top = -3.0e38, sum = 0.0;
    for (uint n = 0u; n < (WARMUP ? uint(L2D_SINKS) : 1u); n++) {
        uint at = ((WARMUP ? n : row) * p.pixels + pixel) * 3u * c + c + first;
        uint index = WARMUP ? n : position_of_slot(r, r.kv_slot);
        vec4 dots = vec4(0.0);
        for (uint i = 0u; i < QUADS; i++)
            dots += q[i] * (FETCH4(qkv, at + i) + pos_k(index, c, first, i));
        vec2 weights = weigh((dots.x + dots.y) + (dots.z + dots.w), top, sum);
        for (uint i = 0u; i < QUADS; i++)
            acc[i] = acc[i] * weights.x +
                     weights.y * (FETCH4(qkv, at + c + i) + pos_v(index, c, first, i));
    }
    // What is stored is not multiplied by its step, but the sums are.
    uint num_slots = WARMUP ? 0u : min(r.num_open, uint(L2D_WINDOW));
    for (uint slot = 0u; slot < num_slots; slot++) {
        if (slot == r.kv_slot)
            continue;
        uint at = cache_place(pixel_slot + slot, c, head), index = position_of_slot(r, slot);
        vec2 steps = cache_steps(at);
        vec4 stored = vec4(0.0), placed = vec4(0.0);
        for (uint i = 0u; i < QUADS; i++) {
            stored += q[i] * cached_k(at, c, i);
            placed += q[i] * pos_k(index, c, first, i);
        }
        vec4 dots = stored * steps.x + placed;
        vec2 weights = weigh((dots.x + dots.y) + (dots.z + dots.w), top, sum);
        float w_stored = weights.y * steps.y;
        for (uint i = 0u; i < QUADS; i++)
            acc[i] = acc[i] * weights.x + w_stored * cached_v(at, c, i) +
                     weights.y * pos_v(index, c, first, i);
    }
    if (real)
        for (uint i = 0u; i < QUADS; i++)
            y[out_at + i] = STORE4(acc[i] / sum);
}
