// SPDX-License-Identifier: Apache-2.0
// See parts.h.
#include "video_io/parts.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libavutil/time.h>

#include "video_io/writer.h"

#define TELL_EVERY_US INT64_C(60000000)

// Whether a file was there before this writer, which opens some of its own again.
static bool is_older(const struct l2d_parts *parts, const char *path)
{
    const struct timespec *began = &parts->began_at;
    struct stat s;
    if (stat(path, &s) != 0 || !S_ISREG(s.st_mode))
        return false;
    return s.st_mtim.tv_sec < began->tv_sec ||
           (s.st_mtim.tv_sec == began->tv_sec && s.st_mtim.tv_nsec < began->tv_nsec);
}

static void note_failure(struct l2d_parts *parts, int averror)
{
    parts->error = parts->error ? parts->error : averror;
    parts->failures++;
}

static int open_part(AVFormatContext *fmt, AVIOContext **pb, const char *url, int flags,
                     AVDictionary **options)
{
    struct l2d_parts *parts = fmt->opaque;
    bool writes = flags & AVIO_FLAG_WRITE;
    // Of numbered pictures the first was looked for when they began.
    bool is_picture = writes && !strcmp(fmt->oformat->name, "image2");
    const char *path = l2d_writer_path(url);
    bool there = writes && !parts->overwrite &&
                 (is_picture ? access(path, F_OK) == 0 : is_older(parts, path));
    int av = there ? AVERROR(EEXIST) : parts->open_file(fmt, pb, url, flags, options);
    if (is_picture && av >= 0) {
        av_free(parts->picture);
        parts->picture = av_strdup(path);
    }
    if (av < 0 && writes)
        note_failure(parts, av);
    return av;
}

static int close_part(AVFormatContext *fmt, AVIOContext *pb)
{
    struct l2d_parts *parts = fmt->opaque;
    int before = pb->error, av = parts->close_file(fmt, pb);
    int why = before < 0 ? before : av;
    if (why < 0 && parts->picture)
        unlink(parts->picture);
    if (why < 0)
        note_failure(parts, why);
    return av;
}

void l2d_parts_watch(struct l2d_parts *parts, AVFormatContext *fmt, bool overwrite)
{
    parts->overwrite = overwrite;
    clock_gettime(CLOCK_REALTIME_COARSE, &parts->began_at);     // by which files are dated
    parts->open_file = fmt->io_open;
    parts->close_file = fmt->io_close2;
    fmt->opaque = parts;
    fmt->io_open = open_part;
    fmt->io_close2 = close_part;
}

// Else for days nobody would know that some are missing.
void l2d_parts_tell(struct l2d_parts *parts, const char *name, const struct l2d_log *log)
{
    unsigned news = parts->failures - parts->told;
    int64_t now_us = av_gettime_relative();
    if (news == 0 || (parts->told > 0 && now_us - parts->told_us < TELL_EVERY_US))
        return;
    l2d_log_print(log, L2D_LOG_WARN, "%s: %u of its files could not be written (at first: %s); "
                  "going on", name, news, av_err2str(parts->error));
    parts->told = parts->failures;
    parts->told_us = now_us;
}

void l2d_parts_finish(struct l2d_parts *parts)
{
    av_freep(&parts->picture);
}
