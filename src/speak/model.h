/* A model that is there to be asked: its graph, and its parameters in memory as kernels of the host take them. */
#ifndef PIPER_SPEAK_MODEL_H
#define PIPER_SPEAK_MODEL_H

#include <stdbool.h>

#include "base/dir.h"
#include "io/checkpoint.h"
#include "ir/graph.h"

struct speak_model {
    struct ir_graph graph;
    struct speak_param {
        void *at;    /* owned */
        bool half;   /* bfloat16, else float32 */
        bool turned; /* stored as (out,in), where the file has (in,out) */
    } * params;
    uint64_t bytes;        /* of the parameters */
    enum ir_dtype compute; /* the type of the job, or of the files */
    uint64_t step;         /* of a checkpoint */
};

enum speak_use {
    /* Next tokens: operands are float32; matrices are of the model's type, (out,in) all of them; experts take every token that chooses
     * them, and routers have no loss. */
    SPEAK_GENERATE,
    SPEAK_EVALUATE /* what training computes: everything in the model's type, capacities too */
};
struct speak_want {
    enum speak_use use;
    enum ir_dtype compute; /* IR_COMPUTE: as it is stored */
};

/* A checkpoint. in: the folder of a run that it is in, or NULL. On success the caller ends with speak_model_free. ST_MISSING, ST_INPUT;
 * ST_DEVICE: there is not enough memory. */
enum status speak_load_checkpoint(const struct dir *in, const char *path, const struct speak_want *want,
                                  struct speak_model *m, struct err *e);
/* A folder with config.json and safetensors, for sequences of so many tokens, or as many as a table of positions has. */
enum status speak_load_folder(const char *folder, uint32_t tokens, const struct speak_want *want, struct speak_model *m,
                              struct err *e);
/* Positions of the smallest table; UINT32_MAX: there is none. */
uint32_t speak_positions(const struct ir_graph *g);
/* From elsewhere: with graph and compute of a zeroed *m set, begin makes room, put takes values (a checkpoint_sink), in any order, all of
 * them once, and end returns the status it is given; where that is none that is good, it frees. */
enum status speak_model_begin(struct speak_model *m, const struct speak_want *want, const char *from, struct err *e);
enum status speak_model_put(void *m, const struct checkpoint_piece *x, struct err *e);
enum status speak_model_end(struct speak_model *m, const struct speak_want *want, enum status st);
void speak_model_free(struct speak_model *m); /* safe on a zeroed one */

#endif
