/* Inside the stand-in of cuDNN: descriptors as a bag of attributes. fake_cudnn.c checks them, fake_cudnn_run.c computes. */
#ifndef PIPER_TESTS_LIBS_FAKE_CUDNN_H
#define PIPER_TESTS_LIBS_FAKE_CUDNN_H

#include <cudnn.h>
#include <stdbool.h>

#include "fake.h"

struct fake_attribute {
    cudnnBackendAttributeType_t type;
    int64_t n; /* 0: not set */
    void *values;
};
struct fake_desc {
    cudnnBackendDescriptorType_t type;
    bool finalized;
    struct fake_attribute at[CUDNN_ATTR_COUNT];
    int engine;     /* of ENGINECFG, ENGINE */
    double *values; /* a virtual tensor while a graph runs, by offset */
    bool written;   /* a virtual tensor, while a graph is checked or runs */
};

/* The descriptor that attribute `name` points to; NULL: not set. */
struct fake_desc *fake_points(const struct fake_desc *d, cudnnBackendAttributeName_t name, int64_t i);
int64_t fake_int(const struct fake_desc *d, cudnnBackendAttributeName_t name, int64_t i);
bool fake_bool(const struct fake_desc *d, cudnnBackendAttributeName_t name);
int fake_enum(const struct fake_desc *d, cudnnBackendAttributeName_t name);
/* Memory of a tensor that is not virtual, from the variant pack; NULL: not bound. */
void *fake_bound(const struct fake_desc *pack, int64_t number);

enum { FAKE_OPERANDS = 4 };
/* Tensors of an operation, the one that it writes last; returns how many. */
int fake_operands(const struct fake_desc *op, struct fake_desc *out[FAKE_OPERANDS]);
/* All operations of a graph, on the memory of the pack. */
void fake_run(const struct fake_desc *graph, const struct fake_desc *pack);

#endif
