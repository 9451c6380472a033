// SPDX-License-Identifier: Apache-2.0
// What LANES neighbours of a subgroup have together; LANES, a power of 2, is the shader's.
float sum_of_lanes(float v)
{
    [[unroll]] for (uint mask = 1u; mask < LANES; mask *= 2u)
        v += subgroupShuffleXor(v, mask);
    return v;
}

float greatest_of_lanes(float v)
{
    [[unroll]] for (uint mask = 1u; mask < LANES; mask *= 2u)
        v = max(v, subgroupShuffleXor(v, mask));
    return v;
}
