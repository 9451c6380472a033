// SPDX-License-Identifier: Apache-2.0
// The operations of the networks, as recorders into a graph: each checks its shapes, allocates its
// result, fills its parameters and dispatches. A kernel is shaders/X.comp, shaders/params/X.h,
// runtime/kernels/X.c, runtime/ref/X.c and tests/runtime/kernels/test_X.c.
//
// Layout is NHWC, [rows][h][w][c]; a token list is [rows][1][tokens][c]. T is the graph's precision
// (f32 or f16); all arithmetic is f32. c is a multiple of 4 everywhere. Errors stick to the graph
// (see gpu/graph.h), and what is returned after one is L2D_NO_TENSOR. All of this is called by the
// thread that builds the graph.
#ifndef L2D_KERNELS_KERNELS_H
#define L2D_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "gpu/graph.h"
#include "shaders/params/color.h"
#include "shaders/params/conv.h"
#include "shaders/params/row.h"
#include "shaders/params/similar.h"
#include "shaders/params/steady.h"

// ---- conv: 1x1, 3x3 and 7x7 convolution, linear -------------------------------------------------

enum l2d_act { L2D_ACT_NONE, L2D_ACT_SILU, L2D_ACT_RELU, L2D_ACT_GELU, L2D_ACT_QUICK_GELU,
               L2D_ACT_GEGLU };

// Weights on the GPU. weight is packed by l2d_conv_pack, in T or, but for tier 0, in bytes (then it
// is a tensor of L2D_U32); bias is f32 [cout] or absent. With GEGLU the packed columns alternate
// value and gate, and the op's result has cout / 2 channels.
struct l2d_conv {
    struct l2d_tensor weight, bias;
    int32_t cin, cout;          // multiples of 4 (zero-padded where the model's are not)
    int32_t ksize;              // 1, 3 or 7
    bool geglu;
    bool upsample;              // nearest x2 before the convolution, a 3x3: see l2d_conv_fold
};

struct l2d_conv_desc {
    const struct l2d_conv *conv;
    struct l2d_tensor x;        // [R,h,w,c0] T
    struct l2d_tensor x2;       // optional [R,h,w,c1] T: input channels are [x, x2], cin = c0 + c1;
                                // with ksize 1 also [R,1,1,c1]: the same for all pixels of a row
    bool relu_in;               // of relu(x), relu(x2)
    bool stride2;               // ceil(h/2) x ceil(w/2); with conv->upsample it is 2h x 2w
    bool pad_same;              // as TensorFlow pads, "SAME": just enough, what is odd goes behind
                                // (3x3, stride 2, even sides: 0 in front, 1 behind). Else ksize/2
                                // all round
    enum l2d_act act;
    struct l2d_tensor step_bias; // optional f32 [steps,1,1,cout], row rows[r].step added before act
    struct l2d_tensor residual; // optional T, of the result's shape; or see residual_ring
    bool residual_ring;         // residual is [ring,...]: row r adds residual[rows[r].ring]
    bool act_after_residual;    // relu(conv + residual) rather than residual + act(conv)
    struct l2d_tensor out;      // optional destination (persistent), else allocated
    bool out_ring;              // out is [ring,...]: row r is written to out[rows[r].ring]
    struct l2d_tensor rows;     // u32 view of l2d_row_params[]; only for step_bias and *_ring
};

/** Absent tensors of a desc must be L2D_NO_TENSOR: start from this. */
#define L2D_CONV_DESC(conv_, x_) \
    (struct l2d_conv_desc) { .conv = (conv_), .x = (x_), .x2 = L2D_NO_TENSOR, \
        .step_bias = L2D_NO_TENSOR, .residual = L2D_NO_TENSOR, .out = L2D_NO_TENSOR, \
        .rows = L2D_NO_TENSOR }

/** returns  act(conv(x) + bias + step_bias) + residual, [R,h',w',cout] T. */
struct l2d_tensor l2d_conv2d(struct l2d_graph *graph, const struct l2d_conv_desc *desc);

/**
 * 3x3 kernels on a picture of twice the size, whose pixels are each there four times, are 2x2
 * kernels on the picture itself, others for each of the four: [kernels][3][3] becomes
 * [kernels][4][2][2].
 * What is packed then is as if ksize were L2D_CONV_UP_KSIZE.
 * value    room for kernels * 16; changed in place
 */
