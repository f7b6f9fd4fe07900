/* Inside sdpa*.c: cuDNN descriptors of one operation graph. */
#ifndef PIPER_CUDA_SDPA_GRAPH_H
#define PIPER_CUDA_SDPA_GRAPH_H

#include <cudnn.h>

#include "base/mem.h"
#include "cuda/sdpa.h"

/* Tensors that a caller binds to memory. Those inside a graph have numbers from SDPA_INSIDE on. */
enum cuda__sdpa_tensor {
    SDPA_Q = 1,
    SDPA_K,
    SDPA_V,
    SDPA_O,
    SDPA_STATS,
    SDPA_DOUT,
    SDPA_DQ,
    SDPA_DK,
    SDPA_DV,
    SDPA_SUMS,
    SDPA_SCALE, /* from here on one float on the host each */
    SDPA_ONE,
    SDPA_MINUS_INFINITY,
    SDPA_INSIDE,
};

/* Descriptors in the making and what became of it; after a failure nothing more is called. They live as long as the plan that
 * is made of them. */
struct cuda__sdpa_graph {
    struct {
        VEC(cudnnBackendDescriptor_t);
    } all;
    cudnnBackendDescriptor_t ops[32];
    int64_t n_ops, n_inside;
    cudnnStatus_t status;
    char failed[320]; /* the call and the library's words */
};

/* The library, before any call (cudnn_load.c); loaded once. ST_DEVICE where it is not. */
enum status cuda__cudnn_load(struct err *e);

cudnnBackendDescriptor_t cuda__sdpa_new(struct cuda__sdpa_graph *g, cudnnBackendDescriptorType_t type);
void cuda__sdpa_set(struct cuda__sdpa_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                    cudnnBackendAttributeType_t type, int64_t n, const void *values);
void cuda__sdpa_point(struct cuda__sdpa_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                      cudnnBackendDescriptor_t to);
void cuda__sdpa_finalize(struct cuda__sdpa_graph *g, cudnnBackendDescriptor_t d);
void cuda__sdpa_release(struct cuda__sdpa_graph *g);
/* The finalized operation graph of a shape. */
cudnnBackendDescriptor_t cuda__sdpa_graph(struct cuda__sdpa_graph *g, const struct cuda_sdpa_shape *s);

#endif
