// SPDX-License-Identifier: Apache-2.0
// Reading of prompts and the arithmetic on their embeddings. See prompt.h.
#include "pipeline/prompt.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/models/tokenizer.h"

#define BRACKET_WEIGHT 1.1
#define MAX_MEAN_RATIO 4.0
#define MAX_NUMBER 40               // characters
#define NOWHERE SIZE_MAX

// ---- reading

struct reader {
    const char *text;                   // that columns are of
    const char *name;                   // of the text in messages: "", "prompt_template, "
    enum l2d_prompt_syntax syntax;
    const struct l2d_prompt_part *fill; // what "{}" stands for, in a template; else NULL
    struct l2d_prompt_part *out;        // with room for all that can be emitted
    size_t len;
    struct l2d_error *err;
};

static int complain(const struct reader *r, size_t at, const char *what)
{
    int column = 1;
    for (size_t i = 0; i < at; i++)
        column += ((unsigned char) r->text[i] & 0xc0) != 0x80;      // UTF-8: not a later byte
    return l2d_error_set(r->err, L2D_EINVAL, "%scolumn %d: %s", r->name, column, what);
}

static void emit(struct reader *r, char byte, double weight)
{
    r->out->text[r->len] = byte;
    r->out->weight[r->len++] = (float) fmin(weight, L2D_PROMPT_MAX_WEIGHT);
}

// A backslash that makes a character of what follows it?
static bool is_escape(const char *text, size_t at, size_t end)
{
    return text[at] == '\\' && at + 1 < end && text[at + 1] && strchr("()[]|:\\", text[at + 1]);
}

// The bracket that closes the one at `at`, before end; or NOWHERE.
static size_t find_close(const char *text, size_t at, size_t end)
{
    char open = text[at], close = open == '(' ? ')' : ']';
    int depth = 0;
    for (size_t i = at; i < end; i++) {
        if (is_escape(text, i, end))
            i++;
        else if (text[i] == open)
            depth++;
        else if (text[i] == close && --depth == 0)
            return i;
    }
    return NOWHERE;
}

// [first, last) is of a sign, digits and a dot. By hand, since strtod reads a comma where the
// locale writes one.
static double number_of(const char *text, size_t first, size_t last)
{
    double value = 0, unit = 1;
    bool fraction = false;
    for (size_t i = first; i < last; i++) {
        if (text[i] == '.')
            fraction = true;
        else if (text[i] != '-' && text[i] != '+') {
            value = value * 10 + (text[i] - '0');
            unit *= fraction ? 10 : 1;
        }
    }
    return text[first] == '-' ? -value / unit : value / unit;
}

// Does [begin, end) end in ":number"? Then *colon and *number.
static bool ends_in_number(const char *text, size_t begin, size_t end, size_t *colon,
                           double *number)
{
    size_t at = end, digits = 0, dots = 0;
    while (at > begin && text[at - 1] == ' ')
        at--;
    size_t last = at;
    for (; at > begin && strchr("0123456789.", text[at - 1]); at--) {
        dots += text[at - 1] == '.';
        digits += text[at - 1] != '.';
    }
    if (at > begin && (text[at - 1] == '-' || text[at - 1] == '+'))
        at--;
    size_t first = at;
    while (at > begin && text[at - 1] == ' ')
        at--;
    if (digits == 0 || dots > 1 || last - first > MAX_NUMBER || at == begin || text[at - 1] != ':')
        return false;
    size_t slash = at - 1;                      // an even number of them are characters
    while (slash > begin && text[slash - 1] == '\\')
        slash--;
    if ((at - 1 - slash) % 2)
        return false;
    *colon = at - 1;
    *number = number_of(text, first, last);
    return true;
}

static int read_text(struct reader *r, size_t begin, size_t end, double weight);

// A '(' or '[' at *at, which moves behind what was read.
static int read_bracket(struct reader *r, size_t *at, size_t end, double weight)
{
    size_t open = *at, close = find_close(r->text, open, end), colon;
    double number;
    bool numbered = ends_in_number(r->text, open + 1, close == NOWHERE ? end : close, &colon,
                                   &number);
    bool round = r->text[open] == '(', bare = r->syntax == L2D_PROMPT_BRACKETS;
    if (!bare && !(round && numbered)) {
        emit(r, r->text[(*at)++], weight);
        return L2D_OK;
    }
    if (close == NOWHERE)
        return complain(r, open, round ? "'(' has no ')'; write \\( for the character"
                                       : "'[' has no ']'; write \\[ for the character");
    if (!round && numbered)
        return complain(r, colon, "a number weighs in ( ), not in [ ]");
    if (numbered && !(number >= 0 && number <= L2D_PROMPT_MAX_WEIGHT))
        return complain(r, colon, "a weight must be from 0 to 4; write \\: or \\( for the "
                        "character");
    double factor = numbered ? number : round ? BRACKET_WEIGHT : 1 / BRACKET_WEIGHT;
    *at = close + 1;
    return read_text(r, open + 1, numbered ? colon : close,
                     fmin(weight * factor, L2D_PROMPT_MAX_WEIGHT));
}

