/* Reading a model: its pieces, its settings, and of BPE the merges that its pieces stand for. */
#include "text/sentencepiece.h"

#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/protobuf.h"

enum {
    MODEL_MOST = 1 << 25, /* bytes */
    PIECE_MOST = 1 << 10, /* bytes of a piece that is merged */
    MERGES_MOST = 1 << 24,
};
enum { TYPE_UNIGRAM = 1, TYPE_BPE = 2 };

/* What is read, and where the messages point. */
struct reading {
    struct sentencepiece *s;
    struct bpe *b;
    const char *path;
    const unsigned char *begin; /* of the file */
    struct protobuf model;
    int32_t type;
    bool falls_back;
};

void sentencepiece_free(struct sentencepiece *s)
{
    if (!s)
        return;
    trie_free(&s->user);
    trie_free(&s->name);
    trie_free(&s->unigram.pieces);
    mem_free(s->kind);
    mem_free(s->score);
    mem_free(s->always);
    mem_free(s->unknown);
    mem_free(s);
}

/* ---- messages ---- */

static enum status broken(const struct reading *r, const struct protobuf *at, const char *what, struct err *e)
{
    return err_set(e, ST_INPUT, r->path, "%s at byte %zu is no field of a sentencepiece model: truncated or damaged",
                   what, (size_t)(at->at - r->begin));
}

/* Calls fn on each field of a message. */
static enum status each_field(struct reading *r, struct protobuf message, const char *what,
                              enum status (*fn)(struct reading *r, const struct protobuf_field *f, struct err *e),
                              struct err *e)
{
    struct protobuf_field f;
    for (;;) {
        const struct protobuf at = message;
        switch (protobuf_next(&message, &f)) {
        case PROTOBUF_END:
            return ST_OK;
        case PROTOBUF_BROKEN:
            return broken(r, &at, what, e);
        case PROTOBUF_FIELD:
            TRY(fn(r, &f, e));
        }
    }
}

/* ---- settings ---- */

static enum status read_trainer(struct reading *r, const struct protobuf_field *f, struct err *e)
{
    (void)e;
    switch (f->number) {
    case 3:
        r->type = protobuf_int(f);
        break;
    case 24:
        r->s->suffix = f->value != 0;
        break;
    case 35:
        r->falls_back = f->value != 0;
        break;
    case 41:
        r->s->bos = protobuf_int(f);
        break;
    case 42:
        r->s->eos = protobuf_int(f);
        break;
    case 44:
        if (f->is_bytes && !memchr(f->body.at, 0, protobuf_length(&f->body))) {
            const size_t n = protobuf_length(&f->body);
            mem_free(r->s->unknown);
            r->s->unknown = mem_alloc(n + 1);
            memcpy(r->s->unknown, f->body.at, n);
        }
        break;
    }
    return ST_OK;
}

static enum status read_normalizer(struct reading *r, const struct protobuf_field *f, struct err *e)
{
    const char *wrong;
    switch (f->number) {
    case 2:
        wrong = f->is_bytes ? charsmap_open(f->body.at, protobuf_length(&f->body), &r->s->map) : "is a number";
        return wrong ? err_set(e, ST_INPUT, r->path, "its normal form (precompiled_charsmap) %s", wrong) : ST_OK;
    case 3:
        r->s->adds_space = f->value != 0;
        break;
    case 4:
        r->s->trims = f->value != 0;
        break;
    case 5:
        r->s->escapes = f->value != 0;
        break;
    }
    return ST_OK;
}

static enum status read_settings(struct reading *r, const struct protobuf_field *f, struct err *e)
{
    if (f->number == 1) {
        r->s->n++;
        return f->is_bytes ? ST_OK
                           : err_set(e, ST_INPUT, r->path, "piece %u is a number, expected a message", r->s->n - 1);
    }
    if (f->number == 2 && f->is_bytes)
        return each_field(r, f->body, "what is", read_trainer, e);
    if (f->number == 3 && f->is_bytes)
        return each_field(r, f->body, "what is", read_normalizer, e);
    return ST_OK;
}

/* ---- pieces ---- */

