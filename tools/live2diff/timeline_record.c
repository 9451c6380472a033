// SPDX-License-Identifier: Apache-2.0
// See timeline_record.h. A line is written as soon as it is known: who records may be cut off.
#include "timeline_record.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "timeline.h"

struct timeline_record {
    FILE *file;
    char *path;
    const struct l2d_engine_info *info;
    bool made, begun;           // it was not there before; what was in it is gone
    double last_s;              // lines are in order of time, even where the input's jumps back
    int error;                  // errno of the first that failed
};

int timeline_record_create(struct timeline_record **out, const char *path, bool overwrite,
                           const struct l2d_engine_info *info, struct l2d_error *err)
{
    struct timeline_record *r = calloc(1, sizeof(*r));
    if (!r || !(r->path = strdup(path))) {
        free(r);
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    }
    r->info = info;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    r->made = fd >= 0;
    if (fd < 0 && errno == EEXIST && overwrite)
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    bool taken = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    r->file = fd >= 0 && !taken ? fdopen(fd, "w") : NULL;
    if (r->file) {
        *out = r;
        return L2D_OK;
    }
    int rc = taken ? l2d_error_set(err, L2D_EIO, "%s: is being written already", path)
           : errno == EEXIST
           ? l2d_error_set(err, L2D_EIO, "%s: exists already; --overwrite replaces it", path)
           : l2d_error_set(err, L2D_EIO, "%s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    free(r->path);
    free(r);
    return rc;
}

// The shortest number that is read as this float again: 0.6 for the nearest to it.
static json_t *shortest(float value)
{
    char text[32];
    int digits = 6;
    do
        snprintf(text, sizeof(text), "%.*g", digits, (double) value);
    while (strtof(text, NULL) != value && ++digits <= 9);
    return json_real(strtod(text, NULL));
}

static void add_text(json_t *line, const char *name, const struct l2d_change *c, double frame_rate)
{
    json_object_set_new(line, name, json_string(c->text));
    if (c->fade_frames <= 1)
        return;
    json_object_set_new(line, "fade", json_real(c->fade_frames / frame_rate));
    json_object_set_new(line, "easing", json_string(timeline_easing[c->easing]));
}

static json_t *line_of(const struct timeline_record *r, const struct l2d_change *c,
                       double frame_rate)
{
    char name[L2D_LORA_NAME_BYTES + 8];
    json_t *line = json_pack("{s:f}", "at", r->last_s);
    switch (c->kind) {
    case L2D_CHANGE_PROMPT:   add_text(line, "prompt", c, frame_rate); break;
    case L2D_CHANGE_NEGATIVE: add_text(line, "negative", c, frame_rate); break;
    case L2D_CHANGE_BLEND:    add_text(line, "blend", c, frame_rate); break;
    case L2D_CHANGE_LORA:
        snprintf(name, sizeof(name), "lora.%s", c->text);
        json_object_set_new(line, name, shortest(c->lora_scale));
        break;
    case L2D_CHANGE_STEPS:
        json_object_set_new(line, "steps", json_string(r->info->set_text[c->step_set]));
        break;
    case L2D_CHANGE_SEED:
        json_object_set_new(line, "seed", json_integer((json_int_t) c->seed));
        break;
    case L2D_CHANGE_NOISE:
        json_object_set_new(line, "noise", json_string(timeline_noise[c->noise]));
        break;
    case L2D_CHANGE_SHOW:
        json_object_set_new(line, "show", json_string(timeline_show[c->show]));
        break;
    case L2D_CHANGE_MIX:
        json_object_set_new(line, "mix", shortest(c->mix));
        break;
    case L2D_CHANGE_STEADY:
        json_object_set_new(line, "steady", shortest(c->steady));
        break;
    case L2D_CHANGE_REWARM:   json_object_set_new(line, "rewarm", json_true()); break;
    }
    return line;
}

void timeline_record_add(struct timeline_record *r, const struct l2d_change *change, double at_s,
                         double frame_rate)
{
    if (change->automatic || r->error)
        return;
    if (!r->begun && ftruncate(fileno(r->file), 0) != 0 && errno != EINVAL)     // of a pipe
        r->error = errno;
    r->begun = true;
    at_s = floor(at_s * 1e6) / 1e6;             // not behind its frame, and short to read
    r->last_s = at_s > r->last_s ? at_s : r->last_s;
    json_t *line = line_of(r, change, frame_rate);
    if (json_dumpf(line, r->file, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15)) ||
        fputc('\n', r->file) == EOF || fflush(r->file))
        r->error = errno ? errno : EIO;
    json_decref(line);
}

int timeline_record_destroy(struct timeline_record **record, struct l2d_error *err)
{
    struct timeline_record *r = *record;
    *record = NULL;
    if (!r)
        return L2D_OK;
    if (r->made && !r->begun)
        unlink(r->path);
    if (fclose(r->file) != 0 && !r->error)
        r->error = errno;
    int rc = r->error ? l2d_error_set(err, L2D_EIO, "%s: the timeline is not all there: %s",
                                      r->path, strerror(r->error)) : L2D_OK;
    free(r->path);
    free(r);
    return rc;
}
