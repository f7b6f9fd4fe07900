/* From the model graph to the training DAG: chunks, sub-chunks, and the nodes of every pass of every microbatch.
 *
 * pass_chunks needs parsed directives (replicate cuts chunks). pass_build needs microbatches and device sets; it makes LOAD
 * and RUN nodes with data edges. The nodes of one (microbatch, pass, chunk) are numbered one after the other, a sub-chunk
 * each; pass_order relies on it.
 *
 * A region whose gradients of inputs are to be summed over its tensor group, on a stream of their own, runs its B as BI and then BW: so
 * the sum travels under BW, and what is gathered again for BW under BI. Filters see B, which is all of them (pass_seen()). */
#include "ir/freeze.h"
#include "sched/passes.h"

enum status pass_chunks(struct sched *s, struct err *e)
{
    uint32_t n = s->chunks.chunks.n;
    struct ir_cut_rule *rules = arena_array(&s->arena, struct ir_cut_rule, n);
    s->replicate_of = arena_array(&s->arena, uint32_t, n);
    memset(s->replicate_of, 0xff, n * sizeof *s->replicate_of);
    for (uint32_t i = 0; i < s->directives.n; i++) {
        const struct directive *d = &s->directives.at[i];
        if (d->kind != &directive_replicate)
            continue;
        TRY(filter_check(s, &d->filter, &d->js, e));
        for (uint32_t c = 0; c < n; c++)
            if (filter_chunk(s, &d->filter, c)) {
                rules[c] = d->cut;
                s->replicate_of[c] = i;
            }
    }
    for (uint32_t c = 0; c < n; c++) /* without a replicate, shared sequences are one */
        if (s->replicate_of[c] == IR_NONE)
            s->replicate_of[c] = s->sequence_of[c];
    ir_chunks_cut(&s->chunks, s->g, rules, s->regions, s->in->compute);
    return s->sides ? counts_check_cut(s, e) : ST_OK;
}

/* has[t]: some operator asks for the gradient of tensor t. From the end to the front: an operator passes gradients on
 * when an output has one, or when it is a source of loss itself. */
uint8_t *find_gradients(const struct ir_graph *g)
{
    uint8_t *has = mem_alloc(g->tensors.n), *wanted = ir_freeze_wanted(g);
    for (uint32_t o = g->ops.n; o-- > 0;) {
        const struct ir_node_op *op = &g->ops.at[o];
        const struct ir_op_info *info = &ir_op_info[op->op];
        bool flows = ir_op_has_loss((enum ir_op)op->op, &op->attrs);
        for (int i = 0; i < IR_MAX_OUT; i++)
            flows = flows || (op->out[i] != IR_NONE && has[op->out[i]]);
        for (int i = 0; i < IR_MAX_IN && flows; i++)
            if (op->in[i] != IR_NONE && (info->grad_in >> i & 1) && g->tensors.at[op->in[i]].producer != IR_NONE)
                has[op->in[i]] = wanted[op->in[i]];
    }
    mem_free(wanted);
    return has;
}

static bool has_weights(const struct sched *s, uint32_t o)
{
    const struct ir_node_op *op = &s->g->ops.at[o];
    return ir_op_runs((enum ir_op)op->op, &op->attrs, IR_PASS_BW) && ir_op_trains(s->g, op);
}

uint32_t sub_parted(const struct sched *s, const struct ir_sub *sub)
{
    uint32_t found = IR_NONE;
    for (uint32_t k = 0; k < sub->n_ops; k++) {
        const uint32_t o = s->chunks.ops.at[sub->first_op + k];
        if (!has_weights(s, o))
            continue;
        if (found != IR_NONE || ir_op_bw_parts((enum ir_op)s->g->ops.at[o].op) == 1)
            return IR_NONE;
        found = o;
    }
    return found;
}

bool sub_part_gives(const struct sched *s, const struct ir_sub *sub, uint32_t part, uint32_t param)
{
    if (!part)
        return true;
    const struct ir_node_op *op = &s->g->ops.at[sub_parted(s, sub)];
    const uint32_t params = ir_op_bw_params((enum ir_op)op->op, &op->attrs, part - 1);
    for (uint32_t i = 0; i < IR_MAX_PARAM; i++)
        if (params >> i & 1 && op->param[i] == param)
            return true;
    return false;
}

struct builder {
    struct sched *s;
    struct ir_dag *d;
    uint8_t *has_grad;
    uint8_t *users;      /* by parameter: sub-chunks that have it, 2: several */
    uint32_t *f, *b, *w; /* [mb * subs + sub]: nodes of F, of B or BI, of BW (the first of its parts; IR_NONE) */
    bool eval;
};

