/* See matmul.h. Descriptors live on the stack and algorithms in a table by shape, so a product allocates nothing. */
#include "cuda/matmul.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cuda/cuda.h"
#include "cuda/fail.h"
#include "cuda/libs_private.h"
#include "ir/target_cuda.h"

enum { CANDIDATES = 16, REPEATS = 4 };

static struct {
    cublasLtHandle_t handle;
    cudaStream_t stream; /* of timing */
    bool choose, tf32;
    uint32_t multiprocessors;
    struct cuda__choices choices;
} lt;

static void must(cublasStatus_t status, const char *call)
{
    if (status != CUBLAS_STATUS_SUCCESS)
        cuda__failed(call, cublasLtGetStatusString(status));
}

/* ---- descriptors -------------------------------------------------------------------------------------------------- */

struct descriptors {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t a, b, c; /* the library's A is our B */
};

static cudaDataType_t type_of(enum ir_dtype t)
{
    return t == IR_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static void set(struct descriptors *d, cublasLtMatmulDescAttributes_t what, const void *value, size_t bytes)
{
    must(cublasLtMatmulDescSetAttribute(&d->product, what, value, bytes), "cublasLtMatmulDescSetAttribute");
}

/* A row-major (rows,cols) is the library's (cols,rows). */
static void matrix(cublasLtMatrixLayoutOpaque_t *l, cudaDataType_t type, uint64_t rows, uint64_t cols, uint64_t ld,
                   uint32_t batch, uint64_t stride)
{
    const int32_t count = (int32_t)batch;
    const int64_t offset = (int64_t)stride;
    must(cublasLtMatrixLayoutInit(l, type, cols, rows, (int64_t)ld), "cublasLtMatrixLayoutInit");
    if (batch < 2)
        return;
    must(cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
         "cublasLtMatrixLayoutSetAttribute");
    must(cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &offset, sizeof offset),
         "cublasLtMatrixLayoutSetAttribute");
}

static void epilogue(struct descriptors *d, const struct cuda_matmul *p)
{
    const bool bias = p->bias != NULL;
    cublasLtEpilogue_t e = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    if (p->epilogue == CUDA_GELU)
        e = bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    else if (p->epilogue == CUDA_GELU_GRAD)
        e = CUBLASLT_EPILOGUE_DGELU;
    set(d, CUBLASLT_MATMUL_DESC_EPILOGUE, &e, sizeof e);
    if (bias)
        set(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias);
    if (p->epilogue != CUDA_PLAIN) {
        const int64_t ld = (int64_t)p->ldc;
        set(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &p->aux, sizeof p->aux);
        set(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &ld, sizeof ld);
    }
}

static void describe(struct descriptors *d, const struct cuda_matmul *p)
{
    const cublasOperation_t ta = p->b.turned ? CUBLAS_OP_T : CUBLAS_OP_N, tb = p->a.turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasComputeType_t compute = p->type == IR_F32 && lt.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                     : CUBLAS_COMPUTE_32F;
    const int32_t target = (int32_t)lt.multiprocessors;
    must(cublasLtMatmulDescInit(&d->product, compute, CUDA_R_32F), "cublasLtMatmulDescInit");
    set(d, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta);
    set(d, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb);
    if (target)
        set(d, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, &target, sizeof target);
    epilogue(d, p);
    matrix(&d->a, type_of(p->type), p->b.turned ? p->n : p->k, p->b.turned ? p->k : p->n, p->b.ld, p->batch,
           p->b.stride);
    matrix(&d->b, type_of(p->type), p->a.turned ? p->k : p->m, p->a.turned ? p->m : p->k, p->a.ld, p->batch,
           p->a.stride);
    matrix(&d->c, type_of(p->out), p->m, p->n, p->ldc, p->batch, p->stride_c);
}

/* ---- shapes and their algorithms ---------------------------------------------------------------------------------- */

