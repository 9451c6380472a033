// SPDX-License-Identifier: Apache-2.0
// Every pixel format of libav, sample by sample against libav's own reader; conversions; colour
// tags.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include <libavutil/frame.h>
#include <libavutil/imgutils.h>
#include <libavutil/mastering_display_metadata.h>
#include <libavutil/pixdesc.h>

#include "clips.h"
#include "video_io/pixfmt.h"

static AVFrame *picture(enum AVPixelFormat format, int w, int h)
{
    AVFrame *f = av_frame_alloc();
    f->format = format;
    f->width = w;
    f->height = h;
    if (av_frame_get_buffer(f, 0) < 0) {
        av_frame_free(&f);
        return NULL;
    }
    uint32_t rng = 1 + (uint32_t) format;
    for (int b = 0; b < AV_NUM_DATA_POINTERS && f->buf[b]; b++)
        for (size_t i = 0; i < f->buf[b]->size; i++) {
            rng = rng * 1664525u + 1013904223u;
            f->buf[b]->data[i] = (uint8_t) (rng >> 24);
        }
    return f;
}

static uint32_t sample(const struct l2d_frame *f, uint32_t component, int x, int y)
{
    const struct l2d_component *c = &f->format.component[component];
    const uint8_t *p = f->data + f->plane_offset_bytes[c->plane] +
                       (size_t) y * f->plane_stride_bytes[c->plane] +
                       (size_t) x * c->step_bytes + c->offset_bytes;
    uint32_t v = c->depth_bits > 8 ? p[0] | (uint32_t) p[1] << 8 : p[0];
    return (v >> c->shift_bits) & ((1u << c->depth_bits) - 1);
}

Test(pixfmt, described_formats_read_as_libav_reads_them)
{
    struct l2d_importer *im = NULL;
    cr_assert_eq(l2d_importer_create(&im, NULL, NULL), L2D_OK);
    int described = 0;
    for (const AVPixFmtDescriptor *d = NULL; (d = av_pix_fmt_desc_next(d)) != NULL;) {
        enum AVPixelFormat format = av_pix_fmt_desc_get_id(d);
        struct l2d_pixel_format pf;
        if (!l2d_pixfmt_describe(format, &pf))
            continue;
        described++;
        AVFrame *src = picture(format, 6, 3);
        struct l2d_frame *f = NULL;
        struct l2d_error err = { 0 };
        cr_assert(src, "%s", d->name);
        cr_assert_eq(l2d_importer_convert(im, src, &f, &err), L2D_OK, "%s: %s", d->name, err.msg);
        for (uint32_t c = 0; c < f->format.num_components; c++) {
            int w = AV_CEIL_RSHIFT(6, f->format.component[c].sub_w_log2);
            int h = AV_CEIL_RSHIFT(3, f->format.component[c].sub_h_log2);
            for (int y = 0; y < h; y++) {
                uint16_t want[8];
                av_read_image_line2(want, (const uint8_t **) src->data, src->linesize, d, 0, y,
                                    (int) c, w, 0, 2);
                for (int x = 0; x < w; x++)
                    cr_assert_eq(sample(f, c, x, y), want[x], "%s component %u at %d,%d: %u, not "
                                 "%u", d->name, c, x, y, sample(f, c, x, y), want[x]);
            }
        }
        l2d_frame_unref(&f);
        av_frame_free(&src);
    }
    cr_assert_gt(described, 80, "%d formats", described);
    l2d_importer_destroy(&im);
}

