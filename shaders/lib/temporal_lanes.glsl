// SPDX-License-Identifier: Apache-2.0
// Attention over the frames that a pixel remembers, for GPUs: LANES neighbours of a subgroup share
// a pixel, head and row. The quads of a head are dealt out to them in turn, so that neighbours read
// neighbours; scores are added up across them. A subgroup has pixels of the same head, which read
// the same positions, and the next ones have the other heads of these pixels. The slots of a batch
// are all on their way before the first is waited for.
// What is read and written, and why, is as in temporal_attention.glsl. The same lanes go through
// rows in turn, and each reads of the cache what it has written itself. Rows apart are one turn of
// the same pipeline: another might be rounded in another way. What is fused is said all the same.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#if L2D_F16
#define L2D_FAST_EXP 1
#endif
#include "lib/temporal.glsl"

layout(constant_id = 3) const uint LANES = 8;   // a power of 2, at most a subgroup's

#include "lib/lanes.glsl"

#if KV_INT8
#define CELL uint                               // four numbers, see params/attention.h
const uint HEAD_WORDS = 2u * QUADS + 1u;

// Faster than conversions, of which GPUs do few at a time: bytes go into the last bits of halves,
// two at once, which are 1152 too large. Beside halves that is left in, and what is added up of
// them is corrected as a whole: less exact, by some 1e-6.
const float OFFSET = L2D_F16 != 0 ? 1152.0 : 0.0;

vec4 numbers(uint cell)
{
    vec2 even = unpackHalf2x16(cell & 0x00ff00ffu ^ 0x64806480u);
    vec2 odd = unpackHalf2x16(cell >> 8 & 0x00ff00ffu ^ 0x64806480u);
    return vec4(even.x, odd.x, even.y, odd.y) - (1152.0 - OFFSET);
}
#else
#define CELL IN4
#define numbers(cell) LOAD4(cell)
const float OFFSET = 0.0;
#endif
layout(binding = 2, std430) buffer Cache { CELL cache[]; };

const uint EACH = (QUADS + LANES - 1u) / LANES; // quads of a lane
const uint BATCH = 4;                           // slots, a divisor of L2D_WINDOW

uint lane, c, head, first;                      // c: in quads; first: of the head
vec4 q[EACH], acc[EACH], q_offset;
float top, sum, stored_sum;                     // of weights; of those times a slot's step

// The lane's quad i of a head; any where it has none.
uint quad(uint i)   { return min(i * LANES + lane, QUADS - 1u); }
bool has(uint i)    { return i * LANES + lane < QUADS; }

// Of query, key and value at a position or pixel.
vec4 at_pos(uint index, uint which, uint i)
{
    return LOAD4(pos[(index * 3u + which) * c + first + quad(i)]);
}

vec4 at_pixel(uint pixel, uint which, uint i)
{
    return LOAD4(qkv[(pixel * 3u + which) * c + first + quad(i)]);
}

// A head's cells of keys begin there, those of values at a distance.
uint cache_place(uint pixel_slot)
{
#if KV_INT8
    return (pixel_slot * p.heads + head) * HEAD_WORDS;
#else
    return pixel_slot * 2u * c + first;
#endif
}

uint values_after()
{
    return KV_INT8 != 0 ? QUADS : c;
}

// Whether a slot of the cache is attended to.
bool counts(l2d_row_params r, uint slot, uint num_keys)
{
    return slot < num_keys && slot != r.kv_slot;
}

// One more key and value, at a position.
void attend(vec4 k[EACH], vec4 v[EACH], uint index)
{
    vec4 dots = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < EACH; i++)
        dots = fma(q[i], k[i] + at_pos(index, 1u, i), dots);
    float score = sum_of_lanes((dots.x + dots.y) + (dots.z + dots.w));
    float new_top = max(top, score), shrink = exp1(top - new_top);
    float w = exp1(score - new_top);
    sum = fma(sum, shrink, w);
    top = new_top;
    [[unroll]] for (uint i = 0u; i < EACH; i++)
        acc[i] = fma(acc[i], vec4(shrink), w * (v[i] + at_pos(index, 2u, i)));
}

#if KV_INT8
// The least step with which a head fits bytes, cut to the upper half of a float.
uint step_bits(vec4 of[EACH])
{
    vec4 most = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < EACH; i++)
        most = max(most, abs(of[i]));
    float all = greatest_of_lanes(max(max(most.x, most.y), max(most.z, most.w)));
    return floatBitsToUint(all / 127.0) + 0xffffu & 0xffff0000u;
}

void write_bytes(uint at, vec4 of[EACH], float size)
{
    float inverse = size > 0.0 ? 1.0 / size : 0.0;
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
        ivec4 b = ivec4(roundEven(of[i] * inverse)) & 255;
        if (has(i))
            cache[at + quad(i)] = uint(b.x | b.y << 8 | b.z << 16 | b.w << 24);
    }
}

void cache_write(uint at, uint pixel, vec4 k[EACH], vec4 v[EACH])
{
    uint k_bits = step_bits(k), v_bits = step_bits(v);
    write_bytes(at, k, uintBitsToFloat(k_bits));
    write_bytes(at + QUADS, v, uintBitsToFloat(v_bits));
    cache[at + 2u * QUADS] = k_bits >> 16 | v_bits;     // by all, so that each reads its own
}
#else
void cache_write(uint at, uint pixel, vec4 k[EACH], vec4 v[EACH])
{
    [[unroll]] for (uint i = 0u; i < EACH; i++)
        if (has(i)) {
            cache[at + quad(i)] = qkv[(pixel * 3u + 1u) * c + first + quad(i)];
            cache[at + c + quad(i)] = qkv[(pixel * 3u + 2u) * c + first + quad(i)];
        }
}
#endif