static uint64_t alignment_of(const struct cuda_matmul *p)
{
    uint64_t bits = p->like_m || p->like_k ? 16 : CUDA_ALIGNMENT; /* rows of a step may start at any multiple of 16 */
    const void *const at[] = { p->a.at, p->b.at, p->c, p->start, p->bias, p->aux };
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        bits |= (uint64_t)(uintptr_t)at[i];
    return bits & (~bits + 1);
}

static struct cuda__shape shape_of(const struct cuda_matmul *p)
{
    return (struct cuda__shape){
        .m = p->like_m ? p->like_m : p->m,
        .n = p->n,
        .k = p->like_k ? p->like_k : p->k,
        .lda = p->a.ld,
        .ldb = p->b.ld,
        .ldc = p->ldc,
        .stride_a = p->batch > 1 ? p->a.stride : 0,
        .stride_b = p->batch > 1 ? p->b.stride : 0,
        .stride_c = p->batch > 1 ? p->stride_c : 0,
        .aligned = alignment_of(p),
        .work = p->work_bytes,
        .batch = p->batch,
        .turned_a = p->a.turned,
        .turned_b = p->b.turned,
        .type = p->type,
        .out = p->out,
        .epilogue = p->epilogue,
        .bias = p->bias != NULL,
        .start = !p->start          ? 0
                 : p->start == p->c ? 1
                                    : 2,
        .multiprocessors = lt.multiprocessors,
        .tf32 = lt.tf32,
    };
}

static struct cuda__choice *find(const struct cuda__shape *s)
{
    for (uint32_t i = 0; i < lt.choices.n; i++)
        if (memcmp(&lt.choices.at[i].shape, s, sizeof *s) == 0)
            return &lt.choices.at[i];
    return NULL;
}

static cublasLtMatmulAlgo_t algorithm_of(const struct cuda__choice *c)
{
    cublasLtMatmulAlgo_t a;
    _Static_assert(sizeof a == sizeof c->algorithm, "an algorithm of cuBLASLt has another size");
    memcpy(&a, c->algorithm, sizeof a);
    return a;
}

/* Can the algorithm do this, in the workspace that is planned? */
static bool fits(struct descriptors *d, const cublasLtMatmulAlgo_t *a, uint64_t work)
{
    cublasLtMatmulHeuristicResult_t r;
    return cublasLtMatmulAlgoCheck(lt.handle, &d->product, &d->a, &d->b, &d->c, &d->c, a, &r) ==
               CUBLAS_STATUS_SUCCESS &&
           r.state == CUBLAS_STATUS_SUCCESS && r.workspaceSize <= work;
}

/* What the library proposes, best guess first; returns how many. */
static int candidates(struct descriptors *d, const struct cuda__shape *s, cublasLtMatmulHeuristicResult_t *r, int most)
{
    static const cublasLtMatmulPreferenceAttributes_t operands[] = { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                                     CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                                     CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                                                     CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES };
    const uint64_t bytes = s->work;
    const uint32_t alignment = (uint32_t)s->aligned;
    /* parts of a split sum are added in float32, not in the type of the output */
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasLtMatmulPreferenceOpaque_t want;
    int n = 0;
    must(cublasLtMatmulPreferenceInit(&want), "cublasLtMatmulPreferenceInit");
    must(cublasLtMatmulPreferenceSetAttribute(&want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes),
         "cublasLtMatmulPreferenceSetAttribute");
    must(cublasLtMatmulPreferenceSetAttribute(&want, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                                              sizeof reductions),
         "cublasLtMatmulPreferenceSetAttribute");
    for (size_t i = 0; i < sizeof operands / sizeof *operands; i++)
        must(cublasLtMatmulPreferenceSetAttribute(&want, operands[i], &alignment, sizeof alignment),
             "cublasLtMatmulPreferenceSetAttribute");
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(lt.handle, &d->product, &d->a, &d->b, &d->c, &d->c,
                                                                 &want, most, r, &n);
    return status == CUBLAS_STATUS_SUCCESS ? n : 0;
}

