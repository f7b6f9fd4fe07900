/* The checker of plans: correct jobs pass, and every mutation of one is refused by the rule that it breaks. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "plan_edit.h"
#include "plan_job.h"
#include "sched/check/check.h"
#include "tests/unit/suite.h"

/* ---- finding and changing instructions ---- */

enum { TRAIN, EVAL };

static uint32_t first_of(const struct plan_builder *b, uint32_t list)
{
    return b->lists.at[list].first_instr;
}

/* Index in the section of the nth instruction (from 0) of a kind in a list. */
static uint32_t find_instr(const struct plan_builder *b, uint32_t list, enum plan_op op, uint32_t nth)
{
    const struct plan_list *l = &b->lists.at[list];
    for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++)
        if (b->instrs.at[i].op == op && nth-- == 0)
            return i;
    ck_abort_msg("no such instruction");
    return 0;
}

/* nth RUN of a pass */
static uint32_t find_run(const struct plan_builder *b, enum ir_pass pass, uint32_t nth)
{
    for (uint32_t i = 0;; i++) {
        uint32_t at = find_instr(b, TRAIN, PLAN_RUN, i);
        if (b->instrs.at[at].pass == pass && nth-- == 0)
            return at;
    }
}

static struct plan_instr *instr(struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    return &b->instrs.at[find_instr(b, TRAIN, op, nth)];
}

enum edit { DROP, REPEAT, MOVE };
/* Changes the instruction with number i of the section: drop it, repeat it behind itself, or move it before number
 * `to`. */
static void edit(struct plan_builder *b, uint32_t i, enum edit what, uint32_t to)
{
    struct plan_edit e;
    plan_edit_begin(b, &e);
    uint32_t list = i >= first_of(b, EVAL);
    struct plan_records *r = &e.lists[list];
    i -= first_of(b, list);
    to -= first_of(b, list);
    struct plan_record x = r->at[i];
    if (what == REPEAT) {
        x.id = UINT32_MAX;
        plan_edit_insert(r, i + 1, x);
    } else {
        plan_edit_drop(r, i);
        to -= to > i;
    }
    if (what == MOVE)
        plan_edit_insert(r, to, x);
    plan_edit_end(&e);
}

static void drop(struct plan_builder *b, enum plan_op op, uint32_t nth)
{
    edit(b, find_instr(b, TRAIN, op, nth), DROP, 0);
}

/* Removes wait w of instruction i of the section. */
static void drop_wait(struct plan_builder *b, uint32_t i, uint32_t w)
{
    uint32_t at = b->instrs.at[i].first_wait + w;
    memmove(&b->waits.at[at], &b->waits.at[at + 1], (b->waits.n - at - 1) * sizeof *b->waits.at);
    b->waits.n--;
    b->instrs.at[i].n_waits--;
    for (uint32_t k = i + 1; k < b->instrs.n; k++)
        b->instrs.at[k].first_wait--;
}

static void move_buffer(struct plan_builder *b, uint32_t buffer, uint64_t offset)
{
    b->buffers.at[buffer].offset = offset;
    for (uint32_t i = 0; i < b->bases.n; i++)
        if (b->bases.at[i].arena == ARENA_WORK && b->bases.at[i].buffer == buffer)
            b->bases.at[i].offset = offset;
}

static struct plan_base *run_base(struct plan_builder *b, enum ir_pass pass, uint32_t nth, uint32_t slot)
{
    return &b->bases.at[b->instrs.at[find_run(b, pass, nth)].first_base + slot];
}

/* ---- mutations ---- */

/* stages, dp of the job, the rule that must refuse it, and what is changed in it. */
struct mutation {
    const char *name;
    uint32_t stages, dp;
    const char *rule;
    void (*apply)(struct job *j);
};
#define MUTATION(name, ...)                                           \
    static void mutate_##name(struct job *j)                          \
    {                                                                 \
        struct plan_builder *a = &j->b[0], *b = &j->b[j->stages - 1]; \
        (void)a;                                                      \
        (void)b;                                                      \
        __VA_ARGS__;                                                  \
    }

