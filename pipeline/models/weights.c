// SPDX-License-Identifier: Apache-2.0
// The ld words and the places. See weights.h; weights_upload.c fills them.
#include "pipeline/models/weights_items.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/models/loras.h"
#include "tensor/convert.h"

#define NAME_BYTES 256
#define WIDE 16         // channels from which on weights can be kept in bytes: most of a model's
#define BLOCK_BYTES (UINT64_C(512) << 20)   // GPU memory is taken in pieces of at most this

static int32_t pad4(int32_t n)
{
    return (n + 3) & ~3;
}

int l2d_weights_create(struct l2d_weights **out, struct l2d_gpu *gpu, enum l2d_dtype precision,
                       struct l2d_error *err)
{
    struct l2d_weights *w = calloc(1, sizeof(*w));
    if (!w)
        return l2d_error_set(err, L2D_ENOMEM, "weights: out of memory");
    w->gpu = gpu;
    w->precision = precision;
    *out = w;
    return L2D_OK;
}

void l2d_weights_close_files(struct l2d_weights *w)
{
    for (uint32_t i = 0; i < w->num_files; i++) {
        l2d_safetensors_close(&w->file[i].st);
        free(w->file[i].used);
    }
    w->num_files = 0;
}

void l2d_weights_set_loras(struct l2d_weights *w, struct l2d_loras *loras)
{
    w->loras = loras;
}

void l2d_weights_keep_bytes(struct l2d_weights *w, bool keep)
{
    w->in_bytes = keep;
}

void l2d_weights_scale_loras(struct l2d_weights *w, const float scale[L2D_MAX_LORAS])
{
    memcpy(w->scale, scale, sizeof(w->scale));
}

void l2d_weights_destroy(struct l2d_weights **pw)
{
    struct l2d_weights *w = *pw;
    *pw = NULL;
    if (!w)
        return;
    for (uint32_t i = 0; i < w->num_blocks; i++)
        l2d_buf_destroy(&w->block[i]);
    l2d_weights_close_files(w);
    for (uint32_t i = 0; i < w->num_items; i++)
        free(w->item[i].values);
    free(w->item);
    free(w);
}

static void fail(struct l2d_weights *w, int code, const char *fmt, ...) L2D_PRINTF(3, 4);
static void fail(struct l2d_weights *w, int code, const char *fmt, ...)
{
    if (w->error.code != L2D_OK)
        return;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    l2d_error_set(&w->error, code, "%s: %s",
                  w->num_files ? w->file[w->num_files - 1].path : "weights", text);
}

int l2d_weights_open_file(struct l2d_weights *w, const char *path, const char *prefix,
                          struct l2d_error *err)
{
    assert(w->num_files < L2D_WEIGHTS_MAX_FILES);
    struct file *f = &w->file[w->num_files];
    *f = (struct file) { 0 };
    snprintf(f->path, sizeof(f->path), "%s", path);
    snprintf(f->prefix, sizeof(f->prefix), "%s", prefix);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    snprintf(f->network, sizeof(f->network), "%.*s", (int) strcspn(name, "."), name);
    int rc = l2d_safetensors_open(&f->st, path, err);
    if (rc != L2D_OK)
        return rc;
    f->used = calloc(l2d_safetensors_count(f->st) + 1, sizeof(*f->used));
    if (!f->used) {
        l2d_safetensors_close(&f->st);
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    }
    w->num_files++;
    return L2D_OK;
}

void l2d_weights_list(struct l2d_weights *w, l2d_weights_want *want, void *user)
{
    w->want = want;
    w->want_user = user;
}

// Some names that PyTorch saves along and nobody needs.
static bool is_ignored(const char *name)
{
    size_t len = strlen(name);
    return len >= 12 && !strcmp(name + len - 12, "position_ids");
}

int l2d_weights_close_file(struct l2d_weights *w, struct l2d_error *err)
{
    struct file *f = &w->file[w->num_files - 1];
    size_t unexpected = 0, first = 0;
    for (size_t i = 0; i < l2d_safetensors_count(f->st); i++)
        if (!f->used[i] && !is_ignored(l2d_safetensors_get(f->st, i)->name) && !unexpected++)
            first = i;
    if (unexpected)
        fail(w, L2D_EFORMAT, "%zu tensor%s that model.json has no place for, the first is %s",
             unexpected, unexpected > 1 ? "s" : "", l2d_safetensors_get(f->st, first)->name);
    if (w->error.code != L2D_OK)
        return l2d_error_set(err, w->error.code, "%s", w->error.msg);
    return L2D_OK;
}

