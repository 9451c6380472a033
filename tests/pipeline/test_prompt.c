// SPDX-License-Identifier: Apache-2.0
// Prompts against the reference's reading of them (tests/data/prompts.json, which make_golden.py
// writes), their tokens, what does not fit, and the arithmetic on embeddings.
#include "pipeline/prompt.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/models/tokenizer.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define TOKENS 24

static struct l2d_error err;

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    cr_assert_not_null(text, "%s", key);
    return text;
}

static enum l2d_prompt_syntax syntax_of(const json_t *o)
{
    const char *name = text_of(o, "syntax");
    return !strcmp(name, "plain") ? L2D_PROMPT_PLAIN
         : !strcmp(name, "brackets") ? L2D_PROMPT_BRACKETS : L2D_PROMPT_NUMBERS;
}

// The runs of one weight that a part's bytes make, against the reference's.
static void check_part(const struct l2d_prompt_part *part, const json_t *want, const char *text)
{
    double share = json_number_value(json_object_get(want, "share"));
    json_t *runs = json_object_get(want, "runs");
    size_t at = 0;
    cr_assert_float_eq(part->share, share, 1e-12, "%s: share %g", text, part->share);
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const char *run = json_string_value(json_array_get(json_array_get(runs, i), 0));
        double weight = json_number_value(json_array_get(json_array_get(runs, i), 1));
        cr_assert_eq(strncmp(part->text + at, run, strlen(run)), 0, "%s: \"%s\" at %zu, want "
                     "\"%s\"", text, part->text, at, run);
        for (size_t end = at + strlen(run); at < end; at++)
            cr_assert_float_eq((double) part->weight[at], weight, 1e-6, "%s: %g at %zu", text,
                               (double) part->weight[at], at);
    }
    cr_assert_eq(part->text[at], '\0', "%s: \"%s\"", text, part->text);
}

Test(prompt, reads_as_the_reference_does)
{
    json_t *rows = json_load_file(L2D_TEST_DATA "/prompts.json", 0, NULL);
    cr_assert_gt(json_array_size(rows), 20);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i), *parts = json_object_get(row, "parts");
        const char *text = text_of(row, "text");
        struct l2d_prompt prompt;
        int rc = l2d_prompt_parse(&prompt, text_of(row, "template"), text, syntax_of(row), &err);
        if (!parts) {
            char want[32];
            snprintf(want, sizeof(want), "column %d: ",
                     (int) json_integer_value(json_object_get(row, "column")));
            cr_assert_eq(rc, L2D_EINVAL, "%s", text);
            cr_assert(strstr(err.msg, want), "%s: %s, want %s", text, err.msg, want);
            cr_assert_eq(prompt.num_parts, 0);
            continue;
        }
        cr_assert_eq(rc, L2D_OK, "%s: %s", text, err.msg);
        cr_assert_eq(prompt.num_parts, (int) json_array_size(parts), "%s", text);
        for (int p = 0; p < prompt.num_parts; p++)
            check_part(&prompt.part[p], json_array_get(parts, (size_t) p), text);
        l2d_prompt_finish(&prompt);
    }
    json_decref(rows);
}

Test(prompt, survives_anything)
{
    static const char *const pieces[] = { "(", ")", "[", "]", "|", ":", "1.2", "\\", "a", " ", "{}",
                                          "\xc3\xa9", ":0.5", "-" };
    uint32_t state = 1;
    for (int n = 0; n < 20000; n++) {
        char text[128] = "";
        for (int i = 0; i < 16; i++) {
            state = state * 1664525u + 1013904223u;
            strcat(text, pieces[(state >> 16) % COUNT(pieces)]);
        }
        struct l2d_prompt prompt;
        double sum = 0;
        if (l2d_prompt_parse(&prompt, "a {}", text, (enum l2d_prompt_syntax) (n % 3), &err) !=
            L2D_OK)
            continue;
        for (int i = 0; i < prompt.num_parts; i++)
            sum += prompt.part[i].share;
        cr_assert_float_eq(sum, 1, 1e-9, "%s", text);
        l2d_prompt_finish(&prompt);
    }
    char *longest = calloc(1, L2D_TOKENIZER_MAX_PROMPT_BYTES + 2);
    struct l2d_prompt prompt;
    memset(longest, '(', L2D_TOKENIZER_MAX_PROMPT_BYTES);
    cr_assert_eq(l2d_prompt_parse(&prompt, "{}", longest, L2D_PROMPT_NUMBERS, &err), L2D_OK);
    l2d_prompt_finish(&prompt);
    cr_assert_eq(l2d_prompt_parse(&prompt, "{}", longest, L2D_PROMPT_BRACKETS, &err), L2D_EINVAL);
    longest[L2D_TOKENIZER_MAX_PROMPT_BYTES] = '(';
    cr_assert_eq(l2d_prompt_parse(&prompt, "{}", longest, L2D_PROMPT_NUMBERS, &err), L2D_EINVAL);
    free(longest);
}

