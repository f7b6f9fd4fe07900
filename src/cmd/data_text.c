/* piper data text, jsonl: documents to tokens. One thread reads the next batch while the others encode this one; tokens are
 * written in the order of the documents, so that the file is the same with any number of threads. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "cmd/data.h"
#include "text/documents.h"

enum { BATCH = 1 << 23 /* bytes of text */ };

struct coding {
    const struct data_request *r;
    struct tokenizer *t; /* NULL: bytes */
    struct documents documents;
    struct document_batch batch[2];
    struct {
        VEC(struct token_ids); /* of the pieces of a batch */
    } coded;
    struct {
        VEC(struct encoder *); /* by thread */
    } encoders;
    struct data_around around;
    struct data_sink sink;
    struct data_progress progress;
    uint64_t tokens;
};

/* ---- what is put around a document ---- */

static bool wants(const char *word, bool by_itself)
{
    return strcmp(word, "yes") == 0 || (strcmp(word, "auto") == 0 && by_itself);
}

enum status data_around(const struct data_request *r, const struct tokenizer *t, struct data_around *a, struct err *e)
{
    *a = (struct data_around){ .after = VOCABULARY_NONE };
    if (!t) {
        const char *asked = strcmp(r->bos, "yes") == 0 ? "--bos yes" : strcmp(r->eos, "yes") == 0 ? "--eos yes" : NULL;
        return asked ? err_set(e, ST_USAGE, "data", "%s needs --tokenizer: bytes as tokens have no such token", asked)
                     : ST_OK;
    }
    if (wants(r->bos, t->n_before > 0) && t->n_before > 0) {
        a->n_before = t->n_before;
        memcpy(a->before, t->before, sizeof a->before);
    } else if (strcmp(r->bos, "yes") == 0) {
        if (t->bos == VOCABULARY_NONE)
            return err_set(e, ST_USAGE, "data",
                           "--bos yes, but %s names no token for the begin of a text: tokenizer_config.json's "
                           "bos_token, or its post_processor",
                           t->path);
        a->before[a->n_before++] = t->bos;
    }
    if (wants(r->eos, true))
        a->after = t->end_of_text;
    if (a->after == VOCABULARY_NONE && strcmp(r->eos, "no") != 0)
        return err_set(
            e, ST_USAGE, "data",
            "%s has no token for the end of a text (<|endoftext|>, </s>, ... or tokenizer_config.json's eos_token): "
            "--eos no leaves it out",
            t->path);
    return ST_OK;
}

/* ---- encoding ---- */

