// SPDX-License-Identifier: Apache-2.0
// See recording.h.
#include "recording.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "stamped_name.h"

static bool is_taken(const char *name)
{
    char part[STAMPED_NAME_BYTES + 8];
    snprintf(part, sizeof(part), "%s.part", name);      // as writer.h: its name until it is whole
    return access(name, F_OK) == 0 || access(part, F_OK) == 0;
}

static int begin(struct outputs *outputs, const char *folder, struct l2d_error *err)
{
    char name[STAMPED_NAME_BYTES];
    if (access(folder ? folder : ".", W_OK) != 0)
        return l2d_error_set(err, L2D_EIO, "record: %s: %s",
                             folder ? folder : "the run's current folder", strerror(errno));
    int n = 1;
    do
        stamped_name(name, folder, n, "mkv");
    while (is_taken(name) && ++n < STAMPED_NAME_TRIES);
    int rc = outputs_add(outputs, &(struct output_options) { .name = name }, OUTPUTS_RECORDING,
                         NULL, err);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "record");
}

int recording_set(struct outputs *outputs, bool on, const char *folder, struct l2d_error *err)
{
    uint32_t id;
    bool runs = outputs_recording(outputs, &id);
    if (runs == on)
        return L2D_OK;
    if (on)
        return begin(outputs, folder, err);
    int rc = outputs_remove(outputs, id, err);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "record");
}

bool recording_runs(struct outputs *outputs)
{
    return outputs_recording(outputs, NULL);
}
