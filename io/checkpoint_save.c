/* The checkpoints of a run, written beside it. */
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "io/checkpoint_private.h"
#include "comm/world.h"

struct checkpoint_saver {
    struct checkpoint_setup set;
    struct ckpt__layout *layout;
    struct checkpoint_writer *w;   /* NULL: none is under way */
    bool publishing;               /* all ranks' pieces are written */
    struct ckpt__keeper *keeper;   /* rank 0 */
    struct dir folder;             /* of the one under way */
    struct checkpoint_entries old; /* rank 0: to be removed when it is durable */

    pthread_t thread;
    bool has_thread;
    _Atomic bool idle;
    enum status mine; /* what the thread came to; to be read when it is idle */
    struct err err;
    double seconds;
};

/* ---- every element exactly once ---- */

/* Sums of i^0, i^1 and i^2 over the elements of all pieces of a parameter, modulo 2^64, are those of 0..n-1. Not a
 * proof, but no mistake of a shard map gets through: a gap and an overlap would have to agree in number, sum and
 * squares. */
static uint64_t sum1(uint64_t n)
{
    return n % 2 ? n * ((n - 1) / 2) : n / 2 * (n - 1);
}

static uint64_t sum2(uint64_t n) /* of squares below n: (n-1)n(2n-1)/6 */
{
    unsigned __int128 x = n % 2 ? (unsigned __int128)((n - 1) / 2) * n : (unsigned __int128)(n / 2) * (n - 1);
    return x % 3 ? (uint64_t)(x * ((2 * (unsigned __int128)n - 1) / 3))
                 : (uint64_t)(x / 3 * (2 * (unsigned __int128)n - 1));
}

static enum status check_cover(const struct ir_graph *g, const struct checkpoint_piece *p, uint32_t n, struct err *e)
{
    uint64_t *sums = mem_alloc(sizeof *sums * 3 * g->params.n);
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < n; i++) {
        uint64_t end = p[i].first + p[i].count;
        if (p[i].param >= g->params.n || end < p[i].first || end > ir_shape_elements(&g->params.at[p[i].param].shape)) {
            st = err_set(e, ST_BUG, "checkpoint", "piece %" PRIu32 " lies outside its parameter", i);
            break;
        }
        uint64_t *s = sums + 3 * (uint64_t)p[i].param;
        s[0] += p[i].count;
        s[1] += sum1(end) - sum1(p[i].first);
        s[2] += sum2(end) - sum2(p[i].first);
    }
    st = world_agree(st, e);
    if (st == ST_OK)
        world_sum_u64(sums, 3 * (uint64_t)g->params.n);
    for (uint32_t i = 0; st == ST_OK && i < g->params.n; i++) {
        uint64_t all = ir_shape_elements(&g->params.at[i].shape), *s = sums + 3 * (uint64_t)i;
        if (s[0] != all || s[1] != sum1(all) || s[2] != sum2(all))
            st = err_set(e, ST_BUG, "checkpoint",
                         "the ranks' pieces of %s hold %" PRIu64 " elements, expected each of its %" PRIu64 " once",
                         g->params.at[i].name, s[0], all);
    }
    mem_free(sums);
    return st;
}

/* ---- what the threads do: no MPI, no HDF5, no allocation ---- */

static enum status write_pieces(struct checkpoint_saver *s)
{
    if (s->set.ready)
        TRY(s->set.ready(s->set.arg, &s->err));
    TRY(ckpt__writer_open(s->w, &s->err));
    for (uint32_t i = 0; i < s->set.n_pieces; i++)
        TRY(checkpoint_put(s->w, &s->set.pieces[i], &s->err));
    if (s->set.check)
        TRY(s->set.check(s->set.arg, &s->err));
    return checkpoint_sync(s->w, &s->err);
}

/* A file that cannot be removed is left: it costs space, not the job. */
static enum status publish(struct checkpoint_saver *s)
{
    TRY(ckpt__publish(s->w, &s->err));
    for (uint32_t i = 0; i < s->old.n; i++)
        dir_remove(&s->folder, strrchr(s->old.at[i].path, '/') + 1);
    return ST_OK;
}

static void *work(void *self)
{
    struct checkpoint_saver *s = self;
    double began = clock_now();
    s->mine = s->publishing ? publish(s) : write_pieces(s);
    s->seconds += clock_now() - began;
    atomic_store(&s->idle, true);
    return NULL;
}

