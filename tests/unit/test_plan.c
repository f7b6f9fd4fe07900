/* The plan blob: building, validation of hostile bytes, lookups, and the text form. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "plan_job.h"
#include "tests/unit/suite.h"

static enum status open_bytes(const struct job *j, const void *blob, uint64_t bytes, struct err *e)
{
    struct plan p;
    return plan_open(blob, bytes, j->g.ops.n, j->g.params.n, j->g.tensors.n, &p, e);
}

START_TEST(test_builds_and_opens)
{
    for (uint32_t stages = 1; stages <= 2; stages++)
        for (uint32_t dp = 1; dp <= 2; dp++) {
            struct job j;
            struct err e = { 0 };
            job_init(&j, stages, dp);
            ck_assert_msg(job_open(&j, &e) == ST_OK, "%s", e.text);
            ck_assert_uint_eq(plan_find_list(&j.plan[0], "eval"), 1);
            ck_assert_uint_eq(plan_find_list(&j.plan[0], "test"), PLAN_NONE);
            ck_assert_uint_eq(j.plan[0].h->total_bytes % 4, 0);
            job_release(&j);
        }
}
END_TEST

/* Sets and groups against their meaning, by enumeration. */
START_TEST(test_lookups)
{
    struct plan_builder b = { 0 };
    struct plan p;
    struct err e = { 0 };
    uint64_t bytes;
    vec_add(&b.ranges, ((struct plan_range){ 0, 1, 8 })); /* set 0: 0..7 */
    vec_add(&b.ranges, ((struct plan_range){ 6, 0, 1 })); /* set 1: 6, 0, 2 */
    vec_add(&b.ranges, ((struct plan_range){ 0, 2, 2 }));
    vec_add(&b.ranges, ((struct plan_range){ 1, 2, 3 })); /* set 2: 1, 3, 5 */
    vec_add(&b.sets, ((struct plan_set){ 0, 1, 8 }));
    vec_add(&b.sets, ((struct plan_set){ 1, 2, 3 }));
    vec_add(&b.sets, ((struct plan_set){ 3, 1, 3 }));
    vec_add(&b.groups, ((struct plan_group){ PLAN_GROUP_UNION, 1, 2 }));
    vec_add(&b.groups, ((struct plan_group){ PLAN_GROUP_EACH, 1, 2 }));
    vec_add(&b.streams, ((struct plan_stream){ .name = plan_builder_text(&b, "default_stream") }));
    b.h = (struct plan_header){ .n_classes = 1, .world = 8, .compute = IR_F32 };
    void *blob = plan_build(&b, &bytes);
    ck_assert_msg(plan_open(blob, bytes, 0, 0, 0, &p, &e) == ST_OK, "%s", e.text);
    static const uint32_t order[6] = { 6, 0, 2, 1, 3, 5 };
    for (uint32_t d = 0; d < 8; d++) {
        uint32_t at = PLAN_NONE;
        for (uint32_t i = 0; i < 6; i++)
            at = order[i] == d ? i : at;
        ck_assert_uint_eq(plan_set_index(&p, 0, d), d);
        ck_assert_uint_eq(plan_set_index(&p, 1, d), at < 3 ? at : PLAN_NONE);
        ck_assert_uint_eq(plan_group_index(&p, 0, d), at);
        ck_assert_uint_eq(plan_group_size(&p, 0, d), at == PLAN_NONE ? PLAN_NONE : 6);
        ck_assert_uint_eq(plan_group_index(&p, 1, d), at == PLAN_NONE ? PLAN_NONE : at % 3);
        ck_assert_uint_eq(plan_group_size(&p, 1, d), at == PLAN_NONE ? PLAN_NONE : 3);
        for (uint32_t i = 0; i < 7 && at != PLAN_NONE; i++) {
            ck_assert_uint_eq(plan_group_at(&p, 0, d, i), i < 6 ? order[i] : PLAN_NONE);
            ck_assert_uint_eq(plan_group_at(&p, 1, d, i), i < 3 ? order[at / 3 * 3 + i] : PLAN_NONE);
        }
        ck_assert_uint_eq(plan_group_at(&p, 0, 7, 0), PLAN_NONE);
    }
    ck_assert_uint_eq(plan_set_at(&p, 1, 2), 2);
    ck_assert_uint_eq(plan_set_at(&p, 1, 3), PLAN_NONE);
    mem_free(blob);
    plan_builder_release(&b);
}
END_TEST

