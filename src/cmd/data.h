/* What the verbs of piper data share. */
#ifndef PIPER_DATA_H
#define PIPER_DATA_H

#include "cmd/options.h"
#include "io/tokens_write.h"
#include "text/documents.h"

/* The command line, read. */
struct data_request {
    struct option_common common;
    const char *verb;
    struct data_files {
        VEC(char *); /* owned */
    } files;
    const char *out, *tokenizer, *pattern, *field, *bos, *eos, *raw, *template, *split;
    uint64_t vocab, seed, pad;
    double share; /* of the documents that go to `out`; 1: all */
};

/* data_files.c: files as they are, folders and patterns of names as the files in them that fit the verb, in natural order
 * (shard-2 before shard-10). ST_MISSING, ST_USAGE. */
enum status data_expand(const struct option_list *operands, const char *verb, struct data_files *files, struct err *e);
void data_files_free(struct data_files *files);

/* data_sink.c: one token file, or two with documents shared out between them by a seeded draw. */
struct data_sink {
    struct tokens_out out[2]; /* the rest is the second */
    char *rest;               /* its path; NULL: there is no second */
    double share;
    uint64_t seed, n_documents;
    uint32_t largest; /* id */
    int now;          /* where the document goes */
};
enum status data_sink_begin(const struct data_request *r, uint32_t width, struct data_sink *s, struct err *e);
void data_sink_document(struct data_sink *s);
enum status data_sink_add(struct data_sink *s, const uint32_t *ids, const uint8_t *mask, uint64_t n, struct err *e);
/* Both files get their names, and a line is printed for each. */
enum status data_sink_end(struct data_sink *s, const struct data_request *r, const struct tokens_about *about,
                          struct err *e);
void data_sink_drop(struct data_sink *s);

/* data.c: a file that goes when a signal ends us; NULL: there is none any more. */
void data_half_made(int i, const struct dir_new *file);

/* data_text.c: text, jsonl. data_chat.c: chat. data_import.c: import. data_info.c: info. */
enum status data_chat(const struct data_request *r, struct err *e);
enum status data_text(const struct data_request *r, struct err *e);
enum status data_import(const struct data_request *r, struct err *e);
enum status data_info(const struct data_request *r, struct err *e);

/* data_text.c: the tokens put before and behind a document; VOCABULARY_NONE: none. t may be NULL: bytes. */
struct data_around {
    uint32_t before[TOKENIZER_AROUND], after;
    uint32_t n_before;
};
enum status data_around(const struct data_request *r, const struct tokenizer *t, struct data_around *a, struct err *e);

/* data_text.c: what was skipped and put right, on standard error. */
void data_report_skipped(const struct documents *d);

/* data_progress.c: a line on standard error, twice a second on a terminal, else every half minute. */
struct data_progress {
    double begin, next;
    uint64_t all; /* bytes; 0: not known */
    bool terminal;
};
void data_progress_begin(struct data_progress *p, const struct data_files *files);
void data_progress(struct data_progress *p, uint64_t bytes, uint64_t tokens);
void data_progress_end(const struct data_progress *p);

#endif
