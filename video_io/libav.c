// SPDX-License-Identifier: Apache-2.0
// Process-wide setup of FFmpeg's libraries, and their error codes as ours. See libav.h.
#include "video_io/libav.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libavdevice/avdevice.h>
#include <libavformat/avformat.h>
#include <libavutil/error.h>
#include <libavutil/log.h>

// libav's log callback has no user pointer, so this one lives as long as the process.
static struct l2d_log libav_log;

static void log_line(void *avcl, int level, const char *fmt, va_list ap)
{
    static _Thread_local int print_prefix = 1;
    if (level > AV_LOG_VERBOSE || libav_log.level < L2D_LOG_DEBUG)
        return;
    char line[1024];
    av_log_format_line2(avcl, level, fmt, ap, line, sizeof(line), &print_prefix);
    line[strcspn(line, "\r\n")] = '\0';
    if (*line)
        l2d_log_print(&libav_log, L2D_LOG_DEBUG, "%s", line);
}

void l2d_libav_init(const struct l2d_log *log)
{
    libav_log = l2d_log_named(log, "libav");
    av_log_set_callback(log_line);
    setenv("SVT_LOG", "0", 0);          // SVT-AV1 prints by itself
    avdevice_register_all();
    avformat_network_init();
}

static int code_of(int averror)
{
    switch (averror) {
    case AVERROR(ENOMEM):
        return L2D_ENOMEM;
    case AVERROR_INVALIDDATA:
    case AVERROR_EOF:
        return L2D_EFORMAT;
    case AVERROR_DECODER_NOT_FOUND:
    case AVERROR_ENCODER_NOT_FOUND:
    case AVERROR_DEMUXER_NOT_FOUND:
    case AVERROR_MUXER_NOT_FOUND:
    case AVERROR_PROTOCOL_NOT_FOUND:
    case AVERROR_PATCHWELCOME:
        return L2D_EUNSUPPORTED;
    case AVERROR_OPTION_NOT_FOUND:
        return L2D_EINVAL;
    case AVERROR_EXIT:
        return L2D_ECLOSED;
    default:
        return L2D_EIO;
    }
}

int l2d_libav_error(struct l2d_error *err, int averror, const char *fmt, ...)
{
    char what[768];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    char why[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(averror, why, sizeof(why));
    return l2d_error_set(err, code_of(averror), "%s: %s", what, why);
}