/* the plans of one job */
MUTATION(class_id, a->h.class_id = 1)
MUTATION(clip_differs, b->h.clip = 0)
MUTATION(no_eval, memcpy(b->text.at + b->lists.at[EVAL].name, "evil", 4))
MUTATION(two_trains, b->lists.at[EVAL].name = b->lists.at[TRAIN].name)
MUTATION(microbatch_size, b->lists.at[TRAIN].microbatch_size = 2)
MUTATION(classes_overlap, b->ranges.at[0].start = 0)
MUTATION(rank_in_no_class, a->h.world = b->h.world = 5)
/* bindings */
MUTATION(peer_is_own, instr(a, PLAN_SEND, 0)->peer_set = SET_ALL)
MUTATION(my_set_is_other, instr(a, PLAN_SEND, 0)->my_set = SET_ALL + 1)
MUTATION(load_set, instr(a, PLAN_LOAD, 0)->my_set = SET_ALL + 1)
MUTATION(load_replicas, a->lists.at[TRAIN].replicas = b->lists.at[TRAIN].replicas = 4)
/* Each stage gets a channel of its own for the scalars, so that its sets can be changed alone. */
static void no_channel_of_all(struct job *j)
{
    for (uint32_t s = 0; s < 2; s++) {
        j->b[s].groups.at[GROUP_ALL] = j->b[s].groups.at[GROUP_ME];
        j->b[s].channels.at[0].id = s;
        j->b[s].channels.at[1].id = 2 + s;
        j->b[s].h.n_channels_world = 4;
    }
}
static void mutate_peer_permuted(struct job *j) /* stage 1 names the ranks of stage 0 in the other order */
{
    struct plan_builder *b = &j->b[1];
    struct plan_range own = b->ranges.at[SET_ALL + 1];
    b->ranges.at[SET_ALL] = (struct plan_range){ 2, 1, 1 };
    b->ranges.at[SET_ALL + 1] = (struct plan_range){ 0, 1, 1 };
    vec_add(&b->ranges, own);
    b->sets.at[SET_ALL].n_ranges = 2;
    b->sets.at[SET_ALL + 1].first_range = 3;
    no_channel_of_all(j);
}
static void mutate_load_permuted(struct job *j) /* stage 1 loads its targets in another order than activations come */
{
    struct plan_builder *b = &j->b[1];
    struct plan_set set = b->sets.at[SET_ME];
    set.first_range = b->ranges.n;
    set.n_ranges = 2;
    vec_add(&b->ranges, ((struct plan_range){ 3, 1, 1 }));
    vec_add(&b->ranges, ((struct plan_range){ 1, 1, 1 }));
    vec_add(&b->sets, set);
    instr(b, PLAN_LOAD, 0)->my_set = b->sets.n - 1;
}
static void mutate_half_a_class(struct job *j) /* stage 0 sends to one rank of stage 1 only */
{
    struct plan_builder *a = &j->b[0];
    a->ranges.at[SET_ALL + 1].count = 1;
    a->sets.at[SET_ALL + 1].size = 1;
    no_channel_of_all(j);
}
static void mutate_exchange(struct job *j) /* with another class */
{
    struct plan_builder *a = &j->b[0];
    struct plan_instr *in = instr(a, PLAN_SEND, 0);
    uint32_t base = in->first_base;
    in->op = PLAN_EXCHANGE;
    in->n_bases++;
    vec_push(&a->bases);
    memmove(&a->bases.at[base + 1], &a->bases.at[base], (a->bases.n - base - 1) * sizeof *a->bases.at);
    a->bases.at[base + 1].access = PLAN_WRITE;
    for (uint32_t i = (uint32_t)(in - a->instrs.at) + 1; i < a->instrs.n; i++)
        a->instrs.at[i].first_base++;
}
/* channels */
static void mutate_channel_order(struct job *j) /* stage 1 before stage 0, in one of the two plans */
{
    struct plan_builder *a = &j->b[0];
    a->ranges.at[SET_ALL] = a->ranges.at[SET_ALL + 1];
    a->ranges.at[SET_ALL + 1] = a->ranges.at[SET_ME];
    for (uint32_t i = 0; i < a->instrs.n; i++) {
        struct plan_instr *in = &a->instrs.at[i];
        if (in->my_set != PLAN_NONE)
            in->my_set = SET_ALL + 1;
        if (in->peer_set != PLAN_NONE)
            in->peer_set = SET_ALL;
    }
}
/* Stage 1 has one rank fewer than stage 0, whose ranks send to it one by one. */
static void mutate_classes_of_two_sizes(struct job *j)
{
    for (uint32_t s = 0; s < 2; s++)
        for (uint32_t set = SET_ME; set < SET_COUNT; set++)
            if (set == SET_ALL + 1 || (s == 1 && set == SET_ME)) {
                j->b[s].ranges.at[set].count--;
                j->b[s].sets.at[set].size--;
            }
    j->b[0].h.world = j->b[1].h.world = 3;
}
static void mutate_each_of_parts(struct job *j) /* one rank of each stage, by itself */
{
    struct plan_builder *b = &j->b[1];
    for (uint32_t rank = 0; rank < 2; rank++) {
        vec_add(&b->ranges, ((struct plan_range){ rank, 0, 1 }));
        vec_add(&b->sets, ((struct plan_set){ b->ranges.n - 1, 1, 1 }));
    }
    vec_add(&b->groups, ((struct plan_group){ PLAN_GROUP_EACH, b->sets.n - 2, 2 }));
}
static void mutate_channel_of_others(struct job *j) /* stage 0 knows the communicator of stage 1 */
{
    struct plan_builder *a = &j->b[0];
    vec_add(&a->groups, ((struct plan_group){ PLAN_GROUP_UNION, SET_ALL + 1, 1 }));
    vec_add(&a->channels, ((struct plan_channel){ 2, a->groups.n - 1, STREAM_DP }));
}
MUTATION(channel_stream, instr(a, PLAN_ALL_REDUCE, 0)->stream = STREAM_COMPUTE)
MUTATION(compute_stream, a->instrs.at[find_run(a, IR_PASS_F, 0)].stream = STREAM_DP)
MUTATION(channel_members, (a->groups.at[GROUP_ALL].n_sets = 1))
MUTATION(channel_shared, b->channels.at[1].id = 1)
MUTATION(each_not_whole, a->groups.at[GROUP_ME].kind = PLAN_GROUP_EACH, a->groups.at[GROUP_ME].n_sets = 2)
/* shard map */
MUTATION(parameter_twice, a->pieces.at[1].param = 0)
MUTATION(piece_short, a->pieces.at[0].count -= 1)
MUTATION(piece_moved, a->pieces.at[1].offset -= 4)
MUTATION(pieces_overlap, a->pieces.at[1].offset = 0)
MUTATION(split_unequal, a->pieces.at[0].split = 3)
MUTATION(not_held, (a->buckets.at[0].n_pieces = 1, a->pieces.n = 1))
MUTATION(state_overlaps, a->buckets.at[0].v = 4)
MUTATION(state_missing, a->buckets.at[0].m = UINT64_MAX)
MUTATION(base_of_params, run_base(a, IR_PASS_F, 0, SLOT_P)->buffer = PLAN_NONE)
/* holders */
MUTATION(holders_all, (a->buckets.at[0].holders = a->pieces.at[0].owners = a->pieces.at[1].owners = GROUP_ALL))
MUTATION(split_holders, (a->pieces.at[0].split = 2, a->pieces.at[0].count /= 2))
/* programs */
MUTATION(kernel_op, a->kernels.at[1].graph_op = 0)
MUTATION(kernel_pass, a->kernels.at[0].pass = IR_PASS_BW)
MUTATION(slot_access, a->slots.at[SLOT_K].access = PLAN_READ)
MUTATION(slot_unread, a->slots.at[JOB_SLOTS + SLOT_K].access = PLAN_WRITE)
MUTATION(base_access, run_base(a, IR_PASS_F, 0, SLOT_X)->access = PLAN_WRITE)
MUTATION(send_access, a->bases.at[instr(a, PLAN_SEND, 0)->first_base].access = PLAN_WRITE)
MUTATION(instr_pass, a->instrs.at[find_run(a, IR_PASS_F, 0)].pass = IR_PASS_B)
MUTATION(eval_program, a->instrs.at[find_instr(a, EVAL, PLAN_RUN, 0)].what = 0)
MUTATION(eval_in_train, a->programs.at[2].eval = 0)
MUTATION(load_output, instr(a, PLAN_LOAD, 0)->what = 2)
/* matching */
static void mutate_two_sends(struct job *j) /* the receive became a send */
{
    struct plan_instr *in = instr(&j->b[1], PLAN_RECV, 0);
    in->op = PLAN_SEND;
    j->b[1].bases.at[in->first_base].access = PLAN_READ;
}
MUTATION(tag_differs, instr(b, PLAN_RECV, 0)->tag = 7)
MUTATION(node_differs, instr(b, PLAN_RECV, 0)->node = 77)
MUTATION(node_twice, instr(b, PLAN_RECV, 1)->node = instr(b, PLAN_RECV, 0)->node)
MUTATION(count_differs, instr(b, PLAN_RECV, 0)->count -= 1)
MUTATION(type_differs, instr(b, PLAN_RECV, 0)->type = IR_I32)
MUTATION(no_receive, drop(b, PLAN_RECV, 1))
MUTATION(no_send, drop(b, PLAN_SEND, 0))
MUTATION(no_scalars_there, drop(b, PLAN_SCALARS, 0))
MUTATION(scalars_node, instr(b, PLAN_SCALARS, 0)->node++)
MUTATION(tags_with_a_gap, (instr(a, PLAN_SEND, 1)->tag = instr(b, PLAN_RECV, 1)->tag = 7))
MUTATION(same_tag, instr(a, PLAN_SEND, 1)->tag = instr(b, PLAN_RECV, 1)->tag = 0)
/* deadlock and order */
MUTATION(crossed_receives, edit(b, find_instr(b, TRAIN, PLAN_RECV, 1), MOVE, find_instr(b, TRAIN, PLAN_RECV, 0)))
/* Streams alone would get through; an executor that blocks in a computation never comes to the send. */
MUTATION(computes_too_early, (edit(a, find_instr(a, TRAIN, PLAN_RECV, 0), MOVE, find_instr(a, TRAIN, PLAN_SEND, 0)),
                              edit(a, find_run(a, IR_PASS_B, 0), MOVE, find_instr(a, TRAIN, PLAN_SEND, 0))))
