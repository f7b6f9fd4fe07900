#include "train/feed.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/number.h"
#include "base/thread.h"
#include "comm/world.h"

/* ---- files ---------------------------------------------------------------------------------------------------- */

static enum status open_source(const struct feed_setup *s, const struct train_source *from, struct feed_source *to,
                               struct err *e)
{
    TRY(tokens_open(from->path, s->graph->seq_len, s->graph->vocab, &to->tokens, e));
    if (s->apart && !to->tokens.n_documents)
        return err_set(
            e, ST_INPUT, from->path,
            "marks no documents, which \"documents\": \"separate\" requires; make it anew with piper data, or use "
            "\"documents\": \"join\"");
    to->source.tokens = to->tokens.n_tokens;
    checkpoint_source_name(from->path, to->source.name);
    if (*from->name)
        strcpy(to->source.name, from->name);
    return tokens_sample(&to->tokens, to->source.sample, e);
}

static enum status open_sources(const struct feed_setup *s, struct feed *f, struct err *e)
{
    double weights[TRAIN_SOURCES_MAX];
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->data->n; i++) {
        struct feed_source *to = &f->sources[i];
        f->n_sources++;
        TRY(open_source(s, &s->data->at[i], to, e));
        to->first = n;
        n += to->tokens.n_windows;
        to->source.weight = s->data->at[i].weight;
        to->order = (struct data_order){ .n = to->tokens.n_windows,
                                         .seed = s->seed + number_hash(to->source.name, strlen(to->source.name), 0),
                                         .shuffle = s->shuffle };
        f->counts = f->counts || to->tokens.mask_at || s->apart;
    }
    f->order = (struct data_order){ .n = n, .seed = s->seed, .shuffle = s->shuffle };
    for (uint32_t i = 0; i < f->n_sources; i++)
        weights[i] = f->sources[i].source.weight;
    if (weights[0] > 0)
        data_blend_init(&f->blend, weights, f->n_sources, s->seed);
    return ST_OK;
}

enum status feed_open(const struct feed_setup *s, struct feed *f, struct err *e)
{
    *f = (struct feed){ .seq_len = s->graph->seq_len, .apart = s->apart };
    enum status st = open_sources(s, f, e);
    const uint64_t t = f->seq_len;
    f->width = t + 1 + (f->counts ? t : 0) + (f->apart ? t : 0);
    if (st != ST_OK)
        feed_close(f);
    return st;
}

/* What ranks compare; no padding. */
struct facts {
    uint64_t tokens, width, vocab;
    uint8_t sample[SHA256_BYTES];
};

static enum status agree(const struct feed_source *s, struct err *e)
{
    struct facts mine = { s->tokens.n_tokens, s->tokens.width, s->tokens.file_vocab, { 0 } };
    memcpy(mine.sample, s->source.sample, sizeof mine.sample);
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
        err_set(e, ST_INPUT, s->tokens.path,
                "differs between ranks: %llu tokens of %llu bytes, vocabulary %llu on rank %u (host %s), "
                "%llu of %llu bytes, vocabulary %llu on rank 0%s; every node must see the same file",
                (unsigned long long)mine.tokens, (unsigned long long)mine.width, (unsigned long long)mine.vocab,
                world_rank(), host, (unsigned long long)first.tokens, (unsigned long long)first.width,
                (unsigned long long)first.vocab, contents ? ", with other contents" : ""),
        e);
}

enum status feed_agree(const struct feed *f, struct err *e)
{
    for (uint32_t i = 0; i < f->n_sources; i++)
        TRY(agree(&f->sources[i], e));
    return ST_OK;
}

uint64_t feed_windows(const struct feed *f)
{
    return f->order.n;
}

/* ---- which sequence a sample is --------------------------------------------------------------------------------- */

uint64_t feed_taken(const struct feed *f, uint32_t s, uint64_t sample)
{
    return f->blend.n ? data_blend_count(&f->blend, s, sample) + (uint64_t)f->sources[s].source.offset : sample;
}

void feed_continue(struct feed *f, uint32_t s, uint64_t sample, uint64_t taken)
{
    if (f->blend.n)
        f->sources[s].source.offset = (int64_t)(taken - data_blend_count(&f->blend, s, sample));
}

static struct feed_source *find_sample(struct feed *f, uint64_t sample, uint64_t *window)
{
    uint32_t s = 0;
    if (f->blend.n) {
        s = data_blend_source(&f->blend, sample);
        *window = data_sample(&f->sources[s].order, feed_taken(f, s, sample));
        return &f->sources[s];
    }
    const uint64_t at = data_sample(&f->order, sample);
    while (s + 1 < f->n_sources && f->sources[s + 1].first <= at)
        s++;
    *window = at - f->sources[s].first;
    return &f->sources[s];
}

static enum status read_sample(struct feed *f, uint64_t sample, int32_t *to, struct err *e)
{
    const uint64_t t = f->seq_len;
    uint64_t window;
    struct feed_source *s = find_sample(f, sample, &window);
    TRY(tokens_window(&s->tokens, window, to, e));
    if (!f->counts)
        return ST_OK;
    return tokens_targets(&s->tokens, window, to, f->apart, to + t + 1, f->apart ? to + 2 * t + 1 : NULL, e);
}

