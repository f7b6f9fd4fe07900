/* The step's bookkeeping, in dispatch order: every gradient of a shared bucket is reduced once over its holders and
 * ends in the bucket's memory, then there is one share of the norm and one update; the step's scalars are reduced
 * once, after all that add to them; sharded parameters are gathered before they are used. With zero groups a gradient is reduced within a
 * group first, as often as it takes, and then once over copies. That dispatch order is kept
 * at run time is the matter of memory.c: all of these touch the same bytes.
 *
 * Gradients take one of two ways. They gather in the bucket's memory over all microbatches and are reduced there; or
 * they gather in a buffer (of one microbatch, or of all), are reduced there or into another buffer, and are added to
 * the bucket's memory, which holds reduced values alone. */
#include "sched/check/check.h"

#include <inttypes.h>

/* The collective that brings gradients together, by ZeRO level. */
static const uint8_t reduction_of[4] = { PLAN_ALL_REDUCE, PLAN_REDUCE_SCATTER, PLAN_REDUCE_SCATTER,
                                         PLAN_REDUCE_SCATTER };

/* GROUPED: sums of a zero group, that are not yet those of all holders. */
enum gradient { GRADIENT_NONE, GRADIENT_LOCAL, GRADIENT_GROUPED, GRADIENT_REDUCED, GRADIENT_DONE };
struct bucket_state {
    uint8_t memory;          /* enum gradient: what the bucket's memory holds */
    uint32_t pending;        /* buffers with gradients that are not in it yet */
    uint32_t sumsq, updated; /* times */
    bool gathered;
    bool shard_whole; /* of state over all holders: the parts that copies have updated were gathered */
};
struct steps {
    struct check *c;
    const struct check_list *l;
    const struct plan *p;
    uint32_t cls, scalars;
    struct bucket_state *buckets;
    uint8_t *buffers; /* enum gradient, of buffers with gradients */
};

static enum status wrong(const struct steps *s, enum check_rule rule, uint32_t i, const char *what, uint32_t bucket)
{
    return check_wrong(s->c, rule, (struct check_place){ s->cls, s->l, i }, "bucket %u %s", bucket, what);
}

/* ---- computation ---- */

static enum status run_gradient(struct steps *s, uint32_t i, const struct plan_base *b)
{
    uint32_t bucket = check_bucket_of(s->p, b, SLOT_GRAD);
    if (bucket == PLAN_NONE)
        return check_wrong(s->c, RULE_FIRST, (struct check_place){ s->cls, s->l, i }, "writes gradients of no bucket");
    if (!s->l->train)
        return wrong(s, RULE_UPDATE, i, "gets gradients, but the list is not \"train\"", bucket);
    struct bucket_state *x = &s->buckets[bucket];
    uint8_t *state = b->arena == ARENA_WORK ? &s->buffers[b->buffer] : &x->memory;
    if (x->sumsq || x->updated)
        return wrong(s, RULE_UPDATE, i, "gets gradients after its share of the norm or its update", bucket);
    if (*state > GRADIENT_LOCAL)
        return wrong(s, RULE_REDUCE, i, "gets gradients where its reduced ones stand", bucket);
    if (b->arena == ARENA_WORK && *state == GRADIENT_NONE)
        x->pending++;
    *state = GRADIENT_LOCAL;
    return ST_OK;
}

/* Is a part of it as the last update left it? Frozen parameters are whole unless they are sharded. */
static bool needs_gather(const struct plan_bucket *b)
{
    return b->zero && (b->rule != PLAN_RULE_FROZEN || zero_shards_params(b->zero));
}