/* Both on one stream, the gradient first: it needs the activation that waits behind it. */
static void mutate_gradient_first(struct job *j)
{
    struct plan_builder *a = &j->b[0];
    uint32_t recv = find_instr(a, TRAIN, PLAN_RECV, 0);
    a->instrs.at[recv].stream = STREAM_FORWARD;
    drop_wait(a, recv, 0);
    edit(a, recv, MOVE, find_instr(a, TRAIN, PLAN_SEND, 0));
}

/* No deadlock, as the two activations travel on streams of their own, but the classes disagree on what comes first. */
static void mutate_order(struct job *j)
{
    struct plan_builder *a = &j->b[0], *b = &j->b[1];
    instr(a, PLAN_SEND, 1)->stream = STREAM_DP;
    instr(b, PLAN_RECV, 1)->stream = STREAM_DP;
    edit(b, find_instr(b, TRAIN, PLAN_RECV, 1), MOVE, find_instr(b, TRAIN, PLAN_RECV, 0));
}
/* memory */
MUTATION(keeps_overlap,
         move_buffer(a, run_base(a, IR_PASS_F, 1, SLOT_K)->buffer, run_base(a, IR_PASS_F, 0, SLOT_K)->offset))
MUTATION(input_overlaps,
         move_buffer(a, run_base(a, IR_PASS_F, 0, SLOT_X)->buffer, run_base(a, IR_PASS_F, 0, SLOT_K)->offset))
