/* Matrix products with cuBLASLt. Row-major, like everything here; the library is column-major, so it is given the transposed
 * product C' = B' A'. Algorithms are kept by shape: see cuda/libs.h for when they are chosen. */
#ifndef PIPER_CUDA_MATMUL_H
#define PIPER_CUDA_MATMUL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"
#include "ir/op.h"

/* A row-major matrix as it is stored, or taken as its transpose; ld elements from row to row. */
struct cuda_matrix {
    const void *at;
    uint64_t ld;
    bool turned;
    uint64_t stride; /* elements from one product of a batch to the next */
};

enum cuda_epilogue {
    CUDA_PLAIN,
    CUDA_GELU,      /* C = gelu(product), tanh form; aux (m,n; rows ldc apart) gets the product before it */
    CUDA_GELU_GRAD, /* C = product * gelu'(aux) */
};

/* C (m,n) = start + alpha A (m,k) B (k,n) + bias, `batch` of them. A, B, bias and aux have type `type`, C and start `out`; sums
 * are float32. m, n, k, batch > 0. */
struct cuda_matmul {
    uint64_t m, n, k;
    uint32_t batch;
    struct cuda_matrix a, b;
    void *c;
    uint64_t ldc, stride_c;
    const void *start; /* laid out like c; NULL: 0; equal to c: add in place; else left unchanged */
    const void *bias;  /* (n); or NULL */
    void *aux;
    enum cuda_epilogue epilogue;
    float alpha;
    enum ir_dtype type, out; /* IR_F32, IR_BF16 */
    uint64_t like_m,
        like_k; /* sizes that differ from step to step: the ones whose algorithm is taken; 0: m, k themselves */
    void *work; /* 256-byte aligned */
    uint64_t work_bytes;
    void *stream;
};
void cuda_matmul(const struct cuda_matmul *p);

/* cuda_matmul() of this shape will enqueue and nothing else. Times candidates where this process chooses, `time` says so and
 * nobody has chosen; c then holds anything. ST_DEVICE when the library has no algorithm. */
enum status cuda_matmul_prepare(const struct cuda_matmul *p, bool time, struct err *e);

/* Is a product with an epilogue worth it: has the library an algorithm, and is it faster than product `plain`, which is prepared,
 * and then rest(arg)? Timed where this process chooses, and kept with the algorithms; else yes, unless who chose says no.
 * Prepares p. */
struct op_args;
bool cuda_matmul_pays(const struct cuda_matmul *p, const struct cuda_matmul *plain,
                      void (*rest)(const struct op_args *arg), const struct op_args *arg);

/* The process's handle, and the file of algorithms (NULL: none) for a device of this name: see cuda/libs.h. */
enum status cuda__matmul_open(const char *path, const char *device, void *stream, struct err *e);
void cuda__matmul_choose(bool choose);
uint32_t cuda__matmul_unchosen(void);
void cuda__matmul_tell(const char *device, void **text, uint64_t *bytes);
enum status cuda__matmul_hear(const void *text, uint64_t bytes, const char *from, const char *device, struct err *e);
enum status cuda__matmul_store(const char *path, const char *device, struct err *e);
void cuda__matmul_close(void);
void cuda__matmul_tune(uint32_t multiprocessors);
uint64_t cuda__matmul_version(void);

/* ---- the file of chosen algorithms (matmul_file.c) ---- */

/* What an algorithm was chosen for. Compared as bytes: no padding. */
struct cuda__shape {
    uint64_t m, n, k, lda, ldb, ldc, stride_a, stride_b, stride_c;
    uint64_t work;    /* bytes */
    uint32_t aligned; /* bytes, of the least aligned operand */
    uint32_t batch, turned_a, turned_b, type, out, epilogue, bias, start, multiprocessors;
};
enum { CUDA__SHAPE_WORDS = 20, CUDA__ALGORITHM_WORDS = 8 };
struct cuda__choice {
    struct cuda__shape shape;
    uint64_t algorithm[CUDA__ALGORITHM_WORDS]; /* cublasLtMatmulAlgo_t; all 0: the epilogue does not pay */
    bool timed;                                /* goes to the file, and to others */
    bool wanted;                               /* to be timed, by whoever chooses */
};
struct cuda__choices {
    struct cuda__choice *at;
    uint32_t n, cap;
};
struct cuda__choice *cuda__choices_find(const struct cuda__choices *c, const struct cuda__shape *s);
/* Takes over what the text holds for this library and device. ST_INPUT: not such a text; path: for messages. */
enum status cuda__choices_scan(struct cuda__choices *c, FILE *f, const char *path, uint64_t version, const char *device,
                               struct err *e);
/* The choices that were timed, as text. */
void cuda__choices_print(const struct cuda__choices *c, FILE *f, uint64_t version, const char *device);
/* The same with a file; a missing one holds nothing, and none is made where nothing was timed. */
enum status cuda__choices_read(struct cuda__choices *c, const char *path, uint64_t version, const char *device,
                               struct err *e);
enum status cuda__choices_write(const struct cuda__choices *c, const char *path, uint64_t version, const char *device,
                                struct err *e);
#endif
