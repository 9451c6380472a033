// SPDX-License-Identifier: Apache-2.0
// Scales of the LoRAs that a model keeps apart. Weights with other scales are computed on the host,
// from the model's files: that takes seconds for a large model and no memory of the GPU, so it can
// be begun on a thread of its own while frames go on. They come in their place between two frames,
// with nothing in flight, since the rows of a call have one set of weights.
#include <stdio.h>
#include <string.h>

#include "pipeline/engine_submission.h"

static const float *wanted(const struct l2d_engine *e)
{
    return e->loras.fused ? e->loras.next : e->loras.now;
}

const float *l2d_engine_loras(const struct l2d_engine *e)
{
    return wanted(e);
}

int l2d_engine_find_lora(const struct l2d_engine *e, const char *name, int32_t *index,
                         struct l2d_error *err)
{
    char names[L2D_MAX_LORAS * (L2D_LORA_NAME_BYTES + 2)] = "", shown[L2D_LORA_NAME_BYTES + 8];
    for (int32_t i = 0, n = 0; i < e->info.num_loras; i++) {
        if (name && !strcmp(name, e->info.lora[i].name)) {
            *index = i;
            return L2D_OK;
        }
        n += snprintf(names + n, sizeof(names) - (size_t) n, "%s%s", i ? ", " : "",
                      e->info.lora[i].name);
    }
    snprintf(shown, sizeof(shown), "%s", name ? name : "");
    l2d_error_printable(shown);
    if (e->info.num_loras == 0)
        return l2d_error_set(err, L2D_EINVAL, "lora %s: the model keeps none apart; import it with "
                             "--keep-lora", shown);
    return l2d_error_set(err, L2D_EINVAL, "lora %s: the model has none of that name, but %s", shown,
                         names);
}

int l2d_engine_check_lora(const struct l2d_engine *e, int32_t index, float scale,
                          struct l2d_error *err)
{
    if (scale >= -L2D_MAX_LORA_SCALE && scale <= L2D_MAX_LORA_SCALE)
        return L2D_OK;
    return l2d_error_set(err, L2D_EINVAL, "lora %s: a scale of %g is not within -%d..%d",
                         e->info.lora[index].name, (double) scale, L2D_MAX_LORA_SCALE,
                         L2D_MAX_LORA_SCALE);
}

int l2d_engine_init_loras(struct l2d_engine *e, const struct l2d_engine_params *p,
                          struct l2d_error *err)
{
    const struct l2d_model_config *c = &e->model->config;
    int rc = L2D_OK;
    e->info.num_loras = c->num_loras;
    memcpy(e->info.lora, c->lora, sizeof(e->info.lora));
    for (int32_t i = 0; i < L2D_MAX_LORAS && p->lora[i].name && rc == L2D_OK; i++) {
        int32_t index = 0;
        rc = l2d_engine_find_lora(e, p->lora[i].name, &index, err);
        if (rc == L2D_OK)
            rc = l2d_engine_check_lora(e, index, p->lora[i].scale, err);
        if (rc == L2D_OK)
            e->info.lora[index].scale = p->lora[i].scale;
    }
    for (int32_t i = 0; i < c->num_loras; i++)
        e->loras.now[i] = e->info.lora[i].scale;
    return rc;
}

// ---- beforehand, on another thread

static bool same(const float a[L2D_MAX_LORAS], const float b[L2D_MAX_LORAS])
{
    return memcmp(a, b, L2D_MAX_LORAS * sizeof(*a)) == 0;
}

static void fuse(void *arg)
{
    struct l2d_engine *e = arg;
    struct l2d_engine_loras *l = &e->loras;
    l->rc = l2d_weights_fuse(e->model->weights, l->foreseen, &l->cancel, &l->result, &l->error);
    atomic_store(&l->done, true);
}

