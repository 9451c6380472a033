// SPDX-License-Identifier: Apache-2.0
// Colour matrices of ITU-R BT.601, 709 and 2020 (non-constant luminance), and the recorders of the
// colour stages. See color.h, kernels.h.
#include "kernels/color.h"

#include <assert.h>
#include <string.h>

#include "base/light.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"

struct weights {                // of luma
    double r, g, b;
};

static struct weights weights_of(enum l2d_matrix matrix)
{
    double r = matrix == L2D_MATRIX_BT709 ? 0.2126 : matrix == L2D_MATRIX_BT2020 ? 0.2627 : 0.299;
    double b = matrix == L2D_MATRIX_BT709 ? 0.0722 : matrix == L2D_MATRIX_BT2020 ? 0.0593 : 0.114;
    return (struct weights) { r, 1 - r - b, b };
}

// code / (2^depth - 1) = value * gain + offset, for a value of 0..1, or -0.5..0.5 if it is chroma.
struct range {
    double gain, offset;
};

static struct range range_of(uint32_t depth, bool chroma, bool full)
{
    double max = (double) ((1u << depth) - 1), unit = (double) (1u << depth) / 256;
    if (full)
        return (struct range) { 1, chroma ? (double) (1u << depth) / 2 / max : 0 };
    return chroma ? (struct range) { 224 * unit / max, 128 * unit / max }
                  : (struct range) { 219 * unit / max, 16 * unit / max };
}

static void to_rgb(f32 m[12], const struct l2d_pixel_format *format)
{
    bool grey = format->num_components == 1, yuv = !grey && format->matrix != L2D_MATRIX_RGB;
    struct weights k = weights_of(format->matrix);
    // Rows R, G, B of (first, second, third component) on values.
    const double colour[3][3] = {
        { 1, 0, 2 * (1 - k.r) },
        { 1, -2 * (1 - k.b) * k.b / k.g, -2 * (1 - k.r) * k.r / k.g },
        { 1, 2 * (1 - k.b), 0 },
    };
    for (int row = 0; row < 3; row++) {
        double constant = 0;
        for (uint32_t c = 0; c < 3; c++) {
            double v = yuv ? colour[row][c] : grey ? c == 0 : c == (uint32_t) row;
            if (c >= format->num_components)
                v = 0;
            uint32_t depth = c < format->num_components ? format->component[c].depth_bits : 8;
            struct range r = range_of(depth, yuv && c > 0, format->full_range);
            m[row * 4 + (int) c] = (f32) (v / r.gain);
            constant -= v * r.offset / r.gain;
        }
        m[row * 4 + 3] = (f32) constant;
    }
}

static void set_light(struct l2d_color_in_params *p, const struct l2d_pixel_format *format)
{
    struct l2d_light light = l2d_light_of(format);
    if (light.is_sdr)
        return;
    p->light = light.transfer == L2D_TRANSFER_PQ ? L2D_LIGHT_PQ
             : light.transfer == L2D_TRANSFER_HLG ? L2D_LIGHT_HLG : L2D_LIGHT_SDR;
    for (int i = 0; i < 9; i++)
        p->to_709[i] = (f32) light.to_709[i];
    p->peak = (f32) light.peak;
}

void l2d_color_in_setup(struct l2d_color_in_params *p, const struct l2d_frame *frame,
                        int32_t canvas_w, int32_t canvas_h, struct l2d_color_rect source)
{
    const struct l2d_pixel_format *format = &frame->format;
    assert(format->num_components == 1 || format->num_components == 3);
    memset(p, 0, sizeof(*p));
    uint32_t sub_w = 0, sub_h = 0;
    for (uint32_t i = 0; i < format->num_components; i++) {
        const struct l2d_component *c = &format->component[i];
        p->component[i] = (struct l2d_color_component) {
            .plane_offset_bytes = (u32) frame->plane_offset_bytes[c->plane],
            .stride_bytes = frame->plane_stride_bytes[c->plane],
            .step_bytes = c->step_bytes, .offset_bytes = c->offset_bytes,
            .shift_bits = c->shift_bits, .depth_bits = c->depth_bits,
            .sub_w_log2 = c->sub_w_log2, .sub_h_log2 = c->sub_h_log2,
        };
        sub_w = c->sub_w_log2 > sub_w ? c->sub_w_log2 : sub_w;
        sub_h = c->sub_h_log2 > sub_h ? c->sub_h_log2 : sub_h;
    }
    p->num_components = format->num_components;
    p->width = (u32) frame->width;
    p->height = (u32) frame->height;
    p->rotation = (u32) ((frame->rotation / 90 % 4 + 4) % 4);
    p->canvas_w = (u32) canvas_w;
    p->canvas_h = (u32) canvas_h;
    p->scale_x = source.w / (float) canvas_w;
    p->scale_y = source.h / (float) canvas_h;
    p->origin_x = source.x;
    p->origin_y = source.y;
    // A centred sample lies in the middle of its 2, 4 or 8 luma pixels, a cosited one on the first.
    p->chroma_x = format->chroma_site == L2D_CHROMA_CENTER ? 0.5f * (float) (1u << sub_w) : 0.5f;
    p->chroma_y = format->chroma_site == L2D_CHROMA_TOPLEFT ? 0.5f : 0.5f * (float) (1u << sub_h);
    to_rgb(p->to_rgb, format);
    set_light(p, format);
}

