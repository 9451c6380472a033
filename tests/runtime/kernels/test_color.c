// SPDX-License-Identifier: Apache-2.0
// Colour in and out: the parameters from pixel formats, the shaders against plain C, and colour
// bars through both.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/light.h"
#include "kernels/color.h"
#include "kernels/kernels.h"
#include "ref/ref.h"
#include "support/gpu_test.h"

static struct l2d_frame *new_frame(int w, int h, const struct l2d_pixel_format *format)
{
    struct l2d_error err = { 0 };
    struct l2d_frame *f = NULL;
    cr_assert(l2d_frame_create(&f, w, h, format, &err) == L2D_OK, "%s", err.msg);
    memset(f->data, 0, f->size_bytes);
    return f;
}

static void put(struct l2d_frame *f, int c, int x, int y, unsigned code)
{
    const struct l2d_component *k = &f->format.component[c];
    uint8_t *at = f->data + f->plane_offset_bytes[k->plane] +
                  (size_t) y * f->plane_stride_bytes[k->plane] + (size_t) x * k->step_bytes +
                  k->offset_bytes;
    code <<= k->shift_bits;
    at[0] |= (uint8_t) code;
    if (k->depth_bits + k->shift_bits > 8)
        at[1] |= (uint8_t) (code >> 8);
}

static struct l2d_pixel_format planar(uint32_t n, unsigned depth, unsigned sub_w, unsigned sub_h,
                                      enum l2d_matrix matrix, bool full, enum l2d_chroma_site site)
{
    struct l2d_pixel_format f = {
        .num_components = n, .matrix = matrix, .full_range = full, .chroma_site = site,
    };
    for (uint32_t i = 0; i < n; i++)
        f.component[i] = (struct l2d_component) {
            .plane = (uint8_t) i, .step_bytes = depth > 8 ? 2 : 1, .depth_bits = (uint8_t) depth,
            .sub_w_log2 = (uint8_t) (i ? sub_w : 0), .sub_h_log2 = (uint8_t) (i ? sub_h : 0),
        };
    return f;
}

static struct l2d_pixel_format nv12(void)
{
    struct l2d_pixel_format f = l2d_pixel_format_i420(L2D_MATRIX_BT709, false);
    f.component[1].step_bytes = f.component[2].step_bytes = 2;
    f.component[2].plane = 1;
    f.component[2].offset_bytes = 1;
    return f;
}

static struct l2d_pixel_format p010(void)
{
    struct l2d_pixel_format f = nv12();
    for (int i = 0; i < 3; i++) {
        f.component[i].step_bytes = (uint8_t) (2 * f.component[i].step_bytes);
        f.component[i].depth_bits = 10;
        f.component[i].shift_bits = 6;
        f.component[i].offset_bytes = i == 2 ? 2 : 0;
    }
    f.matrix = L2D_MATRIX_BT2020;
    return f;
}

static struct l2d_pixel_format rgb565(void)
{
    return (struct l2d_pixel_format) {
        .num_components = 3, .matrix = L2D_MATRIX_RGB, .full_range = true,
        .component = {
            { .step_bytes = 2, .offset_bytes = 1, .shift_bits = 3, .depth_bits = 5 },
            { .step_bytes = 2, .shift_bits = 5, .depth_bits = 6 },
            { .step_bytes = 2, .depth_bits = 5 },
        },
    };
}

// ---- matrices

// Codes of one pixel -> RGB in 0..1, as the shader does it.
static void apply(double rgb[3], const struct l2d_color_in_params *p, const double code[3],
                  double max)
{
    for (int i = 0; i < 3; i++) {
        const f32 *m = &p->to_rgb[4 * i];
        rgb[i] = (double) m[0] * code[0] / max + (double) m[1] * code[1] / max +
                 (double) m[2] * code[2] / max + (double) m[3];
    }
}

