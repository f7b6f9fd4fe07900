#include "train/load.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void load_open(struct load *l, const struct ir_graph *g)
{
    *l = (struct load){ .g = g, .first = mem_alloc(g->ops.n * sizeof *l->first) };
    l->n = ir_graph_loads(g, l->first);
    l->sum = mem_alloc((l->n + 1) * sizeof *l->sum);
}

void load_close(struct load *l)
{
    mem_free(l->first);
    mem_free(l->sum);
    *l = (struct load){ 0 };
}

/* Largest over mean; NAN where nothing was counted, as in an emulation. */
static double unevenness(const double *load, uint32_t experts)
{
    double most = 0, sum = 0;
    for (uint32_t e = 0; e < experts; e++) {
        most = fmax(most, load[e]);
        sum += load[e];
    }
    return sum > 0 ? most * experts / sum : (double)NAN;
}

double load_add(struct load *l, uint64_t step, const double *loads)
{
    double most = NAN;
    l->from = l->from ? l->from : step;
    for (uint32_t i = 0; i < l->n; i++)
        l->sum[i] += loads[i];
    for (uint32_t i = 0; i < l->g->ops.n; i++)
        if (l->g->ops.at[i].op == IR_OP_ROUTER) /* fmax() takes the one that is a number */
            most = fmax(most, unevenness(loads + l->first[i], l->g->ops.at[i].attrs.experts));
    return most;
}

/* ---- the report ------------------------------------------------------------------------------------------------- */

/* A line of entries, and another one where that would be too long for the log. */
struct entries {
    struct log *log;
    const char *what, *steps;
    struct {
        VEC(char);
    } text;
    bool any;
};

static void flush_entries(struct entries *t)
{
    if (t->text.n)
        log_note(t->log, "%s in %s:%.*s", t->what, t->steps, (int)t->text.n - 1, t->text.at);
    t->any = t->any || t->text.n;
    t->text.n = 0;
}

static void add(struct entries *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct entries *t, const char *fmt, ...)
{
    char part[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(part, sizeof part, fmt, ap);
    va_end(ap);
    n = n < (int)sizeof part ? n : (int)sizeof part - 1;
    uint32_t at = vec_grow(&t->text, (uint32_t)n);
    memcpy(t->text.at + at, part, (size_t)n);
}

static void end_entry(struct entries *t)
{
    enum { ENOUGH = 1200 };
    if (t->text.n > ENOUGH)
        flush_entries(t);
}

/* "layers.3" of "layers.3.mlp.router", as annotations name it. */
static int name_bytes(const char *name)
{
    const char *end = strstr(name, ".mlp.router");
    return end ? (int)(end - name) : (int)strlen(name);
}

/* " layers.3 5, 9-11 (4 of 64);" */
static void add_dead(struct entries *t, const struct ir_node_op *o, const double *sum)
{
    const uint32_t n = o->attrs.experts;
    uint32_t dead = 0;
    for (uint32_t e = 0, end; e < n; e = end) {
        end = e + 1;
        if (sum[e] > 0)
            continue;
        while (end < n && !(sum[end] > 0))
            end++;
        if (dead)
            add(t, ", %u", e);
        else
            add(t, " %.*s %u", name_bytes(o->name), o->name, e);
        if (end - e > 1)
            add(t, "-%u", end - 1);
        dead += end - e;
    }
    if (!dead)
        return;
    add(t, " (%u of %u);", dead, n);
    end_entry(t);
}

void load_report(struct load *l, uint64_t step, struct log *log)
{
    char steps[64];
    if (!l->from || !l->n)
        return;
    if (l->from < step)
        snprintf(steps, sizeof steps, "steps %llu to %llu", (unsigned long long)l->from, (unsigned long long)step);
    else
        snprintf(steps, sizeof steps, "step %llu", (unsigned long long)step);
    struct entries most = { .log = log, .what = "expert load, largest over mean,", .steps = steps };
    struct entries dead = { .log = log, .what = "experts that no token chose", .steps = steps };
    for (uint32_t i = 0; i < l->g->ops.n; i++) {
        const struct ir_node_op *o = &l->g->ops.at[i];
        if (o->op != IR_OP_ROUTER)
            continue;
        add(&most, " %.*s %.3g,", name_bytes(o->name), o->name, unevenness(l->sum + l->first[i], o->attrs.experts));
        end_entry(&most);
    }
    flush_entries(&most);
    for (uint32_t i = 0; i < l->g->ops.n; i++)
        if (l->g->ops.at[i].op == IR_OP_ROUTER)
            add_dead(&dead, &l->g->ops.at[i], l->sum + l->first[i]);
    flush_entries(&dead);
    if (!dead.any)
        log_note(log, "%s in %s: none", dead.what, steps);
    vec_free(&most.text);
    vec_free(&dead.text);
    memset(l->sum, 0, l->n * sizeof *l->sum);
    l->from = 0;
}
