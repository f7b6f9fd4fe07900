/* Steady state: while a rank runs the forward of one microbatch and the backward of another in turns, as groups that overlap do. A plan
 * knows no groups, but which passes take turns can be read off it. */
#include "sched/cost/simulate.h"

#include <math.h>

/* A pass of a microbatch of a stage: the first and the last run of it in the list. */
struct cell {
    uint32_t stage, mb, first, last;
    bool forward;
};
enum { NEAR = 16 }; /* passes that may be under way at once, at most */
struct cells {
    VEC(struct cell);
};

static void add_run(struct cells *cells, const struct cell *run)
{
    for (uint32_t k = cells->n; k-- > 0 && k + NEAR >= cells->n;) {
        struct cell *c = &cells->at[k];
        if (c->stage == run->stage && c->mb == run->mb && c->forward == run->forward) {
            c->last = run->last;
            return;
        }
    }
    vec_add(cells, *run);
}

static void find_cells(const struct simulate_input *in, uint32_t cls, const struct plan_list *l, struct cells *cells)
{
    const struct plan *p = &in->plans[cls];
    uint32_t *stage = mem_alloc((p->h->count[PLAN_S_PROGRAMS] + 1) * sizeof *stage);
    for (uint32_t i = 0; i < p->h->count[PLAN_S_PROGRAMS]; i++)
        stage[i] = timeline_stage(p, i, in->graph);
    for (uint32_t i = 0; i < l->n_instr; i++) {
        const struct plan_instr *x = &p->instrs[l->first_instr + i];
        if (x->op == PLAN_RUN && !plan_is_extra(x) && x->pass != IR_PASS_NONE &&
            x->pass != IR_PASS_BW) /* BW may wait for long */
            add_run(cells, &(struct cell){ stage[x->program], x->mb, i, i, x->pass == IR_PASS_F });
    }
    mem_free(stage);
}

void simulate_steady(const struct simulate_input *in, const struct timeline *t, uint32_t cls,
                     struct simulate_windows *out)
{
    const struct plan *p = &in->plans[cls];
    const struct timeline_span *spans = t->classes[cls].spans;
    struct cells cells = { 0 };
    find_cells(in, cls, &p->lists[plan_find_list(p, in->list)], &cells);
    for (uint32_t i = 0; i < cells.n; i++)
        for (uint32_t k = i + 1; k < cells.n && k < i + NEAR; k++) {
            const struct cell *a = &cells.at[i], *b = &cells.at[k];
            if (b->first > a->last || a->forward == b->forward)
                continue;
            const double from = spans[a->first].start, to = spans[a->last > b->last ? a->last : b->last].end;
            if (out->n && from <= out->at[out->n - 1].end)
                out->at[out->n - 1].end = fmax(to, out->at[out->n - 1].end);
            else
                vec_add(out, ((struct timeline_span){ from, to }));
        }
    vec_free(&cells);
}
