#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "cmd/data.h"

/* t.h5: t-eval.h5. */
static char *rest_of(const char *path)
{
    const size_t n = strlen(path), ending = n > 3 && strcmp(path + n - 3, ".h5") == 0 ? 3 : 0;
    char *rest = mem_alloc(n + 6);
    sprintf(rest, "%.*s-eval%s", (int)(n - ending), path, path + n - ending);
    return rest;
}

enum status data_sink_begin(const struct data_request *r, uint32_t width, struct data_sink *s, struct err *e)
{
    *s = (struct data_sink){ .share = r->share, .seed = r->seed };
    s->out[0].file.fd = s->out[1].file.fd = -1;
    TRY(tokens_out_begin(r->out, width, &s->out[0], e));
    data_half_made(0, &s->out[0].file);
    if (r->share >= 1)
        return ST_OK;
    s->rest = rest_of(r->out);
    TRY(tokens_out_begin(s->rest, width, &s->out[1], e));
    data_half_made(1, &s->out[1].file);
    return ST_OK;
}

void data_sink_document(struct data_sink *s)
{
    const uint64_t draw = number_mix(number_mix(s->seed + 1) + s->n_documents++) >> 11;
    s->now = s->rest && (double)draw * 0x1p-53 >= s->share;
    tokens_out_document(&s->out[s->now]);
}

enum status data_sink_add(struct data_sink *s, const uint32_t *ids, const uint8_t *mask, uint64_t n, struct err *e)
{
    for (uint64_t i = 0; i < n; i++)
        s->largest = ids[i] > s->largest ? ids[i] : s->largest;
    return tokens_out_add(&s->out[s->now], ids, mask, n, e);
}

enum status data_sink_end(struct data_sink *s, const struct data_request *r, const struct tokens_about *about,
                          struct err *e)
{
    const char *const paths[2] = { r->out, s->rest };
    const int n = s->rest ? 2 : 1;
    for (int i = 0; i < n; i++)
        if (s->out[i].n_tokens < 2)
            return err_set(e, ST_INPUT, paths[i],
                           "would have %" PRIu64 " tokens in %" PRIu32 " documents, expected at least 2%s",
                           s->out[i].n_tokens, s->out[i].documents.n,
                           n > 1 ? ": --split needs more documents, or another share" : "");
    for (int i = n; i-- > 0;)
        TRY(tokens_out_end(&s->out[i], about, e));
    for (int i = 0; i < n; i++)
        text_print(stdout, "%s: %" PRIu64 " tokens, vocabulary %" PRIu64 ", %" PRIu32 " document%s\n", paths[i],
                   s->out[i].n_tokens, about->vocab, s->out[i].documents.n, s->out[i].documents.n == 1 ? "" : "s");
    return ST_OK;
}

void data_sink_drop(struct data_sink *s)
{
    data_half_made(0, NULL);
    data_half_made(1, NULL);
    tokens_out_drop(&s->out[0]);
    tokens_out_drop(&s->out[1]);
    mem_free(s->rest);
    s->rest = NULL;
}
