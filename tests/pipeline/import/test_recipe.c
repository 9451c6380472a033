// SPDX-License-Identifier: Apache-2.0
// YAML files as the original has them, and what cannot be meant.
#include "pipeline/import/recipe.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/scheduler.h"

static char dir[] = "/tmp/l2d_recipe_XXXXXX";
static char config[128];

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    cr_assert_geq(fputs(text, f), 0);
    cr_assert_eq(fclose(f), 0);
}

static void make_dir(void)
{
    char path[128];
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/configs", dir);
    cr_assert_eq(mkdir(path, 0777), 0);
    snprintf(config, sizeof(config), "%s/configs/x.yaml", dir);
    write_file("model.safetensors", "");
    write_file("configs/lora.safetensors", "");
}

static void remove_dir(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(import_recipe, .init = make_dir, .fini = remove_dir);

Test(import_recipe, reads_the_originals_form)
{
    write_file("configs/base.yaml",
        "pretrained_model_path: \"model.safetensors\"\n"
        "motion_module_path: './model.safetensors'\n"
        "depth_model_path: './dpt_hybrid_384.pt'\n"
        "prompt_template: 'below {}'\n"
        "unet_additional_kwargs:\n  motion_module_resolutions      : [ 1,2,4,8 ]\n"
        "noise_scheduler_kwargs:\n  beta_schedule: \"linear\"\n  clip_sample:   False\n");
    write_file("configs/x.yaml",
        "base: \"base.yaml\"\n# a comment\n"
        "prompt: \"masterpiece, {}\"\n"
        "third_party_dict:\n"
        "  lora_list:\n    - lora: lora.safetensors\n      lora_alpha: 0.7\n"
        "  dreambooth: \"model.safetensors\"\n  clip_skip: 2\n"
        "  text_embedding_dict:\n    <cat>: lora.safetensors\n    'b: c': \"model.safetensors\"\n"
        "lcm_lora_path: lora.safetensors\n"
        "num_inference_steps: 4\nstrength: 0.6\n");
    struct l2d_error err = { 0 };
    struct l2d_recipe *recipe = NULL;
    cr_assert_eq(l2d_recipe_read(&recipe, config, &err), L2D_OK, "%s", err.msg);
    const struct l2d_import *import = l2d_recipe_import(recipe);
    cr_assert(strstr(import->base, "/configs/../model.safetensors"), "%s", import->base);
    cr_assert_str_eq(import->motion + strlen(dir), "/configs/.././model.safetensors");
    cr_assert_not_null(import->dreambooth);
    cr_assert_str_eq(import->prompt_template, "masterpiece, {}");      // as toonyou.yaml has it
    cr_assert_null(import->prompt);
    cr_assert_eq(import->clip_skip, 2);
    cr_assert_eq(import->num_loras, 2);
    cr_assert(import->lora[0].raw && import->lora[0].scale == 0.7f);
    cr_assert(!import->lora[1].raw && import->lora[1].scale == 1);
    cr_assert_eq(import->num_embeddings, 2);
    cr_assert_str_eq(import->embedding[0].token, "<cat>");
    cr_assert_str_eq(import->embedding[0].path + strlen(dir), "/configs/lora.safetensors");
    cr_assert_str_eq(import->embedding[1].token, "b: c");
    cr_assert_str_eq(import->name, "x");
    cr_assert_eq(import->num_inference_steps, 4);
    cr_assert_eq(import->num_steps, 2);
    cr_assert(import->t_index[0] == 2 && import->t_index[1] == 3);
    l2d_recipe_destroy(&recipe);
    cr_assert_null(recipe);
}

Test(import_recipe, refuses)
{
    static const struct { const char *text, *want; } cases[] = {
        { "", "is empty" },
        { "a: [", "is not YAML" },
        { "- 1", "expected keys with values" },
        { "prompt: x", "no pretrained_model_path" },
        { "promt: x", "x.yaml:1: 'promt' is not a key" },
        { "\n\nthird_party_dict:\n  loras: 1", "x.yaml:4: third_party_dict: 'loras' is not a key" },
        { "pretrained_model_path: nothing", "pretrained_model_path: nothing: No such file" },
        { "pretrained_model_path: [1]", "expected a text" },
        { "num_inference_steps: 51", "'51', expected a number of 1 to 50" },
        { "num_inference_steps: x", "'x', expected a number" },
        { "num_inference_steps: 4.5", "expected a whole number" },
        { "num_inference_steps: nan", "expected a number" },
        { "strength: 0", "expected a number" },
        { "t_index_list: 3", "expected a list" },
        { "t_index_list: [1,2,3,4,5,6,7,8,9]", "more than 8 steps" },
        { "strength: 0.6", "makes 30 steps a frame" },
        { "strength: 0.6\nt_index_list: [1]", "both strength and t_index_list" },
        { "third_party_dict:\n  clip_skip: -1", "clip_skip: is '-1'" },
        { "third_party_dict:\n  lora_list: 1", "lora_list: expected a list" },
        { "third_party_dict:\n  lora_list:\n    - lora_alpha: 1", "an entry without 'lora'" },
        { "third_party_dict:\n  text_embedding_dict:\n    a: b", "embedding_dict: b: No such" },
        { "third_party_dict:\n  text_embedding_dict: b", "expected words with files" },
        { "third_party_dict:\n  text_embedding_dict:\n    [a]: b", "expected a text" },
        { "noise_scheduler_kwargs:\n  beta_schedule: scaled_linear", "only linear" },
        { "base: x.yaml", "base: more than 4 files" },          // itself
        { "prompt: \"\\0\"", "expected a text" },
        { "? [a]\n: 1", "expected a text" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct l2d_error err = { 0 };
        struct l2d_recipe *recipe = NULL;
        write_file("configs/x.yaml", cases[i].text);
        cr_assert_neq(l2d_recipe_read(&recipe, config, &err), L2D_OK, "case %zu", i);
        cr_assert_null(recipe);
        cr_assert(strstr(err.msg, cases[i].want), "case %zu: %s", i, err.msg);
        for (const char *c = err.msg; *c; c++)
            cr_assert((unsigned char) *c >= 0x20, "case %zu: not one line", i);
    }
}

// Aliases must not blow a file up, nor deep nesting the stack.
Test(import_recipe, hostile_yaml, .timeout = 60)
{
    static char text[16384];
    struct l2d_error err = { 0 };
    struct l2d_recipe *recipe = NULL;
    size_t at = (size_t) sprintf(text, "a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 40; i++)
        at += (size_t) sprintf(text + at, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i,
                               i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    write_file("configs/x.yaml", text);
    cr_assert_neq(l2d_recipe_read(&recipe, config, &err), L2D_OK);
    memset(text, '[', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    write_file("configs/x.yaml", text);
    cr_assert_neq(l2d_recipe_read(&recipe, config, &err), L2D_OK);
    memset(text, '{', sizeof(text) - 1);
    write_file("configs/x.yaml", text);
    cr_assert_neq(l2d_recipe_read(&recipe, config, &err), L2D_OK);
}

// ---- the original's presets ---------------------------------------------------------------------

// The values of tests/data/presets, and the timesteps that the original takes for them.
static const struct preset {
    const char *name, *dreambooth, *lora;
    float scale;                            // without alpha/rank
    const char *template;                   // NULL: none
    int steps[L2D_MAX_STEPS];               // until 0
} presets[] = {
    { "disneyPixar", "disneyPixarCartoon_v10", NULL, 0,
      "masterpiece, best quality, intricate, print, pattern, {}", { 399, 279, 159 } },
    { "kFelted", "revAnimated_v2RebirthVAE", "kFeltedReV", 1,
      "masterpiece, best quality, felted, {},", { 499, 319, 139 } },
    { "kFelted_4", "revAnimated_v2RebirthVAE", "kFeltedReV", 1,
      "masterpiece, best quality, felted, {},", { 599, 459, 319, 179 } },
    { "moxin", "3Guofeng3_v34", "MoXinV1", 0.7f,
      "shukezouma, negative space, shuimobysim, official art,extremely detailed CG,unity 8k "
      "wallpaper,chinese ink painting, {}", { 399, 279, 159 } },
    { "origami", "helloartdoor_V122p", "ral-origami-sd15", 1,
      "(masterpiece),best quality, a origami paper of {}", { 399, 279, 159 } },
    { "pixart", "aziibpixelmix_v10", NULL, 0, "(masterpiece), best quality, {}", { 499, 259 } },
    { "toonyou", "toonyou_beta6", NULL, 0,
      "masterpiece, best quality, intricate, print, pattern, {}", { 499, 379, 259, 139 } },
    { "demo_felted", "revAnimated_v2RebirthVAE", "kFeltedReV", 1, NULL, { 399, 199 } },
    { "demo_arknight", "aziibpixelmix_v10", "kFeltedReV", 1, NULL, { 299, 199, 99 } },
};

// As the original's folder is: configs/, and models/ beside it, here with nothing in the files.
static void make_presets(void)
{
    char command[512], name[128];
    snprintf(command, sizeof(command), "cp %s/presets/*.yaml %s/configs && mkdir %s/models",
             L2D_TEST_DATA, dir, dir);
    cr_assert_eq(system(command), 0);
    for (size_t i = 0; i < sizeof(presets) / sizeof(*presets); i++) {
        snprintf(name, sizeof(name), "models/%s.safetensors", presets[i].dreambooth);
        write_file(name, "");
        snprintf(name, sizeof(name), "models/%s.safetensors", presets[i].lora);
        if (presets[i].lora)
            write_file(name, "");
    }
    write_file("models/stable-diffusion-v1-5", "");
    write_file("models/live2diff.ckpt", "");
    write_file("models/dpt_hybrid_384.pt", "");
}

static void check_path(const char *got, const char *name, const char *ending)
{
    char want[128], *found = realpath(got, NULL);
    snprintf(want, sizeof(want), "%s/models/%s%s", dir, name, ending);
    cr_assert(found && !strcmp(found, want), "%s is %s, not %s", got, found, want);
    free(found);
}

static void check_preset(const struct preset *p, const struct l2d_import *import)
{
    static const struct l2d_scheduler_config schedule = {
        .num_train_timesteps = 1000, .beta_start = 0.00085, .beta_end = 0.012,
    };
    struct l2d_schedule s;
    struct l2d_error err = { 0 };
    check_path(import->base, "stable-diffusion-v1-5", "");
    check_path(import->motion, "live2diff.ckpt", "");
    check_path(import->depth, "dpt_hybrid_384.pt", "");
    check_path(import->dreambooth, p->dreambooth, ".safetensors");
    cr_assert_eq(import->num_loras, p->lora ? 1 : 0, "%s", p->name);
    if (p->lora) {
        check_path(import->lora[0].path, p->lora, ".safetensors");
        cr_assert(import->lora[0].raw && import->lora[0].scale == p->scale, "%s", p->name);
    }
    cr_assert_eq(import->clip_skip, 2);
    cr_assert_str_eq(import->name, p->name);
    cr_assert_null(import->prompt);
    cr_assert(p->template ? import->prompt_template && !strcmp(import->prompt_template, p->template)
                          : !import->prompt_template, "%s", p->name);
    cr_assert_eq(l2d_schedule_init(&s, &schedule, import->t_index, import->num_steps,
                                   import->num_inference_steps, &err), L2D_OK, "%s", err.msg);
    for (int i = 0; i < L2D_MAX_STEPS; i++)
        cr_assert_eq(i < s.num_steps ? s.timestep[i] : 0, p->steps[i], "%s, step %d", p->name, i);
}

Test(import_recipe, presets)
{
    make_presets();
    for (size_t i = 0; i < sizeof(presets) / sizeof(*presets); i++) {
        struct l2d_recipe *recipe = NULL;
        struct l2d_error err = { 0 };
        snprintf(config, sizeof(config), "%s/configs/%s.yaml", dir, presets[i].name);
        cr_assert_eq(l2d_recipe_read(&recipe, config, &err), L2D_OK, "%s", err.msg);
        check_preset(&presets[i], l2d_recipe_import(recipe));
        l2d_recipe_destroy(&recipe);
    }
}
