// SPDX-License-Identifier: Apache-2.0
// The table of parameters: every type's range from both sides, and that a change is all or nothing.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "params.h"

struct things {
    char text[64];
    int64_t whole, word;
    double real;
    bool on, refuse, broken;
    int done, sets;
    char order[16];             // the first letters of what was set
};

static void note(struct things *t, char letter)
{
    t->order[t->sets++ % 15] = letter;
}

static int get_text(void *user, struct param_value *v, struct l2d_error *err)
{
    (void) err;
    v->text = strdup(((struct things *) user)->text);
    return L2D_OK;
}

static int set_text(void *user, const struct param_value *v, struct l2d_error *err)
{
    (void) err;
    struct things *t = user;
    note(t, 't');
    snprintf(t->text, sizeof(t->text), "%s", v->text);
    return L2D_OK;
}

static int check_text(void *user, const struct param_value *v, struct l2d_error *err)
{
    (void) user;
    return strstr(v->text, "bad") ? l2d_error_set(err, L2D_EINVAL, "text: that is bad") : L2D_OK;
}

static int get_whole(void *user, struct param_value *v, struct l2d_error *err)
{
    (void) err;
    v->integer = ((struct things *) user)->whole;
    return L2D_OK;
}

static int set_whole(void *user, const struct param_value *v, struct l2d_error *err)
{
    (void) err;
    note(user, 'w');
    ((struct things *) user)->whole = v->integer;
    return L2D_OK;
}

static int get_real(void *user, struct param_value *v, struct l2d_error *err)
{
    (void) err;
    v->real = ((struct things *) user)->real;
    return L2D_OK;
}

static int set_real(void *user, const struct param_value *v, struct l2d_error *err)
{
    struct things *t = user;
    if (t->broken)
        return l2d_error_set(err, L2D_ECLOSED, "real: the stream has ended");
    note(t, 'r');
    t->real = v->real;
    return L2D_OK;
}

static int get_on(void *user, struct param_value *v, struct l2d_error *err)
{
    (void) err;
    v->flag = ((struct things *) user)->on;
    return L2D_OK;
}

static int set_on(void *user, const struct param_value *v, struct l2d_error *err)
{
    (void) err;
    note(user, 'o');
    ((struct things *) user)->on = v->flag;
    return L2D_OK;
}

static int get_word(void *user, struct param_value *v, struct l2d_error *err)
{
    (void) err;
    v->integer = ((struct things *) user)->word;
    return L2D_OK;
}

static int set_word(void *user, const struct param_value *v, struct l2d_error *err)
{
    (void) err;
    note(user, 'c');
    ((struct things *) user)->word = v->integer;
    return L2D_OK;
}

static int do_it(void *user, const struct param_value *v, struct l2d_error *err)
{
    (void) err;
    cr_assert(v->flag);
    ((struct things *) user)->done++;
    return L2D_OK;
}

static struct things t;
static const struct param rows[] = {
    { .name = "whole", .kind = PARAM_INT, .doc = "a whole number", .unit = "frames", .min = -5,
      .max = 100, .user = &t, .get = get_whole, .set = set_whole },
    { .name = "text", .kind = PARAM_TEXT, .doc = "a text", .max = 20, .user = &t,
      .check = check_text, .get = get_text, .set = set_text },
    { .name = "on", .kind = PARAM_FLAG, .doc = "a flag", .user = &t, .get = get_on,
      .set = set_on },
    { .name = "word", .kind = PARAM_CHOICE, .doc = "a word", .choices = "red|green|light blue",
      .user = &t, .get = get_word, .set = set_word },
    { .name = "real", .kind = PARAM_REAL, .doc = "a number", .min = 0, .max = 1, .step = 0.05,
      .user = &t, .get = get_real, .set = set_real },
    { .name = "again", .kind = PARAM_ACTION, .doc = "do it", .user = &t, .set = do_it },
};

// A text "never" and a word do not go together.
static int check_together(void *user, const struct param_value *const *after,
                          struct l2d_error *err)
{
    (void) user;
    const struct param_value *text = NULL, *word = NULL;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!strcmp(rows[i].name, "text"))
            text = after[i];
        if (!strcmp(rows[i].name, "word"))
            word = after[i];
    }
    return text && word && !strcmp(text->text, "never")
         ? l2d_error_set(err, L2D_EINVAL, "never together") : L2D_OK;
}

