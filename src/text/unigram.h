/* The unigram language model: of all ways to cut a text into pieces the one with the largest sum of scores (Kudo: arXiv
 * 1804.10959, section 3.2; found by the algorithm of Viterbi). Sums are in float32, from the begin of the text on, since that decides
 * between ways that are nearly equal. */
#ifndef PIPER_TEXT_UNIGRAM_H
#define PIPER_TEXT_UNIGRAM_H

#include "text/trie.h"

struct unigram {
    struct trie pieces; /* ids */
    const float *score; /* by id; borrowed */
    const bool *always; /* by id: symbols that a user has defined, which win over all others; borrowed */
    float unknown;      /* score of a character that is no piece */
    float best;         /* the largest score of a piece, at least FLT_MIN */
};

/* A piece of the text, or a character that is none (id TRIE_NONE). */
struct unigram_piece {
    uint32_t length, id;
};
struct unigram_path {
    struct unigram_end { /* the best way that ends at a place: its last piece and its score */
        float score;
        struct unigram_piece last; /* length 0: no way ends here */
    } * end;
    size_t room;
    struct {
        VEC(struct unigram_piece);
    } piece; /* of the way that is found, last first */
};
void unigram_path_free(struct unigram_path *p);

/* Calls fn on the pieces of a text, in order. Memory grows with the longest stretch without a place that all ways pass. */
void unigram_encode(const struct unigram *u, struct unigram_path *path, const char *text, size_t n,
                    void (*fn)(void *arg, const char *text, struct unigram_piece piece), void *arg);

#endif
