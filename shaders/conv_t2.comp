// SPDX-License-Identifier: Apache-2.0
// Convolution on matrix units (VK_KHR_cooperative_matrix), as a product of pixels by channels.
// Slices of the sum, DEPTH channels of one tap and input, go through shared memory: while one is
// multiplied the next is on its way in registers. Halves in, sums in f32; a slice may be summed up
// in halves, which some units do twice as fast. A workgroup is SIDE
// subgroups across the channels and as many as fit across the pixels; each has WM x WN matrices.
// Loads are octets of channels, 16 bytes. What is not there is loaded from nowhere, behind all
// buffers, which gives 0 (VK_EXT_robustness2). Of a block of channels all taps come before the next
// block, since they read the same pixels, which are still in the core's cache then.
// For compilers: an array that is not indexed by constants lies in slow memory, so loops over
// arrays are unrolled, and what is too long for that is a function of a constant. What is loaded
// for the next slice is put before the loop comes round, or it would be copied. Branches cost
// more than what they leave out.
// Debian 12's compiler does not know the extension: see shaders/spirv/README.md.
#version 460
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define L2D_FAST_EXP 1
#include "lib/conv.glsl"
#include "lib/conv_parts.glsl"

layout(constant_id = 5) const uint CM = 16;         // a matrix: pixels, channels, depth
layout(constant_id = 6) const uint CN = 16;
layout(constant_id = 7) const uint CK = 16;
layout(constant_id = 8) const uint WM = 2;          // 2 or 4
layout(constant_id = 9) const uint WN = 4;
layout(constant_id = 10) const uint SIDE = 2;
layout(constant_id = 11) const uint SUBGROUPS = 8;
layout(constant_id = 12) const uint LANES = 32;     // of a subgroup
layout(constant_id = 13) const uint DEPTH = 64;     // a divisor of L2D_CONV_UNIT
layout(constant_id = 14) const uint COLUMNS = 0;    // whether a slice's weights lie by columns
layout(constant_id = 15) const uint HALVES = 0;     // whether a slice is summed up in halves
layout(constant_id = 16) const uint SLICES = 1;     // at a time, 1 or 2

layout(binding = 0, std430) readonly buffer X8 { uvec4 x_octets[]; };
layout(binding = 1, std430) readonly buffer X28 { uvec4 x2_octets[]; };
layout(binding = 2, std430) readonly buffer Weight8 { uvec4 weight_octets[]; };
layout(binding = 2, std430) readonly buffer WeightBytes { uvec2 weight_bytes[]; };
layout(binding = 7, std430) writeonly buffer Y8 { uvec4 y_octets[]; };

const uint SIZE = SUBGROUPS * LANES;                // what gl_WorkGroupSize.x is
const uint TILE_M = SUBGROUPS / SIDE * WM * CM, TILE_N = SIDE * WN * CN;    // whole panels
const uint UNIT_8 = L2D_CONV_UNIT / 8;              // from here in octets
const uint DEPTH_8 = DEPTH / 8, PANEL_8 = L2D_CONV_PANEL / 8;
const uint PITCH_A = SLICES * DEPTH_8 + 1;          // of a line, to spread the banks
const uint PITCH_B = (COLUMNS != 0u ? SLICES * DEPTH_8 : TILE_N / 8) + 1;
const uint LINES_A = SIZE / DEPTH_8, LOADS_A = TILE_M / LINES_A;    // at a time; of an invocation
const uint OF_PANEL = PANEL_8 * DEPTH, OCTETS_B = TILE_N / 8 * DEPTH;       // in a slice
const uint LOADS_B = (OCTETS_B + SIZE - 1u) / SIZE;
const uint B_AT = TILE_M * PITCH_A;
const uint PITCH_S = WN * CN / 4 + 1;               // of a line of sums, 4 of them at a time
const uint SLICE = B_AT + (COLUMNS != 0u ? TILE_N : SLICES * DEPTH) * PITCH_B;
const uint SUMS = SUBGROUPS * CM * PITCH_S;

// [pixel][k]; [k][channel] or [channel][k]; in the end [subgroup][pixel][channel] of sums, results
shared uvec4 room[SLICE > SUMS ? SLICE : SUMS];

#define SUM coopmat<float, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator>
#define HALF coopmat<float16_t, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator>

