// SPDX-License-Identifier: Apache-2.0
// AVFrame to l2d_frame and back. The component description is AVPixFmtDescriptor's
// (libavutil/pixdesc.h); colour defaults for untagged video are those of players: see pixfmt.h.
#include "video_io/pixfmt.h"

#include <stdlib.h>
#include <string.h>

#include <libavutil/frame.h>
#include <libavutil/hwcontext.h>
#include <libavutil/imgutils.h>
#include <libavutil/mastering_display_metadata.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

#include "base/light.h"
#include "video_io/av_compat.h"
#include "video_io/libav.h"

struct l2d_importer {
    struct l2d_log log;
    struct SwsContext *sws;     // of the last format that needed a conversion
    bool told_light, warned_matrix;
    enum AVPixelFormat told_conversion;
};

bool l2d_pixfmt_describe(int av_pixel_format, struct l2d_pixel_format *out)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat) av_pixel_format);
    const uint64_t refused = AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_BE |
                             AV_PIX_FMT_FLAG_FLOAT | AV_PIX_FMT_FLAG_BAYER |
                             AV_PIX_FMT_FLAG_HWACCEL;
    // uyyvyy411's luma is not evenly spaced, and xyz is no RGB, though their descriptors look so.
    if (!d || (d->flags & refused) || av_pixel_format == AV_PIX_FMT_UYYVYY411 ||
        !strncmp(d->name, "xyz", 3))
        return false;
    int n = d->nb_components - (d->flags & AV_PIX_FMT_FLAG_ALPHA ? 1 : 0);
    if (n != 1 && n != 3)
        return false;

    struct l2d_pixel_format f = { .num_components = (uint32_t) n };
    for (int i = 0; i < n; i++) {
        const AVComponentDescriptor *c = &d->comp[i];
        bool chroma = i > 0 && !(d->flags & AV_PIX_FMT_FLAG_RGB);
        int load_bytes = c->depth > 8 ? 2 : 1;
        if (c->depth < 8 || c->depth + c->shift > 8 * load_bytes || c->step > UINT8_MAX ||
            c->offset > UINT8_MAX || c->step < load_bytes)
            return false;
        f.component[i] = (struct l2d_component) {
            .plane = (uint8_t) c->plane, .step_bytes = (uint8_t) c->step,
            .offset_bytes = (uint8_t) c->offset, .shift_bits = (uint8_t) c->shift,
            .depth_bits = (uint8_t) c->depth,
            .sub_w_log2 = chroma ? d->log2_chroma_w : 0,
            .sub_h_log2 = chroma ? d->log2_chroma_h : 0,
        };
    }
    *out = f;
    return true;
}

// The described format that loses nothing, or least, of one that is not.
static enum AVPixelFormat conversion_target(const AVPixFmtDescriptor *d)
{
    struct l2d_pixel_format ignored;
    enum AVPixelFormat twin = av_pix_fmt_swap_endianness(av_pix_fmt_desc_get_id(d));
    if ((d->flags & AV_PIX_FMT_FLAG_BE) && l2d_pixfmt_describe(twin, &ignored))
        return twin;
    bool deep = d->comp[0].depth > 8;
    if (d->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL) || !strncmp(d->name, "xyz", 3))
        return deep ? AV_PIX_FMT_RGB48LE : AV_PIX_FMT_RGB24;
    if (d->nb_components <= 2)
        return deep ? AV_PIX_FMT_GRAY16LE : AV_PIX_FMT_GRAY8;
    if (d->log2_chroma_w == 0)
        return deep ? AV_PIX_FMT_YUV444P10LE : AV_PIX_FMT_YUV444P;
    if (d->log2_chroma_h == 0)
        return deep ? AV_PIX_FMT_YUV422P10LE : AV_PIX_FMT_YUV422P;
    return deep ? AV_PIX_FMT_YUV420P10LE : AV_PIX_FMT_YUV420P;
}

static enum l2d_matrix matrix_of(struct l2d_importer *im, const AVFrame *src)
{
    switch (src->colorspace) {
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M:
    case AVCOL_SPC_FCC:                     // within a rounding step of BT.601
        return L2D_MATRIX_BT601;
    case AVCOL_SPC_BT709:
    case AVCOL_SPC_SMPTE240M:               // within 1.5 % of BT.709
        return L2D_MATRIX_BT709;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
        return L2D_MATRIX_BT2020;
    case AVCOL_SPC_RGB:
    case AVCOL_SPC_UNSPECIFIED:
    case AVCOL_SPC_RESERVED:
        break;
    default:
        if (!im->warned_matrix)
            l2d_log_print(&im->log, L2D_LOG_WARN, "colour matrix %s is not known here: colours "
                          "will be off; convert the input with: ffmpeg -i IN -vf "
                          "scale=out_color_matrix=bt709 OUT", av_color_space_name(src->colorspace));
        im->warned_matrix = true;
        break;
    }
    return src->height >= 720 ? L2D_MATRIX_BT709 : L2D_MATRIX_BT601;
}

