/* The backward of a sub-chunk as a tape of kernels in SSA form, and the frames that carry values to it.
 *
 * Operators in reverse order. The gradient of a tensor that several operators read is a chain: each kernel adds its share to
 * the value before it (operand ACC), and the memory plan of a program lets a chain share one place. Gradients that pass
 * through unchanged (add) are the same value, no kernel. */
#include "sched/lower/program.h"

#include "base/number.h"
#include "ir/freeze.h"

struct tape_builder {
    struct programs *ps;
    const struct ir_graph *g;
    const struct ir_sub *sub;
    struct tape *t;
    uint32_t *current; /* by tensor: the value of its gradient so far, IR_NONE */
    uint8_t *written;  /* by parameter: some kernel has written its gradient */
    struct {
        VEC(uint32_t);
    } sent; /* values that a dispatch reads when it runs again */
};

uint64_t value_elements(const struct sched *s, uint32_t chunk, const struct ir_shape *shape)
{
    uint64_t n = ir_shape_elements(shape) * s->microbatch_size;
    uint64_t row = shape->dim[shape->ndim - 1];
    return shape->dtype == IR_I32 ? n : ratio_ceil(expert_row_factor(s, chunk), n / row, 1) * row;
}

uint64_t value_bytes(const struct sched *s, uint32_t chunk, const struct ir_shape *shape)
{
    return value_elements(s, chunk, shape) * ir_dtype_size(shape->dtype, s->in->compute);
}

static uint32_t new_value(struct tape_builder *tape, enum value_kind kind, uint32_t a, uint32_t b, uint64_t bytes)
{
    *vec_push(&tape->t->values) = (struct value){ .kind = (uint8_t)kind, .a = a, .b = b, .bytes = bytes };
    return tape->t->values.n - 1;
}

/* Where the value stands in the index, or the empty place where it belongs. */
static uint32_t *index_place(const struct tape *t, enum value_kind kind, uint32_t a, uint32_t b)
{
    uint64_t i = number_mix((uint64_t)a << 32 | (uint64_t)b << 3 | kind);
    for (;; i++) {
        uint32_t *place = &t->index[i & (t->index_size - 1)];
        const struct value *v = *place == IR_NONE ? NULL : &t->values.at[*place];
        if (!v || (v->kind == kind && v->a == a && v->b == b))
            return place;
    }
}

static void grow_index(struct tape *t)
{
    uint32_t *old = t->index, size = t->index_size;
    t->index_size = size ? 2 * size : 64;
    t->index = mem_alloc(t->index_size * sizeof *t->index);
    memset(t->index, 0xff, t->index_size * sizeof *t->index);
    for (uint32_t i = 0; i < size; i++) {
        const struct value *v = old[i] == IR_NONE ? NULL : &t->values.at[old[i]];
        if (v)
            *index_place(t, (enum value_kind)v->kind, v->a, v->b) = old[i];
    }
    mem_free(old);
}

uint32_t tape_find(const struct tape *t, enum value_kind kind, uint32_t a, uint32_t b)
{
    return t->index ? *index_place(t, kind, a, b) : IR_NONE;
}

/* The value of a forward tensor, saved tensor or parameter: one per thing. */
static uint32_t known_value(struct tape_builder *tape, enum value_kind kind, uint32_t a, uint32_t b, uint64_t bytes)
{
    struct tape *t = tape->t;
    if (2 * t->indexed >= t->index_size)
        grow_index(t);
    uint32_t *place = index_place(t, kind, a, b);
    if (*place == IR_NONE) {
        *place = new_value(tape, kind, a, b, bytes);
        t->indexed++;
    }
    return *place;
}

static struct step *new_step(struct tape_builder *tape, uint32_t op, uint32_t graph_op, enum ir_pass pass)
{
    struct step *k = vec_push(&tape->t->steps);
    *k = (struct step){ .op = op, .graph_op = graph_op, .pass = pass };
    memset(k->operand, 0xff, sizeof k->operand);
    return k;
}

