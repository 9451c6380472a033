// SPDX-License-Identifier: Apache-2.0
// The stack machine of pickle, with values that do nothing. See pickle.h.
#include "tensor/pickle.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAME_BYTES 256
#define MAX_DEPTH 8             // dictionaries within dictionaries that are looked into
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
    bool seen;                  // collect_dict() was here
    union {
        int64_t number;
        struct text text;       // of a string
        struct { struct text module, name; } global;
        struct ids ids;         // of a tuple, list or dict: there, key and value in turn
        uint32_t index;         // of a storage or tensor
    };
};

struct machine {
    const char *file;
    const uint8_t *start, *at, *end;
    struct value *value;
    uint32_t num_values, cap_values;
    struct ids stack, memo, mark;       // mark: heights of the stack
    struct l2d_pickle *out;
    uint32_t cap_storages, cap_tensors, cap_named;
    struct l2d_pickle_tensor *tensor;   // all; those with a name end up in out
    uint32_t num_tensors;
    uint64_t copied;                    // of what may be named again and again
    int rc;
    struct l2d_error *err;
};

struct l2d_pickle {
    struct l2d_pickle_storage *storage;
    struct l2d_pickle_tensor *named;
    char **string;
    uint32_t num_storages, num_named, num_strings;
};

// ---- values -------------------------------------------------------------------------------------

static void fail(struct machine *m, const char *fmt, ...) L2D_PRINTF(2, 3);
static void fail(struct machine *m, const char *fmt, ...)
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

static void no_memory(struct machine *m)
{
    if (m->rc == L2D_OK)
        m->rc = l2d_error_set(m->err, L2D_ENOMEM, "%s: pickle: out of memory", m->file);
}

// What is there once may be named often, and copied each time: not more in all than the file is
// large.
static bool may_copy(struct machine *m, uint64_t amount)
{
    m->copied += amount;
    if (m->copied > (uint64_t) (m->end - m->start))
        fail(m, "copies more than a model does");
    return m->rc == L2D_OK;
}

// Room for one more element. false: no memory.
static bool grow(struct machine *m, void *array, uint32_t count, uint32_t *cap, size_t size)
{
    if (count < *cap)
        return true;
    uint32_t bigger = *cap ? 2 * *cap : 16;
    void **at = array;
    void *p = realloc(*at, bigger * size);
    if (!p) {
        no_memory(m);
        return false;
    }
    *at = p;
    *cap = bigger;
    return true;
}

static void append(struct machine *m, struct ids *ids, uint32_t id)
{
    if (grow(m, &ids->id, ids->count, &ids->cap, sizeof(*ids->id)))
        ids->id[ids->count++] = id;
}

static uint32_t make(struct machine *m, struct value v)
{
    if (!grow(m, &m->value, m->num_values, &m->cap_values, sizeof(v)))
        return NONE_ID;
    m->value[m->num_values] = v;
    return m->num_values++;
}

static void push(struct machine *m, struct value v)
{
    uint32_t id = make(m, v);
    if (id != NONE_ID)
        append(m, &m->stack, id);
}

// The height of the stack at the last mark, below which nothing is popped.
static uint32_t floor_of(const struct machine *m)
{
    return m->mark.count ? m->mark.id[m->mark.count - 1] : 0;
}

static uint32_t pop(struct machine *m)
{
    if (m->rc == L2D_OK && m->stack.count <= floor_of(m))
        fail(m, "takes from an empty stack");
    return m->rc == L2D_OK ? m->stack.id[--m->stack.count] : NONE_ID;
}

// The value on top; NULL after an error.
static struct value *top(struct machine *m)
{
    if (m->rc == L2D_OK && m->stack.count <= floor_of(m))
        fail(m, "looks at an empty stack");
    return m->rc == L2D_OK ? &m->value[m->stack.id[m->stack.count - 1]] : NULL;
}

