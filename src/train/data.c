/* Token files before the first step: which samples this rank reads, and a look at every token, since one that is no token of the
 * model is better found now than by the step that needs it. */
#include <math.h>
#include <stdio.h>

#include "train/private.h"
#include "watch/watch.h"

/* Tokens that are looked at between two looks at the clock; seconds for a file: 20 of them do for 10 G tokens. */
enum { SLICE = 1 << 20, MOST_SECONDS = 20 };

static enum status bind_feed(const struct train *t, uint32_t list, struct feed *f, struct err *e)
{
    uint64_t *places;
    uint32_t n = exec_samples(t->exec, list, &places);
    return feed_bind(f, places, n, e);
}

static enum status bind_feeds(struct train *t, struct err *e)
{
    TRY(bind_feed(t, t->train_list, &t->feed, e));
    for (uint32_t i = 0; i < train__eval_sets(t); i++)
        TRY(bind_feed(t, t->eval_list, &t->eval_feeds[i], e));
    return ST_OK;
}

/* This rank's share, as much of it as there is time for. *done: tokens. */
static enum status look(struct tokens *f, double until, uint64_t *done, struct err *e)
{
    uint64_t ranks = world_size(), rank = world_rank(), n = f->n_tokens;
    uint64_t at = n / ranks * rank + (rank < n % ranks ? rank : n % ranks), end = at + n / ranks + (rank < n % ranks);
    *done = 0;
    while (at < end && clock_now() < until) {
        uint64_t part = end - at < SLICE ? end - at : SLICE;
        TRY(tokens_check(f, at, part, e));
        at += part;
        *done += part;
    }
    return ST_OK;
}

/* A file that says how large its vocabulary is was looked through when it was made. */
static enum status check(struct train *t, struct tokens *f, struct err *e)
{
    double begin = clock_now();
    uint64_t mine;
    if (f->file_vocab && f->file_vocab <= f->vocab)
        return ST_OK;
    watch_phase("check data");
    enum status st = look(f, begin + MOST_SECONDS, &mine, e);
    watch_phase("wait for the check of data");
    TRY(world_agree(st, e));
    double done = (double)mine, all = (double)f->n_tokens;
    world_sum_f64(&done, 1);
    double seconds = clock_now() - begin;
    if (done == all)
        log_line(&t->log, "data %s: all %.0f tokens are below %u, the size of the vocabulary (%.1f s)", f->path, all,
                 f->vocab, seconds);
    else
        log_line(&t->log,
                 "data %s: checked %.0f%% of %.4g tokens in %.0f s; the others are checked when a step needs them",
                 f->path, floor(100 * done / all), all, seconds);
    return ST_OK;
}

enum status train__check_data(struct train *t, struct err *e)
{
    if (train__emulates(t))
        return ST_OK;
    TRY(world_agree(bind_feeds(t, e), e));
    for (uint32_t i = 0; i < t->feed.n_sources; i++)
        TRY(check(t, &t->feed.sources[i].tokens, e));
    for (uint32_t i = 0; i < train__eval_sets(t); i++)
        TRY(check(t, &t->eval_feeds[i].sources[0].tokens, e));
    return ST_OK;
}
