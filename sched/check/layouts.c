/* Layouts: where devices share sequences, a value lies in one of a few ways on the members of a group (piper-strategy(5), shard with a
 * dimension), and an operator's equations take and give some of them. What stands here are these equations, as the manual has them; the
 * passes have tables of their own. A gradient lies dual to its value. Nothing but a sum over the group reads terms.
 *
 * The groups: members that share a sequence stand in the plan's header, in an order. Tensor groups are blocks of it, context groups its
 * cross-sections; with zigzag the second halves of keys are joined in the order of a context group turned round. */
#include "sched/check/values.h"

#include <inttypes.h>

const char *check_layout_name(uint32_t layout)
{
    static const char *const names[IR_LAYOUTS + 1] = {
        [IR_LAYOUT_TOKENS] = "own tokens",
        [IR_LAYOUT_WHOLE] = "all tokens of the tensor group",
        [IR_LAYOUT_COLUMNS] = "own columns",
        [IR_LAYOUT_TERMS] = "terms of a sum",
        [IR_LAYOUT_KEYS] = "keys by position",
        [IR_LAYOUT_KEY_TERMS] = "terms of keys' gradients",
        [IR_LAYOUT_HEADS] = "all tokens of a block of heads",
        [IR_LAYOUT_BLOCKS] = "blocks of heads",
        [IR_LAYOUT_STARTS] = "where documents begin",
        [IR_LAYOUTS] = "any layout",
    };
    return names[layout <= IR_LAYOUTS ? layout : IR_LAYOUTS];
}

/* ---- equations -------------------------------------------------------------------------------------------------- */

static uint8_t dual(uint32_t layout)
{
    switch (layout) {
    case IR_LAYOUT_WHOLE:
        return IR_LAYOUT_TERMS;
    case IR_LAYOUT_TERMS:
        return IR_LAYOUT_WHOLE;
    case IR_LAYOUT_KEYS:
        return IR_LAYOUT_KEY_TERMS;
    default:
        return (uint8_t)layout;
    }
}

/* Is input i of an attention, or its one packed input, keys or values? */
static bool is_key(const struct ir_node_op *op, uint32_t i)
{
    return op->op == IR_OP_ATTENTION && (i > 0 || op->attrs.flags & IR_PACKED);
}

/* Of one context part, as attention has them: of these the tokens are a device's own, or all of its tensor group. */
static uint8_t own_layout(const struct plan_header *h)
{
    return h->share == h->context ? IR_LAYOUT_TOKENS : IR_LAYOUT_COLUMNS;
}

static uint8_t layout_in(const struct plan_header *h, const struct ir_node_op *op, uint32_t split, uint32_t i)
{
    if (op->attrs.flags & IR_DOCUMENTS && i == ir_op_inputs((enum ir_op)op->op, &op->attrs) - 1)
        return IR_LAYOUT_STARTS;
    if (split == IR_TURNED)
        return IR_LAYOUT_HEADS;
    if (split == IR_RING)
        return own_layout(h);
    if (is_key(op, i) && h->context > 1)
        return IR_LAYOUT_KEYS;
    if (op->op == IR_OP_JOIN_HEADS && split && i == 1) /* a part that all heads share */
        return IR_LAYOUT_WHOLE;
    switch (split) {
    case IR_ROWS_OF_W:
    case IR_WORDS:
        return IR_LAYOUT_WHOLE;
    case IR_COLUMNS_OF_W:
    case IR_HEADS:
    case IR_WIDTH:
        return IR_LAYOUT_COLUMNS;
    default:
        return IR_LAYOUT_TOKENS;
    }
}

static uint8_t layout_out(const struct plan_header *h, uint32_t split)
{
    switch (split) {
    case IR_COLUMNS_OF_W:
    case IR_WORDS:
        return IR_LAYOUT_TERMS;
    case IR_ROWS_OF_W:
    case IR_HEADS:
    case IR_WIDTH:
        return IR_LAYOUT_COLUMNS;
    case IR_TURNED:
        return IR_LAYOUT_HEADS;
    case IR_RING:
        return own_layout(h);
    default:
        return IR_LAYOUT_TOKENS;
    }
}

