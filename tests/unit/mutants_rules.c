/* Mutants for rules that no other mutant reaches: sh tests/mutants/refused.sh lists those that none does. See mutants.h. */
#include "mutants.h"

/* Every instruction waits for the one before it: so there is no race, and the rules behind that of races are asked. */
static void serialize(struct plan_builder *b)
{
    b->waits.n = 0;
    for (uint32_t l = 0; l < b->lists.n; l++)
        for (uint32_t i = 0; i < b->lists.at[l].n_instr; i++) {
            struct plan_instr *in = &b->instrs.at[b->lists.at[l].first_instr + i];
            in->first_wait = b->waits.n;
            in->n_waits = i > 0 && in[-1].stream != in->stream;
            if (in->n_waits)
                vec_add(&b->waits, i - 1);
        }
}
/* A copy of instruction i stands before number `before` of its list. */
static void copy_before(struct plan_builder *b, uint32_t i, uint32_t before)
{
    struct plan_edit e;
    const uint32_t list = mutant_list(b, i), first = b->lists.at[list].first_instr;
    plan_edit_begin(b, &e);
    struct plan_record x = e.lists[list].at[i - first];
    x.in.node += 1u << 30;
    x.id = PLAN_NONE;
    plan_edit_insert(&e.lists[list], before - first, x);
    plan_edit_end(&e);
    serialize(b);
}
/* Number nth of an operation; PLAN_NONE: there are not so many. */
static uint32_t nth_op(const struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == op && nth-- == 0)
            return i;
    return PLAN_NONE;
}
static struct plan_base *base(struct plan_builder *b, uint32_t i, uint32_t k)
{
    return &b->bases.at[b->instrs.at[i].first_base + k];
}
/* Does an instruction communicate, with all its members of this rank class? */
static bool is_collective(const struct plan_builder *b, uint32_t i)
{
    return b->instrs.at[i].channel != PLAN_NONE && b->instrs.at[i].op != PLAN_ROUNDS;
}

/* A buffer has memory that no other one has, so what was written last to it is there until the end. */
static void own_place(struct plan_builder *b, uint32_t buffer)
{
    struct plan_buffer *f = &b->buffers.at[buffer];
    const uint64_t was = f->offset;
    f->offset = round_up(b->h.arena_bytes[ARENA_WORK], ir_target_cpu.alignment);
    b->h.total_bytes += f->offset + f->bytes - b->h.arena_bytes[ARENA_WORK];
    b->h.arena_bytes[ARENA_WORK] = f->offset + f->bytes;
    for (uint32_t i = 0; i < b->bases.n; i++)
        if (b->bases.at[i].arena == ARENA_WORK && b->bases.at[i].buffer == buffer)
            b->bases.at[i].offset += f->offset - was;
}
/* Base k of instruction i is bound to another buffer. */
static void bind(struct plan_builder *b, uint32_t i, uint32_t k, uint32_t buffer)
{
    base(b, i, k)->buffer = buffer;
    base(b, i, k)->offset = b->buffers.at[buffer].offset;
}

/* ---- groups, buckets ---- */

