// SPDX-License-Identifier: Apache-2.0
// Stills, decoded again by libavcodec: size, colours within what JPEG loses, turning, limits.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

#include "clips.h"
#include "video_io/pixfmt.h"
#include "video_io/still.h"

// Decoded to RGB. Free the pixels.
struct picture { int width, height; uint8_t *rgb; };

static struct picture decode(enum AVCodecID id, const uint8_t *data, size_t size)
{
    struct picture out = { 0 };
    AVCodecContext *ctx = avcodec_alloc_context3(avcodec_find_decoder(id));
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    cr_assert_eq(avcodec_open2(ctx, NULL, NULL), 0);
    cr_assert_eq(av_new_packet(packet, (int) size), 0);
    memcpy(packet->data, data, size);
    cr_assert_eq(avcodec_send_packet(ctx, packet), 0);
    avcodec_send_packet(ctx, NULL);
    cr_assert_eq(avcodec_receive_frame(ctx, frame), 0);
    out.width = frame->width;
    out.height = frame->height;
    out.rgb = malloc((size_t) (3 * out.width * out.height) + 64);
    struct SwsContext *sws = sws_getContext(out.width, out.height, frame->format, out.width,
                                            out.height, AV_PIX_FMT_RGB24,
                                            SWS_POINT | SWS_ACCURATE_RND, NULL, NULL, NULL);
    const int *bt601 = sws_getCoefficients(SWS_CS_ITU601);
    sws_setColorspaceDetails(sws, bt601, 1, bt601, 1, 0, 1 << 16, 1 << 16);
    sws_scale(sws, (const uint8_t *const *) frame->data, frame->linesize, 0, out.height,
              (uint8_t *[]) { out.rgb }, (int[]) { 3 * out.width });
    sws_freeContext(sws);
    av_frame_free(&frame);
    av_packet_free(&packet);
    avcodec_free_context(&ctx);
    return out;
}

static void check_pixel(const struct picture *p, int x, int y, int r, int g, int b, int within,
                        const char *what)
{
    const uint8_t *at = p->rgb + 3 * (y * p->width + x);
    cr_assert(abs(at[0] - r) <= within && abs(at[1] - g) <= within && abs(at[2] - b) <= within,
              "%s at %d,%d of %dx%d: %d %d %d, not %d %d %d", what, x, y, p->width, p->height,
              at[0], at[1], at[2], r, g, b);
}

// Quarters: red, green over blue, white.
static struct l2d_frame *quarters(int width, int height)
{
    static const uint8_t color[4][3] = { { 220, 30, 30 }, { 30, 200, 30 }, { 30, 30, 220 },
                                         { 240, 240, 240 } };
    struct l2d_pixel_format format = l2d_pixel_format_rgba8();
    struct l2d_frame *f = NULL;
    cr_assert_eq(l2d_frame_create(&f, width, height, &format, NULL), L2D_OK);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *at = f->data + (size_t) y * f->plane_stride_bytes[0] + 4 * (size_t) x;
            memcpy(at, color[2 * (y >= height / 2) + (x >= width / 2)], 3);
            at[3] = 255;
        }
    return f;
}

static void check_quarters(const struct picture *p, int rotation, int within, const char *what)
{
    static const int color[4][3] = { { 220, 30, 30 }, { 30, 200, 30 }, { 30, 30, 220 },
                                     { 240, 240, 240 } };
    // Of the turned picture's corners, the quarters that come there.
    static const int at[4][4] = { { 0, 1, 2, 3 }, { 2, 0, 3, 1 }, { 3, 2, 1, 0 }, { 1, 3, 0, 2 } };
    for (int i = 0; i < 4; i++) {
        const int *c = color[at[rotation / 90][i]];
        check_pixel(p, p->width * (i % 2 ? 3 : 1) / 4, p->height * (i / 2 ? 3 : 1) / 4, c[0], c[1],
                    c[2], within, what);
    }
}

Test(still, both_formats_turned_and_scaled)
{
    static const struct { int width, height, max_side, rotation, sar_num, want_w, want_h; } cases[]
        = { { 64, 32, 0, 0, 1, 64, 32 },    { 64, 32, 0, 90, 1, 32, 64 },
            { 64, 32, 0, 180, 1, 64, 32 },  { 64, 32, 0, 270, 1, 32, 64 },
            { 63, 35, 0, 90, 1, 35, 63 },   { 320, 160, 80, 0, 1, 80, 40 },
            { 320, 160, 80, 270, 1, 40, 80 }, { 64, 64, 0, 0, 2, 128, 64 },
            { 160, 640, 128, 0, 2, 64, 128 } };
    for (int png = 0; png < 2; png++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
            struct l2d_still *still = NULL;
            struct l2d_error err = { 0 };
            struct l2d_frame *f = quarters(cases[i].width, cases[i].height);
            f->rotation = cases[i].rotation;
            f->sar_num = cases[i].sar_num;
            f->sar_den = 1;
            const uint8_t *data = NULL;
            size_t size = 0;
            cr_assert_eq(l2d_still_create(&still, png ? L2D_STILL_PNG : L2D_STILL_JPEG,
                                          cases[i].max_side, &err), L2D_OK);
            for (int again = 0; again < 2; again++)
                cr_assert_eq(l2d_still_encode(still, f, &data, &size, &err), L2D_OK, "case %zu: %s",
                             i, err.msg);
            struct picture p = decode(png ? AV_CODEC_ID_PNG : AV_CODEC_ID_MJPEG, data, size);
            cr_assert(p.width == cases[i].want_w && p.height == cases[i].want_h,
                      "case %zu: %dx%d", i, p.width, p.height);
            check_quarters(&p, cases[i].rotation, png ? 1 : 8, png ? "png" : "jpeg");
            free(p.rgb);
            l2d_frame_unref(&f);
            l2d_still_destroy(&still);
        }
}