uint8_t layouts_of(const struct values *v, const struct plan_kernel *k, uint32_t which)
{
    if (!v->p->h->share)
        return IR_LAYOUT_TOKENS;
    if (k->op == IR_OP_TO_BLOCKS || k->op == IR_OP_FROM_BLOCKS)
        return (k->op == IR_OP_TO_BLOCKS) == (which >= OPERAND_OUT) ? IR_LAYOUT_BLOCKS : own_layout(v->p->h);
    if (k->op >= IR_OP_GRAPH_COUNT)
        return IR_LAYOUTS;
    const struct ir_node_op *op = &v->c->g->ops.at[k->graph_op];
    if (which < OPERAND_OUT)
        return layout_in(v->p->h, op, k->split, which - OPERAND_IN);
    if (which < OPERAND_SAVE)
        return layout_out(v->p->h, k->split);
    if (which >= OPERAND_DOUT && which < OPERAND_DIN)
        return dual(layout_out(v->p->h, k->split));
    if (which >= OPERAND_DIN && which < OPERAND_DPARAM)
        return dual(layout_in(v->p->h, op, k->split, (which - OPERAND_DIN) % IR_MAX_IN));
    return IR_LAYOUT_TOKENS; /* saved and stashed: by name */
}

/* A sum or copy of a tensor's gradient lies as the program's other kernels have that; where it has none, as what comes in. */
void layouts_of_sums(const struct values *v, uint32_t program, struct items *items)
{
    for (uint32_t i = 0; i < items->n && v->p->h->share; i++) {
        struct item *s = &items->at[i];
        for (uint32_t k = 0; k < items->n && s->layout == IR_LAYOUTS; k++)
            if (items->at[k].name == NAME_GRADIENT && items->at[k].id == s->id)
                s->layout = items->at[k].layout;
        if (s->layout == IR_LAYOUTS && v->p->programs[program].pass != IR_PASS_NONE)
            s->layout = IR_LAYOUT_TOKENS; /* passed through by an operator outside of regions */
    }
}

uint32_t layouts_tokens(const struct values *v, uint32_t layout)
{
    const struct plan_header *h = v->p->h;
    const uint32_t t = v->c->g->seq_len;
    switch (h->share ? layout : IR_LAYOUT_KEYS) {
    case IR_LAYOUT_KEYS:
    case IR_LAYOUT_KEY_TERMS:
    case IR_LAYOUT_HEADS:
    case IR_LAYOUT_STARTS:
        return t;
    case IR_LAYOUT_TOKENS:
        return t / h->share;
    default:
        return t / h->share * h->tensor;
    }
}

/* Tokens of a program whose kernels do not say how many they have: as many as some layout has, or all. */
static bool are_tokens(const struct values *v, uint32_t tokens)
{
    const struct plan_header *h = v->p->h;
    const uint32_t t = v->c->g->seq_len;
    return !tokens || (h->share && (tokens == t / h->share || tokens == t / h->share * h->tensor ||
                                    tokens == t / h->context || tokens == t));
}

