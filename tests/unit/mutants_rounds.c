/* Mutants of rounds of experts (PLAN_ROUNDS): see mutants.h. */
#include "mutants.h"

/* Number nth of what a ROUNDS repeats, of this operation; PLAN_OP_COUNT: of any. PLAN_NONE: there are not so many. */
static uint32_t nth_extra(const struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (plan_is_extra(&b->instrs.at[i]) && (op == PLAN_OP_COUNT || b->instrs.at[i].op == op) && nth-- == 0)
            return i;
    return PLAN_NONE;
}
static uint32_t nth_rounds(const struct plan_builder *b, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == PLAN_ROUNDS && nth-- == 0)
            return i;
    return PLAN_NONE;
}
/* What repeats instruction i. */
static uint32_t rounds_of(const struct plan_builder *b, uint32_t i)
{
    while (b->instrs.at[i].op != PLAN_ROUNDS)
        i--;
    return i;
}
static struct plan_base *base(struct plan_builder *b, uint32_t i, uint32_t k)
{
    return &b->bases.at[b->instrs.at[i].first_base + k];
}
static void bind(const struct plan_builder *b, struct plan_base *x, uint32_t buffer)
{
    x->buffer = buffer;
    x->offset = b->buffers.at[buffer].offset;
}
/* Another buffer for the same thing, of the same microbatch or of another one; PLAN_NONE: there is none. */
static uint32_t alike(const struct plan_builder *b, uint32_t buffer, bool same_microbatch)
{
    const struct plan_buffer *f = &b->buffers.at[buffer];
    for (uint32_t i = 0; i < b->buffers.n; i++) {
        const struct plan_buffer *g = &b->buffers.at[i];
        if (i != buffer && g->list == f->list && g->role == f->role && g->what == f->what && g->bytes == f->bytes &&
            (g->mb == f->mb) == same_microbatch)
            return i;
    }
    return PLAN_NONE;
}
/* Base k of instruction i is bound to another buffer like its own. */
static bool bind_alike(struct plan_builder *b, uint32_t i, uint32_t k, bool same_microbatch)
{
    const uint32_t other = i == PLAN_NONE ? PLAN_NONE : alike(b, base(b, i, k)->buffer, same_microbatch);
    if (other == PLAN_NONE)
        return false;
    bind(b, base(b, i, k), other);
    return true;
}