static void format_shape(char *out, size_t size, int ndim, const uint64_t *dims)
{
    size_t n = (size_t) snprintf(out, size, "[");
    for (int i = 0; i < ndim && n < size; i++)
        n += (size_t) snprintf(out + n, size - n, "%s%" PRIu64, i ? "," : "", dims[i]);
    if (n < size)
        snprintf(out + n, size - n, "]");
}

// The tensor of that name and shape; trailing dimensions of 1 in the file are let pass. NULL after
// an error, or where it is absent and optional.
static entry_ref find(struct l2d_weights *w, const char *name, int ndim, const int64_t *dims,
                      bool optional)
{
    static const struct l2d_safetensors_entry nothing = { .name = "", .ndim = 1 };
    if (w->error.code != L2D_OK)
        return NULL;
    if (w->want) {
        w->want(w->want_user, name, ndim, dims, optional);
        return &nothing;
    }
    const struct file *f = &w->file[w->num_files - 1];
    char full[NAME_BYTES + 64];
    snprintf(full, sizeof(full), "%s%s", f->prefix, name);
    entry_ref e = l2d_safetensors_find(f->st, full);
    if (!e) {
        if (!optional)
            fail(w, L2D_EFORMAT, "tensor %s is missing", full);
        return NULL;
    }
    if (!l2d_safetensors_shape_fits(e->ndim, e->dims, ndim, dims)) {
        char got[128], want[128];
        uint64_t expected[L2D_SAFETENSORS_MAX_DIMS];
        for (int i = 0; i < ndim; i++)
            expected[i] = (uint64_t) dims[i];
        format_shape(got, sizeof(got), e->ndim, e->dims);
        format_shape(want, sizeof(want), ndim, expected);
        fail(w, L2D_EFORMAT, "%s is %s, expected %s by model.json", full, got, want);
        return NULL;
    }
    if (!l2d_convert_reads(e->dtype)) {
        fail(w, L2D_EFORMAT, "%s is of type %s; F32, F16, BF16 and F8 can be used", full,
             l2d_safetensors_dtype_str(e->dtype));
        return NULL;
    }
    for (size_t i = 0; i < l2d_safetensors_count(f->st); i++)
        if (l2d_safetensors_get(f->st, i) == e)
            f->used[i] = true;
    return e;
}

// Whether LoRAs change what find() has found.
static bool is_changed(struct l2d_weights *w, entry_ref e)
{
    bool changed = false;
    struct l2d_error err = { 0 };
    if (w->error.code == L2D_OK && w->loras && e && !w->want &&
        l2d_loras_ask(w->loras, w->file[w->num_files - 1].network, e, &changed, &err) != L2D_OK)
        w->error = err;
    return changed;
}

static struct item *append(struct l2d_weights *w)
{
    if (w->num_items == w->cap_items) {
        uint32_t cap = w->cap_items ? 2 * w->cap_items : 256;
        struct item *bigger = realloc(w->item, cap * sizeof(*bigger));
        if (!bigger) {
            fail(w, L2D_ENOMEM, "out of memory");
            return NULL;
        }
        w->item = bigger;
        w->cap_items = cap;
    }
    struct item *item = &w->item[w->num_items++];
    *item = (struct item) {
        .scale = 1, .bias_scale = 1, .file = w->num_files ? w->num_files - 1 : 0,
    };
    return item;
}

static void declare(struct l2d_weights *w, struct l2d_conv *conv, int32_t ksize, int32_t cin,
                    int32_t cout_each, unsigned flags, const char *base,
                    const char *const *suffixes, int num)
{
    assert(num <= L2D_WEIGHTS_MAX_PARTS);
    struct item *item = w->error.code == L2D_OK ? append(w) : NULL;
    if (!item)
        return;
    item->conv = conv;
    item->num_parts = num;
    item->src_cin = cin;
    item->src_cout = cout_each;
    item->type = w->in_bytes && cin >= WIDE && cout_each >= WIDE ? L2D_U32 : w->precision;
    for (int i = 0; i < num; i++) {
        char name[NAME_BYTES + 64];
        const int64_t dims[4] = { flags & L2D_LD_FIRST_HALF ? 2 * cout_each : cout_each, cin, ksize,
                                  ksize };
        const char *dot = *suffixes[i] ? "." : "";
        snprintf(name, sizeof(name), "%s%s%.32s.weight", base, dot, suffixes[i]);
        item->weight[i] = find(w, name, ksize == 1 ? 2 : 4, dims, false);
        item->changed |= is_changed(w, item->weight[i]);
        snprintf(name, sizeof(name), "%s%s%.32s.bias", base, dot, suffixes[i]);
        if (flags & L2D_LD_BIAS)
            item->bias[i] = find(w, name, 1, dims, false);
    }
    *conv = (struct l2d_conv) {
        .weight = L2D_NO_TENSOR, .bias = L2D_NO_TENSOR, .cin = pad4(cin),
        .cout = pad4(num * cout_each), .ksize = ksize, .geglu = flags & L2D_LD_GEGLU,
        .upsample = flags & L2D_LD_UPSAMPLE,
    };
}

