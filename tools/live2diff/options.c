// SPDX-License-Identifier: Apache-2.0
// See options.h. getopt_long does the splitting; the rows do the rest.
#include "options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/frame.h"

#define MAX_ROWS 64
#define HELP_VALUE 255              // above letters; rows follow
#define FIRST_ROW_VALUE 256

int options_complain(const struct command *command, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("live2diff: ", stderr);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, " (see live2diff %s --help)\n", command->name);
    va_end(ap);
    return EXIT_USAGE;
}

static bool parse_count(uint64_t *out, const char *text, const char **end)
{
    char *stop;
    errno = 0;
    *out = strtoull(text, &stop, 10);
    *end = stop;
    return isdigit((unsigned char) *text) && errno == 0;
}

// Digits, a point and digits: strtod would take words and the locale's comma too.
static bool parse_real(double *out, const char *text)
{
    size_t digits = strspn(text, "0123456789"), fraction = 0;
    if (text[digits] == '.')
        fraction = 1 + strspn(text + digits + 1, "0123456789");
    if (text[digits + fraction] || digits == 0 || digits > 9 || fraction > 10)
        return false;
    double unit = 1;
    *out = 0;
    for (size_t i = 0; i < digits + fraction; i++)
        if (text[i] != '.') {
            *out = *out * 10 + (text[i] - '0');
            unit *= i > digits ? 10 : 1;
        }
    *out /= unit;
    return true;
}

static bool parse_size(struct option_size *out, const char *text)
{
    uint64_t w, h;
    if (!parse_count(&w, text, &text) || (*text != 'x' && *text != 'X') ||
        !parse_count(&h, text + 1, &text) || *text)
        return false;
    if (w < 2 || h < 2 || w > L2D_FRAME_MAX_DIM || h > L2D_FRAME_MAX_DIM || w % 2 || h % 2)
        return false;
    *out = (struct option_size) { (int32_t) w, (int32_t) h };
    return true;
}

// [[H:]M:]S[.fraction]
static bool parse_time(int64_t *out, const char *text)
{
    uint64_t whole = 0, part;
    for (int fields = 0;; fields++) {
        if (fields == 3 || !parse_count(&part, text, &text) || part > 100000000)
            return false;
        whole = whole * 60 + part;
        if (*text != ':')
            break;
        text++;
    }
    *out = (int64_t) whole * 1000000;
    if (*text == '.')
        for (int64_t unit = 100000; isdigit((unsigned char) *++text); unit /= 10)
            *out += (*text - '0') * unit;
    return *text == '\0';
}

static bool parse_rate(struct option_rate *out, const char *text)
{
    uint64_t num, den = 1;
    if (!parse_count(&num, text, &text))
        return false;
    if (*text == '/' && !parse_count(&den, text + 1, &text))
        return false;
    if (*text == '.')
        while (isdigit((unsigned char) *++text) && den < 1000000) {
            num = num * 10 + (uint64_t) (*text - '0');
            den *= 10;
        }
    if (*text || num == 0 || den == 0 || num > 1000000000 || den > 1000000000 ||
        num > 1000 * den)
        return false;
    *out = (struct option_rate) { (int32_t) num, (int32_t) den };
    // What people mean by these is NTSC's rate.
    static const struct { int32_t num, den, ntsc; } ntsc[] = {
        { 2397, 100, 24000 }, { 23976, 1000, 24000 }, { 2997, 100, 30000 }, { 5994, 100, 60000 },
    };
    for (size_t i = 0; i < sizeof(ntsc) / sizeof(ntsc[0]); i++)
        if (out->num == ntsc[i].num && out->den == ntsc[i].den)
            *out = (struct option_rate) { ntsc[i].ntsc, 1001 };
    return true;
}

// Indices, then "/" and of how many. The engine knows which numbers are allowed.
static bool check_steps(const char *text)
{
    uint64_t number;
    while (parse_count(&number, text, &text) && *text == ',')
        text++;
    return text[0] == '/' && parse_count(&number, text + 1, &text) && *text == '\0';
}

static bool parse_choice(int *out, const char *text, const char *choices)
{
    size_t len = strlen(text);
    for (int i = 0;; i++) {
        size_t n = strcspn(choices, "|");
        if (n == len && !memcmp(choices, text, n)) {
            *out = i;
            return true;
        }
        if (!choices[n])
            return false;
        choices += n + 1;
    }
}

