// SPDX-License-Identifier: Apache-2.0
// Weights of Catmull-Rom's cubic on four samples of a line, for a place t beyond the second.
vec4 catmull_rom(float t)
{
    return vec4(((-0.5 * t + 1.0) * t - 0.5) * t, (1.5 * t - 2.5) * t * t + 1.0,
                ((-1.5 * t + 2.0) * t + 0.5) * t, (0.5 * t - 0.5) * t * t);
}
