// SPDX-License-Identifier: Apache-2.0
// Loading of a model folder. See model.h.
#include "pipeline/models/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 4096

static int read_config(struct l2d_model *m, const char *path, struct l2d_error *err)
{
    int rc = l2d_model_config_read(&m->config, path, err);
    if (rc != L2D_OK || !m->config.unet.motion_mid)
        return rc;
    return l2d_error_set(err, L2D_EUNSUPPORTED, "%s: unet.motion_module_mid_block: a motion "
                         "module in the mid block is not supported", path);
}

static void ignore(void *user, const char *name, int ndim, const int64_t *dims, bool optional)
{
    (void) user;
    (void) name;
    (void) ndim;
    (void) dims;
    (void) optional;
}

static void load_unet(struct l2d_model *m)
{
    l2d_weights_keep_bytes(m->weights, m->bytes);
    l2d_unet_load(&m->unet, m->weights, &m->config.unet);
    l2d_weights_keep_bytes(m->weights, false);
}

// The networks as model.json says they are, without their weights.
static int describe(struct l2d_model *m, const char *path, struct l2d_error *err)
{
    const struct l2d_model_config *c = &m->config;
    int rc = read_config(m, path, err);
    if (rc != L2D_OK)
        return rc;
    l2d_weights_list(m->weights, ignore, NULL);
    load_unet(m);
    l2d_codec_load(&m->vae, m->weights, &c->vae);
    l2d_clip_text_load(&m->text, m->weights, &c->text);
    if (c->structure == L2D_STRUCTURE_DEPTH)
        l2d_dpt_load(&m->depth, m->weights, &c->depth.dpt);
    return L2D_OK;
}

static int open_loras(struct l2d_model *m, const char *dir, struct l2d_error *err)
{
    float scale[L2D_MAX_LORAS] = { 0 };
    int rc = l2d_loras_open(&m->loras, dir, &m->config, err);
    if (rc != L2D_OK)
        return rc;
    for (int32_t i = 0; i < m->config.num_loras; i++)
        scale[i] = m->config.lora[i].scale;
    l2d_weights_set_loras(m->weights, m->loras);
    l2d_weights_scale_loras(m->weights, scale);
    return L2D_OK;
}

static int load(struct l2d_model *m, const char *dir, struct l2d_error *err)
{
    char path[PATH_BYTES], merges[PATH_BYTES], added[PATH_BYTES];
    const struct l2d_model_config *c = &m->config;
    snprintf(path, sizeof(path), "%s/model.json", dir);
    int rc = read_config(m, path, err);
    if (rc == L2D_OK && c->num_loras > 0)
        rc = open_loras(m, dir, err);
    if (rc != L2D_OK)
        return rc;

    snprintf(path, sizeof(path), "%s/vocab.json", dir);
    snprintf(merges, sizeof(merges), "%s/merges.txt", dir);
    rc = l2d_tokenizer_create(&m->tokenizer, path, merges, err);
    if (rc != L2D_OK)
        return rc;
    snprintf(added, sizeof(added), "%s/added_tokens.json", dir);
    bool has_added = access(added, F_OK) == 0;
    if (has_added)
        rc = l2d_tokenizer_read_added(m->tokenizer, added, err);
    if (rc != L2D_OK)
        return rc;
    if (l2d_tokenizer_num_ids(m->tokenizer) > c->text.vocab_size)
        return l2d_error_set(err, L2D_EFORMAT, "%s: has ids up to %d, but text.vocab_size of "
                             "model.json is %d", has_added ? added : path,
                             l2d_tokenizer_num_ids(m->tokenizer) - 1, c->text.vocab_size);

    snprintf(path, sizeof(path), "%s/unet.safetensors", dir);
    rc = l2d_weights_open_file(m->weights, path, "", err);
    if (rc != L2D_OK)
        return rc;
    load_unet(m);
    rc = l2d_weights_close_file(m->weights, err);
    if (rc != L2D_OK)
        return rc;

    snprintf(path, sizeof(path), "%s/vae.safetensors", dir);
    rc = l2d_weights_open_file(m->weights, path, "", err);
    if (rc != L2D_OK)
        return rc;
    l2d_codec_load(&m->vae, m->weights, &c->vae);
    rc = l2d_weights_close_file(m->weights, err);
    if (rc != L2D_OK)
        return rc;

    snprintf(path, sizeof(path), "%s/text_encoder.safetensors", dir);
    rc = l2d_weights_open_file(m->weights, path, "text_model.", err);
    if (rc != L2D_OK)
        return rc;
    l2d_clip_text_load(&m->text, m->weights, &c->text);
    rc = l2d_weights_close_file(m->weights, err);
    if (rc != L2D_OK || c->structure != L2D_STRUCTURE_DEPTH)
        return rc;

    snprintf(path, sizeof(path), "%s/depth.safetensors", dir);
    rc = l2d_weights_open_file(m->weights, path, "", err);
    if (rc != L2D_OK)
        return rc;
    l2d_dpt_load(&m->depth, m->weights, &c->depth.dpt);
    return l2d_weights_close_file(m->weights, err);
}

bool l2d_model_is_description(const char *path)
{
    struct stat st;
    size_t len = strlen(path);
    return len > 5 && !strcmp(path + len - 5, ".json") && stat(path, &st) == 0 &&
           S_ISREG(st.st_mode);
}

int l2d_model_create(struct l2d_model **out, const char *path, struct l2d_gpu *gpu,
                     enum l2d_dtype precision, bool bytes, struct l2d_error *err)
{
    struct stat st;
    bool alone = l2d_model_is_description(path);
    if (stat(path, &st) != 0)
        return l2d_error_set(err, L2D_EIO, "model %s: %s", path, strerror(errno));
    if ((!S_ISDIR(st.st_mode) && !alone) || strlen(path) > PATH_BYTES - 64)
        return l2d_error_set(err, L2D_EIO, "model %s: not a folder; a model is a folder with "
                             "model.json and its weights", path);
    struct l2d_model *m = calloc(1, sizeof(*m));
    if (!m)
        return l2d_error_set(err, L2D_ENOMEM, "model: out of memory");
    m->bytes = bytes;
    int rc = l2d_weights_create(&m->weights, gpu, precision, err);
    if (rc == L2D_OK)
        rc = alone ? describe(m, path, err) : load(m, path, err);
    if (rc == L2D_OK && m->loras)
        rc = l2d_loras_end(m->loras, err);
    if (rc == L2D_OK)
        rc = l2d_weights_place(m->weights, err);
    if (rc != L2D_OK) {
        l2d_model_destroy(&m);
        return l2d_error_wrap(err, rc, "loading the model");
    }
    *out = m;
    return L2D_OK;
}

void l2d_model_destroy(struct l2d_model **pm)
{
    struct l2d_model *m = *pm;
    *pm = NULL;
    if (!m)
        return;
    l2d_unet_finish(&m->unet);
    l2d_clip_text_finish(&m->text);
    l2d_tokenizer_destroy(&m->tokenizer);
    l2d_weights_destroy(&m->weights);
    l2d_loras_close(&m->loras);
    free(m);
}
