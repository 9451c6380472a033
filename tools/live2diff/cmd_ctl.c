// SPDX-License-Identifier: Apache-2.0
// live2diff ctl: a running `live2diff run --control` from the shell. It knows no parameter by name:
// the run says which there are and of what type.
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "commands.h"
#include "control/guard.h"
#include "http_client.h"

struct ctl_options {
    const char *address, *token, *snapshot;
    const char *format, *codec, *codec_options, *add_output, *remove_output;
    int list, json;
    struct control_address at;
};

#define AT(field) offsetof(struct ctl_options, field)
static const struct option_row rows[] = {
    { 'a', "address", OPTION_TEXT, "[HOST]:PORT", ":8080", "what the run has as --control",
      AT(address), NULL },
    { 0, "token", OPTION_TEXT, "TOKEN", NULL, "the run's token; default: $LIVE2DIFF_TOKEN",
      AT(token), NULL },
    { 'l', "list", OPTION_FLAG, NULL, NULL, "list what can be changed, with ranges and values",
      AT(list), NULL },
    { 's', "snapshot", OPTION_TEXT, "FILE", NULL,
      "write the newest picture there: .png or .jpg; - is standard output, PNG", AT(snapshot),
      NULL },
    { 0, "add-output", OPTION_TEXT, "URL", NULL,
      "one more output of the run: a URL, or a new file in its current folder", AT(add_output),
      NULL },
    { 0, "remove-output", OPTION_TEXT, "ID", NULL,
      "finish an output and take it away: the number that the state shows", AT(remove_output),
      NULL },
    { 'f', "format", OPTION_TEXT, "FORMAT", NULL, "of --add-output, as of run's -o", AT(format),
      NULL },
    { 'c', "codec", OPTION_TEXT, "ENCODER", NULL, "of --add-output", AT(codec), NULL },
    { 0, "codec-options", OPTION_TEXT, "K=V:K=V", NULL, "of --add-output's encoder",
      AT(codec_options), NULL },
    { 'j', "json", OPTION_FLAG, NULL, NULL, "print answers as they come, in JSON", AT(json),
      NULL },
};

// --- asking

// An answer of success; others become the error that they tell.
static int ask(const struct ctl_options *o, const char *method, const char *path, const char *body,
               struct http_answer *answer, struct l2d_error *err)
{
    int rc = http_ask(answer, &o->at, method, path, o->token, body, err);
    if (rc != L2D_OK || answer->status / 100 == 2)
        return rc;
    json_t *json = json_loadb(answer->body, answer->size, 0, NULL);
    const char *why = json_string_value(json_object_get(json, "error"));
    if (why)
        l2d_error_set(err, L2D_EINVAL, "%s", why);
    else
        l2d_error_set(err, L2D_EFORMAT, "%s: the server answers with status %d", path,
                      answer->status);
    l2d_error_printable(err->msg);
    json_decref(json);
    free(answer->body);
    answer->body = NULL;
    return err->code;
}

static int ask_json(const struct ctl_options *o, const char *method, const char *path,
                    const char *body, json_t **out, struct l2d_error *err)
{
    struct http_answer answer = { 0 };
    int rc = ask(o, method, path, body, &answer, err);
    if (rc != L2D_OK)
        return rc;
    *out = json_loadb(answer.body, answer.size, 0, NULL);
    free(answer.body);
    return *out ? L2D_OK : l2d_error_set(err, L2D_EFORMAT, "%s: the answer is not JSON", path);
}

// --- printing