void l2d_conv_fold(float *value, uint64_t kernels);
#define L2D_CONV_UP_KSIZE 4

static inline int32_t l2d_conv_packed_ksize(const struct l2d_conv *conv)
{
    return conv->upsample ? L2D_CONV_UP_KSIZE : conv->ksize;
}

/** Bytes of packed weights: T, or L2D_U32 for bytes. cin, cout as in struct l2d_conv. */
uint64_t l2d_conv_packed_bytes(int32_t cin, int32_t cout, int32_t ksize, enum l2d_dtype dtype);

/**
 * Pack weights for the shaders: panels of 32 output channels, see conv_pack.c for the order.
 * dst      l2d_conv_packed_bytes, T, or L2D_U32: bytes with a step for each output channel
 * src      f32 [src_cout][src_cin][ksize][ksize] (PyTorch's order; a Linear is ksize 1)
 * src_cin and src_cout may be smaller than cin and cout: the rest is zero.
 * col      first output channel to fill: q, k and v are packed into one conv by three calls, the
 *          first of which (col 0) must come first, since it clears dst
 */
void l2d_conv_pack(void *dst, enum l2d_dtype dtype, int32_t cin, int32_t cout, int32_t ksize,
                   bool geglu, const float *src, int32_t src_cin, int32_t src_cout, int32_t col);

/** The same panel by panel: how many there are, and the bytes of each. */
uint32_t l2d_conv_num_panels(int32_t cout);
uint64_t l2d_conv_panel_bytes(int32_t cin, int32_t ksize, enum l2d_dtype dtype);

/** The output channel that stands in a column of all panels; -1: none does. */
int32_t l2d_conv_channel_of(int32_t column, int32_t cout, bool geglu);

/**
 * Pack one panel.
 * dst      l2d_conv_panel_bytes, as there; all of it is written
 * rows     [src_cin][ksize][ksize] of each column's output channel; NULL: there is none
 * row_type of the rows: f32, or T if that is what becomes of them
 */
void l2d_conv_pack_panel(void *dst, enum l2d_dtype dtype, int32_t cin, int32_t ksize,
                         const void *const rows[L2D_CONV_PANEL], enum l2d_dtype row_type,
                         int32_t src_cin);

// ---- norms --------------------------------------------------------------------------------------

struct l2d_norm {
    struct l2d_tensor weight, bias;     // f32 [c]
};

/**
 * GroupNorm over (c/groups, h, w) of each row, of the channel concatenation [x, x2] (x2 optional),
 * then act: L2D_ACT_NONE, L2D_ACT_SILU or L2D_ACT_RELU. returns [R,h,w,c0+c1] T. Statistics are
 * two-pass in f32.
 */
struct l2d_tensor l2d_group_norm(struct l2d_graph *graph, const struct l2d_norm *norm,
                                 struct l2d_tensor x, struct l2d_tensor x2, int32_t groups,
                                 float eps, enum l2d_act act);

/** relu(GroupNorm(x) + residual); residual is [R,h,w,c] T. */
struct l2d_tensor l2d_group_norm_add_relu(struct l2d_graph *graph, const struct l2d_norm *norm,
                                          struct l2d_tensor x, struct l2d_tensor residual,
                                          int32_t groups, float eps);

/** LayerNorm over c. returns the shape of x, T. */
struct l2d_tensor l2d_layer_norm(struct l2d_graph *graph, const struct l2d_norm *norm,
                                 struct l2d_tensor x, float eps);

// ---- attention ----------------------------------------------------------------------------------

/**
 * Multi-head attention, softmax(q k^T / sqrt(d)) v with an online softmax.
 * q        [R,h,w,cq] T: query channels are q_first .. q_first+c-1 of each token
 * kv       [Rk,h',w',ck] T: keys at k_first, values at v_first; Rk is R, or 1: shared by all rows
 * c        heads * d; d <= 1024, a multiple of 4
 * causal   token i sees keys 0..i
 * returns  [R,h,w,c] T
 */
struct l2d_tensor l2d_attention(struct l2d_graph *graph, struct l2d_tensor q, int32_t q_first,
                                struct l2d_tensor kv, int32_t k_first, int32_t v_first, int32_t c,
                                int32_t heads, bool causal);

