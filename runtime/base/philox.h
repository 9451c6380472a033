// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011) and the normal noise that the stream draws from it. A number depends on
// (seed, frame, step, element) alone, so the order of evaluation cannot change a picture. This is
// the plain C that the noise shader is held against; it allocates nothing and has no state.
#ifndef L2D_BASE_PHILOX_H
#define L2D_BASE_PHILOX_H

#include <stddef.h>
#include <stdint.h>

/** One block: ten rounds over counter with key -> four words. */
void l2d_philox_block(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/**
 * Elements 0..count-1 of the N(0,1) noise of (seed, frame, step).
 * out      [count] f32, in NHWC order of one frame's latent: element (y*W + x)*C + c.
 * count    up to 2^34: element e is drawn from counter (e/4, frame, step, 0).
 * frame    0 for every frame if the noise is shared between frames: the caller's choice.
 * Box-Muller in double, rounded once to f32. On the GPU the same formula runs in f32.
 */
void l2d_noise_fill(float *out, size_t count, uint64_t seed, uint32_t frame, uint32_t step);

#endif
