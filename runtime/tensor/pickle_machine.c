// SPDX-License-Identifier: Apache-2.0
// See pickle_machine.h.
#include "tensor/pickle_machine.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// ---- values -------------------------------------------------------------------------------------

void l2d_machine_fail(struct machine *m, const char *fmt, ...)
{
    if (m->rc != L2D_OK)
        return;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    l2d_error_printable(text);
    m->rc = l2d_error_set(m->err, L2D_EFORMAT, "%s: pickle, byte %td: %s", m->file,
                          m->at - m->start, text);
}

void l2d_machine_no_memory(struct machine *m)
{
    if (m->rc == L2D_OK)
        m->rc = l2d_error_set(m->err, L2D_ENOMEM, "%s: pickle: out of memory", m->file);
}

bool l2d_machine_may_copy(struct machine *m, uint64_t amount)
{
    m->copied += amount;
    if (m->copied > (uint64_t) (m->end - m->start))
        l2d_machine_fail(m, "copies more than a model does");
    return m->rc == L2D_OK;
}

bool l2d_machine_grow(struct machine *m, void *array, uint32_t count, uint32_t *cap, size_t size)
{
    if (count < *cap)
        return true;
    uint32_t bigger = *cap ? 2 * *cap : 16;
    void **at = array;
    void *p = realloc(*at, bigger * size);
    if (!p) {
        l2d_machine_no_memory(m);
        return false;
    }
    *at = p;
    *cap = bigger;
    return true;
}

void l2d_machine_append(struct machine *m, struct ids *ids, uint32_t id)
{
    if (l2d_machine_grow(m, &ids->id, ids->count, &ids->cap, sizeof(*ids->id)))
        ids->id[ids->count++] = id;
}

uint32_t l2d_machine_make(struct machine *m, struct value v)
{
    if (!l2d_machine_grow(m, &m->value, m->num_values, &m->cap_values, sizeof(v)))
        return NONE_ID;
    m->value[m->num_values] = v;
    return m->num_values++;
}

void l2d_machine_push(struct machine *m, struct value v)
{
    uint32_t id = l2d_machine_make(m, v);
    if (id != NONE_ID)
        l2d_machine_append(m, &m->stack, id);
}

// The height of the stack at the last mark, below which nothing is popped.
static uint32_t floor_of(const struct machine *m)
{
    return m->mark.count ? m->mark.id[m->mark.count - 1] : 0;
}

uint32_t l2d_machine_pop(struct machine *m)
{
    if (m->rc == L2D_OK && m->stack.count <= floor_of(m))
        l2d_machine_fail(m, "takes from an empty stack");
    return m->rc == L2D_OK ? m->stack.id[--m->stack.count] : NONE_ID;
}

// The value on top; NULL after an error.
static struct value *top(struct machine *m)
{
    if (m->rc == L2D_OK && m->stack.count <= floor_of(m))
        l2d_machine_fail(m, "looks at an empty stack");
    return m->rc == L2D_OK ? &m->value[m->stack.id[m->stack.count - 1]] : NULL;
}

// Everything above the last mark, which is taken away too. The ids stay valid until the next one is
// put on the stack.
static struct ids pop_to_mark(struct machine *m)
{
    if (m->rc == L2D_OK && m->mark.count == 0)
        l2d_machine_fail(m, "has no mark");
    if (m->rc != L2D_OK)
        return (struct ids) { 0 };
    uint32_t from = m->mark.id[--m->mark.count], count = m->stack.count - from;
    m->stack.count = from;
    return (struct ids) { count ? m->stack.id + from : NULL, count, count };
}

// ---- bytes --------------------------------------------------------------------------------------

static const uint8_t *take(struct machine *m, uint64_t size_bytes)
{
    if (m->rc == L2D_OK && size_bytes > (uint64_t) (m->end - m->at))
        l2d_machine_fail(m, "ends within an instruction");
    if (m->rc != L2D_OK)
        return NULL;
    m->at += size_bytes;
    return m->at - size_bytes;
}

static uint64_t take_uint(struct machine *m, int size_bytes)
{
    const uint8_t *p = take(m, (uint64_t) size_bytes);
    uint64_t u = 0;
    for (int i = size_bytes - 1; p && i >= 0; i--)
        u = u << 8 | p[i];
    return u;
}

