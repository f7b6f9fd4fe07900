/* Programs: their kernels fit the model, they use parameters that the class holds, at the places of the shard map,
 * and they use slots as declared. What a program reads of a slot before it has written it is what must be there
 * before it runs. */
#include "ir/freeze.h"
#include "sched/check/check.h"

#include <inttypes.h>
#include <stdlib.h>

/* An operand, in the order in which the program touches places. */
struct touch {
    uint32_t slot;
    bool write;
    uint64_t offset;
    uint32_t order;
};

static int by_place(const void *a, const void *b)
{
    const struct touch *x = a, *y = b;
    if (x->slot != y->slot)
        return x->slot < y->slot ? -1 : 1;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return x->write - y->write; /* a kernel reads its operands before it writes */
}

static const uint64_t one = 1; /* a bit of a mask */

/* Beside those of its operator, what members tell each other: a loss over split words of rows; a norm of split rows their sums, and its
 * backward sums of gradients; a router of choices, whose counts its backward reads for a loss of them, and a dispatch for a capacity. What was
 * told is not told again where a forward is computed again. */
static uint64_t told(const struct ir_node_op *op, const struct plan_kernel *k)
{
    const bool f = k->pass == IR_PASS_F;
    switch (op->op) {
    case IR_OP_HEAD_LOSS:
        return f && k->split == IR_WORDS ? one << (OPERAND_SAVE + 1) : 0;
    case IR_OP_RMSNORM:
        return k->split != IR_WIDTH || k->pass == IR_PASS_BW ? 0
               : f && k->again                               ? one << OPERAND_SAVE
               : f                                           ? one << (OPERAND_SAVE + 1)
                                                             : one << OPERAND_STASH;
    case IR_OP_ROUTER:
        return k->split == IR_COUNTS && (f ? !k->again : k->pass == IR_PASS_BI) ? one << (OPERAND_SAVE + 1) : 0;
    case IR_OP_DISPATCH:
        return k->split == IR_COUNTS && f ? one << (OPERAND_IN + CHECK_TOLD) : 0;
    default:
        return 0;
    }
}

/* Gradients that BW gives: of a part of the parameters all or none (ir_op_bw_parts()), of some part at least. */
static uint64_t given(const struct ir_node_op *op, const struct plan_kernel *k)
{
    const uint32_t some = (uint32_t)(k->mask >> OPERAND_DPARAM) & ((1u << IR_MAX_PARAM) - 1);
    uint32_t params = 0;
    for (uint32_t i = 0; i < ir_op_bw_parts((enum ir_op)op->op); i++) {
        const uint32_t part = ir_op_bw_params((enum ir_op)op->op, &op->attrs, i);
        params |= some & part || !some ? part : 0;
    }
    return params;
}

/* Operands that a kernel of the graph cannot do without. */
static uint64_t needed(const struct check *c, const struct ir_node_op *op, const struct plan_kernel *k)
{
    const enum ir_pass pass = (enum ir_pass)k->pass;
    const struct ir_op_info *info = &ir_op_info[op->op];
    const uint64_t gives = pass == IR_PASS_BW ? given(op, k) : 0;
    uint32_t reads = pass == IR_PASS_BI ? info->bi_reads : ir_op_bw_reads((enum ir_op)op->op, (uint32_t)gives);
    uint64_t mask = told(op, k) | gives << OPERAND_DPARAM;
    for (uint32_t i = 0; i < IR_MAX_IN; i++)
        if (op->in[i] != IR_NONE && (pass == IR_PASS_F || reads & IR_IN(i)))
            mask |= one << (OPERAND_IN + i);
    for (uint32_t i = 0; i < IR_MAX_OUT; i++)
        if (op->out[i] != IR_NONE && (pass == IR_PASS_F || reads & IR_OUT(i)))
            mask |= one << (OPERAND_OUT + i);
    for (uint32_t i = 0; i < IR_MAX_OUT && pass != IR_PASS_F; i++)
        if (op->out[i] != IR_NONE && c->flows[op->out[i]] && (pass == IR_PASS_BI || reads & IR_DOUT(i)))
            mask |= one << (OPERAND_DOUT + i);
    for (uint32_t i = 0; i < IR_MAX_PARAM; i++)
        if (op->param[i] != IR_NONE && (pass == IR_PASS_F || reads & IR_PARAM(i)))
            mask |= one << (OPERAND_PARAM + i);
    for (uint32_t i = 0; i < IR_MAX_SAVE; i++)
        if (pass != IR_PASS_F && reads & IR_SAVE(i) && i < info->n_save)
            mask |= one << (OPERAND_SAVE + i);
    if (k->split == IR_RING)
        mask |= pass == IR_PASS_F ? 3 * one << OPERAND_SAVE : pass == IR_PASS_BI ? 3 * one << OPERAND_STASH : 0;
    return mask;
}

