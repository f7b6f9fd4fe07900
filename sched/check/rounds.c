/* Rounds of experts (PLAN_ROUNDS): what is repeated runs as often on all members of the group, for rows of rounds that nobody else carries,
 * and leaves the plan right however often it runs, also never. Here: that its instructions belong together and come once, that all members know
 * one matrix of counts, and that each exchange of round 0 has one of further rounds beside it. That a round finds nothing of the one before
 * it, and what is outside nothing of a round, is the matter of memory.c: so a ROUNDS that lacks a pass or an exchange in between reads what
 * it has not written.
 *
 * Who exchanges is said once, of the exchanges (values.c): with the owners of the experts' blocks, who are of one rank class. The counts of
 * all are gathered from the same members in the same order, since the exchanges take them; and they are those of the ROUNDS, since its
 * exchanges take no others. */
#include "ir/freeze.h"
#include "sched/check/values.h"

#include <inttypes.h>
#include <stdlib.h>

struct rounds {
    struct check *c;
    const struct check_list *l;
    const struct plan *p;
    const struct plan_instr *in; /* of the list */
    uint32_t cls, n;
    uint32_t *last,
        *before; /* exchanges that are repeated, by the buffer of whole_side(): the last, and the one before each */
};

static const struct plan_base *base(const struct rounds *r, uint32_t i, uint32_t k)
{
    return &r->p->bases[r->in[i].first_base + k];
}

static bool is_exchange(const struct plan_instr *in)
{
    return in->op == PLAN_TO_EXPERTS || in->op == PLAN_FROM_EXPERTS;
}

/* The base of an exchange whose buffer holds what a device has of all rounds, or of one. */
static uint32_t whole_side(const struct plan_instr *in)
{
    return in->op == PLAN_FROM_EXPERTS;
}

/* The first exchange that a ROUNDS repeats: plan_open() has found one. */
static uint32_t first_exchange(const struct rounds *r, uint32_t begin)
{
    uint32_t i = begin + 1;
    while (!is_exchange(&r->in[i]))
        i++;
    return i;
}

static uint64_t rows_of_round(const struct rounds *r, uint32_t i)
{
    const struct plan_base *b = base(r, i, !whole_side(&r->in[i]));
    const uint64_t row = r->in[i].count * ir_dtype_size((enum ir_dtype)r->in[i].type, r->p->h->compute);
    return b->arena == ARENA_WORK ? r->p->buffers[b->buffer].bytes / row : 0;
}

static enum status wrong(const struct rounds *r, uint32_t i, const char *what)
{
    return check_wrong(r->c, RULE_ROUNDS, (struct check_place){ r->cls, r->l, i }, "%s", what);
}

/* With the counts of the ROUNDS; as many rows a round as in its first exchange. */
static enum status check_exchange(const struct rounds *r, uint32_t begin, uint32_t i)
{
    if (base(r, i, 2)->buffer != base(r, begin, 0)->buffer)
        return wrong(r, i, "has other counts than the ROUNDS that repeats it");
    const uint64_t rows = rows_of_round(r, i), first = rows_of_round(r, first_exchange(r, begin));
    if (rows != first)
        return check_wrong(r->c, RULE_ROUNDS, (struct check_place){ r->cls, r->l, i },
                           "has room for %" PRIu64 " rows in a round, the first exchange that is repeated for %" PRIu64,
                           rows, first);
    return ST_OK;
}

/* The same experts with the counts of the round; gradients are added to. What is of no pass makes, of what is outside, the same in each round:
 * a dispatch whose rows are sent again. */
static enum status check_extra_run(const struct rounds *r, uint32_t begin, uint32_t i)
{
    const struct plan_program *g = &r->p->programs[r->in[i].program];
    for (uint32_t k = g->first_kernel; k < g->first_kernel + g->n_kernels && g->pass != IR_PASS_NONE; k++)
        if (r->p->kernels[k].op != IR_OP_EXPERTS ||
            r->c->g->ops.at[r->p->kernels[k].graph_op].in[1] != r->in[begin].tensor)
            return wrong(r, i, "is repeated, but is no pass of the experts of the ROUNDS");
    for (uint32_t k = 0; k < g->n_slots; k++) {
        const struct plan_base *b = base(r, i, k);
        const bool counts = b->arena == ARENA_WORK && r->p->slots[g->first_slot + k].kind == SLOT_TENSOR &&
                            r->p->buffers[b->buffer].what == r->in[begin].tensor;
        if (counts && g->pass != IR_PASS_NONE && b->buffer != base(r, begin, 1)->buffer)
            return wrong(r, i, "does not take the counts of the round");
        if (b->first)
            return wrong(r, i, "is repeated, but writes a gradient instead of adding to it");
    }
    return ST_OK;
}

