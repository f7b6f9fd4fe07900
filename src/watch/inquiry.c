/* An inquiry: one rank asks all others where they are, twice. The first round brings what each is in; the second asks about
 * the collectives that somebody waits in, and lets the neighbours of silent ranks look at their processes. When two ranks
 * begin at once, the lower one goes on. */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "rundir/flight.h"
#include "watch/private.h"

enum kind { ASK = 1, REPLY };

struct ask {
    uint32_t kind, number, round, n_keys, n_silent;
    struct watch_key keys[WATCH_KEYS];
    uint32_t silent[WATCH_SILENT];
};
struct reply {
    uint32_t kind, number, round;
    unsigned char arrival[WATCH_KEYS];
    char states[WATCH_SILENT]; /* of the silent ranks of the question, where they run on the same machine; else 0 */
    struct watch_report report;
};
_Static_assert(sizeof(struct reply) <= LIVENESS_BYTES, "a reply is one message");

/* ---- processes -------------------------------------------------------------------------------------------------- */

void watch_look_in_vain(struct watch *w, double now)
{
    struct watch_process p, *before = &w->vain.before;
    if (now - w->vain.at < fmin(1, w->timeout / 4) || !watch_process_of(getpid(), &p))
        return;
    const double ticks = (now - w->vain.at) * (double)sysconf(_SC_CLK_TCK);
    bool vain = p.faults - before->faults < 8 && p.system - before->system > p.user - before->user &&
                (double)(p.system - before->system) > ticks / 8;
    w->vain.since = !vain ? 0 : w->vain.since > 0 ? w->vain.since : w->vain.at;
    w->vain.before = p;
    w->vain.at = now;
}

