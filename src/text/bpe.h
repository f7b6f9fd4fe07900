/* Byte pair encoding: a word becomes its symbols, then the pair of lowest rank, the leftmost of them, is merged until no
 * pair has a rank (Sennrich, Haddow, Birch: arXiv 1508.07909, section 3.2). */
#ifndef PIPER_TEXT_BPE_H
#define PIPER_TEXT_BPE_H

#include "base/status.h"
#include "text/vocabulary.h"

struct token_ids {
    VEC(uint32_t);
};

struct bpe {
    struct vocabulary vocabulary;
    bool bytes;         /* symbols are bytes; else code points */
    bool ignore_merges; /* a word that is a token is that token */
    bool fuse_unknown;  /* unknown symbols in a row are one */
    bool falls_back;    /* a code point without a token becomes its bytes' tokens, where all of them exist */
    uint32_t unknown;   /* VOCABULARY_NONE: symbols without a token are left out */
    uint32_t byte[256]; /* token of a byte: symbol, or fallback; VOCABULARY_NONE */
    struct bpe_merge {
        uint64_t pair; /* left << 32 | right; UINT64_MAX: empty */
        uint32_t rank, made;
    } * merge; /* hash table */
    uint32_t n_slots;
    /* Of code points that may stand before the mark of a space (U+2581) inside a token: elsewhere a word can be cut there. */
    struct unicode_set before_space;
    bool cuts;
};

/* Makes room for n merges. False: the pair is there already. */
void bpe_reserve(struct bpe *b, uint32_t n);
bool bpe_add_merge(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank, uint32_t made);
void bpe_free(struct bpe *b);
/* Fills `before_space` and `cuts` once vocabulary and merges are complete. */
void bpe_finish(struct bpe *b);

/* What one thread needs to encode: scratch, and words it has met. */
struct bpe_words;
struct bpe_words *bpe_words_new(const struct bpe *b);
void bpe_words_free(struct bpe_words *w);
/* Appends the tokens of a word (valid UTF-8 unless symbols are bytes). */
void bpe_encode(struct bpe_words *w, const char *word, size_t n, struct token_ids *out);

#endif