// Everything above the last mark, which is taken away too. The ids stay valid until the next one is
// put on the stack.
static struct ids pop_to_mark(struct machine *m)
{
    if (m->rc == L2D_OK && m->mark.count == 0)
        fail(m, "has no mark");
    if (m->rc != L2D_OK)
        return (struct ids) { 0 };
    uint32_t from = m->mark.id[--m->mark.count], count = m->stack.count - from;
    m->stack.count = from;
    return (struct ids) { count ? m->stack.id + from : NULL, count, count };
}

static bool text_is(struct text t, const char *s)
{
    return t.len == strlen(s) && !memcmp(t.at, s, t.len);
}

static const struct value *item(const struct machine *m, const struct value *sequence, uint32_t i)
{
    return &m->value[sequence->ids.id[i]];
}

// ---- bytes --------------------------------------------------------------------------------------

static const uint8_t *take(struct machine *m, uint64_t size_bytes)
{
    if (m->rc == L2D_OK && size_bytes > (uint64_t) (m->end - m->at))
        fail(m, "ends within an instruction");
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
        fail(m, "ends within a name");
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
        push(m, (struct value) { .kind = VALUE_OTHER });
        return;
    }
    int bits = 8 * (int) size_bytes;
    uint64_t u = take_uint(m, (int) size_bytes);
    if (bits > 0 && bits < 64 && u >> (bits - 1) & 1)
        u |= UINT64_MAX << bits;
    int64_t number;
    memcpy(&number, &u, sizeof(number));
    push(m, integer(number));
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

static bool in_module(struct text module, const char *name)
{
    size_t len = strlen(name);
    return module.len >= len && !memcmp(module.at, name, len) &&
           (module.len == len || module.at[len] == '.');
}

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
        fail(m, "asks for Python's %.*s.%.*s, which no model needs; the file may be malicious and "
             "was not used", (int) (module.len < 100 ? module.len : 100), module.at,
             (int) (name.len < 100 ? name.len : 100), name.at);
    push(m, (struct value) { .kind = VALUE_GLOBAL, .global = { module, name } });
}

static void stack_global(struct machine *m)
{
    uint32_t name = pop(m), module = pop(m);
    if (m->rc != L2D_OK)
        return;
    if (m->value[name].kind != VALUE_STRING || m->value[module].kind != VALUE_STRING)
        fail(m, "has a name that is no string");
    else
        push_global(m, m->value[module].text, m->value[name].text);
}

// ---- tensors ------------------------------------------------------------------------------------

static const struct { const char *storage, *dtype; enum l2d_safetensors_dtype is; } types[] = {
    { "FloatStorage", "float32", L2D_SAFETENSORS_F32 },
    { "HalfStorage", "float16", L2D_SAFETENSORS_F16 },
    { "BFloat16Storage", "bfloat16", L2D_SAFETENSORS_BF16 },
    { "DoubleStorage", "float64", L2D_SAFETENSORS_F64 },
    { "LongStorage", "int64", L2D_SAFETENSORS_I64 },
    { "IntStorage", "int32", L2D_SAFETENSORS_I32 },
    { "ShortStorage", "int16", L2D_SAFETENSORS_I16 },
    { "CharStorage", "int8", L2D_SAFETENSORS_I8 },
    { "ByteStorage", "uint8", L2D_SAFETENSORS_U8 },
    { "BoolStorage", "bool", L2D_SAFETENSORS_BOOL },
    { "UntypedStorage", "float8_e4m3fn", L2D_SAFETENSORS_F8_E4M3 },
    { "UntypedStorage", "float8_e5m2", L2D_SAFETENSORS_F8_E5M2 },
};
#define NUM_TYPES (sizeof(types) / sizeof(types[0]))

// A malloc'ed copy, with a zero behind it. NULL: no memory.
static char *copy_text(struct machine *m, struct text t)
{
    char *s = malloc(t.len + 1);
    if (!s) {
        no_memory(m);
        return NULL;
    }
    memcpy(s, t.at, t.len);
    s[t.len] = '\0';
    return s;
}

