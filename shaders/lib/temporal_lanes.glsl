// SPDX-License-Identifier: Apache-2.0
// Attention over the frames that a pixel remembers, for GPUs: LANES neighbours of a subgroup share
// a pixel, head and row. The cells of a head in a slot (see CELL) are dealt out to them in turn, so
// that neighbours read neighbours, and each holds its own of all slots in registers: every load is
// on its way before the first is waited for. A cell is of a key or of a value, and which it is
// depends on the lane alone. Scores are added up across the lanes in halves, after which each lane
// has those of SLOTS / LANES slots, and takes their exponentials for all.
// What is read and written, and why, is as in temporal_attention.glsl.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "lib/math.glsl"
#include "params/attention.h"
#include "params/row.h"

layout(constant_id = 1) const uint QUADS = 1;   // d / 4
layout(constant_id = 2) const uint WARMUP = 0;
layout(constant_id = 3) const uint LANES = 8;   // a power of 2, at most 32 and a subgroup's
layout(binding = 0, std430) readonly buffer QKV { IN4 qkv[]; };
layout(binding = 1, std430) readonly buffer Pos { IN4 pos[]; };
layout(binding = 3, std430) readonly buffer Rows { l2d_row_params rows[]; };
layout(binding = 4, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_temporal_attention_params p; };

// Four numbers of a key or a value: the first QUADS cells are the key's.
#if KV_INT8
#define CELL uint
const uint CELLS = 2u * QUADS + 1u;             // and their steps

vec4 numbers(uint cell)
{
    int word = int(cell);
    return vec4(bitfieldExtract(word, 0, 8), bitfieldExtract(word, 8, 8),
                bitfieldExtract(word, 16, 8), bitfieldExtract(word, 24, 8));
}
#else
#define CELL IN4
const uint CELLS = 2u * QUADS;
#define numbers(cell) LOAD4(cell)
#endif
layout(binding = 2, std430) buffer Cache { CELL cache[]; };

const uint SLOTS = WARMUP != 0u ? uint(L2D_SINKS) : uint(L2D_WINDOW);
const uint EACH = (CELLS + LANES - 1u) / LANES;         // cells of a slot that a lane has at most
const uint HELD = LANES < SLOTS ? SLOTS / LANES : 1u;   // scores that it keeps
const uint SPREAD = LANES < SLOTS ? LANES : SLOTS;      // lanes that have different ones
const uint STEPS_LANE = 2u * QUADS % LANES, STEPS_CELL = 2u * QUADS / LANES;

uint lane, c, first;                            // c: in quads; first: of the head

// Whether lanes have keys, or values, in their cell i.
bool has_keys(uint i)   { return i * LANES < QUADS; }
bool has_values(uint i) { return (i + 1u) * LANES > QUADS && i * LANES < 2u * QUADS; }

uint cell_of(uint i)    { return i * LANES + lane; }
bool is_key(uint i)     { return cell_of(i) < QUADS; }
bool is_value(uint i)   { return cell_of(i) >= QUADS && cell_of(i) < 2u * QUADS; }

// The quads of cell i in a head of keys, and in one of values; any where it is of the other.
uint key_quad(uint i)   { return min(cell_of(i), QUADS - 1u); }
uint value_quad(uint i) { return clamp(cell_of(i), QUADS, 2u * QUADS - 1u) - QUADS; }

// Of query, key and value at a position or pixel.
vec4 at_pos(uint index, uint which, uint quad)
{
    return LOAD4(pos[(index * 3u + which) * c + first + quad]);
}

vec4 at_pixel(uint pixel, uint which, uint quad)
{
    return LOAD4(qkv[(pixel * 3u + which) * c + first + quad]);
}

uint cache_place(uint pixel_slot, uint i)
{
#if KV_INT8
    return (pixel_slot * p.heads + first / QUADS) * CELLS + cell_of(i);
#else
    return pixel_slot * 2u * c + first + cell_of(i) + (is_key(i) ? 0u : c - QUADS);
#endif
}

float sum_of(vec4 v)
{
    return (v.x + v.y) + (v.z + v.w);
}

float greatest_of_lanes(float v, uint lanes)
{
    [[unroll]] for (uint mask = 1u; mask < lanes; mask *= 2u)
        v = max(v, subgroupShuffleXor(v, mask));
    return v;
}

float sum_of_lanes(float v, uint lanes)
{
    [[unroll]] for (uint mask = 1u; mask < lanes; mask *= 2u)
        v += subgroupShuffleXor(v, mask);
    return v;
}