// ---- tokens

static struct l2d_tokenizer *open_tokenizer(void)
{
    struct l2d_tokenizer *tok = NULL;
    cr_assert_eq(l2d_tokenizer_create(&tok, L2D_TEST_DATA "/tiny3/vocab.json",
                                      L2D_TEST_DATA "/tiny3/merges.txt", &err), L2D_OK, "%s",
                 err.msg);
    return tok;
}

static struct l2d_prompt_tokens encode(const struct l2d_prompt *prompt,
                                       const struct l2d_tokenizer *tok)
{
    static int32_t ids[TOKENS];
    static float weight[TOKENS];
    struct l2d_prompt_tokens t = { .ids = ids, .weight = weight };
    cr_assert_eq(l2d_prompt_encode(&t, &prompt->part[0], tok, TOKENS, &err), L2D_OK, "%s", err.msg);
    return t;
}

Test(prompt, tokens_carry_weights)
{
    struct l2d_tokenizer *tok = open_tokenizer();
    struct l2d_prompt prompt;
    int32_t plain[TOKENS];
    int used, dropped;
    cr_assert_eq(l2d_prompt_parse(&prompt, "a {}", "(cat:1.5) bird", L2D_PROMPT_NUMBERS, &err),
                 L2D_OK);
    struct l2d_prompt_tokens t = encode(&prompt, tok);
    cr_assert_eq(l2d_tokenizer_encode(tok, "a cat bird", TOKENS, plain, &used, &dropped, &err),
                 L2D_OK);
    cr_assert_arr_eq(t.ids, plain, sizeof(plain));
    cr_assert(t.used == used && t.dropped == 0 && !t.cut, "%d tokens", t.used);
    for (int i = 0; i < TOKENS; i++)
        cr_assert_float_eq((double) t.weight[i], i == 2 ? 1.5 : 1, 1e-6, "token %d", i);
    l2d_prompt_finish(&prompt);
    l2d_tokenizer_destroy(&tok);
}

Test(prompt, names_what_does_not_fit)
{
    static const struct { const char *text, *cut; int dropped; } cases[] = {
        { "a cat a cat a cat a cat a cat a cat a cat a cat a cat a cat a cat", NULL, 0 },
        { "a cat a cat a cat a cat a cat a cat a cat a cat a cat a cat a cat bird cat",
          "bird cat", 2 },
        { "a cat a cat a cat a cat a cat a cat a cat a cat a cat a cat a (xxx:1.2) bird",
          "xxx", 3 },
        { "a cat a cat a cat a cat a cat a cat a cat a cat a cat (a cat a:1.2) (cat bird:1.1)",
          "bird", 1 },
        { "xxxxxxxxxxxxxxxxxxxxxxxxx", "xxxxxxxxxxxxxxxxxxxxxxxxx", 3 },
    };
    struct l2d_tokenizer *tok = open_tokenizer();
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct l2d_prompt prompt;
        cr_assert_eq(l2d_prompt_parse(&prompt, "{}", cases[i].text, L2D_PROMPT_NUMBERS, &err),
                     L2D_OK);
        struct l2d_prompt_tokens t = encode(&prompt, tok);
        cr_assert_eq(t.dropped, cases[i].dropped, "%s: %d dropped", cases[i].text, t.dropped);
        cr_assert_eq(t.used, TOKENS);
        cr_assert(cases[i].cut ? t.cut && !strncmp(t.cut, cases[i].cut, strlen(cases[i].cut))
                               : !t.cut, "%s: %s", cases[i].text, t.cut ? t.cut : "nothing");
        l2d_prompt_finish(&prompt);
    }
    l2d_tokenizer_destroy(&tok);
}

// ---- shares alone

