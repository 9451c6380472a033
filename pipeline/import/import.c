// SPDX-License-Identifier: Apache-2.0
// Fusing: every tensor that the networks ask for is read, changed by the LoRAs, rounded once and
// written. See import.h.
#include "pipeline/import/import.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/half.h"
#include "pipeline/import/architecture.h"
#include "pipeline/import/embedding.h"
#include "pipeline/import/kept.h"
#include "pipeline/import/lora.h"
#include "pipeline/import/manifest.h"
#include "pipeline/import/sources.h"
#include "pipeline/models/clip_text.h"
#include "pipeline/models/codec.h"
#include "pipeline/models/dpt.h"
#include "pipeline/models/tokenizer.h"
#include "pipeline/models/unet.h"

#define MAX_TOKENIZER_BYTES (16 << 20)
#define MAX_SHOWN 240               // bytes of a name in a message

static const char *const network_files[L2D_NETWORKS] = {
    [L2D_PART_UNET] = "unet.safetensors", [L2D_PART_VAE] = "vae.safetensors",
    [L2D_PART_TEXT] = "text_encoder.safetensors", [L2D_PART_DEPTH] = "depth.safetensors",
};

struct wanted {                     // a tensor that goes into the folder
    char name[L2D_NAME_BYTES];
    uint64_t added_rows;            // which follow those of the source
    const struct l2d_checkpoint_tensor *tensor;
    int32_t source;
    bool exact;                     // as f32
};

struct job {
    const struct l2d_import *import;
    struct l2d_sources sources;
    struct l2d_lora *lora[L2D_IMPORT_MAX_LORAS];
    struct l2d_kept *kept;
    struct l2d_embedding embedding[L2D_IMPORT_MAX_EMBEDDINGS];
    int32_t num_added;              // vectors in all of these
    struct l2d_manifest manifest;
    struct l2d_model_config config;
    char folder[4096];              // the one that is being made
    void (*say)(void *user, const char *line);
    void *user;

    enum l2d_part network;          // of the list that is being made
    struct wanted *wanted;
    size_t num_wanted, cap_wanted;
    int rc;                         // sticks while a list is made
    struct l2d_error *err;
};

static void say(const struct job *job, const char *fmt, ...) L2D_PRINTF(2, 3);
static void say(const struct job *job, const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (job->say)
        job->say(job->user, line);
}

// ---- what a network asks for --------------------------------------------------------------------

static void want(void *user, const char *name, int ndim, const int64_t *dims, bool optional)
{
    struct job *job = user;
    if (job->rc != L2D_OK)
        return;
    if (job->num_wanted == job->cap_wanted) {
        size_t cap = job->cap_wanted ? 2 * job->cap_wanted : 2048;
        struct wanted *bigger = realloc(job->wanted, cap * sizeof(*bigger));
        if (!bigger) {
            job->rc = l2d_error_set(job->err, L2D_ENOMEM, "out of memory");
            return;
        }
        job->wanted = bigger;
        job->cap_wanted = cap;
    }
    struct wanted *w = &job->wanted[job->num_wanted];
    int64_t own[L2D_SAFETENSORS_MAX_DIMS];
    memcpy(own, dims, (size_t) ndim * sizeof(*own));
    w->added_rows = 0;
    if (job->network == L2D_PART_TEXT && !strcmp(name, "embeddings.token_embedding.weight"))
        w->added_rows = (uint64_t) job->num_added;
    own[0] -= (int64_t) w->added_rows;
    snprintf(w->name, sizeof(w->name), "%s", name);
    w->tensor = l2d_sources_find(&job->sources, job->network, name, &w->source);
    if (!w->tensor && optional)
        return;
    if (!w->tensor) {
        job->rc = l2d_error_set(job->err, L2D_EFORMAT, "%s: tensor %s is in none of the files",
                                network_files[job->network], name);
        return;
    }
    struct l2d_source *source = &job->sources.source[w->source];
    if (!l2d_safetensors_shape_fits(w->tensor->ndim, w->tensor->dims, ndim, own)) {
        job->rc = l2d_error_set(job->err, L2D_EFORMAT, "%s: tensor %s: is of another shape than "
                                "the rest of the model; is it for another kind of model?",
                                l2d_checkpoint_path(source->file), w->tensor->name);
        return;
    }
    job->num_wanted++;
}