static enum status run_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = { s->cls, s->l, i };
    const struct plan_program *g = &s->p->programs[in->program];
    for (uint32_t k = 0; k < in->n_bases; k++) {
        const struct plan_base *b = &s->p->bases[in->first_base + k];
        uint32_t kind = s->p->slots[g->first_slot + k].kind, bucket = check_bucket_of(s->p, b, SLOT_PARAM);
        if (kind == SLOT_PARAM && b->access & PLAN_WRITE)
            return check_wrong(s->c, RULE_UPDATE, at, "base %u: writes parameters; only UPDATE does", k);
        if (kind == SLOT_PARAM && b->arena == ARENA_PARAMS && bucket != PLAN_NONE &&
            needs_gather(&s->p->buckets[bucket]) && !s->buckets[bucket].gathered)
            return wrong(s, RULE_GATHER, i, "is used, but its parts were not gathered in this list", bucket);
        if (kind == SLOT_PARAM && bucket != PLAN_NONE && s->buckets[bucket].updated)
            return wrong(s, RULE_UPDATE, i, "is used after its update", bucket);
        if (kind == SLOT_GRAD && s->p->slots[g->first_slot + k].bytes)
            TRY(run_gradient(s, i, b));
    }
    if (s->c->classes[s->cls].programs[in->program].scalars && s->scalars)
        return check_wrong(s->c, RULE_SCALARS, at, "adds to the scalars after their reduction");
    return ST_OK;
}

/* State has no gradient: each holder moves all of it by the loads, which are known when the scalars are reduced. */
static enum status state_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    struct bucket_state *state = &s->buckets[in->bucket];
    if (in->op == PLAN_SUMSQ)
        return wrong(s, RULE_UPDATE, i, "counts in the norm, but is state without gradients", in->bucket);
    if (!s->scalars)
        return wrong(s, RULE_UPDATE, i, "is moved before the loads of experts are reduced", in->bucket);
    return state->updated++ ? wrong(s, RULE_UPDATE, i, "is updated a second time", in->bucket) : ST_OK;
}

static enum status bucket_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    const struct plan_bucket *u = &s->p->buckets[in->bucket];
    struct bucket_state *state = &s->buckets[in->bucket];
    if (!s->l->train)
        return wrong(s, RULE_UPDATE, i, "is measured or updated, but the list is not \"train\"", in->bucket);
    if (u->rule == PLAN_RULE_FROZEN)
        return wrong(s, RULE_UPDATE, i, "is measured or updated, but is frozen", in->bucket);
    if (u->rule == PLAN_RULE_BALANCE)
        return state_step(s, i, in);
    if (check_holders_of(s->p, u) > 1 && state->memory != GRADIENT_REDUCED)
        return wrong(s, RULE_REDUCE, i,
                     "has a replica group of several ranks, but its gradients are not reduced before", in->bucket);
    if (state->pending)
        return wrong(s, RULE_REDUCE, i, "has gradients in buffers that are not in its memory yet", in->bucket);
    if (in->op == PLAN_SUMSQ) {
        if (s->scalars)
            return wrong(s, RULE_SCALARS, i, "counts in the norm after the scalars' reduction", in->bucket);
        return state->sumsq++ ? wrong(s, RULE_UPDATE, i, "counts a second time in the norm", in->bucket) : ST_OK;
    }
    if (s->p->h->clip && !s->scalars)
        return wrong(s, RULE_UPDATE, i, "is clipped, but the norm is not known before its update", in->bucket);
    return state->updated++ ? wrong(s, RULE_UPDATE, i, "is updated a second time", in->bucket) : ST_OK;
}

/* ---- reductions ---- */

/* The same bucket is meant by all ends: that of the lowest member class has the same first parameter. */
static bool same_bucket(const struct steps *s, uint32_t i, uint32_t bucket, uint32_t kind)
{
    const struct check_comm *comm = &s->l->comms.at[s->l->comm_of[s->l->base[s->cls] + i]];
    const struct check_end *end = &s->l->ends.at[comm->first_end];
    const struct plan *q = s->c->classes[end->cls].p;
    uint32_t other = check_bucket_of(q, &q->bases[check_instrs(s->c, s->l, end->cls)[end->instr].first_base], kind);
    return other != PLAN_NONE &&
           q->pieces[q->buckets[other].first_piece].param == s->p->pieces[s->p->buckets[bucket].first_piece].param;
}

/* What a collective on a bucket is: of the part of it that `count` elements are, over a group, of gradients or parameters. */
struct collective {
    enum check_rule rule;
    uint32_t kind, group;
    uint64_t count;
};