/* Where there is no thread to be had, the work is done here. */
static void start(struct checkpoint_saver *s)
{
    atomic_store(&s->idle, false);
    s->has_thread = thread_start(&s->thread, work, s) == 0;
    if (!s->has_thread)
        work(s);
}

static void join_thread(struct checkpoint_saver *s)
{
    if (s->has_thread)
        pthread_join(s->thread, NULL);
    s->has_thread = false;
}

/* ---- what the ranks do together ---- */

enum status checkpoint_saver_open(const struct checkpoint_setup *setup, struct checkpoint_saver **out, struct err *e)
{
    struct ckpt__layout *layout;
    TRY(check_cover(setup->graph, setup->pieces, setup->n_pieces, e));
    TRY(ckpt__layout_new(setup->dir->path, &setup->info, setup->graph, &layout, e));
    if (world_rank() == 0)
        ckpt__remove_unfinished(setup->dir);
    world_barrier();
    struct checkpoint_saver *s = mem_alloc(sizeof *s);
    *s = (struct checkpoint_saver){ .set = *setup, .layout = layout, .folder = { .fd = -1 }, .idle = true };
    if (world_rank() == 0)
        s->keeper = ckpt__keeper_open(setup->dir, &setup->keep, setup->loaded);
    *out = s;
    return ST_OK;
}

static void drop_writer(struct checkpoint_saver *s)
{
    ckpt__writer_free(s->w);
    s->w = NULL;
    dir_close(&s->folder);
    checkpoint_entries_release(&s->old);
}

void checkpoint_saver_close(struct checkpoint_saver *s)
{
    if (!s)
        return;
    join_thread(s);
    if (s->w)
        drop_writer(s);
    ckpt__keeper_close(s->keeper);
    ckpt__layout_free(s->layout);
    mem_free(s);
}

/* Rank 0 makes the folder where it is missing, and the file; the others learn its name. What goes wrong is known to all. */
static enum status make_file(struct checkpoint_saver *s, uint64_t step)
{
    struct dir in;
    char name[DIR_NAME], path[PATH_MAX];
    bool root = world_rank() == 0;
    enum status st = root ? ckpt__layout_stamp(s->layout, &s->set.info, &s->err) : ST_OK;
    if (st == ST_OK && root)
        st = checkpoint_folder(s->set.dir, true, &s->folder, &s->err);
    st = world_agree(st, &s->err);
    if (st == ST_OK && !root)
        st = checkpoint_folder(s->set.dir, false, &s->folder, &s->err);
    if (st == ST_OK)
        st = dir_copy(&s->folder, &in, &s->err);
    else
        in = (struct dir){ .fd = -1 };
    ckpt__name_of(step, name);
    snprintf(path, sizeof path, "%s/checkpoints/%s", s->set.dir->path, name);
    s->w = ckpt__writer_new(s->layout, &in, path);
    return ckpt__writer_begin(s->w, st, name, &s->err);
}

void checkpoint_save_begin(struct checkpoint_saver *s, uint64_t step, uint64_t sample, uint64_t updates)
{
    CHECK(!s->w);
    s->set.info.step = step;
    s->set.info.sample = sample;
    s->set.info.updates = updates;
    s->publishing = false;
    s->seconds = 0;
    err_clear(&s->err);
    s->mine = make_file(s, step);
    if (s->mine == ST_OK)
        start(s);
}

bool checkpoint_save_idle(const struct checkpoint_saver *s)
{
    return atomic_load(&s->idle);
}

double checkpoint_save_seconds(const struct checkpoint_saver *s)
{
    return s->seconds;
}

enum status checkpoint_save_advance(struct checkpoint_saver *s, bool *done, struct err *e)
{
    join_thread(s);
    struct err mine = s->err;
    enum status st = s->publishing ? world_agree(s->mine, &mine) : ckpt__seal(s->w, s->mine, &mine);
    *done = s->publishing || st != ST_OK;
    if (*done) {
        if (st == ST_OK && world_rank() == 0)
            ckpt__keeper_written(s->keeper, &s->folder, s->set.info.step);
        drop_writer(s);
        return st == ST_OK ? ST_OK : err_set(e, st, NULL, "%s", mine.text);
    }
    s->publishing = true;
    s->mine = ST_OK;
    if (world_rank() == 0) {
        ckpt__keeper_choose(s->keeper, s->set.dir, s->set.info.step, &s->old);
        start(s);
    }
    return ST_OK;
}