// All sources that have a tensor of this name, and not only the last, were meant to be used.
static void mark_used(struct job *job, const char *name)
{
    struct l2d_sources *s = &job->sources;
    for (int32_t i = 0; i < s->num_layers[job->network]; i++) {
        struct l2d_source *source = &s->source[s->layer[job->network][i].source];
        const struct l2d_checkpoint_tensor *t =
            l2d_names_find(source->file, s->layer[job->network][i].part, name);
        if (t)
            source->used[t - l2d_checkpoint_get(source->file, 0)] = true;
    }
}

// The networks say themselves what they are made of.
static int list_network(struct job *job, enum l2d_part network)
{
    struct l2d_weights *ld = NULL;
    job->network = network;
    job->num_wanted = 0;
    job->rc = l2d_weights_create(&ld, NULL, L2D_F32, job->err);
    if (job->rc != L2D_OK)
        return job->rc;
    l2d_weights_list(ld, want, job);
    union {
        struct l2d_unet unet;
        struct l2d_codec vae;
        struct l2d_clip_text text;
        struct l2d_dpt depth;
    } *any = calloc(1, sizeof(*any));
    if (!any) {
        job->rc = l2d_error_set(job->err, L2D_ENOMEM, "out of memory");
    } else if (network == L2D_PART_UNET) {
        l2d_unet_load(&any->unet, ld, &job->config.unet);
        l2d_unet_finish(&any->unet);
    } else if (network == L2D_PART_TEXT) {
        l2d_clip_text_load(&any->text, ld, &job->config.text);
        l2d_clip_text_finish(&any->text);
    } else if (network == L2D_PART_VAE) {
        l2d_codec_load(&any->vae, ld, &job->config.vae);
    } else {
        l2d_dpt_load(&any->depth, ld, &job->config.depth.dpt);
    }
    l2d_weights_destroy(&ld);
    free(any);
    return job->rc;
}

static uint64_t num_elements(const struct wanted *w)
{
    return w->tensor->count + (w->added_rows ? w->added_rows * w->tensor->dims[1] : 0);
}

// ---- fusing -------------------------------------------------------------------------------------

// The name without its ending, if a LoRA could change such a tensor.
static bool module_of(const struct job *job, const struct wanted *w, char module[L2D_NAME_BYTES])
{
    size_t len = strlen(w->name), ending = strlen(".weight");
    if (len <= ending || strcmp(w->name + len - ending, ".weight") || w->tensor->ndim < 2 ||
        (job->network != L2D_PART_UNET && job->network != L2D_PART_TEXT))
        return false;
    snprintf(module, L2D_NAME_BYTES, "%.*s", (int) (len - ending), w->name);
    return true;
}

static bool is_added_to(struct job *job, const struct wanted *w, const char *module)
{
    struct l2d_lora_change change;
    struct l2d_error ignored;
    for (int i = 0; i < job->import->num_loras; i++) {
        bool found = false;
        if (!job->import->lora[i].keep &&
            l2d_lora_find(job->lora[i], job->network, module, w->tensor->dims[0],
                          w->tensor->count, &change, &found, &ignored) == L2D_OK && found)
            return true;
    }
    return false;
}

// A tensor that LoRAs change later loses nothing before.
static int look_at_kept(struct job *job, struct wanted *w)
{
    char module[L2D_NAME_BYTES], name[L2D_NAME_BYTES + 32];
    bool changed;
    if (!module_of(job, w, module))
        return L2D_OK;
    bool text = job->network == L2D_PART_TEXT;
    snprintf(name, sizeof(name), "%s.%s", text ? "text_encoder.text_model" : "unet", module);
    int rc = l2d_kept_look(job->kept, job->lora, job->network, module, name, w->tensor->dims[0],
                           w->tensor->count, &changed, job->err);
    if (rc == L2D_OK && changed)
        w->exact |= w->tensor->dtype != L2D_SAFETENSORS_F16 || is_added_to(job, w, module);
    return rc;
}

// values is the tensor as its file has it; afterwards with all that the LoRAs add.
static int add_loras(struct job *job, const struct wanted *w, float *values)
{
    char module[L2D_NAME_BYTES];
    if (!module_of(job, w, module))
        return L2D_OK;
    for (int i = 0; i < job->import->num_loras; i++) {
        bool applied;
        if (job->import->lora[i].keep)
            continue;
        int rc = l2d_lora_add(job->lora[i], job->network, module, values, w->tensor->dims[0],
                              w->tensor->count, &applied, job->err);
        if (rc != L2D_OK)
            return rc;
        if (applied)
            l2d_manifest_add_change(&job->manifest, network_files[job->network], w->name,
                                    job->import->lora[i].path);
    }
    return L2D_OK;
}

