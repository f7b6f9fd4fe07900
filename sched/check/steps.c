/* The step's bookkeeping, in dispatch order: for every bucket its gradients, then one reduction over its holders where it is
 * shared, one share of the norm, one update; for the step one reduction of the scalars after all that add to them. That
 * dispatch order is kept at run time is the matter of memory.c: all of these touch the same bytes. */
#include "sched/check/check.h"

#include <inttypes.h>

/* How the gradients of a shared bucket are brought together, by ZeRO level: one row per level that is compiled today. */
static const struct reduction {
    bool known;
    uint8_t op;      /* enum plan_op, once per step */
    bool every_part; /* the base is the whole bucket */
} reductions[4] = {
    [0] = {.known = true, .op = PLAN_ALL_REDUCE, .every_part = true},
};

struct bucket_state {
    uint32_t reduced, sumsq, updated; /* times */
};
struct steps {
    struct check *c;
    const struct check_list *l;
    const struct plan *p;
    uint32_t cls, scalars;
    struct bucket_state *buckets;
};

static enum status wrong_list(const struct steps *s, uint32_t i, const char *what)
{
    return check_wrong(s->c, RULE_UPDATE, (struct check_place){s->cls, s->l, i}, "%s, but the list is not \"train\"", what);
}

static uint32_t holders_of(const struct steps *s, uint32_t bucket)
{
    return plan_group_size(s->p, s->p->buckets[bucket].holders, plan_set_at(s->p, s->p->h->devices, 0));
}

static enum status run_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = {s->cls, s->l, i};
    for (uint32_t k = 0; k < in->n_bases; k++) {
        const struct plan_base *b = &s->p->bases[in->first_base + k];
        if (b->arena == ARENA_PARAMS && b->access & PLAN_WRITE)
            return check_wrong(s->c, RULE_UPDATE, at, "base %u: writes parameters; only UPDATE does", k);
        if (b->arena != ARENA_GRADS)
            continue;
        if (!s->l->train)
            return wrong_list(s, i, "uses gradients");
        if (b->buffer == PLAN_NONE)
            return check_wrong(s->c, RULE_FIRST, at, "base %u: gradients of no bucket", k);
        const struct bucket_state *x = &s->buckets[b->buffer];
        if (x->reduced)
            return check_wrong(s->c, RULE_REDUCE, at, "adds to bucket %u after its reduction", b->buffer);
        if (x->sumsq || x->updated)
            return check_wrong(s->c, RULE_UPDATE, at, "adds to bucket %u after its %s", b->buffer,
                               x->updated ? "update" : "share of the norm");
    }
    if (s->c->classes[s->cls].programs[in->what].scalars && s->scalars)
        return check_wrong(s->c, RULE_SCALARS, at, "adds to the scalars after their reduction");
    return ST_OK;
}

/* The same bucket is reduced by all ends: that of the lowest member class has the same first parameter. */
static bool same_bucket(const struct steps *s, uint32_t i, uint32_t bucket)
{
    const struct check_comm *comm = &s->l->comms.at[s->l->comm_of[s->l->base[s->cls] + i]];
    const struct check_end *x = &s->l->ends.at[comm->first_end];
    const struct plan *q = s->c->classes[x->cls].p;
    const struct plan_base *b = &q->bases[check_instrs(s->c, s->l, x->cls)[x->instr].first_base];
    return b->arena == ARENA_GRADS && b->buffer != PLAN_NONE &&
           q->pieces[q->buckets[b->buffer].first_piece].param == s->p->pieces[s->p->buckets[bucket].first_piece].param;
}

static enum status reduce_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = {s->cls, s->l, i};
    const struct plan_base *b = &s->p->bases[in->first_base];
    if (!s->l->train)
        return wrong_list(s, i, "reduces gradients");
    if (b->buffer == PLAN_NONE)
        return check_wrong(s->c, RULE_REDUCE, at, "reduces gradients of no bucket");
    const struct plan_bucket *u = &s->p->buckets[b->buffer];
    struct bucket_state *x = &s->buckets[b->buffer];
    const struct reduction *rule = &reductions[u->zero];
    if (in->op != rule->op)
        return check_wrong(s->c, RULE_REDUCE, at, "bucket %u is brought together by %s", b->buffer, plan_op_name(rule->op));
    if (rule->every_part && (b->offset != u->grad || in->count != u->elements || in->type != IR_F32))
        return check_wrong(s->c, RULE_REDUCE, at, "%" PRIu64 " elements of %s at byte %" PRIu64 ", bucket %u has %" PRIu64
                           " of float32 at %" PRIu64, in->count, ir_dtype_name(in->type), b->offset, b->buffer, u->elements,
                           u->grad);
    if (!check_same_members(s->c, s->cls, s->p->channels[in->channel].group, u->holders))
        return check_wrong(s->c, RULE_REDUCE, at, "channel %u is group %u, which is not the holders of bucket %u, group %u",
                           s->p->channels[in->channel].id, s->p->channels[in->channel].group, b->buffer, u->holders);
    if (!same_bucket(s, i, b->buffer))
        return check_wrong(s->c, RULE_REDUCE, at, "other members reduce another bucket than %u with this node", b->buffer);
    if (x->sumsq || x->updated)
        return check_wrong(s->c, RULE_REDUCE, at, "bucket %u is reduced after its share of the norm or its update", b->buffer);
    if (x->reduced++)
        return check_wrong(s->c, RULE_REDUCE, at, "bucket %u is reduced a second time", b->buffer);
    return ST_OK;
}