void l2d_engine_forget_loras(struct l2d_engine *e)
{
    atomic_store(&e->loras.cancel, true);
    l2d_thread_join(&e->loras.thread);
    l2d_fused_destroy(&e->loras.result);
    l2d_fused_destroy(&e->loras.fused);
}

int l2d_engine_foresee_loras(struct l2d_engine *e, const float scale[L2D_MAX_LORAS],
                             struct l2d_error *err)
{
    struct l2d_engine_loras *l = &e->loras;
    if (e->info.num_loras == 0)
        return l2d_error_set(err, L2D_EINVAL, "the model keeps no LoRA apart");
    if (l->thread.running && same(scale, l->foreseen) && !atomic_load(&l->cancel))
        return L2D_OK;
    atomic_store(&l->cancel, true);
    l2d_thread_join(&l->thread);
    l2d_fused_destroy(&l->result);
    memcpy(l->foreseen, scale, sizeof(l->foreseen));
    atomic_store(&l->cancel, false);
    atomic_store(&l->done, false);
    return l2d_thread_start(&l->thread, "l2d-loras", fuse, e, err);
}

bool l2d_engine_is_foreseeing(const struct l2d_engine *e)
{
    return e->loras.thread.running && !atomic_load(&e->loras.done);
}

// ---- the change

// What was foreseen, if it is that; else it is computed now.
static int compute(struct l2d_engine *e, const float scale[L2D_MAX_LORAS],
                   struct l2d_fused **fused, struct l2d_error *err)
{
    struct l2d_engine_loras *l = &e->loras;
    if (!l->thread.running || !same(scale, l->foreseen) || atomic_load(&l->cancel)) {
        atomic_store(&l->cancel, true);
        return l2d_weights_fuse(e->model->weights, scale, NULL, fused, err);
    }
    l2d_thread_join(&l->thread);
    *fused = l->result;
    l->result = NULL;
    return l->rc == L2D_OK ? L2D_OK : l2d_error_set(err, l->rc, "%s", l->error.msg);
}

int l2d_loras_change(struct l2d_engine *e, const float scale[L2D_MAX_LORAS], struct l2d_error *err)
{
    struct l2d_fused *fused = NULL;
    int rc = L2D_OK;
    for (int32_t i = 0; i < e->info.num_loras && rc == L2D_OK; i++)
        rc = l2d_engine_check_lora(e, i, scale[i], err);
    if (rc != L2D_OK || same(scale, wanted(e)))
        return rc;
    if (!same(scale, e->loras.now))
        rc = compute(e, scale, &fused, err);
    if (rc != L2D_OK)
        return rc;
    l2d_fused_destroy(&e->loras.fused);
    e->loras.fused = fused;
    memcpy(e->loras.next, scale, sizeof(e->loras.next));
    return L2D_OK;
}

int l2d_loras_switch(struct l2d_engine *e, struct l2d_error *err)
{
    struct l2d_weights_changes changes = l2d_weights_changes(e->model->weights);
    int rc = l2d_engine_drain(e, err);
    if (rc == L2D_OK)
        rc = l2d_weights_put(e->model->weights, e->loras.fused, err);
    l2d_fused_destroy(&e->loras.fused);
    memcpy(e->loras.now, e->loras.next, sizeof(e->loras.now));
    if (rc == L2D_OK && changes.host)
        rc = l2d_engine_compute_step_bias(e, err);
    if (rc == L2D_OK && changes.host)
        rc = l2d_engine_use_steps(e, e->info.step_set, err);
    if (rc == L2D_OK && changes.unet)
        rc = l2d_engine_compute_positions(e, err);
    if (rc == L2D_OK)
        rc = l2d_words_renew(e, &e->prompt, changes.text_encoder, err);
    if (rc == L2D_OK && e->negative_prompt.kv)
        rc = l2d_words_renew(e, &e->negative_prompt, changes.text_encoder, err);
    if (e->warm_done && e->rewarm_from == L2D_REWARM_NOTHING)
        e->rewarm_from = L2D_REWARM_KEPT;
    return rc;
}
