// SPDX-License-Identifier: Apache-2.0
// See recipe.h. libyaml parses; tables of keys do the rest.
#include "pipeline/import/recipe.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#include "base/file.h"
#include "pipeline/scheduler.h"

#define MAX_FILE_BYTES (1 << 14)    // theirs have 2 KB; nesting costs the parser squares
#define MAX_STRINGS 256
#define MAX_BASES 4             // files that go over files
#define MAX_NAME 64             // of a model

struct l2d_recipe {
    struct l2d_import import;
    char *string[MAX_STRINGS];
    int num_strings;
    double strength;            // 0: not given
    char name[MAX_NAME + 1];
};

struct reader {                 // of one file
    const char *path;
    yaml_document_t doc;
    struct l2d_recipe *recipe;
    int rc;                     // sticks
    struct l2d_error *err;
};

static int read_file(struct l2d_recipe *recipe, const char *path, int depth, struct l2d_error *err);

static void fail(struct reader *r, const yaml_node_t *at, int code, const char *fmt, ...)
    L2D_PRINTF(4, 5);
static void fail(struct reader *r, const yaml_node_t *at, int code, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    l2d_error_printable(text);
    if (r->rc == L2D_OK)
        r->rc = l2d_error_set(r->err, code, "%s:%zu: %s", r->path, at->start_mark.line + 1, text);
}

// ---- values -------------------------------------------------------------------------------------

static const char *scalar(struct reader *r, const yaml_node_t *node, const char *key)
{
    if (node->type == YAML_SCALAR_NODE && !memchr(node->data.scalar.value, '\0',
                                                  node->data.scalar.length))
        return (const char *) node->data.scalar.value;
    fail(r, node, L2D_EFORMAT, "%s: expected a text or a number", key);
    return "";
}

static double number(struct reader *r, const yaml_node_t *node, const char *key, double min,
                     double max)
{
    const char *text = scalar(r, node, key);
    char *end;
    double value = strtod(text, &end);
    if (r->rc == L2D_OK && (!*text || *end || !(value >= min && value <= max)))
        fail(r, node, L2D_EFORMAT, "%s: is '%.60s', expected a number of %g to %g", key, text, min,
             max);
    return r->rc == L2D_OK ? value : min;
}

static int32_t integer(struct reader *r, const yaml_node_t *node, const char *key, int32_t min,
                       int32_t max)
{
    double value = number(r, node, key, min, max);
    if (value != (double) (int32_t) value)
        fail(r, node, L2D_EFORMAT, "%s: expected a whole number", key);
    return (int32_t) value;
}

// Keeps a copy as long as the recipe.
static const char *keep(struct reader *r, const char *text)
{
    struct l2d_recipe *recipe = r->recipe;
    char *copy = recipe->num_strings < MAX_STRINGS ? strdup(text) : NULL;
    if (!copy) {
        if (r->rc == L2D_OK)
            r->rc = l2d_error_set(r->err, L2D_ENOMEM, "%s: out of memory", r->path);
        return NULL;
    }
    recipe->string[recipe->num_strings++] = copy;
    return copy;
}

static const char *text(struct reader *r, const yaml_node_t *node, const char *key)
{
    return keep(r, scalar(r, node, key));
}

static const char *path(struct reader *r, const yaml_node_t *node, const char *key)
{
    const char *given = scalar(r, node, key), *slash = strrchr(r->path, '/');
    int folder = slash ? (int) (slash - r->path) + 1 : 0;
    static const char *const up[] = { "", "../" };
    struct stat st;
    char other[4096];
    if (stat(given, &st) == 0)
        return keep(r, given);
    for (int i = 0; i < 2 && *given != '/'; i++) {
        int n = snprintf(other, sizeof(other), "%.*s%s%s", folder, r->path, up[i], given);
        if (n < (int) sizeof(other) && stat(other, &st) == 0)
            return keep(r, other);
    }
    fail(r, node, L2D_EIO, "%s: %.400s: %s", key, given, strerror(ENOENT));
    return NULL;
}

// Of what may be given in another way: a path that leads nowhere is kept as it is.
static const char *path_if_there(struct reader *r, const yaml_node_t *node, const char *key)
{
    struct reader trial = *r;
    struct l2d_error ignored;
    trial.err = &ignored;
    const char *found = path(&trial, node, key);
    return found ? found : text(r, node, key);
}

// ---- keys ---------------------------------------------------------------------------------------

struct key {
    const char *name;
    void (*read)(struct reader *r, const yaml_node_t *node, const char *key);
};