static void encode_bytes(const char *text, size_t n, struct token_ids *out)
{
    const uint32_t at = vec_grow(out, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        out->at[at + i] = (unsigned char)text[i];
}

static enum status encode_piece(struct coding *c, const struct document_batch *b, uint32_t i, struct err *e)
{
#ifdef _OPENMP
    struct encoder *x = c->t ? c->encoders.at[omp_get_thread_num()] : NULL;
#else
    struct encoder *x = c->t ? c->encoders.at[0] : NULL;
#endif
    const struct document_piece *p = &b->at[i];
    struct token_ids *out = &c->coded.at[i];
    out->n = 0;
    if (!c->t)
        encode_bytes(b->text.at + p->at, p->n, out);
    else
        TRY(encoder_encode(x, b->text.at + p->at, p->n, p->begins ? 0 : ENCODE_CONTINUED, out, e));
    return ST_OK;
}

/* Fills `next` and encodes `now` at the same time; either may be empty. */
static enum status work(struct coding *c, struct document_batch *now, struct document_batch *next, struct err *e)
{
    enum status read = ST_OK, coded = ST_OK;
    struct err why = { 0 };
    while (c->coded.n < now->n)
        vec_add(&c->coded, ((struct token_ids){ 0 }));
#pragma omp parallel
    {
#pragma omp single nowait
        read = documents_fill(&c->documents, BATCH, next, e);
#pragma omp for schedule(dynamic)
        for (uint32_t i = 0; i < now->n; i++) {
            struct err mine = { 0 };
            const enum status st = encode_piece(c, now, i, &mine);
            if (st != ST_OK) {
#pragma omp critical
                {
                    coded = st;
                    why = mine;
                }
            }
        }
    }
    if (coded != ST_OK)
        return err_set(e, coded, NULL, "%s", why.text);
    return read;
}

static enum status write_batch(struct coding *c, const struct document_batch *b, struct err *e)
{
    for (uint32_t i = 0; i < b->n; i++) {
        const struct token_ids *ids = &c->coded.at[i];
        if (b->at[i].begins) {
            data_sink_document(&c->sink);
            TRY(data_sink_add(&c->sink, c->around.before, NULL, c->around.n_before, e));
        }
        TRY(data_sink_add(&c->sink, ids->at, NULL, ids->n, e));
        if (b->at[i].ends && c->around.after != VOCABULARY_NONE)
            TRY(data_sink_add(&c->sink, &c->around.after, NULL, 1, e));
        c->tokens += ids->n;
    }
    return ST_OK;
}

static enum status code_all(struct coding *c, struct err *e)
{
    int now = 0;
    TRY(work(c, &c->batch[1], &c->batch[0], e));
    for (; c->batch[now].n; now = !now) {
        TRY(work(c, &c->batch[now], &c->batch[!now], e));
        TRY(write_batch(c, &c->batch[now], e));
        data_progress(&c->progress, c->documents.file_bytes, c->tokens);
    }
    return ST_OK;
}

/* ---- the command ---- */

void data_report_skipped(const struct documents *d)
{
    for (uint64_t i = 0; i < d->skipped && i < DOCUMENTS_SKIPS; i++)
        text_print(stderr, "piper: skipped %s\n", d->skip[i]);
    if (d->skipped)
        fprintf(stderr, "piper: %" PRIu64 " line%s skipped%s\n", d->skipped, d->skipped == 1 ? "" : "s",
                d->skipped > DOCUMENTS_SKIPS ? "; the first are above" : "");
    if (d->repaired)
        fprintf(stderr, "piper: %" PRIu64 " place%s of the text %s no valid UTF-8 and became U+FFFD\n", d->repaired,
                d->repaired == 1 ? "" : "s", d->repaired == 1 ? "was" : "were");
}

static enum status finish(struct coding *c, struct err *e)
{
    const struct data_request *r = c->r;
    if (c->documents.n == 0 || c->sink.out[0].n_tokens + c->sink.out[1].n_tokens == 0)
        return err_set(e, ST_INPUT, r->files.at[0], "contains no text: %" PRIu64 " bytes in %" PRIu64 " documents",
                       c->documents.bytes, c->documents.n);
    const struct tokens_about about = {
        .vocab = c->t ? c->t->n_vocab : 256,
        .files = (const char *const *)r->files.at,
        .n_files = r->files.n,
        .tokenizer = c->t ? c->t->name : NULL,
        .tokenizer_file = c->t ? c->t->file : NULL,
        .tokenizer_bytes = c->t ? c->t->file_bytes : 0,
    };
    return data_sink_end(&c->sink, r, &about, e);
}

enum status data_text(const struct data_request *r, struct err *e)
{
    struct coding c = { .r = r };
    int threads = 1;
#ifdef _OPENMP
    threads = omp_get_max_threads();
#endif
    if (r->tokenizer)
        TRY(tokenizer_open(r->tokenizer, r->pattern, &c.t, e));
    enum status st = data_around(r, c.t, &c.around, e);
    if (st == ST_OK)
        st = data_sink_begin(r, (c.t ? c.t->n_vocab : 256) <= 65536 ? 2 : 4, &c.sink, e);
    for (int i = 0; i < threads && c.t; i++)
        vec_add(&c.encoders, encoder_new(c.t));
    documents_open(&c.documents, strcmp(r->verb, "jsonl") == 0 ? DOCUMENTS_JSONL : DOCUMENTS_TEXT, r->field, c.t,
                   (const char *const *)r->files.at, r->files.n);
    data_progress_begin(&c.progress, &r->files);
    if (st == ST_OK)
        st = code_all(&c, e);
    data_progress_end(&c.progress);
    data_report_skipped(&c.documents);
    if (st == ST_OK)
        st = finish(&c, e);
    data_sink_drop(&c.sink);
    documents_close(&c.documents);
    for (uint32_t i = 0; i < c.encoders.n; i++)
        encoder_free(c.encoders.at[i]);
    vec_free(&c.encoders);
    for (uint32_t i = 0; i < c.coded.n; i++)
        vec_free(&c.coded.at[i]);
    vec_free(&c.coded);
    document_batch_free(&c.batch[0]);
    document_batch_free(&c.batch[1]);
    tokenizer_free(c.t);
    return st;
}
