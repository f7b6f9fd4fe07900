/* Making communicators: one for the whole job from an id, which is slow (every rank meets rank 0 and learns the topology), and
 * all others by splitting it.
 *
 * A split takes all ranks together, so one per set would take as many as the job has sets: thousands. But one split makes
 * many communicators, one a colour, as long as no rank wants two of them. So all ranks tell each other what they want, and
 * all find the same rounds: sets that share no rank go into one, and there are about as many splits as one rank has sets,
 * a dozen, whatever the size of the job. Ids of their own, all under way at once, would want a listening socket and a few
 * threads per set instead. Splits of a smaller parent would save time per split, but not splits. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "comm/nccl_private.h"

static const double limit = 300; /* seconds for a call that all ranks take part in */

/* A set that a rank is in. What is equal on two ranks is one set; they come in the order of `key`. */
struct want {
    uint32_t
        key[3];    /* of a channel: 0, id, first member; of a lane: kind and what it is, its first member, its second */
    uint32_t ctas; /* 0: as many as it likes */
};
struct member {
    struct want want;
    uint32_t rank, at; /* at: number in the rank's own list */
};
struct wants {
    uint32_t most, ranks; /* sets of a rank at most */
    struct member *all;   /* sorted */
    uint32_t n;
    uint32_t *taken;        /* [ranks*most] rounds of a rank's sets so far */
    uint32_t *n_taken;      /* [ranks] */
    uint32_t *round, *ctas; /* [most] of this rank's sets */
    uint32_t rounds;
};

static int by_key(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    int order = 0;
    for (uint32_t i = 0; i < 3 && !order; i++)
        order = (x->want.key[i] > y->want.key[i]) - (x->want.key[i] < y->want.key[i]);
    return order ? order : (x->rank > y->rank) - (x->rank < y->rank);
}

static struct want want_of(const struct comm_setup *s, uint32_t i)
{
    if (i < s->n_channels) {
        const struct comm_channel *ch = &s->channels[i];
        return (struct want){ { 0, ch->id, comm_group_rank(&ch->group, 0) },
                              s->max_ctas ? s->max_ctas[ch->stream] : 0 };
    }
    const struct comm_lane *l = &s->lanes[i - s->n_channels];
    return (struct want){
        { 1 + 2 * l->kind + l->exchange, comm_group_rank(&l->group, 0), comm_group_rank(&l->group, 1) }, l->max_ctas
    };
}

/* Everybody's, with the empty entries of ranks that have less than others left out. */
static void gather(const struct comm *c, const struct comm_setup *s, struct wants *w)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < comm__nccl_count(c); i++)
        most += c->made[i].group.count > 1;
    world_max_u64(&most, 1);
    w->most = (uint32_t)most;
    w->ranks = world_size();
    struct member *mine = mem_alloc((most + 1) * sizeof *mine);
    w->all = mem_alloc((most * w->ranks + 1) * sizeof *w->all);
    for (uint32_t i = 0; i < most; i++)
        mine[i].at = UINT32_MAX;
    for (uint32_t i = 0, n = 0; i < comm__nccl_count(c); i++)
        if (c->made[i].group.count > 1)
            mine[n++] = (struct member){ want_of(s, i), world_rank(), i };
    world_all_gather(mine, most * sizeof *mine, w->all);
    mem_free(mine);
    for (uint64_t i = 0; i < most * w->ranks; i++)
        if (w->all[i].at != UINT32_MAX)
            w->all[w->n++] = w->all[i];
    if (w->n)
        qsort(w->all, w->n, sizeof *w->all, by_key);
}

static bool is_taken(const struct wants *w, uint32_t rank, uint32_t round)
{
    const uint32_t *taken = w->taken + (size_t)rank * w->most;
    for (uint32_t i = 0; i < w->n_taken[rank]; i++)
        if (taken[i] == round)
            return true;
    return false;
}

/* The first round in which all members of [first, end) are free. */
static uint32_t free_round(const struct wants *w, uint32_t first, uint32_t end)
{
    for (uint32_t round = 0;; round++) {
        uint32_t i = first;
        while (i < end && !is_taken(w, w->all[i].rank, round))
            i++;
        if (i == end)
            return round;
    }
}