/* Devices of the rank class that no set of the group has. */
EXAMPLE(a_group_leaves_members_out)
{
    for (uint32_t i = 0; i < b->groups.n; i++)
        if (b->groups.at[i].kind == PLAN_GROUP_EACH && b->groups.at[i].n_sets > 2 && nth-- == 0) {
            b->groups.at[i].n_sets--;
            return true;
        }
    return false;
}
/* One set of a group that had several. */
EXAMPLE(a_group_of_some_devices)
{
    for (uint32_t i = 0; i < b->groups.n; i++)
        if (b->groups.at[i].kind == PLAN_GROUP_EACH && b->groups.at[i].n_sets > 1 && nth-- == 0) {
            b->groups.at[i].n_sets = 1;
            return true;
        }
    return false;
}
EXAMPLE(an_empty_bucket)
{
    struct plan_bucket x = b->buckets.at[b->buckets.n - 1];
    x.first_piece = b->pieces.n;
    x.n_pieces = 0;
    x.elements = x.n_decay = 0;
    vec_add(&b->buckets, x);
    return nth == 0;
}
EXAMPLE(a_bucket_without_a_snapshot)
{
    if (nth + 1 >= b->buckets.n)
        return false;
    b->buckets.at[nth + 1].snapshot = UINT64_MAX;
    return true;
}
/* Buckets of whole parameters that have such a group: number nth. */
static bool held_by(struct plan_builder *b, uint32_t nth, uint32_t group)
{
    for (uint32_t i = 0; i < b->buckets.n; i++) {
        struct plan_bucket *u = &b->buckets.at[i];
        bool whole = true;
        for (uint32_t k = 0; k < u->n_pieces; k++)
            whole = whole && b->pieces.at[u->first_piece + k].split == 1;
        if (!whole || u->zero || nth-- > 0)
            continue;
        u->holders = group;
        for (uint32_t k = 0; k < b->buckets.n; k++) /* it may not have room for larger parts */
            b->buckets.at[k].snapshot = UINT64_MAX;
        for (uint32_t k = 0; k < u->n_pieces; k++)
            b->pieces.at[u->first_piece + k].owners = group;
        return true;
    }
    return false;
}
/* Their gradients would be added up in parts of the rank class. */
EXAMPLE(holders_are_parts_of_the_rank_class)
{
    for (uint32_t g = 0; g < b->groups.n; g++)
        if (b->groups.at[g].kind == PLAN_GROUP_EACH && b->groups.at[g].n_sets > 1)
            return held_by(b, nth, g);
    return false;
}
/* The rank class at the other end of messages; PLAN_NONE: there is no message. */
static uint32_t peers(const struct plan_builder *b)
{
    const uint32_t send = nth_op(b, PLAN_SEND, 0), i = send != PLAN_NONE ? send : nth_op(b, PLAN_RECV, 0);
    return i == PLAN_NONE ? PLAN_NONE : b->instrs.at[i].peer_set;
}
/* A group of them alone; PLAN_NONE. */
static uint32_t group_of_peers(struct plan_builder *b)
{
    const uint32_t set = peers(b);
    if (set == PLAN_NONE)
        return PLAN_NONE;
    vec_add(&b->groups, ((struct plan_group){ PLAN_GROUP_UNION, set, 1 }));
    return b->groups.n - 1;
}
EXAMPLE(holders_are_another_rank_class)
{
    const uint32_t group = group_of_peers(b);
    return group != PLAN_NONE && held_by(b, nth, group);
}
EXAMPLE(another_rank_class_shares_the_sequences)
{
    const uint32_t group = b->h.share && nth == 0 ? group_of_peers(b) : PLAN_NONE;
    if (group == PLAN_NONE || b->sets.at[b->groups.at[group].first_set].size != b->h.share)
        return false;
    b->h.share_group = group;
    return true;
}
/* Each rank of the class shards with one of another class. */
EXAMPLE(a_zero_group_over_two_rank_classes)
{
    const uint32_t other = peers(b), n = b->sets.at[b->h.devices].size;
    for (uint32_t i = 0; i < b->buckets.n && other != PLAN_NONE; i++) {
        if (b->buckets.at[i].zero_group != 2 || nth-- > 0)
            continue;
        for (uint32_t k = 0; k < n; k++) {
            const uint32_t sets[2] = { b->h.devices, other };
            vec_add(&b->sets, ((struct plan_set){ b->ranges.n, 2, 2 }));
            for (uint32_t s = 0; s < 2; s++) {
                const struct plan_range r = b->ranges.at[b->sets.at[sets[s]].first_range];
                vec_add(&b->ranges, ((struct plan_range){ r.start + k * r.stride, 0, 1 }));
            }
        }
        vec_add(&b->groups, ((struct plan_group){ PLAN_GROUP_EACH, b->sets.n - n, n }));
        b->buckets.at[i].shard = b->groups.n - 1;
        return true;
    }
    return false;
}
/* Two parameters of a bucket change their places. */
EXAMPLE(pieces_change_places)
{
    for (uint32_t i = 0; i < b->pieces.n; i++)
        for (uint32_t k = i + 1; k < b->pieces.n; k++) {
            struct plan_piece *x = &b->pieces.at[i], *y = &b->pieces.at[k];
            if (x->bucket != y->bucket || x->count != y->count ||
                (x->offset < b->buckets.at[x->bucket].n_decay) != (y->offset < b->buckets.at[x->bucket].n_decay) ||
                nth-- > 0)
                continue;
            const uint64_t offset = x->offset;
            x->offset = y->offset;
            y->offset = offset;
            return true;
        }
    return false;
}
/* A program is split over another group of as many devices. */
EXAMPLE(a_program_over_another_group)
{
    for (uint32_t i = 0; i < b->programs.n; i++)
        for (uint32_t g = 1; g < b->groups.n && b->programs.at[i].parts; g++) {
            const struct plan_group *x = &b->groups.at[g], *own = &b->groups.at[b->programs.at[i].parts];
            if (x == own || b->sets.at[x->first_set].size != b->sets.at[own->first_set].size ||
                b->sets.at[x->first_set].first_range == b->sets.at[own->first_set].first_range ||
                x->kind != own->kind || nth-- > 0)
                continue;
            b->programs.at[i].parts = g;
            return true;
        }
    return false;
}