/* Operands that the operator has at all, with this mask: what is added to belongs to what is given. */
static uint64_t possible(const struct check *c, const struct ir_node_op *op, const struct plan_kernel *k)
{
    const uint64_t asked = k->mask;
    const struct ir_op_info *info = &ir_op_info[op->op];
    const bool ring = k->split == IR_RING;
    uint64_t mask = told(op, k) | one << OPERAND_WORK | ((one << (info->n_save + ring)) - 1) << OPERAND_SAVE |
                    ((one << (info->n_stash + 2 * ring)) - 1) << OPERAND_STASH;
    for (uint32_t i = 0; i < IR_MAX_IN; i++)
        if (op->in[i] != IR_NONE) {
            uint64_t gives = (info->grad_in & ~info->alias_in) >> i & 1, given = asked >> (OPERAND_DIN + i) & 1;
            mask |= one << (OPERAND_IN + i) | gives << (OPERAND_DIN + i) | (gives & given) << (OPERAND_ACC + i);
        }
    for (uint32_t i = 0; i < IR_MAX_OUT; i++)
        if (op->out[i] != IR_NONE)
            mask |= one << (OPERAND_OUT + i) | (uint64_t)c->flows[op->out[i]] << (OPERAND_DOUT + i);
    for (uint32_t i = 0; i < IR_MAX_PARAM; i++)
        if (op->param[i] != IR_NONE)
            mask |= one << (OPERAND_PARAM + i) |
                    (ir_op_param_is_state((enum ir_op)op->op, &op->attrs, i) ? 0 : one << (OPERAND_DPARAM + i));
    return mask;
}

static enum status check_kernel(const struct check *c, uint32_t cls, uint32_t program, uint32_t kernel)
{
    const struct plan *p = c->classes[cls].p;
    const struct plan_program *g = &p->programs[program];
    const struct plan_kernel *k = &p->kernels[kernel];
    struct check_place at = { .cls = cls };
    bool fits = g->pass == IR_PASS_F    ? k->pass == IR_PASS_F
                : g->pass == IR_PASS_BI ? k->pass != IR_PASS_BW
                : g->pass == IR_PASS_BW ? k->pass != IR_PASS_BI
                                        : true;
    fits = fits && (k->pass != IR_PASS_F || k->again == (g->pass != IR_PASS_F)); /* in a backward: computed again */
    /* of no pass: sums, what turns tensors, and a dispatch whose rows are sent again */
    if (!fits || (g->pass == IR_PASS_NONE && k->op < IR_OP_GRAPH_COUNT && (k->op != IR_OP_DISPATCH || !k->again)))
        return check_wrong(c, RULE_PROGRAM, at, "program %u of pass %s has kernel %u of pass %s", program,
                           ir_pass_name(g->pass), kernel, ir_pass_name(k->pass));
    bool sum = k->op >= IR_OP_GRAPH_COUNT;
    if (sum ? k->n == 0 || k->mask != ((k->op == IR_OP_SUM ? 3 * one : one) << OPERAND_IN) + (one << OPERAND_OUT)
            : k->n != 0)
        return check_wrong(c, RULE_PROGRAM, at, "program %u: kernel %u (%s) has mask %" PRIx64 ", n %" PRIu64, program,
                           kernel, ir_op_info[k->op].name, k->mask, k->n);
    if (sum)
        return ST_OK;
    const struct ir_node_op *op = &c->g->ops.at[k->graph_op];
    if (k->pass == IR_PASS_BW && !ir_op_trains(c->g, op))
        return check_wrong(c, RULE_PROGRAM, at, "program %u: kernel %u is BW of %s, whose parameters are frozen",
                           program, kernel, op->name);
    if (op->op != k->op || !ir_op_runs(k->op, &op->attrs, k->pass))
        return check_wrong(c, RULE_PROGRAM, at, "program %u: kernel %u is %s %s, operator %s of the model is %s",
                           program, kernel, ir_op_info[k->op].name, ir_pass_name(k->pass), op->name,
                           ir_op_info[op->op].name);
    uint64_t lack = needed(c, op, k) & ~k->mask;
    uint64_t extra = k->mask & ~possible(c, op, k);
    if (extra)
        return check_wrong(c, RULE_PROGRAM, at,
                           "program %u: kernel %u (%s) has operand %d, which its operator does not have", program,
                           kernel, op->name, __builtin_ctzll(extra));
    if (lack)
        return check_wrong(c, RULE_PROGRAM, at, "program %u: kernel %u (%s %s) lacks operand %d", program, kernel,
                           op->name, ir_pass_name(k->pass), __builtin_ctzll(lack));
    return ST_OK;
}

