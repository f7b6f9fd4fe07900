/* A bound of the peak: what is there all the time, and what waits for its backward. */
#include "sched/cost/bound_private.h"

#include <math.h>

/* Bytes that a microbatch of a stage keeps on a device: until its backward, from BI to BW, with recompute. */
struct kept {
    double all, behind_bi;
};

static double tensor_bytes(const struct bound *b, const struct bound_shape *s, uint32_t t)
{
    const struct ir_tensor *x = &b->job.graph->tensors.at[t];
    if (x->producer == IR_NONE || x->shape.dtype == IR_I32)
        return 0;
    return (double)ir_shape_elements(&x->shape) * ir_dtype_size((enum ir_dtype)x->shape.dtype, b->job.compute) *
           bound__mb_size(b, s) / bound__unit(s);
}

/* Rows that a device of sharded experts has room for, as a multiple of those that it sends. */
static double row_factor(const struct bound_shape *s, const struct ir_attrs *a)
{
    if (s->ep == 1 || a->capacity)
        return 1;
    return s->expert_bound > 0 ? fmin(s->expert_bound, s->ep) : s->ep;
}

/* Adds what the backward of an operator reads, each tensor once; stamps differ by `behind`: what BW reads is kept from BI on. */
static double kept_by(struct bound *b, const struct bound_shape *s, uint32_t o, uint32_t mask, uint32_t stamp)
{
    const struct ir_node_op *op = &b->job.graph->ops.at[o];
    const struct ir_op_info *info = &ir_op_info[op->op];
    const double factor = op->op == IR_OP_EXPERTS ? row_factor(s, &op->attrs) : 1;
    struct ir_op_shapes shapes;
    double sum = 0;
    if (op->attrs.capacity && bound__unit(s) > 1) /* rows are planned in another way */
        return 0;
    ir_op_shapes((enum ir_op)op->op, &op->attrs, b->job.graph->seq_len, &shapes);
    for (int i = 0; i < IR_MAX_SAVE; i++)
        if (i < info->n_save && mask & IR_SAVE(0) << i && shapes.save[i].ndim && shapes.save[i].dtype != IR_I32)
            sum += factor * (double)ir_shape_elements(&shapes.save[i]) *
                   ir_dtype_size((enum ir_dtype)shapes.save[i].dtype, b->job.compute) * bound__mb_size(b, s) /
                   bound__unit(s);
    for (int i = 0; i < IR_MAX_IN + IR_MAX_OUT; i++) {
        const bool in = i < IR_MAX_IN;
        const uint32_t t = in ? op->in[i] : op->out[i - IR_MAX_IN];
        if (t == IR_NONE || b->seen[t] == stamp || !(mask & (in ? IR_IN(0) << i : IR_OUT(0) << (i - IR_MAX_IN))))
            continue;
        b->seen[t] = stamp;
        sum += (in ? factor : 1) * tensor_bytes(b, s, t);
    }
    return sum;
}

/* The pieces that recompute computes again keep their inputs: with pieces of a layer the first input of each block. */
static double kept_inputs(const struct bound *b, const struct bound_shape *s, const struct bound_stage *at)
{
    const struct ir_graph *g = b->job.graph;
    double sum = 0;
    for (uint32_t o = at->first; o < at->end; o++) {
        const uint32_t t = g->ops.at[o].in[0], from = t == IR_NONE ? IR_NONE : g->tensors.at[t].producer;
        const bool begins = o == 0 || g->ops.at[o - 1].block != g->ops.at[o].block;
        if (begins && from != IR_NONE && (o == at->first || !s->bucket_mib))
            sum += tensor_bytes(b, s, t);
    }
    return sum;
}

static struct kept kept_of(struct bound *b, const struct bound_shape *s, uint32_t stage)
{
    const struct ir_graph *g = b->job.graph;
    const struct bound_stage *at = &b->stages[stage];
    struct kept k = { 0 };
    for (int behind = 0; behind < 2; behind++) {
        const uint32_t stamp = ++b->stamp;
        double *sum = behind ? &k.behind_bi : &k.all;
        for (uint32_t o = at->first; o < at->end; o++) {
            const struct ir_op_info *info = &ir_op_info[g->ops.at[o].op];
            const bool runs = b->ops[o].trains &&
                              ir_op_runs((enum ir_op)g->ops.at[o].op, &g->ops.at[o].attrs, IR_PASS_BW);
            const bool gives = b->ops[o].wanted;
            if (b->stage_of[o] == stage)
                *sum += kept_by(b, s, o, (behind || !gives ? 0 : info->bi_reads) | (runs ? info->bw_reads : 0), stamp);
        }
    }
    if (s->recompute) {
        k.all = kept_inputs(b, s, at);
        k.behind_bi = fmin(k.behind_bi, k.all);
    }
    return k;
}

