// SPDX-License-Identifier: Apache-2.0
// A picture in host memory: where video_io and pipeline meet. The pixel format is described, not
// enumerated: each component says in which plane, byte and bits it lies, so that one shader reads
// yuv420p, nv12, p010, rgb24 or bgra alike. Reference counted; the count is the only mutable part
// once a frame has been handed on.
#ifndef L2D_BASE_FRAME_H
#define L2D_BASE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/error.h"

#define L2D_FRAME_MAX_DIM 16384     // pixels a side; more is refused before anything is allocated

enum l2d_matrix { L2D_MATRIX_RGB, L2D_MATRIX_BT601, L2D_MATRIX_BT709, L2D_MATRIX_BT2020 };

enum l2d_transfer { L2D_TRANSFER_SDR, L2D_TRANSFER_PQ, L2D_TRANSFER_HLG };      // of BT.2100

enum l2d_primaries { L2D_PRIMARIES_BT709, L2D_PRIMARIES_BT2020, L2D_PRIMARIES_P3 };     // D65

enum l2d_chroma_site {              // where a subsampled chroma sample sits
    L2D_CHROMA_LEFT,                // cosited horizontally, centred vertically (MPEG-2, H.264)
    L2D_CHROMA_CENTER,              // centred both ways (MPEG-1, JPEG)
    L2D_CHROMA_TOPLEFT,             // cosited both ways
};

struct l2d_component {              // as FFmpeg's AVComponentDescriptor
    uint8_t plane;                  // 0..3
    uint8_t step_bytes;             // from one sample to the next
    uint8_t offset_bytes;           // before the first sample of a row
    uint8_t shift_bits;             // right shift after a little-endian load
    uint8_t depth_bits;             // 1..16; over 8 the load is 16 bits wide
    uint8_t sub_w_log2, sub_h_log2; // of the component: 1 halves the plane's width or height
};

struct l2d_pixel_format {
    uint32_t num_components;            // 1 (grey), 3 (Y Cb Cr or R G B); alpha is not carried
    struct l2d_component component[3];
    enum l2d_matrix matrix;
    bool full_range;
    enum l2d_chroma_site chroma_site;
    enum l2d_transfer transfer;         // SDR with BT.709's primaries is taken as it is; anything
    enum l2d_primaries primaries;       // else becomes that on the way in
    uint32_t peak_nits;                 // of PQ, the brightest in cd/m2; 0: not known, 1000
};

struct l2d_frame {
    int32_t width, height;              // pixels as stored, before rotation
    struct l2d_pixel_format format;
    uint32_t num_planes;
    uint64_t plane_offset_bytes[4];     // into data
    uint32_t plane_stride_bytes[4];
    uint64_t size_bytes;                // of data: all planes, one allocation
    uint8_t *data;

    int64_t pts;                        // presentation time in ticks of time_base; carried through
    int64_t duration;                   // ticks; 0 if unknown
    int32_t time_base_num, time_base_den;
    int32_t sar_num, sar_den;           // sample aspect ratio; 0/x or x/0 means square
    int32_t rotation;                   // 0, 90, 180, 270: clockwise turn that makes it upright

    atomic_int refs;
};

/** Formats that we write ourselves: planes Y, Cb, Cr of 8 bits, chroma halved both ways; bytes
    R, G, B, A, of which A is not read, and written as 255. */
struct l2d_pixel_format l2d_pixel_format_i420(enum l2d_matrix matrix, bool full_range);
struct l2d_pixel_format l2d_pixel_format_rgba8(void);

/**
 * Allocate a frame; planes follow each other, rows padded to 4 bytes. Pixels are not initialised;
 * pts is 0, its time base 1/1, pixels are square and upright.
 * returns  L2D_OK, L2D_EINVAL for a size outside 1..L2D_FRAME_MAX_DIM or an inconsistent format,
 *          L2D_ENOMEM. *out has one reference.
 */
int l2d_frame_create(struct l2d_frame **out, int32_t width, int32_t height,
                     const struct l2d_pixel_format *format, struct l2d_error *err);

/** One more owner. returns frame. Any thread. */
struct l2d_frame *l2d_frame_ref(struct l2d_frame *frame);

/** One owner less; frees the frame with the last. Sets *frame to NULL; accepts NULL. Any thread. */
void l2d_frame_unref(struct l2d_frame **frame);

/** Bytes in a row of a plane without padding, and its number of rows. */
uint32_t l2d_frame_row_bytes(const struct l2d_frame *frame, uint32_t plane);
uint32_t l2d_frame_num_rows(const struct l2d_frame *frame, uint32_t plane);

#endif
