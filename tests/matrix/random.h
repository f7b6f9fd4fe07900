/* Random jobs: models, legal strategies for them, and strategies with one mistake. All of it follows from a seed.
 *
 * A strategy is written from the rules of piper-strategy(5), with nothing of sched/: the generator knows the chunks of the model
 * (ir/chunk.h), picks device sets for parts of it, and projects one random topological order of all passes on every set. */
#ifndef TESTS_MATRIX_RANDOM_H
#define TESTS_MATRIX_RANDOM_H

#include <jansson.h>

#include "ir/chunk.h"

enum { RANDOM_MODELS = 48, RANDOM_STEPS = 6, RANDOM_MOST_RANKS = 8, RANDOM_MOST_MB = 8 };

struct rng {
    uint64_t state;
};
uint32_t rng_below(struct rng *r, uint32_t n); /* 0 .. n-1 */
bool rng_chance(struct rng *r, uint32_t percent);
void rng_shuffle(struct rng *r, uint32_t *at, uint32_t n);

/* Model `number` of RANDOM_MODELS: small models of all families and graphs with branches. */
struct random_model {
    json_t *json; /* owned */
    uint32_t batch, seq_len;
    uint32_t most_stages; /* that can be cut; 0: the model has PP annotations */
};
void random_model(uint32_t number, struct random_model *m);

/* The chunks with equal indices under some tags (bits of `tags`): what one filter matches. */
struct random_part {
    uint32_t tags;
    uint32_t *of; /* [chunks]: number of the unit */
    uint32_t n;
};
/* How the devices of a set share sequences: n of them each, in tensor groups of p where a region is split, context parts c. */
struct random_share {
    uint32_t n, p, c; /* n 1: not at all */
    bool head, ffn, vocab, context, zigzag;
};
struct random_job {
    uint64_t seed;
    struct rng rng;
    uint32_t model_number;
    struct random_model model;
    struct ir_graph g; /* with the stages that the strategy names */
    struct ir_chunks chunks;
    json_t *strategy;                       /* owned */
    uint32_t ranks, replicas, microbatches; /* replicas: devices of a set */
    struct random_share share;
    const char *mb_name;

    /* where it runs; not known of a strategy of macros */
    bool macros;
    struct random_part place;
    uint8_t half[RANDOM_MOST_MB]; /* microbatches in two halves may be placed apart */
    bool halves;
    struct random_set {
        uint32_t class_id;
        uint32_t device[RANDOM_MOST_RANKS]; /* [replicas], in order */
    } * sets;                               /* [place.n * 2] by unit and half */
};

void random_job_init(struct random_job *j, uint64_t seed);
void random_job_release(struct random_job *j);

/* The part with these tags; the units' order of data flow has no cycle, if `acyclic` is asked for: else false. */
bool random_part(const struct random_job *j, uint32_t tags, bool acyclic, struct random_part *p);
void random_part_release(struct random_part *p);
/* A filter for the chunks like `chunk` under `tags`, in one of its spellings; mb_lo > mb_hi: all microbatches. */
json_t *random_filter(struct random_job *j, uint32_t chunk, uint32_t tags, uint32_t mb_lo, uint32_t mb_hi,
                      const char *pass);
json_t *random_devices(struct random_job *j, const uint32_t *device, uint32_t n);
const struct random_set *random_set_of(const struct random_job *j, uint32_t chunk, uint32_t mb);
/* Name of a stream. */
const char *random_stream(struct random_job *j);
/* How so many devices share sequences, if the model allows any; the directives for it; or keys of a layout, whose dp is divided. */
void random_share_choose(struct random_job *j, uint32_t devices);
void random_share(struct random_job *j);
void random_share_layout(struct random_job *j, json_t *layout, uint32_t *dp);
/* Edge of data flow between chunks? */
bool random_chunk_edge(const struct random_job *j, uint32_t from, uint32_t to);
/* Appends order directives. */
void random_orders(struct random_job *j);

/* Breaks rule `kind` of a legal job; false where the job gives no opportunity. needles: what the answer must say. */
struct random_break {
    char needles[3][128]; /* "" : none */
    enum status status;
    uint32_t ranks; /* to compile for; 0: as the strategy says */
};
uint32_t random_break_kinds(void);
const char *random_break_name(uint32_t kind);
bool random_break(struct random_job *j, uint32_t kind, struct random_break *b);

#endif