// The slots of the cache but for `own`, whose key and value are this call's: those of a batch at
// once. What is stored is not multiplied by its step, but the sums are. A slot that does not count
// is read as a sink, which is there.
void attend_to_cache(uint pixel_slot, l2d_row_params r)
{
    uint num_keys = min(r.num_open, uint(L2D_WINDOW));
    for (uint batch = 0u; batch < num_keys; batch += BATCH) {
        CELL k_cell[BATCH * EACH], v_cell[BATCH * EACH];
        vec2 steps[BATCH];
        float score[BATCH], new_top = top;
        [[unroll]] for (uint s = 0u; s < BATCH; s++) {
            uint slot = batch + s;
            uint at = cache_place(pixel_slot + (counts(r, slot, num_keys) ? slot : 0u));
            [[unroll]] for (uint i = 0u; i < EACH; i++) {
                k_cell[s * EACH + i] = cache[at + quad(i)];
                v_cell[s * EACH + i] = cache[at + values_after() + quad(i)];
            }
#if KV_INT8
            uint both = cache[at + 2u * QUADS];
            steps[s] = uintBitsToFloat(uvec2(both << 16, both & 0xffff0000u));
#else
            steps[s] = vec2(1.0);
#endif
        }
        [[unroll]] for (uint s = 0u; s < BATCH; s++) {
            uint slot = batch + s, index = position_of_slot(r, slot);
            vec4 stored = q_offset, placed = vec4(0.0);
            [[unroll]] for (uint i = 0u; i < EACH; i++) {
                stored = fma(q[i], numbers(k_cell[s * EACH + i]), stored);
                placed = fma(q[i], at_pos(index, 1u, i), placed);
            }
            vec4 dots = fma(stored, vec4(steps[s].x), placed);
            score[s] = sum_of_lanes((dots.x + dots.y) + (dots.z + dots.w));
            score[s] = counts(r, slot, num_keys) ? score[s] : -3.0e38;
            new_top = max(new_top, score[s]);
        }
        float shrink = exp1(top - new_top);
        top = new_top;
        stored_sum *= shrink;
        [[unroll]] for (uint i = 0u; i < EACH; i++)
            acc[i] *= shrink;
        [[unroll]] for (uint s = 0u; s < BATCH; s++) {
            uint index = position_of_slot(r, batch + s);
            float w = exp1(score[s] - top), w_stored = w * steps[s].y;
            sum = fma(sum, s == 0u ? shrink : 1.0, w);
            stored_sum = fma(w, steps[s].y, stored_sum);
            [[unroll]] for (uint i = 0u; i < EACH; i++) {
                acc[i] = fma(vec4(w), at_pos(index, 2u, i), acc[i]);
                acc[i] = fma(vec4(w_stored), numbers(v_cell[s * EACH + i]), acc[i]);
            }
        }
    }
}

// A row's query at a pixel, and its key and value into the cache.
void attend_to_window(uint row, uint pixel)
{
    l2d_row_params r = rows[row];
    uint own_pixel = row * p.pixels + pixel, out_at = own_pixel * c + first;
    if (r.is_active == 0u) {
        [[unroll]] for (uint i = 0u; i < EACH; i++)
            if (has(i))
                y[out_at + quad(i)] = STORE4(vec4(0.0));
        return;
    }

    uint pixel_slot = (r.step * p.pixels + pixel) * L2D_WINDOW;
    uint own_pos = WARMUP ? row : r.own_pos;
    vec4 own_k[EACH], own_v[EACH];
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
        q[i] = has(i) ? (at_pixel(own_pixel, 0u, i) + at_pos(own_pos, 0u, i)) * p.scale
                      : vec4(0.0);
        own_k[i] = at_pixel(own_pixel, 1u, i);
        own_v[i] = at_pixel(own_pixel, 2u, i);
        acc[i] = vec4(0.0);
    }
    q_offset = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < EACH; i++)
        q_offset = fma(q[i], vec4(-OFFSET), q_offset);
    cache_write(cache_place(pixel_slot + r.kv_slot), own_pixel, own_k, own_v);
    top = -3.0e38;
    sum = stored_sum = 0.0;
    if (!WARMUP) {
        attend(own_k, own_v, position_of_slot(r, r.kv_slot));
        attend_to_cache(pixel_slot, r);
    } else {
        for (uint slot = 0u; slot < L2D_SINKS; slot++) {
            vec4 k[EACH], v[EACH];
            [[unroll]] for (uint i = 0u; i < EACH; i++) {
                k[i] = at_pixel(slot * p.pixels + pixel, 1u, i);
                v[i] = at_pixel(slot * p.pixels + pixel, 2u, i);
            }
            attend(k, v, slot);
        }
    }
    [[unroll]] for (uint i = 0u; i < EACH; i++)
        if (has(i))
            y[out_at + quad(i)] = STORE4(fma(vec4(stored_sum), vec4(-OFFSET), acc[i]) / sum);
}

void main()
{
    uint invocation = (flat_group() * gl_NumSubgroups + gl_SubgroupID) * gl_SubgroupSize +
                      gl_SubgroupInvocationID;
    lane = gl_SubgroupInvocationID % LANES;
    uint item = invocation / LANES, together = gl_SubgroupSize / LANES;
    uint blocks = (p.pixels + together - 1u) / together, block = item / together / p.heads;
    head = item / together % p.heads;
    c = p.heads * QUADS;
    first = head * QUADS;
    uint pixel = block % blocks * together + item % together, row = block / blocks;
    if (pixel >= p.pixels || row >= p.num_rows) // all lanes of an item
        return;
    [[dont_unroll]] for (uint turn = 0u; turn < p.turns; turn++)
        attend_to_window(row + turn, pixel);
}