/* The rows of a kernel are those of its layout; a split one is split over tensor groups. */
enum status layouts_check_kernel(const struct values *v, uint32_t program, uint32_t kernel)
{
    const struct plan_program *g = &v->p->programs[program];
    const struct plan_kernel *k = &v->p->kernels[kernel];
    struct check_place at = { .cls = v->cls };
    if (!are_tokens(v, g->tokens))
        return check_wrong(v->c, RULE_LAYOUT, at,
                           "program %u computes with %u tokens of a sequence, which no device has", program, g->tokens);
    if (k->op == IR_OP_TO_BLOCKS || k->op == IR_OP_FROM_BLOCKS)
        return heads_check_turn(v, program, kernel);
    if (!v->p->h->share || k->op >= IR_OP_GRAPH_COUNT)
        return ST_OK;
    const struct ir_node_op *op = &v->c->g->ops.at[k->graph_op];
    const uint32_t layout = op->out[0] != IR_NONE ? layout_out(v->p->h, k->split) : layout_in(v->p->h, op, k->split, 0);
    if (g->tokens != layouts_tokens(v, layout))
        return check_wrong(v->c, RULE_LAYOUT, at,
                           "program %u, kernel %u (%s) computes with %u tokens of a sequence, but %s are %u", program,
                           kernel - g->first_kernel, op->name, g->tokens, check_layout_name(layout),
                           layouts_tokens(v, layout));
    if ((k->split == IR_COUNTS) != check_counts(v->c, k->graph_op) ||
        (k->split == IR_COUNTS &&
         (k->parts != v->p->h->share || !check_same_members(v->c, v->cls, g->parts, v->p->h->share_group, true))))
        return check_wrong(v->c, RULE_LAYOUT, at, "program %u, kernel %u (%s): counts %s, expected %s", program,
                           kernel - g->first_kernel, op->name,
                           k->split == IR_COUNTS ? "over some members of a group" : "own tokens only",
                           check_counts(v->c, k->graph_op) ? "all that share a sequence" : "no counts of others");
    const bool turned = k->split == IR_TURNED, whole = k->split == IR_RING && k->parts == 1;
    if (k->split && !whole && k->split != IR_COUNTS &&
        !check_shared_by(v->c, v->cls, g->parts, turned ? SHARED_BY_HEADS : SHARED_BY_TENSOR))
        return check_wrong(v->c, RULE_BINDING, at, "program %u splits %s over group %u, which is no %s", program,
                           op->name, g->parts, turned ? "sequence groups in the order of heads" : "tensor groups");
    return ST_OK;
}

/* What comes in from a buffer, or leaves in it, lies there as the program has it. */
enum status layouts_check_bases(const struct values *v, uint32_t i, const struct items *items, uint32_t *any)
{
    const struct plan_instr *in = &check_instrs(v->c, v->l, v->cls)[i];
    const struct plan_program *g = &v->p->programs[in->program];
    for (uint32_t k = 0; k < items->n && v->p->h->share; k++) {
        const struct item *item = &items->at[k];
        const uint32_t kind = v->p->slots[g->first_slot + item->slot].kind;
        if (kind != SLOT_TENSOR && kind != SLOT_GRADIENT)
            continue;
        const uint32_t buffer = v->p->bases[in->first_base + item->slot].buffer;
        const uint32_t has = v->p->buffers[buffer].layout, wants = item->layout == IR_LAYOUTS ? *any : item->layout;
        if (wants == IR_LAYOUTS)
            *any = has;
        else if (has != wants)
            return check_wrong(v->c, RULE_LAYOUT, (struct check_place){ v->cls, v->l, i },
                               "base %u: buffer %u holds %s, the program %s %s", item->slot, buffer,
                               check_layout_name(has), item->write ? "gives" : "takes", check_layout_name(wants));
    }
    return ST_OK;
}

/* ---- groups ----------------------------------------------------------------------------------------------------- */

/* Step from member to member of a group of a kind, in the order in which a sequence is shared. */
static bool is_group(const struct plan *p, uint32_t set, const uint32_t *position, enum share_role role)
{
    const struct plan_header *h = p->h;
    const uint32_t slices = h->share / h->context, n = p->sets[set].size;
    const uint32_t first = position[plan_set_at(p, set, 0)], part = first % h->share / slices;
    if (role == SHARED_BY_TENSOR  ? n != h->tensor || first % h->tensor
        : role == SHARED_BY_HEADS ? n != h->share || first % h->share
                                  : n != h->context)
        return false;
    if ((role == SHARED_BY_CONTEXT && part != 0) || (role == SHARED_BACKWARDS && part != h->context - 1))
        return false;
    for (uint32_t k = 1; k < n; k++) {
        const uint32_t at = role == SHARED_BY_TENSOR    ? first + k
                            : role == SHARED_BY_HEADS   ? first + k % h->context * slices + k / h->context
                            : role == SHARED_BY_CONTEXT ? first + k * slices
                                                        : first - k * slices;
        if (position[plan_set_at(p, set, k)] != at)
            return false;
    }
    return true;
}