static bool is_yuvj(enum AVPixelFormat f)
{
    return f == AV_PIX_FMT_YUVJ420P || f == AV_PIX_FMT_YUVJ422P || f == AV_PIX_FMT_YUVJ444P ||
           f == AV_PIX_FMT_YUVJ440P || f == AV_PIX_FMT_YUVJ411P;
}

static enum l2d_chroma_site chroma_site_of(const AVFrame *src)
{
    switch (src->chroma_location) {
    case AVCHROMA_LOC_CENTER:
    case AVCHROMA_LOC_TOP:
    case AVCHROMA_LOC_BOTTOM:
        return L2D_CHROMA_CENTER;
    case AVCHROMA_LOC_TOPLEFT:
        return L2D_CHROMA_TOPLEFT;
    case AVCHROMA_LOC_UNSPECIFIED:
        return is_yuvj(src->format) ? L2D_CHROMA_CENTER : L2D_CHROMA_LEFT;
    default:
        return L2D_CHROMA_LEFT;
    }
}

static uint32_t peak_nits_of(const AVFrame *src)
{
    const AVFrameSideData *level = av_frame_get_side_data(src, AV_FRAME_DATA_CONTENT_LIGHT_LEVEL);
    const AVFrameSideData *screen =
        av_frame_get_side_data(src, AV_FRAME_DATA_MASTERING_DISPLAY_METADATA);
    unsigned most = level ? ((const AVContentLightMetadata *) level->data)->MaxCLL : 0;
    if (most > 0 || !screen)
        return most;
    const AVMasteringDisplayMetadata *m = (const AVMasteringDisplayMetadata *) screen->data;
    double nits = m->has_luminance && m->max_luminance.den > 0 ? av_q2d(m->max_luminance) : 0;
    return nits > 0 && nits <= 10000 ? (uint32_t) nits : 0;
}

static void fill_light(const AVFrame *src, struct l2d_pixel_format *f)
{
    bool is_hdr = src->color_trc == AVCOL_TRC_SMPTE2084 || src->color_trc == AVCOL_TRC_ARIB_STD_B67;
    f->transfer = src->color_trc == AVCOL_TRC_SMPTE2084 ? L2D_TRANSFER_PQ
                : src->color_trc == AVCOL_TRC_ARIB_STD_B67 ? L2D_TRANSFER_HLG : L2D_TRANSFER_SDR;
    enum AVColorPrimaries primaries = src->color_primaries;
    if (primaries == AVCOL_PRI_UNSPECIFIED && (is_hdr || f->matrix == L2D_MATRIX_BT2020))
        primaries = AVCOL_PRI_BT2020;
    bool is_p3 = primaries == AVCOL_PRI_SMPTE432 || primaries == AVCOL_PRI_SMPTE431;
    f->primaries = primaries == AVCOL_PRI_BT2020 ? L2D_PRIMARIES_BT2020
                 : is_p3 ? L2D_PRIMARIES_P3 : L2D_PRIMARIES_BT709;
    f->peak_nits = f->transfer == L2D_TRANSFER_PQ ? peak_nits_of(src) : 0;
}

// src has the tags; its pixels may have been converted to another format of the same family.
static void fill_colour(struct l2d_importer *im, const AVFrame *src, struct l2d_pixel_format *f)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(src->format);
    bool rgb = d->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL) ||
               !strncmp(d->name, "xyz", 3);
    f->matrix = rgb ? L2D_MATRIX_RGB : matrix_of(im, src);
    f->chroma_site = chroma_site_of(src);
    if (rgb || is_yuvj(src->format))
        f->full_range = true;
    else if (src->color_range == AVCOL_RANGE_UNSPECIFIED)
        f->full_range = f->num_components == 1;
    else
        f->full_range = src->color_range == AVCOL_RANGE_JPEG;

    fill_light(src, f);
    if (!im->told_light && !l2d_light_of(f).is_sdr) {
        im->told_light = true;
        l2d_log_print(&im->log, L2D_LOG_INFO, "%s input (%s, %s): it becomes SDR in BT.709",
                      f->transfer == L2D_TRANSFER_SDR ? "wide-gamut" : "HDR",
                      f->transfer == L2D_TRANSFER_PQ ? "PQ"
                      : f->transfer == L2D_TRANSFER_HLG ? "HLG" : "SDR",
                      f->primaries == L2D_PRIMARIES_BT2020 ? "BT.2020"
                      : f->primaries == L2D_PRIMARIES_P3 ? "P3" : "BT.709");
    }
}

