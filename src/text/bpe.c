#include "text/bpe.h"

#include <string.h>

#include "base/number.h"

enum { SHORT = 48 /* symbols: below, looking at all pairs costs less than a heap */ };

/* Words met before, by their hash; a new one takes the place of the old. Two cache lines would cost more than they save. */
enum { WORDS = 1 << 15, WORD_BYTES = 30, WORD_TOKENS = 8 };
struct word {
    uint8_t length, n;
    char bytes[WORD_BYTES];
    uint32_t token[WORD_TOKENS];
};

struct symbol {
    uint32_t token, before, after; /* indices; UINT32_MAX at the ends; token VOCABULARY_NONE: merged away */
};
struct candidate {
    uint32_t rank, at, left, right; /* of symbols at the time: it is out of date when they are others */
    uint32_t made;
};

struct bpe_words {
    const struct bpe *b;
    struct word *word;
    struct {
        VEC(struct symbol);
    } symbols;
    struct {
        VEC(struct candidate);
    } heap;
};

/* ---- merges ---- */

static struct bpe_merge *slot_of(const struct bpe *b, uint64_t pair)
{
    for (uint64_t h = number_mix(pair);; h++) {
        struct bpe_merge *m = &b->merge[h & (b->n_slots - 1)];
        if (m->pair == pair || m->pair == UINT64_MAX)
            return m;
    }
}

static uint64_t pair_of(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 32 | right;
}

void bpe_reserve(struct bpe *b, uint32_t n)
{
    b->n_slots = 16;
    while (b->n_slots / 2 < n)
        b->n_slots *= 2;
    b->merge = mem_alloc(b->n_slots * sizeof *b->merge);
    for (uint32_t i = 0; i < b->n_slots; i++)
        b->merge[i].pair = UINT64_MAX;
}

bool bpe_add_merge(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank, uint32_t made)
{
    struct bpe_merge *m = slot_of(b, pair_of(left, right));
    if (m->pair != UINT64_MAX)
        return false;
    *m = (struct bpe_merge){ pair_of(left, right), rank, made };
    return true;
}

void bpe_free(struct bpe *b)
{
    vocabulary_free(&b->vocabulary);
    mem_free(b->merge);
    vec_free(&b->before_space);
}

static const struct bpe_merge *merge_of(const struct bpe *b, uint32_t left, uint32_t right)
{
    if (b->n_slots == 0)
        return NULL;
    const struct bpe_merge *m = slot_of(b, pair_of(left, right));
    return m->pair == UINT64_MAX ? NULL : m;
}

void bpe_finish(struct bpe *b)
{
    static const char mark[] = "\xe2\x96\x81";
    if (b->bytes)
        return;
    b->cuts = b->falls_back;
    for (uint32_t i = 0; i < 256; i++)
        b->cuts = b->cuts && b->byte[i] != VOCABULARY_NONE;
    for (uint32_t id = 0; id < b->vocabulary.n; id++) {
        uint32_t n;
        const char *t = vocabulary_bytes(&b->vocabulary, id, &n);
        if (!t)
            continue;
        for (const char *p = t, *end = t + n; (p = memmem(p, (size_t)(end - p), mark, 3)); p += 3)
            if (p > t) {
                const char *before = utf8_back(p);
                const uint32_t c = utf8_next(&before);
                unicode_set_add(&b->before_space, c, c);
            }
    }
    unicode_set_has(&b->before_space, 0); /* sorts */
}

/* ---- symbols ---- */

static void add_symbol(struct bpe_words *w, uint32_t token)
{
    vec_add(&w->symbols, ((struct symbol){ token, 0, 0 }));
}