// ---- slices

// Of an invocation: what it loads, and where that goes. Of pixels it is one octet of every
// LINES_A-th, of weights one octet of a panel for one or more k. A tap's pixel is base pixels from
// the tap's place in the kernel; sides has a bit for each line of taps that is inside the picture,
// and then one for each column. What is behind the last pixel is behind the buffer.
uint t;                                             // which of the workgroup's it is
uint base[LOADS_A], sides[LOADS_A], row[LOADS_A];
uint weights_from[LOADS_B];
uvec4 steps[LOADS_B];                               // of weights in bytes, as halves
uint a_octet, a_at, b_at;
uvec4 next_a[SLICES * LOADS_A], next_b[SLICES * LOADS_B];

// The slice that comes next, and how many there are from it on.
uint left, block, octet;                            // of x or x2; of the block
uvec2 tap;
bool second;

// Eight lines of as many neighbouring invocations, such that two next to each other go to
// different banks.
uint spread(uint line)
{
    return line & ~7u | (line & 1u) << 2 | line >> 1 & 3u;
}

// Of an octet of columns, whose first quad this is.
uvec4 steps_of(uint column)
{
    uvec4 of;
    [[unroll]] for (uint i = 0; i < 4; i++)
        of[i] = packHalf2x16(uintBitsToFloat(weight_bytes[steps_at(column) / 2u + i]));
    return of;
}

// Bytes go into the last bits of halves, which then are 1152 too large.
uint two(uint word, uint two_steps)
{
    f16vec2 v = unpackFloat2x16(word & 0x00ff00ffu ^ 0x64806480u) - float16_t(1152.0);
    return packFloat2x16(v * unpackFloat2x16(two_steps));
}

uvec4 octet_of(uvec2 word, uvec4 of)
{
    return uvec4(two(word.x, of.x), two(word.x >> 8, of.y), two(word.y, of.z),
                 two(word.y >> 8, of.w));
}

void begin_tile(uint first_pixel, uint first_quad)
{
    uint pixels = p.ow * p.oh, k = t % OF_PANEL / PANEL_8, panels = (p.out_quads + 7u) / 8u;
    if (COLUMNS == 0u)
        k = spread(k);
    [[unroll]] for (uint i = 0; i < LOADS_B; i++) {
        uint panel = first_quad / 8u + t / OF_PANEL + i * SIZE / OF_PANEL;
        weights_from[i] = weights_at(8u * min(panel, panels - 1u)) / 2u +
                          PANEL_8 * (k + i * SIZE % OF_PANEL / PANEL_8) + t % PANEL_8;
        if (BYTES)
            steps[i] = steps_of(2u * (4u * min(panel, panels - 1u) + t % PANEL_8));
    }
    uint octet = t / OF_PANEL * PANEL_8 + t % PANEL_8;
    b_at = B_AT + (COLUMNS != 0u ? (8u * octet + 4u * (k % 2u)) * PITCH_B + k / 8u
                                 : k * PITCH_B + octet);

    uint line = DEPTH_8 == 4u ? spread(t / DEPTH_8) : t / DEPTH_8, m = first_pixel + line;
    a_octet = t % DEPTH_8;
    a_at = line * PITCH_A + a_octet;
    if (KSIZE == 1u) {
        [[unroll]] for (uint i = 0; i < LOADS_A; i++) {
            base[i] = m + i * LINES_A;
            sides[i] = 3u;
            row[i] = (FLAGS & L2D_CONV_X2) != 0u ? base[i] / pixels : 0u;
        }
        return;
    }
    // Where the next line is counts on from where this one is, since divisions take their time.
    uvec3 at = uvec3(m % p.ow, m / p.ow % p.oh, m / pixels);
    uvec3 on = uvec3(LINES_A % pixels % p.ow, LINES_A % pixels / p.ow, LINES_A / pixels);
    [[unroll]] for (uint i = 0; i < LOADS_A; i++) {
        ivec2 first = ivec2(at.xy * p.stride) - pads();
        base[i] = (at.z * p.h + uint(first.y)) * p.w + uint(first.x);
        sides[i] = 0u;
        [[unroll]] for (uint k = 0; k < KSIZE; k++) {
            sides[i] |= uint(first.y) + k < p.h ? 1u << k : 0u;
            sides[i] |= uint(first.x) + k < p.w ? 1u << KSIZE + k : 0u;
        }
        at += on;
        uint over = at.x >= p.ow ? 1u : 0u;
        at.xy += uvec2(0u - over * p.ow, over);
        over = at.y >= p.oh ? 1u : 0u;
        at.yz += uvec2(0u - over * p.oh, over);
    }
}