static uint64_t tensor_bytes(const struct tape_builder *tape, uint32_t t)
{
    const struct ir_shape shape = side_tensor(tape->ps->s, tape->sub, t);
    return value_bytes(tape->ps->s, tape->sub->chunk, &shape);
}

/* The counts that a dispatch reads beside its inputs; IR_NONE: none. */
static uint32_t counts_value(struct tape_builder *tape, uint32_t o)
{
    const uint32_t router = side_counts(tape->ps->s, o);
    struct ir_op_shapes shapes;
    if (router == IR_NONE)
        return IR_NONE;
    side_shapes(tape->ps->s, router, &shapes);
    return known_value(tape, VALUE_SAVE, router, 1, value_bytes(tape->ps->s, tape->sub->chunk, &shapes.save[1]));
}

/* A sum or a copy of gradients of a tensor. */
static struct step *plain_step(struct tape_builder *tape, enum ir_op op, uint32_t tensor)
{
    const struct ir_shape shape = side_tensor(tape->ps->s, tape->sub, tensor);
    struct step *k = new_step(tape, op, PLAN_NONE, IR_PASS_BI);
    k->n = value_elements(tape->ps->s, tape->sub->chunk, &shape);
    k->type = shape.dtype;
    k->tensor = tensor;
    return k;
}

static uint32_t sum(struct tape_builder *tape, uint32_t tensor, uint32_t a, uint32_t b)
{
    uint32_t v = new_value(tape, VALUE_GRAD, tensor, 0, tensor_bytes(tape, tensor));
    struct step *k = plain_step(tape, IR_OP_SUM, tensor);
    k->operand[OPERAND_IN] = a;
    k->operand[OPERAND_IN + 1] = b;
    k->operand[OPERAND_OUT] = v;
    return v;
}

/* Operands that a backward kernel reads, by the bits of the operator table. */
static void read_operands(struct tape_builder *tape, struct step *k, const struct ir_node_op *op, uint32_t reads,
                          const uint32_t *dout, const uint32_t *stash)
{
    struct ir_op_shapes shapes;
    side_shapes(tape->ps->s, k->graph_op, &shapes);
    for (int i = 0; i < IR_MAX_IN; i++)
        if (reads & IR_IN(i) && op->in[i] != IR_NONE)
            k->operand[OPERAND_IN + i] = known_value(tape, VALUE_TENSOR, op->in[i], 0, tensor_bytes(tape, op->in[i]));
    for (int i = 0; i < IR_MAX_OUT; i++) {
        if (reads & IR_OUT(i) && op->out[i] != IR_NONE)
            k->operand[OPERAND_OUT + i] = known_value(tape, VALUE_TENSOR, op->out[i], 0,
                                                      tensor_bytes(tape, op->out[i]));
        if (k->pass == IR_PASS_BI || reads & IR_DOUT(i))
            k->operand[OPERAND_DOUT + i] = dout[i];
    }
    for (int i = 0; i < IR_MAX_SAVE; i++)
        if (reads & IR_SAVE(i) && shapes.save[i].ndim)
            k->operand[OPERAND_SAVE + i] = known_value(tape, VALUE_SAVE, k->graph_op, (uint32_t)i,
                                                       value_bytes(tape->ps->s, tape->sub->chunk, &shapes.save[i]));
    for (int i = 0; i < IR_MAX_STASH; i++)
        if (reads & IR_STASH(i))
            k->operand[OPERAND_STASH + i] = stash[i];
    for (int i = 0; i < IR_MAX_PARAM; i++)
        if (reads & IR_PARAM(i) && op->param[i] != IR_NONE)
            k->operand[OPERAND_PARAM + i] = known_value(tape, VALUE_PARAM, op->param[i], 0, 0);
}

