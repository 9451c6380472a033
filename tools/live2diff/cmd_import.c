// SPDX-License-Identifier: Apache-2.0
// live2diff import: makes a model folder of checkpoints as people have them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "pipeline/import/import.h"
#include "pipeline/import/recipe.h"
#include "pipeline/scheduler.h"

struct import_options {
    const char *config, *output;
    const char *base, *motion, *dreambooth, *vae, *depth, *tokenizer;
    int depth_range, prediction;
    const char *name, *prompt, *template, *steps;
    uint64_t clip_skip;
    int clip_skip_given;
    struct option_size size;
    struct l2d_import_lora lora[L2D_IMPORT_MAX_LORAS];
    int num_loras;
    struct l2d_import_embedding embedding[L2D_IMPORT_MAX_EMBEDDINGS];
    int num_embeddings;
    char *copy[L2D_IMPORT_MAX_LORAS + L2D_IMPORT_MAX_EMBEDDINGS];       // of the paths
    int num_copies;
};

// FILE[:SCALE[:raw]]. A colon in a path needs a scale behind it.
static const char *add_lora(void *options, const char *value)
{
    struct import_options *o = options;
    if (o->num_loras == L2D_IMPORT_MAX_LORAS)
        return "too many; 32 are possible";
    struct l2d_import_lora *lora = &o->lora[o->num_loras];
    char *path = o->copy[o->num_copies++] = strdup(value);
    if (!path)
        return "out of memory";
    o->num_loras++;
    *lora = (struct l2d_import_lora) { .path = path, .scale = 1 };
    size_t len = strlen(path);
    if (len > 4 && !strcmp(path + len - 4, ":raw")) {
        lora->raw = true;
        path[len - 4] = '\0';
    }
    char *colon = strrchr(path, ':'), *end = NULL;
    if (!colon)
        return NULL;
    lora->scale = strtof(colon + 1, &end);
    if (end == colon + 1 || *end || !(lora->scale >= -100 && lora->scale <= 100))
        return "expected FILE, FILE:SCALE or FILE:SCALE:raw, the scale a number of -100 to 100";
    *colon = '\0';
    return NULL;
}

static const char *keep_lora(void *options, const char *value)
{
    struct import_options *o = options;
    const char *why = add_lora(options, value);
    if (!why)
        o->lora[o->num_loras - 1].keep = true;
    return why;
}

// FILE[:WORD]. A colon in a path needs a word behind it.
static const char *add_embedding(void *options, const char *value)
{
    struct import_options *o = options;
    if (o->num_embeddings == L2D_IMPORT_MAX_EMBEDDINGS)
        return "too many; 32 are possible";
    char *path = o->copy[o->num_copies++] = strdup(value);
    if (!path)
        return "out of memory";
    char *colon = strrchr(path, ':');
    if (colon)
        *colon = '\0';
    o->embedding[o->num_embeddings++] = (struct l2d_import_embedding) {
        .path = path, .token = colon ? colon + 1 : NULL };
    return !*path || (colon && !colon[1]) ? "expected FILE or FILE:WORD" : NULL;
}

static const char *set_clip_skip(void *options, const char *value)
{
    struct import_options *o = options;
    char *end;
    o->clip_skip = strtoull(value, &end, 10);
    o->clip_skip_given = 1;
    return *value >= '0' && *value <= '9' && !*end && o->clip_skip < 64
         ? NULL : "expected a whole number of 0 to 63";
}

#define AT(field) offsetof(struct import_options, field)
static const struct option_row rows[] = {
    { 'o', "output", OPTION_TEXT, "FOLDER", NULL, "the model folder to make; must not exist",
      AT(output), NULL },
    { 'c', "config", OPTION_TEXT, "FILE", NULL,
      "one of the original Live2Diff's YAML files; options go over what it says", AT(config),
      NULL },
    { 0, "base", OPTION_TEXT, "PATH", NULL,
      "Stable Diffusion 1.5: a diffusers folder, or a single .safetensors or .ckpt file", AT(base),
      NULL },
    { 0, "motion", OPTION_TEXT, "FILE", NULL, "live2diff.ckpt", AT(motion), NULL },
    { 0, "dreambooth", OPTION_TEXT, "PATH", NULL, "a style's full model, a file or a folder",
      AT(dreambooth), NULL },
    { 0, "lora", OPTION_CALL, "FILE:SCALE", NULL,
      "add a LoRA, several in turn; FILE:SCALE:raw leaves alpha/rank out, as the original's "
      "presets do", 0, add_lora },
    { 0, "keep-lora", OPTION_CALL, "FILE:SCALE", NULL,
      "a LoRA that is not added but left apart, so that lora.NAME can change its scale while a run "
      "goes on; SCALE is the default, NAME the file's", 0, keep_lora },
    { 0, "embedding", OPTION_CALL, "FILE:WORD", NULL,
      "add a textual inversion as a word of prompts; several in turn; FILE alone: the word is what "
      "the file says, else the file's name", 0, add_embedding },
    { 0, "vae", OPTION_TEXT, "PATH", NULL,
      "TAESD, which is quick: a file, or the folder with its two halves; or an AutoencoderKL; "
      "default: the model's own, which is slow", AT(vae), NULL },
    { 0, "depth", OPTION_TEXT, "FILE|none", NULL,
      "dpt_hybrid_384.pt, the depth network that live2diff.ckpt was trained with", AT(depth),
      NULL },
    { 0, "depth-range", OPTION_CHOICE, "smooth|frame", "smooth",
      "the range of depths follows slowly, or is each frame's own, as in the original",
      AT(depth_range), NULL },
    { 0, "tokenizer", OPTION_TEXT, "FOLDER", NULL,
      "vocab.json and merges.txt; default: the base folder's", AT(tokenizer), NULL },
    { 0, "prediction", OPTION_CHOICE, "epsilon|v", "epsilon",
      "what the base was trained to predict; v only where its author says so", AT(prediction),
      NULL },
    { 0, "clip-skip", OPTION_CALL, "N", NULL,
      "last layers of the text encoder left out, as diffusers counts; default: the config's, or 0",
      0, set_clip_skip },
    { 'p', "prompt", OPTION_TEXT, "TEXT", NULL, "the model's default prompt", AT(prompt), NULL },
    { 0, "prompt-template", OPTION_TEXT, "TEXT", NULL, "what every prompt goes into, at its {}",
      AT(template), NULL },
    { 0, "steps", OPTION_STEPS, "I,J/TOTAL", NULL,
      "the model's denoising steps; default: the config's, or 30,36,42/50", AT(steps), NULL },
    { 's', "size", OPTION_SIZE, "WxH", "512x512", "the model's default size", AT(size), NULL },
    { 0, "name", OPTION_TEXT, "NAME", NULL, "of the model; default: the output folder's",
      AT(name), NULL },
};