struct piece {
    struct protobuf text;
    float score;
    int32_t kind;
};

static bool is_one_character(const char *text, size_t n)
{
    const char *p = text;
    utf8_next(&p);
    return p == text + n;
}

/* Keeps a piece where encoding looks for it. */
static enum status keep(struct reading *r, uint32_t id, const struct piece *p, struct err *e)
{
    struct sentencepiece *s = r->s;
    const char *text = (const char *)p->text.at;
    const size_t n = protobuf_length(&p->text);
    const bool reserved = p->kind == PIECE_UNKNOWN || p->kind == PIECE_CONTROL || p->kind == PIECE_BYTE;
    const bool hidden = reserved && (s->is_unigram || !is_one_character(text, n));
    if (!(hidden ? vocabulary_add_hidden : vocabulary_add)(&r->b->vocabulary, text, (uint32_t)n, id))
        return err_set(e, ST_INPUT, r->path, "piece %u: there is another \"%.*s\"", id, n > 40 ? 40 : (int)n, text);
    if (p->kind == PIECE_USER)
        trie_add(&s->user, text, n, id);
    if (p->kind == PIECE_UNKNOWN || p->kind == PIECE_CONTROL)
        trie_add(&s->name, text, n, id);
    if (s->is_unigram && (p->kind == PIECE_NORMAL || p->kind == PIECE_USER))
        trie_add(&s->unigram.pieces, text, n, id);
    return ST_OK;
}

/* Of "<0x41>"; -1: it is none. (%X of scanf takes "<0x-1>" too.) */
static int byte_of(const char *text, size_t n)
{
    char digits[3] = "";
    if (n != 6 || memcmp(text, "<0x", 3) != 0 || !isxdigit((unsigned char)text[3]) ||
        !isxdigit((unsigned char)text[4]) || text[5] != '>')
        return -1;
    memcpy(digits, text + 3, 2);
    return (int)strtol(digits, NULL, 16);
}

static enum status add_piece(struct reading *r, uint32_t id, const struct piece *p, struct err *e)
{
    struct sentencepiece *s = r->s;
    const char *text = (const char *)p->text.at;
    const size_t n = protobuf_length(&p->text);
    if (n == 0 || utf8_valid(text, n) != n || memchr(text, 0, n))
        return err_set(e, ST_INPUT, r->path, "piece %u: its text of %zu bytes is empty or no UTF-8", id, n);
    if (p->kind < PIECE_NORMAL || p->kind > PIECE_BYTE || !isfinite(p->score))
        return err_set(e, ST_INPUT, r->path, "piece %u has the kind %d and the score %g, expected 1 to 6 and a number",
                       id, p->kind, (double)p->score);
    s->kind[id] = (uint8_t)p->kind;
    s->score[id] = p->score;
    s->always[id] = p->kind == PIECE_USER;
    TRY(keep(r, id, p, e));
    if (p->kind == PIECE_UNKNOWN) {
        if (r->b->unknown != VOCABULARY_NONE)
            return err_set(e, ST_INPUT, r->path, "pieces %u and %u are both the unknown one", r->b->unknown, id);
        r->b->unknown = id;
    }
    if (p->kind == PIECE_BYTE) {
        const int byte = byte_of(text, n);
        if (byte < 0)
            return err_set(e, ST_INPUT, r->path, "piece %u is a byte and has the text \"%.*s\", expected one as <0x41>",
                           id, n > 40 ? 40 : (int)n, text);
        r->b->byte[byte] = id;
    }
    return ST_OK;
}

static enum status read_piece(struct reading *r, uint32_t id, struct protobuf message, struct err *e)
{
    struct piece p = { .kind = PIECE_NORMAL, .text = { message.end, message.end } };
    struct protobuf_field f;
    for (;;) {
        const struct protobuf at = message;
        const enum protobuf_next next = protobuf_next(&message, &f);
        if (next == PROTOBUF_END)
            return add_piece(r, id, &p, e);
        if (next == PROTOBUF_BROKEN || (f.number == 1 && !f.is_bytes))
            return broken(r, &at, "a piece", e);
        if (f.number == 1)
            p.text = f.body;
        else if (f.number == 2)
            p.score = protobuf_float(&f);
        else if (f.number == 3)
            p.kind = protobuf_int(&f);
    }
}

