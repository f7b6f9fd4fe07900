#include "schedule_sim.h"

#include <stdio.h>

struct sim {
    const struct sim_input *in;
    struct sim_rank *rank;
    uint32_t *at, *live;
    double *done; /* [(kind * stages * directions + stage) * m + mb], kinds F, B or BI, BW; negative: not yet */
};

static int kind_of(enum ir_pass p)
{
    return p == IR_PASS_F ? 0 : p == IR_PASS_BW ? 2 : 1;
}

static double *done(const struct sim *x, int kind, uint32_t stage, uint32_t mb)
{
    return &x->done[((size_t)kind * x->in->stages * x->in->directions + stage) * x->in->m + mb];
}

/* When the inputs of a cell are there; negative: not known yet. */
static double ready(const struct sim *x, const struct cell *c)
{
    uint32_t place = c->stage % x->in->stages;
    if (c->pass == IR_PASS_F)
        return place ? *done(x, 0, c->stage - 1, c->mb) : 0;
    if (c->pass == IR_PASS_BW)
        return *done(x, 1, c->stage, c->mb);
    double own = *done(x, 0, c->stage, c->mb), next = 0;
    if (place + 1 < x->in->stages)
        next = *done(x, 1, c->stage + 1, c->mb);
    return own < 0 || next < 0 ? -1 : own > next ? own : next;
}

static double duration(const struct sim_input *in, const struct cell *c, uint32_t n)
{
    if (n > 1)
        return in->pair;
    return c->pass == IR_PASS_F ? in->f : c->pass == IR_PASS_B ? in->b + in->w : c->pass == IR_PASS_BI ? in->b : in->w;
}

/* The next group of rank r, if it can run. */
static bool step(struct sim *x, uint32_t r)
{
    const struct cells *row = &x->in->rows[r];
    struct sim_rank *k = &x->rank[r];
    if (x->at[r] == row->n)
        return false;
    const struct cell *c = &row->at[x->at[r]];
    uint32_t n = 1;
    double t = k->end;
    while (c[n - 1].with_next)
        n++;
    for (uint32_t i = 0; i < n; i++) {
        double in = ready(x, &c[i]);
        if (in < 0)
            return false;
        t = in > t ? in : t;
    }
    if (!x->at[r])
        k->start = t;
    k->end = t + duration(x->in, c, n);
    k->busy += k->end - t;
    for (uint32_t i = 0; i < n; i++) {
        *done(x, kind_of(c[i].pass), c[i].stage, c[i].mb) = k->end;
        x->live[r] += c[i].pass == IR_PASS_F;
    }
    k->peak = x->live[r] > k->peak ? x->live[r] : k->peak;
    for (uint32_t i = 0; i < n; i++)
        x->live[r] -= c[i].pass == IR_PASS_B || c[i].pass == IR_PASS_BW;
    x->at[r] += n;
    return true;
}

void sim_run(const struct sim_input *in, struct sim_output *out)
{
    struct sim x = { .in = in };
    static struct {
        VEC(double);
    } table; /* kept from run to run: there are many */
    uint32_t n = 3 * in->stages * in->directions * in->m;
    if (n > table.n)
        vec_grow(&table, n - table.n);
    for (uint32_t i = 0; i < n; i++)
        table.at[i] = -1;
    x.done = table.at;
    x.rank = mem_alloc(in->ranks * sizeof *x.rank);
    x.at = mem_alloc(in->ranks * sizeof *x.at);
    x.live = mem_alloc(in->ranks * sizeof *x.live);
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t r = 0; r < in->ranks; r++)
            while (step(&x, r))
                moved = true;
    }
    *out = (struct sim_output){ .rank = x.rank };
    for (uint32_t r = 0; r < in->ranks; r++) {
        out->end = x.rank[r].end > out->end ? x.rank[r].end : out->end;
        if (x.at[r] < in->rows[r].n && !out->stuck) {
            out->stuck = true;
            out->stuck_rank = r;
            out->stuck_cell = x.at[r];
        }
    }
    mem_free(x.at);
    mem_free(x.live);
}

void sim_release(struct sim_output *out)
{
    mem_free(out->rank);
    *out = (struct sim_output){ 0 };
}

struct cells *sim_rows(const struct schedule_kind *k, uint32_t p, uint32_t m, uint32_t v)
{
    struct cells *rows = mem_alloc(p * sizeof *rows);
    for (uint32_t r = 0; r < p; r++)
        k->build(p, m, v, r, &rows[r]);
    return rows;
}

void sim_rows_free(struct cells *rows, uint32_t p)
{
    for (uint32_t r = 0; r < p; r++)
        vec_free(&rows[r]);
    mem_free(rows);
}

char *sim_text(const struct cells *row)
{
    static const char *const letter[IR_PASS_COUNT] = {
        [IR_PASS_F] = "F", [IR_PASS_B] = "B", [IR_PASS_BI] = "I", [IR_PASS_BW] = "W"
    };
    char *text = mem_alloc((size_t)row->n * 32 + 2), *at = text;
    for (uint32_t i = 0; i < row->n; i++) {
        const struct cell *c = &row->at[i];
        bool second = i && c[-1].with_next;
        at += sprintf(at, "%s%s%u%s%u%s",
                      second ? ";"
                      : i    ? ","
                             : "",
                      c->with_next ? "(" : "", c->stage, letter[c->pass], c->mb, second ? ")OVERLAP_F_B" : "");
    }
    strcpy(at, "\n");
    return text;
}
