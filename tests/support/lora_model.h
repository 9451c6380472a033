// SPDX-License-Identifier: Apache-2.0
// The model narrow4 of tests/data as an import's files, with LoRAs for it, and what import makes of
// them. Failures are Criterion assertions.
#ifndef L2D_TESTS_LORA_MODEL_H
#define L2D_TESTS_LORA_MODEL_H

#include <stdbool.h>

#include "pipeline/import/import.h"
#include "support/golden_model.h"

#define LORA_MODEL_LORAS 2              // "ink": all kinds of weights, f16; "neon": attention, f32

struct lora_model {
    struct golden_model golden;
    char dir[64];                       // temporary; all below is in it
    char base[128], vae[128], lora[LORA_MODEL_LORAS][128];
};

/** Files of the base, whose weights fp16 does not hold exactly, and of the LoRAs. */
void lora_model_make(struct lora_model *model);

/** Remove them, and all folders made. */
void lora_model_remove(struct lora_model *model);

/**
 * Import them.
 * name     of the folder within dir, whose path out gets
 * scale    [LORA_MODEL_LORAS]
 * kept     how many of the LoRAs are kept apart, the last ones; the others are added
 */
void lora_model_import(const struct lora_model *model, const char *name, const float *scale,
                       int kept, char out[128]);

#endif
