// SPDX-License-Identifier: Apache-2.0
// What the control server reads of a request: the parameters' JSON, the Host header, addresses; and
// the packets of OSC.
// Accepted values are within their rows' ranges, and a refusal sets nothing.
#include "fuzz.h"

#include <string.h>

#include "address.h"
#include "guard.h"
#include "osc.h"
#include "params.h"

static int sets;

static int get(void *user, struct param_value *v, struct l2d_error *err)
{
    (void) user, (void) err;
    v->text = strdup("as it was");
    return L2D_OK;
}

static int set(void *user, const struct param_value *v, struct l2d_error *err)
{
    (void) err;
    const struct param *row = user;
    sets++;
    if (row->kind == PARAM_TEXT && strlen(v->text) > row->max)
        abort();
    if ((row->kind == PARAM_INT || row->kind == PARAM_REAL) &&
        !(v->real >= row->min && v->real <= row->max))
        abort();
    if (row->kind == PARAM_CHOICE && (v->integer < 0 || v->integer > 2))
        abort();
    return L2D_OK;
}

static struct param rows[] = {
    { .name = "prompt", .kind = PARAM_TEXT, .max = 40 },
    { .name = "fade", .kind = PARAM_INT, .min = 0, .max = 250 },
    { .name = "amount", .kind = PARAM_REAL, .min = -1, .max = 1 },
    { .name = "freeze", .kind = PARAM_FLAG },
    { .name = "noise", .kind = PARAM_CHOICE, .choices = "model|shared|fresh" },
    { .name = "rewarm", .kind = PARAM_ACTION },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t count = sizeof(rows) / sizeof(rows[0]);
    for (size_t i = 0; i < count; i++) {
        rows[i].get = get;
        rows[i].set = set;
        rows[i].user = &rows[i];
    }
    struct param_table table = { .row = rows, .num_rows = count };
    struct l2d_error err = { 0 };
    sets = 0;
    int rc = params_apply_text(&table, (const char *) data, size, &err);
    if ((rc == L2D_OK) != (sets > 0) || (rc != L2D_OK && (!*err.msg || strchr(err.msg, '\n'))))
        abort();

    json_t *change = json_object();
    sets = 0;
    *err.msg = '\0';
    rc = osc_read(change, &table, size % 2 ? "token" : NULL, data, size, &err);
    if (rc == L2D_OK)
        params_apply(&table, change, &err);
    else if (!*err.msg || strchr(err.msg, '\n'))
        abort();
    json_decref(change);

    char *text = malloc(size + 1), again[272];
    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    guard_host_is_local(text);
    struct control_address address, same;
    if (control_address_parse(&address, text, &err) == L2D_OK) {
        control_address_format(&address, again);
        if (control_address_parse(&same, again, &err) != L2D_OK || same.port != address.port ||
            strcmp(same.host, address.host))
            abort();
    }
    free(text);
    return 0;
}
