#include "train/feed.h"

#include <string.h>
#include <unistd.h>

#include "comm/world.h"

enum status feed_open(const char *path, const struct ir_graph *g, uint64_t seed, bool shuffle, struct feed *f,
                      struct err *e)
{
    TRY(tokens_open(path, g->seq_len, g->vocab, &f->tokens, e));
    f->order = (struct data_order){ .n = f->tokens.n_windows, .seed = seed, .shuffle = shuffle };
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
    struct facts *all = mem_alloc(world_size() * sizeof *all);
    world_all_gather(&mine, sizeof mine, all);
    const struct facts first = all[0];
    mem_free(all);
    if (memcmp(&first, &mine, sizeof mine) == 0)
        return world_agree(ST_OK, e);
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    const bool contents = mine.tokens == first.tokens && mine.width == first.width && mine.vocab == first.vocab;
    return world_agree(
        err_set(e, ST_INPUT, f->tokens.path,
                "differs between ranks: %llu tokens of %llu bytes, vocabulary %llu on rank %u (host %s), "
                "%llu of %llu bytes, vocabulary %llu on rank 0%s; every node must see the same file",
                (unsigned long long)mine.tokens, (unsigned long long)mine.width, (unsigned long long)mine.vocab,
                world_rank(), host, (unsigned long long)first.tokens, (unsigned long long)first.width,
                (unsigned long long)first.vocab, contents ? ", with other contents" : ""),
        e);
}

void feed_bind(struct feed *f, uint64_t *places, uint32_t n)
{
    f->places = places;
    f->n = n;
    for (int i = 0; i < 2; i++)
        f->runs[i].rows = mem_alloc((uint64_t)n * (f->tokens.seq_len + 1) * sizeof(int32_t));
}

void feed_close(struct feed *f)
{
    tokens_close(&f->tokens);
    mem_free(f->places);
    for (int i = 0; i < 2; i++)
        mem_free(f->runs[i].rows);
    *f = (struct feed){ 0 };
}

enum status feed_ahead(struct feed *f, uint64_t sample, struct err *e)
{
    struct feed_run *r = &f->runs[f->next];
    uint64_t length = (uint64_t)f->tokens.seq_len + 1;
    f->next = !f->next;
    r->full = false;
    for (uint32_t i = 0; i < f->n; i++)
        TRY(tokens_window(&f->tokens, data_sample(&f->order, sample + f->places[i]), r->rows + i * length, e));
    r->sample = sample;
    r->full = true;
    return ST_OK;
}

/* The number of a place; f->n: it is none of them. */
static uint32_t find_place(const struct feed *f, uint64_t place)
{
    uint32_t lo = 0, hi = f->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (f->places[mid] < place)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < f->n && f->places[lo] == place ? lo : f->n;
}

static enum status read_sample(void *self, uint64_t sample, bool targets, int32_t *to, struct err *e)
{
    struct feed *f = self;
    (void)e;
    for (int i = 0; i < 2; i++) {
        const struct feed_run *r = &f->runs[i];
        uint32_t at = r->full && sample >= r->sample ? find_place(f, sample - r->sample) : f->n;
        if (at == f->n)
            continue;
        uint64_t t = f->tokens.seq_len;
        memcpy(to, r->rows + at * (t + 1) + targets, t * sizeof *to);
        return ST_OK;
    }
    check_failed(__FILE__, __LINE__, "a sample was read before it is loaded");
}

struct exec_data feed_data(struct feed *f)
{
    return (struct exec_data){ read_sample, f };
}
