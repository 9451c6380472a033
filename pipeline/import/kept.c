// SPDX-License-Identifier: Apache-2.0
// See kept.h.
#include "pipeline/import/kept.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "pipeline/models/loras.h"

#define HALVES 3                        // tensors of a change: up, down, factor

struct kept_change {
    struct l2d_lora_change change;
    char name[HALVES][L2D_NAME_BYTES + 64];
};

struct kept_lora {
    int index;                          // among the import's
    char name[L2D_LORA_NAME_BYTES];
    struct kept_change **change;        // each apart: entries point at their names
    size_t num, cap;
};

struct l2d_kept {
    const struct l2d_import *import;
    struct kept_lora lora[L2D_MAX_LORAS];
    int num;
};

// ---- names

// The last word of a path before `end`, which moves in front of it.
static void last_word(char out[L2D_LORA_NAME_BYTES], const char *path, size_t *end)
{
    size_t begin = *end, n = 0;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    for (size_t i = begin; i < *end && n < L2D_LORA_NAME_BYTES - 1; i++)
        out[n++] = isalnum((unsigned char) path[i]) || path[i] == '-' ? path[i] : '_';
    out[n] = '\0';
    *end = begin > 0 ? begin - 1 : 0;
}

// What programs call every LoRA that they write is a name of its folder alone.
static void name_of(char out[L2D_LORA_NAME_BYTES], const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    size_t end = dot && (!slash || dot > slash + 1) ? (size_t) (dot - path) : strlen(path);
    last_word(out, path, &end);
    if (end > 0 && (!strcmp(out, "pytorch_lora_weights") || !strcmp(out, "adapter_model")))
        last_word(out, path, &end);
    if (!*out)
        snprintf(out, L2D_LORA_NAME_BYTES, "lora");
}

static bool is_taken(const struct l2d_kept *k, const char *name)
{
    for (int i = 0; i < k->num; i++)
        if (!strcmp(k->lora[i].name, name))
            return true;
    return false;
}

int l2d_kept_create(struct l2d_kept **out, const struct l2d_import *import, struct l2d_error *err)
{
    struct l2d_kept *k = calloc(1, sizeof(*k));
    if (!k)
        return l2d_error_set(err, L2D_ENOMEM, "LoRAs: out of memory");
    k->import = import;
    for (int i = 0; i < import->num_loras; i++) {
        char name[L2D_LORA_NAME_BYTES], plain[L2D_LORA_NAME_BYTES];
        if (!import->lora[i].keep)
            continue;
        if (k->num == L2D_MAX_LORAS) {
            l2d_kept_destroy(&k);
            return l2d_error_set(err, L2D_EINVAL, "more than %d LoRAs are to be kept apart",
                                 L2D_MAX_LORAS);
        }
        name_of(plain, import->lora[i].path);
        strcpy(name, plain);
        for (char n = '2'; is_taken(k, name); n++)
            snprintf(name, sizeof(name), "%.*s_%c", L2D_LORA_NAME_BYTES - 3, plain, n);
        k->lora[k->num].index = i;
        strcpy(k->lora[k->num++].name, name);
    }
    *out = k;
    return L2D_OK;
}

void l2d_kept_destroy(struct l2d_kept **pk)
{
    struct l2d_kept *k = *pk;
    *pk = NULL;
    for (int i = 0; k && i < L2D_MAX_LORAS; i++) {
        for (size_t c = 0; c < k->lora[i].num; c++)
            free(k->lora[i].change[c]);
        free(k->lora[i].change);
    }
    free(k);
}

json_t *l2d_kept_json(const struct l2d_kept *k)
{
    json_t *loras = json_object();
    for (int i = 0; i < k->num; i++)
        if (json_object_set_new(loras, k->lora[i].name, json_real(
                (double) k->import->lora[k->lora[i].index].scale)) != 0) {
            json_decref(loras);
            return NULL;
        }
    return loras;
}

// ---- what they change

static int remember(struct kept_lora *l, const struct l2d_lora_change *change, const char *name,
                    struct l2d_error *err)
{
    static const char *const endings[HALVES] = { "up", "down", "factor" };
    if (l->num == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        struct kept_change **bigger = realloc(l->change, cap * sizeof(*bigger));
        if (!bigger)
            return l2d_error_set(err, L2D_ENOMEM, "LoRAs: out of memory");
        l->change = bigger;
        l->cap = cap;
    }
    struct kept_change *c = calloc(1, sizeof(*c));
    if (!c)
        return l2d_error_set(err, L2D_ENOMEM, "LoRAs: out of memory");
    c->change = *change;
    for (int i = 0; i < HALVES; i++)
        snprintf(c->name[i], sizeof(c->name[i]), "%s.%s", name, endings[i]);
    l->change[l->num++] = c;
    return L2D_OK;
}

