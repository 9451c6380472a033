// SPDX-License-Identifier: Apache-2.0
// See golden_model.h.
#include "support/golden_model.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/half.h"
#include "base/philox.h"
#include "tensor/safetensors.h"

#define WEIGHT_KEY 0x4c324421u

static const char *const weight_files[] = { "unet", "vae", "text_encoder", "depth" };
static const char *const copied_files[] = { "model.json", "vocab.json", "merges.txt" };

static json_t *load(const char *model, const char *file)
{
    char path[512];
    json_error_t error;
    snprintf(path, sizeof(path), "%s/%s/%s", L2D_TEST_DATA, model, file);
    json_t *root = json_load_file(path, 0, &error);
    cr_assert_not_null(root, "%s: %s", path, error.text);
    return root;
}

// Tensor number row of weights.json: offset + scale * (2u - 1), rounded to f16.
static uint16_t *synthesise(uint32_t row, uint64_t count, float scale, float offset)
{
    uint16_t *value = malloc((count + 3) / 4 * 4 * sizeof(*value));
    cr_assert_not_null(value);
    for (uint64_t e = 0; e < count; e += 4) {
        uint32_t word[4];
        l2d_philox_block(word, (uint32_t[4]) { (uint32_t) (e >> 2) },
                         (uint32_t[2]) { row, WEIGHT_KEY });
        for (int i = 0; i < 4; i++) {
            float u = ldexpf((float) (word[i] >> 8), -24);
            value[e + (uint64_t) i] = l2d_half_from_f32(offset + scale * (2 * u - 1));
        }
    }
    return value;
}

static void write_weights(const struct golden_model *m, const json_t *recipe, const char *file)
{
    struct l2d_error err = { 0 };
    struct l2d_safetensors_entry *entry = calloc(json_array_size(recipe), sizeof(*entry));
    cr_assert_not_null(entry);
    size_t row, d, num = 0;
    const json_t *tensor, *dim;
    json_array_foreach(recipe, row, tensor) {
        if (strcmp(json_string_value(json_object_get(tensor, "file")), file) != 0)
            continue;
        struct l2d_safetensors_entry *e = &entry[num++];
        uint64_t count = 1;
        json_array_foreach(json_object_get(tensor, "shape"), d, dim)
            count *= e->dims[e->ndim++] = (uint64_t) json_integer_value(dim);
        e->name = json_string_value(json_object_get(tensor, "name"));
        e->dtype = L2D_SAFETENSORS_F16;
        e->size_bytes = 2 * count;
        e->data = synthesise((uint32_t) row, count,
                             (float) json_real_value(json_object_get(tensor, "scale")),
                             (float) json_real_value(json_object_get(tensor, "offset")));
    }
    if (num == 0 && strcmp(file, "depth") == 0) {   // which few models have
        free(entry);
        return;
    }
    cr_assert(num > 0);
    char path[128];
    snprintf(path, sizeof(path), "%s/%s.safetensors", m->dir, file);
    cr_assert_eq(l2d_safetensors_write(path, entry, num, &err), L2D_OK, "%s", err.msg);
    for (size_t i = 0; i < num; i++)
        free((void *) (uintptr_t) entry[i].data);
    free(entry);
}

static void copy_string(char *out, size_t size, const json_t *from, const char *key)
{
    const char *text = json_string_value(json_object_get(from, key));
    cr_assert(text && strlen(text) < size, "%s", key);
    strcpy(out, text);
}

static void read_case(struct golden_case *c, const json_t *o)
{
    *c = (struct golden_case) {
        .width = (int32_t) json_integer_value(json_object_get(o, "width")),
        .height = (int32_t) json_integer_value(json_object_get(o, "height")),
        .seed = (uint64_t) json_integer_value(json_object_get(o, "seed")),
        .num_frames = (uint32_t) json_integer_value(json_object_get(o, "frames")),
        .shared_noise = !strcmp(json_string_value(json_object_get(o, "noise")), "shared"),
    };
    const char *prediction = json_string_value(json_object_get(o, "prediction"));
    c->predicts_v = prediction && !strcmp(prediction, "v");
    static const char *const modes[] = { "none", "full", "self", "initialize" };    // as the enum
    const char *mode = json_string_value(json_object_get(o, "guidance_mode"));
    for (int m = 0; mode && m < 4; m++)
        if (!strcmp(mode, modes[m]))
            c->guidance_mode = m;
    c->guidance = json_number_value(json_object_get(o, "guidance"));
    c->guidance_delta = json_number_value(json_object_get(o, "guidance_delta"));
    const char *kv_cache = json_string_value(json_object_get(o, "kv_cache"));
    c->kv_int8 = kv_cache && !strcmp(kv_cache, "int8");
    if (mode)
        copy_string(c->negative, sizeof(c->negative), o, "negative");
    copy_string(c->name, sizeof(c->name), o, "name");
    copy_string(c->prompt, sizeof(c->prompt), o, "prompt");
    c->cut = (uint32_t) json_integer_value(json_object_get(o, "cut"));
    const char *at;
    const json_t *change;
    json_object_foreach(json_object_get(o, "changes"), at, change) {
        if (!json_object_get(change, "prompt"))
            continue;                   // re-warms are the engine's own affair
        cr_assert_eq(c->change.frame, 0);
        c->change.frame = (uint32_t) strtoul(at, NULL, 10);
        c->change.fade_frames = (uint32_t) json_integer_value(json_object_get(change, "fade"));
        copy_string(c->change.prompt, sizeof(c->change.prompt), change, "prompt");
    }
    if (json_object_get(o, "normalize"))
        copy_string(c->normalize, sizeof(c->normalize), o, "normalize");
    size_t i, len = 0;
    const json_t *index;
    json_array_foreach(json_object_get(o, "t_index_list"), i, index)
        len += (size_t) snprintf(c->steps + len, sizeof(c->steps) - len, "%s%d", i ? "," : "",
                                 (int) json_integer_value(index));
    snprintf(c->steps + len, sizeof(c->steps) - len, "/%d",
             (int) json_integer_value(json_object_get(o, "num_inference_steps")));
}