static enum status check_collective(const struct steps *s, uint32_t i, uint32_t bucket, const struct collective *want)
{
    const struct plan_instr *in = &check_instrs(s->c, s->l, s->cls)[i];
    struct check_place at = { s->cls, s->l, i };
    bool parts = in->op != PLAN_ALL_REDUCE;
    uint32_t type = want->kind == SLOT_GRAD ? (uint32_t)IR_F32 : s->p->buckets[bucket].type;
    if (!check_same_members(s->c, s->cls, s->p->channels[in->channel].group, want->group, parts))
        return check_wrong(s->c, want->rule, at,
                           "communicator %u is group %u, which is not the replica group of bucket %u, group %u",
                           s->p->channels[in->channel].id, s->p->channels[in->channel].group, bucket, want->group);
    if (in->count != want->count || in->type != type)
        return check_wrong(s->c, want->rule, at, "%" PRIu64 " elements of %s, bucket %u needs %" PRIu64 " of %s",
                           in->count, ir_dtype_name(in->type), bucket, want->count, ir_dtype_name((enum ir_dtype)type));
    if (in->bucket != bucket)
        return check_wrong(s->c, want->rule, at, "is of bucket %u, its base of bucket %u", in->bucket, bucket);
    if (!same_bucket(s, i, bucket, want->kind))
        return check_wrong(s->c, want->rule, at, "other members have another bucket than %u with this node", bucket);
    return ST_OK;
}

/* A base is the whole bucket, or this holder's part of it; the buffers of both begin with it. */
static bool stands_at_start(const struct steps *s, const struct plan_base *b, uint32_t bucket)
{
    const struct plan_bucket *u = &s->p->buckets[bucket];
    uint64_t at = b->arena == ARENA_WORK     ? s->p->buffers[b->buffer].offset
                  : b->arena == ARENA_PARAMS ? u->param
                                             : u->grad;
    return b->offset == at;
}

/* Bits of the access that say which part of a bucket a base is. */
static uint32_t part_of(const struct plan_base *b)
{
    return b->access & (PLAN_OWN | PLAN_PART);
}

/* The shard where gradients of the bucket lie. */
static uint32_t own_shard(const struct plan_bucket *u)
{
    return zero_shards_state(u->zero) && !zero_shards_grads(u->zero) ? PLAN_OWN : 0;
}

/* Where reduced gradients go: state of the destination, after all checks. */
static enum status reduce_into(struct steps *s, uint32_t i, const struct plan_base *to, uint32_t bucket)
{
    struct bucket_state *state = &s->buckets[bucket];
    if (check_bucket_of(s->p, to, SLOT_GRAD) != bucket || !stands_at_start(s, to, bucket))
        return wrong(s, RULE_REDUCE, i, "is reduced into memory that is not its own", bucket);
    if (to->arena == ARENA_WORK) {
        if (s->buffers[to->buffer] != GRADIENT_NONE)
            return wrong(s, RULE_REDUCE, i, "is reduced into a buffer that holds gradients", bucket);
        state->pending++;
        s->buffers[to->buffer] = GRADIENT_REDUCED;
        return ST_OK;
    }
    if (state->memory != GRADIENT_NONE || part_of(to) != own_shard(&s->p->buckets[bucket]))
        return wrong(s, RULE_REDUCE, i, "is reduced into memory that holds gradients, or into another's part", bucket);
    state->memory = s->p->buckets[bucket].zero_group ? GRADIENT_GROUPED : GRADIENT_REDUCED;
    return ST_OK;
}

