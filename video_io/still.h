// SPDX-License-Identifier: Apache-2.0
// One picture as a file in memory: JPEG for looking, PNG for keeping.
#ifndef L2D_VIDEO_IO_STILL_H
#define L2D_VIDEO_IO_STILL_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/frame.h"

enum l2d_still_format { L2D_STILL_JPEG, L2D_STILL_PNG };

// Opaque: keeps the scaler and the encoder between pictures of one size. One thread at a time.
struct l2d_still;

/**
 * max_side     larger pictures are scaled down until their longer side has so many pixels; 0: none
 * returns      L2D_OK or L2D_ENOMEM.
 */
int l2d_still_create(struct l2d_still **out, enum l2d_still_format format, int32_t max_side,
                     struct l2d_error *err);

/** Accepts NULL; sets *still to NULL. */
void l2d_still_destroy(struct l2d_still **still);

/**
 * Encode a frame, of any size and format, which may differ from one call to the next: upright, with
 * square pixels. JPEG is BT.601 at full range, PNG is RGB with 8 bits, as viewers expect them.
 * data     the bytes; the still's own, until its next call. Not NULL on L2D_OK.
 * returns  L2D_OK, L2D_EUNSUPPORTED (no such encoder in this libavcodec, or a format of frame that
 *          libav does not have), L2D_EINVAL (libswscale or the encoder refuse its size),
 *          L2D_ENOMEM.
 */
int l2d_still_encode(struct l2d_still *still, const struct l2d_frame *frame, const uint8_t **data,
                     size_t *size, struct l2d_error *err);

#endif