static enum status bucket_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = {s->cls, s->l, i};
    struct bucket_state *x = &s->buckets[in->what];
    if (!s->l->train)
        return wrong_list(s, i, in->op == PLAN_SUMSQ ? "measures gradients" : "updates parameters");
    if (holders_of(s, in->what) > 1 && !x->reduced)
        return check_wrong(s->c, RULE_REDUCE, at, "bucket %u has %u holders and is not reduced before", in->what,
                           holders_of(s, in->what));
    if (in->op == PLAN_SUMSQ) {
        if (s->scalars)
            return check_wrong(s->c, RULE_SCALARS, at, "adds to the norm after the scalars' reduction");
        if (x->sumsq++)
            return check_wrong(s->c, RULE_UPDATE, at, "bucket %u counts a second time in the norm", in->what);
        return ST_OK;
    }
    if (s->p->h->clip && !s->scalars)
        return check_wrong(s->c, RULE_UPDATE, at, "gradients are clipped, but the norm is not known before");
    if (x->updated++)
        return check_wrong(s->c, RULE_UPDATE, at, "bucket %u is updated a second time", in->what);
    return ST_OK;
}

static enum status scalars_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = {s->cls, s->l, i};
    uint32_t group = s->p->channels[in->channel].group;
    const uint32_t *classes;
    if (check_group_classes(s->c, s->cls, group, &classes) != s->c->n ||
        (s->c->classes[s->cls].group_seq[group] == PLAN_NONE && s->c->world > 1))
        return check_wrong(s->c, RULE_SCALARS, at, "channel %u is not all ranks", s->p->channels[in->channel].id);
    if (s->scalars++)
        return check_wrong(s->c, RULE_SCALARS, at, "the scalars are reduced a second time");
    return ST_OK;
}

/* Communication that is no reduction of a bucket touches neither parameters, gradients nor optimizer state. */
static enum status other_step(const struct steps *s, uint32_t i, const struct plan_instr *in)
{
    for (uint32_t k = 0; k < in->n_bases; k++)
        if (s->p->bases[in->first_base + k].arena != ARENA_WORK)
            return check_wrong(s->c, RULE_UPDATE, (struct check_place){s->cls, s->l, i},
                               "base %u is not in the arena of activations and communication", k);
    return ST_OK;
}

static enum status one_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    if (in->op == PLAN_RUN)
        return run_step(s, i, in);
    if (in->op == PLAN_SUMSQ || in->op == PLAN_UPDATE)
        return bucket_step(s, i, in);
    if (in->op == PLAN_SCALARS)
        return scalars_step(s, i, in);
    if (check_is_collective(in->op) && s->p->bases[in->first_base].arena == ARENA_GRADS)
        return reduce_step(s, i, in);
    return other_step(s, i, in);
}

static enum status totals(const struct steps *s)
{
    struct check_place at = {.cls = s->cls};
    if (s->scalars != 1)
        return check_wrong(s->c, RULE_SCALARS, at, "list \"%s\" never reduces the scalars", s->l->name);
    for (uint32_t b = 0; s->l->train && b < s->p->h->count[PLAN_S_BUCKETS]; b++) {
        const struct bucket_state *x = &s->buckets[b];
        if (!reductions[s->p->buckets[b].zero].known)
            return check_wrong(s->c, RULE_REDUCE, at, "bucket %u: there is no rule for ZeRO level %u", b,
                               s->p->buckets[b].zero);
        if (x->sumsq != 1)
            return check_wrong(s->c, RULE_UPDATE, at, "bucket %u does not count in the norm", b);
        if (x->updated != 1)
            return check_wrong(s->c, RULE_UPDATE, at, "bucket %u is never updated", b);
    }
    return ST_OK;
}

enum status check_steps(struct check *c, const struct check_list *l)
{
    enum status st = ST_OK;
    for (uint32_t cls = 0; cls < c->n && st == ST_OK; cls++) {
        struct steps s = {.c = c, .l = l, .p = c->classes[cls].p, .cls = cls};
        const struct plan_instr *in = check_instrs(c, l, cls);
        s.buckets = mem_alloc(sizeof *s.buckets * (size_t)s.p->h->count[PLAN_S_BUCKETS]);
        for (uint32_t i = 0; i < check_n_instrs(c, l, cls) && st == ST_OK; i++)
            st = one_step(&s, i, &in[i]);
        if (st == ST_OK)
            st = totals(&s);
        mem_free(s.buckets);
    }
    return st;
}
