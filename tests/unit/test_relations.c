/* Relations between strategies of one model: what manuals promise of directives, where results are the same and only memory or speed differ. */
#include <stdio.h>

#include "compiled.h"
#include "ir/target.h"
#include "tests/unit/suite.h"

enum { STRATEGY = 1024 };

/* ---- what is alive -------------------------------------------------------------------------------------------------- */

/* The most of a list's buffers that are alive at once, in its order: their number, or their bytes; and all there are. role SLOT_KINDS:
 * any. */
struct alive {
    uint64_t n, bytes, all;
};
static struct alive most_alive(const struct plan *p, uint32_t list, uint32_t role)
{
    const struct plan_list *l = &p->lists[list];
    const uint32_t n = (uint32_t)p->h->count[PLAN_S_BUFFERS];
    uint32_t *first = mem_alloc((n + 1) * sizeof *first), *end = mem_alloc((n + 1) * sizeof *end);
    struct alive most = { 0, 0, 0 };
    for (uint32_t i = 0; i < l->n_instr; i++) {
        const struct plan_instr *in = &p->instrs[l->first_instr + i];
        for (uint32_t k = in->first_base; k < in->first_base + in->n_bases; k++)
            if (p->bases[k].arena == ARENA_WORK) {
                const uint32_t b = p->bases[k].buffer;
                first[b] = end[b] ? first[b] : i;
                end[b] = i + 1;
            }
    }
    for (uint32_t b = 0; b < n; b++)
        most.all += end[b] && (role == SLOT_KINDS || p->buffers[b].role == role);
    for (uint32_t i = 0; i < l->n_instr; i++) {
        struct alive now = { 0, 0, 0 };
        for (uint32_t b = 0; b < n; b++)
            if (first[b] <= i && i < end[b] && (role == SLOT_KINDS || p->buffers[b].role == role)) {
                now.n++;
                now.bytes += p->buffers[b].bytes;
            }
        most.n = now.n > most.n ? now.n : most.n;
        most.bytes = now.bytes > most.bytes ? now.bytes : most.bytes;
    }
    mem_free(first);
    mem_free(end);
    return most;
}

static struct alive train_alive(const struct compiled *c, uint32_t cls, uint32_t role)
{
    return most_alive(&c->plans[cls], plan_find_list(&c->plans[cls], "train"), role);
}

/* ---- recompute -------------------------------------------------------------------------------------------------------- */

static const char *const pipelines[] = {
    "{\"op\":\"layout\",\"pp\":2,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":4}",
    "{\"op\":\"layout\",\"pp\":2,\"dp\":1,\"placement\":\"interleaved\"},{\"op\":\"schedule\",\"kind\":\"interleaved\","
    "\"microbatches\":4}",
    "{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"zero\":3},{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":4}",
    /* the memory of what BI has computed again lives until BW: some microbatches alone may need more than none */
    "{\"op\":\"layout\",\"pp\":2,\"dp\":2},{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":4}",
};
enum { N_PIPELINES = sizeof pipelines / sizeof *pipelines };
/* Two filters, and one that says both. */
static const struct {
    const char *a, *b, *both;
} filters[] = {
    { "{\"PP\":0}", "{\"PP\":1}", "{\"PP\":\"0-1\"}" },
    { "{\"MB\":\"0-1\"}", "{\"MB\":\"2-3\"}", "{}" },
    { "{\"MB\":0}", "{\"MB\":2}", "{\"MB\":\"0-3:2\"}" },
    { "{\"MB\":\"0-2:2\"}", "{\"MB\":\"1-3:2\"}", "{\"MB\":\"*\"}" },
    { "{\"PP\":1}", "{\"PP\":1}", "{\"PP\":1}" },
};
enum { N_FILTERS = sizeof filters / sizeof *filters };

static void recompute(struct compiled *c, const char *pipeline, const char *a, const char *b)
{
    char text[STRATEGY], more[STRATEGY / 2] = "";
    if (b)
        snprintf(more, sizeof more, ",{\"op\":\"recompute\",\"filter\":%s}", b);
    if (a)
        snprintf(text, sizeof text, "[%s,{\"op\":\"recompute\",\"filter\":%s}%s]", pipeline, a, more);
    else
        snprintf(text, sizeof text, "[%s]", pipeline);
    compiled_init(c, MODEL_LLAMA, text, false);
}