static void tape_bw(struct tape_builder *tape, uint32_t o, const uint32_t *dout, const uint32_t *stash)
{
    const struct ir_node_op *op = &tape->g->ops.at[o];
    const struct ir_op_info *info = &ir_op_info[op->op];
    if (!ir_op_runs((enum ir_op)op->op, &op->attrs, IR_PASS_BW) || !ir_op_trains(tape->g, op))
        return;
    uint32_t at = tape->t->steps.n;
    struct step *k = new_step(tape, op->op, o, IR_PASS_BW);
    for (int i = 0; i < IR_MAX_PARAM; i++)
        if (op->param[i] != IR_NONE && !ir_op_param_is_state((enum ir_op)op->op, &op->attrs, (uint32_t)i)) {
            k->operand[OPERAND_DPARAM + i] = known_value(tape, VALUE_DPARAM, op->param[i], 0, 0);
            if (tape->written[op->param[i]])
                k->add |= 1u << i;
            tape->written[op->param[i]] = 1;
        }
    read_operands(tape, &tape->t->steps.at[at], op, info->bw_reads, dout, stash);
}

/* Inputs of an operator whose gradient a kernel BI gives, as bits. */
static uint32_t gradients_of_bi(const struct tape_builder *tape, const struct ir_node_op *op)
{
    const struct ir_op_info *info = &ir_op_info[op->op];
    uint32_t wanted = 0;
    for (int i = 0; i < IR_MAX_IN; i++)
        if (op->in[i] != IR_NONE && tape->ps->has_grad[op->in[i]] && (info->grad_in & ~info->alias_in) >> i & 1)
            wanted |= 1u << i;
    return wanted;
}

/* The value of din[i]. The first place of a tensor adds to what is there; another place of the same tensor in the operator is
 * added behind the kernel. */
static void give_gradients(struct tape_builder *tape, const struct ir_node_op *op, uint32_t wanted, uint32_t at)
{
    uint32_t given[IR_MAX_IN];
    bool again[IR_MAX_IN] = { false };
    for (int i = 0; i < IR_MAX_IN; i++) {
        if (!(wanted >> i & 1))
            continue;
        uint32_t t = op->in[i];
        given[i] = new_value(tape, VALUE_GRAD, t, 0, tensor_bytes(tape, t));
        for (int j = 0; j < i; j++)
            again[i] = again[i] || (wanted >> j & 1 && op->in[j] == t);
        struct step *k = &tape->t->steps.at[at];
        k->operand[OPERAND_DIN + i] = given[i];
        if (again[i])
            continue;
        k->operand[OPERAND_ACC + i] = tape->current[t];
        tape->current[t] = given[i];
    }
    for (int i = 0; i < IR_MAX_IN; i++)
        if (again[i])
            tape->current[op->in[i]] = sum(tape, op->in[i], tape->current[op->in[i]], given[i]);
}

static void tape_bi(struct tape_builder *tape, uint32_t o, const uint32_t *dout, uint32_t *stash)
{
    const struct ir_node_op *op = &tape->g->ops.at[o];
    const struct ir_op_info *info = &ir_op_info[op->op];
    struct ir_op_shapes shapes;
    uint32_t wanted = gradients_of_bi(tape, op);
    if (!ir_op_has_kernel((enum ir_op)op->op, IR_PASS_BI) || (!wanted && !(info->n_stash && ir_op_trains(tape->g, op))))
        return;
    side_shapes(tape->ps->s, o, &shapes);
    uint32_t at = tape->t->steps.n;
    struct step *k = new_step(tape, op->op, o, IR_PASS_BI);
    for (int i = 0; i < IR_MAX_STASH; i++)
        if (shapes.stash[i].ndim)
            k->operand[OPERAND_STASH + i] = stash[i] = new_value(
                tape, VALUE_STASH, o, (uint32_t)i, value_bytes(tape->ps->s, tape->sub->chunk, &shapes.stash[i]));
    read_operands(tape, k, op, info->bi_reads, dout, stash);
    give_gradients(tape, op, wanted, at);
}