int l2d_importer_create(struct l2d_importer **out, const struct l2d_log *log, struct l2d_error *err)
{
    struct l2d_importer *im = calloc(1, sizeof(*im));
    if (!im)
        return l2d_error_set(err, L2D_ENOMEM, "picture import: out of memory");
    im->log = log ? *log : (struct l2d_log) { 0 };
    im->told_conversion = AV_PIX_FMT_NONE;
    *out = im;
    return L2D_OK;
}

void l2d_importer_destroy(struct l2d_importer **importer)
{
    struct l2d_importer *im = *importer;
    *importer = NULL;
    if (!im)
        return;
    sws_freeContext(im->sws);
    free(im);
}

static int copy_planes(struct l2d_frame *f, const AVFrame *src, struct l2d_error *err)
{
    for (uint32_t p = 0; p < f->num_planes; p++) {
        size_t row = l2d_frame_row_bytes(f, p), have = (size_t) abs(src->linesize[p]);
        size_t n = row < have ? row : have;     // an odd width may end within a packed pair
        uint8_t *to = f->data + f->plane_offset_bytes[p];
        const uint8_t *from = src->data[p];
        if (!from)
            return l2d_error_set(err, L2D_EFORMAT, "decoded picture lacks plane %u", p);
        for (uint32_t y = 0; y < l2d_frame_num_rows(f, p); y++) {
            memcpy(to, from, n);
            memset(to + n, 0x80, f->plane_stride_bytes[p] - n);
            to += f->plane_stride_bytes[p];
            from += src->linesize[p];
        }
    }
    return L2D_OK;
}

// Into the planes of f, which has the geometry of dst_format.
static int convert(struct l2d_importer *im, const AVFrame *src, enum AVPixelFormat dst_format,
                   AVFrame *dst, struct l2d_error *err)
{
    const char *from = av_get_pix_fmt_name(src->format), *to = av_get_pix_fmt_name(dst_format);
    if (im->told_conversion != src->format) {
        l2d_log_print(&im->log, L2D_LOG_DEBUG, "pixel format %s is converted to %s", from, to);
        im->told_conversion = src->format;
    }
    dst->format = dst_format;
    dst->width = src->width;
    dst->height = src->height;
    int rc = av_frame_get_buffer(dst, 0);
    if (rc < 0)
        return l2d_libav_error(err, rc, "picture of %dx%d", src->width, src->height);
    im->sws = sws_getCachedContext(im->sws, src->width, src->height, src->format, src->width,
                                   src->height, dst_format, SWS_POINT | SWS_ACCURATE_RND |
                                   SWS_FULL_CHR_H_INP, NULL, NULL, NULL);
    if (!im->sws)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "pixel format %s cannot be converted to %s",
                             from, to);
    rc = sws_scale(im->sws, (const uint8_t *const *) src->data, src->linesize, 0, src->height,
                   dst->data, dst->linesize);
    if (rc < 0)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "pixel format %s of %dx%d cannot be converted "
                             "to %s", from, src->width, src->height, to);
    return L2D_OK;
}

static int import(struct l2d_importer *im, const AVFrame *src, struct l2d_frame **out,
                  struct l2d_error *err)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(src->format);
    if (!d)
        return l2d_error_set(err, L2D_EFORMAT, "decoded picture has no pixel format");
    AVFrame *temp = NULL;
    const AVFrame *pixels = src;
    struct l2d_pixel_format format;
    int rc = L2D_OK;
    if (!l2d_pixfmt_describe(src->format, &format)) {
        enum AVPixelFormat target = conversion_target(d);
        if (!sws_isSupportedInput(src->format) || !l2d_pixfmt_describe(target, &format))
            return l2d_error_set(err, L2D_EUNSUPPORTED, "pixel format %s is not supported; convert "
                                 "the input with: ffmpeg -i IN -pix_fmt yuv420p OUT", d->name);
        pixels = temp = av_frame_alloc();
        rc = temp ? convert(im, src, target, temp, err)
                  : l2d_error_set(err, L2D_ENOMEM, "picture import: out of memory");
    }
    struct l2d_frame *f = NULL;
    if (rc == L2D_OK) {
        fill_colour(im, src, &format);
        rc = l2d_frame_create(&f, src->width, src->height, &format, err);
    }
    if (rc == L2D_OK)
        rc = copy_planes(f, pixels, err);
    av_frame_free(&temp);
    if (rc != L2D_OK) {
        l2d_frame_unref(&f);
        return rc;
    }
    f->sar_num = src->sample_aspect_ratio.num;
    f->sar_den = src->sample_aspect_ratio.den;
    *out = f;
    return L2D_OK;
}

