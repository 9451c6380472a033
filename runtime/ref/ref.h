// SPDX-License-Identifier: Apache-2.0
// The networks' operations in plain C: slow, obvious, sums in double. What the GPU is tested
// against; it knows nothing of the GPU and needs libm and, of base, light.h. Layout is NHWC as in
// kernels.h, every array is f32, and outputs never overlap inputs. Optional operands are NULL.
#ifndef L2D_REF_REF_H
#define L2D_REF_REF_H

#include <stdbool.h>
#include <stdint.h>

struct l2d_light;

enum l2d_ref_act { L2D_REF_NONE, L2D_REF_SILU, L2D_REF_RELU, L2D_REF_GELU, L2D_REF_QUICK_GELU,
                   L2D_REF_GEGLU };

double l2d_ref_activate(double x, enum l2d_ref_act act);

struct l2d_ref_conv {
    int rows, h, w;             // of the input
    int c0, c1, cout;           // c1 = 0: no x2. cout counts weights' channels, also with GEGLU
    int ksize;                  // odd
    bool stride2, upsample;     // at most one of them
    bool pad_same;              // TensorFlow's SAME, else ksize/2 all round; not with upsample
    bool relu_in;               // of relu(x), relu(x2)
    bool x2_one;                // x2 is [rows,c1]: one pixel for all
    enum l2d_ref_act act;
    bool act_after_residual;
    const float *x, *x2;        // [rows,h,w,c0], [rows,h,w,c1]
    const float *weight;        // [cout,c0+c1,ksize,ksize], as PyTorch has it
    const float *bias;          // optional [cout]
    const float *row_bias;      // optional [rows,cout], added before the activation
    const float *residual;      // optional, of y's shape
};

/** Output size and channels. */
void l2d_ref_conv_shape(const struct l2d_ref_conv *p, int *oh, int *ow, int *c);

/** y [rows,oh,ow,c]. */
void l2d_ref_conv(float *y, const struct l2d_ref_conv *p);

/** y [rows,pixels,c0+c1] = act(GroupNorm of [x,x2] + residual); residual is optional. */
void l2d_ref_group_norm(float *y, const float *x, const float *x2, const float *weight,
                        const float *bias, const float *residual, int rows, int pixels, int c0,
                        int c1, int groups, double eps, enum l2d_ref_act act);

/** y [tokens,c]. */
void l2d_ref_layer_norm(float *y, const float *x, const float *weight, const float *bias,
                        int tokens, int c, double eps);

struct l2d_ref_attention {
    int rows, queries, keys, heads, c;
    int q_channels, q_first;            // q [rows,queries,q_channels]
    int kv_channels, k_first, v_first;  // kv [rows or 1,keys,kv_channels]
    bool kv_shared, causal;
    const float *q, *kv;
};

/** y [rows,queries,c]. */
void l2d_ref_attention(float *y, const struct l2d_ref_attention *p);

struct l2d_ref_temporal_row {
    bool active;
    int step, kv_slot, own_pos, num_open;
};

/**
 * x [count] as a cache of bytes holds it: byte [count], each times the step that is returned, which
 * is max |x| / 127, rounded up to a float whose lower 16 bits are 0.
 */
float l2d_ref_quantize(int8_t *byte, const float *x, int count);

/**
 * See l2d_temporal_attention of kernels.h. qkv [rows,pixels,3c], pos [16,3c], cache
 * [steps,pixels,16,2c] (updated), y [rows,pixels,c] (0 in rows that are not active). int8: what is
 * written to the cache is what a cache of bytes would hold.
 */
void l2d_ref_temporal_attention(float *y, float *cache, const float *qkv, const float *pos,
                                const struct l2d_ref_temporal_row *row, int rows, int pixels,
                                int heads, int c, bool warmup, bool int8);

/** x [rows,h,w,c] -> y [rows,(h+1)/2,(w+1)/2,c]: 3x3, stride 2, padded as TensorFlow's SAME. */
void l2d_ref_max_pool(float *y, const float *x, int rows, int h, int w, int c);

/** x [rows,h,w,c] -> y [rows,oh,ow,c], bilinear as PyTorch's interpolate; add is optional. */
void l2d_ref_resize(float *y, const float *x, const float *add, int rows, int h, int w, int c,
                    int oh, int ow, bool align_corners);

struct l2d_ref_tile {
    int left, top, w, h;
    int fade_left, fade_right, fade_top, fade_bottom;
};

