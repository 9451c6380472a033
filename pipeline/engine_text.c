// SPDX-License-Identifier: Apache-2.0
// From a prompt's text to the keys and values that cross attention reads. The text tower runs once
// for each part of a blend; weights, the mix and a fade from one prompt to the next are the host's,
// as the embedding is small. Every frame keeps the words that it began with: keys and values have a
// row for each frame in flight, and move up with the frames for as long as rows differ.
#include "pipeline/engine_submission.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "pipeline/prompt.h"

#define SHOWN_BYTES 60                  // of the text that did not fit

// ---- buffers and graphs

static size_t embedding_count(const struct l2d_engine *e)
{
    const struct l2d_text_config *c = &e->model->config.text;
    return (size_t) c->max_position_embeddings * (size_t) c->hidden_size;
}

// The text tower's result, one text's: [1,1,tokens,hidden].
static struct l2d_tensor context_of(const struct l2d_engine *e)
{
    const struct l2d_text_config *c = &e->model->config.text;
    return l2d_tensor_view(e->context, 0, e->precision, 1, 1, c->max_position_embeddings,
                           c->hidden_size);
}

// Keys and values of so many prompts, of all transformers in one buffer.
static int declare_kv(struct l2d_engine *e, struct l2d_buf **buf, struct l2d_tensor *kv,
                      int32_t rows, struct l2d_error *err)
{
    const struct l2d_unet *u = &e->model->unet;
    int32_t channels[L2D_UNET_MAX_TRANSFORMERS];
    uint64_t size = 0;
    l2d_unet_transformer_channels(u, channels);
    for (int32_t i = 0; i < u->num_transformers; i++) {
        kv[i] = l2d_tensor_view(NULL, size, e->precision, rows, 1,
                                e->model->config.text.max_position_embeddings, 2 * channels[i]);
        size += l2d_buf_align(l2d_tensor_bytes(&kv[i]));
    }
    int rc = l2d_engine_declare(e, buf, size, L2D_MEMORY_DEVICE, "text kv", err);
    for (int32_t i = 0; i < u->num_transformers && rc == L2D_OK; i++)
        kv[i].buf = *buf;
    return rc;
}

static int declare_shared(struct l2d_engine *e, struct l2d_error *err)
{
    uint64_t size = embedding_count(e) * l2d_dtype_bytes(e->precision);
    if (e->context)
        return L2D_OK;
    int rc = l2d_engine_declare(e, &e->text_in, size, L2D_MEMORY_DEVICE, "text in", err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->context, size, L2D_MEMORY_DEVICE, "text context", err);
    return rc;
}

int l2d_words_declare(struct l2d_engine *e, struct l2d_engine_words *w, const char *what,
                      struct l2d_unet_state *state, int32_t rows, struct l2d_error *err)
{
    size_t count = embedding_count(e);
    w->what = what;
    w->rows = rows;
    w->from = calloc(count, sizeof(float));
    w->to = calloc(count, sizeof(float));
    w->now = calloc(count, sizeof(float));
    int rc = w->from && w->to && w->now ? declare_shared(e, err)
                                        : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", what);
    if (rc == L2D_OK)
        rc = declare_kv(e, &w->kv, state->text_kv, rows, err);
    if (rc == L2D_OK)
        rc = declare_kv(e, &w->sinks_kv, w->sinks_text_kv, 1, err);
    for (uint32_t i = 0; i < e->num_slots && rc == L2D_OK; i++)
        rc = l2d_engine_declare(e, &w->staged[i], e->context->size_bytes, L2D_MEMORY_UPLOAD,
                                "staged text", err);
    return rc;
}

