// SPDX-License-Identifier: Apache-2.0
// From files to the GPU: conversion and packing on several threads, whose pieces are copied one
// after the other; and weights with other scales of LoRAs. See weights.h.
#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/half.h"
#include "base/parallel.h"
#include "gpu/buffer.h"
#include "pipeline/models/loras.h"
#include "pipeline/models/weights_items.h"

#define HALF_MAX 65504.0f
#define PIECE_BYTES (UINT64_C(1) << 20)     // of packed panels, about, that a thread makes at once

static void standardise(float *value, int32_t channels, uint64_t each, double eps)
{
    for (int32_t n = 0; n < channels; n++, value += each) {
        double sum = 0, squares = 0;
        for (uint64_t i = 0; i < each; i++)
            sum += (double) value[i];
        double mean = sum / (double) each;
        for (uint64_t i = 0; i < each; i++)
            squares += ((double) value[i] - mean) * ((double) value[i] - mean);
        double scale = 1 / sqrt(squares / (double) each + eps);
        for (uint64_t i = 0; i < each; i++)
            value[i] = (float) (((double) value[i] - mean) * scale);
    }
}

static void pack_values(const struct item *item, unsigned char *dst)
{
    uint64_t count = l2d_tensor_count(item->tensor);
    if (item->tensor->dtype == L2D_F32)
        memcpy(dst, item->values, count * sizeof(*item->values));
    for (uint64_t i = 0; item->tensor->dtype == L2D_F16 && i < count; i++)
        ((uint16_t *) (void *) dst)[i] = l2d_half_from_f32(item->values[i]);
}

static int not_numbers(entry_ref e, struct l2d_error *err)
{
    return l2d_error_set(err, L2D_EFORMAT, "%s has values that are not numbers", e->name);
}

// A weight with what LoRAs add to it, rounded once, as a file of fused weights would have it.
static int fuse(const struct l2d_weights *w, const struct item *item, entry_ref e,
                const float scale[L2D_MAX_LORAS], float *out, struct l2d_error *err)
{
    uint64_t count = l2d_weights_count(e);
    if (!l2d_weights_to_f32(out, e, count, 1))
        return not_numbers(e, err);
    int rc = l2d_loras_add(w->loras, scale, w->file[item->file].network, e, out, count, err);
    for (uint64_t i = 0; i < count && rc == L2D_OK; i++) {
        uint16_t half = l2d_half_from_f32(out[i]);
        if ((half & 0x7c00) == 0x7c00)
            rc = l2d_error_set(err, L2D_EINVAL, "%s: with these scales of the LoRAs its value %g "
                               "is too large for fp16", e->name, (double) out[i]);
        out[i] = l2d_half_to_f32(half);
    }
    return rc;
}

static int check_halves(const float *value, uint64_t count, entry_ref e, struct l2d_error *err)
{
    for (uint64_t i = 0; i < count; i++)
        if (fabsf(value[i]) > HALF_MAX)
            return l2d_error_set(err, L2D_EFORMAT, "%s has values too large for fp16; use "
                                 "--precision fp32", e->name);
    return L2D_OK;
}

static int pack_bias(const struct item *item, void *dst, struct l2d_error *err)
{
    for (int32_t p = 0; p < item->num_parts; p++)
        if (item->bias[p] &&
            !l2d_weights_to_f32((float *) dst + p * item->src_cout, item->bias[p],
                                (uint64_t) item->src_cout, item->bias_scale))
            return not_numbers(item->bias[p], err);
    return L2D_OK;
}

// What so many values of a file become.
static uint64_t packed_count(const struct item *item, uint64_t count)
{
    return item->conv && item->conv->upsample ? count / 9 * 16 : count;
}

// Of some output channels, f32 values that are not to be copied as they are: in place.
static int finish_values(const struct l2d_weights *w, const struct item *item, entry_ref e,
                         float *value, int32_t channels, uint64_t count, struct l2d_error *err)
{
    if (item->standardise_eps > 0)
        standardise(value, channels, count / (uint64_t) channels, item->standardise_eps);
    if (item->conv->upsample)
        l2d_conv_fold(value, count / 9);
    bool halves = w->precision == L2D_F16 || item->type == L2D_U32;     // steps are halves
    return halves ? check_halves(value, packed_count(item, count), e, err) : L2D_OK;
}

