// SPDX-License-Identifier: Apache-2.0
// A sum over taps and input channels in PARTS, each a workgroup's. Of those of a tile the one that
// is done last adds them all up, in their order, and finishes the tile. After lib/conv.glsl.

layout(binding = 8, std430) coherent buffer Parts {
    vec4 parts[];                       // [phase][part][pixel][quad]
};
layout(binding = 9, std430) coherent buffer Done {
    uint done[];                        // parts of each tile; 0 before and after
};

shared bool is_last;

// Which of the sum's parts is this workgroup's.
uint part()
{
    return gl_WorkGroupID.z % PARTS;
}

// Two neighbouring quads of weight columns; the pixel counts through all rows.
void write_part(uint pixel, uint column, vec4 v0, vec4 v1)
{
    uint at = (gl_WorkGroupID.z * p.num_rows * p.ow * p.oh + pixel) * p.out_quads + column;
    if (column < p.out_quads)
        parts[at] = v0;
    if (column + 1u < p.out_quads)
        parts[at + 1u] = v1;
}

// All of this workgroup's part has been written. Are all parts there now? Of one workgroup alone.
bool is_last_part()
{
    memoryBarrierBuffer();
    barrier();
    if (gl_LocalInvocationID.x == 0u) {
        uint tile = phase() * gl_NumWorkGroups.y + gl_WorkGroupID.y;
        tile = tile * gl_NumWorkGroups.x + gl_WorkGroupID.x;
        is_last = atomicAdd(done[tile], 1u) == PARTS - 1u;
        if (is_last)
            done[tile] = 0u;            // for the next time
    }
    barrier();
    memoryBarrierBuffer();
    return is_last;
}

void add_parts(uint pixel, uint column, out vec4 v0, out vec4 v1)
{
    uint size = p.num_rows * p.ow * p.oh * p.out_quads;
    uint at = phase() * PARTS * size + pixel * p.out_quads + min(column, p.out_quads - 1u);
    uint second = at + (column + 1u < p.out_quads ? 1u : 0u);
    v0 = v1 = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < PARTS; i++) {
        v0 += parts[i * size + at];
        v1 += parts[i * size + second];
    }
}