static struct text take_text(struct machine *m, int length_bytes)
{
    uint64_t len = take_uint(m, length_bytes);
    const uint8_t *p = take(m, len);
    return p ? (struct text) { (const char *) p, (uint32_t) len } : (struct text) { "", 0 };
}

static struct text take_line(struct machine *m)
{
    if (m->rc != L2D_OK)
        return (struct text) { "", 0 };
    const uint8_t *newline = memchr(m->at, '\n', (size_t) (m->end - m->at));
    if (!newline) {
        l2d_machine_fail(m, "ends within a name");
        return (struct text) { "", 0 };
    }
    struct text t = { (const char *) m->at, (uint32_t) (newline - m->at) };
    m->at = newline + 1;
    return t;
}

static struct value integer(int64_t number)
{
    return (struct value) { .kind = VALUE_INT, .number = number };
}

// Little-endian two's complement of up to 8 bytes; longer ones are nothing that we need.
static void push_long(struct machine *m, uint64_t size_bytes)
{
    if (size_bytes > 8) {
        take(m, size_bytes);
        l2d_machine_push(m, (struct value) { .kind = VALUE_OTHER });
        return;
    }
    int bits = 8 * (int) size_bytes;
    uint64_t u = take_uint(m, (int) size_bytes);
    if (bits > 0 && bits < 64 && u >> (bits - 1) & 1)
        u |= UINT64_MAX << bits;
    int64_t number;
    memcpy(&number, &u, sizeof(number));
    l2d_machine_push(m, integer(number));
}

// ---- names of functions and classes -------------------------------------------------------------

// Modules whose classes are found in checkpoints. What is not understood below stays inert.
static const char *const modules[] = {
    "torch", "collections", "numpy", "_codecs", "pytorch_lightning", "lightning",
    "lightning_fabric", "omegaconf", "typing", "argparse", "pathlib", "datetime",
};
static const char *const builtin_names[] = {
    "set", "frozenset", "dict", "list", "tuple", "int", "long", "float", "complex", "bool", "str",
    "unicode", "bytes", "bytearray", "slice", "object",
};

static bool is_allowed(struct text module, struct text name)
{
    if (text_is(module, "__builtin__") || text_is(module, "builtins")) {
        for (size_t i = 0; i < sizeof(builtin_names) / sizeof(builtin_names[0]); i++)
            if (text_is(name, builtin_names[i]))
                return true;
        return false;
    }
    for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++)
        if (in_module(module, modules[i]))
            return true;
    return false;
}

static void push_global(struct machine *m, struct text module, struct text name)
{
    if (m->rc == L2D_OK && !is_allowed(module, name))
        l2d_machine_fail(m, "asks for Python's %.*s.%.*s, which no model needs; the file may be "
                         "malicious and was not used",
                         (int) (module.len < 100 ? module.len : 100), module.at,
                         (int) (name.len < 100 ? name.len : 100), name.at);
    l2d_machine_push(m, (struct value) { .kind = VALUE_GLOBAL, .global = { module, name } });
}

static void stack_global(struct machine *m)
{
    uint32_t name = l2d_machine_pop(m), module = l2d_machine_pop(m);
    if (m->rc != L2D_OK)
        return;
    if (m->value[name].kind != VALUE_STRING || m->value[module].kind != VALUE_STRING)
        l2d_machine_fail(m, "has a name that is no string");
    else
        push_global(m, m->value[module].text, m->value[name].text);
}

// ---- containers and the memo --------------------------------------------------------------------

// Append values to the list, or pairs to the dictionary, on top. Inert values swallow them.
static void extend(struct machine *m, enum kind kind, struct ids what)
{
    struct value *onto = top(m);
    if (onto && onto->kind != kind && onto->kind != VALUE_OTHER)
        l2d_machine_fail(m, "puts values into something that holds none");
    if (onto && kind == VALUE_DICT && what.count % 2)
        l2d_machine_fail(m, "has a key without a value");
    for (uint32_t i = 0; i < what.count && m->rc == L2D_OK && onto->kind == kind; i++)
        l2d_machine_append(m, &onto->ids, what.id[i]);
}

