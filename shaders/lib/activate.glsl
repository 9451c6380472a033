// SPDX-License-Identifier: Apache-2.0
// The activation ACT, a specialization constant that the shader declares before.
#include "lib/math.glsl"

#define ACT_SILU       1u       // enum l2d_act
#define ACT_RELU       2u
#define ACT_GELU       3u
#define ACT_QUICK_GELU 4u
#define ACT_GEGLU      5u

vec4 activate(vec4 v)
{
    if (ACT == ACT_SILU)
        return silu4(v);
    if (ACT == ACT_RELU)
        return max(v, 0.0);
    if (ACT == ACT_GELU)
        return gelu4(v);
    if (ACT == ACT_QUICK_GELU)
        return v * sigmoid4(1.702 * v);
    return v;
}