static void tape_op(struct tape_builder *tape, uint32_t o)
{
    const struct ir_node_op *op = &tape->g->ops.at[o];
    const struct ir_op_info *info = &ir_op_info[op->op];
    uint32_t dout[IR_MAX_OUT], stash[IR_MAX_STASH] = { IR_NONE, IR_NONE };
    bool flows = ir_op_has_loss((enum ir_op)op->op, &op->attrs);
    for (int i = 0; i < IR_MAX_OUT; i++) {
        dout[i] = op->out[i] == IR_NONE ? IR_NONE : tape->current[op->out[i]];
        flows = flows || dout[i] != IR_NONE;
    }
    if (!flows)
        return;
    bool stashes = info->bw_reads & (IR_STASH(0) | IR_STASH(1));
    if (!stashes)
        tape_bw(tape, o, dout, stash); /* first: BI may then overwrite the gradient of the output */
    for (int i = 0; i < IR_MAX_IN; i++) {
        uint32_t t = op->in[i];
        if (t == IR_NONE || !(info->alias_in >> i & 1) || !tape->ps->has_grad[t])
            continue;
        tape->current[t] = tape->current[t] == IR_NONE ? dout[0] : sum(tape, t, tape->current[t], dout[0]);
    }
    tape_bi(tape, o, dout, stash);
    if (stashes)
        tape_bw(tape, o, dout, stash);
}

/* The gradients that leave: each in a value of its own, made by a kernel of this tape. */
static void tape_leaving(struct tape_builder *tape)
{
    const struct ir_chunks *c = &tape->ps->s->chunks;
    for (uint32_t i = 0; i < tape->sub->n_in; i++) {
        uint32_t t = c->tensors.at[tape->sub->first_in + i], v = tape->current[t];
        if (v == IR_NONE)
            continue;
        if (tape->t->values.at[v].kind != VALUE_GRAD || tape->t->values.at[v].leaves) {
            uint32_t w = new_value(tape, VALUE_GRAD, t, 0, tensor_bytes(tape, t));
            struct step *k = plain_step(tape, IR_OP_COPY, t);
            k->operand[OPERAND_IN] = v;
            k->operand[OPERAND_OUT] = w;
            v = w;
        }
        tape->t->values.at[v].leaves = 1;
        tape->t->values.at[v].a = t;
    }
}

/* read[v] = 1 for the values that a step reads. */
static void mark_reads(const struct step *k, uint8_t *read)
{
    for (int i = 0; i < OPERAND_COUNT; i++)
        if (k->operand[i] != IR_NONE && !step_writes(k, (uint32_t)i))
            read[k->operand[i]] = 1;
}

bool tensor_crosses(const struct sched *s, const struct ir_sub *sub, uint32_t tensor, bool outputs)
{
    for (uint32_t i = 0; i < sub->n_in; i++)
        if (s->chunks.tensors.at[sub->first_in + i] == tensor)
            return true;
    for (uint32_t i = 0; i < sub->n_out && outputs; i++)
        if (s->chunks.tensors.at[sub->first_out + i] == tensor)
            return true;
    return false;
}

/* The forward of one operator, as a step: made for recompute. */
static struct step forward_step(struct tape_builder *tape, uint32_t o)
{
    const struct ir_node_op *op = &tape->g->ops.at[o];
    struct ir_op_shapes shapes;
    side_shapes(tape->ps->s, o, &shapes);
    struct step k = { .op = op->op, .graph_op = o, .pass = IR_PASS_F, .knows = side_knows(tape->ps->s, o) };
    memset(k.operand, 0xff, sizeof k.operand);
    for (int i = 0; i < IR_MAX_IN; i++)
        if (op->in[i] != IR_NONE)
            k.operand[OPERAND_IN + i] = known_value(tape, VALUE_TENSOR, op->in[i], 0, tensor_bytes(tape, op->in[i]));
    if (side_counts(tape->ps->s, o) != IR_NONE)
        k.operand[OPERAND_IN + side_counts_input] = counts_value(tape, o);
    for (int i = 0; i < IR_MAX_OUT; i++)
        if (op->out[i] != IR_NONE)
            k.operand[OPERAND_OUT + i] = known_value(tape, VALUE_TENSOR, op->out[i], 0, tensor_bytes(tape, op->out[i]));
    for (int i = 0; i < IR_MAX_SAVE; i++)
        if (shapes.save[i].ndim && !(i == 1 && side_tells(tape->ps->s, o)))
            k.operand[OPERAND_SAVE + i] = known_value(tape, VALUE_SAVE, o, (uint32_t)i,
                                                      value_bytes(tape->ps->s, tape->sub->chunk, &shapes.save[i]));
    for (int i = 0; i < IR_MAX_PARAM; i++)
        if (op->param[i] != IR_NONE)
            k.operand[OPERAND_PARAM + i] = known_value(tape, VALUE_PARAM, op->param[i], 0, 0);
    return k;
}