// Puts the textual inversions behind the words that there are.
static void add_embeddings(struct job *job, const struct wanted *w, float *values)
{
    float *to = values + w->tensor->count;
    for (int i = 0; i < job->import->num_embeddings; i++) {
        const struct l2d_embedding *e = &job->embedding[i];
        size_t count = (size_t) e->num_vectors * (size_t) e->width;
        memcpy(to, e->values, count * sizeof(*to));
        to += count;
        l2d_manifest_add_change(&job->manifest, network_files[job->network], w->name,
                                job->import->embedding[i].path);
    }
}

// Positions are added to everything, and few: they stay exact.
static bool stays_f32(const char *name)
{
    size_t len = strlen(name);
    return len > 3 && !strcmp(name + len - 3, ".pe");
}

// out: what is to be written, in values or in halves.
static int fuse(struct job *job, const struct wanted *w, float *values, uint16_t *halves,
                const void **out)
{
    struct l2d_source *source = &job->sources.source[w->source];
    int rc = l2d_checkpoint_read(source->file, w->tensor, values, job->err);
    if (rc != L2D_OK)
        return rc;
    l2d_manifest_add_tensor(&job->manifest, network_files[job->network], w->name,
                            l2d_checkpoint_path(source->file));
    rc = add_loras(job, w, values);
    if (w->added_rows > 0)
        add_embeddings(job, w, values);
    *out = w->exact ? (const void *) values : halves;
    for (uint64_t i = 0; i < num_elements(w) && rc == L2D_OK; i++) {
        halves[i] = l2d_half_from_f32(values[i]);
        if ((halves[i] & 0x7c00) == 0x7c00)
            rc = l2d_error_set(job->err, L2D_EFORMAT, "%s: tensor %s: the value %g is too large "
                               "for fp16", l2d_checkpoint_path(source->file), w->name,
                               (double) values[i]);
    }
    return rc;
}

static int write_network(struct job *job)
{
    uint64_t largest = 0, total = 0;
    struct l2d_safetensors_entry *entry = calloc(job->num_wanted + 1, sizeof(*entry));
    char *names = calloc(job->num_wanted + 1, L2D_NAME_BYTES + 16);
    int rc = entry && names ? L2D_OK : l2d_error_set(job->err, L2D_ENOMEM, "out of memory");
    for (size_t i = 0; i < job->num_wanted && rc == L2D_OK; i++) {
        struct wanted *w = &job->wanted[i];
        char *name = names + i * (L2D_NAME_BYTES + 16);
        w->exact = stays_f32(w->name);
        rc = look_at_kept(job, w);
        snprintf(name, L2D_NAME_BYTES + 16, "%s%s",
                 job->network == L2D_PART_TEXT ? "text_model." : "", w->name);
        enum l2d_safetensors_dtype dtype = w->exact ? L2D_SAFETENSORS_F32
                                                   : L2D_SAFETENSORS_F16;
        entry[i] = (struct l2d_safetensors_entry) {
            .name = name, .dtype = dtype, .ndim = w->tensor->ndim,
            .size_bytes = l2d_safetensors_dtype_bytes(dtype) * num_elements(w),
        };
        memcpy(entry[i].dims, w->tensor->dims, sizeof(entry[i].dims));
        entry[i].dims[0] += w->added_rows;
        largest = num_elements(w) > largest ? num_elements(w) : largest;
        total += num_elements(w);
        mark_used(job, w->name);
    }
    float *values = malloc((largest + 1) * sizeof(*values));
    uint16_t *halves = malloc((largest + 1) * sizeof(*halves));
    if (rc == L2D_OK && (!values || !halves))
        rc = l2d_error_set(job->err, L2D_ENOMEM, "out of memory");

    char path[sizeof(job->folder) + 64];
    struct l2d_safetensors_writer *writer = NULL;
    snprintf(path, sizeof(path), "%s/%s", job->folder, network_files[job->network]);
    if (rc == L2D_OK)
        rc = l2d_safetensors_writer_create(&writer, path, entry, job->num_wanted, job->err);
    for (size_t i = 0; i < job->num_wanted && rc == L2D_OK; i++) {
        const void *data;
        rc = fuse(job, &job->wanted[i], values, halves, &data);
        if (rc == L2D_OK)
            rc = l2d_safetensors_writer_put(writer, data, entry[i].size_bytes, job->err);
    }
    if (rc == L2D_OK)
        rc = l2d_safetensors_writer_end(writer, job->err);
    l2d_safetensors_writer_destroy(&writer);
    if (rc == L2D_OK)
        say(job, "%s: %zu tensors, %.1f million parameters", network_files[job->network],
            job->num_wanted, (double) total / 1e6);
    free(values);
    free(halves);
    free(entry);
    free(names);
    return rc;
}

