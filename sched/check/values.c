/* Values: what stands in memory is what its reader takes it for.
 *
 * Inside a program every operand of the graph has a name (names.c): a forward tensor, a saved or stashed tensor of an operator,
 * a workspace, or a gradient. Programs are executed on names (execute.c): an operand that is read was written under its name earlier in the
 * program, whole and not overwritten since, or it comes from outside, whole. What comes from outside must be there
 * under that name: a tensor in a buffer of that tensor and microbatch, what a forward keeps in the frame that it
 * wrote.
 *
 * Gradients are more than names: of which terms each consists is followed from the loss to the parameters (gradients.c), through
 * all rank classes at once: a class goes on when what it receives was sent. */
#include "sched/check/values.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- frames ---- */

/* The program that a slot of the section belongs to. */
static uint32_t program_of(const struct plan *p, uint32_t slot)
{
    uint32_t lo = 0, hi = (uint32_t)p->h->count[PLAN_S_PROGRAMS];
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (p->programs[mid].first_slot <= slot)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* What the program with slot `writer` left at a place of it; NULL: nothing. */
static const struct item *left_at(const struct values *v, uint32_t program, uint32_t writer, const struct items *left,
                                  const struct item *item)
{
    struct item place = { .slot = writer - v->p->programs[program].first_slot, .offset = item->offset };
    return left->n ? bsearch(&place, left->at, left->n, sizeof place, values_by_place) : NULL;
}

static enum status not_left(const struct values *v, uint32_t i, const struct item *item, uint32_t by)
{
    return check_wrong(v->c, RULE_VALUE, (struct check_place){ v->cls, v->l, i },
                       "program %u reads byte %" PRIu64 " of slot %u, where program %u has not left that value",
                       check_instrs(v->c, v->l, v->cls)[i].program, item->offset, item->slot, by);
}

/* The frame that a forward (or BI) left holds what this program reads of it, at the same places. */
static enum status check_frame(struct values *v, uint32_t i, const struct plan_program *g, uint32_t slot,
                               uint32_t writer)
{
    const struct plan_instr *in = &check_instrs(v->c, v->l, v->cls)[i];
    uint32_t number = g->first_slot + slot;
    if (writer == PLAN_NONE || v->verified[number] == writer)
        return ST_OK; /* a frame that nobody wrote is the matter of memory.c */
    v->verified[number] = writer;
    uint32_t by = program_of(v->p, writer);
    const struct interface *to = &v->programs[in->program];
    for (uint32_t a = 0; a < to->in.n; a++) {
        const struct item *item = &to->in.at[a];
        if (item->slot != slot)
            continue;
        const struct item *left = left_at(v, by, writer, &v->programs[by].out, item);
        if (!left || left->name != item->name || left->id != item->id)
            return not_left(v, i, item, by);
    }
    return ST_OK;
}

/* ---- gradients between programs ---- */

/* The sum that stands where a program takes a gradient: in a buffer of its own, or in the frame that BI left. */
static enum status taken_sum(const struct values *v, uint32_t i, const struct item *item, uint64_t *sum)
{
    const struct plan_instr *in = &check_instrs(v->c, v->l, v->cls)[i];
    const struct plan_base *b = &v->p->bases[in->first_base + item->slot];
    const struct held *held = &v->held[b->buffer];
    uint32_t slot = v->p->programs[in->program].first_slot + item->slot;
    *sum = held->sum;
    if (v->p->slots[slot].kind != SLOT_STASH || held->writer == PLAN_NONE)
        return ST_OK;
    uint32_t by = program_of(v->p, held->writer);
    const struct interface *face = &v->programs[by];
    const struct item *left = left_at(v, by, held->writer, &face->gives, item);
    if (!left || left->bytes != item->bytes)
        return not_left(v, i, item, by);
    *sum = face->flows.at[held->flow].gives[left - face->gives.at];
    return ST_OK;
}

/* What the program takes makes what it gives. */
static enum status check_flow(struct values *v, uint32_t i, struct interface *face)
{
    const struct plan_instr *in = &check_instrs(v->c, v->l, v->cls)[i];
    const struct plan_program *g = &v->p->programs[in->program];
    uint32_t flow = 0;
    v->takes.n = 0;
    for (uint32_t k = 0; k < face->takes.n; k++)
        TRY(taken_sum(v, i, &face->takes.at[k], vec_push(&v->takes)));
    TRY(gradients_flow(v, in->program, face, v->takes.at, &flow));
    for (uint32_t k = 0; k < g->n_slots; k++) {
        const struct plan_base *b = &v->p->bases[in->first_base + k];
        if (b->arena == ARENA_WORK && v->p->slots[g->first_slot + k].access & PLAN_WRITE)
            v->held[b->buffer].flow = flow;
    }
    for (uint32_t k = 0; k < face->gives.n; k++) {
        const struct item *item = &face->gives.at[k];
        if (v->p->slots[g->first_slot + item->slot].kind == SLOT_GRADIENT)
            v->held[v->p->bases[in->first_base + item->slot].buffer].sum = face->flows.at[flow].gives[k];
    }
    return ST_OK;
}

/* ---- instructions ---- */

/* Tensors in buffers: of that tensor, from its start. */
static enum status check_tensors(struct values *v, uint32_t i, const struct items *items)
{
    const struct plan_instr *in = &check_instrs(v->c, v->l, v->cls)[i];
    const struct plan_program *g = &v->p->programs[in->program];
    for (uint32_t k = 0; k < items->n; k++) {
        const struct item *item = &items->at[k];
        if (v->p->slots[g->first_slot + item->slot].kind != SLOT_TENSOR)
            continue;
        const struct plan_base *b = &v->p->bases[in->first_base + item->slot];
        const struct plan_buffer *f = &v->p->buffers[b->buffer];
        if (item->name != NAME_TENSOR || f->role != SLOT_TENSOR || f->what != item->id ||
            b->offset + item->offset != f->offset)
            return check_wrong(v->c, RULE_VALUE, (struct check_place){ v->cls, v->l, i },
                               "%s tensor %s in buffer %u of %s", item->write ? "writes" : "reads",
                               item->name == NAME_TENSOR ? v->c->g->tensors.at[item->id].name : "(not one)", b->buffer,
                               f->what < v->c->g->tensors.n ? v->c->g->tensors.at[f->what].name : "another kind");
    }
    return ST_OK;
}

/* A buffer as a base of a RUN: of the kind and microbatch of its slot, bound once unless it is only read, with rows that lie where the
 * program computes. */
static enum status bind_buffer(struct values *v, uint32_t i, uint32_t k, const struct plan_slot *s)
{
    const struct plan_instr *in = &check_instrs(v->c, v->l, v->cls)[i];
    const uint32_t buffer = v->p->bases[in->first_base + k].buffer;
    const struct plan_buffer *f = &v->p->buffers[buffer];
    struct check_place at = { v->cls, v->l, i };
    struct held *held = &v->held[buffer];
    bool value = s->kind == SLOT_TENSOR || s->kind == SLOT_GRADIENT, away = v->p->programs[in->program].ep > 1;
    if (!s->bytes)
        return ST_OK;
    if (f->role != s->kind || (s->kind != SLOT_TEMP && f->mb != in->mb))
        return check_wrong(v->c, RULE_VALUE, at, "base %u: buffer %u is of another kind or microbatch", k, buffer);
    if (s->access & PLAN_WRITE && held->bound == i + 1)
        return check_wrong(v->c, RULE_VALUE, at, "base %u: buffer %u is another base too, and written", k, buffer);
    if (value && !(s->access & PLAN_WRITE) && held->away != away)
        return check_wrong(v->c, RULE_LAYOUT, at, "base %u: rows in buffer %u lie %s, the program computes %s", k,
                           buffer, held->away ? "where their experts are" : "at home",
                           away ? "where the experts are" : "at home");
    if (value && !(s->access & PLAN_WRITE) && held->shifts)
        return check_wrong(v->c, RULE_LAYOUT, at, "base %u: buffer %u holds the keys or values of another member", k,
                           buffer);
    held->bound = i + 1;
    if (s->access & PLAN_WRITE) {
        held->away = away;
        held->everyone = 0;
        held->shifts = 0;
        held->pieces = s->kind == SLOT_RING;
    }
    return ST_OK;
}

static enum status check_run_values(struct values *v, uint32_t i, const struct plan_instr *in)
{
    const struct plan_program *g = &v->p->programs[in->program];
    struct interface *face = &v->programs[in->program];
    if (!face->done)
        TRY(values_execute(v, in->program, face));
    TRY(check_tensors(v, i, &face->in));
    TRY(check_tensors(v, i, &face->out));
    const struct items *const crossing[] = { &face->in, &face->out, &face->takes, &face->gives };
    uint32_t any = IR_LAYOUTS;
    for (int k = 0; k < 4; k++)
        TRY(layouts_check_bases(v, i, crossing[k], &any));
    for (int write = 0; write < 2; write++)
        for (uint32_t k = 0; k < g->n_slots; k++) {
            const struct plan_base *b = &v->p->bases[in->first_base + k];
            const struct plan_slot *s = &v->p->slots[g->first_slot + k];
            bool frame = s->kind == SLOT_KEEP || s->kind == SLOT_STASH;
            if (b->arena != ARENA_WORK || s->kind == SLOT_PARAM || s->kind == SLOT_GRAD ||
                !!(s->access & PLAN_WRITE) != write)
                continue;
            TRY(bind_buffer(v, i, k, s));
            if (frame)
                TRY(check_frame(v, i, g, k, v->held[b->buffer].writer));
        }
    TRY(check_flow(v, i, face));
    for (uint32_t k = 0; k < g->n_slots; k++) {
        const struct plan_base *b = &v->p->bases[in->first_base + k];
        if (b->arena == ARENA_WORK && v->p->slots[g->first_slot + k].access & PLAN_WRITE)
            v->held[b->buffer].writer = g->first_slot + k;
    }
    return ST_OK;
}

/* What a message carries is known when it is sent, and from then on where it is received. */
static void pass_on(struct values *v, uint32_t i, const struct plan_instr *in)
{
    struct message *m = &v->messages[v->l->comm_of[v->l->base[v->cls] + i]];
    struct held *held = &v->held[v->p->bases[in->first_base].buffer];
    if (in->op == PLAN_RECV) {
        held->sum = m->sum;
        held->away = m->away;
        return;
    }
    *m = (struct message){ .sent = true, .away = held->away, .sum = held->sum };
    if (in->op == PLAN_EXCHANGE) {
        held = &v->held[v->p->bases[in->first_base + 1].buffer];
        held->sum = m->sum;
        held->away = m->away;
    }
}

/* A microbatch of a tensor, or of its gradient, that is loaded or travels. The same on both ends. */
static enum status check_moved(struct values *v, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = { v->cls, v->l, i };
    for (uint32_t k = 0; k < in->n_bases; k++) {
        const struct plan_base *b = &v->p->bases[in->first_base + k];
        if (b->arena != ARENA_WORK)
            return check_wrong(v->c, RULE_VALUE, at, "base %u is no buffer", k);
        const struct plan_buffer *f = &v->p->buffers[b->buffer];
        bool tensor = f->role == SLOT_TENSOR || (f->role == SLOT_GRADIENT && in->op != PLAN_LOAD);
        if (!tensor || f->what >= v->c->g->tensors.n || f->mb != in->mb || b->offset != f->offset ||
            f->what != in->tensor)
            return check_wrong(v->c, RULE_VALUE, at, "buffer %u does not hold a tensor of this microbatch", b->buffer);
        const uint32_t loads = f->layout == IR_LAYOUT_STARTS ? 0 : layouts_tokens(v, f->layout);
        if (in->op == PLAN_LOAD && v->p->h->share && in->count != loads)
            return check_wrong(v->c, RULE_LAYOUT, at,
                               "loads %" PRIu64 " tokens of each sequence into buffer %u, %s are %u", in->count,
                               b->buffer, check_layout_name(f->layout), loads);
        if (f->layout != IR_LAYOUT_TOKENS && in->op != PLAN_LOAD)
            return check_wrong(v->c, RULE_LAYOUT, at, "sends or receives buffer %u, which holds %s", b->buffer,
                               check_layout_name(f->layout));
        const struct ir_shape s = check_rows_of(v->c, f->what, check_own_tokens(v->c, v->cls));
        uint32_t type = s.dtype == IR_COMPUTE ? v->p->h->compute : s.dtype;
        if (in->op != PLAN_LOAD && (in->type != type || in->count != ir_shape_elements(&s) * v->microbatch_size))
            return check_wrong(v->c, RULE_VALUE, at, "%" PRIu64 " elements of %s are not a microbatch of %s", in->count,
                               ir_dtype_name((enum ir_dtype)in->type), v->c->g->tensors.at[f->what].name);
    }
    if (in->op == PLAN_LOAD) {
        v->held[v->p->bases[in->first_base].buffer].away = false;
        return ST_OK;
    }
    const struct check_end *end = &v->l->ends.at[v->l->comms.at[v->l->comm_of[v->l->base[v->cls] + i]].first_end];
    const struct plan *q = v->c->classes[end->cls].p;
    const struct plan_buffer *f = &v->p->buffers[v->p->bases[in->first_base].buffer];
    const struct plan_base *there = &q->bases[check_instrs(v->c, v->l, end->cls)[end->instr].first_base];
    const struct plan_buffer *o = there->arena == ARENA_WORK ? &q->buffers[there->buffer] : NULL;
    if (!o || o->role != f->role || o->what != f->what || o->mb != f->mb)
        return check_wrong(v->c, RULE_VALUE, at, "the two ends are buffers of different tensors or microbatches");
    if (in->op == PLAN_EXCHANGE) {
        const struct plan_buffer *to = &v->p->buffers[v->p->bases[in->first_base + 1].buffer];
        if (to->role != f->role || to->what != f->what)
            return check_wrong(v->c, RULE_VALUE, at, "sends one tensor and receives another");
    }
    pass_on(v, i, in);
    return ST_OK;
}

/* Rows go to the members of the group in order, and so do the experts' blocks. */
static enum status check_owners(const struct values *v, uint32_t i, const struct plan_instr *in)
{
    const uint32_t op = v->experts[in->tensor], group = v->p->channels[in->channel].group;
    const uint32_t piece = op == PLAN_NONE ? PLAN_NONE : v->c->classes[v->cls].piece_of[v->c->g->ops.at[op].param[0]];
    if (piece == PLAN_NONE ||
        (v->p->pieces[piece].split == check_group_size(v->c, v->cls, group) &&
         (v->p->pieces[piece].split == 1 || check_same_members(v->c, v->cls, group, v->p->pieces[piece].owners, true))))
        return ST_OK;
    return check_wrong(v->c, RULE_SHARDS, (struct check_place){ v->cls, v->l, i },
                       "rows go to the members of group %u, the blocks of %s are those of group %u", group,
                       v->c->g->ops.at[op].name, v->p->pieces[piece].owners);
}

/* Rows of a tensor, or of its gradient, between the devices that share the experts. */
static enum status check_rows(struct values *v, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = { v->cls, v->l, i };
    const struct plan_buffer *f[4];
    for (uint32_t k = 0; k < in->n_bases; k++) {
        const struct plan_base *b = &v->p->bases[in->first_base + k];
        f[k] = b->arena == ARENA_WORK ? &v->p->buffers[b->buffer] : NULL;
        if (!f[k] || (f[k]->role != SLOT_TENSOR && f[k]->role != SLOT_GRADIENT) || f[k]->what >= v->c->g->tensors.n ||
            f[k]->mb != in->mb || b->offset != f[k]->offset || (k < 2 && f[k]->what != in->tensor))
            return check_wrong(v->c, RULE_VALUE, at, "base %u is not a tensor of this microbatch", k);
    }
    const struct ir_shape s = check_rows_of(v->c, f[0]->what, check_own_tokens(v->c, v->cls));
    uint32_t type = s.dtype == IR_COMPUTE ? v->p->h->compute : s.dtype;
    uint64_t members = check_group_size(v->c, v->cls, v->p->channels[in->channel].group);
    bool even = in->op == PLAN_ALL_TO_ALL, rounds = in->op == PLAN_TO_EXPERTS || in->op == PLAN_FROM_EXPERTS;
    uint64_t count = even ? ir_shape_elements(&s) * v->microbatch_size / members : s.dim[s.ndim - 1];
    if (f[0]->role != f[1]->role || f[0]->what != f[1]->what || in->type != type || in->count != count)
        return check_wrong(v->c, RULE_VALUE, at,
                           "sends and receives different tensors, or not in blocks of %" PRIu64 " elements of %s",
                           count, ir_dtype_name((enum ir_dtype)type));
    if (!even && !rounds &&
        (f[2]->role != SLOT_TENSOR || f[3]->role != SLOT_TENSOR || f[2]->what != f[3]->what ||
         f[2]->bytes != f[3]->bytes || f[2]->bytes % (4 * members) ||
         v->c->g->tensors.at[f[2]->what].shape.dtype != IR_I32))
        return check_wrong(v->c, RULE_VALUE, at,
                           "bases 2 and 3 are not the counts of rows for each of %" PRIu64 " members", members);
    TRY(check_owners(v, i, in));
    struct held *from = &v->held[v->p->bases[in->first_base].buffer],
                *to = &v->held[v->p->bases[in->first_base + 1].buffer];
    to->sum = from->sum;
    to->away = members > 1 ? !from->away : from->away;
    to->everyone = 0;
    if (rounds && from->away != (in->op == PLAN_FROM_EXPERTS))
        return check_wrong(v->c, RULE_LAYOUT, at, "takes rows that lie %s",
                           from->away ? "where their experts are" : "at home");
    if (rounds)
        return rounds_exchange(v, i, in);
    if (!even && (v->held[v->p->bases[in->first_base + 2].buffer].away != from->away ||
                  v->held[v->p->bases[in->first_base + 3].buffer].away != to->away))
        return check_wrong(v->c, RULE_LAYOUT, at,
                           "bases 2 and 3 are not the counts of what is sent, then of what is received");
    return ST_OK;
}

/* Goes on until the end of the list, or until a gradient is received that nobody has sent yet: *waits, else PLAN_NONE. */
static enum status check_class(struct values *v, uint32_t *waits)
{
    const struct plan_instr *in = check_instrs(v->c, v->l, v->cls);
    *waits = PLAN_NONE;
    for (; v->at < check_n_instrs(v->c, v->l, v->cls); v->at++) {
        const uint32_t i = v->at;
        const uint32_t comm = v->l->comm_of[v->l->base[v->cls] + i];
        if (in[i].op == PLAN_RECV && !v->messages[comm].sent) {
            *waits = comm;
            return ST_OK;
        }
        TRY(ring_check_home(v, i, &in[i]));
        if (in[i].op == PLAN_RUN && in[i].count == 0)
            TRY(check_run_values(v, i, &in[i]));
        else if (in[i].op == PLAN_LOAD || in[i].op == PLAN_SEND || in[i].op == PLAN_RECV || in[i].op == PLAN_EXCHANGE)
            TRY(check_moved(v, i, &in[i]));
        else if (in[i].op == PLAN_ALL_TO_ALL && heads_travel(v, &in[i]))
            TRY(heads_exchange(v, i, &in[i]));
        else if (in[i].op == PLAN_ROUNDS)
            TRY(rounds_begin(v, i, &in[i]));
        else if (in[i].op == PLAN_ALL_TO_ALL || in[i].op == PLAN_ALL_TO_ALL_V || in[i].op == PLAN_TO_EXPERTS ||
                 in[i].op == PLAN_FROM_EXPERTS)
            TRY(check_rows(v, i, &in[i]));
        else if (in[i].op == PLAN_SHIFT)
            TRY(ring_shift(v, i, &in[i]));
        else if (rounds_counts(v, &in[i]) && plan_moves_tensor(v->p, &in[i]))
            TRY(rounds_gather(v, i, &in[i]));
        else if (check_is_collective(in[i].op) && plan_moves_tensor(v->p, &in[i]))
            TRY(values_border(v, i, &in[i]));
        if (in[i].op == PLAN_RUN)
            TRY(pieces_run(v, i, &in[i]));
    }
    return ST_OK;
}

static void begin(struct values *v)
{
    const uint64_t *count = v->p->h->count;
    v->microbatch_size = v->p->lists[v->l->index[v->cls]].microbatch_size;
    v->programs = mem_alloc(sizeof *v->programs * (size_t)count[PLAN_S_PROGRAMS]);
    v->held = mem_alloc(sizeof *v->held * (size_t)count[PLAN_S_BUFFERS]);
    v->verified = mem_alloc(sizeof *v->verified * (size_t)count[PLAN_S_SLOTS]);
    for (uint32_t i = 0; i < count[PLAN_S_BUFFERS]; i++)
        v->held[i].writer = PLAN_NONE;
    memset(v->verified, 0xff, sizeof *v->verified * (size_t)count[PLAN_S_SLOTS]);
}

static void end(struct values *v)
{
    for (uint32_t i = 0; i < v->p->h->count[PLAN_S_PROGRAMS]; i++) {
        vec_free(&v->programs[i].in);
        vec_free(&v->programs[i].out);
        vec_free(&v->programs[i].takes);
        vec_free(&v->programs[i].gives);
        gradients_release(&v->programs[i]);
    }
    mem_free(v->programs);
    mem_free(v->held);
    mem_free(v->verified);
    vec_free(&v->takes);
}

static uint32_t *find_experts(const struct ir_graph *g)
{
    uint32_t *experts = mem_alloc(sizeof *experts * ((size_t)g->tensors.n + 1));
    memset(experts, 0xff, sizeof *experts * (size_t)g->tensors.n);
    for (uint32_t o = 0; o < g->ops.n; o++)
        if (g->ops.at[o].op == IR_OP_EXPERTS)
            experts[g->ops.at[o].in[0]] = experts[g->ops.at[o].in[1]] = experts[g->ops.at[o].out[0]] = o;
    return experts;
}

/* All classes, each as far as it gets. One order extends the lists of all of them (run.c), so the class that waits for the message
 * that is earliest in it finds it sent: in each round some class goes on. */
enum status check_values(struct check *c, const struct check_list *l)
{
    enum status st = ST_OK;
    struct values *v = mem_alloc(sizeof *v * (size_t)c->n);
    struct message *messages = mem_alloc(sizeof *messages * ((size_t)l->comms.n + 1));
    uint32_t *waits = mem_alloc(sizeof *waits * (size_t)c->n), *experts = find_experts(c->g), done = 0;
    for (uint32_t cls = 0; cls < c->n; cls++) {
        v[cls] = (struct values){
            .c = c, .l = l, .p = c->classes[cls].p, .cls = cls, .messages = messages, .experts = experts
        };
        begin(&v[cls]);
        waits[cls] = l->comms.n; /* has not begun */
    }
    messages[l->comms.n].sent = true;
    while (done < c->n && st == ST_OK)
        for (uint32_t cls = 0; cls < c->n && st == ST_OK; cls++) {
            if (waits[cls] == PLAN_NONE || !messages[waits[cls]].sent)
                continue;
            st = check_class(&v[cls], &waits[cls]);
            done += waits[cls] == PLAN_NONE;
        }
    for (uint32_t cls = 0; cls < c->n; cls++)
        end(&v[cls]);
    mem_free(v);
    mem_free(messages);
    mem_free(waits);
    mem_free(experts);
    return st;
}
