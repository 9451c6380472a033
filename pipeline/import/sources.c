// SPDX-License-Identifier: Apache-2.0
// Which files a folder stands for. See sources.h.
#include "pipeline/import/sources.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Diffusers' names of a network's file, the safe kinds first.
static const char *const network_files[] = {
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.safetensors.index.json", "model.safetensors",
    "model.fp16.safetensors", "model.safetensors.index.json", "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin", "diffusion_pytorch_model.bin.index.json",
    "pytorch_model.bin", "pytorch_model.fp16.bin", "pytorch_model.bin.index.json",
};
#define NUM_NETWORK_FILES (sizeof(network_files) / sizeof(network_files[0]))

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

// Opens a file once, and puts it over what the network has so far.
static int add(struct l2d_sources *s, const char *path, const char *role, enum l2d_part network,
               enum l2d_part part, struct l2d_error *err)
{
    int32_t i = 0;
    while (i < s->num_sources && strcmp(l2d_checkpoint_path(s->source[i].file), path) != 0)
        i++;
    if (i == s->num_sources) {
        if (i == L2D_SOURCES_MAX_FILES)
            return l2d_error_set(err, L2D_EINVAL, "more than %d files", L2D_SOURCES_MAX_FILES);
        struct l2d_source *new = &s->source[i];
        *new = (struct l2d_source) { .role = role };
        int rc = l2d_checkpoint_open(&new->file, path, err);
        if (rc != L2D_OK)
            return l2d_error_wrap(err, rc, "%s", role);
        s->num_sources++;
        new->used = calloc(l2d_checkpoint_count(new->file) + 1, sizeof(*new->used));
        if (!new->used)
            return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    }
    s->layer[network][s->num_layers[network]].source = i;
    s->layer[network][s->num_layers[network]++].part = part;
    return L2D_OK;
}

// A network's file in a folder. required: else it may be absent.
static int add_from(struct l2d_sources *s, const char *folder, const char *role,
                    enum l2d_part network, bool required, struct l2d_error *err)
{
    char path[4096];
    for (size_t i = 0; i < NUM_NETWORK_FILES; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, network_files[i]);
        if (exists(path))
            return add(s, path, role, network, network, err);
    }
    return required ? l2d_error_set(err, L2D_EIO, "%s: %s: has no weights: none of %s, "
                                    "pytorch_model.bin and their like is there", role, folder,
                                    network_files[0])
                    : L2D_OK;
}

// The UNet, the text encoder and, unless there is another, the VAE of a folder or single file.
static int add_model(struct l2d_sources *s, const char *path, const char *role, bool required,
                     bool vae, struct l2d_error *err)
{
    char folder[4096];
    if (!is_folder(path)) {
        int rc = add(s, path, role, L2D_PART_UNET, L2D_PART_UNET, err);
        if (rc == L2D_OK && vae)
            rc = add(s, path, role, L2D_PART_VAE, L2D_PART_VAE, err);
        return rc == L2D_OK ? add(s, path, role, L2D_PART_TEXT, L2D_PART_TEXT, err) : rc;
    }
    snprintf(folder, sizeof(folder), "%.4000s/unet", path);
    int rc = add_from(s, folder, role, L2D_PART_UNET, required, err);
    snprintf(folder, sizeof(folder), "%.4000s/vae", path);
    if (rc == L2D_OK && vae)
        rc = add_from(s, folder, role, L2D_PART_VAE, required, err);
    snprintf(folder, sizeof(folder), "%.4000s/text_encoder", path);
    return rc == L2D_OK ? add_from(s, folder, role, L2D_PART_TEXT, required, err) : rc;
}

static int add_vae(struct l2d_sources *s, const char *path, struct l2d_error *err)
{
    static const char *const endings[] = { ".safetensors", ".pth" };
    char encoder[4096], decoder[4096];
    if (!is_folder(path))
        return add(s, path, "vae", L2D_PART_VAE, L2D_PART_VAE, err);
    for (int i = 0; i < 2; i++) {
        snprintf(encoder, sizeof(encoder), "%.4000s/taesd_encoder%s", path, endings[i]);
        snprintf(decoder, sizeof(decoder), "%.4000s/taesd_decoder%s", path, endings[i]);
        if (!exists(encoder) || !exists(decoder))
            continue;
        int rc = add(s, encoder, "vae", L2D_PART_VAE, L2D_PART_VAE_ENCODER, err);
        return rc == L2D_OK ? add(s, decoder, "vae", L2D_PART_VAE, L2D_PART_VAE_DECODER, err) : rc;
    }
    return add_from(s, path, "vae", L2D_PART_VAE, true, err);
}

