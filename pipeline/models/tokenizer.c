// SPDX-License-Identifier: Apache-2.0
// CLIP's byte-level BPE. See tokenizer.h.
// Symbols are ids from the start: the strings of vocab.json are needed only while merges.txt is
// read. Look-ups are binary searches, so no choice of file can make them slow.
#include "pipeline/models/tokenizer.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/file.h"
#include "base/json_reader.h"

#define MAX_FILE_BYTES (16 << 20)
#define MAX_IDS (1 << 20)
#define MAX_SYMBOL_BYTES 512
#define MAX_ADDED 1024              // words, and code points of one: each is looked for everywhere
#define MAX_ADDED_CHARS 128
#define NO_RANK INT32_MAX
#define START_TEXT "<|startoftext|>"
#define END_TEXT "<|endoftext|>"

struct merge {
    uint64_t pair;                  // left id in the upper half, right id in the lower
    int32_t rank, id;               // line in the file; what the pair becomes
};

struct added {                      // a word that the vocabulary lacks
    int32_t *c;                     // code points, as fold() gives them
    size_t len;
    int32_t first_id, num_ids;
};

struct l2d_tokenizer {
    int32_t byte_id[256];           // of a byte within a word
    int32_t byte_end_id[256];       // of a byte that ends one
    int32_t start_id, end_id;
    int32_t num_ids;
    struct merge *merge;            // by pair
    size_t num_merges;
    struct added *added;            // the longest first
    size_t num_added;
};

// --- vocab.json

struct symbol {
    const char *text;               // owned by the parsed JSON
    int32_t id;
};

struct vocab {
    struct symbol *symbol;          // by text
    size_t count;
};

static int by_text(const void *pa, const void *pb)
{
    const struct symbol *a = pa, *b = pb;
    return strcmp(a->text, b->text);
}

static int by_id(const void *pa, const void *pb)
{
    const struct symbol *a = pa, *b = pb;
    return (a->id > b->id) - (a->id < b->id);
}

static int32_t vocab_find(const struct vocab *v, const char *text)
{
    const struct symbol *s = bsearch(&(struct symbol) { .text = text }, v->symbol, v->count,
                                     sizeof(*v->symbol), by_text);
    return s ? s->id : -1;
}

static void vocab_read(struct vocab *v, struct l2d_json_reader *r)
{
    struct l2d_json_object root = l2d_json_root(r);
    if (r->rc != L2D_OK)
        return;
    v->symbol = calloc(json_object_size(root.value) + 1, sizeof(*v->symbol));
    if (!v->symbol) {
        r->rc = l2d_error_set(r->err, L2D_ENOMEM, "%s: out of memory", r->file);
        return;
    }
    const char *text;
    json_t *id;
    json_object_foreach(root.value, text, id) {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= MAX_IDS)
            l2d_json_fail(r, "", "symbol \"%.64s\": its id must be an integer within 0..%d", text,
                          MAX_IDS - 1);
        v->symbol[v->count++] = (struct symbol) { text, (int32_t) json_integer_value(id) };
    }
    qsort(v->symbol, v->count, sizeof(*v->symbol), by_id);
    for (size_t i = 1; i < v->count; i++)
        if (v->symbol[i].id == v->symbol[i - 1].id)
            l2d_json_fail(r, "", "symbols \"%.64s\" and \"%.64s\" have the same id, %" PRId32,
                          v->symbol[i - 1].text, v->symbol[i].text, v->symbol[i].id);
    qsort(v->symbol, v->count, sizeof(*v->symbol), by_text);
}

// Bytes are written as one printable character each: as themselves in Latin-1 where that is
// printable, the others, in order, as U+0100, U+0101, ...
static void byte_text(char text[3], int byte)
{
    int32_t c = byte;
    if (byte <= 32)
        c = 0x100 + byte;
    else if (byte >= 127 && byte <= 160)
        c = 0x100 + 33 + byte - 127;
    else if (byte == 173)
        c = 0x100 + 67;
    utf8proc_uint8_t utf8[4];
    utf8proc_ssize_t len = utf8proc_encode_char(c, utf8);
    memcpy(text, utf8, (size_t) len);               // one or two bytes
    text[len] = '\0';
}

static int32_t require(const struct vocab *v, struct l2d_json_reader *r, const char *text)
{
    int32_t id = vocab_find(v, text);
    if (id < 0)
        l2d_json_fail(r, "", "symbol \"%s\" is missing", text);
    return id;
}

