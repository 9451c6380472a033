// SPDX-License-Identifier: Apache-2.0
// The two forms of torch.save(). See torch_file.h.
#include "tensor/torch_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "base/file.h"

#define MAX_ENTRIES 1000000
#define MAX_SPREAD 8        // a tensor's elements lie among at most so many times as many

struct l2d_torch_file {
    char *path;
    struct l2d_pickle *pickle;
    zip_t *zip;             // one of these two
    FILE *legacy;
    char prefix[256];       // in the archive: "archive/"
    uint64_t *data_at;      // in the old form: where each storage's bytes begin
};

// The pickle of the number 0x1950a86a20f9469cfc6c, and that of 1001, the old form's version.
static const uint8_t legacy_magic[] = {
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.',
    0x80, 0x02, 'M', 0xe9, 0x03, '.',
};

bool l2d_torch_file_is(const void *first_bytes, size_t size_bytes)
{
    return size_bytes >= 16 &&
           (!memcmp(first_bytes, "PK\3\4", 4) || !memcmp(first_bytes, legacy_magic, 15));
}

// ---- the zip archive ----------------------------------------------------------------------------

// Size of a file of the archive. torch.save() never compresses, so one that is compressed is
// refused: what is read is then never larger than the archive, however it was made.
static bool stored_size(const zip_stat_t *st, uint64_t *size)
{
    *size = st->size;
    return (st->valid & ZIP_STAT_SIZE) && (st->valid & ZIP_STAT_COMP_METHOD) &&
           st->comp_method == ZIP_CM_STORE;
}

static int open_zip(struct l2d_torch_file *tf, struct l2d_error *err)
{
    int code = 0;
    tf->zip = zip_open(tf->path, ZIP_RDONLY, &code);
    if (!tf->zip) {
        zip_error_t e;
        zip_error_init_with_code(&e, code);
        int rc = l2d_error_set(err, L2D_EFORMAT, "%s: not a sound zip archive (%s); is it "
                               "complete?", tf->path, zip_error_strerror(&e));
        zip_error_fini(&e);
        return rc;
    }
    zip_int64_t count = zip_get_num_entries(tf->zip, 0), found = -1;
    if (count > MAX_ENTRIES)
        return l2d_error_set(err, L2D_EFORMAT, "%s: an archive of %" PRId64 " files is no model",
                             tf->path, (int64_t) count);
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(tf->zip, (zip_uint64_t) i, ZIP_FL_ENC_RAW);
        const char *slash = name ? strchr(name, '/') : NULL;
        if (!slash || strcmp(slash, "/data.pkl") != 0)
            continue;
        if (found >= 0)
            return l2d_error_set(err, L2D_EFORMAT, "%s: has two data.pkl", tf->path);
        if ((size_t) (slash - name) > sizeof(tf->prefix) - 2)
            return l2d_error_set(err, L2D_EFORMAT, "%s: a name in it is too long", tf->path);
        snprintf(tf->prefix, sizeof(tf->prefix), "%.*s/", (int) (slash - name), name);
        found = i;
    }
    if (found < 0)
        return l2d_error_set(err, L2D_EFORMAT, "%s: a zip archive, but not of torch.save(): it has "
                             "no data.pkl", tf->path);
    zip_stat_t st;
    uint64_t size;
    if (zip_stat_index(tf->zip, (zip_uint64_t) found, 0, &st) != 0 || !stored_size(&st, &size) ||
        size > L2D_PICKLE_MAX_BYTES)
        return l2d_error_set(err, L2D_EFORMAT, "%s: its data.pkl is compressed, which torch.save() "
                             "never does, or larger than %d bytes", tf->path, L2D_PICKLE_MAX_BYTES);
    uint8_t *data = malloc(size + 1);
    if (!data)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", tf->path);
    zip_file_t *f = zip_fopen_index(tf->zip, (zip_uint64_t) found, 0);
    size_t used;
    int rc;
    // One byte more than there are: the end is where the checksum is looked at.
    if (!f || zip_fread(f, data, size + 1) != (zip_int64_t) size)
        rc = l2d_error_set(err, L2D_EFORMAT, "%s: its data.pkl is damaged", tf->path);
    else
        rc = l2d_pickle_read(&tf->pickle, tf->path, data, size, &used, err);
    if (f)
        zip_fclose(f);
    free(data);
    return rc;
}

