// SPDX-License-Identifier: Apache-2.0
// What the engine refuses to be made of, before anything is drawn: models that are not what they
// should be, by file and tensor, and parameters.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/device.h"
#include "pipeline/engine.h"
#include "support/golden_model.h"
#include "support/watched_gpu.h"
#include "tensor/safetensors.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define W 96
#define H 64

static struct golden_model model;
static struct l2d_gpu *gpu;
static struct l2d_error err;

static void open_all(void)
{
    golden_model_make(&model, "tiny3");
    gpu = watched_gpu_open(L2D_TIER_AUTO);
}

static void close_all(void)
{
    golden_model_remove(&model);
    watched_gpu_close(&gpu);
}

TestSuite(refusals, .init = open_all, .fini = close_all);

static struct l2d_engine_params params(void)
{
    return (struct l2d_engine_params) {
        .model = model.dir, .width = W, .height = H, .precision = L2D_PRECISION_FP32,
    };
}

static void check_refused(const struct l2d_engine_params *p, int code, const char *a, const char *b)
{
    struct l2d_engine *engine = NULL;
    struct l2d_error e = { 0 };
    int rc = l2d_engine_create(&engine, gpu, p, &e);
    cr_assert(rc == code && (int) e.code == code, "%s, %s: code %d, %s", a, b, rc, e.msg);
    cr_assert(strstr(e.msg, a) && strstr(e.msg, b), "%s, %s: %s", a, b, e.msg);
    cr_assert_null(engine);
}

// ---- models that are not what they should be

enum damage {
    NO_FILE, EMPTY_FILE, HALF_FILE, NO_TENSOR, ONE_MORE, SWAPPED, INTEGERS, ONE_NAN, ONE_INF,
};

static void write_part(const char *from, const char *to, long divide)
{
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    cr_assert(in && out);
    cr_assert_eq(fseek(in, 0, SEEK_END), 0);
    long size = ftell(in) / divide;
    rewind(in);
    char *data = malloc((size_t) size + 1);
    cr_assert_eq(fread(data, 1, (size_t) size, in), (size_t) size);
    cr_assert_eq(fwrite(data, 1, (size_t) size, out), (size_t) size);
    free(data);
    fclose(in);
    cr_assert_eq(fclose(out), 0);
}

// A file of weights like from, but for one tensor.
static void write_damaged(const char *from, const char *to, enum damage damage, const char *name)
{
    struct l2d_safetensors *st = NULL;
    cr_assert_eq(l2d_safetensors_open(&st, from, &err), L2D_OK, "%s", err.msg);
    size_t count = l2d_safetensors_count(st), n = 0;
    struct l2d_safetensors_entry *entry = calloc(count + 1, sizeof(*entry));
    uint16_t *value = NULL;
    cr_assert_not_null(entry);
    for (size_t i = 0; i < count; i++) {
        entry[n] = *l2d_safetensors_get(st, i);
        struct l2d_safetensors_entry *e = &entry[n];
        bool it = strcmp(e->name, name) == 0;
        if (it && damage == NO_TENSOR)
            continue;
        if (it && damage == INTEGERS)
            e->dtype = L2D_SAFETENSORS_I16;
        if (it && damage == SWAPPED) {
            uint64_t first = e->dims[0];
            e->dims[0] = e->dims[1];
            e->dims[1] = first;
        }
        if (it && (damage == ONE_NAN || damage == ONE_INF)) {
            value = malloc(e->size_bytes);
            cr_assert_not_null(value);
            memcpy(value, e->data, e->size_bytes);
            value[e->size_bytes / 2 - 1] = damage == ONE_NAN ? 0x7e01 : 0xfc00;
            e->data = value;
        }
        n++;
    }
    if (damage == ONE_MORE) {
        entry[n] = entry[0];
        entry[n++].name = name;
    }
    cr_assert_eq(l2d_safetensors_write(to, entry, n, &err), L2D_OK, "%s", err.msg);
    free(value);
    free(entry);
    l2d_safetensors_close(&st);
}