// Slices before a unit. Units are a tap of a block; blocks are of one input, the last one of an
// input maybe not whole.
uint slices_before(uint unit)
{
    const uint EACH = UNIT_8 / DEPTH_8;
    uint c0 = p.q0 / 2u, c1 = p.q1 / 2u, blocks0 = (c0 + UNIT_8 - 1u) / UNIT_8;
    uint s0 = (c0 + DEPTH_8 - 1u) / DEPTH_8, s1 = (c1 + DEPTH_8 - 1u) / DEPTH_8;
    uint b = unit / TAPS;
    uint here = b < blocks0 ? b * EACH : s0 + min((b - blocks0) * EACH, s1);
    uint next = b + 1u < blocks0 ? (b + 1u) * EACH : s0 + min((b + 1u - blocks0) * EACH, s1);
    return here * TAPS + (next - here) * (unit % TAPS);
}

// Those of this workgroup's part of the sum, which may be empty.
void begin_slices()
{
    uint blocks0 = (p.q0 / 2u + UNIT_8 - 1u) / UNIT_8;
    uint unit = 0u, end = TAPS * (blocks0 + (p.q1 / 2u + UNIT_8 - 1u) / UNIT_8);
    if (PARTS > 1u) {
        uint each = (end + PARTS - 1u) / PARTS;
        unit = min(part() * each, end);
        end = min(unit + each, end);
    }
    left = slices_before(end) - slices_before(unit);
    tap = uvec2(unit % KSIZE, unit / KSIZE % KSIZE);
    second = (FLAGS & L2D_CONV_X2) != 0u && unit / TAPS >= blocks0;
    block = (unit / TAPS - (second ? blocks0 : 0u)) * UNIT_8;
    octet = 0u;
}

void advance()
{
    uint channels = (second ? p.q1 : p.q0) / 2u;
    left -= min(left, 1u);
    octet += DEPTH_8;
    uint next = octet >= UNIT_8 || block + octet >= channels ? 1u : 0u;
    octet = next != 0u ? 0u : octet;
    if (KSIZE > 1u) {
        tap.x += next;
        next = tap.x == KSIZE ? 1u : 0u;
        tap.x = next != 0u ? 0u : tap.x;
        tap.y += next;
        next = tap.y == KSIZE ? 1u : 0u;
        tap.y = next != 0u ? 0u : tap.y;
    }
    block += next * UNIT_8;
    if ((FLAGS & L2D_CONV_X2) != 0u && !second && block >= channels) {
        block = 0u;
        second = true;
    }
}

bool is_there(uint i)                               // the i-th octet of weights
{
    return OCTETS_B % SIZE == 0u || t + i * SIZE < OCTETS_B;
}

// The next slice sets out, as the n-th; nothing waits for it. Behind the last one there are zeros.
void load_slice(uint n)
{
    uint c0 = p.q0 / 2u, c1 = p.q1 / 2u, channels = second ? c1 : c0;
    uint mine = block + octet + a_octet, want = 1u << tap.y | 1u << KSIZE + tap.x;
    uint at = (tap.y * p.w + tap.x) * channels + mine;
    if (left == 0u || mine >= channels)
        want = 1u << 31;                            // which no pixel has
    uint from[LOADS_A];
    [[unroll]] for (uint i = 0; i < LOADS_A; i++) {
        bool one = second && (p.flags & L2D_CONV_X2_ONE) != 0u;
        from[i] = (one ? row[i] : base[i]) * channels + at;
        from[i] = (sides[i] & want) == want ? from[i] : L2D_CONV_NOWHERE;
    }
    if ((FLAGS & L2D_CONV_X2) != 0u && second) {
        [[unroll]] for (uint i = 0; i < LOADS_A; i++)
            next_a[n * LOADS_A + i] = x2_octets[from[i]];
    } else {
        [[unroll]] for (uint i = 0; i < LOADS_A; i++)
            next_a[n * LOADS_A + i] = x_octets[from[i]];
    }
    uint k = 8u * ((tap.y * KSIZE + tap.x) * (c0 + c1) + (second ? c0 : 0u) + block + octet);
    k = left == 0u ? L2D_CONV_NOWHERE : PANEL_8 * k;
    [[unroll]] for (uint i = 0; i < LOADS_B; i++)
        if (is_there(i))
            next_b[n * LOADS_B + i] = BYTES ? weight_bytes[weights_from[i] + k].xyxy
                                            : weight_octets[weights_from[i] + k];
}

