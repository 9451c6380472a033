// SPDX-License-Identifier: Apache-2.0
// Strict reading of JSON. See json_reader.h.
#include "base/json_reader.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define PATH_SIZE 192       // of a member: its object's path, a dot, and the key

int l2d_json_reader_init(struct l2d_json_reader *r, const char *file, size_t max_bytes,
                         struct l2d_error *err)
{
    *r = (struct l2d_json_reader) { .file = file, .err = err };
    char *text;
    size_t len;
    r->rc = l2d_file_read(&text, &len, file, max_bytes, err);
    if (r->rc != L2D_OK)
        return r->rc;
    json_error_t e;
    r->root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
    free(text);
    if (!r->root && !*e.text)               // how jansson says that it had no memory
        r->rc = l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", file);
    else if (!r->root)
        l2d_json_fail(r, "", "line %d, column %d: %s", e.line, e.column, e.text);
    return r->rc;
}

void l2d_json_reader_finish(struct l2d_json_reader *r)
{
    json_decref(r->root);
    r->root = NULL;
}

void l2d_json_fail(struct l2d_json_reader *r, const char *path, const char *fmt, ...)
{
    if (r->rc != L2D_OK)
        return;
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    l2d_error_printable(what);              // keys and strings of the file may hold anything
    r->rc = l2d_error_set(r->err, L2D_EFORMAT, "%s: %s%s%s", r->file, path, *path ? ": " : "",
                          what);
}

static void join(char path[PATH_SIZE], const struct l2d_json_object *o, const char *key)
{
    snprintf(path, PATH_SIZE, "%s%s%s", o->path, *o->path ? "." : "", key);
}

// The value of a key, which is marked as known. NULL: there is an error now, or was before.
static json_t *get(struct l2d_json_object *o, const char *key)
{
    if (o->reader->rc != L2D_OK)
        return NULL;
    assert(o->num_keys < L2D_JSON_MAX_KEYS);
    o->key[o->num_keys++] = key;
    json_t *v = json_object_get(o->value, key);
    if (!v)
        l2d_json_fail(o->reader, o->path, "key \"%s\" is missing", key);
    return v;
}

static const char *type_str(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:  return "an object";
    case JSON_ARRAY:   return "an array";
    case JSON_STRING:  return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL:    return "a real number";
    case JSON_TRUE:
    case JSON_FALSE:   return "a boolean";
    case JSON_NULL:    return "null";
    }
    return "?";
}

// Does v have the wanted type? If not, that is the error.
static bool typed(struct l2d_json_reader *r, const char *path, const json_t *v, bool ok,
                  const char *wanted)
{
    if (!ok)
        l2d_json_fail(r, path, "is %s, must be %s", type_str(v), wanted);
    return ok;
}

static struct l2d_json_object open_object(struct l2d_json_reader *r, json_t *v,
                                          const char *path)
{
    struct l2d_json_object o = { .reader = r };
    memcpy(o.path, path, strnlen(path, sizeof(o.path) - 1));
    if (v && typed(r, path, v, json_is_object(v), "an object"))
        o.value = v;
    return o;
}

struct l2d_json_object l2d_json_root(struct l2d_json_reader *r)
{
    return open_object(r, r->rc == L2D_OK ? r->root : NULL, "");
}

bool l2d_json_has(const struct l2d_json_object *o, const char *key)
{
    return o->value && json_object_get(o->value, key);
}

struct l2d_json_object l2d_json_object(struct l2d_json_object *in, const char *key)
{
    char path[PATH_SIZE];
    join(path, in, key);
    return open_object(in->reader, get(in, key), path);
}

static int32_t int_at(struct l2d_json_reader *r, const char *path, const json_t *v, int32_t min,
                      int32_t max)
{
    if (!typed(r, path, v, json_is_integer(v), "an integer"))
        return min;
    json_int_t i = json_integer_value(v);
    if (i >= min && i <= max)
        return (int32_t) i;
    if (min == max)
        l2d_json_fail(r, path, "is %lld, must be %d", (long long) i, min);
    else
        l2d_json_fail(r, path, "is %lld, must be within %d..%d", (long long) i, min, max);
    return min;
}

static int choice_at(struct l2d_json_reader *r, const char *path, const json_t *v,
                     const char *const *names, int num_names)
{
    if (!typed(r, path, v, json_is_string(v), "a string"))
        return 0;
    for (int i = 0; i < num_names; i++)
        if (strcmp(json_string_value(v), names[i]) == 0)
            return i;
    char list[256] = "";
    for (int i = 0; i < num_names; i++) {
        size_t len = strlen(list);
        snprintf(list + len, sizeof(list) - len, "%s\"%s\"", i ? ", " : "", names[i]);
    }
    l2d_json_fail(r, path, "is \"%.64s\", must be %s%s", json_string_value(v),
                  num_names > 1 ? "one of " : "", list);
    return 0;
}