Test(refusals, damaged_models_by_name)
{
    static const struct {
        enum damage damage;
        const char *file, *tensor;
        int code;
        const char *want;               // beside the file or tensor
    } cases[] = {
        { NO_FILE, "model.json", "", L2D_EIO, "No such file" },
        { NO_FILE, "unet.safetensors", "", L2D_EIO, "No such file" },
        { NO_FILE, "vae.safetensors", "", L2D_EIO, "No such file" },
        { NO_FILE, "text_encoder.safetensors", "", L2D_EIO, "No such file" },
        { NO_FILE, "vocab.json", "", L2D_EIO, "No such file" },
        { NO_FILE, "merges.txt", "", L2D_EIO, "No such file" },
        { EMPTY_FILE, "model.json", "", L2D_EFORMAT, "" },
        { EMPTY_FILE, "unet.safetensors", "", L2D_EFORMAT, "" },
        { EMPTY_FILE, "vocab.json", "", L2D_EFORMAT, "" },
        { HALF_FILE, "model.json", "", L2D_EFORMAT, "" },
        { HALF_FILE, "vae.safetensors", "", L2D_EFORMAT, "" },
        { NO_TENSOR, "unet.safetensors", "conv_in.bias", L2D_EFORMAT, "missing" },
        { NO_TENSOR, "unet.safetensors", "time_embedding.linear_1.weight", L2D_EFORMAT, "missing" },
        { NO_TENSOR, "vae.safetensors", "decoder.layers.0.weight", L2D_EFORMAT, "missing" },
        { NO_TENSOR, "text_encoder.safetensors", "text_model.final_layer_norm.weight", L2D_EFORMAT,
          "missing" },
        { ONE_MORE, "unet.safetensors", "conv_in.more", L2D_EFORMAT, "no place" },
        { ONE_MORE, "vae.safetensors", "encoder.layers.99.weight", L2D_EFORMAT, "no place" },
        { ONE_MORE, "text_encoder.safetensors", "visual_projection.weight", L2D_EFORMAT,
          "no place" },
        { SWAPPED, "unet.safetensors", "conv_in.weight", L2D_EFORMAT,
          "[16,32,3,3], expected [32,16,3,3]" },
        { SWAPPED, "text_encoder.safetensors", "text_model.embeddings.token_embedding.weight",
          L2D_EFORMAT, "[48,554], expected [554,48]" },
        { INTEGERS, "unet.safetensors", "conv_out.weight", L2D_EFORMAT, "I16" },
        { ONE_NAN, "unet.safetensors", "conv_in.weight", L2D_EFORMAT, "not numbers" },
        { ONE_INF, "unet.safetensors", "conv_in.bias", L2D_EFORMAT, "not numbers" },
        { ONE_NAN, "unet.safetensors", "conv_norm_out.weight", L2D_EFORMAT, "not numbers" },
        { ONE_NAN, "unet.safetensors", "time_embedding.linear_2.bias", L2D_EFORMAT, "not numbers" },
        { ONE_INF, "vae.safetensors", "decoder.layers.0.bias", L2D_EFORMAT, "not numbers" },
        { ONE_NAN, "text_encoder.safetensors", "text_model.embeddings.token_embedding.weight",
          L2D_EFORMAT, "not numbers" },
    };
    struct l2d_engine_params p = params();
    for (size_t i = 0; i < COUNT(cases); i++) {
        char path[128], kept[160];
        snprintf(path, sizeof(path), "%s/%s", model.dir, cases[i].file);
        snprintf(kept, sizeof(kept), "%s.kept", path);
        cr_assert_eq(rename(path, kept), 0);
        if (cases[i].damage == EMPTY_FILE)
            write_part(kept, path, 1L << 40);
        else if (cases[i].damage == HALF_FILE)
            write_part(kept, path, 2);
        else if (cases[i].damage != NO_FILE)
            write_damaged(kept, path, cases[i].damage, cases[i].tensor);
        check_refused(&p, cases[i].code, *cases[i].tensor ? cases[i].tensor : cases[i].file,
                      cases[i].want);
        cr_assert_eq(rename(kept, path), 0);
    }
    struct l2d_engine *engine = NULL;           // and undamaged it works
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_OK, "%s", err.msg);
    l2d_engine_destroy(&engine);
}

Test(refusals, bad_parameters)
{
    struct l2d_engine_params p = params();
    p.model = "/nonexistent/folder";
    check_refused(&p, L2D_EIO, "/nonexistent/folder", "No such file");
    p.model = "/dev/null";
    check_refused(&p, L2D_EIO, "/dev/null", "not a folder");
    p = params();
    p.steps = "37,25/50";
    check_refused(&p, L2D_EINVAL, "37,25/50", "25 does not follow 37");
    p = params();
    p.clip_skip = "2";
    check_refused(&p, L2D_EINVAL, "--clip-skip 2", "0 to 1");
    p = params();
    p.guidance = 101;
    check_refused(&p, L2D_EINVAL, "guidance 101", "1..100");
    p = params();
    p.guidance_delta = -1;
    check_refused(&p, L2D_EINVAL, "delta -1", "above 0");
    p = params();
    p.chunk = L2D_MAX_CHUNK + 1;
    check_refused(&p, L2D_EINVAL, "chunk of 9", "at most 8");
    p = params();
    p.skip_similar = 1.5;
    check_refused(&p, L2D_EINVAL, "similarity 1.5", "0..1");
    p.skip_similar = 0.5;
    p.draw_every = 2;
    check_refused(&p, L2D_EINVAL, "skipped where they are alike", "not both");
    p = params();
    p.enlarge = 0.5;
    check_refused(&p, L2D_EINVAL, "enlarge 0.5", "1..4");
    p = params();
    p.draw_every = L2D_MAX_DRAW_EVERY + 1;
    check_refused(&p, L2D_EINVAL, "of 5 drawn", "4 at most");
    p = params();
    p.width = 95;
    check_refused(&p, L2D_EINVAL, "95x64", "even");
    p.width = 20000;
    check_refused(&p, L2D_EINVAL, "20000x64", "");
    p.width = -2;
    check_refused(&p, L2D_EINVAL, "-2x64", "");
    p = params();
    p.width = p.height = 16384;
    p.steps = "10,15,20,25,30,35,40,45/50";
    check_refused(&p, L2D_EGPUMEM, "16384x16384", "--size");
}
