// SPDX-License-Identifier: Apache-2.0
// Frames to measure with, painted. See bench.h.
#include "bench.h"

#define NUM_PAINTED 8

// A bright disc over a gradient, a little further in each frame.
static void paint(struct l2d_frame *frame, uint32_t index)
{
    double cx = frame->width * (0.2 + 0.6 * index / NUM_PAINTED), cy = frame->height * 0.5;
    double radius = frame->height * 0.25;
    for (int32_t y = 0; y < frame->height; y++) {
        uint8_t *row = frame->data + (size_t) y * frame->plane_stride_bytes[0];
        for (int32_t x = 0; x < frame->width; x++) {
            bool inside = (x - cx) * (x - cx) + (y - cy) * (y - cy) < radius * radius;
            row[4 * x] = (uint8_t) (inside ? 230 : 255 * x / frame->width);
            row[4 * x + 1] = (uint8_t) (inside ? 180 : 255 * y / frame->height);
            row[4 * x + 2] = (uint8_t) (inside ? 60 : 128);
            row[4 * x + 3] = 255;
        }
    }
}

int bench_paint_source(struct bench *bench, struct option_size size, struct l2d_error *err)
{
    struct l2d_pixel_format format = l2d_pixel_format_rgba8();
    int rc = L2D_OK;
    while (rc == L2D_OK && bench->num_source < NUM_PAINTED) {
        struct l2d_frame **at = &bench->source[bench->num_source];
        rc = l2d_frame_create(at, size.width ? size.width : 512, size.height ? size.height : 512,
                              &format, err);
        if (rc == L2D_OK)
            paint(*at, bench->num_source++);
    }
    return rc;
}
