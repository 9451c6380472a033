// SPDX-License-Identifier: Apache-2.0
// Opening of inputs, and refusals in words that help. See input.h.
#include "video_io/input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libavutil/avstring.h>
#include <libavutil/time.h>

#include "video_io/camera.h"
#include "video_io/host.h"
#include "video_io/libav.h"
#include "video_io/writer.h"

#define PIPE_BUFFER (1 << 16)

bool l2d_input_is_stopped(const struct l2d_input *input)
{
    return atomic_load(&input->stopped) || (input->outer_stop && atomic_load(input->outer_stop));
}

void l2d_input_set_deadline(struct l2d_input *input, int64_t within_us)
{
    atomic_store(&input->deadline_us, within_us > 0 ? av_gettime_relative() + within_us : 0);
}

bool l2d_input_is_late(const struct l2d_input *input)
{
    int64_t deadline = atomic_load(&input->deadline_us);
    return deadline > 0 && av_gettime_relative() > deadline;
}

static int interrupted(void *input)
{
    return l2d_input_is_stopped(input) || l2d_input_is_late(input);
}

int l2d_input_closed(const struct l2d_input *input, struct l2d_error *err)
{
    return l2d_error_set(err, L2D_ECLOSED, "%s: stopped", input->shown);
}

bool l2d_input_is_pipe(const struct l2d_input *input)
{
    return input->pipe_io && !input->pipe_io->seekable;
}

// libav's protocols would block in read(2) past a stop, and cannot seek where stdin is a file. A
// FIFO that nobody writes to yet has not ended: poll waits for the first who does.
static int pipe_read(void *input, uint8_t *buf, int size)
{
    struct l2d_input *in = input;
    for (;;) {
        if (l2d_input_is_stopped(in))
            return AVERROR_EXIT;
        struct pollfd fd = { .fd = in->fd, .events = POLLIN };
        int ready = poll(&fd, 1, 100);
        if (ready < 0 && errno != EINTR)
            return AVERROR(errno);
        if (ready <= 0)
            continue;
        ssize_t n = read(in->fd, buf, (size_t) size);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        return n < 0 ? AVERROR(errno) : n == 0 ? AVERROR_EOF : (int) n;
    }
}

static int64_t pipe_seek(void *input, int64_t offset, int whence)
{
    struct l2d_input *in = input;
    struct stat s;
    if (whence & AVSEEK_SIZE)
        return fstat(in->fd, &s) == 0 ? s.st_size : AVERROR(errno);
    int64_t at = lseek(in->fd, offset, whence & ~AVSEEK_FORCE);
    return at < 0 ? AVERROR(errno) : at;
}

// The N of pipe:N; -1: no such name, or a file has it.
static int number_of_pipe(const char *name)
{
    const char *number;
    if (!av_strstart(name, "pipe:", &number) || access(name, F_OK) == 0)
        return -1;
    return (int) strtol(number, NULL, 10);
}

static bool is_fifo(const char *name)
{
    struct stat s;
    return stat(l2d_writer_path(name), &s) == 0 && S_ISFIFO(s.st_mode);
}

