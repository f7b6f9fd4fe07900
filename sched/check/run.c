/* No deadlock: symbolic execution of all classes at once.
 *
 * An instruction starts when the one before it on its stream is done, its waits are done, and every computation
 * before it in the list is done (an executor may dispatch in list order and block in computation). A computation is
 * done when it has started; a communication when all its ends have started: no transport buffers anything. There is
 * no choice in this, so one execution decides: if it ends early, every execution does. */
#include "sched/check/check.h"

#include <stdio.h>

struct run {
    const struct check *c;
    const struct check_list *l;
    uint32_t *pending;             /* by number: conditions that do not hold yet */
    uint32_t *first_after, *after; /* CSR: who waits for instruction i */
    uint32_t *ready;               /* ends of a communication that have not started */
    uint8_t *done;
    struct {
        VEC(uint32_t);
    } work;
};

/* Calls of visit: every condition (before, after) of one class, both as numbers. */
static void conditions(const struct run *r, uint32_t cls,
                       void (*visit)(const struct run *, uint32_t before, uint32_t after))
{
    const struct plan *p = r->c->classes[cls].p;
    const struct plan_instr *in = check_instrs(r->c, r->l, cls);
    uint32_t base = r->l->base[cls], n = check_n_instrs(r->c, r->l, cls);
    uint32_t n_streams = (uint32_t)p->h->count[PLAN_S_STREAMS], compute = PLAN_NONE;
    uint32_t *last = mem_alloc(sizeof *last * (size_t)n_streams);
    memset(last, 0xff, sizeof *last * (size_t)n_streams);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *before = &last[in[i].stream];
        if (*before != PLAN_NONE)
            visit(r, base + *before, base + i);
        if (compute != PLAN_NONE && compute != *before)
            visit(r, base + compute, base + i);
        for (uint32_t w = 0; w < in[i].n_waits; w++)
            visit(r, base + p->waits[in[i].first_wait + w], base + i);
        *before = i;
        if (!check_is_comm(in[i].op))
            compute = i;
    }
    mem_free(last);
}

static void count_condition(const struct run *r, uint32_t before, uint32_t after)
{
    r->pending[after]++;
    r->first_after[before + 1]++;
}

static void store_condition(const struct run *r, uint32_t before, uint32_t after)
{
    r->after[r->first_after[before]++] = after;
}

static void build(struct run *r)
{
    const struct check_list *l = r->l;
    uint32_t total = l->base[r->c->n];
    r->pending = mem_alloc(sizeof *r->pending * (size_t)total);
    r->first_after = mem_alloc(sizeof *r->first_after * ((size_t)total + 1));
    r->ready = mem_alloc(sizeof *r->ready * (size_t)l->comms.n);
    r->done = mem_alloc(total);
    for (uint32_t i = 0; i < r->c->n; i++)
        conditions(r, i, count_condition);
    for (uint32_t i = 0; i < total; i++)
        r->first_after[i + 1] += r->first_after[i];
    r->after = mem_alloc(sizeof *r->after * (size_t)r->first_after[total]);
    for (uint32_t i = 0; i < r->c->n; i++)
        conditions(r, i, store_condition);
    memmove(r->first_after + 1, r->first_after, sizeof *r->first_after * (size_t)total);
    r->first_after[0] = 0;
    for (uint32_t i = 0; i < l->comms.n; i++)
        r->ready[i] = l->comms.at[i].n_ends;
}

static void finish(struct run *r, uint32_t i)
{
    r->done[i] = 1;
    for (uint32_t k = r->first_after[i]; k < r->first_after[i + 1]; k++)
        if (--r->pending[r->after[k]] == 0)
            vec_add(&r->work, r->after[k]);
}

