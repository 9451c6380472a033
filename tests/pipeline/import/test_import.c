// SPDX-License-Identifier: Apache-2.0
// A model of tests/data taken apart into files as people have them, and put together again. Formats
// and fusing at large are checked against PyTorch by tools/reference/check_import.py.
#include "pipeline/import/import.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/half.h"
#include "pipeline/import/names.h"
#include "pipeline/models/model.h"
#include "support/golden_model.h"
#include "tensor/safetensors.h"

static struct golden_model model;
static char dir[] = "/tmp/l2d_import_XXXXXX";
static char base[128], motion[128], single[128], out[128];

static void path_of(char *path, const char *name)
{
    snprintf(path, 128, "%s/%s", dir, name);
}

static void link_to(const char *file, const char *name)
{
    char from[256], to[256];
    snprintf(from, sizeof(from), "%s/%s", model.dir, file);
    snprintf(to, sizeof(to), "%s/%s", base, name);
    cr_assert_eq(symlink(from, to), 0, "%s", to);
}

static void write_text(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", base, name);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    cr_assert_geq(fputs(text, f), 0);
    cr_assert_eq(fclose(f), 0);
}

// Some tensors of the golden UNet under other names: all, or those with "motion_modules" in theirs.
static void write_renamed(const char *path, bool motion_only, bool ldm)
{
    char source[256];
    struct l2d_error err = { 0 };
    struct l2d_safetensors *st = NULL;
    snprintf(source, sizeof(source), "%s/unet.safetensors", model.dir);
    cr_assert_eq(l2d_safetensors_open(&st, source, &err), L2D_OK, "%s", err.msg);
    size_t count = l2d_safetensors_count(st), num = 0;
    struct l2d_safetensors_entry *e = calloc(count, sizeof(*e));
    char (*name)[2 * L2D_NAME_BYTES] = calloc(count, sizeof(*name)), ldm_name[L2D_NAME_BYTES];
    cr_assert(e && name);
    for (size_t i = 0; i < count; i++) {
        const struct l2d_safetensors_entry *old = l2d_safetensors_get(st, i);
        bool is_motion = strstr(old->name, "motion_modules.") || strstr(old->name, "flow_conv_in.");
        if (is_motion != motion_only)
            continue;
        if (ldm) {
            cr_assert(l2d_names_ldm_unet(ldm_name, old->name), "%s", old->name);
            snprintf(name[num], sizeof(name[num]), "model.diffusion_model.%s", ldm_name);
        } else {
            snprintf(name[num], sizeof(name[num]), "module.%s", old->name);
        }
        e[num] = *old;
        e[num].name = name[num];
        num++;
    }
    cr_assert_eq(l2d_safetensors_write(path, e, num, &err), L2D_OK, "%s", err.msg);
    free(e);
    free(name);
    l2d_safetensors_close(&st);
}

static void setup(void)
{
    char path[256];
    golden_model_make(&model, "narrow4");
    cr_assert_not_null(mkdtemp(dir));
    path_of(base, "base");
    path_of(motion, "live2diff.ckpt");
    path_of(single, "style.safetensors");
    path_of(out, "out");
    static const char *const folders[] = { "", "/unet", "/text_encoder", "/tokenizer" };
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s%s", base, folders[i]);
        cr_assert_eq(mkdir(path, 0777), 0);
    }
    link_to("unet.safetensors", "unet/diffusion_pytorch_model.safetensors");
    link_to("text_encoder.safetensors", "text_encoder/model.safetensors");
    link_to("vocab.json", "tokenizer/vocab.json");
    link_to("merges.txt", "tokenizer/merges.txt");
    write_text("unet/config.json", "{\"attention_head_dim\": 8, \"norm_num_groups\": 8}");
    write_text("text_encoder/config.json", "{\"num_attention_heads\": 4}");
}

