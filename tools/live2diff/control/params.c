// SPDX-License-Identifier: Apache-2.0
// See params.h.
#include "params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS 64

void param_value_finish(struct param_value *value)
{
    free(value->text);
    value->text = NULL;
}

const char *param_kind_str(enum param_kind kind)
{
    switch (kind) {
    case PARAM_TEXT:   return "text";
    case PARAM_INT:    return "int";
    case PARAM_REAL:   return "real";
    case PARAM_FLAG:   return "flag";
    case PARAM_CHOICE: return "choice";
    case PARAM_ACTION: return "action";
    }
    return "unknown";
}

// --- choices: words with bars between them

// returns  the n-th word's start and size; NULL: there are not so many.
static const char *choice_word(const char *choices, int64_t n, size_t *size)
{
    for (;; n--) {
        *size = strcspn(choices, "|");
        if (n == 0)
            return choices;
        if (!choices[*size])
            return NULL;
        choices += *size + 1;
    }
}

const char *param_choice(const struct param *param, int64_t index, size_t *size)
{
    return choice_word(param->choices, index, size);
}

static int64_t choice_index(const char *choices, const char *word)
{
    const char *at;
    size_t size;
    for (int64_t i = 0; (at = choice_word(choices, i, &size)) != NULL; i++)
        if (size == strlen(word) && !memcmp(at, word, size))
            return i;
    return -1;
}

// --- values as JSON

static json_t *value_json(const struct param *p, const struct param_value *v)
{
    const char *word;
    size_t size;
    switch (p->kind) {
    case PARAM_TEXT:   return json_string(v->text ? v->text : "");
    case PARAM_INT:    return json_integer(v->integer);
    case PARAM_REAL:   return json_real(isfinite(v->real) ? v->real : 0);
    case PARAM_FLAG:   return json_boolean(v->flag);
    case PARAM_CHOICE: word = choice_word(p->choices, v->integer, &size);
                       return word ? json_stringn(word, size) : json_null();
    case PARAM_ACTION: break;
    }
    return json_null();
}

static json_t *current(const struct param *p)
{
    struct param_value value = { 0 };
    struct l2d_error ignored;
    json_t *json = p->get(p->user, &value, &ignored) == L2D_OK ? value_json(p, &value)
                                                               : json_null();
    param_value_finish(&value);
    return json;
}

json_t *params_values(const struct param_table *table)
{
    json_t *values = json_object();
    for (size_t i = 0; values && i < table->num_rows; i++)
        if (table->row[i].kind != PARAM_ACTION)
            json_object_set_new(values, table->row[i].name, current(&table->row[i]));
    return values;
}

static json_t *describe(const struct param *p)
{
    json_t *json = json_pack("{ss ss ss}", "name", p->name, "kind", param_kind_str(p->kind), "doc",
                             p->doc);
    if (json && p->unit)
        json_object_set_new(json, "unit", json_string(p->unit));
    if (json && p->kind != PARAM_ACTION)
        json_object_set_new(json, "value", current(p));
    if (json && p->kind == PARAM_TEXT)
        json_object_set_new(json, "max_bytes", json_integer((json_int_t) p->max));
    if (json && p->kind == PARAM_INT) {
        json_object_set_new(json, "min", json_integer((json_int_t) p->min));
        json_object_set_new(json, "max", json_integer((json_int_t) p->max));
        json_object_set_new(json, "step", json_integer(p->step > 0 ? (json_int_t) p->step : 1));
    }
    if (json && p->kind == PARAM_REAL) {
        json_object_set_new(json, "min", json_real(p->min));
        json_object_set_new(json, "max", json_real(p->max));
        json_object_set_new(json, "step", json_real(p->step > 0 ? p->step : 1));
    }
    if (json && p->kind == PARAM_CHOICE) {
        json_t *words = json_array();
        const char *word;
        size_t size;
        for (int64_t i = 0; (word = choice_word(p->choices, i, &size)) != NULL; i++)
            json_array_append_new(words, json_stringn(word, size));
        json_object_set_new(json, "choices", words);
    }
    return json;
}

