// SPDX-License-Identifier: Apache-2.0
// Cameras (Video4Linux): which there are, what they can give, and which of it to ask for.
#ifndef L2D_VIDEO_IO_CAMERA_H
#define L2D_VIDEO_IO_CAMERA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define L2D_CAMERA_MODES 256

struct l2d_camera_mode {
    char format[8];             // as libavdevice calls it: "yuyv422", "mjpeg", ...
    bool compressed;
    int32_t width, height;
    int32_t rate_num, rate_den; // frames a second
};

struct l2d_camera {
    char path[32];              // "/dev/video0"
    char name[64], driver[32];
    size_t num_modes;           // that we can use, at most L2D_CAMERA_MODES
    struct l2d_camera_mode mode[L2D_CAMERA_MODES];
};

/** Whether a name is a camera's: /dev/videoN, and nothing behind it, which may lead elsewhere. */
bool l2d_camera_is_path(const char *name);

/** Look at the device at path. returns false if it is no camera or cannot be opened. */
bool l2d_camera_look(struct l2d_camera *camera, const char *path);

/** Of the cameras /dev/video0 to 63 the one with that index among them. returns false: none. */
bool l2d_camera_find(struct l2d_camera *camera, unsigned index);

/**
 * The mode to ask for when nobody did: a rate nearest to 30 before anything else, as 5 uncompressed
 * frames a second are no video; then a picture that covers 640x480 with the least to spare; then
 * what needs no decoding. NULL without modes.
 */
const struct l2d_camera_mode *l2d_camera_choose(const struct l2d_camera_mode *mode, size_t count);

#endif