START_TEST(test_equal_plans_are_equal_bytes)
{
    struct job a, b;
    struct err e = { 0 };
    job_init(&a, 2, 2);
    job_init(&b, 2, 2);
    for (uint32_t i = 0; i < b.b[1].instrs.n; i++) { /* other bytes in the padding of a record */
        struct plan_instr *in = &b.b[1].instrs.at[i];
        memset((char *)in + offsetof(struct plan_instr, peer_set) + 4, 0xa5, 4);
    }
    ck_assert_int_eq(job_open(&a, &e), ST_OK);
    ck_assert_int_eq(job_open(&b, &e), ST_OK);
    ck_assert_uint_eq(a.bytes[1], b.bytes[1]);
    ck_assert_mem_eq(a.blob[1], b.blob[1], a.bytes[1]);
    job_release(&a);
    job_release(&b);
}
END_TEST

static char *text_of(const struct plan *p, const struct ir_graph *g)
{
    char *text;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    plan_print(p, g, f);
    fclose(f);
    return text;
}

START_TEST(test_text_and_back)
{
    struct job j;
    struct err e = { 0 };
    job_init(&j, 2, 2);
    plan_builder_text(&j.b[0], "quote \" back \\ hash # tab \t");
    ck_assert_int_eq(job_open(&j, &e), ST_OK);
    for (uint32_t s = 0; s < 2; s++) {
        char *text = text_of(&j.plan[s], &j.g);
        void *blob;
        uint64_t bytes;
        ck_assert_msg(plan_parse(text, &j.g, &blob, &bytes, &e) == ST_OK, "%s", e.text);
        ck_assert_uint_eq(bytes, j.bytes[s]);
        ck_assert_mem_eq(blob, j.blob[s], bytes);
        ck_assert_ptr_nonnull(strstr(text, s ? "op=linear pass=BW graph_op=2" : "# embed.weight"));
        ck_assert_ptr_nonnull(strstr(text, "op=RUN pass=F"));
        ck_assert_ptr_nonnull(strstr(text, "# on backward"));
        mem_free(blob);
        free(text);
    }
    job_release(&j);
}
END_TEST

START_TEST(test_text_errors)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "plan class_id=0\nsett 0\n", "line 2" },
        { "plan class_id=x\n", "a number" },
        { "plan class_id=99999999999\n", "smaller number" },
        { "plan compute=float33\n", "compute" },
        { "set 1 0+1*1\n", "record number 0" },
        { "set 0 0+1\n", "*count" },
        { "text 0 \"abc\n", "the end of the string" },
        { "kernel 0 op=linear\n", "a program before" },
        { "program 0 pass=F\nkernel 0 op=linear in1=0+0 in0=0+0\n", "an operand, in order" },
        { "list 0 name=0\ninstr 0 op=RUN bases=work@0\n", "arena+offset" },
        { "list 0 name=0\ninstr 0 op=RUN color=red\n", "a key of an instruction" },
        { "set 0 0+1*1\n", "plan: " }, /* reads, but plan_open refuses it */
    };
    struct ir_graph g;
    job_graph(&g);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = { 0 };
        void *blob = NULL;
        uint64_t bytes;
        ck_assert_int_ne(plan_parse(cases[i].text, &g, &blob, &bytes, &e), ST_OK);
        ck_assert_msg(strstr(e.text, cases[i].says) != NULL, "\"%s\" lacks \"%s\"", e.text, cases[i].says);
    }
    ir_graph_release(&g);
}
END_TEST

/* ---- what plan_open refuses ---- */

typedef void (*break_fn)(struct plan_builder *b);
#define BREAK(name, statement)                       \
    static void break_##name(struct plan_builder *b) \
    {                                                \
        statement;                                   \
    }
