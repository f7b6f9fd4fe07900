/* What the compiler makes is accepted by the checker, for a table of strategies, and keeps what a plan promises.
 *
 * sched_compile() verifies its own output, so "compiles" is "accepted"; the checker shares no code with the passes. */
#include <stdio.h>
#include <string.h>

#include "compiled.h"
#include "tests/unit/suite.h"

START_TEST(test_accepted)
{
    struct compiled c;
    const struct compiled_strategy *s = compiled_case(&c, _i);
    const struct plan *p = &c.plans[0];
    const struct plan_list *l = &p->lists[plan_find_list(p, "train")];
    ck_assert_uint_eq(c.out.ranks, s->ranks);
    ck_assert_uint_eq(l->microbatches, s->microbatches);
    ck_assert_uint_eq(l->replicas, s->replicas);
    ck_assert_uint_eq((uint64_t)l->microbatches * l->microbatch_size * l->replicas, 16);
    ck_assert_uint_ne(plan_find_list(p, "eval"), PLAN_NONE);
    compiled_release(&c);
}
END_TEST

/* The same job twice: the same bytes. */
START_TEST(test_same_bytes)
{
    struct compiled a, b;
    compiled_case(&a, _i * MODELS);
    compiled_case(&b, _i * MODELS);
    ck_assert(compiled_same(&a, &b));
    compiled_release(&a);
    compiled_release(&b);
}
END_TEST

/* ---- what a plan promises, judged beside the texts of tests/golden ---------------------------------------------- */

/* A list, and when its buffers are used. */
struct life {
    const struct plan *p;
    const struct plan_list *l;
    uint32_t n_streams, n_buffers;
    uint32_t *clock; /* [n_instr][n_streams]: instructions of each stream known done when one begins, last index + 1 */
    uint32_t *first, *end; /* [n_buffers] instruction of the first use, and behind the last; end 0: none in this list */
    uint32_t *touched;     /* [n_buffers][n_streams] last use on each stream, index + 1 */
};

static const struct plan_instr *life_instr(const struct life *f, uint32_t i)
{
    return &f->p->instrs[f->l->first_instr + i];
}

static void life_join(struct life *f, uint32_t i, uint32_t done)
{
    uint32_t *c = f->clock + i * f->n_streams, *d = f->clock + done * f->n_streams, own = life_instr(f, done)->stream;
    for (uint32_t s = 0; s < f->n_streams; s++)
        c[s] = d[s] > c[s] ? d[s] : c[s];
    c[own] = done + 1 > c[own] ? done + 1 : c[own];
}

static void life_begin(struct life *f, const struct plan *p, uint32_t list)
{
    *f = (struct life){ .p = p,
                        .l = &p->lists[list],
                        .n_streams = (uint32_t)p->h->count[PLAN_S_STREAMS],
                        .n_buffers = (uint32_t)p->h->count[PLAN_S_BUFFERS] };
    f->clock = mem_alloc(((size_t)f->l->n_instr * f->n_streams + 1) * sizeof *f->clock);
    f->first = mem_alloc((f->n_buffers + 1) * sizeof *f->first);
    f->end = mem_alloc((f->n_buffers + 1) * sizeof *f->end);
    f->touched = mem_alloc(((size_t)f->n_buffers * f->n_streams + 1) * sizeof *f->touched);
    for (uint32_t i = 0; i < f->l->n_instr; i++) {
        const struct plan_instr *x = life_instr(f, i);
        for (uint32_t k = i; k-- > 0;)
            if (life_instr(f, k)->stream == x->stream) {
                life_join(f, i, k);
                break;
            }
        for (uint32_t w = 0; w < x->n_waits; w++)
            life_join(f, i, p->waits[x->first_wait + w]);
        for (uint32_t k = 0; k < x->n_bases; k++) {
            const struct plan_base *b = &p->bases[x->first_base + k];
            if (b->arena != ARENA_WORK)
                continue;
            if (!f->end[b->buffer])
                f->first[b->buffer] = i;
            f->end[b->buffer] = i + 1;
            f->touched[b->buffer * f->n_streams + x->stream] = i + 1;
        }
    }
}