static int read_text(struct reader *r, size_t begin, size_t end, double weight)
{
    int rc = L2D_OK;
    for (size_t at = begin; at < end && rc == L2D_OK;) {
        char c = r->text[at];
        bool plain = r->syntax == L2D_PROMPT_PLAIN;
        if (r->fill && at + 1 < end && c == '{' && r->text[at + 1] == '}') {
            for (size_t i = 0; r->fill->text[i]; i++)
                emit(r, r->fill->text[i], weight * (double) r->fill->weight[i]);
            at += 2;
        } else if (!plain && is_escape(r->text, at, end)) {
            emit(r, r->text[at + 1], weight);
            at += 2;
        } else if (!plain && (c == '(' || c == '[')) {
            rc = read_bracket(r, &at, end, weight);
        } else if (r->syntax == L2D_PROMPT_BRACKETS && (c == ')' || c == ']')) {
            rc = complain(r, at, c == ')' ? "')' closes nothing; write \\) for the character"
                                          : "']' closes nothing; write \\] for the character");
        } else {
            emit(r, c, weight);
            at++;
        }
    }
    return rc;
}

static int make_part(struct l2d_prompt_part *part, size_t room, struct l2d_error *err)
{
    part->text = malloc(room + 1);
    part->weight = malloc((room + 1) * sizeof(*part->weight));
    return part->text && part->weight ? L2D_OK
                                      : l2d_error_set(err, L2D_ENOMEM, "prompt: out of memory");
}

static void finish_part(struct l2d_prompt_part *part)
{
    free(part->text);
    free(part->weight);
    part->text = NULL;
    part->weight = NULL;
}

// The part [begin, end) of the prompt, in its template.
static int read_part(struct l2d_prompt_part *part, const char *form, struct reader *r,
                     size_t begin, size_t end)
{
    struct l2d_prompt_part own = { 0 };
    int rc = make_part(&own, end - begin, r->err);
    if (rc == L2D_OK)
        rc = make_part(part, end - begin + strlen(form), r->err);
    if (rc == L2D_OK) {
        r->out = &own;
        r->len = 0;
        rc = read_text(r, begin, end, 1);
        own.text[r->len] = '\0';
    }
    if (rc == L2D_OK) {
        struct reader t = { .text = form, .name = "prompt_template, ", .syntax = r->syntax,
                            .fill = &own, .out = part, .err = r->err };
        rc = read_text(&t, 0, strlen(form), 1);
        part->text[t.len] = '\0';
    }
    finish_part(&own);
    return rc;
}

// The bar that ends the part which begins there, or the text's end.
static size_t find_bar(const char *text, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++) {
        size_t close = text[i] == '(' || text[i] == '[' ? find_close(text, i, end) : NOWHERE;
        if (is_escape(text, i, end))
            i++;
        else if (close != NOWHERE)
            i = close;
        else if (text[i] == '|')
            return i;
    }
    return end;
}

struct span {
    size_t begin, end;
    double share;
    bool numbered;
};

