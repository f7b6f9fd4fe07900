#include "feed.h"

enum status feed_open(const char *path, const struct ir_graph *g, uint64_t seed, bool shuffle, struct feed *f,
                      struct err *e)
{
    TRY(tokens_open(path, g->seq_len, g->vocab, &f->tokens, e));
    f->order = (struct data_order){ .n = f->tokens.n_windows, .seed = seed, .shuffle = shuffle };
    f->scratch = mem_alloc(g->seq_len * sizeof *f->scratch);
    return ST_OK;
}

void feed_close(struct feed *f)
{
    tokens_close(&f->tokens);
    mem_free(f->scratch);
    *f = (struct feed){ 0 };
}

static enum status read_sample(void *self, uint64_t sample, bool targets, int32_t *to, struct err *e)
{
    struct feed *f = self;
    uint64_t window = data_sample(&f->order, sample);
    return targets ? tokens_window(&f->tokens, window, f->scratch, to, e)
                   : tokens_window(&f->tokens, window, to, f->scratch, e);
}

struct exec_data feed_data(struct feed *f)
{
    return (struct exec_data){ read_sample, f };
}
