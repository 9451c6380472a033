// SPDX-License-Identifier: Apache-2.0
// Elementary functions to about 1e-7, the same on every driver: the built-in ones differ by device
// and may be as coarse as 1e-4. With L2D_FAST_EXP e^x is the built-in one, whose error of some ulps
// is nothing beside a half's. Polynomials: Cephes (Moshier), single precision; erf: N. Juffa's
// public minimax fit.
#ifndef L2D_LIB_MATH
#define L2D_LIB_MATH

// e^x, relative error 2e-7. Below e^-87 it is e^-87, which no sum of ours can tell from 0.
float exp1(float x)
{
#ifdef L2D_FAST_EXP
    return exp(x);
#else
    x = clamp(x, -87.0, 88.0);
    float n = floor(x * 1.44269504 + 0.5);
    float r = x - n * 0.693359375 + n * 2.12194440e-4;
    float p = 1.9875691500e-4;
    p = p * r + 1.3981999507e-3;
    p = p * r + 8.3334519073e-3;
    p = p * r + 4.1665795894e-2;
    p = p * r + 1.6666665459e-1;
    p = p * r + 5.0000001201e-1;
    return (p * r * r + r + 1.0) * intBitsToFloat((int(n) + 127) << 23);
#endif
}

vec4 exp4(vec4 x)
{
#ifdef L2D_FAST_EXP
    return exp(x);
#else
    x = clamp(x, -87.0, 88.0);
    vec4 n = floor(x * 1.44269504 + 0.5);
    vec4 r = x - n * 0.693359375 + n * 2.12194440e-4;
    vec4 p = vec4(1.9875691500e-4);
    p = p * r + 1.3981999507e-3;
    p = p * r + 8.3334519073e-3;
    p = p * r + 4.1665795894e-2;
    p = p * r + 1.6666665459e-1;
    p = p * r + 5.0000001201e-1;
    return (p * r * r + r + 1.0) * intBitsToFloat((ivec4(n) + 127) << 23);
#endif
}

// ln x of a normal number, absolute error 1e-7 and relative error 3e-7, also next to 1.
float log1(float x)
{
    int bits = floatBitsToInt(x);
    int e = (bits >> 23) - 126;                             // x = m 2^e, m in [0.5, 1)
    float m = intBitsToFloat(bits & 0x007fffff | 0x3f000000);
    if (m < 0.707106781) {
        e -= 1;
        m += m;
    }
    m -= 1.0;
    float z = m * m;
    float p = 7.0376836292e-2;
    p = p * m - 1.1514610310e-1;
    p = p * m + 1.1676998740e-1;
    p = p * m - 1.2420140846e-1;
    p = p * m + 1.4249322787e-1;
    p = p * m - 1.6668057665e-1;
    p = p * m + 2.0000714765e-1;
    p = p * m - 2.4999993993e-1;
    p = p * m + 3.3333331174e-1;
    float y = p * m * z - 2.12194440e-4 * float(e) - 0.5 * z;
    return m + y + 0.693359375 * float(e);
}

// cos and sin of a number of whole turns, absolute error 1e-7.
vec2 cos_sin_turns(float turns)
{
    float quarter = floor(turns * 4.0 + 0.5);
    float x = (turns * 4.0 - quarter) * 1.57079633;         // -pi/4 .. pi/4
    float z = x * x;
    float s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * x + x;
    float c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2)
              * z * z - 0.5 * z + 1.0;
    int q = int(quarter) & 3;
    vec2 v = (q & 1) == 0 ? vec2(c, s) : vec2(-s, c);
    return q < 2 ? v : -v;
}

vec4 tanh4(vec4 x)
{
    vec4 z = x * x;
    vec4 p = vec4(-5.70498872745e-3);
    p = p * z + 2.06390887954e-2;
    p = p * z - 5.37397155531e-2;
    p = p * z + 1.33314422036e-1;
    p = p * z - 3.33332819422e-1;
    vec4 small = p * z * x + x;
    vec4 large = sign(x) * (1.0 - 2.0 / (exp4(2.0 * abs(x)) + 1.0));
    return mix(large, small, lessThan(abs(x), vec4(0.625)));
}

vec4 erf4(vec4 a)
{
    vec4 t = abs(a), s = a * a;
    vec4 r = -1.72853470e-5 * t + 3.83197126e-4;
    vec4 u = -3.88396438e-3 * t + 2.42546219e-2;
    r = r * s + u;
    r = r * t - 1.06777877e-1;
    r = r * t - 6.34846687e-1;
    r = r * t - 1.28717512e-1;
    r = r * t - t;
    vec4 large = sign(a) * (1.0 - exp4(r));
    vec4 q = vec4(-5.96761703e-4);
    q = q * s + 4.99119423e-3;
    q = q * s - 2.67681349e-2;
    q = q * s + 1.12819925e-1;
    q = q * s - 3.76125336e-1;
    q = q * s + 1.28379166e-1;
    return mix(large, q * a + a, lessThan(t, vec4(0.927734375)));
}

vec4 sigmoid4(vec4 x)  { return 1.0 / (1.0 + exp4(-x)); }
vec4 silu4(vec4 x)     { return x * sigmoid4(x); }

// Beside halves the complement of erf is of half as many operations (Abramowitz and Stegun, 7.1.26:
// absolute error 1.5e-7).
vec4 gelu4(vec4 x)
{
#ifdef L2D_FAST_EXP
    vec4 t = 1.0 / (0.231641888 * abs(x) + 1.0);
    vec4 p = 0.5307027145 * t - 0.7265760135;
    p = p * t + 0.7107068705;
    p = p * t - 0.142248368;
    p = p * t + 0.127414796;
    return max(x, 0.0) - abs(x) * t * p * exp(-0.5 * x * x);
#else
    return 0.5 * x * (1.0 + erf4(x * 0.707106781));
#endif
}

#endif