void load_slices()
{
    load_slice(0u);
    if (SLICES > 1u) {
        advance();
        load_slice(1u);
    }
}

// relu of two halves
uint relu2(uint v)
{
    return v & ~((v >> 15 & 0x10001u) * 0xffffu);
}

// By columns, two lanes that have neighbouring terms of an octet of columns exchange halves of it:
// then each has both terms of four columns, as pairs of halves.
void put_columns(uint at, uvec4 v)
{
    bool odd = (t & PANEL_8) != 0u;
    uvec2 got = subgroupShuffleXor(odd ? v.xy : v.zw, PANEL_8);
    uvec2 first = odd ? got : v.xy, second = odd ? v.zw : got;
    uint pair = t % (8u * PANEL_8) / (2u * PANEL_8);
    [[unroll]] for (uint i = 0; i < 2; i++) {
        room[at + 2u * i * PITCH_B][pair] = first[i] & 0xffffu | second[i] << 16;
        room[at + (2u * i + 1u) * PITCH_B][pair] = first[i] >> 16 | second[i] & 0xffff0000u;
    }
}

void put_weights(uint n, uint i, uvec4 v)
{
    uint panel = i * SIZE / OF_PANEL, k = n * DEPTH + i * SIZE % OF_PANEL / PANEL_8;
    if (COLUMNS != 0u)
        put_columns(b_at + panel * L2D_CONV_PANEL * PITCH_B + k / 8u, v);
    else
        room[b_at + panel * PANEL_8 + k * PITCH_B] = v;
}

// What has been loaded goes to shared memory.
void put_slices()
{
    if ((p.flags & L2D_CONV_RELU_IN) != 0u)
        [[unroll]] for (uint i = 0; i < SLICES * LOADS_A; i++)
            next_a[i] = uvec4(relu2(next_a[i].x), relu2(next_a[i].y), relu2(next_a[i].z),
                              relu2(next_a[i].w));
    [[unroll]] for (uint i = 0; i < SLICES * LOADS_A; i++)
        room[a_at + i % LOADS_A * LINES_A * PITCH_A + i / LOADS_A * DEPTH_8] = next_a[i];
    [[unroll]] for (uint i = 0; i < SLICES * LOADS_B; i++) {
        uint of = i % LOADS_B;
        if (is_there(of))
            put_weights(i / LOADS_B, of, BYTES ? octet_of(next_b[i].xy, steps[of]) : next_b[i]);
    }
}

// ---- sums

SUM acc[WM * WN];

#define PIXELS coopmat<float16_t, gl_ScopeSubgroup, CM, CK, gl_MatrixUseA>
#define WEIGHTS coopmat<float16_t, gl_ScopeSubgroup, CK, CN, gl_MatrixUseB>

PIXELS pixels_at(uint i, uint k)
{
    PIXELS m;
    coopMatLoad(m, room, (gl_SubgroupID / SIDE * WM + i) * CM * PITCH_A + k * CK / 8u, PITCH_A,
                gl_CooperativeMatrixLayoutRowMajor);
    return m;
}

WEIGHTS weights_of(uint j, uint k)
{
    WEIGHTS m;
    uint column = (gl_SubgroupID % SIDE * WN + j) * CN;
    if (COLUMNS != 0u)
        coopMatLoad(m, room, B_AT + column * PITCH_B + k * CK / 8u, PITCH_B,
                    gl_CooperativeMatrixLayoutColumnMajor);
    else
        coopMatLoad(m, room, B_AT + k * CK * PITCH_B + column / 8u, PITCH_B,
                    gl_CooperativeMatrixLayoutRowMajor);
    return m;
}

