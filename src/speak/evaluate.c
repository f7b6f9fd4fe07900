#include "speak/evaluate.h"

#include "speak/walk.h"

/* Ids (T+1), targets (T), documents (T). */
struct rows {
    int32_t *ids, *targets, *document;
};

static enum status read_window(const struct speak_data *d, uint64_t i, struct rows *r, struct err *e)
{
    TRY(tokens_window(d->tokens, i, r->ids, e));
    return tokens_targets(d->tokens, i, r->ids, d->apart, r->targets, d->apart ? r->document : NULL, e);
}

static enum status add_windows(struct walk *w, const struct speak_data *d, struct rows *r, struct speak_result *to,
                               struct err *e)
{
    const uint32_t t = d->tokens->seq_len;
    for (uint64_t i = 0; i < d->windows; i++) {
        TRY(read_window(d, i, r, e));
        w->scalars[SCALAR_LOSS] = 0;
        walk_run(w, t);
        to->loss += w->scalars[SCALAR_LOSS];
        for (uint32_t k = 0; k < t; k++)
            to->targets += r->targets[k] >= 0;
        if (d->seen)
            d->seen(d->arg, r->targets, t);
    }
    return ST_OK;
}

enum status speak_evaluate(const struct speak_model *m, const struct speak_data *data, struct speak_result *to,
                           struct err *e)
{
    const uint32_t t = data->tokens->seq_len;
    int32_t *memory = mem_alloc((3 * (uint64_t)t + 1) * sizeof *memory);
    struct rows r = { memory, memory + t + 1, memory + 2 * t + 1 };
    struct walk w;
    walk_open(m, t, 0, &w);
    w.tokens = r.ids;
    w.targets = r.targets;
    w.document = r.document;
    *to = (struct speak_result){ 0 };
    const enum status st = add_windows(&w, data, &r, to, e);
    walk_close(&w);
    mem_free(memory);
    return st;
}