static int damaged(const struct l2d_torch_file *tf, const struct l2d_pickle_tensor *t,
                   struct l2d_error *err)
{
    return l2d_error_set(err, L2D_EFORMAT, "%s: tensor %s: its bytes are damaged or missing; is "
                         "the file complete?", tf->path, t->name);
}

// Bytes first..first+size-1 of a storage. Goes on to its end, where libzip compares the checksum.
static int read_zip(struct l2d_torch_file *tf, const struct l2d_pickle_tensor *t, uint64_t first,
                    uint8_t *out, uint64_t size, struct l2d_error *err)
{
    const struct l2d_pickle_storage *s = l2d_pickle_storage(tf->pickle, t->storage);
    uint64_t want = s->count * l2d_safetensors_dtype_bytes(s->dtype), there;
    char name[sizeof(tf->prefix) + 300];
    snprintf(name, sizeof(name), "%sdata/%s", tf->prefix, s->key);
    zip_stat_t st;
    if (zip_stat(tf->zip, name, ZIP_FL_ENC_RAW, &st) != 0 || !stored_size(&st, &there) ||
        there != want)
        return damaged(tf, t, err);
    zip_file_t *f = zip_fopen_index(tf->zip, st.index, 0);
    uint8_t skipped[16384];
    uint64_t at = 0;
    bool ok = f != NULL;
    while (ok && at < want) {
        bool inside = at >= first && at < first + size;
        uint64_t left = inside ? first + size - at : at < first ? first - at : want - at;
        uint64_t n = inside || left < sizeof(skipped) ? left : sizeof(skipped);
        zip_int64_t got = zip_fread(f, inside ? out + (at - first) : skipped, n);
        ok = got > 0;
        at += ok ? (uint64_t) got : 0;
    }
    ok = ok && zip_fread(f, skipped, 1) == 0;
    if (f)
        zip_fclose(f);
    return ok ? L2D_OK : damaged(tf, t, err);
}

// ---- the old form -------------------------------------------------------------------------------

static int by_key(const void *a, const void *b)
{
    const struct l2d_pickle_storage *const *sa = a, *const *sb = b;
    return strcmp((*sa)->key, (*sb)->key);
}

// A storage's count and bytes begin at `at`. Notes where, in all entries of that key, and moves on.
static bool find_storage(struct l2d_torch_file *tf, const struct l2d_pickle_storage **sorted,
                         const char *key, uint64_t *at, uint64_t file_bytes)
{
    size_t num = l2d_pickle_num_storages(tf->pickle);
    const struct l2d_pickle_storage *first = l2d_pickle_storage(tf->pickle, 0);
    const struct l2d_pickle_storage wanted = { .key = key }, *pwanted = &wanted;
    const struct l2d_pickle_storage **s = bsearch(&pwanted, sorted, num, sizeof(*sorted), by_key);
    uint8_t head[8];
    if (!s || fseeko(tf->legacy, (off_t) *at, SEEK_SET) != 0 || fread(head, 1, 8, tf->legacy) != 8)
        return false;
    uint64_t count = 0, size = l2d_safetensors_dtype_bytes((*s)->dtype);
    for (int i = 7; i >= 0; i--)
        count = count << 8 | head[i];
    if (count > (file_bytes - *at - 8) / size)
        return false;
    while (s > sorted && !strcmp(s[-1]->key, key))
        s--;
    for (; s < sorted + num && !strcmp((*s)->key, key); s++) {
        if ((*s)->count != count || l2d_safetensors_dtype_bytes((*s)->dtype) != size)
            return false;
        if (tf->data_at[*s - first])                // the key was there before
            return false;
        tf->data_at[*s - first] = *at + 8;
    }
    *at += 8 + count * size;
    return true;
}