/* Targets that count among the samples that are this rank's share of a run, as the ranks divide it. */
static enum status count_share(struct feed *f, uint64_t first, double *counted, struct err *e)
{
    const uint64_t ranks = world_size(), rank = world_rank();
    const uint64_t from = f->stride * rank / ranks, to = f->stride * (rank + 1) / ranks;
    *counted = 0;
    for (uint64_t i = from; f->counts && i < to; i++) {
        uint64_t window, n;
        struct feed_source *s = find_sample(f, first + i, &window);
        TRY(tokens_count(&s->tokens, window, f->apart, &n, e));
        *counted += (double)n;
    }
    return ST_OK;
}

/* ---- reading ahead ------------------------------------------------------------------------------------------------ */

static enum status read_run(struct feed *f, uint64_t first, struct feed_run *to, struct err *e)
{
    for (uint32_t i = 0; i < f->n; i++)
        TRY(read_sample(f, first + f->places[i], to->rows + i * f->width, e));
    return count_share(f, first, &to->counted, e);
}

static bool has_room(const struct feed *f)
{
    return f->read < f->n_runs && f->read < f->done + FEED_RUNS && f->unread.status == ST_OK;
}

static void *read_ahead(void *self)
{
    struct feed *f = self;
    pthread_mutex_lock(&f->lock);
    while (!f->quit) {
        if (!has_room(f)) {
            pthread_cond_wait(&f->changed, &f->lock);
            continue;
        }
        const uint64_t run = f->read;
        struct err e = { 0 };
        f->busy = true;
        pthread_mutex_unlock(&f->lock);
        read_run(f, f->begin + run * f->stride, &f->runs[run % FEED_RUNS], &e);
        pthread_mutex_lock(&f->lock);
        f->busy = false;
        f->unread = e;
        f->read += e.status == ST_OK;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

enum status feed_bind(struct feed *f, uint64_t *places, uint32_t n, struct err *e)
{
    f->places = places;
    f->n = n;
    for (int i = 0; i < FEED_RUNS; i++)
        f->runs[i].rows = mem_alloc(n * f->width * sizeof(int32_t) + 1);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    f->has_thread = thread_start(&f->thread, read_ahead, f) == 0;
    return f->has_thread
               ? ST_OK
               : err_set(e, ST_DEVICE, NULL, "cannot start a thread that reads the data: no more threads are allowed");
}

void feed_close(struct feed *f)
{
    if (f->has_thread) {
        pthread_mutex_lock(&f->lock);
        f->quit = true;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        pthread_join(f->thread, NULL);
        pthread_mutex_destroy(&f->lock);
        pthread_cond_destroy(&f->changed);
    }
    for (uint32_t i = 0; i < f->n_sources; i++)
        tokens_close(&f->sources[i].tokens);
    mem_free(f->places);
    for (int i = 0; i < FEED_RUNS; i++)
        mem_free(f->runs[i].rows);
    *f = (struct feed){ 0 };
}

void feed_start(struct feed *f, uint64_t begin, uint64_t stride, uint64_t n_runs)
{
    pthread_mutex_lock(&f->lock);
    f->n_runs = 0; /* the thread takes no other one */
    while (f->busy)
        pthread_cond_wait(&f->changed, &f->lock);
    f->begin = begin;
    f->stride = stride;
    f->n_runs = n_runs;
    f->read = f->done = 0;
    f->unread = (struct err){ 0 };
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

enum status feed_wait(struct feed *f, uint64_t run, struct err *e)
{
    const double begin = clock_now();
    pthread_mutex_lock(&f->lock);
    if (run > 0)
        f->done = run - 1;
    pthread_cond_broadcast(&f->changed);
    while (f->read <= run && f->unread.status == ST_OK)
        pthread_cond_wait(&f->changed, &f->lock);
    const bool read = f->read > run;
    const struct err why = f->unread;
    pthread_mutex_unlock(&f->lock);
    f->waited += clock_now() - begin;
    return read ? ST_OK : err_set(e, why.status, NULL, "%s", why.text);
}

double feed_counted(const struct feed *f, uint64_t run)
{
    return f->runs[run % FEED_RUNS].counted;
}

/* ---- for the executor --------------------------------------------------------------------------------------------- */

/* The number of a place, which is one of them. */
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
    CHECK(lo < f->n && f->places[lo] == place);
    return lo;
}

static enum status load(void *self, uint64_t sample, enum exec_input which, int32_t *to, struct err *e)
{
    const struct feed *f = self;
    const uint64_t t = f->seq_len, run = (sample - f->begin) / f->stride;
    const uint64_t at = which == EXEC_TOKENS ? 0 : which == EXEC_DOCUMENTS ? 2 * t + 1 : f->counts ? t + 1 : 1;
    const uint32_t place = find_place(f, (sample - f->begin) % f->stride);
    (void)e;
    memcpy(to, f->runs[run % FEED_RUNS].rows + place * f->width + at, t * sizeof *to);
    return ST_OK;
}

struct exec_data feed_data(struct feed *f)
{
    return (struct exec_data){ load, f };
}