MUTATION(temp_overlaps,
         move_buffer(a, run_base(a, IR_PASS_B, 0, SLOT_T)->buffer, run_base(a, IR_PASS_B, 0, SLOT_K)->offset))
MUTATION(received_overlap,
         move_buffer(b, run_base(b, IR_PASS_F, 1, SLOT_X)->buffer, run_base(b, IR_PASS_F, 0, SLOT_X)->offset))
MUTATION(no_load, drop(a, PLAN_LOAD, 0))
MUTATION(no_forward, edit(a, find_run(a, IR_PASS_F, 1), DROP, 0))
MUTATION(load_too_late, edit(a, find_instr(a, TRAIN, PLAN_LOAD, 0), MOVE, find_run(a, IR_PASS_F, 1)))
/* values: operands 0.. of program 0 (F) are: tokens, embed out (keep), param, then of l0: in, out, param, ... */
static struct plan_operand *operand(struct plan_builder *b, uint32_t kernel, uint32_t nth)
{
    return &b->operands.at[b->kernels.at[kernel].first_operand + nth];
}
/* The nth kernel of program B that is of this operator and pass. */
static uint32_t backward_kernel(const struct plan_builder *b, uint32_t op, enum ir_pass pass)
{
    uint32_t k = b->programs.at[1].first_kernel;
    while (b->kernels.at[k].graph_op != op || b->kernels.at[k].pass != pass)
        k++;
    return k;
}
MUTATION(reads_other_tensor, operand(a, 2, 0)->offset = 0)        /* l1 reads the embedding's output */
MUTATION(output_in_place_of_input, operand(a, 1, 1)->offset = 32) /* l0 half over its input */
MUTATION(outputs_overlap, operand(a, 1, 1)->offset = operand(a, 2, 0)->offset = 32)
MUTATION(misaligned, operand(a, 1, 1)->offset = operand(a, 2, 0)->offset = 66)
MUTATION(output_elsewhere, *operand(a, 1, 1) = ((struct plan_operand){ .slot = SLOT_K, .offset = JOB_TENSOR }))
MUTATION(output_onto_input, operand(a, 1, 1)->slot = SLOT_K)
MUTATION(input_of_parameters, operand(a, 2, 0)->slot = SLOT_P)
MUTATION(adds_input, operand(a, 2, 0)->flags = PLAN_OPERAND_ADD)
MUTATION(counts_elements, a->kernels.at[0].n = 1)
MUTATION(operand_too_many, (a->kernels.at[0].mask = 1u << OPERAND_SAVE | 1u << OPERAND_IN | 1u << OPERAND_PARAM))
MUTATION(beyond_slot, operand(a, 3, 2)->offset = 3 * JOB_TENSOR + 64)
MUTATION(frame_read_elsewhere, operand(a, backward_kernel(a, 1, IR_PASS_BW), 0)->offset = JOB_TENSOR)
MUTATION(gradient_clobbered, operand(a, backward_kernel(a, 2, IR_PASS_BI), 2)->offset = 2 * JOB_TENSOR - 32)
MUTATION(gradient_of_nothing, operand(a, backward_kernel(a, 2, IR_PASS_BI), 1)->offset = 3 * JOB_TENSOR)
/* l1's gradient for l0's, of the same size: by BI, which then gives a wrong one, and by BW */
MUTATION(gradient_of_other, operand(a, backward_kernel(a, 1, IR_PASS_BI), 1)->offset = 2 * JOB_TENSOR)
MUTATION(gradient_of_other_in_bw, operand(a, backward_kernel(a, 1, IR_PASS_BW), 1)->offset = 2 * JOB_TENSOR)
MUTATION(
    gradient_in_other_buffer,
    run_base(a, IR_PASS_B, 1, SLOT_DY)->offset =
        a->buffers.at[run_base(a, IR_PASS_B, 1, SLOT_DY)->buffer = run_base(a, IR_PASS_B, 0, SLOT_DY)->buffer].offset)
MUTATION(computes_away, a->programs.at[0].ep = 2)
/* memory of the communication back end: 256 bytes a stream */
static void give_scratch(struct plan_builder *p)
{
    p->h.arena_bytes[ARENA_COMM] = 4 * 256;
    for (uint32_t i = 0; i < 4; i++) {
        p->streams.at[i].scratch = (uint64_t)i * 256;
        p->streams.at[i].scratch_bytes = 256;
    }
}
MUTATION(scratch_differs, give_scratch(a); give_scratch(b); b->streams.at[STREAM_COMPUTE].scratch_bytes = 128)
MUTATION(scratch_too_small, give_scratch(a); a->streams.at[STREAM_DP].scratch_bytes = 4)
MUTATION(scratch_shared, give_scratch(a); a->streams.at[STREAM_DP].scratch = 256 - 64)
MUTATION(scratch_misaligned, give_scratch(a); a->streams.at[STREAM_DP].scratch += 2;
         a->streams.at[STREAM_DP].scratch_bytes -= 2)