// Behind the pickles: for each storage, in the order of the list of keys, a count and its bytes.
static int find_storages(struct l2d_torch_file *tf, const struct l2d_pickle *keys, uint64_t at,
                         uint64_t file_bytes, struct l2d_error *err)
{
    size_t num = l2d_pickle_num_storages(tf->pickle);
    const struct l2d_pickle_storage **sorted = calloc(num + 1, sizeof(*sorted));
    tf->data_at = calloc(num + 1, sizeof(*tf->data_at));
    int rc = L2D_OK;
    if (!sorted || !tf->data_at)
        rc = l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", tf->path);
    for (size_t i = 0; i < num && rc == L2D_OK; i++)
        sorted[i] = l2d_pickle_storage(tf->pickle, i);
    if (rc == L2D_OK)
        qsort(sorted, num, sizeof(*sorted), by_key);
    for (size_t k = 0; k < l2d_pickle_num_strings(keys) && rc == L2D_OK; k++)
        if (!find_storage(tf, sorted, l2d_pickle_string(keys, k), &at, file_bytes))
            rc = l2d_error_set(err, L2D_EFORMAT, "%s: storage %s is truncated or not as the file "
                               "says", tf->path, l2d_pickle_string(keys, k));
    free(sorted);
    return rc;
}

// Pickles: magic number, version, the machine that wrote it, the object, the storages' keys.
static int open_legacy(struct l2d_torch_file *tf, struct l2d_error *err)
{
    uint8_t *data = malloc(2 * (size_t) L2D_PICKLE_MAX_BYTES);
    struct l2d_pickle *pickle[3] = { NULL };
    size_t got, at = sizeof(legacy_magic);
    int rc = L2D_OK;
    tf->legacy = fopen(tf->path, "rb");
    if (!tf->legacy)
        rc = l2d_error_set(err, L2D_EIO, "%s: %s", tf->path, strerror(errno));
    else if (!data)
        rc = l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", tf->path);
    got = rc == L2D_OK ? fread(data, 1, 2 * (size_t) L2D_PICKLE_MAX_BYTES, tf->legacy) : 0;
    if (rc == L2D_OK && (got < at || memcmp(data, legacy_magic, at) != 0))
        rc = l2d_error_set(err, L2D_EFORMAT, "%s: of a version of torch.save() that is not known",
                           tf->path);
    for (int i = 0; i < 3 && rc == L2D_OK; i++) {
        size_t used;
        rc = l2d_pickle_read(&pickle[i], tf->path, data + at, got - at, &used, err);
        at += used;
    }
    tf->pickle = pickle[1];
    if (rc == L2D_OK && fseeko(tf->legacy, 0, SEEK_END) == 0)
        rc = find_storages(tf, pickle[2], at, (uint64_t) ftello(tf->legacy), err);
    l2d_pickle_destroy(&pickle[0]);
    l2d_pickle_destroy(&pickle[2]);
    free(data);
    return rc;
}

static int read_legacy(struct l2d_torch_file *tf, const struct l2d_pickle_tensor *t, uint64_t first,
                       uint8_t *out, uint64_t size, struct l2d_error *err)
{
    uint64_t at = tf->data_at[t->storage];
    if (at == 0 || fseeko(tf->legacy, (off_t) (at + first), SEEK_SET) != 0 ||
        fread(out, 1, size, tf->legacy) != size)
        return damaged(tf, t, err);
    return L2D_OK;
}

// ---- both ---------------------------------------------------------------------------------------

