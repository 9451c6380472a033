// SPDX-License-Identifier: Apache-2.0
// live2diff inspect: what a model folder holds, whether its parts are there and of the right
// shapes, and what memory it needs, in seconds and without taking any; a model.json alone is enough
// for that. With --load the folder is really loaded, so that what passes will run. Of any other
// file of weights: what it is, and how import takes it.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "inspect_file.h"
#include "model_options.h"
#include "model_path.h"
#include "pipeline/config.h"
#include "pipeline/engine.h"
#include "pipeline/models/model.h"
#include "tensor/safetensors.h"

#define MIB (1024.0 * 1024.0)

struct inspect_options {
    struct model_options model;
    int tensors, load;
};

#define AT(field) offsetof(struct inspect_options, field)
static const struct option_row rows[] = {
    MODEL_ROWS(struct inspect_options),
    { 't', "tensors", OPTION_FLAG, NULL, NULL, "list every tensor", AT(tensors), NULL },
    { 0, "load", OPTION_FLAG, NULL, NULL,
      "really load it onto the device: reads every weight, takes the memory, builds the shaders",
      AT(load), NULL },
};

static void print_list(const char *what, const int32_t *value, int32_t count)
{
    printf("%s", what);
    for (int32_t i = 0; i < count; i++)
        printf("%s%d", i ? "," : " ", value[i]);
}

static void print_config(const struct l2d_model_config *c)
{
    const struct l2d_unet_config *u = &c->unet;
    printf("%s (licence %s), %dx%d, sides in multiples of %d\n", c->name, c->license, c->width,
           c->height, l2d_model_config_align(c));
    printf("  prompt     \"%s\"\n", c->prompt);
    print_list("  unet       channels", u->block_out_channels, u->num_levels);
    printf(", %d layers per block, %d heads, %d latent channels%s\n", u->layers_per_block,
           u->num_attention_heads, u->in_channels, u->cond_mapping ? ", structure mapping" : "");
    printf("  motion     levels");
    for (int32_t i = 0; i < u->num_levels; i++)
        printf(" %s", u->motion[i] ? "yes" : "no");
    printf(", mid block %s, %d heads\n", u->motion_mid ? "yes" : "no",
           u->motion_kwargs.num_attention_heads);
    print_list("  vae        encoder", c->vae.enc_channels, c->vae.num_levels);
    print_list("; decoder", c->vae.dec_channels, c->vae.num_levels);
    printf("; patch %d\n", c->vae.patch);
    printf("  text       %d layers of %d, %d words, %d positions\n", c->text.num_hidden_layers,
           c->text.hidden_size, c->text.vocab_size, c->text.max_position_embeddings);
    print_list("  schedule   steps", c->scheduler.t_index, c->scheduler.num_steps);
    printf("/%d, %s noise\n", c->scheduler.num_inference_steps,
           c->scheduler.noise == L2D_NOISE_SHARED ? "shared" : "fresh");
    for (int32_t i = 0; i < c->num_loras; i++)
        printf("%s%s=%g%s", i ? ", " : "  loras      kept apart: ", c->lora[i].name,
               (double) c->lora[i].scale, i + 1 < c->num_loras ? "" : "\n");
}

static void print_tensor(const struct l2d_safetensors_entry *e)
{
    printf("    %-4s [", l2d_safetensors_dtype_str(e->dtype));
    for (int i = 0; i < e->ndim; i++)
        printf("%s%llu", i ? "," : "", (unsigned long long) e->dims[i]);
    printf("] %s\n", e->name);
}

static int print_weights(const char *folder, const char *file, bool tensors, struct l2d_error *err)
{
    char path[4096 + 64];
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    struct l2d_safetensors *st = NULL;
    int rc = l2d_safetensors_open(&st, path, err);
    if (rc != L2D_OK)
        return rc;
    uint64_t params = 0, bytes = 0;
    for (size_t i = 0; i < l2d_safetensors_count(st); i++) {
        const struct l2d_safetensors_entry *e = l2d_safetensors_get(st, i);
        params += e->size_bytes / l2d_safetensors_dtype_bytes(e->dtype);
        bytes += e->size_bytes;
    }
    printf("  %-26s %5zu tensors, %8.3f million parameters, %8.2f MB\n", file,
           l2d_safetensors_count(st), (double) params / 1e6, (double) bytes / 1e6);
    for (size_t i = 0; tensors && i < l2d_safetensors_count(st); i++)
        print_tensor(l2d_safetensors_get(st, i));
    l2d_safetensors_close(&st);
    return L2D_OK;
}

static void print_memory(const char *what, uint64_t bytes, const char *fmt, ...)
    L2D_PRINTF(3, 4);