// Calls the reader of each key of a mapping.
static void mapping(struct reader *r, const yaml_node_t *node, const char *name,
                    const struct key *keys, size_t num)
{
    if (node->type != YAML_MAPPING_NODE) {
        fail(r, node, L2D_EFORMAT, "%s: expected keys with values", name);
        return;
    }
    for (const yaml_node_pair_t *p = node->data.mapping.pairs.start;
         p < node->data.mapping.pairs.top && r->rc == L2D_OK; p++) {
        const yaml_node_t *k = yaml_document_get_node(&r->doc, p->key);
        const yaml_node_t *v = yaml_document_get_node(&r->doc, p->value);
        const char *key = scalar(r, k, name);
        size_t i = 0;
        while (i < num && strcmp(keys[i].name, key) != 0)
            i++;
        if (i < num)
            keys[i].read(r, v, key);
        else
            fail(r, k, L2D_EFORMAT, "%s%s'%.60s' is not a key that we know", name,
                 *name ? ": " : "", key);
    }
}

#define MAPPING(r, node, name, keys) mapping(r, node, name, keys, sizeof(keys) / sizeof((keys)[0]))

static void skip(struct reader *r, const yaml_node_t *node, const char *key)
{
    (void) r, (void) node, (void) key;
}

static void read_base_model(struct reader *r, const yaml_node_t *node, const char *key)
{
    r->recipe->import.base = path(r, node, key);
}

static void read_motion(struct reader *r, const yaml_node_t *node, const char *key)
{
    r->recipe->import.motion = path(r, node, key);
}

static void read_depth(struct reader *r, const yaml_node_t *node, const char *key)
{
    r->recipe->import.depth = path_if_there(r, node, key);
}

static void read_tiny_vae(struct reader *r, const yaml_node_t *node, const char *key)
{
    r->recipe->import.vae = path(r, node, key);
}

static void read_dreambooth(struct reader *r, const yaml_node_t *node, const char *key)
{
    r->recipe->import.dreambooth = path(r, node, key);
}

static void read_clip_skip(struct reader *r, const yaml_node_t *node, const char *key)
{
    r->recipe->import.clip_skip = integer(r, node, key, 0, 63);
}

static struct l2d_import_lora *last_lora(struct reader *r)
{
    return &r->recipe->import.lora[r->recipe->import.num_loras - 1];
}

static void read_lora_path(struct reader *r, const yaml_node_t *node, const char *key)
{
    last_lora(r)->path = path(r, node, key);
}

static void read_lora_alpha(struct reader *r, const yaml_node_t *node, const char *key)
{
    last_lora(r)->scale = (float) number(r, node, key, -100, 100);
}

static void add_lora(struct reader *r, const yaml_node_t *node, struct l2d_import_lora lora)
{
    struct l2d_import *import = &r->recipe->import;
    if (import->num_loras == L2D_IMPORT_MAX_LORAS)
        fail(r, node, L2D_EFORMAT, "more than %d LoRAs", L2D_IMPORT_MAX_LORAS);
    else
        import->lora[import->num_loras++] = lora;
}

// These were tuned with a factor that leaves alpha and rank out.
static void read_lora_list(struct reader *r, const yaml_node_t *node, const char *key)
{
    static const struct key keys[] = { { "lora", read_lora_path },
                                       { "lora_alpha", read_lora_alpha } };
    if (node->type != YAML_SEQUENCE_NODE) {
        fail(r, node, L2D_EFORMAT, "%s: expected a list", key);
        return;
    }
    for (const yaml_node_item_t *i = node->data.sequence.items.start;
         i < node->data.sequence.items.top && r->rc == L2D_OK; i++) {
        const yaml_node_t *lora = yaml_document_get_node(&r->doc, *i);
        add_lora(r, lora, (struct l2d_import_lora) { .scale = 1, .raw = true });
        if (r->rc == L2D_OK)
            MAPPING(r, lora, key, keys);
        if (r->rc == L2D_OK && !last_lora(r)->path)
            fail(r, lora, L2D_EFORMAT, "%s: an entry without 'lora'", key);
    }
}

static void read_lcm_lora(struct reader *r, const yaml_node_t *node, const char *key)
{
    add_lora(r, node, (struct l2d_import_lora) { .scale = 1, .path = path(r, node, key) });
}

