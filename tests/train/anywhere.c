/* anywhere [STRIDE]: a checkpoint saved under one strategy is loaded under another, on other numbers of ranks, to the bit: weights,
 * masters and moments, and every copy of them. All ordered pairs of the strategies below, or every STRIDE-th, in float32
 * and in bfloat16 with masters. Run on 8 ranks, by tests/run-mpi; a strategy of fewer ranks leaves the others without pieces.
 *
 * The plans are the compiler's; nothing is trained: values are functions of tensor, element and kind, so that each is known
 * wherever it comes to lie. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "io/checkpoint.h"
#include "io/model.h"
#include "comm/world.h"
#include "ir/family/family.h"
#include "base/number.h"
#include "train/pieces.h"
#include "sched/sched.h"
#include "exec/bucket_view.h"

/* Experts; and packed q, k and v in columns of one weight, with a tied table of words that no group divides. */
enum { MOE, PACKED, MODELS };
static const char *const models[MODELS] = {
    "{\"model_type\":\"qwen3_moe\",\"vocab_size\":50,\"hidden_size\":16,\"num_hidden_layers\":8,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":8,\"moe_intermediate_size\":12,\"num_experts\":8,"
    "\"num_experts_per_tok\":2,\"capacity_factor\":1.5}",
    "{\"model_type\":\"gpt2\",\"vocab_size\":50,\"n_embd\":16,\"n_layer\":8,\"n_head\":4,\"n_positions\":8}",
};

#define LAYOUT(what)                 "{\"op\":\"layout\"," what "}"
#define SCHEDULE(kind, microbatches) ",{\"op\":\"schedule\",\"kind\":\"" kind "\",\"microbatches\":" #microbatches "}"
static const struct {
    uint32_t ranks;
    const char *text;
} strategies[] = {
    { 1, "[]" },
    { 2, "[{\"op\":\"replicate\",\"filter\":{},\"devices\":[0,1]}]" },
    { 3, "[{\"op\":\"replicate\",\"filter\":{},\"devices\":[0,1,2],\"zero\":1,\"bucket_size\":0.01}]" },
    { 4, "[{\"op\":\"replicate\",\"filter\":{},\"devices\":[0,1,2,3],\"zero\":2}]" },
    { 6, "[{\"op\":\"replicate\",\"filter\":{},\"devices\":[\"0-5\"],\"zero\":3}]" },
    { 8, "[" LAYOUT("\"pp\":1,\"dp\":8,\"ep\":8,\"zero\":1") "]" },
    { 8, "[" LAYOUT("\"pp\":1,\"dp\":8,\"ep\":4,\"zero\":3") "]" },
    { 4, "[" LAYOUT("\"pp\":4,\"dp\":1") SCHEDULE("1f1b", 4) "]" },
    { 8, "[" LAYOUT("\"pp\":2,\"dp\":4,\"ep\":2,\"zero\":2") SCHEDULE("1f1b", 2) "]" },
    { 4, "[" LAYOUT("\"pp\":2,\"dp\":2,\"placement\":\"interleaved\",\"zero\":1") SCHEDULE("interleaved", 2) "]" },
    { 4, "[" LAYOUT("\"pp\":4,\"dp\":1") SCHEDULE("zb-h1", 4) "]" },
    { 8, "[" LAYOUT("\"pp\":4,\"dp\":2,\"ep\":2,\"placement\":\"v\"") SCHEDULE("dualpipev", 8) "]" },
    { 4, "[" LAYOUT("\"pp\":4,\"dp\":1,\"placement\":\"two-way\"") SCHEDULE("dualpipe", 8) "]" },
    { 8, "[" LAYOUT("\"pp\":1,\"dp\":8,\"ep\":2,\"zero\":3,\"zero_group\":4") "]" },
    { 6, "[{\"op\":\"replicate\",\"filter\":{},\"devices\":[5,0,4,1,3,2],\"zero\":2,\"zero_group\":3}]" },
    { 8, "[" LAYOUT("\"pp\":1,\"dp\":8,\"zero\":1,\"zero_group\":2,\"zero_optimizer\":\"all\"") "]" },
    { 8, "[" LAYOUT("\"pp\":2,\"dp\":4,\"ep\":4,\"zero\":3,\"zero_group\":2,\"zero_optimizer\":\"all\"")
             SCHEDULE("1f1b", 2) "]" },
    { 2, "[" LAYOUT("\"tp\":2,\"dp\":1") "]" },
    { 4, "[" LAYOUT("\"cp\":4,\"dp\":1,\"order\":\"contiguous\",\"zero\":3") "]" },
    { 8, "[" LAYOUT("\"tp\":2,\"cp\":2,\"dp\":2,\"vocab\":true,\"zero\":1,\"exchange\":\"ring\"") "]" },
    { 8, "[" LAYOUT("\"pp\":2,\"tp\":2,\"dp\":2,\"vocab\":true,\"zero\":3,\"zero_group\":2") SCHEDULE("zb-h1", 4) "]" },
    { 8, "[" LAYOUT("\"tp\":2,\"dp\":4,\"ep\":4,\"zero\":2") "]" },
    { 8,
      "[" LAYOUT("\"pp\":4,\"tp\":2,\"dp\":1,\"placement\":\"two-way\",\"vocab\":true") SCHEDULE("dualpipe", 8) "]" },
    { 8, "[{\"op\":\"replicate\",\"filter\":{\"PP\":0},\"rotate\":[[\"0-3\"],[\"4-7\"]],\"zero\":1},"
         "{\"op\":\"replicate\",\"filter\":{\"PP\":1},\"rotate\":[[\"4-7\"],[\"0-3\"]]},"
         "{\"op\":\"shard\",\"filter\":{\"EP\":\"*\"},\"devices\":[[0,1],[2,3],[4,5],[6,7]]},"
         "{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2}]" },
};
enum { STRATEGIES = sizeof strategies / sizeof *strategies, BATCH = 48, SEQ_LEN = 8, RANKS = 8 };

