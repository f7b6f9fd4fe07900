/* Added tokens, normal form, stages of splitting, then merging; a sentencepiece model has its own way. */
#include <string.h>

#include "text/nfc.h"
#include "text/tokenizer.h"

struct encoder {
    const struct tokenizer *t;
    struct bpe_words *words;
    struct scan scan[TOKENIZER_STAGES];
    struct text_bytes rewritten[TOKENIZER_STAGES], normal, scratch;
    struct sentencepiece_scratch pieces;
    /* of the text being encoded */
    int flags;
    struct token_ids *out;
    struct err *e;
};

struct encoder *encoder_new(const struct tokenizer *t)
{
    struct encoder *x = mem_alloc(sizeof *x);
    x->t = t;
    x->words = x->pieces.words = bpe_words_new(&t->bpe);
    for (uint32_t i = 0; i < t->n_stages; i++)
        if (t->stage[i].pattern)
            scan_open(&x->scan[i], t->stage[i].pattern);
    return x;
}

void encoder_free(struct encoder *x)
{
    if (!x)
        return;
    bpe_words_free(x->words);
    for (uint32_t i = 0; i < TOKENIZER_STAGES; i++) {
        scan_close(&x->scan[i]);
        text_bytes_free(&x->rewritten[i]);
    }
    text_bytes_free(&x->normal);
    text_bytes_free(&x->scratch);
    sentencepiece_scratch_free(&x->pieces);
    mem_free(x);
}

/* ---- normal form ---- */

static void replace(const struct normalizer *z, const char *text, size_t n, struct text_bytes *out)
{
    const size_t from = strlen(z->from), to = strlen(z->to);
    const char *end = text + n;
    for (const char *hit; (hit = memmem(text, (size_t)(end - text), z->from, from)); text = hit + from) {
        text_bytes_add(out, text, (size_t)(hit - text));
        text_bytes_add(out, z->to, to);
    }
    text_bytes_add(out, text, (size_t)(end - text));
}

bool tokenizer__normalize(const struct tokenizer *t, const char *text, size_t n, bool continued, struct text_bytes *out,
                          struct text_bytes *scratch)
{
    bool changed = false;
    for (uint32_t i = 0; i < t->n_normalizers && n; i++) {
        const struct normalizer *z = &t->normalizer[i];
        if ((z->kind == NORMALIZE_NFC && nfc_done(text, n) == n) || (z->kind == NORMALIZE_PREPEND && continued))
            continue;
        scratch->n = 0;
        if (z->kind == NORMALIZE_NFC)
            nfc_normalize(text, n, scratch);
        else if (z->kind == NORMALIZE_REPLACE)
            replace(z, text, n, scratch);
        else {
            text_bytes_add(scratch, z->to, strlen(z->to));
            text_bytes_add(scratch, text, n);
        }
        const struct text_bytes made = *scratch;
        *scratch = *out;
        *out = made;
        text = out->at;
        n = out->n;
        changed = true;
    }
    return changed;
}

/* ---- stages ---- */

static enum status run_stage(struct encoder *x, uint32_t i, const char *text, size_t n, bool first);

static enum status run_prefix(struct encoder *x, uint32_t i, const char *text, size_t n, bool first)
{
    if (text[0] == ' ' || (first && x->flags & ENCODE_CONTINUED))
        return run_stage(x, i + 1, text, n, first);
    struct text_bytes *b = &x->rewritten[i];
    b->n = 0;
    text_bytes_add(b, " ", 1);
    text_bytes_add(b, text, n);
    return run_stage(x, i + 1, b->at, b->n, first);
}

static enum status run_metaspace(struct encoder *x, uint32_t i, const char *text, size_t n, bool first)
{
    const struct stage *s = &x->t->stage[i];
    const struct normalizer spaces = { NORMALIZE_REPLACE, (char *)" ", (char *)s->mark };
    const size_t mark = strlen(s->mark);
    struct text_bytes *b = &x->rewritten[i];
    const bool begins = text[0] == ' ' || (n >= mark && memcmp(text, s->mark, mark) == 0);
    b->n = 0;
    if (!begins && (s->prepend == PREPEND_ALWAYS || (s->prepend == PREPEND_FIRST && first)) &&
        !(first && x->flags & ENCODE_CONTINUED))
        text_bytes_add(b, s->mark, mark);
    replace(&spaces, text, n, b);
    return run_stage(x, i + 1, b->at, b->n, first);
}

/* Pieces on their way to the next stage: what they become depends on the one before, which waits. */
struct pieces {
    struct encoder *x;
    uint32_t stage;
    const char *text;        /* where the split text begins */
    bool first;              /* that is the begin of all text */
    const char *begin, *end; /* the piece that waits; equal: none */
    bool matched;            /* it was a match */
};

