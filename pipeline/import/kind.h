// SPDX-License-Identifier: Apache-2.0
// What a file of weights is, told by the names in it: for people who do not know any more.
#ifndef L2D_PIPELINE_IMPORT_KIND_H
#define L2D_PIPELINE_IMPORT_KIND_H

#include <stdbool.h>

#include "tensor/checkpoint.h"

struct l2d_kind {
    const char *what;           // "a LoRA"
    const char *use;            // how import takes it: "--lora FILE:SCALE"; NULL: it does not
    bool has_unet;              // or a part of one
};

struct l2d_kind l2d_kind_of(const struct l2d_checkpoint *checkpoint);

#endif