// As it would be typed behind KEY=, without control characters.
static void print_value(const json_t *value)
{
    char *text = json_is_string(value) ? strdup(json_string_value(value))
                 : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
    if (text)
        l2d_error_printable(text);
    fputs(text ? text : "?", stdout);
    free(text);
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void print_drops(const json_t *drops)
{
    const char *reason;
    json_t *count;
    json_object_foreach((json_t *) drops, reason, count)
        printf(", %.0f %s", json_number_value(count), reason);
}

// Of the input or an output.
static void print_condition(const json_t *of)
{
    const char *reason = string(of, "reason"), *word = string(of, "state");
    bool told = *reason && strcmp(word, "running");
    printf(" (%s%s%s)\n", word, told ? ": " : "", told ? reason : "");
}

static void print_state(const json_t *state)
{
    const json_t *engine = json_object_get(state, "engine"), *frames = json_object_get(state,
                                                                                      "frames");
    const json_t *latency = json_object_get(state, "latency_ms"), *params, *output;
    const char *model = string(engine, "model"), *name;
    json_t *value;
    size_t i;
    printf("%s at %.0fx%.0f on %s, for %.0f s\n", *model ? model : "no model",
           number(engine, "width"), number(engine, "height"), string(engine, "device"),
           number(state, "uptime_s"));
    printf("  %.1f fps; latency p50 %.0f ms, p95 %.0f, p99 %.0f\n", number(state, "fps"),
           number(latency, "p50"), number(latency, "p95"), number(latency, "p99"));
    printf("  frames: %.0f in, %.0f out", number(frames, "in"), number(frames, "out"));
    print_drops(json_object_get(frames, "dropped"));
    printf("\n  input: %s", string(state, "input"));
    print_condition(json_object_get(state, "source"));
    json_array_foreach(json_object_get(state, "outputs"), i, output) {
        printf("  output %.0f: %s", number(output, "id"), string(output, "name"));
        print_condition(output);
    }
    params = json_object_get(state, "params");
    json_object_foreach((json_t *) params, name, value) {
        printf("  %s=", name);
        print_value(value);
        putchar('\n');
    }
}

static void print_range(const json_t *row)
{
    const char *kind = string(row, "kind");
    json_t *word;
    size_t i;
    if (!strcmp(kind, "int") || !strcmp(kind, "real"))
        printf("%.16g..%.16g", number(row, "min"), number(row, "max"));
    else if (!strcmp(kind, "choice"))
        json_array_foreach(json_object_get(row, "choices"), i, word)
            printf("%s%s", i ? "|" : "", json_string_value(word));
    else
        fputs(!strcmp(kind, "flag") ? "on|off" : !strcmp(kind, "action") ? "(no value)" : "TEXT",
              stdout);
    if (*string(row, "unit"))
        printf(" %s", string(row, "unit"));
}

static void print_table(const json_t *table)
{
    const json_t *row;
    size_t i;
    json_array_foreach((json_t *) table, i, row) {
        printf("%s: ", string(row, "name"));
        print_range(row);
        printf("; %s", string(row, "doc"));
        if (json_object_get(row, "value")) {
            fputs(" [", stdout);
            print_value(json_object_get(row, "value"));
            putchar(']');
        }
        putchar('\n');
    }
}

static void print_json(const json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
}

// --- changing

static const json_t *find_row(const json_t *table, const char *name, size_t size)
{
    const json_t *row;
    size_t i;
    json_array_foreach((json_t *) table, i, row)
        if (strlen(string(row, "name")) == size && !memcmp(string(row, "name"), name, size))
            return row;
    return NULL;
}

// A word as the row's type; NULL: it is not of that type.
static json_t *typed(const json_t *row, const char *word)
{
    static const char *const yes[] = { "on", "true", "yes", "1" };
    static const char *const no[] = { "off", "false", "no", "0" };
    const char *kind = string(row, "kind");
    char *end;
    errno = 0;
    if (!strcmp(kind, "int")) {
        long long value = strtoll(word, &end, 10);
        return *word && !*end && errno == 0 ? json_integer(value) : NULL;
    }
    if (!strcmp(kind, "real")) {
        double value = strtod(word, &end);
        return *word && !*end && errno == 0 ? json_real(value) : NULL;
    }
    for (int i = 0; !strcmp(kind, "flag") && i < 4; i++)
        if (!strcmp(word, yes[i]) || !strcmp(word, no[i]))
            return json_boolean(!strcmp(word, yes[i]));
    return strcmp(kind, "flag") ? json_string(word) : NULL;
}

static int add_change(json_t *change, const json_t *table, const char *word, struct l2d_error *err)
{
    const char *equals = strchr(word, '=');
    size_t size = equals ? (size_t) (equals - word) : strlen(word);
    const json_t *row = find_row(table, word, size);
    bool action = row && !strcmp(string(row, "kind"), "action");
    json_t *value = NULL;
    if (!row)
        l2d_error_set(err, L2D_EINVAL, "'%.*s' is no parameter of this run: live2diff ctl --list "
                      "tells them", (int) size, word);
    else if (json_object_get(change, string(row, "name")))
        l2d_error_set(err, L2D_EINVAL, "%.*s is there twice", (int) size, word);
    else if (!equals && !action)
        l2d_error_set(err, L2D_EINVAL, "'%s': expected %s=VALUE", word, word);
    else if (equals && action && strcmp(equals, "=true") != 0)      // as HTTP has it
        l2d_error_set(err, L2D_EINVAL, "%.*s takes no value", (int) size, word);
    else if ((value = action ? json_true() : typed(row, equals + 1)) == NULL)
        l2d_error_set(err, L2D_EINVAL, "%s: expected %s, not '%s'", string(row, "name"),
                      !strcmp(string(row, "kind"), "flag") ? "on or off"
                      : !strcmp(string(row, "kind"), "int") ? "a whole number"
                      : !strcmp(string(row, "kind"), "real") ? "a number" : "UTF-8", equals + 1);
    if (!value)
        return err->code;
    return json_object_set_new(change, string(row, "name"), value) == 0
               ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "out of memory");
}