static void print_memory(const char *what, uint64_t bytes, const char *fmt, ...)
{
    printf("    %-15s %10.1f MiB   ", what, (double) bytes / MIB);
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

static void print_needs(const struct l2d_engine_info *i, const struct l2d_gpu_caps *caps)
{
    const struct l2d_engine_memory *m = &i->memory;
    bool fits = m->peak <= caps->memory_bytes, binds = m->largest_operand <= caps->max_range_bytes;
    printf("  on %s, %s, %dx%d, %d step%s: %.2f GFLOP per frame, and of GPU memory\n", caps->name,
           i->precision == L2D_PRECISION_FP16 ? "fp16" : "fp32", i->width, i->height, i->num_steps,
           i->num_steps == 1 ? "" : "s", i->gflop_encode + i->gflop_unet + i->gflop_decode);
    print_memory("weights", m->weights, "all networks%s",
                 i->weight_type == L2D_WEIGHTS_INT8 ? ", the U-Net's in int8" : "");
    print_memory("KV cache", m->kv_cache, "%s, %d x %.1f, a denoising step%s",
                 l2d_engine_kv_str(i), m->kv_steps, (double) m->kv_cache / m->kv_steps / MIB,
                 m->kv_steps > i->num_steps ? "; the negative prompt has its own" : "");
    print_memory("activations", m->activations, "one block, which the networks use in turn");
    print_memory("other", m->other, "latents, keys of the prompt, pictures");
    print_memory("staging", m->staging, "between host and GPU");
    print_memory("peak", m->peak, "the device has %.0f MiB: %s", (double) caps->memory_bytes / MIB,
                 fits ? "it fits" : "it does not fit");
    print_memory("largest tensor", m->largest_operand, "the device binds %.0f MiB: %s",
                 (double) caps->max_range_bytes / MIB, binds ? "it fits" : "it does not fit");
    printf("    %-15s %10u       in a call of the UNet\n", "dispatches", i->dispatches_unet);
}

static void ignore_frame(void *user, struct l2d_frame *frame)
{
    (void) user;
    l2d_frame_unref(&frame);
}

static int show_needs(const struct inspect_options *o, const char *folder, struct l2d_error *err)
{
    struct l2d_gpu *gpu = NULL;
    struct l2d_engine *engine = NULL;
    struct l2d_engine_info info;
    struct l2d_engine_params params = model_engine_params(&o->model, folder);
    params.emit = ignore_frame;
    struct l2d_gpu_params device = model_gpu_params(&o->model, NULL);
    int rc = l2d_gpu_create(&gpu, &device, err);
    if (rc != L2D_OK)
        return rc;
    rc = l2d_engine_plan(&info, gpu, &params, err);
    if (rc == L2D_OK || rc == L2D_EGPUMEM)
        print_needs(&info, l2d_gpu_caps(gpu));
    if (rc == L2D_OK && o->load) {
        rc = l2d_engine_create(&engine, gpu, &params, err);
        if (rc == L2D_OK)
            printf("  loaded: %.1f MiB taken\n", (double) l2d_gpu_taken(gpu).peak_bytes / MIB);
    }
    l2d_engine_destroy(&engine);
    l2d_gpu_destroy(&gpu);
    if (rc != L2D_EGPUMEM || o->load)
        return rc;
    printf("  %s\n", err->msg);           // what was asked has been answered
    return L2D_OK;
}

static int inspect_all(const struct inspect_options *o, struct l2d_error *err)
{
    char folder[4096], path[4096 + 64];
    static struct l2d_model_config config;
    struct stat st;
    int rc = o->model.config
           ? model_path_import(folder, sizeof(folder), o->model.config, false, err)
           : model_path(folder, sizeof(folder), o->model.model, err);
    bool alone = rc == L2D_OK && l2d_model_is_description(folder);
    if (rc == L2D_OK && !alone && stat(folder, &st) != 0)
        return l2d_error_set(err, L2D_EIO, "%s: %s", folder, strerror(errno));
    if (rc == L2D_OK && !alone && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return l2d_error_set(err, L2D_EIO, "%s: neither a model folder nor a file", folder);
    if (rc == L2D_OK && !alone && S_ISREG(st.st_mode))
        return inspect_file(folder, o->tensors > 0, err);
    snprintf(path, sizeof(path), "%s%s", folder, alone ? "" : "/model.json");
    if (rc == L2D_OK)
        rc = l2d_model_config_read(&config, path, err);
    if (rc != L2D_OK)
        return rc;
    print_config(&config);
    static const char *const files[] = { "unet.safetensors", "vae.safetensors",
                                         "text_encoder.safetensors" };
    for (size_t i = 0; rc == L2D_OK && !alone && i < sizeof(files) / sizeof(files[0]); i++)
        rc = print_weights(folder, files[i], o->tensors > 0, err);
    for (int32_t i = 0; rc == L2D_OK && !alone && i < config.num_loras; i++) {
        char file[L2D_LORA_NAME_BYTES + 32];
        snprintf(file, sizeof(file), "lora.%s.safetensors", config.lora[i].name);
        rc = print_weights(folder, file, o->tensors > 0, err);
    }
    return rc == L2D_OK ? show_needs(o, folder, err) : rc;
}

static int inspect_main(int argc, char **argv)
{
    struct inspect_options options = { 0 };
    const char *folder = NULL;
    int code = options_parse(&command_inspect, argc, argv, &options, &folder);
    if (code >= 0)
        return code;
    code = model_options_check(&command_inspect, &options.model);
    if (code >= 0)
        return code;
    if (folder && (options.model.model || options.model.config))
        return options_complain(&command_inspect, "two models: '%s' and '%s'",
                                options.model.model ? options.model.model : options.model.config,
                                folder);
    if (folder && !*folder)
        return options_complain(&command_inspect, "the model has no name");
    if (folder)
        options.model.model = folder;
    struct l2d_error err = { 0 };
    int rc = inspect_all(&options, &err);
    fflush(stdout);
    if (rc != L2D_OK)
        fprintf(stderr, "live2diff: %s\n", err.msg);
    return rc == L2D_OK ? EXIT_OK : EXIT_FAILED;
}

const struct command command_inspect = {
    .name = "inspect", .synopsis = "[MODEL] [options]",
    .summary = "Check a model folder and show what it needs, or tell what a file of weights is.",
    .rows = rows, .num_rows = sizeof(rows) / sizeof(rows[0]), .operand = "MODEL",
    .main = inspect_main,
};