/* Puts the forwards that the tape needs before it: from the last operator to the first, one whose output or saved tensor
 * is read by a step so far. */
static void tape_forwards(struct tape_builder *tape)
{
    struct tape *t = tape->t;
    struct {
        VEC(struct step);
    } forwards = { 0 };
    /* an operator makes at most so many values that were not there before */
    uint8_t *read = mem_alloc(t->values.n + (size_t)tape->sub->n_ops * OPERAND_COUNT + 1);
    for (uint32_t k = 0; k < t->steps.n; k++)
        mark_reads(&t->steps.at[k], read);
    for (uint32_t i = tape->sub->n_ops; i-- > 0;) {
        struct step k = forward_step(tape, tape->ps->s->chunks.ops.at[tape->sub->first_op + i]);
        bool needed = false;
        for (int j = OPERAND_OUT; j < OPERAND_STASH && !needed; j++)
            needed = k.operand[j] != IR_NONE && read[k.operand[j]] && step_writes(&k, (uint32_t)j);
        if (!needed)
            continue;
        mark_reads(&k, read);
        vec_add(&forwards, k);
    }
    mem_free(read);
    if (forwards.n == 0)
        return;
    const uint32_t n = t->steps.n;
    vec_grow(&t->steps, forwards.n);
    memmove(t->steps.at + forwards.n, t->steps.at, n * sizeof *t->steps.at);
    for (uint32_t i = 0; i < forwards.n; i++)
        t->steps.at[i] = forwards.at[forwards.n - 1 - i];
    vec_free(&forwards);
}

/* Frames: a forward value that only BI reads lives until BI, one that BW reads until BW. Values of BI that BW reads go to the
 * stash, unless they leave the sub-chunk and so have a buffer. Tensors that cross the sub-chunk's border have buffers too;
 * with recompute its outputs are not taken from there: they may be gone. What members told each other, or what follows from it, is kept with recompute too. */
static void lay_out(struct tape_builder *tape)
{
    struct tape *t = tape->t;
    uint32_t n = t->values.n, align = tape->ps->s->in->target->alignment;
    t->keep_frame = mem_alloc(n + 1);
    t->keep_offset = mem_alloc((n + 1) * sizeof(uint64_t));
    t->stash_offset = mem_alloc((n + 1) * sizeof(uint64_t));
    uint8_t *by_bw = mem_alloc(n + 1);
    for (uint32_t k = 0; k < t->steps.n; k++)
        if (t->steps.at[k].pass == IR_PASS_BW)
            mark_reads(&t->steps.at[k], by_bw);
    for (uint32_t v = 0; v < n; v++) {
        const struct value *val = &t->values.at[v];
        const bool kept = val->kind == VALUE_SAVE && side_is_kept(tape->ps->s, val->a, val->b);
        bool bw = by_bw[v], forward = val->kind == VALUE_SAVE;
        if (val->kind == VALUE_TENSOR)
            forward = !tensor_crosses(tape->ps->s, tape->sub, val->a, !t->recompute);
        bool made = val->kind == VALUE_STASH || (val->kind == VALUE_GRAD && !val->leaves) ||
                    (forward && t->recompute && !kept);
        t->keep_frame[v] = 0xff;
        t->stash_offset[v] = UINT64_MAX;
        if (forward && (!t->recompute || kept)) {
            uint64_t *end = &t->keep_bytes[bw];
            t->keep_frame[v] = bw;
            t->keep_offset[v] = *end;
            *end += round_up(val->bytes, align);
        } else if (bw && made) {
            t->stash_offset[v] = t->stash_bytes;
            t->stash_bytes += round_up(val->bytes, align);
        }
    }
    mem_free(by_bw);
}