// A storage's key becomes part of a path in the file.
static bool key_ok(struct text t)
{
    for (uint32_t i = 0; i < t.len; i++)
        if ((unsigned char) t.at[i] <= 0x20 || t.at[i] == 0x7f || t.at[i] == '/')
            return false;
    return t.len > 0 && t.len <= MAX_NAME_BYTES;
}

// ("storage", type, key, location, count) or, before PyTorch 1.6, with a sixth, the view.
static void persistent_id(struct machine *m)
{
    uint32_t id = pop(m);
    if (m->rc != L2D_OK)
        return;
    const struct value *tuple = &m->value[id];
    const struct value *part[5] = { NULL };
    if (tuple->kind == VALUE_TUPLE && tuple->ids.count >= 5)
        for (uint32_t i = 0; i < 5; i++)
            part[i] = item(m, tuple, i);
    if (!part[0] || part[0]->kind != VALUE_STRING || !text_is(part[0]->text, "storage") ||
        part[1]->kind != VALUE_GLOBAL || part[2]->kind != VALUE_STRING ||
        part[4]->kind != VALUE_INT || part[4]->number < 0) {
        fail(m, "has a storage that is not described as PyTorch does");
        return;
    }
    if (tuple->ids.count > 5 && item(m, tuple, 5)->kind != VALUE_OTHER) {
        fail(m, "has views of storages, as PyTorch before 0.4 wrote them; save it anew");
        return;
    }
    struct l2d_pickle_storage s = { .count = (uint64_t) part[4]->number };
    size_t t = 0;
    while (t < NUM_TYPES && !text_is(part[1]->global.name, types[t].storage))
        t++;
    if (t == NUM_TYPES || !in_module(part[1]->global.module, "torch") || !key_ok(part[2]->text)) {
        fail(m, "has a storage of type %.*s, which is unknown",
             (int) (part[1]->global.name.len < 100 ? part[1]->global.name.len : 100),
             part[1]->global.name.at);
        return;
    }
    s.dtype = strcmp(types[t].storage, "UntypedStorage") ? types[t].is : L2D_SAFETENSORS_U8;
    struct l2d_pickle *out = m->out;
    char *key = copy_text(m, part[2]->text);
    s.key = key;
    if (!key || !grow(m, &out->storage, out->num_storages, &m->cap_storages, sizeof(s))) {
        free(key);
        return;
    }
    out->storage[out->num_storages] = s;
    push(m, (struct value) { .kind = VALUE_STORAGE, .index = out->num_storages++ });
}

static bool take_dims(const struct machine *m, const struct value *v, uint64_t *out, int *ndim)
{
    if ((v->kind != VALUE_TUPLE && v->kind != VALUE_LIST) ||
        v->ids.count > L2D_SAFETENSORS_MAX_DIMS)
        return false;
    *ndim = (int) v->ids.count;
    for (int i = 0; i < *ndim; i++) {
        const struct value *d = item(m, v, (uint32_t) i);
        if (d->kind != VALUE_INT || d->number < 0)
            return false;
        out[i] = (uint64_t) d->number;
    }
    return true;
}

// Counts its elements and how far they reach. false: not all of them are in its storage.
static bool measure(struct l2d_pickle_tensor *t, uint64_t storage_count)
{
    t->count = 1;
    for (int i = 0; i < t->ndim; i++)
        if (t->dims[i] == 0)
            t->count = 0;
    if (t->count == 0)
        return true;
    t->span = 1;
    for (int i = 0; i < t->ndim; i++) {
        uint64_t steps = t->dims[i] - 1;
        if (t->dims[i] > storage_count / t->count)      // also: no element of it twice
            return false;
        t->count *= t->dims[i];
        if (steps > 0 && t->strides[i] > (storage_count - t->span) / steps)
            return false;
        t->span += steps * t->strides[i];
    }
    return t->span <= storage_count && t->offset <= storage_count - t->span;
}