// Odd sizes, one pixel, and formats that need libswscale: a picture or a clear refusal.
Test(pixfmt, every_format_and_odd_size)
{
    static const int sizes[][2] = { { 1, 1 }, { 2, 2 }, { 7, 5 }, { 33, 2 } };
    struct l2d_importer *im = NULL;
    cr_assert_eq(l2d_importer_create(&im, NULL, NULL), L2D_OK);
    int refused = 0;
    for (const AVPixFmtDescriptor *d = NULL; (d = av_pix_fmt_desc_next(d)) != NULL;) {
        for (size_t i = 0; i < 4 && !(d->flags & AV_PIX_FMT_FLAG_HWACCEL); i++) {
            AVFrame *src = picture(av_pix_fmt_desc_get_id(d), sizes[i][0], sizes[i][1]);
            struct l2d_frame *f = NULL;
            struct l2d_error err = { 0 };
            if (!src)
                continue;
            int rc = l2d_importer_convert(im, src, &f, &err);
            cr_assert(rc == L2D_OK || (rc == L2D_EUNSUPPORTED && strstr(err.msg, d->name)), "%s "
                      "%dx%d: %s", d->name, sizes[i][0], sizes[i][1], err.msg);
            cr_assert(rc != L2D_OK || (f->width == sizes[i][0] && f->height == sizes[i][1]));
            refused += rc != L2D_OK && i == 0;
            l2d_frame_unref(&f);
            av_frame_free(&src);
        }
    }
    cr_assert_lt(refused, 24, "%d formats are refused", refused);
    l2d_importer_destroy(&im);
}

Test(pixfmt, palette_mono_and_big_endian_keep_their_values)
{
    struct l2d_importer *im = NULL;
    struct l2d_frame *f = NULL;
    cr_assert_eq(l2d_importer_create(&im, NULL, NULL), L2D_OK);

    AVFrame *pal = picture(AV_PIX_FMT_PAL8, 4, 2);
    memset(pal->data[0], 7, (size_t) pal->linesize[0] * 2);
    ((uint32_t *) (void *) pal->data[1])[7] = 0xff102030;
    cr_assert_eq(l2d_importer_convert(im, pal, &f, NULL), L2D_OK);
    cr_assert(f->format.matrix == L2D_MATRIX_RGB && f->format.full_range);
    cr_assert_eq(sample(f, 0, 3, 1), 0x10);
    cr_assert_eq(sample(f, 1, 3, 1), 0x20);
    cr_assert_eq(sample(f, 2, 3, 1), 0x30);
    l2d_frame_unref(&f);
    av_frame_free(&pal);

    AVFrame *mono = picture(AV_PIX_FMT_MONOBLACK, 8, 1);
    mono->data[0][0] = 0x0f;
    cr_assert_eq(l2d_importer_convert(im, mono, &f, NULL), L2D_OK);
    cr_assert_eq(sample(f, 0, 0, 0), 0);
    cr_assert_eq(sample(f, 0, 7, 0), 255);
    l2d_frame_unref(&f);
    av_frame_free(&mono);

    AVFrame *be = picture(AV_PIX_FMT_YUV420P10BE, 2, 2);
    be->data[0][0] = 0x03;
    be->data[0][1] = 0x21;
    cr_assert_eq(l2d_importer_convert(im, be, &f, NULL), L2D_OK);
    cr_assert_eq(sample(f, 0, 0, 0), 0x321);
    l2d_frame_unref(&f);
    av_frame_free(&be);
    l2d_importer_destroy(&im);
}

struct colour_case {
    enum AVPixelFormat format;
    int height;
    enum AVColorSpace space;
    enum AVColorRange range;
    enum l2d_matrix matrix;
    bool full;
};