static enum status read_pieces(struct reading *r, struct err *e)
{
    struct sentencepiece *s = r->s;
    struct protobuf model = r->model;
    struct protobuf_field f;
    uint32_t id = 0;
    if (s->n == 0 || s->n > VOCABULARY_MOST)
        return err_set(e, ST_INPUT, r->path, "has %u pieces, expected 1 to %d", s->n, VOCABULARY_MOST);
    s->kind = mem_alloc(s->n * sizeof *s->kind);
    s->score = mem_alloc(s->n * sizeof *s->score);
    s->always = mem_alloc(s->n * sizeof *s->always);
    while (protobuf_next(&model, &f) == PROTOBUF_FIELD)
        if (f.number == 1)
            TRY(read_piece(r, id++, f.body, e));
    trie_pack(&s->user);
    trie_pack(&s->name);
    trie_pack(&s->unigram.pieces);
    if (r->b->unknown == VOCABULARY_NONE)
        return err_set(e, ST_INPUT, r->path, "no piece is the unknown one, expected one of kind 2");
    for (uint32_t byte = 0; byte < 256 && r->falls_back; byte++)
        if (r->b->byte[byte] == VOCABULARY_NONE)
            return err_set(e, ST_INPUT, r->path, "falls back to bytes and has no piece <0x%02X>", byte);
    r->b->falls_back = r->falls_back;
    r->b->fuse_unknown = true;
    return ST_OK;
}

/* ---- merges of BPE: two symbols whose texts make a piece become it, the one with the largest score first ---- */

static uint32_t *ranks_of(const struct sentencepiece *s);

/* The symbol of a part of a piece: a piece that is not the user's. VOCABULARY_NONE; *strange: it is a character that is no piece. */
static uint32_t symbol_of(const struct reading *r, const char *text, size_t n, bool *strange)
{
    const uint32_t id = vocabulary_find(&r->b->vocabulary, text, n);
    *strange = id == VOCABULARY_NONE && is_one_character(text, n);
    return id != VOCABULARY_NONE && r->s->kind[id] == PIECE_USER ? VOCABULARY_NONE : id;
}

/* The merges that make a piece: counted, or added where there are ranks. */
static enum status merges_of(struct reading *r, uint32_t id, const uint32_t *rank, uint64_t *count, struct err *e)
{
    uint32_t n;
    const char *text = vocabulary_bytes(&r->b->vocabulary, id, &n), *end = text + n, *cut = text;
    const uint8_t kind = r->s->kind[id];
    if (kind != PIECE_NORMAL && kind != PIECE_UNUSED)
        return ST_OK;
    if (n > PIECE_MOST)
        return err_set(e, ST_INPUT, r->path, "piece %u has %u bytes, expected at most %d", id, n, PIECE_MOST);
    for (utf8_next(&cut); cut < end; utf8_next(&cut)) {
        bool strange[2];
        const uint32_t left = symbol_of(r, text, (size_t)(cut - text), &strange[0]);
        const uint32_t right = symbol_of(r, cut, (size_t)(end - cut), &strange[1]);
        const bool whole[2] = { left != VOCABULARY_NONE || strange[0], right != VOCABULARY_NONE || strange[1] };
        if (!whole[0] || !whole[1])
            continue;
        if (strange[0] || strange[1])
            return err_set(e, ST_INPUT, r->path, "piece %u, \"%.40s\", has a character that is no piece itself", id,
                           text);
        if (kind == PIECE_UNUSED)
            return err_set(
                e, ST_INPUT, r->path,
                "piece %u is of the kind \"unused\", but \"%.20s\" can be made of others: such models are not read", id,
                text);
        ++*count;
        if (rank)
            bpe_add_merge(r->b, left, right, rank[id], id);
    }
    return ST_OK;
}