// The parts of a blend, without the spaces around them; or one, which is the whole text.
static int split(struct span span[L2D_PROMPT_MAX_PARTS], int *num, const struct reader *r)
{
    size_t end = strlen(r->text), begin = 0, bars = 0;
    bool any_number = false;
    double sum = 0;
    span[0] = (struct span) { 0, end, 1, false };
    *num = 1;
    if (r->syntax == L2D_PROMPT_PLAIN)
        return L2D_OK;
    struct span found[L2D_PROMPT_MAX_PARTS];
    for (size_t at = 0; begin <= end; begin = at + 1, bars++) {
        at = find_bar(r->text, begin, end);
        struct span s = { begin, at, 1, false };
        size_t colon;
        s.numbered = ends_in_number(r->text, begin, at, &colon, &s.share);
        s.end = s.numbered ? colon : at;
        while (s.begin < s.end && r->text[s.begin] == ' ')
            s.begin++;
        while (s.end > s.begin && r->text[s.end - 1] == ' ')
            s.end--;
        any_number |= s.numbered;
        if (bars < L2D_PROMPT_MAX_PARTS)
            found[bars] = s;
    }
    if (bars == 1 || !(any_number || r->syntax == L2D_PROMPT_BRACKETS))
        return L2D_OK;
    if (bars > L2D_PROMPT_MAX_PARTS)
        return complain(r, end, "a blend has at most 8 parts; write \\| for the character");
    for (size_t i = 0; i < bars; i++) {
        if (found[i].begin == found[i].end && !found[i].numbered)
            return complain(r, found[i].begin, "a part of the blend is empty; write \\| for the "
                            "character");
        if (!(found[i].share >= 0))
            return complain(r, found[i].end, "a share must be 0 or more");
        sum += found[i].share;
    }
    if (!(sum > 0))
        return complain(r, found[0].end, "the shares of the blend sum to 0");
    for (size_t i = 0; i < bars; i++) {
        span[i] = found[i];
        span[i].share /= sum;
    }
    *num = (int) bars;
    return L2D_OK;
}

int l2d_prompt_parse(struct l2d_prompt *prompt, const char *form, const char *text,
                     enum l2d_prompt_syntax syntax, struct l2d_error *err)
{
    *prompt = (struct l2d_prompt) { .num_parts = 0 };
    if (strlen(text) > L2D_TOKENIZER_MAX_PROMPT_BYTES)
        return l2d_error_set(err, L2D_EINVAL, "the prompt has %zu bytes; at most %d are possible",
                             strlen(text), L2D_TOKENIZER_MAX_PROMPT_BYTES);
    struct reader r = { .text = text, .name = "", .syntax = syntax, .err = err };
    struct span span[L2D_PROMPT_MAX_PARTS];
    int num, rc = split(span, &num, &r);
    for (int i = 0; rc == L2D_OK && i < num; i++) {
        struct l2d_prompt_part *part = &prompt->part[prompt->num_parts++];
        part->share = span[i].share;
        rc = read_part(part, form, &r, span[i].begin, span[i].end);
    }
    if (rc != L2D_OK)
        l2d_prompt_finish(prompt);
    return rc;
}

int l2d_prompt_parse_shares(double *share, int *num, const char *text, struct l2d_error *err)
{
    double sum = 0;
    *num = 0;
    for (size_t at = strspn(text, " "), n; text[at]; at += strspn(text + at, " ")) {
        n = strspn(text + at, "0123456789.");
        const char *dot = memchr(text + at, '.', n);
        if (n == 0 || n > MAX_NUMBER || (dot && (n == 1 || memchr(dot + 1, '.', n - 1 -
                                                                  (size_t) (dot - text - at)))))
            return l2d_error_set(err, L2D_EINVAL, "column %zu: expected numbers of 0 or more with "
                                 "commas between them, as in \"0.7, 0.3\"", at + 1);
        if (*num == L2D_PROMPT_MAX_PARTS)
            return l2d_error_set(err, L2D_EINVAL, "more numbers than the %d parts that a blend can "
                                 "have", L2D_PROMPT_MAX_PARTS);
        share[*num] = number_of(text, at, at + n);
        sum += share[(*num)++];
        at += n + strspn(text + at + n, " ");
        at += text[at] == ',' && text[at + 1 + strspn(text + at + 1, " ")];
    }
    if (*num == 0)
        return l2d_error_set(err, L2D_EINVAL, "expected a number for each part of the prompt, as "
                             "in \"0.7, 0.3\"");
    if (!(sum > 0))
        return l2d_error_set(err, L2D_EINVAL, "the shares of the blend sum to 0");
    for (int i = 0; i < *num; i++)
        share[i] /= sum;
    return L2D_OK;
}

int l2d_prompt_check_shares(const char *shares, const char *prompt, enum l2d_prompt_syntax syntax,
                            struct l2d_error *err)
{
    double share[L2D_PROMPT_MAX_PARTS];
    struct l2d_prompt parsed = { .num_parts = 0 };
    int num, rc = l2d_prompt_parse_shares(share, &num, shares, err);
    if (rc == L2D_OK)
        rc = l2d_prompt_parse(&parsed, "{}", prompt, syntax, err);
    int parts = parsed.num_parts;
    l2d_prompt_finish(&parsed);
    if (rc != L2D_OK || num == parts)
        return rc;
    return l2d_error_set(err, L2D_EINVAL, "%d number%s, but the prompt has %d part%s%s", num,
                         num == 1 ? "" : "s", parts, parts == 1 ? "" : "s", parts > 1 ? ""
                         : "; write it as \"a cat :0.7 | a dog :0.3\"");
}

