#include "trace_summary.h"

#include <stdlib.h>

/* ---- intervals ------------------------------------------------------------------------------------------------ */

struct interval {
    double from, to;
    uint64_t step;
    uint32_t rank;
    bool communication;
};
struct intervals {
    VEC(struct interval);
};

static int by_rank_step_time(const void *a, const void *b)
{
    const struct interval *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    return x->from < y->from ? -1 : x->from > y->from;
}

/* Sums of one rank over its steps, seconds. */
struct times {
    double compute, communication, exposed, span;
    uint64_t steps;
};

/* A sweep over the events of one rank and step, by time: compute and communication are unions, so that what overlaps
 * counts once. */
static void add_step(struct times *t, const struct interval *v, uint32_t n)
{
    double compute_end = v->from, communication_end = v->from, any_end = v->from, any = 0;
    for (uint32_t i = 0; i < n; i++) {
        double *end = v[i].communication ? &communication_end : &compute_end,
               *sum = v[i].communication ? &t->communication : &t->compute;
        double from = v[i].from > *end ? v[i].from : *end;
        if (v[i].to > from) {
            *sum += v[i].to - from;
            *end = v[i].to;
        }
        from = v[i].from > any_end ? v[i].from : any_end;
        if (v[i].to > from) {
            any += v[i].to - from;
            any_end = v[i].to;
        }
    }
    double compute = 0; /* of this step: what is busy beyond it is communication alone */
    compute_end = v->from;
    for (uint32_t i = 0; i < n; i++) {
        if (v[i].communication)
            continue;
        double from = v[i].from > compute_end ? v[i].from : compute_end;
        if (v[i].to > from) {
            compute += v[i].to - from;
            compute_end = v[i].to;
        }
    }
    t->exposed += any - compute;
    t->steps++;
}

static struct intervals all_intervals(const struct trace *traces, uint32_t n)
{
    struct intervals v = { 0 };
    for (uint32_t k = 0; k < n; k++)
        for (uint64_t i = 0; i < traces[k].n_events; i++) {
            const struct trace_event *ev = &traces[k].events[i];
            vec_add(&v, ((struct interval){ ev->t, ev->t + ev->dur, ev->step, traces[k].locations[ev->location].rank,
                                            trace_is_communication(ev) }));
        }
    if (v.n)
        qsort(v.at, v.n, sizeof *v.at, by_rank_step_time);
    return v;
}

/* Length of a step, from the first event of any rank to the last. */
static double span_of(const struct intervals *v, uint64_t step)
{
    double from = 0, to = 0;
    bool any = false;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->at[i].step != step)
            continue;
        from = !any || v->at[i].from < from ? v->at[i].from : from;
        to = !any || v->at[i].to > to ? v->at[i].to : to;
        any = true;
    }
    return to - from;
}

static void print_rank(FILE *to, uint32_t rank, const struct times *t)
{
    double n = (double)t->steps * 1e-3, idle = t->span - t->compute - t->exposed;
    fprintf(to, "%6u %11.3f %11.3f %11.3f %11.3f %11.3f %10.1f%%\n", rank, t->span / n, t->compute / n,
            t->communication / n, t->exposed / n, idle / n, t->span > 0 ? 100 * t->compute / t->span : 0);
}

static void print_ranks(const struct intervals *v, FILE *to)
{
    fprintf(to, "milliseconds of a step, on average\n%6s %11s %11s %11s %11s %11s %11s\n", "rank", "step", "compute",
            "communicate", "exposed", "idle", "busy");
    for (uint32_t i = 0; i < v->n;) {
        struct times t = { 0 };
        uint32_t rank = v->at[i].rank;
        while (i < v->n && v->at[i].rank == rank) {
            uint32_t end = i;
            while (end < v->n && v->at[end].rank == rank && v->at[end].step == v->at[i].step)
                end++;
            add_step(&t, &v->at[i], end - i);
            t.span += span_of(v, v->at[i].step);
            i = end;
        }
        print_rank(to, rank, &t);
    }
}

/* ---- what took most ------------------------------------------------------------------------------------------- */

struct total {
    const char *name;
    size_t length; /* of the name without its microbatch */
    double seconds;
    uint64_t count;
};
struct totals {
    VEC(struct total);
};

static size_t without_microbatch(const char *name)
{
    const char *mb = strstr(name, " mb");
    return mb ? (size_t)(mb - name) : strlen(name);
}

static int by_name(const void *a, const void *b)
{
    const struct total *x = a, *y = b;
    size_t n = x->length < y->length ? x->length : y->length;
    int c = memcmp(x->name, y->name, n);
    return c ? c : x->length < y->length ? -1 : x->length > y->length;
}

static int by_time(const void *a, const void *b)
{
    const struct total *x = a, *y = b;
    return x->seconds > y->seconds ? -1 : x->seconds < y->seconds ? 1 : by_name(a, b);
}

/* Sorted by name, equal names joined; then sorted by time. */
static void join(struct totals *t)
{
    uint32_t n = 0;
    qsort(t->at, t->n, sizeof *t->at, by_name);
    for (uint32_t i = 0; i < t->n; i++) {
        if (n && by_name(&t->at[n - 1], &t->at[i]) == 0) {
            t->at[n - 1].seconds += t->at[i].seconds;
            t->at[n - 1].count += t->at[i].count;
        } else {
            t->at[n++] = t->at[i];
        }
    }
    t->n = n;
    qsort(t->at, t->n, sizeof *t->at, by_time);
}

static void print_most(const struct trace *traces, uint32_t n, bool communication, FILE *to)
{
    enum { SHOWN = 10 };
    struct totals t = { 0 };
    double sum = 0;
    for (uint32_t k = 0; k < n; k++)
        for (uint64_t i = 0; i < traces[k].n_events; i++) {
            const struct trace_event *ev = &traces[k].events[i];
            const char *name = traces[k].instructions[ev->instruction].name;
            if (trace_is_communication(ev) != communication)
                continue;
            vec_add(&t, ((struct total){ name, without_microbatch(name), ev->dur, 1 }));
            sum += ev->dur;
        }
    if (!t.n)
        return;
    join(&t);
    fprintf(to, "\n%s, over all ranks and traced steps\n%8s %12s %8s  what\n",
            communication ? "communication that took longest, waiting for the other end included"
                          : "computation that took longest",
            "share", "ms each", "times");
    for (uint32_t i = 0; i < t.n && i < SHOWN; i++)
        fprintf(to, "%7.1f%% %12.3f %8llu  %.*s\n", sum > 0 ? 100 * t.at[i].seconds / sum : 0,
                1e3 * t.at[i].seconds / (double)t.at[i].count, (unsigned long long)t.at[i].count, (int)t.at[i].length,
                t.at[i].name);
    vec_free(&t);
}

void trace_summary(const struct trace *traces, uint32_t n, FILE *to)
{
    struct intervals v = all_intervals(traces, n);
    print_ranks(&v, to);
    vec_free(&v);
    print_most(traces, n, false, to);
    print_most(traces, n, true, to);
}
