/* A program executed on names: every operand that is read was written under its name, whole, or comes from outside. */
#include "sched/check/values.h"

#include <inttypes.h>
#include <stdlib.h>

struct execution {
    const struct values *v;
    uint32_t program;
    const uint64_t *start;  /* by slot: its first byte when slots stand one behind the other */
    struct check_spans map; /* writer: number of the item; PLAN_NONE: not written here */
    struct items *items;
    struct interface *face;
    uint32_t kernel, from[OPERAND_COUNT]; /* of the kernel: where the gradients that it reads come from */
};

static enum status wrong_item(const struct execution *run, const struct item *i, const char *what)
{
    const struct plan *p = run->v->p;
    const struct plan_kernel *k = &p->kernels[i->kernel];
    const char *op = k->op < IR_OP_GRAPH_COUNT ? run->v->c->g->ops.at[k->graph_op].name : ir_op_info[k->op].name;
    return check_wrong(run->v->c, RULE_VALUE, (struct check_place){ .cls = run->v->cls },
                       "program %u, kernel %u (%s %s): what it reads at byte %" PRIu64 " of slot %u %s", run->program,
                       i->kernel - p->programs[run->program].first_kernel, op, ir_pass_name((enum ir_pass)k->pass),
                       i->offset, i->slot, what);
}

/* From outside, whole. */
static enum status take_item(struct execution *run, const struct item *i, uint32_t from, uint32_t to)
{
    const struct plan_program *g = &run->v->p->programs[run->program];
    const struct plan_slot *s = &run->v->p->slots[g->first_slot + i->slot];
    bool gradient = i->name == NAME_GRADIENT;
    for (uint32_t k = from; k < to; k = check_spans_next(&run->map, k))
        if (run->map.at[k].writer != PLAN_NONE)
            return wrong_item(run, i, "was overwritten in part");
    if (!values_may_stand(i, s->kind))
        return wrong_item(run, i, "was not written, and cannot come from outside there");
    /* (with experts of other devices a slot may have room for more rows than one device has) */
    if (s->kind == SLOT_GRADIENT && (i->offset || (i->bytes != s->bytes && g->ep == 1)))
        return wrong_item(run, i, "is not the whole of a gradient that comes from outside");
    if (gradient)
        run->from[i->which] = OUTSIDE | run->face->takes.n;
    vec_add(gradient ? &run->face->takes : &run->face->in, *i);
    return ST_OK;
}

static enum status read_item(struct execution *run, const struct item *i)
{
    uint64_t at = run->start[i->slot] + i->offset;
    uint32_t from = check_spans_find(&run->map, at), to = check_spans_find(&run->map, at + i->bytes);
    check_spans_cut(&run->map, from);
    check_spans_cut(&run->map, to);
    uint32_t writer = run->map.at[from].writer;
    if (writer == PLAN_NONE)
        return take_item(run, i, from, to);
    const struct item *w = &run->items->at[writer];
    if (w->name != i->name || w->offset != i->offset || w->elements != i->elements || w->bytes != i->bytes ||
        (i->name != NAME_GRADIENT && w->id != i->id))
        return wrong_item(run, i, "is another value");
    if (w->layout != i->layout)
        return check_wrong(run->v->c, RULE_LAYOUT, (struct check_place){ .cls = run->v->cls },
                           "program %u: kernel %u takes %s of %s, %s stand there", run->program,
                           i->kernel - run->v->p->programs[run->program].first_kernel, check_layout_name(i->layout),
                           run->v->c->g->tensors.at[i->id].name, check_layout_name(w->layout));
    for (uint32_t k = from; k < to; k = check_spans_next(&run->map, k))
        if (run->map.at[k].writer != writer)
            return wrong_item(run, i, "was overwritten in part");
    if (i->name == NAME_GRADIENT)
        run->from[i->which] = w->step;
    return ST_OK;
}

static void write_item(struct execution *run, uint32_t number)
{
    const struct item *i = &run->items->at[number];
    uint64_t at = run->start[i->slot] + i->offset;
    uint32_t from = check_spans_find(&run->map, at), to = check_spans_find(&run->map, at + i->bytes);
    check_spans_cut(&run->map, from);
    check_spans_cut(&run->map, to);
    check_spans_join(&run->map, from, to);
    run->map.at[from] = (struct check_span){ .writer = number, .buffer = PLAN_NONE, .readers = PLAN_NONE };
}

