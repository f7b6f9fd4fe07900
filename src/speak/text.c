#include "speak/text.h"

#include <string.h>

/* C0 and C1 but line end and tab; marks that turn the direction of what follows (Unicode Standard Annex 9), which can make a text look
 * like another one. */
static bool is_obeyed(uint32_t c)
{
    return (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

void speak_printable(const char *text, size_t n, struct text_bytes *out)
{
    struct text_bytes good = { 0 };
    utf8_repair(text, n, &good);
    text_bytes_add(&good, "", 1); /* there is a block */
    for (const char *at = good.at, *end = at + good.n - 1; at < end;) {
        const char *first = at;
        const uint32_t c = utf8_next(&at);
        char code[12];
        if (is_obeyed(c))
            text_bytes_add(out, code, (size_t)snprintf(code, sizeof code, c < 0x100 ? "\\x%02x" : "\\u%04x", c));
        else
            text_bytes_add(out, first, (size_t)(at - first));
    }
    text_bytes_free(&good);
}

/* Bytes at the end that may be the begin of a character. */
static size_t unfinished(const char *text, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const unsigned char c = (unsigned char)text[n - back];
        const size_t needs = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 0;
        if (needs)
            return needs > back ? back : 0;
        if (c < 0x80)
            return 0;
    }
    return 0;
}

static void decode(struct speak_text *s)
{
    s->text.n = 0;
    if (s->t)
        tokenizer_decode(s->t, s->ids.at, s->ids.n, true, &s->text);
    for (uint32_t i = 0; !s->t && i < s->ids.n; i++)
        text_bytes_add(&s->text, &(char){ (char)s->ids.at[i] }, 1);
}

static void show(struct speak_text *s, size_t end)
{
    struct text_bytes out = { 0 };
    if (end <= s->shown)
        return;
    if (s->terminal)
        speak_printable(s->text.at + s->shown, end - s->shown, &out);
    else
        text_bytes_add(&out, s->text.at + s->shown, end - s->shown);
    fwrite(out.at, 1, out.n, s->to);
    fflush(s->to);
    s->shown = end;
    text_bytes_free(&out);
}

void speak_text_begin(struct speak_text *s, const uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        vec_add(&s->ids, ids[i]);
    decode(s);
    s->shown = s->text.n;
}

void speak_text_add(struct speak_text *s, uint32_t id)
{
    vec_add(&s->ids, id);
    decode(s);
    show(s, s->text.n - unfinished(s->text.at, s->text.n));
}

void speak_text_end(struct speak_text *s)
{
    show(s, s->text.n);
    vec_free(&s->ids);
    text_bytes_free(&s->text);
}
