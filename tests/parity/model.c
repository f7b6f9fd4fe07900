/* The models of parity.json: model.h. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/number.h"
#include "comm/world.h"
#include "ir/family/family.h"
#include "ir/family/files.h"
#include "ir/target.h"
#include "train/pieces.h"

enum { SHOWN = 4 };

uint32_t model_bad;

void model_fail(const struct model *m, const char *what, const char *why)
{
    static const char *last;
    static uint32_t told;
    told = last == m->name ? told + 1 : 0;
    last = m->name;
    if (told < SHOWN)
        printf("rank %u: %s: %s: %s\n", world_rank(), m->name, what, why);
    model_bad++;
}

/* ---- weights and tokens from nothing: the functions of make_parity.py --------------------------------------------- */

void model_tokens(const struct model *m, uint32_t seed, uint64_t first, uint32_t n, int32_t *to)
{
    char name[32];
    snprintf(name, sizeof name, "tokens %u", seed);
    const uint64_t h = weights_hash_name(name);
    for (uint32_t i = 0; i < n; i++)
        to[i] = (int32_t)(weights_hash_at(h, first + i) % m->g.vocab);
}

/* ---- parameters and the tensors of files --------------------------------------------------------------------------- */

void model_walk(const struct model *m, uint32_t param, weights_visit f)
{
    const char *missing = weights_walk(&m->g, m->row, param, m->param[param], f);
    if (missing)
        model_fail(m, missing, "is no tensor of transformers' file");
}

static void fill_half(float *x, const json_t *of, uint64_t name, uint64_t at)
{
    weights_fill(x, of, name, at);
    *x = number_from_bf16(number_to_bf16(*x));
}

void model_weights(struct model *m, bool half)
{
    for (uint32_t i = 0; i < m->g.params.n; i++)
        model_walk(m, i, half ? fill_half : weights_fill);
}

/* ---- the job -------------------------------------------------------------------------------------------------------- */

static enum status build(struct model *m, uint32_t seq_len, struct err *e)
{
    struct notices notices;
    ir_graph_init(&m->g);
    notices_init(&notices);
    enum status st = ir_family_build(json_object_get(m->row, "config"), m->name, seq_len, &m->g, &notices, e);
    notices_release(&notices);
    return st;
}

enum status model_compile(struct model *m, const struct model_job *job, struct err *e)
{
    TRY(build(m, job->seq_len, e));
    json_t *strategy = job->strategy ? job->strategy(&m->g) : json_array();
    const struct sched_input in = {
        .graph = &m->g,
        .strategy = strategy,
        .strategy_name = "strategy.json",
        .ranks = world_size(),
        .batch_size = job->batch,
        .compute = job->compute,
        .optimizer = job->optimizer,
        .clip = job->clip_norm > 0,
        .eval = job->eval,
        .target = &ir_target_cpu,
        .comm_scratch = COMM_SCRATCH,
    };
    enum status st = sched_compile(&in, &m->out, e);
    json_decref(strategy);
    TRY(st);
    const struct sched_class *mine = &m->out.classes[m->out.class_of[world_rank()]];
    TRY(plan_open(mine->blob, mine->bytes, m->g.ops.n, m->g.params.n, m->g.tensors.n, &m->plan, e));
    m->param = mem_alloc(m->g.params.n * sizeof *m->param);
    for (uint32_t i = 0; i < m->g.params.n; i++)
        m->param[i] = mem_alloc(ir_shape_elements(&m->g.params.at[i].shape) * sizeof(float));
    return ST_OK;
}

enum status model_open(const struct model *m, const struct model_job *job, struct exec **x, struct err *e)
{
    const struct exec_setup setup = { .plan = &m->plan,
                                      .graph = &m->g,
                                      .machine = &exec_host,
                                      .compute = &compute_cpu,
                                      .comm = world_size() > 1 ? &comm_mpi : &comm_null,
                                      .optimizer = { job->optimizer, 0.9f, 0.95f, 1e-8f, (float)job->decay },
                                      .clip_norm = job->clip_norm,
                                      .balance_rate = job->balance_rate,
                                      .local_ranks = world_size(),
                                      .local_rank = world_rank() };
    return exec_open(&setup, x, e);
}

void model_release(struct model *m)
{
    for (uint32_t i = 0; m->param && i < m->g.params.n; i++)
        mem_free(m->param[i]);
    mem_free(m->param);
    sched_output_release(&m->out);
    ir_graph_release(&m->g);
}

void model_put(const struct model *m, struct exec *x)
{
    struct pieces pieces;
    unsigned char *const *base = exec_arenas(x);
    pieces_to_read(&m->plan, world_rank(), base, &pieces);
    for (uint32_t i = 0; i < pieces.list.n; i++)
        memcpy(pieces.list.at[i].data, m->param[pieces.list.at[i].param] + pieces.list.at[i].first,
               pieces.list.at[i].count * sizeof(float));
    pieces_take(&m->plan, world_rank(), base, &pieces);
    pieces_release(&pieces);
    exec_upload(x);
}

void model_gather(struct model *m, struct exec *x)
{
    struct pieces pieces;
    exec_download(x);
    pieces_to_write(&m->plan, world_rank(), exec_arenas(x), &pieces);
    for (uint32_t i = 0; i < m->g.params.n; i++) {
        const uint64_t n = ir_shape_elements(&m->g.params.at[i].shape);
        float *all = mem_alloc(world_size() * n * sizeof *all);
        memset(m->param[i], 0, n * sizeof *all);
        for (uint32_t k = 0; k < pieces.list.n; k++)
            if (pieces.list.at[k].param == i)
                memcpy(m->param[i] + pieces.list.at[k].first, pieces.list.at[k].data,
                       pieces.list.at[k].count * sizeof *all);
        world_all_gather(m->param[i], n * sizeof *all, all);
        memset(m->param[i], 0, n * sizeof *all);
        for (uint64_t k = 0; k < world_size() * n; k++)
            m->param[i][k % n] += all[k]; /* one of them has it */
        mem_free(all);
    }
    pieces_release(&pieces);
}

json_t *model_file(const char *name)
{
    const char *top = getenv("top_srcdir");
    char path[512];
    struct err e = { 0 };
    json_t *doc;
    snprintf(path, sizeof path, "%s/tests/parity/%s", top ? top : ".", name);
    if (js_load_file(path, &doc, &e) != ST_OK) {
        fprintf(stderr, "parity: %s\n", e.text);
        exit(99);
    }
    return doc;
}
