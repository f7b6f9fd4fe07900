/* Buckets: which parameters are reduced and updated together, and who holds them (piper-strategy(5), replicate).
 *
 * The parameters of a piece of a chunk form one bucket, or one for each set of holders (regions of shared sequences hold blocks of some)
 * and each type and rule that they have. A parameter that several sub-chunks use is a bucket of its own. The holders
 * of a bucket are all devices of all classes that run one of those sub-chunks, for whatever reason: replicas and tied stages are one
 * mechanism. Needs: sub-chunks, classes. */
#include <inttypes.h>
#include <stdlib.h>

#include "sched/passes.h"

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Classes that run a sub-chunk, appended to bucket_classes. */
static void add_classes(struct sched *s, uint32_t sub)
{
    uint32_t c = s->chunks.subs.at[sub].chunk;
    for (uint32_t mb = 0; mb < s->microbatches; mb++)
        vec_add(&s->bucket_classes, s->sets.at[s->set_of[c * s->microbatches + mb]].class_id);
}

static void finish_classes(struct sched *s, struct bucket *b)
{
    uint32_t *at = s->bucket_classes.at + b->first_class, n = s->bucket_classes.n - b->first_class, out = 0;
    qsort(at, n, sizeof *at, by_value);
    for (uint32_t i = 0; i < n; i++)
        if (!out || at[out - 1] != at[i])
            at[out++] = at[i];
    b->n_classes = out;
    s->bucket_classes.n = b->first_class + out;
    for (uint32_t i = 0; i < out; i++)
        b->holders += s->classes.at[at[i]].n;
    if (b->experts != IR_NONE)
        b->holders = 0;
    for (uint32_t i = 0; i < out && b->experts != IR_NONE; i++)
        b->holders += s->directives.at[expert_shard_in(s, b->experts, at[i])].n_shard_sets;
    b->holders /= b->blocks;
    b->group = b->holders;
}

/* Parameters that decay first; each starts at the target's alignment; the end is padded so that
 * every holder's part is equal and starts at 16 bytes. */
static void lay_out(struct sched *s, struct bucket *b)
{
    uint32_t align = elements_of(b, s->in->target->alignment);
    uint64_t at = 0;
    uint32_t *p = s->bucket_params.at + b->first_param, n = b->n_params, k = 0;
    uint32_t *sorted = mem_alloc(n * sizeof *sorted);
    for (int decay = 1; decay >= 0; decay--) {
        for (uint32_t i = 0; i < n; i++)
            if (s->g->params.at[p[i]].decays == (decay == 1)) {
                sorted[k++] = p[i];
                at = round_up(at, align) + s->cuts[p[i]].count;
            }
        if (decay)
            b->n_decay = at;
    }
    memcpy(p, sorted, n * sizeof *sorted);
    mem_free(sorted);
    b->elements = round_up(round_up(at, align), (uint64_t)b->holders * elements_of(b, 16));
}

/* Does every class of the bucket have gradients of every microbatch? Not where the microbatches of a stage are placed on
 * disjoint sets: then a reduction per microbatch would wait for terms that nobody computes. */
static bool every_microbatch(const struct sched *s, const struct bucket *b, uint32_t number)
{
    uint32_t found = 0, m = s->microbatches;
    for (uint32_t k = 0; k < b->n_classes; k++)
        for (uint32_t mb = 0; mb < m; mb++) {
            bool runs = false;
            for (uint32_t i = 0; i < s->chunks.subs.n && !runs; i++) {
                const struct ir_sub *sub = &s->chunks.subs.at[i];
                uint32_t set = s->set_of[sub->chunk * m + mb];
                for (uint32_t q = 0; q < sub->n_param && !runs; q++)
                    runs = s->bucket_of[s->chunks.params.at[sub->first_param + q]] == number &&
                           s->sets.at[set].class_id == s->bucket_classes.at[b->first_class + k];
            }
            found += runs;
        }
    return found == b->n_classes * m;
}

/* Members of a zero group that hold the same block of experts, or of heads that context groups split further: a group is so many
 * neighbouring devices as hold one block of the other parameters zero_group times. 1: each holds another block. */
