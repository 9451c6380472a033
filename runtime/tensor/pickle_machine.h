// SPDX-License-Identifier: Apache-2.0
// The stack machine of pickle, with values that do nothing: bytes and instructions. What a call or
// a persistent id means is left to who has it run, which is pickle.c; the header is its alone.
// Source: Python, Lib/pickletools.py.
#ifndef L2D_TENSOR_PICKLE_MACHINE_H
#define L2D_TENSOR_PICKLE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"

#define NONE_ID UINT32_MAX

// Values refer to each other by index, so that a value may be in many places, or in itself.
enum kind {
    VALUE_OTHER,                // something that was built but means nothing to us
    VALUE_INT, VALUE_STRING, VALUE_GLOBAL, VALUE_TUPLE, VALUE_LIST, VALUE_DICT, VALUE_STORAGE,
    VALUE_TENSOR,
};

struct text {                   // not terminated, in the pickle itself
    const char *at;
    uint32_t len;
};

struct ids {                    // a growing array of values
    uint32_t *id;
    uint32_t count, cap;
};

struct value {
    enum kind kind;
    bool seen;                  // for who looks through them
    union {
        int64_t number;
        struct text text;       // of a string
        struct { struct text module, name; } global;
        struct ids ids;         // of a tuple, list or dict: there, key and value in turn
        uint32_t index;         // of a storage or tensor
    };
};

struct machine {
    // --- set before it runs, the rest 0
    const char *file;
    const uint8_t *start, *at, *end;    // at: of the next instruction
    struct l2d_error *err;
    void *user;
    // Push what it is, or fail. callee is a global, args are a tuple; id may move when a value is
    // made, they do not.
    void (*call)(struct machine *m, const struct value *callee, const struct value *args);
    void (*persistent)(struct machine *m, const struct value *id);

    struct value *value;
    uint32_t num_values, cap_values;
    struct ids stack, memo, mark;       // mark: heights of the stack
    uint64_t copied;                    // of what may be named again and again
    int rc;                             // the first error's
};

/** Up to and with the last instruction, or to an error. */
void l2d_machine_run(struct machine *m);
void l2d_machine_finish(struct machine *m);

/** "<file>: pickle, byte 17: ...", if it is the first. */
void l2d_machine_fail(struct machine *m, const char *fmt, ...) L2D_PRINTF(2, 3);
void l2d_machine_no_memory(struct machine *m);

/**
 * What is there once may be named often, and copied each time: not more in all than the file is
 * large.
 */
bool l2d_machine_may_copy(struct machine *m, uint64_t amount);

/** Room for one more element. false: no memory. */
bool l2d_machine_grow(struct machine *m, void *array, uint32_t count, uint32_t *cap, size_t size);
void l2d_machine_append(struct machine *m, struct ids *ids, uint32_t id);

/** returns the new value's index; NONE_ID after an error, as pop */
uint32_t l2d_machine_make(struct machine *m, struct value v);
void l2d_machine_push(struct machine *m, struct value v);
uint32_t l2d_machine_pop(struct machine *m);

static inline const struct value *item(const struct machine *m, const struct value *sequence,
                                       uint32_t i)
{
    return &m->value[sequence->ids.id[i]];
}

static inline bool text_is(struct text t, const char *s)
{
    return t.len == strlen(s) && !memcmp(t.at, s, t.len);
}

static inline bool in_module(struct text module, const char *name)
{
    size_t len = strlen(name);
    return module.len >= len && !memcmp(module.at, name, len) &&
           (module.len == len || module.at[len] == '.');
}

#endif
