// SPDX-License-Identifier: Apache-2.0
// One list of tensors from one or several files. See checkpoint.h.
#include "tensor/checkpoint.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tensor/convert.h"
#include "tensor/torch_file.h"

#define MAX_PARTS 256
#define MAX_INDEX_BYTES (16 << 20)

struct part {                       // a file; one of the two
    struct l2d_safetensors *st;
    struct l2d_torch_file *torch;
    char *path;
};

struct l2d_checkpoint {
    char *path;
    const char *kind;
    struct part part[MAX_PARTS];
    uint32_t num_parts;
    struct l2d_checkpoint_tensor *tensor;
    size_t count;
};

static int no_memory(const char *path, struct l2d_error *err)
{
    return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
}

static int open_part(struct l2d_checkpoint *c, const char *path, struct l2d_error *err)
{
    if (c->num_parts == MAX_PARTS)
        return l2d_error_set(err, L2D_EFORMAT, "%s: of more than %d files", c->path, MAX_PARTS);
    struct part *p = &c->part[c->num_parts];
    *p = (struct part) { .path = strdup(path) };
    if (!p->path)
        return no_memory(path, err);
    c->num_parts++;
    char first[16];
    FILE *f;
    int rc = l2d_file_open(&f, path, err);
    if (rc != L2D_OK)
        return rc;
    size_t got = fread(first, 1, sizeof(first), f);
    fclose(f);
    bool torch = l2d_torch_file_is(first, got);
    c->kind = !torch ? "safetensors" : first[0] == 'P' ? "torch, zip" : "torch, old form";
    return torch ? l2d_torch_file_open(&p->torch, path, err)
                 : l2d_safetensors_open(&p->st, path, err);
}

// The files that an index names lie beside it: a name is no path.
static bool shard_name_ok(const char *name)
{
    return name && *name && *name != '.' && !strpbrk(name, "/\\") && strlen(name) < 256;
}

static bool has_part(const struct l2d_checkpoint *c, const char *path)
{
    for (uint32_t i = 0; i < c->num_parts; i++)
        if (!strcmp(c->part[i].path, path))
            return true;
    return false;
}

static int open_index(struct l2d_checkpoint *c, const char *text, size_t size,
                      struct l2d_error *err)
{
    json_error_t e;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &e);
    json_t *map = json_object_get(root, "weight_map"), *value;
    const char *key, *slash = strrchr(c->path, '/');
    int folder = slash ? (int) (slash - c->path) + 1 : 0;
    int rc = L2D_OK;
    if (!json_is_object(map))
        rc = l2d_error_set(err, L2D_EFORMAT, "%s: no index of a checkpoint: it is not JSON with a "
                           "\"weight_map\"", c->path);
    json_object_foreach(map, key, value) {
        const char *name = json_string_value(value);
        char path[4096];
        if (!shard_name_ok(name))
            rc = l2d_error_set(err, L2D_EFORMAT, "%s: weight_map: the files must lie beside the "
                               "index and be named without a path", c->path);
        else if ((size_t) snprintf(path, sizeof(path), "%.*s%s", folder, c->path, name) >=
                 sizeof(path))
            rc = l2d_error_set(err, L2D_EIO, "%s: its path is too long", c->path);
        else if (!has_part(c, path))
            rc = open_part(c, path, err);
        if (rc != L2D_OK)
            break;
    }
    json_decref(root);
    c->kind = "in several files";
    return rc;
}

// "state_dict/" and such, of which a torch file's names are freed: the first that any name has.
static const char *wrapper_of(const struct l2d_torch_file *torch)
{
    static const char *const wrappers[] = { "state_dict/", "model/", "params/" };
    for (size_t w = 0; w < sizeof(wrappers) / sizeof(wrappers[0]); w++)
        for (size_t i = 0; i < l2d_torch_file_count(torch); i++)
            if (!strncmp(l2d_torch_file_get(torch, i)->name, wrappers[w], strlen(wrappers[w])))
                return wrappers[w];
    return "";
}

static void list_part(struct l2d_checkpoint *c, uint32_t index)
{
    const struct part *p = &c->part[index];
    for (size_t i = 0; p->st && i < l2d_safetensors_count(p->st); i++) {
        const struct l2d_safetensors_entry *e = l2d_safetensors_get(p->st, i);
        struct l2d_checkpoint_tensor *t = &c->tensor[c->count++];
        *t = (struct l2d_checkpoint_tensor) {
            .name = e->name, .dtype = e->dtype, .ndim = e->ndim, .source = e, .part = index,
            .count = e->size_bytes / l2d_safetensors_dtype_bytes(e->dtype),
        };
        memcpy(t->dims, e->dims, sizeof(t->dims));
    }
    const char *wrapper = p->torch ? wrapper_of(p->torch) : "";
    for (size_t i = 0; p->torch && i < l2d_torch_file_count(p->torch); i++) {
        const struct l2d_pickle_tensor *e = l2d_torch_file_get(p->torch, i);
        if (strncmp(e->name, wrapper, strlen(wrapper)) != 0)
            continue;
        struct l2d_checkpoint_tensor *t = &c->tensor[c->count++];
        *t = (struct l2d_checkpoint_tensor) {
            .name = e->name + strlen(wrapper), .dtype = e->dtype, .ndim = e->ndim, .source = e,
            .part = index, .count = e->count,
        };
        memcpy(t->dims, e->dims, sizeof(t->dims));
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct l2d_checkpoint_tensor *) a)->name,
                  ((const struct l2d_checkpoint_tensor *) b)->name);
}