/** A tile of x [rows,whole_h,whole_w,c] -> y; a tile x into y, added to what is shared. */
void l2d_ref_tile_cut(float *y, const float *x, int rows, int whole_h, int whole_w, int c,
                      const struct l2d_ref_tile *tile);
void l2d_ref_tile_paste(float *y, const float *x, int rows, int whole_h, int whole_w, int c,
                        const struct l2d_ref_tile *tile);

/** depth [count]; range {low, high, valid} is replaced, or where valid follows by rate < 1. */
void l2d_ref_depth_range(float range[3], const float *depth, long count, double rate);

/** depth [side,side] -> picture [h,w,4], fourth channel 0. */
void l2d_ref_depth_structure(float *picture, const float *depth, const float range[3], int side,
                             int h, int w);

/** rgb [h,w,4] in [-1,1] -> the structure map, [h,w,4], fourth channel 0. */
void l2d_ref_luma_structure(float *map, const float *rgb, int h, int w);

/** <p,x>, <p,p>, <x,x> over the first three channels of two pictures [pixels,4]. */
void l2d_ref_similar(double sum[3], const float *p, const float *x, int pixels);

/** rgb [h,w,4] in [-1,1] -> its luminance pyramid, 0..255, finest level first. returns its size. */
long l2d_ref_pyramid(float *luma, const float *rgb, int h, int w);

/** Two pyramids -> flow [(h+3)/4,(w+3)/4,4]: dx, dy to where it was, what does not fit, 0. */
void l2d_ref_flow(float *flow, const float *now, const float *before, int h, int w);

/** See l2d_steady of kernels.h; now, before: pyramids. */
void l2d_ref_steady(float *out, const float *picture, const float *last, const float *now,
                    const float *before, const float *flow, int h, int w, double share);

/** See l2d_move. */
void l2d_ref_move(float *out, const float *last, const float *now, const float *before,
                  const float *flow, int h, int w);

/** image [h,w,4] -> x [h/patch,w/patch,channels], in [0,1] if unit, else in [-1,1]; and back. */
void l2d_ref_image_pack(float *x, const float *image, int h, int w, int patch, int channels,
                        bool unit);
void l2d_ref_image_unpack(float *image, const float *x, int h, int w, int patch, int channels,
                          bool unit);

/** x0 of a consistency step, and the latent with the next step's noise: see lcm_step.comp. */
struct l2d_ref_lcm {
    double pred_a, pred_b, c_skip, c_out, a_next, b_next;
    bool is_last;
    double a, guidance, delta;          // for guidance
    bool is_first;                      // takes its origin from negative
};
/** negative, origin: NULL, or what guidance moves away from; see struct l2d_guide. */
void l2d_ref_lcm_step(float *x, float *x0, const float *pred, const float *noise, int count,
                      const struct l2d_ref_lcm *p, const float *negative, float *origin);

/** y = 3 tanh(z / (3 scale)). */
void l2d_ref_latent_decode(float *y, const float *z, int count, double scale);

/** Keys' cubic with a = -1/2, at distance d. */
double l2d_ref_catmull_rom(double d);

/** A picture [h,w,4] by that cubic as y [oh,ow,4], clamped to [-1,1]; edges repeated. */
void l2d_ref_enlarge(float *y, const float *picture, int h, int w, int oh, int ow);

// A component of a stored picture, one number a sample, its sampling and where sample 0 lies.
struct l2d_ref_plane {
    const uint16_t *code;       // [h][w]
    int w, h;
    double step_x, step_y;      // luma pixels per sample
    double zero_x, zero_y;      // luma position of sample 0's centre
    double max;                 // code of 1
};

struct l2d_ref_color_in {
    int width, height, rotation;        // quarter turns
    int num_components;
    struct l2d_ref_plane plane[3];
    int canvas_w, canvas_h;
    double scale_x, scale_y, origin_x, origin_y;
    const float *to_rgb;                // [12]
    const struct l2d_light *light;      // NULL: SDR
};

/** canvas [canvas_h,canvas_w,4]. */
void l2d_ref_color_in(float *canvas, const struct l2d_ref_color_in *p);

struct l2d_ref_color_out {
    bool i420;
    int width, height, canvas_w, canvas_h, crop_x, crop_y, x0, y0, x1, y1;
    const float *from_rgb;              // [12]
    const float *under;                 // NULL, or [canvas_h,canvas_w,4], in [0,1]
    const unsigned char *mask;          // NULL, or [height,width]
    double mix;
};

/** Unrounded codes of one component, [h][w] of its plane. */
void l2d_ref_color_out(double *code, const float *canvas, int component,
                       const struct l2d_ref_color_out *p);

#endif
