// SPDX-License-Identifier: Apache-2.0
// See still.h. libavcodec encodes.
#include "video_io/still.h"

#include <stdlib.h>
#include <string.h>

#include <libavcodec/avcodec.h>

#include "video_io/libav.h"
#include "video_io/picture.h"

#define JPEG_QUANTIZER 4        // 2..31: hardly to be told from the original, about 1 bit a pixel

struct l2d_still {
    enum l2d_still_format format;
    struct l2d_picture *converter;
    AVCodecContext *codec;      // for pictures of its width and height
    AVPacket *packet;
    int64_t pts;                // encoders want it to grow
};

int l2d_still_create(struct l2d_still **out, enum l2d_still_format format, int32_t max_side,
                     struct l2d_error *err)
{
    struct l2d_still *s = calloc(1, sizeof(*s));
    if (s)
        s->packet = av_packet_alloc();
    if (!s || !s->packet) {
        l2d_still_destroy(&s);
        return l2d_error_set(err, L2D_ENOMEM, "still picture: out of memory");
    }
    s->format = format;
    int rc = l2d_picture_create(&s->converter, &(struct l2d_picture_params) {
        .format = format == L2D_STILL_PNG ? AV_PIX_FMT_RGB24 : AV_PIX_FMT_YUV420P,
        .matrix = L2D_MATRIX_BT601, .full_range = true, .max_side = max_side,
    }, err);
    if (rc != L2D_OK)
        l2d_still_destroy(&s);
    *out = s;
    return rc;
}

void l2d_still_destroy(struct l2d_still **still)
{
    struct l2d_still *s = *still;
    *still = NULL;
    if (!s)
        return;
    l2d_picture_destroy(&s->converter);
    avcodec_free_context(&s->codec);
    av_packet_free(&s->packet);
    free(s);
}

static int open_codec(struct l2d_still *s, const AVFrame *picture, struct l2d_error *err)
{
    if (s->codec && s->codec->width == picture->width && s->codec->height == picture->height)
        return L2D_OK;
    avcodec_free_context(&s->codec);
    bool png = s->format == L2D_STILL_PNG;
    const AVCodec *codec = avcodec_find_encoder(png ? AV_CODEC_ID_PNG : AV_CODEC_ID_MJPEG);
    if (!codec)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "still picture: this libavcodec has no %s "
                             "encoder", png ? "PNG" : "JPEG");
    s->codec = avcodec_alloc_context3(codec);
    if (!s->codec)
        return l2d_error_set(err, L2D_ENOMEM, "still picture: out of memory");
    s->codec->width = picture->width;
    s->codec->height = picture->height;
    s->codec->pix_fmt = png ? AV_PIX_FMT_RGB24 : AV_PIX_FMT_YUVJ420P;    // J: at full range
    s->codec->color_range = AVCOL_RANGE_JPEG;
    s->codec->time_base = (AVRational) { 1, 25 };
    s->codec->thread_count = 1;
    s->codec->flags |= AV_CODEC_FLAG_QSCALE;
    s->codec->global_quality = JPEG_QUANTIZER * FF_QP2LAMBDA;
    int rc = avcodec_open2(s->codec, codec, NULL);
    if (rc < 0) {
        avcodec_free_context(&s->codec);
        l2d_libav_error(err, rc, "still picture: %s of %dx%d", codec->name, picture->width,
                        picture->height);
        return L2D_EINVAL;
    }
    return L2D_OK;
}

static int encode(struct l2d_still *s, AVFrame *picture, struct l2d_error *err)
{
    picture->format = s->codec->pix_fmt;
    picture->pts = s->pts++;
    picture->quality = s->codec->global_quality;
    av_packet_unref(s->packet);
    int rc = avcodec_send_frame(s->codec, picture);
    if (rc >= 0)
        rc = avcodec_receive_packet(s->codec, s->packet);
    return rc < 0 ? l2d_libav_error(err, rc, "still picture: encoding") : L2D_OK;
}

int l2d_still_encode(struct l2d_still *s, const struct l2d_frame *frame, const uint8_t **data,
                     size_t *size, struct l2d_error *err)
{
    AVFrame *picture = NULL;
    int rc = l2d_picture_convert(s->converter, frame, &picture, err);
    if (rc == L2D_OK)
        rc = open_codec(s, picture, err);
    if (rc == L2D_OK)
        rc = encode(s, picture, err);
    av_frame_free(&picture);
    if (rc != L2D_OK)
        return rc;
    *data = s->packet->data;
    *size = (size_t) s->packet->size;
    return L2D_OK;
}
