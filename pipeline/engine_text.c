// SPDX-License-Identifier: Apache-2.0
// From a prompt's text to the keys and values that cross attention reads. The text tower runs once
// for each part of a blend; weights and the mix are the host's, as the embedding is small.
#include "pipeline/engine_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/prompt.h"

#define SHOWN_BYTES 60                  // of the text that did not fit

struct embedding {                      // of a prompt
    float *sum, *part;                  // [tokens][width]
    struct l2d_prompt_tokens tokens;
    uint32_t used, dropped, dropping_parts;     // used: by the longest part
};

// Say once what of the prompt is not used.
static void warn_of_cut(const struct l2d_engine *e, const char *what, const struct l2d_prompt *p,
                        const struct embedding *em, const char *cut)
{
    size_t len = strlen(cut), shown = len;
    if (len > SHOWN_BYTES)
        for (shown = SHOWN_BYTES; ((unsigned char) cut[shown] & 0xc0) == 0x80; shown--)
            ;                           // not within a character
    char parts[48] = "";
    if (p->num_parts > 1)
        snprintf(parts, sizeof(parts), " in %u of its %d parts", em->dropping_parts, p->num_parts);
    l2d_log_print(&e->log, L2D_LOG_WARN, "the %s is too long by %u tokens%s: only %d fit; not used "
                  "is \"%.*s%s\"", what, em->dropped, parts,
                  e->model->config.text.max_position_embeddings - 2, (int) shown, cut,
                  shown < len ? "..." : "");
}

static int embed_part(struct l2d_engine *e, const struct l2d_prompt_part *part,
                      struct embedding *em, struct l2d_error *err)
{
    const struct l2d_text_config *c = &e->model->config.text;
    int32_t tokens = c->max_position_embeddings, width = c->hidden_size;
    size_t count = (size_t) tokens * (size_t) width;
    int rc = l2d_prompt_encode(&em->tokens, part, e->model->tokenizer, tokens, err);
    if (rc != L2D_OK)
        return rc;
    l2d_clip_text_embed(&e->model->text, em->tokens.ids, em->part);
    rc = l2d_engine_write(e, e->text_in, em->part, count, err);
    if (rc == L2D_OK)
        rc = l2d_graph_run(e->text, err);
    struct l2d_tensor context = l2d_engine_context(e);
    if (rc == L2D_OK)
        rc = l2d_engine_read(&context, em->part, err);
    if (rc == L2D_OK) {
        l2d_prompt_weigh(em->part, em->tokens.weight, tokens, width);
        l2d_prompt_mix(em->sum, em->part, part->share, count);
        em->used = (uint32_t) em->tokens.used > em->used ? (uint32_t) em->tokens.used : em->used;
        em->dropped += (uint32_t) em->tokens.dropped;
        em->dropping_parts += em->tokens.dropped > 0;
    }
    return rc;
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

static int set_text(struct l2d_engine *e, const struct l2d_prompt *prompt, const char *what,
                    struct l2d_graph *keys, struct embedding *em, struct l2d_error *err)
{
    const struct l2d_text_config *c = &e->model->config.text;
    size_t tokens = (size_t) c->max_position_embeddings, width = (size_t) c->hidden_size;
    const char *cut = NULL;
    em->sum = calloc(tokens * width, sizeof(*em->sum));
    em->part = malloc(tokens * width * sizeof(*em->part));
    em->tokens.ids = malloc(tokens * sizeof(*em->tokens.ids));
    em->tokens.weight = malloc(tokens * sizeof(*em->tokens.weight));
    int rc = em->sum && em->part && em->tokens.ids && em->tokens.weight
           ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "out of memory");
    // Frames that were submitted before this read the old keys and values: wait for them.
    for (uint32_t i = 0; i < L2D_ENGINE_SLOTS && rc == L2D_OK; i++)
        if (e->slot[i].busy)
            rc = l2d_gpu_wait(e->gpu, e->slot[i].ticket, err);
    for (int i = 0; i < prompt->num_parts && rc == L2D_OK; i++) {
        rc = embed_part(e, &prompt->part[i], em, err);
        if (rc == L2D_OK && em->tokens.cut && !cut)
            cut = em->tokens.cut;
    }
    if (rc == L2D_OK)
        rc = l2d_engine_write(e, e->context, em->sum, tokens * width, err);
    if (rc == L2D_OK)
        rc = l2d_graph_run(keys, err);
    if (rc == L2D_OK && cut)
        warn_of_cut(e, what, prompt, em, cut);
    return rc;
}

static void finish_embedding(struct embedding *em)
{
    free(em->sum);
    free(em->part);
    free(em->tokens.ids);
    free(em->tokens.weight);
}

int l2d_engine_set_prompt(struct l2d_engine *e, const char *prompt, struct l2d_error *err)
{
    if (e->passthrough)
        return L2D_OK;
    struct l2d_prompt parsed;
    struct embedding em = { 0 };
    int rc = l2d_prompt_parse(&parsed, e->model->config.prompt_template, prompt, e->prompt_syntax,
                              err);
    if (rc == L2D_OK)
        rc = set_text(e, &parsed, "prompt", e->prompt_keys, &em, err);
    if (rc == L2D_OK) {
        e->info.prompt_tokens = em.used;
        e->info.prompt_dropped = em.dropped;
        if (e->probe)
            rc = show_text(e, &parsed, &em, err);
    }
    finish_embedding(&em);
    l2d_prompt_finish(&parsed);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "prompt");
}

int l2d_engine_set_negative(struct l2d_engine *e, const char *prompt, struct l2d_error *err)
{
    if (!e->negative_keys)
        return l2d_error_set(err, L2D_EINVAL, "negative prompt: only the guidance modes full and "
                             "initialize have one");
    struct l2d_prompt parsed;
    struct embedding em = { 0 };
    int rc = l2d_prompt_parse(&parsed, "{}", prompt, e->prompt_syntax, err);
    if (rc == L2D_OK)
        rc = set_text(e, &parsed, "negative prompt", e->negative_keys, &em, err);
    finish_embedding(&em);
    l2d_prompt_finish(&parsed);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "negative prompt");
}