void l2d_color_out_setup(struct l2d_color_out_params *p, const struct l2d_frame *frame,
                         int32_t canvas_w, int32_t canvas_h, const struct l2d_color_out_fit *fit)
{
    const struct l2d_pixel_format *format = &frame->format;
    bool yuv = format->matrix != L2D_MATRIX_RGB;
    *p = (struct l2d_color_out_params) {
        .i420 = yuv, .width = (u32) frame->width, .height = (u32) frame->height,
        .canvas_w = (u32) canvas_w, .canvas_h = (u32) canvas_h,
        .crop_x = (u32) fit->crop_x, .crop_y = (u32) fit->crop_y,
        .x0 = (u32) fit->x0, .y0 = (u32) fit->y0, .x1 = (u32) fit->x1, .y1 = (u32) fit->y1,
    };
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t plane = format->component[i].plane;
        assert(frame->plane_offset_bytes[plane] % 4 == 0 &&
               frame->plane_stride_bytes[plane] % 4 == 0);
        p->plane_offset_bytes[i] = (u32) frame->plane_offset_bytes[plane];
        p->stride_bytes[i] = frame->plane_stride_bytes[plane];
    }
    struct weights k = weights_of(format->matrix);
    const double colour[3][3] = {
        { k.r, k.g, k.b },
        { -0.5 * k.r / (1 - k.b), -0.5 * k.g / (1 - k.b), 0.5 },
        { 0.5, -0.5 * k.g / (1 - k.r), -0.5 * k.b / (1 - k.r) },
    };
    for (int row = 0; row < 3; row++) {
        struct range r = range_of(8, yuv && row > 0, !yuv || format->full_range);
        for (int c = 0; c < 3; c++)
            p->from_rgb[row * 4 + c] = (f32) (255 * r.gain * (yuv ? colour[row][c] : row == c));
        p->from_rgb[row * 4 + 3] = (f32) (255 * r.offset);
    }
}

static void color_in(struct l2d_graph *graph, struct l2d_tensor bytes, struct l2d_tensor params,
                     struct l2d_tensor to, bool packed, uint64_t pixels)
{
    if (!l2d_check_bytes(graph, "color_in", "bytes", &bytes, 4) ||
        !l2d_check_bytes(graph, "color_in", "params", &params, sizeof(struct l2d_color_in_params)))
        return;
    uint32_t size = flat_size(graph);
    struct l2d_dispatch d = {
        .shader = "color_in", .spec = (uint32_t[]) { size, packed }, .num_spec = 2,
        .bind = (struct l2d_binding[]) {
            { bytes, L2D_READ }, { params, L2D_READ }, { to, L2D_WRITE }, { to, L2D_WRITE },
        },
        .num_bind = 4,
    };
    flat_groups(d.groups, pixels, size);
    l2d_graph_dispatch(graph, &d);
}

void l2d_color_in(struct l2d_graph *graph, struct l2d_tensor bytes, struct l2d_tensor params,
                  struct l2d_tensor canvas)
{
    if (l2d_check_shape(graph, "color_in", "canvas", &canvas, L2D_F32, 1, -1, -1, 4))
        color_in(graph, bytes, params, canvas, false, l2d_tensor_count(&canvas) / 4);
}

void l2d_color_in_packed(struct l2d_graph *graph, struct l2d_tensor bytes,
                         struct l2d_tensor params, int32_t h, int32_t w, struct l2d_tensor packed)
{
    uint64_t pixels = (uint64_t) h * (uint64_t) w;
    if (l2d_check_bytes(graph, "color_in", "packed", &packed, 4 * pixels))
        color_in(graph, bytes, params, packed, true, pixels);
}

void l2d_color_out(struct l2d_graph *graph, struct l2d_tensor canvas, struct l2d_tensor params,
                   struct l2d_tensor bytes, const struct l2d_under *under)
{
    if (!l2d_check_shape(graph, "color_out", "canvas", &canvas, L2D_F32, 1, -1, -1, 4) ||
        !l2d_check_bytes(graph, "color_out", "bytes", &bytes, 4) ||
        !l2d_check_bytes(graph, "color_out", "params", &params,
                         sizeof(struct l2d_color_out_params)) ||
        (under && (!l2d_check_bytes(graph, "color_out", "packed", &under->packed, 4) ||
                   !l2d_check_bytes(graph, "color_out", "mask", &under->mask, 4))))
        return;
    uint32_t size = flat_size(graph);
    struct l2d_dispatch d = {
        .shader = "color_out", .spec = (uint32_t[]) { size, under != NULL }, .num_spec = 2,
        .bind = (struct l2d_binding[]) {
            { canvas, L2D_READ }, { params, L2D_READ }, { bytes, L2D_WRITE },
            { under ? under->packed : params, L2D_READ },
            { under ? under->mask : params, L2D_READ },
        },
        .num_bind = 5,
    };
    flat_groups(d.groups, l2d_tensor_bytes(&bytes) / 4, size);
    l2d_graph_dispatch(graph, &d);
}