// The sums of all lanes' scores: of slot slot_of(j) in score[j], j < HELD. With each step lanes
// keep half of what they have and give the rest to their neighbour.
void share_scores(inout float score[SLOTS])
{
    [[unroll]] for (uint mask = 1u; mask < LANES; mask *= 2u) {
        uint half_len = SLOTS / (2u * mask);
        bool upper = (lane & mask) != 0u;
        [[unroll]] for (uint j = 0u; j < half_len; j++) {
            float mine = upper ? score[j + half_len] : score[j];
            float other = upper ? score[j] : score[j + half_len];
            score[j] = mine + subgroupShuffleXor(other, mask);
        }
        if (half_len == 0u)
            score[0] += subgroupShuffleXor(score[0], mask);
    }
}

uint slot_of(uint j)
{
    uint slot = j;
    [[unroll]] for (uint mask = 1u; mask < SPREAD; mask *= 2u)
        slot += (lane & mask) != 0u ? SLOTS / (2u * mask) : 0u;
    return slot;
}

// The lane that keeps the score of a slot.
uint lane_of(uint slot)
{
    uint of = 0u;
    [[unroll]] for (uint mask = 1u; mask < SPREAD; mask *= 2u)
        of += (slot & SLOTS / (2u * mask)) != 0u ? mask : 0u;
    return of;
}

#if KV_INT8
// The least step with which a head fits bytes, cut to the upper half of a float.
uint step_bits(float most)
{
    return floatBitsToUint(greatest_of_lanes(most, LANES) / 127.0) + 0xffffu & 0xffff0000u;
}

float greatest(vec4 v)
{
    v = abs(v);
    return max(max(v.x, v.y), max(v.z, v.w));
}

void cache_write(uint pixel_slot, uint pixel, vec4 own[EACH])
{
    float most_k = 0.0, most_v = 0.0;
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
        float most = greatest(own[i]);
        if (has_keys(i) && is_key(i))
            most_k = max(most_k, most);
        else if (has_values(i) && is_value(i))
            most_v = max(most_v, most);
    }
    uint k_bits = step_bits(most_k), v_bits = step_bits(most_v);
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
        float size = uintBitsToFloat(is_key(i) ? k_bits : v_bits);
        float inverse = size > 0.0 ? 1.0 / size : 0.0;
        ivec4 b = ivec4(roundEven(own[i] * inverse)) & 255;
        uint word = uint(b.x | b.y << 8 | b.z << 16 | b.w << 24);
        if (cell_of(i) < CELLS)
            cache[cache_place(pixel_slot, i)] = cell_of(i) < 2u * QUADS ? word
                                                                       : k_bits >> 16 | v_bits;
    }
}
#else
void cache_write(uint pixel_slot, uint pixel, vec4 own[EACH])
{
    [[unroll]] for (uint i = 0u; i < EACH; i++)
        if (cell_of(i) < CELLS)
            cache[cache_place(pixel_slot, i)] =
                qkv[(pixel * 3u + (is_key(i) ? 1u : 2u)) * c + first +
                    (is_key(i) ? key_quad(i) : value_quad(i))];
}
#endif