static char folder[64];
static uint64_t compared;

static _Noreturn void fail(const char *what, uint32_t from, uint32_t to, const char *text)
{
    fprintf(stderr, "anywhere: rank %u, %s, from strategy %u to %u: %s\n", world_rank(), what, from, to, text);
    world_abort(1);
}

/* One strategy on this rank. */
struct world {
    uint32_t strategy;
    struct ir_graph g;
    struct sched_output out;
    bool member;
    struct plan p;
    unsigned char *base[ARENA_COUNT];
};

static void build(const char *model, struct ir_graph *g)
{
    struct err e = { 0 };
    struct notices notices;
    json_t *json;
    notices_init(&notices);
    ir_graph_init(g);
    if (js_load_text(model, "model", &json, &e) != ST_OK ||
        ir_family_build(json, "model", SEQ_LEN, g, &notices, &e) != ST_OK)
        fail("model", 0, 0, e.text);
    notices_release(&notices);
    json_decref(json);
}

static void open_world(struct world *w, const char *model, uint32_t strategy, enum ir_dtype dtype)
{
    struct err e = { 0 };
    json_t *list;
    *w = (struct world){ .strategy = strategy, .member = world_rank() < strategies[strategy].ranks };
    build(model, &w->g);
    if (js_load_text(strategies[strategy].text, "strategy", &list, &e) != ST_OK)
        fail("strategy", strategy, strategy, e.text);
    struct sched_input in = { .graph = &w->g,
                              .strategy = list,
                              .strategy_name = "strategy",
                              .ranks = strategies[strategy].ranks,
                              .batch_size = BATCH,
                              .compute = dtype,
                              .snapshot = strategy % 2,
                              .target = dtype == IR_F32 ? &ir_target_cpu : &ir_target_emulate };
    if (sched_compile(&in, &w->out, &e) != ST_OK)
        fail("compiler", strategy, strategy, e.text);
    json_decref(list);
    if (!w->member)
        return;
    const struct sched_class *c = &w->out.classes[w->out.class_of[world_rank()]];
    if (plan_open(c->blob, c->bytes, w->g.ops.n, w->g.params.n, w->g.tensors.n, &w->p, &e) != ST_OK)
        fail("plan", strategy, strategy, e.text);
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        w->base[a] = mem_alloc(w->p.h->arena_bytes[a]);
}

