// SPDX-License-Identifier: Apache-2.0
// See lora.h.
#include "pipeline/import/lora.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "pipeline/models/loras.h"

#define MAX_CONFIG_BYTES (1u << 20)

typedef const struct l2d_checkpoint_tensor *tensor_ref;

struct l2d_lora {
    struct l2d_checkpoint *file;
    bool *used;                 // by index
    float scale;
    bool raw;
    float alpha;                // of all modules, from PEFT's adapter_config.json; 0: there is none
    bool root_of_rank;          // divided by: PEFT's "rsLoRA"
};

void l2d_lora_config_path(char *out, size_t size, const char *path)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, size, "%.*sadapter_config.json", slash ? (int) (slash - path) + 1 : 0, path);
}

// PEFT's own files have no alpha: it is in a file beside them.
static int read_peft_config(struct l2d_lora *l, struct l2d_error *err)
{
    const char *path = l2d_checkpoint_path(l->file);
    char config[4096], *text = NULL;
    size_t size = 0;
    l2d_lora_config_path(config, sizeof(config), path);
    int rc = l2d_file_read(&text, &size, config, MAX_CONFIG_BYTES, err);
    if (rc != L2D_OK)
        return l2d_error_wrap(err, rc, "%s: its alpha is in a file that shall lie beside it, else "
                              "give FILE:SCALE:raw with the SCALE times alpha / rank", path);
    json_error_t e;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &e);
    const json_t *alpha = json_object_get(root, "lora_alpha");
    free(text);
    if (!json_is_number(alpha) || !isfinite(json_number_value(alpha)))
        rc = l2d_error_set(err, L2D_EFORMAT, "%s: is not JSON with a number \"lora_alpha\"",
                           config);
    else if (json_object_size(json_object_get(root, "alpha_pattern")) > 0 ||
             json_is_true(json_object_get(root, "use_dora")))
        rc = l2d_error_set(err, L2D_EUNSUPPORTED, "%s: only one alpha for all modules, and no "
                           "DoRA, can be used", config);
    else
        l->alpha = (float) json_number_value(alpha);
    l->root_of_rank = json_is_true(json_object_get(root, "use_rslora"));
    json_decref(root);
    return rc;
}

int l2d_lora_open(struct l2d_lora **out, const char *path, float scale, bool raw,
                  struct l2d_error *err)
{
    static const struct { const char *part, *name; } others[] = {
        { "hada_", "LoHa" }, { "lokr_", "LoKr" }, { "lora_mid", "CP-decomposed" },
        { "dora_scale", "DoRA" }, { "lora_magnitude_vector", "DoRA" }, { "oft_", "OFT" },
    };
    struct l2d_lora *l = calloc(1, sizeof(*l));
    if (!l)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    *l = (struct l2d_lora) { .scale = scale, .raw = raw };
    int rc = l2d_checkpoint_open(&l->file, path, err);
    size_t count = rc == L2D_OK ? l2d_checkpoint_count(l->file) : 0, num_lora = 0;
    bool peft = false;
    for (size_t i = 0; i < count && rc == L2D_OK; i++) {
        const char *name = l2d_checkpoint_get(l->file, i)->name;
        for (size_t k = 0; k < sizeof(others) / sizeof(others[0]) && rc == L2D_OK; k++)
            if (strstr(name, others[k].part))
                rc = l2d_error_set(err, L2D_EUNSUPPORTED, "%s: is a %s file (%s); only plain LoRA "
                                   "can be used", path, others[k].name, name);
        num_lora += strstr(name, "lora") != NULL;
        peft |= !strncmp(name, "base_model.model.", strlen("base_model.model."));
    }
    if (rc == L2D_OK && num_lora == 0)
        rc = l2d_error_set(err, L2D_EFORMAT, "%s: is no LoRA: no tensor has \"lora\" in its name",
                           path);
    if (rc == L2D_OK && peft && !raw)
        rc = read_peft_config(l, err);
    if (rc == L2D_OK && !(l->used = calloc(count + 1, sizeof(*l->used))))
        rc = l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    if (rc != L2D_OK)
        l2d_lora_close(&l);
    else
        *out = l;
    return rc;
}