MUTATION(stream_differs, b->streams.at[STREAM_COMPUTE].max_ctas = 4)
MUTATION(moments_misaligned, (a->h.arena_bytes[ARENA_OPTIM] += 4, a->buckets.at[0].v += 2))
MUTATION(one_moment, (a->h.optimizer = OPT_ADAMW, a->buckets.at[0].m = UINT64_MAX))
MUTATION(master_of_float32,
         (a->h.arena_bytes[ARENA_OPTIM] += 1024, a->buckets.at[0].master = a->h.arena_bytes[ARENA_OPTIM] - 1024))
MUTATION(backward_message, instr(a, PLAN_SEND, 0)->pass = IR_PASS_B)
MUTATION(evaluates_backward, a->programs.at[1].eval = 1)
MUTATION(loads_wrong_tensor, instr(a, PLAN_LOAD, 0)->what = 1)
MUTATION(loads_wrong_microbatch, instr(a, PLAN_LOAD, 0)->mb = 1)
MUTATION(sends_wrong_microbatch, (instr(a, PLAN_SEND, 0)->mb = instr(b, PLAN_RECV, 0)->mb = 1))
MUTATION(sends_tensor_as_gradient, b->buffers.at[run_base(b, IR_PASS_F, 0, SLOT_X)->buffer].role = SLOT_GRADIENT)
MUTATION(sends_half, (instr(a, PLAN_SEND, 0)->count = instr(b, PLAN_RECV, 0)->count = 8))
MUTATION(decays_wrongly, a->buckets.at[0].n_decay = 32)
/* gradients */
MUTATION(never_first, run_base(a, IR_PASS_B, 0, SLOT_G)->first = 0)
MUTATION(first_twice, run_base(a, IR_PASS_B, 1, SLOT_G)->first = 1)
MUTATION(add_in_program, a->operands.at[a->kernels.at[4].first_operand + 2].flags = PLAN_OPERAND_ADD)
MUTATION(no_reduce, drop(a, PLAN_ALL_REDUCE, 0))
MUTATION(reduce_twice, (edit(a, find_instr(a, TRAIN, PLAN_ALL_REDUCE, 0), REPEAT, 0),
                        instr(a, PLAN_ALL_REDUCE, 1)->node++, a->waits.at[instr(a, PLAN_SUMSQ, 0)->first_wait]++))
MUTATION(reduce_early, edit(a, find_instr(a, TRAIN, PLAN_ALL_REDUCE, 0), MOVE, find_run(a, IR_PASS_B, 1)))
MUTATION(reduce_late, edit(a, find_instr(a, TRAIN, PLAN_ALL_REDUCE, 0), MOVE, find_instr(a, TRAIN, PLAN_SCALARS, 0)))
MUTATION(reduce_less, instr(a, PLAN_ALL_REDUCE, 0)->count -= 1)
MUTATION(reduce_type, instr(a, PLAN_ALL_REDUCE, 0)->type = IR_I32)
MUTATION(sharded, (a->buckets.at[0].zero = 1))
static void mutate_reduce_elsewhere(struct job *j) /* one reduction over all ranks for the buckets of both stages */
{
    struct plan_builder *a = &j->b[0], *b = &j->b[1];
    a->channels.at[1].group = b->channels.at[1].group = GROUP_ALL;
    b->channels.at[1].id = 1;
    instr(b, PLAN_ALL_REDUCE, 0)->node = instr(a, PLAN_ALL_REDUCE, 0)->node;
}
static void mutate_scalars_of_class(struct job *j) /* each stage for itself, in the list without updates */
{
    for (uint32_t s = 0; s < 2; s++) {
        struct plan_builder *b = &j->b[s];
        uint32_t i = find_instr(b, EVAL, PLAN_SCALARS, 0), run = find_instr(b, EVAL, PLAN_RUN, 1);
        b->instrs.at[i].channel = 1;
        b->instrs.at[i].stream = STREAM_DP;
        b->instrs.at[i].node = 300 + s;
        b->instrs.at[i].n_waits = 1;
        vec_add(&b->waits, run - first_of(b, EVAL)); /* the last instruction: its waits are the last */
    }
}
/* The reduction of a stage became an exchange of rows, in the first buffers that there are; no ROUNDS is beside it. */
static void mutate_no_rounds(struct job *j)
{
    struct plan_builder *b = &j->b[0];
    const uint32_t i = find_instr(b, TRAIN, PLAN_ALL_REDUCE, 0), first = b->instrs.at[i].first_base;
    for (uint32_t k = 0; k < 2; k++)
        vec_push(&b->bases);
    memmove(&b->bases.at[first + 3], &b->bases.at[first + 1], (b->bases.n - first - 3) * sizeof *b->bases.at);
    for (uint32_t k = i + 1; k < b->instrs.n; k++)
        b->instrs.at[k].first_base += 2;
    for (uint32_t k = 0; k < 3; k++)
        b->bases.at[first + k] = (struct plan_base){ .arena = ARENA_WORK,
                                                     .access = k == 1 ? PLAN_WRITE : PLAN_READ,
                                                     .buffer = k,
                                                     .offset = b->buffers.at[k].offset };
    b->instrs.at[i].op = PLAN_TO_EXPERTS;
    b->instrs.at[i].n_bases = 3;
    b->instrs.at[i].tensor = 0;
    b->instrs.at[i].count = 1;
}
MUTATION(no_sumsq, drop(a, PLAN_SUMSQ, 0))
MUTATION(sumsq_twice, edit(a, find_instr(a, TRAIN, PLAN_SUMSQ, 0), REPEAT, 0))
MUTATION(no_update, drop(a, PLAN_UPDATE, 0))
MUTATION(update_twice, edit(a, find_instr(a, TRAIN, PLAN_UPDATE, 0), REPEAT, 0))
MUTATION(update_early, edit(a, find_instr(a, TRAIN, PLAN_UPDATE, 0), MOVE, find_instr(a, TRAIN, PLAN_SCALARS, 0)))
MUTATION(gradient_after_norm, edit(a, find_run(a, IR_PASS_B, 1), MOVE, find_instr(a, TRAIN, PLAN_SCALARS, 0)))
MUTATION(loss_after_scalars, edit(a, find_instr(a, EVAL, PLAN_SCALARS, 0), MOVE, find_instr(a, EVAL, PLAN_RUN, 0)))
MUTATION(no_scalars, edit(a, find_instr(a, EVAL, PLAN_SCALARS, 0), DROP, 0))
/* cover */
MUTATION(no_backward, edit(a, find_run(a, IR_PASS_B, 1), DROP, 0))
MUTATION(backward_twice, edit(a, find_run(a, IR_PASS_B, 1), REPEAT, 0))
MUTATION(same_microbatch, (a->instrs.at[find_run(a, IR_PASS_B, 1)].mb = 0))
MUTATION(eval_forgotten, edit(a, find_instr(a, EVAL, PLAN_RUN, 1), DROP, 0))