// returns what is wrong, or NULL.
static const char *store(const struct option_row *row, void *options, const char *value)
{
    void *at = (char *) options + row->at;
    const char *end = "";
    switch (row->kind) {
    case OPTION_FLAG:
        ++*(int *) at;
        return NULL;
    case OPTION_TEXT:
        *(const char **) at = value;
        return NULL;
    case OPTION_COUNT:
        return parse_count(at, value, &end) && !*end ? NULL : "expected a whole number, 0 or more";
    case OPTION_REAL:
        return parse_real(at, value) ? NULL : "expected a number, such as 1.5";
    case OPTION_MAYBE_REAL:
        return parse_real(at, value) ? NULL : "expected a number, such as 0.98";
    case OPTION_TIME:
        return parse_time(at, value) ? NULL
                                     : "expected seconds or [H:]M:S, such as 12.5 or 1:02:03";
    case OPTION_SIZE:
        return parse_size(at, value) ? NULL
                                     : "expected WxH, two even numbers of 2..16384 such as 512x288";
    case OPTION_RATE:
        return parse_rate(at, value) ? NULL
                                     : "expected frames per second, such as 25, 29.97 or "
                                       "30000/1001";
    case OPTION_STEPS:
        *(const char **) at = value;
        return check_steps(value) ? NULL : "expected INDEX,INDEX.../TOTAL, such as 25,37/50";
    case OPTION_CHOICE:
        return parse_choice(at, value, row->form) ? NULL : "expected one of";
    case OPTION_CALL:
        return row->call(options, value);
    }
    return "unknown kind of option";
}

static void print_wrapped(const char *text, int indent)
{
    int column = indent;
    for (const char *word = text; *word;) {
        int n = (int) strcspn(word, " ");
        if (column + 1 + n > 96) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (word != text) {
            putchar(' ');
            column++;
        }
        printf("%.*s", n, word);
        column += n;
        word += n + (word[n] == ' ');
    }
    putchar('\n');
}

static void print_help(const struct command *command)
{
    printf("Usage: live2diff %s %s\n\n%s\n\nOptions:\n", command->name, command->synopsis,
           command->summary);
    for (size_t i = 0; i < command->num_rows; i++) {
        const struct option_row *row = &command->rows[i];
        char head[64], help[512];
        int n = snprintf(head, sizeof(head), row->letter ? "  -%c, --%s" : "  %c   --%s",
                         row->letter ? row->letter : ' ', row->name);
        if (row->form)
            snprintf(head + n, sizeof(head) - (size_t) n, " %s", row->form);
        snprintf(help, sizeof(help), "%s%s%s%s", row->help, row->initial ? " [" : "",
                 row->initial ? row->initial : "", row->initial ? "]" : "");
        printf("%-34s", head);
        if (strlen(head) > 33)
            printf("\n%34s", "");
        print_wrapped(help, 34);
    }
    printf("  -h, --help                      this text\n");
    if (command->notes)
        printf("\n%s", command->notes);
    printf("\nExit status: 0 done, 1 failed, 2 wrong usage, 130 stopped by a signal (outputs are "
           "complete\nup to that moment).\n");
}

static void print_bad_value(const struct command *command, const struct option_row *row,
                            const char *value, const char *wrong)
{
    bool choice = row->kind == OPTION_CHOICE;
    options_complain(command, "--%s '%s': %s%s%s", row->name, value, wrong, choice ? " " : "",
                     choice ? row->form : "");
}

int options_parse(const struct command *command, int argc, char **argv, void *options,
                  const char **operand)
{
    assert(command->num_rows <= MAX_ROWS);
    struct option longs[MAX_ROWS + 2] = { 0 };
    char shorts[2 * MAX_ROWS + 8] = ":h";
    size_t n = strlen(shorts);
    for (size_t i = 0; i < command->num_rows; i++) {
        const struct option_row *row = &command->rows[i];
        bool has_value = row->kind != OPTION_FLAG;
        longs[i] = (struct option) {
            row->name, row->kind == OPTION_MAYBE_REAL ? optional_argument
                       : has_value ? required_argument : no_argument,
            NULL, FIRST_ROW_VALUE + (int) i,
        };
        if (row->letter)
            shorts[n++] = row->letter;
        if (row->letter && has_value)
            shorts[n++] = ':';
        if (row->initial)
            store(row, options, row->initial);
    }
    longs[command->num_rows] = (struct option) { "help", no_argument, NULL, HELP_VALUE };

    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (c == 'h' || c == HELP_VALUE) {
            print_help(command);
            return EXIT_OK;
        }
        int asked = c == ':' || c == '?' ? optopt : c;
        const struct option_row *row = NULL;
        for (size_t i = 0; i < command->num_rows; i++)
            if (asked == FIRST_ROW_VALUE + (int) i ||
                (asked && asked == command->rows[i].letter))
                row = &command->rows[i];
        if (c == '?' && row)
            return options_complain(command, "--%s takes no value", row->name);
        if (c == '?' && asked && asked < HELP_VALUE)
            return options_complain(command, "unknown option '-%c'", asked);
        if (c == '?' || !row)
            return options_complain(command, "unknown or ambiguous option '%s'", argv[optind - 1]);
        if (c == ':')
            return options_complain(command, "--%s needs a value: %s", row->name, row->form);
        char otherwise[16] = "";
        if (row->kind == OPTION_MAYBE_REAL && !optarg) {
            sscanf(row->form, "[=%15[0-9.]", otherwise);
            optarg = otherwise;
        }
        const char *wrong = store(row, options, optarg);
        if (wrong) {
            print_bad_value(command, row, optarg, wrong);
            return EXIT_USAGE;
        }
    }
    if (operand && optind < argc)
        *operand = argv[command->many_operands ? optind : optind++];
    if (optind < argc && !command->many_operands)
        return options_complain(command, "unexpected argument '%s'", argv[optind]);
    return -1;
}