Test(prompt, shares)
{
    static const struct { const char *text; int num; double first; } good[] = {
        { "1", 1, 1 }, { "0.7, 0.3", 2, 0.7 }, { " 7 3 ", 2, 0.7 }, { "1,0,.5 , 0.5", 4, 0.5 },
        { "0,1.", 2, 0 }, { "1 1 1 1 1 1 1 1", 8, 0.125 },
    };
    static const struct { const char *text, *want; } bad[] = {
        { "", "expected a number for each part" }, { "  ", "expected a number" },
        { "a", "column 1: expected numbers" }, { "1, x", "column 4: " }, { "1,", "column 2: " },
        { ",1", "column 1: " }, { "1,,2", "column 3: " }, { "1.2.3", "column 1: " },
        { ".", "column 1: " }, { "-1, 2", "column 1: expected numbers of 0 or more" },
        { "1;2", "column 2: " }, { "0, 0", "sum to 0" }, { "1 1 1 1 1 1 1 1 1", "the 8 parts" },
        { "11111111111111111111111111111111111111111", "column 1: " }, { "1e3", "column 2: " },
    };
    double share[L2D_PROMPT_MAX_PARTS];
    int num;
    for (size_t i = 0; i < COUNT(good); i++) {
        cr_assert_eq(l2d_prompt_parse_shares(share, &num, good[i].text, &err), L2D_OK, "%s: %s",
                     good[i].text, err.msg);
        double sum = 0;
        for (int k = 0; k < num; k++)
            sum += share[k];
        cr_assert(num == good[i].num && fabs(share[0] - good[i].first) < 1e-12 &&
                  fabs(sum - 1) < 1e-12, "%s", good[i].text);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        cr_assert_eq(l2d_prompt_parse_shares(share, &num, bad[i].text, &err), L2D_EINVAL, "%s",
                     bad[i].text);
        cr_assert(strstr(err.msg, bad[i].want), "%s: %s", bad[i].text, err.msg);
    }
    // Those of a prompt, exactly.
    struct l2d_prompt prompt;
    cr_assert_eq(l2d_prompt_parse(&prompt, "{}", "a :0.7 | b :0.35", L2D_PROMPT_NUMBERS, &err),
                 L2D_OK);
    cr_assert_eq(l2d_prompt_parse_shares(share, &num, "0.7, 0.35", &err), L2D_OK);
    for (int k = 0; k < 2; k++)
        cr_assert(!(share[k] < prompt.part[k].share) && !(share[k] > prompt.part[k].share));
    l2d_prompt_finish(&prompt);
}

// ---- embeddings

static double mean(const float *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double) x[i];
    return sum / n;
}

Test(prompt, weights_keep_the_mean)
{
    const float start[6] = { 1, 2, 3, -1, 0.5f, 0.25f };
    float x[6], weight[3] = { 1, 1, 1 };
    memcpy(x, start, sizeof(x));
    l2d_prompt_weigh(x, weight, 3, 2);
    cr_assert_arr_eq(x, start, sizeof(x), "weights of 1 touch nothing");
    weight[1] = 1.5f;
    l2d_prompt_weigh(x, weight, 3, 2);
    cr_assert_float_eq(mean(x, 6), mean(start, 6), 1e-6);
    for (int i = 0; i < 6; i++) {
        double scaled = (double) (start[i] * weight[i / 2]) * (5.75 / 6.75);
        cr_assert_float_eq((double) x[i], scaled, 1e-6, "%d: %g", i, (double) x[i]);
    }
    // A mean of about 0: the weights, and no more.
    float y[4] = { 1, -1.0009f, 1, -0.999f };
    l2d_prompt_weigh(y, (float[]) { 1, 2 }, 2, 2);
    cr_assert_float_eq((double) y[2], 2, 1e-6);
    float zero[2] = { 0, 0 };
    l2d_prompt_weigh(zero, (float[]) { 2 }, 1, 2);
    cr_assert(fabsf(zero[0]) <= 0 && fabsf(zero[1]) <= 0);
}

Test(prompt, mix_is_linear)
{
    float sum[2] = { 0 };
    l2d_prompt_mix(sum, (float[]) { 1, 2 }, 0.25, 2);
    l2d_prompt_mix(sum, (float[]) { 3, -2 }, 0.75, 2);
    cr_assert_float_eq((double) sum[0], 2.5, 1e-6);
    cr_assert_float_eq((double) sum[1], -1, 1e-6);
}