static enum status block_group(struct sched *s, const struct bucket *b, uint32_t chunk, const struct directive *d,
                               uint32_t *group, struct err *e)
{
    const bool experts = b->experts != IR_NONE;
    const uint64_t n = experts ? expert_parts(s, chunk) : b->blocks, span = (uint64_t)d->zero_group * s->share.tensor;
    char text[160];
    chunk_text(s, chunk, text, sizeof text);
    if (span % n && n % span)
        return js_wrong(&d->js, e,
                        "zero_group %u is %" PRIu64
                        " devices, which is neither a multiple nor a divisor of the %" PRIu64 " %s of %s",
                        d->zero_group, span, n, experts ? "of an expert group" : "that share the heads", text);
    *group = span > n ? (uint32_t)(span / n) : 1;
    if (b->holders % *group)
        return js_wrong(&d->js, e, "zero_group %u has %u of the %u holders of the %s of %s, which it must divide",
                        d->zero_group, *group, b->holders, experts ? "experts" : "heads", text);
    return ST_OK;
}

/* What is sharded, and over whom. Several classes use a tied parameter at different times: they gather it together, at the start of the
 * step, all of its holders. */
static enum status set_zero(struct sched *s, struct bucket *b, uint32_t chunk, const struct directive *d, struct err *e)
{
    char text[160];
    b->zero = b->holders == 1 ? ZERO_NONE : b->n_classes > 1 && d->zero ? ZERO_STATE : d->zero;
    if (!d->zero_group || b->n_classes > 1)
        return ST_OK;
    uint32_t group = d->zero_group;
    if (b->experts != IR_NONE || b->blocks > s->share.tensor)
        TRY(block_group(s, b, chunk, d, &group, e));
    else if (b->holders % group)
        return js_wrong(&d->js, e, "zero_group %u does not divide the %u holder%s of %s", group, b->holders,
                        b->holders == 1 ? "" : "s", chunk_text(s, chunk, text, sizeof text));
    if (group > 1) {
        b->group = group;
        b->state_all = d->zero_all && group < b->holders && b->rule == PLAN_RULE_OPTIMIZER;
        return ST_OK;
    }
    b->zero = d->zero_all && b->holders > 1 ? ZERO_STATE : ZERO_NONE; /* there is nobody in the group to shard with */
    b->reduce_each = b->reduce_each && js_has(&d->js, "reduce");
    return ST_OK;
}

/* Copies that nothing keeps equal would drift apart: several replicas of a chunk with parameters need replicate. */
static enum status set_streams(struct sched *s, struct bucket *b, uint32_t chunk, struct err *e)
{
    uint32_t r = s->replicate_of[chunk];
    const struct directive *d = r == IR_NONE ? NULL : &s->directives.at[r];
    b->reduce_stream = d ? d->reduce_stream : s->stream_of[chunk];
    b->gather_stream = d ? d->gather_stream : 0;
    b->set = d && d->set != IR_NO_SET ? d->set : s->set_of[chunk * s->microbatches];
    if (d && b->holders > 1 && b->rule != PLAN_RULE_BALANCE) {
        b->reduce_each = b->rule == PLAN_RULE_OPTIMIZER && d->reduce_each &&
                         (b->n_classes == 1 || every_microbatch(s, b, (uint32_t)(b - s->buckets.at)));
        b->prefetch = d->prefetch;
    }
    if (d && b->rule != PLAN_RULE_BALANCE)
        TRY(set_zero(s, b, chunk, d, e));
    if (d || s->replicas == 1) /* (shared sequences have a directive) */
        return ST_OK;
    char text[160], set[160];
    return err_set(e, ST_INPUT, s->in->strategy_name,
                   "%s is on devices %s, so its parameters have %u copies, but no replicate directive covers it: add "
                   "{\"op\":\"replicate\",\"filter\":...,\"devices\":%s}",
                   chunk_text(s, chunk, text, sizeof text),
                   devices_text(s, s->set_of[chunk * s->microbatches], set, sizeof set), s->replicas, set);
}

static enum ir_dtype param_type(const struct sched *s, const struct ir_param *p)
{
    return p->shape.dtype == IR_COMPUTE ? s->in->compute : (enum ir_dtype)p->shape.dtype;
}

static enum plan_rule param_rule(const struct ir_param *p)
{
    return p->frozen ? PLAN_RULE_FROZEN : p->state ? PLAN_RULE_BALANCE : PLAN_RULE_OPTIMIZER;
}

