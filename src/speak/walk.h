/* Private to src/speak: the operators of a graph one after the other, forward, on one sequence. */
#ifndef PIPER_SPEAK_WALK_H
#define PIPER_SPEAK_WALK_H

#include "exec/compute.h"
#include "speak/model.h"

struct walk {
    const struct speak_model *m;
    enum ir_dtype compute; /* of the operands */
    uint32_t most;         /* tokens at once */
    uint32_t room;         /* tokens whose keys and values are kept; 0: all tokens are there at once */
    uint32_t past;         /* of these there are already */
    struct walk_tensor {
        unsigned char *at;  /* of a kept one: of the first token */
        uint64_t row_bytes; /* of a token */
        bool kept;
    } * tensors;
    struct arena memory;
    void *work;
    struct op_positions positions; /* where keys are kept */
    const int32_t *tokens, *targets, *document;
    /* Where they are asked for instead of a loss, (V) of the last token; NULL while `kept` are filled only. */
    float *logits;
    double scalars[SCALAR_COUNT];
};

/* room 0: whole sequences of `most` tokens are evaluated; else next tokens are asked for. */
void walk_open(const struct speak_model *m, uint32_t most, uint32_t room, struct walk *w);
void walk_close(struct walk *w);
/* n tokens. What they add to the scalars is added. */
void walk_run(struct walk *w, uint32_t n);

#endif
