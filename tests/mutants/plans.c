/* mpirun -n RANKS plans [DRAWN [SEED]]: the jobs below for this many ranks, compiled; of each all single-field mutants of its plans
 * (mutants.h), or DRAWN of them by SEED. Each is refused, by plan_open() or by a rule of the checker, or it changes nothing: a rule of
 * mutants_harmless() says so, or it is run for two steps and an evaluation, and parameters, moments and sums of all ranks have the bits
 * of the true plan. Prints what became of them, by table and by rule. */
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/number.h"
#include "exec/exec.h"
#include "ir/family/family.h"
#include "ir/target.h"
#include "mutants.h"
#include "sched/check/check.h"
#include "sched/sched.h"
#include "train/init_params.h"
#include "train/pieces.h"
#include "../unit/plan_edit.h"

enum { T = 8, BATCH = 8, VOCAB = 32, STEPS = 2 };

#define GPT2 "{\"model_type\":\"gpt2\",\"vocab_size\":32,\"n_embd\":8,\"n_layer\":2,\"n_head\":2,\"n_positions\":8}"
#define LLAMA                                                                                \
    "{\"model_type\":\"llama\",\"vocab_size\":32,\"hidden_size\":8,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":2,\"num_key_value_heads\":2,\"intermediate_size\":16,\"tie_word_embeddings\":false}"
#define OLMO2                                                                                \
    "{\"model_type\":\"olmo2\",\"vocab_size\":32,\"hidden_size\":8,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":2,\"num_key_value_heads\":2,\"intermediate_size\":16,\"tie_word_embeddings\":false}"
#define MOE(capacity)                                                                                  \
    "{\"model_type\":\"qwen3_moe\",\"vocab_size\":32,\"hidden_size\":8,\"num_hidden_layers\":2,"       \
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,\"intermediate_size\":16,"     \
    "\"moe_intermediate_size\":8,\"num_experts\":4,\"num_experts_per_tok\":2,\"norm_topk_prob\":true," \
    "\"output_router_logits\":true,\"router_aux_loss_coef\":0.01," capacity "\"tie_word_embeddings\":false}"

#define BRANCH                                                                                                    \
    "{\"vocab_size\":32,\"graph\":[{\"op\":\"embed\",\"name\":\"e\",\"in\":[\"tokens\"],\"features\":8},"         \
    "{\"op\":\"linear\",\"name\":\"a\",\"in\":[\"e\"],\"out_features\":8,\"block\":1},"                           \
    "{\"op\":\"swiglu\",\"name\":\"s\",\"in\":[\"a\",\"a\"],\"block\":1},{\"op\":\"add\",\"name\":\"x\",\"in\":[" \
    "\"s\",\"a\"],\"block\":1},"                                                                                  \
    "{\"op\":\"linear\",\"name\":\"q\",\"in\":[\"x\"],\"out_features\":8,\"block\":2},"                           \
    "{\"op\":\"attention\",\"name\":\"t\",\"in\":[\"q\",\"a\",\"a\"],\"heads\":2,\"kv_heads\":2,\"block\":2},"    \
    "{\"op\":\"add\",\"name\":\"y\",\"in\":[\"t\",\"x\"],\"block\":2},"                                           \
    "{\"op\":\"head_loss\",\"name\":\"h\",\"in\":[\"y\",\"targets\"],\"block\":3}]}"