static void close_world(struct world *w)
{
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        mem_free(w->base[a]);
    sched_output_release(&w->out);
    ir_graph_release(&w->g);
}

/* ---- values by place ------------------------------------------------------------------------------------------ */

/* Any bits but those of NaN; different in nearby places. */
static float value(uint32_t param, uint64_t i, int kind)
{
    uint32_t x = (uint32_t)(i * 2654435761u + param * 40503u + (uint32_t)kind * 977u + 12345u);
    float f;
    x ^= x >> 15;
    x = (x * 2246822519u & 0x807fffff) | (0x30000000 + (x % 16 << 23));
    memcpy(&f, &x, sizeof f);
    return f;
}

/* Sets, or compares, what lies at `at` for the range `in` of a bucket; `half`: as bfloat16. */
static bool visit_range(const struct world *w, uint32_t bucket, struct bucket_view_range in, void *at, int kind,
                        bool half, bool set)
{
    const struct plan_bucket *b = &w->p.buckets[bucket];
    bool same = true;
    for (uint32_t i = b->first_piece; i < b->first_piece + b->n_pieces; i++) {
        struct bucket_view_piece s = { 0 };
        while (bucket_view_next(&w->p, i, world_rank(), in, &s))
            for (uint64_t k = 0; k < s.count; k++) {
                float want = value(s.param, s.first + k, kind);
                uint16_t short_want = number_to_bf16(want);
                unsigned char *to = (unsigned char *)at + (s.offset - in.first + k) * (half ? 2 : 4);
                const void *from = half ? (void *)&short_want : (void *)&want;
                if (set)
                    memcpy(to, from, half ? 2 : 4);
                else
                    same = same && memcmp(to, from, half ? 2 : 4) == 0;
                compared += !set;
            }
    }
    return same;
}

/* Everything that this rank holds, owned or copied. */
static bool visit(const struct world *w, bool set)
{
    bool same = true;
    for (uint32_t b = 0; w->member && b < w->p.h->count[PLAN_S_BUCKETS]; b++) {
        struct bucket_view s = bucket_view_of(&w->p, b, world_rank(), w->base);
        float *const state[] = { s.master, s.m, s.v };
        same &= visit_range(w, b, s.params, s.param, 0, s.type == IR_BF16, set);
        for (int kind = 0; kind < 3; kind++)
            if (state[kind])
                same &= visit_range(w, b, s.state, state[kind], kind, false, set);
    }
    return same;
}

/* ---- saving and loading --------------------------------------------------------------------------------------- */

static const char *run_folder(uint32_t strategy)
{
    static char path[96];
    snprintf(path, sizeof path, "%s/%u", folder, strategy);
    return path;
}

static void save(const struct world *w, const struct ir_graph *g, const uint8_t digest[SHA256_BYTES])
{
    struct err e = { 0 };
    struct pieces pieces = { .block = NULL };
    struct checkpoint_saver *s;
    if (w->member)
        pieces_to_write(&w->p, world_rank(), w->base, &pieces);
    for (uint32_t i = 0; i < pieces.copies.n; i++)
        memcpy(pieces.copies.at[i].to, pieces.copies.at[i].from, pieces.copies.at[i].bytes);
    struct dir run = { .fd = -1 };
    if (world_rank() == 0 && mkdir(run_folder(w->strategy), 0777) != 0)
        fail("folder", w->strategy, w->strategy, run_folder(w->strategy));
    world_barrier();
    if (dir_open(run_folder(w->strategy), &run, &e) != ST_OK)
        fail("folder", w->strategy, w->strategy, e.text);
    struct checkpoint_setup setup = { .dir = &run,
                                      .loaded = UINT64_MAX,
                                      .graph = g,
                                      .info = { .seed = 5, .optimizer = "adamw", .build = "test" },
                                      .pieces = pieces.list.at,
                                      .n_pieces = pieces.list.n };
    memcpy(setup.info.model_digest, digest, SHA256_BYTES);
    if (checkpoint_saver_open(&setup, &s, &e) != ST_OK)
        fail("saving", w->strategy, w->strategy, e.text);
    checkpoint_save_begin(s, 3, 3 * BATCH, 3);
    for (bool done = false; !done;)
        if (checkpoint_save_advance(s, &done, &e) != ST_OK)
            fail("saving", w->strategy, w->strategy, e.text);
    checkpoint_saver_close(s);
    dir_close(&run);
    pieces_release(&pieces);
}