/* A kernel leaves program 1 (B): its operands go too. */
static void mutate_no_kernel(struct job *j)
{
    struct plan_builder *a = &j->b[0];
    struct plan_program *p = &a->programs.at[1];
    uint32_t at = p->first_kernel;
    while (a->kernels.at[at].graph_op != 0) /* the last: weights of the embedding */
        at++;
    struct plan_kernel k = a->kernels.at[at];
    uint32_t n = (uint32_t)__builtin_popcount(k.mask);
    memmove(&a->operands.at[k.first_operand], &a->operands.at[k.first_operand + n],
            (a->operands.n - k.first_operand - n) * sizeof *a->operands.at);
    a->operands.n -= n;
    memmove(&a->kernels.at[at], &a->kernels.at[at + 1], (a->kernels.n - at - 1) * sizeof *a->kernels.at);
    a->kernels.n--;
    for (uint32_t i = at; i < a->kernels.n; i++)
        a->kernels.at[i].first_operand -= n;
    p->n_kernels--;
    a->programs.at[2].first_kernel--;
}

/* A forward would write gradients where its tokens stand; none of its kernels does. */
static void mutate_gradients_of_no_bucket(struct job *j)
{
    struct plan_builder *a = &j->b[0];
    struct plan_slot *s = &a->slots.at[a->programs.at[0].first_slot + SLOT_G];
    s->bytes = JOB_TOKENS;
    s->access = PLAN_READ;
    for (uint32_t mb = 0; mb < JOB_MB; mb++)
        *run_base(a, IR_PASS_F, mb, SLOT_G) = *run_base(a, IR_PASS_F, mb, SLOT_X);
}