// ---- the other files ----------------------------------------------------------------------------

static int write_model_json(struct job *job)
{
    char path[sizeof(job->folder) + 64];
    json_t *root = NULL;
    snprintf(path, sizeof(path), "%s/model.json", job->folder);
    int rc = l2d_architecture_infer(&root, &job->sources, job->import, job->num_added, job->err);
    json_t *loras = rc == L2D_OK ? l2d_kept_json(job->kept) : NULL;
    if (rc == L2D_OK && json_object_size(loras) == 0)
        json_decref(loras);
    else if (rc == L2D_OK && json_object_set_new(root, "loras", loras) != 0)
        rc = l2d_error_set(job->err, L2D_ENOMEM, "%s: out of memory", path);
    if (rc == L2D_OK && json_dump_file(root, path, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) != 0)
        rc = l2d_error_set(job->err, L2D_EIO, "%s: %s", path, strerror(errno));
    json_decref(root);
    if (rc == L2D_OK)
        rc = l2d_model_config_read(&job->config, path, job->err);
    return rc;
}

static int copy_file(struct job *job, const char *from, const char *name)
{
    char path[sizeof(job->folder) + 64], *data = NULL;
    size_t size;
    snprintf(path, sizeof(path), "%s/%s", job->folder, name);
    int rc = l2d_file_read(&data, &size, from, MAX_TOKENIZER_BYTES, job->err);
    if (rc != L2D_OK)
        return rc;
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size)
        rc = l2d_error_set(job->err, L2D_EIO, "%s: %s", path, strerror(errno));
    if (f && fclose(f) != 0 && rc == L2D_OK)
        rc = l2d_error_set(job->err, L2D_EIO, "%s: %s", path, strerror(errno));
    free(data);
    return rc;
}

// What its vectors are called, "word" and "word_1", with their ids; see tokenizer.h.
static int list_word(json_t *words, const struct l2d_embedding *e, int32_t id)
{
    size_t size = strlen(e->token) + 16;
    char *name = malloc(size);
    int rc = name ? 0 : -1;
    for (int32_t i = 0; i < e->num_vectors && rc == 0; i++) {
        snprintf(name, size, i ? "%s_%" PRId32 : "%s", e->token, i);
        rc = json_object_set_new(words, name, json_integer(id + i));
    }
    free(name);
    return rc;
}

static int check_embedding(const struct job *job, const struct l2d_embedding *e, const char *path)
{
    const struct l2d_text_config *text = &job->config.text;
    if (e->width != text->hidden_size)
        return l2d_error_set(job->err, L2D_EFORMAT, "%s: has vectors of %" PRId32 " numbers, the "
                             "text encoder of this model %" PRId32 "; is it for another kind of "
                             "model?", path, e->width, text->hidden_size);
    if (e->num_vectors > text->max_position_embeddings - 2)
        return l2d_error_set(job->err, L2D_EFORMAT, "%s: has %" PRId32 " vectors; a prompt of this "
                             "model has room for %" PRId32, path, e->num_vectors,
                             text->max_position_embeddings - 2);
    for (int32_t i = 0; i < e->num_vectors * e->width; i++)
        if ((l2d_half_from_f32(e->values[i]) & 0x7c00) == 0x7c00)
            return l2d_error_set(job->err, L2D_EFORMAT, "%s: the value %g is too large for fp16",
                                 path, (double) e->values[i]);
    return L2D_OK;
}

