// SPDX-License-Identifier: Apache-2.0
// See stamped_name.h.
#include "stamped_name.h"

#include <stdio.h>
#include <time.h>

void stamped_name(char *name, const char *folder, int n, const char *extension)
{
    char base[40], number[16] = "";
    time_t now = time(NULL);
    struct tm local;
    strftime(base, sizeof(base), "live2diff-%Y%m%d-%H%M%S", localtime_r(&now, &local));
    if (n > 1)
        snprintf(number, sizeof(number), "-%d", n);
    snprintf(name, STAMPED_NAME_BYTES, "%.*s%s%s%s.%.8s", STAMPED_FOLDER_BYTES - 1,
             folder ? folder : "", folder ? "/" : "", base, number, extension);
}