static void life_end(struct life *f)
{
    mem_free(f->clock);
    mem_free(f->first);
    mem_free(f->end);
    mem_free(f->touched);
}

/* Is all that uses buffer a done when the first use of b begins? */
static bool life_ordered(const struct life *f, uint32_t a, uint32_t b)
{
    for (uint32_t s = 0; s < f->n_streams; s++)
        if (f->touched[a * f->n_streams + s] > f->clock[f->first[b] * f->n_streams + s])
            return false;
    return true;
}

/* Buffers that share bytes are never alive together. */
static void check_overlaps(const struct life *f, const char *what)
{
    const struct plan_buffer *at = f->p->buffers;
    for (uint32_t a = 0; a < f->n_buffers; a++)
        for (uint32_t b = 0; f->end[a] && b < a; b++)
            if (f->end[b] && at[a].offset < at[b].offset + at[b].bytes && at[b].offset < at[a].offset + at[a].bytes)
                ck_assert_msg(life_ordered(f, a, b) || life_ordered(f, b, a), "%s: buffers %u and %u share bytes", what,
                              a, b);
}

/* Adds to the most bytes that are alive in the order of the list: of each kind; whole parameters, whole gradients and the rest,
 * each rounded up as they are placed. */
static void find_peaks(const struct life *f, uint64_t kinds[MEM_KINDS], uint64_t rooms[3])
{
    for (uint32_t i = 0; i < f->l->n_instr; i++) {
        uint64_t now[MEM_KINDS] = { 0 }, room[3] = { 0 };
        for (uint32_t b = 0; b < f->n_buffers; b++)
            if (f->first[b] <= i && i < f->end[b]) {
                const struct plan_buffer *x = &f->p->buffers[b];
                now[x->kind] += x->bytes;
                room[x->role == SLOT_PARAM  ? 0
                     : x->role == SLOT_GRAD ? 1
                                            : 2] += round_up(x->bytes, ir_target_cpu.alignment);
            }
        for (int k = 0; k < MEM_KINDS; k++)
            kinds[k] = now[k] > kinds[k] ? now[k] : kinds[k];
        for (int k = 0; k < 3; k++)
            rooms[k] = room[k] > rooms[k] ? room[k] : rooms[k];
    }
}

/* Memory of a plan: no two buffers in the same place at once, peaks that are what is alive, and little room beyond it. */
START_TEST(test_memory)
{
    struct compiled c;
    const struct compiled_strategy *s = compiled_case(&c, _i);
    for (uint32_t k = 0; k < c.out.n_classes; k++) {
        const struct plan_header *h = c.plans[k].h;
        uint64_t kinds[MEM_KINDS] = { 0 }, rooms[3] = { 0 };
        for (uint32_t l = 0; l < h->count[PLAN_S_LISTS]; l++) {
            struct life f;
            life_begin(&f, &c.plans[k], l);
            check_overlaps(&f, s->text);
            find_peaks(&f, kinds, rooms);
            life_end(&f);
        }
        kinds[MEM_PARAMS] += h->arena_bytes[ARENA_PARAMS];
        kinds[MEM_GRADS] += h->arena_bytes[ARENA_GRADS];
        kinds[MEM_COMM] += h->arena_bytes[ARENA_COMM];
        for (int m = MEM_PARAMS; m < MEM_SNAPSHOT; m++)
            if (m != MEM_OPTIMIZER)
                ck_assert_msg(h->peak_bytes[m] == kinds[m], "%s: peak of %s: found %llu, alive are %llu", s->text,
                              plan_memory_name((enum plan_kind_of_memory)m), (unsigned long long)h->peak_bytes[m],
                              (unsigned long long)kinds[m]);
        uint64_t least = rooms[0] + rooms[1] + rooms[2];
        ck_assert_msg(h->arena_bytes[ARENA_WORK] >= least && (double)h->arena_bytes[ARENA_WORK] <= 1.9 * (double)least,
                      "%s: room for %llu bytes, alive are %llu", s->text,
                      (unsigned long long)h->arena_bytes[ARENA_WORK], (unsigned long long)least);
    }
    compiled_release(&c);
}
END_TEST

