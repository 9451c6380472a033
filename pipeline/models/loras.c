// SPDX-License-Identifier: Apache-2.0
// See loras.h.
#include "pipeline/models/loras.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/convert.h"

#define PATH_BYTES 4096
#define NAME_BYTES 512
#define COLUMNS 64                      // of the weight, summed at once: they stay in registers

typedef const struct l2d_safetensors_entry *entry_ref;

struct l2d_loras {
    int32_t num;
    struct {
        struct l2d_safetensors *st;
        char path[PATH_BYTES];
        bool *used;                     // by entry
    } file[L2D_MAX_LORAS];
};

struct matrices {                       // of one LoRA for one weight
    entry_ref up, down, factor;
};

void l2d_loras_path(char *out, size_t size, const char *folder, const char *name)
{
    snprintf(out, size, "%s/lora.%s.safetensors", folder, name);
}

int l2d_loras_open(struct l2d_loras **out, const char *folder,
                   const struct l2d_model_config *config, struct l2d_error *err)
{
    struct l2d_loras *l = calloc(1, sizeof(*l));
    int rc = l ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "LoRAs: out of memory");
    for (int32_t i = 0; i < config->num_loras && rc == L2D_OK; i++) {
        l2d_loras_path(l->file[i].path, PATH_BYTES, folder, config->lora[i].name);
        rc = l2d_safetensors_open(&l->file[i].st, l->file[i].path, err);
        if (rc != L2D_OK)
            break;
        l->num++;
        l->file[i].used = calloc(l2d_safetensors_count(l->file[i].st) + 1, sizeof(bool));
        if (!l->file[i].used)
            rc = l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", l->file[i].path);
    }
    if (rc != L2D_OK)
        l2d_loras_close(&l);
    *out = l;
    return rc;
}

void l2d_loras_close(struct l2d_loras **pl)
{
    struct l2d_loras *l = *pl;
    *pl = NULL;
    for (int32_t i = 0; l && i < l->num; i++) {
        l2d_safetensors_close(&l->file[i].st);
        free(l->file[i].used);
    }
    free(l);
}

// ---- what there is

static entry_ref find(const struct l2d_loras *l, int32_t i, const char *base, const char *ending)
{
    char name[NAME_BYTES + 16];
    snprintf(name, sizeof(name), "%s.%s", base, ending);
    return l2d_safetensors_find(l->file[i].st, name);
}

// returns  whether there are any. base receives what their names begin with.
static bool find_all(const struct l2d_loras *l, int32_t i, const char *network, const char *weight,
                     char base[NAME_BYTES], struct matrices *m)
{
    size_t len = strlen(weight), ending = strlen(".weight");
    if (len <= ending || strcmp(weight + len - ending, ".weight"))
        return false;
    snprintf(base, NAME_BYTES, "%s.%.*s", network, (int) (len - ending), weight);
    *m = (struct matrices) { find(l, i, base, "up"), find(l, i, base, "down"),
                             find(l, i, base, "factor") };
    return m->up || m->down || m->factor;
}

static uint64_t count_of(entry_ref e)
{
    return e->size_bytes / l2d_safetensors_dtype_bytes(e->dtype);
}

static uint64_t rank_of(const struct matrices *m)
{
    return m->down->ndim > 0 ? m->down->dims[0] : 0;
}

static int check(const char *path, const char *base, const struct matrices *m, entry_ref weight,
                 struct l2d_error *err)
{
    static const char *const endings[] = { "up", "down", "factor" };
    entry_ref all[] = { m->up, m->down, m->factor };
    for (int i = 0; i < 3; i++) {
        if (!all[i])
            return l2d_error_set(err, L2D_EFORMAT, "%s: tensor %s.%s is missing", path, base,
                                 endings[i]);
        if (!l2d_convert_reads(all[i]->dtype))
            return l2d_error_set(err, L2D_EFORMAT, "%s: %s is of type %s; F32, F16, BF16 and F8 "
                                 "can be used", path, all[i]->name,
                                 l2d_safetensors_dtype_str(all[i]->dtype));
    }
    uint64_t cout = weight->ndim > 1 ? weight->dims[0] : 0, rank = rank_of(m);
    uint64_t inner = cout ? count_of(weight) / cout : 0;
    if (!cout || !rank || rank > UINT32_MAX || count_of(m->factor) != 1 || m->up->ndim < 1 ||
        m->up->dims[0] != cout || count_of(m->up) != cout * rank ||
        count_of(m->down) != rank * inner)
        return l2d_error_set(err, L2D_EFORMAT, "%s: %s: %" PRIu64 " and %" PRIu64 " values of rank "
                             "%" PRIu64 " do not make a weight of %" PRIu64 "x%" PRIu64, path,
                             base, count_of(m->up), count_of(m->down), rank, cout, inner);
    return L2D_OK;
}