/* A code point without a token of its own. *unknown: one that waits whether more follow. */
static void add_strange(struct bpe_words *w, const char *p, uint32_t n, uint32_t *unknown)
{
    const struct bpe *b = w->b;
    bool all = b->falls_back;
    for (uint32_t i = 0; i < n && all; i++)
        all = b->byte[(uint8_t)p[i]] != VOCABULARY_NONE;
    for (uint32_t i = 0; i < n && all; i++)
        add_symbol(w, b->byte[(uint8_t)p[i]]);
    if (all || b->unknown == VOCABULARY_NONE)
        return;
    if (*unknown != VOCABULARY_NONE && !b->fuse_unknown)
        add_symbol(w, b->unknown);
    *unknown = b->unknown;
}

static void split(struct bpe_words *w, const char *word, size_t n)
{
    const struct bpe *b = w->b;
    uint32_t unknown = VOCABULARY_NONE;
    w->symbols.n = 0;
    for (const char *p = word, *end = word + n; p < end;) {
        const char *first = p;
        uint32_t token;
        if (b->bytes)
            token = b->byte[(uint8_t)*p++];
        else
            utf8_next(&p), token = vocabulary_find(&b->vocabulary, first, (size_t)(p - first));
        if (token == VOCABULARY_NONE) {
            add_strange(w, first, (uint32_t)(p - first), &unknown);
            continue;
        }
        if (unknown != VOCABULARY_NONE)
            add_symbol(w, unknown);
        unknown = VOCABULARY_NONE;
        add_symbol(w, token);
    }
    if (unknown != VOCABULARY_NONE)
        add_symbol(w, unknown);
}

/* ---- merging ---- */

/* All pairs are looked at for each merge; ranks[i] is that of symbols i and i + 1. */
static void merge_short(const struct bpe *b, struct symbol *s, uint32_t *n)
{
    const struct bpe_merge *m[SHORT];
    for (uint32_t i = 0; i + 1 < *n; i++)
        m[i] = merge_of(b, s[i].token, s[i + 1].token);
    for (;;) {
        uint32_t best = UINT32_MAX, at = 0;
        for (uint32_t i = 0; i + 1 < *n; i++)
            if (m[i] && m[i]->rank < best) {
                best = m[i]->rank;
                at = i;
            }
        if (best == UINT32_MAX)
            return;
        s[at].token = m[at]->made;
        --*n;
        for (uint32_t i = at + 1; i < *n; i++) {
            s[i] = s[i + 1];
            m[i - 1] = m[i];
        }
        if (at > 0)
            m[at - 1] = merge_of(b, s[at - 1].token, s[at].token);
        if (at + 1 < *n)
            m[at] = merge_of(b, s[at].token, s[at + 1].token);
    }
}