json_t *params_describe(const struct param_table *table)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < table->num_rows; i++)
        json_array_append_new(list, describe(&table->row[i]));
    return list;
}

// --- JSON as values

static const char *type_str(const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:  return "an object";
    case JSON_ARRAY:   return "a list";
    case JSON_STRING:  return "a string";
    case JSON_INTEGER: return "a whole number";
    case JSON_REAL:    return "a number with a fraction";
    case JSON_TRUE:    return "true";
    case JSON_FALSE:   return "false";
    case JSON_NULL:    return "null";
    }
    return "something else";
}

static int wrong_type(const struct param *p, const char *wanted, const json_t *got,
                      struct l2d_error *err)
{
    return l2d_error_set(err, L2D_EINVAL, "%s: expected %s, not %s", p->name, wanted,
                         type_str(got));
}

static int read_text(const struct param *p, const json_t *json, struct param_value *out,
                     struct l2d_error *err)
{
    if (!json_is_string(json))
        return wrong_type(p, "a string", json, err);
    const char *text = json_string_value(json);
    if ((double) json_string_length(json) > p->max)
        return l2d_error_set(err, L2D_EINVAL, "%s: %zu bytes, expected at most %.0f", p->name,
                             json_string_length(json), p->max);
    if (l2d_error_control(text))
        return l2d_error_set(err, L2D_EINVAL, "%s: has a control character (a line break, a tab)",
                             p->name);
    out->text = strdup(text);
    return out->text ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", p->name);
}

static int read_number(const struct param *p, const json_t *json, struct param_value *out,
                       struct l2d_error *err)
{
    if (p->kind == PARAM_INT && !json_is_integer(json))
        return wrong_type(p, "a whole number", json, err);
    if (!json_is_number(json))
        return wrong_type(p, "a number", json, err);
    double value = json_number_value(json);
    int digits = p->kind == PARAM_INT ? 16 : 10;
    if (!(value >= p->min && value <= p->max))
        return l2d_error_set(err, L2D_EINVAL, "%s: %.*g is out of its range %.*g..%.*g", p->name,
                             digits, value, digits, p->min, digits, p->max);
    out->integer = json_integer_value(json);
    out->real = value;
    return L2D_OK;
}

static int read_choice(const struct param *p, const json_t *json, struct param_value *out,
                       struct l2d_error *err)
{
    if (!json_is_string(json))
        return wrong_type(p, "a string", json, err);
    out->integer = choice_index(p->choices, json_string_value(json));
    if (out->integer >= 0)
        return L2D_OK;
    l2d_error_set(err, L2D_EINVAL, "%s: '%.40s' is not one of %s", p->name,
                  json_string_value(json), p->choices);
    l2d_error_printable(err->msg);
    return L2D_EINVAL;
}

static int read_value(const struct param *p, const json_t *json, struct param_value *out,
                      struct l2d_error *err)
{
    int rc = L2D_OK;
    switch (p->kind) {
    case PARAM_TEXT:   rc = read_text(p, json, out, err); break;
    case PARAM_INT:
    case PARAM_REAL:   rc = read_number(p, json, out, err); break;
    case PARAM_CHOICE: rc = read_choice(p, json, out, err); break;
    case PARAM_FLAG:   rc = json_is_boolean(json) ? L2D_OK
                                                  : wrong_type(p, "true or false", json, err);
                       break;
    case PARAM_ACTION: rc = json_is_true(json) ? L2D_OK : wrong_type(p, "true", json, err); break;
    }
    out->flag = json_is_true(json);
    return rc == L2D_OK && p->check ? p->check(p->user, out, err) : rc;
}

// --- changing

