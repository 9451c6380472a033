// SPDX-License-Identifier: Apache-2.0
// LoRAs of two by three weights, in every naming, against sums by hand.
#include "pipeline/import/lora.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tensor/safetensors.h"

static const float up[4] = { 1, 2, 3, 4 };              // [2][rank 2]
static const float down[6] = { 1, 0, -1, 2, 1, 0 };     // [rank 2][3]
static const float product[6] = { 5, 2, -1, 11, 4, -3 };
static const float alpha[1] = { 1 };
static char path[] = "/tmp/l2d_lora_XXXXXX";

static void make_path(void)
{
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
}

static void remove_path(void)
{
    unlink(path);
}

TestSuite(import_lora, .init = make_path, .fini = remove_path);

static void write_lora(const char *down_name, const char *up_name, const char *alpha_name)
{
    struct l2d_error err = { 0 };
    const struct l2d_safetensors_entry e[3] = {
        { down_name, L2D_SAFETENSORS_F32, 2, { 2, 3 }, down, sizeof(down) },
        { up_name, L2D_SAFETENSORS_F32, 2, { 2, 2 }, up, sizeof(up) },
        { alpha_name, L2D_SAFETENSORS_F32, 0, { 0 }, alpha, sizeof(alpha) },
    };
    cr_assert_eq(l2d_safetensors_write(path, e, alpha_name ? 3 : 2, &err), L2D_OK, "%s", err.msg);
}

#define ATTENTION "down_blocks.0.attentions.1.transformer_blocks.0.attn1"
#define KOHYA "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_"
#define LDM "lora_unet_input_blocks_2_1_transformer_blocks_0_attn1_"