// The words of the textual inversions, behind those of the vocabulary.
static int write_words(struct job *job)
{
    char path[sizeof(job->folder) + 64];
    struct l2d_tokenizer *tokenizer = NULL;
    int32_t id = job->config.text.vocab_size - job->num_added;
    if (job->import->num_embeddings == 0)
        return L2D_OK;
    snprintf(path, sizeof(path), "%s/added_tokens.json", job->folder);
    json_t *words = json_object();
    int rc = l2d_tokenizer_create(&tokenizer, job->sources.vocab, job->sources.merges, job->err);
    for (int i = 0; i < job->import->num_embeddings && rc == L2D_OK; i++) {
        const struct l2d_embedding *e = &job->embedding[i];
        const char *from = job->import->embedding[i].path;
        char word[200];
        snprintf(word, sizeof(word), "%s", e->token);
        l2d_error_printable(word);
        rc = check_embedding(job, e, from);
        if (rc != L2D_OK)
            break;
        rc = l2d_tokenizer_add(tokenizer, e->token, id, e->num_vectors, job->err);
        if (rc != L2D_OK)
            rc = l2d_error_wrap(job->err, rc, "%s: its word '%s'", from, word);
        else if (list_word(words, e, id) != 0)
            rc = l2d_error_set(job->err, L2D_ENOMEM, "%s: out of memory", path);
        else
            say(job, "embedding: %s: '%s' is a word of %" PRId32 " vector%s", from, word,
                e->num_vectors, e->num_vectors == 1 ? "" : "s");
        id += e->num_vectors;
    }
    if (rc == L2D_OK && json_dump_file(words, path, JSON_INDENT(1)) != 0)
        rc = l2d_error_set(job->err, L2D_EIO, "%s: %s", path, strerror(errno));
    l2d_tokenizer_destroy(&tokenizer);
    json_decref(words);
    return rc;
}

static int write_manifest(struct job *job)
{
    char path[sizeof(job->folder) + 64];
    int rc = l2d_manifest_add_files(&job->manifest, &job->sources, job->import, job->err);
    snprintf(path, sizeof(path), "%s/manifest.json", job->folder);
    return rc == L2D_OK ? l2d_manifest_write(&job->manifest, path, job->err) : rc;
}

// A motion file with names that nothing asks for is not one of Live2Diff's. Elsewhere such names
// are usual (a VAE that is not needed, an EMA copy), but people shall know.
static int report_unused(struct job *job)
{
    for (int32_t i = 0; i < job->sources.num_sources; i++) {
        const struct l2d_source *s = &job->sources.source[i];
        size_t count = l2d_checkpoint_count(s->file), unused = 0;
        const char *first = NULL;
        for (size_t t = 0; t < count; t++) {
            const char *name = l2d_checkpoint_get(s->file, t)->name;
            bool known = s->used[t] || strstr(name, "position_ids") || strstr(name, "grid") ||
                         strstr(name, "flow_conv_in.") || !strcmp(s->role, "depth");
            if (!known && !unused++)
                first = name;
        }
        if (unused && !strcmp(s->role, "motion"))
            return l2d_error_set(job->err, L2D_EFORMAT, "%s: %zu tensors that no Live2Diff has, "
                                 "the first is %.*s; is it the right file?",
                                 l2d_checkpoint_path(s->file), unused, MAX_SHOWN, first);
        if (unused)
            say(job, "%s: %s, %s: %zu of %zu tensors used; not used, for instance: %.*s", s->role,
                l2d_checkpoint_path(s->file), l2d_checkpoint_kind(s->file), count - unused, count,
                MAX_SHOWN, first);
        else
            say(job, "%s: %s, %s: all %zu tensors used", s->role, l2d_checkpoint_path(s->file),
                l2d_checkpoint_kind(s->file), count);
    }
    for (int i = 0; i < job->import->num_loras; i++) {
        const char *first;
        size_t unused = l2d_lora_unused(job->lora[i], &first);
        if (unused)
            say(job, "lora: %s: %zu tensors have no place in this model, for instance: %.*s",
                job->import->lora[i].path, unused, MAX_SHOWN, first);
    }
    return L2D_OK;
}

