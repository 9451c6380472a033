// SPDX-License-Identifier: Apache-2.0
// What is asked of a camera, by what such cameras tell of themselves.
#include <criterion/criterion.h>

#include "video_io/camera.h"
#include "video_io/host.h"

#define RAW(w, h, rate) { "yuyv422", false, w, h, rate, 1 }
#define JPEG(w, h, rate) { "mjpeg", true, w, h, rate, 1 }

static void expect(const struct l2d_camera_mode *modes, size_t count, size_t want)
{
    const struct l2d_camera_mode *got = l2d_camera_choose(modes, count);
    cr_assert(got);
    cr_expect_eq((size_t) (got - modes), want, "%s %dx%d at %d/%d", got->format, got->width,
                 got->height, got->rate_num, got->rate_den);
}

Test(camera, video_before_pixels)
{
    // A usual webcam: raw only small, or slow.
    struct l2d_camera_mode webcam[] = {
        RAW(320, 240, 30), RAW(1280, 720, 10), RAW(1920, 1080, 5), JPEG(640, 360, 30),
        JPEG(1280, 720, 30), JPEG(1920, 1080, 30),
    };
    expect(webcam, 6, 4);
}

Test(camera, raw_where_it_can_be_had)
{
    struct l2d_camera_mode both[] = {
        JPEG(640, 480, 30), RAW(640, 480, 30), RAW(1280, 720, 30), JPEG(640, 480, 60),
    };
    expect(both, 4, 1);
}

Test(camera, takes_what_there_is)
{
    struct l2d_camera_mode slow[] = { RAW(320, 240, 15), RAW(640, 480, 7), RAW(160, 120, 15) };
    expect(slow, 3, 0);
    struct l2d_camera_mode pal[] = { JPEG(1920, 1080, 60), RAW(720, 576, 25) };
    expect(pal, 2, 1);
    cr_expect_null(l2d_camera_choose(NULL, 0));
}

Test(camera, names)
{
    cr_expect(l2d_camera_is_path("/dev/video0") && l2d_camera_is_path("/dev/video12"));
    cr_expect(!l2d_camera_is_path("/dev/video") && !l2d_camera_is_path("video0.mp4"));
    cr_expect(l2d_host_is_url("rtmp://a/b") && !l2d_host_is_url("file:///a") &&
              !l2d_host_is_url("a:b"));
    static struct l2d_camera camera;
    cr_expect(!l2d_camera_look(&camera, "/dev/null"));      // no camera
    cr_expect(!l2d_camera_look(&camera, "/dev/missing"));
}
