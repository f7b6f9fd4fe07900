/* Which part of the sequences, and of split operators, this rank has where the devices of a group share them: ir/split.h. */
#include "exec/private.h"

static struct ir_rows rows_of(const struct exec *x)
{
    const struct plan_header *h = x->plan->h;
    return (struct ir_rows){ x->graph->seq_len, h->share, h->context, h->zigzag };
}

uint32_t exec__member(const struct exec *x)
{
    return x->plan->h->share ? plan_group_index(x->plan, x->plan->h->share_group, x->rank) : 0;
}

/* Calls back with the runs of positions that this rank's rows have, in order: its own tokens, or those of the block of neighbours of
 * its group that have so many together. */
static void each_run(const struct exec *x, uint32_t tokens, void (*found)(void *to, const struct ir_run *run), void *to)
{
    const struct ir_rows rows = rows_of(x);
    const uint32_t block = tokens / (rows.t / rows.n), first = exec__member(x) / block * block;
    for (uint32_t m = first; m < first + block; m++) {
        struct ir_run run[2];
        ir_rows_of(&rows, m, run);
        for (int k = 0; k < 2; k++)
            if (run[k].count)
                found(to, &run[k]);
    }
}

/* ---- what is loaded -------------------------------------------------------------------------------------------- */

struct loading {
    const int32_t *from; /* the whole sequence */
    int32_t *to;         /* its next token */
    uint64_t step;
};

static void copy_run(void *to, const struct ir_run *run)
{
    struct loading *l = to;
    for (uint32_t i = 0; i < run->count; i++, l->to += l->step)
        *l->to = l->from[run->first + i];
}

void exec__load_part(const struct exec *x, const struct plan_instr *in, uint32_t sequence, int32_t *to)
{
    struct loading l = { x->row, to + sequence, x->list->microbatch_size };
    each_run(x, (uint32_t)in->count, copy_run, &l);
}

/* ---- positions of rows ----------------------------------------------------------------------------------------- */

struct joining {
    struct ir_run run[2];
    uint32_t n; /* 3: they are more, and no operator there asks for positions */
};

static void join_run(void *to, const struct ir_run *run)
{
    struct joining *j = to;
    struct ir_run *last = j->n && j->n < 3 ? &j->run[j->n - 1] : NULL;
    if (last && last->first + last->count == run->first)
        last->count += run->count;
    else if (j->n < 2)
        j->run[j->n++] = *run;
    else
        j->n = 3;
}

/* Of each piece of a ring: where its keys stand, those of the own context part first, then of the parts before it. */
static void ring_positions(const struct exec *x, struct op_positions *at, uint32_t pieces)
{
    const struct ir_rows rows = rows_of(x), parts = { rows.t, rows.c, rows.c, rows.zigzag };
    const uint32_t own = exec__member(x) / (rows.n / rows.c);
    at->keys = rows.t / rows.c;
    at->ring = rows.c;
    for (uint32_t i = pieces; i-- > 0;) {
        at[i] = at[0];
        ir_rows_of(&parts, (own + 2 * rows.c - i) % rows.c, at[i].key_run);
    }
}

const struct op_positions *exec__positions(struct exec *x, const struct plan_program *program,
                                           const struct plan_kernel *k)
{
    const struct plan *p = x->plan;
    if (!program->tokens)
        return NULL;
    const uint32_t pieces = k->split == IR_RING ? p->h->context + 1 : 1;
    struct op_positions *at = arena_array(&x->memory, struct op_positions, pieces);
    struct joining j = { 0 };
    each_run(x, program->tokens, join_run, &j);
    const uint32_t b = p->lists[0].microbatch_size; /* of all lists */
    *at = (struct op_positions){ .t_all = x->graph->seq_len,
                                 .row_s = 1,
                                 .row_i = b,
                                 .key_s = 1,
                                 .key_i = b,
                                 .run = { j.run[0], j.run[1] },
                                 .keys = x->graph->seq_len,
                                 .split = k->split,
                                 .parts = 1,
                                 .rows = rows_of(x) };
    if (k->split && k->parts > 1) {
        at->part = plan_group_index(p, program->parts, x->rank);
        at->parts = plan_group_size(p, program->parts, x->rank);
        at->vocab = k->graph_op == PLAN_NONE ? 0 : x->graph->ops.at[k->graph_op].attrs.vocab;
        at->sets = plan_kernel_share(p, x->graph, k).sets;
        at->capacity = k->split == IR_COUNTS ? x->graph->ops.at[k->graph_op].attrs.capacity : 0;
    }
    if (k->split == IR_RING)
        ring_positions(x, at, pieces);
    return at;
}

/* ---- programs in pieces ----------------------------------------------------------------------------------------- */

uint64_t exec__own_numbers(const struct exec *x, const struct plan_instr *in)
{
    const uint32_t group = x->plan->channels[in->channel].group;
    return plan_group_index(x->plan, group, x->rank) * in->count *
           ir_dtype_size((enum ir_dtype)in->type, x->plan->h->compute);
}

void exec__piece(const struct exec *x, const struct plan_instr *in, uint32_t *first, uint32_t *end)
{
    const struct plan_program *p = &x->plan->programs[in->program];
    uint64_t left = in->count;
    *end = p->first_kernel + p->n_kernels;
    *first = p->first_kernel;
    for (uint32_t k = p->first_kernel; k < p->first_kernel + p->n_kernels && p->phases; k++)
        if (x->kernels[k].ring) { /* what stands before it runs in the first piece, what stands behind it in the last */
            *first = in->count ? k : *first;
            *end = in->count < p->phases ? k + 1 : *end;
            return;
        }
    for (uint32_t k = p->first_kernel; k < *end && p->phases; k++) {
        if (!x->kernels[k].phases)
            continue;
        if (left == 0)
            *end = k + 1;
        else if (--left == 0)
            *first = k;
    }
}
