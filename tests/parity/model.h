/* The models of parity.json on this rank: compiled, with weights and tokens from nothing (hash64() in make_parity.py). */
#ifndef PIPER_TESTS_PARITY_MODEL_H
#define PIPER_TESTS_PARITY_MODEL_H

#include "base/json.h"
#include "exec/exec.h"
#include "sched/sched.h"
#include "weights.h"

struct model {
    const json_t *row; /* of the model in parity.json */
    const char *name;
    struct ir_graph g;
    struct sched_output out;
    struct plan plan; /* of this rank */
    float **param;    /* [params]: each parameter whole */
};

struct model_job {
    json_t *(*strategy)(const struct ir_graph *g); /* a new reference; NULL: none */
    uint32_t seq_len, batch;
    enum optimizer optimizer;
    enum ir_dtype compute;
    double clip_norm, decay, balance_rate; /* 0: none */
    bool eval;
};

/* m has row and name, the rest 0. Released after a failure too. */
enum status model_compile(struct model *m, const struct model_job *job, struct err *e);
void model_release(struct model *m);
enum status model_open(const struct model *m, const struct model_job *job, struct exec **x, struct err *e);

/* Says what is wrong, the first few of a model, and counts it. */
void model_fail(const struct model *m, const char *what, const char *why);
extern uint32_t model_bad;

/* weights_walk() of a parameter, into m->param. */
void model_walk(const struct model *m, uint32_t param, weights_visit f);

void model_weights(struct model *m, bool half); /* into m->param; half: of numbers that bfloat16 has */
/* Token t of sample s is at s (T+1) + t; a target is the token that follows. */
void model_tokens(const struct model *m, uint32_t seed, uint64_t first, uint32_t n, int32_t *to);

void model_put(const struct model *m, struct exec *x); /* m->param to the rank's arenas */
void model_gather(struct model *m, struct exec *x);    /* and back, what all ranks together keep */

/* A file of this folder. */
json_t *model_file(const char *name);

/* bfloat16.c: losses and gradients of a model in bfloat16 beside PyTorch's, a line of a table each; `all` is bfloat16.json. */
void bfloat16_head(void);
void bfloat16_run(const json_t *row, const json_t *all);
void bfloat16_foot(void);

/* init.c: the first weights of a row of init.json. */
void init_run(const json_t *row);
void init_foot(void);
#endif
