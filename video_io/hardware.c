// SPDX-License-Identifier: Apache-2.0
// See hardware.h. NVENC and Quick Sync take pictures from ordinary memory; VAAPI does not.
#include "video_io/hardware.h"

#include <libavutil/hwcontext.h>

#define POOL_FRAMES 8

const char *const l2d_hardware_encoders[] = { "h264_nvenc", "h264_vaapi", "h264_qsv", NULL };

bool l2d_hardware_needs_upload(const AVCodec *codec)
{
    bool only_vaapi = codec->pix_fmts && codec->pix_fmts[0] == AV_PIX_FMT_VAAPI;
    return only_vaapi && codec->pix_fmts[1] == AV_PIX_FMT_NONE;
}

int l2d_hardware_attach(AVCodecContext *ctx)
{
    AVBufferRef *device = NULL;
    int av = av_hwdevice_ctx_create(&device, AV_HWDEVICE_TYPE_VAAPI, NULL, NULL, 0);
    if (av < 0)
        return av;
    ctx->hw_frames_ctx = av_hwframe_ctx_alloc(device);
    av_buffer_unref(&device);
    if (!ctx->hw_frames_ctx)
        return AVERROR(ENOMEM);
    AVHWFramesContext *frames = (AVHWFramesContext *) (void *) ctx->hw_frames_ctx->data;
    frames->format = AV_PIX_FMT_VAAPI;
    frames->sw_format = AV_PIX_FMT_NV12;
    frames->width = ctx->width;
    frames->height = ctx->height;
    frames->initial_pool_size = POOL_FRAMES;
    return av_hwframe_ctx_init(ctx->hw_frames_ctx);
}

enum AVPixelFormat l2d_hardware_upload_format(const AVCodecContext *ctx)
{
    return ((const AVHWFramesContext *) (const void *) ctx->hw_frames_ctx->data)->sw_format;
}

int l2d_hardware_upload(AVCodecContext *ctx, const AVFrame *from, AVFrame *to)
{
    int av = av_hwframe_get_buffer(ctx->hw_frames_ctx, to, 0);
    if (av >= 0)
        av = av_hwframe_transfer_data(to, from, 0);
    return av < 0 ? av : av_frame_copy_props(to, from);
}