static void push_sequence(struct machine *m, enum kind kind, struct ids what)
{
    struct value v = { .kind = kind };
    for (uint32_t i = 0; i < what.count && m->rc == L2D_OK; i++)
        l2d_machine_append(m, &v.ids, what.id[i]);
    if (kind == VALUE_DICT && what.count % 2)
        l2d_machine_fail(m, "has a key without a value");
    uint32_t id = l2d_machine_make(m, v);
    if (id == NONE_ID)
        free(v.ids.id);
    else
        l2d_machine_append(m, &m->stack, id);
}

static void push_tuple_of(struct machine *m, uint32_t count)
{
    uint32_t id[3];
    for (uint32_t i = count; i-- > 0;)
        id[i] = l2d_machine_pop(m);
    if (m->rc == L2D_OK)
        push_sequence(m, VALUE_TUPLE, (struct ids) { id, count, count });
}

static void put_memo(struct machine *m, uint64_t index)
{
    if (!top(m))
        return;
    if (index > (uint64_t) (m->end - m->start)) {       // more than there are instructions
        l2d_machine_fail(m, "remembers a value under the number %" PRIu64, index);
        return;
    }
    while (m->memo.count <= index && m->rc == L2D_OK)
        l2d_machine_append(m, &m->memo, NONE_ID);
    if (m->rc == L2D_OK)
        m->memo.id[index] = m->stack.id[m->stack.count - 1];
}

static void get_memo(struct machine *m, uint64_t index)
{
    if (m->rc != L2D_OK)
        return;
    if (index >= m->memo.count || m->memo.id[index] == NONE_ID)
        l2d_machine_fail(m, "recalls a value %" PRIu64 " that it never had", index);
    else
        l2d_machine_append(m, &m->stack, m->memo.id[index]);
}

// ---- instructions -------------------------------------------------------------------------------

// By value: what they point to may move when the machine grows, these do not.
static void call(struct machine *m)
{
    uint32_t args_id = l2d_machine_pop(m), callee_id = l2d_machine_pop(m);
    if (m->rc != L2D_OK)
        return;
    struct value args = m->value[args_id], callee = m->value[callee_id];
    if (callee.kind != VALUE_GLOBAL || args.kind != VALUE_TUPLE)
        l2d_machine_fail(m, "calls something that is not a function");
    else
        m->call(m, &callee, &args);
}

static void persistent_id(struct machine *m)
{
    uint32_t id = l2d_machine_pop(m);
    if (m->rc == L2D_OK)
        m->persistent(m, &m->value[id]);
}

static void pair_into(struct machine *m)
{
    uint32_t pair[2] = { 0 };
    pair[1] = l2d_machine_pop(m);
    pair[0] = l2d_machine_pop(m);
    extend(m, VALUE_DICT, (struct ids) { pair, 2, 2 });
}

static void one_into(struct machine *m)
{
    uint32_t id = l2d_machine_pop(m);
    extend(m, VALUE_LIST, (struct ids) { &id, 1, 1 });
}

static void string(struct machine *m, int length_bytes)
{
    struct text t = take_text(m, length_bytes);
    l2d_machine_push(m, (struct value) { .kind = VALUE_STRING, .text = t });
}

static void empty(struct machine *m, enum kind kind)
{
    l2d_machine_push(m, (struct value) { .kind = kind });
}

static void inert(struct machine *m, uint64_t skip_bytes)
{
    take(m, skip_bytes);
    l2d_machine_push(m, (struct value) { .kind = VALUE_OTHER });
}