void multiply_in_halves()
{
    const uint STEPS = DEPTH / CK;
    PIXELS ma[WM * STEPS];
    [[unroll]] for (uint i = 0; i < WM; i++)
        [[unroll]] for (uint k = 0; k < STEPS; k++)
            ma[i * STEPS + k] = pixels_at(i, k);
    [[unroll]] for (uint j = 0; j < WN; j++) {
        HALF sum[WM];
        [[unroll]] for (uint i = 0; i < WM; i++)
            sum[i] = HALF(0.0);
        [[unroll]] for (uint k = 0; k < STEPS; k++) {
            WEIGHTS mb = weights_of(j, k);
            [[unroll]] for (uint i = 0; i < WM; i++)
                sum[i] = coopMatMulAdd(ma[i * STEPS + k], mb, sum[i]);
        }
        [[unroll]] for (uint i = 0; i < WM; i++)
            acc[i * WN + j] += SUM(sum[i]);
    }
}

void multiply()
{
    if (HALVES != 0u) {
        multiply_in_halves();
        return;
    }
    [[unroll]] for (uint k = 0; k < SLICES * DEPTH / CK; k++) {
        PIXELS ma[WM];
        [[unroll]] for (uint i = 0; i < WM; i++)
            ma[i] = pixels_at(i, k);
        [[unroll]] for (uint j = 0; j < WN; j++) {
            WEIGHTS mb = weights_of(j, k);
            [[unroll]] for (uint i = 0; i < WM; i++)
                acc[i * WN + j] = coopMatMulAdd(ma[i], mb, acc[i * WN + j]);
        }
    }
}

// Whether columns are channels, in whole matrices. Then sums begin with the bias.
bool is_whole()
{
    if (PARTS > 1u || ACT == ACT_GEGLU)
        return false;
    return p.out_quads % (CN / 4u) == 0u;
}

// Whether what is added lies in whole matrices too, and sums begin with it: then it comes while the
// first slice does.
bool begins_with_added()
{
    if ((FLAGS & L2D_CONV_UP) != 0u || !is_whole())
        return false;
    bool first = ACT == 0u || (FLAGS & L2D_CONV_RESIDUAL) == 0u;
    const uint RINGS = L2D_CONV_RESIDUAL_RING | L2D_CONV_OUT_RING;
    return (first || (p.flags & L2D_CONV_ACT_LAST) != 0u) && (p.flags & RINGS) == 0u &&
           p.ow * p.oh % CM == 0u;
}

bool finishes_matrices()
{
    if ((p.flags & L2D_CONV_OUT_RING) != 0u)
        return false;
    if ((FLAGS & (L2D_CONV_STEP_BIAS | L2D_CONV_RESIDUAL)) == 0u)
        return is_whole();
    return begins_with_added();
}

// Adds to two rows of matrices, such that all of it is on its way at once.
void begin_with_added(uint i0, uint first_pixel, uint first_quad)
{
    const uint ROWS = 2u;
    uint num_pixels = p.num_rows * p.ow * p.oh, last = max(num_pixels, CM) - CM;
    uint m0 = first_pixel + (gl_SubgroupID / SIDE * WM + i0) * CM;
    uint first = first_quad + gl_SubgroupID % SIDE * WN * CN / 4u;
    SUM steps[ROWS * WN];
    HALF added[ROWS * WN];
    [[unroll]] for (uint i = 0; i < ROWS; i++) {
        uint pixel = min(m0 + i * CM, last), step = place_of(pixel).step;
        [[unroll]] for (uint j = 0; j < WN; j++) {
            uint quad = min(first + j * CN / 4u, p.out_quads - CN / 4u);
            if ((FLAGS & L2D_CONV_STEP_BIAS) != 0u)     // each of its lines is the same
                coopMatLoad(steps[i * WN + j], step_bias, step * p.out_quads + quad, 0u,
                            gl_CooperativeMatrixLayoutRowMajor);
            if ((FLAGS & L2D_CONV_RESIDUAL) != 0u)
                coopMatLoad(added[i * WN + j], residual, pixel * p.out_quads + quad, p.out_quads,
                            gl_CooperativeMatrixLayoutRowMajor);
        }
    }
    [[unroll]] for (uint i = 0; i < ROWS * WN; i++) {
        if ((FLAGS & L2D_CONV_STEP_BIAS) != 0u)
            acc[i0 * WN + i] += steps[i];
        if ((FLAGS & L2D_CONV_RESIDUAL) != 0u)
            acc[i0 * WN + i] += SUM(added[i]);
    }
}

