/* See libs.h: the handles of a process, and what is done before its first step. */
#include "cuda/libs.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cuda/cuda.h"
#include "cuda/libs_private.h"
#include "cuda/sdpa.h"

static struct {
    char *path;
    char device[256];
    uint32_t multiprocessors;
} libs;

void cuda__product(struct cuda__products *to, const struct cuda_matmul *p)
{
    if (!to->prepare)
        cuda_matmul(p);
    else if (to->status == ST_OK)
        to->status = cuda_matmul_prepare(p, to->time, to->e);
}

enum status cuda_libs_open(void *stream, const char *cache_path, struct err *e)
{
    struct cudaDeviceProp properties;
    int device;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess)
        return err_set(e, ST_DEVICE, "CUDA", "%s", cudaGetErrorString(error));
    snprintf(libs.device, sizeof libs.device, "%s", properties.name);
    libs.multiprocessors = (uint32_t)properties.multiProcessorCount;
    libs.path = cache_path ? mem_strdup(cache_path) : NULL;
    enum status st = cuda__matmul_open(libs.path, libs.device, stream, e);
    if (st != ST_OK)
        cuda_libs_close();
    return st;
}

void cuda_libs_choose(bool choose)
{
    cuda__matmul_choose(choose);
}

uint32_t cuda_libs_unchosen(void)
{
    return cuda__matmul_unchosen();
}

void cuda_libs_tell(void **text, uint64_t *bytes)
{
    cuda__matmul_tell(libs.device, text, bytes);
}

enum status cuda_libs_hear(const void *text, uint64_t bytes, const char *from, struct err *e)
{
    return cuda__matmul_hear(text, bytes, from, libs.device, e);
}

enum status cuda_libs_store(struct err *e)
{
    return cuda__matmul_store(libs.path, libs.device, e);
}

void cuda_libs_close(void)
{
    cuda__matmul_close();
    cuda__sdpa_close();
    cuda__experts_close();
    cuda__attention_close();
    mem_free(libs.path);
    memset(&libs, 0, sizeof libs);
}

static enum status prepare_products(const struct op_args *a, enum ir_op op, enum ir_pass pass, struct err *e)
{
    struct cuda__products to = { .prepare = true, .time = true, .e = e };
    if (op == IR_OP_LINEAR)
        cuda__linear(a, pass, &to);
    else if (op == IR_OP_HEAD_LOSS)
        cuda__head_loss(a, pass, &to);
    else
        cuda__experts(a, pass, &to);
    return to.status;
}

enum status cuda_libs_prepare(const struct op_args *a, enum ir_op op, enum ir_pass pass, struct err *e)
{
    if (op == IR_OP_ATTENTION)
        return cuda__attention_prepare(a, pass, e);
    if (op != IR_OP_LINEAR && op != IR_OP_HEAD_LOSS && op != IR_OP_EXPERTS)
        return ST_OK;
    if (op == IR_OP_EXPERTS)
        TRY(cuda__experts_open(a, e));
    TRY(prepare_products(a, op, pass, e));
    if (pass != IR_PASS_BW)
        return ST_OK;
    struct op_args other = *a; /* the first microbatch of a step writes gradients, the others add */
    other.dparam_add = ~a->dparam_add;
    return prepare_products(&other, op, pass, e);
}

bool cuda_libs_prepare_pair(const struct op_args *first, const struct op_args *second, enum ir_pass pass, void *work)
{
    return first->op != IR_OP_LINEAR || cuda__linear_gelu_pays(first, second, pass, work);
}

void cuda_libs_leave(uint32_t n)
{
    cuda__matmul_tune(n && n < libs.multiprocessors ? libs.multiprocessors - n : 0);
}

const char *cuda_libs_notes(void)
{
    return cuda__attention_notes();
}

const char *cuda_libs_versions(void)
{
    static char text[96];
    const unsigned long long lt = cuda__matmul_version(), dnn = cuda__sdpa_version();
    const int n = snprintf(text, sizeof text, "cuBLASLt %llu.%llu.%llu, ", lt / 10000, lt / 100 % 100, lt % 100);
    if (dnn)
        snprintf(text + n, sizeof text - (size_t)n, "cuDNN %llu.%llu.%llu", dnn / 10000, dnn / 100 % 100, dnn % 100);
    else
        snprintf(text + n, sizeof text - (size_t)n, "no cuDNN");
    return text;
}