// Fill dst (all bytes of the item, zeroed) with what the GPU is to see of a conv that LoRAs change.
static int pack(const struct l2d_weights *w, const struct item *item,
                const float scale[L2D_MAX_LORAS], unsigned char *dst, float *scratch,
                struct l2d_error *err)
{
    assert(item->conv && item->changed);
    for (int32_t p = 0; p < item->num_parts; p++) {
        uint64_t count = l2d_weights_count(item->weight[p]);
        int rc = fuse(w, item, item->weight[p], scale, scratch, err);
        if (rc != L2D_OK)
            return rc;
        for (uint64_t i = 0; i < count && item->scale != 1; i++)
            scratch[i] *= item->scale;
        rc = finish_values(w, item, item->weight[p], scratch, item->src_cout, count, err);
        if (rc != L2D_OK)
            return rc;
        l2d_conv_pack(dst, item->type, item->conv->cin, item->conv->cout,
                      l2d_conv_packed_ksize(item->conv), item->conv->geglu, scratch,
                      item->src_cin, item->src_cout, p * item->src_cout);
    }
    return pack_bias(item, dst + l2d_weights_weight_bytes(item), err);
}

// Room to pack any of the items that LoRAs change, or all.
struct room {
    unsigned char *packed;
    float *values;
};

static int make_room(const struct l2d_weights *w, struct room *room, struct l2d_error *err)
{
    uint64_t largest = 0, most_values = 0;
    for (uint32_t i = 0; i < w->num_items; i++) {
        const struct item *item = &w->item[i];
        uint64_t bytes = item->changed ? l2d_weights_item_bytes(item) : 0;
        largest = bytes > largest ? bytes : largest;
        for (int32_t p = 0; p < item->num_parts && item->changed; p++) {
            uint64_t count = packed_count(item, l2d_weights_count(item->weight[p]));
            most_values = count > most_values ? count : most_values;
        }
    }
    room->packed = malloc(largest + 1);
    room->values = malloc((most_values + 1) * sizeof(*room->values));
    return room->packed && room->values
         ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "weights: out of memory");
}

static void free_room(struct room *room)
{
    free(room->packed);
    free(room->values);
}

// ---- upload

// Some panels of a conv; or all of an item but panels: a conv's bias, all of a norm or a tensor.
struct piece {
    uint32_t item;
    uint32_t panel, num_panels;
};

struct upload {
    struct l2d_weights *w;
    struct piece *piece;
    uint32_t num_pieces;
    uint64_t packed_bytes, row_bytes;       // most of a piece, and of a row
    unsigned char *packed[L2D_PARALLEL_MAX];
    unsigned char *rows[L2D_PARALLEL_MAX];  // of a panel
    double seconds[L2D_PARALLEL_MAX];       // of packing
    pthread_mutex_t sending;
};

static uint64_t panel_bytes(const struct item *item)
{
    return l2d_conv_panel_bytes(item->conv->cin, l2d_conv_packed_ksize(item->conv), item->type);
}

// Values of one output channel.
static uint64_t row_count(const struct item *item)
{
    return (uint64_t) item->src_cin * (uint64_t) (item->conv->ksize * item->conv->ksize);
}

// Whether the file's values are copied as they are.
static bool is_as_packed(const struct item *item)
{
    bool same = item->type == L2D_F16 && item->scale == 1 && item->standardise_eps <= 0 &&
                !item->conv->upsample;
    for (int32_t p = 0; p < item->num_parts; p++)
        same = same && item->weight[p]->dtype == L2D_SAFETENSORS_F16;
    return same;
}

// Copy halves. false if one of them is not finite.
static bool copy_halves(uint16_t *out, const void *src, uint64_t count)
{
    uint32_t bad = 0;
    memcpy(out, src, count * sizeof(*out));
    for (uint64_t i = 0; i < count; i++)
        bad |= (out[i] & 0x7c00u) == 0x7c00;
    return !bad;
}