static cublasStatus_t enqueue(const struct cuda_matmul *p, struct descriptors *d, const cublasLtMatmulAlgo_t *algorithm,
                              void *stream)
{
    const float beta = p->start ? 1 : 0;
    return cublasLtMatmul(lt.handle, &d->product, &p->alpha, p->b.at, &d->a, p->a.at, &d->b, &beta,
                          p->start ? p->start : p->c, &d->c, p->c, &d->c, algorithm, p->work, p->work_bytes, stream);
}

/* Seconds from event `from`, which is recorded, to where the stream is now; waits for it. */
static double seconds_since(cudaEvent_t from, cudaEvent_t to, void *stream)
{
    float ms;
    cuda__check(cudaEventRecord(to, stream), "cudaEventRecord");
    cuda__check(cudaEventSynchronize(to), "cudaEventSynchronize");
    cuda__check(cudaEventElapsedTime(&ms, from, to), "cudaEventElapsedTime");
    return (double)ms * 1e-3;
}

/* Seconds of REPEATS products after one that warms up; infinite where the algorithm does not run. */
static double seconds(const struct cuda_matmul *p, struct descriptors *d, const cublasLtMatmulAlgo_t *algorithm,
                      cudaEvent_t from, cudaEvent_t to)
{
    if (enqueue(p, d, algorithm, lt.stream) != CUBLAS_STATUS_SUCCESS)
        return INFINITY;
    cuda__check(cudaEventRecord(from, lt.stream), "cudaEventRecord");
    for (int i = 0; i < REPEATS; i++)
        if (enqueue(p, d, algorithm, lt.stream) != CUBLAS_STATUS_SUCCESS)
            return INFINITY;
    return seconds_since(from, to, lt.stream);
}

static int fastest(const struct cuda_matmul *p, struct descriptors *d, const cublasLtMatmulHeuristicResult_t *r, int n)
{
    cudaEvent_t from, to;
    double best = INFINITY;
    int chosen = 0;
    cuda__check(cudaEventCreate(&from), "cudaEventCreate");
    cuda__check(cudaEventCreate(&to), "cudaEventCreate");
    for (int i = 0; i < n; i++) {
        const double s = r[i].state == CUBLAS_STATUS_SUCCESS ? seconds(p, d, &r[i].algo, from, to) : INFINITY;
        if (s < best) {
            best = s;
            chosen = i;
        }
    }
    cuda__check(cudaEventDestroy(from), "cudaEventDestroy");
    cuda__check(cudaEventDestroy(to), "cudaEventDestroy");
    return chosen;
}

enum status cuda_matmul_prepare(const struct cuda_matmul *p, bool time, struct err *e)
{
    struct descriptors d;
    struct cuda_matmul like = *p;
    struct cuda__choice new = { .shape = shape_of(p) };
    like.m = new.shape.m;
    like.k = new.shape.k;
    describe(&d, &like);
    struct cuda__choice *old = find(&new.shape);
    if (old) {
        const cublasLtMatmulAlgo_t a = algorithm_of(old);
        if (fits(&d, &a, p->work_bytes))
            return ST_OK;
    }
    cublasLtMatmulHeuristicResult_t r[CANDIDATES];
    const int n = candidates(&d, &new.shape, r, CANDIDATES);
    if (n == 0)
        return err_set(
            e, ST_DEVICE, "cuBLASLt",
            "has no algorithm for a product (%llu,%llu) x (%llu,%llu) of %s in %llu KiB of workspace; widths that "
            "are multiples of 8, another version of cuBLAS or --device cpu may do",
            (unsigned long long)like.m, (unsigned long long)like.k, (unsigned long long)like.k,
            (unsigned long long)like.n, ir_dtype_name(p->type), (unsigned long long)(p->work_bytes >> 10));
    new.timed = (time && lt.choose);
    memcpy(new.algorithm, &r[new.timed ? fastest(&like, &d, r, n) : 0].algo, sizeof new.algorithm);
    if (old)
        *old = new;
    else
        vec_add(&lt.choices, new);
    return ST_OK;
}

