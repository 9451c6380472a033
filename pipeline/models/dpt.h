// SPDX-License-Identifier: Apache-2.0
// DPT-hybrid, the depth network, with free sizes: a ResNetV2 trunk whose weights are standardised,
// a ViT on its last map, and a decoder that fuses four taps. Larger is nearer; the scale is
// arbitrary. Source: Ranftl et al., "Vision transformers for dense prediction" (2021),
// isl-org/MiDaS (MIT); names are those of dpt_hybrid_384.pt.
#ifndef L2D_PIPELINE_MODELS_DPT_H
#define L2D_PIPELINE_MODELS_DPT_H

#include "pipeline/config.h"
#include "pipeline/models/weights.h"

#define L2D_DPT_LEVELS 4            // of the decoder; level 0 has the largest map
#define L2D_DPT_MAX_ROWS 4          // pictures at a time: more of them would only take more memory

struct l2d_dpt_bottleneck {
    struct l2d_conv conv1, conv2, conv3, downsample_conv;
    struct l2d_norm norm1, norm2, norm3, downsample_norm;
    bool stride2;
};

struct l2d_dpt_layer {              // of the ViT
    struct l2d_norm norm1, norm2;
    struct l2d_conv qkv, proj, fc1, fc2;
};

struct l2d_dpt_unit {               // x + conv2(relu(conv1(relu(x))))
    struct l2d_conv conv1, conv2;
};

struct l2d_dpt {
    struct l2d_dpt_config config;
    struct l2d_conv stem_conv;
    struct l2d_norm stem_norm;
    struct l2d_dpt_bottleneck stage[3][L2D_MAX_STAGE_BLOCKS];
    struct l2d_conv patch_proj;
    struct l2d_tensor cls_token;    // T [1,1,1,C] with its position added
    struct l2d_tensor pos_embed;    // T [MAX_ROWS,n,n,C] of the other tokens, the same in each row
    struct l2d_dpt_layer layer[L2D_MAX_VIT_LAYERS];
    struct l2d_conv readout[2], reassemble[2], reduce;      // act_postprocess3 and 4
    struct l2d_conv layer_rn[L2D_DPT_LEVELS], out_conv[L2D_DPT_LEVELS];
    struct l2d_dpt_unit unit1[L2D_DPT_LEVELS], unit2[L2D_DPT_LEVELS];
    struct l2d_conv output_conv[3];
};

/** Declare the weights. */
void l2d_dpt_load(struct l2d_dpt *dpt, struct l2d_weights *ld, const struct l2d_dpt_config *config);

/** A picture f32 [1,H,W,4], RGB in [-1,1], of any size, as the network sees it: T [1,S,S,4], S is
    input_size. */
struct l2d_tensor l2d_dpt_input(struct l2d_graph *graph, const struct l2d_dpt *dpt,
                                struct l2d_tensor picture);

/**
 * input T [R,S,S,4], R at most L2D_DPT_MAX_ROWS -> depths in maps[rows[r].ring], channel 0.
 * maps     persistent T [ring,S,S,4]
 */
void l2d_dpt_record(struct l2d_graph *graph, const struct l2d_dpt *dpt, struct l2d_tensor input,
                    struct l2d_tensor rows, struct l2d_tensor maps);

#endif