Test(pixfmt, colour_tags_and_their_defaults)
{
    static const struct colour_case cases[] = {
        { AV_PIX_FMT_YUV420P, 480, AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_UNSPECIFIED,
          L2D_MATRIX_BT601, false },
        { AV_PIX_FMT_YUV420P, 720, AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_UNSPECIFIED,
          L2D_MATRIX_BT709, false },
        { AV_PIX_FMT_YUV420P, 480, AVCOL_SPC_BT709, AVCOL_RANGE_JPEG, L2D_MATRIX_BT709, true },
        { AV_PIX_FMT_YUV420P, 720, AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG, L2D_MATRIX_BT601, false },
        { AV_PIX_FMT_YUV420P10, 720, AVCOL_SPC_BT2020_NCL, AVCOL_RANGE_MPEG,
          L2D_MATRIX_BT2020, false },
        { AV_PIX_FMT_YUVJ420P, 480, AVCOL_SPC_BT470BG, AVCOL_RANGE_UNSPECIFIED,
          L2D_MATRIX_BT601, true },
        { AV_PIX_FMT_GBRP, 480, AVCOL_SPC_RGB, AVCOL_RANGE_UNSPECIFIED, L2D_MATRIX_RGB, true },
        { AV_PIX_FMT_GRAY8, 480, AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_UNSPECIFIED,
          L2D_MATRIX_BT601, true },
        { AV_PIX_FMT_GRAY8, 480, AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_MPEG, L2D_MATRIX_BT601, false },
    };
    struct clips_log log;
    clips_log_init(&log);
    struct l2d_importer *im = NULL;
    cr_assert_eq(l2d_importer_create(&im, &log.log, NULL), L2D_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct colour_case *c = &cases[i];
        AVFrame *src = picture(c->format, 4, c->height);
        src->colorspace = c->space;
        src->color_range = c->range;
        struct l2d_frame *f = NULL;
        cr_assert_eq(l2d_importer_convert(im, src, &f, NULL), L2D_OK);
        cr_expect_eq(f->format.matrix, c->matrix, "case %zu", i);
        cr_expect_eq(f->format.full_range, c->full, "case %zu", i);
        l2d_frame_unref(&f);
        av_frame_free(&src);
    }
    cr_expect_eq(log.warnings, 0, "%s", log.text);
    l2d_importer_destroy(&im);
}

Test(pixfmt, hdr_is_described_and_told_once)
{
    struct clips_log log;
    clips_log_init(&log);
    struct l2d_importer *im = NULL;
    cr_assert_eq(l2d_importer_create(&im, &log.log, NULL), L2D_OK);
    for (int i = 0; i < 3; i++) {
        AVFrame *src = picture(AV_PIX_FMT_P010LE, 4, 4);
        src->color_trc = AVCOL_TRC_SMPTE2084;
        av_content_light_metadata_create_side_data(src)->MaxCLL = 650;
        struct l2d_frame *f = NULL;
        cr_assert_eq(l2d_importer_convert(im, src, &f, NULL), L2D_OK);
        cr_expect_eq(f->format.transfer, L2D_TRANSFER_PQ);
        cr_expect_eq(f->format.primaries, L2D_PRIMARIES_BT2020);
        cr_expect_eq(f->format.peak_nits, 650);
        l2d_frame_unref(&f);
        av_frame_free(&src);
    }
    cr_expect_eq(log.warnings, 0, "%s", log.text);
    cr_expect_eq(log.infos, 1);
    l2d_importer_destroy(&im);
}

Test(pixfmt, export_copies_i420_and_its_tags)
{
    struct l2d_frame *f = clips_frame(5, 3, 42, 1000);
    f->format.matrix = L2D_MATRIX_BT709;
    f->format.full_range = true;
    AVFrame *dst = av_frame_alloc();
    cr_assert_eq(l2d_pixfmt_export(f, dst, NULL), L2D_OK);
    for (uint32_t p = 0; p < 3; p++)
        for (uint32_t y = 0; y < l2d_frame_num_rows(f, p); y++)
            cr_assert_arr_eq(dst->data[p] + (ptrdiff_t) y * dst->linesize[p],
                             f->data + f->plane_offset_bytes[p] + y * f->plane_stride_bytes[p],
                             l2d_frame_row_bytes(f, p));
    cr_expect_eq(dst->pts, 42);
    cr_expect_eq(dst->colorspace, AVCOL_SPC_BT709);
    cr_expect_eq(dst->color_primaries, AVCOL_PRI_BT709);
    cr_expect_eq(dst->color_range, AVCOL_RANGE_JPEG);
    av_frame_unref(dst);

    struct l2d_frame *rgb = NULL;
    struct l2d_pixel_format rgba = l2d_pixel_format_rgba8();
    cr_assert_eq(l2d_frame_create(&rgb, 2, 2, &rgba, NULL), L2D_OK);
    cr_expect_eq(l2d_pixfmt_export(rgb, dst, NULL), L2D_EINVAL);
    l2d_frame_unref(&rgb);
    l2d_frame_unref(&f);
    av_frame_free(&dst);
}