static const struct param_table table = {
    .row = rows, .num_rows = sizeof(rows) / sizeof(rows[0]), .check = check_together,
};

static void reset(void)
{
    t = (struct things) { .text = "old", .whole = 7, .real = 0.5, .word = 1 };
}

static int apply(const char *text, struct l2d_error *err)
{
    return params_apply_text(&table, text, strlen(text), err);
}

Test(params, accepted, .init = reset)
{
    struct l2d_error err = { 0 };
    cr_assert_eq(apply("{\"text\": \"b\xc3\xa4r\", \"whole\": -5, \"real\": 1, \"on\": true, "
                       "\"word\": \"light blue\", \"again\": true}", &err), L2D_OK, "%s", err.msg);
    cr_assert_str_eq(t.text, "b\xc3\xa4r");
    cr_assert(t.whole == -5 && t.real == 1 && t.on && t.word == 2 && t.done == 1);
    cr_assert_str_eq(t.order, "wtocr", "set in the order of the rows, not in that of the request");
    cr_assert_eq(apply("{\"whole\": 100}", &err), L2D_OK);
    cr_assert_eq(apply("{\"real\": 0.25}", &err), L2D_OK);
    cr_assert_eq(apply("{\"on\": false, \"text\": \"\"}", &err), L2D_OK);
    cr_assert(t.whole == 100 && t.real == 0.25 && !t.on && !*t.text && t.done == 1);
}

Test(params, refused, .init = reset)
{
    static const struct { const char *text, *why; int code; } bad[] = {
        { "", "not JSON", L2D_EFORMAT },
        { "{", "not JSON", L2D_EFORMAT },
        { "{\"whole\": 1} x", "not JSON", L2D_EFORMAT },
        { "{\"whole\": 1, \"whole\": 2}", "duplicate", L2D_EFORMAT },
        { "{\"text\": \"\xff\"}", "unable to decode", L2D_EFORMAT },
        { "{\"text\": \"a\\u0000b\"}", "not JSON", L2D_EFORMAT },
        { "[1]", "expected a JSON object", L2D_EFORMAT },
        { "{}", "nothing to change", L2D_EINVAL },
        { "{\"nope\": 1}", "nope: no such parameter", L2D_EINVAL },
        { "{\"\": 1}", "no such parameter", L2D_EINVAL },
        { "{\"whole\": 1.5}", "whole: expected a whole number, not a number with", L2D_EINVAL },
        { "{\"whole\": \"1\"}", "not a string", L2D_EINVAL },
        { "{\"whole\": null}", "not null", L2D_EINVAL },
        { "{\"whole\": -6}", "whole: -6 is out of its range -5..100", L2D_EINVAL },
        { "{\"whole\": 101}", "out of its range", L2D_EINVAL },
        { "{\"whole\": 9223372036854775807}", "out of its range", L2D_EINVAL },
        { "{\"whole\": 1e400}", "not JSON", L2D_EFORMAT },
        { "{\"real\": 1.01}", "real: 1.01 is out of its range 0..1", L2D_EINVAL },
        { "{\"real\": true}", "expected a number, not true", L2D_EINVAL },
        { "{\"text\": 3}", "text: expected a string", L2D_EINVAL },
        { "{\"text\": [\"a\"]}", "not a list", L2D_EINVAL },
        { "{\"text\": \"123456789012345678901\"}", "text: 21 bytes", L2D_EINVAL },
        { "{\"text\": \"a\\nb\"}", "control character", L2D_EINVAL },
        { "{\"text\": \"a bad one\"}", "text: that is bad", L2D_EINVAL },
        { "{\"on\": 1}", "on: expected true or false, not a whole number", L2D_EINVAL },
        { "{\"word\": \"blue\"}", "'blue' is not one of red|green|light blue", L2D_EINVAL },
        { "{\"word\": \"red|green\"}", "is not one of", L2D_EINVAL },
        { "{\"word\": \"\"}", "is not one of", L2D_EINVAL },
        { "{\"word\": 1}", "expected a string", L2D_EINVAL },
        { "{\"again\": false}", "again: expected true", L2D_EINVAL },
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct l2d_error err = { 0 };
        cr_assert_eq(apply(bad[i].text, &err), bad[i].code, "%s: %s", bad[i].text, err.msg);
        cr_assert(strstr(err.msg, bad[i].why), "%s: '%s'", bad[i].text, err.msg);
        cr_assert_null(strchr(err.msg, '\n'));
    }
    cr_assert_eq(t.sets, 0, "something was set");
}

