// SPDX-License-Identifier: Apache-2.0
// Strict reading of a small JSON file into plain structs: every key must be there, of the right
// type and within its bounds, and no key may be left over. Parsing is jansson's; this adds names.
// Errors stick: after the first one every call does nothing and returns its lower bound, so a
// reader is a list of fields and checks once, at its end. A message names file and path:
//     model.json: unet.block_out_channels[1]: 66 is not a multiple of 4
#ifndef L2D_BASE_JSON_READER_H
#define L2D_BASE_JSON_READER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define L2D_JSON_MAX_KEYS 32        // that one object is read for

struct l2d_json_reader {
    const char *file;               // as the user knows it; lives as long as the reader
    json_t *root;
    int rc;                         // L2D_OK until something is wrong
    struct l2d_error *err;
};

struct l2d_json_object {            // an object being read; open them with l2d_json_object()
    struct l2d_json_reader *reader;
    json_t *value;                  // borrowed from the root; NULL after an error
    char path[96];                  // "unet.motion_module_kwargs"; "" for the root
    const char *key[L2D_JSON_MAX_KEYS];     // those asked for so far
    size_t num_keys;
};

/**
 * Parse a file. Duplicate keys are refused.
 * file         kept, not copied.
 * max_bytes    a larger file is refused before it is parsed.
 * returns      L2D_OK, L2D_EIO (cannot be read), L2D_EFORMAT (too large, not JSON: says line and
 *              column). Finish the reader in any case.
 */
int l2d_json_reader_init(struct l2d_json_reader *reader, const char *file, size_t max_bytes,
                         struct l2d_error *err);

/** Free the parsed tree. Accepts a zeroed reader. */
void l2d_json_reader_finish(struct l2d_json_reader *reader);

/** Record L2D_EFORMAT "<file>: <path>: <fmt>", unless there is an error already. path may be "". */
void l2d_json_fail(struct l2d_json_reader *reader, const char *path, const char *fmt, ...)
    L2D_PRINTF(3, 4);

/** Whether a key is there at all, for those that need not be. Does not count as asking for it. */
bool l2d_json_has(const struct l2d_json_object *o, const char *key);

/** The root object, and an object within another. */
struct l2d_json_object l2d_json_root(struct l2d_json_reader *reader);
struct l2d_json_object l2d_json_object(struct l2d_json_object *in, const char *key);

/** The values of one key. Numbers are bounded on both sides, ends included. */
int32_t l2d_json_int(struct l2d_json_object *o, const char *key, int32_t min, int32_t max);
double l2d_json_real(struct l2d_json_object *o, const char *key, double min, double max);
bool l2d_json_bool(struct l2d_json_object *o, const char *key);

/** Copies a string of at most size - 1 bytes and without control characters to out. */
void l2d_json_string(struct l2d_json_object *o, const char *key, char *out, size_t size);

/** Index of the string among names; the message lists them. */
int l2d_json_choice(struct l2d_json_object *o, const char *key, const char *const *names,
                    int num_names);
#define L2D_JSON_CHOICE(o, key, names) \
    l2d_json_choice(o, key, names, (int) (sizeof(names) / sizeof(*(names))))

/**
 * Arrays of integers and of choices. returns the number of elements, min_count..max_count; out has
 * room for max_count, and what is not written is 0.
 */
int l2d_json_ints(struct l2d_json_object *o, const char *key, int32_t *out, int min_count,
                  int max_count, int32_t min, int32_t max);
int l2d_json_choices(struct l2d_json_object *o, const char *key, int *out, int min_count,
                     int max_count, const char *const *names, int num_names);

/** All keys were asked for: whatever else the object has is an error. */
void l2d_json_end(struct l2d_json_object *o);

/** And for writing: any text as a string, with '?' for what is beyond ASCII where it is not UTF-8.
    NULL: out of memory. */
json_t *l2d_json_text(const char *text);

#endif