static void load(const struct world *w, uint32_t from, const struct ir_graph *g, const uint8_t digest[SHA256_BYTES])
{
    struct err e = { 0 };
    struct pieces pieces = { .block = NULL };
    struct checkpoint_info info;
    bool found;
    for (uint32_t a = 0; w->member && a < ARENA_COUNT; a++)
        memset(w->base[a], 0xee, w->p.h->arena_bytes[a]);
    if (w->member)
        pieces_to_read(&w->p, world_rank(), w->base, &pieces);
    struct checkpoint_expect expect = { .graph = g, .model_digest = digest };
    struct dir run;
    if (dir_open(run_folder(from), &run, &e) != ST_OK)
        fail("folder", from, w->strategy, e.text);
    if (checkpoint_resume(&run, &expect, pieces.list.at, pieces.list.n, &found, &info, &e) != ST_OK)
        fail("loading", from, w->strategy, e.text);
    if (w->member)
        pieces_take(&w->p, world_rank(), w->base, &pieces);
    dir_close(&run);
    pieces_release(&pieces);
    if (!found || info.step != 3 || info.sample != 3 * BATCH || info.seed != 5)
        fail("loading", from, w->strategy, "step, sample or seed is another one");
    if (!visit(w, false))
        fail("loading", from, w->strategy, "values differ from what was saved");
}

static void remove_file(uint32_t strategy)
{
    char path[160];
    snprintf(path, sizeof path, "%s/checkpoints/step-000003.h5", run_folder(strategy));
    unlink(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    rmdir(run_folder(strategy));
}

/* The strategies of a model, into use: how many. */
static uint32_t choose(uint32_t model, uint32_t use[STRATEGIES])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < STRATEGIES; i++)
        if (model == MOE || (!strstr(strategies[i].text, "\"ep\"") && !strstr(strategies[i].text, "\"EP\"")))
            use[n++] = i;
    return n;
}

static uint32_t all_pairs(uint32_t model, enum ir_dtype dtype, uint32_t stride)
{
    struct world worlds[STRATEGIES];
    struct ir_graph g;
    uint8_t digest[SHA256_BYTES];
    uint32_t use[STRATEGIES], pairs = 0;
    const uint32_t n = choose(model, use);
    build(models[model], &g);
    model_digest(&g, dtype, digest);
    for (uint32_t i = 0; i < n; i++) {
        open_world(&worlds[i], models[model], use[i], dtype);
        visit(&worlds[i], true);
        save(&worlds[i], &g, digest);
    }
    for (uint32_t pair = 0; pair < n * n; pair += stride, pairs++)
        load(&worlds[pair % n], use[pair / n], &g, digest);
    world_barrier();
    for (uint32_t i = 0; i < n; i++) {
        if (world_rank() == 0)
            remove_file(use[i]);
        close_world(&worlds[i]);
    }
    ir_graph_release(&g);
    return pairs;
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    if (world_init(&argc, &argv, &e) != ST_OK)
        fail("MPI", 0, 0, e.text);
    uint32_t stride = argc > 1 ? (uint32_t)atoi(argv[1]) : 1;
    if (world_size() != RANKS || stride == 0)
        fail("usage", 0, 0, "expected 8 ranks and a stride of 1 or more");
    strcpy(folder, "/tmp/anywhere.XXXXXX");
    if (world_rank() == 0 && !mkdtemp(folder))
        fail("folder", 0, 0, folder);
    world_broadcast(folder, sizeof folder);
    uint32_t pairs = 0;
    for (uint32_t m = 0; m < MODELS; m++)
        pairs += all_pairs(m, IR_F32, stride) + all_pairs(m, IR_BF16, stride);
    world_sum_u64(&compared, 1);
    if (world_rank() == 0) {
        rmdir(folder);
        printf("%u pairs of %u strategies: %llu values equal to the bit\n", pairs, (uint32_t)STRATEGIES,
               (unsigned long long)compared);
    }
    world_finalize();
    return compared == 0;
}