void l2d_lora_close(struct l2d_lora **pl)
{
    struct l2d_lora *l = *pl;
    *pl = NULL;
    if (!l)
        return;
    l2d_checkpoint_close(&l->file);
    free(l->used);
    free(l);
}

static tensor_ref find(struct l2d_lora *l, const char *base, const char *ending)
{
    char name[2 * L2D_NAME_BYTES + 64];
    snprintf(name, sizeof(name), "%s%s", base, ending);
    tensor_ref t = l2d_checkpoint_find(l->file, name);
    if (t)
        l->used[t - l2d_checkpoint_get(l->file, 0)] = true;
    return t;
}

struct change {
    tensor_ref down, up, alpha;
};

static bool find_endings(struct l2d_lora *l, const char *base, struct change *c)
{
    static const struct { const char *down, *up; } endings[] = {
        { ".lora_down.weight", ".lora_up.weight" },
        { ".lora_A.weight", ".lora_B.weight" },
        { ".lora_A.default.weight", ".lora_B.default.weight" },
        { ".lora.down.weight", ".lora.up.weight" },
        { ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight" },
        { "_lora.down.weight", "_lora.up.weight" },         // with old_name
    };
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        c->down = find(l, base, endings[i].down);
        c->up = find(l, base, endings[i].up);
        if (c->down || c->up) {
            c->alpha = find(l, base, ".alpha");
            return true;
        }
    }
    return false;
}

// "attn1.to_out.0" is "attn1.processor.to_out" in diffusers' first files, and "self_attn.q_proj"
// "self_attn.to_q".
static void old_name(char out[L2D_NAME_BYTES], const char *module)
{
    const char *to = strstr(module, ".to_"), *text = strstr(module, "self_attn.");
    size_t len = strlen(module), end = strlen("_proj");
    *out = '\0';
    if (text && len > end && !strcmp(module + len - end, "_proj")) {
        text += strlen("self_attn.");
        snprintf(out, L2D_NAME_BYTES, "%.*sto_%.*s", (int) (text - module), module,
                 (int) (module + len - end - text), text);
    }
    if (!to)
        return;
    snprintf(out, L2D_NAME_BYTES, "%.*s.processor%s", (int) (to - module), module, to);
    char *number = strstr(out, ".to_out.0");
    if (number)
        number[strlen(".to_out")] = '\0';
}

static bool find_change(struct l2d_lora *l, enum l2d_part part, const char *module,
                        struct change *c)
{
    static const char *const kohya[] = { [L2D_PART_UNET] = "lora_unet_",
                                         [L2D_PART_TEXT] = "lora_te_text_model_" };
    static const char *const dotted[][4] = {
        [L2D_PART_UNET] = { "unet.", "", "base_model.model.", "diffusion_model." },
        [L2D_PART_TEXT] = { "text_encoder.text_model.", "text_model.",
                            "base_model.model.text_model.", "text_encoder." },
    };
    char base[2 * L2D_NAME_BYTES], other[L2D_NAME_BYTES];
    size_t prefix = (size_t) snprintf(base, sizeof(base), "%s%s", kohya[part], module) -
                    strlen(module);
    for (char *ch = base + prefix; *ch; ch++)
        *ch = *ch == '.' ? '_' : *ch;
    if (find_endings(l, base, c))
        return true;
    old_name(other, module);
    for (int i = 0; i < 4; i++) {
        snprintf(base, sizeof(base), "%s%s", dotted[part][i], module);
        if (find_endings(l, base, c))
            return true;
        snprintf(base, sizeof(base), "%s%s", dotted[part][i], other);
        if (*other && find_endings(l, base, c))
            return true;
    }
    // Kohya's scripts for LDM's own names.
    char name[L2D_NAME_BYTES];
    snprintf(name, sizeof(name), "%s.weight", module);
    if (part == L2D_PART_UNET && l2d_names_ldm_unet(other, name)) {
        other[strlen(other) - strlen(".weight")] = '\0';
        prefix = (size_t) snprintf(base, sizeof(base), "lora_unet_%s", other) - strlen(other);
        for (char *ch = base + prefix; *ch; ch++)
            *ch = *ch == '.' ? '_' : *ch;
        return find_endings(l, base, c);
    }
    return false;
}