EXAMPLE(rows_by_counts_of_another_microbatch)
{
    const uint32_t to = nth_extra(b, PLAN_TO_EXPERTS, nth / 2), from = nth_extra(b, PLAN_FROM_EXPERTS, nth / 2);
    return bind_alike(b, nth % 2 ? from : to, 2, false);
}
EXAMPLE(rounds_by_counts_of_another_microbatch)
{
    return bind_alike(b, nth_rounds(b, nth), 0, false);
}
EXAMPLE(counts_of_a_round_elsewhere)
{
    return bind_alike(b, nth_rounds(b, nth), 1, true);
}
/* A row more: so its exchange takes other rows than those of the round. */
EXAMPLE(room_for_more_rows)
{
    const uint32_t to = nth_extra(b, PLAN_TO_EXPERTS, nth / 2), from = nth_extra(b, PLAN_FROM_EXPERTS, nth / 2);
    const uint32_t i = nth % 2 ? from : to;
    if (i == PLAN_NONE)
        return false;
    b->buffers.at[base(b, i, nth % 2 == 0)->buffer].bytes += b->instrs.at[i].count * sizeof(float);
    return true;
}
EXAMPLE(more_is_repeated)
{
    const uint32_t i = nth_rounds(b, nth);
    if (i == PLAN_NONE)
        return false;
    b->instrs.at[i + 1 + b->instrs.at[i].count++].tag = 1;
    return true;
}
EXAMPLE(less_is_repeated)
{
    const uint32_t i = nth_rounds(b, nth);
    if (i == PLAN_NONE)
        return false;
    b->instrs.at[i + b->instrs.at[i].count--].tag = 0;
    return true;
}
EXAMPLE(a_part_of_a_round_is_left_out)
{
    const uint32_t i = nth_extra(b, PLAN_OP_COUNT, nth);
    if (i != PLAN_NONE)
        b->instrs.at[rounds_of(b, i)].count--;
    return mutant_drop(b, i);
}
EXAMPLE(a_part_of_another_microbatch)
{
    const uint32_t i = nth_extra(b, PLAN_OP_COUNT, nth);
    if (i == PLAN_NONE)
        return false;
    b->instrs.at[i].mb ^= 1;
    return true;
}
/* The last round would stand there alone. */
EXAMPLE(each_round_begins_a_gradient)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = 0; k < b->instrs.at[i].n_bases && b->instrs.at[i].op == PLAN_RUN; k++) {
            const struct plan_program *g = &b->programs.at[b->instrs.at[i].program];
            if (plan_is_extra(&b->instrs.at[i]) && b->slots.at[g->first_slot + k].kind == SLOT_GRAD && nth-- == 0) {
                base(b, i, k)->first = 1;
                return true;
            }
        }
    return false;
}
/* A gradient that rounds are the first to add to, and nothing where there are none. */
EXAMPLE(a_gradient_is_not_zeroed)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        for (uint32_t k = 2; k < b->instrs.at[i].n_bases && b->instrs.at[i].op == PLAN_ROUNDS; k++)
            if (nth-- == 0) {
                base(b, i, k)->first = 0;
                return true;
            }
    return false;
}
/* The first RUN of the ROUNDS of a forward, number nth, and the RUN of round 0. */
static bool nth_forward(const struct plan_builder *b, uint32_t nth, uint32_t *extra, uint32_t *run)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == PLAN_ROUNDS && b->instrs.at[i].pass == IR_PASS_F && nth-- == 0) {
            for (*extra = i; b->instrs.at[*extra].op != PLAN_RUN; ++*extra)
                continue;
            for (*run = *extra; b->instrs.at[*run].program != b->instrs.at[*extra].program ||
                                b->instrs.at[*run].op != PLAN_RUN || plan_is_extra(&b->instrs.at[*run]);
                 ++*run)
                continue;
            return true;
        }
    return false;
}
/* Its first base: the rows. */
EXAMPLE(rows_of_the_other_rounds)
{
    uint32_t extra, run;
    if (!nth_forward(b, nth / 2, &extra, &run))
        return false;
    if (nth % 2)
        *base(b, run, 0) = *base(b, extra, 0);
    else
        *base(b, extra, 0) = *base(b, run, 0);
    return true;
}
/* What is sent is read by each round, and nobody needs it behind the last. */
EXAMPLE(rows_of_a_round_lie_where_what_is_sent_does)
{
    const uint32_t i = nth_extra(b, PLAN_TO_EXPERTS, nth);
    if (i == PLAN_NONE)
        return false;
    const struct plan_buffer *sent = &b->buffers.at[base(b, i, 0)->buffer];
    const uint32_t rows = base(b, i, 1)->buffer;
    for (uint32_t k = 0; k < b->bases.n; k++)
        if (b->bases.at[k].arena == ARENA_WORK && b->bases.at[k].buffer == rows)
            b->bases.at[k].offset += sent->offset - b->buffers.at[rows].offset;
    b->buffers.at[rows].offset = sent->offset;
    return true;
}
/* Those of round 0 are there last. */
EXAMPLE(results_are_there_before_the_rounds)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        if (in->op != PLAN_FROM_EXPERTS || plan_is_extra(in) || nth-- > 0)
            continue;
        for (uint32_t k = 0; k < i; k++)
            if (b->instrs.at[k].op == PLAN_FROM_EXPERTS && base(b, k, 1)->buffer == base(b, i, 1)->buffer) {
                mutant_move(b, i, rounds_of(b, k));
                return true;
            }
    }
    return false;
}

/* ---- what is repeated ---- */

