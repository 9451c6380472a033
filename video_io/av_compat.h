// SPDX-License-Identifier: Apache-2.0
// What FFmpeg 5.1 calls otherwise than later versions. Internal to video_io.
#ifndef L2D_VIDEO_IO_AV_COMPAT_H
#define L2D_VIDEO_IO_AV_COMPAT_H

#include <libavcodec/avcodec.h>
#include <libavfilter/avfilter.h>
#include <libavfilter/buffersrc.h>
#include <libavformat/avformat.h>
#include <libavutil/frame.h>

#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(57, 30, 100)
#define L2D_AV_DURATION(frame) ((frame)->duration)
#else
#define L2D_AV_DURATION(frame) ((frame)->pkt_duration)
#endif

#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(58, 7, 100)
#define L2D_AV_IS_INTERLACED(frame) (((frame)->flags & AV_FRAME_FLAG_INTERLACED) != 0)
#else
#define L2D_AV_IS_INTERLACED(frame) ((frame)->interlaced_frame != 0)
#endif

/** A filter graph's source has its frames' colour. */
static inline void l2d_av_set_source_colour(AVBufferSrcParameters *p, const AVFrame *frame)
{
#if LIBAVFILTER_VERSION_INT >= AV_VERSION_INT(9, 16, 100)
    p->color_space = frame->colorspace;
    p->color_range = frame->color_range;
#else
    (void) p;
    (void) frame;
#endif
}

/** How a stream's pictures are turned, 9 of int32_t; NULL: not said. */
static inline const uint8_t *l2d_av_display_matrix(const AVStream *st)
{
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102)
    const AVCodecParameters *par = st->codecpar;
    const AVPacketSideData *side = av_packet_side_data_get(
        par->coded_side_data, par->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    return side ? side->data : NULL;
#else
    return av_stream_get_side_data(st, AV_PKT_DATA_DISPLAYMATRIX, NULL);
#endif
}

#endif