// _rebuild_tensor_v2(storage, offset, size, stride, ...); v3 names the type in its seventh place.
static void rebuild_tensor(struct machine *m, const struct value *args, bool v3)
{
    struct l2d_pickle_tensor t = { 0 };
    int num_strides = -1;
    const struct value *storage = args->ids.count >= 4 ? item(m, args, 0) : NULL;
    if (!storage || storage->kind != VALUE_STORAGE || item(m, args, 1)->kind != VALUE_INT ||
        item(m, args, 1)->number < 0 || !take_dims(m, item(m, args, 2), t.dims, &t.ndim) ||
        !take_dims(m, item(m, args, 3), t.strides, &num_strides) || num_strides != t.ndim) {
        fail(m, "has a tensor that is not described as PyTorch does");
        return;
    }
    t.storage = storage->index;
    t.offset = (uint64_t) item(m, args, 1)->number;
    const struct l2d_pickle_storage *s = &m->out->storage[t.storage];
    uint64_t count = s->count < INT64_MAX / 8 ? s->count : 0;
    t.dtype = s->dtype;
    if (v3) {
        const struct value *type = args->ids.count >= 7 ? item(m, args, 6) : NULL;
        size_t i = 0;
        while (type && type->kind == VALUE_GLOBAL && i < NUM_TYPES &&
               !text_is(type->global.name, types[i].dtype))
            i++;
        if (!type || type->kind != VALUE_GLOBAL || i == NUM_TYPES) {
            fail(m, "has a tensor of an unknown type");
            return;
        }
        t.dtype = types[i].is;
        count = count * l2d_safetensors_dtype_bytes(s->dtype) /
                l2d_safetensors_dtype_bytes(t.dtype);
    }
    if (!measure(&t, count)) {
        fail(m, "has a tensor that reaches beyond its storage %s", s->key);
        return;
    }
    if (grow(m, &m->tensor, m->num_tensors, &m->cap_tensors, sizeof(t))) {
        m->tensor[m->num_tensors] = t;
        push(m, (struct value) { .kind = VALUE_TENSOR, .index = m->num_tensors++ });
    }
}

// ---- calls --------------------------------------------------------------------------------------

// OrderedDict([[key, value], ...])
static void push_ordered_dict(struct machine *m, const struct value *args)
{
    struct value dict = { .kind = VALUE_DICT };
    uint32_t id = make(m, dict);
    const struct value *pairs = args->ids.count == 1 ? item(m, args, 0) : NULL;
    if (pairs && pairs->kind == VALUE_LIST && !may_copy(m, pairs->ids.count))
        return;
    for (uint32_t i = 0; pairs && pairs->kind == VALUE_LIST && i < pairs->ids.count; i++) {
        const struct value *pair = item(m, pairs, i);
        if ((pair->kind != VALUE_TUPLE && pair->kind != VALUE_LIST) || pair->ids.count != 2) {
            fail(m, "has a dictionary of something else than pairs");
            break;
        }
        append(m, &dict.ids, pair->ids.id[0]);
        append(m, &dict.ids, pair->ids.id[1]);
    }
    if (id == NONE_ID) {
        free(dict.ids.id);
        return;
    }
    m->value[id] = dict;
    append(m, &m->stack, id);
}

