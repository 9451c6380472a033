// SPDX-License-Identifier: Apache-2.0
// Command lines from tables: one row per option says its names, its form, its default, its help and
// where its value goes. Parsing, --help and the messages about bad values all come from the rows.
#ifndef L2D_PROGRAM_OPTIONS_H
#define L2D_PROGRAM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

struct option_size { int32_t width, height; };
struct option_rate { int32_t num, den; };

enum option_kind {              // what the value is, and the type it is stored as
    OPTION_FLAG,                // int, counts how often it was given
    OPTION_TEXT,                // const char *
    OPTION_COUNT,               // uint64_t
    OPTION_REAL,                // double, 0 or more: "1.5"
    OPTION_MAYBE_REAL,          // double; without a value the one in the form: "[=0.98]"
    OPTION_TIME,                // int64_t, microseconds: "12.5", "1:02:03.5"
    OPTION_SIZE,                // struct option_size, even: "512x288"
    OPTION_RATE,                // struct option_rate: "25", "29.97", "30000/1001"
    OPTION_STEPS,               // const char *: "25,37/50"
    OPTION_CHOICE,              // int, the index of the word in form
    OPTION_CALL,                // call(options, value)
};

struct option_row {
    char letter;                // 0: none
    const char *name;
    enum option_kind kind;
    const char *form;           // of the value, "WxH", "copy|none"; NULL for flags
    const char *initial;        // default, as it would be typed; NULL: zero
    const char *help;           // one line
    size_t at;                  // offset in the options struct
    const char *(*call)(void *options, const char *value);  // returns what is wrong, or NULL
};

struct command {
    const char *name, *summary;
    const char *synopsis;       // what follows the name: "-i INPUT -o OUTPUT [options]"
    const char *notes;          // below the options; NULL: none
    const struct option_row *rows;
    size_t num_rows;
    const char *operand;        // name of the one argument that is not an option; NULL: none
    bool many_operands;         // there may be more of them, from argv[optind] on
    int (*main)(int argc, char **argv);
};

/**
 * Fill options from argv[1..]. options is zeroed by the caller. --help prints and ends.
 * operand  receives the argument that is no option; may be NULL if the command has none. With
 *          many_operands it is argv[optind], and the others follow.
 * returns  -1 to go on, or the exit code: EXIT_OK after --help, EXIT_USAGE after a printed line.
 */
int options_parse(const struct command *command, int argc, char **argv, void *options,
                  const char **operand);

/** Print "live2diff: <message> (live2diff NAME --help)". returns EXIT_USAGE. */
int options_complain(const struct command *command, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