// How the rows of a call of the denoiser stand to each other.
enum l2d_row_order {
    L2D_ROWS_APART,                 // each at a step of its own: of the others it sees nothing
    L2D_ROWS_IN_TURN,               // frames at the same step: each sees what those before it keep
    L2D_ROWS_WARMUP,                // the frames that become the sinks: each sees all
};

/**
 * Temporal attention, and the write of this call's keys and values into the cache.
 * qkv      [R,h,w,3c] T, without positional terms
 * pos      [1,1,16,3c] T: Wq p, Wk p, Wv p of positions 0..15
 * cache    [steps, h*w, 16, 2c] T: per step, pixel and slot the key then the value; or u32, in
 *          bytes, see l2d_kv_cache_shape. Rows that are not active write nothing (their result is
 *          unspecified but finite). Closed slots are not read, and nothing is moved: a slot is
 *          written once, in its place
 * rows     u32 view of l2d_row_params[R]
 * order    APART, IN_TURN: row r attends to the open slots of cache[rows[r].step], with
 *          rows[r].kv_slot just written by itself; position of slot s: s while own_pos < 15 or
 *          s < 8, else 15 - ((kv_slot - s) mod 8). WARMUP: the R = 8 rows are the warm-up frames:
 *          each attends to all eight at positions 0..7 and is written to its kv_slot
 * returns  [R,h,w,c] T. A row's own keys and values (WARMUP: all of the call's) are attended to as
 *          they are in qkv
 */
struct l2d_tensor l2d_temporal_attention(struct l2d_graph *graph, struct l2d_tensor qkv,
                                         struct l2d_tensor pos, struct l2d_tensor cache,
                                         struct l2d_tensor rows, int32_t heads,
                                         enum l2d_row_order order);

/**
 * The shape of a cache; it has no buffer yet. dtype is T, or L2D_U32 for bytes: then each head of
 * each key and each value is d signed bytes times a step of its own, max |x| / 127 rounded up to 8
 * bits of mantissa, and takes d + 2 bytes.
 */
struct l2d_tensor l2d_kv_cache_shape(enum l2d_dtype dtype, int32_t steps, int32_t pixels, int32_t c,
                                     int32_t heads);

/** A cache of bytes, or some slots of it, as out [slots][2c]. */
void l2d_kv_cache_unpack(float *out, const uint32_t *words, uint64_t slots, int32_t c,
                         int32_t heads);

// ---- maps and tokens ----------------------------------------------------------------------------

/** Maximum over 3x3 with stride 2, pad_same as above. returns [R,ceil(h/2),ceil(w/2),c] T. */
struct l2d_tensor l2d_max_pool(struct l2d_graph *graph, struct l2d_tensor x);

/**
 * Bilinear resize to h x w, without antialiasing.
 * x        [R,h',w',c] T or f32
 * align_corners  the centres of the corner pixels keep their places; else their outer edges do
 * add      optional [R,h,w,c] T: added to the result
 * returns  [R,h,w,c] T
 */
struct l2d_tensor l2d_resize(struct l2d_graph *graph, struct l2d_tensor x, int32_t h, int32_t w,
                             bool align_corners, struct l2d_tensor add);

/**
 * Tokens of both, a's first: a [R,...,c] or, the same for all rows, [1,...,c], b [R,...,c], T.
 * returns  [R,1,tokens of a + tokens of b,c] T
 */
struct l2d_tensor l2d_token_concat(struct l2d_graph *graph, struct l2d_tensor a,
                                   struct l2d_tensor b);

/** Tokens first .. first+h*w-1 of each row of x [R,...,c] T, as [R,h,w,c]. */
struct l2d_tensor l2d_token_slice(struct l2d_graph *graph, struct l2d_tensor x, int32_t first,
                                  int32_t h, int32_t w);

// A part of a map, and how much of it the neighbouring tiles have too: 0 at the map's edges. In
// pixels; what is shared on two sides is at most the whole.
struct l2d_tile {
    int32_t left, top, w, h;
    int32_t fade_left, fade_right, fade_top, fade_bottom;
};

/** The tile of each row of x [R,H,W,c] T. returns [R,h,w,c] T. */
struct l2d_tensor l2d_tile_cut(struct l2d_graph *graph, struct l2d_tensor x,
                               const struct l2d_tile *tile);

/**
 * Put tile x [R,h,w,c] T into y [R,H,W,c] T. Neighbours fade into each other linearly where they
 * overlap; those above and those on the left have to be there already.
 */