static void print_line(void *user, const char *line)
{
    (void) user;
    printf("%s\n", line);
}

static int set_steps(struct l2d_import *import, const char *text, struct l2d_error *err)
{
    int rc = l2d_schedule_parse(text, import->t_index, &import->num_steps,
                                &import->num_inference_steps, err);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "--steps %s", text);
}

static int import_all(const struct import_options *o, struct l2d_error *err)
{
    struct l2d_recipe *recipe = NULL;
    struct l2d_import import = { 0 };
    char folder[4096];
    int rc = o->config ? l2d_recipe_read(&recipe, o->config, err) : L2D_OK;
    if (recipe)
        import = *l2d_recipe_import(recipe);
    const struct { const char *given, **at; } texts[] = {
        { o->base, &import.base }, { o->motion, &import.motion },
        { o->dreambooth, &import.dreambooth }, { o->vae, &import.vae },
        { o->tokenizer, &import.tokenizer }, { o->prompt, &import.prompt },
        { o->template, &import.prompt_template },
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].given)
            *texts[i].at = texts[i].given;
    if (o->depth)
        import.depth = strcmp(o->depth, "none") ? o->depth : NULL;
    import.predicts_v = o->prediction == 1;
    import.depth_by_frame = o->depth_range == 1;
    for (int i = 0; i < o->num_loras && rc == L2D_OK; i++) {
        if (import.num_loras == L2D_IMPORT_MAX_LORAS)
            rc = l2d_error_set(err, L2D_EINVAL, "more than %d LoRAs", L2D_IMPORT_MAX_LORAS);
        else
            import.lora[import.num_loras++] = o->lora[i];
    }
    for (int i = 0; i < o->num_embeddings && rc == L2D_OK; i++) {
        if (import.num_embeddings == L2D_IMPORT_MAX_EMBEDDINGS)
            rc = l2d_error_set(err, L2D_EINVAL, "more than %d textual inversions",
                               L2D_IMPORT_MAX_EMBEDDINGS);
        else
            import.embedding[import.num_embeddings++] = o->embedding[i];
    }
    if (o->clip_skip_given)
        import.clip_skip = (int32_t) o->clip_skip;
    import.width = o->size.width;
    import.height = o->size.height;
    if (rc == L2D_OK && o->steps)
        rc = set_steps(&import, o->steps, err);

    snprintf(folder, sizeof(folder), "%.4000s", o->output);
    for (size_t len = strlen(folder); len > 1 && folder[len - 1] == '/'; len--)
        folder[len - 1] = '\0';
    const char *slash = strrchr(folder, '/');
    import.name = o->name ? o->name : slash ? slash + 1 : folder;
    if (rc == L2D_OK)
        rc = l2d_import_write(&import, folder, print_line, NULL, err);
    if (rc == L2D_OK)
        printf("%s: run it with live2diff run -m %s\n", folder, folder);
    l2d_recipe_destroy(&recipe);
    return rc;
}

static int import_main(int argc, char **argv)
{
    struct import_options options = { 0 };
    int code = options_parse(&command_import, argc, argv, &options, NULL);
    if (code < 0 && !options.output)
        code = options_complain(&command_import, "where shall the model go? Give -o FOLDER");
    if (code < 0 && !options.config && !options.base)
        code = options_complain(&command_import, "what shall be imported? Give --config FILE or "
                                "--base PATH");
    if (code < 0) {
        struct l2d_error err = { 0 };
        int rc = import_all(&options, &err);
        fflush(stdout);
        if (rc != L2D_OK)
            fprintf(stderr, "live2diff: %s\n", err.msg);
        code = rc == L2D_OK ? EXIT_OK : EXIT_FAILED;
    }
    for (int i = 0; i < options.num_copies; i++)
        free(options.copy[i]);
    return code;
}

const struct command command_import = {
    .name = "import", .synopsis = "--config FILE | --base PATH [options] -o FOLDER",
    .summary = "Make a model folder of Stable Diffusion, Live2Diff and LoRA files.",
    .notes = "The files are read as they are: diffusers folders, single .safetensors and .ckpt\n"
             "files, in any precision. Nothing in them is executed. manifest.json in the new\n"
             "folder tells what came from where.\n",
    .rows = rows, .num_rows = sizeof(rows) / sizeof(rows[0]), .main = import_main,
};