int l2d_torch_file_open(struct l2d_torch_file **out, const char *path, struct l2d_error *err)
{
    uint8_t first[16];
    struct l2d_torch_file *tf = calloc(1, sizeof(*tf));
    if (!tf || !(tf->path = strdup(path))) {
        free(tf);
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    }
    FILE *f;
    int rc = l2d_file_open(&f, path, err);
    if (rc == L2D_OK) {
        size_t got = fread(first, 1, sizeof(first), f);
        fclose(f);
        if (!l2d_torch_file_is(first, got))
            rc = l2d_error_set(err, L2D_EFORMAT, "%s: not a file of torch.save()", path);
    }
    if (rc == L2D_OK)
        rc = first[0] == 'P' ? open_zip(tf, err) : open_legacy(tf, err);
    if (rc != L2D_OK)
        l2d_torch_file_close(&tf);
    else
        *out = tf;
    return rc;
}

void l2d_torch_file_close(struct l2d_torch_file **ptf)
{
    struct l2d_torch_file *tf = *ptf;
    *ptf = NULL;
    if (!tf)
        return;
    l2d_pickle_destroy(&tf->pickle);
    if (tf->zip)
        zip_discard(tf->zip);
    if (tf->legacy)
        fclose(tf->legacy);
    free(tf->data_at);
    free(tf->path);
    free(tf);
}

size_t l2d_torch_file_count(const struct l2d_torch_file *tf)
{
    return l2d_pickle_count(tf->pickle);
}

const struct l2d_pickle_tensor *l2d_torch_file_get(const struct l2d_torch_file *tf, size_t index)
{
    return l2d_pickle_get(tf->pickle, index);
}

const char *l2d_torch_file_text(const struct l2d_torch_file *tf, const char *key)
{
    for (size_t i = 0; i + 1 < l2d_pickle_num_strings(tf->pickle); i += 2)
        if (!strcmp(l2d_pickle_string(tf->pickle, i), key))
            return l2d_pickle_string(tf->pickle, i + 1);
    return NULL;
}

static bool is_row_major(const struct l2d_pickle_tensor *t)
{
    uint64_t step = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->dims[i] > 1 && t->strides[i] != step)
            return false;
        step *= t->dims[i];
    }
    return true;
}

// Elements of the given size from where their strides put them to row-major order.
static void gather(uint8_t *out, const uint8_t *from, const struct l2d_pickle_tensor *t,
                   size_t size)
{
    uint64_t index[L2D_SAFETENSORS_MAX_DIMS] = { 0 }, at = 0;
    for (uint64_t n = 0; n < t->count; n++) {
        memcpy(out + n * size, from + at * size, size);
        for (int i = t->ndim - 1; i >= 0; i--) {
            at += t->strides[i];
            if (++index[i] < t->dims[i])
                break;
            at -= t->strides[i] * t->dims[i];
            index[i] = 0;
        }
    }
}

int l2d_torch_file_read(struct l2d_torch_file *tf, const struct l2d_pickle_tensor *t, void *out,
                        struct l2d_error *err)
{
    size_t size = l2d_safetensors_dtype_bytes(t->dtype);
    bool direct = is_row_major(t);
    if (t->count == 0)
        return L2D_OK;
    if (t->span / MAX_SPREAD > t->count)
        return l2d_error_set(err, L2D_EFORMAT, "%s: tensor %s is spread over %" PRIu64 " elements "
                             "of its storage but has %" PRIu64, tf->path, t->name, t->span,
                             t->count);
    uint8_t *span = direct ? out : malloc(t->span * size);
    if (!span)
        return l2d_error_set(err, L2D_ENOMEM, "%s: tensor %s: out of memory", tf->path, t->name);
    int rc = tf->zip ? read_zip(tf, t, t->offset * size, span, t->span * size, err)
                     : read_legacy(tf, t, t->offset * size, span, t->span * size, err);
    if (!direct) {
        if (rc == L2D_OK)
            gather(out, span, t, size);
        free(span);
    }
    return rc;
}
