/* piper data import: token ids of other programs into one file, documents kept. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cmd/data.h"
#include "io/tokens_import.h"

struct importing {
    const struct data_request *r;
    struct tokenizer *t; /* NULL: none is given */
    uint32_t vocab;      /* ids must be below; 0: any */
    struct data_sink sink;
    struct data_progress progress;
    uint32_t id_bytes; /* in the file that is read */
    uint64_t bytes, tokens;
    bool masked; /* some file has a mask: the others count all their tokens */
    struct {
        VEC(uint8_t);
    } all; /* a mask that is 1 everywhere */
};

static const uint8_t *all_count(struct importing *im, uint64_t n)
{
    while (im->all.n < n)
        vec_add(&im->all, 1);
    return im->all.at;
}

static enum status take(void *arg, const struct tokens_part *part, struct err *e)
{
    struct importing *im = arg;
    if (part->begins)
        data_sink_document(&im->sink);
    im->tokens += part->n;
    im->bytes += part->n * im->id_bytes;
    data_progress(&im->progress, im->bytes, im->tokens);
    const uint8_t *mask = part->mask || !im->masked ? part->mask : all_count(im, part->n);
    return data_sink_add(&im->sink, part->ids, mask, part->n, e);
}

/* All sources are opened before the first is read: what is wrong with the last shows at once. */
static enum status open_all(struct importing *im, uint32_t *width, struct err *e)
{
    const struct data_request *r = im->r;
    enum tokens_element raw;
    if (r->raw && !tokens_element_named(r->raw, &raw))
        return err_set(e, ST_USAGE, "data", "--raw: found \"%s\", expected uint8, uint16, uint32, int32 or int64",
                       r->raw);
    *width = 2;
    for (uint32_t i = 0; i < r->files.n; i++) {
        struct tokens_source s;
        TRY(tokens_source_open(r->files.at[i], r->raw ? &raw : NULL, &s, e));
        if (s.element != TOKENS_U8 && s.element != TOKENS_U16)
            *width = 4;
        im->masked |= s.mask_at != 0;
        tokens_source_close(&s);
    }
    if (im->vocab && im->vocab <= 65536)
        *width = 2;
    return ST_OK;
}

static enum status read_all(struct importing *im, struct err *e)
{
    const struct data_request *r = im->r;
    enum tokens_element raw;
    for (uint32_t i = 0; i < r->files.n; i++) {
        struct tokens_source s;
        if (r->raw)
            tokens_element_named(r->raw, &raw);
        TRY(tokens_source_open(r->files.at[i], r->raw ? &raw : NULL, &s, e));
        im->id_bytes = tokens_element_bytes(s.element);
        enum status st = tokens_source_each(&s, im->vocab, take, im, e);
        tokens_source_close(&s);
        TRY(st);
    }
    return ST_OK;
}

enum status data_import(const struct data_request *r, struct err *e)
{
    struct importing im = { .r = r, .vocab = (uint32_t)r->vocab };
    uint32_t width = 4;
    if (r->tokenizer)
        TRY(tokenizer_open(r->tokenizer, r->pattern, &im.t, e));
    if (im.t && !im.vocab)
        im.vocab = im.t->n_vocab;
    enum status st = open_all(&im, &width, e);
    if (st == ST_OK)
        st = data_sink_begin(r, width, &im.sink, e);
    data_progress_begin(&im.progress, &r->files);
    if (st == ST_OK)
        st = read_all(&im, e);
    data_progress_end(&im.progress);
    const struct tokens_about about = {
        .vocab = im.vocab ? im.vocab : im.sink.largest + UINT64_C(1),
        .files = (const char *const *)r->files.at,
        .n_files = r->files.n,
        .tokenizer = im.t ? im.t->name : NULL,
        .tokenizer_file = im.t ? im.t->file : NULL,
        .tokenizer_bytes = im.t ? im.t->file_bytes : 0,
    };
    if (st == ST_OK)
        st = data_sink_end(&im.sink, r, &about, e);
    data_sink_drop(&im.sink);
    vec_free(&im.all);
    tokenizer_free(im.t);
    return st;
}