/* ---- communication ---- */

/* float32 as int32, int32 as float32: as many bytes. */
EXAMPLE(communicates_another_type)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        struct plan_instr *in = &b->instrs.at[i];
        if ((is_collective(b, i) || in->op == PLAN_EXCHANGE) && (in->type == IR_F32 || in->type == IR_I32) &&
            nth-- == 0) {
            in->type = in->type == IR_F32 ? IR_I32 : IR_F32;
            return true;
        }
    }
    return false;
}
/* Two collectives of this rank class have the node number of each other. */
EXAMPLE(nodes_are_exchanged)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = i + 1; k < b->instrs.n; k++) {
            struct plan_instr *x = &b->instrs.at[i], *y = &b->instrs.at[k];
            if (c->out.n_classes < 2 || y->op != PLAN_SCALARS || x->op != PLAN_ALL_REDUCE ||
                mutant_list(b, i) != mutant_list(b, k) || nth-- > 0)
                continue;
            const uint32_t node = x->node;
            x->node = y->node;
            y->node = node;
            return true;
        }
    return false;
}
/* One bucket here, another one in the other rank classes. */
EXAMPLE(two_buckets_are_reduced_together)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = i + 1; k < b->instrs.n && b->instrs.at[i].op == PLAN_ALL_REDUCE; k++) {
            struct plan_instr *x = &b->instrs.at[i], *y = &b->instrs.at[k];
            const struct plan_group *g = &b->groups.at[b->channels.at[x->channel].group];
            if (y->op != x->op || y->channel != x->channel || y->count != x->count || x->what == y->what ||
                (g->n_sets == 1 && b->sets.at[g->first_set].size <= b->sets.at[b->h.devices].size) ||
                base(b, i, 0)->arena != ARENA_GRADS || nth-- > 0)
                continue;
            const struct plan_base was = *base(b, i, 0);
            const uint32_t bucket = x->bucket;
            *base(b, i, 0) = *base(b, k, 0);
            *base(b, k, 0) = was;
            x->bucket = y->bucket;
            y->bucket = bucket;
            serialize(b);
            return true;
        }
    return false;
}
/* What is received counts as a gradient, what is sent as a tensor. */
EXAMPLE(exchanges_two_kinds)
{
    const uint32_t i = nth_op(b, PLAN_EXCHANGE, nth);
    if (i == PLAN_NONE)
        return false;
    struct plan_buffer *to = &b->buffers.at[base(b, i, 1)->buffer];
    to->role = to->role == SLOT_TENSOR ? SLOT_GRADIENT : SLOT_TENSOR;
    return true;
}
/* Counts of what is sent, or of what is received, are those of another layer. */
EXAMPLE(counts_of_two_layers)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = 0; k < i && b->instrs.at[i].op == PLAN_ALL_TO_ALL_V; k++) {
            const struct plan_instr *x = &b->instrs.at[k], *in = &b->instrs.at[i];
            if (x->op != PLAN_ALL_TO_ALL_V || x->mb != in->mb || mutant_list(b, k) != mutant_list(b, i) ||
                b->buffers.at[base(b, k, 2)->buffer].what == b->buffers.at[base(b, i, 2)->buffer].what)
                continue;
            if (nth >= 2) {
                nth -= 2;
                continue;
            }
            const uint32_t counts = base(b, k, 2 + nth)->buffer;
            own_place(b, counts);
            bind(b, i, 2 + nth, counts);
            serialize(b);
            return true;
        }
    return false;
}
/* Rows that have come to their experts are sent once more, by an exchange of round 0 and its further rounds, as if they were at home. */
EXAMPLE(rows_are_sent_on)
{
    for (uint32_t x = 0; x < b->instrs.n; x++)
        for (uint32_t i = 0; i < x && b->instrs.at[x].op == PLAN_TO_EXPERTS && plan_is_extra(&b->instrs.at[x]); i++)
            for (uint32_t k = 0; k < i; k++) {
                const struct plan_instr *first = &b->instrs.at[k], *again = &b->instrs.at[i];
                if (first->op != PLAN_TO_EXPERTS || again->op != PLAN_TO_EXPERTS || plan_is_extra(first) ||
                    plan_is_extra(again) || first->what != again->what || first->mb != again->mb ||
                    base(b, i, 0)->buffer != base(b, x, 0)->buffer || mutant_list(b, k) != mutant_list(b, x) ||
                    nth-- > 0)
                    continue;
                const uint32_t came = base(b, k, 1)->buffer;
                own_place(b, came);
                bind(b, i, 0, came);
                bind(b, x, 0, came);
                serialize(b);
                return true;
            }
    return false;
}

