// SPDX-License-Identifier: Apache-2.0
// See lora_model.h.
#include "support/lora_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/half.h"
#include "base/philox.h"
#include "tensor/convert.h"
#include "tensor/safetensors.h"

#define RANK 3
#define MAX_TENSORS 4096

static struct l2d_error err;

// -1 to 1, with all bits of a float.
static float noise(uint32_t key, uint64_t at)
{
    uint32_t word[4];
    l2d_philox_block(word, (uint32_t[4]) { (uint32_t) at, (uint32_t) (at >> 32) },
                     (uint32_t[2]) { key, 1 });
    return (float) ((double) word[0] / 2147483648.0 - 1);
}

static uint64_t count_of(const struct l2d_safetensors_entry *e)
{
    return e->size_bytes / l2d_safetensors_dtype_bytes(e->dtype);
}

static struct l2d_safetensors *open_file(const struct lora_model *m, const char *file)
{
    char path[256];
    struct l2d_safetensors *st = NULL;
    snprintf(path, sizeof(path), "%s/%s", m->golden.dir, file);
    cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_OK, "%s", err.msg);
    cr_assert_lt(l2d_safetensors_count(st), MAX_TENSORS);
    return st;
}

static void link_to(const struct lora_model *m, const char *file, const char *name)
{
    char from[256], to[256];
    snprintf(from, sizeof(from), "%s/%s", m->golden.dir, file);
    snprintf(to, sizeof(to), "%s/%s", m->base, name);
    cr_assert_eq(symlink(from, to), 0, "%s", to);
}

static void write_text(const struct lora_model *m, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", m->base, name);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    cr_assert_geq(fputs(text, f), 0);
    cr_assert_eq(fclose(f), 0);
}

// The golden weights as f32, a little beside what they are.
static void write_unet(const struct lora_model *m)
{
    char path[256];
    struct l2d_safetensors *st = open_file(m, "unet.safetensors");
    size_t count = l2d_safetensors_count(st);
    struct l2d_safetensors_entry *e = calloc(count, sizeof(*e));
    cr_assert_not_null(e);
    for (size_t i = 0; i < count; i++) {
        e[i] = *l2d_safetensors_get(st, i);
        uint64_t n = count_of(&e[i]);
        float *value = malloc(n * sizeof(*value) + 1);
        cr_assert(value && l2d_convert_to_f32(value, e[i].dtype, e[i].data, n));
        for (uint64_t k = 0; k < n; k++)
            value[k] *= 1 + 1e-4f * noise((uint32_t) i, k);
        e[i].dtype = L2D_SAFETENSORS_F32;
        e[i].data = value;
        e[i].size_bytes = 4 * n;
    }
    snprintf(path, sizeof(path), "%s/unet/diffusion_pytorch_model.safetensors", m->base);
    cr_assert_eq(l2d_safetensors_write(path, e, count, &err), L2D_OK, "%s", err.msg);
    for (size_t i = 0; i < count; i++)
        free((void *) (uintptr_t) e[i].data);
    free(e);
    l2d_safetensors_close(&st);
}

// ---- LoRAs, in the names of kohya's scripts

struct lora {
    struct l2d_safetensors_entry entry[MAX_TENSORS];
    char name[MAX_TENSORS][520];
    size_t num;
    bool half;
    uint32_t key;
};

static void add(struct lora *l, const char *base, const char *ending, int ndim, uint64_t rows,
                uint64_t columns, float scale)
{
    cr_assert_lt(l->num, MAX_TENSORS);
    uint64_t n = rows * columns;
    void *data = malloc(4 * n);
    cr_assert_not_null(data);
    l->key++;
    for (uint64_t i = 0; i < n; i++) {
        float value = ndim ? scale * noise(l->key, i) : scale;
        if (l->half)
            ((uint16_t *) data)[i] = l2d_half_from_f32(value);
        else
            ((float *) data)[i] = value;
    }
    snprintf(l->name[l->num], sizeof(l->name[l->num]), "%s.%s", base, ending);
    l->entry[l->num] = (struct l2d_safetensors_entry) {
        .name = l->name[l->num], .ndim = ndim, .dims = { rows, columns },
        .dtype = l->half ? L2D_SAFETENSORS_F16 : L2D_SAFETENSORS_F32,
        .data = data, .size_bytes = n * (l->half ? 2 : 4),
    };
    l->num++;
}

