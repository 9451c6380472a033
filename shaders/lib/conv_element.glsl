// SPDX-License-Identifier: Apache-2.0
// The epilogue of convolutions for one element, as matrices of VK_NV_cooperative_matrix2 hand them
// out: what finish and finish2 of conv.glsl do with quads. Indices may be outside: what is read
// there is of no account, and nothing is written.
#include "lib/halves.glsl"
#include "lib/conv.glsl"

// Channels of the output.
uint num_channels()
{
    return ACT == ACT_GEGLU ? 2u * p.out_quads : 4u * p.out_quads;
}

float bias_of(uint channel)
{
    return (FLAGS & L2D_CONV_BIAS) != 0u ? bias[channel / 4u][channel % 4u] : 0.0;
}

float gated(float value, float gate, uint channel)
{
    channel = min(channel, num_channels() - 1u);
    gate += bias_of(num_channels() + channel);
    return (value + bias_of(channel)) * gelu4(vec4(gate)).x;
}

// All that follows the bias.
float finish_element(uint row, uint pixel, uint channel, float v)
{
    uint channels = num_channels(), pixels = p.ow * p.oh;
    row = min(row, p.num_rows - 1u);
    pixel = min(pixel, pixels - 1u);
    channel = min(channel, channels - 1u);
    if ((FLAGS & L2D_CONV_STEP_BIAS) != 0u)
        v += step_bias[(rows[row].step * channels + channel) / 4u][channel % 4u];
    float added = 0.0;
    if ((FLAGS & L2D_CONV_RESIDUAL) != 0u) {
        uint r = (p.flags & L2D_CONV_RESIDUAL_RING) != 0u ? rows[row].ring : row;
        uint at = (r * pixels + pixel) * channels + channel;
        added = unpackHalf2x16(residual[at / 4u][at % 4u / 2u])[at % 2u];
    }
    bool last = (p.flags & L2D_CONV_ACT_LAST) != 0u;
    return activate(vec4(last ? v + added : v)).x + (last ? 0.0 : added);
}

void put_element(uint row, uint pixel, uint channel, float v)
{
    if (row >= p.num_rows || pixel >= p.ow * p.oh || channel >= num_channels())
        return;
    uint r = (p.flags & L2D_CONV_OUT_RING) != 0u ? rows[row].ring : row;
    uint at = (r * p.ow * p.oh + pixel) * num_channels() + channel;
    y[at / 4u][at % 4u] = float16_t(v);
}