/* ---- pieces, rings ---- */

EXAMPLE(a_piece_more)
{
    for (uint32_t i = 0; i < b->programs.n; i++)
        if (b->programs.at[i].phases && nth-- == 0) {
            b->programs.at[i].phases++;
            return true;
        }
    return false;
}
/* The second piece once more, behind the last one. */
EXAMPLE(a_piece_comes_again)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        if (in->op != PLAN_RUN || in->count != 1 || nth-- > 0)
            continue;
        uint32_t last = i;
        for (uint32_t k = i; k < b->instrs.n && mutant_list(b, k) == mutant_list(b, i); k++)
            if (b->instrs.at[k].op == PLAN_RUN && b->instrs.at[k].program == in->program &&
                b->instrs.at[k].mb == in->mb)
                last = k;
        copy_before(b, i, last + 1);
        return true;
    }
    return false;
}
/* Numbers are gathered before the piece that makes them has begun. */
EXAMPLE(numbers_come_early)
{
    for (uint32_t i = 1; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == PLAN_ALL_GATHER && base(b, i, 0)->arena == ARENA_WORK &&
            base(b, i, 0)->access & PLAN_OWN && b->instrs.at[i - 1].op == PLAN_RUN && nth-- == 0) {
            copy_before(b, i, i + 2 < b->instrs.n ? i + 2 : i);
            return true;
        }
    return false;
}
/* A later piece of a ring takes keys of another microbatch. */
EXAMPLE(a_ring_of_another_microbatch)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = 0; b->instrs.at[i].op == PLAN_RUN && b->instrs.at[i].count && k < b->instrs.at[i].n_bases;
             k++) {
            struct plan_base *x = base(b, i, k);
            for (uint32_t f = 0; x->arena == ARENA_WORK && f < b->buffers.n; f++) {
                const struct plan_buffer *own = &b->buffers.at[x->buffer], *other = &b->buffers.at[f];
                if (other->mb == own->mb || other->list != own->list || other->role != own->role ||
                    own->role != SLOT_TENSOR || other->what != own->what || other->bytes != own->bytes || nth-- > 0)
                    continue;
                x->buffer = f;
                x->offset = other->offset;
                serialize(b);
                return true;
            }
        }
    return false;
}
/* Keys that have travelled are read as this member's own, long after. */
EXAMPLE(keys_of_another_member_are_read)
{
    for (uint32_t s = 0; s < b->instrs.n; s++)
        for (uint32_t i = s + 1; b->instrs.at[s].op == PLAN_SHIFT && i < b->instrs.n; i++)
            for (uint32_t k = 0;
                 b->instrs.at[i].op == PLAN_RUN && !b->instrs.at[i].count && k < b->instrs.at[i].n_bases; k++) {
                const struct plan_buffer *to = &b->buffers.at[base(b, s, 1)->buffer],
                                         *own = &b->buffers.at[base(b, i, k)->buffer];
                if (base(b, i, k)->arena != ARENA_WORK || to->role != SLOT_TENSOR || own->role != to->role ||
                    own->what != to->what || own->mb != to->mb || own->list != to->list || own->bytes != to->bytes ||
                    own == to || nth-- > 0)
                    continue;
                own_place(b, base(b, s, 1)->buffer);
                bind(b, i, k, base(b, s, 1)->buffer);
                serialize(b);
                return true;
            }
    return false;
}
/* They are sent otherwise than by a shift. */
EXAMPLE(keys_of_another_member_are_sent)
{
    for (uint32_t s = 0; s < b->instrs.n; s++)
        for (uint32_t i = s + 1; b->instrs.at[s].op == PLAN_SHIFT && i < b->instrs.n; i++) {
            const struct plan_instr *in = &b->instrs.at[i];
            const uint32_t to = base(b, s, 1)->buffer;
            if (!is_collective(b, i) || in->op == PLAN_SHIFT || mutant_list(b, i) != mutant_list(b, s) ||
                !in->n_bases || base(b, i, 0)->arena != ARENA_WORK || !(base(b, i, 0)->access & PLAN_READ) ||
                b->buffers.at[to].bytes < b->buffers.at[base(b, i, 0)->buffer].bytes || nth-- > 0)
                continue;
            own_place(b, to);
            bind(b, i, 0, to);
            serialize(b);
            return true;
        }
    return false;
}
/* Gradients are shifted to the last piece before the piece in between has added to them. */
EXAMPLE(gradients_travel_before_their_piece)
{
    for (uint32_t s = 1; s < b->instrs.n; s++) {
        uint32_t i = s - 1;
        if (b->instrs.at[s].op != PLAN_SHIFT || b->buffers.at[base(b, s, 0)->buffer].role != SLOT_RING)
            continue;
        while (b->instrs.at[i].op == PLAN_SHIFT)
            i--;
        if (b->instrs.at[i].op != PLAN_RUN || !b->instrs.at[i].count || nth-- > 0)
            continue;
        mutant_move(b, s, i);
        serialize(b);
        return true;
    }
    return false;
}
/* Keys come a second time, over what a later piece goes on with. */
EXAMPLE(keys_come_over_what_a_piece_left)
{
    for (uint32_t s = 0; s < b->instrs.n; s++) {
        uint32_t i = s;
        while (b->instrs.at[s].op == PLAN_SHIFT && b->instrs.at[i].op == PLAN_SHIFT)
            i++;
        for (uint32_t k = 0; i > s && k < b->instrs.at[i].n_bases; k++) {
            const struct plan_base *x = base(b, i, k);
            const struct plan_buffer *left = &b->buffers.at[x->buffer];
            struct plan_buffer again = b->buffers.at[base(b, s, 1)->buffer];
            if (x->arena != ARENA_WORK || !(x->access & PLAN_WRITE) || left->role == SLOT_RING ||
                left->bytes < again.bytes || nth-- > 0)
                continue;
            again.offset = left->offset;
            vec_add(&b->buffers, again);
            copy_before(b, s, s + 1);
            bind(b, s + 1, 1, b->buffers.n - 1);
            return true;
        }
    }
    return false;
}
/* Of the two halves of a gradient the second one is summed first. */
EXAMPLE(halves_in_another_order)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = i + 1; k < b->instrs.n && b->h.zigzag && b->instrs.at[i].op == PLAN_REDUCE_SCATTER; k++)
            if (b->instrs.at[k].op == PLAN_REDUCE_SCATTER && base(b, i, 0)->arena == ARENA_WORK &&
                base(b, i, 0)->buffer == base(b, k, 0)->buffer && nth-- == 0) {
                mutant_move(b, k, i);
                serialize(b);
                return true;
            }
    return false;
}

