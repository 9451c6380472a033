// SPDX-License-Identifier: Apache-2.0
// One-dimensional work spread over a two-dimensional grid, since a dimension ends at 65535 groups.
// The C side is flat_groups of runtime/kernels/dispatch.h.
#ifndef L2D_LIB_FLAT
#define L2D_LIB_FLAT

// Here, since gl_WorkGroupSize silently is 1 in what comes before it.
layout(local_size_x_id = 0) in;

uint flat_group()
{
    return gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
}

uint flat_invocation()
{
    return flat_group() * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
}

#endif