static void call(struct machine *m)
{
    uint32_t args_id = pop(m), callee_id = pop(m);
    if (m->rc != L2D_OK)
        return;
    // By value: what they point to may move when the machine grows, these do not.
    struct value args = m->value[args_id], callee = m->value[callee_id];
    if (callee.kind != VALUE_GLOBAL || args.kind != VALUE_TUPLE) {
        fail(m, "calls something that is not a function");
        return;
    }
    struct text name = callee.global.name;
    bool torch = text_is(callee.global.module, "torch._utils");
    bool collections = text_is(callee.global.module, "collections");
    if (torch && (text_is(name, "_rebuild_tensor_v2") || text_is(name, "_rebuild_tensor")))
        rebuild_tensor(m, &args, false);
    else if (torch && text_is(name, "_rebuild_tensor_v3"))
        rebuild_tensor(m, &args, true);
    else if (torch && args.ids.count > 0 &&
             (text_is(name, "_rebuild_parameter") ||
              text_is(name, "_rebuild_parameter_with_state")))
        append(m, &m->stack, args.ids.id[0]);
    else if (collections && text_is(name, "OrderedDict"))
        push_ordered_dict(m, &args);
    else if (collections && text_is(name, "defaultdict"))
        push(m, (struct value) { .kind = VALUE_DICT });
    else
        push(m, (struct value) { .kind = VALUE_OTHER });
}

// Append values to the list, or pairs to the dictionary, on top. Inert values swallow them.
static void extend(struct machine *m, enum kind kind, struct ids what)
{
    struct value *onto = top(m);
    if (onto && onto->kind != kind && onto->kind != VALUE_OTHER)
        fail(m, "puts values into something that holds none");
    if (onto && kind == VALUE_DICT && what.count % 2)
        fail(m, "has a key without a value");
    for (uint32_t i = 0; i < what.count && m->rc == L2D_OK && onto->kind == kind; i++)
        append(m, &onto->ids, what.id[i]);
}

static void push_sequence(struct machine *m, enum kind kind, struct ids what)
{
    struct value v = { .kind = kind };
    for (uint32_t i = 0; i < what.count && m->rc == L2D_OK; i++)
        append(m, &v.ids, what.id[i]);
    if (kind == VALUE_DICT && what.count % 2)
        fail(m, "has a key without a value");
    uint32_t id = make(m, v);
    if (id == NONE_ID)
        free(v.ids.id);
    else
        append(m, &m->stack, id);
}

static void push_tuple_of(struct machine *m, uint32_t count)
{
    uint32_t id[3];
    for (uint32_t i = count; i-- > 0;)
        id[i] = pop(m);
    if (m->rc == L2D_OK)
        push_sequence(m, VALUE_TUPLE, (struct ids) { id, count, count });
}

static void put_memo(struct machine *m, uint64_t index)
{
    if (!top(m))
        return;
    if (index > (uint64_t) (m->end - m->start)) {       // more than there are instructions
        fail(m, "remembers a value under the number %" PRIu64, index);
        return;
    }
    while (m->memo.count <= index && m->rc == L2D_OK)
        append(m, &m->memo, NONE_ID);
    if (m->rc == L2D_OK)
        m->memo.id[index] = m->stack.id[m->stack.count - 1];
}

static void get_memo(struct machine *m, uint64_t index)
{
    if (m->rc != L2D_OK)
        return;
    if (index >= m->memo.count || m->memo.id[index] == NONE_ID)
        fail(m, "recalls a value %" PRIu64 " that it never had", index);
    else
        append(m, &m->stack, m->memo.id[index]);
}

// ---- the machine --------------------------------------------------------------------------------

static void pair_into(struct machine *m)
{
    uint32_t pair[2] = { 0 };
    pair[1] = pop(m);
    pair[0] = pop(m);
    extend(m, VALUE_DICT, (struct ids) { pair, 2, 2 });
}

static void one_into(struct machine *m)
{
    uint32_t id = pop(m);
    extend(m, VALUE_LIST, (struct ids) { &id, 1, 1 });
}

static void string(struct machine *m, int length_bytes)
{
    struct text t = take_text(m, length_bytes);
    push(m, (struct value) { .kind = VALUE_STRING, .text = t });
}

static void inert(struct machine *m, uint64_t skip_bytes)
{
    take(m, skip_bytes);
    push(m, (struct value) { .kind = VALUE_OTHER });
}