static int build_tower(struct l2d_engine *e, struct l2d_error *err)
{
    if (e->text)
        return L2D_OK;
    int rc = l2d_engine_new_graph(e, &e->text, "text", err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_tensor in = context_of(e);
    in.buf = e->text_in;
    l2d_graph_copy(e->text, context_of(e), l2d_clip_text_forward(e->text, &e->model->text, in));
    return L2D_OK;
}

// Keys and values from row 0 up to the last but one move up by one, and row 0 to the sinks'.
static void record_moves(struct l2d_engine *e, struct l2d_engine_words *w,
                         const struct l2d_unet_state *state)
{
    for (int32_t i = 0; i < e->model->unet.num_transformers; i++) {
        for (int32_t row = w->rows - 1; row > 0; row--)
            l2d_graph_copy(w->move, l2d_tensor_rows(state->text_kv[i], row, 1),
                           l2d_tensor_rows(state->text_kv[i], row - 1, 1));
        l2d_graph_copy(w->keep, w->sinks_text_kv[i], l2d_tensor_rows(state->text_kv[i], 0, 1));
    }
}

int l2d_words_build(struct l2d_engine *e, struct l2d_engine_words *w,
                    const struct l2d_unet_state *state, struct l2d_error *err)
{
    struct l2d_unet_state first = *state;
    for (int32_t i = 0; i < e->model->unet.num_transformers; i++)
        first.text_kv[i] = l2d_tensor_rows(first.text_kv[i], 0, 1);
    int rc = build_tower(e, err);
    if (rc == L2D_OK)
        rc = l2d_engine_new_graph(e, &w->keys, w->what, err);
    if (rc == L2D_OK && w->rows > 1)
        rc = l2d_engine_new_graph(e, &w->move, "words move", err);
    if (rc == L2D_OK)
        rc = l2d_engine_new_graph(e, &w->keep, "words keep", err);
    for (uint32_t i = 0; i < e->num_slots && rc == L2D_OK; i++) {
        struct l2d_tensor staged = context_of(e);
        staged.buf = w->staged[i];
        rc = l2d_engine_copy_graph(e, &w->upload[i], "upload text", context_of(e), staged, err);
    }
    if (rc != L2D_OK)
        return rc;
    l2d_unet_record_text(w->keys, &e->model->unet, &first, context_of(e));
    record_moves(e, w, state);
    return L2D_OK;
}

void l2d_words_finish(struct l2d_engine_words *w)
{
    l2d_prompt_finish(&w->prompt);
    free(w->parts);
    free(w->from);
    free(w->to);
    free(w->now);
}

// ---- from text to an embedding

struct embedding {                      // of a prompt
    float *parts;                       // [num_parts][tokens][width]
    float *sum;                         // [tokens][width]
    struct l2d_prompt_tokens tokens;
    const char *cut;                    // into the first part that is too long; or NULL
    uint32_t used, dropped, dropping_parts;     // used: by the longest part
};

// Say once what of the prompt is not used.
static void warn_of_cut(const struct l2d_engine *e, const char *what, const struct l2d_prompt *p,
                        const struct embedding *em)
{
    size_t len = strlen(em->cut), shown = len;
    if (len > SHOWN_BYTES)
        for (shown = SHOWN_BYTES; ((unsigned char) em->cut[shown] & 0xc0) == 0x80; shown--)
            ;                           // not within a character
    char parts[48] = "";
    if (p->num_parts > 1)
        snprintf(parts, sizeof(parts), " in %u of its %d parts", em->dropping_parts, p->num_parts);
    l2d_log_print(&e->log, L2D_LOG_WARN, "the %s is too long by %u tokens%s: only %d fit; not used "
                  "is \"%.*s%s\"", what, em->dropped, parts,
                  e->model->config.text.max_position_embeddings - 2, (int) shown, em->cut,
                  shown < len ? "..." : "");
}

static int embed_part(struct l2d_engine *e, const struct l2d_prompt_part *part,
                      struct embedding *em, float *out, struct l2d_error *err)
{
    const struct l2d_text_config *c = &e->model->config.text;
    int32_t tokens = c->max_position_embeddings;
    int rc = l2d_prompt_encode(&em->tokens, part, e->model->tokenizer, tokens, err);
    if (rc != L2D_OK)
        return rc;
    l2d_clip_text_embed(&e->model->text, em->tokens.ids, out);
    rc = l2d_engine_write(e, e->text_in, out, embedding_count(e), err);
    if (rc == L2D_OK)
        rc = l2d_graph_run(e->text, err);
    struct l2d_tensor context = context_of(e);
    if (rc == L2D_OK)
        rc = l2d_engine_read(&context, out, err);
    if (rc != L2D_OK)
        return rc;
    l2d_prompt_weigh(out, em->tokens.weight, tokens, c->hidden_size);
    em->used = (uint32_t) em->tokens.used > em->used ? (uint32_t) em->tokens.used : em->used;
    em->dropped += (uint32_t) em->tokens.dropped;
    em->dropping_parts += em->tokens.dropped > 0;
    em->cut = em->cut ? em->cut : em->tokens.cut;
    return L2D_OK;
}

// The probes of the text tower, which has run for one text, and what was made of its result.
static int show_text(struct l2d_engine *e, const struct l2d_prompt *prompt,
                     const struct embedding *em, struct l2d_error *err)
{
    const struct l2d_text_config *c = &e->model->config.text;
    int rc = prompt->num_parts == 1 ? l2d_engine_emit_probes(e, e->text, err) : L2D_OK;
    if (rc == L2D_OK)
        e->probe(e->user, UINT32_MAX, -1, "text_model.context", em->sum, 1,
                 c->max_position_embeddings, c->hidden_size);
    return rc;
}

static void mix(const struct l2d_engine *e, float *sum, const struct l2d_prompt *prompt,
                const float *parts)
{
    size_t count = embedding_count(e);
    memset(sum, 0, count * sizeof(*sum));
    for (int i = 0; i < prompt->num_parts; i++)
        l2d_prompt_mix(sum, parts + (size_t) i * count, prompt->part[i].share, count);
}

// The text tower runs at once, where activations are: what was submitted has to end first.
static int embed(struct l2d_engine *e, const struct l2d_prompt *prompt, struct embedding *em,
                 struct l2d_error *err)
{
    size_t tokens = (size_t) e->model->config.text.max_position_embeddings;
    size_t count = embedding_count(e);
    em->sum = malloc(count * sizeof(*em->sum));
    em->parts = malloc((size_t) prompt->num_parts * count * sizeof(*em->parts));
    em->tokens.ids = malloc(tokens * sizeof(*em->tokens.ids));
    em->tokens.weight = malloc(tokens * sizeof(*em->tokens.weight));
    int rc = em->sum && em->parts && em->tokens.ids && em->tokens.weight
           ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < e->num_slots && rc == L2D_OK; i++)
        if (e->slot[i].busy)
            rc = l2d_gpu_wait(e->gpu, e->slot[i].ticket, err);
    for (int i = 0; i < prompt->num_parts && rc == L2D_OK; i++)
        rc = embed_part(e, &prompt->part[i], em, em->parts + (size_t) i * count, err);
    if (rc == L2D_OK)
        mix(e, em->sum, prompt, em->parts);
    return rc;
}