void l2d_tile_paste(struct l2d_graph *graph, struct l2d_tensor y, struct l2d_tensor x,
                    const struct l2d_tile *tile);

// ---- depth --------------------------------------------------------------------------------------

/**
 * The range of a depth map, kept from frame to frame.
 * maps     [ring,S,S,4] T, at least L2D_SINKS of them, depth in channel 0
 * rows     u32 view of one l2d_row_params: the map is maps[rows[0].ring]; or L2D_NO_TENSOR: of
 *          those of the warm-up, which are the first L2D_SINKS, together
 * range    f32 [1,1,1,4], persistent: least, greatest, and 1 as soon as there is one (0 before), 0
 * rate     1: the range is this map's. Below 1: as much of it goes to the range that there was
 */
void l2d_depth_range(struct l2d_graph *graph, struct l2d_tensor maps, struct l2d_tensor rows,
                     struct l2d_tensor range, float rate);

/**
 * maps[rows[0].ring] with the range put to [-1,1] and what is beyond it cut off (where there is no
 * range, all is -1), resized bilinearly to a picture of three equal channels: f32 [1,h,w,4].
 */
struct l2d_tensor l2d_depth_structure(struct l2d_graph *graph, struct l2d_tensor maps,
                                      struct l2d_tensor rows, struct l2d_tensor range, int32_t h,
                                      int32_t w);

// ---- picture ------------------------------------------------------------------------------------

/**
 * Colour conversion, rotation, antialiased bilinear resize and crop of a stored picture: a
 * triangle filter as wide as the scale, each component in its own sampling, edges repeated.
 * bytes    u32 view of the stored picture
 * params   u32 view of one l2d_color_in_params
 * canvas   f32 [1,H,W,4], persistent or transient, RGB in [-1,1], fourth channel 0
 */
void l2d_color_in(struct l2d_graph *graph, struct l2d_tensor bytes, struct l2d_tensor params,
                  struct l2d_tensor canvas);

/** The same as bytes R, G, B, 0: into packed (u32 view), [h,w] from word params.first on. */
void l2d_color_in_packed(struct l2d_graph *graph, struct l2d_tensor bytes,
                         struct l2d_tensor params, int32_t h, int32_t w, struct l2d_tensor packed);

// Another picture that is mixed into what comes out.
struct l2d_under {
    struct l2d_tensor packed;   // as of l2d_color_in_packed, from word params.under on
    struct l2d_tensor mask;     // as large as the output, packed too; read if params.masked
};

/** Canvas f32 [1,H,W,4] -> picture bytes (u32 view), rounded to nearest, clamped. under: or NULL */
void l2d_color_out(struct l2d_graph *graph, struct l2d_tensor canvas, struct l2d_tensor params,
                   struct l2d_tensor bytes, const struct l2d_under *under);

/** A picture f32 [1,H,W,4] by cubics as f32 [1,h,w,4], clamped to [-1,1]. For larger sizes. */
struct l2d_tensor l2d_enlarge(struct l2d_graph *graph, struct l2d_tensor picture, int32_t h,
                              int32_t w);

/** f32 [1,H,W,4] -> the luma structure map, f32 [1,H,W,4] in [-1,1]. H and W multiples of 8. */
struct l2d_tensor l2d_luma_structure(struct l2d_graph *graph, struct l2d_tensor canvas);

enum l2d_range { L2D_RANGE_0_1, L2D_RANGE_PM1 };     // what a codec takes and gives: 0..1 or -1..1

/**
 * Partial sums of <p,x>, <p,p>, <x,x> over the first three channels of two pictures f32 [1,H,W,4],
 * to be added up by the host: sums f32 [1,1,L2D_SIMILAR_SUMS,4].
 */
void l2d_similar(struct l2d_graph *graph, struct l2d_tensor p, struct l2d_tensor x,
                 struct l2d_tensor sums);

/** The luminance pyramids of so many frames, f32; there is no buffer yet. */
struct l2d_tensor l2d_steady_lumas_shape(int32_t frames, int32_t h, int32_t w);

/**
 * lumas[params.incoming] = the pyramid of the canvas f32 [1,H,W,4].
 * params   u32 view of one l2d_steady_params
 */