static int find_tokenizer(struct l2d_sources *s, const struct l2d_import *import,
                          struct l2d_error *err)
{
    char folder[4096];
    if (import->tokenizer)
        snprintf(folder, sizeof(folder), "%.4000s", import->tokenizer);
    else if (is_folder(import->base))
        snprintf(folder, sizeof(folder), "%.4000s/tokenizer", import->base);
    else if (access(import->base, R_OK) != 0)
        return l2d_error_set(err, L2D_EIO, "%s: %s", import->base, strerror(errno));
    else
        return l2d_error_set(err, L2D_EINVAL, "%s: a single file has no vocabulary: give "
                             "--tokenizer FOLDER, with the vocab.json and merges.txt of any SD1.5 "
                             "model", import->base);
    snprintf(s->vocab, sizeof(s->vocab), "%.4000s/vocab.json", folder);
    snprintf(s->merges, sizeof(s->merges), "%.4000s/merges.txt", folder);
    if (!exists(s->vocab) || !exists(s->merges))
        return l2d_error_set(err, L2D_EIO, "tokenizer: %s: must have vocab.json and merges.txt",
                             folder);
    return L2D_OK;
}

static int add_motion(struct l2d_sources *s, const char *path, struct l2d_error *err)
{
    int rc = add(s, path, "motion", L2D_PART_UNET, L2D_PART_UNET, err);
    const struct l2d_checkpoint *file = rc == L2D_OK ? s->source[s->num_sources - 1].file : NULL;
    for (size_t i = 0; file && i < l2d_checkpoint_count(file); i++)
        if (strstr(l2d_checkpoint_get(file, i)->name, "motion_modules."))
            return L2D_OK;
    return file ? l2d_error_set(err, L2D_EFORMAT, "motion: %s: has no motion modules; is it "
                                "live2diff.ckpt?", path) : rc;
}

int l2d_sources_open(struct l2d_sources *s, const struct l2d_import *import, struct l2d_error *err)
{
    *s = (struct l2d_sources) { 0 };
    snprintf(s->unet_config, sizeof(s->unet_config), "%.4000s/unet/config.json", import->base);
    snprintf(s->text_config, sizeof(s->text_config), "%.4000s/text_encoder/config.json",
             import->base);
    int rc = find_tokenizer(s, import, err);
    if (rc == L2D_OK)
        rc = add_model(s, import->base, "base", true, !import->vae, err);
    if (rc == L2D_OK && import->motion)
        rc = add_motion(s, import->motion, err);
    if (rc == L2D_OK && import->dreambooth)
        rc = add_model(s, import->dreambooth, "dreambooth", false, !import->vae, err);
    if (rc == L2D_OK && import->vae)
        rc = add_vae(s, import->vae, err);
    if (rc == L2D_OK && import->depth)
        rc = add(s, import->depth, "depth", L2D_PART_DEPTH, L2D_PART_DEPTH, err);
    return rc;
}

void l2d_sources_finish(struct l2d_sources *s)
{
    for (int32_t i = 0; i < s->num_sources; i++) {
        l2d_checkpoint_close(&s->source[i].file);
        free(s->source[i].used);
    }
    s->num_sources = 0;
}

const struct l2d_checkpoint_tensor *l2d_sources_find(const struct l2d_sources *s,
                                                     enum l2d_part network, const char *name,
                                                     int32_t *source)
{
    for (int32_t i = s->num_layers[network]; i-- > 0;) {
        int32_t at = s->layer[network][i].source;
        const struct l2d_checkpoint_tensor *t =
            l2d_names_find(s->source[at].file, s->layer[network][i].part, name);
        if (t) {
            *source = at;
            return t;
        }
    }
    return NULL;
}