/* Of a parameter in a bucket, or of its gradient. */
static uint32_t element_bytes(const struct plan_bucket *b, bool grad)
{
    return ir_dtype_size(grad ? IR_F32 : (enum ir_dtype)b->type, IR_F32);
}

/* A split operator has the block of its parameter that its equations want. */
static enum status check_cut(const struct check *c, struct check_place at, const struct plan_kernel *k, uint32_t which,
                             const struct plan_piece *held)
{
    const struct ir_node_op *op = &c->g->ops.at[k->graph_op];
    const struct ir_shape *shape = &c->g->params.at[held->param].shape;
    int dim = k->split ? ir_op_param_cut((enum ir_op)op->op, &op->attrs, (enum ir_split)k->split, which) : -1;
    if (!k->split || k->split == IR_COUNTS) /* whole, or whole experts */
        return ST_OK;
    uint64_t row = ir_shape_elements(shape);
    for (int i = 0; i < dim; i++)
        row /= shape->dim[i];
    bool whole = dim < 0 || k->parts == 1;
    bool fits = whole ? held->split == 1
                      : held->split == k->parts &&
                            row == (held->run ? held->run * held->split : ir_shape_elements(shape));
    return fits ? ST_OK
                : check_wrong(c, RULE_SHARDS, at, "%s has another part of %s than its split needs", op->name,
                              c->g->params.at[held->param].name);
}

/* A parameter, or the gradient of one: number `which` of its operator. */
static enum status add_use(struct check *c, uint32_t cls, uint32_t program, struct check_use u, uint32_t which,
                           const struct plan_operand *operand)
{
    struct check_class *k = &c->classes[cls];
    const struct plan_program *g = &k->p->programs[program];
    const struct plan_kernel *kernel = &k->p->kernels[u.kernel];
    struct check_place at = { .cls = cls };
    const struct plan_slot *slot = &k->p->slots[g->first_slot + operand->slot];
    uint32_t piece = u.param == IR_NONE ? PLAN_NONE : k->piece_of[u.param];
    if (piece == PLAN_NONE)
        return check_wrong(c, RULE_SHARDS, at,
                           "program %u: operator %s uses a parameter that this rank class does not hold", program,
                           c->g->ops.at[kernel->graph_op].name);
    const struct plan_piece *held = &k->p->pieces[piece];
    u.slot = operand->slot;
    u.offset = operand->offset;
    u.add = operand->flags & PLAN_OPERAND_ADD;
    u.bytes = held->count * element_bytes(&k->p->buckets[held->bucket], u.grad);
    if (slot->kind != (u.grad ? SLOT_GRAD : SLOT_PARAM) || operand->offset > slot->bytes ||
        u.bytes > slot->bytes - operand->offset)
        return check_wrong(c, RULE_PROGRAM, at, "program %u: %s of %s is not inside a slot for it", program,
                           u.grad ? "gradient" : "parameter", c->g->params.at[u.param].name);
    const bool split = kernel->split && kernel->split != IR_COUNTS;
    if (held->split > 1 && held->split != (split ? kernel->parts : g->ep))
        return check_wrong(c, RULE_PROGRAM, at, "program %u: %s is split in %u, the program runs with ep %u, parts %u",
                           program, c->g->params.at[u.param].name, held->split, g->ep, kernel->parts);
    TRY(check_cut(c, at, kernel, which, held));
    bool again = u.grad && k->written_by[u.param] == program + 1;
    if (u.add != again)
        return check_wrong(c, RULE_FIRST, at,
                           "program %u: kernel %u %s the gradient of %s, %s kernel of the program has written it",
                           program, u.kernel, u.add ? "adds to" : "overwrites", c->g->params.at[u.param].name,
                           again ? "but an earlier" : "but no earlier");
    if (u.grad)
        k->written_by[u.param] = program + 1;
    vec_add(&k->uses, u);
    return ST_OK;
}

