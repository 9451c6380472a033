// SPDX-License-Identifier: Apache-2.0
// Activations gathered by frame until the frame has come out, then one file each. See dump.h.
#include "pipeline/dump.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tensor/safetensors.h"

#define MAX_FRAMES 16           // begun and not written: a warm-up and as many as there are steps
#define MAX_NAME 160

struct activation {
    char name[MAX_NAME];
    uint64_t dims[4];
    int ndim;
    float *data;
};

struct frame_file {             // not in use while it has no activations
    uint32_t frame;
    struct activation *item;
    size_t count, cap;
};

struct l2d_dump {
    char *dir;
    struct frame_file frame[MAX_FRAMES];
    struct frame_file text;     // the prompt's, which belongs to no frame
    uint32_t num_written;       // frames before this one have their files
    struct l2d_error error;     // of l2d_dump_add
};

int l2d_dump_create(struct l2d_dump **out, const char *dir, struct l2d_error *err)
{
    struct stat info;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return l2d_error_set(err, L2D_EIO, "%s: %s", dir, strerror(errno));
    if (stat(dir, &info) != 0 || !S_ISDIR(info.st_mode))
        return l2d_error_set(err, L2D_EIO, "%s: is not a folder", dir);
    struct l2d_dump *dump = calloc(1, sizeof(*dump));
    char *copy = strdup(dir);
    if (!dump || !copy) {
        free(copy);
        free(dump);
        return l2d_error_set(err, L2D_ENOMEM, "dump: out of memory");
    }
    dump->dir = copy;
    *out = dump;
    return L2D_OK;
}

static void clear(struct frame_file *f)
{
    for (size_t i = 0; i < f->count; i++)
        free(f->item[i].data);
    free(f->item);
    *f = (struct frame_file) { 0 };
}

static bool is_text(const char *name)
{
    return strncmp(name, "text_model.", 11) == 0;
}

// Where an activation of this frame goes, or NULL if that is not possible.
static struct frame_file *file_of(struct l2d_dump *dump, uint32_t frame, const char *name)
{
    if (is_text(name))
        return &dump->text;
    struct frame_file *empty = NULL;
    for (int i = 0; i < MAX_FRAMES; i++) {
        struct frame_file *f = &dump->frame[i];
        if (f->count && f->frame == frame)
            return f;
        if (!f->count)
            empty = f;
    }
    if (frame < dump->num_written) {
        l2d_error_set(&dump->error, L2D_EINVAL, "dump: frame %u has been written, and now has %s",
                      frame, name);
        return NULL;
    }
    if (empty)
        empty->frame = frame;
    else
        l2d_error_set(&dump->error, L2D_EINVAL, "dump: frame %u begins while %d others have not "
                      "come out", frame, MAX_FRAMES);
    return empty;
}

// The activation of that name, or a new one; a prompt that has changed replaces the old one's.
static struct activation *item_of(struct frame_file *f, const char *name)
{
    for (size_t i = 0; i < f->count && is_text(name); i++)
        if (strcmp(f->item[i].name, name) == 0)
            return &f->item[i];
    if (f->count == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 64;
        struct activation *bigger = realloc(f->item, cap * sizeof(*bigger));
        if (!bigger)
            return NULL;
        f->item = bigger;
        f->cap = cap;
    }
    struct activation *item = &f->item[f->count];
    *item = (struct activation) { .data = NULL };
    snprintf(item->name, sizeof(item->name), "%s", name);
    return item;
}

