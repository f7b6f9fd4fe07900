#include <string.h>

#include "text/tokenizer.h"

static const char mark[] = "\xe2\x96\x81"; /* stands for a space */
enum { MARK = 3 };

/* The byte of a token as <0x41>, or -1. */
static int byte_of(const struct tokenizer *t, uint32_t id, uint32_t n)
{
    for (int b = 0; t->bpe.falls_back && n == 6 && b < 256; b++)
        if (t->bpe.byte[b] == id)
            return b;
    return -1;
}

/* The token's bytes as text: marks of spaces are spaces, <0x41> is a byte. */
static void add_code_points(const struct tokenizer *t, uint32_t id, const char *bytes, uint32_t n,
                            struct text_bytes *out)
{
    const int b = byte_of(t, id, n);
    if (b >= 0) {
        const char byte = (char)b;
        text_bytes_add(out, &byte, 1);
        return;
    }
    for (const char *end = bytes + n; bytes < end;) {
        const char *hit = memmem(bytes, (size_t)(end - bytes), mark, MARK);
        text_bytes_add(out, bytes, (size_t)((hit ? hit : end) - bytes));
        if (hit)
            text_bytes_add(out, " ", 1);
        bytes = hit ? hit + MARK : end;
    }
}

/* As sentencepiece does it: what it puts before a text goes, of each piece one space until a text has begun; the unknown piece is a text of
 * its own. Control tokens have their names, which that library drops. */
static void decode_pieces(const struct tokenizer *t, const uint32_t *ids, size_t n, bool skip_specials,
                          struct text_bytes *out)
{
    const struct sentencepiece *s = t->pieces;
    const size_t first = out->n;
    bool strips = s->adds_space || s->trims;
    for (size_t i = 0; i < n; i++) {
        uint32_t length;
        const char *bytes = vocabulary_bytes(&t->bpe.vocabulary, ids[i], &length);
        if (!bytes || (skip_specials && t->special[ids[i]]))
            continue;
        const enum piece_kind kind = s->kind[ids[i]];
        strips = strips && out->n == first;
        if (kind == PIECE_UNKNOWN) {
            text_bytes_add(out, s->unknown, strlen(s->unknown));
            continue;
        }
        if (kind != PIECE_CONTROL && strips && length >= MARK && memcmp(bytes, mark, MARK) == 0) {
            bytes += MARK;
            length -= MARK;
            strips = s->trims;
        }
        add_code_points(t, ids[i], bytes, length, out);
    }
}

void tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, size_t n, bool skip_specials,
                      struct text_bytes *out)
{
    const size_t first = out->n;
    if (t->pieces) {
        decode_pieces(t, ids, n, skip_specials, out);
        return;
    }
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