static uint8_t roles_of(const struct plan *p, uint32_t group, const uint32_t *position)
{
    const struct plan_group *g = &p->groups[group];
    uint8_t roles = 0;
    if (g->kind == PLAN_GROUP_UNION && g->n_sets > 1)
        return 0;
    for (uint8_t role = SHARED_BY_TENSOR; role <= SHARED_BY_HEADS; role++) {
        bool all = true;
        for (uint32_t s = 0; s < g->n_sets && all; s++)
            all = is_group(p, g->first_set + s, position, (enum share_role)role);
        roles |= (uint8_t)(all << role);
    }
    return roles;
}

enum status check_sharing(struct check *c)
{
    const bool shared = c->classes[0].p->h->share > 0;
    uint32_t *position = shared ? mem_alloc(sizeof *position * (size_t)c->world) : NULL;
    enum status st = ST_OK;
    for (uint32_t cls = 0; cls < c->n && st == ST_OK; cls++) {
        struct check_class *k = &c->classes[cls];
        const struct plan *p = k->p;
        const uint32_t n_groups = (uint32_t)p->h->count[PLAN_S_GROUPS];
        k->share_role = arena_array(&c->arena, uint8_t, n_groups + 1);
        if (!shared)
            continue;
        const struct plan_group *g = &p->groups[p->h->share_group];
        const uint32_t *classes;
        if (check_group_classes(c, cls, p->h->share_group, &classes) != 1 || classes[0] != cls ||
            c->g->seq_len % p->h->share || (p->h->zigzag && c->g->seq_len % (2 * p->h->context)))
            st = check_wrong(c, RULE_BINDING, (struct check_place){ .cls = cls },
                             "group %u is not the rank class in groups that share sequences of %u tokens",
                             p->h->share_group, c->g->seq_len);
        memset(position, 0xff, sizeof *position * (size_t)c->world);
        for (uint32_t s = 0, at = 0; s < g->n_sets; s++)
            for (uint32_t i = 0; i < p->sets[g->first_set + s].size; i++)
                position[plan_set_at(p, g->first_set + s, i)] = at++;
        for (uint32_t i = 0; i < n_groups; i++)
            k->share_role[i] = roles_of(p, i, position);
    }
    mem_free(position);
    return st;
}

/* The replicas of a LOAD are the groups that share a sequence, one after the other: in them a device has the same slice of each. */
enum status check_share_order(const struct check *c, struct check_place at, const struct plan_instr *in)
{
    const struct plan *p = c->classes[at.cls].p;
    const struct plan_group *g = &p->groups[p->h->share_group];
    for (uint32_t i = 0; i < p->sets[in->my_set].size && p->h->share; i++) {
        const uint32_t d = plan_set_at(p, in->my_set, i), first = plan_set_at(p, in->my_set, i - i % p->h->share);
        bool found = false;
        for (uint32_t s = 0; s < g->n_sets && !found; s++)
            found = plan_set_at(p, g->first_set + s, 0) == first &&
                    plan_set_at(p, g->first_set + s, i % p->h->share) == d;
        if (!found)
            return check_wrong(c, RULE_REPLICA, at, "rank %u has not slice %u of replica %u in group %u", d,
                               i % p->h->share, i / p->h->share, p->h->share_group);
    }
    return ST_OK;
}

/* ---- borders ---------------------------------------------------------------------------------------------------- */

/* The group over which a gather or a sum turns one layout into another; SHARED_BY_NONE: it cannot. small: of the two the one that has the
 * part of a member. */
