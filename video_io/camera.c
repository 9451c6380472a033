// SPDX-License-Identifier: Apache-2.0
// See camera.h. The kernel's own interface, as libavdevice does not tell what a camera can do.
#include "video_io/camera.h"

#include <fcntl.h>
#include <linux/videodev2.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <libavutil/avstring.h>

#define GOOD_RATE   30.0
#define GOOD_WIDTH  640
#define GOOD_HEIGHT 480
#define MAX_CAMERAS 64

bool l2d_camera_is_path(const char *name)
{
    const char *number;
    return av_strstart(name, "/dev/video", &number) && *number &&
           !number[strspn(number, "0123456789")];
}

static const struct { uint32_t fourcc; const char *name; bool compressed; } formats[] = {
    { V4L2_PIX_FMT_YUV420, "yuv420p", false }, { V4L2_PIX_FMT_NV12, "nv12", false },
    { V4L2_PIX_FMT_YUYV, "yuyv422", false }, { V4L2_PIX_FMT_UYVY, "uyvy422", false },
    { V4L2_PIX_FMT_MJPEG, "mjpeg", true }, { V4L2_PIX_FMT_JPEG, "mjpeg", true },
    { V4L2_PIX_FMT_H264, "h264", true },
};

static bool ask(int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg) == 0;
}

static void add_mode(struct l2d_camera *c, size_t format, uint32_t width, uint32_t height,
                     struct v4l2_fract interval)
{
    if (c->num_modes == L2D_CAMERA_MODES || interval.numerator == 0 || interval.denominator == 0 ||
        width > INT16_MAX || height > INT16_MAX)
        return;
    struct l2d_camera_mode *m = &c->mode[c->num_modes++];
    *m = (struct l2d_camera_mode) {
        .compressed = formats[format].compressed,
        .width = (int32_t) width, .height = (int32_t) height,
        .rate_num = (int32_t) interval.denominator, .rate_den = (int32_t) interval.numerator,
    };
    snprintf(m->format, sizeof(m->format), "%s", formats[format].name);
}

static void add_rates(struct l2d_camera *c, int fd, size_t format, uint32_t width, uint32_t height)
{
    struct v4l2_frmivalenum f = {
        .pixel_format = formats[format].fourcc, .width = width, .height = height,
    };
    for (; ask(fd, VIDIOC_ENUM_FRAMEINTERVALS, &f); f.index++) {
        if (f.type == V4L2_FRMIVAL_TYPE_DISCRETE) {
            add_mode(c, format, width, height, f.discrete);
            continue;
        }
        struct v4l2_fract good = { 1, (uint32_t) GOOD_RATE };
        double least = (double) f.stepwise.min.numerator / f.stepwise.min.denominator;
        double most = (double) f.stepwise.max.numerator / f.stepwise.max.denominator;
        add_mode(c, format, width, height, 1 / GOOD_RATE < least ? f.stepwise.min
                                           : 1 / GOOD_RATE > most ? f.stepwise.max : good);
        break;
    }
}

static uint32_t nearest(uint32_t want, uint32_t least, uint32_t most, uint32_t step)
{
    uint32_t at = want < least ? least : want > most ? most : want;
    return step > 1 ? least + (at - least) / step * step : at;
}

static void add_sizes(struct l2d_camera *c, int fd, size_t format)
{
    struct v4l2_frmsizeenum s = { .pixel_format = formats[format].fourcc };
    for (; ask(fd, VIDIOC_ENUM_FRAMESIZES, &s); s.index++) {
        if (s.type == V4L2_FRMSIZE_TYPE_DISCRETE) {
            add_rates(c, fd, format, s.discrete.width, s.discrete.height);
            continue;
        }
        const struct v4l2_frmsize_stepwise *w = &s.stepwise;
        add_rates(c, fd, format, nearest(GOOD_WIDTH, w->min_width, w->max_width, w->step_width),
                  nearest(GOOD_HEIGHT, w->min_height, w->max_height, w->step_height));
        break;
    }
}

bool l2d_camera_look(struct l2d_camera *camera, const char *path)
{
    memset(camera, 0, sizeof(*camera));
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return false;
    struct v4l2_capability cap = { 0 };
    bool is_camera = ask(fd, VIDIOC_QUERYCAP, &cap);
    uint32_t can = cap.capabilities & V4L2_CAP_DEVICE_CAPS ? cap.device_caps : cap.capabilities;
    is_camera = is_camera && can & V4L2_CAP_VIDEO_CAPTURE && can & V4L2_CAP_STREAMING;
    if (is_camera) {
        snprintf(camera->path, sizeof(camera->path), "%s", path);
        snprintf(camera->name, sizeof(camera->name), "%.32s", (const char *) cap.card);
        snprintf(camera->driver, sizeof(camera->driver), "%.16s", (const char *) cap.driver);
        for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++)
            add_sizes(camera, fd, i);
    }
    close(fd);
    return is_camera;
}

bool l2d_camera_find(struct l2d_camera *camera, unsigned index)
{
    for (unsigned i = 0; i < MAX_CAMERAS; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/dev/video%u", i);
        if (l2d_camera_look(camera, path) && index-- == 0)
            return true;
    }
    return false;
}

// Smaller is better, the first that differs decides.
struct score { double rate, missing, spare; bool compressed; };

static struct score score_of(const struct l2d_camera_mode *m)
{
    double rate = (double) m->rate_num / m->rate_den;
    double area = (double) m->width * m->height, good = (double) GOOD_WIDTH * GOOD_HEIGHT;
    bool covers = m->width >= GOOD_WIDTH && m->height >= GOOD_HEIGHT;
    return (struct score) {
        .rate = fabs(rate - GOOD_RATE) > 5 ? fabs(rate - GOOD_RATE) : 0,    // 25 is as good
        .missing = covers ? 0 : good / area,
        .spare = covers ? area / good : 0,
        .compressed = m->compressed,
    };
}

static bool is_better(const struct l2d_camera_mode *mode, const struct l2d_camera_mode *than)
{
    struct score a = score_of(mode), b = score_of(than);
    if (a.rate < b.rate || a.rate > b.rate)
        return a.rate < b.rate;
    if (a.missing < b.missing || a.missing > b.missing)
        return a.missing < b.missing;
    if (a.spare < b.spare || a.spare > b.spare)
        return a.spare < b.spare;
    return !a.compressed && b.compressed;
}

const struct l2d_camera_mode *l2d_camera_choose(const struct l2d_camera_mode *mode, size_t count)
{
    const struct l2d_camera_mode *best = NULL;
    for (size_t i = 0; i < count; i++)
        if (!best || is_better(&mode[i], best))
            best = &mode[i];
    return best;
}
