/* sentencepiece models (Kudo and Richardson: arXiv 1808.06226), the file tokenizer.model of Llama 2, Mistral, Gemma and T5: BPE and
 * unigram, with the library's own normal form. The format is sentencepiece_model.proto of that library. */
#ifndef PIPER_TEXT_SENTENCEPIECE_H
#define PIPER_TEXT_SENTENCEPIECE_H

#include "text/bpe.h"
#include "text/charsmap.h"
#include "text/unigram.h"

enum piece_kind {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN, /* what a character that no piece has becomes */
    PIECE_CONTROL, /* begin and end of a text: never found in one */
    PIECE_USER,    /* found in the text as it is, before all others */
    PIECE_UNUSED,  /* never made */
    PIECE_BYTE,    /* <0x41>, where a model falls back to bytes */
};

struct sentencepiece {
    bool is_unigram;
    bool adds_space; /* before a text; behind it where `suffix` is set */
    bool suffix;
    bool trims;   /* spaces in a row are one, those around the text none */
    bool escapes; /* a space becomes U+2581 */
    struct charsmap map;
    struct trie user; /* ids of PIECE_USER */
    struct trie name; /* ids of PIECE_CONTROL and PIECE_UNKNOWN */
    struct unigram unigram;
    const struct bpe *b; /* vocabulary, bytes, merges; borrowed */
    uint32_t n;
    uint8_t *kind; /* by id, as the rest */
    float *score;
    bool *always;
    char *unknown; /* what the unknown piece is decoded to */
    int32_t bos, eos;
};

/* The model in `bytes`, which are borrowed; its vocabulary and, of BPE, its merges go to b. `path` is for messages. ST_INPUT. */
enum status sentencepiece_read(const void *bytes, size_t n, const char *path, struct bpe *b, struct sentencepiece **s,
                               struct err *e);
void sentencepiece_free(struct sentencepiece *s); /* NULL is allowed */

/* Appends the normal form of a text. `continued`: what is put before a text is not put before this. */
void sentencepiece_normalize(const struct sentencepiece *s, const char *text, size_t n, bool continued,
                             struct text_bytes *out);

/* Scratch of one thread. */
struct sentencepiece_scratch {
    struct bpe_words *words; /* borrowed */
    struct text_bytes normal;
    struct unigram_path path;
};
void sentencepiece_scratch_free(struct sentencepiece_scratch *w);
void sentencepiece_encode(const struct sentencepiece *s, struct sentencepiece_scratch *w, const char *text, size_t n,
                          bool continued, struct token_ids *out);

/* Is the outcome the same when a text is cut behind the end of a line and before a letter, as far as the normal form and the user's
 * symbols go? */
bool sentencepiece_keeps_lines(const struct sentencepiece *s);

#endif