// Letters as in pickletools.py.
static void step(struct machine *m, uint8_t opcode)
{
    switch (opcode) {
    case 0x80:                                          // PROTO
        if (take_uint(m, 1) > 5)
            fail(m, "is of a protocol newer than 5");
        return;
    case 0x95: take(m, 8); return;                      // FRAME
    case 'N': inert(m, 0); return;                      // NONE
    case 'G': inert(m, 8); return;                      // BINFLOAT
    case 0x88: push(m, integer(1)); return;             // NEWTRUE
    case 0x89: push(m, integer(0)); return;             // NEWFALSE
    case 'K': push(m, integer((int64_t) take_uint(m, 1))); return;      // BININT1
    case 'M': push(m, integer((int64_t) take_uint(m, 2))); return;      // BININT2
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
    case '(': append(m, &m->mark, m->stack.count); return;          // MARK
    case '0': pop(m); return;                           // POP
    case '1': pop_to_mark(m); return;                   // POP_MARK
    case '}': push(m, (struct value) { .kind = VALUE_DICT }); return;       // EMPTY_DICT
    case ']': push(m, (struct value) { .kind = VALUE_LIST }); return;       // EMPTY_LIST
    case ')': push(m, (struct value) { .kind = VALUE_TUPLE }); return;      // EMPTY_TUPLE
    case 0x8f: push(m, (struct value) { .kind = VALUE_LIST }); return;      // EMPTY_SET
    case 't': push_sequence(m, VALUE_TUPLE, pop_to_mark(m)); return;   // TUPLE
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
    case 'b': pop(m); top(m); return;                   // BUILD: the state of an object
    default:
        fail(m, "instruction 0x%02x is not one that a checkpoint needs", opcode);
    }
}

// Tensors of a dictionary under their names. A dictionary that is in several places is looked into
// once.
static void collect_dict(struct machine *m, uint32_t id, char *path, size_t len, int depth)
{
    m->value[id].seen = true;
    for (uint32_t i = 0; i + 1 < m->value[id].ids.count && m->rc == L2D_OK; i += 2) {
        const struct value *dict = &m->value[id], *key = item(m, dict, i);
        uint32_t at = dict->ids.id[i + 1];
        const struct value *v = &m->value[at];
        bool inner = v->kind == VALUE_DICT && !v->seen && depth < MAX_DEPTH;
        if (key->kind != VALUE_STRING || (v->kind != VALUE_TENSOR && !inner))
            continue;
        bool usable = key->text.len > 0 && len + key->text.len <= MAX_NAME_BYTES;
        for (uint32_t c = 0; c < key->text.len && usable; c++)
            usable = (unsigned char) key->text.at[c] >= 0x20 && key->text.at[c] != 0x7f;
        if (!usable)                // no name of a weight
            continue;
        memcpy(path + len, key->text.at, key->text.len);
        size_t longer = len + key->text.len;
        if (inner) {
            path[longer] = '/';
            collect_dict(m, at, path, longer + 1, depth + 1);
            continue;
        }
        char *name = copy_text(m, (struct text) { path, (uint32_t) longer });
        if (!name || !grow(m, &m->out->named, m->out->num_named, &m->cap_named,
                           sizeof(*m->out->named))) {
            free(name);
            return;
        }
        m->out->named[m->out->num_named] = m->tensor[v->index];
        m->out->named[m->out->num_named++].name = name;
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct l2d_pickle_tensor *) a)->name,
                  ((const struct l2d_pickle_tensor *) b)->name);
}