static bool has_pass(const struct plan_builder *b, uint32_t i, uint32_t pass)
{
    const struct plan_program *g = &b->programs.at[b->instrs.at[i].program];
    for (uint32_t k = g->first_kernel; k < g->first_kernel + g->n_kernels; k++)
        if (b->kernels.at[k].graph_op != PLAN_NONE && b->kernels.at[k].pass == pass)
            return true;
    return false;
}
/* A copy of RUN number i is the last that ROUNDS number begin repeats, and adds to its gradients. */
static void repeat_too(struct plan_builder *b, uint32_t begin, uint32_t i)
{
    struct plan_edit e;
    const uint32_t list = mutant_list(b, i), first = b->lists.at[list].first_instr;
    plan_edit_begin(b, &e);
    struct plan_record x = e.lists[list].at[i - first];
    struct plan_base *bases = mem_alloc((x.in.n_bases + 1) * sizeof *bases);
    memcpy(bases, x.bases, x.in.n_bases * sizeof *bases);
    for (uint32_t k = 0; k < x.in.n_bases; k++)
        bases[k].first = 0;
    x.bases = bases;
    x.in.tag = 1;
    plan_edit_insert(&e.lists[list], begin - first + 1 + (uint32_t)b->instrs.at[begin].count, x);
    e.lists[list].at[begin - first].in.count++;
    plan_edit_end(&e);
    mem_free(bases);
}
/* Does a program add to the step's scalars? */
static bool has_scalars(const struct plan_builder *b, const struct plan_program *g)
{
    for (uint32_t k = g->first_kernel; k < g->first_kernel + g->n_kernels; k++) {
        const struct plan_kernel *x = &b->kernels.at[k];
        if ((x->op == IR_OP_HEAD_LOSS || x->op == IR_OP_ROUTER) && x->pass == IR_PASS_F && !x->again)
            return true;
    }
    return false;
}
/* In each ROUNDS every RUN of another operator, of its list and microbatch, with BW or with scalars. */
static bool repeat_another(struct plan_builder *b, uint32_t nth, bool scalars)
{
    for (uint32_t begin = 0; begin < b->instrs.n; begin++)
        for (uint32_t i = 0; i < b->instrs.n && b->instrs.at[begin].op == PLAN_ROUNDS; i++) {
            const struct plan_instr *in = &b->instrs.at[i];
            const struct plan_program *g = in->op == PLAN_RUN ? &b->programs.at[in->program] : NULL;
            if (g && in->mb == b->instrs.at[begin].mb && mutant_list(b, i) == mutant_list(b, begin) && g->n_kernels &&
                b->kernels.at[g->first_kernel].op != IR_OP_EXPERTS &&
                (scalars ? has_scalars(b, g) : has_pass(b, i, IR_PASS_BW)) && nth-- == 0) {
                repeat_too(b, begin, i);
                return true;
            }
        }
    return false;
}
EXAMPLE(a_gradient_of_another_operator_is_repeated)
{
    return repeat_another(b, nth, false);
}
EXAMPLE(a_loss_is_repeated)
{
    return repeat_another(b, nth, true);
}
/* A gradient is added to twice in each further round. */
EXAMPLE(a_pass_of_a_round_comes_twice)
{
    for (uint32_t i = 0; i < b->instrs.n; i++)
        if (b->instrs.at[i].op == PLAN_RUN && plan_is_extra(&b->instrs.at[i]) && has_pass(b, i, IR_PASS_BW) &&
            nth-- == 0) {
            b->instrs.at[rounds_of(b, i)].count++;
            return mutant_repeat(b, i);
        }
    return false;
}
/* All further rounds once more: gradients twice, or the rounds counted twice. */
EXAMPLE(rounds_come_twice)
{
    struct plan_edit e;
    const uint32_t begin = nth_rounds(b, nth);
    if (begin == PLAN_NONE)
        return false;
    const uint32_t list = mutant_list(b, begin), at = begin - b->lists.at[list].first_instr,
                   n = 1 + (uint32_t)b->instrs.at[begin].count;
    plan_edit_begin(b, &e);
    for (uint32_t k = 0; k < n; k++) {
        struct plan_record x = e.lists[list].at[at + k];
        x.in.node += 1u << 30;
        x.in.n_bases = x.in.op == PLAN_ROUNDS ? 2 : x.in.n_bases; /* nothing is zeroed any more */
        plan_edit_insert(&e.lists[list], at + n + k, x);
    }
    plan_edit_end(&e);
    return true;
}
EXAMPLE(rounds_of_the_other_direction)
{
    const uint32_t i = nth_rounds(b, nth);
    if (i == PLAN_NONE)
        return false;
    b->instrs.at[i].pass = b->instrs.at[i].pass == IR_PASS_F ? IR_PASS_B : IR_PASS_F;
    return true;
}
/* Beside those that are there, rounds that do nothing but exchange, or nothing but a dispatch. */
EXAMPLE(rounds_without_a_pass)
{
    struct plan_edit e;
    const uint32_t begin = nth_rounds(b, nth);
    if (begin == PLAN_NONE)
        return false;
    const uint32_t list = mutant_list(b, begin), at = begin - b->lists.at[list].first_instr;
    plan_edit_begin(b, &e);
    struct plan_record x[2] = { e.lists[list].at[at], e.lists[list].at[at + 1] };
    x[0].in.n_bases = 2;
    x[0].in.count = 1;
    for (uint32_t k = 2; k-- > 0;) {
        x[k].in.node += 1u << 30;
        x[k].id = PLAN_NONE;
        plan_edit_insert(&e.lists[list], at, x[k]);
    }
    plan_edit_end(&e);
    return true;
}
/* The stream and the communicator of the same exchange of round 0. */
EXAMPLE(a_round_is_exchanged_on_another_stream)
{
    const uint32_t i = nth_extra(b, nth % 2 ? PLAN_TO_EXPERTS : PLAN_FROM_EXPERTS, nth / 2);
    if (i == PLAN_NONE)
        return false;
    for (uint32_t k = 0; k < b->instrs.n; k++)
        if (b->instrs.at[k].op == b->instrs.at[i].op && !plan_is_extra(&b->instrs.at[k])) {
            b->instrs.at[i].stream = b->instrs.at[k].stream;
            b->instrs.at[i].channel = b->instrs.at[k].channel;
            return true;
        }
    return false;
}
/* Results that round 0 has made, or another round. */
EXAMPLE(other_results_are_sent)
{
    return bind_alike(b, nth_extra(b, PLAN_FROM_EXPERTS, nth), 0, true);
}
/* Round 0 has room for a row more than the others. */
EXAMPLE(room_for_more_rows_in_round_0)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        if ((in->op != PLAN_TO_EXPERTS && in->op != PLAN_FROM_EXPERTS) || plan_is_extra(in) || nth-- > 0)
            continue;
        b->buffers.at[base(b, i, in->op == PLAN_TO_EXPERTS)->buffer].bytes += in->count * sizeof(float);
        return true;
    }
    return false;
}