/* A forward alone, whose rounds are counted; or a backward, which adds to the gradients of the experts once. */
static enum status check_passes(const struct rounds *r, uint32_t begin, uint32_t end)
{
    uint32_t times[IR_PASS_NONE] = { 0 }, gives[IR_MAX_PARAM] = { 0 };
    const struct ir_node_op *op = NULL;
    for (uint32_t i = begin + 1; i < end; i++) {
        const struct plan_program *g = r->in[i].op == PLAN_RUN ? &r->p->programs[r->in[i].program] : NULL;
        for (uint32_t k = 0; g && g->pass != IR_PASS_NONE && k < g->n_kernels; k++) {
            const struct plan_kernel *kernel = &r->p->kernels[g->first_kernel + k];
            op = &r->c->g->ops.at[kernel->graph_op];
            times[kernel->pass]++;
            for (uint32_t p = 0; p < IR_MAX_PARAM; p++)
                gives[p] += kernel->mask >> (OPERAND_DPARAM + p) & 1;
        }
    }
    const bool forward = r->in[begin].pass == IR_PASS_F, back = times[IR_PASS_BI] || times[IR_PASS_BW];
    if (forward == back)
        return wrong(r, begin, "repeats another pass than its own");
    for (uint32_t p = 0; p < IR_MAX_PARAM && back; p++)
        if (gives[p] != (ir_op_trains(r->c->g, op) && op->param[p] != IR_NONE))
            return wrong(r, begin, "does not add to each gradient of its experts once in a round");
    return ST_OK;
}

static enum status check_begin(const struct rounds *r, uint32_t i)
{
    const struct plan_instr *in = &r->in[i];
    const struct plan_base *b = base(r, i, 0);
    for (uint32_t k = 0; k < 2; k++)
        if (b[k].arena != ARENA_WORK)
            return wrong(r, i, "has bases that are no buffers of counts");
    if (r->p->buffers[b[0].buffer].what != in->tensor)
        return wrong(r, i, "has counts of other experts");
    for (uint32_t k = 2; k < in->n_bases; k++)
        if (check_bucket_of(r->p, &b[k], SLOT_GRAD) == PLAN_NONE)
            return wrong(r, i, "zeroes what is no gradient");
    return ST_OK;
}

static enum status check_one(const struct rounds *r, uint32_t begin)
{
    const uint32_t end = begin + 1 + (uint32_t)r->in[begin].count;
    TRY(check_begin(r, begin));
    for (uint32_t i = begin + 1; i < end; i++) {
        if (r->in[i].mb != r->in[begin].mb || r->in[i].stream != PLAN_COMPUTE_STREAM)
            return wrong(r, i,
                         "is repeated, but is of another microbatch than the ROUNDS, or not on the stream of compute");
        TRY(is_exchange(&r->in[i]) ? check_exchange(r, begin, i) : check_extra_run(r, begin, i));
    }
    return check_passes(r, begin, end);
}

/* Further rounds of the exchange number i: from the same rows, or to the same, which are complete before they are read. */
static bool has_twin(const struct rounds *r, uint32_t i)
{
    const uint32_t whole = whole_side(&r->in[i]);
    const struct plan_base *b = base(r, i, whole);
    for (uint32_t k = b->arena == ARENA_WORK ? r->last[b->buffer] : PLAN_NONE; k != PLAN_NONE; k = r->before[k])
        if (base(r, k, 2)->buffer == base(r, i, 2)->buffer && rows_of_round(r, k) == rows_of_round(r, i) &&
            (!whole || k < i))
            return true;
    return false;
}

/* Rounds of one pass of experts; in [instr] the number of their ROUNDS. */
struct begun {
    uint32_t tensor, instr;
    uint16_t mb;
    bool forward;
};

static int by_pass(const void *a, const void *b)
{
    const struct begun *x = a, *y = b;
    return x->tensor != y->tensor ? (x->tensor > y->tensor) - (x->tensor < y->tensor)
           : x->mb != y->mb       ? (x->mb > y->mb) - (x->mb < y->mb)
                                  : x->forward - y->forward;
}