// What sums begin with.
void begin_sums(uint first_pixel, uint first_quad)
{
    uint first = first_quad + gl_SubgroupID % SIDE * WN * CN / 4u;
    SUM begin[WN];
    [[unroll]] for (uint j = 0; j < WN; j++) {
        begin[j] = SUM(0.0);
        if ((FLAGS & L2D_CONV_BIAS) != 0u && is_whole())
            coopMatLoad(begin[j], bias, min(first + j * CN / 4u, p.out_quads - CN / 4u), 0u,
                        gl_CooperativeMatrixLayoutRowMajor);
    }
    [[unroll]] for (uint i = 0; i < WM * WN; i++)
        acc[i] = begin[i % WN];
    if ((FLAGS & (L2D_CONV_STEP_BIAS | L2D_CONV_RESIDUAL)) != 0u && begins_with_added()) {
        begin_with_added(0u, first_pixel, first_quad);
        if (WM > 2u)
            begin_with_added(2u, first_pixel, first_quad);
    }
}

// ---- results

SUM finished(SUM v)
{
    if (ACT != 0u)
        for (uint i = 0; i < v.length(); i++)
            v[i] = activate(vec4(v[i])).x;
    return v;
}

// Results go through shared memory, since who holds what of a matrix is the device's secret.
void finish_matrices_of(uint i, uint first_pixel, uint first_quad)
{
    const uint OCTETS = WN * CN / 8u, PITCH = OCTETS + 1u;
    uint sub = gl_SubgroupID, at = sub * CM * PITCH, num_pixels = p.num_rows * p.ow * p.oh;
    uint first = first_quad + sub % SIDE * WN * CN / 4u;
    uint m0 = first_pixel + (sub / SIDE * WM + i) * CM;
    bool up = (FLAGS & L2D_CONV_UP) != 0u;
    [[unroll]] for (uint j = 0; j < WN; j++)
        coopMatStore(HALF(finished(acc[i * WN + j])), room, at + j * CN / 8u, PITCH,
                     gl_CooperativeMatrixLayoutRowMajor);
    subgroupMemoryBarrierShared();
    subgroupBarrier();
    [[unroll]] for (uint turn = 0; turn < CM * OCTETS; turn += LANES) {
        uint o = turn + gl_SubgroupInvocationID, line = o / OCTETS;
        uint column = first / 2u + o % OCTETS, m = m0 + line;
        if (line < CM && m < num_pixels && column < p.out_quads / 2u)
            y_octets[(up ? place_of(m).out_pixel : m) * (p.out_quads / 2u) + column] =
                room[at + line * PITCH + o % OCTETS];
    }
    subgroupBarrier();
}

void finish_matrices(uint first_pixel, uint first_quad)
{
    finish_matrices_of(0u, first_pixel, first_quad);
    finish_matrices_of(1u, first_pixel, first_quad);
    if (WM > 2u) {
        finish_matrices_of(2u, first_pixel, first_quad);
        finish_matrices_of(3u, first_pixel, first_quad);
    }
}

// Sums as lines of numbers: those that are parts, that pair up, or that are no whole matrices.
void finish_lines_of(uint i, uint first_pixel, uint column, bool busy, vec4 b0, vec4 b1)
{
    const uint OCTETS = WN * CN / 8u, LINES = LANES / OCTETS;
    uint sub = gl_SubgroupID, at = sub * CM * PITCH_S, num_pixels = p.num_rows * p.ow * p.oh;
    uint lane = gl_SubgroupInvocationID, pair = lane % OCTETS * 2u;
    [[unroll]] for (uint j = 0; j < WN; j++)
        coopMatStore(acc[i * WN + j], room, at + j * CN / 4u, PITCH_S,
                     gl_CooperativeMatrixLayoutRowMajor);
    subgroupMemoryBarrierShared();
    subgroupBarrier();
    [[dont_unroll]] for (uint line = lane / OCTETS; line < CM; line += LINES) {
        uint m = first_pixel + (sub / SIDE * WM + i) * CM + line;
        if (!busy || m >= num_pixels)
            continue;
        vec4 v0 = uintBitsToFloat(room[at + line * PITCH_S + pair]);
        vec4 v1 = uintBitsToFloat(room[at + line * PITCH_S + pair + 1u]);
        if (PARTS > 1u)
            write_part(m, column, v0, v1);
        else
            finish_pair(place_of(m), column, v0 + b0, v1 + b1);
    }
    subgroupBarrier();
}

