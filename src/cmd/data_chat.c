/* piper data chat: conversations to tokens and a mask. A conversation is a document. */
#include <inttypes.h>
#include <stdio.h>

#include "cmd/data.h"
#include "text/chat.h"
#include "text/documents.h"

enum { BATCH = 1 << 22 /* bytes */ };

struct chatting {
    const struct data_request *r;
    struct tokenizer *t;
    struct encoder *x;
    struct chat_template c;
    struct documents lines;
    struct document_batch batch;
    struct chat_tokens coded;
    struct data_sink sink;
    struct data_progress progress;
    uint64_t tokens, targets;
};

/* Up to a multiple of --pad, with what is no target. */
static enum status pad(struct chatting *c, struct err *e)
{
    const struct tokens_out *out = &c->sink.out[c->sink.now];
    const uint32_t filler = c->t->end_of_text != VOCABULARY_NONE ? c->t->end_of_text : 0;
    while (c->r->pad && out->n_tokens % c->r->pad)
        TRY(data_sink_add(&c->sink, &filler, &(uint8_t){ 0 }, 1, e));
    return ST_OK;
}

static enum status code_line(struct chatting *c, const struct document_piece *p, struct err *e)
{
    const char *why;
    char *line = c->batch.text.at + p->at;
    TRY(chat_encode(&c->c, c->x, c->t, line, c->r->field, &c->coded, &why, e));
    if (why) {
        documents_skip(&c->lines, p->line, why);
        return ST_OK;
    }
    data_sink_document(&c->sink);
    TRY(data_sink_add(&c->sink, c->coded.ids.at, c->coded.mask.at, c->coded.ids.n, e));
    c->tokens += c->coded.ids.n;
    for (uint32_t i = 0; i < c->coded.mask.n; i++)
        c->targets += c->coded.mask.at[i];
    return pad(c, e);
}

static enum status code_all(struct chatting *c, struct err *e)
{
    for (;;) {
        TRY(documents_fill(&c->lines, BATCH, &c->batch, e));
        if (c->batch.n == 0)
            return ST_OK;
        for (uint32_t i = 0; i < c->batch.n; i++)
            TRY(code_line(c, &c->batch.at[i], e));
        data_progress(&c->progress, c->lines.file_bytes, c->tokens);
    }
}

static enum status finish(struct chatting *c, struct err *e)
{
    const struct data_request *r = c->r;
    const struct tokens_about about = {
        .vocab = c->t->n_vocab,
        .files = (const char *const *)r->files.at,
        .n_files = r->files.n,
        .tokenizer = c->t->name,
        .tokenizer_file = c->t->file,
        .tokenizer_bytes = c->t->file_bytes,
    };
    if (c->targets == 0)
        return err_set(e, ST_INPUT, r->files.at[0],
                       "there is no conversation with an assistant in it: found %" PRIu64 " lines, all skipped",
                       c->lines.skipped);
    TRY(data_sink_end(&c->sink, r, &about, e));
    printf("template %s%s: %" PRIu64 " of %" PRIu64 " tokens are targets\n", chat_template_name(&c->c),
           c->c.system ? " with the system text of the tokenizer" : "", c->targets, c->tokens);
    return ST_OK;
}

enum status data_chat(const struct data_request *r, struct err *e)
{
    struct chatting c = { .r = r };
    if (!r->tokenizer)
        return err_set(e, ST_USAGE, "data", "chat needs --tokenizer: templates are made of its special tokens");
    TRY(tokenizer_open(r->tokenizer, r->pattern, &c.t, e));
    enum status st = chat_template_find(r->template, c.t, &c.c, e);
    if (st == ST_OK)
        st = data_sink_begin(r, c.t->n_vocab <= 65536 ? 2 : 4, &c.sink, e);
    c.x = encoder_new(c.t);
    documents_open(&c.lines, DOCUMENTS_LINES, NULL, NULL, (const char *const *)r->files.at, r->files.n);
    data_progress_begin(&c.progress, &r->files);
    if (st == ST_OK)
        st = code_all(&c, e);
    data_progress_end(&c.progress);
    data_report_skipped(&c.lines);
    if (st == ST_OK)
        st = finish(&c, e);
    data_sink_drop(&c.sink);
    documents_close(&c.lines);
    document_batch_free(&c.batch);
    chat_tokens_free(&c.coded);
    chat_template_free(&c.c);
    encoder_free(c.x);
    tokenizer_free(c.t);
    return st;
}