void golden_model_set(const struct golden_model *m, const struct golden_case *c)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/model.json", m->dir);
    json_t *config = load(m->name, "model.json");
    json_object_set_new(json_object_get(config, "scheduler"), "prediction",
                        json_string(c->predicts_v ? "v" : "epsilon"));
    if (c->normalize[0])
        json_object_set_new(json_object_get(config, "structure"), "normalize",
                            json_string(c->normalize));
    cr_assert_eq(unlink(path), 0);      // a link to the file of tests/data
    cr_assert_eq(json_dump_file(config, path, 0), 0, "%s", path);
    json_decref(config);
}

void golden_model_make(struct golden_model *m, const char *name)
{
    *m = (struct golden_model) { .num_cases = 0 };
    snprintf(m->name, sizeof(m->name), "%s", name);
    snprintf(m->dir, sizeof(m->dir), "/tmp/l2d_%s_XXXXXX", name);
    cr_assert_not_null(mkdtemp(m->dir));
    for (size_t i = 0; i < sizeof(copied_files) / sizeof(*copied_files); i++) {
        char from[512], to[128];
        snprintf(from, sizeof(from), "%s/%s/%s", L2D_TEST_DATA, name, copied_files[i]);
        snprintf(to, sizeof(to), "%s/%s", m->dir, copied_files[i]);
        cr_assert_eq(symlink(from, to), 0, "%s", to);
    }
    json_t *recipe = load(name, "weights.json");
    for (size_t i = 0; i < sizeof(weight_files) / sizeof(*weight_files); i++)
        write_weights(m, recipe, weight_files[i]);
    json_decref(recipe);

    json_t *cases = load(name, "cases.json");
    m->num_cases = (unsigned) json_array_size(cases);
    cr_assert(m->num_cases >= 1 && m->num_cases <= GOLDEN_MAX_CASES);
    for (unsigned i = 0; i < m->num_cases; i++)
        read_case(&m->cases[i], json_array_get(cases, i));
    json_decref(cases);
}

void golden_model_remove(struct golden_model *m)
{
    char path[128];
    for (size_t i = 0; i < sizeof(copied_files) / sizeof(*copied_files); i++) {
        snprintf(path, sizeof(path), "%s/%s", m->dir, copied_files[i]);
        unlink(path);
    }
    for (size_t i = 0; i < sizeof(weight_files) / sizeof(*weight_files); i++) {
        snprintf(path, sizeof(path), "%s/%s.safetensors", m->dir, weight_files[i]);
        unlink(path);
    }
    rmdir(m->dir);
}

const struct golden_case *golden_model_case(const struct golden_model *m, const char *name)
{
    for (unsigned i = 0; i < m->num_cases; i++)
        if (strcmp(m->cases[i].name, name) == 0)
            return &m->cases[i];
    cr_assert_fail("%s has no case %s", m->name, name);
    return NULL;
}

static int triangle(int n)              // n >= 0
{
    return abs(n % 510 - 255);
}

struct l2d_frame *golden_frame(uint32_t f, int32_t width, int32_t height)
{
    struct l2d_error err = { 0 };
    struct l2d_frame *frame = NULL;
    struct l2d_pixel_format format = l2d_pixel_format_rgba8();
    cr_assert_eq(l2d_frame_create(&frame, width, height, &format, &err), L2D_OK, "%s", err.msg);
    frame->pts = f;
    frame->duration = 1;
    frame->time_base_num = 1;
    frame->time_base_den = 25;
    int n = (int) f;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *at = frame->data + (uint32_t) y * frame->plane_stride_bytes[0] + 4 * x;
            bool inside = (x + 2 * n) % width < width / 4 && (y + n) % height < height / 4;
            for (int c = 0; c < 3; c++) {
                int v = (2 * triangle(4 * x + 2 * y + 9 * n + 80 * c) +
                         triangle(3 * x + 7 * y + 5 * n + 170 * c)) / 3;
                at[c] = (uint8_t) (inside ? 255 - v : v);
            }
            at[3] = 255;
        }
    return frame;
}

void golden_frame_set_scene(struct l2d_frame *frame, bool after)
{
    for (uint64_t i = 0; i < frame->size_bytes; i++)
        if (i % 4 != 3)
            frame->data[i] = (uint8_t) (after ? 255 - frame->data[i] / 2 : frame->data[i] / 2);
}