static const struct mutation mutations[] = {
#define M(stages, dp, rule, name)              \
    {                                          \
#name, stages, dp, rule, mutate_##name \
    }
    M(2, 2, "shape", class_id),
    M(2, 2, "shape", clip_differs),
    M(2, 2, "shape", no_eval),
    M(1, 1, "shape", two_trains),
    M(2, 2, "shape", microbatch_size),
    M(2, 2, "binding", classes_overlap),
    M(2, 2, "binding", rank_in_no_class),
    M(2, 2, "binding", peer_is_own),
    M(2, 2, "binding", my_set_is_other),
    M(2, 2, "binding", load_set),
    M(2, 2, "binding", load_replicas),
    M(2, 2, "match", peer_permuted),
    M(2, 2, "replica", load_permuted),
    M(2, 2, "binding", half_a_class),
    M(2, 2, "binding", exchange),
    M(2, 2, "binding", classes_of_two_sizes),
    M(2, 2, "channel", channel_stream),
    M(2, 2, "channel", compute_stream),
    M(2, 2, "channel", channel_members),
    M(2, 2, "channel", channel_order),
    M(2, 2, "channel", channel_shared),
    M(2, 2, "channel", each_not_whole),
    M(2, 2, "channel", each_of_parts),
    M(2, 2, "channel", channel_of_others),
    M(1, 1, "shards", parameter_twice),
    M(1, 1, "shards", piece_short),
    M(1, 1, "shards", piece_moved),
    M(1, 1, "shards", pieces_overlap),
    M(1, 3, "shards", split_unequal),
    M(2, 1, "shards", not_held),
    M(1, 1, "shards", state_overlaps),
    M(1, 1, "shards", state_missing),
    M(1, 1, "shards", base_of_params),
    M(2, 2, "holders", holders_all),
    M(1, 2, "holders", split_holders),
    M(1, 1, "program", kernel_op),
    M(1, 1, "program", kernel_pass),
    M(1, 1, "program", slot_access),
    M(1, 1, "program", slot_unread),
    M(1, 1, "program", base_access),
    M(2, 1, "program", send_access),
    M(1, 1, "program", instr_pass),
    M(1, 1, "program", eval_program),
    M(1, 1, "program", eval_in_train),
    M(1, 1, "program", load_output),
    M(2, 2, "match", tag_differs),
    M(2, 2, "match", node_differs),
    M(2, 2, "match", node_twice),
    M(2, 2, "match", count_differs),
    M(2, 2, "match", type_differs),
    M(2, 2, "match", two_sends),
    M(2, 2, "match", no_receive),
    M(2, 2, "match", no_send),
    M(2, 2, "match", no_scalars_there),
    M(2, 2, "match", scalars_node),
    M(2, 2, "tag", same_tag),
    M(2, 2, "tag", tags_with_a_gap),
    M(2, 1, "deadlock", crossed_receives),
    M(2, 1, "deadlock", gradient_first),
    M(2, 1, "deadlock", computes_too_early),
    M(2, 2, "order", order),
    M(1, 1, "value", keeps_overlap),
    M(1, 1, "value", input_overlaps),
    M(1, 1, "value", temp_overlaps),
    M(2, 2, "race", received_overlap),
    M(1, 1, "value", no_load),
    M(1, 1, "value", no_forward),
    M(1, 1, "value", load_too_late),
    M(1, 1, "value", reads_other_tensor),
    M(1, 1, "program", output_in_place_of_input),
    M(1, 1, "program", beyond_slot),
    M(1, 1, "value", outputs_overlap),
    M(1, 1, "alignment", misaligned),
    M(2, 1, "program", output_elsewhere),
    M(2, 1, "value", output_onto_input),
    M(1, 1, "value", input_of_parameters),
    M(1, 1, "program", adds_input),
    M(1, 1, "program", counts_elements),
    M(1, 1, "program", operand_too_many),
    M(1, 1, "value", frame_read_elsewhere),
    M(1, 1, "value", gradient_clobbered),
    M(1, 1, "value", gradient_of_nothing),
    M(1, 1, "gradient", gradient_of_other),
    M(1, 1, "gradient", gradient_of_other_in_bw),
    M(2, 1, "value", gradient_in_other_buffer),
    M(1, 1, "layout", computes_away),
    M(2, 2, "scratch", scratch_differs),
    M(1, 2, "scratch", scratch_too_small),
    M(1, 2, "scratch", scratch_shared),
    M(1, 2, "alignment", scratch_misaligned),
    M(2, 2, "channel", stream_differs),
    M(1, 1, "alignment", moments_misaligned),
    M(1, 1, "shards", one_moment),
    M(1, 1, "shards", master_of_float32),
    M(2, 2, "match", backward_message),
    M(1, 1, "program", evaluates_backward),
    M(1, 1, "value", loads_wrong_tensor),
    M(1, 1, "value", loads_wrong_microbatch),
    M(2, 1, "value", sends_wrong_microbatch),
    M(2, 1, "value", sends_tensor_as_gradient),
    M(2, 1, "value", sends_half),
    M(1, 1, "shards", decays_wrongly),
    M(1, 1, "first", never_first),
    M(1, 1, "first", first_twice),
    M(1, 1, "first", add_in_program),
    M(1, 2, "reduce", no_reduce),
    M(1, 2, "reduce", reduce_twice),
    M(1, 2, "race", reduce_early),
    M(1, 2, "race", reduce_late),
    M(1, 2, "reduce", reduce_less),
    M(1, 2, "reduce", reduce_type),
    M(1, 2, "gather", sharded),
    M(2, 2, "reduce", reduce_elsewhere),
    M(1, 2, "rounds", no_rounds),
    M(1, 1, "update", no_sumsq),
    M(1, 1, "update", sumsq_twice),
    M(1, 1, "update", no_update),
    M(1, 1, "update", update_twice),
    M(1, 1, "update", update_early),
    M(1, 1, "update", gradient_after_norm),
    M(1, 1, "scalars", loss_after_scalars),
    M(1, 1, "scalars", no_scalars),
    M(2, 2, "scalars", scalars_of_class),
    M(1, 1, "cover", no_backward),
    M(1, 1, "value", same_microbatch),
    M(1, 1, "first", no_kernel),
    M(1, 1, "first", gradients_of_no_bucket),
    M(1, 1, "cover", backward_twice),
    M(1, 1, "cover", eval_forgotten),
};
enum { N_MUTATIONS = sizeof mutations / sizeof *mutations };

static enum status check_job(struct job *j, struct err *e)
{
    TRY(job_open(j, e));
    return sched_check(j->plan, j->stages, &j->g, &job_target, e);
}

START_TEST(test_correct_jobs)
{
    static const uint32_t dps[] = { 1, 2, 3, 16 };
    for (uint32_t stages = 1; stages <= 2; stages++)
        for (size_t k = 0; k < 4; k++) {
            struct job j;
            struct err e = { 0 };
            job_init(&j, stages, dps[k]);
            ck_assert_msg(check_job(&j, &e) == ST_OK, "%u stages, dp %u: %s", stages, dps[k], e.text);
            job_release(&j);
        }
}
END_TEST

