// SPDX-License-Identifier: Apache-2.0
// HDR and wide gamut to SDR: base/light.h says what, its C is the same.
#ifndef L2D_LIB_LIGHT
#define L2D_LIB_LIGHT

#include "math.glsl"

const float WHITE_NITS = 203.0, HLG_NITS = 1000.0, PQ_NITS = 10000.0;

float power(float x, float y)
{
    return x > 0.0 ? exp1(y * log1(x)) : 0.0;
}

float pq_of(float light)
{
    float y = power(light, 0.1593017578125);
    return power((0.8359375 + 18.8515625 * y) / (1.0 + 18.6875 * y), 78.84375);
}

float pq_light(float code)
{
    float e = power(code, 1.0 / 78.84375);
    return power(max(e - 0.8359375, 0.0) / (18.8515625 - 18.6875 * e), 1.0 / 0.1593017578125);
}

float hlg_scene(float code)
{
    return code <= 0.5 ? code * code / 3.0
                       : (exp1((code - 0.55991073) / 0.17883277) + 0.28466892) / 12.0;
}

vec3 to_light(uint transfer, vec3 rgb)
{
    if (transfer == L2D_LIGHT_PQ)
        return vec3(pq_light(rgb.r), pq_light(rgb.g), pq_light(rgb.b)) * (PQ_NITS / WHITE_NITS);
    if (transfer == L2D_LIGHT_HLG) {
        vec3 scene = vec3(hlg_scene(rgb.r), hlg_scene(rgb.g), hlg_scene(rgb.b));
        float luma = dot(scene, vec3(0.2627, 0.678, 0.0593));
        return scene * power(luma, 0.2) * (HLG_NITS / WHITE_NITS);
    }
    return vec3(power(rgb.r, 2.4), power(rgb.g, 2.4), power(rgb.b, 2.4));
}

float bent(float light, float peak)
{
    float white = pq_of(WHITE_NITS / PQ_NITS) / peak, knee = 1.5 * white - 0.5;
    float e = min(pq_of(light * (WHITE_NITS / PQ_NITS)) / peak, 1.0);
    if (e <= knee)
        return light;
    float t = (e - knee) / (1.0 - knee), tt = t * t, ttt = tt * t;
    float p = (2.0 * ttt - 3.0 * tt + 1.0) * knee + (ttt - 2.0 * tt + t) * (1.0 - knee) +
              (3.0 * tt - 2.0 * ttt) * white;
    return pq_light(p * peak) * (PQ_NITS / WHITE_NITS);
}

// transfer: L2D_LIGHT_...; to_709: of linear light; peak: PQ's code of the brightest.
vec3 light_to_sdr(uint transfer, mat3 to_709, float peak, vec3 rgb)
{
    vec3 light = max(to_709 * to_light(transfer, clamp(rgb, 0.0, 1.0)), 0.0);
    float most = max(light.r, max(light.g, light.b));
    light = min(light * (most > 0.0 ? bent(most, peak) / most : 0.0), 1.0);
    return vec3(power(light.r, 1.0 / 2.4), power(light.g, 1.0 / 2.4), power(light.b, 1.0 / 2.4));
}

#endif