void l2d_dump_add(void *user, uint32_t frame, int step, const char *name, const float *data,
                  int32_t h, int32_t w, int32_t c)
{
    struct l2d_dump *dump = user;
    if (dump->error.code != L2D_OK)
        return;
    char full[MAX_NAME];
    int sink = step / L2D_PROBE_SINK - 1;       // of a re-warm that begins with the frame
    int len = step < 0 ? snprintf(full, sizeof(full), "%s", name)
            : sink < 0 ? snprintf(full, sizeof(full), "step.%d/%s", step, name)
            : snprintf(full, sizeof(full), "rewarm.sink.%d.step.%d/%s", sink,
                       step % L2D_PROBE_SINK, name);
    assert(len > 0 && (size_t) len < sizeof(full));
    (void) len;
    struct frame_file *f = file_of(dump, frame, full);
    if (!f)
        return;
    struct activation *item = item_of(f, full);
    size_t bytes = (size_t) h * (size_t) w * (size_t) c * sizeof(*data);
    float *copy = item ? malloc(bytes + 1) : NULL;
    if (!copy) {
        l2d_error_set(&dump->error, L2D_ENOMEM, "dump: frame %u, %s: out of memory", frame, full);
        return;
    }
    memcpy(copy, data, bytes);
    free(item->data);
    item->data = copy;
    item->ndim = 0;
    if (!is_text(full))                         // of which the rows are h, which is 1
        item->dims[item->ndim++] = 1;
    item->dims[item->ndim++] = (uint64_t) h;
    item->dims[item->ndim++] = (uint64_t) w;
    item->dims[item->ndim++] = (uint64_t) c;
    if (item == f->item + f->count)
        f->count++;
}

static int write_file(const struct l2d_dump *dump, const struct frame_file *f, const char *name,
                      struct l2d_error *err)
{
    size_t path_bytes = strlen(dump->dir) + strlen(name) + 2;
    char *path = malloc(path_bytes);
    struct l2d_safetensors_entry *entry = calloc(f->count + 1, sizeof(*entry));
    int rc = path && entry ? L2D_OK
                           : l2d_error_set(err, L2D_ENOMEM, "dump: %s: out of memory", name);
    if (rc == L2D_OK) {
        for (size_t i = 0; i < f->count; i++) {
            const struct activation *a = &f->item[i];
            entry[i] = (struct l2d_safetensors_entry) {
                .name = a->name, .dtype = L2D_SAFETENSORS_F32, .ndim = a->ndim, .data = a->data,
                .size_bytes = sizeof(float),
            };
            for (int d = 0; d < a->ndim; d++) {
                entry[i].dims[d] = a->dims[d];
                entry[i].size_bytes *= a->dims[d];
            }
        }
        snprintf(path, path_bytes, "%s/%s", dump->dir, name);
        rc = l2d_safetensors_write(path, entry, f->count, err);
    }
    free(entry);
    free(path);
    return rc;
}

// The unwritten frame with the lowest number, or NULL.
static struct frame_file *oldest(struct l2d_dump *dump)
{
    struct frame_file *found = NULL;
    for (int i = 0; i < MAX_FRAMES; i++)
        if (dump->frame[i].count && (!found || dump->frame[i].frame < found->frame))
            found = &dump->frame[i];
    return found;
}

int l2d_dump_write(struct l2d_dump *dump, uint32_t frame, struct l2d_error *err)
{
    int rc = L2D_OK;
    if (dump->error.code != L2D_OK)
        rc = l2d_error_set(err, dump->error.code, "%s", dump->error.msg);
    dump->error.code = L2D_OK;
    if (rc == L2D_OK && dump->text.count)
        rc = write_file(dump, &dump->text, "text.safetensors", err);
    clear(&dump->text);
    for (struct frame_file *f = oldest(dump); f && f->frame <= frame; f = oldest(dump)) {
        char name[40];
        snprintf(name, sizeof(name), "frame_%06u.safetensors", f->frame);
        if (rc == L2D_OK)
            rc = write_file(dump, f, name, err);
        clear(f);
    }
    if (frame >= dump->num_written)
        dump->num_written = frame < UINT32_MAX ? frame + 1 : UINT32_MAX;
    return rc;
}

int l2d_dump_finish(struct l2d_dump **pdump, struct l2d_error *err)
{
    struct l2d_dump *dump = *pdump;
    *pdump = NULL;
    if (!dump)
        return L2D_OK;
    int rc = l2d_dump_write(dump, UINT32_MAX, err);
    for (int i = 0; i < MAX_FRAMES; i++)
        clear(&dump->frame[i]);                 // begun, but without memory for an activation
    free(dump->dir);
    free(dump);
    return rc;
}