/* Seconds of REPEATS products, each with what follows it, after one that warms up. */
static double seconds_with(const struct cuda_matmul *p, void (*rest)(const struct op_args *arg),
                           const struct op_args *arg)
{
    cudaEvent_t from, to;
    cuda__check(cudaEventCreate(&from), "cudaEventCreate");
    cuda__check(cudaEventCreate(&to), "cudaEventCreate");
    for (int i = -1; i < REPEATS; i++) {
        if (i == 0)
            cuda__check(cudaEventRecord(from, p->stream), "cudaEventRecord");
        cuda_matmul(p);
        if (rest)
            rest(arg);
    }
    const double s = seconds_since(from, to, p->stream);
    cuda__check(cudaEventDestroy(from), "cudaEventDestroy");
    cuda__check(cudaEventDestroy(to), "cudaEventDestroy");
    return s;
}

bool cuda_matmul_pays(const struct cuda_matmul *p, const struct cuda_matmul *plain,
                      void (*rest)(const struct op_args *arg), const struct op_args *arg)
{
    static const uint64_t none[CUDA__ALGORITHM_WORDS];
    const struct cuda__shape shape = shape_of(p);
    const struct cuda__choice *known = find(&shape);
    struct err e = { 0 };
    if (known && memcmp(known->algorithm, none, sizeof none) == 0)
        return false;
    if (cuda_matmul_prepare(p, true, &e) != ST_OK)
        return false;
    if (known || !lt.choose || seconds_with(p, NULL, NULL) < seconds_with(plain, rest, arg))
        return true;
    memset(find(&shape)->algorithm, 0, sizeof none);
    return false;
}

void cuda_matmul(const struct cuda_matmul *p)
{
    struct descriptors d;
    struct err e = { 0 };
    const struct cuda__shape shape = shape_of(p);
    ASSERT(p->batch == 1 || !p->bias);
    const struct cuda__choice *c = find(&shape);
    if (!c) {
        if (cuda_matmul_prepare(p, false, &e) != ST_OK)
            process_fail(e.status, e.text);
        c = find(&shape);
    }
    cublasLtMatmulAlgo_t algorithm = algorithm_of(c);
    describe(&d, p);
    if ((p->m != shape.m || p->k != shape.k) &&
        !fits(&d, &algorithm, p->work_bytes)) { /* made for a size near this one */
        cublasLtMatmulHeuristicResult_t r;
        if (candidates(&d, &shape, &r, 1) == 0)
            cuda__failed("cublasLtMatmulAlgoGetHeuristic", "no algorithm for the size of this step");
        algorithm = r.algo;
    }
    must(enqueue(p, &d, &algorithm, p->stream), "cublasLtMatmul");
}

/* ---- the process's handle ------------------------------------------------------------------------------------------ */

enum status cuda__matmul_open(const char *path, const char *device, void *stream, bool choose, struct err *e)
{
    const cublasStatus_t status = cublasLtCreate(&lt.handle);
    if (status != CUBLAS_STATUS_SUCCESS)
        return err_set(e, ST_DEVICE, "cuBLASLt", "does not start: %s", cublasLtGetStatusString(status));
    lt.stream = stream;
    lt.choose = choose;
    return path ? cuda__choices_read(&lt.choices, path, cuda__matmul_version(), device, e) : ST_OK;
}

void cuda__matmul_close(void)
{
    if (lt.handle)
        cublasLtDestroy(lt.handle);
    vec_free(&lt.choices);
    memset(&lt, 0, sizeof lt);
}

enum status cuda__matmul_store(const char *path, const char *device, struct err *e)
{
    return path ? cuda__choices_write(&lt.choices, path, cuda__matmul_version(), device, e) : ST_OK;
}

void cuda__matmul_tune(uint32_t multiprocessors)
{
    lt.multiprocessors = multiprocessors;
}

void cuda__matmul_tf32(bool allow)
{
    lt.tf32 = allow;
}

uint64_t cuda__matmul_version(void)
{
    return cublasLtGetVersion();
}
