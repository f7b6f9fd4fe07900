/* Token files: what piper trains on. Layout: piper-tokens(5). How they are made: tokens_write.h, tokens_import.h.
 *
 * An HDF5 file with one contiguous dataset /tokens (uint16 or uint32), or a .bin shard as llm.c's scripts write them
 * (256 int32: magic 20240520, version 1 with uint16 tokens, or magic 20240801, version 7 with uint32; then the tokens).
 *
 * A window is seq_len tokens and the seq_len tokens that follow each of them: window i is tokens[i*T .. i*T+T]. Reading
 * one is one pread at a known offset: no HDF5 call and no allocation. */
#ifndef PIPER_IO_TOKENS_H
#define PIPER_IO_TOKENS_H

#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"
#include "io/sha256.h"
#include "io/tokens_write.h"

struct tokens {
    char *path; /* owned */
    int fd;
    uint32_t width;   /* bytes per token: 2 or 4 */
    uint32_t vocab;   /* of the model: ids must be below */
    uint32_t seq_len; /* T */
    uint64_t offset;  /* of token 0 in the file, bytes */
    uint64_t n_tokens;
    uint64_t n_windows;  /* floor((n_tokens-1)/T) */
    uint32_t file_vocab; /* vocab_size of the file; 0: it does not say */
    /* Version 2: bytes of the file where uint64 starts of documents and uint8 marks of tokens lie; 0: it has none. */
    uint64_t documents_at, n_documents, mask_at;
    /* Scratch of one window: ids; what is said of each token (enum in tokens.c); starts of some documents. And every so manieth start, 0
     * where it has not been read: where a search begins. */
    void *row;
    uint8_t *marks;
    uint64_t *starts, *index;
};

/* Opens either kind. ST_MISSING when it cannot be read; ST_INPUT when it is no token file or holds no whole window. On
 * success the caller ends with tokens_close. */
enum status tokens_open(const char *path, uint32_t seq_len, uint32_t vocab, struct tokens *t, struct err *e);
void tokens_close(struct tokens *t); /* safe on a zeroed struct */
/* row (T+1): the targets of its first T tokens are the T after the first. ST_INPUT with place, value and vocabulary for an
 * id >= vocab; index < n_windows. */
enum status tokens_window(struct tokens *t, uint64_t index, int32_t *row, struct err *e);
/* Of window `index`, whose row this is: targets (T), the ids that follow each token, -1 where the loss does not count: outside of the
 * mask, and, where documents are apart, of the first token of one. document (T), NULL: not asked for: where in the window the document
 * of each token begins, 0 for one that began before. ST_INPUT: starts of documents that do not ascend. */
enum status tokens_targets(struct tokens *t, uint64_t index, const int32_t *row, bool apart, int32_t *targets,
                           int32_t *document, struct err *e);
/* How many targets of a window count. */
enum status tokens_count(struct tokens *t, uint64_t index, bool apart, uint64_t *n, struct err *e);
/* What tells one file from another at little cost: SHA-256 of the first, the middle and the last MiB of the tokens, of all
 * where they are no more than that. */
enum status tokens_sample(const struct tokens *t, uint8_t sample[SHA256_BYTES], struct err *e);

/* Are tokens [first, first + n) of the model's vocabulary? ST_INPUT as tokens_window(); a file that cannot be read: ST_IO. */
enum status tokens_check(struct tokens *t, uint64_t first, uint64_t n, struct err *e);

/* Where documents [first, first + n) begin; first + n <= t->n_documents. ST_INPUT: they do not ascend, or end behind the tokens. */
enum status tokens_documents(const struct tokens *t, uint64_t first, uint64_t n, uint64_t *starts, struct err *e);
/* What a file of piper's says about itself; strings and bytes are the arena's. A shard of another program says nothing. */
enum status tokens_describe(const char *path, struct arena *a, struct tokens_about *about, struct err *e);

/* How many bytes those that read whole files take at a time, a multiple of 4; a test of what happens at borders sets less. */
extern uint32_t tokens_block;

#endif
