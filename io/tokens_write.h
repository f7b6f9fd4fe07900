/* Token files in the making: tokens come as they come, how many there will be shows at the end. Layout: piper-tokens(5). */
#ifndef PIPER_IO_TOKENS_WRITE_H
#define PIPER_IO_TOKENS_WRITE_H

#include "base/dir.h"
#include "base/mem.h"
#include "base/status.h"

enum { TOKENS_VERSION = 2 };

/* What a file says about itself beside its tokens. Texts are borrowed until the call returns. */
struct tokens_about {
    uint64_t vocab;           /* every id is below */
    const char *const *files; /* it was made from: their names without folders are kept */
    uint32_t n_files;
    const char *tokenizer; /* its name; NULL: none, bytes are tokens or the ids come from elsewhere */
    const void *tokenizer_file;
    uint64_t tokenizer_bytes;
};

struct tokens_out {
    struct dir_new file;
    uint32_t width;  /* bytes a token: 2 or 4 */
    uint64_t offset; /* of token 0 in the file */
    uint64_t n_tokens;
    struct {
        VEC(uint64_t);
    } documents; /* where they begin */
    struct {
        VEC(uint8_t);
    } mask;       /* by token, empty: none */
    char *buffer; /* tokens that are not written yet */
    uint32_t held;
};

/* `path` is the user's own. Nothing is at it before tokens_out_end(). ST_IO. It ends with one of the last two. */
enum status tokens_out_begin(const char *path, uint32_t width, struct tokens_out *o, struct err *e);
/* A document begins with the next token; one without a token is none. */
void tokens_out_document(struct tokens_out *o);
/* mask: 1 where the token is a target; NULL: all are. The first call decides whether the file has one. Ids fit the width. */
enum status tokens_out_add(struct tokens_out *o, const uint32_t *ids, const uint8_t *mask, uint64_t n, struct err *e);
/* The file gets its name. ST_INPUT: fewer than 2 tokens. */
enum status tokens_out_end(struct tokens_out *o, const struct tokens_about *about, struct err *e);
void tokens_out_drop(struct tokens_out *o); /* safe on a zeroed one, and after the end */

#endif