/* Where sequences are shared, a capacity bounds the rows that a device of sharded experts has room for: of each of its experts 5 rows a
 * sequence (1.25 * 8 tokens * 2 choices / 4 experts), from every sequence group that its expert group reaches; and never more than all
 * that its group sends. qwen3_moe, 32 features, float32. */
START_TEST(test_capacity_rows)
{
    static const struct {
        const char *layout;
        uint64_t rows;
    } rows[] = {
        { "\"tp\":2,\"cp\":2,\"dp\":1,\"ep\":4", 16 * 5 },            /* of 16 sequences; 64 are sent */
        { "\"tp\":2,\"dp\":2,\"ep\":4", 2 * 8 * 5 },                  /* of 8 in each of two groups */
        { "\"tp\":2,\"cp\":2,\"dp\":1,\"ep\":2", 2 * 64 },            /* two experts: as many as both send */
        { "\"cp\":2,\"dp\":1,\"ep\":2,\"expert_bound\":1", 1 * 128 }, /* what the strategy says */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct compiled c;
        char strategy[200];
        uint32_t n = 0;
        snprintf(strategy, sizeof strategy, "[{\"op\":\"layout\",%s}]", rows[i].layout);
        compiled_init(&c, MODEL_MOE, strategy, false);
        const struct plan *p = &c.plans[0];
        for (uint32_t k = 0; k < p->h->count[PLAN_S_INSTRS]; k++) {
            const struct plan_instr *in = &p->instrs[k];
            if (in->op != PLAN_ALL_TO_ALL_V || c.g.ops.at[c.g.tensors.at[in->tensor].producer].op != IR_OP_DISPATCH ||
                in->pass != IR_PASS_F)
                continue;
            const uint64_t bytes = p->buffers[p->bases[in->first_base + 1].buffer].bytes;
            ck_assert_msg(bytes == rows[i].rows * 32 * 4, "%s: room for %llu bytes, expected %llu rows", strategy,
                          (unsigned long long)bytes, (unsigned long long)rows[i].rows);
            n++;
        }
        ck_assert_uint_gt(n, 0);
        compiled_release(&c);
    }
}
END_TEST

/* With "received":"again" the rows that experts have received are alive for two backwards at most: of so many microbatches of four layers in
 * each, all but one are gone where most of them were, which is where the first backward of experts begins. dropless.json: two choices of
 * 32 features, float32; 16 sequences of 8 tokens. On the stream of computation B stays whole, whatever that takes. */
