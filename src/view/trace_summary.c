#include "view/trace_summary.h"

#include <math.h>
#include <stdlib.h>

#include "view/trace_words.h"

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

/* A communication counts from when all its ends are there: what its first end waits is not the link's time. */
static struct intervals all_intervals(const struct trace_view *views, uint32_t n)
{
    struct intervals v = { 0 };
    for (uint32_t k = 0; k < n; k++)
        for (uint64_t i = 0; i < views[k].t.n_events; i++) {
            const struct trace_event *ev = &views[k].t.events[i];
            vec_add(&v, ((struct interval){ views[k].met[i], ev->t + ev->dur, ev->step, trace_rank_of(&views[k].t, ev),
                                            trace_is_communication(ev) }));
        }
    if (v.n)
        qsort(v.at, v.n, sizeof *v.at, by_rank_step_time);
    return v;
}

/* A step, from the first event of any rank to the last. */
struct span {
    uint64_t step;
    double from, to;
};
struct spans {
    VEC(struct span);
};

/* Where the step stands among the spans, which ascend, or would stand. */
static uint32_t place_of(const struct spans *s, uint64_t step)
{
    uint32_t lo = 0, hi = s->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        *(s->at[mid].step < step ? &lo : &hi) = s->at[mid].step < step ? mid + 1 : mid;
    }
    return lo;
}

static struct spans all_spans(const struct intervals *v)
{
    struct spans s = { 0 };
    for (uint32_t i = 0; i < v->n; i++) {
        const struct interval *interval = &v->at[i];
        uint32_t k = place_of(&s, interval->step);
        if (k == s.n || s.at[k].step != interval->step) {
            vec_add(&s, ((struct span){ 0 }));
            memmove(&s.at[k + 1], &s.at[k], (s.n - 1 - k) * sizeof *s.at);
            s.at[k] = (struct span){ interval->step, interval->from, interval->to };
        }
        s.at[k].from = interval->from < s.at[k].from ? interval->from : s.at[k].from;
        s.at[k].to = interval->to > s.at[k].to ? interval->to : s.at[k].to;
    }
    return s;
}

static void print_rank(FILE *to, uint32_t rank, const struct times *t)
{
    double n = (double)t->steps * 1e-3, idle = t->span - t->compute - t->exposed;
    fprintf(to, "%6u %11.3f %11.3f %11.3f %11.3f %11.3f %10.1f%%\n", rank, t->span / n, t->compute / n,
            t->communication / n, t->exposed / n, idle / n, t->span > 0 ? 100 * t->compute / t->span : 0);
}

static void print_ranks(const struct intervals *v, FILE *to)
{
    struct spans spans = all_spans(v);
    fprintf(to, "average milliseconds per step\n%6s %11s %11s %11s %11s %11s %11s\n", "rank", "step", "compute",
            "communicate", "exposed", "idle", "busy");
    for (uint32_t i = 0; i < v->n;) {
        struct times t = { 0 };
        uint32_t rank = v->at[i].rank;
        while (i < v->n && v->at[i].rank == rank) {
            uint32_t end = i;
            while (end < v->n && v->at[end].rank == rank && v->at[end].step == v->at[i].step)
                end++;
            add_step(&t, &v->at[i], end - i);
            const struct span *s = &spans.at[place_of(&spans, v->at[i].step)];
            t.span += s->to - s->from;
            i = end;
        }
        print_rank(to, rank, &t);
    }
    vec_free(&spans);
}

/* ---- what took most ------------------------------------------------------------------------------------------- */

/* Of instructions with the same name, whatever the microbatch: sums, seconds. */
struct total {
    const char *name;
    size_t length;                          /* of the name without its microbatch */
    double seconds, waited, predicted, off; /* off: sum of what each missed its prediction by */
    uint64_t count;
    bool communication;
};
struct totals {
    VEC(struct total);
};
enum { SHOWN = 10 };

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

static int by_miss(const void *a, const void *b)
{
    const struct total *x = a, *y = b;
    return x->off > y->off ? -1 : x->off < y->off ? 1 : by_name(a, b);
}

/* Sorted by name, equal names joined. */
static struct totals all_totals(const struct trace_view *views, uint32_t n)
{
    struct totals t = { 0 };
    uint32_t joined = 0;
    for (uint32_t k = 0; k < n; k++)
        for (uint64_t i = 0; i < views[k].t.n_events; i++) {
            const struct trace_event *ev = &views[k].t.events[i];
            const struct trace_instruction *in = &views[k].t.instructions[ev->instruction];
            double seconds = ev->t + ev->dur - views[k].met[i], waited = views[k].met[i] - ev->t;
            double off = in->predicted > 0 ? fabs(seconds - in->predicted) : 0;
            vec_add(&t, ((struct total){ in->name, trace_name_length(in->name), seconds, waited, in->predicted, off, 1,
                                         trace_is_communication(ev) }));
        }
    if (t.n)
        qsort(t.at, t.n, sizeof *t.at, by_name);
    for (uint32_t i = 0; i < t.n; i++) {
        struct total *last = joined ? &t.at[joined - 1] : NULL;
        if (!last || by_name(last, &t.at[i]) != 0) {
            t.at[joined++] = t.at[i];
            continue;
        }
        last->seconds += t.at[i].seconds;
        last->waited += t.at[i].waited;
        last->predicted += t.at[i].predicted;
        last->off += t.at[i].off;
        last->count += t.at[i].count;
    }
    t.n = joined;
    return t;
}

