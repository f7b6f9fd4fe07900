/* The loss of a model on token files, as training evaluates it. */
#ifndef PIPER_SPEAK_EVALUATE_H
#define PIPER_SPEAK_EVALUATE_H

#include "io/tokens.h"
#include "speak/model.h"

struct speak_result {
    double loss;    /* sum of the losses of all targets that count */
    double targets; /* how many */
};
struct speak_data {
    struct tokens *tokens; /* open, with the model's vocabulary and sequence length */
    uint64_t windows;      /* sequences, from the first on */
    bool apart;            /* documents; the model's graph is ir_graph_separate() then */
    /* Called with the targets of each sequence, (T), negative where they do not count; NULL: nobody asks. */
    void (*seen)(void *arg, const int32_t *targets, uint32_t n);
    void *arg;
};
/* m: loaded with SPEAK_EVALUATE. ST_INPUT, ST_IO: errors of tokens_window(). */
enum status speak_evaluate(const struct speak_model *m, const struct speak_data *data, struct speak_result *to,
                           struct err *e);

#endif