Test(color, matrices)
{
    // Known colours: 75 % bars of BT.601 and BT.709, limited range, to the rounding of their codes.
    static const struct {
        enum l2d_matrix matrix;
        bool full;
        double code[3], rgb[3];
    } known[] = {
        { L2D_MATRIX_BT601, false, { 235, 128, 128 }, { 1, 1, 1 } },
        { L2D_MATRIX_BT601, false, { 16, 128, 128 }, { 0, 0, 0 } },
        { L2D_MATRIX_BT601, false, { 65, 100, 212 }, { 0.75, 0, 0 } },
        { L2D_MATRIX_BT709, false, { 51, 109, 212 }, { 0.75, 0, 0 } },
        { L2D_MATRIX_BT709, false, { 133, 63, 52 }, { 0, 0.75, 0 } },
        { L2D_MATRIX_BT709, false, { 28, 212, 120 }, { 0, 0, 0.75 } },
        { L2D_MATRIX_BT601, true, { 76, 85, 255 }, { 1, 0, 0 } },
        { L2D_MATRIX_BT601, true, { 255, 128, 128 }, { 1, 1, 1 } },
    };
    for (size_t i = 0; i < COUNT(known); i++) {
        struct l2d_pixel_format format = l2d_pixel_format_i420(known[i].matrix, known[i].full);
        struct l2d_frame *f = new_frame(16, 16, &format);
        struct l2d_color_in_params in;
        struct l2d_color_out_params out;
        double rgb[3];
        l2d_color_in_setup(&in, f, 16, 16, (struct l2d_color_rect) { 0, 0, 16, 16 });
        l2d_color_out_setup(&out, f, 16, 16, &(struct l2d_color_out_fit) { 0, 0, 0, 0, 16, 16 });
        apply(rgb, &in, known[i].code, 255);
        for (int c = 0; c < 3; c++) {
            cr_assert(fabs(rgb[c] - known[i].rgb[c]) < 0.006,
                      "colour %zu: %d is %g, expected %g", i, c, rgb[c], known[i].rgb[c]);
            double code = (double) out.from_rgb[4 * c + 3];
            for (int k = 0; k < 3; k++)
                code += (double) out.from_rgb[4 * c + k] * rgb[k];
            cr_assert(fabs(code - known[i].code[c]) < 1e-3, "colour %zu: code %d is %g", i, c,
                      code);
        }
        l2d_frame_unref(&f);
    }
}

// ---- colour in

static const struct in_case {
    int format, w, h, canvas_w, canvas_h, rotation;
    float x, y, rect_w, rect_h;         // of the upright picture
} in_cases[] = {
    { 0, 64, 48, 64, 48,   0, 0, 0, 64, 48 },           // i420, no scaling
    { 0, 320, 240, 64, 64, 0, 40, 0, 240, 240 },        // smaller, cropped
    { 0, 33, 17, 48, 40,   0, -2.5f, 1.25f, 36, 15 },   // odd, larger, beyond the edge
    { 1, 48, 32, 40, 24,  90, 0, 0, 32, 48 },           // nv12, turned, one axis up, one down
    { 2, 50, 30, 24, 40, 180, 5, 0, 40, 30 },           // p010
    { 3, 40, 30, 32, 32, 270, 0, 5, 30, 30 },           // rgba
    { 4, 31, 9, 16, 16,    0, 0, 0, 31, 9 },            // rgb565, odd
    { 5, 40, 40, 32, 24,   0, 0, 0, 40, 40 },           // grey, 12 bits
    { 6, 65, 43, 32, 24,   0, 0, 0, 65, 43 },           // 4:1:0, full range, centred
    { 7, 32, 32, 32, 32,  90, 0, 0, 32, 32 },           // 4:2:2, top left
    { 8, 64, 64, 64, 64,   0, 0, 0, 64, 64 },           // PQ to 4000 cd/m2
    { 9, 64, 64, 64, 64,   0, 0, 0, 64, 64 },           // HLG
    { 10, 48, 40, 40, 48, 90, 0, 0, 40, 48 },           // PQ in P3
    { 11, 64, 64, 64, 64,  0, 0, 0, 64, 64 },           // SDR in P3
    { 0, 1, 1, 8, 8,       0, 0, 0, 1, 1 },             // one pixel
    { 3, 2400, 1504, 8, 4, 0, 0, 0, 2400, 1504 },       // far smaller: samples are left out
    { 0, 1600, 2400, 4, 8, 90, 0, 0, 2400, 1600 },
};

static struct l2d_pixel_format lit(struct l2d_pixel_format f, enum l2d_transfer transfer,
                                   enum l2d_primaries primaries, uint32_t peak_nits)
{
    f.transfer = transfer;
    f.primaries = primaries;
    f.peak_nits = peak_nits;
    return f;
}

