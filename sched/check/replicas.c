/* Replicas: what a kernel computes with is of one and the same part of the samples on every rank.
 *
 * A LOAD gives the ranks of its set the parts of a microbatch in the order of the set; transfers pair two sets place by place. So
 * every value has an order: the sequence of the ranks of its class by the part of the samples that they hold of it. Orders go
 * from what an instruction reads to what it writes, and all that it reads must have the same. */
#include "sched/check/check.h"

struct replicas {
    struct check *c;
    const struct check_list *l;
    uint32_t cls;
    uint32_t *order; /* by buffer: seq; PLAN_NONE: none has come to it */
};

static enum status wrong(const struct replicas *r, uint32_t i, uint32_t buffer)
{
    return check_wrong(r->c, RULE_REPLICA, (struct check_place){ r->cls, r->l, i },
                       "on some rank buffer %u holds other samples than those it is read for", buffer);
}

/* Joins the order of what is read: *seq PLAN_NONE takes it on. */
static enum status take(const struct replicas *r, uint32_t i, uint32_t buffer, uint32_t *seq)
{
    uint32_t found = r->order[buffer];
    if (*seq == PLAN_NONE)
        *seq = found;
    return found == PLAN_NONE || found == *seq ? ST_OK : wrong(r, i, buffer);
}

static enum status run(struct replicas *r, uint32_t i, const struct plan_instr *in)
{
    const struct plan *p = r->c->classes[r->cls].p;
    const struct plan_program *g = &p->programs[in->program];
    const struct plan_base *b = &p->bases[in->first_base];
    uint32_t seq = PLAN_NONE;
    for (int write = 0; write < 2; write++)
        for (uint32_t k = 0; k < g->n_slots; k++) {
            const struct plan_slot *s = &p->slots[g->first_slot + k];
            if (b[k].arena != ARENA_WORK || s->kind == SLOT_PARAM || s->kind == SLOT_GRAD || s->kind == SLOT_TEMP)
                continue;
            if (write && s->access & PLAN_WRITE)
                r->order[b[k].buffer] = seq;
            else if (!write && s->access & PLAN_READ)
                TRY(take(r, i, b[k].buffer, &seq));
        }
    return ST_OK;
}

static enum status moved(struct replicas *r, uint32_t i, const struct plan_instr *in)
{
    const struct check_class *k = &r->c->classes[r->cls];
    const struct plan_base *b = &k->p->bases[in->first_base];
    uint32_t seq;
    switch ((enum plan_op)in->op) {
    case PLAN_LOAD:
    case PLAN_RECV:
        r->order[b[0].buffer] = k->set_seq[in->my_set];
        return ST_OK;
    case PLAN_SEND:
    case PLAN_EXCHANGE:
        seq = k->set_seq[in->my_set];
        TRY(take(r, i, b[0].buffer, &seq));
        if (in->op == PLAN_EXCHANGE)
            r->order[b[1].buffer] = k->set_seq[in->peer_set];
        return ST_OK;
    case PLAN_ALL_GATHER:
    case PLAN_REDUCE_SCATTER:
    case PLAN_SHIFT:
        if (!plan_moves_tensor(k->p, in))
            return ST_OK;
        seq = PLAN_NONE;
        TRY(take(r, i, b[0].buffer, &seq));
        r->order[b[1].buffer] = seq;
        return ST_OK;
    case PLAN_ROUNDS:
    case PLAN_TO_EXPERTS:
    case PLAN_FROM_EXPERTS:
        seq = PLAN_NONE;
        TRY(take(r, i, b[0].buffer, &seq));
        if (in->op != PLAN_ROUNDS) /* its further bases are gradients */
            TRY(take(r, i, b[2].buffer, &seq));
        r->order[b[1].buffer] = seq;
        return ST_OK;
    case PLAN_ALL_TO_ALL_V:
    case PLAN_ALL_TO_ALL:
        seq = PLAN_NONE;
        for (uint32_t a = 0; a < in->n_bases; a += 2) {
            TRY(take(r, i, b[a].buffer, &seq));
            r->order[b[a + 1].buffer] = seq;
        }
        return ST_OK;
    default:
        return ST_OK;
    }
}

enum status check_replicas(struct check *c, const struct check_list *l)
{
    enum status st = ST_OK;
    for (uint32_t cls = 0; cls < c->n && st == ST_OK; cls++) {
        uint64_t n = c->classes[cls].p->h->count[PLAN_S_BUFFERS];
        struct replicas r = { c, l, cls, mem_alloc(n * sizeof *r.order) };
        const struct plan_instr *in = check_instrs(c, l, cls);
        memset(r.order, 0xff, n * sizeof *r.order);
        for (uint32_t i = 0; i < check_n_instrs(c, l, cls) && st == ST_OK; i++)
            st = in[i].op == PLAN_RUN ? run(&r, i, &in[i]) : moved(&r, i, &in[i]);
        mem_free(r.order);
    }
    return st;
}
