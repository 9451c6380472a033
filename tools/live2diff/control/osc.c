// SPDX-License-Identifier: Apache-2.0
// See osc.h. Source: "The Open Sound Control 1.0 Specification", Matt Wright, 2002.
#include "osc.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "guard.h"

#define MAX_DEPTH 4             // bundles within bundles

struct osc {
    json_t *change;
    const struct param_table *table;
    const char *token;
    struct l2d_error *err;
};

struct cursor {
    const uint8_t *at, *end;
    bool cut;                   // something did not end
};

struct argument {               // the first one, which is all that a parameter takes
    char type;                  // i f s T F, as most senders have them; h and d become i and f
    double number;
    const char *text;
};

// A string with its zero, padded to four bytes. NULL: it does not end.
static const char *take_string(struct cursor *c)
{
    const uint8_t *zero = memchr(c->at, 0, (size_t) (c->end - c->at));
    c->cut |= !zero;
    if (!zero)
        return NULL;
    const char *text = (const char *) c->at;
    size_t size = ((size_t) (zero - c->at) + 4) & ~(size_t) 3, left = (size_t) (c->end - c->at);
    c->at += size < left ? size : left;
    return text;
}

static bool take_bits(struct cursor *c, size_t bytes, uint64_t *out)
{
    c->cut |= (size_t) (c->end - c->at) < bytes;
    if (c->cut)
        return false;
    *out = 0;
    for (size_t i = 0; i < bytes; i++)
        *out = *out << 8 | *c->at++;
    return true;
}

static double float_of(uint64_t bits)
{
    uint32_t low = (uint32_t) bits;
    float value;
    memcpy(&value, &low, sizeof(value));
    return value;
}

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

// returns  false: it is not there as its type says, or of a type that no parameter takes.
static bool take_argument(struct cursor *c, char type, struct argument *out)
{
    uint64_t bits = 0;
    *out = (struct argument) { .type = type };
    switch (type) {
    case 'i': if (!take_bits(c, 4, &bits))
                  return false;
              out->number = (int32_t) (uint32_t) bits;
              return true;
    case 'f': if (!take_bits(c, 4, &bits))
                  return false;
              out->number = float_of(bits);
              return isfinite(out->number);
    case 'h': if (!take_bits(c, 8, &bits))
                  return false;
              out->type = 'i';
              out->number = (double) (int64_t) bits;
              return true;
    case 'd': if (!take_bits(c, 8, &bits))
                  return false;
              out->type = 'f';
              out->number = double_of(bits);
              return isfinite(out->number);
    case 's': out->text = take_string(c);
              return out->text != NULL;
    case 'T': out->number = 1;
              return true;
    case 'F': return true;
    default:  return false;
    }
}

static json_t *choice_json(const struct param *p, const struct argument *a)
{
    if (a->type == 's')
        return json_string(a->text);
    int64_t index = fabs(a->number) < 1e6 ? llround(a->number) : -1;
    size_t size;
    const char *word = index >= 0 ? param_choice(p, index, &size) : NULL;
    return word ? json_stringn(word, size) : NULL;
}

// NULL: the argument is nothing that the parameter can be.
static json_t *value_json(const struct param *p, const struct argument *a)
{
    bool number = a->type == 'i' || a->type == 'f';
    switch (p->kind) {
    case PARAM_TEXT:   return a->type == 's' ? json_string(a->text) : NULL;
    case PARAM_INT:    return number && fabs(a->number) <= 1e16 ? json_integer(llround(a->number))
                                                               : NULL;
    case PARAM_REAL:   return number ? json_real(a->number) : NULL;
    case PARAM_CHOICE: return choice_json(p, a);
    case PARAM_FLAG:
    case PARAM_ACTION: return a->type == 's' ? NULL : json_boolean(a->number >= 0.5);
    }
    return NULL;
}

static const struct param *find_param(const struct param_table *table, const char *name)
{
    for (size_t i = 0; i < table->num_rows; i++)
        if (!strcmp(name, table->row[i].name))
            return &table->row[i];
    return NULL;
}

// The parameter's name in an address; NULL: the token is not before it.
static const char *name_in(const struct osc *osc, const char *address)
{
    const char *last = strrchr(address, '/');
    if (!osc->token)
        return last == address ? address + 1 : address;
    char given[300];
    size_t n = (size_t) (last - address);
    if (n < 1 || n >= sizeof(given))
        return NULL;
    memcpy(given, address + 1, n - 1);
    given[n - 1] = '\0';
    return guard_token(osc->token, given) ? last + 1 : NULL;
}

static int read_message(struct osc *osc, struct cursor c)
{
    const char *address = take_string(&c);
    if (!address || address[0] != '/')
        return l2d_error_set(osc->err, L2D_EFORMAT, "OSC: not a message");
    const char *types = c.at < c.end ? take_string(&c) : ",";
    const char *name = name_in(osc, address);
    if (!types || types[0] != ',')
        return l2d_error_set(osc->err, L2D_EFORMAT, "OSC: a message without types");
    if (!name)
        return l2d_error_set(osc->err, L2D_EINVAL, "OSC: a message without the run's token");
    const struct param *p = find_param(osc->table, name);
    struct argument a = { .type = 'T', .number = 1 };
    bool has = types[1] != '\0';
    json_t *value = NULL;
    if (p && (has ? take_argument(&c, types[1], &a) : p->kind == PARAM_ACTION))
        value = value_json(p, &a);
    if (!p)
        l2d_error_set(osc->err, L2D_EINVAL, "OSC: /%.60s: no such parameter here", name);
    else if (c.cut)
        l2d_error_set(osc->err, L2D_EFORMAT, "OSC: /%s: its value is cut", name);
    else if (!value)
        l2d_error_set(osc->err, L2D_EINVAL, "OSC: /%s is of kind %s: it takes nothing like '%.8s'",
                      name, param_kind_str(p->kind), types);
    if (!value) {
        l2d_error_printable(osc->err->msg);
        return c.cut ? L2D_EFORMAT : L2D_EINVAL;
    }
    if (p->kind == PARAM_ACTION && json_is_false(value))    // a button's release
        return L2D_OK;
    return json_object_set_new(osc->change, p->name, value) == 0
               ? L2D_OK : l2d_error_set(osc->err, L2D_ENOMEM, "OSC: out of memory");
}

static int read_packet(struct osc *osc, struct cursor c, int depth)
{
    static const char head[8] = "#bundle";
    if ((size_t) (c.end - c.at) < sizeof(head) || memcmp(c.at, head, sizeof(head)))
        return read_message(osc, c);
    uint64_t ignored, size;
    c.at += sizeof(head);
    if (depth == MAX_DEPTH || !take_bits(&c, 8, &ignored))
        return l2d_error_set(osc->err, L2D_EFORMAT, "OSC: a bundle that is cut or too deep");
    int rc = L2D_OK;
    while (rc == L2D_OK && c.at < c.end) {
        if (!take_bits(&c, 4, &size) || size > (size_t) (c.end - c.at))
            return l2d_error_set(osc->err, L2D_EFORMAT, "OSC: a bundle that is cut");
        rc = read_packet(osc, (struct cursor) { c.at, c.at + size, false }, depth + 1);
        c.at += size;
    }
    return rc;
}

int osc_read(json_t *change, const struct param_table *table, const char *token,
             const uint8_t *data, size_t size, struct l2d_error *err)
{
    struct osc osc = { change, table, token, err };
    return read_packet(&osc, (struct cursor) { data, data + size, false }, 0);
}
