// SPDX-License-Identifier: Apache-2.0
// See picture.h. libswscale scales and converts; turning is done here.
#include "video_io/picture.h"

#include <stdlib.h>
#include <string.h>

#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

#include "base/light.h"
#include "video_io/libav.h"
#include "video_io/pixfmt.h"

struct l2d_picture {
    struct l2d_picture_params p;
    struct SwsContext *sws, *sws_rgb;       // sws_rgb: to what becomes SDR
    struct l2d_pixel_format known;          // what av_format was found for
    enum AVPixelFormat av_format;
};

int l2d_picture_create(struct l2d_picture **out, const struct l2d_picture_params *params,
                       struct l2d_error *err)
{
    struct l2d_picture *s = calloc(1, sizeof(*s));
    if (!s)
        return l2d_error_set(err, L2D_ENOMEM, "picture: out of memory");
    s->p = *params;
    s->av_format = AV_PIX_FMT_NONE;
    *out = s;
    return L2D_OK;
}

void l2d_picture_destroy(struct l2d_picture **picture)
{
    struct l2d_picture *s = *picture;
    *picture = NULL;
    if (!s)
        return;
    sws_freeContext(s->sws);
    sws_freeContext(s->sws_rgb);
    free(s);
}

static bool same_layout(const struct l2d_pixel_format *a, const struct l2d_pixel_format *b)
{
    return a->num_components == b->num_components &&
           !memcmp(a->component, b->component, a->num_components * sizeof(a->component[0]));
}

// libav's name for a layout, which l2d_pixfmt_describe gave or would give.
static int find_format(struct l2d_picture *s, const struct l2d_pixel_format *want,
                       struct l2d_error *err)
{
    if (s->av_format != AV_PIX_FMT_NONE && same_layout(&s->known, want))
        return L2D_OK;
    for (const AVPixFmtDescriptor *d = NULL; (d = av_pix_fmt_desc_next(d)) != NULL;) {
        struct l2d_pixel_format f;
        bool rgb = d->flags & AV_PIX_FMT_FLAG_RGB;
        if (!l2d_pixfmt_describe(av_pix_fmt_desc_get_id(d), &f) || !same_layout(&f, want) ||
            rgb != (want->num_components == 3 && want->matrix == L2D_MATRIX_RGB) ||
            !sws_isSupportedInput(av_pix_fmt_desc_get_id(d)))
            continue;
        s->known = *want;
        s->av_format = av_pix_fmt_desc_get_id(d);
        return L2D_OK;
    }
    return l2d_error_set(err, L2D_EUNSUPPORTED, "picture: libav has no such pixel format");
}

// A copy whose rows have the margin that libswscale's vector code wants to read.
static AVFrame *copy_source(const struct l2d_frame *frame, enum AVPixelFormat format)
{
    AVFrame *copy = av_frame_alloc();
    if (!copy)
        return NULL;
    copy->format = format;
    copy->width = frame->width;
    copy->height = frame->height;
    if (av_frame_get_buffer(copy, 0) < 0) {
        av_frame_free(&copy);
        return NULL;
    }
    for (uint32_t p = 0; p < frame->num_planes; p++) {
        const uint8_t *from = frame->data + frame->plane_offset_bytes[p];
        size_t n = l2d_frame_row_bytes(frame, p);
        for (uint32_t y = 0; y < l2d_frame_num_rows(frame, p); y++)
            memcpy(copy->data[p] + (ptrdiff_t) y * copy->linesize[p],
                   from + (size_t) y * frame->plane_stride_bytes[p], n);
    }
    return copy;
}

static int coefficients(enum l2d_matrix matrix)
{
    switch (matrix) {
    case L2D_MATRIX_BT709:  return SWS_CS_ITU709;
    case L2D_MATRIX_BT2020: return SWS_CS_BT2020;
    case L2D_MATRIX_RGB:
    case L2D_MATRIX_BT601:  break;
    }
    return SWS_CS_ITU601;
}

// The size in square pixels, within the limit, before any turning.
static void scaled_size(const struct l2d_picture *s, const struct l2d_frame *frame, int *w, int *h)
{
    double width = frame->width, height = frame->height;
    if (frame->sar_num > 0 && frame->sar_den > 0)
        width = width * frame->sar_num / frame->sar_den;
    double side = width > height ? width : height;
    double limit = s->p.max_side > 0 ? s->p.max_side : L2D_FRAME_MAX_DIM;
    double scale = side > limit ? limit / side : 1;
    *w = width * scale >= 1 ? (int) (width * scale + 0.5) : 1;
    *h = height * scale >= 1 ? (int) (height * scale + 0.5) : 1;
}

static AVFrame *new_picture(enum AVPixelFormat format, int width, int height)
{
    AVFrame *f = av_frame_alloc();
    if (!f)
        return NULL;
    f->format = format;
    f->width = width;
    f->height = height;
    if (av_frame_get_buffer(f, 0) < 0)
        av_frame_free(&f);
    return f;
}

struct colour {
    enum l2d_matrix matrix;
    bool full_range;
};