static void add_network(struct lora *l, const struct lora_model *m, const char *file,
                        const char *prefix, const char *const *patterns)
{
    struct l2d_safetensors *st = open_file(m, file);
    for (size_t i = 0; i < l2d_safetensors_count(st); i++) {
        const struct l2d_safetensors_entry *e = l2d_safetensors_get(st, i);
        bool wanted = false;
        for (int p = 0; patterns[p]; p++)
            wanted |= strstr(e->name, patterns[p]) != NULL;
        size_t len = strlen(e->name);
        if (!wanted || e->ndim < 2 || strcmp(e->name + len - 7, ".weight"))
            continue;
        char base[512];
        snprintf(base, sizeof(base), "%s%.*s", prefix, (int) (len - 7), e->name);
        for (char *c = base; *c; c++)
            *c = *c == '.' ? '_' : *c;
        uint64_t cout = e->dims[0], inner = count_of(e) / cout;
        add(l, base, "lora_up.weight", 2, cout, RANK, 0.5f);
        add(l, base, "lora_down.weight", 2, RANK, inner, 0.5f / sqrtf((float) inner));
        add(l, base, "alpha", 0, 1, 1, 2);
    }
    l2d_safetensors_close(&st);
}

static void write_lora(const struct lora_model *m, int index)
{
    static const char *const unet[][10] = {
        { "attn", "attention_blocks", "ff.net", "proj_in", "resnets.0.conv1", "time_emb_proj",
          "conv_in.weight", "time_embedding", "upsamplers", NULL },
        { "attn1", "attn2", NULL },
    };
    static const char *const text[][3] = { { "self_attn", "mlp", NULL }, { NULL } };
    struct lora *l = calloc(1, sizeof(*l));
    cr_assert_not_null(l);
    l->half = index == 0;
    l->key = 1000 * (uint32_t) (index + 1);
    add_network(l, m, "unet.safetensors", "lora_unet_", unet[index]);
    add_network(l, m, "text_encoder.safetensors", "lora_te_", text[index]);
    cr_assert_gt(l->num, 30);
    cr_assert_eq(l2d_safetensors_write(m->lora[index], l->entry, l->num, &err), L2D_OK, "%s",
                 err.msg);
    for (size_t i = 0; i < l->num; i++)
        free((void *) (uintptr_t) l->entry[i].data);
    free(l);
}

// ---- all of it

void lora_model_make(struct lora_model *m)
{
    static const char *const folders[] = { "", "/unet", "/text_encoder", "/tokenizer" };
    static const char *const names[LORA_MODEL_LORAS] = { "ink", "neon" };
    char path[256];
    *m = (struct lora_model) { .dir = "/tmp/l2d_loras_XXXXXX" };
    golden_model_make(&m->golden, "narrow4");
    cr_assert_not_null(mkdtemp(m->dir));
    snprintf(m->base, sizeof(m->base), "%s/base", m->dir);
    snprintf(m->vae, sizeof(m->vae), "%s/vae.safetensors", m->golden.dir);
    for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
        snprintf(path, sizeof(path), "%s%s", m->base, folders[i]);
        cr_assert_eq(mkdir(path, 0777), 0);
    }
    link_to(m, "text_encoder.safetensors", "text_encoder/model.safetensors");
    link_to(m, "vocab.json", "tokenizer/vocab.json");
    link_to(m, "merges.txt", "tokenizer/merges.txt");
    write_text(m, "unet/config.json", "{\"attention_head_dim\": 8, \"norm_num_groups\": 8}");
    write_text(m, "text_encoder/config.json", "{\"num_attention_heads\": 4}");
    write_unet(m);
    for (int i = 0; i < LORA_MODEL_LORAS; i++) {
        snprintf(m->lora[i], sizeof(m->lora[i]), "%s/%s.safetensors", m->dir, names[i]);
        write_lora(m, i);
    }
}

void lora_model_remove(struct lora_model *m)
{
    char command[128];
    golden_model_remove(&m->golden);
    snprintf(command, sizeof(command), "rm -r %s", m->dir);
    cr_assert_eq(system(command), 0);
}

void lora_model_import(const struct lora_model *m, const char *name, const float *scale, int kept,
                       char out[128])
{
    struct l2d_import import = {
        .base = m->base, .vae = m->vae, .width = 64, .height = 64,
    };
    for (int i = 0; i < LORA_MODEL_LORAS; i++)
        import.lora[import.num_loras++] = (struct l2d_import_lora) {
            m->lora[i], scale[i], false, i >= LORA_MODEL_LORAS - kept };
    snprintf(out, 128, "%s/%s", m->dir, name);
    cr_assert_eq(l2d_import_write(&import, out, NULL, NULL, &err), L2D_OK, "%s", err.msg);
}