// Word and file in turn.
static void read_embeddings(struct reader *r, const yaml_node_t *node, const char *key)
{
    struct l2d_import *import = &r->recipe->import;
    if (node->type != YAML_MAPPING_NODE) {
        fail(r, node, L2D_EFORMAT, "%s: expected words with files", key);
        return;
    }
    for (const yaml_node_pair_t *p = node->data.mapping.pairs.start;
         p < node->data.mapping.pairs.top && r->rc == L2D_OK; p++) {
        const yaml_node_t *k = yaml_document_get_node(&r->doc, p->key);
        if (import->num_embeddings == L2D_IMPORT_MAX_EMBEDDINGS) {
            fail(r, k, L2D_EFORMAT, "%s: more than %d", key, L2D_IMPORT_MAX_EMBEDDINGS);
            return;
        }
        struct l2d_import_embedding *e = &import->embedding[import->num_embeddings++];
        e->token = text(r, k, key);
        if (r->rc == L2D_OK)
            e->path = path(r, yaml_document_get_node(&r->doc, p->value), key);
    }
}

static void read_third_party(struct reader *r, const yaml_node_t *node, const char *key)
{
    static const struct key keys[] = {
        { "dreambooth", read_dreambooth }, { "lora_list", read_lora_list },
        { "clip_skip", read_clip_skip }, { "text_embedding_dict", read_embeddings },
        { "vae", skip },                // of the slow codec, which a stream does not use
    };
    MAPPING(r, node, key, keys);
}

static void check_beta_schedule(struct reader *r, const yaml_node_t *node, const char *key)
{
    if (strcmp(scalar(r, node, key), "linear") != 0)
        fail(r, node, L2D_EUNSUPPORTED, "%s: only linear is possible", key);
}

static void read_noise_scheduler(struct reader *r, const yaml_node_t *node, const char *key)
{
    static const struct key keys[] = {
        { "beta_schedule", check_beta_schedule }, { "num_train_timesteps", skip },
        { "beta_start", skip }, { "beta_end", skip }, { "steps_offset", skip },
        { "clip_sample", skip },
    };
    MAPPING(r, node, key, keys);
}

static void read_inference_steps(struct reader *r, const yaml_node_t *node, const char *key)
{
    r->recipe->import.num_inference_steps = integer(r, node, key, 1, L2D_MAX_INFERENCE_STEPS);
}

static void read_t_index_list(struct reader *r, const yaml_node_t *node, const char *key)
{
    struct l2d_import *import = &r->recipe->import;
    if (node->type != YAML_SEQUENCE_NODE) {
        fail(r, node, L2D_EFORMAT, "%s: expected a list", key);
        return;
    }
    import->num_steps = 0;
    for (const yaml_node_item_t *i = node->data.sequence.items.start;
         i < node->data.sequence.items.top && r->rc == L2D_OK; i++) {
        if (import->num_steps == L2D_MAX_STEPS)
            fail(r, node, L2D_EFORMAT, "%s: more than %d steps", key, L2D_MAX_STEPS);
        else
            import->t_index[import->num_steps++] =
                integer(r, yaml_document_get_node(&r->doc, *i), key, 0,
                        L2D_MAX_INFERENCE_STEPS - 1);
    }
}

static void read_strength(struct reader *r, const yaml_node_t *node, const char *key)
{
    r->recipe->strength = number(r, node, key, 1e-6, 1);
}

// In one of the original's files the template lies under this key.
static void read_prompt(struct reader *r, const yaml_node_t *node, const char *key)
{
    const char *prompt = text(r, node, key);
    if (prompt && strstr(prompt, "{}"))
        r->recipe->import.prompt_template = prompt;
    else
        r->recipe->import.prompt = prompt;
}

static void read_template(struct reader *r, const yaml_node_t *node, const char *key)
{
    r->recipe->import.prompt_template = text(r, node, key);
}

static void read_root(struct reader *r, const yaml_node_t *root)
{
    static const struct key keys[] = {
        { "base", skip },               // read before
        { "pretrained_model_path", read_base_model }, { "motion_module_path", read_motion },
        { "depth_model_path", read_depth }, { "unet_additional_kwargs", skip },
        { "noise_scheduler_kwargs", read_noise_scheduler },
        { "third_party_dict", read_third_party }, { "num_inference_steps", read_inference_steps },
        { "t_index_list", read_t_index_list }, { "strength", read_strength },
        { "prompt", read_prompt }, { "prompt_template", read_template },
        { "tiny_vae_path", read_tiny_vae }, { "lcm_lora_path", read_lcm_lora },
    };
    MAPPING(r, root, "", keys);
}

// ---- files --------------------------------------------------------------------------------------

static const yaml_node_t *find_key(struct reader *r, const yaml_node_t *root, const char *name)
{
    for (const yaml_node_pair_t *p = root->data.mapping.pairs.start;
         root->type == YAML_MAPPING_NODE && p < root->data.mapping.pairs.top; p++) {
        const yaml_node_t *k = yaml_document_get_node(&r->doc, p->key);
        if (k->type == YAML_SCALAR_NODE && !strcmp((const char *) k->data.scalar.value, name))
            return yaml_document_get_node(&r->doc, p->value);
    }
    return NULL;
}