static void teardown(void)
{
    char command[256];
    golden_model_remove(&model);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(import, .init = setup, .fini = teardown);

static struct l2d_import narrow(char vae[256])
{
    snprintf(vae, 256, "%s/vae.safetensors", model.dir);
    return (struct l2d_import) { .base = base, .vae = vae, .width = 128, .height = 64 };
}

static void check_same(const char *file)
{
    char a_path[256], b_path[256];
    struct l2d_error err = { 0 };
    struct l2d_safetensors *a = NULL, *b = NULL;
    snprintf(a_path, sizeof(a_path), "%s/%s", model.dir, file);
    snprintf(b_path, sizeof(b_path), "%s/%s", out, file);
    cr_assert_eq(l2d_safetensors_open(&a, a_path, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_safetensors_open(&b, b_path, &err), L2D_OK, "%s", err.msg);
    size_t compared = 0;
    for (size_t i = 0; i < l2d_safetensors_count(b); i++) {
        const struct l2d_safetensors_entry *got = l2d_safetensors_get(b, i);
        const struct l2d_safetensors_entry *want = l2d_safetensors_find(a, got->name);
        cr_assert_not_null(want, "%s", got->name);
        cr_assert_eq(want->size_bytes, got->size_bytes, "%s", got->name);
        cr_assert_eq(memcmp(want->data, got->data, got->size_bytes), 0, "%s", got->name);
        compared++;
    }
    cr_assert_gt(compared, 20);
    l2d_safetensors_close(&a);
    l2d_safetensors_close(&b);
}

static void check_folder(void)
{
    static const char *const files[] = { "unet.safetensors", "vae.safetensors",
                                         "text_encoder.safetensors" };
    char path[256];
    struct l2d_error err = { 0 };
    struct l2d_model_config config;
    for (size_t i = 0; i < 3; i++)
        check_same(files[i]);
    snprintf(path, sizeof(path), "%s/model.json", out);
    cr_assert_eq(l2d_model_config_read(&config, path, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(config.unet.num_levels, 4);
    cr_assert_eq(config.unet.norm_num_groups, 8);
    cr_assert_eq(config.text.num_attention_heads, 4);
    snprintf(path, sizeof(path), "%s/manifest.json", out);
    cr_assert_eq(access(path, R_OK), 0);
}

Test(import, diffusers_folder)
{
    char vae[256];
    struct l2d_error err = { 0 };
    struct l2d_import import = narrow(vae);
    cr_assert_eq(l2d_import_write(&import, out, NULL, NULL, &err), L2D_OK, "%s", err.msg);
    check_folder();
    cr_assert_eq(l2d_import_write(&import, out, NULL, NULL, &err), L2D_EIO);    // it exists
    cr_assert(strstr(err.msg, "exists"), "%s", err.msg);
}

// The base has other weights, over which the two files go.
Test(import, motion_and_single_file)
{
    char vae[256], path[256];
    struct l2d_error err = { 0 };
    write_renamed(motion, true, false);
    write_renamed(single, false, true);
    struct l2d_safetensors *st = NULL;
    snprintf(path, sizeof(path), "%s/unet.safetensors", model.dir);
    cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_OK);
    size_t count = l2d_safetensors_count(st);
    struct l2d_safetensors_entry *e = calloc(count, sizeof(*e));
    void *ones = malloc(16 << 20);
    cr_assert(e && ones);
    memset(ones, 0x3c, 16 << 20);
    for (size_t i = 0; i < count; i++) {
        e[i] = *l2d_safetensors_get(st, i);
        cr_assert_leq(e[i].size_bytes, 16 << 20);
        e[i].data = ones;
    }
    snprintf(path, sizeof(path), "%s/unet/diffusion_pytorch_model.safetensors", base);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(l2d_safetensors_write(path, e, count, &err), L2D_OK, "%s", err.msg);
    free(e);
    free(ones);
    l2d_safetensors_close(&st);

    struct l2d_import import = narrow(vae);
    import.motion = motion;
    import.dreambooth = single;
    cr_assert_eq(l2d_import_write(&import, out, NULL, NULL, &err), L2D_OK, "%s", err.msg);
    check_folder();
}

// ---- textual inversions -------------------------------------------------------------------------

static float vector[80 * 64];

static void write_vectors(uint64_t rows, uint64_t width, float step)
{
    struct l2d_error err = { 0 };
    const struct l2d_safetensors_entry e = { "emb_params", L2D_SAFETENSORS_F32, 2, { rows, width },
                                             vector, 4 * rows * width };
    cr_assert_leq(e.size_bytes, sizeof(vector));
    for (size_t i = 0; i < rows * width; i++)
        vector[i] = (float) i * step;
    cr_assert_eq(l2d_safetensors_write(single, &e, 1, &err), L2D_OK, "%s", err.msg);
}

// The width of the text encoder, and its number of words.
static void text_shape(uint64_t *width, uint64_t *words)
{
    char path[256];
    struct l2d_error err = { 0 };
    struct l2d_safetensors *st = NULL;
    snprintf(path, sizeof(path), "%s/text_encoder.safetensors", model.dir);
    cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_OK, "%s", err.msg);
    const struct l2d_safetensors_entry *e =
        l2d_safetensors_find(st, "text_model.embeddings.token_embedding.weight");
    *words = e->dims[0];
    *width = e->dims[1];
    l2d_safetensors_close(&st);
}

// The file twice, as two words, behind those that there are.
Test(import, textual_inversions)
{
    char vae[256], path[256];
    uint64_t width, words;
    struct l2d_error err = { 0 };
    struct l2d_import import = narrow(vae);
    text_shape(&width, &words);
    write_vectors(3, width, 0.25f);
    import.embedding[import.num_embeddings++] = (struct l2d_import_embedding) { single, NULL };
    import.embedding[import.num_embeddings++] = (struct l2d_import_embedding) { single, "<b>" };
    cr_assert_eq(l2d_import_write(&import, out, NULL, NULL, &err), L2D_OK, "%s", err.msg);

    struct l2d_safetensors *was = NULL, *is = NULL;
    static const char name[] = "text_model.embeddings.token_embedding.weight";
    snprintf(path, sizeof(path), "%s/text_encoder.safetensors", model.dir);
    cr_assert_eq(l2d_safetensors_open(&was, path, &err), L2D_OK);
    snprintf(path, sizeof(path), "%s/text_encoder.safetensors", out);
    cr_assert_eq(l2d_safetensors_open(&is, path, &err), L2D_OK);
    const struct l2d_safetensors_entry *a = l2d_safetensors_find(was, name);
    const struct l2d_safetensors_entry *b = l2d_safetensors_find(is, name);
    cr_assert(b->dims[0] == words + 6 && b->dims[1] == width);
    cr_assert_eq(memcmp(a->data, b->data, a->size_bytes), 0);
    for (size_t i = 0; i < 6 * width; i++) {
        uint16_t half;
        memcpy(&half, (const char *) b->data + a->size_bytes + 2 * i, 2);
        cr_assert_eq(half, l2d_half_from_f32(vector[i % (3 * width)]), "%zu", i);
    }
    l2d_safetensors_close(&was);
    l2d_safetensors_close(&is);

    struct l2d_model *loaded = NULL;            // which reads and checks all of it
    int32_t ids[24], first = (int32_t) words;
    int used, dropped;
    cr_assert_eq(l2d_model_create(&loaded, out, NULL, L2D_F16, false, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(loaded->config.text.vocab_size, first + 6);
    cr_assert_eq(l2d_tokenizer_encode(loaded->tokenizer, "style<B>", 24, ids, &used, &dropped,
                                      &err), L2D_OK);
    cr_assert_eq(used, 8);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(ids[1 + i], first + i);
    l2d_model_destroy(&loaded);
    snprintf(path, sizeof(path), "grep -q '\"role\": \"embedding\"' %s/manifest.json", out);
    cr_assert_eq(system(path), 0);
}

Test(import, refuses_textual_inversions)
{
    char vae[256];
    uint64_t width, words;
    struct l2d_import import = narrow(vae);
    text_shape(&width, &words);
    const struct {
        uint64_t rows, width;
        float step;
        const char *first, *second, *want;
    } cases[] = {
        { 1, width + 1, 1, "<a>", NULL, "of 33 numbers, the text encoder of this model 32" },
        { 23, width, 1, "<a>", NULL, "has 23 vectors; a prompt of this model has room for 22" },
        { 1, width, 1e5f, "<a>", NULL, "the value 100000 is too large for fp16" },
        { 1, width, 1, "a", NULL, "its word 'a': is a word of the vocabulary" },
        { 1, width, 1, "<a>", "<A>", "its word '<A>': is there already" },
        { 2, width, 1, "<a>", "<a>_2", "its word '<a>_2': would be taken for a vector" },
        { 1, width, 1, "<a\n\xff>", NULL, "not UTF-8" },
        { 1, width, 1, "\n", NULL, "its word '?'" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct l2d_error err = { 0 };
        write_vectors(cases[i].rows, cases[i].width, cases[i].step);
        import.embedding[0] = (struct l2d_import_embedding) { single, cases[i].first };
        import.embedding[1] = (struct l2d_import_embedding) { single, cases[i].second };
        import.num_embeddings = cases[i].second ? 2 : 1;
        cr_assert_neq(l2d_import_write(&import, out, NULL, NULL, &err), L2D_OK, "case %zu", i);
        cr_assert(strstr(err.msg, cases[i].want) && strstr(err.msg, single), "case %zu: %s", i,
                  err.msg);
    }
    cr_assert_neq(access(out, F_OK), 0);
}

static void count_lines(void *user, const char *line)
{
    cr_assert(*line && !strchr(line, '\n'));
    ++*(int *) user;
}

Test(import, refuses_and_leaves_nothing)
{
    char vae[256], path[256], command[256];
    struct l2d_import import = narrow(vae);
    struct l2d_error err = { 0 };
    int lines = 0;
    snprintf(path, sizeof(path), "%s/nothing", dir);
    static const struct { size_t at; const char *want; } cases[] = {
        { offsetof(struct l2d_import, base), "No such file" },
        { offsetof(struct l2d_import, motion), "motion: " },
        { offsetof(struct l2d_import, dreambooth), "dreambooth: " },
        { offsetof(struct l2d_import, vae), "vae: " },
        { offsetof(struct l2d_import, tokenizer), "tokenizer: " },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct l2d_import wrong = import;
        *(const char **) (void *) ((char *) &wrong + cases[i].at) = path;
        cr_assert_neq(l2d_import_write(&wrong, out, count_lines, &lines, &err), L2D_OK);
        cr_assert(strstr(err.msg, cases[i].want) && strstr(err.msg, path), "%s", err.msg);
    }
    struct l2d_import lora = import;
    lora.lora[lora.num_loras++] = (struct l2d_import_lora) { .path = vae, .scale = 1 };
    cr_assert_neq(l2d_import_write(&lora, out, count_lines, &lines, &err), L2D_OK);
    cr_assert(strstr(err.msg, "is no LoRA"), "%s", err.msg);

    write_renamed(single, false, true);             // a DreamBooth is no motion file
    struct l2d_import strange = import;
    strange.motion = single;
    cr_assert_neq(l2d_import_write(&strange, out, count_lines, &lines, &err), L2D_OK);
    cr_assert(strstr(err.msg, "has no motion modules"), "%s", err.msg);
    struct l2d_import swapped = import;
    swapped.vae = single;
    cr_assert_neq(l2d_import_write(&swapped, out, count_lines, &lines, &err), L2D_OK);
    cr_assert(strstr(err.msg, "VAE: tensor encoder.layers.0.weight is in none"), "%s", err.msg);

    write_text("unet/config.json", "{\"use_linear_projection\": true}");
    cr_assert_eq(l2d_import_write(&import, out, count_lines, &lines, &err), L2D_EUNSUPPORTED);
    cr_assert(strstr(err.msg, "SD2"), "%s", err.msg);
    write_text("unet/config.json", "[");
    cr_assert_eq(l2d_import_write(&import, out, count_lines, &lines, &err), L2D_EFORMAT);

    cr_assert_neq(access(out, F_OK), 0);
    snprintf(command, sizeof(command), "ls %s | grep -q part", dir);
    cr_assert_neq(system(command), 0, "a folder was left half made");
}
