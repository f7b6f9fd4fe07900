/* Who is the culprit, and who waits for it over whom? */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "watch/private.h"

enum { NOBODY = UINT32_MAX, HOPS = 3 }; /* links of the chain that are told */

static void add(char *text, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void add(char *text, size_t size, const char *fmt, ...)
{
    size_t n = strlen(text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text + n, size - n, fmt, ap);
    va_end(ap);
}

/* ---- how long a rank may stand -------------------------------------------------------------------------------- */

double watch_limit(const struct watch_stand *s, double timeout)
{
    /* factors on the least time: what waits for others; what was never measured, or waits for files: a file system may need minutes
     * to come back, and a job that waits for it loses nothing */
    enum { WAITING = 6, UNKNOWN = 120, MANY = 8 };
    if (s->inside && s->works && !s->loads && s->runs < 2 && s->state == WATCH_VAIN)
        return fmax(WAITING * timeout, MANY * s->worst);
    if (!s->inside || s->loads || s->state == 'D' || (s->works && s->runs < 2))
        return fmax(UNKNOWN * timeout, MANY * s->worst);
    return fmax((s->works ? 1 : WAITING) * timeout, MANY * s->worst);
}

/* ---- who waits for whom ---------------------------------------------------------------------------------------- */

/* What a rank works on itself; NULL: nothing. */
static const struct watch_task *own_work(const struct watch_answer *a)
{
    for (uint32_t i = 0; i < a->report.n_tasks; i++)
        if (a->report.tasks[i].task.host)
            return &a->report.tasks[i];
    return NULL;
}

/* It answered, it is inside a step, and it has nothing to do itself. */
static bool waits(const struct watch_answer *a)
{
    return a->answered && a->report.place.inside && !own_work(a) && a->report.n_tasks;
}

static bool in_group(const struct exec_task *k, uint32_t rank)
{
    if (!k->stride)
        return true;
    return rank >= k->start && (rank - k->start) % k->stride == 0 && (rank - k->start) / k->stride < k->group_size;
}

static enum exec_arrival arrival(const struct watch_table *t, const struct watch_answer *from, uint32_t node,
                                 uint32_t to)
{
    for (uint32_t i = 0; i < t->n_keys; i++)
        if (t->keys[i].node == node && t->keys[i].epoch == from->report.place.epoch)
            return (enum exec_arrival)t->at[to].arrival[i];
    return EXEC_NOT_YET;
}

/* Does this task of `from` wait for rank `to`? */
static bool waits_for(const struct watch_table *t, uint32_t from, const struct exec_task *k, uint32_t to)
{
    if (to == from || k->host)
        return false;
    if (!k->group_size)
        return (int32_t)to == k->peer || (int32_t)to == k->from;
    if (!in_group(k, to))
        return false;
    if (!t->at[to].answered)
        return true;
    return arrival(t, &t->at[from], k->node, to) == EXEC_NOT_YET;
}

/* The first task of `from` that waits for `to`; NULL: none does. */
static const struct watch_task *link_of(const struct watch_table *t, uint32_t from, uint32_t to)
{
    const struct watch_answer *a = &t->at[from];
    for (uint32_t i = 0; waits(a) && i < a->report.n_tasks; i++)
        if (waits_for(t, from, &a->report.tasks[i].task, to))
            return &a->report.tasks[i];
    return NULL;
}

/* next[r]: for whom r waits on the shortest way to the culprit; NOBODY: it does not wait for it. Returns who is furthest
 * away, at most HOPS links; of these the first. */
static uint32_t find_ways(const struct watch_table *t, uint32_t culprit, uint32_t *next)
{
    uint32_t *queue = mem_alloc(t->ranks * sizeof *queue), *hops = mem_alloc(t->ranks * sizeof *hops);
    uint32_t n = 0, start = NOBODY;
    for (uint32_t r = 0; r < t->ranks; r++)
        next[r] = NOBODY;
    queue[n++] = culprit;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t r = 0; r < t->ranks; r++)
            if (r != culprit && next[r] == NOBODY && link_of(t, r, queue[i])) {
                next[r] = queue[i];
                hops[r] = hops[queue[i]] + 1;
                queue[n++] = r;
                if (start == NOBODY || (hops[r] <= HOPS && hops[r] > hops[start]))
                    start = r;
            }
    mem_free(queue);
    mem_free(hops);
    return start;
}

