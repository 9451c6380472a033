// SPDX-License-Identifier: Apache-2.0
// The tokenizer against ids that transformers computed, with an excerpt of CLIP's vocabulary and
// with the golden models' own; then cutting and padding, bad prompts and bad files.
#include "pipeline/models/tokenizer.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define CLIP L2D_TEST_DATA "/clip_bpe/"
#define MAX_TOKENS 77
#define START 49406
#define END 49407

static struct l2d_tokenizer *open_tokenizer(const char *dir)
{
    char vocab[512], merges[512];
    struct l2d_error err = { 0 };
    struct l2d_tokenizer *tok = NULL;
    snprintf(vocab, sizeof(vocab), "%svocab.json", dir);
    snprintf(merges, sizeof(merges), "%smerges.txt", dir);
    cr_assert_eq(l2d_tokenizer_create(&tok, vocab, merges, &err), L2D_OK, "%s", err.msg);
    return tok;
}

struct encoded {
    int rc, used, dropped;
    int32_t ids[MAX_TOKENS + 1];        // the last one is a guard
    struct l2d_error err;
};

static struct encoded encode(const struct l2d_tokenizer *tok, const char *prompt, int max)
{
    struct encoded e = { .used = -1, .dropped = -1 };
    e.ids[max] = -5;
    e.rc = l2d_tokenizer_encode(tok, prompt, max, e.ids, &e.used, &e.dropped, &e.err);
    cr_assert_eq(e.ids[max], -5);
    return e;
}

Test(tokenizer, clip_texts)
{
    struct l2d_tokenizer *tok = open_tokenizer(CLIP);
    cr_assert_eq(l2d_tokenizer_num_ids(tok), 49408);
    json_t *cases = json_load_file(CLIP "tokens.json", 0, NULL);
    cr_assert_gt(json_array_size(cases), 20);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *one = json_array_get(cases, i), *want = json_object_get(one, "ids");
        const char *text = json_string_value(json_object_get(one, "text"));
        struct encoded e = encode(tok, text, MAX_TOKENS);
        cr_assert_eq(e.rc, L2D_OK, "%s", e.err.msg);
        cr_assert_eq(e.used, (int) json_array_size(want) + 2, "\"%s\": %d", text, e.used);
        cr_assert_eq(e.dropped, 0);
        cr_assert_eq(e.ids[0], START);
        for (int t = 1; t < MAX_TOKENS; t++) {
            json_t *id = json_array_get(want, (size_t) t - 1);
            cr_assert_eq(e.ids[t], id ? json_integer_value(id) : END, "\"%s\", token %d: %d", text,
                         t, e.ids[t]);
        }
    }
    json_decref(cases);
    l2d_tokenizer_destroy(&tok);
    cr_assert_null(tok);
    l2d_tokenizer_destroy(&tok);
}

// tokens.json of the golden models has the padding too.
Test(tokenizer, golden_models)
{
    static const char *const dirs[] = { L2D_TEST_DATA "/narrow4/", L2D_TEST_DATA "/tiny3/" };
    for (size_t d = 0; d < COUNT(dirs); d++) {
        char path[512];
        struct l2d_tokenizer *tok = open_tokenizer(dirs[d]);
        snprintf(path, sizeof(path), "%stokens.json", dirs[d]);
        json_t *cases = json_load_file(path, 0, NULL);
        cr_assert_gt(json_array_size(cases), 0);
        for (size_t i = 0; i < json_array_size(cases); i++) {
            json_t *one = json_array_get(cases, i), *want = json_object_get(one, "ids");
            const char *text = json_string_value(json_object_get(one, "text"));
            int max = (int) json_array_size(want);
            cr_assert(max >= 3 && max <= MAX_TOKENS);
            struct encoded e = encode(tok, text, max);
            cr_assert_eq(e.rc, L2D_OK, "%s", e.err.msg);
            for (int t = 0; t < max; t++)
                cr_assert_eq(e.ids[t], json_integer_value(json_array_get(want, (size_t) t)),
                             "%s: \"%s\", token %d: %d", dirs[d], text, t, e.ids[t]);
        }
        json_decref(cases);
        l2d_tokenizer_destroy(&tok);
    }
}