static int change_params(const struct ctl_options *o, int count, char **words,
                         struct l2d_error *err)
{
    json_t *table = NULL, *change = json_object(), *answer = NULL;
    int rc = ask_json(o, "GET", "/api/params", NULL, &table, err);
    for (int i = 0; rc == L2D_OK && i < count; i++)
        rc = add_change(change, table, words[i], err);
    char *body = rc == L2D_OK ? json_dumps(change, JSON_COMPACT) : NULL;
    if (rc == L2D_OK)
        rc = body ? ask_json(o, "PATCH", "/api/params", body, &answer, err)
                  : l2d_error_set(err, L2D_ENOMEM, "out of memory");
    if (rc == L2D_OK && o->json)
        print_json(answer);
    free(body);
    json_decref(table);
    json_decref(change);
    json_decref(answer);
    return rc;
}

// --- outputs

static int print_output(const struct ctl_options *o, json_t *answer)
{
    if (o->json)
        print_json(answer);
    else
        printf("output %.0f: %s\n", number(answer, "id"), string(answer, "state"));
    json_decref(answer);
    return L2D_OK;
}

static int add_output(const struct ctl_options *o, struct l2d_error *err)
{
    json_t *answer = NULL, *what = json_pack("{ss ss* ss* ss*}", "url", o->add_output, "format",
                                             o->format, "codec", o->codec, "codec_options",
                                             o->codec_options);
    char *body = what ? json_dumps(what, JSON_COMPACT) : NULL;
    int rc = body ? ask_json(o, "POST", "/api/outputs", body, &answer, err)
                  : l2d_error_set(err, L2D_EINVAL, "--add-output: expected UTF-8");
    free(body);
    json_decref(what);
    return rc == L2D_OK ? print_output(o, answer) : rc;
}

static int remove_output(const struct ctl_options *o, struct l2d_error *err)
{
    json_t *answer = NULL;
    char path[64];
    snprintf(path, sizeof(path), "/api/outputs/%s", o->remove_output);
    int rc = ask_json(o, "DELETE", path, NULL, &answer, err);
    return rc == L2D_OK ? print_output(o, answer) : rc;
}