void l2d_prompt_finish(struct l2d_prompt *prompt)
{
    for (int i = 0; i < prompt->num_parts; i++)
        finish_part(&prompt->part[i]);
    prompt->num_parts = 0;
}

// ---- tokens

// Tokens of text[0..len): as many as fit into room, and how many there are. copy has room for text.
static int encode_run(const struct l2d_tokenizer *tokenizer, char *copy, const char *text,
                      size_t len, int32_t *ids, int room, int *total, struct l2d_error *err)
{
    int used, dropped;
    memcpy(copy, text, len);
    copy[len] = '\0';
    int rc = l2d_tokenizer_encode(tokenizer, copy, (room > 1 ? room : 1) + 2, ids, &used, &dropped,
                                  err);
    *total = rc == L2D_OK ? used - 2 + dropped : 0;
    return rc;
}

// The first word of text[0..len) that does not fit into room: no token reaches over a space.
static int find_cut(const struct l2d_tokenizer *tokenizer, char *copy, const char *text, size_t len,
                    int32_t *ids, int room, const char **cut, struct l2d_error *err)
{
    for (size_t at = 0, n; at < len; at += n) {
        int total;
        for (n = 0; at + n < len && text[at + n] == ' '; n++)
            ;
        *cut = text + at + n;
        for (; at + n < len && text[at + n] != ' '; n++)
            ;
        int rc = encode_run(tokenizer, copy, *cut, (size_t) (text + at + n - *cut), ids, 1, &total,
                            err);
        if (rc != L2D_OK)
            return rc;
        room -= total;
        if (room < 0)
            break;
    }
    return L2D_OK;
}

int l2d_prompt_encode(struct l2d_prompt_tokens *tokens, const struct l2d_prompt_part *part,
                      const struct l2d_tokenizer *tokenizer, int max_tokens, struct l2d_error *err)
{
    assert(max_tokens >= 3);
    size_t len = strlen(part->text);
    char *copy = malloc(len + 1);
    int32_t *ids = malloc((size_t) max_tokens * sizeof(*ids));
    int rc = copy && ids ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "prompt: out of memory");
    tokens->used = tokens->dropped = 0;
    tokens->cut = NULL;
    for (int i = 0; i < max_tokens; i++)
        tokens->weight[i] = 1;
    // The empty text gives the start, the end and the padding.
    if (rc == L2D_OK)
        rc = l2d_tokenizer_encode(tokenizer, "", max_tokens, tokens->ids, &(int) { 0 },
                                  &(int) { 0 }, err);
    for (size_t begin = 0, end; rc == L2D_OK && begin < len; begin = end) {
        for (end = begin; end < len && !(part->weight[end] < part->weight[begin]) &&
             !(part->weight[end] > part->weight[begin]); end++)
            ;
        int room = max_tokens - 2 - tokens->used, total;
        rc = encode_run(tokenizer, copy, part->text + begin, end - begin, ids, room, &total, err);
        int taken = total < room ? total : room;
        for (int i = 0; i < taken; i++) {
            tokens->ids[1 + tokens->used] = ids[1 + i];
            tokens->weight[1 + tokens->used++] = part->weight[begin];
        }
        tokens->dropped += total - taken;
        if (rc == L2D_OK && total > taken && !tokens->cut)
            rc = find_cut(tokenizer, copy, part->text + begin, end - begin, ids, room,
                          &tokens->cut, err);
    }
    tokens->used += 2;
    free(ids);
    free(copy);
    return rc;
}

// ---- embeddings

static double mean(const float *value, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double) value[i];
    return sum / (double) count;
}

void l2d_prompt_weigh(float *embedding, const float *weight, int tokens, int width)
{
    size_t count = (size_t) tokens * (size_t) width;
    bool weighted = false;
    for (int t = 0; t < tokens; t++)
        weighted |= fabsf(weight[t] - 1) > 0;
    if (!weighted)
        return;
    double before = mean(embedding, count);
    for (size_t i = 0; i < count; i++)
        embedding[i] *= weight[i / (size_t) width];
    double ratio = before / mean(embedding, count);
    if (ratio >= 1 / MAX_MEAN_RATIO && ratio <= MAX_MEAN_RATIO)
        for (size_t i = 0; i < count; i++)
            embedding[i] = (float) (ratio * (double) embedding[i]);
}

void l2d_prompt_mix(float *sum, const float *embedding, double share, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] = (float) ((double) sum[i] + share * (double) embedding[i]);
}