/* Directives add up, in any order and to the byte; each saves memory or needs no more, and both together save as much as the better one. */
START_TEST(test_recompute)
{
    const bool splits = strstr(pipelines[_i / N_FILTERS], "zb-h1") != NULL;
    const char *pipeline = pipelines[_i / N_FILTERS], *a = filters[_i % N_FILTERS].a, *b = filters[_i % N_FILTERS].b;
    struct compiled none, one, other, both, turned, at_once;
    recompute(&none, pipeline, NULL, NULL);
    recompute(&one, pipeline, a, NULL);
    recompute(&other, pipeline, b, NULL);
    recompute(&both, pipeline, a, b);
    recompute(&turned, pipeline, b, a);
    recompute(&at_once, pipeline, filters[_i % N_FILTERS].both, NULL);
    ck_assert_msg(compiled_same(&both, &turned), "%s: %s and %s in the other order", pipeline, a, b);
    ck_assert_msg(compiled_same(&both, &at_once), "%s: %s and %s, said at once", pipeline, a, b);
    uint64_t sum[2] = { 0, 0 }; /* of all classes, without and with both */
    for (uint32_t cls = 0; cls < none.out.n_classes; cls++) {
        const uint64_t with_a = train_alive(&one, cls, SLOT_KINDS).bytes,
                       with_b = train_alive(&other, cls, SLOT_KINDS).bytes,
                       with_both = train_alive(&both, cls, SLOT_KINDS).bytes,
                       without = train_alive(&none, cls, SLOT_KINDS).bytes;
        sum[0] += without;
        sum[1] += with_both;
        ck_assert_msg(splits || (with_both <= with_a && with_both <= with_b && with_a <= without && with_b <= without),
                      "%s, class %u: %llu bytes, with %s %llu, with %s %llu, with both %llu", pipeline, cls,
                      (unsigned long long)without, a, (unsigned long long)with_a, b, (unsigned long long)with_b,
                      (unsigned long long)with_both);
    }
    ck_assert_msg(splits || sum[1] < sum[0], "%s: %s and %s save nothing", pipeline, a, b);
    compiled_release(&none);
    compiled_release(&one);
    compiled_release(&other);
    compiled_release(&both);
    compiled_release(&turned);
    compiled_release(&at_once);
}
END_TEST

/* ---- ZeRO --------------------------------------------------------------------------------------------------------------- */

static void replicate(struct compiled *c, const char *keys)
{
    char text[STRATEGY];
    snprintf(text, sizeof text,
             "[{\"op\":\"replicate\",\"filter\":{},\"devices\":[0,1,2,3],%s},{\"op\":\"split\",\"filter\":{},"
             "\"num_microbatches\":2}]",
             keys);
    compiled_init(c, MODEL_LLAMA, text, false);
}

/* What shard_grads and shard_params say is a level, whatever else is said beside them. */
static const struct {
    const char *said;
    uint32_t level;
} levels[] = {
    { "\"shard_grads\":true", 2 },
    { "\"shard_params\":true", 3 },
    { "\"shard_grads\":true,\"shard_params\":true", 3 },
    { "\"shard_params\":true,\"shard_grads\":false", 3 },
    { "\"zero\":1,\"shard_grads\":true", 2 },
    { "\"zero\":1,\"shard_params\":true,\"shard_grads\":true", 3 },
    { "\"zero\":3,\"shard_grads\":true", 3 },
    { "\"zero\":2,\"shard_grads\":false", 2 },
};

START_TEST(test_levels)
{
    struct compiled said, level;
    char text[64];
    snprintf(text, sizeof text, "\"zero\":%u", levels[_i].level);
    replicate(&said, levels[_i].said);
    replicate(&level, text);
    ck_assert_msg(compiled_same(&said, &level), "%s is not zero %u", levels[_i].said, levels[_i].level);
    compiled_release(&said);
    compiled_release(&level);
}
END_TEST