static struct l2d_pixel_format format_of(int index)
{
    switch (index) {
    case 1:  return nv12();
    case 2:  return p010();
    case 3:  return l2d_pixel_format_rgba8();
    case 4:  return rgb565();
    case 5:  return planar(1, 12, 0, 0, L2D_MATRIX_BT709, false, L2D_CHROMA_LEFT);
    case 6:  return planar(3, 8, 2, 2, L2D_MATRIX_BT601, true, L2D_CHROMA_CENTER);
    case 7:  return planar(3, 10, 1, 0, L2D_MATRIX_BT709, false, L2D_CHROMA_TOPLEFT);
    case 8:  return lit(p010(), L2D_TRANSFER_PQ, L2D_PRIMARIES_BT2020, 4000);
    case 9:  return lit(p010(), L2D_TRANSFER_HLG, L2D_PRIMARIES_BT2020, 0);
    case 10: return lit(l2d_pixel_format_rgba8(), L2D_TRANSFER_PQ, L2D_PRIMARIES_P3, 0);
    case 11: return lit(l2d_pixel_format_rgba8(), L2D_TRANSFER_SDR, L2D_PRIMARIES_P3, 0);
    default: return l2d_pixel_format_i420(L2D_MATRIX_BT601, false);
    }
}

static void run_in(struct gpu_test *t, unsigned index, int fill)
{
    const struct in_case *k = &in_cases[index];
    struct l2d_pixel_format format = format_of(k->format);
    struct l2d_frame *f = new_frame(k->w, k->h, &format);
    f->rotation = k->rotation;
    struct l2d_color_in_params params;
    l2d_color_in_setup(&params, f, k->canvas_w, k->canvas_h,
                       (struct l2d_color_rect) { k->x, k->y, k->rect_w, k->rect_h });
    struct l2d_light light = l2d_light_of(&format);
    struct l2d_ref_color_in ref = {
        .width = k->w, .height = k->h, .rotation = k->rotation / 90,
        .num_components = (int) format.num_components, .canvas_w = k->canvas_w,
        .canvas_h = k->canvas_h, .scale_x = (double) k->rect_w / k->canvas_w,
        .scale_y = (double) k->rect_h / k->canvas_h, .origin_x = (double) k->x,
        .origin_y = (double) k->y, .to_rgb = params.to_rgb, .light = light.is_sdr ? NULL : &light,
    };
    uint16_t *code[3] = { NULL };
    for (int c = 0; c < ref.num_components; c++) {
        const struct l2d_component *p = &format.component[c];
        int sw = 1 << p->sub_w_log2, sh = 1 << p->sub_h_log2;
        int w = (k->w + sw - 1) / sw, h = (k->h + sh - 1) / sh;
        unsigned max = (1u << p->depth_bits) - 1;
        double site_x = format.chroma_site == L2D_CHROMA_CENTER ? sw / 2.0 : 0.5;
        double site_y = format.chroma_site == L2D_CHROMA_TOPLEFT ? 0.5 : sh / 2.0;
        code[c] = calloc((size_t) (w * h), sizeof(uint16_t));
        cr_assert(code[c] != NULL);
        unsigned state = index * 7919u + (unsigned) c + 1;
        for (int i = 0; i < w * h; i++) {
            state = state * 1664525u + 1013904223u;
            code[c][i] = (uint16_t) (fill == 0 ? (state >> 8) % (max + 1) : fill == 1 ? max : 0);
            put(f, c, i % w, i / w, code[c][i]);
        }
        ref.plane[c] = (struct l2d_ref_plane) {
            code[c], w, h, sw, sh, sw > 1 ? site_x : 0.5, sh > 1 ? site_y : 0.5, max,
        };
    }
    size_t n = (size_t) (4 * k->canvas_w * k->canvas_h);
    float *want = gt_floats(n);
    l2d_ref_color_in(want, &ref);

    gt_begin(t, L2D_F32);
    struct l2d_tensor canvas = gt_tensor(t, L2D_F32, 1, k->canvas_h, k->canvas_w, 4, NULL, true);
    l2d_color_in(t->graph, gt_bytes(t, f->data, f->size_bytes, false),
                 gt_bytes(t, &params, sizeof(params), false), canvas);
    gt_run(t);
    float *got = gt_read(t, canvas);
    // Positions in f32: 1e-6 of the picture's width, times the step from one sample to the next.
    // Of light, an eighth of a byte's step: next to black a screen's curve is steep.
    double most = light.is_sdr ? 1e-4 : 1e-3;
    gt_check(want, got, n, (struct gt_tol) { most, most, 0 }, "color_in case %u fill %d", index,
             fill);
    gt_end(t);

    gt_begin(t, L2D_F32);
    params.first = 5;
    struct l2d_tensor packed = gt_bytes(t, NULL, n + 20, true);
    l2d_color_in_packed(t->graph, gt_bytes(t, f->data, f->size_bytes, false),
                        gt_bytes(t, &params, sizeof(params), false), k->canvas_h, k->canvas_w,
                        packed);
    gt_run(t);
    unsigned char *bytes = gt_read_bytes(t, packed);
    for (size_t i = 0; i < n; i++) {
        double byte = i % 4 == 3 ? 0 : ((double) want[i] + 1) * 127.5;
        cr_assert(fabs(bytes[20 + i] - byte) < 0.6, "packed case %u: %zu is %d, expected %g",
                  index, i, bytes[20 + i], byte);
    }
    gt_end(t);
    free(bytes);
    for (int c = 0; c < 3; c++)
        free(code[c]);
    free(want);
    free(got);
    l2d_frame_unref(&f);
}