static enum status read_merges(struct reading *r, struct err *e)
{
    uint64_t count = 0;
    for (uint32_t id = 0; id < r->s->n; id++)
        TRY(merges_of(r, id, NULL, &count, e));
    if (count > MERGES_MOST)
        return err_set(e, ST_INPUT, r->path, "its pieces make %llu merges, expected at most %d",
                       (unsigned long long)count, MERGES_MOST);
    uint32_t *rank = ranks_of(r->s);
    enum status st = ST_OK;
    bpe_reserve(r->b, (uint32_t)count);
    for (uint32_t id = 0; id < r->s->n && st == ST_OK; id++)
        st = merges_of(r, id, rank, &count, e);
    mem_free(rank);
    return st;
}

struct scored {
    float score;
    uint32_t id;
};

static int by_score(const void *a, const void *b)
{
    const float x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
    return x > y ? -1 : x < y;
}

/* By id: how many larger scores there are. Of merges with one rank the leftmost goes first. */
static uint32_t *ranks_of(const struct sentencepiece *s)
{
    struct scored *all = mem_alloc(s->n * sizeof *all);
    uint32_t *rank = mem_alloc(s->n * sizeof *rank);
    for (uint32_t id = 0; id < s->n; id++)
        all[id] = (struct scored){ s->score[id], id };
    qsort(all, s->n, sizeof *all, by_score);
    for (uint32_t i = 0; i < s->n; i++)
        rank[all[i].id] = i == 0 ? 0 : rank[all[i - 1].id] + (all[i].score < all[i - 1].score);
    mem_free(all);
    return rank;
}

/* ---- scores of unigram ---- */

static void read_scores(struct sentencepiece *s)
{
    float least = FLT_MAX;
    s->unigram.best = FLT_MIN;
    for (uint32_t id = 0; id < s->n; id++)
        if (s->kind[id] == PIECE_NORMAL) {
            least = s->score[id] < least ? s->score[id] : least;
            s->unigram.best = s->score[id] > s->unigram.best ? s->score[id] : s->unigram.best;
        }
    s->unigram.unknown = least - 10; /* the library's penalty */
    s->unigram.score = s->score;
    s->unigram.always = s->always;
}

/* ---- all of it ---- */

static enum status read_model(struct reading *r, struct err *e)
{
    TRY(each_field(r, r->model, "what is", read_settings, e));
    if (r->type != TYPE_UNIGRAM && r->type != TYPE_BPE)
        return err_set(e, ST_INPUT, r->path, "has the model_type %d, expected 1 (unigram) or 2 (BPE)", r->type);
    r->s->is_unigram = r->type == TYPE_UNIGRAM;
    TRY(read_pieces(r, e));
    if (!r->s->is_unigram)
        return read_merges(r, e);
    read_scores(r->s);
    return ST_OK;
}

enum status sentencepiece_read(const void *bytes, size_t n, const char *path, struct bpe *b, struct sentencepiece **out,
                               struct err *e)
{
    if (n > MODEL_MOST)
        return err_set(e, ST_INPUT, path, "has %zu bytes, expected a sentencepiece model of at most %d", n, MODEL_MOST);
    struct sentencepiece *s = mem_alloc(sizeof *s);
    struct reading r = { .s = s, .b = b, .path = path, .begin = bytes, .type = TYPE_UNIGRAM };
    r.model = (struct protobuf){ r.begin, r.begin + n };
    s->adds_space = s->trims = s->escapes = true;
    s->b = b;
    s->bos = 1, s->eos = 2;
    s->unknown = mem_strdup(" \xe2\x81\x87 ");
    const enum status st = read_model(&r, e);
    if (st != ST_OK) {
        sentencepiece_free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

bool sentencepiece_keeps_lines(const struct sentencepiece *s)
{
    if (s->is_unigram || s->trims || s->suffix || s->map.unit)
        return false;
    for (uint32_t id = 0; id < s->n; id++) {
        uint32_t n;
        const char *text = vocabulary_bytes(&s->b->vocabulary, id, &n);
        for (uint32_t i = 0; s->kind[id] == PIECE_USER && i + 1 < n; i++)
            if (text[i] == '\n')
                return false;
    }
    return true;
}