/* From a level on an arena holds a holder's share of each bucket; below it the whole. */
START_TEST(test_shares)
{
    char text[64];
    struct compiled c;
    snprintf(text, sizeof text, "\"zero\":%d,\"bucket_size\":\"layer\"", _i);
    replicate(&c, text);
    const struct plan *p = &c.plans[0];
    uint64_t whole = 0;
    for (uint32_t b = 0; b < p->h->count[PLAN_S_BUCKETS]; b++)
        whole += p->buckets[b].elements * 4;
    const struct {
        enum plan_arena arena;
        int from;
        uint64_t bytes;
    } arenas[] = { { ARENA_OPTIM, 1, 2 * whole }, { ARENA_GRADS, 2, whole }, { ARENA_PARAMS, 3, whole } };
    for (int k = 0; k < 3; k++) {
        const uint64_t want = arenas[k].bytes / (_i >= arenas[k].from ? 4 : 1),
                       has = p->h->arena_bytes[arenas[k].arena],
                       gaps = 2 * p->h->count[PLAN_S_BUCKETS] * ir_target_cpu.alignment;
        ck_assert_msg(has >= want && has <= want + gaps, "zero %d: arena %d has %llu bytes, expected %llu", _i,
                      (int)arenas[k].arena, (unsigned long long)has, (unsigned long long)want);
    }
    compiled_release(&c);
}
END_TEST

/* ---- prefetch ----------------------------------------------------------------------------------------------------------- */

/* prefetch + 1 whole buckets are in memory, where there are so many. */
START_TEST(test_prefetch)
{
    const uint32_t prefetch = (uint32_t)_i % 4, pp = 1 + (uint32_t)_i / 4;
    char text[STRATEGY];
    struct compiled c;
    snprintf(text, sizeof text,
             "[{\"op\":\"layout\",\"pp\":%u,\"dp\":2,\"zero\":3,\"prefetch\":%u},{\"op\":\"schedule\",\"kind\":"
             "\"1f1b\",\"microbatches\":2}]",
             pp, prefetch);
    compiled_init(&c, MODEL_LLAMA, text, false);
    for (uint32_t cls = 0; cls < c.out.n_classes; cls++)
        for (uint32_t l = 0; l < c.plans[cls].h->count[PLAN_S_LISTS]; l++) {
            const struct alive alive = most_alive(&c.plans[cls], l, SLOT_PARAM);
            const uint64_t most = prefetch + 1 < alive.all ? prefetch + 1 : alive.all;
            ck_assert_msg(alive.n == most, "pp %u, prefetch %u, class %u: %llu whole buckets at once, expected %llu",
                          pp, prefetch, cls, (unsigned long long)alive.n, (unsigned long long)most);
        }
    compiled_release(&c);
}
END_TEST

/* What a backward computes again reads all that the forward reads: here a table of words, which the head shares, without a layer of its
 * own; sharded, it is gathered for that too, or the checker refuses the plan. */
START_TEST(test_gathered_for_recompute)
{
    struct compiled c;
    compiled_init(&c, MODEL_TIED,
                  "[{\"op\":\"layout\",\"dp\":2,\"zero\":3},{\"op\":\"schedule\",\"kind\":\"gpipe\","
                  "\"microbatches\":2},{\"op\":\"recompute\",\"filter\":{}}]",
                  false);
    compiled_release(&c);
}
END_TEST

/* ---- regions ------------------------------------------------------------------------------------------------------------ */

/* Does an instruction compute with such an operator? */
static bool runs_op(const struct plan *p, const struct plan_instr *in, enum ir_op op)
{
    if (in->op != PLAN_RUN)
        return false;
    const struct plan_program *g = &p->programs[in->program];
    for (uint32_t k = g->first_kernel; k < g->first_kernel + g->n_kernels; k++)
        if (p->kernels[k].op == op)
            return true;
    return false;
}

static bool reads(const struct plan *p, const struct plan_instr *in, uint32_t buffer)
{
    for (uint32_t k = in->first_base; k < in->first_base + in->n_bases; k++)
        if (p->bases[k].arena == ARENA_WORK && p->bases[k].buffer == buffer)
            return true;
    return false;
}