void l2d_ld_conv(struct l2d_weights *w, struct l2d_conv *conv, int32_t ksize, int32_t cin,
                 int32_t cout, unsigned flags, const char *fmt, ...)
{
    char base[NAME_BYTES];
    const char *no_suffix = "";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(base, sizeof(base), fmt, ap);
    va_end(ap);
    declare(w, conv, ksize, cin, cout, flags, base, &no_suffix, 1);
}

void l2d_ld_linears(struct l2d_weights *w, struct l2d_conv *conv, int32_t cin, int32_t cout_each,
                    unsigned flags, const char *const *suffixes, int num, const char *fmt, ...)
{
    char base[NAME_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(base, sizeof(base), fmt, ap);
    va_end(ap);
    declare(w, conv, 1, cin, cout_each, flags, base, suffixes, num);
}

void l2d_ld_norm(struct l2d_weights *w, struct l2d_norm *norm, int32_t c, const char *fmt, ...)
{
    char base[NAME_BYTES], name[NAME_BYTES + 8];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(base, sizeof(base), fmt, ap);
    va_end(ap);
    struct item *item = w->error.code == L2D_OK ? append(w) : NULL;
    if (!item)
        return;
    const int64_t dims[1] = { c };
    item->norm = norm;
    item->num_parts = 1;
    item->src_cout = c;
    snprintf(name, sizeof(name), "%s.weight", base);
    item->weight[0] = find(w, name, 1, dims, false);
    snprintf(name, sizeof(name), "%s.bias", base);
    item->bias[0] = find(w, name, 1, dims, false);
    *norm = (struct l2d_norm) { L2D_NO_TENSOR, L2D_NO_TENSOR };
}

void l2d_ld_scale(struct l2d_weights *w, const struct l2d_conv *conv, float scale)
{
    for (uint32_t i = 0; i < w->num_items; i++)
        if (w->item[i].conv == conv)
            w->item[i].scale = w->item[i].bias_scale = scale;
}

void l2d_ld_scale_input(struct l2d_weights *w, const struct l2d_conv *conv, float scale)
{
    for (uint32_t i = 0; i < w->num_items; i++)
        if (w->item[i].conv == conv)
            w->item[i].scale = scale;
}

void l2d_ld_standardise(struct l2d_weights *w, const struct l2d_conv *conv, double eps)
{
    for (uint32_t i = 0; i < w->num_items; i++)
        if (w->item[i].conv == conv)
            w->item[i].standardise_eps = eps;
}

void l2d_ld_values(struct l2d_weights *w, struct l2d_tensor *tensor, float *values, int32_t rows,
                   int32_t h, int32_t width, int32_t c)
{
    if (!values && !w->want)
        fail(w, L2D_ENOMEM, "out of memory");
    struct item *item = w->error.code == L2D_OK && values ? append(w) : NULL;
    if (!item) {
        free(values);
        return;
    }
    item->tensor = tensor;
    item->values = values;
    *tensor = l2d_tensor_view(NULL, 0, w->precision, rows, h, width, c);
}

void l2d_ld_ignore(struct l2d_weights *w, const char *prefix)
{
    if (w->want)                        // there is no file
        return;
    const struct file *f = &w->file[w->num_files - 1];
    for (size_t i = 0; i < l2d_safetensors_count(f->st); i++)
        if (strncmp(l2d_safetensors_get(f->st, i)->name, prefix, strlen(prefix)) == 0)
            f->used[i] = true;
}

uint64_t l2d_weights_count(entry_ref e)
{
    return e->size_bytes / l2d_safetensors_dtype_bytes(e->dtype);
}

bool l2d_weights_to_f32(float *out, entry_ref e, uint64_t n, float scale)
{
    bool finite = l2d_convert_to_f32(out, e->dtype, e->data, n);
    for (uint64_t i = 0; i < n && scale != 1; i++) {
        out[i] *= scale;
        finite &= isfinite(out[i]) != 0;
    }
    return finite;
}

float *l2d_ld_host(struct l2d_weights *w, int ndim, const int64_t *dims, bool optional,
                   const char *fmt, ...)
{
    char name[NAME_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof(name), fmt, ap);
    va_end(ap);
    entry_ref e = find(w, name, ndim, dims, optional);
    uint64_t count = 1;
    for (int i = 0; i < ndim; i++)
        count *= (uint64_t) dims[i];
    float *out = e ? calloc(count + 1, sizeof(*out)) : NULL;
    if (e && !out)
        fail(w, L2D_ENOMEM, "out of memory");
    if (out && !l2d_weights_to_f32(out, e, l2d_weights_count(e), 1)) {
        fail(w, L2D_EFORMAT, "%s has values that are not numbers", e->name);
        free(out);
        out = NULL;
    }
    struct item *item = out && is_changed(w, e) ? append(w) : NULL;
    if (item) {
        item->host = out;
        item->changed = true;
        item->num_parts = 1;
        item->weight[0] = e;
    }
    return out;
}

// ---- places

uint64_t l2d_weights_weight_bytes(const struct item *item)
{
    if (item->host)
        return 0;
    if (item->norm)
        return l2d_buf_align((uint64_t) item->src_cout * 4);
    if (item->tensor)
        return l2d_buf_align(l2d_tensor_bytes(item->tensor));
    return l2d_buf_align(l2d_conv_packed_bytes(item->conv->cin, item->conv->cout,
                                               l2d_conv_packed_ksize(item->conv), item->type));
}

static uint64_t bias_bytes(const struct item *item)
{
    if (!item->bias[0])
        return 0;
    return l2d_buf_align((uint64_t) (item->norm ? item->src_cout : item->conv->cout) * 4);
}

uint64_t l2d_weights_item_bytes(const struct item *item)
{
    return l2d_weights_weight_bytes(item) + bias_bytes(item);
}

uint64_t l2d_weights_bytes(const struct l2d_weights *w)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < w->num_items; i++)
        total += l2d_weights_item_bytes(&w->item[i]);
    return total;
}