/* Sums of groups, all of them in the bucket's memory, to those of all holders: of the shard, or of the part of it that is updated here. */
static enum status copies_step(struct steps *s, uint32_t i, const struct plan_instr *in, uint32_t bucket)
{
    const struct plan_base *b = &s->p->bases[in->first_base];
    const struct plan_bucket *u = &s->p->buckets[bucket];
    struct bucket_state *state = &s->buckets[bucket];
    if (in->op != (u->state_all ? PLAN_REDUCE_SCATTER : PLAN_ALL_REDUCE))
        return wrong(s, RULE_REDUCE, i, "is reduced over copies by another collective than its state requires", bucket);
    TRY(check_collective(
        s, i, bucket,
        &(struct collective){ RULE_REDUCE, SLOT_GRAD, u->copies,
                              u->state_all ? check_part_elements(s->p, u) : check_shard_elements(s->p, u) }));
    if (state->pending)
        return wrong(s, RULE_REDUCE, i, "is reduced over copies before all its gradients are in its memory", bucket);
    bool shard = stands_at_start(s, b, bucket) && part_of(b) == own_shard(u);
    if (u->state_all)
        shard = shard && b[1].arena == ARENA_GRADS && check_bucket_of(s->p, b + 1, SLOT_GRAD) == bucket &&
                stands_at_start(s, b + 1, bucket) && part_of(b + 1) == (own_shard(u) | PLAN_PART);
    if (!shard)
        return wrong(s, RULE_REDUCE, i, "is reduced over copies, but not its shard into what is updated here", bucket);
    state->memory = GRADIENT_REDUCED;
    return ST_OK;
}

static enum status reduce_step(struct steps *s, uint32_t i, const struct plan_instr *in, uint32_t bucket)
{
    const struct plan_base *b = &s->p->bases[in->first_base];
    struct bucket_state *state = &s->buckets[bucket];
    uint8_t *from = b->arena == ARENA_WORK ? &s->buffers[b->buffer] : &state->memory;
    if (state->sumsq || state->updated)
        return wrong(s, RULE_REDUCE, i, "is reduced after its share of the norm or its update", bucket);
    if (b->arena == ARENA_GRADS && state->memory == GRADIENT_GROUPED)
        return copies_step(s, i, in, bucket);
    const struct plan_bucket *u = &s->p->buckets[bucket];
    if (in->op != reduction_of[u->zero])
        return wrong(s, RULE_REDUCE, i, "is reduced by another collective than its ZeRO level requires", bucket);
    TRY(check_collective(s, i, bucket,
                         &(struct collective){ RULE_REDUCE, SLOT_GRAD, check_shard_group(u),
                                               u->zero ? check_shard_elements(s->p, u) : u->elements }));
    if (*from == GRADIENT_REDUCED || *from == GRADIENT_DONE)
        return wrong(s, RULE_REDUCE, i, "is reduced a second time", bucket);
    if (in->op == PLAN_ALL_REDUCE) { /* each piece has its gradients, where it lies in the bucket: memory.c */
        *from = GRADIENT_REDUCED;
        return ST_OK;
    }
    state->pending -= b->arena == ARENA_WORK;
    *from = b->arena == ARENA_WORK ? GRADIENT_DONE : GRADIENT_NONE;
    return reduce_into(s, i, b + 1, bucket);
}

/* Reduced gradients from a buffer into the bucket's memory. */
static enum status add_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    const struct plan_base *b = &s->p->bases[in->first_base];
    uint32_t bucket = check_bucket_of(s->p, b, SLOT_GRAD), from = check_bucket_of(s->p, b + 1, SLOT_GRAD);
    struct check_place at = { s->cls, s->l, i };
    if (!s->l->train || b->arena != ARENA_GRADS || b[1].arena != ARENA_WORK || bucket == PLAN_NONE || from != bucket ||
        in->bucket != bucket)
        return check_wrong(s->c, RULE_REDUCE, at, "does not add gradients of a bucket in a buffer to its memory");
    const struct plan_bucket *u = &s->p->buckets[bucket];
    struct bucket_state *state = &s->buckets[bucket];
    uint64_t count = zero_shards_state(u->zero) ? check_shard_elements(s->p, u) : u->elements;
    if (in->count != count || in->type != IR_F32 || !stands_at_start(s, b, bucket) ||
        !stands_at_start(s, b + 1, bucket) || part_of(b) != own_shard(u))
        return wrong(s, RULE_REDUCE, i, "gets another number of gradients, or at another place, than it keeps", bucket);
    if (s->buffers[b[1].buffer] != GRADIENT_REDUCED || state->memory == GRADIENT_LOCAL ||
        (u->zero_group && state->memory == GRADIENT_REDUCED))
        return wrong(s, RULE_REDUCE, i, "gets gradients that are not reduced, or a second time", bucket);
    s->buffers[b[1].buffer] = GRADIENT_DONE;
    state->memory = u->zero_group ? GRADIENT_GROUPED : GRADIENT_REDUCED;
    state->pending--;
    return ST_OK;
}