/* What a backward gathers again travels under products: one run of them at least stands between it and what reads it. */
START_TEST(test_gathered_again)
{
    struct compiled c;
    uint32_t n = 0;
    compiled_init(&c, MODEL_LLAMA,
                  _i ? "[{\"op\":\"layout\",\"tp\":2,\"cp\":2,\"dp\":1}]"
                     : "[{\"op\":\"layout\",\"tp\":2,\"dp\":1},{\"op\":\"schedule\",\"kind\":"
                       "\"gpipe\",\"microbatches\":2}]",
                  false);
    const struct plan *p = &c.plans[0];
    const struct plan_list *l = &p->lists[plan_find_list(p, "train")];
    const struct plan_instr *in = p->instrs + l->first_instr;
    for (uint32_t i = 0; i < l->n_instr; i++) {
        bool before = false, runs = false;
        if (in[i].op != PLAN_ALL_GATHER || !plan_moves_tensor(p, &in[i]) || in[i].pass == IR_PASS_F)
            continue;
        for (uint32_t k = 0; k < i; k++)
            before = before || (in[k].op == PLAN_ALL_GATHER && plan_moves_tensor(p, &in[k]) &&
                                in[k].tensor == in[i].tensor && in[k].mb == in[i].mb && in[k].pass == IR_PASS_F);
        if (!before || in[i].stream == PLAN_COMPUTE_STREAM)
            continue;
        const uint32_t buffer = p->bases[in[i].first_base + 1].buffer;
        for (uint32_t k = i + 1; k < l->n_instr && !(in[k].op == PLAN_RUN && reads(p, &in[k], buffer)); k++)
            runs = runs || runs_op(p, &in[k], IR_OP_LINEAR) || runs_op(p, &in[k], IR_OP_ATTENTION);
        ck_assert_msg(runs, "instruction %u: nothing multiplies before what it gathers is read", i);
        n++;
    }
    ck_assert_uint_gt(n, 10);
    compiled_release(&c);
}
END_TEST

/* ---- buckets ------------------------------------------------------------------------------------------------------------ */

/* Elements of the parameters of an operator. */
static uint64_t elements_of(const struct ir_graph *g, uint32_t op)
{
    uint64_t n = 0;
    for (int i = 0; i < IR_MAX_PARAM; i++)
        if (g->ops.at[op].param[i] != IR_NONE)
            n += ir_shape_elements(&g->params.at[g->ops.at[op].param[i]].shape);
    return n;
}

static uint32_t bucket_of(const struct plan *p, uint32_t param)
{
    for (uint32_t i = 0; i < p->h->count[PLAN_S_PIECES]; i++)
        if (p->pieces[i].param == param)
            return p->pieces[i].bucket;
    return PLAN_NONE;
}

/* Buckets have as many operators as go into bucket_size, and one at least: tried where a bucket is filled exactly, and an element less. */
START_TEST(test_bucket_size)
{
    struct ir_graph g;
    char keys[64];
    compiled_graph(MODEL_LLAMA, &g);
    uint64_t size = 0;
    for (uint32_t o = 0; o < g.ops.n && o <= (uint32_t)_i / 2; o++)
        size += elements_of(&g, o);
    size -= (uint64_t)_i % 2;
    ir_graph_release(&g);
    if (size == 0)
        return;
    struct compiled c;
    snprintf(keys, sizeof keys, "\"bucket_size\":%.17g", (double)size * 4 / 1048576);
    replicate(&c, keys);
    uint64_t filled = 0;
    uint32_t now = PLAN_NONE, n = 0;
    for (uint32_t o = 0; o < c.g.ops.n; o++) {
        if (!elements_of(&c.g, o))
            continue;
        const uint32_t bucket = bucket_of(&c.plans[0], c.g.ops.at[o].param[0]);
        const bool fits = filled + elements_of(&c.g, o) <= size;
        if (now != PLAN_NONE)
            ck_assert_msg((bucket == now) == fits, "%s: %s, behind %llu of %llu elements", keys, c.g.ops.at[o].name,
                          (unsigned long long)filled, (unsigned long long)size);
        filled = bucket == now ? filled + elements_of(&c.g, o) : elements_of(&c.g, o);
        now = bucket;
        n++;
    }
    ck_assert_uint_gt(n, 10);
    compiled_release(&c);
}
END_TEST

/* ---- ends that are spread ----------------------------------------------------------------------------------------------- */

enum { PP = 2, MICROBATCHES = 4 };

/* Passes of an operator on each pipeline rank, and of them those of a microbatch that is another one's. */
static void count_passes(const struct compiled *c, enum ir_op op, uint32_t n[PP], uint32_t others[PP])
{
    for (uint32_t cls = 0; cls < c->out.n_classes; cls++) {
        const struct plan *p = &c->plans[cls];
        const struct plan_list *l = &p->lists[plan_find_list(p, "train")];
        const uint32_t rank = p->ranges[p->sets[p->h->devices].first_range].start % PP;
        for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++) {
            const bool runs = runs_op(p, &p->instrs[i], op);
            n[rank] += runs;
            others[rank] += runs && p->instrs[i].mb % PP != rank;
        }
    }
}