int32_t l2d_json_int(struct l2d_json_object *o, const char *key, int32_t min, int32_t max)
{
    const json_t *v = get(o, key);
    char path[PATH_SIZE];
    join(path, o, key);
    return v ? int_at(o->reader, path, v, min, max) : min;
}

double l2d_json_real(struct l2d_json_object *o, const char *key, double min, double max)
{
    const json_t *v = get(o, key);
    char path[PATH_SIZE];
    join(path, o, key);
    if (!v || !typed(o->reader, path, v, json_is_number(v), "a number"))
        return min;
    double d = json_number_value(v);
    if (d >= min && d <= max)
        return d;
    l2d_json_fail(o->reader, path, "is %g, must be within %g..%g", d, min, max);
    return min;
}

bool l2d_json_bool(struct l2d_json_object *o, const char *key)
{
    const json_t *v = get(o, key);
    char path[PATH_SIZE];
    join(path, o, key);
    return v && typed(o->reader, path, v, json_is_boolean(v), "true or false") && json_is_true(v);
}

void l2d_json_string(struct l2d_json_object *o, const char *key, char *out, size_t size)
{
    *out = '\0';
    const json_t *v = get(o, key);
    char path[PATH_SIZE];
    join(path, o, key);
    if (!v || !typed(o->reader, path, v, json_is_string(v), "a string"))
        return;
    const char *s = json_string_value(v);
    if (json_string_length(v) >= size) {
        l2d_json_fail(o->reader, path, "has %zu bytes; at most %zu are possible",
                      json_string_length(v), size - 1);
        return;
    }
    const char *control = l2d_error_control(s);
    if (control) {
        l2d_json_fail(o->reader, path, "has a control character at byte %td", control - s);
        return;
    }
    strcpy(out, s);
}

int l2d_json_choice(struct l2d_json_object *o, const char *key, const char *const *names,
                    int num_names)
{
    const json_t *v = get(o, key);
    char path[PATH_SIZE];
    join(path, o, key);
    return v ? choice_at(o->reader, path, v, names, num_names) : 0;
}

// An array of min_count..max_count elements; path gets its name. NULL: error.
static const json_t *array(struct l2d_json_object *o, const char *key, char path[PATH_SIZE],
                           int min_count, int max_count)
{
    const json_t *v = get(o, key);
    join(path, o, key);
    if (!v || !typed(o->reader, path, v, json_is_array(v), "an array"))
        return NULL;
    size_t n = json_array_size(v);
    if (n >= (size_t) min_count && n <= (size_t) max_count)
        return v;
    if (min_count == max_count)
        l2d_json_fail(o->reader, path, "has %zu elements, must have %d", n, min_count);
    else
        l2d_json_fail(o->reader, path, "has %zu elements, must have %d to %d", n, min_count,
                      max_count);
    return NULL;
}

int l2d_json_ints(struct l2d_json_object *o, const char *key, int32_t *out, int min_count,
                  int max_count, int32_t min, int32_t max)
{
    char path[PATH_SIZE], element[PATH_SIZE + 32];
    memset(out, 0, (size_t) max_count * sizeof(*out));
    const json_t *v = array(o, key, path, min_count, max_count);
    if (!v)
        return min_count;
    for (size_t i = 0; i < json_array_size(v); i++) {
        snprintf(element, sizeof(element), "%s[%zu]", path, i);
        out[i] = int_at(o->reader, element, json_array_get(v, i), min, max);
    }
    return (int) json_array_size(v);
}

int l2d_json_choices(struct l2d_json_object *o, const char *key, int *out, int min_count,
                     int max_count, const char *const *names, int num_names)
{
    char path[PATH_SIZE], element[PATH_SIZE + 32];
    memset(out, 0, (size_t) max_count * sizeof(*out));
    const json_t *v = array(o, key, path, min_count, max_count);
    if (!v)
        return min_count;
    for (size_t i = 0; i < json_array_size(v); i++) {
        snprintf(element, sizeof(element), "%s[%zu]", path, i);
        out[i] = choice_at(o->reader, element, json_array_get(v, i), names, num_names);
    }
    return (int) json_array_size(v);
}

void l2d_json_end(struct l2d_json_object *o)
{
    if (o->reader->rc != L2D_OK)
        return;
    const char *key;
    json_t *v;
    json_object_foreach(o->value, key, v) {
        size_t i = 0;
        while (i < o->num_keys && strcmp(o->key[i], key) != 0)
            i++;
        if (i == o->num_keys) {
            l2d_json_fail(o->reader, o->path, "unknown key \"%.64s\"", key);
            return;
        }
    }
}

json_t *l2d_json_text(const char *text)
{
    json_t *json = json_string(text);
    char *copy = json ? NULL : strdup(text);
    for (char *c = copy; c && *c; c++)
        if ((unsigned char) *c >= 0x80)
            *c = '?';
    if (copy)
        json = json_string(copy);
    free(copy);
    return json;
}