static void find_bytes(struct l2d_tokenizer *tok, const struct vocab *v, struct l2d_json_reader *r)
{
    for (int b = 0; b < 256; b++) {
        char text[3], end[8];
        byte_text(text, b);
        snprintf(end, sizeof(end), "%s</w>", text);
        tok->byte_id[b] = require(v, r, text);
        tok->byte_end_id[b] = require(v, r, end);
    }
    tok->start_id = require(v, r, START_TEXT);
    tok->end_id = require(v, r, END_TEXT);
    for (size_t i = 0; i < v->count; i++)
        if (v->symbol[i].id >= tok->num_ids)
            tok->num_ids = v->symbol[i].id + 1;
}

// --- merges.txt

static int by_pair(const void *pa, const void *pb)
{
    const struct merge *a = pa, *b = pb;
    return (a->pair > b->pair) - (a->pair < b->pair);
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t) (uint32_t) left << 32 | (uint32_t) right;
}

// One line, "left right". NULL, or what is wrong with it.
static const char *read_merge(struct merge *m, char *line, const struct vocab *v)
{
    char *space = strchr(line, ' ');
    if (!space || space == line || !space[1] || strchr(space + 1, ' '))
        return "must be two symbols with a space between them";
    size_t len = strlen(line);
    if (len > MAX_SYMBOL_BYTES)
        return "is too long";
    *space = '\0';
    char made[MAX_SYMBOL_BYTES + 1];
    snprintf(made, sizeof(made), "%s%s", line, space + 1);
    int32_t left = vocab_find(v, line), right = vocab_find(v, space + 1);
    m->id = vocab_find(v, made);
    if (left < 0 || right < 0 || m->id < 0)
        return "has a symbol, or makes one, that is not in the vocabulary";
    m->pair = pair_of(left, right);
    return NULL;
}

// text: the whole file, which is cut into lines in place.
static int parse_merges(struct l2d_tokenizer *tok, const struct vocab *v, char *text,
                        size_t size_bytes, const char *path, struct l2d_error *err)
{
    if (memchr(text, '\0', size_bytes))
        return l2d_error_set(err, L2D_EFORMAT, "%s: has a zero byte; is it a text file?", path);
    size_t num_lines = 1;
    for (size_t i = 0; i < size_bytes; i++)
        num_lines += text[i] == '\n';
    tok->merge = calloc(num_lines, sizeof(*tok->merge));
    if (!tok->merge)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);

    size_t number = 1;
    for (char *line = text, *next; line; line = next, number++) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        size_t len = strlen(line);
        if (len > 0 && line[len - 1] == '\r')
            line[len - 1] = '\0';
        if (number == 1 && !strstr(line, "#version"))
            return l2d_error_set(err, L2D_EFORMAT, "%s: line 1 must hold \"#version\"", path);
        if (number == 1 || !*line)
            continue;
        struct merge *m = &tok->merge[tok->num_merges];
        const char *wrong = read_merge(m, line, v);
        if (wrong)
            return l2d_error_set(err, L2D_EFORMAT, "%s: line %zu %s", path, number, wrong);
        m->rank = (int32_t) tok->num_merges++;
    }
    qsort(tok->merge, tok->num_merges, sizeof(*tok->merge), by_pair);
    for (size_t i = 1; i < tok->num_merges; i++)
        if (tok->merge[i].pair == tok->merge[i - 1].pair)
            return l2d_error_set(err, L2D_EFORMAT, "%s: merges %" PRId32 " and %" PRId32 " are the "
                                 "same", path, tok->merge[i - 1].rank + 1, tok->merge[i].rank + 1);
    return L2D_OK;
}

int l2d_tokenizer_create(struct l2d_tokenizer **out, const char *vocab_path,
                         const char *merges_path, struct l2d_error *err)
{
    struct l2d_tokenizer *tok = calloc(1, sizeof(*tok));
    if (!tok)
        return l2d_error_set(err, L2D_ENOMEM, "tokenizer: out of memory");
    struct vocab v = { 0 };
    struct l2d_json_reader r;
    char *merges = NULL;
    size_t size_bytes = 0;
    l2d_json_reader_init(&r, vocab_path, MAX_FILE_BYTES, err);
    vocab_read(&v, &r);
    if (r.rc == L2D_OK)
        find_bytes(tok, &v, &r);
    int rc = r.rc;
    if (rc == L2D_OK)
        rc = l2d_file_read(&merges, &size_bytes, merges_path, MAX_FILE_BYTES, err);
    if (rc == L2D_OK)
        rc = parse_merges(tok, &v, merges, size_bytes, merges_path, err);
    free(merges);
    free(v.symbol);
    l2d_json_reader_finish(&r);
    if (rc != L2D_OK) {
        l2d_tokenizer_destroy(&tok);
        return rc;
    }
    *out = tok;
    return L2D_OK;
}