static int list_tensors(struct l2d_checkpoint *c, struct l2d_error *err)
{
    size_t total = 0;
    for (uint32_t i = 0; i < c->num_parts; i++)
        total += c->part[i].st ? l2d_safetensors_count(c->part[i].st)
                               : l2d_torch_file_count(c->part[i].torch);
    c->tensor = calloc(total + 1, sizeof(*c->tensor));
    if (!c->tensor)
        return no_memory(c->path, err);
    for (uint32_t i = 0; i < c->num_parts; i++)
        list_part(c, i);
    qsort(c->tensor, c->count, sizeof(*c->tensor), by_name);
    for (size_t i = 1; i < c->count; i++)
        if (!strcmp(c->tensor[i - 1].name, c->tensor[i].name))
            return l2d_error_set(err, L2D_EFORMAT, "%s: tensor %s is there twice", c->path,
                                 c->tensor[i].name);
    return L2D_OK;
}

static bool is_index(const char *path)
{
    size_t len = strlen(path);
    return len > 5 && !strcmp(path + len - 5, ".json");
}

int l2d_checkpoint_open(struct l2d_checkpoint **out, const char *path, struct l2d_error *err)
{
    struct l2d_checkpoint *c = calloc(1, sizeof(*c));
    if (!c || !(c->path = strdup(path))) {
        free(c);
        return no_memory(path, err);
    }
    char *text = NULL;
    size_t size = 0;
    int rc;
    if (is_index(path)) {
        rc = l2d_file_read(&text, &size, path, MAX_INDEX_BYTES, err);
        if (rc == L2D_OK)
            rc = open_index(c, text, size, err);
        free(text);
    } else {
        rc = open_part(c, path, err);
    }
    if (rc == L2D_OK)
        rc = list_tensors(c, err);
    if (rc != L2D_OK)
        l2d_checkpoint_close(&c);
    else
        *out = c;
    return rc;
}

void l2d_checkpoint_close(struct l2d_checkpoint **pc)
{
    struct l2d_checkpoint *c = *pc;
    *pc = NULL;
    if (!c)
        return;
    for (uint32_t i = 0; i < c->num_parts; i++) {
        l2d_safetensors_close(&c->part[i].st);
        l2d_torch_file_close(&c->part[i].torch);
        free(c->part[i].path);
    }
    free(c->tensor);
    free(c->path);
    free(c);
}

const char *l2d_checkpoint_path(const struct l2d_checkpoint *c)
{
    return c->path;
}

size_t l2d_checkpoint_num_files(const struct l2d_checkpoint *c)
{
    return is_index(c->path) ? 1 + c->num_parts : 1;
}

const char *l2d_checkpoint_file(const struct l2d_checkpoint *c, size_t index)
{
    return index == 0 ? c->path : c->part[index - 1].path;
}

const char *l2d_checkpoint_kind(const struct l2d_checkpoint *c)
{
    return c->kind;
}

size_t l2d_checkpoint_count(const struct l2d_checkpoint *c)
{
    return c->count;
}

const struct l2d_checkpoint_tensor *l2d_checkpoint_get(const struct l2d_checkpoint *c, size_t index)
{
    return &c->tensor[index];
}

const struct l2d_checkpoint_tensor *l2d_checkpoint_find(const struct l2d_checkpoint *c,
                                                        const char *name)
{
    struct l2d_checkpoint_tensor key = { .name = name };
    return bsearch(&key, c->tensor, c->count, sizeof(*c->tensor), by_name);
}

const char *l2d_checkpoint_text(const struct l2d_checkpoint *c, const char *key)
{
    const struct l2d_torch_file *torch = c->num_parts == 1 ? c->part[0].torch : NULL;
    return torch ? l2d_torch_file_text(torch, key) : NULL;
}

int l2d_checkpoint_read(struct l2d_checkpoint *c, const struct l2d_checkpoint_tensor *t, float *out,
                        struct l2d_error *err)
{
    const struct part *p = &c->part[t->part];
    if (!l2d_convert_reads(t->dtype))
        return l2d_error_set(err, L2D_EFORMAT, "%s: tensor %s is of type %s, not of numbers that "
                             "weights are made of", p->path, t->name,
                             l2d_safetensors_dtype_str(t->dtype));
    bool finite;
    if (p->st) {
        const struct l2d_safetensors_entry *e = t->source;
        finite = l2d_convert_to_f32(out, t->dtype, e->data, t->count);
    } else {
        uint32_t size = l2d_safetensors_dtype_bytes(t->dtype);
        void *raw = malloc(t->count * size + 1);
        if (!raw)
            return no_memory(p->path, err);
        int rc = l2d_torch_file_read(p->torch, t->source, raw, err);
        finite = rc == L2D_OK && l2d_convert_to_f32(out, t->dtype, raw, t->count);
        free(raw);
        if (rc != L2D_OK)
            return rc;
    }
    return finite ? L2D_OK
                  : l2d_error_set(err, L2D_EFORMAT, "%s: tensor %s: a value is not finite; the "
                                  "file is damaged", p->path, t->name);
}
