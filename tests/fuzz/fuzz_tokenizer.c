// SPDX-License-Identifier: Apache-2.0
// vocab.json, merges.txt, a prompt and perhaps added_tokens.json, with zero bytes between them.
#include "fuzz.h"

#include <string.h>

#include "pipeline/models/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *part[4] = { data, NULL, NULL, NULL };
    size_t len[4] = { size, 0, 0, 0 };
    for (int i = 0; i < 3; i++) {
        const uint8_t *zero = part[i] ? memchr(part[i], 0, len[i]) : NULL;
        if (!zero)
            break;
        part[i + 1] = zero + 1;
        len[i + 1] = len[i] - (size_t) (zero + 1 - part[i]);
        len[i] = (size_t) (zero - part[i]);
    }
    char vocab[64], merges[64], added[64];
    int a = fuzz_file(vocab, part[0], len[0]);
    int b = fuzz_file(merges, part[1] ? part[1] : data, len[1]);
    int c = fuzz_file(added, part[3] ? part[3] : data, len[3]);
    struct l2d_tokenizer *tok = NULL;
    struct l2d_error err;
    if (l2d_tokenizer_create(&tok, vocab, merges, &err) == L2D_OK && part[2]) {
        char *prompt = malloc(len[2] + 1);
        int32_t ids[77];
        int used, dropped;
        if (!prompt)
            abort();
        if (part[3])
            l2d_tokenizer_read_added(tok, added, &err);
        memcpy(prompt, part[2], len[2]);
        prompt[len[2]] = '\0';
        l2d_tokenizer_encode(tok, prompt, 77, ids, &used, &dropped, &err);
        free(prompt);
    }
    l2d_tokenizer_destroy(&tok);
    close(a);
    close(b);
    close(c);
    return 0;
}