static enum share_role turns(const struct plan_header *h, uint32_t op, uint32_t small, uint32_t large)
{
    const bool gathers = op == PLAN_ALL_GATHER;
    if (small == IR_LAYOUT_TOKENS && large == (gathers ? IR_LAYOUT_WHOLE : IR_LAYOUT_TERMS))
        return SHARED_BY_TENSOR;
    const bool own = small == IR_LAYOUT_COLUMNS || (small == IR_LAYOUT_TOKENS && h->share == h->context);
    return own && large == (gathers ? IR_LAYOUT_KEYS : IR_LAYOUT_KEY_TERMS) ? SHARED_BY_CONTEXT : SHARED_BY_NONE;
}

/* A tensor, or its gradient, of the members of a tensor or context group: all of it, or, keys of a zigzag, one half. */
enum status values_border(struct values *v, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = { v->cls, v->l, i };
    const struct plan_base *b = &v->p->bases[in->first_base];
    const struct plan_buffer *f[2];
    if (b[0].access & PLAN_OWN)
        return pieces_numbers(v, i, in);
    for (uint32_t k = 0; k < 2; k++) {
        f[k] = b[k].arena == ARENA_WORK ? &v->p->buffers[b[k].buffer] : NULL;
        if (!f[k] || f[k]->mb != in->mb || f[k]->what != in->tensor || in->tensor >= v->c->g->tensors.n ||
            (f[k]->role != SLOT_TENSOR && f[k]->role != SLOT_GRADIENT) || f[k]->role != f[0]->role)
            return check_wrong(v->c, RULE_VALUE, at, "base %u is not tensor %u of this microbatch", k, in->tensor);
    }
    const uint32_t small = in->op == PLAN_REDUCE_SCATTER, group = v->p->channels[in->channel].group;
    const uint32_t members = check_group_size(v->c, v->cls, group);
    const struct ir_shape *shape = &v->c->g->tensors.at[in->tensor].shape;
    enum share_role role = turns(v->p->h, in->op, f[small]->layout, f[!small]->layout);
    if (!v->p->h->share || role == SHARED_BY_NONE)
        return check_wrong(v->c, RULE_LAYOUT, at, "makes %s of %s", check_layout_name(f[1]->layout),
                           check_layout_name(f[0]->layout));
    if (in->type != (shape->dtype == IR_COMPUTE ? v->p->h->compute : shape->dtype))
        return check_wrong(v->c, RULE_LAYOUT, at, "communicates %s as %s", v->c->g->tensors.at[in->tensor].name,
                           ir_dtype_name((enum ir_dtype)in->type));
    const bool halves = role == SHARED_BY_CONTEXT && v->p->h->zigzag;
    const uint64_t bytes = in->count * ir_dtype_size((enum ir_dtype)in->type, v->p->h->compute), calls = halves ? 2 : 1;
    const bool second = halves && b[0].offset == f[0]->offset + f[0]->bytes / 2;
    for (uint32_t k = 0; k < 2; k++)
        if (b[k].offset != f[k]->offset + (second ? f[k]->bytes / 2 : 0) ||
            f[k]->bytes != bytes * calls * (k == small ? 1 : members))
            return check_wrong(v->c, RULE_LAYOUT, at,
                               "%" PRIu64 " bytes of each of %u members are not all of buffers %u, %u", bytes, members,
                               b[0].buffer, b[1].buffer);
    if (!check_shared_by(v->c, v->cls, group, second ? SHARED_BACKWARDS : role))
        return check_wrong(v->c, RULE_LAYOUT, at, "makes %s over group %u, which are not %s",
                           check_layout_name(f[1]->layout), group,
                           second                     ? "context groups turned round"
                           : role == SHARED_BY_TENSOR ? "tensor groups"
                                                      : "context groups");
    struct held *from = &v->held[b[0].buffer], *to = &v->held[b[1].buffer];
    if (second && to->sum != from->sum)
        return check_wrong(v->c, RULE_GRADIENT, at, "the two halves of buffer %u are of different sums", b[1].buffer);
    to->sum = from->sum;
    to->away = from->away;
    return ST_OK;
}
