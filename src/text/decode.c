#include <string.h>

#include "text/tokenizer.h"

/* The token's bytes as text: marks of spaces are spaces, <0x41> is a byte. */
static void add_code_points(const struct tokenizer *t, uint32_t id, const char *bytes, uint32_t n,
                            struct text_bytes *out)
{
    static const char mark[] = "\xe2\x96\x81";
    for (uint32_t b = 0; t->bpe.falls_back && n == 6 && b < 256; b++)
        if (t->bpe.byte[b] == id) {
            const char byte = (char)b;
            text_bytes_add(out, &byte, 1);
            return;
        }
    for (const char *end = bytes + n; bytes < end;) {
        const char *hit = memmem(bytes, (size_t)(end - bytes), mark, 3);
        text_bytes_add(out, bytes, (size_t)((hit ? hit : end) - bytes));
        if (hit)
            text_bytes_add(out, " ", 1);
        bytes = hit ? hit + 3 : end;
    }
}

void tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, size_t n, bool skip_specials,
                      struct text_bytes *out)
{
    const size_t first = out->n;
    for (size_t i = 0; i < n; i++) {
        uint32_t length;
        const char *bytes = vocabulary_bytes(&t->bpe.vocabulary, ids[i], &length);
        if (!bytes || (skip_specials && t->special[ids[i]]))
            continue;
        if (t->normalized[ids[i]]) {
            bytes = t->normal.at[t->normalized[ids[i]] - 1].text;
            length = t->normal.at[t->normalized[ids[i]] - 1].length;
        }
        if (t->bpe.bytes)
            text_bytes_add(out, bytes, length);
        else
            add_code_points(t, ids[i], bytes, length, out);
    }
    if (t->strips_first_space && out->n > first && out->at[first] == ' ') {
        memmove(out->at + first, out->at + first + 1, out->n - first - 1);
        out->n--;
    }
}