static void print_most(const struct totals *t, bool communication, FILE *to)
{
    double sum = 0;
    for (uint32_t i = 0; i < t->n; i++)
        sum += t->at[i].communication == communication ? t->at[i].seconds : 0;
    uint32_t shown = 0;
    for (uint32_t i = 0; i < t->n && shown < SHOWN; i++) {
        const struct total *total = &t->at[i];
        if (total->communication != communication)
            continue;
        if (!shown++)
            fprintf(to, "\n%s, over all ranks and traced steps\n%8s %12s %12s %8s  what\n",
                    communication ? "longest communications" : "longest computations", "share", "ms each",
                    communication ? "waited" : "", "times");
        fprintf(to, "%7.1f%% %12.3f ", sum > 0 ? 100 * total->seconds / sum : 0,
                1e3 * total->seconds / (double)total->count);
        if (communication)
            fprintf(to, "%12.3f", 1e3 * total->waited / (double)total->count);
        else
            fprintf(to, "%12s", "");
        fprintf(to, " %8llu  %.*s\n", (unsigned long long)total->count, (int)total->length, total->name);
    }
}

static void print_missed(const struct totals *t, FILE *to)
{
    for (uint32_t i = 0; i < t->n && i < SHOWN && t->at[i].off > 1e-3 * t->at[i].predicted; i++) {
        const struct total *total = &t->at[i];
        double n = (double)total->count * 1e-3;
        if (!i)
            fprintf(to, "\nlargest prediction errors\n%12s %12s %12s %8s  what\n", "predicted", "ms each", "off by",
                    "times");
        fprintf(to, "%12.3f %12.3f %12.3f %8llu  %.*s\n", total->predicted / n, total->seconds / n, total->off / n,
                (unsigned long long)total->count, (int)total->length, total->name);
    }
}

static void print_totals(const struct trace_view *views, uint32_t n, FILE *to)
{
    struct totals t = all_totals(views, n);
    if (t.n)
        qsort(t.at, t.n, sizeof *t.at, by_time);
    print_most(&t, false, to);
    print_most(&t, true, to);
    if (t.n)
        qsort(t.at, t.n, sizeof *t.at, by_miss);
    print_missed(&t, to);
    vec_free(&t);
}

/* ---- whom collectives waited for ------------------------------------------------------------------------------- */

struct arrival {
    uint32_t segment, match, rank;
    int32_t group;
    double t, waited; /* seconds */
};
struct arrivals {
    VEC(struct arrival);
};

static int by_collective(const void *a, const void *b)
{
    const struct arrival *x = a, *y = b;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    if (x->segment != y->segment)
        return x->segment < y->segment ? -1 : 1;
    if (x->match != y->match)
        return x->match < y->match ? -1 : 1;
    return x->t != y->t ? (x->t < y->t ? -1 : 1) : (x->rank > y->rank) - (x->rank < y->rank);
}

static const char *group_name(const struct trace *t, int32_t id)
{
    for (uint64_t i = 0; i < t->n_groups; i++)
        if ((int64_t)t->groups[i].id == id)
            return t->groups[i].name;
    return "";
}

/* By rank. */
struct counts {
    uint32_t *at;
    uint64_t n;
};

/* The arrivals of one group: of each collective the last one, and what all have waited. last: scratch. */
static void print_group(const struct trace *t, const struct arrival *v, uint32_t n, struct counts last, FILE *to)
{
    double waited = 0;
    uint32_t collectives = 0, worst = 0;
    memset(last.at, 0, last.n * sizeof *last.at);
    for (uint32_t i = 0; i < n; i++) {
        waited += v[i].waited;
        if (i + 1 < n && v[i + 1].segment == v[i].segment && v[i + 1].match == v[i].match)
            continue;
        collectives++;
        last.at[v[i].rank]++;
    }
    for (uint32_t r = 1; r < last.n; r++)
        worst = last.at[r] > last.at[worst] ? r : worst;
    fprintf(to, "%6u %7.0f%% %12.3f %8u  group %d: %s\n", worst, 100.0 * last.at[worst] / collectives, 1e3 * waited / n,
            collectives, v->group, group_name(t, v->group));
}

static void print_slowest(const struct trace_view *views, uint32_t n, FILE *to)
{
    struct arrivals v = { 0 };
    struct counts last = { 0 };
    for (uint32_t k = 0; k < n; k++) {
        last.n = views[k].t.n_ranks > last.n ? views[k].t.n_ranks : last.n;
        for (uint64_t i = 0; i < views[k].t.n_events; i++) {
            const struct trace_event *ev = &views[k].t.events[i];
            if (ev->group >= 0 && views[k].match[i])
                vec_add(&v, ((struct arrival){ k, views[k].match[i], trace_rank_of(&views[k].t, ev), ev->group, ev->t,
                                               views[k].met[i] - ev->t }));
        }
    }
    if (v.n)
        qsort(v.at, v.n, sizeof *v.at, by_collective);
    last.at = mem_alloc((last.n + 1) * sizeof *last.at);
    for (uint32_t i = 0, count; i < v.n; i += count) {
        for (count = 1; i + count < v.n && v.at[i + count].group == v.at[i].group;)
            count++;
        if (!i)
            fprintf(to,
                    "\ncollectives: the rank that arrived last most often, and how long a rank waited for the "
                    "last\n%6s %8s %12s %8s  group\n",
                    "rank", "of them", "ms each", "times");
        print_group(&views[v.at[i].segment].t, &v.at[i], count, last, to);
    }
    mem_free(last.at);
    vec_free(&v);
}

void trace_summary(const struct trace_view *views, uint32_t n, FILE *to)
{
    struct intervals v = all_intervals(views, n);
    print_ranks(&v, to);
    vec_free(&v);
    print_totals(views, n, to);
    print_slowest(views, n, to);
}
