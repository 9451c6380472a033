// SPDX-License-Identifier: Apache-2.0
// Prompts, in every syntax: shares sum to 1, and weights are within their bounds.
#include "fuzz.h"

#include <math.h>
#include <string.h>

#include "pipeline/prompt.h"

static void read_shares(const char *text)
{
    double share[L2D_PROMPT_MAX_PARTS], sum = 0;
    struct l2d_error err;
    int num;
    if (l2d_prompt_parse_shares(share, &num, text, &err) != L2D_OK)
        return;
    for (int i = 0; i < num; i++)
        sum += share[i];
    if (!(fabs(sum - 1) <= 1e-6))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    read_shares(text);
    for (int syntax = L2D_PROMPT_NUMBERS; syntax <= L2D_PROMPT_PLAIN; syntax++) {
        struct l2d_prompt prompt = { 0 };
        struct l2d_error err;
        double sum = 0;
        if (l2d_prompt_parse(&prompt, "a (painting:1.1) of {}", text,
                             (enum l2d_prompt_syntax) syntax, &err) != L2D_OK)
            continue;
        for (int i = 0; i < prompt.num_parts; i++) {
            sum += prompt.part[i].share;
            for (size_t c = 0; c < strlen(prompt.part[i].text); c++)
                if (!(prompt.part[i].weight[c] >= 0))
                    abort();
        }
        if (fabs(sum - 1) > 1e-6)
            abort();
        l2d_prompt_finish(&prompt);
    }
    free(text);
    return 0;
}
