/* Documents of text files and of JSONL, read in batches of bounded size. A text file is a document; so is a line of JSONL. */
#ifndef PIPER_TEXT_DOCUMENTS_H
#define PIPER_TEXT_DOCUMENTS_H

#include "text/source.h"
#include "text/tokenizer.h"

enum documents_kind { DOCUMENTS_TEXT, DOCUMENTS_JSONL, DOCUMENTS_LINES /* as they are, each with a 0 behind it */ };
enum { DOCUMENTS_SKIPS = 10, DOCUMENT_MOST = 1 << 30 /* bytes of what must be in memory at once */ };

/* A piece of a document: a whole one, or up to where the tokenizer allows to cut. */
struct document_piece {
    size_t at, n;  /* in the batch's text */
    uint64_t line; /* that it ends in */
    bool begins, ends;
};
struct document_batch {
    struct text_bytes text; /* valid UTF-8; with no tokenizer the bytes as they are */
    VEC(struct document_piece);
};

struct documents {
    enum documents_kind kind;
    const char *field;         /* JSONL */
    const struct tokenizer *t; /* NULL: bytes are tokens */
    const char *const *files;  /* borrowed */
    uint32_t n_files, file;    /* the next one to open */
    /* so far */
    uint64_t n, bytes, repaired, skipped; /* documents, bytes of text, ill-formed parts put right, lines */
    uint64_t file_bytes;                  /* of the files that are read */
    char *skip[DOCUMENTS_SKIPS];          /* the first lines that were skipped, and why */
    /* of the open file */
    struct source source;
    char name[256]; /* of the file that was open last */
    bool open, begun;
    uint64_t line;
    struct text_bytes raw, rest; /* bytes not yet understood; text not yet in a batch */
    size_t raw_at;
};

void documents_open(struct documents *d, enum documents_kind kind, const char *field, const struct tokenizer *t,
                    const char *const *files, uint32_t n);
/* Empties the batch and fills it with about so many bytes; no piece: the end. */
enum status documents_fill(struct documents *d, size_t bytes, struct document_batch *b, struct err *e);
/* Notes that a line of the last batch was skipped by who read it. */
void documents_skip(struct documents *d, uint64_t line, const char *why);
void documents_close(struct documents *d);
void document_batch_free(struct document_batch *b);

#endif