/* For parameters like this one. */
static struct bucket *new_bucket(struct sched *s, const struct ir_param *like)
{
    struct bucket *b = vec_push(&s->buckets);
    *b = (struct bucket){ .first_param = s->bucket_params.n,
                          .first_class = s->bucket_classes.n,
                          .type = param_type(s, like),
                          .rule = param_rule(like),
                          .experts = IR_NONE,
                          .blocks = 1 };
    return b;
}

/* A parameter that several sub-chunks use; chunk: of the first of them. */
static enum status tied_bucket(struct sched *s, uint32_t param, uint32_t chunk, struct err *e)
{
    struct bucket *b = new_bucket(s, &s->g->params.at[param]);
    s->bucket_of[param] = s->buckets.n - 1;
    vec_add(&s->bucket_params, param);
    b->n_params = 1;
    for (uint32_t j = 0; j < s->chunks.subs.n; j++)
        for (uint32_t q = 0; q < s->chunks.subs.at[j].n_param; q++)
            if (s->chunks.params.at[s->chunks.subs.at[j].first_param + q] == param)
                add_classes(s, j);
    b->blocks = s->cuts[param].blocks;
    finish_classes(s, b);
    lay_out(s, b);
    return set_streams(s, b, chunk, e);
}

/* Sub-chunks of one piece of a chunk. */
struct piece {
    uint32_t first, end;
    const uint32_t *users; /* by parameter: sub-chunks that use it */
};

/* Blocks in which a bucket's devices hold this parameter; 1 for experts, whose buckets are of a shard directive. */
static uint32_t blocks_of(const struct sched *s, uint32_t chunk, uint32_t param)
{
    return expert_shard(s, chunk) == IR_NONE ? s->cuts[param].blocks : 1;
}

/* The parameters of the piece that one sub-chunk alone uses, that have no bucket yet, and that are as `like`: in as many blocks, of the
 * same type and rule. */
static enum status piece_bucket(struct sched *s, const struct piece *piece, uint32_t like, struct err *e)
{
    const uint32_t chunk = s->chunks.subs.at[piece->first].chunk, blocks = blocks_of(s, chunk, like);
    struct bucket *b = new_bucket(s, &s->g->params.at[like]);
    for (uint32_t i = piece->first; i < piece->end; i++) {
        const struct ir_sub *u = &s->chunks.subs.at[i];
        for (uint32_t k = 0; k < u->n_param; k++) {
            uint32_t p = s->chunks.params.at[u->first_param + k];
            if (s->bucket_of[p] != IR_NONE || blocks_of(s, chunk, p) != blocks ||
                b->type != param_type(s, &s->g->params.at[p]) || b->rule != param_rule(&s->g->params.at[p]))
                continue;
            s->bucket_of[p] = s->buckets.n - 1;
            vec_add(&s->bucket_params, p);
            b->n_params++;
        }
    }
    add_classes(s, piece->first);
    b->experts = expert_shard(s, chunk) == IR_NONE ? IR_NONE : chunk;
    b->blocks = blocks;
    finish_classes(s, b);
    lay_out(s, b);
    return set_streams(s, b, chunk, e);
}

static enum status buckets_of_piece(struct sched *s, const struct piece *piece, struct err *e)
{
    for (int own = 0; own < 2; own++)
        for (uint32_t i = piece->first; i < piece->end; i++) {
            const struct ir_sub *u = &s->chunks.subs.at[i];
            for (uint32_t k = 0; k < u->n_param; k++) {
                uint32_t p = s->chunks.params.at[u->first_param + k];
                if (s->bucket_of[p] != IR_NONE || own != (piece->users[p] < 2))
                    continue;
                if (own)
                    TRY(piece_bucket(s, piece, p, e));
                else
                    TRY(tied_bucket(s, p, u->chunk, e));
            }
        }
    return ST_OK;
}

/* ---- what a device holds of a parameter ------------------------------------------------------------------------------- */

/* All of a parameter: of a part of another one its rows, where they do not follow each other. */
static struct param_cut whole_of(const struct ir_param *p)
{
    struct param_cut cut = { .blocks = 1, .count = ir_shape_elements(&p->shape), .first = p->first };
    if (p->stride) {
        cut.stride = p->stride;
        cut.run = p->shape.dim[p->shape.ndim - 1];
    }
    return cut;
}