void l2d_steady_track(struct l2d_graph *graph, struct l2d_tensor canvas, struct l2d_tensor lumas,
                      struct l2d_tensor params);

/**
 * Where each cell of 4x4 pixels of lumas[params.now], h x w, was in lumas[params.before].
 * returns  f32 [1,h/4,w/4,4], rounded up: (dx, dy) to there in pixels, what does not fit, 0
 */
struct l2d_tensor l2d_flow(struct l2d_graph *graph, struct l2d_tensor lumas,
                           struct l2d_tensor params, int32_t h, int32_t w);

/**
 * The picture, which up to params.share of what `last` has where it was replaces: less where the
 * source does not look as it did there, and not what nothing around it is like. See steady.comp.
 * picture, last, and what is returned: f32 [1,H,W,4] in [-1,1], fourth channel 0
 */
struct l2d_tensor l2d_steady(struct l2d_graph *graph, struct l2d_tensor picture,
                             struct l2d_tensor last, struct l2d_tensor lumas,
                             struct l2d_tensor params, struct l2d_tensor flow);

/** last f32 [1,H,W,4], its pixels where the source's have gone; params.share does not count. */
struct l2d_tensor l2d_move(struct l2d_graph *graph, struct l2d_tensor last, struct l2d_tensor lumas,
                           struct l2d_tensor params, struct l2d_tensor flow);

/**
 * Codec input: its range, and pixel-unshuffle by patch (torch's channel order), channels padded to
 * a multiple of 4 with zeros. images: n f32 [1,H,W,4] -> T [n,H/patch,W/patch,pad4(3*patch^2)].
 */
struct l2d_tensor l2d_image_pack(struct l2d_graph *graph, const struct l2d_tensor *images,
                                 int32_t n, int32_t patch, enum l2d_range range);

/**
 * Codec output T [1,H/patch,W/patch,>=3*patch^2] in that range -> f32 [1,H,W,4], clamped to [-1,1].
 */
struct l2d_tensor l2d_image_unpack(struct l2d_graph *graph, struct l2d_tensor x, int32_t patch,
                                   enum l2d_range range);

// ---- latents: always f32 in a ring, [ring,h,w,c] -----------------------------------------------

/**
 * ring[rows[0].ring] = a * scale * z + b * noise(frame, step 0); z is [1,h,w,c] T.
 * origin   f32, a ring too, that keeps scale * z; or L2D_NO_TENSOR
 */
void l2d_latent_noise(struct l2d_graph *graph, struct l2d_tensor z, float scale,
                      struct l2d_tensor ring, struct l2d_tensor rows, struct l2d_tensor origin);

/** Gather the rows' latents: T [num_rows,h,w,c]. */
struct l2d_tensor l2d_latent_load(struct l2d_graph *graph, struct l2d_tensor ring,
                                  struct l2d_tensor rows, int32_t num_rows);

// Guidance: x0 becomes other + scale (x0 - other), where other is
//   negative alone         what the negative prompt's prediction gives
//   origin alone           what delta times the noise gives that separates x from the origin
//   both                   the same, but rows of step 0 first take their origin from the negative
//                          prompt and write it; negative may then have fewer rows, if those behind
//                          them are of later steps
struct l2d_guide {
    float scale, delta;
    struct l2d_tensor negative;         // T [num_rows,h,w,c] or L2D_NO_TENSOR
    struct l2d_tensor origin;           // f32, a ring like it, or L2D_NO_TENSOR
};

/**
 * The LCM step of each active row, in place in the ring, with what the denoiser predicts:
 * x0 = c_out (x - pred_b pred) / pred_a + c_skip x; then the ring has x0 itself if is_last, else
 * a_next x0 + b_next noise(frame, step + 1).
 * x0       f32 [num_rows,h,w,c]: also written there if it exists (probes), or L2D_NO_TENSOR
 * guide    NULL: no guidance
 */
void l2d_lcm_step(struct l2d_graph *graph, struct l2d_tensor pred, struct l2d_tensor ring,
                  struct l2d_tensor rows, struct l2d_tensor x0, const struct l2d_guide *guide);

/** Decoder input of rows[0]: 3 tanh(z / (3 scale)), T [1,h,w,c]. */
struct l2d_tensor l2d_latent_decode(struct l2d_graph *graph, struct l2d_tensor ring,
                                    struct l2d_tensor rows, float scale);

#endif