/* ---- the rest ---- */

/* What the copies of a shard have updated to the whole shard, where parameters lie: once, before any other gather. */
static enum status gather_copies_step(struct steps *s, uint32_t i, const struct plan_instr *in, uint32_t bucket)
{
    const struct plan_base *b = &s->p->bases[in->first_base];
    const struct plan_bucket *u = &s->p->buckets[bucket];
    struct bucket_state *state = &s->buckets[bucket];
    const uint32_t shard = zero_gathers_at_start(u->zero) ? PLAN_OWN : 0;
    if (in->op != PLAN_ALL_GATHER || !u->state_all || b->arena != ARENA_PARAMS || b[1].arena != ARENA_PARAMS ||
        check_bucket_of(s->p, b + 1, SLOT_PARAM) != bucket || !stands_at_start(s, b, bucket) ||
        !stands_at_start(s, b + 1, bucket) || part_of(b) != (shard | PLAN_PART) || part_of(b + 1) != shard)
        return wrong(s, RULE_GATHER, i, "is gathered from copies, but not what they have updated into its shard",
                     bucket);
    TRY(check_collective(s, i, bucket,
                         &(struct collective){ RULE_GATHER, SLOT_PARAM, u->copies, check_part_elements(s->p, u) }));
    if (state->updated || state->shard_whole)
        return wrong(s, RULE_GATHER, i, "is gathered from copies a second time, or after its update", bucket);
    state->shard_whole = true;
    return ST_OK;
}

/* Parts to whole parameters: in place in the parameters' memory (ZeRO 1 and 2, once), or into a buffer (ZeRO 3). */
static enum status gather_step(struct steps *s, uint32_t i, const struct plan_instr *in, uint32_t bucket)
{
    const struct plan_base *b = &s->p->bases[in->first_base];
    const struct plan_bucket *u = &s->p->buckets[bucket];
    struct bucket_state *state = &s->buckets[bucket];
    if (b->access & PLAN_PART)
        return gather_copies_step(s, i, in, bucket);
    TRY(check_collective(
        s, i, bucket,
        &(struct collective){ RULE_GATHER, SLOT_PARAM, check_shard_group(u), check_shard_elements(s->p, u) }));
    bool in_place = zero_gathers_at_start(u->zero);
    if (in->op != PLAN_ALL_GATHER || !zero_shards_state(u->zero) || b->arena != ARENA_PARAMS ||
        !stands_at_start(s, b, bucket) || check_bucket_of(s->p, b + 1, SLOT_PARAM) != bucket ||
        !stands_at_start(s, b + 1, bucket) || b[1].arena != (in_place ? ARENA_PARAMS : ARENA_WORK) ||
        part_of(b) != (in_place ? PLAN_OWN : 0) || part_of(b + 1))
        return wrong(s, RULE_GATHER, i, "is not gathered as its ZeRO level requires", bucket);
    if (u->state_all && !state->shard_whole)
        return wrong(s, RULE_GATHER, i, "is gathered before its shard is gathered from copies", bucket);
    if (state->updated)
        return wrong(s, RULE_GATHER, i, "is gathered after its update", bucket);
    if (in_place && state->gathered)
        return wrong(s, RULE_GATHER, i, "is gathered a second time", bucket);
    state->gathered = true;
    return ST_OK;
}

static enum status scalars_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = { s->cls, s->l, i };
    uint32_t group = s->p->channels[in->channel].group;
    const uint32_t *classes;
    if (check_group_classes(s->c, s->cls, group, &classes) != s->c->n ||
        s->c->classes[s->cls].group_seq[group] == PLAN_NONE)
        return check_wrong(s->c, RULE_SCALARS, at, "communicator %u does not span all ranks",
                           s->p->channels[in->channel].id);
    if (in->type != IR_F64 || s->scalars++)
        return check_wrong(s->c, RULE_SCALARS, at, "the scalars are reduced a second time, or not as float64");
    return ST_OK;
}

