/* What all ranks called, carried out by its words alone. */
#include <stdio.h>
#include <string.h>

#include "comm/comm.h"
#include "standin.h"

static void gather(const void *mine, uint32_t n, size_t size, void **all, uint32_t *counts)
{
    uint64_t most = n;
    world_max_u64(&most, 1);
    world_all_gather(&n, sizeof n, counts);
    unsigned char *padded = mem_alloc((most + 1) * size);
    if (n)
        memcpy(padded, mine, n * size);
    *all = mem_alloc((most * world_size() + 1) * size);
    world_all_gather(padded, most * size, *all);
    mem_free(padded);
}

void standin_gather(struct standin_job *job)
{
    uint32_t calls[STANDIN_RANKS], comms[STANDIN_RANKS], most_calls = 0, most_comms = 0;
    struct standin_record *all;
    struct standin_comm *known;
    *job = (struct standin_job){ .ranks = world_size() };
    gather(standin_calls.at, standin_calls.n, sizeof *all, (void **)&all, calls);
    gather(standin_comms.at, standin_comms.n, sizeof *known, (void **)&known, comms);
    for (uint32_t r = 0; r < job->ranks; r++) {
        most_calls = calls[r] > most_calls ? calls[r] : most_calls;
        most_comms = comms[r] > most_comms ? comms[r] : most_comms;
    }
    for (uint32_t r = 0; r < job->ranks; r++) {
        for (uint32_t i = 0; i < calls[r]; i++)
            vec_add(&job->calls[r], all[(size_t)r * most_calls + i]);
        for (uint32_t i = 0; i < comms[r]; i++)
            vec_add(&job->comms[r], known[(size_t)r * most_comms + i]);
    }
    mem_free(all);
    mem_free(known);
}

void standin_job_release(struct standin_job *job)
{
    for (uint32_t r = 0; r < job->ranks; r++) {
        vec_free(&job->calls[r]);
        vec_free(&job->comms[r]);
    }
}

/* ---- carrying out ---------------------------------------------------------------------------------------------- */

struct play {
    const struct standin_job *job;
    uint32_t at[STANDIN_RANKS];  /* begin of the group under way */
    uint32_t end[STANDIN_RANKS]; /* and its end */
    unsigned char *done[STANDIN_RANKS];
    char why[320];
    bool moved;
};

static const char *const names[] = { "all-reduce", "reduce-scatter", "all-gather", "send", "receive" };

static const struct standin_comm *find_comm(const struct standin_comms *known, uint32_t id)
{
    for (uint32_t i = 0; i < known->n; i++)
        if (known->at[i].id == id)
            return &known->at[i];
    return NULL;
}

/* The first call of rank r's group under way that could be the other end; IR_NONE-like UINT32_MAX: none. */
static uint32_t find_call(const struct play *p, uint32_t r, uint32_t comm, bool collective, enum standin_op op,
                          uint32_t peer)
{
    for (uint32_t i = p->at[r]; i < p->end[r]; i++) {
        const struct standin_record *c = &p->job->calls[r].at[i];
        bool is_collective = c->peer == UINT32_MAX;
        if (!p->done[r][i] && c->comm == comm && is_collective == collective &&
            (collective || (c->op == op && c->peer == peer)))
            return i;
    }
    return UINT32_MAX;
}

static void differ(struct play *p, uint32_t a, const struct standin_record *x, uint32_t b,
                   const struct standin_record *y)
{
    snprintf(p->why, sizeof p->why,
             "communicator %x: rank %u calls %s of %llu of type %u, rank %u %s of %llu of type %u", x->comm, a,
             names[x->op], (unsigned long long)x->count, x->type, b, names[y->op], (unsigned long long)y->count,
             y->type);
}

static void message(struct play *p, uint32_t r, uint32_t i)
{
    const struct standin_record *x = &p->job->calls[r].at[i];
    if (x->op != REC_SEND)
        return;
    uint32_t k = find_call(p, x->peer, x->comm, false, REC_RECV, r);
    if (k == UINT32_MAX)
        return;
    const struct standin_record *y = &p->job->calls[x->peer].at[k];
    if (y->count != x->count || y->type != x->type) {
        differ(p, r, x, x->peer, y);
        return;
    }
    p->done[r][i] = p->done[x->peer][k] = 1;
    p->moved = true;
}