START_TEST(test_received_again)
{
    static const struct {
        uint32_t ep, microbatches;
        const char *bound, *filter;
        double factor; /* rows received at most, by those that a device sends */
    } rows[] = {
        { 2, 1, "", "{}", 2 },
        { 2, 4, "", "{}", 2 },
        { 4, 2, "", "{\"EP\":\"*\"}", 4 },
        { 4, 4, ",\"expert_bound\":1.5", "{\"EP\":\"*\"}", 1.5 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t comm[2], activations[2];
        const uint64_t sent = 16 / rows[i].ep / rows[i].microbatches * 8 * 2 * 32 * 4;
        for (int again = 0; again < 2; again++) {
            struct compiled c;
            char strategy[400];
            snprintf(strategy, sizeof strategy,
                     "[{\"op\":\"layout\",\"dp\":%u,\"ep\":%u,\"expert_stream\":\"default_stream\"%s},{\"op\":"
                     "\"schedule\",\"kind\":\"gpipe\","
                     "\"microbatches\":%u},{\"op\":\"recompute\",\"filter\":%s,\"received\":\"%s\"}]",
                     rows[i].ep, rows[i].ep, rows[i].bound, rows[i].microbatches, rows[i].filter,
                     again ? "again" : "keep");
            compiled_init(&c, MODEL_DROPLESS, strategy, false);
            comm[again] = c.plans[0].h->peak_bytes[MEM_COMM];
            activations[again] = c.plans[0].h->peak_bytes[MEM_ACTIVATIONS];
            compiled_release(&c);
        }
        const uint64_t less = (uint64_t)((4 * rows[i].microbatches - 1) * (double)sent * rows[i].factor);
        ck_assert_msg(comm[0] - comm[1] == less, "ep %u, %u microbatches: %llu bytes less, expected %llu", rows[i].ep,
                      rows[i].microbatches, (unsigned long long)(comm[0] - comm[1]), (unsigned long long)less);
        if (rows[i].filter[1] == '"') /* what the dispatches read is there anyway */
            ck_assert_uint_eq(activations[0], activations[1]);
    }
}
END_TEST

static const char *stream_name(const struct plan *p, uint32_t stream)
{
    return p->text + p->streams[stream].name;
}

static bool lists_device(const json_t *devices, uint32_t device)
{
    size_t i;
    json_t *x;
    json_array_foreach(devices, i, x) if (json_integer_value(x) == device) return true;
    return false;
}

/* The stream that a directive `op` names under `key` for a device; NULL: none does. */
static const char *named_stream(const json_t *strategy, const char *op, const char *key, uint32_t device)
{
    size_t i;
    json_t *d;
    json_array_foreach(strategy, i, d)
    {
        const char *name = json_string_value(json_object_get(d, key));
        if (name && strcmp(json_string_value(json_object_get(d, "op")), op) == 0 &&
            lists_device(json_object_get(d, "devices"), device))
            return name;
    }
    return NULL;
}

/* Messages of a lane, a stream that is named after its ends: of one direction to one set of peers. */
static void check_lanes(const struct plan *p, const char *what)
{
    for (uint32_t i = 0; i < p->h->count[PLAN_S_INSTRS]; i++) {
        const struct plan_instr *a = &p->instrs[i], *b = p->instrs;
        if ((a->op != PLAN_SEND && a->op != PLAN_RECV) || !strchr(stream_name(p, a->stream), '.'))
            continue;
        for (; b < a; b++)
            if (b->stream == a->stream)
                ck_assert_msg(a->op == b->op && a->pass == b->pass &&
                                  plan_set_at(p, a->peer_set, 0) == plan_set_at(p, b->peer_set, 0),
                              "%s: messages %u and %u are on one stream", what, (uint32_t)(b - p->instrs), i);
    }
}

/* ---- groups of ZeRO ----------------------------------------------------------------------------------------------- */

/* "0,1 2,3": the sets of a group. */
static void ck_assert_sets(const struct plan *p, uint32_t group, const char *want)
{
    char text[256] = "";
    for (uint32_t s = 0; s < p->groups[group].n_sets; s++)
        for (uint32_t i = 0; i < p->sets[p->groups[group].first_set + s].size; i++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%u",
                     i   ? ","
                     : s ? " "
                         : "",
                     plan_set_at(p, p->groups[group].first_set + s, i));
    ck_assert_str_eq(text, want);
}

static const struct zero_groups {
    enum compiled_model model;
    const char *strategy, *shard, *copies;
    uint32_t split; /* of a bucket with pieces in so many blocks */
} zero_groups[] = {
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"dp\":8,\"zero\":3,\"zero_group\":4}]", "0,1,2,3 4,5,6,7", "0,4 1,5 2,6 3,7",
      1 },
    /* in the order of the set */
    { MODEL_LLAMA, "[{\"op\":\"replicate\",\"filter\":{},\"devices\":[2,0,3,1],\"zero\":1,\"zero_group\":2}]",
      "2,0 3,1", "2,3 0,1", 1 },
    /* a stage of two is on neighbouring ranks */
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"pp\":2,\"dp\":4,\"zero\":2,\"zero_group\":2}]", "0,1 2,3", "0,2 1,3", 1 },
    /* experts: those of four neighbours with the same block */
    { MODEL_MOE, "[{\"op\":\"layout\",\"dp\":8,\"ep\":2,\"zero\":3,\"zero_group\":4}]", "0,2 4,6 1,3 5,7",
      "0,4 2,6 1,5 3,7", 2 },
    /* blocks of a tensor group: two with the same one */
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"dp\":4,\"tp\":2,\"zero\":1,\"zero_group\":2}]", "0,2 4,6 1,3 5,7",
      "0,4 2,6 1,5 3,7", 2 },
};
enum { N_ZERO_GROUPS = sizeof zero_groups / sizeof *zero_groups };