// Output channel n, folded where it upsamples; as halves if is_as_packed, else as f32.
static int read_row(const struct l2d_weights *w, const struct item *item, bool halves, int32_t n,
                    void *row, struct l2d_error *err)
{
    entry_ref e = item->weight[n / item->src_cout];
    uint64_t count = row_count(item);
    uint64_t at = (uint64_t) (n % item->src_cout) * count * l2d_safetensors_dtype_bytes(e->dtype);
    struct l2d_safetensors_entry part = *e;
    part.data = (const unsigned char *) e->data + at;
    if (halves ? !copy_halves(row, part.data, count)
               : !l2d_weights_to_f32(row, &part, count, item->scale))
        return not_numbers(e, err);
    return halves ? L2D_OK : finish_values(w, item, e, row, 1, count, err);
}

static int pack_panels(const struct upload *u, const struct piece *p, uint32_t thread,
                       struct l2d_error *err)
{
    const struct item *item = &u->w->item[p->item];
    const struct l2d_conv *c = item->conv;
    bool halves = is_as_packed(item);
    for (uint32_t k = 0; k < p->num_panels; k++) {
        const void *rows[L2D_CONV_PANEL] = { NULL };
        for (uint32_t i = 0; i < L2D_CONV_PANEL; i++) {
            int32_t n = l2d_conv_channel_of((int32_t) ((p->panel + k) * L2D_CONV_PANEL + i),
                                            c->cout, c->geglu);
            if (n < 0 || n >= item->num_parts * item->src_cout)
                continue;
            void *row = u->rows[thread] + i * u->row_bytes;
            int rc = read_row(u->w, item, halves, n, row, err);
            if (rc != L2D_OK)
                return rc;
            rows[i] = row;
        }
        l2d_conv_pack_panel(u->packed[thread] + k * panel_bytes(item), item->type, c->cin,
                            l2d_conv_packed_ksize(c), rows, halves ? L2D_F16 : L2D_F32,
                            item->src_cin);
    }
    return L2D_OK;
}

// Where a piece goes in its item, and how much it is.
static uint64_t piece_at(const struct l2d_weights *w, const struct piece *p)
{
    const struct item *item = &w->item[p->item];
    return !item->conv ? 0 : p->num_panels ? p->panel * panel_bytes(item)
                                           : l2d_weights_weight_bytes(item);
}

static uint64_t piece_bytes(const struct l2d_weights *w, const struct piece *p)
{
    const struct item *item = &w->item[p->item];
    return p->num_panels ? p->num_panels * panel_bytes(item)
                         : l2d_weights_item_bytes(item) - piece_at(w, p);
}

static int pack_piece(const struct upload *u, const struct piece *p, uint32_t thread,
                      struct l2d_error *err)
{
    const struct item *item = &u->w->item[p->item];
    unsigned char *dst = u->packed[thread];
    if (p->num_panels)
        return pack_panels(u, p, thread, err);
    memset(dst, 0, piece_bytes(u->w, p));
    if (item->tensor)
        pack_values(item, dst);
    if (item->norm && !l2d_weights_to_f32((float *) (void *) dst, item->weight[0],
                                          (uint64_t) item->src_cout, 1))
        return not_numbers(item->weight[0], err);
    return pack_bias(item, dst + (item->norm ? l2d_weights_weight_bytes(item) : 0), err);
}

static int upload_piece(void *user, uint32_t thread, uint32_t index, struct l2d_error *err)
{
    struct upload *u = user;
    const struct piece *p = &u->piece[index];
    const struct item *item = &u->w->item[p->item];
    double begin = l2d_clock_s();
    int rc = pack_piece(u, p, thread, err);
    u->seconds[thread] += l2d_clock_s() - begin;
    if (rc != L2D_OK)
        return rc;
    struct l2d_buf *block = u->w->block[item->block];
    bool alone = !block->mapped;            // the gpu is for one thread at a time
    if (alone)
        pthread_mutex_lock(&u->sending);
    rc = l2d_buf_send(block, item->at + piece_at(u->w, p), u->packed[thread],
                      piece_bytes(u->w, p), err);
    if (alone)
        pthread_mutex_unlock(&u->sending);
    return rc;
}

