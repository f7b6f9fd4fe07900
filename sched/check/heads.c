/* Heads: attention may have all tokens of some heads instead of some tokens of all (piper-strategy(5), shard, exchange "all-to-all"). A
 * program makes blocks of rows, block i with the heads of member i of the context group; an all-to-all gives each member its block of all
 * members, whose tokens follow each other in the order of the group, so in that of the sequence. And back. */
#include "sched/check/values.h"

#include <inttypes.h>

/* Elements of own tokens of a tensor on one device, as attention has them. */
static uint64_t own_elements(const struct values *v, uint32_t tensor)
{
    const struct plan_header *h = v->p->h;
    const struct ir_shape s = check_rows_of(v->c, tensor, v->c->g->seq_len / h->context);
    return ir_shape_elements(&s) * v->microbatch_size / (h->share / h->context);
}

enum status heads_check_turn(const struct values *v, uint32_t program, uint32_t kernel)
{
    const struct plan_kernel *k = &v->p->kernels[kernel];
    const struct plan_program *g = &v->p->programs[program];
    const struct ir_tensor *t = &v->c->g->tensors.at[k->tensor];
    struct check_place at = { .cls = v->cls };
    if (!v->p->h->share)
        return check_wrong(v->c, RULE_LAYOUT, at, "program %u turns heads of %s, but no sequences are shared", program,
                           t->name);
    const uint64_t want = own_elements(v, k->tensor);
    const uint32_t tokens = v->c->g->seq_len / v->p->h->context;
    if (k->n != want || k->type != t->shape.dtype || g->tokens != tokens)
        return check_wrong(v->c, RULE_LAYOUT, at,
                           "program %u turns %" PRIu64 " elements of %u tokens of %s, a device has %" PRIu64 " of %u",
                           program, k->n, g->tokens, t->name, want, tokens);
    const uint32_t parts = v->p->h->share;
    if (t->shape.dim[t->shape.ndim - 1] % parts || v->p->h->zigzag)
        return check_wrong(v->c, RULE_LAYOUT, at, "program %u turns %s, which does not split by heads over %u devices",
                           program, t->name, parts);
    return ST_OK;
}

bool heads_travel(const struct values *v, const struct plan_instr *in)
{
    const struct plan_base *b = &v->p->bases[in->first_base];
    for (uint32_t k = 0; k < 2; k++) {
        const uint32_t layout = b[k].arena == ARENA_WORK ? v->p->buffers[b[k].buffer].layout : IR_LAYOUT_TOKENS;
        if (layout == IR_LAYOUT_HEADS || layout == IR_LAYOUT_BLOCKS)
            return true;
    }
    return false;
}

enum status heads_exchange(struct values *v, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = { v->cls, v->l, i };
    const struct plan_base *b = &v->p->bases[in->first_base];
    const struct plan_buffer *f[2];
    const uint32_t group = v->p->channels[in->channel].group, context = v->p->h->context;
    for (uint32_t k = 0; k < 2; k++) {
        f[k] = b[k].arena == ARENA_WORK ? &v->p->buffers[b[k].buffer] : NULL;
        if (!f[k] || f[k]->mb != in->mb || f[k]->what != in->tensor || in->tensor >= v->c->g->tensors.n ||
            b[k].offset != f[k]->offset || (f[k]->role != SLOT_TENSOR && f[k]->role != SLOT_GRADIENT) ||
            f[k]->role != f[0]->role)
            return check_wrong(v->c, RULE_VALUE, at, "base %u is not tensor %u of this microbatch", k, in->tensor);
    }
    const struct ir_tensor *t = &v->c->g->tensors.at[in->tensor];
    const bool blocks = f[0]->layout == IR_LAYOUT_BLOCKS;
    if (f[blocks]->layout != IR_LAYOUT_HEADS || f[!blocks]->layout != IR_LAYOUT_BLOCKS)
        return check_wrong(v->c, RULE_LAYOUT, at, "makes %s of %s", check_layout_name(f[1]->layout),
                           check_layout_name(f[0]->layout));
    if (!check_shared_by(v->c, v->cls, group, SHARED_BY_CONTEXT))
        return check_wrong(v->c, RULE_LAYOUT, at, "exchanges heads over group %u, which are not context groups", group);
    const uint32_t type = t->shape.dtype == IR_COMPUTE ? v->p->h->compute : t->shape.dtype;
    const uint64_t want = own_elements(v, in->tensor),
                   bytes = want * ir_dtype_size((enum ir_dtype)type, v->p->h->compute);
    if (in->type != type || in->count * context != want || f[0]->bytes != bytes || f[1]->bytes != bytes)
        return check_wrong(v->c, RULE_LAYOUT, at,
                           "exchanges %" PRIu64 " elements of %s with each of %u members, a device has %" PRIu64
                           " of %s",
                           in->count, ir_dtype_name((enum ir_dtype)in->type), context, want, t->name);
    v->held[b[1].buffer].sum = v->held[b[0].buffer].sum;
    v->held[b[1].buffer].away = v->held[b[0].buffer].away;
    return ST_OK;
}
