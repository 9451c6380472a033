// SPDX-License-Identifier: Apache-2.0
// live2diff devices: the Vulkan devices that --device can name, and the cameras that -i can.
#include <stdio.h>

#include "commands.h"
#include "gpu/device.h"
#include "list_cameras.h"

#define MAX_DEVICES 32

static int devices_main(int argc, char **argv)
{
    int code = options_parse(&command_devices, argc, argv, NULL, NULL);
    if (code >= 0)
        return code;
    static struct l2d_gpu_caps caps[MAX_DEVICES];
    struct l2d_error err = { 0 };
    uint32_t count = 0;
    if (l2d_gpu_list(caps, MAX_DEVICES, &count, &err) != L2D_OK) {
        list_cameras();
        fprintf(stderr, "live2diff: %s\n", err.msg);
        return EXIT_FAILED;
    }
    printf("%-3s %-11s %9s %-5s %-4s %s\n", "#", "type", "memory", "fp16", "tier", "name (driver)");
    for (uint32_t i = 0; i < count && i < MAX_DEVICES; i++)
        printf("%-3u %-11s %6.1f GB %-5s %-4s %s (%s)%s%s\n", i, l2d_gpu_type_str(caps[i].type),
               (double) caps[i].memory_bytes / 1e9, caps[i].has_fp16 ? "yes" : "no",
               caps[i].lacks ? "-" : l2d_tier_str(caps[i].tier), caps[i].name, caps[i].driver,
               caps[i].lacks ? ", cannot be used: lacks " : "",
               caps[i].lacks ? caps[i].lacks : "");
    list_cameras();
    return EXIT_OK;
}

const struct command command_devices = {
    .name = "devices", .synopsis = "",
    .summary = "List the Vulkan devices and the cameras.", .main = devices_main,
};