void finish_lines(uint first_pixel, uint first_quad)
{
    const uint OCTETS = WN * CN / 8u, LINES = LANES / OCTETS;
    uint lane = gl_SubgroupInvocationID;
    uint column = first_quad + gl_SubgroupID % SIDE * WN * CN / 4u + lane % OCTETS * 2u;
    bool busy = lane < LINES * OCTETS && column < p.out_quads;
    vec4 b0 = vec4(0.0), b1 = vec4(0.0);
    if (PARTS == 1u && busy && !is_whole())
        bias_of(column, b0, b1);
    finish_lines_of(0u, first_pixel, column, busy, b0, b1);
    finish_lines_of(1u, first_pixel, column, busy, b0, b1);
    if (WM > 2u) {
        finish_lines_of(2u, first_pixel, column, busy, b0, b1);
        finish_lines_of(3u, first_pixel, column, busy, b0, b1);
    }
}

// Adds up all parts of the tile; so many loads are on their way at once, fewer where registers are.
void finish_parts(uint first_pixel, uint first_quad)
{
    const uint EACH = (LANES < 32u ? 8u : 16u) / PARTS, OCTETS = TILE_M * (TILE_N / 8u);
    uint num_pixels = p.num_rows * p.ow * p.oh, size = num_pixels * p.out_quads;
    for (uint o0 = gl_LocalInvocationID.x; o0 < OCTETS; o0 += EACH * SIZE) {
        vec4 v[2u * EACH * PARTS];
        [[unroll]] for (uint e = 0; e < EACH; e++) {
            uint o = o0 + e * SIZE, m = min(first_pixel + o / (TILE_N / 8u), num_pixels - 1u);
            uint column = min(first_quad + o % (TILE_N / 8u) * 2u, p.out_quads - 1u);
            uint at = phase() * PARTS * size + m * p.out_quads + column;
            uint next = column + 1u < p.out_quads ? 1u : 0u;
            [[unroll]] for (uint i = 0; i < PARTS; i++) {
                v[2u * (e * PARTS + i)] = parts[i * size + at];
                v[2u * (e * PARTS + i) + 1u] = parts[i * size + at + next];
            }
        }
        [[unroll]] for (uint e = 0; e < EACH; e++) {
            uint o = o0 + e * SIZE, m = first_pixel + o / (TILE_N / 8u);
            vec4 v0 = vec4(0.0), v1 = vec4(0.0);
            [[unroll]] for (uint i = 0; i < PARTS; i++) {
                v0 += v[2u * (e * PARTS + i)];
                v1 += v[2u * (e * PARTS + i) + 1u];
            }
            if (o < OCTETS && m < num_pixels)
                finish2(place_of(m), first_quad + o % (TILE_N / 8u) * 2u, v0, v1);
        }
    }
}

void main()
{
    uint first_pixel = gl_WorkGroupID.x * TILE_M, first_quad = gl_WorkGroupID.y * (TILE_N / 4u);
    t = COLUMNS != 0u ? gl_SubgroupID * LANES + gl_SubgroupInvocationID : gl_LocalInvocationID.x;
    begin_tile(first_pixel, first_quad);
    begin_slices();
    uint rounds = (left + SLICES - 1u) / SLICES;
    load_slices();
    begin_sums(first_pixel, first_quad);
    put_slices();
    advance();
    barrier();
    for (; rounds > 0u; rounds--) {
        load_slices();
        multiply();
        barrier();
        put_slices();
        advance();
        barrier();
    }
    if (finishes_matrices())
        finish_matrices(first_pixel, first_quad);
    else
        finish_lines(first_pixel, first_quad);
    if (PARTS > 1u) {
        if (is_last_part())
            finish_parts(first_pixel, first_quad);
    }
}