/* ---- the culprit ----------------------------------------------------------------------------------------------- */

/* How much a silent rank explains: a process that is stopped or gone more than one that only does not answer. */
static int weight(const struct watch_answer *a)
{
    return a->answered ? 0 : a->state == 'T' || a->state == 't' ? 4 : a->state == 'Z' || a->state == 'X' ? 3 : 2;
}

static uint32_t find_silent(const struct watch_table *t)
{
    uint32_t found = NOBODY;
    for (uint32_t r = 0; r < t->ranks; r++)
        if (weight(&t->at[r]) > (found == NOBODY ? 0 : weight(&t->at[found])))
            found = r;
    return found;
}

/* One whose main thread runs explains more than one that sleeps: outside of steps most ranks sleep, waiting for it. */
static int activity(char state)
{
    return state == 't' ? 3 : state == 'D' || state == WATCH_VAIN ? 2 : state == 'R' ? 1 : 0;
}

/* An overdue rank that waits for nobody. */
static uint32_t find_overdue(const struct watch_table *t)
{
    uint32_t found = NOBODY;
    for (uint32_t r = 0; r < t->ranks; r++) {
        const struct watch_report *a = &t->at[r].report, *b = found == NOBODY ? NULL : &t->at[found].report;
        if (waits(&t->at[r]) || !a->overdue)
            continue;
        if (!b || activity(a->state) > activity(b->state) ||
            (activity(a->state) == activity(b->state) && a->seconds > b->seconds))
            found = r;
    }
    return found;
}

static bool all_wait_too_long(const struct watch_table *t)
{
    for (uint32_t r = 0; r < t->ranks; r++)
        if (!waits(&t->at[r]) || !t->at[r].report.overdue)
            return false;
    return true;
}

/* ---- in words -------------------------------------------------------------------------------------------------- */

static const char *seconds(double s, char text[24])
{
    if (s < 10)
        snprintf(text, 24, "%.1f s", s);
    else
        snprintf(text, 24, "%.0f s", s);
    return text;
}

static void add_rank(const struct watch_table *t, uint32_t rank, char *text, size_t size)
{
    add(text, size, "rank %u (node %s)", rank, t->peers[rank].host);
}

static void add_silent(const struct watch_answer *a, char *text, size_t size)
{
    char s[24];
    const char *how = "has not responded for";
    if (a->state == 'T')
        how = "has been stopped for";
    else if (a->state == 't')
        how = "has been held by a debugger for";
    else if (a->state == 'Z' || a->state == 'X')
        how = "has exited and has been silent for";
    add(text, size, "%s %s", how, seconds(a->silent, s));
    if (a->last[0])
        add(text, size, "; it was last seen in %s", a->last);
}

void watch_describe(const struct watch_table *t, uint32_t rank, char *text, size_t size)
{
    const struct watch_answer *a = &t->at[rank];
    const struct watch_report *r = &a->report;
    char s[24];
    text[0] = '\0';
    if (!a->answered) {
        add_silent(a, text, size);
        return;
    }
    if (!r->place.inside || !r->n_tasks) {
        add(text, size, "has been in %s for %s", r->phase, seconds((double)r->seconds, s));
        return;
    }
    const struct watch_task *own = own_work(a);
    for (uint32_t i = 0; i < (own ? 1 : r->n_tasks); i++) {
        const struct watch_task *k = own ? own : &r->tasks[i];
        const char *how = own ? "has been in" : i ? "in" : "has been blocked in";
        add(text, size, "%s%s %s for %s", i ? ", " : "", how, k->name, seconds((double)k->seconds, s));
    }
}

/* "rank 3 (node n2) has been blocked in receive F x mb5 for 41 s, waiting for rank 2 (node n2), which" and so on; the culprit's deeds
 * follow. */