static int fill_folder(struct job *job)
{
    int rc = l2d_sources_open(&job->sources, job->import, job->err);
    if (rc == L2D_OK)
        rc = l2d_kept_create(&job->kept, job->import, job->err);
    for (int i = 0; i < job->import->num_loras && rc == L2D_OK; i++)
        rc = l2d_lora_open(&job->lora[i], job->import->lora[i].path, job->import->lora[i].scale,
                           job->import->lora[i].raw, job->err);
    for (int i = 0; i < job->import->num_embeddings && rc == L2D_OK; i++) {
        rc = l2d_embedding_read(&job->embedding[i], job->import->embedding[i].path,
                                job->import->embedding[i].token, job->err);
        job->num_added += job->embedding[i].num_vectors;
    }
    if (rc == L2D_OK)
        rc = write_model_json(job);
    if (rc == L2D_OK)
        rc = write_words(job);
    bool moving = false;
    for (int32_t i = 0; i < job->config.unet.num_levels; i++)
        moving |= job->config.unet.motion[i];
    if (rc == L2D_OK && !moving)
        say(job, "no file has motion modules (--motion): every frame will be painted on its own");
    for (int n = 0; n < L2D_NETWORKS && rc == L2D_OK; n++) {
        if (n == L2D_PART_DEPTH && !job->import->depth)
            continue;
        rc = list_network(job, (enum l2d_part) n);
        if (rc == L2D_OK)
            rc = write_network(job);
    }
    if (rc == L2D_OK)
        rc = l2d_kept_write(job->kept, job->lora, job->folder, &job->manifest, job->say, job->user,
                            job->err);
    if (rc == L2D_OK)
        rc = report_unused(job);
    if (rc == L2D_OK)
        rc = copy_file(job, job->sources.vocab, "vocab.json");
    if (rc == L2D_OK)
        rc = copy_file(job, job->sources.merges, "merges.txt");
    return rc == L2D_OK ? write_manifest(job) : rc;
}

// Everything is on the disk before the folder gets its name: one that is there is whole, whatever
// happens to the machine.
static int sync_folder(const struct job *job)
{
    DIR *dir = opendir(job->folder);
    bool good = dir != NULL;
    for (struct dirent *e; good && (e = readdir(dir)) != NULL;) {
        int fd = e->d_name[0] == '.' ? dirfd(dir) : openat(dirfd(dir), e->d_name, O_RDONLY);
        good = fd >= 0 && fsync(fd) == 0;
        if (fd >= 0 && fd != dirfd(dir))
            close(fd);
    }
    int rc = good ? L2D_OK : l2d_error_set(job->err, L2D_EIO, "%s: %s", job->folder,
                                           strerror(errno));
    if (dir)
        closedir(dir);
    return rc;
}

void l2d_import_remove(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(dir), e->d_name, 0);
    if (dir)
        closedir(dir);
    rmdir(folder);
}

int l2d_import_write(const struct l2d_import *import, const char *folder,
                     void (*say_line)(void *user, const char *line), void *user,
                     struct l2d_error *err)
{
    if (!import->base)
        return l2d_error_set(err, L2D_EINVAL, "import: no base model was given");
    if (access(folder, F_OK) == 0)
        return l2d_error_set(err, L2D_EIO, "%s: exists; choose another folder or remove it",
                             folder);
    struct job *job = calloc(1, sizeof(*job));
    if (!job)
        return l2d_error_set(err, L2D_ENOMEM, "import: out of memory");
    *job = (struct job) { .import = import, .say = say_line, .user = user, .err = err };
    int rc = L2D_OK;
    if ((size_t) snprintf(job->folder, sizeof(job->folder), "%s.%ld.part", folder,
                          (long) getpid()) >= sizeof(job->folder))
        rc = l2d_error_set(err, L2D_EIO, "%.200s...: the path is too long", folder);
    else if (mkdir(job->folder, 0777) != 0)
        rc = l2d_error_set(err, L2D_EIO, "%s: %s", folder, strerror(errno));
    if (rc == L2D_OK) {
        rc = l2d_manifest_init(&job->manifest, err);
        if (rc == L2D_OK)
            rc = fill_folder(job);
        if (rc == L2D_OK)
            rc = sync_folder(job);
        if (rc == L2D_OK && rename(job->folder, folder) != 0)
            rc = l2d_error_set(err, L2D_EIO, "%s: %s", folder, strerror(errno));
        if (rc != L2D_OK)
            l2d_import_remove(job->folder);
    }
    l2d_kept_destroy(&job->kept);
    for (int i = 0; i < import->num_loras; i++)
        l2d_lora_close(&job->lora[i]);
    for (int i = 0; i < import->num_embeddings; i++)
        l2d_embedding_finish(&job->embedding[i]);
    l2d_manifest_finish(&job->manifest);
    l2d_sources_finish(&job->sources);
    free(job->wanted);
    free(job);
    return rc;
}