/* The most that waits at once on a rank, in the order of its row. In a group what ends may end before the others begin. */
static double most_alive(struct bound *b, const struct bound_shape *s, uint32_t rank)
{
    struct cells row = { 0 };
    struct kept *kept = mem_alloc(b->n_stages * sizeof *kept);
    double now = 0, most = 0;
    uint32_t stage;
    for (uint32_t i = 0; (stage = bound__stage_of_rank(s, rank, i)) != IR_NONE; i++)
        kept[stage] = kept_of(b, s, stage);
    bound__row(s, rank, &row);
    for (uint32_t first = 0, end; first < row.n; first = end) {
        for (end = first; row.at[end].with_next; end++) {
        }
        end++;
        for (int come = 0; come < 2; come++)
            for (uint32_t i = first; i < end; i++) {
                const struct kept *k = &kept[row.at[i].stage % b->n_stages];
                const enum ir_pass pass = row.at[i].pass;
                if (come)
                    now += pass == IR_PASS_F ? k->all : 0;
                else
                    now -= pass == IR_PASS_B    ? k->all
                           : pass == IR_PASS_BI ? k->all - k->behind_bi
                           : pass == IR_PASS_BW ? k->behind_bi
                                                : 0;
            }
        most = fmax(most, now);
    }
    vec_free(&row);
    mem_free(kept);
    return most;
}

static void add_param(const struct bound *b, const struct bound_shape *s, uint32_t param, uint32_t op,
                      double by[MEM_KINDS])
{
    const struct ir_param *p = &b->job.graph->params.at[param];
    const uint32_t moments = optimizer_info[b->job.optimizer].moments;
    const double held = (double)ir_shape_elements(&p->shape) * bound__param_part(s, op);
    /* a tied parameter may be sharded over two stages, and no deeper than its state */
    const double tied = op == IR_OP_EMBED || op == IR_OP_HEAD_LOSS ? 2 : 1, all = bound__holders(s, op) * tied;
    const double shard = held / (s->zero ? bound__zero_holders(s, op) * tied : 1);
    const uint32_t size = ir_dtype_size((enum ir_dtype)p->shape.dtype, b->job.compute);
    by[MEM_PARAMS] += size * (zero_shards_params(s->zero) ? shard : held);
    if (p->state || p->frozen)
        return;
    by[MEM_GRADS] += 4 * (zero_shards_grads(s->zero) ? shard : held);
    by[MEM_OPTIMIZER] += 4 * (moments + (size < 4)) * shard;
    by[MEM_SNAPSHOT] += b->job.snapshot ? 4 * (moments + 1) * held / all : 0;
}

static double rank_bytes(struct bound *b, const struct bound_shape *s, uint32_t rank, double by[MEM_KINDS])
{
    const struct ir_graph *g = b->job.graph;
    const bool device = b->job.target->device;
    uint32_t stage;
    double sum = (double)b->job.target->outside(0, 0);
    memset(by, 0, MEM_KINDS * sizeof *by);
    const uint32_t stamp = ++b->stamp;
    for (uint32_t i = 0; (stage = bound__stage_of_rank(s, rank, i)) != IR_NONE; i++)
        for (uint32_t o = b->stages[stage].first; o < b->stages[stage].end; o++)
            for (int k = 0; k < IR_MAX_PARAM && b->stage_of[o] == stage; k++) {
                const uint32_t p = g->ops.at[o].param[k];
                if (p == IR_NONE || b->seen[g->tensors.n + p] == stamp)
                    continue;
                b->seen[g->tensors.n + p] = stamp;
                add_param(b, s, p, g->ops.at[o].op, by);
            }
    by[MEM_ACTIVATIONS] = most_alive(b, s, rank);
    for (int k = 0; k < MEM_KINDS; k++)
        sum += device && k == MEM_SNAPSHOT ? 0 : by[k];
    return sum;
}

double bound_memory(struct bound *b, const struct bound_shape *s, double by_kind[MEM_KINDS])
{
    /* two-way: rank pp-1-r has what rank r has */
    const uint32_t ranks = s->pp / (bound__two_way(s) ? 2 : 1);
    double most = 0, by[MEM_KINDS];
    bound__stages(b, s);
    for (uint32_t r = 0; r < ranks; r++) {
        const double bytes = rank_bytes(b, s, r, by);
        if (bytes <= most)
            continue;
        most = bytes;
        memcpy(by_kind, by, sizeof by);
    }
    return most;
}