static bool same_host(const struct watch *w, uint32_t rank)
{
    return strcmp(w->peers[rank].host, w->peers[w->rank].host) == 0;
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

void watch_report_fill(struct watch *w, struct watch_report *r)
{
    struct watch_look *l = &w->look;
    struct exec_task tasks[WATCH_TASKS];
    *r = (struct watch_report){
        .place = l->place,
        .seconds = (float)(l->now - l->moved),
        .state = w->vain.since > 0 && l->now - w->vain.since > w->timeout ? WATCH_VAIN
                                                                          : watch_thread_state(w->main_thread),
    };
    snprintf(r->phase, sizeof r->phase, "%s", l->phase);
    r->overdue = l->now - l->moved > watch_look_limit(l, w->timeout, r->state);
    r->n_tasks = l->x ? exec_tasks(l->x, &l->place, l->first, tasks, WATCH_TASKS) : 0;
    for (uint32_t i = 0; i < r->n_tasks; i++) {
        struct exec_instruction what;
        exec_describe(l->x, l->place.list, tasks[i].instr, &what);
        r->tasks[i].task = tasks[i];
        r->tasks[i].seconds = (float)(l->now - l->since[tasks[i].stream]);
        snprintf(r->tasks[i].name, sizeof r->tasks[i].name, "%.*s", (int)sizeof r->tasks[i].name - 1, what.name);
    }
}

static void fill_arrivals(const struct watch_look *l, const struct watch_key *keys, uint32_t n, unsigned char *arrival)
{
    for (uint32_t i = 0; i < n; i++)
        arrival[i] = (unsigned char)(l->x ? exec_arrival(l->x, &l->place, l->first, keys[i].epoch, keys[i].node)
                                          : EXEC_NOT_YET);
}

static void answer(struct watch *w, const struct ask *q, uint32_t to)
{
    struct reply r = { .kind = REPLY, .number = q->number, .round = q->round };
    watch_report_fill(w, &r.report);
    fill_arrivals(&w->look, q->keys, q->n_keys, r.arrival);
    for (uint32_t i = 0; i < q->n_silent; i++)
        r.states[i] = same_host(w, q->silent[i]) ? watch_process_state(w->peers[q->silent[i]].pid) : 0;
    liveness_send(w->line, to, &r, sizeof r, false);
}

static void take_reply(struct watch *w, const struct reply *r, uint32_t from)
{
    struct watch_inquiry *q = &w->inquiry;
    if (!q->active || r->number != q->number)
        return;
    struct watch_answer *a = &q->table.at[from];
    a->answered = true;
    a->report = r->report;
    memcpy(a->arrival, r->arrival, sizeof a->arrival);
    if (q->rounds[from] < r->round)
        q->rounds[from] = r->round;
    for (uint32_t i = 0; i < q->n_silent && r->round == 2; i++)
        if (r->states[i])
            q->table.at[q->silent[i]].state = r->states[i];
}

void watch_inquiry_end(struct watch_inquiry *q)
{
    mem_free(q->table.at);
    mem_free(q->rounds);
    q->table.at = NULL;
    q->rounds = NULL;
    q->active = false;
}

void watch_inquiry_take(struct watch *w, const void *message, uint32_t bytes, uint32_t from, double now)
{
    uint32_t kind = *(const uint32_t *)message;
    if (kind == REPLY && bytes == sizeof(struct reply))
        take_reply(w, message, from);
    if (kind != ASK || bytes != sizeof(struct ask))
        return;
    if (w->inquiry.active) {
        if (from > w->rank)
            return;
        watch_inquiry_end(&w->inquiry);
    }
    w->asked = now;
    answer(w, message, from);
}

/* ---- questions -------------------------------------------------------------------------------------------------- */

static void ask_all(struct watch *w)
{
    struct watch_inquiry *q = &w->inquiry;
    struct ask ask = {
        .kind = ASK, .number = q->number, .round = q->round, .n_keys = q->table.n_keys, .n_silent = q->n_silent
    };
    memcpy(ask.keys, q->table.keys, sizeof ask.keys);
    memcpy(ask.silent, q->silent, sizeof ask.silent);
    for (uint32_t r = 0; r < w->ranks; r++)
        if (r != w->rank)
            liveness_send(w->line, r, &ask, sizeof ask, false);
}

static void answer_oneself(struct watch *w)
{
    struct watch_inquiry *q = &w->inquiry;
    struct watch_answer *a = &q->table.at[w->rank];
    a->answered = true;
    watch_report_fill(w, &a->report);
    fill_arrivals(&w->look, q->table.keys, q->table.n_keys, a->arrival);
    q->rounds[w->rank] = q->round;
}

void watch_inquire(struct watch *w, double now, uint32_t suspect)
{
    struct watch_inquiry *q = &w->inquiry;
    uint32_t number = q->number + 1;
    *q = (struct watch_inquiry){
        .active = true,
        .number = number,
        .round = 1,
        .begun = now,
        .table = { .ranks = w->ranks, .self = w->rank, .peers = w->peers, .timeout = w->timeout },
        .rounds = mem_alloc(w->ranks * sizeof *q->rounds),
    };
    q->table.at = mem_alloc(w->ranks * sizeof *q->table.at);
    if (suspect != w->rank)
        q->table.at[suspect].silent = now - w->heard;
    answer_oneself(w);
    ask_all(w);
}

static void collect_keys(struct watch_table *t)
{
    for (uint32_t r = 0; r < t->ranks; r++)
        for (uint32_t i = 0; t->at[r].answered && i < t->at[r].report.n_tasks; i++) {
            const struct watch_report *a = &t->at[r].report;
            struct watch_key key = { a->place.epoch, a->tasks[i].task.node };
            bool known = !a->tasks[i].task.group_size || t->n_keys == WATCH_KEYS;
            for (uint32_t k = 0; k < t->n_keys && !known; k++)
                known = memcmp(&t->keys[k], &key, sizeof key) == 0;
            if (!known)
                t->keys[t->n_keys++] = key;
        }
}

static void list_silent(struct watch_inquiry *q)
{
    for (uint32_t r = 0; r < q->table.ranks && q->n_silent < WATCH_SILENT; r++)
        if (!q->table.at[r].answered)
            q->silent[q->n_silent++] = r;
}

/* What can be seen of silent ranks from here. */
static void look_at_silent(struct watch *w)
{
    for (uint32_t r = 0; r < w->ranks; r++) {
        struct watch_answer *a = &w->inquiry.table.at[r];
        if (!a->answered && same_host(w, r))
            a->state = watch_process_state(w->peers[r].pid);
    }
}

static bool is_certain(const struct watch_answer *a)
{
    return a->state == 'T' || a->state == 't' || a->state == 'Z' || a->state == 'X';
}

/* Has every rank answered this round, or is it certain that it will not? */
static bool all_heard(const struct watch_inquiry *q, bool certain)
{
    for (uint32_t r = 0; r < q->table.ranks; r++) {
        const struct watch_answer *a = &q->table.at[r];
        if (a->answered ? q->rounds[r] < q->round : !certain || !is_certain(a))
            return false;
    }
    return true;
}

static void finish_silent(struct watch *w, double now)
{
    struct watch_inquiry *q = &w->inquiry;
    for (uint32_t r = 0; r < w->ranks; r++) {
        struct watch_answer *a = &q->table.at[r];
        if (a->answered)
            continue;
        a->silent += now - q->begun;
        flight_last(w->dir, r, a->last, sizeof a->last);
    }
}

bool watch_inquiry_step(struct watch *w, double now, struct watch_verdict *v)
{
    struct watch_inquiry *q = &w->inquiry;
    const double patience = w->timeout / 4 < 1 ? w->timeout / 4 : 1;
    answer_oneself(w);
    if (q->round == 1) {
        if (!all_heard(q, false) && now - q->begun < patience)
            return false;
        collect_keys(&q->table);
        list_silent(q);
        q->round = 2;
        answer_oneself(w);
        ask_all(w);
    }
    look_at_silent(w);
    if (!all_heard(q, true) && now - q->begun < w->timeout + patience)
        return false;
    finish_silent(w, now);
    watch_judge(&q->table, v);
    return true;
}