BREAK(class_id, b->h.class_id = 2)
BREAK(world, b->h.world = 0)
BREAK(devices, b->h.devices = 99)
BREAK(compute, b->h.compute = IR_I32)
BREAK(optimizer, b->h.optimizer = 2)
BREAK(arena, b->h.arena_bytes[ARENA_WORK] = 64)
BREAK(grads, b->h.arena_bytes[ARENA_GRADS] -= 4)
BREAK(params, b->h.arena_bytes[ARENA_PARAMS] -= 4)
BREAK(optim, b->h.arena_bytes[ARENA_OPTIM] -= 4)
BREAK(text, b->text.at[b->text.n - 1] = 'x')
BREAK(no_stream, b->streams.n = 0)
BREAK(range_beyond, b->ranges.at[1].start = 4)
BREAK(range_stride, b->ranges.at[1].stride = 0)
BREAK(range_empty, b->ranges.at[1].count = 0)
BREAK(set_size, b->sets.at[1].size++)
BREAK(set_first, b->sets.at[1].first_range++)
BREAK(range_owner, vec_add(&b->ranges, b->ranges.at[0]))
BREAK(group_kind, b->groups.at[0].kind = 2)
BREAK(group_sets, b->groups.at[0].n_sets = 9)
BREAK(group_empty, b->groups.at[0].n_sets = 0)
BREAK(channel_group, b->channels.at[0].group = 9)
BREAK(channel_stream, b->channels.at[0].stream = 9)
BREAK(channel_id, b->channels.at[0].id = 7)
BREAK(channel_order, b->channels.at[1].id = 0)
BREAK(stream_name, b->streams.at[1].name = 10000)
BREAK(bucket_pieces, b->buckets.at[0].n_pieces++)
BREAK(bucket_holders, b->buckets.at[0].holders = 9)
BREAK(bucket_padding, b->buckets.at[0].elements++)
BREAK(bucket_decay, b->buckets.at[0].n_decay = 1 << 20)
BREAK(bucket_zero, b->buckets.at[0].zero = 4)
BREAK(bucket_copies, b->buckets.at[0].copies = 1)
BREAK(bucket_state_all, b->buckets.at[0].state_all = 1)
BREAK(bucket_zero_group, b->buckets.at[0].zero_group = 2)
BREAK(bucket_group_sizes, (b->buckets.at[0].zero = 1, b->buckets.at[0].zero_group = 2))
BREAK(piece_param, b->pieces.at[0].param = 9)
BREAK(piece_bucket, b->pieces.at[0].bucket = 1)
BREAK(piece_offset, b->pieces.at[0].offset = UINT64_MAX)
BREAK(piece_split, b->pieces.at[0].split = 0)
BREAK(slot_access, b->slots.at[0].access = 4)
BREAK(slot_kind, b->slots.at[0].kind = SLOT_KINDS)
BREAK(slot_bytes, b->slots.at[0].bytes = UINT64_MAX)
BREAK(operand_slot, b->operands.at[0].slot = 9)
BREAK(operand_offset, b->operands.at[0].offset = 1000)
BREAK(operand_flags, b->operands.at[0].flags = 2)
BREAK(kernel_op, b->kernels.at[0].op = IR_OP_COUNT)
BREAK(kernel_graph_op, b->kernels.at[0].graph_op = 4)
BREAK(kernel_pass, b->kernels.at[0].pass = IR_PASS_B)
BREAK(kernel_mask, b->kernels.at[0].mask |= UINT64_C(1) << OPERAND_COUNT)
BREAK(kernel_mask_count, b->kernels.at[0].mask |= UINT64_C(1) << OPERAND_WORK)
BREAK(program_slots, b->programs.at[0].n_slots++)
BREAK(program_kernels, b->programs.at[0].n_kernels++)
BREAK(program_ep, b->programs.at[0].ep = 0)
BREAK(program_seconds, b->programs.at[0].seconds = -1)
BREAK(list_name, b->lists.at[0].name = 10000)
BREAK(list_instrs, b->lists.at[0].n_instr++)
BREAK(list_microbatches, b->lists.at[0].microbatches = 0)
BREAK(instr_op, b->instrs.at[0].op = PLAN_OP_COUNT)
BREAK(instr_stream, b->instrs.at[0].stream = 9)
BREAK(instr_mb, b->instrs.at[0].mb = JOB_MB)
BREAK(instr_what, b->instrs.at[0].what = 1000)
BREAK(instr_set, b->instrs.at[0].my_set = 9)
BREAK(instr_bases, b->instrs.at[0].n_bases = 2)
BREAK(instr_channel, b->instrs.at[b->lists.at[0].n_instr - 2].channel = 2)
BREAK(instr_waits, b->instrs.at[0].n_waits = 1)
BREAK(wait_later, b->waits.at[0] = 1000)
BREAK(base_arena, b->bases.at[0].arena = ARENA_COUNT)
BREAK(base_buffer, b->bases.at[0].buffer = 10000)
BREAK(base_offset, b->bases.at[0].offset += 1 << 20)
BREAK(base_leaves_buffer, b->bases.at[0].offset -= 16)
BREAK(base_access, b->bases.at[0].access = 4)
BREAK(base_part, b->bases.at[0].access |= PLAN_PART)
BREAK(buffer_bytes, b->buffers.at[0].bytes = UINT64_MAX)
BREAK(buffer_list, b->buffers.at[0].list = 1)
BREAK(buffer_kind, b->buffers.at[0].kind = MEM_KINDS)