/* Microbatch k of an end that is spread is on pipeline rank k mod pp, forward and backward; an end that is not is on one of them. */
START_TEST(test_spread)
{
    static const char *const keys[] = { "", ",\"encoder\":\"spread\"", ",\"head\":\"spread\"",
                                        ",\"encoder\":\"spread\",\"head\":\"spread\"" };
    static const enum ir_op ends[] = { IR_OP_EMBED, IR_OP_HEAD_LOSS };
    struct compiled c;
    char text[STRATEGY];
    snprintf(text, sizeof text,
             "[{\"op\":\"layout\",\"pp\":%d,\"dp\":2%s},{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":%d}]",
             PP, keys[_i], MICROBATCHES);
    compiled_init(&c, MODEL_LLAMA, text, false);
    for (uint32_t end = 0; end < 2; end++) {
        uint32_t n[PP] = { 0 }, others[PP] = { 0 };
        count_passes(&c, ends[end], n, others);
        if ((uint32_t)_i >> end & 1)
            ck_assert_msg(n[0] == n[1] && n[0] > 0 && others[0] + others[1] == 0,
                          "%s: end %u: %u and %u passes, %u and %u of other microbatches", text, end, n[0], n[1],
                          others[0], others[1]);
        else
            ck_assert_msg(n[end] > 0 && n[!end] == 0, "%s: end %u: %u and %u passes", text, end, n[0], n[1]);
    }
    compiled_release(&c);
}
END_TEST

/* ---- thread blocks ------------------------------------------------------------------------------------------------------ */

enum { STREAMS = 16 };

static bool is_message(const struct plan_instr *in)
{
    return in->op == PLAN_SEND || in->op == PLAN_RECV || in->op == PLAN_EXCHANGE;
}

/* Thread blocks of each stream of a class that communicates in training; 0: it does not. Returns their sum. */
static uint32_t request(const struct plan *p, const struct ir_target *target, uint32_t ctas[STREAMS])
{
    const struct plan_list *l = &p->lists[plan_find_list(p, "train")];
    uint32_t sum = 0;
    ck_assert_uint_le(p->h->count[PLAN_S_STREAMS], STREAMS);
    for (uint32_t s = 0; s < p->h->count[PLAN_S_STREAMS]; s++) {
        bool any = false, collectives = false;
        for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++) {
            const bool collective = p->instrs[i].channel != PLAN_NONE;
            any = any || (p->instrs[i].stream == s && (is_message(&p->instrs[i]) || collective));
            collectives = collectives || (p->instrs[i].stream == s && collective);
        }
        ctas[s] = any ? ir_target_ctas(target, p->streams[s].max_ctas, collectives) : 0;
        sum += ctas[s];
    }
    return sum;
}

/* Of the instructions of a stream how many have ended, when one begins. */
struct ended {
    uint32_t of[STREAMS];
};

/* Behind instruction number i, too. */
static void follow(struct ended *ended, const struct ended *all, uint32_t i, uint32_t stream)
{
    for (uint32_t s = 0; s < STREAMS; s++)
        ended->of[s] = all[i].of[s] > ended->of[s] ? all[i].of[s] : ended->of[s];
    ended->of[stream] = i + 1 > ended->of[stream] ? i + 1 : ended->of[stream];
}

/* Pairs of streams that communicate at once somewhere in training: neither of two communications waits for the other one. */
static void find_pairs(const struct plan *p, bool pairs[STREAMS][STREAMS])
{
    const struct plan_list *l = &p->lists[plan_find_list(p, "train")];
    const struct plan_instr *in = p->instrs + l->first_instr;
    struct ended *all = mem_alloc((l->n_instr + 1) * sizeof *all);
    uint32_t last[STREAMS] = { 0 };
    for (uint32_t i = 0; i < l->n_instr; i++) {
        all[i] = (struct ended){ { 0 } };
        if (last[in[i].stream])
            follow(&all[i], all, last[in[i].stream] - 1, in[i].stream);
        for (uint32_t w = in[i].first_wait; w < in[i].first_wait + in[i].n_waits; w++)
            follow(&all[i], all, p->waits[w], in[p->waits[w]].stream);
        last[in[i].stream] = i + 1;
    }
    for (uint32_t i = 0; i < l->n_instr; i++)
        for (uint32_t k = 0; k < i; k++)
            if ((is_message(&in[i]) || in[i].channel != PLAN_NONE) &&
                (is_message(&in[k]) || in[k].channel != PLAN_NONE) && all[i].of[in[k].stream] <= k)
                pairs[in[i].stream][in[k].stream] = pairs[in[k].stream][in[i].stream] = true;
    mem_free(all);
}