static uint32_t panels_at_once(const struct item *item)
{
    uint64_t fit = PIECE_BYTES / panel_bytes(item);
    return fit ? (uint32_t) fit : 1;
}

// list: NULL to count. returns how many.
static uint32_t list_pieces(const struct l2d_weights *w, struct piece *list)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->num_items; i++) {
        const struct item *item = &w->item[i];
        if (item->changed)
            continue;
        uint32_t panels = item->conv ? l2d_conv_num_panels(item->conv->cout) : 0;
        for (uint32_t p = 0, each; p < panels; p += each, n++) {
            each = panels_at_once(item);
            each = each < panels - p ? each : panels - p;
            if (list)
                list[n] = (struct piece) { i, p, each };
        }
        if (item->conv && !item->bias[0])
            continue;
        if (list)
            list[n] = (struct piece) { i, 0, 0 };
        n++;
    }
    return n;
}

static int make_upload(struct upload *u, struct l2d_weights *w, uint32_t threads,
                       struct l2d_error *err)
{
    *u = (struct upload) { .w = w, .num_pieces = list_pieces(w, NULL),
                           .sending = PTHREAD_MUTEX_INITIALIZER };
    bool ok = (u->piece = malloc((u->num_pieces + 1) * sizeof(*u->piece))) != NULL;
    if (ok)
        list_pieces(w, u->piece);
    for (uint32_t i = 0; i < u->num_pieces && ok; i++) {
        const struct item *item = &w->item[u->piece[i].item];
        uint64_t bytes = piece_bytes(w, &u->piece[i]);
        uint64_t row = u->piece[i].num_panels
                     ? packed_count(item, row_count(item)) * sizeof(float) : 0;
        u->packed_bytes = bytes > u->packed_bytes ? bytes : u->packed_bytes;
        u->row_bytes = row > u->row_bytes ? row : u->row_bytes;
    }
    for (uint32_t i = 0; i < threads && ok; i++) {
        u->packed[i] = malloc(u->packed_bytes + 1);
        u->rows[i] = malloc(L2D_CONV_PANEL * u->row_bytes + 1);
        ok = u->packed[i] && u->rows[i];
    }
    return ok ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "weights: out of memory");
}

static void finish_upload(struct upload *u)
{
    for (uint32_t i = 0; i < L2D_PARALLEL_MAX; i++) {
        free(u->packed[i]);
        free(u->rows[i]);
        u->w->pack_seconds += u->seconds[i];
    }
    free(u->piece);
    pthread_mutex_destroy(&u->sending);
}

static int upload_changed(struct l2d_weights *w, const struct item *item, const struct room *room,
                          struct l2d_error *err)
{
    uint64_t bytes = l2d_weights_item_bytes(item);
    if (item->host)
        return fuse(w, item, item->weight[0], w->scale, item->host, err);
    memset(room->packed, 0, bytes);
    int rc = pack(w, item, w->scale, room->packed, room->values, err);
    return rc == L2D_OK ? l2d_buf_send(w->block[item->block], item->at, room->packed, bytes, err)
                        : rc;
}

static int upload_all(struct l2d_weights *w, struct l2d_error *err)
{
    struct upload u;
    struct room room = { NULL, NULL };
    uint32_t threads = l2d_parallel_threads();
    int rc = make_upload(&u, w, threads, err);
    if (rc == L2D_OK)
        rc = l2d_parallel_for("weights", threads, u.num_pieces, upload_piece, &u, err);
    finish_upload(&u);
    if (rc == L2D_OK)
        rc = make_room(w, &room, err);
    for (uint32_t i = 0; i < w->num_items && rc == L2D_OK; i++)
        if (w->item[i].changed)
            rc = upload_changed(w, &w->item[i], &room, err);
    free_room(&room);
    int sent = l2d_buf_sent(w->gpu, rc == L2D_OK ? err : NULL);     // blocks stay until then
    return rc == L2D_OK ? sent : rc;
}

