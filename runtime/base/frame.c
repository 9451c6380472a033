// SPDX-License-Identifier: Apache-2.0
// Allocation and reference counts of host pictures. See frame.h.
#include "base/frame.h"

#include <stdlib.h>

static uint32_t ceil_shift(int32_t v, uint32_t log2)
{
    return ((uint32_t) v + (1u << log2) - 1) >> log2;
}

struct l2d_pixel_format l2d_pixel_format_i420(enum l2d_matrix matrix, bool full_range)
{
    return (struct l2d_pixel_format) {
        .num_components = 3,
        .component = {
            { .plane = 0, .step_bytes = 1, .depth_bits = 8 },
            { .plane = 1, .step_bytes = 1, .depth_bits = 8, .sub_w_log2 = 1, .sub_h_log2 = 1 },
            { .plane = 2, .step_bytes = 1, .depth_bits = 8, .sub_w_log2 = 1, .sub_h_log2 = 1 },
        },
        .matrix = matrix, .full_range = full_range, .chroma_site = L2D_CHROMA_LEFT,
    };
}

struct l2d_pixel_format l2d_pixel_format_rgba8(void)
{
    return (struct l2d_pixel_format) {
        .num_components = 3,
        .component = {
            { .step_bytes = 4, .offset_bytes = 0, .depth_bits = 8 },
            { .step_bytes = 4, .offset_bytes = 1, .depth_bits = 8 },
            { .step_bytes = 4, .offset_bytes = 2, .depth_bits = 8 },
        },
        .matrix = L2D_MATRIX_RGB, .full_range = true,
    };
}

uint32_t l2d_frame_row_bytes(const struct l2d_frame *frame, uint32_t plane)
{
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < frame->format.num_components; i++) {
        const struct l2d_component *c = &frame->format.component[i];
        uint32_t n = ceil_shift(frame->width, c->sub_w_log2) * c->step_bytes;
        if (c->plane == plane && n > bytes)
            bytes = n;
    }
    return bytes;
}

uint32_t l2d_frame_num_rows(const struct l2d_frame *frame, uint32_t plane)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < frame->format.num_components; i++) {
        const struct l2d_component *c = &frame->format.component[i];
        uint32_t n = ceil_shift(frame->height, c->sub_h_log2);
        if (c->plane == plane && n > rows)
            rows = n;
    }
    return rows;
}

int l2d_frame_create(struct l2d_frame **out, int32_t width, int32_t height,
                     const struct l2d_pixel_format *format, struct l2d_error *err)
{
    if (width < 1 || height < 1 || width > L2D_FRAME_MAX_DIM || height > L2D_FRAME_MAX_DIM)
        return l2d_error_set(err, L2D_EINVAL, "frame of %dx%d pixels; sides of 1 to %d can be had",
                             width, height, L2D_FRAME_MAX_DIM);
    if (format->num_components != 1 && format->num_components != 3)
        return l2d_error_set(err, L2D_EINVAL, "pixel format with %u components; 1 or 3 can be had",
                             format->num_components);
    struct l2d_frame *f = calloc(1, sizeof(*f));
    if (!f)
        return l2d_error_set(err, L2D_ENOMEM, "frame of %dx%d pixels: out of memory", width,
                             height);
    f->width = width;
    f->height = height;
    f->format = *format;
    f->time_base_num = f->time_base_den = 1;
    f->sar_num = f->sar_den = 1;
    atomic_init(&f->refs, 1);

    for (uint32_t i = 0; i < format->num_components; i++) {
        const struct l2d_component *c = &format->component[i];
        uint32_t sample_bytes = c->depth_bits + c->shift_bits > 8 ? 2 : 1;
        if (c->plane > 3 || c->depth_bits < 1 || c->depth_bits > 16 || c->sub_w_log2 > 3 ||
            c->sub_h_log2 > 3 || c->depth_bits + c->shift_bits > 16 ||
            c->step_bytes < c->offset_bytes + sample_bytes) {
            l2d_frame_unref(&f);
            return l2d_error_set(err, L2D_EINVAL, "pixel format: component %u is inconsistent", i);
        }
        if (c->plane + 1u > f->num_planes)
            f->num_planes = c->plane + 1u;
    }
    for (uint32_t p = 0; p < f->num_planes; p++) {
        f->plane_stride_bytes[p] = (l2d_frame_row_bytes(f, p) + 3) & ~3u;
        f->plane_offset_bytes[p] = f->size_bytes;
        f->size_bytes += (uint64_t) f->plane_stride_bytes[p] * l2d_frame_num_rows(f, p);
    }
    f->data = malloc(f->size_bytes);
    if (!f->data) {
        l2d_frame_unref(&f);
        return l2d_error_set(err, L2D_ENOMEM, "frame of %dx%d pixels: out of memory", width,
                             height);
    }
    *out = f;
    return L2D_OK;
}

struct l2d_frame *l2d_frame_ref(struct l2d_frame *frame)
{
    atomic_fetch_add_explicit(&frame->refs, 1, memory_order_relaxed);
    return frame;
}

void l2d_frame_unref(struct l2d_frame **frame)
{
    struct l2d_frame *f = *frame;
    *frame = NULL;
    if (!f || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) > 1)
        return;
    free(f->data);
    free(f);
}