void l2d_tokenizer_destroy(struct l2d_tokenizer **ptok)
{
    struct l2d_tokenizer *tok = *ptok;
    *ptok = NULL;
    if (!tok)
        return;
    for (size_t i = 0; i < tok->num_added; i++)
        free(tok->added[i].c);
    free(tok->added);
    free(tok->merge);
    free(tok);
}

int32_t l2d_tokenizer_num_ids(const struct l2d_tokenizer *tok)
{
    return tok->num_ids;
}

// --- clean-up: BasicTokenizer, and str.lower()

static bool is_cjk(int32_t c)
{
    static const int32_t range[][2] = {
        { 0x4E00, 0x9FFF }, { 0x3400, 0x4DBF }, { 0x20000, 0x2A6DF }, { 0x2A700, 0x2B73F },
        { 0x2B740, 0x2B81F }, { 0x2B820, 0x2CEAF }, { 0xF900, 0xFAFF }, { 0x2F800, 0x2FA1F },
    };
    for (size_t i = 0; i < sizeof(range) / sizeof(*range); i++)
        if (c >= range[i][0] && c <= range[i][1])
            return true;
    return false;
}

enum kind { SPACE, LETTER, DIGIT, OTHER, CONTROL };

static enum kind kind_of(int32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r')
        return SPACE;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return SPACE;
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return DIGIT;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
        return CONTROL;
    default:
        return OTHER;
    }
}

// prompt -> UTF-8 without control characters, *out. Ideographs, of three bytes or more, gain two.
static int clean(char **out, const char *prompt, size_t size_bytes, struct l2d_error *err)
{
    char *to = *out = malloc(2 * size_bytes + 1);
    if (!to)
        return l2d_error_set(err, L2D_ENOMEM, "prompt: out of memory");
    for (size_t at = 0; at < size_bytes; ) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *) prompt + at,
                                              (utf8proc_ssize_t) (size_bytes - at), &c);
        if (n <= 0)
            return l2d_error_set(err, L2D_EINVAL, "the prompt is not UTF-8: invalid at byte %zu",
                                 at);
        enum kind kind = kind_of(c);
        if (kind == SPACE) {
            *to++ = ' ';
        } else if (kind != CONTROL && c != 0xFFFD) {
            bool cjk = is_cjk(c);
            if (cjk)
                *to++ = ' ';
            memcpy(to, prompt + at, (size_t) n);
            to += n;
            if (cjk)
                *to++ = ' ';
        }
        at += (size_t) n;
    }
    *to = '\0';
    return L2D_OK;
}

struct text {
    int32_t *c;                     // code points
    size_t len;
};

// Cleaned UTF-8 -> NFC, lower case, code points.
static int fold(struct text *t, const char *cleaned, struct l2d_error *err)
{
    utf8proc_uint8_t *nfc = NULL;
    const utf8proc_option_t options = UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_ssize_t size_bytes = utf8proc_map((const utf8proc_uint8_t *) cleaned, 0, &nfc,
                                               options);
    if (size_bytes >= 0)
        t->c = malloc(((size_t) size_bytes + 1) * sizeof(*t->c));
    if (!t->c) {
        free(nfc);
        return l2d_error_set(err, L2D_ENOMEM, "prompt: out of memory");
    }
    for (utf8proc_ssize_t at = 0; at < size_bytes; ) {
        utf8proc_int32_t c;
        at += utf8proc_iterate(nfc + at, size_bytes - at, &c);
        if (c == 0x130) {                       // I with a dot: the only one that becomes two
            t->c[t->len++] = 'i';
            c = 0x307;
        }
        t->c[t->len++] = utf8proc_tolower(c);
    }
    free(nfc);
    return L2D_OK;
}

// --- pieces and pairs

