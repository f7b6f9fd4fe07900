/* Optimizers: one list for the settings of a job, plans, kernels, checkpoints and the cost model. A kind is a row in ir/optimizer.c
 * and its equation in each back end's update (src/cpu/update.c, src/cuda/update.cu). */
#ifndef PIPER_IR_OPTIMIZER_H
#define PIPER_IR_OPTIMIZER_H

#include <stddef.h>
#include <stdint.h>

enum optimizer { OPT_ADAMW, OPT_SGD, OPTIMIZERS };
struct optimizer_info {
    const char *name; /* in train.json and in checkpoints */
    /* Moments: float32 arrays as long as the parameters, kept from step to step. 1: m; 2: m and v (/optimizer/m, /optimizer/v). */
    uint32_t moments;
    double weight_decay; /* where train.json says none */
};
extern const struct optimizer_info optimizer_info[OPTIMIZERS];

/* NULL when there is no such kind; OPTIMIZERS when there is no such name. */
const char *optimizer_name(uint32_t kind);
uint32_t optimizer_by_name(const char *name);
/* For messages: "adamw" or "sgd", with the quotation marks. */
const char *optimizer_names(char *text, size_t size);

#endif