START_TEST(test_zero_groups)
{
    const struct zero_groups *z = &zero_groups[_i];
    struct compiled c;
    compiled_init(&c, z->model, z->strategy, false);
    const struct plan *p = &c.plans[0];
    uint32_t i = 0;
    while (p->pieces[p->buckets[i].first_piece].split != z->split)
        ck_assert_uint_lt(++i, p->h->count[PLAN_S_BUCKETS]);
    const struct plan_bucket *b = &p->buckets[i];
    ck_assert_uint_eq(b->zero_group, p->sets[p->groups[b->shard].first_set].size);
    ck_assert_sets(p, b->shard, z->shard);
    ck_assert_sets(p, b->copies, z->copies);
    compiled_release(&c);
}
END_TEST

/* Reductions of a bucket in a step. */
static uint32_t reductions_of(const struct plan *p, uint32_t bucket)
{
    const struct plan_list *l = &p->lists[plan_find_list(p, "train")];
    uint32_t n = 0;
    for (const struct plan_instr *in = p->instrs + l->first_instr; in < p->instrs + l->first_instr + l->n_instr; in++)
        n += (in->op == PLAN_ALL_REDUCE || in->op == PLAN_REDUCE_SCATTER) && !plan_moves_tensor(p, in) &&
             in->bucket == bucket;
    return n;
}

/* Experts on as many devices as a group has are whole on each of their holders, and reduced once a step; or only their state is sharded. */
START_TEST(test_experts_of_a_group)
{
    char strategy[200];
    struct compiled c;
    snprintf(strategy, sizeof strategy,
             "[{\"op\":\"layout\",\"dp\":4,\"ep\":2,\"zero\":3,\"zero_group\":2%s},"
             "{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]",
             _i ? ",\"zero_optimizer\":\"all\"" : "");
    compiled_init(&c, MODEL_MOE, strategy, false);
    uint32_t experts = 0, others = 0;
    for (uint32_t i = 0; i < c.plans[0].h->count[PLAN_S_BUCKETS]; i++) {
        const struct plan_bucket *b = &c.plans[0].buckets[i];
        const bool split = c.plans[0].pieces[b->first_piece].split > 1;
        ck_assert_uint_eq(b->zero_group, split ? 0 : 2);
        ck_assert_uint_eq(b->zero, !split ? ZERO_PARAMS : _i ? ZERO_STATE : ZERO_NONE);
        if (split)
            ck_assert_uint_eq(reductions_of(&c.plans[0], i), 1);
        experts += split;
        others += !split;
    }
    ck_assert(experts > 0 && others > 0);
    compiled_release(&c);
}
END_TEST

/* Without clipping the gradients of some layers have the memory of others, whatever the ZeRO level: of a part of them too, which a reduction
 * writes. With clipping all are there at the end. */