int l2d_importer_convert(struct l2d_importer *importer, const struct AVFrame *src,
                         struct l2d_frame **out, struct l2d_error *err)
{
    if (!src->hw_frames_ctx)
        return import(importer, src, out, err);
    AVFrame *host = av_frame_alloc();
    if (!host)
        return l2d_error_set(err, L2D_ENOMEM, "picture import: out of memory");
    int rc = av_hwframe_transfer_data(host, src, 0);
    if (rc >= 0)
        rc = av_frame_copy_props(host, src);
    rc = rc < 0 ? l2d_libav_error(err, rc, "copying a picture from the hardware decoder")
                : import(importer, host, out, err);
    av_frame_free(&host);
    return rc;
}

static bool is_i420(const struct l2d_pixel_format *f)
{
    struct l2d_pixel_format want = l2d_pixel_format_i420(f->matrix, f->full_range);
    return f->num_components == 3 && f->matrix != L2D_MATRIX_RGB &&
           !memcmp(f->component, want.component, sizeof(want.component));
}

int l2d_pixfmt_export(const struct l2d_frame *frame, struct AVFrame *dst, struct l2d_error *err)
{
    if (!is_i420(&frame->format))
        return l2d_error_set(err, L2D_EINVAL, "only 8-bit 4:2:0 YCbCr frames (I420) can be "
                             "written");
    dst->format = AV_PIX_FMT_YUV420P;
    dst->width = frame->width;
    dst->height = frame->height;
    int rc = av_frame_get_buffer(dst, 0);
    if (rc < 0)
        return l2d_libav_error(err, rc, "picture of %dx%d", frame->width, frame->height);
    for (uint32_t p = 0; p < 3; p++)
        av_image_copy_plane(dst->data[p], dst->linesize[p],
                            frame->data + frame->plane_offset_bytes[p],
                            (int) frame->plane_stride_bytes[p],
                            (int) l2d_frame_row_bytes(frame, p),
                            (int) l2d_frame_num_rows(frame, p));

    // Primaries and curve are not ours to know: those that usually go with the matrix.
    dst->color_range = frame->format.full_range ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
    switch (frame->format.matrix) {
    case L2D_MATRIX_BT2020:
        dst->colorspace = AVCOL_SPC_BT2020_NCL;
        dst->color_primaries = AVCOL_PRI_BT2020;
        dst->color_trc = AVCOL_TRC_BT2020_10;
        break;
    case L2D_MATRIX_BT709:
        dst->colorspace = AVCOL_SPC_BT709;
        dst->color_primaries = AVCOL_PRI_BT709;
        dst->color_trc = AVCOL_TRC_BT709;
        break;
    case L2D_MATRIX_BT601:
    case L2D_MATRIX_RGB:
        dst->colorspace = AVCOL_SPC_SMPTE170M;
        dst->color_primaries = AVCOL_PRI_SMPTE170M;
        dst->color_trc = AVCOL_TRC_SMPTE170M;
        break;
    }
    dst->chroma_location = frame->format.chroma_site == L2D_CHROMA_CENTER ? AVCHROMA_LOC_CENTER
                         : frame->format.chroma_site == L2D_CHROMA_TOPLEFT ? AVCHROMA_LOC_TOPLEFT
                         : AVCHROMA_LOC_LEFT;
    dst->sample_aspect_ratio = (AVRational) { frame->sar_num, frame->sar_den };
    if (frame->sar_num <= 0 || frame->sar_den <= 0)
        dst->sample_aspect_ratio = (AVRational) { 1, 1 };
    dst->pts = frame->pts;
    L2D_AV_DURATION(dst) = frame->duration;
    return L2D_OK;
}