static int check_names(const struct param_table *table, const json_t *object,
                       struct l2d_error *err)
{
    char names[512] = "";
    const char *key;
    json_t *value;
    for (size_t i = 0, n = 0; i < table->num_rows && n < sizeof(names); i++)
        n += (size_t) snprintf(names + n, sizeof(names) - n, "%s%s", i ? ", " : "",
                               table->row[i].name);
    if (table->num_rows == 0)
        return l2d_error_set(err, L2D_EINVAL, "nothing can be changed in this run: it has no "
                             "model");
    if (json_object_size(object) == 0)
        return l2d_error_set(err, L2D_EINVAL, "nothing to change: expected one or more of %s",
                             names);
    json_object_foreach((json_t *) object, key, value) {
        size_t i = 0;
        while (i < table->num_rows && strcmp(key, table->row[i].name))
            i++;
        if (i < table->num_rows)
            continue;
        l2d_error_set(err, L2D_EINVAL, "%.40s: no such parameter here: expected one of %s", key,
                      names);
        l2d_error_printable(err->msg);
        return L2D_EINVAL;
    }
    return L2D_OK;
}

struct change {
    const struct param *param;
    struct param_value before, after;
    bool has_before;
};

// What was done cannot be put back, so it comes last.
static void put_actions_last(struct change *change, size_t count)
{
    struct change sorted[MAX_ROWS];
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (change[i].param->get)
            sorted[n++] = change[i];
    for (size_t i = 0; i < count; i++)
        if (!change[i].param->get)
            sorted[n++] = change[i];
    memcpy(change, sorted, count * sizeof(*change));
}

static int set_all(struct change *change, size_t count, struct l2d_error *err)
{
    int rc = L2D_OK;
    size_t done = 0;
    for (; done < count; done++) {
        const struct param *p = change[done].param;
        if (p->get && count > 1)        // one alone has nothing that could stay behind
            change[done].has_before = p->get(p->user, &change[done].before, err) == L2D_OK;
        rc = p->set(p->user, &change[done].after, err);
        if (rc != L2D_OK)
            break;
    }
    while (rc != L2D_OK && done-- > 0) {
        struct l2d_error ignored;
        const struct param *p = change[done].param;
        if (change[done].has_before)
            p->set(p->user, &change[done].before, &ignored);
    }
    return rc;
}

int params_apply(const struct param_table *table, const json_t *object, struct l2d_error *err)
{
    struct change change[MAX_ROWS] = { 0 };
    const struct param_value *after[MAX_ROWS] = { NULL };
    size_t count = 0;
    int rc = check_names(table, object, err);
    for (size_t i = 0; rc == L2D_OK && i < table->num_rows && i < MAX_ROWS; i++) {
        const json_t *value = json_object_get(object, table->row[i].name);
        if (!value)
            continue;
        change[count].param = &table->row[i];
        after[i] = &change[count].after;
        rc = read_value(&table->row[i], value, &change[count++].after, err);
    }
    if (rc == L2D_OK && table->check)
        rc = table->check(table->user, after, err);
    put_actions_last(change, count);
    if (rc == L2D_OK)
        rc = set_all(change, count, err);
    for (size_t i = 0; i < count; i++) {
        param_value_finish(&change[i].before);
        param_value_finish(&change[i].after);
    }
    return rc;
}

int params_apply_text(const struct param_table *table, const char *text, size_t size,
                      struct l2d_error *err)
{
    json_error_t why;
    json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    if (!object) {
        l2d_error_set(err, L2D_EFORMAT, "not JSON: line %d, column %d: %s", why.line, why.column,
                      why.text);
        l2d_error_printable(err->msg);
        return L2D_EFORMAT;
    }
    int rc = json_is_object(object) ? params_apply(table, object, err)
             : l2d_error_set(err, L2D_EFORMAT, "expected a JSON object, such as {\"prompt\": "
                             "\"an ink drawing\"}, not %s", type_str(object));
    json_decref(object);
    return rc;
}