/* What a kernel does with a gradient that it has read, or writes. */
static void step_of(struct execution *run, struct item *i)
{
    const struct plan_kernel *k = &run->v->p->kernels[i->kernel];
    struct gradient_step s = { .from = { PLAN_NONE, PLAN_NONE }, .kernel = i->kernel, .tensor = i->id };
    if (!i->write) {
        if (i->which < OPERAND_DOUT || i->which >= OPERAND_DIN)
            return; /* of a sum: it counts when that is written */
        s.whole = true;
        s.from[0] = run->from[i->which];
    } else if (k->op >= IR_OP_GRAPH_COUNT) {
        s.from[0] = run->from[OPERAND_IN];
        s.from[1] = run->from[OPERAND_IN + 1];
    } else {
        uint32_t input = i->which - OPERAND_DIN;
        s.from[0] = run->from[OPERAND_ACC + input];
        s.own = gradients_term(k->graph_op, input);
    }
    i->step = run->face->steps.n;
    vec_add(&run->face->steps, s);
}

static enum status run_item(struct execution *run, uint32_t number)
{
    struct item *i = &run->items->at[number];
    if (run->kernel != i->kernel)
        memset(run->from, 0xff, sizeof run->from);
    run->kernel = i->kernel;
    if (i->bytes == 0)
        return ST_OK;
    if (!i->write)
        TRY(read_item(run, i));
    if (i->name == NAME_GRADIENT)
        step_of(run, i);
    if (i->write)
        write_item(run, number);
    return ST_OK;
}

int values_by_place(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    return x->slot != y->slot ? (x->slot > y->slot ? 1 : -1) : (x->offset > y->offset) - (x->offset < y->offset);
}

/* What stands in slots at the end, whole, in order of slots and offsets. A slot for a tensor or a gradient is left written from end to end, if it is
 * declared to be written. */
static enum status collect_out(struct execution *run)
{
    struct interface *face = run->face;
    const struct plan_program *g = &run->v->p->programs[run->program];
    uint8_t *full = mem_alloc(g->n_slots);
    for (uint32_t n = 0; n < run->items->n; n++) {
        const struct item *i = &run->items->at[n];
        uint64_t at = run->start[i->slot] + i->offset;
        if (!i->write || i->bytes == 0 || i->name == NAME_WORK)
            continue;
        uint32_t from = check_spans_find(&run->map, at), to = check_spans_find(&run->map, at + i->bytes);
        check_spans_cut(&run->map, from);
        check_spans_cut(&run->map, to);
        bool whole = true;
        for (uint32_t k = from; k < to; k = check_spans_next(&run->map, k))
            whole = whole && run->map.at[k].writer == n;
        if (whole)
            vec_add(i->name == NAME_GRADIENT ? &face->gives : &face->out, *i);
        /* (with experts of other devices a slot may have room for more rows than one device has) */
        uint64_t room = run->v->p->slots[g->first_slot + i->slot].bytes;
        full[i->slot] |= whole && i->offset == 0 && (i->bytes == room || g->ep > 1);
    }
    enum status st = ST_OK;
    for (uint32_t k = 0; k < g->n_slots && st == ST_OK; k++) {
        const struct plan_slot *s = &run->v->p->slots[g->first_slot + k];
        bool value = s->kind == SLOT_TENSOR || s->kind == SLOT_GRADIENT;
        if (value && s->bytes && s->access & PLAN_WRITE && !full[k])
            st = check_wrong(run->v->c, RULE_PROGRAM, (struct check_place){ .cls = run->v->cls },
                             "program %u must write all of slot %u, but does not", run->program, k);
    }
    mem_free(full);
    if (face->out.n)
        qsort(face->out.at, face->out.n, sizeof *face->out.at, values_by_place);
    if (face->gives.n)
        qsort(face->gives.at, face->gives.n, sizeof *face->gives.at, values_by_place);
    return st;
}

enum status values_execute(const struct values *v, uint32_t program, struct interface *face)
{
    const struct plan_program *g = &v->p->programs[program];
    struct items items = { 0 };
    struct {
        VEC(uint64_t);
    } bounds = { 0 };
    uint64_t *start = mem_alloc(sizeof *start * ((size_t)g->n_slots + 1));
    for (uint32_t i = 0; i < g->n_slots; i++)
        start[i + 1] = start[i] + v->p->slots[g->first_slot + i].bytes;
    struct execution run = { .v = v, .program = program, .start = start, .items = &items, .face = face };
    enum status st = values_list(v, program, &items);
    run.kernel = PLAN_NONE;
    for (uint32_t i = 0; i < items.n; i++) {
        vec_add(&bounds, start[items.at[i].slot] + items.at[i].offset);
        vec_add(&bounds, start[items.at[i].slot] + items.at[i].offset + items.at[i].bytes);
    }
    check_spans_init(&run.map, bounds.at, bounds.n, (struct check_span){ PLAN_NONE, PLAN_NONE, PLAN_NONE });
    for (uint32_t i = 0; i < items.n && st == ST_OK; i++)
        st = run_item(&run, i);
    if (st == ST_OK)
        st = collect_out(&run);
    face->done = true;
    check_spans_release(&run.map);
    vec_free(&items);
    mem_free(start);
    return st;
}