/* Marks exposed slots, and holds what the program does against what its slots declare. */
static enum status check_slots(struct check *c, uint32_t cls, uint32_t program, struct touch *t, uint32_t n)
{
    struct check_class *k = &c->classes[cls];
    const struct plan_program *g = &k->p->programs[program];
    struct check_place at = { .cls = cls };
    if (n)
        qsort(t, n, sizeof *t, by_place);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = g->first_slot + t[i].slot;
        uint32_t access = k->p->slots[slot].access;
        bool first = i == 0 || t[i - 1].slot != t[i].slot || t[i - 1].offset != t[i].offset;
        if (first && !t[i].write)
            k->exposed[slot] = 1;
        if ((t[i].write && !(access & PLAN_WRITE)) || (first && !t[i].write && !(access & PLAN_READ)))
            return check_wrong(c, RULE_PROGRAM, at, "program %u %s slot %u, which does not declare that", program,
                               t[i].write ? "writes" : "reads", t[i].slot);
    }
    return ST_OK;
}

static enum status check_program(struct check *c, uint32_t cls, uint32_t program)
{
    struct check_class *k = &c->classes[cls];
    const struct plan *p = k->p;
    const struct plan_program *g = &p->programs[program];
    struct {
        VEC(struct touch);
    } touches = { 0 };
    enum status st = ST_OK;
    k->programs[program].first_use = k->uses.n;
    for (uint32_t i = g->first_kernel; i < g->first_kernel + g->n_kernels && st == ST_OK; i++) {
        const struct plan_kernel *kernel = &p->kernels[i];
        const struct plan_operand *o = &p->operands[kernel->first_operand];
        st = check_kernel(c, cls, program, i);
        for (uint64_t rest = kernel->mask; rest && st == ST_OK; rest &= rest - 1, o++) {
            uint32_t which = (uint32_t)__builtin_ctzll(rest);
            bool grad = which >= OPERAND_DPARAM && which < OPERAND_WORK;
            if (o->flags && !grad)
                st = check_wrong(c, RULE_PROGRAM, (struct check_place){ .cls = cls },
                                 "program %u: kernel %u: operand %u adds", program, i, which);
            vec_add(&touches, ((struct touch){ o->slot, plan_kernel_writes(kernel, which), o->offset, i }));
            if (!grad && (which < OPERAND_PARAM || which >= OPERAND_DOUT))
                continue;
            uint32_t number = which - (grad ? OPERAND_DPARAM : OPERAND_PARAM);
            uint32_t param = c->g->ops.at[kernel->graph_op].param[number];
            st = add_use(c, cls, program, (struct check_use){ .kernel = i, .param = param, .grad = grad }, number, o);
        }
        if (kernel->pass == IR_PASS_F && !kernel->again &&
            (kernel->op == IR_OP_HEAD_LOSS || kernel->op == IR_OP_ROUTER || kernel->op == IR_OP_DISPATCH))
            k->programs[program].scalars = true;
    }
    k->programs[program].n_uses = k->uses.n - k->programs[program].first_use;
    if (st == ST_OK)
        st = check_slots(c, cls, program, touches.at, touches.n);
    vec_free(&touches);
    return st;
}

