// SPDX-License-Identifier: Apache-2.0
// Where one axis of a bilinear resize reads: two neighbours and the weight of the second, of whole
// numbers. As in PyTorch, positions before the first centre are at the first centre.
struct tap2 {
    uint lo, hi;
    float f;
};

tap2 bilinear_taps(uint at, uint n, uint out_n, bool align_corners)
{
    uint num = at * (n - 1u), den = max(out_n - 1u, 1u);
    if (!align_corners) {
        num = max((2u * at + 1u) * n, out_n) - out_n;
        den = 2u * out_n;
    }
    uint lo = min(num / den, n - 1u);
    return tap2(lo, min(lo + 1u, n - 1u), float(num % den) / float(den));
}