Test(params, all_or_nothing, .init = reset)
{
    struct l2d_error err = { 0 };
    cr_assert_eq(apply("{\"text\": \"new\", \"whole\": 8, \"real\": 2}", &err), L2D_EINVAL);
    cr_assert_eq(apply("{\"text\": \"never\", \"word\": \"red\"}", &err), L2D_EINVAL);
    cr_assert_str_eq(err.msg, "never together");
    cr_assert_eq(t.sets, 0, "set before all was checked");
    // And where setting itself fails, the last row's after the others.
    t.broken = true;
    cr_assert_eq(apply("{\"text\": \"new\", \"whole\": 8, \"on\": true, \"real\": 0.75}", &err),
                 L2D_ECLOSED);
    cr_assert_str_eq(err.msg, "real: the stream has ended");
    cr_assert_str_eq(t.text, "old");
    cr_assert(t.whole == 7 && t.real == 0.5 && !t.on);
    cr_assert_str_eq(t.order, "wtootw", "not put back");
}

// Wherever its row is.
Test(params, what_cannot_be_put_back_is_done_last, .init = reset)
{
    static const struct param two[] = {
        { .name = "again", .kind = PARAM_ACTION, .user = &t, .set = do_it },
        { .name = "real", .kind = PARAM_REAL, .max = 1, .user = &t, .get = get_real,
          .set = set_real },
    };
    static const char both[] = "{\"again\": true, \"real\": 0.25}";
    const struct param_table pair = { .row = two, .num_rows = 2 };
    struct l2d_error err = { 0 };
    t.broken = true;
    cr_assert_eq(params_apply_text(&pair, both, strlen(both), &err), L2D_ECLOSED);
    cr_assert_eq(t.done, 0);
    t.broken = false;
    cr_assert_eq(params_apply_text(&pair, both, strlen(both), &err), L2D_OK, "%s", err.msg);
    cr_assert(t.done == 1 && t.real == 0.25);
}

Test(params, described, .init = reset)
{
    json_t *list = params_describe(&table), *row = json_array_get(list, 0);
    cr_assert_eq(json_array_size(list), 6);
    cr_assert_str_eq(json_string_value(json_object_get(row, "name")), "whole");
    cr_assert_str_eq(json_string_value(json_object_get(row, "kind")), "int");
    cr_assert_str_eq(json_string_value(json_object_get(row, "unit")), "frames");
    cr_assert_eq(json_integer_value(json_object_get(row, "min")), -5);
    cr_assert_eq(json_integer_value(json_object_get(row, "step")), 1);
    cr_assert_eq(json_integer_value(json_object_get(row, "value")), 7);
    row = json_array_get(list, 1);
    cr_assert_eq(json_integer_value(json_object_get(row, "max_bytes")), 20);
    row = json_array_get(list, 3);
    cr_assert_eq(json_array_size(json_object_get(row, "choices")), 3);
    cr_assert_str_eq(json_string_value(json_array_get(json_object_get(row, "choices"), 2)),
                     "light blue");
    cr_assert_str_eq(json_string_value(json_object_get(row, "value")), "green");
    cr_assert_eq(json_real_value(json_object_get(json_array_get(list, 4), "step")), 0.05);
    cr_assert_null(json_object_get(json_array_get(list, 5), "value"));
    json_decref(list);

    json_t *values = params_values(&table);
    cr_assert_eq(json_object_size(values), 5, "an action has no value");
    cr_assert_str_eq(json_string_value(json_object_get(values, "text")), "old");
    json_decref(values);
}

Test(params, an_empty_table_says_so)
{
    struct param_table none = { .row = NULL };
    struct l2d_error err = { 0 };
    cr_assert_eq(params_apply_text(&none, "{\"a\": 1}", 8, &err), L2D_EINVAL);
    cr_assert(strstr(err.msg, "nothing can be changed"), "%s", err.msg);
}
