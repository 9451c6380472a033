// SPDX-License-Identifier: Apache-2.0
// See list_cameras.h.
#include "list_cameras.h"

#include <stdio.h>

#include "video_io/camera.h"

void list_cameras(void)
{
    static struct l2d_camera camera;            // large
    unsigned index = 0;
    for (; l2d_camera_find(&camera, index); index++) {
        const struct l2d_camera_mode *m = l2d_camera_choose(camera.mode, camera.num_modes);
        printf("%s%-12s %s (%s)", index == 0 ? "\n" : "", camera.path, camera.name, camera.driver);
        if (m)
            printf(": %s, %dx%d at %.4g frames/s, and %zu more modes", m->format, m->width,
                   m->height, (double) m->rate_num / m->rate_den, camera.num_modes - 1);
        putchar('\n');
    }
    if (index == 0)
        puts("\nno cameras (/dev/videoN)");
}
