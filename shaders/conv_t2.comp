// SPDX-License-Identifier: Apache-2.0
// Convolution on matrix units (VK_KHR_cooperative_matrix), as a product of pixels by channels.
// Slices of the sum, DEPTH channels of one tap and input, go through shared memory: while one is
// multiplied the next is on its way in registers, which nothing may ask for before that, not even
// to put zeros where there is no input; and with two STAGES a slice is written while the one before
// is still read. Products are under no condition. Halves in, sums in f32. A workgroup is SIDE
// subgroups across the channels and as many as fit across the pixels; each has WM x WN matrices.
// Loads are octets of channels, 16 bytes. Every loop over an array is unrolled: else it lies in
// slow memory.
// Debian 12's compiler does not know the extension: see shaders/spirv/README.md.
#version 460
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#include "lib/conv.glsl"
#include "lib/conv_parts.glsl"

layout(constant_id = 5) const uint CM = 16;         // a matrix: pixels, channels, depth
layout(constant_id = 6) const uint CN = 16;
layout(constant_id = 7) const uint CK = 16;
layout(constant_id = 8) const uint WM = 2;
layout(constant_id = 9) const uint WN = 4;
layout(constant_id = 10) const uint SIDE = 2;
layout(constant_id = 11) const uint SUBGROUPS = 8;
layout(constant_id = 12) const uint LANES = 32;     // of a subgroup
layout(constant_id = 13) const uint DEPTH = 64;     // a divisor of L2D_CONV_UNIT
layout(constant_id = 14) const uint STAGES = 1;

layout(binding = 0, std430) readonly buffer X8 { uvec4 x_octets[]; };
layout(binding = 1, std430) readonly buffer X28 { uvec4 x2_octets[]; };
layout(binding = 2, std430) readonly buffer Weight8 { uvec4 weight_octets[]; };

const uint SIZE = SUBGROUPS * LANES;                // what gl_WorkGroupSize.x is
const uint TILE_M = SUBGROUPS / SIDE * WM * CM, TILE_N = SIDE * WN * CN;
const uint UNIT_8 = L2D_CONV_UNIT / 8;           // from here in octets
const uint DEPTH_8 = DEPTH / 8, COLUMNS_8 = TILE_N / 8;
const uint PITCH_A = DEPTH_8 + 1;                   // of a line, to spread the banks
const uint PITCH_B = COLUMNS_8 + 1;
const uint LOADS_A = TILE_M * DEPTH_8 / SIZE;       // of an invocation for a slice
const uint OCTETS_B = DEPTH * COLUMNS_8, LOADS_B = (OCTETS_B + SIZE - 1u) / SIZE;
const uint B_AT = TILE_M * PITCH_A, STAGE = B_AT + DEPTH * PITCH_B;
const uint PITCH_S = WN * CN / 4 + 1;               // of a line of sums, 4 of them at a time
const uint SUMS = SUBGROUPS * CM * PITCH_S;

// [stage][pixel][k], [k][channel]; in the end [subgroup][pixel][channel] of sums
shared uvec4 room[STAGES * STAGE > SUMS ? STAGES * STAGE : SUMS];

// relu of two halves
uint relu2(uint v)
{
    return v & ~((v >> 15 & 0x10001u) * 0xffffu);
}

// Of an invocation: what it loads of the tile, and from where. Of a it is octet t % DEPTH_8 of the
// slice for every SIZE / DEPTH_8-th pixel, of b octets t, t + SIZE, ..., COLUMNS_8 for each k; the
// last of these may lie behind the slice, and then goes nowhere.
ivec3 at[LOADS_A];                                  // x, y of a pixel's first tap, row
uint from[LOADS_A], panel_at[LOADS_B];
bool inside[LOADS_A];
uvec4 next_a[LOADS_A], next_b[LOADS_B];

// The slice that comes next: its tap, its first octet of x or x2, and whether its pixels are not
// those of the slice before.
uint tap, octet;
bool second, moved;

// A 1x1 kernel whose pixels are the input's.
bool is_plain()
{
    return KSIZE == 1u && p.stride == 1u;
}

