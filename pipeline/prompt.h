// SPDX-License-Identifier: Apache-2.0
// What a prompt says: texts to mix, and how much each byte of them counts. Text in, numbers out;
// the text tower between the tokens and their embedding is the engine's.
//
//     a (red:1.3) house            a weight: 0 to 4, nested ones multiply, up to 4
//     a cat :0.7 | a dog :0.3      a blend of two embeddings; shares are brought to the sum 1
//     \( \) \[ \] \| \: \\         the character itself
//
// An explicit number makes syntax of it; without one, parentheses and bars are characters of the
// prompt, as they are for Live2Diff, whose presets have "(masterpiece)". The syntax "brackets"
// reads bare ones too: (word) counts 1.1 times as much, [word] 1/1.1, a | b mixes equally.
// Sources: AUTOMATIC1111's stable-diffusion-webui, prompt_parser.py and sd_emphasis.py
// ("original"), read for its rules.
#ifndef L2D_PIPELINE_PROMPT_H
#define L2D_PIPELINE_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct l2d_tokenizer;

#define L2D_PROMPT_MAX_PARTS 8
#define L2D_PROMPT_MAX_WEIGHT 4

enum l2d_prompt_syntax {
    L2D_PROMPT_NUMBERS,                 // what has a number is syntax
    L2D_PROMPT_BRACKETS,                // bare brackets and bars too
    L2D_PROMPT_PLAIN,                   // nothing is
};

struct l2d_prompt_part {
    double share;                       // of the blend
    char *text;                         // template filled in, syntax taken out
    float *weight;                      // [strlen(text)], of each byte
};

struct l2d_prompt {
    int num_parts;                      // 1..L2D_PROMPT_MAX_PARTS; shares sum to 1
    struct l2d_prompt_part part[L2D_PROMPT_MAX_PARTS];
};

/**
 * Read a prompt; every part of a blend gets the template.
 * form     the template; may have weights of its own, also around its "{}", where the prompt goes.
 * returns  L2D_OK, L2D_ENOMEM, or L2D_EINVAL: "column 8: ...", counted in characters from 1.
 *          *prompt then owns nothing.
 */
int l2d_prompt_parse(struct l2d_prompt *prompt, const char *form, const char *text,
                     enum l2d_prompt_syntax syntax, struct l2d_error *err);
/**
 * Read the shares of a blend alone: numbers of 0 or more, with commas or spaces between them.
 * share    [L2D_PROMPT_MAX_PARTS]; brought to the sum 1, as those of a prompt are
 * returns  L2D_OK, or L2D_EINVAL: none or too many, not a number, all 0
 */
int l2d_prompt_parse_shares(double *share, int *num, const char *text, struct l2d_error *err);

/**
 * Whether the shares of a blend are as many as the parts of a prompt.
 * returns  L2D_OK, L2D_ENOMEM, or L2D_EINVAL: they are not, or what is wrong with one of the two
 */
int l2d_prompt_check_shares(const char *shares, const char *prompt, enum l2d_prompt_syntax syntax,
                            struct l2d_error *err);

/** Accepts a zeroed struct. */
void l2d_prompt_finish(struct l2d_prompt *prompt);

struct l2d_prompt_tokens {
    int32_t *ids;                       // [max_tokens], the caller's: start, tokens, end, padding
    float *weight;                      // [max_tokens], the caller's: 1 for all but the tokens
    int used, dropped;                  // as l2d_tokenizer_encode has them
    const char *cut;                    // into the part's text: the word of the first dropped token
};

/** Tokens of a part. Texts of different weights are tokenized apart. returns as the tokenizer. */
int l2d_prompt_encode(struct l2d_prompt_tokens *tokens, const struct l2d_prompt_part *part,
                      const struct l2d_tokenizer *tokenizer, int max_tokens, struct l2d_error *err);

/**
 * Weights on the text tower's result [tokens][width]: each token's vector times its weight, then
 * all of it scaled so that its mean is what it was. With all weights 1 nothing is touched. A mean
 * that would change more than fourfold was too near to zero to say anything, and is left.
 */
void l2d_prompt_weigh(float *embedding, const float *weight, int tokens, int width);

/** sum += share * embedding, count values. */
void l2d_prompt_mix(float *sum, const float *embedding, double share, size_t count);

#endif
