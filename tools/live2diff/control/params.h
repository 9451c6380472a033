// SPDX-License-Identifier: Apache-2.0
// What a running stream lets itself be told, in one table: a row says a parameter's name, its type
// and range, what it does, and how it is read and written. The HTTP interface, `ctl` and the page
// know no parameter by name; they speak from the rows. A new one is a row and its two functions.
#ifndef L2D_CONTROL_PARAMS_H
#define L2D_CONTROL_PARAMS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define PARAM_MAX_WHOLE 9007199254740991.0      // of whole numbers that JSON's readers keep exactly

enum param_kind {           // and its form in JSON
    PARAM_TEXT,             // string, UTF-8 without control characters
    PARAM_INT,              // whole number
    PARAM_REAL,             // number
    PARAM_FLAG,             // true, false
    PARAM_CHOICE,           // one of the strings in choices
    PARAM_ACTION,           // true: do it now. Has no value to read
};

struct param_value {
    char *text;             // TEXT; owned: param_value_finish
    int64_t integer;        // INT; CHOICE: the index of the word
    double real;            // REAL
    bool flag;              // FLAG, ACTION
};

struct param {
    const char *name;       // "prompt": lower case, underscores
    enum param_kind kind;
    const char *doc;        // one line, for people
    const char *unit;       // "frames"; NULL: none
    double min, max;        // INT, REAL: both included. TEXT: max is its most bytes
    double step;            // INT, REAL: what a slider moves by; 0: 1
    const char *choices;    // CHOICE: "shared|fresh"
    void *user;             // of the functions, which any threads may call at the same time

    /** Refuse what the range cannot say, with no effect. NULL: nothing more to check. */
    int (*check)(void *user, const struct param_value *value, struct l2d_error *err);
    /** The value in effect, or on its way to be; text is a new copy. NULL for an ACTION. */
    int (*get)(void *user, struct param_value *value, struct l2d_error *err);
    /** Must not wait for a frame. */
    int (*set)(void *user, const struct param_value *value, struct l2d_error *err);
};

// Rows are applied in their order: one that says how another takes effect stands before it.
struct param_table {
    const struct param *row;
    size_t num_rows;
    void *user;

    /**
     * Refuse what does not go together, with no effect; NULL: nothing is to be checked.
     * after    [num_rows] what each row becomes; NULL: it stays
     */
    int (*check)(void *user, const struct param_value *const *after, struct l2d_error *err);
};

void param_value_finish(struct param_value *value);

/** "text", "int", ... */
const char *param_kind_str(enum param_kind kind);

/** The index-th word of a CHOICE, not ended by a zero; NULL: it has not so many. */
const char *param_choice(const struct param *param, int64_t index, size_t *size);

/** { name: value }, actions left out. NULL: out of memory. */
json_t *params_values(const struct param_table *table);

/** [ { name, kind, doc, value, min, max, ... } ], in the rows' order. NULL: out of memory. */
json_t *params_describe(const struct param_table *table);

/**
 * Change what the object names: all of it, or nothing. Everything is checked before anything is
 * set; if setting fails half-way, what was set goes back to what it was.
 * returns  L2D_OK; L2D_EINVAL: an unknown name, a wrong type, out of range, empty; or what a row's
 *          set said. The message begins with the parameter's name.
 */
int params_apply(const struct param_table *table, const json_t *object, struct l2d_error *err);

/** The same from text, which need not end in a zero. L2D_EFORMAT: not a JSON object. */
int params_apply_text(const struct param_table *table, const char *text, size_t size,
                      struct l2d_error *err);

#endif