// ---- colour out

static const struct out_case {
    bool i420;
    int w, h, canvas_w, canvas_h;
    struct l2d_color_out_fit fit;
} out_cases[] = {
    { true,  64, 48, 64, 48, { 0, 0, 0, 0, 64, 48 } },
    { true,  37, 21, 64, 48, { 5, 9, 0, 0, 37, 21 } },      // odd, cropped
    { false, 37, 21, 64, 48, { 5, 9, 0, 0, 37, 21 } },
    { true,  80, 64, 64, 48, { -8, -8, 8, 8, 72, 56 } },    // bars
    { false, 70, 48, 64, 48, { -3, 0, 3, 0, 67, 48 } },
    { true,   1,  1,  8,  8, { 3, 3, 0, 0, 1, 1 } },
};

// 0: the canvas alone; 1: another under it; 2: and a mask.
static void run_out(struct gpu_test *t, unsigned index, int mixing)
{
    const struct out_case *k = &out_cases[index];
    struct l2d_pixel_format format = k->i420 ? l2d_pixel_format_i420(L2D_MATRIX_BT709, false)
                                             : l2d_pixel_format_rgba8();
    struct l2d_frame *f = new_frame(k->w, k->h, &format);
    struct l2d_color_out_params params;
    l2d_color_out_setup(&params, f, k->canvas_w, k->canvas_h, &k->fit);
    size_t pixels = (size_t) (k->canvas_w * k->canvas_h), n = 4 * pixels;
    float *canvas = gt_floats(n), *under = gt_floats(n);
    unsigned char *packed = calloc(2 * pixels, 4), *mask = calloc((size_t) (k->w * k->h), 4);
    unsigned char *level = calloc((size_t) (k->w * k->h), 1);
    cr_assert(packed && mask && level);
    gt_fill(canvas, n, GT_NORMAL, 0.7, 1, L2D_F32, index);      // some beyond [-1,1]: clamped
    for (size_t i = 0; i < n; i++) {
        packed[n + i] = (unsigned char) (i * 7919 >> 3);
        under[i] = packed[n + i] / 255.0f;
    }
    for (size_t i = 0; i < (size_t) (k->w * k->h); i++) {
        level[i] = (unsigned char) (i % 3 == 0 ? 255 : i % 3 == 1 ? 0 : i);
        memset(mask + 4 * i, level[i], 3);
    }
    params.under = (u32) pixels;                // the second of two
    params.mix = mixing == 1 ? 0.3f : 0.1f;
    params.masked = mixing == 2;
    struct l2d_ref_color_out ref = {
        k->i420, k->w, k->h, k->canvas_w, k->canvas_h, k->fit.crop_x, k->fit.crop_y, k->fit.x0,
        k->fit.y0, k->fit.x1, k->fit.y1, params.from_rgb, mixing ? under : NULL,
        mixing == 2 ? level : NULL, (double) params.mix,
    };

    gt_begin(t, L2D_F32);
    struct l2d_tensor bytes = gt_bytes(t, NULL, f->size_bytes, true);
    struct l2d_under both = {
        gt_bytes(t, packed, 8 * pixels, false),
        gt_bytes(t, mask, 4 * (size_t) (k->w * k->h), false),
    };
    l2d_color_out(t->graph, gt_tensor(t, L2D_F32, 1, k->canvas_h, k->canvas_w, 4, canvas, false),
                  gt_bytes(t, &params, sizeof(params), false), bytes, mixing ? &both : NULL);
    gt_run(t);
    unsigned char *got = gt_read_bytes(t, bytes);
    double *want = malloc((size_t) (k->w * k->h) * sizeof(*want));
    cr_assert(want != NULL);
    for (int c = 0; c < 3; c++) {
        const struct l2d_component *p = &format.component[c];
        int w = (k->w + (1 << p->sub_w_log2) - 1) >> p->sub_w_log2;
        int h = (k->h + (1 << p->sub_h_log2) - 1) >> p->sub_h_log2;
        l2d_ref_color_out(want, canvas, c, &ref);
        for (int i = 0; i < w * h; i++) {
            unsigned byte = got[f->plane_offset_bytes[p->plane] +
                                (size_t) (i / w) * f->plane_stride_bytes[p->plane] +
                                (size_t) (i % w) * p->step_bytes + p->offset_bytes];
            double v = want[i] < 0 ? 0 : want[i] > 255 ? 255 : want[i];
            cr_assert(fabs(byte - v) < 0.501, "color_out case %u component %d at %d,%d: %u, "
                      "expected %g", index, c, i % w, i / w, byte, v);
        }
    }
    for (int i = 0; !k->i420 && i < k->w * k->h; i++) {
        const unsigned char *line = got + (size_t) (i / k->w) * f->plane_stride_bytes[0];
        cr_assert(line[i % k->w * 4 + 3] == 255);
    }
    gt_end(t);
    free(canvas);
    free(under);
    free(packed);
    free(mask);
    free(level);
    free(want);
    free(got);
    l2d_frame_unref(&f);
}