static int read_factor(struct l2d_lora *l, tensor_ref alpha_of_module, uint64_t rank, float *factor,
                       struct l2d_error *err)
{
    float alpha = l->alpha ? l->alpha : (float) rank;
    float by = l->root_of_rank ? sqrtf((float) rank) : (float) rank;
    int rc = alpha_of_module ? l2d_checkpoint_read(l->file, alpha_of_module, &alpha, err) : L2D_OK;
    *factor = l->raw ? 1 : alpha / by;
    return rc;
}

int l2d_lora_find(struct l2d_lora *l, enum l2d_part part, const char *module, uint64_t cout,
                  uint64_t num_elements, struct l2d_lora_change *out, bool *found,
                  struct l2d_error *err)
{
    const char *path = l2d_checkpoint_path(l->file);
    struct change c = { NULL, NULL, NULL };
    *found = find_change(l, part, module, &c);
    if (!*found)
        return L2D_OK;
    if (!c.down || !c.up)
        return l2d_error_set(err, L2D_EFORMAT, "%s: %s: has its lora_%s but not its other half",
                             path, module, c.down ? "down" : "up");
    uint64_t rank = c.down->ndim > 0 ? c.down->dims[0] : 0, inner = num_elements / cout;
    if (rank == 0 || rank > UINT32_MAX || c.up->count != cout * rank ||
        c.down->count != rank * inner || c.up->dims[0] != cout || (c.alpha && c.alpha->count != 1))
        return l2d_error_set(err, L2D_EFORMAT, "%s: %s: has %" PRIu64 " and %" PRIu64 " values of "
                             "rank %" PRIu64 ", which do not make a weight of %" PRIu64 "x%" PRIu64
                             "; is it for another model?", path, module, c.up->count, c.down->count,
                             rank, cout, inner);
    *out = (struct l2d_lora_change) { .up = c.up, .down = c.down, .rank = rank, .inner = inner };
    return read_factor(l, c.alpha, rank, &out->factor, err);
}

int l2d_lora_read(struct l2d_lora *l, const struct l2d_checkpoint_tensor *tensor, float **out,
                  struct l2d_error *err)
{
    *out = malloc(tensor->count * sizeof(**out));
    return *out ? l2d_checkpoint_read(l->file, tensor, *out, err)
                : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", l2d_checkpoint_path(l->file));
}

int l2d_lora_add(struct l2d_lora *l, enum l2d_part part, const char *module, float *weight,
                 uint64_t cout, uint64_t num_elements, bool *applied, struct l2d_error *err)
{
    struct l2d_lora_change c;
    int rc = l2d_lora_find(l, part, module, cout, num_elements, &c, applied, err);
    if (rc != L2D_OK || !*applied)
        return rc;
    float *up = NULL, *down = NULL;
    rc = l2d_lora_read(l, c.up, &up, err);
    if (rc == L2D_OK)
        rc = l2d_lora_read(l, c.down, &down, err);
    if (rc == L2D_OK)
        l2d_loras_add_product(weight, up, down, cout, c.rank, c.inner, l->scale * c.factor);
    free(up);
    free(down);
    return rc;
}

size_t l2d_lora_unused(const struct l2d_lora *l, const char **first)
{
    size_t unused = 0;
    *first = NULL;
    for (size_t i = 0; i < l2d_checkpoint_count(l->file); i++)
        if (!l->used[i] && !unused++)
            *first = l2d_checkpoint_get(l->file, i)->name;
    return unused;
}
