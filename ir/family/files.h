/* Where parameters lie in the files of a family: names and packings of tensors, for import, export and tests.
 *
 * A parameter has the name of a tensor as Hugging Face's files have it, but where such a file packs several into one tensor: then
 * the family's table says how. A `*` in a name is the number of an expert, and each expert is a tensor of its own. */
#ifndef PIPER_IR_FAMILY_FILES_H
#define PIPER_IR_FAMILY_FILES_H

#include "ir/graph.h"

enum ir_packing_kind {
    PACK_ROWS,    /* first dimensions one after the other; of stacked experts (E,F,C) the second ones: (E,2F,C) */
    PACK_HEADS,   /* rows, the parts of each head one after the other; heads as in the model's attention */
    PACK_ONE_ROW, /* of one parameter (N): (1,N) */
    PACK_STACKED, /* of one (E,F,C): (E F,C) */
    PACK_STACKED_TRANSPOSED, /* of one (E,C,F): (E F,C) */
    PACK_TRANSPOSED_BY_TURN  /* experts: (E,F,C) of each part by turn in (E,C,parts F), biases (E,F) in (E,parts F) */
};
enum { PACK_PARTS = 3 };
struct ir_packing {
    const char *tensor; /* ends of names, behind a dot; NULL ends a family's list */
    enum ir_packing_kind kind;
    const char *part[PACK_PARTS]; /* of the parameters */
};

struct ir_place {
    const char *tensor;    /* the arena's */
    uint32_t ndim, dim[3]; /* of the tensor; where there is a `*`, of one expert's */
    uint32_t part, parts;  /* which of the parameters in the tensor this one is; 0 and 1 where it is alone */
    /* The parameter as n dimensions, without the expert's where there is a `*`; the others are 1. Element (i,j,k) is element
     * first + i*stride[0] + j*stride[1] + k*stride[2] of the tensor. */
    uint32_t n, size[3];
    uint64_t first, stride[3];
    bool contiguous; /* its elements stand side by side, from `first` on */
};

/* A place that is not contiguous is read and written by slices: along the first of three dimensions, or the whole. */
struct ir_slices {
    uint32_t n;
    uint64_t tensor, param; /* elements of a slice */
};
struct ir_slices ir_place_slices(const struct ir_place *p);
/* One slice of the parameter out of, or into, that of the tensor. */
void ir_place_take(const struct ir_place *p, const float *tensor, float *param);
void ir_place_put(const struct ir_place *p, const float *param, float *tensor);

/* The same parameter where the tensor's last two of three dimensions are exchanged (MXFP4). */
struct ir_place ir_place_exchanged(const struct ir_place *p);

struct ir_place ir_file_place(const struct ir_graph *g, uint32_t param, struct arena *a);
/* How many tensors the place stands for, one an expert where there is a `*`, and the name of one of them; the arena's. */
uint32_t ir_place_tensors(const struct ir_place *p, const struct ir_graph *g, uint32_t param);
const char *ir_place_name(const struct ir_place *p, uint32_t tensor, struct arena *a);

/* Whether a tensor of that name is of a layer behind the model's last one, in a family whose files have such for multi-token
 * prediction. */
bool ir_file_extra(const struct ir_graph *g, const char *name);

#endif