// Length of the word that text has at a place, or 0. Words are ASCII.
static size_t starts_with(const struct text *t, size_t at, const char *word)
{
    size_t len = strlen(word);
    if (len > t->len - at)
        return 0;
    for (size_t i = 0; i < len; i++)
        if (t->c[at + i] != word[i])
            return 0;
    return len;
}

// Length of a special token at a place, or 0.
static size_t special_at(const struct text *t, size_t at)
{
    size_t len = starts_with(t, at, START_TEXT);
    return len ? len : starts_with(t, at, END_TEXT);
}

static bool is_within_word(const struct text *t, size_t at)
{
    enum kind kind = at < t->len ? kind_of(t->c[at]) : SPACE;
    return kind == LETTER || kind == DIGIT || (kind == OTHER && t->c[at] == '_');
}

// Whether a word begins or ends between a place and the one before.
static bool is_boundary(const struct text *t, size_t at)
{
    return at == 0 || !is_within_word(t, at - 1) || !is_within_word(t, at);
}

// The longest added word that stands at a place, or NULL.
static const struct added *added_at(const struct l2d_tokenizer *tok, const struct text *t,
                                    size_t at)
{
    if (tok->num_added == 0 || !is_boundary(t, at))
        return NULL;
    for (const struct added *a = tok->added; a < tok->added + tok->num_added; a++)
        if (a->len <= t->len - at && !memcmp(a->c, t->c + at, a->len * sizeof(*a->c)) &&
            is_boundary(t, at + a->len))
            return a;
    return NULL;
}