/* Any other communication touches neither parameters, gradients nor optimizer state. */
static enum status other_step(const struct steps *s, uint32_t i, const struct plan_instr *in)
{
    for (uint32_t k = 0; k < (in->op == PLAN_ROUNDS ? 2 : in->n_bases); k++) {
        const struct plan_base *b = &s->p->bases[in->first_base + k];
        uint32_t role = b->arena == ARENA_WORK ? s->p->buffers[b->buffer].role : SLOT_PARAM;
        if (role == SLOT_PARAM || role == SLOT_GRAD)
            return check_wrong(s->c, RULE_UPDATE, (struct check_place){ s->cls, s->l, i },
                               "base %u is memory of parameters or gradients", k);
    }
    return ST_OK;
}

/* Gradients that it zeroes are there from then on. */
static enum status rounds_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    for (uint32_t k = 2; k < in->n_bases; k++)
        TRY(run_gradient(s, i, &s->p->bases[in->first_base + k]));
    if (s->scalars)
        return check_wrong(s->c, RULE_SCALARS, (struct check_place){ s->cls, s->l, i },
                           "adds to the scalars after their reduction");
    return other_step(s, i, in);
}

static enum status one_step(struct steps *s, uint32_t i, const struct plan_instr *in)
{
    if (in->op == PLAN_ROUNDS)
        return rounds_step(s, i, in);
    if (in->op == PLAN_RUN)
        return run_step(s, i, in);
    if (in->op == PLAN_SUMSQ || in->op == PLAN_UPDATE)
        return bucket_step(s, i, in);
    if (in->op == PLAN_SCALARS)
        return scalars_step(s, i, in);
    if (in->op == PLAN_ADD)
        return add_step(s, i, in);
    if (check_is_collective(in->op)) {
        const struct plan_base *b = &s->p->bases[in->first_base];
        uint32_t grad = check_bucket_of(s->p, b, SLOT_GRAD), param = check_bucket_of(s->p, b, SLOT_PARAM);
        if (grad != PLAN_NONE)
            return reduce_step(s, i, in, grad);
        if (param != PLAN_NONE)
            return gather_step(s, i, in, param);
    }
    return other_step(s, i, in);
}

static enum status totals(const struct steps *s)
{
    struct check_place at = { .cls = s->cls };
    if (s->scalars != 1)
        return check_wrong(s->c, RULE_SCALARS, at, "list \"%s\" never reduces the scalars", s->l->name);
    for (uint32_t b = 0; s->l->train && b < s->p->h->count[PLAN_S_BUCKETS]; b++) {
        if (s->buckets[b].sumsq != (s->p->buckets[b].rule == PLAN_RULE_OPTIMIZER))
            return check_wrong(s->c, RULE_UPDATE, at, "bucket %u does not count in the norm", b);
        if (s->buckets[b].updated != (s->p->buckets[b].rule != PLAN_RULE_FROZEN))
            return check_wrong(s->c, RULE_UPDATE, at, "bucket %u is never updated", b);
    }
    return ST_OK;
}

enum status check_steps(struct check *c, const struct check_list *l)
{
    enum status st = ST_OK;
    for (uint32_t cls = 0; cls < c->n && st == ST_OK; cls++) {
        struct steps s = { .c = c, .l = l, .p = c->classes[cls].p, .cls = cls };
        const struct plan_instr *in = check_instrs(c, l, cls);
        s.buckets = mem_alloc(sizeof *s.buckets * (size_t)s.p->h->count[PLAN_S_BUCKETS]);
        s.buffers = mem_alloc(s.p->h->count[PLAN_S_BUFFERS]);
        for (uint32_t i = 0; i < check_n_instrs(c, l, cls) && st == ST_OK; i++)
            st = one_step(&s, i, &in[i]);
        if (st == ST_OK)
            st = totals(&s);
        mem_free(s.buckets);
        mem_free(s.buffers);
    }
    return st;
}