void begin_tile(uint first_pixel, uint first_quad)
{
    uint t = gl_LocalInvocationID.x, pixels = p.ow * p.oh, num_pixels = p.num_rows * pixels;
    [[unroll]] for (uint i = 0; i < LOADS_A; i++) {
        uint m = min(first_pixel + t / DEPTH_8 + i * (SIZE / DEPTH_8), num_pixels - 1u);
        if (is_plain())                             // no divisions, which take their time
            at[i] = ivec3(m, 0, (p.flags & L2D_CONV_X2_ONE) != 0u ? m / pixels : 0u);
        else
            at[i] = ivec3(ivec2(m % p.ow, m / p.ow % p.oh) * int(p.stride) - pads(), m / pixels);
    }
    [[unroll]] for (uint i = 0; i < LOADS_B; i++) {
        uint column = min(first_quad / 2u + (t + i * SIZE) % COLUMNS_8,
                          (p.out_quads + 7u) / 8u * 4u - 1u);
        panel_at[i] = weights_at(2u * column) / 2u;
    }
}

// Where the pixels of the slice's tap are.
void move()
{
    uvec2 size = uvec2(p.w, p.h);
    [[unroll]] for (uint i = 0; i < LOADS_A; i++) {
        ivec2 xy = at[i].xy + ivec2(tap % KSIZE, tap / KSIZE);
        inside[i] = all(lessThan(uvec2(xy), size));
        uvec2 safe = uvec2(clamp(xy, ivec2(0), ivec2(size) - 1));
        uint pixel = (uint(at[i].z) * p.h + safe.y) * p.w + safe.x;
        if (is_plain()) {
            pixel = uint(at[i].x);
            inside[i] = true;
        }
        from[i] = second ? pixel2(uint(at[i].z), pixel) * (p.q1 / 2u) : pixel * (p.q0 / 2u);
    }
}

// The next slice sets out; nothing waits for it.
void load_slice(uint depth)
{
    uint t = gl_LocalInvocationID.x, c0 = p.q0 / 2u, c1 = p.q1 / 2u;
    if (moved)
        move();
    uint mine = min(octet + t % DEPTH_8, (second ? c1 : c0) - 1u);
    [[unroll]] for (uint i = 0; i < LOADS_A; i++) {
        if (second)
            next_a[i] = x2_octets[from[i] + mine];
        else
            next_a[i] = x_octets[from[i] + mine];
    }
    uint k = 8u * (tap * (c0 + c1) + (second ? c0 : 0u) + octet);
    [[unroll]] for (uint i = 0; i < LOADS_B; i++)
        next_b[i] = weight_octets[panel_at[i] +
                                  4u * min(k + (t + i * SIZE) / COLUMNS_8, depth - 1u)];
}

// What has been loaded goes to a stage, zeros where there is no input, and another slice is next.
void put_slice(uint stage)
{
    uint t = gl_LocalInvocationID.x, channels = (second ? p.q1 : p.q0) / 2u;
    bool there = octet + t % DEPTH_8 < channels, relu = (p.flags & L2D_CONV_RELU_IN) != 0u;
    [[unroll]] for (uint i = 0; i < LOADS_A; i++) {
        uvec4 v = there && inside[i] ? next_a[i] : uvec4(0u);
        if (relu)
            v = uvec4(relu2(v.x), relu2(v.y), relu2(v.z), relu2(v.w));
        room[stage * STAGE + (t / DEPTH_8 + i * (SIZE / DEPTH_8)) * PITCH_A + t % DEPTH_8] = v;
    }
    [[unroll]] for (uint i = 0; i < LOADS_B; i++) {
        uint o = t + i * SIZE;
        if (OCTETS_B % SIZE == 0u || o < OCTETS_B)
            room[stage * STAGE + B_AT + o / COLUMNS_8 * PITCH_B + o % COLUMNS_8] = next_b[i];
    }
    octet += DEPTH_8;
    moved = octet >= channels;
    if (moved) {
        octet = 0u;
        second = (FLAGS & L2D_CONV_X2) != 0u && !second;
        tap += second ? 0u : 1u;
    }
}

// Slices before a unit; units are of one tap and input, the last ones of an input maybe only half
// full.
uint slices_before(uint unit, uint units0, uint units)
{
    const uint EACH = UNIT_8 / DEPTH_8;
    uint s0 = (p.q0 / 2u + DEPTH_8 - 1u) / DEPTH_8, s1 = (p.q1 / 2u + DEPTH_8 - 1u) / DEPTH_8;
    uint u = unit % units;
    return unit / units * (s0 + s1) + (u < units0 ? u * EACH : s0 + (u - units0) * EACH);
}