static void read_document(struct reader *r, int depth)
{
    const yaml_node_t *root = yaml_document_get_root_node(&r->doc);
    const yaml_node_t *base = root ? find_key(r, root, "base") : NULL;
    if (!root) {
        r->rc = l2d_error_set(r->err, L2D_EFORMAT, "%s: is empty", r->path);
        return;
    }
    if (base && depth == MAX_BASES)
        fail(r, base, L2D_EFORMAT, "base: more than %d files over each other", MAX_BASES);
    const char *below = base && r->rc == L2D_OK ? path(r, base, "base") : NULL;
    if (below && r->rc == L2D_OK)
        r->rc = read_file(r->recipe, below, depth + 1, r->err);
    if (r->rc == L2D_OK)
        read_root(r, root);
}

static int read_file(struct l2d_recipe *recipe, const char *file, int depth, struct l2d_error *err)
{
    char *data = NULL;
    size_t size;
    struct reader r = { .path = file, .recipe = recipe, .err = err };
    yaml_parser_t parser;
    r.rc = l2d_file_read_pipe(&data, &size, file, MAX_FILE_BYTES, err);
    if (r.rc != L2D_OK)
        return r.rc;
    if (!yaml_parser_initialize(&parser)) {
        free(data);
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", file);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *) data, size);
    if (!yaml_parser_load(&parser, &r.doc)) {
        r.rc = l2d_error_set(err, L2D_EFORMAT, "%s:%zu: is not YAML: %s", file,
                             parser.problem_mark.line + 1,
                             parser.problem ? parser.problem : "unreadable");
    } else {
        read_document(&r, depth);
        yaml_document_delete(&r.doc);
    }
    yaml_parser_delete(&parser);
    free(data);
    return r.rc;
}

// The last `strength` of all steps: what the original makes of it.
static int apply_strength(struct l2d_recipe *recipe, const char *file, struct l2d_error *err)
{
    struct l2d_import *import = &recipe->import;
    int32_t total = import->num_inference_steps ? import->num_inference_steps : 50;
    if (recipe->strength == 0)
        return L2D_OK;
    if (import->num_steps > 0)
        return l2d_error_set(err, L2D_EFORMAT, "%s: has both strength and t_index_list", file);
    import->num_steps = (int32_t) (total * recipe->strength);
    if (import->num_steps < 1 || import->num_steps > L2D_MAX_STEPS)
        return l2d_error_set(err, L2D_EFORMAT, "%s: strength %g of %d steps makes %d steps a "
                             "frame; 1 to %d are possible", file, recipe->strength, total,
                             import->num_steps, L2D_MAX_STEPS);
    for (int32_t i = 0; i < import->num_steps; i++)
        import->t_index[i] = total - import->num_steps + i;
    return L2D_OK;
}

// The file's name without its ending, as far as a model's name may have its letters.
static const char *name_model(char name[MAX_NAME + 1], const char *file)
{
    const char *slash = strrchr(file, '/'), *stem = slash ? slash + 1 : file;
    const char *dot = strrchr(stem, '.');
    size_t len = dot ? (size_t) (dot - stem) : strlen(stem);
    snprintf(name, MAX_NAME + 1, "%.*s", (int) (len < MAX_NAME ? len : MAX_NAME), stem);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char) *c) && !strchr("._-", *c))
            *c = '-';
    return *name ? name : NULL;
}

int l2d_recipe_read(struct l2d_recipe **out, const char *file, struct l2d_error *err)
{
    struct l2d_recipe *recipe = calloc(1, sizeof(*recipe));
    if (!recipe)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", file);
    recipe->import.clip_skip = 1;           // the original's default
    recipe->import.name = name_model(recipe->name, file);
    int rc = read_file(recipe, file, 1, err);
    if (rc == L2D_OK)
        rc = apply_strength(recipe, file, err);
    if (rc == L2D_OK && !recipe->import.base)
        rc = l2d_error_set(err, L2D_EFORMAT, "%s: has no pretrained_model_path", file);
    if (rc != L2D_OK)
        l2d_recipe_destroy(&recipe);
    else
        *out = recipe;
    return rc;
}

void l2d_recipe_destroy(struct l2d_recipe **precipe)
{
    struct l2d_recipe *recipe = *precipe;
    *precipe = NULL;
    if (!recipe)
        return;
    for (int i = 0; i < recipe->num_strings; i++)
        free(recipe->string[i]);
    free(recipe);
}

const struct l2d_import *l2d_recipe_import(const struct l2d_recipe *recipe)
{
    return &recipe->import;
}