enum status check_programs(struct check *c)
{
    for (uint32_t cls = 0; cls < c->n; cls++) {
        struct check_class *k = &c->classes[cls];
        k->programs = arena_array(&c->arena, struct check_program, k->p->h->count[PLAN_S_PROGRAMS]);
        k->exposed = arena_array(&c->arena, uint8_t, k->p->h->count[PLAN_S_SLOTS]);
        k->written_by = arena_array(&c->arena, uint32_t, c->g->params.n);
        for (uint32_t i = 0; i < k->p->h->count[PLAN_S_PROGRAMS]; i++)
            TRY(check_program(c, cls, i));
    }
    return ST_OK;
}

/* ---- bases of instructions ---- */

/* Parameters and gradients stand where the shard map says: in the bucket's memory, or at the same places of a buffer
 * that holds the whole bucket. */
static enum status check_uses(const struct check *c, struct check_place at, const struct plan_instr *in)
{
    const struct check_class *k = &c->classes[at.cls];
    const struct check_program *g = &k->programs[in->program];
    for (uint32_t i = g->first_use; i < g->first_use + g->n_uses; i++) {
        const struct check_use *u = &k->uses.at[i];
        const struct plan_base *b = &k->p->bases[in->first_base + u->slot];
        const struct plan_piece *held = &k->p->pieces[k->piece_of[u->param]];
        const struct plan_bucket *bucket = &k->p->buckets[held->bucket];
        uint32_t size = element_bytes(bucket, u->grad);
        bool whole = u->grad ? !zero_shards_grads(bucket->zero) : !zero_shards_params(bucket->zero);
        uint64_t from = b->arena == ARENA_WORK ? k->p->buffers[b->buffer].offset
                        : u->grad              ? bucket->grad
                                               : bucket->param;
        if (check_bucket_of(k->p, b, u->grad ? SLOT_GRAD : SLOT_PARAM) != held->bucket ||
            b->offset + u->offset != from + held->offset * size || (b->arena != ARENA_WORK && !whole))
            return check_wrong(c, RULE_SHARDS, at,
                               "base %u: %s of %s is at byte %" PRIu64 ", the shard map says %" PRIu64 " in bucket %u",
                               u->slot, u->grad ? "gradient" : "parameter", c->g->params.at[u->param].name,
                               b->offset + u->offset, from + held->offset * size, held->bucket);
    }
    return ST_OK;
}

static enum status check_run_bases(const struct check *c, struct check_place at, const struct plan_instr *in)
{
    const struct plan *p = c->classes[at.cls].p;
    const struct plan_program *g = &p->programs[in->program];
    if (in->pass != g->pass || in->mb == UINT16_MAX || g->eval != (g->pass == IR_PASS_F && !at.l->train) ||
        (g->pass != IR_PASS_F && g->pass != IR_PASS_NONE && !at.l->train)) /* (what turns tensors is of no pass) */
        return check_wrong(c, RULE_PROGRAM, at, "pass or microbatch do not fit program %u (%s%s)", in->program,
                           ir_pass_name(g->pass), g->eval ? ", eval" : "");
    for (uint32_t i = 0; i < in->n_bases; i++) {
        const struct plan_base *b = &p->bases[in->first_base + i];
        const struct plan_slot *s = &p->slots[g->first_slot + i];
        bool place = s->kind == SLOT_PARAM  ? b->arena == ARENA_PARAMS || b->arena == ARENA_WORK
                     : s->kind == SLOT_GRAD ? b->arena == ARENA_GRADS || b->arena == ARENA_WORK
                                            : b->arena == ARENA_WORK;
        if (!place || b->access != s->access || (b->first && s->kind != SLOT_GRAD))
            return check_wrong(c, RULE_PROGRAM, at, "base %u: arena, access or first do not fit slot %u of program %u",
                               i, i, in->program);
    }
    return check_uses(c, at, in);
}

