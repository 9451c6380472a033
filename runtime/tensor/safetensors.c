// SPDX-License-Identifier: Apache-2.0
// Reading and writing of safetensors files. See safetensors.h.
#include "tensor/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define MAX_NAME_BYTES 256

static const struct { const char *name; uint32_t bytes; } dtypes[L2D_SAFETENSORS_NUM_DTYPES] = {
    [L2D_SAFETENSORS_BOOL] = { "BOOL", 1 },
    [L2D_SAFETENSORS_U8] = { "U8", 1 },
    [L2D_SAFETENSORS_I8] = { "I8", 1 },
    [L2D_SAFETENSORS_F8_E5M2] = { "F8_E5M2", 1 },
    [L2D_SAFETENSORS_F8_E4M3] = { "F8_E4M3", 1 },
    [L2D_SAFETENSORS_U16] = { "U16", 2 },
    [L2D_SAFETENSORS_I16] = { "I16", 2 },
    [L2D_SAFETENSORS_F16] = { "F16", 2 },
    [L2D_SAFETENSORS_BF16] = { "BF16", 2 },
    [L2D_SAFETENSORS_U32] = { "U32", 4 },
    [L2D_SAFETENSORS_I32] = { "I32", 4 },
    [L2D_SAFETENSORS_F32] = { "F32", 4 },
    [L2D_SAFETENSORS_U64] = { "U64", 8 },
    [L2D_SAFETENSORS_I64] = { "I64", 8 },
    [L2D_SAFETENSORS_F64] = { "F64", 8 },
};

struct l2d_safetensors {
    const uint8_t *map;                         // the whole file
    size_t map_bytes;
    json_t *header;                             // owns the names
    struct l2d_safetensors_entry *entries;      // by offset
    const struct l2d_safetensors_entry **by_name;
    size_t count;
};

const char *l2d_safetensors_dtype_str(enum l2d_safetensors_dtype dtype)
{
    return dtypes[dtype].name;
}

uint32_t l2d_safetensors_dtype_bytes(enum l2d_safetensors_dtype dtype)
{
    return dtypes[dtype].bytes;
}

bool l2d_safetensors_shape_fits(int ndim, const uint64_t *dims, int want_ndim, const int64_t *want)
{
    for (int i = 0; i < ndim; i++)
        if (dims[i] != (i < want_ndim ? (uint64_t) want[i] : 1))
            return false;
    return ndim >= want_ndim;
}

size_t l2d_safetensors_count(const struct l2d_safetensors *st)
{
    return st->count;
}

const struct l2d_safetensors_entry *l2d_safetensors_get(const struct l2d_safetensors *st,
                                                        size_t index)
{
    return &st->entries[index];
}

// Names end up in messages of one line.
static bool name_ok(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > MAX_NAME_BYTES)
        return false;
    for (const char *c = name; *c; c++)
        if ((unsigned char) *c < 0x20 || *c == 0x7f)
            return false;
    return true;
}

// Elements times bytes of the type. false: more than 64 bits hold.
static bool shape_bytes(const struct l2d_safetensors_entry *e, uint64_t *bytes)
{
    *bytes = dtypes[e->dtype].bytes;
    bool zero = false;
    for (int i = 0; i < e->ndim; i++)
        zero |= e->dims[i] == 0;
    for (int i = 0; i < e->ndim && !zero; i++) {
        if (*bytes > UINT64_MAX / e->dims[i])
            return false;
        *bytes *= e->dims[i];
    }
    *bytes = zero ? 0 : *bytes;
    return true;
}

static const char *read_dtype(json_t *o, struct l2d_safetensors_entry *e)
{
    const char *s = json_string_value(json_object_get(o, "dtype"));
    if (!s)
        return "\"dtype\" is missing or not a string";
    for (int i = 0; i < L2D_SAFETENSORS_NUM_DTYPES; i++) {
        if (strcmp(s, dtypes[i].name) == 0) {
            e->dtype = (enum l2d_safetensors_dtype) i;
            return NULL;
        }
    }
    return "\"dtype\" is not one that we know";
}