static int take_snapshot(const struct ctl_options *o, struct l2d_error *err)
{
    const char *end = strrchr(o->snapshot, '.');
    if (end && strchr(end, '/'))
        end = NULL;                     // a folder's
    bool jpeg = end && (!strcasecmp(end, ".jpg") || !strcasecmp(end, ".jpeg"));
    if (!jpeg && end && end != o->snapshot && strcasecmp(end, ".png") != 0)
        return l2d_error_set(err, L2D_EINVAL, "--snapshot %s: expected a name that ends in .png, "
                             ".jpg or .jpeg, or has no such end", o->snapshot);
    struct http_answer answer = { 0 };
    int rc = ask(o, "POST", jpeg ? "/api/snapshot?format=jpeg" : "/api/snapshot", NULL, &answer,
                 err);
    if (rc != L2D_OK)
        return rc;
    FILE *file = strcmp(o->snapshot, "-") ? fopen(o->snapshot, "wb") : stdout;
    bool failed = !file || fwrite(answer.body, 1, answer.size, file) != answer.size;
    failed |= file && (file == stdout ? fflush(file) : fclose(file)) != 0;
    free(answer.body);
    return failed ? l2d_error_set(err, L2D_EIO, "%s: %s", o->snapshot, strerror(errno)) : L2D_OK;
}

static int print_asked(const struct ctl_options *o, struct l2d_error *err)
{
    json_t *json = NULL;
    int rc = ask_json(o, "GET", o->list ? "/api/params" : "/api/state", NULL, &json, err);
    if (rc != L2D_OK)
        return rc;
    if (o->json)
        print_json(json);
    else if (o->list)
        print_table(json);
    else
        print_state(json);
    json_decref(json);
    return L2D_OK;
}

static int ctl_main(int argc, char **argv)
{
    struct ctl_options o = { 0 };
    struct l2d_error err = { 0 };
    const char *first = NULL;
    int code = options_parse(&command_ctl, argc, argv, &o, &first);
    if (code >= 0)
        return code;
    if (control_address_parse(&o.at, o.address, &err) != L2D_OK)
        return options_complain(&command_ctl, "--address '%s': %s", o.address, err.msg);
    if (o.at.port == 0)
        return options_complain(&command_ctl, "--address '%s': port 0 is nobody's", o.address);
    const char *token = getenv("LIVE2DIFF_TOKEN");
    if (!o.token && token && *token)
        o.token = token;
    if (o.token && guard_token_fault(o.token))
        return options_complain(&command_ctl, "--token: %s", guard_token_fault(o.token));
    if (o.list && (first || o.snapshot || o.add_output || o.remove_output))
        return options_complain(&command_ctl, "--list takes no KEY=VALUE, and stands alone");
    if (!o.add_output && (o.format || o.codec || o.codec_options))
        return options_complain(&command_ctl, "--format, --codec and --codec-options need "
                                "--add-output");
    const char *id = o.remove_output;
    if (id && (!*id || strlen(id) > 9 || id[strspn(id, "0123456789")]))
        return options_complain(&command_ctl, "--remove-output '%s': expected a number that the "
                                "state shows", id);
    int rc = L2D_OK, count = argc - optind;
    if (o.add_output)
        rc = add_output(&o, &err);
    if (rc == L2D_OK && o.remove_output)
        rc = remove_output(&o, &err);
    if (rc == L2D_OK && first)
        rc = change_params(&o, count, argv + optind, &err);
    if (rc == L2D_OK && o.snapshot)
        rc = take_snapshot(&o, &err);
    if (rc == L2D_OK && !first && !o.snapshot && !o.add_output && !o.remove_output)
        rc = print_asked(&o, &err);
    if (rc != L2D_OK)
        fprintf(stderr, "live2diff: %s\n", err.msg);
    return rc == L2D_OK ? EXIT_OK : EXIT_FAILED;
}

const struct command command_ctl = {
    .name = "ctl", .synopsis = "[options] [KEY=VALUE | ACTION]...",
    .summary = "Watch and change a running `live2diff run --control`; alone, print its state.",
    .notes = "Examples:\n"
             "  live2diff ctl prompt=\"an ink drawing\"\n"
             "  live2diff ctl --list\n"
             "  live2diff ctl --add-output rtmp://server/app/key\n"
             "  live2diff ctl -a studio.lan:8080 --snapshot now.png\n",
    .rows = rows, .num_rows = sizeof(rows) / sizeof(rows[0]),
    .operand = "KEY=VALUE", .many_operands = true, .main = ctl_main,
};
