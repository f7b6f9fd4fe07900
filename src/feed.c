#include "feed.h"

#include <unistd.h>

#include "comm/comm.h"

enum status feed_open(const char *path, const struct ir_graph *g, uint64_t seed, bool shuffle, struct feed *f,
                      struct err *e)
{
    TRY(tokens_open(path, g->seq_len, g->vocab, &f->tokens, e));
    f->order = (struct data_order){ .n = f->tokens.n_windows, .seed = seed, .shuffle = shuffle };
    f->scratch = mem_alloc(g->seq_len * sizeof *f->scratch);
    f->source.tokens = f->tokens.n_tokens;
    checkpoint_source_name(path, f->source.name);
    enum status st = tokens_sample(&f->tokens, f->source.sample, e);
    if (st != ST_OK)
        feed_close(f);
    return st;
}

/* What ranks compare; no padding. */
struct facts {
    uint64_t tokens, width, vocab;
    uint8_t sample[SHA256_BYTES];
};

enum status feed_agree(const struct feed *f, struct err *e)
{
    struct facts mine = { f->tokens.n_tokens, f->tokens.width, f->tokens.file_vocab, { 0 } };
    memcpy(mine.sample, f->source.sample, sizeof mine.sample);
    struct facts *all = mem_alloc(ctl_size() * sizeof *all);
    ctl_all_gather(&mine, sizeof mine, all);
    const struct facts first = all[0];
    mem_free(all);
    if (memcmp(&first, &mine, sizeof mine) == 0)
        return ctl_agree(ST_OK, e);
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    const bool contents = mine.tokens == first.tokens && mine.width == first.width && mine.vocab == first.vocab;
    return ctl_agree(
        err_set(
            e, ST_INPUT, f->tokens.path,
            "rank %u on %s reads another file than rank 0: %llu tokens of %llu bytes, vocabulary %llu, against %llu of "
            "%llu, vocabulary %llu%s; give every node the same file",
            ctl_rank(), host, (unsigned long long)mine.tokens, (unsigned long long)mine.width,
            (unsigned long long)mine.vocab, (unsigned long long)first.tokens, (unsigned long long)first.width,
            (unsigned long long)first.vocab, contents ? ", with other contents" : ""),
        e);
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