static const struct breaking {
    const char *name;
    break_fn fn;
} breaks[] = {
#define B(name)             \
    {                       \
#name, break_##name \
    }
    B(class_id),
    B(world),
    B(devices),
    B(compute),
    B(optimizer),
    B(arena),
    B(grads),
    B(params),
    B(optim),
    B(text),
    B(no_stream),
    B(range_beyond),
    B(range_stride),
    B(range_empty),
    B(set_size),
    B(set_first),
    B(range_owner),
    B(group_kind),
    B(group_sets),
    B(group_empty),
    B(channel_group),
    B(channel_stream),
    B(channel_id),
    B(channel_order),
    B(stream_name),
    B(bucket_pieces),
    B(bucket_holders),
    B(bucket_padding),
    B(bucket_decay),
    B(bucket_zero),
    B(bucket_copies),
    B(bucket_state_all),
    B(bucket_zero_group),
    B(bucket_group_sizes),
    B(piece_param),
    B(piece_bucket),
    B(piece_offset),
    B(piece_split),
    B(slot_access),
    B(slot_kind),
    B(slot_bytes),
    B(operand_slot),
    B(operand_offset),
    B(operand_flags),
    B(kernel_op),
    B(kernel_graph_op),
    B(kernel_pass),
    B(kernel_mask),
    B(kernel_mask_count),
    B(program_slots),
    B(program_kernels),
    B(program_ep),
    B(program_seconds),
    B(list_name),
    B(list_instrs),
    B(list_microbatches),
    B(instr_op),
    B(instr_stream),
    B(instr_mb),
    B(instr_what),
    B(instr_set),
    B(instr_bases),
    B(instr_channel),
    B(instr_waits),
    B(wait_later),
    B(base_arena),
    B(base_buffer),
    B(base_offset),
    B(base_leaves_buffer),
    B(base_access),
    B(base_part),
    B(buffer_bytes),
    B(buffer_list),
    B(buffer_kind),
};
enum { N_BREAKS = sizeof breaks / sizeof *breaks };

START_TEST(test_refuses)
{
    struct job j;
    struct err e = { 0 };
    job_init(&j, 2, 2);
    ck_assert_int_eq(job_open(&j, &e), ST_OK);
    breaks[_i].fn(&j.b[0]);
    ck_assert_msg(job_open(&j, &e) == ST_BUG, "%s was accepted", breaks[_i].name);
    ck_assert_msg(strncmp(e.text, "plan: ", 6) == 0, "%s", e.text);
    job_release(&j);
}
END_TEST