START_TEST(test_mutation)
{
    const struct mutation *m = &mutations[_i];
    struct job j;
    struct err e = { 0 };
    char rule[64];
    job_init(&j, m->stages, m->dp);
    m->apply(&j);
    ck_assert_msg(job_open(&j, &e) == ST_OK, "%s does not reach the checker: %s", m->name, e.text);
    ck_assert_msg(sched_check(j.plan, j.stages, &j.g, &job_target, &e) == ST_BUG, "%s was accepted", m->name);
    snprintf(rule, sizeof rule, "plan check: rule %s: ", m->rule);
    ck_assert_msg(strncmp(e.text, rule, strlen(rule)) == 0, "%s: expected rule %s: %s", m->name, m->rule, e.text);
    job_release(&j);
}
END_TEST

/* Who refuses: each rule at least once. */
START_TEST(test_every_rule)
{
    for (int r = 0; r < RULES; r++) {
        bool found = false;
        for (int i = 0; i < N_MUTATIONS; i++)
            found = found || strcmp(mutations[i].rule, check_rule_name((enum check_rule)r)) == 0;
        ck_assert_msg(found, "no mutation is refused by rule %s", check_rule_name((enum check_rule)r));
    }
}
END_TEST

/* Every wait of the jobs is needed: without it two accesses are not ordered. */
START_TEST(test_every_wait_counts)
{
    uint32_t waits = 0;
    for (uint32_t s = 0; s < 2; s++)
        for (uint32_t i = 0;; i++) {
            struct job j;
            struct err e = { 0 };
            job_init(&j, 2, 2);
            struct plan_builder *b = &j.b[s];
            uint32_t k = 0, n = i;
            while (k < b->instrs.n && n >= b->instrs.at[k].n_waits)
                n -= b->instrs.at[k++].n_waits;
            bool there = k < b->instrs.n;
            if (there) {
                drop_wait(b, k, n);
                ck_assert_msg(check_job(&j, &e) == ST_BUG, "class %u, instruction %u without wait %u was accepted", s,
                              k, n);
                ck_assert_msg(strstr(e.text, "rule race: ") != NULL, "%s", e.text);
                waits++;
            }
            job_release(&j);
            if (!there)
                break;
        }
    ck_assert_uint_eq(waits, 18);
}
END_TEST

/* What a message names. */
START_TEST(test_messages)
{
    struct job j;
    struct err e = { 0 };
    job_init(&j, 2, 2);
    mutate_crossed_receives(&j);
    ck_assert_int_eq(check_job(&j, &e), ST_BUG);
    ck_assert_ptr_nonnull(strstr(e.text, "of rank class 0,2: train["));
    ck_assert_ptr_nonnull(strstr(e.text, "of rank class 1,3: train[0] RECV node 101 mb 1"));
    ck_assert_ptr_nonnull(strstr(e.text, "which waits for"));
    job_release(&j);
    job_init(&j, 1, 1);
    mutate_keeps_overlap(&j);
    err_clear(&e);
    ck_assert_int_eq(check_job(&j, &e), ST_BUG);
    ck_assert_ptr_nonnull(strstr(e.text, "rank 0 of rank class 0: train["));
    ck_assert_ptr_nonnull(strstr(e.text, "RUN B chunk 0 sub-chunk 0 mb 0"));
    err_clear(&e);
    ck_assert_int_eq(sched_check(j.plan, 0, &j.g, &job_target, &e), ST_BUG);
    ck_assert_ptr_nonnull(strstr(e.text, "there is no plan"));
    job_release(&j);
}
END_TEST

static uint64_t random_bits(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Whatever plan_open accepts, the checker survives. */
START_TEST(test_random_bytes)
{
    struct job j;
    struct err e = { 0 };
    struct plan plan[2];
    uint64_t state = 123456789123u + (uint64_t)_i, opened = 0;
    job_init(&j, 2, 2);
    ck_assert_int_eq(job_open(&j, &e), ST_OK);
    for (int round = 0; round < 20000; round++) {
        uint32_t s = random_bits(&state) & 1;
        unsigned char *copy = mem_alloc(j.bytes[s]);
        memcpy(copy, j.blob[s], j.bytes[s]);
        for (uint64_t k = random_bits(&state) % 3 + 1; k > 0; k--) {
            uint64_t r = random_bits(&state);
            copy[r % j.bytes[s]] = r >> 32 & 1 ? (unsigned char)(r >> 40) : (unsigned char)(r >> 48 & 7);
        }
        memcpy(plan, j.plan, sizeof plan);
        err_clear(&e);
        if (plan_open(copy, j.bytes[s], j.g.ops.n, j.g.params.n, j.g.tensors.n, &plan[s], &e) == ST_OK) {
            opened++;
            sched_check(plan, 2, &j.g, &job_target, &e);
        }
        mem_free(copy);
    }
    ck_assert_uint_gt(opened, 100);
    job_release(&j);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("check");
    TCase *t = tcase_create("check");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_correct_jobs);
    tcase_add_loop_test(t, test_mutation, 0, N_MUTATIONS);
    tcase_add_test(t, test_every_rule);
    tcase_add_test(t, test_every_wait_counts);
    tcase_add_test(t, test_messages);
    tcase_add_loop_test(t, test_random_bytes, 0, 4);
    suite_add_tcase(s, t);
    return suite_run(s);
}