static void execute(struct run *r)
{
    const struct check_list *l = r->l;
    uint32_t total = l->base[r->c->n];
    for (uint32_t i = 0; i < total; i++)
        if (r->pending[i] == 0)
            vec_add(&r->work, i);
    while (r->work.n) {
        uint32_t i = r->work.at[--r->work.n], comm = l->comm_of[i];
        if (comm == PLAN_NONE) {
            finish(r, i);
            continue;
        }
        if (--r->ready[comm] > 0)
            continue;
        const struct check_comm *x = &l->comms.at[comm];
        for (uint32_t k = 0; k < x->n_ends; k++) {
            const struct check_end *end = &l->ends.at[x->first_end + k];
            finish(r, l->base[end->cls] + end->instr);
        }
    }
}

static struct check_place place_of(const struct run *r, uint32_t number)
{
    uint32_t lo = 0, hi = r->c->n;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (r->l->base[mid] <= number)
            lo = mid;
        else
            hi = mid;
    }
    return (struct check_place){ lo, r->l, number - r->l->base[lo] };
}

/* What an instruction that is not done waits for: an end that has not started, or an earlier instruction of its class
 * that is not done. */
static uint32_t blocker(const struct run *r, uint32_t number)
{
    const struct check_list *l = r->l;
    if (r->pending[number] == 0) {
        const struct check_comm *comm = &l->comms.at[l->comm_of[number]];
        for (uint32_t k = 0; k < comm->n_ends; k++) {
            const struct check_end *end = &l->ends.at[comm->first_end + k];
            if (r->pending[l->base[end->cls] + end->instr])
                return l->base[end->cls] + end->instr;
        }
    }
    struct check_place at = place_of(r, number);
    const struct plan *p = r->c->classes[at.cls].p;
    const struct plan_instr *in = check_instrs(r->c, l, at.cls);
    uint32_t base = l->base[at.cls];
    for (uint32_t w = 0; w < in[at.instr].n_waits; w++) {
        uint32_t i = p->waits[in[at.instr].first_wait + w];
        if (!r->done[base + i])
            return base + i;
    }
    for (uint32_t i = at.instr; i-- > 0;)
        if (!r->done[base + i] && (in[i].stream == in[at.instr].stream || !check_is_comm(in[i].op)))
            return base + i;
    return PLAN_NONE;
}

/* Follows blockers until one comes again, and names the cycle. */
static enum status report(const struct run *r, uint32_t start)
{
    uint32_t total = r->l->base[r->c->n], at = start;
    uint8_t *seen = mem_alloc(total);
    while (!seen[at]) {
        seen[at] = 1;
        at = blocker(r, at);
    }
    mem_free(seen);
    char text[1200], name[256];
    size_t n = 0;
    uint32_t i = at, links = 0;
    do {
        i = blocker(r, i);
        check_place_text(r->c, place_of(r, i), name, sizeof name);
        if (links++ < 8 && n + 2 < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, ", which waits for %s", name);
    } while (i != at);
    return check_wrong(r->c, RULE_DEADLOCK, place_of(r, at), "never %s%s%s", r->pending[at] ? "starts" : "ends", text,
                       links > 8 ? ", ..." : "");
}

enum status check_run(struct check *c, const struct check_list *l)
{
    struct run r = { .c = c, .l = l };
    build(&r);
    execute(&r);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < l->base[c->n] && st == ST_OK; i++)
        if (!r.done[i])
            st = report(&r, i);
    mem_free(r.pending);
    mem_free(r.first_after);
    mem_free(r.after);
    mem_free(r.ready);
    mem_free(r.done);
    vec_free(&r.work);
    return st;
}

/* ---- one global order of communications ---- */

/* Edge: `to` comes next after `from` in the dispatch order of the class of end `end` (the end of `to`). */
struct order {
    uint32_t *degree, *first, *to, *prev; /* prev[comm]: one that stands before it and is not sorted */
};

static uint32_t next_comm(const struct check_list *l, uint32_t number, uint32_t end)
{
    while (number < end && l->comm_of[number] == PLAN_NONE)
        number++;
    return number;
}