/* ---- reductions and updates ---- */

/* What is frozen counts in the norm, or is updated. */
EXAMPLE(a_frozen_bucket_is_updated)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = 0; k < b->buckets.n; k++)
            if ((b->instrs.at[i].op == PLAN_SUMSQ || b->instrs.at[i].op == PLAN_UPDATE) &&
                b->buckets.at[k].rule == PLAN_RULE_FROZEN && nth-- == 0) {
                b->instrs.at[i].bucket = k;
                return true;
            }
    return false;
}
EXAMPLE(a_backward_of_frozen_weights)
{
    for (uint32_t i = 0; i < b->kernels.n; i++) {
        struct plan_kernel *k = &b->kernels.at[i];
        const uint32_t param = k->graph_op == PLAN_NONE ? IR_NONE : c->g.ops.at[k->graph_op].param[0];
        if (param != IR_NONE && c->g.params.at[param].frozen && k->pass == IR_PASS_BI && nth-- == 0) {
            k->pass = IR_PASS_BW;
            return true;
        }
    }
    return false;
}
/* BW takes a gradient that BI left, from another place of its frame. */
EXAMPLE(a_gradient_of_a_frame_elsewhere)
{
    for (uint32_t g = 0; g < b->programs.n; g++)
        for (uint32_t i = 0; i < b->programs.at[g].n_kernels && b->programs.at[g].pass == IR_PASS_BW; i++) {
            const struct plan_kernel *k = &b->kernels.at[b->programs.at[g].first_kernel + i];
            struct plan_operand *o = mutant_operand(b, k, OPERAND_DOUT);
            if (!o || b->slots.at[b->programs.at[g].first_slot + o->slot].kind != SLOT_STASH)
                continue;
            if (nth >= 3) {
                nth -= 3;
                continue;
            }
            o->offset = nth == 0                ? o->offset + ir_target_cpu.alignment
                        : nth == 1 && o->offset ? o->offset - ir_target_cpu.alignment
                                                : o->offset + 2 * ir_target_cpu.alignment;
            return true;
        }
    return false;
}
EXAMPLE(parameters_are_written)
{
    for (uint32_t i = 0; i < b->programs.n; i++)
        for (uint32_t k = 0; k < b->programs.at[i].n_slots; k++) {
            struct plan_slot *s = &b->slots.at[b->programs.at[i].first_slot + k];
            if (s->kind != SLOT_PARAM || nth-- > 0)
                continue;
            s->access |= PLAN_WRITE;
            for (uint32_t x = 0; x < b->instrs.n; x++)
                if (b->instrs.at[x].op == PLAN_RUN && b->instrs.at[x].program == i)
                    base(b, x, k)->access |= PLAN_WRITE;
            serialize(b);
            return true;
        }
    return false;
}
/* A pass of the first microbatch comes again, behind the updates. */
EXAMPLE(parameters_are_used_after_the_updates)
{
    for (uint32_t i = 0; i < b->lists.at[0].n_instr; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        bool uses = false;
        for (uint32_t k = 0; k < in->n_bases && in->op == PLAN_RUN; k++)
            uses = uses || b->slots.at[b->programs.at[in->program].first_slot + k].kind == SLOT_PARAM;
        if (!uses || in->mb || in->pass != IR_PASS_F || nth-- > 0)
            continue;
        for (uint32_t k = 0; k < in->n_bases; k++)
            if (base(b, i, k)->arena == ARENA_WORK)
                own_place(b, base(b, i, k)->buffer);
        copy_before(b, i, b->lists.at[0].n_instr);
        return true;
    }
    return false;
}
/* An evaluation updates: what has gradients, or what has none. */
EXAMPLE(an_evaluation_updates)
{
    struct plan_edit e;
    const uint32_t i = nth_op(b, PLAN_UPDATE, 0), last = nth < b->buckets.n ? b->lists.at[1].n_instr : PLAN_NONE;
    if (last == PLAN_NONE || i == PLAN_NONE)
        return false;
    plan_edit_begin(b, &e);
    struct plan_record x = e.lists[0].at[i];
    x.in.node += 1u << 30;
    x.in.bucket = nth;
    x.n_waits = 0;
    plan_edit_insert(&e.lists[1], last, x);
    plan_edit_end(&e);
    return true;
}
/* The last shares of the norm are added behind its reduction. */
EXAMPLE(norm_behind_its_reduction)
{
    const uint32_t scalars = nth_op(b, PLAN_SCALARS, 0), i = nth_op(b, PLAN_SUMSQ, nth);
    if (scalars == PLAN_NONE || i == PLAN_NONE)
        return false;
    mutant_move(b, scalars, i);
    serialize(b);
    return true;
}
EXAMPLE(rounds_behind_the_reduction_of_scalars)
{
    const uint32_t scalars = nth_op(b, PLAN_SCALARS, 0);
    uint32_t last = PLAN_NONE;
    for (uint32_t i = 0; scalars != PLAN_NONE && i < scalars; i++)
        if (b->instrs.at[i].op == PLAN_ROUNDS)
            last = i;
    if (last == PLAN_NONE || nth > 0)
        return false;
    mutant_move(b, scalars, last);
    serialize(b);
    return true;
}
/* Each communication of a bucket once more: at once, or behind the updates. */
EXAMPLE(a_collective_of_a_bucket_again)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_base *x = is_collective(b, i) && b->instrs.at[i].n_bases ? base(b, i, 0) : NULL;
        const bool in_place = x && (x->arena == ARENA_GRADS ||
                                    (x->arena == ARENA_PARAMS && base(b, i, 1)->arena == ARENA_PARAMS));
        if (!in_place || mutant_list(b, i) > 0)
            continue;
        if (nth >= 2) {
            nth -= 2;
            continue;
        }
        copy_before(b, i, nth ? b->lists.at[0].first_instr + b->lists.at[0].n_instr : i + 1);
        return true;
    }
    return false;
}
/* Copies sum their shard as if each updated a part of it. */
EXAMPLE(copies_are_scattered)
{
    struct plan_edit e;
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        const struct plan_bucket *u = in->op == PLAN_ALL_REDUCE ? &b->buckets.at[in->bucket] : NULL;
        if (!u || !u->zero_group || u->state_all || nth-- > 0)
            continue;
        const uint32_t copies = b->sets.at[b->groups.at[u->copies].first_set].size;
        struct plan_base bases[2] = { *base(b, i, 0), *base(b, i, 0) };
        bases[0].access &= ~PLAN_WRITE & UINT16_MAX;
        bases[1].access = (uint16_t)((bases[1].access & ~PLAN_READ) | PLAN_PART);
        plan_edit_begin(b, &e);
        struct plan_record *x = &e.lists[0].at[i];
        x->in.op = PLAN_REDUCE_SCATTER;
        x->in.count /= copies;
        x->in.n_bases = 2;
        x->bases = bases;
        plan_edit_end(&e);
        serialize(b);
        return true;
    }
    return false;
}
/* Into the memory of another bucket with as many elements. */
EXAMPLE(reduced_into_another_bucket)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        struct plan_base *to = b->instrs.at[i].op == PLAN_REDUCE_SCATTER ? base(b, i, 1) : NULL;
        for (uint32_t k = 0; to && to->arena == ARENA_GRADS && k < b->buckets.n; k++) {
            const struct plan_bucket *own = &b->buckets.at[to->buffer], *other = &b->buckets.at[k];
            if (k == to->buffer || other->elements != own->elements || other->holders != own->holders || nth-- > 0)
                continue;
            to->offset += other->grad - own->grad;
            to->buffer = k;
            serialize(b);
            return true;
        }
    }
    return false;
}
/* Of two microbatches into one buffer. */
EXAMPLE(reduced_into_a_buffer_twice)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = i + 1; k < b->instrs.n && b->instrs.at[i].op == PLAN_REDUCE_SCATTER; k++) {
            struct plan_base *x = base(b, i, 1), *y = base(b, k, 1);
            if (b->instrs.at[k].op != PLAN_REDUCE_SCATTER || x->arena != ARENA_WORK || y->arena != ARENA_WORK ||
                b->buffers.at[x->buffer].role != SLOT_GRAD || x->buffer == y->buffer ||
                b->buffers.at[x->buffer].what != b->buffers.at[y->buffer].what || nth-- > 0)
                continue;
            const uint32_t was = y->buffer;
            for (uint32_t n = 0; n < b->bases.n; n++)
                if (b->bases.at[n].arena == ARENA_WORK && b->bases.at[n].buffer == was) {
                    b->bases.at[n].buffer = x->buffer;
                    b->bases.at[n].offset = x->offset;
                }
            serialize(b);
            return true;
        }
    return false;
}