static void place(const struct l2d_weights *w, struct item *item)
{
    struct l2d_buf *buf = w->block[item->block];
    uint64_t at = item->at, bias_at = at + l2d_weights_weight_bytes(item);
    if (item->host)
        return;
    if (item->norm) {
        item->norm->weight = l2d_tensor_view(buf, at, L2D_F32, 1, 1, 1, item->src_cout);
        item->norm->bias = l2d_tensor_view(buf, bias_at, L2D_F32, 1, 1, 1, item->src_cout);
        return;
    }
    if (item->tensor) {
        item->tensor->buf = buf;
        item->tensor->offset_bytes = at;
        return;
    }
    struct l2d_conv *c = item->conv;
    uint64_t bytes = l2d_conv_packed_bytes(c->cin, c->cout, l2d_conv_packed_ksize(c), item->type);
    c->weight = l2d_tensor_view(buf, at, item->type, 1, 1, 1,
                                (int32_t) (bytes / l2d_dtype_bytes(item->type)));
    if (item->bias[0])
        c->bias = l2d_tensor_view(buf, bias_at, L2D_F32, 1, 1, 1, c->cout);
}

int l2d_weights_place(struct l2d_weights *w, struct l2d_error *err)
{
    if (w->error.code != L2D_OK)
        return l2d_error_set(err, w->error.code, "%s", w->error.msg);
    for (uint32_t i = 0, end = 0; i < w->num_items; i = end) {
        uint64_t size = 0;
        for (; end < w->num_items; end++) {
            struct item *item = &w->item[end];
            uint64_t bytes = l2d_weights_item_bytes(item);
            if (size > 0 && size + bytes > BLOCK_BYTES)
                break;
            item->block = w->num_blocks;
            item->at = size;
            size += bytes;
        }
        if (w->num_blocks == L2D_WEIGHTS_MAX_BLOCKS)
            return l2d_error_set(err, L2D_EUNSUPPORTED, "weights of more than %" PRIu64 " GiB: no "
                                 "model is that large; is its model.json right?",
                                 L2D_WEIGHTS_MAX_BLOCKS * BLOCK_BYTES >> 30);
        int rc = l2d_buf_declare(&w->block[w->num_blocks], w->gpu, size, L2D_MEMORY_DEVICE,
                                 "weights", err);
        if (rc != L2D_OK)
            return rc;
        w->num_blocks++;
    }
    for (uint32_t i = 0; i < w->num_items; i++)
        place(w, &w->item[i]);
    return L2D_OK;
}