static int scale(struct SwsContext **sws, const AVFrame *src, struct colour from, AVFrame *dst,
                 struct colour to, struct l2d_error *err)
{
    *sws = sws_getCachedContext(*sws, src->width, src->height, src->format, dst->width, dst->height,
                                dst->format, SWS_AREA | SWS_ACCURATE_RND, NULL, NULL, NULL);
    if (!*sws)
        return l2d_error_set(err, L2D_EINVAL, "picture: libswscale refuses %dx%d to %dx%d",
                             src->width, src->height, dst->width, dst->height);
    sws_setColorspaceDetails(*sws, sws_getCoefficients(coefficients(from.matrix)), from.full_range,
                             sws_getCoefficients(coefficients(to.matrix)), to.full_range, 0,
                             1 << 16, 1 << 16);
    int lines = sws_scale(*sws, (const uint8_t *const *) src->data, src->linesize, 0, src->height,
                          dst->data, dst->linesize);
    return lines < 0 ? l2d_libav_error(err, lines, "picture: scaling") : L2D_OK;
}

static void make_sdr(AVFrame *rgb48, const struct l2d_light *light)
{
    for (int y = 0; y < rgb48->height; y++) {
        uint16_t *at = (uint16_t *) (rgb48->data[0] + (ptrdiff_t) y * rgb48->linesize[0]);
        for (int x = 0; x < rgb48->width; x++, at += 3) {
            double rgb[3] = { at[0] / 65535.0, at[1] / 65535.0, at[2] / 65535.0 };
            l2d_light_to_sdr(light, rgb);
            for (int c = 0; c < 3; c++)
                at[c] = (uint16_t) (rgb[c] * 65535 + 0.5);
        }
    }
}

static int reshape(struct l2d_picture *s, const struct l2d_frame *frame, AVFrame **out,
                   struct l2d_error *err)
{
    struct colour from = { frame->format.matrix, frame->format.full_range };
    struct colour to = { s->p.matrix, s->p.full_range }, full = { L2D_MATRIX_RGB, true };
    struct l2d_light light = l2d_light_of(&frame->format);
    int w, h;
    scaled_size(s, frame, &w, &h);
    AVFrame *src = copy_source(frame, s->av_format), *dst = new_picture(s->p.format, w, h);
    AVFrame *rgb = light.is_sdr ? NULL : new_picture(AV_PIX_FMT_RGB48, w, h);
    int rc = src && dst && (rgb || light.is_sdr)
           ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "picture: out of memory");
    if (rc == L2D_OK && light.is_sdr) {
        rc = scale(&s->sws, src, from, dst, to, err);
    } else if (rc == L2D_OK) {
        rc = scale(&s->sws_rgb, src, from, rgb, full, err);
        if (rc == L2D_OK) {
            make_sdr(rgb, &light);
            rc = scale(&s->sws, rgb, full, dst, to, err);
        }
    }
    av_frame_free(&src);
    av_frame_free(&rgb);
    if (rc != L2D_OK)
        av_frame_free(&dst);
    *out = dst;
    return rc;
}

// A plane of w x h elements, turned clockwise.
static void turn_plane(uint8_t *dst, int dst_stride, const uint8_t *src, int src_stride, int w,
                       int h, int element_bytes, int rotation)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            int to_x = rotation == 90 ? h - 1 - y : rotation == 180 ? w - 1 - x : y;
            int to_y = rotation == 90 ? x : rotation == 180 ? h - 1 - y : w - 1 - x;
            memcpy(dst + (ptrdiff_t) to_y * dst_stride + (ptrdiff_t) to_x * element_bytes,
                   src + (ptrdiff_t) y * src_stride + (ptrdiff_t) x * element_bytes,
                   (size_t) element_bytes);
        }
}

static int turn(const struct l2d_picture *s, AVFrame **picture, int rotation, struct l2d_error *err)
{
    AVFrame *src = *picture;
    bool swapped = rotation % 180 != 0;
    AVFrame *dst = new_picture(s->p.format, swapped ? src->height : src->width,
                               swapped ? src->width : src->height);
    if (!dst)
        return l2d_error_set(err, L2D_ENOMEM, "picture: out of memory");
    bool rgb = s->p.format == AV_PIX_FMT_RGB24;
    for (int p = 0; p < (rgb ? 1 : 3); p++) {
        int half = p > 0;
        turn_plane(dst->data[p], dst->linesize[p], src->data[p], src->linesize[p],
                   (src->width + half) >> half, (src->height + half) >> half, rgb ? 3 : 1,
                   rotation);
    }
    av_frame_free(picture);
    *picture = dst;
    return L2D_OK;
}

int l2d_picture_convert(struct l2d_picture *s, const struct l2d_frame *frame, AVFrame **out,
                        struct l2d_error *err)
{
    AVFrame *picture = NULL;
    int rc = find_format(s, &frame->format, err);
    if (rc == L2D_OK)
        rc = reshape(s, frame, &picture, err);
    if (rc == L2D_OK && frame->rotation != 0)
        rc = turn(s, &picture, frame->rotation, err);
    if (rc != L2D_OK)
        av_frame_free(&picture);
    *out = picture;
    return rc;
}
