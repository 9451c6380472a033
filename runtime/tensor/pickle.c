// SPDX-License-Identifier: Apache-2.0
// What the values of a pickle say of tensors. See pickle.h.
#include "tensor/pickle.h"

#include <stdlib.h>

#include "tensor/pickle_machine.h"

#define MAX_NAME_BYTES 256
#define MAX_DEPTH 8             // dictionaries within dictionaries that are looked into

struct finds {                  // the machine's user
    struct l2d_pickle *out;
    uint32_t cap_storages, cap_tensors, cap_named;
    struct l2d_pickle_tensor *tensor;   // all; those with a name end up in out
    uint32_t num_tensors;
};

struct l2d_pickle {
    struct l2d_pickle_storage *storage;
    struct l2d_pickle_tensor *named;
    char **string;
    uint32_t num_storages, num_named, num_strings;
};

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
        l2d_machine_no_memory(m);
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
static void persistent_id(struct machine *m, const struct value *tuple)
{
    const struct value *part[5] = { NULL };
    if (tuple->kind == VALUE_TUPLE && tuple->ids.count >= 5)
        for (uint32_t i = 0; i < 5; i++)
            part[i] = item(m, tuple, i);
    if (!part[0] || part[0]->kind != VALUE_STRING || !text_is(part[0]->text, "storage") ||
        part[1]->kind != VALUE_GLOBAL || part[2]->kind != VALUE_STRING ||
        part[4]->kind != VALUE_INT || part[4]->number < 0) {
        l2d_machine_fail(m, "has a storage that is not described as PyTorch does");
        return;
    }
    if (tuple->ids.count > 5 && item(m, tuple, 5)->kind != VALUE_OTHER) {
        l2d_machine_fail(m, "has views of storages, as PyTorch before 0.4 wrote them; save it "
                         "anew");
        return;
    }
    struct l2d_pickle_storage s = { .count = (uint64_t) part[4]->number };
    size_t t = 0;
    while (t < NUM_TYPES && !text_is(part[1]->global.name, types[t].storage))
        t++;
    if (t == NUM_TYPES || !in_module(part[1]->global.module, "torch") || !key_ok(part[2]->text)) {
        l2d_machine_fail(m, "has a storage of type %.*s, which is unknown",
                         (int) (part[1]->global.name.len < 100 ? part[1]->global.name.len : 100),
                         part[1]->global.name.at);
        return;
    }
    s.dtype = strcmp(types[t].storage, "UntypedStorage") ? types[t].is : L2D_SAFETENSORS_U8;
    struct finds *f = m->user;
    struct l2d_pickle *out = f->out;
    char *key = copy_text(m, part[2]->text);
    s.key = key;
    if (!key || !l2d_machine_grow(m, &out->storage, out->num_storages, &f->cap_storages,
                                  sizeof(s))) {
        free(key);
        return;
    }
    out->storage[out->num_storages] = s;
    l2d_machine_push(m, (struct value) { .kind = VALUE_STORAGE, .index = out->num_storages++ });
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
    struct finds *f = m->user;
    struct l2d_pickle_tensor t = { 0 };
    int num_strides = -1;
    const struct value *storage = args->ids.count >= 4 ? item(m, args, 0) : NULL;
    if (!storage || storage->kind != VALUE_STORAGE || item(m, args, 1)->kind != VALUE_INT ||
        item(m, args, 1)->number < 0 || !take_dims(m, item(m, args, 2), t.dims, &t.ndim) ||
        !take_dims(m, item(m, args, 3), t.strides, &num_strides) || num_strides != t.ndim) {
        l2d_machine_fail(m, "has a tensor that is not described as PyTorch does");
        return;
    }
    t.storage = storage->index;
    t.offset = (uint64_t) item(m, args, 1)->number;
    const struct l2d_pickle_storage *s = &f->out->storage[t.storage];
    uint64_t count = s->count < INT64_MAX / 8 ? s->count : 0;
    t.dtype = s->dtype;
    if (v3) {
        const struct value *type = args->ids.count >= 7 ? item(m, args, 6) : NULL;
        size_t i = 0;
        while (type && type->kind == VALUE_GLOBAL && i < NUM_TYPES &&
               !text_is(type->global.name, types[i].dtype))
            i++;
        if (!type || type->kind != VALUE_GLOBAL || i == NUM_TYPES) {
            l2d_machine_fail(m, "has a tensor of an unknown type");
            return;
        }
        t.dtype = types[i].is;
        count = count * l2d_safetensors_dtype_bytes(s->dtype) /
                l2d_safetensors_dtype_bytes(t.dtype);
    }
    if (!measure(&t, count)) {
        l2d_machine_fail(m, "has a tensor that reaches beyond its storage %s", s->key);
        return;
    }
    if (l2d_machine_grow(m, &f->tensor, f->num_tensors, &f->cap_tensors, sizeof(t))) {
        f->tensor[f->num_tensors] = t;
        l2d_machine_push(m, (struct value) { .kind = VALUE_TENSOR, .index = f->num_tensors++ });
    }
}

// ---- calls --------------------------------------------------------------------------------------