int l2d_weights_check_there(const struct l2d_weights *w, struct l2d_error *err)
{
    return !w->want ? L2D_OK
                    : l2d_error_set(err, L2D_EINVAL, "the model is a description without weights; "
                                    "name the folder that has them");
}

int l2d_weights_upload(struct l2d_weights *w, struct l2d_error *err)
{
    int rc = L2D_OK;
    assert(!w->want);
    for (uint32_t i = 0; i < w->num_blocks && rc == L2D_OK; i++)
        rc = l2d_buf_take(w->block[i], err);
    if (rc == L2D_OK)
        rc = upload_all(w, err);
    if (!w->loras)
        l2d_weights_close_files(w);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "weights");
}

double l2d_weights_pack_seconds(const struct l2d_weights *w)
{
    return w->pack_seconds;
}

// ---- other scales

struct l2d_fused {
    unsigned char **packed;         // of each item: item_bytes, or of host the values; else NULL
    uint32_t num_items;
};

void l2d_fused_destroy(struct l2d_fused **pf)
{
    struct l2d_fused *f = *pf;
    *pf = NULL;
    for (uint32_t i = 0; f && i < f->num_items; i++)
        free(f->packed[i]);
    if (f)
        free(f->packed);
    free(f);
}

static int fuse_item(const struct l2d_weights *w, const struct item *item,
                     const float scale[L2D_MAX_LORAS], float *scratch, unsigned char **out,
                     struct l2d_error *err)
{
    uint64_t bytes = item->host ? 4 * l2d_weights_count(item->weight[0])
                                : l2d_weights_item_bytes(item);
    *out = calloc(1, bytes + 1);
    if (!*out)
        return l2d_error_set(err, L2D_ENOMEM, "weights: out of memory");
    return item->host ? fuse(w, item, item->weight[0], scale, (float *) (void *) *out, err)
                      : pack(w, item, scale, *out, scratch, err);
}

int l2d_weights_fuse(const struct l2d_weights *w, const float scale[L2D_MAX_LORAS],
                     const atomic_bool *cancel, struct l2d_fused **out, struct l2d_error *err)
{
    struct room room = { NULL, NULL };
    struct l2d_fused *f = calloc(1, sizeof(*f));
    if (f)
        f->packed = calloc(w->num_items + 1, sizeof(*f->packed));
    int rc = f && f->packed ? make_room(w, &room, err)
                            : l2d_error_set(err, L2D_ENOMEM, "weights: out of memory");
    for (uint32_t i = 0; i < w->num_items && rc == L2D_OK; i++) {
        f->num_items = i + 1;
        if (cancel && atomic_load(cancel))
            rc = l2d_error_set(err, L2D_ECLOSED, "weights: not wanted any more");
        else if (w->item[i].changed)
            rc = fuse_item(w, &w->item[i], scale, room.values, &f->packed[i], err);
    }
    free_room(&room);
    if (rc != L2D_OK)
        l2d_fused_destroy(&f);
    *out = f;
    return rc;
}

int l2d_weights_put(struct l2d_weights *w, const struct l2d_fused *f, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t i = 0; i < f->num_items && rc == L2D_OK; i++) {
        const struct item *item = &w->item[i];
        if (f->packed[i] && item->host)
            memcpy(item->host, f->packed[i], 4 * l2d_weights_count(item->weight[0]));
        else if (f->packed[i])
            rc = l2d_buf_write(w->block[item->block], item->at, f->packed[i],
                               l2d_weights_item_bytes(item), err);
    }
    return rc;
}

struct l2d_weights_changes l2d_weights_changes(const struct l2d_weights *w)
{
    struct l2d_weights_changes c = { false, false, false };
    for (uint32_t i = 0; i < w->num_items; i++)
        if (w->item[i].changed) {
            bool unet = !strcmp(w->file[w->item[i].file].network, "unet");
            c.unet |= unet;
            c.text_encoder |= !unet;
            c.host |= w->item[i].host != NULL;
        }
    return c;
}