static void collect(struct machine *m)
{
    char path[MAX_NAME_BYTES + MAX_DEPTH + 2];
    struct l2d_pickle *out = m->out;
    uint32_t root = pop(m);
    if (m->rc != L2D_OK)
        return;
    if (m->value[root].kind == VALUE_DICT)
        collect_dict(m, root, path, 0, 1);
    if (out->num_named > 0)
        qsort(out->named, out->num_named, sizeof(*out->named), by_name);
    for (uint32_t i = 1; i < out->num_named && m->rc == L2D_OK; i++)
        if (!strcmp(out->named[i - 1].name, out->named[i].name))
            fail(m, "tensor %s is there twice", out->named[i].name);
    bool dict = m->value[root].kind == VALUE_DICT;
    if ((m->value[root].kind != VALUE_LIST && !dict) || m->rc != L2D_OK)
        return;
    const struct ids *ids = &m->value[root].ids;
    out->string = calloc(ids->count + 1, sizeof(*out->string));
    if (!out->string)
        no_memory(m);
    for (uint32_t i = 0; i < ids->count && m->rc == L2D_OK; i++) {
        const struct value *v = &m->value[ids->id[i]];
        const struct value *other = &m->value[ids->id[dict ? i ^ 1 : i]];
        if (v->kind == VALUE_STRING && other->kind == VALUE_STRING && may_copy(m, v->text.len) &&
            (out->string[out->num_strings] = copy_text(m, v->text)))
            out->num_strings++;
    }
}

int l2d_pickle_read(struct l2d_pickle **out, const char *file, const void *data, size_t size_bytes,
                    size_t *used_bytes, struct l2d_error *err)
{
    size_t size = size_bytes < L2D_PICKLE_MAX_BYTES ? size_bytes : L2D_PICKLE_MAX_BYTES;
    struct machine m = { .file = file, .start = data, .at = data, .err = err,
                         .end = (const uint8_t *) data + size };
    m.out = calloc(1, sizeof(*m.out));
    if (!m.out)
        no_memory(&m);
    bool stop = false;
    while (m.rc == L2D_OK && !stop) {
        const uint8_t *opcode = take(&m, 1);
        stop = opcode && *opcode == '.';
        if (opcode && !stop)
            step(&m, *opcode);
    }
    if (m.rc == L2D_OK)
        collect(&m);
    *used_bytes = (size_t) (m.at - m.start);
    for (uint32_t i = 0; i < m.num_values; i++)
        if (m.value[i].kind == VALUE_TUPLE || m.value[i].kind == VALUE_LIST ||
            m.value[i].kind == VALUE_DICT)
            free(m.value[i].ids.id);
    free(m.value);
    free(m.tensor);
    free(m.stack.id);
    free(m.memo.id);
    free(m.mark.id);
    if (m.rc != L2D_OK)
        l2d_pickle_destroy(&m.out);
    else
        *out = m.out;
    return m.rc;
}

void l2d_pickle_destroy(struct l2d_pickle **pickle)
{
    struct l2d_pickle *p = *pickle;
    *pickle = NULL;
    if (!p)
        return;
    for (uint32_t i = 0; i < p->num_storages; i++)
        free((char *) (uintptr_t) p->storage[i].key);
    for (uint32_t i = 0; i < p->num_named; i++)
        free((char *) (uintptr_t) p->named[i].name);
    for (uint32_t i = 0; i < p->num_strings; i++)
        free(p->string[i]);
    free(p->storage);
    free(p->named);
    free(p->string);
    free(p);
}

size_t l2d_pickle_count(const struct l2d_pickle *p)
{
    return p->num_named;
}

const struct l2d_pickle_tensor *l2d_pickle_get(const struct l2d_pickle *p, size_t index)
{
    return &p->named[index];
}

size_t l2d_pickle_num_storages(const struct l2d_pickle *p)
{
    return p->num_storages;
}

const struct l2d_pickle_storage *l2d_pickle_storage(const struct l2d_pickle *p, size_t index)
{
    return &p->storage[index];
}

size_t l2d_pickle_num_strings(const struct l2d_pickle *p)
{
    return p->num_strings;
}

const char *l2d_pickle_string(const struct l2d_pickle *p, size_t index)
{
    return p->string[index];
}