static uint32_t run_node(struct builder *b, uint32_t sub, uint32_t mb, enum ir_pass pass, uint32_t part)
{
    static const float cost[IR_PASS_COUNT] = { [IR_PASS_F] = 1, [IR_PASS_B] = 2, [IR_PASS_BI] = 1, [IR_PASS_BW] = 1 };
    struct sched *s = b->s;
    uint32_t chunk = s->chunks.subs.at[sub].chunk;
    return ir_dag_node(b->d, (struct ir_node){ .kind = IR_NODE_RUN,
                                               .pass = (uint8_t)pass,
                                               .mb = (uint16_t)mb,
                                               .what = sub,
                                               .set = s->set_of[chunk * s->microbatches + mb],
                                               .part = (uint16_t)part,
                                               .cost = cost[pass] });
}

/* Does B of this sub-chunk run as BI and then BW, so that something travels under each? In a group that overlaps every B does that has
 * both halves; but for parameters that several sub-chunks have, whose gradients are added up in the order of the backward. */
static bool overlaps(const struct builder *b, const struct ir_sub *sub, uint32_t mb)
{
    const struct sched *s = b->s;
    const uint32_t directive = s->sides ? s->sides[s->chunks.ops.at[sub->first_op]].directive : IR_NONE;
    const bool paired = !s->uncut && s->overlapped[sub->chunk * s->microbatches + mb];
    bool gives = false, sums = false, weights = false, tied = false;
    if (!paired && (directive == IR_NONE || s->directives.at[directive].stream == 0))
        return false;
    for (uint32_t k = 0; k < sub->n_in; k++) {
        const uint32_t t = s->chunks.tensors.at[sub->first_in + k];
        gives = gives || b->has_grad[t];
        sums = sums || (b->has_grad[t] && side_layout(s, sub, t) == IR_LAYOUT_WHOLE);
    }
    for (uint32_t k = 0; k < sub->n_param; k++)
        tied = tied || b->users[s->chunks.params.at[sub->first_param + k]] > 1;
    for (uint32_t k = 0; k < sub->n_ops; k++)
        weights = weights || has_weights(s, s->chunks.ops.at[sub->first_op + k]);
    return weights && (sums || (paired && gives && !tied));
}

/* Nodes of its BW. What stands between two all-to-alls takes about as long as one of them: in a group that overlaps it runs in parts, so that
 * nothing waits for all of it; but where rounds of experts repeat it. */
static uint32_t parts_of(const struct builder *b, const struct ir_sub *sub, uint32_t mb)
{
    const struct sched *s = b->s;
    const uint32_t cell = sub->chunk * s->microbatches + mb;
    if (s->backward_split[cell] || s->uncut || !s->overlapped[cell] || expert_parts(s, sub->chunk) == 1 ||
        expert_rounds(s, sub->chunk))
        return 1;
    const uint32_t o = sub_parted(s, sub);
    return o == IR_NONE ? 1 : ir_op_bw_parts((enum ir_op)s->g->ops.at[o].op);
}

static uint32_t weight_nodes(struct builder *b, uint32_t sub, uint32_t mb)
{
    const uint32_t n = parts_of(b, &b->s->chunks.subs.at[sub], mb), first = b->d->nodes.n;
    for (uint32_t i = 0; i < n; i++)
        run_node(b, sub, mb, IR_PASS_BW, n == 1 ? 0 : i + 1);
    return first;
}

/* The LOAD of a graph input on a device set: one per (input, microbatch, set, layout). */
static uint32_t load_node(struct builder *b, uint32_t tensor, uint32_t mb, uint32_t set, enum ir_layout layout,
                          uint32_t first)
{
    for (uint32_t i = first; i < b->d->nodes.n; i++) {
        const struct ir_node *n = &b->d->nodes.at[i];
        if (n->kind == IR_NODE_LOAD && n->what == tensor && n->mb == mb && n->set == set && n->stream == layout)
            return i;
    }
    return ir_dag_node(b->d, (struct ir_node){ .kind = IR_NODE_LOAD,
                                               .pass = IR_PASS_NONE,
                                               .mb = (uint16_t)mb,
                                               .what = tensor,
                                               .set = (uint16_t)set,
                                               .stream = (uint16_t)layout });
}

static void forward_edges(struct builder *b, uint32_t mb)
{
    const struct sched *s = b->s;
    uint32_t subs = s->chunks.subs.n, first_load = b->d->nodes.n;
    for (uint32_t i = 0; i < subs; i++) {
        const struct ir_sub *sub = &s->chunks.subs.at[i];
        uint32_t to = b->f[mb * subs + i];
        for (uint32_t k = 0; k < sub->n_in; k++) {
            uint32_t t = s->chunks.tensors.at[sub->first_in + k], p = s->g->tensors.at[t].producer;
            uint32_t from = p == IR_NONE
                                ? load_node(b, t, mb, b->d->nodes.at[to].set, side_layout(s, sub, t), first_load)
                                : b->f[mb * subs + s->chunks.sub_of[p]];
            ir_dag_edge(b->d, from, to, IR_EDGE_TENSOR, t);
        }
    }
}