const struct mutant mutants_of_rules[] = {
    MUTANT(a_group_leaves_members_out, "channel", 8),
    MUTANT(a_group_of_some_devices, "channel", 20),
    MUTANT(an_empty_bucket, "shards", 40),
    MUTANT(a_bucket_without_a_snapshot, "shards", 200),
    MUTANT(holders_are_parts_of_the_rank_class, "holders", 20),
    MUTANT(holders_are_another_rank_class, "holders", 40),
    MUTANT(another_rank_class_shares_the_sequences, "binding", 2),
    MUTANT(a_zero_group_over_two_rank_classes, "holders", 4),
    MUTANT(pieces_change_places, "shards", 100),
    MUTANT(a_program_over_another_group, "binding", 20),
    MUTANT(communicates_another_type, "layout", 400),
    MUTANT(nodes_are_exchanged, "match", 2),
    MUTANT(two_buckets_are_reduced_together, "reduce", 4),
    MUTANT(exchanges_two_kinds, "value", 4),
    MUTANT(counts_of_two_layers, "value", 40),
    MUTANT(rows_are_sent_on, "layout", 2),
    MUTANT(a_piece_more, "program", 20),
    MUTANT(a_piece_comes_again, "value", 8),
    MUTANT(numbers_come_early, "value", 8),
    MUTANT(a_ring_of_another_microbatch, "value", 8),
    MUTANT(keys_of_another_member_are_read, "layout", 8),
    MUTANT(keys_come_over_what_a_piece_left, "value", 100),
    MUTANT(keys_of_another_member_are_sent, "layout", 8),
    MUTANT(gradients_travel_before_their_piece, "value", 8),
    MUTANT(halves_in_another_order, "gradient", 8),
    MUTANT(a_frozen_bucket_is_updated, "update", 8),
    MUTANT(a_backward_of_frozen_weights, "program", 8),
    MUTANT(a_gradient_of_a_frame_elsewhere, "value", 40),
    MUTANT(parameters_are_written, "update", 200),
    MUTANT(parameters_are_used_after_the_updates, "update", 100),
    MUTANT(an_evaluation_updates, "update", 200),
    MUTANT(norm_behind_its_reduction, "scalars", 100),
    MUTANT(rounds_behind_the_reduction_of_scalars, "scalars", 4),
    MUTANT(a_collective_of_a_bucket_again, "reduce", 100),
    MUTANT(copies_are_scattered, "reduce", 8),
    MUTANT(reduced_into_another_bucket, "reduce", 4),
    MUTANT(reduced_into_a_buffer_twice, "reduce", 4),
    { 0 },
};