static void find_rounds(struct wants *w, uint32_t n_mine)
{
    w->taken = mem_alloc(((size_t)w->ranks * w->most + 1) * sizeof *w->taken);
    w->n_taken = mem_alloc(w->ranks * sizeof *w->n_taken);
    w->round = mem_alloc((n_mine + 1) * sizeof *w->round);
    w->ctas = mem_alloc((n_mine + 1) * sizeof *w->ctas);
    memset(w->round, 0xff, n_mine * sizeof *w->round);
    for (uint32_t first = 0, end; first < w->n; first = end) {
        uint32_t ctas = 0;
        for (end = first; end < w->n && !memcmp(w->all[end].want.key, w->all[first].want.key, sizeof w->all->want.key);
             end++)
            if (w->all[end].want.ctas && (!ctas || w->all[end].want.ctas < ctas))
                ctas = w->all[end].want.ctas;
        uint32_t round = free_round(w, first, end);
        w->rounds = round + 1 > w->rounds ? round + 1 : w->rounds;
        for (uint32_t i = first; i < end; i++) {
            const struct member *m = &w->all[i];
            w->taken[(size_t)m->rank * w->most + w->n_taken[m->rank]++] = round;
            if (m->rank != world_rank())
                continue;
            w->round[m->at] = round;
            w->ctas[m->at] = ctas;
        }
    }
}

static enum status refuse(struct err *e, const char *call, ncclResult_t r, ncclComm_t comm)
{
    if (r == ncclInProgress)
        return err_set(e, ST_DEVICE, "comm nccl",
                       "%s of rank %u timed out after %.0f s; NCCL_DEBUG=INFO shows what it waits for, and "
                       "NCCL_SOCKET_IFNAME selects the network",
                       call, world_rank(), limit);
    return err_set(e, ST_DEVICE, "comm nccl",
                   "%s of rank %u: %s (%s); NCCL_DEBUG=WARN says more, and --comm mpi does not need it", call,
                   world_rank(), ncclGetErrorString(r), ncclGetLastError(comm));
}

/* No blocking calls, and nothing shared: communicators of different streams are in flight at once. */
static ncclConfig_t config_of(uint32_t ctas)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.splitShare = 0;
    if (ctas) {
        config.minCTAs = 1;
        config.maxCTAs = (int)ctas;
    }
    return config;
}

static enum status make_world(struct comm *c, struct err *e)
{
    ncclUniqueId id = { { 0 } };
    ncclResult_t r = world_rank() == 0 ? ncclGetUniqueId(&id) : ncclSuccess;
    TRY(world_agree(r == ncclSuccess ? ST_OK : refuse(e, "ncclGetUniqueId", r, NULL), e));
    world_broadcast(&id, sizeof id);
    ncclConfig_t config = config_of(0);
    r = ncclCommInitRankConfig(&c->world, (int)world_size(), id, (int)world_rank(), &config);
    r = comm__nccl_settle(c, c->world, r, limit);
    return world_agree(r == ncclSuccess ? ST_OK : refuse(e, "ncclCommInitRankConfig", r, c->world), e);
}

/* All ranks, also those for which there is nothing in it. */
static enum status split(struct comm *c, const struct wants *w, uint32_t round, struct err *e)
{
    uint32_t i = 0, n = comm__nccl_count(c);
    while (i < n && w->round[i] != round)
        i++;
    struct comm__nccl *m = i < n ? &c->made[i] : NULL;
    ncclConfig_t config = config_of(m ? w->ctas[i] : 0);
    ncclComm_t none = NULL, *made = m ? &m->comm : &none;
    ncclResult_t r = ncclCommSplit(c->world, m ? (int)comm_group_rank(&m->group, 0) : NCCL_SPLIT_NOCOLOR,
                                   m ? (int)m->me : 0, made, &config);
    r = comm__nccl_settle(c, c->world, r, limit);
    if (r == ncclSuccess && m)
        r = comm__nccl_settle(c, m->comm, ncclInProgress, limit);
    return r == ncclSuccess ? ST_OK : refuse(e, "ncclCommSplit", r, c->world);
}

enum status comm__nccl_make(struct comm *c, const struct comm_setup *setup, struct err *e)
{
    struct wants w = { 0 };
    TRY(make_world(c, e));
    gather(c, setup, &w);
    find_rounds(&w, comm__nccl_count(c));
    enum status st = ST_OK;
    for (uint32_t round = 0; round < w.rounds && st == ST_OK; round++)
        st = world_agree(split(c, &w, round, e), e);
    mem_free(w.all);
    mem_free(w.taken);
    mem_free(w.n_taken);
    mem_free(w.round);
    mem_free(w.ctas);
    return st;
}