/* The devices of a class ascend over all its ranges, so that the first one is the least: 0, 2 and 4 are no 0, 4 and then 2. */
START_TEST(test_devices_ascend)
{
    struct job j;
    struct err e = { 0 };
    job_init(&j, 2, 3);
    ck_assert_int_eq(job_open(&j, &e), ST_OK);
    struct plan_builder *b = &j.b[0];
    vec_push(&b->ranges);
    memmove(&b->ranges.at[2], &b->ranges.at[1], (b->ranges.n - 2) * sizeof *b->ranges.at);
    ck_assert(b->h.devices == 0 && b->sets.at[0].n_ranges == 1);
    b->ranges.at[0] = (struct plan_range){ 0, 4, 2 };
    b->ranges.at[1] = (struct plan_range){ 2, 1, 1 };
    b->sets.at[0].n_ranges = 2;
    for (uint32_t i = 1; i < b->sets.n; i++)
        b->sets.at[i].first_range++;
    ck_assert_int_eq(job_open(&j, &e), ST_BUG);
    ck_assert_ptr_nonnull(strstr(e.text, "do not ascend at 2"));
    job_release(&j);
}
END_TEST

/* ---- hostile bytes ---- */

static uint64_t random_bits(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

START_TEST(test_truncated)
{
    struct job j;
    struct err e = { 0 };
    job_init(&j, 2, 2);
    ck_assert_int_eq(job_open(&j, &e), ST_OK);
    for (uint64_t n = 0; n < j.bytes[0]; n += 8) {
        char *copy = mem_alloc(n); /* of its own size, so that a reader beyond it is caught */
        memcpy(copy, j.blob[0], n);
        err_clear(&e);
        ck_assert_int_ne(open_bytes(&j, copy, n, &e), ST_OK);
        if (n >= sizeof(struct plan_header)) { /* a header that agrees with the length */
            ((struct plan_header *)(void *)copy)->bytes = n;
            ck_assert_int_ne(open_bytes(&j, copy, n, &e), ST_OK);
        }
        mem_free(copy);
    }
    job_release(&j);
}
END_TEST

/* One to four random bytes changed, half of the time to values that are often at the edge. */
START_TEST(test_random_bytes)
{
    struct job j;
    struct err e = { 0 };
    uint64_t state = 88172645463325252u + (uint64_t)_i, refused = 0;
    enum { ROUNDS = 20000 };
    job_init(&j, 2, 2);
    ck_assert_int_eq(job_open(&j, &e), ST_OK);
    unsigned char *copy = mem_alloc(j.bytes[0]);
    for (int round = 0; round < ROUNDS; round++) {
        memcpy(copy, j.blob[0], j.bytes[0]);
        for (uint64_t k = random_bits(&state) % 4 + 1; k > 0; k--) {
            static const unsigned char edges[] = { 0, 1, 0x7f, 0x80, 0xff };
            uint64_t r = random_bits(&state);
            copy[r % j.bytes[0]] = r >> 32 & 1 ? edges[(r >> 40) % 5] : (unsigned char)(r >> 48);
        }
        err_clear(&e);
        struct plan p;
        if (plan_open(copy, j.bytes[0], j.g.ops.n, j.g.params.n, j.g.tensors.n, &p, &e) != ST_OK) {
            refused++;
            continue;
        }
        free(text_of(&p, &j.g)); /* an accepted plan can be walked */
    }
    ck_assert_uint_gt(refused, ROUNDS / 2);
    mem_free(copy);
    job_release(&j);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan");
    TCase *t = tcase_create("plan");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_builds_and_opens);
    tcase_add_test(t, test_lookups);
    tcase_add_test(t, test_equal_plans_are_equal_bytes);
    tcase_add_test(t, test_text_and_back);
    tcase_add_test(t, test_text_errors);
    tcase_add_loop_test(t, test_refuses, 0, N_BREAKS);
    tcase_add_test(t, test_devices_ascend);
    tcase_add_test(t, test_truncated);
    tcase_add_loop_test(t, test_random_bytes, 0, 4);
    suite_add_tcase(s, t);
    return suite_run(s);
}