static bool goes_before(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct bpe_words *w, uint32_t at)
{
    const struct symbol *s = w->symbols.at;
    if (at == UINT32_MAX || s[at].after == UINT32_MAX)
        return;
    const uint32_t right = s[s[at].after].token;
    const struct bpe_merge *m = merge_of(w->b, s[at].token, right);
    if (!m)
        return;
    uint32_t i = w->heap.n;
    const struct candidate c = { m->rank, at, s[at].token, right, m->made };
    vec_add(&w->heap, c);
    for (; i > 0 && goes_before(&c, &w->heap.at[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap.at[i] = w->heap.at[(i - 1) / 2];
    w->heap.at[i] = c;
}

static struct candidate heap_pop(struct bpe_words *w)
{
    struct candidate *h = w->heap.at;
    const struct candidate top = h[0], last = h[--w->heap.n];
    const uint32_t n = w->heap.n;
    uint32_t i = 0;
    for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && goes_before(&h[child + 1], &h[child]))
            child++;
        if (!goes_before(&h[child], &last))
            break;
        h[i] = h[child];
    }
    h[i] = last;
    return top;
}

static void merge_long(struct bpe_words *w)
{
    struct symbol *s = w->symbols.at;
    const uint32_t n = w->symbols.n;
    w->heap.n = 0;
    for (uint32_t i = 0; i < n; i++) {
        s[i].before = i > 0 ? i - 1 : UINT32_MAX;
        s[i].after = i + 1 < n ? i + 1 : UINT32_MAX;
    }
    for (uint32_t i = 0; i < n; i++)
        heap_push(w, i);
    while (w->heap.n) {
        const struct candidate c = heap_pop(w);
        const uint32_t right = s[c.at].after;
        if (s[c.at].token != c.left || right == UINT32_MAX || s[right].token != c.right)
            continue;
        s[c.at].token = c.made;
        s[c.at].after = s[right].after;
        s[right].token = VOCABULARY_NONE;
        if (s[right].after != UINT32_MAX)
            s[s[right].after].before = c.at;
        heap_push(w, s[c.at].before);
        heap_push(w, c.at);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (s[i].token != VOCABULARY_NONE)
            s[kept++] = s[i];
    w->symbols.n = kept;
}

/* ---- words ---- */

struct bpe_words *bpe_words_new(const struct bpe *b)
{
    struct bpe_words *w = mem_alloc(sizeof *w);
    w->b = b;
    w->word = mem_alloc(WORDS * sizeof *w->word);
    return w;
}

void bpe_words_free(struct bpe_words *w)
{
    if (!w)
        return;
    mem_free(w->word);
    vec_free(&w->symbols);
    vec_free(&w->heap);
    mem_free(w);
}

static void append(struct token_ids *out, const uint32_t *tokens, uint32_t n)
{
    const uint32_t at = vec_grow(out, n);
    memcpy(out->at + at, tokens, n * sizeof *tokens);
}

static void encode_new(struct bpe_words *w, const char *word, size_t n, struct token_ids *out)
{
    const uint32_t whole = w->b->ignore_merges ? vocabulary_find(&w->b->vocabulary, word, n) : VOCABULARY_NONE;
    if (whole != VOCABULARY_NONE) {
        vec_add(out, whole);
        return;
    }
    split(w, word, n);
    if (w->symbols.n <= SHORT)
        merge_short(w->b, w->symbols.at, &w->symbols.n);
    else
        merge_long(w);
    const uint32_t at = vec_grow(out, w->symbols.n);
    for (uint32_t i = 0; i < w->symbols.n; i++)
        out->at[at + i] = w->symbols.at[i].token;
}

static void encode_word(struct bpe_words *w, const char *word, size_t n, struct token_ids *out)
{
    if (n > WORD_BYTES) {
        encode_new(w, word, n, out);
        return;
    }
    struct word *met = &w->word[number_hash(word, n, 0) & (WORDS - 1)];
    if (met->length == n && memcmp(met->bytes, word, n) == 0) {
        append(out, met->token, met->n);
        return;
    }
    const uint32_t first = out->n;
    encode_new(w, word, n, out);
    const uint32_t made = out->n - first;
    if (made > WORD_TOKENS)
        return;
    met->length = (uint8_t)n;
    met->n = (uint8_t)made;
    memcpy(met->bytes, word, n);
    if (made)
        memcpy(met->token, out->at + first, made * sizeof *out->at);
}

/* Where the word can be cut behind `p`: before a mark of a space that no token joins to what stands before it. */
static const char *next_cut(const struct bpe *b, const char *p, const char *end)
{
    static const char mark[] = "\xe2\x96\x81";
    for (p += 1; p < end && (p = memmem(p, (size_t)(end - p), mark, 3)); p += 3) {
        const char *before = utf8_back(p);
        const uint32_t c = utf8_next(&before);
        bool joins = false;
        for (uint32_t i = 0; i < b->before_space.n && b->before_space.at[i].first <= c; i++)
            joins |= c <= b->before_space.at[i].last;
        if (!joins)
            return p;
    }
    return end;
}

void bpe_encode(struct bpe_words *w, const char *word, size_t n, struct token_ids *out)
{
    if (n == 0)
        return;
    if (!w->b->cuts || w->b->ignore_merges) {
        encode_word(w, word, n, out);
        return;
    }
    for (const char *p = word, *end = word + n; p < end;) {
        const char *cut = next_cut(w->b, p, end);
        encode_word(w, p, (size_t)(cut - p), out);
        p = cut;
    }
}