/* What the dispatches that run again read: values of the tape, whether its steps read them or not. */
static void find_sent(struct tape_builder *tape, uint32_t mb)
{
    const struct sched *s = tape->ps->s;
    for (uint32_t i = 0; i < tape->sub->n_ops; i++) {
        const uint32_t o = s->chunks.ops.at[tape->sub->first_op + i];
        const struct ir_node_op *op = &s->g->ops.at[o];
        if (!again_permutes(s, o, mb))
            continue;
        for (int k = 0; k < IR_MAX_IN; k++)
            if (op->in[k] != IR_NONE)
                vec_add(&tape->sent, known_value(tape, VALUE_TENSOR, op->in[k], 0, tensor_bytes(tape, op->in[k])));
        if (side_counts(s, o) != IR_NONE)
            vec_add(&tape->sent, counts_value(tape, o));
    }
}

/* Of these what neither has a buffer nor is in another frame: with recompute. */
static void lay_out_sent(struct tape_builder *tape)
{
    struct tape *t = tape->t;
    t->sent_offset = mem_alloc((t->values.n + 1) * sizeof *t->sent_offset);
    memset(t->sent_offset, 0xff, t->values.n * sizeof *t->sent_offset);
    for (uint32_t i = 0; i < tape->sent.n; i++) {
        const uint32_t v = tape->sent.at[i];
        const struct value *val = &t->values.at[v];
        const bool crosses = val->kind == VALUE_TENSOR && tensor_crosses(tape->ps->s, tape->sub, val->a, true);
        if (crosses || t->keep_frame[v] != 0xff || t->sent_offset[v] != UINT64_MAX)
            continue;
        t->sent_offset[v] = t->sent_bytes;
        t->sent_bytes += round_up(val->bytes, tape->ps->s->in->target->alignment);
    }
}

struct tape *tape_build(struct programs *ps, uint32_t sub, uint32_t mb, const uint32_t *parts)
{
    const struct ir_graph *g = ps->s->g;
    const struct ir_sub *u = &ps->s->chunks.subs.at[sub];
    struct tape *t = mem_alloc(sizeof *t);
    struct tape_builder tape = { .ps = ps, .g = g, .sub = u, .t = t };
    tape.current = mem_alloc((g->tensors.n + 1) * sizeof(uint32_t));
    tape.written = mem_alloc(g->params.n + 1);
    memset(tape.current, 0xff, g->tensors.n * sizeof(uint32_t));
    t->sub = sub;
    t->recompute = side_recomputes(ps->s, u, mb);
    t->mb = mb;
    t->parts = mem_alloc((u->n_out + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < u->n_out; i++) {
        uint32_t tensor = ps->s->chunks.tensors.at[u->first_out + i];
        t->parts[i] = parts[i];
        for (uint32_t k = 0; k < parts[i]; k++) {
            uint32_t v = new_value(&tape, VALUE_PART, tensor, k, tensor_bytes(&tape, tensor));
            tape.current[tensor] = k ? sum(&tape, tensor, tape.current[tensor], v) : v;
        }
    }
    for (uint32_t i = u->n_ops; i-- > 0;)
        tape_op(&tape, ps->s->chunks.ops.at[u->first_op + i]);
    tape_leaving(&tape);
    if (t->recompute)
        tape_forwards(&tape);
    find_sent(&tape, mb);
    lay_out(&tape);
    lay_out_sent(&tape);
    vec_free(&tape.sent);
    mem_free(tape.current);
    mem_free(tape.written);
    return t;
}

void tape_free(struct tape *t)
{
    vec_free(&t->values);
    mem_free(t->index);
    vec_free(&t->steps);
    mem_free(t->parts);
    mem_free(t->keep_frame);
    mem_free(t->keep_offset);
    mem_free(t->stash_offset);
    mem_free(t->sent_offset);
    mem_free(t);
}
