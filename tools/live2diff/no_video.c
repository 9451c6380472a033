// SPDX-License-Identifier: Apache-2.0
// What a build without FFmpeg and SDL2 (-DL2D_VIDEO=OFF) has in place of `run`, `ctl` and reading.
#include <stdio.h>

#include "bench.h"
#include "commands.h"
#include "list_cameras.h"

#define NO_VIDEO "this build has no video: configure it with -DL2D_VIDEO=ON, which needs FFmpeg " \
                 "and SDL2"

int bench_read_video(struct bench *bench, const char *name, struct l2d_error *err)
{
    (void) bench;
    return l2d_error_set(err, L2D_EUNSUPPORTED, "--input %s: " NO_VIDEO, name);
}

void list_cameras(void)
{
}

static int refuse(int argc, char **argv)
{
    (void) argc;
    fprintf(stderr, "live2diff: %s: " NO_VIDEO "\n", argv[0]);
    return EXIT_FAILED;
}

const struct command command_run = {
    .name = "run", .summary = "Translate a video; not in this build, which has no video.",
    .main = refuse,
};

const struct command command_ctl = {
    .name = "ctl", .summary = "Watch and change a run; not in this build, which has no video.",
    .main = refuse,
};