// Letters as in pickletools.py.
static void step(struct machine *m, uint8_t opcode)
{
    switch (opcode) {
    case 0x80:                                          // PROTO
        if (take_uint(m, 1) > 5)
            l2d_machine_fail(m, "is of a protocol newer than 5");
        return;
    case 0x95: take(m, 8); return;                      // FRAME
    case 'N': inert(m, 0); return;                      // NONE
    case 'G': inert(m, 8); return;                      // BINFLOAT
    case 0x88: l2d_machine_push(m, integer(1)); return; // NEWTRUE
    case 0x89: l2d_machine_push(m, integer(0)); return; // NEWFALSE
    case 'K': l2d_machine_push(m, integer((int64_t) take_uint(m, 1))); return;      // BININT1
    case 'M': l2d_machine_push(m, integer((int64_t) take_uint(m, 2))); return;      // BININT2
    case 'J': push_long(m, 4); return;                  // BININT
    case 0x8a: push_long(m, take_uint(m, 1)); return;   // LONG1
    case 'X': case 'T': string(m, 4); return;           // BINUNICODE, BINSTRING
    case 0x8c: case 'U': string(m, 1); return;          // SHORT_BINUNICODE, SHORT_BINSTRING
    case 0x8d: string(m, 8); return;                    // BINUNICODE8
    case 'C': inert(m, take_uint(m, 1)); return;        // SHORT_BINBYTES
    case 'B': inert(m, take_uint(m, 4)); return;        // BINBYTES
    case 0x8e: inert(m, take_uint(m, 8)); return;       // BINBYTES8
    case 'c': {                                         // GLOBAL
        struct text module = take_line(m);
        push_global(m, module, take_line(m));
        return;
    }
    case 0x93: stack_global(m); return;                 // STACK_GLOBAL
    case 'q': put_memo(m, take_uint(m, 1)); return;     // BINPUT
    case 'r': put_memo(m, take_uint(m, 4)); return;     // LONG_BINPUT
    case 0x94: put_memo(m, m->memo.count); return;      // MEMOIZE
    case 'h': get_memo(m, take_uint(m, 1)); return;     // BINGET
    case 'j': get_memo(m, take_uint(m, 4)); return;     // LONG_BINGET
    case '(': l2d_machine_append(m, &m->mark, m->stack.count); return;      // MARK
    case '0': l2d_machine_pop(m); return;               // POP
    case '1': pop_to_mark(m); return;                   // POP_MARK
    case '}': empty(m, VALUE_DICT); return;             // EMPTY_DICT
    case ']': empty(m, VALUE_LIST); return;             // EMPTY_LIST
    case ')': empty(m, VALUE_TUPLE); return;            // EMPTY_TUPLE
    case 0x8f: empty(m, VALUE_LIST); return;            // EMPTY_SET
    case 't': push_sequence(m, VALUE_TUPLE, pop_to_mark(m)); return;        // TUPLE
    case 'l': push_sequence(m, VALUE_LIST, pop_to_mark(m)); return;     // LIST
    case 'd': push_sequence(m, VALUE_DICT, pop_to_mark(m)); return;     // DICT
    case 0x85: push_tuple_of(m, 1); return;             // TUPLE1
    case 0x86: push_tuple_of(m, 2); return;             // TUPLE2
    case 0x87: push_tuple_of(m, 3); return;             // TUPLE3
    case 's': pair_into(m); return;                     // SETITEM
    case 'u': extend(m, VALUE_DICT, pop_to_mark(m)); return;        // SETITEMS
    case 'a': one_into(m); return;                      // APPEND
    case 'e': case 0x90: extend(m, VALUE_LIST, pop_to_mark(m)); return;     // APPENDS, ADDITEMS
    case 'Q': persistent_id(m); return;                 // BINPERSID
    case 'R': case 0x81: call(m); return;               // REDUCE, NEWOBJ
    case 'b': l2d_machine_pop(m); top(m); return;       // BUILD: the state of an object
    default:
        l2d_machine_fail(m, "instruction 0x%02x is not one that a checkpoint needs", opcode);
    }
}

void l2d_machine_run(struct machine *m)
{
    bool stop = false;
    while (m->rc == L2D_OK && !stop) {
        const uint8_t *opcode = take(m, 1);
        stop = opcode && *opcode == '.';
        if (opcode && !stop)
            step(m, *opcode);
    }
}

void l2d_machine_finish(struct machine *m)
{
    for (uint32_t i = 0; i < m->num_values; i++)
        if (m->value[i].kind == VALUE_TUPLE || m->value[i].kind == VALUE_LIST ||
            m->value[i].kind == VALUE_DICT)
            free(m->value[i].ids.id);
    free(m->value);
    free(m->stack.id);
    free(m->memo.id);
    free(m->mark.id);
}
