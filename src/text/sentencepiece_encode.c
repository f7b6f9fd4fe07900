/* A text to its normal form, and that to pieces. */
#include <string.h>

#include "text/sentencepiece.h"

static const char mark[] = "\xe2\x96\x81"; /* stands for a space */
enum { MARK = 3 };

/* ---- normal form ---- */

static void add_space(const struct sentencepiece *s, struct text_bytes *out)
{
    text_bytes_add(out, s->escapes ? mark : " ", s->escapes ? MARK : 1);
}

static void add_escaped(const struct sentencepiece *s, const char *text, size_t n, struct text_bytes *out)
{
    const char *end = text + n;
    for (const char *hit; s->escapes && (hit = memchr(text, ' ', (size_t)(end - text))); text = hit + 1) {
        text_bytes_add(out, text, (size_t)(hit - text));
        add_space(s, out);
    }
    text_bytes_add(out, text, (size_t)(end - text));
}

/* What the text begins with, as it is or replaced: *to. Its length in the text. */
static size_t next_part(const struct sentencepiece *s, const char *text, const char *end, const char **to, size_t *n_to)
{
    uint32_t id;
    const char *behind = text;
    size_t n = trie_longest(&s->user, text, end, &id);
    if (n == 0 && (n = charsmap_find(&s->map, text, end, to, n_to)))
        return n;
    utf8_next(&behind);
    *to = text;
    *n_to = n ? n : (size_t)(behind - text);
    return *n_to;
}

void sentencepiece_normalize(const struct sentencepiece *s, const char *text, size_t n, bool continued,
                             struct text_bytes *out)
{
    const char *end = text + n, *to = NULL;
    size_t n_to = 0;
    const size_t first = out->n;
    while (s->trims && text < end) {
        const size_t part = next_part(s, text, end, &to, &n_to);
        if (n_to != 1 || *to != ' ')
            break;
        text += part;
    }
    if (text == end)
        return;
    if (s->adds_space && !s->suffix && !continued)
        add_space(s, out);
    if (!s->trims && !s->map.unit) { /* spaces are all that changes */
        add_escaped(s, text, (size_t)(end - text), out);
    } else {
        for (bool space = s->trims; text < end;) {
            text += next_part(s, text, end, &to, &n_to);
            for (; space && n_to && *to == ' '; n_to--)
                to++;
            add_escaped(s, to, n_to, out);
            space = n_to ? s->trims && to[n_to - 1] == ' ' : space;
        }
        const char *last = s->escapes ? mark : " ";
        const size_t width = s->escapes ? MARK : 1;
        while (s->trims && out->n - first >= width && memcmp(out->at + out->n - width, last, width) == 0)
            out->n -= width;
    }
    if (s->adds_space && s->suffix)
        add_space(s, out);
}

/* ---- pieces ---- */

/* What unigram_encode() gives, on its way to tokens. */
struct giving {
    const struct bpe *b;
    struct token_ids *out;
    bool unknown; /* the token before was the unknown one */
};

static void give(void *arg, const char *text, struct unigram_piece piece)
{
    struct giving *g = arg;
    const bool strange = piece.id == TRIE_NONE, bytes = strange && g->b->falls_back;
    for (uint32_t i = 0; bytes && i < piece.length; i++)
        vec_add(g->out, g->b->byte[(unsigned char)text[i]]);
    if (strange && !bytes && !g->unknown)
        vec_add(g->out, g->b->unknown);
    if (!strange)
        vec_add(g->out, piece.id);
    g->unknown = strange;
}

/* Merges what lies between the user's symbols. */
static void encode_bpe(const struct sentencepiece *s, struct bpe_words *words, const char *text, size_t n,
                       struct token_ids *out)
{
    const char *from = text, *end = text + n;
    for (const char *p = text; !trie_is_empty(&s->user) && p < end;) {
        uint32_t id = 0;
        const size_t length = trie_longest(&s->user, p, end, &id);
        if (length == 0) {
            utf8_next(&p);
            continue;
        }
        bpe_encode(words, from, (size_t)(p - from), out);
        vec_add(out, id);
        from = p += length;
    }
    bpe_encode(words, from, (size_t)(end - from), out);
}

void sentencepiece_encode(const struct sentencepiece *s, struct sentencepiece_scratch *w, const char *text, size_t n,
                          bool continued, struct token_ids *out)
{
    w->normal.n = 0;
    sentencepiece_normalize(s, text, n, continued, &w->normal);
    struct giving g = { .b = s->b, .out = out };
    if (s->is_unigram)
        unigram_encode(&s->unigram, &w->path, w->normal.at, w->normal.n, give, &g);
    else
        encode_bpe(s, w->words, w->normal.at, w->normal.n, out);
}

void sentencepiece_scratch_free(struct sentencepiece_scratch *w)
{
    text_bytes_free(&w->normal);
    unigram_path_free(&w->path);
}