static const char *read_shape(json_t *o, struct l2d_safetensors_entry *e)
{
    json_t *shape = json_object_get(o, "shape");
    if (!json_is_array(shape))
        return "\"shape\" is missing or not an array";
    if (json_array_size(shape) > L2D_SAFETENSORS_MAX_DIMS)
        return "\"shape\" has more than 8 dimensions";
    e->ndim = (int) json_array_size(shape);
    for (int i = 0; i < e->ndim; i++) {
        json_t *d = json_array_get(shape, (size_t) i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return "\"shape\" holds something else than integers from 0 on";
        e->dims[i] = (uint64_t) json_integer_value(d);
    }
    return NULL;
}

// data: what follows the header.
static const char *read_range(json_t *o, struct l2d_safetensors_entry *e, const uint8_t *data,
                              uint64_t data_bytes)
{
    json_t *range = json_object_get(o, "data_offsets");
    json_t *first = json_array_get(range, 0), *last = json_array_get(range, 1);
    if (json_array_size(range) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return "\"data_offsets\" is missing or not a pair of integers";
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin)
        return "\"data_offsets\" run backwards or below 0";
    if ((uint64_t) end > data_bytes)
        return "\"data_offsets\" lie outside the file; is it truncated?";
    e->data = data + begin;
    e->size_bytes = (uint64_t) (end - begin);

    uint64_t want;
    if (!shape_bytes(e, &want))
        return "its shape overflows";
    if (want != e->size_bytes)
        return "its byte range does not fit its shape and dtype";
    return NULL;
}

static const char *read_entry(json_t *o, struct l2d_safetensors_entry *e, const uint8_t *data,
                              uint64_t data_bytes)
{
    if (!json_is_object(o))
        return "is not an object";
    const char *wrong = read_dtype(o, e);
    if (!wrong)
        wrong = read_shape(o, e);
    if (!wrong)
        wrong = read_range(o, e, data, data_bytes);
    if (!wrong && json_object_size(o) != 3)
        wrong = "has keys beside dtype, shape and data_offsets";
    return wrong;
}

static int by_offset(const void *pa, const void *pb)
{
    const struct l2d_safetensors_entry *a = pa, *b = pb;
    const uint8_t *a0 = a->data, *b0 = b->data;
    if (a0 != b0)
        return a0 < b0 ? -1 : 1;
    if (a->size_bytes != b->size_bytes)             // an empty one before the one in its place
        return a->size_bytes < b->size_bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int by_name(const void *pa, const void *pb)
{
    const struct l2d_safetensors_entry *const *a = pa, *const *b = pb;
    return strcmp((*a)->name, (*b)->name);
}

// Sorted by offset, the ranges must follow each other from the first byte to the last.
static int check_layout(const struct l2d_safetensors *st, const char *path, const uint8_t *data,
                        struct l2d_error *err)
{
    const uint8_t *at = data;
    for (size_t i = 0; i < st->count; i++) {
        const struct l2d_safetensors_entry *e = &st->entries[i];
        const uint8_t *begin = e->data;
        if (begin < at)
            return l2d_error_set(err, L2D_EFORMAT, "%s: tensor %s: its bytes overlap those of %s",
                                 path, e->name, st->entries[i - 1].name);
        if (begin > at)
            return l2d_error_set(err, L2D_EFORMAT, "%s: tensor %s: %td unused bytes before it",
                                 path, e->name, begin - at);
        at = begin + e->size_bytes;
    }
    if (at != st->map + st->map_bytes)
        return l2d_error_set(err, L2D_EFORMAT, "%s: %td unused bytes after the last tensor", path,
                             st->map + st->map_bytes - at);
    return L2D_OK;
}

static int read_header(struct l2d_safetensors *st, const char *path, struct l2d_error *err)
{
    if (st->map_bytes < 8)
        return l2d_error_set(err, L2D_EFORMAT, "%s: %zu bytes are no safetensors file", path,
                             st->map_bytes);
    uint64_t header_bytes = 0;
    for (int i = 7; i >= 0; i--)
        header_bytes = header_bytes << 8 | st->map[i];
    if (header_bytes > L2D_SAFETENSORS_MAX_HEADER_BYTES)
        return l2d_error_set(err, L2D_EFORMAT, "%s: a header of %" PRIu64 " bytes; at most %d are "
                             "possible. Is it a safetensors file?", path, header_bytes,
                             L2D_SAFETENSORS_MAX_HEADER_BYTES);
    if (header_bytes > st->map_bytes - 8)
        return l2d_error_set(err, L2D_EFORMAT, "%s: truncated: a header of %" PRIu64 " bytes in a "
                             "file of %zu", path, header_bytes, st->map_bytes);

    json_error_t e;
    st->header = json_loadb((const char *) st->map + 8, (size_t) header_bytes,
                            JSON_REJECT_DUPLICATES, &e);
    if (!st->header && !*e.text)                    // how jansson says that it had no memory
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    if (!json_is_object(st->header)) {
        l2d_error_printable(e.text);
        return l2d_error_set(err, L2D_EFORMAT, "%s: header: %s", path,
                             st->header ? "is not a JSON object" : e.text);
    }

    const uint8_t *data = st->map + 8 + header_bytes;
    uint64_t data_bytes = st->map_bytes - 8 - header_bytes;
    size_t num_keys = json_object_size(st->header);
    st->entries = calloc(num_keys + 1, sizeof(*st->entries));
    st->by_name = calloc(num_keys + 1, sizeof(*st->by_name));
    if (!st->entries || !st->by_name)
        return l2d_error_set(err, L2D_ENOMEM, "%s: %zu tensors: out of memory", path, num_keys);

    const char *key;
    json_t *value;
    json_object_foreach(st->header, key, value) {
        if (strcmp(key, "__metadata__") == 0)
            continue;
        if (!name_ok(key))
            return l2d_error_set(err, L2D_EFORMAT, "%s: tensor %zu: its name is empty, longer than "
                                 "%d bytes or not printable", path, st->count, MAX_NAME_BYTES);
        struct l2d_safetensors_entry *entry = &st->entries[st->count];
        const char *wrong = read_entry(value, entry, data, data_bytes);
        if (wrong)
            return l2d_error_set(err, L2D_EFORMAT, "%s: tensor %s: %s", path, key, wrong);
        entry->name = key;
        st->count++;
    }
    qsort(st->entries, st->count, sizeof(*st->entries), by_offset);
    for (size_t i = 0; i < st->count; i++)
        st->by_name[i] = &st->entries[i];
    qsort(st->by_name, st->count, sizeof(*st->by_name), by_name);
    return check_layout(st, path, data, err);
}

static int map_file(struct l2d_safetensors *st, const char *path, struct l2d_error *err)
{
    FILE *f;
    struct stat info;
    int rc = l2d_file_open(&f, path, err);
    if (rc != L2D_OK)
        return rc;
    if (fstat(fileno(f), &info) != 0) {
        rc = l2d_error_set(err, L2D_EIO, "%s: %s", path, strerror(errno));
    } else if (info.st_size == 0) {
        rc = l2d_error_set(err, L2D_EFORMAT, "%s: is empty", path);
    } else {
        void *map = mmap(NULL, (size_t) info.st_size, PROT_READ, MAP_PRIVATE, fileno(f),
                         0);
        if (map == MAP_FAILED) {
            rc = l2d_error_set(err, L2D_EIO, "%s: %s", path, strerror(errno));
        } else {
            st->map = map;
            st->map_bytes = (size_t) info.st_size;
        }
    }
    fclose(f);
    return rc;
}

int l2d_safetensors_open(struct l2d_safetensors **out, const char *path, struct l2d_error *err)
{
    struct l2d_safetensors *st = calloc(1, sizeof(*st));
    if (!st)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    int rc = map_file(st, path, err);
    if (rc == L2D_OK)
        rc = read_header(st, path, err);
    if (rc != L2D_OK) {
        l2d_safetensors_close(&st);
        return rc;
    }
    *out = st;
    return L2D_OK;
}

void l2d_safetensors_close(struct l2d_safetensors **pst)
{
    struct l2d_safetensors *st = *pst;
    if (!st)
        return;
    if (st->map)
        munmap((void *) (uintptr_t) st->map, st->map_bytes);
    json_decref(st->header);
    free(st->entries);
    free(st->by_name);
    free(st);
    *pst = NULL;
}

const struct l2d_safetensors_entry *l2d_safetensors_find(const struct l2d_safetensors *st,
                                                         const char *name)
{
    struct l2d_safetensors_entry key = { .name = name };
    const struct l2d_safetensors_entry *pkey = &key;
    const struct l2d_safetensors_entry **found =
        bsearch(&pkey, st->by_name, st->count, sizeof(*st->by_name), by_name);
    return found ? *found : NULL;
}

// The header of entries that lie one behind the other, or NULL: out of memory.
static char *header_text(const struct l2d_safetensors_entry *entries, size_t count)
{
    json_t *header = json_object();
    uint64_t at = 0;
    bool ok = header != NULL;
    for (size_t i = 0; i < count && ok; i++) {
        const struct l2d_safetensors_entry *e = &entries[i];
        json_t *shape = json_array();
        for (int d = 0; d < e->ndim; d++)
            ok &= json_array_append_new(shape, json_integer((json_int_t) e->dims[d])) == 0;
        json_t *o = json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtypes[e->dtype].name, "shape", shape,
                              "data_offsets", (json_int_t) at, (json_int_t) (at + e->size_bytes));
        ok &= json_object_set_new(header, e->name, o) == 0;
        at += e->size_bytes;
    }
    // Not json_dumps(), which drops what it has no memory for.
    size_t len = ok ? json_dumpb(header, NULL, 0, JSON_COMPACT) : 0;
    char *text = len > 0 ? malloc(len + 1) : NULL;
    if (text && json_dumpb(header, text, len, JSON_COMPACT) != len) {
        free(text);
        text = NULL;
    }
    if (text)
        text[len] = '\0';
    json_decref(header);
    return text;
}

static bool write_all(int fd, const void *data, size_t size_bytes)
{
    const uint8_t *p = data;
    while (size_bytes > 0) {
        ssize_t n = write(fd, p, size_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        p += n;
        size_bytes -= (size_t) n;
    }
    return true;
}

static int by_string(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

// What our own reader would refuse is not written.
static int check_entries(const char *path, const struct l2d_safetensors_entry *entries,
                         size_t count, struct l2d_error *err)
{
    const char **names = calloc(count + 1, sizeof(*names));
    if (!names)
        return l2d_error_set(err, L2D_ENOMEM, "%s: %zu tensors: out of memory", path, count);
    int rc = L2D_OK;
    uint64_t total = 0;
    for (size_t i = 0; i < count && rc == L2D_OK; i++) {
        const struct l2d_safetensors_entry *e = &entries[i];
        uint64_t want;
        names[i] = e->name;
        if (!name_ok(e->name) || strcmp(e->name, "__metadata__") == 0)
            rc = l2d_error_set(err, L2D_EINVAL, "%s: tensor %zu: bad name", path, i);
        else if (e->ndim < 0 || e->ndim > L2D_SAFETENSORS_MAX_DIMS || !shape_bytes(e, &want) ||
                 want != e->size_bytes || want > (uint64_t) INT64_MAX - total)
            rc = l2d_error_set(err, L2D_EINVAL, "%s: tensor %s: size and shape differ", path,
                               e->name);
        else
            total += want;
    }
    if (rc == L2D_OK) {
        qsort(names, count, sizeof(*names), by_string);
        for (size_t i = 1; i < count && rc == L2D_OK; i++)
            if (strcmp(names[i - 1], names[i]) == 0)
                rc = l2d_error_set(err, L2D_EINVAL, "%s: tensor %s: is there twice", path,
                                   names[i]);
    }
    free(names);
    return rc;
}

struct l2d_safetensors_writer {
    char *path, *temp;
    int fd;                     // -1: not open, or at its end
    uint64_t *size_bytes;       // of each entry
    size_t count, next;
};

static int cannot_write(const struct l2d_safetensors_writer *w, struct l2d_error *err)
{
    return l2d_error_set(err, L2D_EIO, "%s: %s", w->path, strerror(errno));
}

static int write_header(struct l2d_safetensors_writer *w,
                        const struct l2d_safetensors_entry *entries, struct l2d_error *err)
{
    static const char spaces[8] = "        ";       // the bytes start at a multiple of 8
    char *header = header_text(entries, w->count);
    if (!header)
        return l2d_error_set(err, L2D_ENOMEM, "%s: %zu tensors: out of memory", w->path, w->count);
    uint64_t len = strlen(header), padded = (len + 7) / 8 * 8;
    uint8_t prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (uint8_t) (padded >> 8 * i);
    w->fd = open(w->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int rc = L2D_OK;
    if (w->fd < 0 || !write_all(w->fd, prefix, 8) || !write_all(w->fd, header, len) ||
        !write_all(w->fd, spaces, padded - len))
        rc = cannot_write(w, err);
    free(header);
    return rc;
}

int l2d_safetensors_writer_create(struct l2d_safetensors_writer **out, const char *path,
                                  const struct l2d_safetensors_entry *entries, size_t count,
                                  struct l2d_error *err)
{
    int rc = check_entries(path, entries, count, err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_safetensors_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    size_t temp_bytes = strlen(path) + 32;
    *w = (struct l2d_safetensors_writer) {
        .path = strdup(path), .temp = malloc(temp_bytes), .fd = -1, .count = count,
        .size_bytes = calloc(count + 1, sizeof(*w->size_bytes)),
    };
    if (!w->path || !w->temp || !w->size_bytes) {
        rc = l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    } else {
        snprintf(w->temp, temp_bytes, "%s.%ld.part", path, (long) getpid());
        for (size_t i = 0; i < count; i++)
            w->size_bytes[i] = entries[i].size_bytes;
        rc = write_header(w, entries, err);
    }
    if (rc != L2D_OK)
        l2d_safetensors_writer_destroy(&w);
    else
        *out = w;
    return rc;
}

int l2d_safetensors_writer_put(struct l2d_safetensors_writer *w, const void *data,
                               uint64_t size_bytes, struct l2d_error *err)
{
    if (w->next == w->count || size_bytes != w->size_bytes[w->next])
        return l2d_error_set(err, L2D_EINVAL, "%s: tensor %zu is not of that size", w->path,
                             w->next);
    w->next++;
    return write_all(w->fd, data, size_bytes) ? L2D_OK : cannot_write(w, err);
}

int l2d_safetensors_writer_end(struct l2d_safetensors_writer *w, struct l2d_error *err)
{
    if (w->next != w->count)
        return l2d_error_set(err, L2D_EINVAL, "%s: %zu of %zu tensors were written", w->path,
                             w->next, w->count);
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) == 0 && rename(w->temp, w->path) == 0)
        return L2D_OK;
    int rc = cannot_write(w, err);
    unlink(w->temp);
    return rc;
}

void l2d_safetensors_writer_destroy(struct l2d_safetensors_writer **pw)
{
    struct l2d_safetensors_writer *w = *pw;
    *pw = NULL;
    if (!w)
        return;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->temp);
    }
    free(w->path);
    free(w->temp);
    free(w->size_bytes);
    free(w);
}

int l2d_safetensors_write(const char *path, const struct l2d_safetensors_entry *entries,
                          size_t count, struct l2d_error *err)
{
    struct l2d_safetensors_writer *w = NULL;
    int rc = l2d_safetensors_writer_create(&w, path, entries, count, err);
    for (size_t i = 0; i < count && rc == L2D_OK; i++)
        rc = l2d_safetensors_writer_put(w, entries[i].data, entries[i].size_bytes, err);
    if (rc == L2D_OK)
        rc = l2d_safetensors_writer_end(w, err);
    l2d_safetensors_writer_destroy(&w);
    return rc;
}
