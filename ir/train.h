/* Training settings: plain data, as train.json gives them (src/job/config.c) and the job file keeps them (io/). */
#ifndef PIPER_IR_TRAIN_H
#define PIPER_IR_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "ir/optimizer.h"

enum { TRAIN_PATH_BYTES = 1024, TRAIN_NAME_BYTES = 64, TRAIN_SOURCES_MAX = 32, TRAIN_TRACE_MAX = 64 };
enum { TRAIN_FREEZE_MAX = 32, TRAIN_FREEZE_BYTES = 256 };
enum { TRAIN_PROMPTS_MAX = 8, TRAIN_PROMPT_BYTES = 1024, TRAIN_SAMPLE_TOKENS = 1 << 16 };

enum train_lr { LR_CONSTANT, LR_LINEAR, LR_COSINE, LR_WSD };

enum train_documents { DOCUMENTS_JOIN, DOCUMENTS_SEPARATE };

/* Token files. A single one has no name; those of a blend have weights above 0, those of a list, one after the other, have none. */
struct train_sources {
    uint32_t n;
    struct train_source {
        char path[TRAIN_PATH_BYTES];
        char name[TRAIN_NAME_BYTES];
        double weight;
    } at[TRAIN_SOURCES_MAX];
};

struct train_config {
    uint32_t optimizer; /* enum optimizer */
    double beta1, beta2, eps, weight_decay;

    uint32_t lr_kind; /* enum train_lr */
    double lr_peak, lr_min;
    uint64_t warmup_steps, decay_steps; /* decay_steps: of wsd; 0: a tenth of the steps */

    double clip_norm;        /* 0: none */
    double bias_update_rate; /* by which the selection biases of routers are moved; 0: they stay */
    uint32_t batch_size;     /* sequences a step, over all replicas */
    uint32_t seq_len;        /* tokens */
    uint64_t steps, seed;    /* steps 0: epochs says, when the data are known */
    double epochs;           /* 0: steps says */
    uint32_t dtype;          /* IR_F32 or IR_BF16 of enum ir_dtype */

    struct train_sources data; /* none: to be given on the command line */
    uint32_t documents;        /* enum train_documents */
    bool shuffle;
    struct train_sources eval_data; /* sets, without weights */
    uint64_t eval_every;            /* steps; 0: after the last step only */

    uint64_t checkpoint_every;      /* steps; 0: not by steps. One is written after the last step in any case */
    double checkpoint_minutes;      /* 0: not by time */
    uint64_t checkpoint_keep;       /* the newest that stay, 1 or more */
    uint64_t checkpoint_keep_every; /* those of every so many steps stay too; 0: none */

    uint64_t sample_every;  /* steps; 0: never */
    uint64_t sample_tokens; /* new ones of each prompt */
    uint32_t n_sample_prompts;
    char sample_prompts[TRAIN_PROMPTS_MAX][TRAIN_PROMPT_BYTES];

    uint32_t n_freeze; /* patterns of the names of parameters that are not trained: ir/freeze.h */
    char freeze[TRAIN_FREEZE_MAX][TRAIN_FREEZE_BYTES];

    uint64_t trace_steps[TRAIN_TRACE_MAX]; /* ascending, from 1 */
    uint32_t n_trace_steps;
};

/* What train.json says when it says nothing: AdamW (0.9, 0.95), eps 1e-8, weight decay 0.1, constant learning rate
 * 3e-4, float32, shuffled, documents joined, seed 1, a checkpoint every 30 minutes, of which the last 3 stay, samples of 64 tokens. batch_size, seq_len and steps
 * have no default: 0. */
void train_config_default(struct train_config *c);
/* A name is a column of metrics.csv, and a word of the log: `name` ends, or fills TRAIN_NAME_BYTES. */
bool train_is_source_name(const char *name);
#define TRAIN_NAME_WITHOUT "spaces, commas, quotes and control characters"
/* For a reader that trusts nothing: numbers in range, texts that end. `where` opens the message. */
enum status train_config_validate(const struct train_config *c, const char *where, struct err *e);

const char *train_documents_name(uint32_t kind); /* "join", "separate" */
extern const char *const train_lr_names[];       /* "constant", "linear", "cosine", "wsd", NULL */
const char *train_lr_name(uint32_t kind);        /* NULL: no such kind */

#endif