/* The most thread blocks of streams of which all pairs communicate at once. */
static uint32_t at_once(const struct plan *p, const struct ir_target *target)
{
    bool pairs[STREAMS][STREAMS] = { { false } };
    uint32_t ctas[STREAMS], most = 0, n = (uint32_t)p->h->count[PLAN_S_STREAMS];
    request(p, target, ctas);
    find_pairs(p, pairs);
    for (uint32_t set = 1; set < 1u << n; set++) {
        uint32_t sum = 0;
        bool together = true;
        for (uint32_t s = 0; s < n && together; s++) {
            sum += set >> s & 1 ? ctas[s] : 0;
            for (uint32_t t = 0; t < s; t++)
                together = together && (!(set >> s & set >> t & 1) || pairs[s][t]);
        }
        most = together && sum > most ? sum : most;
    }
    return most;
}

/* Whatever number of multiprocessors a device has: what may be in flight at once by the waits of a plan fits, and where all fit, none
 * takes turns. */
START_TEST(test_turns)
{
    const char *strategy = "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2,\"zero\":3},{\"op\":\"schedule\",\"kind\":"
                           "\"1f1b\",\"microbatches\":4},{\"op\":\"stream\",\"name\":\"ep\",\"max_ctas\":9},"
                           "{\"op\":\"stream\",\"name\":\"dp\",\"max_ctas\":3}]";
    struct sched_input in = compiled_settings();
    struct compiled wide;
    uint32_t ctas[STREAMS], most = 0, largest = 0, free = 0;
    in.target = &ir_target_cuda;
    in.compute = IR_BF16;
    in.eval = false;
    in.multiprocessors = 1 << 20;
    compiled_as(&wide, MODEL_MOE, strategy, false, in);
    for (uint32_t cls = 0; cls < wide.out.n_classes; cls++) {
        const uint32_t n = request(&wide.plans[cls], in.target, ctas), of = at_once(&wide.plans[cls], in.target);
        most = n > most ? n : most;
        free = of > free ? of : free;
        for (uint32_t s = 0; s < wide.plans[cls].h->count[PLAN_S_STREAMS]; s++)
            largest = ctas[s] > largest ? ctas[s] : largest;
    }
    ck_assert_uint_gt(free, largest + 2); /* so many would be at once */
    for (in.multiprocessors = largest; in.multiprocessors <= most; in.multiprocessors++) {
        struct compiled c;
        compiled_as(&c, MODEL_MOE, strategy, false, in);
        ck_assert_msg(compiled_same(&c, &wide) || in.multiprocessors < most, "%u requested, %u there", most,
                      in.multiprocessors);
        for (uint32_t cls = 0; cls < c.out.n_classes; cls++)
            ck_assert_msg(at_once(&c.plans[cls], in.target) <= in.multiprocessors, "class %u: %u at once, %u there",
                          cls, at_once(&c.plans[cls], in.target), in.multiprocessors);
        compiled_release(&c);
    }
    compiled_release(&wide);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("relations");
    TCase *t = tcase_create("relations");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_recompute, 0, N_PIPELINES * N_FILTERS);
    tcase_add_loop_test(t, test_levels, 0, sizeof levels / sizeof *levels);
    tcase_add_loop_test(t, test_shares, 0, 4);
    tcase_add_loop_test(t, test_prefetch, 0, 8);
    tcase_add_test(t, test_gathered_for_recompute);
    tcase_add_loop_test(t, test_gathered_again, 0, 2);
    tcase_add_loop_test(t, test_bucket_size, 0, 40);
    tcase_add_loop_test(t, test_spread, 0, 4);
    tcase_add_test(t, test_turns);
    suite_add_tcase(s, t);
    return suite_run(s);
}
