// SPDX-License-Identifier: Apache-2.0
// See clips.h.
#include "clips.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "video_io/libav.h"

static char folder[64];

static void print_line(void *user, enum l2d_log_level level, const char *name, const char *line)
{
    (void) user;
    (void) level;
    fprintf(stderr, "%s: %s\n", name, line);
}

void clips_open(void)
{
    strcpy(folder, "/tmp/l2d-clips-XXXXXX");
    cr_assert(mkdtemp(folder) && chdir(folder) == 0);
    struct l2d_log log = { print_line, NULL, L2D_LOG_DEBUG, "libav" };
    l2d_libav_init(getenv("L2D_TEST_LIBAV_LOG") ? &log : NULL);
}

void clips_close(void)
{
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", folder);
    cr_assert(chdir("/") == 0 && system(cmd) == 0);
}

void clips_run(const char *fmt, ...)
{
    char cmd[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof(cmd), fmt, ap);
    va_end(ap);
    cr_assert_eq(system(cmd), 0, "failed: %s", cmd);
}

const char *clips_output(const char *fmt, ...)
{
    static char out[65536];
    char cmd[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof(cmd), fmt, ap);
    va_end(ap);
    FILE *f = popen(cmd, "r");
    cr_assert(f);
    size_t n = fread(out, 1, sizeof(out) - 1, f);
    out[n] = '\0';
    if (n && out[n - 1] == '\n')
        out[n - 1] = '\0';
    cr_assert_eq(pclose(f), 0, "failed: %s", cmd);
    return out;
}

bool clips_exists(const char *path)
{
    struct stat s;
    return lstat(path, &s) == 0;
}

static void keep_line(void *user, enum l2d_log_level level, const char *name, const char *line)
{
    struct clips_log *log = user;
    (void) name;
    if (level == L2D_LOG_INFO)
        log->infos++;
    if (level > L2D_LOG_WARN)
        return;
    log->warnings++;
    size_t len = strlen(log->text);
    snprintf(log->text + len, sizeof(log->text) - len, "%s\n", line);
}

void clips_log_init(struct clips_log *log)
{
    memset(log, 0, sizeof(*log));
    log->log = (struct l2d_log) { keep_line, log, L2D_LOG_DEBUG, "test" };
}

int clips_read(struct clips_frames *out, const struct l2d_reader_params *params,
               struct l2d_error *err)
{
    memset(out, 0, sizeof(*out));
    struct l2d_reader *r = NULL;
    int rc = l2d_reader_create(&r, params, err);
    while (rc == L2D_OK) {
        struct l2d_item item = { 0 };
        rc = l2d_reader_next(r, &item, err);
        if (rc != L2D_OK || item.kind == L2D_ITEM_END)
            break;
        if (item.kind == L2D_ITEM_VIDEO) {
            cr_assert_lt(out->num_frames, 512u);
            out->frame[out->num_frames++] = l2d_frame_ref(item.frame);
        } else {
            out->num_packets++;
        }
        l2d_item_clear(&item);
    }
    if (r)
        out->stats = l2d_reader_stats(r);
    l2d_reader_destroy(&r);
    return rc;
}

void clips_frames_clear(struct clips_frames *frames)
{
    for (size_t i = 0; i < frames->num_frames; i++)
        l2d_frame_unref(&frames->frame[i]);
}

int clips_copy(const char *from, const char *to, const struct l2d_reader_params *reader,
               const struct l2d_sink_params *sink, struct l2d_sink_stats *stats,
               struct l2d_error *err)
{
    struct l2d_reader_params rp = reader ? *reader : (struct l2d_reader_params) { 0 };
    struct l2d_sink_params sp = sink ? *sink : (struct l2d_sink_params) { 0 };
    struct l2d_reader *r = NULL;
    struct l2d_sink *s = NULL;
    rp.name = from;
    int rc = l2d_reader_create(&r, &rp, err);
    if (rc != L2D_OK)
        return rc;
    const struct l2d_reader_info *info = l2d_reader_info(r);
    sp.width = info->width;
    sp.height = info->height;
    sp.time_base_num = info->time_base_num;
    sp.time_base_den = info->time_base_den;
    sp.frame_rate_num = info->frame_rate_num;
    sp.frame_rate_den = info->frame_rate_den;
    sp.matrix = sp.matrix ? sp.matrix : L2D_MATRIX_BT601;
    sp.audio = info->has_audio ? &info->audio : NULL;
    sp.input = from;
    rc = l2d_sink_open(&s, to, &sp, err);
    while (rc == L2D_OK) {
        struct l2d_item item = { 0 };
        rc = l2d_reader_next(r, &item, err);
        if (rc != L2D_OK || item.kind == L2D_ITEM_END)
            break;
        rc = item.kind == L2D_ITEM_VIDEO ? l2d_sink_write_video(s, item.frame, err)
                                         : l2d_sink_write_audio(s, item.packet, err);
        l2d_item_clear(&item);
    }
    if (rc == L2D_OK)
        rc = l2d_sink_finish(s, rp.max_frames > 0, err);
    if (s && stats)
        *stats = l2d_sink_stats(s);
    l2d_sink_destroy(&s);
    l2d_reader_destroy(&r);
    return rc;
}

struct l2d_frame *clips_frame(int32_t width, int32_t height, int64_t pts, int32_t tb_den)
{
    struct l2d_frame *f = NULL;
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT601, false);
    cr_assert_eq(l2d_frame_create(&f, width, height, &format, NULL), L2D_OK);
    for (uint64_t i = 0; i < f->size_bytes; i++)
        f->data[i] = (uint8_t) (16 + (i + (uint64_t) pts) % 200);
    f->pts = pts;
    f->time_base_num = 1;
    f->time_base_den = tb_den;
    return f;
}