/* Does sub-chunk `sub` give a gradient for tensor t, which it reads? */
static bool gives_gradient(const struct builder *b, const struct ir_sub *sub, uint32_t t)
{
    const struct sched *s = b->s;
    for (uint32_t i = 0; i < sub->n_ops; i++) {
        const struct ir_node_op *op = &s->g->ops.at[s->chunks.ops.at[sub->first_op + i]];
        bool flows = ir_op_has_loss((enum ir_op)op->op, &op->attrs);
        for (int k = 0; k < IR_MAX_OUT; k++)
            flows = flows || (op->out[k] != IR_NONE && b->has_grad[op->out[k]]);
        for (int k = 0; k < IR_MAX_IN && flows; k++)
            if (op->in[k] == t && (ir_op_info[op->op].grad_in >> k & 1))
                return true;
    }
    return false;
}

static void backward_edges(struct builder *b, uint32_t mb)
{
    const struct sched *s = b->s;
    uint32_t subs = s->chunks.subs.n;
    for (uint32_t i = 0; i < subs; i++) {
        const struct ir_sub *sub = &s->chunks.subs.at[i];
        uint32_t at = mb * subs + i;
        ir_dag_edge(b->d, b->f[at], b->b[at], IR_EDGE_AFTER, 0);
        const uint32_t parts = b->w[at] == IR_NONE ? 0 : parts_of(b, sub, mb);
        for (uint32_t k = 0; k < parts; k++)
            ir_dag_edge(b->d, b->b[at], b->w[at] + k, IR_EDGE_AFTER, 0);
        const uint32_t cell = sub->chunk * s->microbatches + mb;
        if (b->w[at] != IR_NONE && !s->backward_split[cell] && (s->uncut || !s->overlapped[cell]) &&
            i > s->chunks.chunks.at[sub->chunk].first_sub)
            ir_dag_edge(b->d, b->w[at], b->b[at - 1], IR_EDGE_AFTER, 0); /* nothing of it waits for later */
        for (uint32_t k = 0; k < sub->n_in; k++) {
            uint32_t t = s->chunks.tensors.at[sub->first_in + k], p = s->g->tensors.at[t].producer;
            if (p != IR_NONE && b->has_grad[t] && gives_gradient(b, sub, t))
                ir_dag_edge(b->d, b->b[at], b->b[mb * subs + s->chunks.sub_of[p]], IR_EDGE_GRAD, t);
        }
    }
}

static void build_microbatch(struct builder *b, uint32_t mb)
{
    const struct sched *s = b->s;
    uint32_t subs = s->chunks.subs.n;
    for (uint32_t i = 0; i < subs; i++)
        b->f[mb * subs + i] = run_node(b, i, mb, IR_PASS_F, 0);
    for (uint32_t c = s->chunks.chunks.n; c-- > 0 && !b->eval;) { /* backwards in the order in which they run */
        const struct ir_chunk *chunk = &s->chunks.chunks.at[c];
        const bool split = s->backward_split[c * s->microbatches + mb];
        for (uint32_t k = chunk->first_sub + chunk->n_subs; k-- > chunk->first_sub;) {
            const bool pair = split || overlaps(b, &s->chunks.subs.at[k], mb);
            b->b[mb * subs + k] = run_node(b, k, mb, pair ? IR_PASS_BI : IR_PASS_B, 0);
            b->w[mb * subs + k] = pair ? 0 : IR_NONE; /* numbered behind all of these */
        }
        for (uint32_t k = chunk->first_sub + chunk->n_subs; k-- > chunk->first_sub;)
            if (b->w[mb * subs + k] != IR_NONE)
                b->w[mb * subs + k] = weight_nodes(b, k, mb);
    }
    forward_edges(b, mb);
    if (!b->eval)
        backward_edges(b, mb);
}

static void build_list(struct sched *s, struct list_plan *list)
{
    size_t n = (size_t)s->microbatches * s->chunks.subs.n;
    struct builder b = { .s = s, .d = &list->dag, .eval = list->eval, .has_grad = find_gradients(s->g) };
    b.f = mem_alloc(n * sizeof(uint32_t));
    b.b = mem_alloc(n * sizeof(uint32_t));
    b.w = mem_alloc(n * sizeof(uint32_t));
    b.users = mem_alloc(s->g->params.n + 1);
    for (uint32_t k = 0; k < s->chunks.params.n; k++)
        b.users[s->chunks.params.at[k]] += b.users[s->chunks.params.at[k]] < 2;
    ir_dag_init(b.d);
    for (uint32_t mb = 0; mb < s->microbatches; mb++)
        build_microbatch(&b, mb);
    mem_free(b.f);
    mem_free(b.b);
    mem_free(b.w);
    mem_free(b.has_grad);
    mem_free(b.users);
}

enum status pass_build(struct sched *s, struct err *e)
{
    (void)e;
    s->train = (struct list_plan){ .name = "train" };
    build_list(s, &s->train);
    if (s->in->eval) {
        s->eval = (struct list_plan){ .name = "eval", .eval = true };
        build_list(s, &s->eval);
    }
    return ST_OK;
}