// ---- both

// Eight bars, 16 pixels each: what comes out is what went in. I420 is compared inside the bars,
// since the chroma of an edge is filtered on both ways.
static void run_bars(struct gpu_test *t, const struct l2d_pixel_format *format)
{
    enum { W = 128, H = 32 };
    bool yuv = format->matrix != L2D_MATRIX_RGB;
    struct l2d_frame *f = new_frame(W, H, format);
    struct l2d_color_out_params out;
    struct l2d_color_in_params in;
    l2d_color_in_setup(&in, f, W, H, (struct l2d_color_rect) { 0, 0, W, H });
    l2d_color_out_setup(&out, f, W, H, &(struct l2d_color_out_fit) { 0, 0, 0, 0, W, H });
    for (int c = 0; c < 3; c++) {
        int sub = 1 << format->component[c].sub_w_log2;
        for (int i = 0; i < W / sub * (H / sub); i++) {
            int bar = i % (W / sub) * sub / 16;
            const double level = 0.75;
            double rgb[3] = { bar & 1 ? level : 0, bar & 2 ? level : 0, bar & 4 ? level : 0 };
            double code = (double) out.from_rgb[4 * c + 3];
            for (int k = 0; k < 3; k++)
                code += (double) out.from_rgb[4 * c + k] * rgb[k];
            put(f, c, i % (W / sub), i / (W / sub), (unsigned) lrint(code));
        }
    }
    for (size_t i = 0; !yuv && i < f->size_bytes; i += 4)
        f->data[i + 3] = 255;

    gt_begin(t, L2D_F32);
    struct l2d_tensor canvas = l2d_graph_alloc(t->graph, L2D_F32, 1, H, W, 4);
    struct l2d_tensor bytes = gt_bytes(t, NULL, f->size_bytes, true);
    l2d_color_in(t->graph, gt_bytes(t, f->data, f->size_bytes, false),
                 gt_bytes(t, &in, sizeof(in), false), canvas);
    l2d_color_out(t->graph, canvas, gt_bytes(t, &out, sizeof(out), false), bytes, NULL);
    gt_run(t);
    unsigned char *got = gt_read_bytes(t, bytes);
    for (uint64_t i = 0; i < f->size_bytes; i++) {
        uint64_t plane = yuv && i >= W * H;
        uint64_t x = plane ? (i - W * H) % (W / 2) * 2 : yuv ? i % W : i / 4 % W;
        if (yuv && (x % 16 < 2 || x % 16 > 13))
            continue;
        cr_assert(abs(got[i] - f->data[i]) <= 2, "bars: byte %llu is %d, was %d",
                  (unsigned long long) i, got[i], f->data[i]);
    }
    gt_end(t);
    free(got);
    l2d_frame_unref(&f);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (unsigned i = 0; i < COUNT(in_cases); i++)
        for (int fill = 0; fill < 3; fill++)
            run_in(&t, i, fill);
    for (unsigned i = 0; i < COUNT(out_cases); i++)
        for (int mixing = 0; mixing < 3; mixing++)
            run_out(&t, i, mixing);
    struct l2d_pixel_format formats[] = {
        l2d_pixel_format_i420(L2D_MATRIX_BT601, false),
        l2d_pixel_format_i420(L2D_MATRIX_BT709, false),
        l2d_pixel_format_i420(L2D_MATRIX_BT601, true),
        l2d_pixel_format_rgba8(),
    };
    for (size_t i = 0; i < COUNT(formats); i++)
        run_bars(&t, &formats[i]);
    gt_close(&t);
}

Test(color, tier0) { run_all(L2D_TIER_0); }
Test(color, tier1) { run_all(L2D_TIER_1); }
