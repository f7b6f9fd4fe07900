/* Inside the files of src/cuda that call cuBLASLt and cuDNN. */
#ifndef PIPER_CUDA_LIBS_PRIVATE_H
#define PIPER_CUDA_LIBS_PRIVATE_H

#include "exec/compute.h"
#include "cuda/matmul.h"
#include "ir/target_cuda.h"

/* What a kernel does with a product: enqueue it, or prepare for it. Kernels and cuda_libs_prepare() share the code that lists an
 * operator's products. A status other than ST_OK ends the list. */
struct cuda__products {
    bool prepare, time;
    struct err *e;
    enum status status;
};
void cuda__product(struct cuda__products *to, const struct cuda_matmul *p);

/* The products of an operator (linear.c, head.c, experts.c); `to` decides what becomes of them. */
void cuda__linear(const struct op_args *a, enum ir_pass pass, struct cuda__products *to);
/* cuda_libs_prepare_pair() of the two. */
bool cuda__linear_gelu_pays(const struct op_args *linear, const struct op_args *gelu, enum ir_pass pass, void *work);
void cuda__head_loss(const struct op_args *a, enum ir_pass pass, struct cuda__products *to);
void cuda__experts(const struct op_args *a, enum ir_pass pass, struct cuda__products *to);
enum status cuda__experts_open(const struct op_args *a, struct err *e); /* pinned memory for counts */
void cuda__experts_close(void);

enum status cuda__attention_prepare(const struct op_args *a, enum ir_pass pass, struct err *e);
/* Lines about kernels that are slower than they might be, of all that were prepared since close(); static. */
const char *cuda__attention_notes(void);
void cuda__attention_close(void);

/* One product of a kernel, all but its operands filled in; no workspace where the kernel has none. */
static inline struct cuda_matmul cuda__product_of(const struct op_args *a, enum ir_op op, enum ir_pass pass)
{
    return (struct cuda_matmul){ .batch = 1,
                                 .alpha = 1,
                                 .type = (enum ir_dtype)a->compute,
                                 .out = (enum ir_dtype)a->compute,
                                 .work = a->work,
                                 .work_bytes = a->work ? cuda_product_work(op, a->attrs, pass, a->b, a->t, a->ep) : 0,
                                 .stream = a->stream };
}

/* What follows the products' part of the workspace. */
static inline char *cuda__work_after(const struct op_args *a, enum ir_op op, enum ir_pass pass)
{
    return (char *)a->work + cuda_product_work(op, a->attrs, pass, a->b, a->t, a->ep);
}

static inline uint64_t cuda__rows(const struct op_args *a)
{
    return (uint64_t)a->b * a->t;
}

#endif