// Length of the piece at a place that is not a space: a contraction's end, a run of letters, one
// digit, or a run of anything else, up to a special token or an added word.
static size_t piece_at(const struct l2d_tokenizer *tok, const struct text *t, size_t at)
{
    static const char *const contractions[] = { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" };
    for (size_t i = 0; i < sizeof(contractions) / sizeof(*contractions); i++) {
        size_t len = starts_with(t, at, contractions[i]);
        if (len)
            return len;
    }
    enum kind kind = kind_of(t->c[at]);
    size_t len = 1;
    if (kind == DIGIT)
        return len;
    while (at + len < t->len) {
        enum kind next = kind_of(t->c[at + len]);
        bool same = kind == LETTER ? next == LETTER : next == OTHER || next == CONTROL;
        if (!same || special_at(t, at + len) || added_at(tok, t, at + len))
            break;
        len++;
    }
    return len;
}

struct output {
    int32_t *ids;
    int len, max, num_dropped;
};

static void emit(struct output *out, int32_t id)
{
    if (out->len < out->max)
        out->ids[out->len++] = id;
    else
        out->num_dropped++;
}

static const struct merge *find_merge(const struct l2d_tokenizer *tok, int32_t left, int32_t right)
{
    return bsearch(&(struct merge) { .pair = pair_of(left, right) }, tok->merge, tok->num_merges,
                   sizeof(*tok->merge), by_pair);
}

// A word while it is merged: pair i, of symbols i and i+1, has rank[i] and would become made[i].
struct word {
    int32_t *id, *rank, *made;
    size_t len;
};

static void rank_pair(const struct l2d_tokenizer *tok, struct word *w, size_t i)
{
    const struct merge *m = i + 1 < w->len ? find_merge(tok, w->id[i], w->id[i + 1]) : NULL;
    w->rank[i] = m ? m->rank : NO_RANK;
    w->made[i] = m ? m->id : 0;
}

// Merge every occurrence of the pair with this rank, left to right, moving the rest up.
static void merge_all(const struct l2d_tokenizer *tok, struct word *w, int32_t rank)
{
    size_t to = 0;
    for (size_t from = 0; from < w->len; to++) {
        bool merged = w->rank[from] == rank;
        w->id[to] = merged ? w->made[from] : w->id[from];
        w->made[to] = merged ? -1 : w->made[from];      // -1: its neighbour has changed
        w->rank[to] = w->rank[from];
        from += merged ? 2 : 1;
    }
    w->len = to;
    for (size_t i = 0; i < to; i++)
        w->rank[i] = w->made[i] < 0 || (i + 1 < to && w->made[i + 1] < 0) ? -1 : w->rank[i];
    for (size_t i = 0; i < to; i++)
        if (w->rank[i] < 0)
            rank_pair(tok, w, i);
}

static void encode_word(const struct l2d_tokenizer *tok, struct word *w, struct output *out)
{
    for (size_t i = 0; i < w->len; i++)
        rank_pair(tok, w, i);
    for (;;) {
        int32_t best = NO_RANK;
        for (size_t i = 0; i < w->len; i++)
            best = w->rank[i] < best ? w->rank[i] : best;
        if (best == NO_RANK)
            break;
        merge_all(tok, w, best);
    }
    for (size_t i = 0; i < w->len; i++)
        emit(out, w->id[i]);
}

static int encode_text(const struct l2d_tokenizer *tok, const struct text *t, struct output *out,
                       struct l2d_error *err)
{
    size_t room = 4 * t->len + 1;               // bytes of the longest word
    int32_t *memory = malloc(3 * room * sizeof(*memory));
    if (!memory)
        return l2d_error_set(err, L2D_ENOMEM, "prompt: out of memory");
    struct word w = { .id = memory, .rank = memory + room, .made = memory + 2 * room };

    for (size_t at = 0, len; at < t->len; at += len) {
        len = special_at(t, at);
        if (len) {
            emit(out, starts_with(t, at, START_TEXT) ? tok->start_id : tok->end_id);
            continue;
        }
        const struct added *added = added_at(tok, t, at);
        for (int32_t i = 0; added && i < added->num_ids; i++)
            emit(out, added->first_id + i);
        len = added ? added->len : 1;
        if (added || kind_of(t->c[at]) == SPACE)
            continue;
        len = piece_at(tok, t, at);
        w.len = 0;
        for (size_t i = 0; i < len; i++) {
            utf8proc_uint8_t utf8[4];
            utf8proc_ssize_t n = utf8proc_encode_char(t->c[at + i], utf8);
            for (utf8proc_ssize_t b = 0; b < n; b++) {
                bool last = i + 1 == len && b + 1 == n;
                w.id[w.len++] = last ? tok->byte_end_id[utf8[b]] : tok->byte_id[utf8[b]];
            }
        }
        encode_word(tok, &w, out);
    }
    free(memory);
    return L2D_OK;
}

int l2d_tokenizer_encode(const struct l2d_tokenizer *tok, const char *prompt, int max_tokens,
                         int32_t *ids, int *num_used, int *num_dropped, struct l2d_error *err)
{
    assert(max_tokens >= 3);
    size_t size_bytes = strlen(prompt);
    if (size_bytes > L2D_TOKENIZER_MAX_PROMPT_BYTES)
        return l2d_error_set(err, L2D_EINVAL, "the prompt has %zu bytes; at most %d are possible",
                             size_bytes, L2D_TOKENIZER_MAX_PROMPT_BYTES);
    char *cleaned = NULL;
    struct text t = { 0 };
    struct output out = { .ids = ids + 1, .max = max_tokens - 2 };
    int rc = clean(&cleaned, prompt, size_bytes, err);
    if (rc == L2D_OK)
        rc = fold(&t, cleaned, err);
    if (rc == L2D_OK)
        rc = encode_text(tok, &t, &out, err);
    free(cleaned);
    free(t.c);
    if (rc != L2D_OK)
        return rc;
    ids[0] = tok->start_id;
    for (int i = out.len + 1; i < max_tokens; i++)
        ids[i] = tok->end_id;
    *num_used = out.len + 2;
    *num_dropped = out.num_dropped;
    return L2D_OK;
}

// --- added words

// The word as a prompt would have it, without the spaces around it.
static int read_word(struct text *t, const char *word, struct l2d_error *err)
{
    char *cleaned = NULL;
    size_t first = 0;
    int rc = clean(&cleaned, word, strlen(word), err);
    if (rc == L2D_OK)
        rc = fold(t, cleaned, err);
    free(cleaned);
    if (rc != L2D_OK)
        return rc;
    while (t->len > 0 && t->c[t->len - 1] == ' ')
        t->len--;
    while (first < t->len && t->c[first] == ' ')
        first++;
    t->len -= first;
    memmove(t->c, t->c + first, t->len * sizeof(*t->c));
    return L2D_OK;
}

// Whether name is what one of a word's vectors is called, or would be if it had one more: the word,
// "_" and a number of 1 to num_ids.
static bool names_vector(const struct text *name, const int32_t *word, size_t len, int32_t num_ids)
{
    int64_t number = 0;
    if (name->len < len + 2 || memcmp(name->c, word, len * sizeof(*word)) != 0 ||
        name->c[len] != '_' || name->c[len + 1] == '0')
        return false;
    for (size_t i = len + 1; i < name->len && number <= num_ids; i++) {
        if (name->c[i] < '0' || name->c[i] > '9')
            return false;
        number = 10 * number + name->c[i] - '0';
    }
    return number <= num_ids;
}

// NULL, or why a word cannot be added.
static const char *check_word(const struct l2d_tokenizer *tok, const struct text *word,
                              int32_t num_ids)
{
    if (word->len == 0)
        return "is empty";
    if (word->len > MAX_ADDED_CHARS || tok->num_added == MAX_ADDED)
        return word->len > MAX_ADDED_CHARS ? "is too long" : "is one word too many";
    for (size_t i = 0; i < tok->num_added; i++) {
        const struct added *a = &tok->added[i];
        const struct text other = { a->c, a->len };
        if (a->len == word->len && !memcmp(a->c, word->c, a->len * sizeof(*a->c)))
            return "is there already";
        if (names_vector(word, a->c, a->len, a->num_ids) ||
            names_vector(&other, word->c, word->len, num_ids))
            return "would be taken for a vector of another word, or that for one of its";
    }
    return NULL;
}

int l2d_tokenizer_add(struct l2d_tokenizer *tok, const char *word, int32_t first_id,
                      int32_t num_ids, struct l2d_error *err)
{
    struct text t = { 0 };
    int32_t ids[4];
    int used = 0, dropped = 0;
    int rc = l2d_tokenizer_encode(tok, word, 4, ids, &used, &dropped, err);
    if (rc == L2D_OK)
        rc = read_word(&t, word, err);
    const char *wrong = rc == L2D_OK ? check_word(tok, &t, num_ids) : NULL;
    if (rc == L2D_OK && !wrong && used == 3 && dropped == 0)
        wrong = "is a word of the vocabulary";
    if (wrong)
        rc = l2d_error_set(err, L2D_EINVAL, "%s", wrong);
    if (rc == L2D_OK && (first_id < tok->num_ids || num_ids < 1 || num_ids > MAX_IDS - first_id))
        rc = l2d_error_set(err, L2D_EINVAL, "its id, %" PRId32 ", is not behind the others",
                           first_id);
    struct added *more = rc == L2D_OK ? realloc(tok->added, (tok->num_added + 1) * sizeof(*more))
                                      : NULL;
    if (rc == L2D_OK && !more)
        rc = l2d_error_set(err, L2D_ENOMEM, "out of memory");
    if (rc != L2D_OK) {
        free(t.c);
        return rc;
    }
    tok->added = more;
    size_t at = tok->num_added++;
    for (; at > 0 && more[at - 1].len < t.len; at--)
        more[at] = more[at - 1];
    more[at] = (struct added) { t.c, t.len, first_id, num_ids };
    tok->num_ids = first_id + num_ids;
    return L2D_OK;
}

int l2d_tokenizer_read_added(struct l2d_tokenizer *tok, const char *path, struct l2d_error *err)
{
    struct vocab v = { 0 };
    struct l2d_json_reader r;
    l2d_json_reader_init(&r, path, MAX_FILE_BYTES, err);
    vocab_read(&v, &r);
    int rc = r.rc;
    if (rc == L2D_OK)
        qsort(v.symbol, v.count, sizeof(*v.symbol), by_id);
    for (size_t i = 0, num; i < v.count && rc == L2D_OK; i += num) {
        const struct symbol *s = &v.symbol[i];
        size_t len = strlen(s->text);
        for (num = 1; i + num < v.count && s[num].id == s->id + (int32_t) num; num++) {
            char ending[32];
            snprintf(ending, sizeof(ending), "_%zu", num);
            if (strncmp(s[num].text, s->text, len) != 0 || strcmp(s[num].text + len, ending) != 0)
                break;
        }
        rc = l2d_tokenizer_add(tok, s->text, s->id, (int32_t) num, err);
        if (rc == L2D_EINVAL)
            rc = l2d_error_wrap(err, L2D_EFORMAT, "%s: \"%.64s\"", path, s->text);
        if (rc == L2D_EFORMAT && err)
            l2d_error_printable(err->msg);
    }
    free(v.symbol);
    l2d_json_reader_finish(&r);
    return rc;
}