Test(import_lora, names_and_factors)
{
    static const struct {
        const char *down, *up, *alpha, *module;
        enum l2d_part part;
        float scale;
        bool raw;
        float factor;
    } cases[] = {
        { KOHYA "to_q.lora_down.weight", KOHYA "to_q.lora_up.weight", KOHYA "to_q.alpha",
          ATTENTION ".to_q", L2D_PART_UNET, 1, false, 0.5f },
        { KOHYA "to_q.lora_down.weight", KOHYA "to_q.lora_up.weight", KOHYA "to_q.alpha",
          ATTENTION ".to_q", L2D_PART_UNET, 0.8f, true, 0.8f },
        { KOHYA "to_out_0.lora_down.weight", KOHYA "to_out_0.lora_up.weight", NULL,
          ATTENTION ".to_out.0", L2D_PART_UNET, -2, false, -2 },
        { LDM "to_k.lora_down.weight", LDM "to_k.lora_up.weight", LDM "to_k.alpha",
          ATTENTION ".to_k", L2D_PART_UNET, 1, false, 0.5f },
        { "unet." ATTENTION ".to_q.lora_A.weight", "unet." ATTENTION ".to_q.lora_B.weight", NULL,
          ATTENTION ".to_q", L2D_PART_UNET, 1, false, 1 },
        { "base_model.model." ATTENTION ".to_q.lora_A.weight",
          "base_model.model." ATTENTION ".to_q.lora_B.weight", NULL,
          ATTENTION ".to_q", L2D_PART_UNET, 0.25f, true, 0.25f },
        { "unet." ATTENTION ".to_q.lora.down.weight", "unet." ATTENTION ".to_q.lora.up.weight",
          NULL, ATTENTION ".to_q", L2D_PART_UNET, 1, false, 1 },
        { ATTENTION ".processor.to_out_lora.down.weight",
          ATTENTION ".processor.to_out_lora.up.weight", NULL,
          ATTENTION ".to_out.0", L2D_PART_UNET, 1, false, 1 },
        { "lora_te_text_model_encoder_layers_3_mlp_fc1.lora_down.weight",
          "lora_te_text_model_encoder_layers_3_mlp_fc1.lora_up.weight",
          "lora_te_text_model_encoder_layers_3_mlp_fc1.alpha", "encoder.layers.3.mlp.fc1",
          L2D_PART_TEXT, 1, false, 0.5f },
        { "text_encoder.text_model.encoder.layers.3.mlp.fc1.lora_linear_layer.down.weight",
          "text_encoder.text_model.encoder.layers.3.mlp.fc1.lora_linear_layer.up.weight", NULL,
          "encoder.layers.3.mlp.fc1", L2D_PART_TEXT, 1, false, 1 },
        { "text_encoder.text_model.encoder.layers.3.self_attn.to_out_lora.down.weight",
          "text_encoder.text_model.encoder.layers.3.self_attn.to_out_lora.up.weight", NULL,
          "encoder.layers.3.self_attn.out_proj", L2D_PART_TEXT, 1, false, 1 },
        { "text_encoder.text_model.encoder.layers.3.self_attn.to_q_lora.down.weight",
          "text_encoder.text_model.encoder.layers.3.self_attn.to_q_lora.up.weight", NULL,
          "encoder.layers.3.self_attn.q_proj", L2D_PART_TEXT, 1, false, 1 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct l2d_error err = { 0 };
        struct l2d_lora *lora = NULL;
        const char *first;
        bool applied;
        write_lora(cases[i].down, cases[i].up, cases[i].alpha);
        cr_assert_eq(l2d_lora_open(&lora, path, cases[i].scale, cases[i].raw, &err), L2D_OK, "%s",
                     err.msg);
        float weight[6] = { 1, 1, 1, 1, 1, 1 };
        cr_assert_eq(l2d_lora_add(lora, cases[i].part, "conv_in", weight, 2, 6, &applied, &err),
                     L2D_OK);
        cr_assert_not(applied);
        cr_assert_eq(l2d_lora_unused(lora, &first), cases[i].alpha ? 3 : 2);
        cr_assert_eq(l2d_lora_add(lora, cases[i].part, cases[i].module, weight, 2, 6, &applied,
                                  &err), L2D_OK, "%s", err.msg);
        cr_assert(applied, "case %zu", i);
        for (int k = 0; k < 6; k++)
            cr_assert_float_eq(weight[k], 1 + cases[i].factor * product[k], 1e-6, "case %zu", i);
        cr_assert_eq(l2d_lora_unused(lora, &first), 0, "case %zu: %s", i, first);
        cr_assert_null(first);
        l2d_lora_close(&lora);
        cr_assert_null(lora);
    }
}

// adapter_model.safetensors and adapter_config.json, in a folder.
Test(import_lora, peft_config)
{
    static const struct { const char *config; float factor; const char *want; } cases[] = {
        { "{\"lora_alpha\": 4, \"r\": 2}", 2, NULL },
        { "{\"lora_alpha\": 1, \"alpha_pattern\": {}, \"use_rslora\": false}", 0.5f, NULL },
        { "{\"lora_alpha\": 2, \"use_rslora\": true}", 1.41421356f, NULL },
        { NULL, 0, "adapter_config.json" },
        { "{\"r\": 2}", 0, "lora_alpha" },
        { "{\"lora_alpha\": \"2\"}", 0, "lora_alpha" },
        { "[", 0, "lora_alpha" },
        { "{\"lora_alpha\": 2, \"alpha_pattern\": {\"to_q\": 1}}", 0, "only one alpha" },
        { "{\"lora_alpha\": 2, \"use_dora\": true}", 0, "DoRA" },
    };
    char dir[] = "/tmp/l2d_peft_XXXXXX", model[64], config[64];
    const char *name = "base_model.model." ATTENTION ".to_q";
    char down_name[128], up_name[128];
    struct l2d_error err = { 0 };
    cr_assert_not_null(mkdtemp(dir));
    snprintf(model, sizeof(model), "%s/adapter_model.safetensors", dir);
    snprintf(config, sizeof(config), "%s/adapter_config.json", dir);
    snprintf(down_name, sizeof(down_name), "%s.lora_A.weight", name);
    snprintf(up_name, sizeof(up_name), "%s.lora_B.weight", name);
    write_lora(down_name, up_name, NULL);
    cr_assert_eq(rename(path, model), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct l2d_lora *lora = NULL;
        bool applied;
        float weight[6] = { 0 };
        unlink(config);
        FILE *f = cases[i].config ? fopen(config, "w") : NULL;
        if (f) {
            fputs(cases[i].config, f);
            fclose(f);
        }
        int rc = l2d_lora_open(&lora, model, 1, false, &err);
        if (cases[i].want) {
            cr_assert_neq(rc, L2D_OK, "case %zu", i);
            cr_assert(strstr(err.msg, cases[i].want) && strstr(err.msg, dir), "%s", err.msg);
            continue;
        }
        cr_assert_eq(rc, L2D_OK, "%s", err.msg);
        cr_assert_eq(l2d_lora_add(lora, L2D_PART_UNET, ATTENTION ".to_q", weight, 2, 6, &applied,
                                  &err), L2D_OK, "%s", err.msg);
        for (int k = 0; k < 6; k++)
            cr_assert_float_eq(weight[k], cases[i].factor * product[k], 1e-5, "case %zu", i);
        l2d_lora_close(&lora);
    }
    unlink(config);
    unlink(model);
    rmdir(dir);
}

Test(import_lora, refuses)
{
    static const struct { const char *down, *up, *want; } cases[] = {
        { KOHYA "to_q.hada_w1_a", KOHYA "to_q.hada_w1_b", "LoHa" },
        { KOHYA "to_q.lokr_w1", KOHYA "to_q.lokr_w2", "LoKr" },
        { KOHYA "to_q.lora_mid.weight", KOHYA "to_q.lora_up.weight", "CP-decomposed" },
        { KOHYA "to_q.dora_scale", KOHYA "to_q.lora_up.weight", "DoRA" },
        { "conv_in.weight", "conv_out.weight", "is no LoRA" },
    };
    struct l2d_error err = { 0 };
    struct l2d_lora *lora = NULL;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        write_lora(cases[i].down, cases[i].up, NULL);
        cr_assert_neq(l2d_lora_open(&lora, path, 1, false, &err), L2D_OK, "case %zu", i);
        cr_assert_null(lora);
        cr_assert(strstr(err.msg, cases[i].want) && strstr(err.msg, path), "%s", err.msg);
    }
    bool applied;
    float weight[12] = { 0 };
    write_lora(KOHYA "to_q.lora_down.weight", KOHYA "to_q.lora_up.weight", NULL);
    cr_assert_eq(l2d_lora_open(&lora, path, 1, false, &err), L2D_OK);
    cr_assert_eq(l2d_lora_add(lora, L2D_PART_UNET, ATTENTION ".to_q", weight, 3, 12, &applied,
                              &err), L2D_EFORMAT);      // another shape
    cr_assert(strstr(err.msg, "another model"), "%s", err.msg);
    l2d_lora_close(&lora);
    write_lora(KOHYA "to_q.lora_down.weight", KOHYA "to_k.lora_up.weight", NULL);
    cr_assert_eq(l2d_lora_open(&lora, path, 1, false, &err), L2D_OK);
    cr_assert_eq(l2d_lora_add(lora, L2D_PART_UNET, ATTENTION ".to_q", weight, 2, 6, &applied, &err),
                 L2D_EFORMAT);
    cr_assert(strstr(err.msg, "other half"), "%s", err.msg);
    l2d_lora_close(&lora);

    // No bytes, of a rank with which sizes are 0 in 64 bits.
    const struct l2d_safetensors_entry huge[2] = {
        { KOHYA "to_q.lora_down.weight", L2D_SAFETENSORS_F32, 2, { UINT64_C(1) << 62, 0 }, down,
          0 },
        { KOHYA "to_q.lora_up.weight", L2D_SAFETENSORS_F32, 2, { 4, 0 }, up, 0 },
    };
    cr_assert_eq(l2d_safetensors_write(path, huge, 2, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_lora_open(&lora, path, 1, false, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_lora_add(lora, L2D_PART_UNET, ATTENTION ".to_q", weight, 4, 12, &applied,
                              &err), L2D_EFORMAT);
    cr_assert(strstr(err.msg, "do not make a weight of 4x3"), "%s", err.msg);
    l2d_lora_close(&lora);
}