Test(tokenizer, long_prompts_are_cut)
{
    struct l2d_tokenizer *tok = open_tokenizer(CLIP);
    char prompt[512] = "";
    for (int n = 1; n <= 100; n++) {
        strcat(prompt, "a ");
        struct encoded e = encode(tok, prompt, MAX_TOKENS);
        cr_assert_eq(e.rc, L2D_OK);
        cr_assert_eq(e.used, n < 75 ? n + 2 : 77, "%d tokens: %d", n, e.used);
        cr_assert_eq(e.dropped, n < 75 ? 0 : n - 75, "%d tokens: %d", n, e.dropped);
        cr_assert(e.ids[e.used - 2] == 320 && e.ids[e.used - 1] == END && e.ids[76] == END);
    }
    struct encoded e = encode(tok, prompt, 3);
    cr_assert(e.rc == L2D_OK && e.used == 3 && e.dropped == 99);
    cr_assert(e.ids[0] == START && e.ids[1] == 320 && e.ids[2] == END);
    l2d_tokenizer_destroy(&tok);
}

Test(tokenizer, refuses_invalid_utf8)
{
    static const struct { const char *prompt; int at; } cases[] = {
        { "\xff", 0 }, { "cat\x80", 3 }, { "caf\xc3", 3 }, { "caf\xc3 e", 3 },
        { "\xc0\xaf", 0 }, { "ab\xe0\x80\xaf", 2 },             // overlong
        { "a\xed\xa0\x80", 1 },                                 // surrogate
        { "a\xf4\x90\x80\x80", 1 }, { "\xf8\x88\x80\x80\x80", 0 },      // beyond U+10FFFF
        { "\xe2\x82", 0 }, { "\xf0\x9f\x99", 0 },
    };
    struct l2d_tokenizer *tok = open_tokenizer(CLIP);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char want[64];
        snprintf(want, sizeof(want), "invalid at byte %d", cases[i].at);
        struct encoded e = encode(tok, cases[i].prompt, MAX_TOKENS);
        cr_assert_eq(e.rc, L2D_EINVAL, "case %zu", i);
        cr_assert(strstr(e.err.msg, want), "case %zu: %s", i, e.err.msg);
    }
    l2d_tokenizer_destroy(&tok);
}

// The longest prompts, of what grows most and merges most; one byte more is refused.
Test(tokenizer, huge_prompts, .timeout = 60)
{
    static const char *const units[] = {
        "a", "!", " ", "1", "ab", "photo", "\xc3\xaf", "\xcc\x81", "\xea\xb0\x81", "\xe7\x8c\xab",
        "\xef\xac\xac",                         // U+FB2C, which NFC takes apart into three
        "\xf0\x9d\x85\xa0",                     // U+1D160, likewise
        "\xe2\x80\x8b",                         // U+200B, dropped
    };
    struct l2d_tokenizer *tok = open_tokenizer(CLIP);
    char *prompt = malloc(L2D_TOKENIZER_MAX_PROMPT_BYTES + 2);
    cr_assert_not_null(prompt);
    for (size_t i = 0; i < COUNT(units); i++) {
        size_t len = 0, unit = strlen(units[i]);
        for (; len + unit <= L2D_TOKENIZER_MAX_PROMPT_BYTES; len += unit)
            memcpy(prompt + len, units[i], unit);
        prompt[len] = '\0';
        struct encoded e = encode(tok, prompt, MAX_TOKENS);
        cr_assert_eq(e.rc, L2D_OK, "case %zu: %s", i, e.err.msg);
    }
    memset(prompt, 'a', L2D_TOKENIZER_MAX_PROMPT_BYTES + 1);
    prompt[L2D_TOKENIZER_MAX_PROMPT_BYTES + 1] = '\0';
    struct encoded e = encode(tok, prompt, MAX_TOKENS);
    cr_assert_eq(e.rc, L2D_EINVAL);
    cr_assert(strstr(e.err.msg, "16385 bytes; at most 16384"), "%s", e.err.msg);
    free(prompt);
    l2d_tokenizer_destroy(&tok);
}