START_TEST(test_gradients_share)
{
    char strategy[100];
    snprintf(strategy, sizeof strategy, "[{\"op\":\"layout\",\"dp\":2,\"zero\":%d}]", _i);
    for (int clip = 0; clip < 2; clip++) {
        struct compiled c;
        compiled_clipped(&c, MODEL_LLAMA, strategy, false, clip);
        const struct plan *p = &c.plans[0];
        uint32_t places = 0, n = (uint32_t)p->h->count[PLAN_S_BUCKETS];
        for (uint32_t b = 0; b < n; b++) {
            bool fresh = true;
            for (uint32_t a = 0; a < b && fresh; a++)
                fresh = p->buckets[a].grad != p->buckets[b].grad;
            places += fresh;
        }
        ck_assert_msg(clip ? places == n : places + 2 <= n, "zero %d: %u places for the gradients of %u buckets", _i,
                      places, n);
        compiled_release(&c);
    }
}
END_TEST

/* Kernels are in order on the stream of compute, what communicates is on another one unless it is named so, on the one that the
 * strategy names for that device; and what a stream's communication needs is its own. */
START_TEST(test_streams)
{
    struct compiled c;
    const struct compiled_strategy *s = compiled_case(&c, _i);
    json_t *strategy = compiled_json(s->text);
    bool apart = !strstr(s->text, "\"default_stream\"");
    for (uint32_t k = 0; k < c.out.n_classes; k++) {
        const struct plan *p = &c.plans[k];
        uint32_t device = plan_set_at(p, p->h->devices, 0), n_streams = (uint32_t)p->h->count[PLAN_S_STREAMS];
        const char *sends = named_stream(strategy, "place", "stream", device);
        const char *reduces = named_stream(strategy, "replicate", "reduce_stream", device);
        ck_assert_str_eq(stream_name(p, 0), "default_stream");
        for (uint32_t i = 0; i < p->h->count[PLAN_S_INSTRS]; i++) {
            const struct plan_instr *x = &p->instrs[i];
            bool message = x->op == PLAN_SEND || x->op == PLAN_RECV || x->op == PLAN_EXCHANGE;
            bool reduction = x->op == PLAN_ALL_REDUCE || x->op == PLAN_REDUCE_SCATTER;
            const struct plan_base *from = &p->bases[x->first_base];
            bool numbers = x->op == PLAN_ALL_GATHER && from->arena == ARENA_WORK && from->access & PLAN_OWN;
            if (numbers) /* between the pieces of a program: what follows on that stream needs them */
                ck_assert_uint_eq(x->stream, 0);
            else if (x->op == PLAN_RUN || x->op == PLAN_UPDATE)
                ck_assert_uint_eq(x->stream, 0);
            else if ((message || reduction || x->op == PLAN_ALL_GATHER) && apart)
                ck_assert_msg(x->stream != 0, "%s: instruction %u is on the stream of compute", s->text, i);
            const char *named = message ? sends : reduction ? reduces : NULL;
            if (named)
                ck_assert_str_eq(stream_name(p, x->stream), named);
        }
        check_lanes(p, s->text);
        for (uint32_t a = 0; a < n_streams; a++)
            for (uint32_t b = 0; b < a; b++)
                ck_assert(p->streams[a].scratch >= p->streams[b].scratch + p->streams[b].scratch_bytes ||
                          p->streams[b].scratch >= p->streams[a].scratch + p->streams[a].scratch_bytes);
    }
    json_decref(strategy);
    compiled_release(&c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("compile");
    TCase *t = tcase_create("compile");
    tcase_set_timeout(t, 120);
    int n_strategies;
    compiled_strategies(&n_strategies);
    const int n_cases = n_strategies * MODELS;
    tcase_add_loop_test(t, test_accepted, 0, n_cases);
    tcase_add_loop_test(t, test_same_bytes, 0, n_strategies);
    suite_add_tcase(s, t);
    t = tcase_create("promises");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_memory, 0, n_cases);
    tcase_add_loop_test(t, test_streams, 0, n_cases);
    tcase_add_test(t, test_capacity_rows);
    tcase_add_test(t, test_received_again);
    tcase_add_loop_test(t, test_gradients_share, 0, 4);
    tcase_add_loop_test(t, test_zero_groups, 0, N_ZERO_GROUPS);
    tcase_add_loop_test(t, test_experts_of_a_group, 0, 2);
    suite_add_tcase(s, t);
    return suite_run(s);
}