static void mark(struct l2d_loras *l, int32_t i, entry_ref e)
{
    l->file[i].used[e - l2d_safetensors_get(l->file[i].st, 0)] = true;
}

int l2d_loras_ask(struct l2d_loras *l, const char *network, entry_ref weight, bool *changed,
                  struct l2d_error *err)
{
    char base[NAME_BYTES];
    struct matrices m;
    *changed = false;
    for (int32_t i = 0; i < l->num; i++) {
        if (!find_all(l, i, network, weight->name, base, &m))
            continue;
        int rc = check(l->file[i].path, base, &m, weight, err);
        if (rc != L2D_OK)
            return rc;
        mark(l, i, m.up);
        mark(l, i, m.down);
        mark(l, i, m.factor);
        *changed = true;
    }
    return L2D_OK;
}

int l2d_loras_end(const struct l2d_loras *l, struct l2d_error *err)
{
    for (int32_t i = 0; i < l->num; i++) {
        size_t unexpected = 0, first = 0, count = l2d_safetensors_count(l->file[i].st);
        for (size_t t = 0; t < count; t++)
            if (!l->file[i].used[t] && !unexpected++)
                first = t;
        if (unexpected)
            return l2d_error_set(err, L2D_EFORMAT, "%s: %zu tensor%s that the model has no weight "
                                 "for, the first is %s", l->file[i].path, unexpected,
                                 unexpected > 1 ? "s" : "",
                                 l2d_safetensors_get(l->file[i].st, first)->name);
    }
    return L2D_OK;
}

// ---- sums

void l2d_loras_add_product(float *weight, const float *up, const float *down, uint64_t cout,
                           uint64_t rank, uint64_t inner, float factor)
{
    if (!(factor > 0 || factor < 0))
        return;
    for (uint64_t o = 0; o < cout; o++)
        for (uint64_t at = 0; at < inner; at += COLUMNS) {
            uint64_t n = inner - at < COLUMNS ? inner - at : COLUMNS;
            float *w = weight + o * inner + at, sum[COLUMNS] = { 0 };
            memcpy(sum, w, n * sizeof(*w));
            for (uint64_t r = 0; r < rank; r++) {
                float f = factor * up[o * rank + r];
                const float *d = down + r * inner + at;
                for (uint64_t i = 0; i < n; i++)
                    sum[i] += f * d[i];
            }
            memcpy(w, sum, n * sizeof(*w));
        }
}

static int add_one(const struct matrices *m, float scale, float *values, uint64_t count,
                   const char *path, struct l2d_error *err)
{
    uint64_t rank = rank_of(m), cout = m->up->dims[0];
    float *up = malloc(count_of(m->up) * sizeof(*up));
    float *down = malloc(count_of(m->down) * sizeof(*down)), factor;
    int rc = up && down ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    if (rc == L2D_OK && !(l2d_convert_to_f32(up, m->up->dtype, m->up->data, count_of(m->up)) &&
                          l2d_convert_to_f32(down, m->down->dtype, m->down->data,
                                             count_of(m->down)) &&
                          l2d_convert_to_f32(&factor, m->factor->dtype, m->factor->data, 1)))
        rc = l2d_error_set(err, L2D_EFORMAT, "%s: %s or its other half has values that are not "
                           "numbers", path, m->up->name);
    if (rc == L2D_OK)
        l2d_loras_add_product(values, up, down, cout, rank, count / cout, scale * factor);
    free(up);
    free(down);
    return rc;
}

int l2d_loras_add(const struct l2d_loras *l, const float scale[L2D_MAX_LORAS], const char *network,
                  entry_ref weight, float *values, uint64_t count, struct l2d_error *err)
{
    char base[NAME_BYTES];
    struct matrices m;
    int rc = L2D_OK;
    for (int32_t i = 0; i < l->num && rc == L2D_OK; i++)
        if ((scale[i] > 0 || scale[i] < 0) &&
            find_all(l, i, network, weight->name, base, &m))
            rc = add_one(&m, scale[i], values, count, l->file[i].path, err);
    return rc;
}