static int open_pipe(struct l2d_input *in, struct l2d_error *err)
{
    struct stat s;
    in->fd = number_of_pipe(in->name);
    if (in->fd < 0 && strcmp(in->name, "-") != 0) {
        in->fd = open(l2d_writer_path(in->name), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        in->owns_fd = in->fd >= 0;
        if (in->fd < 0)
            return l2d_libav_error(err, AVERROR(errno), "%s", in->shown);
    }
    in->fd = in->fd < 0 ? STDIN_FILENO : in->fd;
    if (isatty(in->fd))
        return l2d_error_set(err, L2D_EINVAL, "%s is a terminal; pipe a video into it", in->shown);
    bool seekable = fstat(in->fd, &s) == 0 && S_ISREG(s.st_mode);
    uint8_t *buf = av_malloc(PIPE_BUFFER);
    in->pipe_io = buf ? avio_alloc_context(buf, PIPE_BUFFER, 0, in, pipe_read, NULL,
                                           seekable ? pipe_seek : NULL) : NULL;
    if (!in->pipe_io) {
        av_free(buf);
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", in->shown);
    }
    in->fmt->pb = in->pipe_io;
    in->fmt->flags |= AVFMT_FLAG_CUSTOM_IO;     // not libav's to close
    return L2D_OK;
}

// What stat can tell better than libavformat.
static int check_file(const struct l2d_input *in, struct l2d_error *err)
{
    struct stat s;
    if (stat(in->name, &s) != 0)
        return L2D_OK;                  // a URL, a pattern, or missing
    if (S_ISDIR(s.st_mode))
        return l2d_error_set(err, L2D_EINVAL, "%s: is a directory; name a video file", in->shown);
    if (S_ISREG(s.st_mode) && s.st_size == 0)
        return l2d_error_set(err, L2D_EFORMAT, "%s: the file is empty", in->shown);
    return L2D_OK;
}

static int open_failed(const struct l2d_input *in, int averror, struct l2d_error *err)
{
    if (l2d_input_is_stopped(in))
        return l2d_input_closed(in, err);
    if (l2d_input_is_late(in))
        return l2d_error_set(err, L2D_EIO, "%s: no answer", in->shown);
    bool damaged = averror == AVERROR_INVALIDDATA || averror == AVERROR_EOF;
    if (damaged && l2d_input_is_pipe(in))
        return l2d_error_set(err, L2D_EFORMAT, "%s: not a video that can be read from a pipe; MP4 "
                             "needs its index at the front (ffmpeg -movflags +faststart)",
                             in->shown);
    if (damaged)
        return l2d_error_set(err, L2D_EFORMAT, "%s: not a video file, or its beginning or index is "
                             "missing", in->shown);
    if (averror == AVERROR_PROTOCOL_NOT_FOUND)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "%s: no such file, and no protocol that this "
                             "build of FFmpeg knows", in->shown);
    if (l2d_host_explain(in->name, averror, err) != L2D_OK)
        return L2D_EIO;
    return l2d_libav_error(err, averror, "%s", in->shown);
}

// libavformat takes "a:b.mp4" for a URL of the protocol "a".
static char *url_of(const char *name, bool is_device)
{
    size_t colon = strcspn(name, ":/");
    if (!is_device && name[colon] == ':' && access(name, F_OK) == 0)
        return av_asprintf("file:%s", name);
    return av_strdup(name);
}