static const struct job_row {
    uint32_t ranks;
    enum ir_dtype compute;
    uint32_t optimizer;
    const char *model, *strategy;
} rows[] = {
    { 1, IR_F32, OPT_ADAMW, GPT2, "[{'op':'recompute','filter':{}}]" },
    { 1, IR_BF16, OPT_ADAMW, MOE("\"capacity_factor\":1.25,"),
      "[{'op':'split','filter':{},'num_microbatches':2},{'op':'order','filters':[[{'MB':0,'PASS':'F'}],"
      "[{'MB':1,'PASS':'F'}],[{'MB':0,'PASS':'BI'}],[{'MB':1,'PASS':'BI'}],[{'MB':0,'PASS':'BW'}],"
      "[{'MB':1,'PASS':'BW'}]]}]" },
    { 2, IR_F32, OPT_ADAMW, GPT2, "[{'op':'layout','pp':2},{'op':'schedule','kind':'1f1b','microbatches':2}]" },
    { 2, IR_F32, OPT_SGD, BRANCH, "[{'op':'layout','pp':2},{'op':'schedule','kind':'zb-h1','microbatches':2}]" },
    { 2, IR_BF16, OPT_ADAMW, GPT2,
      "[{'op':'layout','dp':2,'zero':1},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 2, IR_F32, OPT_ADAMW, GPT2,
      "[{'op':'layout','dp':2,'zero':2},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 2, IR_F32, OPT_SGD, GPT2,
      "[{'op':'layout','dp':2,'zero':3},{'op':'schedule','kind':'gpipe','microbatches':2},"
      "{'op':'recompute','filter':{}}]" },
    { 2, IR_F32, OPT_ADAMW, MOE("\"capacity_factor\":1.25,"),
      "[{'op':'layout','pp':1,'dp':2,'ep':2},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 2, IR_F32, OPT_ADAMW, MOE(""), "[{'op':'layout','pp':1,'dp':2,'ep':2,'expert_bound':1,'overflow':'rounds'}]" },
    { 2, IR_F32, OPT_SGD, MOE(""),
      "[{'op':'layout','pp':1,'dp':2,'ep':2,'zero':2,'expert_bound':1,'overflow':'rounds'},"
      "{'op':'schedule','kind':'zb-h1','microbatches':2}]" },
    { 2, IR_F32, OPT_ADAMW, GPT2,
      "[{'op':'layout','pp':2,'dp':1,'placement':'two-way'},{'op':'schedule','kind':'dualpipe','microbatches':8}]" },
    { 2, IR_F32, OPT_ADAMW, LLAMA,
      "[{'op':'layout','cp':2,'dp':1},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 2, IR_F32, OPT_ADAMW, GPT2, "[{'op':'layout','cp':2,'dp':1,'exchange':'all-to-all'}]" },
    { 2, IR_F32, OPT_ADAMW, LLAMA,
      "[{'op':'layout','cp':2,'dp':1,'exchange':'ring'},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 2, IR_F32, OPT_ADAMW, MOE("\"capacity_factor\":1,"),
      "[{'op':'layout','cp':2,'dp':1,'ep':2},{'op':'recompute','filter':{'PP':0}}]" },
    { 2, IR_F32, OPT_ADAMW, OLMO2,
      "[{'op':'layout','tp':2,'dp':1},{'op':'schedule','kind':'gpipe','microbatches':2},{'op':'recompute','filter':{}}"
      "]" },
    { 2, IR_F32, OPT_ADAMW, MOE(""),
      "[{'op':'layout','pp':1,'dp':2,'ep':2},{'op':'schedule','kind':'gpipe','microbatches':2},"
      "{'op':'recompute','filter':{},'received':'again'}]" },
    { 4, IR_F32, OPT_ADAMW, LLAMA, "[{'op':'layout','tp':2,'cp':2,'dp':1,'vocab':true}]" },
    { 4, IR_F32, OPT_SGD, OLMO2,
      "[{'op':'layout','pp':2,'tp':2,'dp':1},{'op':'schedule','kind':'zb-h1','microbatches':2}]" },
    { 4, IR_F32, OPT_ADAMW, MOE("\"capacity_factor\":1,"), "[{'op':'layout','tp':2,'dp':2,'ep':4}]" },
    { 4, IR_BF16, OPT_ADAMW, GPT2,
      "[{'op':'layout','pp':2,'tp':2,'dp':1},{'op':'schedule','kind':'1f1b','microbatches':2}]" },
    { 4, IR_F32, OPT_ADAMW, MOE(""),
      "[{'op':'layout','pp':1,'dp':4,'ep':2,'zero':1},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 4, IR_F32, OPT_ADAMW, GPT2, "[{'op':'layout','pp':2,'dp':2},{'op':'schedule','kind':'zb-h1','microbatches':4}]" },
    { 4, IR_BF16, OPT_ADAMW, GPT2,
      "[{'op':'layout','dp':4,'zero':2,'zero_group':2},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 4, IR_F32, OPT_ADAMW, MOE(""),
      "[{'op':'layout','dp':4,'ep':2,'zero':3,'zero_group':2,'zero_optimizer':'all'},"
      "{'op':'schedule','kind':'gpipe','microbatches':2}]" },
};
enum { N_ROWS = sizeof rows / sizeof *rows };

struct job {
    const struct job_row *row;
    struct ir_graph g;
    struct sched_output out;
    struct plan *plans;         /* [out.n_classes] */
    struct plan_builder *apart; /* the same, taken apart */
    struct mutants mutants;
    uint64_t result; /* of the true plans, on this rank */
};

/* What became of a mutant: the rule that refused it, or one of these. */
enum { BY_OPEN = RULES, HARMLESS, RUN, ANSWERS };
static uint64_t answers[ANSWERS], tables[PLAN_SECTIONS + 1][3]; /* by table: all, accepted by the checker, run */
static uint64_t bad;

/* ---- the job ---------------------------------------------------------------------------------------------------- */

static json_t *strategy_of(const char *text)
{
    char quoted[2048];
    size_t n = 0;
    for (; text[n]; n++) {
        CHECK(n + 1 < sizeof quoted);
        quoted[n] = text[n] == '\'' ? '"' : text[n];
    }
    quoted[n] = 0;
    return json_loads(quoted, 0, NULL);
}

static enum status compile(struct job *j, struct err *e)
{
    struct notices notices;
    json_t *strategy = strategy_of(j->row->strategy), *model = json_loads(j->row->model, 0, NULL);
    CHECK(strategy && model);
    ir_graph_init(&j->g);
    notices_init(&notices);
    enum status st = ir_family_build(model, "model.json", T, &j->g, &notices, e);
    notices_release(&notices);
    json_decref(model);
    const struct sched_input in = {
        .graph = &j->g,
        .strategy = strategy,
        .strategy_name = "strategy.json",
        .ranks = world_size(),
        .batch_size = BATCH,
        .compute = j->row->compute,
        .optimizer = j->row->optimizer,
        .clip = true,
        .eval = true,
        .snapshot = true,
        .target = &ir_target_cpu,
        .comm_scratch = COMM_SCRATCH,
    };
    if (st == ST_OK)
        st = sched_compile(&in, &j->out, e);
    json_decref(strategy);
    TRY(st);
    j->plans = mem_alloc(j->out.n_classes * sizeof *j->plans);
    j->apart = mem_alloc(j->out.n_classes * sizeof *j->apart);
    for (uint32_t i = 0; i < j->out.n_classes; i++) {
        TRY(plan_open(j->out.classes[i].blob, j->out.classes[i].bytes, j->g.ops.n, j->g.params.n, j->g.tensors.n,
                      &j->plans[i], e));
        plan_unpack(&j->plans[i], &j->apart[i]);
        mutants_list(&j->apart[i], i, &j->mutants);
    }
    return ST_OK;
}

static void release(struct job *j)
{
    for (uint32_t i = 0; i < j->out.n_classes; i++)
        plan_builder_release(&j->apart[i]);
    mem_free(j->apart);
    mem_free(j->plans);
    vec_free(&j->mutants);
    sched_output_release(&j->out);
    ir_graph_release(&j->g);
}

/* ---- running ---------------------------------------------------------------------------------------------------- */

static enum status read_tokens(void *self, uint64_t sample, enum exec_input which, int32_t *to, struct err *e)
{
    (void)self;
    (void)e;
    for (uint64_t i = 0; i < T; i++)
        to[i] = (int32_t)(number_mix(sample * (T + 1) + i + (which == EXEC_TARGETS) + 1) % VOCAB);
    return ST_OK;
}

/* Of all ranks together: which holder has which part to write is not what a plan computes. */
static uint64_t hash_state(const struct plan *p, struct exec *x)
{
    struct pieces pieces;
    uint64_t h = 0;
    pieces_to_write(p, world_rank(), exec_arenas(x), &pieces);
    for (uint32_t i = 0; i < pieces.copies.n; i++)
        memcpy(pieces.copies.at[i].to, pieces.copies.at[i].from, pieces.copies.at[i].bytes);
    for (uint32_t i = 0; i < pieces.list.n; i++) {
        const struct checkpoint_piece *k = &pieces.list.at[i];
        const float *const data[] = { k->data, k->m, k->v };
        const uint64_t place = number_mix(k->param) + k->first;
        for (uint64_t n = 0; n < 3 && data[n]; n++)
            h += number_hash(data[n], k->count * sizeof(float), number_mix(place) + n);
    }
    pieces_release(&pieces);
    world_sum_u64(&h, 1);
    return h;
}

/* Bits of parameters, moments and sums on this rank after the steps of a plan. */
static enum status run(const struct job *j, const struct plan *p, uint64_t *result, struct err *e)
{
    const struct exec_setup setup = {
        .plan = p,
        .graph = &j->g,
        .machine = &exec_host,
        .compute = &compute_cpu,
        .comm = world_size() > 1 ? &comm_mpi : &comm_null,
        .optimizer = { .kind = j->row->optimizer, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f },
        .clip_norm = 1,
        .local_ranks = world_size(),
        .local_rank = world_rank()
    };
    const struct exec_data data = { read_tokens, NULL };
    struct exec *x;
    double sums[SCALAR_COUNT];
    uint64_t h = 0;
    TRY(exec_open(&setup, &x, e));
    struct ir_graph own;
    ir_graph_borrow(&j->g, &own);
    init_params(&own, p, world_rank(), exec_arenas(x), 1);
    ir_graph_release(&own);
    for (uint64_t s = 1; s <= STEPS; s++) {
        const struct exec_step step = { .list = plan_find_list(p, "train"),
                                        .step = s,
                                        .update = s,
                                        .sample = (s - 1) * BATCH,
                                        .lr = 0.1,
                                        .data = &data };
        exec_run(x, &step, sums);
        h = number_hash(sums, sizeof sums, h);
    }
    const struct exec_step eval = { .list = plan_find_list(p, "eval"), .step = STEPS, .sample = 0, .data = &data };
    exec_run(x, &eval, sums);
    *result = number_hash(sums, sizeof sums, h) ^ hash_state(p, x);
    exec_close(x);
    return ST_OK;
}

/* ---- mutants ---------------------------------------------------------------------------------------------------- */

static void fail(const struct job *j, const struct mutant *m, const char *why)
{
    char text[128];
    printf("rank %u: %s: %s: %s\n", world_rank(), j->row->strategy, mutants_text(m, text), why);
    bad++;
}

static uint32_t rule_of(const struct err *e)
{
    for (uint32_t r = 0; r < RULES; r++) {
        char text[64];
        snprintf(text, sizeof text, "rule %s: ", check_rule_name((enum check_rule)r));
        if (strstr(e->text, text))
            return r;
    }
    return RULES;
}

/* What the compiler's checks say of a mutant. */
static uint8_t judge(const struct job *j, const struct mutant *m)
{
    struct err e = { 0 };
    uint64_t bytes, was = mutants_apply(&j->apart[m->cls], m);
    void *blob = plan_build(&j->apart[m->cls], &bytes);
    struct plan *plans = mem_alloc(j->out.n_classes * sizeof *plans);
    memcpy(plans, j->plans, j->out.n_classes * sizeof *plans);
    uint8_t answer = BY_OPEN;
    if (plan_open(blob, bytes, j->g.ops.n, j->g.params.n, j->g.tensors.n, &plans[m->cls], &e) == ST_OK)
        answer = sched_check(plans, j->out.n_classes, &j->g, &ir_target_cpu, &e) != ST_OK ? (uint8_t)rule_of(&e)
                 : mutants_harmless(m)                                                    ? HARMLESS
                                                                                          : RUN;
    mutants_undo(&j->apart[m->cls], m, was);
    mem_free(plans);
    mem_free(blob);
    return answer;
}

static void run_mutant(const struct job *j, const struct mutant *m)
{
    const uint32_t mine = j->out.class_of[world_rank()];
    uint64_t bytes, was = mutants_apply(&j->apart[m->cls], m), result = 0;
    void *blob = plan_build(&j->apart[m->cls], &bytes);
    struct plan p = j->plans[mine];
    struct err e = { 0 };
    enum status st = ST_OK;
    if (getenv("MUTANTS_SHOW") && world_rank() == 0) {
        char text[128];
        printf("runs %s: %s\n", j->row->strategy, mutants_text(m, text));
        fflush(stdout);
    }
    if (mine == m->cls)
        st = plan_open(blob, bytes, j->g.ops.n, j->g.params.n, j->g.tensors.n, &p, &e);
    if (st == ST_OK)
        st = run(j, &p, &result, &e);
    if (st != ST_OK)
        fail(j, m, e.text);
    else if (result != j->result)
        fail(j, m, "accepted, and another result");
    mutants_undo(&j->apart[m->cls], m, was);
    mem_free(blob);
}

/* `drawn` of the mutants, in any order; 0: all as they are. */
static void draw(struct mutants *all, uint64_t drawn, uint64_t *state)
{
    if (!drawn || drawn >= all->n)
        return;
    for (uint32_t i = 0; i < drawn; i++) {
        const uint32_t k = i + (uint32_t)(number_mix(++*state) % (all->n - i));
        const struct mutant m = all->at[i];
        all->at[i] = all->at[k];
        all->at[k] = m;
    }
    all->n = (uint32_t)drawn;
}

static void run_job(const struct job_row *row, uint64_t drawn, uint64_t *state)
{
    struct job j = { .row = row };
    struct err e = { 0 };
    enum status st = compile(&j, &e);
    if (st == ST_OK)
        st = run(&j, &j.plans[j.out.class_of[world_rank()]], &j.result, &e);
    if (st != ST_OK) {
        printf("rank %u: %s: %s\n", world_rank(), row->strategy, e.text);
        bad++;
    }
    if (st == ST_OK) {
        draw(&j.mutants, drawn, state);
        uint64_t *answer = mem_alloc(j.mutants.n * sizeof *answer + 8);
        for (uint32_t i = world_rank(); i < j.mutants.n; i += world_size())
            answer[i] = judge(&j, &j.mutants.at[i]);
        world_max_u64(answer, j.mutants.n);
        for (uint32_t i = 0; i < j.mutants.n; i++) {
            const struct mutant *m = &j.mutants.at[i];
            answers[answer[i]]++;
            tables[m->section][0]++;
            tables[m->section][1] += answer[i] >= HARMLESS;
            tables[m->section][2] += answer[i] == RUN;
            if (answer[i] == RUN)
                run_mutant(&j, m);
        }
        mem_free(answer);
    }
    release(&j);
}

static void report(uint64_t seed, uint64_t failed)
{
#define NAME(id, record, field) #field,
    static const char *const names[PLAN_SECTIONS + 1] = { PLAN_SECTION_LIST(NAME) "header" };
    uint64_t all = 0;
    for (uint32_t i = 0; i < ANSWERS; i++)
        all += answers[i];
    printf("%u ranks, seed %llu: %llu mutants, %llu refused by plan_open(), %llu harmless by a rule, %llu run with the "
           "same result; %llu failures\n",
           world_size(), (unsigned long long)seed, (unsigned long long)all, (unsigned long long)answers[BY_OPEN],
           (unsigned long long)answers[HARMLESS], (unsigned long long)answers[RUN], (unsigned long long)failed);
    printf("refused by rule:");
    for (uint32_t i = 0; i < RULES; i++)
        printf(" %s %llu", check_rule_name((enum check_rule)i), (unsigned long long)answers[i]);
    printf("\nby table (mutants, accepted, run):");
    for (uint32_t i = 0; i <= PLAN_SECTIONS; i++)
        if (tables[i][0])
            printf(" %s %llu %llu %llu;", names[i], (unsigned long long)tables[i][0], (unsigned long long)tables[i][1],
                   (unsigned long long)tables[i][2]);
    printf("\n");
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    if (world_init(&argc, &argv, &e) != ST_OK) {
        fprintf(stderr, "plans: %s\n", e.text);
        return 99;
    }
    const uint64_t drawn = argc > 1 ? strtoull(argv[1], NULL, 0) : 0, seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    uint64_t state = number_mix(seed);
    uint32_t n = 0;
    compute_cpu.set_threads(1);
    for (uint32_t i = 0; i < N_ROWS; i++)
        n += rows[i].ranks == world_size();
    for (uint32_t i = 0; i < N_ROWS; i++)
        if (rows[i].ranks == world_size())
            run_job(&rows[i], drawn ? (drawn + n - 1) / n : 0, &state);
    uint64_t failed = bad;
    world_sum_u64(&failed, 1);
    if (world_rank() == 0)
        report(seed, failed);
    world_finalize();
    return failed != 0 || n == 0;
}