/* Access of base i of every instruction but RUN. */
static uint32_t access_of(uint32_t op, uint32_t i)
{
    if (op == PLAN_LOAD || op == PLAN_RECV)
        return PLAN_WRITE;
    if (op == PLAN_ALL_REDUCE || (op == PLAN_ADD && i == 0))
        return PLAN_READ | PLAN_WRITE;
    return (i == 1 && op != PLAN_ADD) || (i > 1 && op == PLAN_ROUNDS) ? PLAN_WRITE : PLAN_READ;
}

/* A base that may be this holder's shard of a bucket that stands whole in its arena, or the part that it owns of one. Which it must be: steps.c. */
static uint32_t may_be_own(uint32_t op, uint32_t i)
{
    const bool moved = (op == PLAN_ALL_GATHER && i == 0) || (op == PLAN_REDUCE_SCATTER && i == 1);
    const bool shard = op == PLAN_ALL_REDUCE || op == PLAN_ALL_GATHER || op == PLAN_REDUCE_SCATTER;
    return (moved ? PLAN_PART : 0) | (shard || (op == PLAN_ADD && i == 0) ? PLAN_OWN : 0);
}

/* A LOAD fills its buffer's tensor: one microbatch of a graph input. */
static enum status check_load(const struct check *c, struct check_place at, const struct plan_instr *in)
{
    const struct plan *p = c->classes[at.cls].p;
    const struct ir_tensor *t = &c->g->tensors.at[in->tensor];
    const struct plan_base *b = &p->bases[in->first_base];
    const uint64_t tokens = in->count ? in->count : c->g->seq_len, own = check_own_tokens(c, at.cls);
    if (!p->h->share ? in->count != 0 : tokens % own || tokens > c->g->seq_len)
        return check_wrong(c, RULE_PROGRAM, at, "%" PRIu64 " tokens of each sequence, of %" PRIu64 " that it has",
                           in->count, own);
    uint64_t bytes = tokens * ir_dtype_size(t->shape.dtype, p->h->compute);
    bool over = __builtin_mul_overflow(bytes, p->lists[at.l->index[at.cls]].microbatch_size, &bytes);
    if (t->producer != IR_NONE || in->mb == UINT16_MAX || b->arena != ARENA_WORK)
        return check_wrong(c, RULE_PROGRAM, at, "is not one microbatch of a graph input into a buffer");
    const struct plan_buffer *f = &p->buffers[b->buffer];
    if (over || bytes > f->offset + f->bytes - b->offset)
        return check_wrong(c, RULE_PROGRAM, at, "%" PRIu64 " bytes do not fit into buffer %u", bytes, b->buffer);
    return ST_OK;
}

enum status check_bases(struct check *c, const struct check_list *l)
{
    for (uint32_t cls = 0; cls < c->n; cls++) {
        const struct plan *p = c->classes[cls].p;
        const struct plan_instr *in = check_instrs(c, l, cls);
        for (uint32_t k = 0; k < check_n_instrs(c, l, cls); k++) {
            struct check_place at = { cls, l, k };
            if (in[k].op == PLAN_RUN) {
                TRY(check_run_bases(c, at, &in[k]));
                continue;
            }
            if (in[k].op == PLAN_LOAD)
                TRY(check_load(c, at, &in[k]));
            for (uint32_t i = 0; i < in[k].n_bases; i++) {
                const struct plan_base *b = &p->bases[in[k].first_base + i];
                const bool zeroed = in[k].op == PLAN_ROUNDS && i >= 2;
                if ((b->access & ~may_be_own(in[k].op, i)) != access_of(in[k].op, i) || (zeroed && !b->first) ||
                    (b->first && !zeroed && (in[k].op != PLAN_ADD || i)))
                    return check_wrong(c, RULE_PROGRAM, at, "base %u: access or first do not fit", i);
            }
        }
    }
    return ST_OK;
}
