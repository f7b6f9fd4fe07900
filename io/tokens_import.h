/* Files of token ids that other programs write, read from begin to end.
 *
 *   .h5 of piper                 with its documents and its mask
 *   llm.c shards                 piper-tokens(5)
 *   Megatron .bin and .idx       magic "MMIDIDX", version 1: sequences and documents (megatron/core/datasets/indexed_dataset.py)
 *   NumPy .npy of one dimension  version 1 to 3 (numpy.lib.format), integers, little-endian
 *   without a header             what nanoGPT writes; the caller says how wide an id is */
#ifndef PIPER_IO_TOKENS_IMPORT_H
#define PIPER_IO_TOKENS_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* How ids lie in a file, little-endian. */
enum tokens_element { TOKENS_U8, TOKENS_U16, TOKENS_I32, TOKENS_U32, TOKENS_I64 };
/* "uint16" and so on; false: no such word. */
bool tokens_element_named(const char *word, enum tokens_element *x);
uint32_t tokens_element_bytes(enum tokens_element x);

struct tokens_source {
    char *path; /* of the ids, owned */
    int fd;
    enum tokens_element element;
    uint64_t offset, n; /* of id 0, bytes; how many */
    uint32_t vocab;     /* that the file states; 0: none */
    uint64_t starts_at; /* byte of an ascending list of uint64, where documents begin; 0: none */
    uint64_t *starts;   /* the same in memory, or NULL; owned */
    uint64_t n_starts;
    uint64_t mask_at; /* byte of a list of uint8, 1 where a token is a target; 0: all are */
};

/* raw: how wide ids are in a file without a header, NULL: it has one. ST_MISSING, ST_INPUT with the place and what was found. On
 * success it ends with tokens_source_close(). */
enum status tokens_source_open(const char *path, const enum tokens_element *raw, struct tokens_source *s,
                               struct err *e);
void tokens_source_close(struct tokens_source *s);

/* A part of the ids. mask: NULL where the file has none. */
struct tokens_part {
    const uint32_t *ids;
    const uint8_t *mask;
    uint64_t n;
    bool begins; /* a document */
};
/* Calls fn for the ids in order, in parts that do not cross the begin of a document. ids fit in 31 bits and are below
 * `vocab`, if that is not 0: ST_INPUT with the place. */
typedef enum status (*tokens_take)(void *arg, const struct tokens_part *part, struct err *e);
enum status tokens_source_each(const struct tokens_source *s, uint32_t vocab, tokens_take fn, void *arg, struct err *e);

#endif
