// SPDX-License-Identifier: Apache-2.0
// From tensor names to weights on the GPU. A model declares what it needs with the ld words, which
// check names and shapes and remember where the result goes; then all get their places in buffers
// without memory, on which graphs can be built; one upload takes the memory, converts, packs and
// copies everything.
// Errors stick: after the first, the words do nothing, and l2d_weights_close_file reports it.
#ifndef L2D_PIPELINE_MODELS_WEIGHTS_H
#define L2D_PIPELINE_MODELS_WEIGHTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/kernels.h"
#include "pipeline/config.h"

struct l2d_gpu;
struct l2d_loras;
struct l2d_weights;
struct l2d_fused;               // weights with certain scales of LoRAs, as they are put in place

/** precision is the type of matrix weights on the GPU; norms and biases are f32. */
int l2d_weights_create(struct l2d_weights **out, struct l2d_gpu *gpu, enum l2d_dtype precision,
                       struct l2d_error *err);

/** Frees the GPU's copies too. Accepts NULL. */
void l2d_weights_destroy(struct l2d_weights **weights);

/** LoRAs that change what is read from now on. Borrowed, for as long as the weights live. */
void l2d_weights_set_loras(struct l2d_weights *weights, struct l2d_loras *loras);

/**
 * Read from this file until l2d_weights_close_file. The file stays mapped until the upload,
 * or with LoRAs to the end.
 * prefix   put before every name that the words ask for, such as "text_model."; may be ""
 */
int l2d_weights_open_file(struct l2d_weights *weights, const char *path, const char *prefix,
                          struct l2d_error *err);

/**
 * Instead of a file: from now on the words only tell what they ask for. Nothing is read, nothing
 * can be uploaded, and the host tensors are all zero.
 * want     is given names, shapes, and whether the tensor may be absent
 */
typedef void l2d_weights_want(void *user, const char *name, int ndim, const int64_t *dims,
                              bool optional);
void l2d_weights_list(struct l2d_weights *weights, l2d_weights_want *want, void *user);

/**
 * From now on, or no more: matrix weights of wide layers are kept in bytes, with a step for each
 * output channel. Not for tier 0.
 */
void l2d_weights_keep_bytes(struct l2d_weights *weights, bool keep);

/**
 * The model is declared: report the first error, or tensors of the file that nothing asked for.
 */
int l2d_weights_close_file(struct l2d_weights *weights, struct l2d_error *err);

// ---- the words; names are printf formats without the final ".weight" or ".bias"

enum l2d_ld_flags {
    L2D_LD_BIAS = 1,
    L2D_LD_GEGLU = 2,
    L2D_LD_FIRST_HALF = 4,      // the file has twice as many output channels; the first are used
    L2D_LD_UPSAMPLE = 8,        // the picture is made twice as large before: l2d_conv_fold
};

/** weight [cout,cin,ksize,ksize]; or, where ksize is 1, also [cout,cin]. */
void l2d_ld_conv(struct l2d_weights *ld, struct l2d_conv *conv, int32_t ksize, int32_t cin,
                 int32_t cout, unsigned flags, const char *fmt, ...) L2D_PRINTF(7, 8);

/** Several Linears [c_i,cin] of the same input side by side: suffixes are "to_q", "to_k", ... */
void l2d_ld_linears(struct l2d_weights *ld, struct l2d_conv *conv, int32_t cin, int32_t cout_each,
                    unsigned flags, const char *const *suffixes, int num, const char *fmt, ...)
    L2D_PRINTF(8, 9);

void l2d_ld_norm(struct l2d_weights *ld, struct l2d_norm *norm, int32_t c, const char *fmt, ...)
    L2D_PRINTF(4, 5);

/** Multiply the weights and bias of a conv already declared, as they are uploaded. */
void l2d_ld_scale(struct l2d_weights *ld, const struct l2d_conv *conv, float scale);

/** Multiply the weights alone: as if the conv's input were scaled. */
void l2d_ld_scale_input(struct l2d_weights *ld, const struct l2d_conv *conv, float scale);

/** Standardise a conv's weights over each output channel, (w - mean) / sqrt(variance + eps). */
void l2d_ld_standardise(struct l2d_weights *ld, const struct l2d_conv *conv, double eps);

/**
 * A tensor T [rows,h,w,c] that is neither conv nor norm.
 * values   malloc'ed; taken over in any case. NULL: after an error, or there is no memory for them
 */
void l2d_ld_values(struct l2d_weights *ld, struct l2d_tensor *tensor, float *values, int32_t rows,
                   int32_t h, int32_t w, int32_t c);

/** Tensors whose names begin so may be in the file, and are of no use. */
void l2d_ld_ignore(struct l2d_weights *ld, const char *prefix);

/**
 * Read a whole tensor to the host now, as f32.
 * dims     expected shape, ndim of them
 * returns  malloc'ed values, the caller's to free; NULL after an error, or if it is absent and
 *          optional. What LoRAs change of them comes with the upload, so they are needed until
 *          then, and until the last l2d_weights_put
 */
float *l2d_ld_host(struct l2d_weights *ld, int ndim, const int64_t *dims, bool optional,
                   const char *fmt, ...) L2D_PRINTF(5, 6);

// ---- then

/** Give every conv, norm and tensor declared its place, also of a listing. Takes no GPU memory. */
int l2d_weights_place(struct l2d_weights *weights, struct l2d_error *err);

/** Bytes of GPU memory that the upload will take. */
uint64_t l2d_weights_bytes(const struct l2d_weights *weights);

/** The scales that the upload gives the LoRAs; all 0 at first. */
void l2d_weights_scale_loras(struct l2d_weights *weights, const float scale[L2D_MAX_LORAS]);

/** returns L2D_OK if there is something to upload, or L2D_EINVAL for a listing. */
int l2d_weights_check_there(const struct l2d_weights *weights, struct l2d_error *err);

/**
 * Take the memory; convert, pack, copy, on as many threads as there are cores. NaN or infinite is
 * an error. Not for a listing.
 */
int l2d_weights_upload(struct l2d_weights *weights, struct l2d_error *err);

/** Of that, reading, converting and packing, of all threads together. */
double l2d_weights_pack_seconds(const struct l2d_weights *weights);

// ---- and, with LoRAs, as often as their scales change

/**
 * Compute all weights that LoRAs change with other scales: on the host, in as much of its memory as
 * these weights take on the GPU. It takes seconds for a large model, so any thread may do it, also
 * while others are put in place.
 * cancel   becomes true when the result is not wanted any more; may be NULL
 * returns  L2D_OK, L2D_ENOMEM, L2D_EFORMAT, L2D_ECLOSED when cancelled, or L2D_EINVAL: with these
 *          scales one is too large for fp16
 */
int l2d_weights_fuse(const struct l2d_weights *weights, const float scale[L2D_MAX_LORAS],
                     const atomic_bool *cancel, struct l2d_fused **out, struct l2d_error *err);

/** Put them where the graphs read them, and host tensors too. Nothing may be on the GPU. */
int l2d_weights_put(struct l2d_weights *weights, const struct l2d_fused *fused,
                    struct l2d_error *err);

/** Accepts NULL. */
void l2d_fused_destroy(struct l2d_fused **fused);

/** What LoRAs change: weights of these networks, and tensors that are on the host. */
struct l2d_weights_changes { bool unet, text_encoder, host; };
struct l2d_weights_changes l2d_weights_changes(const struct l2d_weights *weights);

#endif