void main()
{
    uint invocation = (flat_group() * gl_NumSubgroups + gl_SubgroupID) * gl_SubgroupSize +
                      gl_SubgroupInvocationID;
    lane = gl_SubgroupInvocationID % LANES;
    uint item = invocation / LANES, head = item % p.heads;
    uint pixel = item / p.heads % p.pixels, row = item / p.heads / p.pixels;
    if (row >= p.num_rows)                      // all lanes of an item, here and below
        return;
    l2d_row_params r = rows[row];
    c = p.heads * QUADS;
    first = head * QUADS;
    uint own_pixel = row * p.pixels + pixel, out_at = own_pixel * c + first;
    if (r.is_active == 0u) {
        [[unroll]] for (uint i = 0u; i < EACH; i++)
            if (has_values(i) && is_value(i))
                y[out_at + value_quad(i)] = STORE4(vec4(0.0));
        return;
    }

    uint pixel_slot = (r.step * p.pixels + pixel) * L2D_WINDOW;
    uint num_keys = min(WARMUP != 0u ? uint(L2D_SINKS) : r.num_open, SLOTS);
    CELL cell[SLOTS * EACH];
    if (WARMUP == 0u)
        [[unroll]] for (uint slot = 0u; slot < SLOTS; slot++)
            [[unroll]] for (uint i = 0u; i < EACH; i++) {
                cell[slot * EACH + i] = CELL(0);
                if (slot < num_keys && slot != r.kv_slot && cell_of(i) < CELLS)
                    cell[slot * EACH + i] = cache[cache_place(pixel_slot + slot, i)];
            }

    // The query for cells of keys, 0 for others; and the frame's own key and value.
    uint own_pos = WARMUP != 0u ? row : r.own_pos;
    vec4 q[EACH], own[EACH];
    float own_score = 0.0;
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
        q[i] = vec4(0.0);
        if (has_keys(i) && is_key(i))
            q[i] = (at_pixel(own_pixel, 0u, key_quad(i)) + at_pos(own_pos, 0u, key_quad(i))) *
                   p.scale;
        own[i] = is_key(i) ? at_pixel(own_pixel, 1u, key_quad(i))
                           : at_pixel(own_pixel, 2u, value_quad(i));
        own_score += sum_of(q[i] * own[i]);
    }

    vec2 steps[SLOTS];
    float score[SLOTS];
    [[unroll]] for (uint slot = 0u; slot < SLOTS; slot++) {
        uint index = WARMUP != 0u || r.own_pos < L2D_WINDOW - 1u || slot < L2D_SINKS ? slot
                     : L2D_WINDOW - 1u - (r.kv_slot - slot & 7u);
        vec4 dots = vec4(0.0), shift = vec4(0.0);
        [[unroll]] for (uint i = 0u; i < EACH; i++)
            if (has_keys(i)) {
                if (WARMUP != 0u)
                    dots += q[i] * at_pixel(slot * p.pixels + pixel, 1u, key_quad(i));
                else
                    dots += q[i] * numbers(cell[slot * EACH + i]);
                shift += q[i] * at_pos(index, 1u, key_quad(i));
            }
        steps[slot] = vec2(1.0);
#if KV_INT8
        if (WARMUP == 0u) {
            uint both = subgroupShuffle(cell[slot * EACH + STEPS_CELL],
                                        gl_SubgroupInvocationID - lane + STEPS_LANE);
            steps[slot] = uintBitsToFloat(uvec2(both << 16, both & 0xffff0000u));
        }
#endif
        float of_key = sum_of(dots) * steps[slot].x;
        score[slot] = (WARMUP == 0u && slot == r.kv_slot ? own_score : of_key) + sum_of(shift);
    }
    share_scores(score);

    float top = -3.0e38, sum = 0.0;
    [[unroll]] for (uint j = 0u; j < HELD; j++)
        top = max(top, slot_of(j) < num_keys ? score[j] : -3.0e38);
    top = greatest_of_lanes(top, SPREAD);
    [[unroll]] for (uint j = 0u; j < HELD; j++) {
        score[j] = slot_of(j) < num_keys ? exp1(score[j] - top) : 0.0;
        sum += score[j];
    }
    sum = sum_of_lanes(sum, SPREAD);

    vec4 acc[EACH];
    [[unroll]] for (uint i = 0u; i < EACH; i++)
        acc[i] = vec4(0.0);
    float own_weight = 0.0;
    [[unroll]] for (uint slot = 0u; slot < SLOTS; slot++) {
        uint index = WARMUP != 0u || r.own_pos < L2D_WINDOW - 1u || slot < L2D_SINKS ? slot
                     : L2D_WINDOW - 1u - (r.kv_slot - slot & 7u);
        float w = subgroupShuffle(score[slot % HELD],
                                  gl_SubgroupInvocationID - lane + lane_of(slot));
        own_weight = slot == r.kv_slot ? w : own_weight;
        [[unroll]] for (uint i = 0u; i < EACH; i++)
            if (has_values(i)) {
                if (WARMUP != 0u)
                    acc[i] += w * at_pixel(slot * p.pixels + pixel, 2u, value_quad(i));
                else
                    acc[i] += w * steps[slot].y * numbers(cell[slot * EACH + i]);
                acc[i] += w * at_pos(index, 2u, value_quad(i));
            }
    }
    [[unroll]] for (uint i = 0u; i < EACH; i++)
        if (has_values(i) && is_value(i)) {
            if (WARMUP == 0u)
                acc[i] += own_weight * own[i];
            y[out_at + value_quad(i)] = STORE4(acc[i] / sum);
        }
    cache_write(pixel_slot + r.kv_slot, own_pixel, own);
}