void main()
{
    uint t = gl_LocalInvocationID.x, sub = gl_SubgroupID;
    uint num_pixels = p.num_rows * p.ow * p.oh;
    uint first_pixel = gl_WorkGroupID.x * TILE_M, first_quad = gl_WorkGroupID.y * (TILE_N / 4u);
    uint c0 = p.q0 / 2u, c1 = p.q1 / 2u, depth = 8u * TAPS * (c0 + c1);
    begin_tile(first_pixel, first_quad);

    // The part of the sum that is this workgroup's; a part may be empty.
    uint units0 = (c0 + UNIT_8 - 1u) / UNIT_8, units = units0 + (c1 + UNIT_8 - 1u) / UNIT_8;
    uint unit = 0u, end = TAPS * units;
    if (PARTS > 1u) {
        uint part_units = (TAPS * units + PARTS - 1u) / PARTS;
        unit = min(part() * part_units, end);
        end = min(unit + part_units, end);
    }
    uint slices = slices_before(end, units0, units) - slices_before(unit, units0, units);
    tap = unit / units;
    second = (FLAGS & L2D_CONV_X2) != 0u && unit % units >= units0;
    octet = (unit % units - (second ? units0 : 0u)) * UNIT_8;
    moved = true;

    coopmat<float, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator> acc[WM * WN];
    [[unroll]] for (uint i = 0; i < WM * WN; i++)
        acc[i] = coopmat<float, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator>(0.0);
    if (slices > 0u)
        load_slice(depth);
    for (uint s = 0, stage = 0; s < slices; s++, stage = STAGES - 1u - stage) {
        put_slice(stage);
        barrier();
        if (s + 1u < slices)
            load_slice(depth);
        uint a_at = stage * STAGE + sub / SIDE * WM * CM * PITCH_A;
        uint b_at = stage * STAGE + B_AT + sub % SIDE * WN * CN / 8u;
        [[unroll]] for (uint k = 0; k < DEPTH / CK; k++) {
            coopmat<float16_t, gl_ScopeSubgroup, CM, CK, gl_MatrixUseA> ma[WM];
            [[unroll]] for (uint i = 0; i < WM; i++)
                coopMatLoad(ma[i], room, a_at + i * CM * PITCH_A + k * CK / 8u, PITCH_A,
                            gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint j = 0; j < WN; j++) {
                coopmat<float16_t, gl_ScopeSubgroup, CK, CN, gl_MatrixUseB> mb;
                coopMatLoad(mb, room, b_at + k * CK * PITCH_B + j * CN / 8u, PITCH_B,
                            gl_CooperativeMatrixLayoutRowMajor);
                [[unroll]] for (uint i = 0; i < WM; i++)
                    acc[i * WN + j] = coopMatMulAdd(ma[i], mb, acc[i * WN + j]);
            }
        }
        if (STAGES == 1u)
            barrier();
    }
    barrier();                                      // the sums take the room of slices

    // Sums go through shared memory, since who holds what of a matrix is the device's secret.
    const uint OCTETS = WN * CN / 8u;
    uint s_at = sub * CM * PITCH_S, column0 = first_quad + sub % SIDE * WN * CN / 4u;
    [[unroll]] for (uint i = 0; i < WM; i++) {
        uint m0 = first_pixel + (sub / SIDE * WM + i) * CM;
        [[unroll]] for (uint j = 0; j < WN; j++)
            coopMatStore(acc[i * WN + j], room, s_at + j * CN / 4u, PITCH_S,
                         gl_CooperativeMatrixLayoutRowMajor);
        subgroupMemoryBarrierShared();
        subgroupBarrier();
        for (uint o = gl_SubgroupInvocationID; o < CM * OCTETS; o += LANES) {
            uint line = o / OCTETS, column = o % OCTETS * 2u, m = m0 + line;
            vec4 v0 = uintBitsToFloat(room[s_at + line * PITCH_S + column]);
            vec4 v1 = uintBitsToFloat(room[s_at + line * PITCH_S + column + 1u]);
            if (m < num_pixels && PARTS > 1u)
                write_part(m, column0 + column, v0, v1);
            else if (m < num_pixels)
                finish2(place_of(m), column0 + column, v0, v1);
        }
        subgroupBarrier();
    }
    if (PARTS == 1u || !is_last_part())
        return;
    for (uint o = t; o < TILE_M * (TILE_N / 8u); o += SIZE) {
        uint m = first_pixel + o / (TILE_N / 8u), column = first_quad + o % (TILE_N / 8u) * 2u;
        vec4 v0, v1;
        if (m >= num_pixels)
            continue;
        add_parts(m, column, v0, v1);
        finish2(place_of(m), column, v0, v1);
    }
}