// OrderedDict([[key, value], ...])
static void push_ordered_dict(struct machine *m, const struct value *args)
{
    struct value dict = { .kind = VALUE_DICT };
    uint32_t id = l2d_machine_make(m, dict);
    const struct value *pairs = args->ids.count == 1 ? item(m, args, 0) : NULL;
    if (pairs && pairs->kind == VALUE_LIST && !l2d_machine_may_copy(m, pairs->ids.count))
        return;
    for (uint32_t i = 0; pairs && pairs->kind == VALUE_LIST && i < pairs->ids.count; i++) {
        const struct value *pair = item(m, pairs, i);
        if ((pair->kind != VALUE_TUPLE && pair->kind != VALUE_LIST) || pair->ids.count != 2) {
            l2d_machine_fail(m, "has a dictionary of something else than pairs");
            break;
        }
        l2d_machine_append(m, &dict.ids, pair->ids.id[0]);
        l2d_machine_append(m, &dict.ids, pair->ids.id[1]);
    }
    if (id == NONE_ID) {
        free(dict.ids.id);
        return;
    }
    m->value[id] = dict;
    l2d_machine_append(m, &m->stack, id);
}

static void call(struct machine *m, const struct value *callee, const struct value *args)
{
    struct text name = callee->global.name;
    bool torch = text_is(callee->global.module, "torch._utils");
    bool collections = text_is(callee->global.module, "collections");
    if (torch && (text_is(name, "_rebuild_tensor_v2") || text_is(name, "_rebuild_tensor")))
        rebuild_tensor(m, args, false);
    else if (torch && text_is(name, "_rebuild_tensor_v3"))
        rebuild_tensor(m, args, true);
    else if (torch && args->ids.count > 0 &&
             (text_is(name, "_rebuild_parameter") ||
              text_is(name, "_rebuild_parameter_with_state")))
        l2d_machine_append(m, &m->stack, args->ids.id[0]);
    else if (collections && text_is(name, "OrderedDict"))
        push_ordered_dict(m, args);
    else if (collections && text_is(name, "defaultdict"))
        l2d_machine_push(m, (struct value) { .kind = VALUE_DICT });
    else
        l2d_machine_push(m, (struct value) { .kind = VALUE_OTHER });
}

// ---- what is there ------------------------------------------------------------------------------

// Tensors of a dictionary under their names. A dictionary that is in several places is looked into
// once.
static void collect_dict(struct machine *m, uint32_t id, char *path, size_t len, int depth)
{
    struct finds *f = m->user;
    struct l2d_pickle *out = f->out;
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
        if (!name || !l2d_machine_grow(m, &out->named, out->num_named, &f->cap_named,
                                       sizeof(*out->named))) {
            free(name);
            return;
        }
        out->named[out->num_named] = f->tensor[v->index];
        out->named[out->num_named++].name = name;
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
    struct l2d_pickle *out = ((struct finds *) m->user)->out;
    uint32_t root = l2d_machine_pop(m);
    if (m->rc != L2D_OK)
        return;
    if (m->value[root].kind == VALUE_DICT)
        collect_dict(m, root, path, 0, 1);
    if (out->num_named > 0)
        qsort(out->named, out->num_named, sizeof(*out->named), by_name);
    for (uint32_t i = 1; i < out->num_named && m->rc == L2D_OK; i++)
        if (!strcmp(out->named[i - 1].name, out->named[i].name))
            l2d_machine_fail(m, "tensor %s is there twice", out->named[i].name);
    bool dict = m->value[root].kind == VALUE_DICT;
    if ((m->value[root].kind != VALUE_LIST && !dict) || m->rc != L2D_OK)
        return;
    const struct ids *ids = &m->value[root].ids;
    out->string = calloc(ids->count + 1, sizeof(*out->string));
    if (!out->string)
        l2d_machine_no_memory(m);
    for (uint32_t i = 0; i < ids->count && m->rc == L2D_OK; i++) {
        const struct value *v = &m->value[ids->id[i]];
        const struct value *other = &m->value[ids->id[dict ? i ^ 1 : i]];
        if (v->kind == VALUE_STRING && other->kind == VALUE_STRING &&
            l2d_machine_may_copy(m, v->text.len) &&
            (out->string[out->num_strings] = copy_text(m, v->text)))
            out->num_strings++;
    }
}

int l2d_pickle_read(struct l2d_pickle **out, const char *file, const void *data, size_t size_bytes,
                    size_t *used_bytes, struct l2d_error *err)
{
    size_t size = size_bytes < L2D_PICKLE_MAX_BYTES ? size_bytes : L2D_PICKLE_MAX_BYTES;
    struct finds finds = { .out = calloc(1, sizeof(*finds.out)) };
    struct machine m = {
        .file = file, .start = data, .at = data, .end = (const uint8_t *) data + size, .err = err,
        .user = &finds, .call = call, .persistent = persistent_id,
    };
    if (!finds.out)
        l2d_machine_no_memory(&m);
    l2d_machine_run(&m);
    if (m.rc == L2D_OK)
        collect(&m);
    *used_bytes = (size_t) (m.at - m.start);
    l2d_machine_finish(&m);
    free(finds.tensor);
    if (m.rc != L2D_OK)
        l2d_pickle_destroy(&finds.out);
    else
        *out = finds.out;
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