static void finish_embedding(struct embedding *em)
{
    free(em->sum);
    free(em->parts);
    free(em->tokens.ids);
    free(em->tokens.weight);
}

// ---- from an embedding to keys and values

// At once and for all rows: nothing is in flight.
static int put_now(struct l2d_engine *e, struct l2d_engine_words *w, struct l2d_error *err)
{
    int rc = l2d_engine_write(e, e->context, w->now, embedding_count(e), err);
    if (rc == L2D_OK)
        rc = l2d_graph_run(w->keys, err);
    for (int32_t row = 1; row < w->rows && rc == L2D_OK; row++)
        rc = l2d_graph_run(w->move, err);
    w->moves = 0;
    return rc;
}

// The words become what `to` says: with the fade of a change, or if nothing has been drawn at once.
static int set_out(struct l2d_engine *e, struct l2d_engine_words *w, const float *to,
                   const struct l2d_change *change, struct l2d_error *err)
{
    size_t bytes = embedding_count(e) * sizeof(float);
    memcpy(w->from, w->now, bytes);
    memcpy(w->to, to, bytes);
    w->fading = e->warm_done && memcmp(w->from, w->to, bytes) != 0;
    w->fade_frames = change->fade_frames > 1 ? change->fade_frames : 1;
    w->easing = change->easing;
    w->faded = 0;
    if (e->warm_done)
        return L2D_OK;
    memcpy(w->now, w->to, bytes);
    return put_now(e, w, err);
}

