// SPDX-License-Identifier: Apache-2.0
// Prompt -> token ids: CLIP's byte-level BPE, over the vocab.json and merges.txt of a model folder.
// Clean-up is what transformers does where ftfy is missing: control characters dropped, white space
// to a space, spaces around CJK ideographs, NFC, lower case. Embedding is clip_text's affair.
// Sources: openai/CLIP, simple_tokenizer.py (MIT); transformers, CLIPTokenizer and BasicTokenizer.
// A model may have words of its own, which textual inversion has taught it. They are found before
// the text is taken apart, as whole words, whatever the case of the letters, the longest one first;
// each becomes the ids of its vectors.
// Known to differ in corners: a capital sigma that ends a word becomes a plain small sigma, and
// special tokens in capitals are recognised behind punctuation too.
#ifndef L2D_PIPELINE_MODELS_TOKENIZER_H
#define L2D_PIPELINE_MODELS_TOKENIZER_H

#include <stdint.h>

#include "base/error.h"

#define L2D_TOKENIZER_MAX_PROMPT_BYTES 16384

struct l2d_tokenizer;               // opaque; read-only after create, any thread

/**
 * vocab_path   JSON object, symbol -> id. Has the 512 byte symbols (each plain and with "</w>"),
 *              "<|startoftext|>" and "<|endoftext|>". Ids are 0..2^20-1, each once.
 * merges_path  a "#version" line, then "left right" per line, first merged first. Left, right and
 *              what they make are in the vocabulary.
 * returns      L2D_OK, L2D_EIO, L2D_ENOMEM, or L2D_EFORMAT naming file, line or symbol.
 */
int l2d_tokenizer_create(struct l2d_tokenizer **out, const char *vocab_path,
                         const char *merges_path, struct l2d_error *err);

/**
 * Add a word, before the tokenizer is shared.
 * word         UTF-8; cleaned as a prompt is
 * first_id     of num_ids ids in a row, all behind those that there are
 * returns      L2D_OK; L2D_ENOMEM; L2D_EINVAL and why it cannot be: not UTF-8, empty, too long, of
 *              the vocabulary, there already, or the name that a vector of another word has in
 *              added_tokens.json.
 */
int l2d_tokenizer_add(struct l2d_tokenizer *tok, const char *word, int32_t first_id,
                      int32_t num_ids, struct l2d_error *err);

/**
 * Add the words of added_tokens.json, in the form of transformers and diffusers: a JSON object,
 * word -> id; one of several vectors is "word", "word_1", "word_2", ..., with ids in a row.
 * returns      L2D_OK, L2D_EIO, L2D_ENOMEM, or L2D_EFORMAT naming file and word.
 */
int l2d_tokenizer_read_added(struct l2d_tokenizer *tok, const char *path, struct l2d_error *err);

/** Sets *tok to NULL; accepts NULL. */
void l2d_tokenizer_destroy(struct l2d_tokenizer **tok);

/** Largest id plus one: what the embedding table needs at least as rows. */
int32_t l2d_tokenizer_num_ids(const struct l2d_tokenizer *tok);

/**
 * Encode one prompt: start, its tokens, end, and the end token again up to max_tokens.
 * prompt       UTF-8; may be empty.
 * max_tokens   at least 3.
 * ids          [max_tokens], out.
 * num_used     out: ids before the padding, start and end among them; 2..max_tokens.
 * num_dropped  out: tokens at the prompt's end that had no room, usually 0.
 * returns      L2D_OK; L2D_EINVAL: invalid UTF-8 (names the byte offset) or longer than
 *              L2D_TOKENIZER_MAX_PROMPT_BYTES; L2D_ENOMEM.
 */
int l2d_tokenizer_encode(const struct l2d_tokenizer *tok, const char *prompt, int max_tokens,
                         int32_t *ids, int *num_used, int *num_dropped, struct l2d_error *err);

#endif