static void tell_chain(const struct watch_table *t, uint32_t start, const uint32_t *next, char *text, size_t size)
{
    char s[24];
    add_rank(t, start, text, size);
    for (uint32_t r = start; next[r] != NOBODY; r = next[r]) {
        const struct watch_task *k = link_of(t, r, next[r]);
        add(text, size, " has been blocked in %s for %s, waiting for ", k->name, seconds((double)k->seconds, s));
        add_rank(t, next[r], text, size);
        add(text, size, ", which");
    }
}

static const char *advice(const struct watch_answer *a)
{
    if (a->answered && a->report.state == 't')
        return "It is held by a debugger; --hang-timeout 0 disables the watchdog";
    if (a->answered && a->report.state == WATCH_VAIN)
        return "It only repeats a failing system call, like a library that cannot get memory under ulimit -v or the "
               "limit of a cgroup";
    if (a->answered && a->report.state == 'D')
        return "It is waiting for a disk or a network file system";
    if (a->answered && !a->report.place.inside)
        return "The position of every rank is in log.txt; --hang-timeout SECONDS allows more time";
    if (a->answered && a->report.state == 'S')
        return "Its process is alive and sleeping: it waits for something that is not in the plan";
    if (a->answered)
        return "It is slow or spinning: it computes far longer than ever before; --hang-timeout SECONDS allows more "
               "time";
    if (a->state == 'T' || a->state == 't')
        return "The process was stopped by a signal or a debugger";
    if (a->state == 'Z' || a->state == 'X')
        return "The peer is lost: its process has exited";
    if (a->state)
        return "The process is alive but unresponsive: starved of CPU or blocked in the kernel";
    return "The peer is lost: its process, its node or the network failed";
}

static void tell_others(const struct watch_table *t, uint32_t culprit, char *text, size_t size)
{
    uint32_t n = 0;
    for (uint32_t r = 0; r < t->ranks; r++)
        if (r != culprit && !t->at[r].answered && n++ < 8)
            add(text, size, "%s %u", n == 1 ? ". Also unresponsive: rank" : ",", r);
    if (n > 8)
        add(text, size, " and %u more", n - 8);
}

static void tell(const struct watch_table *t, struct watch_verdict *v)
{
    uint32_t *next = mem_alloc(t->ranks * sizeof *next);
    uint32_t start = find_ways(t, v->culprit, next);
    char deed[512];
    watch_describe(t, v->culprit, deed, sizeof deed);
    if (start == NOBODY)
        add_rank(t, v->culprit, v->text, sizeof v->text);
    else
        tell_chain(t, start, next, v->text, sizeof v->text);
    add(v->text, sizeof v->text, " %s", deed);
    tell_others(t, v->culprit, v->text, sizeof v->text);
    add(v->text, sizeof v->text, ". %s", advice(&t->at[v->culprit]));
    mem_free(next);
}

/* Everybody waits and nobody works: a transfer that both ends are in does not move. */
static void tell_stuck(const struct watch_table *t, struct watch_verdict *v)
{
    const struct watch_task *k = &t->at[0].report.tasks[0];
    for (uint32_t r = 0; r < t->ranks; r++)
        if (t->at[r].report.tasks[0].seconds > k->seconds) {
            k = &t->at[r].report.tasks[0];
            v->culprit = r;
        }
    char deed[512];
    watch_describe(t, v->culprit, deed, sizeof deed);
    add_rank(t, v->culprit, v->text, sizeof v->text);
    add(v->text, sizeof v->text, " %s", deed);
    if (k->task.peer >= 0) {
        add(v->text, sizeof v->text, "; the other end is ");
        add_rank(t, (uint32_t)k->task.peer, v->text, sizeof v->text);
    }
    add(v->text, sizeof v->text,
        ". Every rank waits and none computes: the network or the MPI library has lost the transfer");
}

void watch_judge(const struct watch_table *t, struct watch_verdict *v)
{
    *v = (struct watch_verdict){ .culprit = find_silent(t) };
    if (v->culprit == NOBODY)
        v->culprit = find_overdue(t);
    v->guilty = v->culprit != NOBODY;
    if (v->guilty) {
        tell(t, v);
    } else if (all_wait_too_long(t)) {
        *v = (struct watch_verdict){ .guilty = true };
        tell_stuck(t, v);
    }
}