/* ---- counts ---- */

/* The gather number nth of counts that a ROUNDS takes. */
static uint32_t nth_gather(struct plan_builder *b, uint32_t nth)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        bool taken = false;
        for (uint32_t k = i; k < b->instrs.n && !taken && b->instrs.at[i].op == PLAN_ALL_GATHER; k++)
            taken = b->instrs.at[k].op == PLAN_ROUNDS && base(b, k, 0)->buffer == base(b, i, 1)->buffer;
        if (taken && nth-- == 0)
            return i;
    }
    return PLAN_NONE;
}
/* Whoever takes counts of all from a buffer takes them from another one. rounds, round_0: in a ROUNDS and what it repeats; elsewhere. */
static void take_counts(struct plan_builder *b, uint32_t from, uint32_t to, bool rounds, bool round_0)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        const bool begins = in->op == PLAN_ROUNDS, exchange = in->op == PLAN_TO_EXPERTS || in->op == PLAN_FROM_EXPERTS;
        struct plan_base *x = base(b, i, begins ? 0 : 2);
        if ((begins || exchange) && x->buffer == from && (begins || plan_is_extra(in) ? rounds : round_0))
            bind(b, x, to);
    }
}
/* nth % 3: everywhere, in round 0, in the others. */
EXAMPLE(counts_of_another_layer)
{
    const uint32_t i = nth_gather(b, nth / 3);
    if (i == PLAN_NONE)
        return false;
    const uint32_t all = base(b, i, 1)->buffer;
    for (uint32_t n = 0, k; (k = nth_gather(b, n)) < i; n++)
        if (b->instrs.at[k].mb == b->instrs.at[i].mb && mutant_list(b, k) == mutant_list(b, i)) {
            take_counts(b, all, base(b, k, 1)->buffer, nth % 3 != 1, nth % 3 != 2);
            return true;
        }
    take_counts(b, all, base(b, nth_rounds(b, 0), 1)->buffer, true, true); /* the first layer: something else */
    return true;
}
/* Those that this member sends, as if they were those of all. */
EXAMPLE(counts_of_one_member)
{
    const uint32_t i = nth_gather(b, nth);
    if (i == PLAN_NONE)
        return false;
    take_counts(b, base(b, i, 1)->buffer, base(b, i, 0)->buffer, true, true);
    return true;
}
/* Counts that came to this member are gathered again, for the rounds of the backward. */
EXAMPLE(counts_of_a_round_are_gathered)
{
    struct plan_edit e;
    const uint32_t begin = nth_rounds(b, nth);
    if (begin == PLAN_NONE)
        return false;
    const uint32_t list = mutant_list(b, begin), first = b->lists.at[list].first_instr;
    for (uint32_t i = 0; i < begin; i++)
        if (b->instrs.at[i].op == PLAN_ALL_GATHER && base(b, i, 1)->buffer == base(b, begin, 0)->buffer) {
            struct plan_base bases[2] = { *base(b, begin, 1), *base(b, i, 1) };
            bases[0].access = PLAN_READ;
            plan_edit_begin(b, &e);
            struct plan_record x = e.lists[list].at[i - first];
            x.in.node += 1u << 30;
            x.in.stream = b->instrs.at[begin].stream;
            x.in.channel = b->instrs.at[begin].channel;
            x.bases = bases;
            plan_edit_insert(&e.lists[list], begin - first + 1 + (uint32_t)e.lists[list].at[begin - first].in.count, x);
            plan_edit_end(&e);
            return true;
        }
    return true;
}
/* Two layers whose backwards take the counts of each other. */
EXAMPLE(counts_of_two_layers_are_exchanged)
{
    const uint32_t i = nth_gather(b, nth), k = nth_gather(b, nth + 1);
    if (k == PLAN_NONE || mutant_list(b, i) != mutant_list(b, k) || b->instrs.at[i].mb != b->instrs.at[k].mb ||
        mutant_list(b, i) > 0)
        return i != PLAN_NONE && counts_of_another_layer(c, b, 3 * nth);
    const uint32_t one = base(b, i, 1)->buffer, two = base(b, k, 1)->buffer;
    for (uint32_t x = 0; x < b->instrs.n; x++) {
        struct plan_instr *in = &b->instrs.at[x];
        const bool begins = in->op == PLAN_ROUNDS, rows = in->op == PLAN_TO_EXPERTS || in->op == PLAN_FROM_EXPERTS;
        if ((!begins && !rows) || b->instrs.at[plan_is_extra(in) ? rounds_of(b, x) : x].pass == IR_PASS_F)
            continue;
        struct plan_base *counts = base(b, x, begins ? 0 : 2);
        bind(b, counts, counts->buffer == one ? two : counts->buffer == two ? one : counts->buffer);
        if (begins)
            in->tensor = b->buffers.at[counts->buffer].what;
    }
    return true;
}
/* As another type, half of them, into what is no tensor, as another tensor or of another microbatch. */
EXAMPLE(counts_gathered_otherwise)
{
    const uint32_t i = nth_gather(b, nth / 5), other = nth_gather(b, nth / 5 ? 0 : 1);
    if (i == PLAN_NONE)
        return false;
    struct plan_instr *in = &b->instrs.at[i];
    struct plan_buffer *all = &b->buffers.at[base(b, i, 1)->buffer];
    switch (nth % 5) {
    case 0:
        in->type = IR_F32;
        break;
    case 1:
        in->count /= 2;
        all->bytes /= 2;
        break;
    case 2:
        all->role = SLOT_GRADIENT;
        break;
    case 3:
        if (b->instrs.at[other].tensor == in->tensor)
            in->type = IR_F32;
        in->tensor = b->instrs.at[other].tensor;
        break;
    default:
        in->mb = in->mb ? 0 : 1;
        break;
    }
    return true;
}
/* What is sent to the experts is gathered, as if it were counts. */
EXAMPLE(rows_are_gathered_as_counts)
{
    struct plan_edit e;
    const uint32_t i = nth_gather(b, 0), to = nth_extra(b, PLAN_TO_EXPERTS, 0);
    if (i == PLAN_NONE || nth > 0)
        return false;
    const uint32_t sent = base(b, to, 0)->buffer, begin = rounds_of(b, to), list = mutant_list(b, to);
    const uint64_t members = b->buffers.at[base(b, i, 1)->buffer].bytes / b->buffers.at[base(b, i, 0)->buffer].bytes;
    struct plan_buffer all = b->buffers.at[sent];
    struct plan_instr in = b->instrs.at[i];
    in.node += 1u << 30;
    in.tensor = all.what;
    in.count = all.bytes / sizeof(int32_t);
    in.stream = b->instrs.at[begin].stream;
    in.channel = b->instrs.at[begin].channel;
    all.offset = round_up(b->h.arena_bytes[ARENA_WORK], ir_target_cpu.alignment);
    all.bytes *= members;
    b->h.total_bytes += all.offset + all.bytes - b->h.arena_bytes[ARENA_WORK];
    b->h.arena_bytes[ARENA_WORK] = all.offset + all.bytes;
    vec_add(&b->buffers, all);
    struct plan_base bases[2] = { *base(b, i, 0), *base(b, i, 1) };
    bind(b, &bases[0], sent);
    bind(b, &bases[1], b->buffers.n - 1);
    plan_edit_begin(b, &e);
    plan_edit_insert(&e.lists[list], begin - b->lists.at[list].first_instr,
                     (struct plan_record){ in, PLAN_NONE, 0, NULL, bases });
    plan_edit_end(&e);
    return true;
}
/* Another communicator for number i, over such a group. */
static void other_group(struct plan_builder *b, uint32_t i, uint32_t group)
{
    vec_add(&b->channels, ((struct plan_channel){ b->h.n_channels_world++, group, b->instrs.at[i].stream }));
    b->instrs.at[i].channel = b->channels.n - 1;
}
/* Gathered, taken by the ROUNDS, or both, over each other group of as many members. */
EXAMPLE(counts_of_another_group)
{
    const uint32_t first = nth_gather(b, 0), n_groups = b->groups.n;
    for (uint32_t g = 0; g < n_groups && first != PLAN_NONE; g++) {
        const struct plan_group *x = &b->groups.at[g],
                                *own = &b->groups.at[b->channels.at[b->instrs.at[first].channel].group];
        if (x == own || b->sets.at[x->first_set].size != b->sets.at[own->first_set].size || x->kind != own->kind ||
            x->n_sets != own->n_sets)
            continue;
        if (nth >= 3) {
            nth -= 3;
            continue;
        }
        for (uint32_t k = 0, i; nth != 1 && (i = nth_gather(b, k)) != PLAN_NONE; k++)
            other_group(b, i, g);
        for (uint32_t k = 0, i; nth != 0 && (i = nth_rounds(b, k)) != PLAN_NONE; k++)
            other_group(b, i, g);
        return true;
    }
    return false;
}
/* The members of the one group turned round: what the first of them sends is taken for what the last sends. */
EXAMPLE(counts_in_another_order)
{
    const uint32_t i = nth_gather(b, nth);
    if (i == PLAN_NONE)
        return false;
    const struct plan_group *own = &b->groups.at[b->channels.at[b->instrs.at[i].channel].group];
    const struct plan_set *set = &b->sets.at[own->first_set];
    if (own->n_sets > 1 || set->n_ranges != 1)
        return false;
    const struct plan_range r = b->ranges.at[set->first_range];
    for (uint32_t k = r.count; k-- > 0;)
        vec_add(&b->ranges, ((struct plan_range){ r.start + k * r.stride, 0, 1 }));
    vec_add(&b->sets, ((struct plan_set){ b->ranges.n - r.count, r.count, r.count }));
    vec_add(&b->groups, ((struct plan_group){ PLAN_GROUP_UNION, b->sets.n - 1, 1 }));
    other_group(b, i, b->groups.n - 1);
    return true;
}
/* Counts where no buffers are. */
EXAMPLE(counts_in_another_arena)
{
    for (uint32_t i = 0; i < b->instrs.n; i++) {
        const struct plan_instr *in = &b->instrs.at[i];
        const bool begins = in->op == PLAN_ROUNDS, exchange = in->op == PLAN_TO_EXPERTS || in->op == PLAN_FROM_EXPERTS;
        for (uint32_t k = begins ? 0 : 2; k < 3 && k < in->n_bases && (begins || exchange); k++)
            if (nth-- == 0) {
                struct plan_base *x = base(b, i, k);
                x->arena = ARENA_SCALARS;
                x->buffer = PLAN_NONE;
                x->offset = 0;
                return true;
            }
    }
    return false;
}