static char dir[] = "/tmp/l2d_tokenizer_XXXXXX";
static char vocab_path[64], merges_path[64];

static void make_dir(void)
{
    cr_assert_not_null(mkdtemp(dir));
    snprintf(vocab_path, sizeof(vocab_path), "%s/vocab.json", dir);
    snprintf(merges_path, sizeof(merges_path), "%s/merges.txt", dir);
}

static void remove_dir(void)
{
    unlink(vocab_path);
    unlink(merges_path);
    rmdir(dir);
}

static void write_file(const char *path, const char *text, size_t size)
{
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(text, 1, size, f) == size && fclose(f) == 0);
}

Test(tokenizer, bad_merges, .init = make_dir, .fini = remove_dir)
{
    static const struct { const char *text; size_t size; const char *want; } cases[] = {
#define TEXT(t) t, sizeof(t) - 1
        { TEXT(""), "line 1 must hold \"#version\"" },
        { TEXT("p h\n"), "line 1 must hold \"#version\"" },
        { TEXT("#version: 0.2\nph\n"), "line 2 must be two symbols" },
        { TEXT("#version: 0.2\np h o\n"), "line 2 must be two symbols" },
        { TEXT("#version: 0.2\np  h\n"), "line 2 must be two symbols" },
        { TEXT("#version: 0.2\n p h\n"), "line 2 must be two symbols" },
        { TEXT("#version: 0.2\np \n"), "line 2 must be two symbols" },
        { TEXT("#version: 0.2\np h\nq qqqq\n"), "line 3 has a symbol" },
        { TEXT("#version: 0.2\nq z\n"), "line 2 has a symbol, or makes one, that is not" },
        { TEXT("#version: 0.2\np h\n\np h\n"), "merges 1 and 2 are the same" },
        { TEXT("#version: 0.2\np h\n\0"), "has a zero byte" },
        { TEXT("#version: 0.2\n\xff\xfe \x80\n"), "line 2 has a symbol" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct l2d_error err = { 0 };
        struct l2d_tokenizer *tok = NULL;
        write_file(merges_path, cases[i].text, cases[i].size);
        cr_assert_eq(l2d_tokenizer_create(&tok, CLIP "vocab.json", merges_path, &err), L2D_EFORMAT,
                     "case %zu", i);
        cr_assert_null(tok);
        cr_assert(strstr(err.msg, cases[i].want) && strstr(err.msg, merges_path), "case %zu: %s", i,
                  err.msg);
    }
    struct l2d_error err = { 0 };
    struct l2d_tokenizer *tok = NULL;
    static const char fine[] = "#version: 0.2\r\np h\r\n\r\nph o\r\n";      // as Windows writes it
    write_file(merges_path, fine, sizeof(fine) - 1);
    cr_assert_eq(l2d_tokenizer_create(&tok, CLIP "vocab.json", merges_path, &err), L2D_OK, "%s",
                 err.msg);
    l2d_tokenizer_destroy(&tok);

    char *long_line = malloc(100000);
    cr_assert_not_null(long_line);
    memset(long_line, 'a', 100000);
    memcpy(long_line, "#version\na ", 11);
    write_file(merges_path, long_line, 100000);
    free(long_line);
    cr_assert_eq(l2d_tokenizer_create(&tok, CLIP "vocab.json", merges_path, &err), L2D_EFORMAT);
    cr_assert(strstr(err.msg, "line 2 is too long"), "%s", err.msg);
    cr_assert_eq(l2d_tokenizer_create(&tok, CLIP "vocab.json", "/nonexistent", &err), L2D_EIO);
}

Test(tokenizer, bad_vocabularies, .init = make_dir, .fini = remove_dir)
{
    static const struct { const char *key, *value, *want; } cases[] = {
        { "a", NULL, "symbol \"a\" is missing" },
        { "\xc5\x83", NULL, "symbol \"\xc5\x83\" is missing" },         // byte 173
        { "z</w>", NULL, "symbol \"z</w>\" is missing" },
        { "<|startoftext|>", NULL, "symbol \"<|startoftext|>\" is missing" },
        { "<|endoftext|>", NULL, "symbol \"<|endoftext|>\" is missing" },
        { "a", "\"64\"", "symbol \"a\": its id must be an integer" },
        { "a", "-1", "symbol \"a\": its id must be" },
        { "a", "1048576", "symbol \"a\": its id must be" },
        { "a", "9223372036854775807", "symbol \"a\": its id must be" },
        { "a", "1.5", "symbol \"a\": its id must be" },
        { "a", "0", "have the same id, 0" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct l2d_error err = { 0 };
        struct l2d_tokenizer *tok = NULL;
        json_t *vocab = json_load_file(CLIP "vocab.json", 0, NULL);
        json_object_del(vocab, cases[i].key);
        if (cases[i].value)
            json_object_set_new(vocab, cases[i].key,
                                json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        cr_assert_eq(json_dump_file(vocab, vocab_path, 0), 0);
        json_decref(vocab);
        cr_assert_eq(l2d_tokenizer_create(&tok, vocab_path, CLIP "merges.txt", &err), L2D_EFORMAT,
                     "case %zu", i);
        cr_assert_null(tok);
        cr_assert(strstr(err.msg, cases[i].want) && strstr(err.msg, vocab_path), "case %zu: %s", i,
                  err.msg);
    }
    static const char *const texts[] = {
        "", "[]", "1", "{", "{\"a\": 1", "{\"a\": 1, \"a\": 2}", "{}",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct l2d_tokenizer *tok = NULL;
        write_file(vocab_path, texts[i], strlen(texts[i]));
        cr_assert_eq(l2d_tokenizer_create(&tok, vocab_path, CLIP "merges.txt", NULL), L2D_EFORMAT,
                     "text %zu", i);
    }
}

static void expect(const struct l2d_tokenizer *tok, const char *prompt, int count,
                   const int32_t *want)
{
    struct encoded e = encode(tok, prompt, MAX_TOKENS);
    cr_assert_eq(e.rc, L2D_OK, "%s", e.err.msg);
    cr_assert_eq(e.used, count + 2, "\"%s\": %d", prompt, e.used);
    for (int i = 0; i < count; i++)
        cr_assert_eq(e.ids[1 + i], want[i], "\"%s\", token %d: %d", prompt, i, e.ids[1 + i]);
}
#define EXPECT(tok, prompt, ...) \
    expect(tok, prompt, COUNT(((int32_t[]) { __VA_ARGS__ })), (int32_t[]) { __VA_ARGS__ })

static void add(struct l2d_tokenizer *tok, const char *word, int32_t id, int32_t num)
{
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_tokenizer_add(tok, word, id, num, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_tokenizer_num_ids(tok), id + num);
}

// "a photo of a cat" is 320 1125 539 320 2368.
Test(tokenizer, added_words)
{
    struct l2d_tokenizer *tok = open_tokenizer(CLIP);
    add(tok, "<cat-toy>", 49408, 1);
    add(tok, "Gh\xc3\x89st_v1", 49409, 3);
    add(tok, "gh\xc3\xa9st_v1 two", 49412, 1);
    add(tok, "\xe7\x8c\xab\xe5\x92\xaa", 49413, 2);
    add(tok, "!~!", 49415, 1);
    EXPECT(tok, "a photo of a cat", 320, 1125, 539, 320, 2368);
    EXPECT(tok, "a photo of a <cat-toy>", 320, 1125, 539, 320, 49408);
    EXPECT(tok, "a<cat-toy>a<CAT-Toy>", 320, 49408, 320, 49408);
    EXPECT(tok, "a ghe\xcc\x81st_V1 cat", 320, 49409, 49410, 49411, 2368);
    EXPECT(tok, "gh\xc3\xa9st_v1 two", 49412);                // the longest
    EXPECT(tok, "a \xe7\x8c\xab\xe5\x92\xaa a", 320, 49413, 49414, 320);
    EXPECT(tok, "a !~! cat!~!", 320, 49415, 2368, 49415);
    EXPECT(tok, "(!~!<cat-toy>", 263, 49415, 49408);             // within a run of signs
    l2d_tokenizer_destroy(&tok);
}

// Not within another word, where the text is as it would be without it.
Test(tokenizer, added_words_are_whole)
{
    static const char *const prompts[] = { "zfotos", "azfoto", "zfoto1", "zfoto_", "1zfoto" };
    struct l2d_tokenizer *plain = open_tokenizer(CLIP), *tok = open_tokenizer(CLIP);
    add(tok, "zfoto of a", 49408, 1);
    add(tok, "zfoto", 49409, 1);
    for (size_t i = 0; i < COUNT(prompts); i++) {
        struct encoded e = encode(plain, prompts[i], MAX_TOKENS);
        expect(tok, prompts[i], e.used - 2, e.ids + 1);
    }
    EXPECT(tok, "a zfoto-zfoto", 320, 49409, 268, 49409);
    EXPECT(tok, "zfoto of a", 49408);
    EXPECT(tok, "zfoto of a'", 49408, 262);
    l2d_tokenizer_destroy(&tok);
    l2d_tokenizer_destroy(&plain);
}

Test(tokenizer, added_words_are_cut)
{
    struct l2d_tokenizer *tok = open_tokenizer(CLIP);
    add(tok, "<long>", 49408, 75);
    struct encoded e = encode(tok, "a <long>", MAX_TOKENS);
    cr_assert(e.rc == L2D_OK && e.used == 77 && e.dropped == 1 && e.ids[75] == 49481);
    l2d_tokenizer_destroy(&tok);
}

Test(tokenizer, refuses_words)
{
    static char long_word[] = "0123456789012345678901234567890123456789012345678901234567890123"
                              "45678901234567890123456789012345678901234567890123456789012345678";
    static const struct { const char *word; int32_t id, num; const char *want; } cases[] = {
        { "", 49410, 1, "is empty" }, { " \t", 49410, 1, "is empty" },
        { "photo", 49410, 1, "of the vocabulary" }, { " Cat ", 49410, 1, "of the vocabulary" },
        { "<|EndOfText|>", 49410, 1, "of the vocabulary" }, { "a", 49410, 1, "of the vocabulary" },
        { "<DOG>", 49410, 1, "is there already" }, { " <dog>", 49410, 2, "is there already" },
        { "<dog>_1", 49410, 1, "a vector of another word" },
        { "<dog>_2", 49410, 1, "a vector of another word" },
        { "\xff", 49410, 1, "not UTF-8" }, { long_word, 49410, 1, "is too long" },
        { "<cat>", 49409, 1, "id, 49409, is not behind" }, { "<cat>", 49410, 0, "is not behind" },
        { "<cat>", 1 << 20, 1, "is not behind" }, { "<cat>", 49410, 1 << 20, "is not behind" },
    };
    struct l2d_tokenizer *tok = open_tokenizer(CLIP);
    add(tok, "<dog>", 49408, 2);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct l2d_error err = { 0 };
        cr_assert_eq(l2d_tokenizer_add(tok, cases[i].word, cases[i].id, cases[i].num, &err),
                     L2D_EINVAL, "case %zu", i);
        cr_assert(strstr(err.msg, cases[i].want), "case %zu: %s", i, err.msg);
        cr_assert_eq(l2d_tokenizer_num_ids(tok), 49410);
    }
    add(tok, "<dog>_3", 49410, 1);
    add(tok, "<dog>_03", 49411, 1);
    add(tok, "<dog>_10x", 49412, 1);
    struct l2d_error err = { 0 };
    add(tok, "<cat>_40", 49413, 1);
    cr_assert_eq(l2d_tokenizer_add(tok, "<cat>", 49414, 40, &err), L2D_EINVAL);
    cr_assert(strstr(err.msg, "or that for one of its"), "%s", err.msg);
    add(tok, "<cat>", 49414, 39);
    EXPECT(tok, "<dog>", 49408, 49409);
    l2d_tokenizer_destroy(&tok);
}

Test(tokenizer, added_tokens_json, .init = make_dir, .fini = remove_dir)
{
    static const struct { const char *text, *want; } cases[] = {
        { "[]", "must be an object" }, { "{\"<a>\": \"1\"}", "\"<a>\": its id must be" },
        { "{\"<a>\": 49408, \"<b>\": 49408}", "the same id" },
        { "{\"<a>\": 49407}", "\"<a>\": its id, 49407, is not behind" },
        { "{\"photo\": 49408}", "\"photo\": is a word of the vocabulary" },
        { "{\"<a>\": 49408, \"<A>\": 49409}", "\"<A>\": is there already" },
        { "{\"<a>\": 49408, \"<b>\": 49409, \"<a>_1\": 49410}", "\"<a>_1\": would be taken" },
        { "{\"\\n\": 49408}", "\"?\": is empty" }, { "{\"<a>\": 1, \"<a>\": 2}", "duplicate" },
    };
    struct l2d_tokenizer *tok = NULL;
    struct l2d_error err = { 0 };
    for (size_t i = 0; i < COUNT(cases); i++) {
        tok = open_tokenizer(CLIP);
        write_file(vocab_path, cases[i].text, strlen(cases[i].text));
        cr_assert_eq(l2d_tokenizer_read_added(tok, vocab_path, &err), L2D_EFORMAT, "case %zu", i);
        cr_assert(strstr(err.msg, cases[i].want) && strstr(err.msg, vocab_path), "case %zu: %s", i,
                  err.msg);
        l2d_tokenizer_destroy(&tok);
    }
    tok = open_tokenizer(CLIP);
    cr_assert_eq(l2d_tokenizer_read_added(tok, "/nonexistent", &err), L2D_EIO);
    static const char fine[] = "{\"<b>\": 49412, \"<a>_1\": 49409, \"<a>\": 49408, "
                               "\"<a>_2\": 49410, \"<b>_2\": 49413}";
    write_file(vocab_path, fine, sizeof(fine) - 1);
    cr_assert_eq(l2d_tokenizer_read_added(tok, vocab_path, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_tokenizer_num_ids(tok), 49414);
    EXPECT(tok, "<a> <b> <b>_2", 49408, 49409, 49410, 49412, 49413);
    l2d_tokenizer_destroy(&tok);
}

// Merge lists at random, hostile ones among them: cycles of ranks, ends in the middle of a word.
Test(tokenizer, mutated_files, .init = make_dir, .fini = remove_dir, .timeout = 120)
{
    static const char *const prompts[] = {
        "a photo of a cat", "masterpiece, best quality", "aaaa aaa!!",
    };
    char *merges;
    size_t size;
    cr_assert_eq(l2d_file_read(&merges, &size, CLIP "merges.txt", 1 << 20, NULL), L2D_OK);
    uint32_t state = 11;
    int num_ok = 0;
    for (int i = 0; i < 1500; i++) {
        char *text = malloc(size);
        cr_assert_not_null(text);
        memcpy(text, merges, size);
        for (int n = 0; n < 1 + i % 2; n++) {
            state = state * 1664525 + 1013904223;
            size_t at = 14 + (state >> 8) % (size - 14);
            state = state * 1664525 + 1013904223;
            text[at] = state >> 31 ? "abcdeghost \n<>/w"[state >> 8 & 15] : (char) (state >> 16);
        }
        write_file(merges_path, text, size);
        free(text);
        struct l2d_tokenizer *tok = NULL;
        struct l2d_error err = { 0 };
        int rc = l2d_tokenizer_create(&tok, CLIP "vocab.json", merges_path, &err);
        cr_assert(rc == L2D_OK || (rc == L2D_EFORMAT && err.msg[0]));
        for (size_t p = 0; rc == L2D_OK && p < COUNT(prompts); p++) {
            num_ok++;
            struct encoded e = encode(tok, prompts[p], 16);
            cr_assert_eq(e.rc, L2D_OK);
            for (int t = 0; t < 16; t++)
                cr_assert(e.ids[t] >= 0 && e.ids[t] < l2d_tokenizer_num_ids(tok));
        }
        l2d_tokenizer_destroy(&tok);
    }
    free(merges);
    cr_assert_gt(num_ok, 10);
}
