/* The few calls of the CUDA runtime that kernels' host sides make, on host memory, done at once. */
#ifndef PIPER_TESTS_FAKE_CUDART_H
#define PIPER_TESTS_FAKE_CUDART_H

#include <stddef.h>
#include <string.h>

typedef enum cudaError { cudaSuccess = 0 } cudaError_t;
typedef struct CUstream_st *cudaStream_t;
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice = 3 };

static inline cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    memset(p, value, bytes);
    return cudaSuccess;
}

static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                                          cudaStream_t stream)
{
    (void)kind;
    (void)stream;
    memmove(to, from, bytes);
    return cudaSuccess;
}

#endif