// Every format that a reader can give, from a grey picture: grey has the same code in all of them.
Test(still, every_described_format)
{
    struct l2d_still *still = NULL;
    cr_assert_eq(l2d_still_create(&still, L2D_STILL_PNG, 0, NULL), L2D_OK);
    int seen = 0;
    for (const AVPixFmtDescriptor *d = NULL; (d = av_pix_fmt_desc_next(d)) != NULL;) {
        struct l2d_pixel_format format;
        if (!l2d_pixfmt_describe(av_pix_fmt_desc_get_id(d), &format) ||
            !sws_isSupportedInput(av_pix_fmt_desc_get_id(d)))
            continue;
        format.matrix = d->flags & AV_PIX_FMT_FLAG_RGB ? L2D_MATRIX_RGB : L2D_MATRIX_BT709;
        format.full_range = true;
        struct l2d_frame *f = NULL;
        struct l2d_error err = { 0 };
        cr_assert_eq(l2d_frame_create(&f, 18, 10, &format, &err), L2D_OK, "%s: %s", d->name,
                     err.msg);
        memset(f->data, 0, f->size_bytes);
        for (uint32_t c = 0; c < format.num_components; c++) {
            const struct l2d_component *k = &format.component[c];
            for (int y = 0; y < AV_CEIL_RSHIFT(10, k->sub_h_log2); y++)
                for (int x = 0; x < AV_CEIL_RSHIFT(18, k->sub_w_log2); x++) {
                    uint8_t *at = f->data + f->plane_offset_bytes[k->plane] +
                                  (size_t) y * f->plane_stride_bytes[k->plane] +
                                  (size_t) x * k->step_bytes + k->offset_bytes;
                    uint32_t v = (1u << (k->depth_bits - 1)) << k->shift_bits;
                    at[0] |= (uint8_t) v;
                    if (k->depth_bits > 8)
                        at[1] |= (uint8_t) (v >> 8);
                }
        }
        const uint8_t *data = NULL;
        size_t size = 0;
        cr_assert_eq(l2d_still_encode(still, f, &data, &size, &err), L2D_OK, "%s: %s", d->name,
                     err.msg);
        struct picture p = decode(AV_CODEC_ID_PNG, data, size);
        check_pixel(&p, 5, 5, 128, 128, 128, 3, d->name);
        free(p.rgb);
        l2d_frame_unref(&f);
        seen++;
    }
    cr_assert_gt(seen, 60, "%d formats", seen);
    l2d_still_destroy(&still);
}

// A saturated colour in BT.709 at limited range keeps its RGB in a JPEG, which is BT.601 at full.
Test(still, matrix_and_range_are_converted)
{
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT709, false);
    struct l2d_frame *f = NULL;
    struct l2d_still *still = NULL;
    struct l2d_error err = { 0 };
    const uint8_t *data = NULL;
    size_t size = 0;
    cr_assert_eq(l2d_frame_create(&f, 32, 32, &format, &err), L2D_OK);
    // BT.709 of red 180, green 16, blue 16, as Y Cb Cr.
    static const int code[3] = { 58, 113, 202 };
    for (uint32_t p = 0; p < 3; p++)
        for (uint32_t y = 0; y < l2d_frame_num_rows(f, p); y++)
            memset(f->data + f->plane_offset_bytes[p] + (size_t) y * f->plane_stride_bytes[p],
                   code[p], l2d_frame_row_bytes(f, p));
    double luma = (code[0] - 16) / 219.0;
    double cb = (code[1] - 128) / 224.0, cr = (code[2] - 128) / 224.0;
    int r = (int) (255 * (luma + 1.5748 * cr)), b = (int) (255 * (luma + 1.8556 * cb));
    int g = (int) (255 * (luma - 0.1873 * cb - 0.4681 * cr));
    cr_assert_eq(l2d_still_create(&still, L2D_STILL_JPEG, 0, &err), L2D_OK);
    cr_assert_eq(l2d_still_encode(still, f, &data, &size, &err), L2D_OK, "%s", err.msg);
    struct picture p = decode(AV_CODEC_ID_MJPEG, data, size);
    check_pixel(&p, 9, 9, r, g < 0 ? 0 : g, b < 0 ? 0 : b, 6, "jpeg of BT.709");
    free(p.rgb);
    l2d_frame_unref(&f);
    l2d_still_destroy(&still);
}

Test(still, a_format_that_libav_does_not_have_is_refused)
{
    struct l2d_pixel_format format = l2d_pixel_format_rgba8();
    format.component[0].offset_bytes = 1;
    struct l2d_frame *f = NULL;
    struct l2d_still *still = NULL;
    struct l2d_error err = { 0 };
    const uint8_t *data = NULL;
    size_t size = 0;
    cr_assert_eq(l2d_frame_create(&f, 4, 4, &format, &err), L2D_OK);
    memset(f->data, 0, f->size_bytes);
    cr_assert_eq(l2d_still_create(&still, L2D_STILL_JPEG, 0, &err), L2D_OK);
    cr_assert_eq(l2d_still_encode(still, f, &data, &size, &err), L2D_EUNSUPPORTED);
    cr_assert(strstr(err.msg, "pixel format"), "%s", err.msg);
    l2d_frame_unref(&f);
    l2d_still_destroy(&still);
}