int l2d_kept_look(struct l2d_kept *k, struct l2d_lora *const *lora, enum l2d_part part,
                  const char *module, const char *name, uint64_t cout, uint64_t num_elements,
                  bool *changed, struct l2d_error *err)
{
    int rc = L2D_OK;
    *changed = false;
    for (int i = 0; i < k->num && rc == L2D_OK; i++) {
        struct l2d_lora_change change;
        bool found = false;
        rc = l2d_lora_find(lora[k->lora[i].index], part, module, cout, num_elements,
                           &change, &found, err);
        if (rc == L2D_OK && found)
            rc = remember(&k->lora[i], &change, name, err);
        *changed |= found;
    }
    return rc;
}

// ---- their files

typedef const struct l2d_checkpoint_tensor *tensor_ref;

static struct l2d_safetensors_entry entry_of(const char *name, tensor_ref t, uint64_t rows)
{
    struct l2d_safetensors_entry e = {
        .name = name, .ndim = 2, .dims = { rows, t->count / rows },
        .dtype = t->dtype == L2D_SAFETENSORS_F16 ? L2D_SAFETENSORS_F16 : L2D_SAFETENSORS_F32,
    };
    e.size_bytes = t->count * l2d_safetensors_dtype_bytes(e.dtype);
    return e;
}

static int put(struct l2d_safetensors_writer *writer, struct l2d_lora *lora, tensor_ref t,
               const struct l2d_safetensors_entry *e, struct l2d_error *err)
{
    float *values = NULL;
    int rc = l2d_lora_read(lora, t, &values, err);
    if (rc == L2D_OK && e->dtype == L2D_SAFETENSORS_F16) {
        for (uint64_t i = 0; i < t->count; i++) {       // in place: none reaches the next value
            uint16_t half = l2d_half_from_f32(values[i]);
            memcpy((char *) values + 2 * i, &half, sizeof(half));
        }
    }
    if (rc == L2D_OK)
        rc = l2d_safetensors_writer_put(writer, values, e->size_bytes, err);
    free(values);
    return rc;
}

static int write_changes(const struct kept_lora *l, struct l2d_lora *lora, const char *path,
                         struct l2d_safetensors_entry *entry, struct l2d_error *err)
{
    struct l2d_safetensors_writer *writer = NULL;
    for (size_t c = 0; c < l->num; c++) {
        const struct l2d_lora_change *change = &l->change[c]->change;
        struct l2d_safetensors_entry *e = entry + HALVES * c;
        e[0] = entry_of(l->change[c]->name[0], change->up, change->up->dims[0]);
        e[1] = entry_of(l->change[c]->name[1], change->down, change->rank);
        e[2] = (struct l2d_safetensors_entry) {
            .name = l->change[c]->name[2], .dtype = L2D_SAFETENSORS_F32,
            .size_bytes = sizeof(change->factor),
        };
    }
    int rc = l2d_safetensors_writer_create(&writer, path, entry, HALVES * l->num, err);
    for (size_t c = 0; c < l->num && rc == L2D_OK; c++) {
        const struct l2d_lora_change *change = &l->change[c]->change;
        rc = put(writer, lora, change->up, &entry[HALVES * c], err);
        if (rc == L2D_OK)
            rc = put(writer, lora, change->down, &entry[HALVES * c + 1], err);
        if (rc == L2D_OK)
            rc = l2d_safetensors_writer_put(writer, &change->factor, sizeof(change->factor), err);
    }
    if (rc == L2D_OK)
        rc = l2d_safetensors_writer_end(writer, err);
    l2d_safetensors_writer_destroy(&writer);
    return rc;
}

int l2d_kept_write(const struct l2d_kept *k, struct l2d_lora *const *lora, const char *folder,
                   struct l2d_manifest *manifest, void (*say)(void *user, const char *line),
                   void *user, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (int i = 0; i < k->num && rc == L2D_OK; i++) {
        const struct kept_lora *l = &k->lora[i];
        const struct l2d_import_lora *given = &k->import->lora[l->index];
        const char *from = given->path;
        char path[4352], line[512];
        if (l->num == 0)
            return l2d_error_set(err, L2D_EINVAL, "%s: changes no weight of this model; is it for "
                                 "another kind of model?", from);
        l2d_loras_path(path, sizeof(path), folder, l->name);
        const char *file = strrchr(path, '/') + 1;
        struct l2d_safetensors_entry *entry = calloc(HALVES * l->num, sizeof(*entry));
        rc = entry ? write_changes(l, lora[l->index], path, entry, err)
                   : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
        for (size_t e = 0; e < HALVES * l->num && rc == L2D_OK; e++)
            l2d_manifest_add_tensor(manifest, file, entry[e].name, from);
        free(entry);
        snprintf(line, sizeof(line), "%s: changes %zu weights, by default with %g; change it with "
                 "lora.%s", file, l->num, (double) given->scale, l->name);
        if (rc == L2D_OK && say)
            say(user, line);
    }
    return rc;
}