/* In a microbatch a ROUNDS for a forward and one for a backward: else gradients are added to again, or rounds counted. */
static enum status check_once(const struct rounds *r)
{
    struct {
        VEC(struct begun);
    } all = { 0 };
    enum status st = ST_OK;
    for (uint32_t i = 0; i < r->n; i++)
        if (r->in[i].op == PLAN_ROUNDS)
            vec_add(&all, ((struct begun){ r->in[i].tensor, i, r->in[i].mb, r->in[i].pass == IR_PASS_F }));
    if (all.n)
        qsort(all.at, all.n, sizeof *all.at, by_pass);
    for (uint32_t k = 1; k < all.n && st == ST_OK; k++)
        if (by_pass(&all.at[k - 1], &all.at[k]) == 0)
            st = wrong(r, all.at[k].instr, "comes twice for these experts and this microbatch");
    vec_free(&all);
    return st;
}

static enum status check_class(const struct rounds *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const struct plan_base *b = is_exchange(&r->in[i]) ? base(r, i, whole_side(&r->in[i])) : NULL;
        if (b && plan_is_extra(&r->in[i]) && b->arena == ARENA_WORK) {
            r->before[i] = r->last[b->buffer];
            r->last[b->buffer] = i;
        }
    }
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->in[i].op == PLAN_ROUNDS)
            TRY(check_one(r, i));
        if (is_exchange(&r->in[i]) && !plan_is_extra(&r->in[i]) && !has_twin(r, i))
            return wrong(r, i, "has no further rounds of the same rows");
    }
    return check_once(r);
}

enum status check_rounds(struct check *c, const struct check_list *l)
{
    enum status st = ST_OK;
    for (uint32_t cls = 0; cls < c->n && st == ST_OK; cls++) {
        const struct plan *p = c->classes[cls].p;
        const uint64_t buffers = p->h->count[PLAN_S_BUFFERS];
        struct rounds r = { c, l, p, check_instrs(c, l, cls), cls, check_n_instrs(c, l, cls), NULL, NULL };
        r.last = mem_alloc((buffers + 1) * sizeof *r.last);
        r.before = mem_alloc(((size_t)r.n + 1) * sizeof *r.before);
        memset(r.last, 0xff, buffers * sizeof *r.last);
        st = check_class(&r);
        mem_free(r.last);
        mem_free(r.before);
    }
    return st;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* Is the channel's group the one over which the counts in this buffer were gathered? */
static bool are_everyones(const struct values *v, const struct plan_instr *in, const struct plan_base *b)
{
    return v->held[b->buffer].everyone &&
           check_same_members(v->c, v->cls, v->held[b->buffer].everyone - 1, v->p->channels[in->channel].group, true);
}

bool rounds_counts(const struct values *v, const struct plan_instr *in)
{
    const uint32_t op = in->op == PLAN_ALL_GATHER && in->tensor < v->c->g->tensors.n ? v->experts[in->tensor]
                                                                                     : PLAN_NONE;
    return op != PLAN_NONE && v->c->g->ops.at[op].in[1] == in->tensor;
}

enum status rounds_gather(struct values *v, uint32_t i, const struct plan_instr *in)
{
    const struct plan_base *b = &v->p->bases[in->first_base];
    const struct plan_buffer *f[2];
    const struct ir_shape s = check_rows_of(v->c, in->tensor, check_own_tokens(v->c, v->cls));
    bool fits = in->type == IR_I32 && in->count == ir_shape_elements(&s) * v->microbatch_size;
    for (uint32_t k = 0; k < 2; k++) {
        f[k] = b[k].arena == ARENA_WORK ? &v->p->buffers[b[k].buffer] : NULL;
        fits = fits && f[k] && f[k]->role == SLOT_TENSOR && f[k]->what == in->tensor && f[k]->mb == in->mb &&
               f[k]->layout == f[0]->layout;
    }
    if (!fits || v->held[b[0].buffer].away)
        return check_wrong(v->c, RULE_ROUNDS, (struct check_place){ v->cls, v->l, i },
                           "does not gather the counts of a microbatch from all members");
    v->held[b[1].buffer].away = false;
    v->held[b[1].buffer].everyone = v->p->channels[in->channel].group + 1;
    return ST_OK;
}

enum status rounds_exchange(const struct values *v, uint32_t i, const struct plan_instr *in)
{
    if (are_everyones(v, in, &v->p->bases[in->first_base + 2]))
        return ST_OK;
    return check_wrong(v->c, RULE_ROUNDS, (struct check_place){ v->cls, v->l, i },
                       "base 2 is not the counts of all members of its communicator");
}

enum status rounds_begin(struct values *v, uint32_t i, const struct plan_instr *in)
{
    const struct plan_base *b = &v->p->bases[in->first_base];
    if (!are_everyones(v, in, b))
        return check_wrong(v->c, RULE_ROUNDS, (struct check_place){ v->cls, v->l, i },
                           "base 0 is not the counts of all members of its communicator");
    v->held[b[1].buffer].away = true;
    return ST_OK;
}