/* The block of a parameter cut along dimension `dim`. */
static struct param_cut cut_of(const struct ir_param *p, int dim, uint32_t blocks)
{
    struct param_cut cut = whole_of(p);
    uint64_t row = 1;
    for (int i = dim; i < p->shape.ndim; i++)
        row *= p->shape.dim[i];
    if (row < cut.count) { /* else one row of blocks: they follow one another */
        cut.stride = p->stride ? p->stride : row;
        cut.run = row / blocks;
    }
    cut.blocks = blocks;
    cut.count /= blocks;
    return cut;
}

/* The block of a table cut into blocks of equally many rows, of which the last may have fewer. */
static struct param_cut words_of(const struct ir_shape *shape, uint32_t blocks)
{
    const uint64_t elements = ir_shape_elements(shape), rows = shape->dim[0], row = elements / rows;
    const uint64_t count = (rows + blocks - 1) / blocks * row;
    return (
        struct param_cut){ .blocks = blocks, .count = count, .elements = count * blocks == elements ? 0 : elements };
}

/* Of the parameters of an operator that a region splits. */
static enum status cut_params(struct sched *s, uint32_t o, struct err *e)
{
    const struct ir_node_op *op = &s->g->ops.at[o];
    const struct op_side *side = &s->sides[o];
    for (uint32_t i = 0; i < IR_MAX_PARAM; i++) {
        if (op->param[i] == IR_NONE)
            continue;
        const struct ir_param *p = &s->g->params.at[op->param[i]];
        struct param_cut *cut = &s->cuts[op->param[i]], is = whole_of(p);
        int dim = side->parts > 1 ? ir_op_param_cut((enum ir_op)op->op, &op->attrs, (enum ir_split)side->split, i) : -1;
        if (dim >= 0 && side->split == IR_WORDS)
            is = words_of(&p->shape, side->parts);
        else if (dim >= 0)
            is = cut_of(p, dim, side->parts);
        if (cut->count && memcmp(cut, &is, sizeof is))
            return err_set(e, ST_INPUT, s->in->strategy_name,
                           "%s is shared by operators of which a region splits some: %s and another one; match both or "
                           "neither",
                           p->name, op->name);
        *cut = is;
    }
    return ST_OK;
}

/* users: sub-chunks that use a parameter. */
static enum status find_cuts(struct sched *s, const uint32_t *users, struct err *e)
{
    s->cuts = arena_array(&s->arena, struct param_cut, s->g->params.n + 1);
    for (uint32_t o = 0; o < s->g->ops.n && s->sides; o++)
        TRY(cut_params(s, o, e));
    for (uint32_t p = 0; p < s->g->params.n; p++)
        if (!s->cuts[p].count)
            s->cuts[p] = whole_of(&s->g->params.at[p]);
    for (uint32_t i = 0; i < s->chunks.subs.n; i++) {
        const struct ir_sub *u = &s->chunks.subs.at[i];
        for (uint32_t k = 0; k < u->n_param && expert_shard(s, u->chunk) != IR_NONE; k++) {
            const uint32_t p = s->chunks.params.at[u->first_param + k];
            struct param_cut *cut = &s->cuts[p];
            if (users[p] < 2)
                *cut = (struct param_cut){ .blocks = expert_parts(s, u->chunk),
                                           .count = cut->count / expert_parts(s, u->chunk) };
        }
    }
    return ST_OK;
}

enum status pass_buckets(struct sched *s, struct err *e)
{
    uint32_t n = s->g->params.n;
    uint32_t *users = mem_alloc(n * sizeof *users);
    s->bucket_of = arena_array(&s->arena, uint32_t, n);
    memset(s->bucket_of, 0xff, n * sizeof *s->bucket_of);
    for (uint32_t i = 0; i < s->chunks.params.n; i++)
        users[s->chunks.params.at[i]]++;
    enum status st = find_cuts(s, users, e);
    for (uint32_t i = 0; i < s->chunks.subs.n && st == ST_OK;) {
        struct piece piece = { i, i, users };
        while (piece.end < s->chunks.subs.n && s->chunks.subs.at[piece.end].piece == s->chunks.subs.at[i].piece)
            piece.end++;
        st = buckets_of_piece(s, &piece, e);
        i = piece.end;
    }
    mem_free(users);
    return st;
}
