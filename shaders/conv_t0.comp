// SPDX-License-Identifier: Apache-2.0
// Convolution for CPU drivers, which run a subgroup as one vector and load for each of its lanes
// apart, whether or not they share the address. So each lane of a load fetches something else, and
// weights reach the other lanes by a shuffle (one instruction; a broadcast is a loop over lanes). A
// lane keeps PIXELS output pixels by NQ quads of output channels in registers and on the stack,
// which is cheaper than loading twice.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/conv.glsl"

layout(constant_id = 5) const uint NQ = 8;
const uint PIXELS = L2D_CONV_T0_PIXELS;

// gl_WorkGroupSize.x lanes make one subgroup; a divisor of 4*NQ.
const uint LOADS = 4u * NQ / gl_WorkGroupSize.x;

vec4 acc[PIXELS * NQ];
uint mine[LOADS];                                   // of a lane: quads of the panel

// acc += v * the weights of 4 input channels, which begin w quads into a panel.
void accumulate(vec4 v[PIXELS], uint w)
{
    vec4 part[LOADS];
    [[unroll]] for (uint t = 0u; t < LOADS; t++)
        part[t] = FETCH4(weight, w + mine[t]);
    [[unroll]] for (uint n = 0u; n < NQ; n++)
        [[unroll]] for (uint k = 0u; k < 4u; k++) {
            uint id = k * NQ + n;
            vec4 b = subgroupShuffle(part[id / gl_WorkGroupSize.x], id % gl_WorkGroupSize.x);
            [[unroll]] for (uint i = 0u; i < PIXELS; i++)
                acc[i * NQ + n] = fma(vec4(v[i][k]), b, acc[i * NQ + n]);
        }
}

void main()
{
    uint pixels = p.ow * p.oh, num_pixels = p.num_rows * pixels;
    uint column = gl_WorkGroupID.y * NQ, w = 0u;
    [[unroll]] for (uint t = 0u; t < LOADS; t++) {
        uint id = t * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
        mine[t] = weights_at(column + id % NQ) + id / NQ * 8u;
    }
    uint m[PIXELS], row[PIXELS];
    uvec2 at[PIXELS];
    [[unroll]] for (uint i = 0u; i < PIXELS; i++) {
        m[i] = (gl_WorkGroupID.x * PIXELS + i) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
        uint safe = min(m[i], num_pixels - 1u);
        row[i] = safe / pixels;
        at[i] = uvec2(safe % p.ow, safe / p.ow % p.oh);
    }
    [[unroll]] for (uint i = 0u; i < PIXELS * NQ; i++)
        acc[i] = vec4(0.0);

    vec4 low = floor_in();
    uint tap = 0u;
    do {
        uint from[PIXELS];
        bool inside[PIXELS];
        vec4 v[PIXELS];
        [[unroll]] for (uint i = 0u; i < PIXELS; i++)
            inside[i] = input_pixel(row[i], at[i], uvec2(tap % KSIZE, tap / KSIZE), from[i]);
        uint k = 0u;
        do {
            [[unroll]] for (uint i = 0u; i < PIXELS; i++) {
                v[i] = max(FETCH4(x, from[i] * p.q0 + k), low);
                v[i] = inside[i] ? v[i] : vec4(0.0);
            }
            accumulate(v, w);
            w += 32u;
            k++;
        } while (k < p.q0);
        if ((FLAGS & L2D_CONV_X2) != 0u) {
            k = 0u;
            do {
                [[unroll]] for (uint i = 0u; i < PIXELS; i++) {
                    v[i] = max(FETCH4(x2, pixel2(row[i], from[i]) * p.q1 + k), low);
                    v[i] = inside[i] ? v[i] : vec4(0.0);
                }
                accumulate(v, w);
                w += 32u;
                k++;
            } while (k < p.q1);
        }
        tap++;
    } while (tap < TAPS);

    // Results move up past one copy of the epilogue, which would take long to compile so often.
    uint pixel = 0u;
    [[dont_unroll]] do {
        if (m[0] < num_pixels) {
            Place to = place_of(m[0]);
            vec4 sums[NQ];
            [[unroll]] for (uint n = 0u; n < NQ; n++)
                sums[n] = acc[n];
            uint done = 0u;
            [[dont_unroll]] do {
                finish2(to, column + done, sums[0], sums[1]);
                [[unroll]] for (uint n = 2u; n < NQ; n++)
                    sums[n - 2u] = sums[n];
                done += 2u;
            } while (done < NQ);
        }
        [[unroll]] for (uint i = NQ; i < PIXELS * NQ; i++)
            acc[i - NQ] = acc[i];
        [[unroll]] for (uint i = 1u; i < PIXELS; i++)
            m[i - 1u] = m[i];
    } while (++pixel < PIXELS);
}