int l2d_words_change(struct l2d_engine *e, struct l2d_engine_words *w,
                     const struct l2d_change *change, struct l2d_error *err)
{
    bool negative = w == &e->negative_prompt;
    struct l2d_prompt parsed;
    struct embedding em = { 0 };
    int rc = l2d_prompt_parse(&parsed, negative ? "{}" : e->model->config.prompt_template,
                              change->text ? change->text : "", e->prompt_syntax, err);
    if (rc == L2D_OK)
        rc = embed(e, &parsed, &em, err);
    if (rc == L2D_OK && em.cut)
        warn_of_cut(e, w->what, &parsed, &em);
    if (rc == L2D_OK)
        rc = set_out(e, w, em.sum, change, err);
    if (rc == L2D_OK && !negative) {
        e->info.prompt_tokens = em.used;
        e->info.prompt_dropped = em.dropped;
        if (e->probe)
            rc = show_text(e, &parsed, &em, err);
    }
    if (rc == L2D_OK) {
        struct l2d_prompt before = w->prompt;
        float *parts = w->parts;
        w->prompt = parsed;
        w->parts = em.parts;
        parsed = before;
        em.parts = parts;
    }
    finish_embedding(&em);
    l2d_prompt_finish(&parsed);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "%s", w->what);
}

int l2d_words_blend(struct l2d_engine *e, struct l2d_engine_words *w,
                    const struct l2d_change *change, struct l2d_error *err)
{
    double share[L2D_PROMPT_MAX_PARTS];
    int num = 0, rc = l2d_prompt_parse_shares(share, &num, change->text ? change->text : "", err);
    float *sum = rc == L2D_OK ? malloc(embedding_count(e) * sizeof(*sum)) : NULL;
    if (rc == L2D_OK && num != w->prompt.num_parts)
        rc = l2d_error_set(err, L2D_EINVAL, "%d numbers, but the prompt has %d part%s", num,
                           w->prompt.num_parts, w->prompt.num_parts == 1 ? "" : "s");
    else if (rc == L2D_OK && !sum)
        rc = l2d_error_set(err, L2D_ENOMEM, "out of memory");
    for (int i = 0; i < num && rc == L2D_OK; i++)
        w->prompt.part[i].share = share[i];
    if (rc == L2D_OK) {
        mix(e, sum, &w->prompt, w->parts);
        rc = set_out(e, w, sum, change, err);
    }
    free(sum);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "blend");
}

// A fade that goes on still comes from what it came from.
int l2d_words_renew(struct l2d_engine *e, struct l2d_engine_words *w, bool tower,
                    struct l2d_error *err)
{
    size_t bytes = embedding_count(e) * sizeof(float);
    struct embedding em = { 0 };
    int rc = tower ? embed(e, &w->prompt, &em, err) : L2D_OK;
    if (rc == L2D_OK && tower) {
        memcpy(w->parts, em.parts, (size_t) w->prompt.num_parts * bytes);
        memcpy(w->to, em.sum, bytes);
        if (!w->fading)
            memcpy(w->now, w->to, bytes);
    }
    if (rc == L2D_OK)
        rc = put_now(e, w, err);
    finish_embedding(&em);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "%s", w->what);
}

static float share(const struct l2d_engine_words *w)
{
    float t = (float) w->faded / (float) w->fade_frames;
    return w->easing == L2D_EASE_SMOOTH ? t * t * (3 - 2 * t) : t;
}

// The embedding as the GPU has it.
static void stage(const struct l2d_engine *e, struct l2d_engine_words *w, uint32_t slot)
{
    void *to = w->staged[slot]->mapped;
    size_t count = embedding_count(e);
    if (e->precision == L2D_F32)
        memcpy(to, w->now, count * sizeof(float));
    for (size_t i = 0; i < count && e->precision == L2D_F16; i++)
        ((uint16_t *) to)[i] = l2d_half_from_f32(w->now[i]);
}

void l2d_words_move(struct l2d_engine_words *w, struct l2d_submission *s)
{
    if (w->moves <= 0)
        return;
    l2d_submission_add(s, w->move, L2D_STAGE_UNET);
    w->moves--;
}

bool l2d_words_advance(struct l2d_engine *e, struct l2d_engine_words *w, struct l2d_submission *s)
{
    if (!w->fading)
        return false;
    w->faded++;
    float t = share(w);
    for (size_t i = 0, count = embedding_count(e); i < count; i++)
        w->now[i] = w->faded < w->fade_frames ? w->from[i] + t * (w->to[i] - w->from[i]) : w->to[i];
    uint32_t slot = (uint32_t) (s->slot - e->slot);
    stage(e, w, slot);
    l2d_submission_add(s, w->upload[slot], L2D_STAGE_UNET);
    l2d_submission_add(s, w->keys, L2D_STAGE_UNET);
    w->moves = w->rows - 1;
    w->fading = w->faded < w->fade_frames;
    return !w->fading;
}