static enum status send_piece(struct pieces *p, const char *begin, const char *end)
{
    return begin == end ? ST_OK
                        : run_stage(p->x, p->stage + 1, begin, (size_t)(end - begin), p->first && begin == p->text);
}

static enum status add_piece(struct pieces *p, const char *begin, const char *end, bool match)
{
    const struct stage *s = &p->x->t->stage[p->stage];
    if (begin == end)
        return ST_OK;
    match ^= s->invert;
    if (s->behaviour == SPLIT_ISOLATED || (s->behaviour == SPLIT_REMOVED && !match))
        return send_piece(p, begin, end);
    if (s->behaviour == SPLIT_REMOVED)
        return ST_OK;
    const bool waits = p->begin != p->end;
    const bool joins = s->behaviour == SPLIT_WITH_PREVIOUS ? match && !p->matched
                       : s->behaviour == SPLIT_WITH_NEXT   ? p->matched && !match
                                                           : match == p->matched;
    p->matched = match;
    if (waits && joins) {
        p->end = end;
        return ST_OK;
    }
    const char *old = p->begin, *old_end = p->end;
    p->begin = begin;
    p->end = end;
    return send_piece(p, old, old_end);
}

static enum status run_split(struct encoder *x, uint32_t i, const char *text, size_t n, bool first)
{
    struct scan *scan = &x->scan[i];
    const char *at = text, *end = text + n;
    struct pieces p = { .x = x, .stage = i, .text = text, .first = first };
    scan_begin(scan, text, n);
    while (at < end) {
        struct pattern_match m;
        bool found;
        TRY(scan_next(scan, at, &m, &found, x->e));
        TRY(add_piece(&p, at, found ? m.begin : end, false));
        if (!found)
            break;
        TRY(add_piece(&p, m.begin, m.end, true));
        at = m.end;
    }
    return send_piece(&p, p.begin, p.end);
}

static enum status run_stage(struct encoder *x, uint32_t i, const char *text, size_t n, bool first)
{
    if (i == x->t->n_stages) {
        bpe_encode(x->words, text, n, x->out);
        return ST_OK;
    }
    switch (x->t->stage[i].kind) {
    case STAGE_PREFIX:
        return run_prefix(x, i, text, n, first);
    case STAGE_METASPACE:
        return run_metaspace(x, i, text, n, first);
    case STAGE_SPLIT:
        break;
    }
    return run_split(x, i, text, n, first);
}

/* ---- added tokens ---- */

/* Calls fn on what lies between the tokens of a set, and appends the tokens. `first`: the text begins here. */
static enum status between_added(struct encoder *x, const struct added_set *set, const char *text, size_t n, bool first,
                                 enum status (*fn)(struct encoder *x, const char *text, size_t n, bool first))
{
    const char *from = text, *at = text, *end = text + n;
    struct added_match m;
    while (added_find(set, text, from, at, end, x->flags & ENCODE_PLAIN_SPECIALS, &m)) {
        if (m.begin > from)
            TRY(fn(x, from, (size_t)(m.begin - from), first && from == text));
        vec_add(x->out, m.token->id);
        from = m.end;
        at = m.go_on;
    }
    return from < end ? fn(x, from, (size_t)(end - from), first && from == text) : ST_OK;
}

static enum status run_first_stage(struct encoder *x, const char *text, size_t n, bool first)
{
    return run_stage(x, 0, text, n, first);
}

static enum status run_normal(struct encoder *x, const char *text, size_t n, bool first)
{
    const bool continued = first && x->flags & ENCODE_CONTINUED;
    if (tokenizer__normalize(x->t, text, n, continued, &x->normal, &x->scratch)) {
        text = x->normal.at;
        n = x->normal.n;
    }
    return between_added(x, &x->t->normal, text, n, first, run_first_stage);
}

enum status encoder_encode(struct encoder *x, const char *text, size_t n, int flags, struct token_ids *out,
                           struct err *e)
{
    x->flags = flags;
    x->out = out;
    x->e = e;
    if (x->t->pieces) {
        sentencepiece_encode(x->t->pieces, &x->pieces, text, n, flags & ENCODE_CONTINUED, out);
        return ST_OK;
    }
    return between_added(x, &x->t->raw, text, n, true, run_normal);
}

size_t encode_cut(const struct tokenizer *t, const char *text, size_t n)
{
    if (!t->cuts_lines)
        return 0;
    for (size_t i = n; i > 1; i--) {
        const unsigned char after = (unsigned char)text[i] | 0x20, before = (unsigned char)text[i - 2];
        if (text[i - 1] == '\n' && after >= 'a' && after <= 'z' && before > ' ' && before < 0x7f)
            return i;
    }
    return 0;
}