static void collective(struct play *p, uint32_t r, uint32_t i)
{
    const struct standin_record *x = &p->job->calls[r].at[i];
    const struct standin_comm *c = find_comm(&p->job->comms[r], x->comm);
    uint32_t at[STANDIN_RANKS];
    for (uint32_t m = 0; m < c->n; m++) {
        at[m] = find_call(p, c->members[m], x->comm, true, REC_ALL_REDUCE, 0);
        if (at[m] == UINT32_MAX)
            return;
        const struct standin_record *y = &p->job->calls[c->members[m]].at[at[m]];
        if (y->op != x->op || y->count != x->count || y->type != x->type) {
            differ(p, r, x, c->members[m], y);
            return;
        }
    }
    for (uint32_t m = 0; m < c->n; m++)
        p->done[c->members[m]][at[m]] = 1;
    p->moved = true;
}

static void next_group(struct play *p, uint32_t r)
{
    const struct standin_calls *c = &p->job->calls[r];
    p->at[r] = p->end[r];
    while (p->end[r] < c->n && c->at[p->end[r]].group == c->at[p->at[r]].group)
        p->end[r]++;
}

static bool group_done(const struct play *p, uint32_t r)
{
    for (uint32_t i = p->at[r]; i < p->end[r]; i++)
        if (!p->done[r][i])
            return false;
    return true;
}

static void advance(struct play *p, uint32_t r)
{
    for (uint32_t i = p->at[r]; i < p->end[r] && !p->why[0]; i++) {
        if (p->done[r][i])
            continue;
        if (p->job->calls[r].at[i].peer == UINT32_MAX)
            collective(p, r, i);
        else
            message(p, r, i);
    }
    if (p->at[r] < p->end[r] && group_done(p, r)) {
        next_group(p, r);
        p->moved = true;
    }
}

/* A communicator has the same members in the same order wherever it is known. */
static void check_comms(struct play *p)
{
    for (uint32_t r = 0; r < p->job->ranks; r++)
        for (uint32_t i = 0; i < p->job->comms[r].n; i++) {
            const struct standin_comm *c = &p->job->comms[r].at[i];
            for (uint32_t m = 0; m < c->n; m++) {
                const struct standin_comm *other = find_comm(&p->job->comms[c->members[m]], c->id);
                if (!other || memcmp(other, c, sizeof *c) != 0)
                    snprintf(p->why, sizeof p->why, "communicator %x is another one on rank %u than on rank %u", c->id,
                             c->members[m], r);
            }
        }
}

static void check_rest(struct play *p)
{
    for (uint32_t r = 0; r < p->job->ranks && !p->why[0]; r++)
        for (uint32_t i = p->at[r]; i < p->job->calls[r].n && !p->why[0]; i++)
            if (!p->done[r][i]) {
                const struct standin_record *x = &p->job->calls[r].at[i];
                snprintf(p->why, sizeof p->why,
                         "rank %u waits in call %u of %u, %s of %llu on communicator %x, for ever", r, i,
                         p->job->calls[r].n, names[x->op], (unsigned long long)x->count, x->comm);
            }
}

const char *standin_judge(const struct standin_job *job)
{
    static char why[sizeof((struct play *)NULL)->why];
    struct play p = { .job = job };
    check_comms(&p);
    for (uint32_t r = 0; r < job->ranks; r++) {
        p.done[r] = mem_alloc(job->calls[r].n + 1);
        next_group(&p, r);
    }
    do {
        p.moved = false;
        for (uint32_t r = 0; r < job->ranks && !p.why[0]; r++)
            advance(&p, r);
    } while (p.moved && !p.why[0]);
    check_rest(&p);
    for (uint32_t r = 0; r < job->ranks; r++)
        mem_free(p.done[r]);
    memcpy(why, p.why, sizeof why);
    return why[0] ? why : NULL;
}