const struct mutant mutants_of_rounds[] = {
    MUTANT(rows_by_counts_of_another_microbatch, "rounds", 40),
    MUTANT(rounds_by_counts_of_another_microbatch, "rounds", 20),
    MUTANT(counts_of_a_round_elsewhere, "rounds", 20),
    MUTANT(room_for_more_rows, "rounds", 40),
    MUTANT(more_is_repeated, "rounds", 20),
    MUTANT(less_is_repeated, "rounds", 20),
    MUTANT(a_part_of_a_round_is_left_out, "rounds", 60),
    MUTANT(a_part_of_another_microbatch, "rounds", 60),
    MUTANT(each_round_begins_a_gradient, "rounds", 8),
    MUTANT(a_gradient_is_not_zeroed, "program", 4),
    MUTANT(rows_of_the_other_rounds, "rounds", 20),
    MUTANT(rows_of_a_round_lie_where_what_is_sent_does, "rounds", 20),
    MUTANT(results_are_there_before_the_rounds, "rounds", 20),
    MUTANT(a_gradient_of_another_operator_is_repeated, "rounds", 200),
    MUTANT(a_loss_is_repeated, "rounds", 100),
    MUTANT(rounds_of_the_other_direction, "rounds", 40),
    MUTANT(counts_of_two_layers_are_exchanged, "rounds", 20),
    MUTANT(counts_gathered_otherwise, "rounds", 60),
    MUTANT(rows_are_gathered_as_counts, "layout", 4),
    MUTANT(a_pass_of_a_round_comes_twice, "rounds", 20),
    MUTANT(rounds_come_twice, "rounds", 40),
    MUTANT(rounds_without_a_pass, "rounds", 40),
    MUTANT(a_round_is_exchanged_on_another_stream, "rounds", 40),
    MUTANT(other_results_are_sent, "rounds", 20),
    MUTANT(room_for_more_rows_in_round_0, "rounds", 40),
    MUTANT(counts_of_another_layer, "rounds", 40),
    MUTANT(counts_of_one_member, "rounds", 20),
    MUTANT(counts_of_a_round_are_gathered, "rounds", 40),
    MUTANT(counts_of_another_group, "rounds", 1),
    MUTANT(counts_in_another_order, "rounds", 20),
    MUTANT(counts_in_another_arena, "rounds", 40),
    { 0 },
};