static void order_edges(const struct check *c, const struct check_list *l, struct order *o, bool store)
{
    for (uint32_t cls = 0; cls < c->n; cls++) {
        uint32_t end = l->base[cls + 1], a = next_comm(l, l->base[cls], end);
        while (a < end) {
            uint32_t b = next_comm(l, a + 1, end);
            if (b < end && store)
                o->to[o->first[l->comm_of[a]]++] = b;
            else if (b < end)
                o->first[l->comm_of[a] + 1]++;
            a = b;
        }
    }
}

/* Sorts; what cannot be sorted keeps degree > 0. */
static uint32_t order_sort(const struct check_list *l, struct order *o, uint32_t *work)
{
    uint32_t n = l->comms.n, sorted = 0, top = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = o->first[i]; k < o->first[i + 1]; k++)
            o->degree[l->comm_of[o->to[k]]]++;
    for (uint32_t i = 0; i < n; i++)
        if (o->degree[i] == 0)
            work[top++] = i;
    while (top) {
        uint32_t i = work[--top];
        sorted++;
        for (uint32_t k = o->first[i]; k < o->first[i + 1]; k++)
            if (--o->degree[l->comm_of[o->to[k]]] == 0)
                work[top++] = l->comm_of[o->to[k]];
    }
    return n - sorted;
}

/* Walks back through the unsorted until one comes again; prev[comm] holds the number of its instruction that stands
 * after another unsorted one. */
static enum status order_report(const struct check *c, const struct check_list *l, struct order *o)
{
    struct run r = { .c = c, .l = l };
    uint32_t n = l->comms.n, at = 0;
    uint32_t *from = mem_alloc(sizeof *from * (size_t)n);
    uint8_t *seen = mem_alloc(n);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = o->first[i]; o->degree[i] && k < o->first[i + 1]; k++) {
            o->prev[l->comm_of[o->to[k]]] = o->to[k];
            from[l->comm_of[o->to[k]]] = i;
        }
    while (o->degree[at] == 0)
        at++;
    for (; !seen[at]; at = from[at])
        seen[at] = 1;
    char text[1200] = "", place[256];
    size_t len = 0;
    uint32_t i = at, links = 0;
    do {
        if (links++ < 6 && len < sizeof text)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s node %u after node %u in %s",
                                    links > 1 ? ";" : "", l->ends.at[l->comms.at[i].first_end].node,
                                    l->ends.at[l->comms.at[from[i]].first_end].node,
                                    check_place_text(c, place_of(&r, o->prev[i]), place, sizeof place));
        i = from[i];
    } while (i != at);
    mem_free(from);
    mem_free(seen);
    return check_wrong(c, RULE_ORDER, place_of(&r, o->prev[at]),
                       "deadlock: rank classes dispatch communications in conflicting orders:%s", text);
}

enum status check_order(struct check *c, const struct check_list *l)
{
    uint32_t n = l->comms.n;
    if (n == 0)
        return ST_OK;
    struct order o = { 0 };
    o.degree = mem_alloc(sizeof *o.degree * (size_t)n);
    o.prev = mem_alloc(sizeof *o.prev * (size_t)n);
    o.first = mem_alloc(sizeof *o.first * ((size_t)n + 1));
    o.to = mem_alloc(sizeof *o.to * (size_t)l->ends.n);
    uint32_t *work = mem_alloc(sizeof *work * (size_t)n);
    order_edges(c, l, &o, false);
    for (uint32_t i = 0; i < n; i++)
        o.first[i + 1] += o.first[i];
    order_edges(c, l, &o, true);
    memmove(o.first + 1, o.first, sizeof *o.first * (size_t)n);
    o.first[0] = 0;
    enum status st = order_sort(l, &o, work) ? order_report(c, l, &o) : ST_OK;
    mem_free(o.degree);
    mem_free(o.prev);
    mem_free(o.first);
    mem_free(o.to);
    mem_free(work);
    return st;
}
