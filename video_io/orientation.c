// SPDX-License-Identifier: Apache-2.0
// See orientation.h.
#include "video_io/orientation.h"

#include <string.h>

#include <libavutil/display.h>
#include <libavutil/frame.h>
#include <libavutil/pixdesc.h>

struct l2d_orientation l2d_orientation_of(const uint8_t *matrix, const struct l2d_log *log,
                                          const char *name)
{
    struct l2d_orientation upright = { 0 };
    int32_t m[9];
    if (!matrix)
        return upright;
    memcpy(m, matrix, sizeof(m));
    bool mirrored = (double) m[0] * m[4] - (double) m[1] * m[3] < 0;
    m[3] = mirrored ? -m[3] : m[3];
    m[4] = mirrored ? -m[4] : m[4];
    double turn = -av_display_rotation_get(m);
    if (!(turn > -361 && turn < 361))
        return upright;                 // a matrix without a rotation
    int quarter = (int) ((turn + 720 + 45) / 90) % 4;
    double off = turn + 720 - 90 * (int) ((turn + 720 + 45) / 90);
    if (log && (off > 1 || off < -1))
        l2d_log_print(log, L2D_LOG_WARN, "%s: rotated by %.1f degrees; only quarter turns are "
                      "applied, here %d", name, turn, quarter * 90);
    return (struct l2d_orientation) { quarter * 90, mirrored };
}

struct l2d_orientation l2d_orientation_of_frame(const struct AVFrame *frame,
                                                struct l2d_orientation others)
{
    const AVFrameSideData *side = av_frame_get_side_data(frame, AV_FRAME_DATA_DISPLAYMATRIX);
    return side ? l2d_orientation_of(side->data, NULL, NULL) : others;
}

void l2d_orientation_reverse_rows(struct AVFrame *frame)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(frame->format);
    for (int p = 0; d && !frame->hw_frames_ctx && p < 4 && frame->data[p]; p++) {
        int shift = p == 1 || p == 2 ? d->log2_chroma_h : 0;
        if (p == 1 && d->flags & AV_PIX_FMT_FLAG_PAL)
            break;
        int rows = -(-frame->height >> shift);
        frame->data[p] += (ptrdiff_t) (rows - 1) * frame->linesize[p];
        frame->linesize[p] = -frame->linesize[p];
    }
}