// How each protocol is told to wait for a sender instead of fetching.
static int listen_option(const struct l2d_input *in, AVDictionary **options, struct l2d_error *err)
{
    static const char *const known[][3] = {
        { "rtmp://", "listen", "1" }, { "srt://", "mode", "listener" },
        { "tcp://", "listen", "1" }, { "http://", "listen", "1" },
        { "rtsp://", "rtsp_flags", "listen" },
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (!strncmp(in->name, known[i][0], strlen(known[i][0])))
            return av_dict_set(options, known[i][1], known[i][2], 0) < 0
                       ? l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", in->shown) : L2D_OK;
    return l2d_error_set(err, L2D_EINVAL, "%s: cannot wait for a sender; rtmp://, srt://, rtsp://, "
                         "tcp:// and http:// can", in->shown);
}

// Left to itself, v4l2 gives the mode that the last program chose.
static int negotiate(const struct l2d_input *in, const struct l2d_reader_params *p,
                     AVDictionary **options, struct l2d_error *err)
{
    struct l2d_camera *camera = malloc(sizeof(*camera));
    if (!camera)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", in->shown);
    const struct l2d_camera_mode *m = NULL;
    if (l2d_camera_look(camera, p->name))
        m = l2d_camera_choose(camera->mode, camera->num_modes);
    if (m) {
        char text[64];
        snprintf(text, sizeof(text), "%dx%d", m->width, m->height);
        av_dict_set(options, "video_size", text, 0);
        snprintf(text, sizeof(text), "%d/%d", m->rate_num, m->rate_den);
        av_dict_set(options, "framerate", text, 0);
        av_dict_set(options, "input_format", m->format, 0);
        l2d_log_print(p->log, L2D_LOG_INFO, "%s: %s, %s, %dx%d at %.4g frames/s", p->name,
                      camera->name, m->format, m->width, m->height,
                      (double) m->rate_num / m->rate_den);
    }
    free(camera);
    return L2D_OK;
}

static int open_container(struct l2d_input *in, const struct l2d_reader_params *p,
                          struct l2d_error *err)
{
    const AVInputFormat *format = NULL;
    const char *wanted = p->format ? p->format : l2d_camera_is_path(p->name) ? "v4l2" : NULL;
    if (wanted && !(format = av_find_input_format(wanted)))
        return l2d_error_set(err, L2D_EINVAL, "no input format '%s'; 'ffmpeg -demuxers' and "
                             "'ffmpeg -devices' list them", wanted);
    bool is_device = format && format->flags & AVFMT_NOFILE;
    bool is_stdin = !is_device && !strcmp(p->name, "-");
    bool is_pipe = is_stdin || (!is_device && (number_of_pipe(p->name) >= 0 || is_fifo(p->name)));
    in->shown = is_stdin ? "standard input" : in->name;
    if (!is_device && !is_stdin) {
        int rc = check_file(in, err);
        if (rc != L2D_OK)
            return rc;
    }
    in->fmt = avformat_alloc_context();
    AVDictionary *options = NULL;
    char *url = url_of(p->name, is_device);
    int rc = in->fmt && url ? L2D_OK
                            : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", in->shown);
    if (rc == L2D_OK && is_pipe)
        rc = open_pipe(in, err);
    if (rc == L2D_OK && p->options && av_dict_parse_string(&options, p->options, "=", ":", 0) < 0)
        rc = l2d_error_set(err, L2D_EINVAL, "input options '%s': expected key=value:key=value",
                           p->options);
    if (rc == L2D_OK && !p->options && l2d_camera_is_path(p->name))
        rc = negotiate(in, p, &options, err);
    if (rc == L2D_OK && p->listen)
        rc = listen_option(in, &options, err);
    if (rc == L2D_OK) {
        if (is_device)
            in->fmt->flags |= AVFMT_FLAG_NONBLOCK;      // else a camera that stops is waited for
        l2d_input_set_deadline(in, p->listen ? 0 : p->timeout_us);
        in->fmt->interrupt_callback = (AVIOInterruptCB) { interrupted, in };
        // frees in->fmt if it fails
        int av = avformat_open_input(&in->fmt, is_stdin ? "" : url, format, &options);
        const AVDictionaryEntry *left = av_dict_get(options, "", NULL, AV_DICT_IGNORE_SUFFIX);
        if (av < 0)
            rc = open_failed(in, av, err);
        else if (left)
            rc = l2d_error_set(err, L2D_EINVAL, "%s: format %s has no option '%s'", in->shown,
                               in->fmt->iformat->name, left->key);
        else if (!format && !strcmp(in->fmt->iformat->name, "tty"))
            rc = l2d_error_set(err, L2D_EFORMAT, "%s: a text file, not a video", in->shown);
    }
    av_dict_free(&options);
    av_free(url);
    return rc;
}

int l2d_input_init(struct l2d_input *input, const struct l2d_reader_params *params,
                   struct l2d_error *err)
{
    atomic_init(&input->stopped, false);
    atomic_init(&input->deadline_us, 0);
    input->outer_stop = params->stop;
    input->shown = input->name = av_strdup(params->name);
    if (!input->name)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", params->name);
    return open_container(input, params, err);
}

void l2d_input_finish(struct l2d_input *input)
{
    avformat_close_input(&input->fmt);
    if (input->pipe_io)
        av_freep(&input->pipe_io->buffer);
    avio_context_free(&input->pipe_io);
    if (input->owns_fd)
        close(input->fd);
    input->owns_fd = false;
    av_freep(&input->name);
}
