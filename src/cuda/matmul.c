/* See matmul.h. Descriptors live on the stack and algorithms in a table by shape, so a product allocates nothing. */
#include "cuda/matmul.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/mem.h"
#include "cuda/cuda.h"
#include "cuda/fail.h"
#include "cuda/libs_private.h"
#include "ir/target_cuda.h"

enum { CANDIDATES = 16, ROUNDS = 3, REPEATS = 2, REPEATS_WARM = 1024 };
/* The clocks of an idle device rise while the first products run: those of so many seconds are not counted. Candidates that took so
 * many times as long as the best in two rounds are given up. */
static const double warm_seconds = 0.2, hopeless = 1.25;

static struct {
    cublasLtHandle_t handle;
    cudaStream_t stream; /* of timing */
    bool choose, warm;
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

/* A row-major (rows,cols) is the library's (cols,rows). Of m: ld and stride. */
static void matrix(cublasLtMatrixLayoutOpaque_t *l, cudaDataType_t type, uint64_t rows, uint64_t cols,
                   const struct cuda_matrix *m, uint32_t batch)
{
    const int32_t count = (int32_t)batch;
    const int64_t offset = (int64_t)m->stride;
    must(cublasLtMatrixLayoutInit(l, type, cols, rows, (int64_t)m->ld), "cublasLtMatrixLayoutInit");
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
    const int32_t target = (int32_t)lt.multiprocessors;
    must(cublasLtMatmulDescInit(&d->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescInit");
    set(d, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta);
    set(d, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb);
    if (target)
        set(d, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, &target, sizeof target);
    epilogue(d, p);
    const struct cuda_matrix c = { .ld = p->ldc, .stride = p->stride_c };
    matrix(&d->a, type_of(p->type), p->b.turned ? p->n : p->k, p->b.turned ? p->k : p->n, &p->b, p->batch);
    matrix(&d->b, type_of(p->type), p->a.turned ? p->k : p->m, p->a.turned ? p->m : p->k, &p->a, p->batch);
    matrix(&d->c, type_of(p->out), p->m, p->n, &c, p->batch);
}

/* ---- shapes and their algorithms ---------------------------------------------------------------------------------- */

static uint32_t alignment_of(const struct cuda_matmul *p)
{
    uint64_t bits = p->like_m || p->like_k ? 16 : CUDA_ALIGNMENT; /* rows of a step may start at any multiple of 16 */
    const void *const at[] = { p->a.at, p->b.at, p->c, p->start, p->bias, p->aux };
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        bits |= (uint64_t)(uintptr_t)at[i];
    return (uint32_t)(bits & (~bits + 1));
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
    };
}

static struct cuda__choice *find(const struct cuda__shape *s)
{
    return cuda__choices_find(&lt.choices, s);
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
    const uint32_t alignment = s->aligned;
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

struct timing {
    const struct cuda_matmul *p;
    struct descriptors *d;
    cudaEvent_t from, to;
};

/* Seconds of a product, of `repeats` after one that is not counted; infinite where the algorithm does not run. */
static double seconds(const struct timing *t, const cublasLtMatmulAlgo_t *algorithm, int repeats)
{
    if (enqueue(t->p, t->d, algorithm, lt.stream) != CUBLAS_STATUS_SUCCESS)
        return INFINITY;
    cuda__check(cudaEventRecord(t->from, lt.stream), "cudaEventRecord");
    for (int i = 0; i < repeats; i++)
        if (enqueue(t->p, t->d, algorithm, lt.stream) != CUBLAS_STATUS_SUCCESS)
            return INFINITY;
    return seconds_since(t->from, t->to, lt.stream) / repeats;
}

/* Once a process: with what the library puts first. */
static void warm_up(const struct timing *t, const cublasLtMatmulAlgo_t *algorithm)
{
    double spent = 0;
    for (int n = 1; !lt.warm && spent < warm_seconds; n = n < REPEATS_WARM ? 2 * n : n)
        spent += n * seconds(t, algorithm, n);
    lt.warm |= isfinite(spent);
}

/* In rounds, so that what disturbs for a while disturbs all alike; each counts with its best. */
static int fastest(const struct cuda_matmul *p, struct descriptors *d, const cublasLtMatmulHeuristicResult_t *r, int n)
{
    struct timing t = { .p = p, .d = d };
    double best[CANDIDATES], least = INFINITY;
    int chosen = 0;
    cuda__check(cudaEventCreate(&t.from), "cudaEventCreate");
    cuda__check(cudaEventCreate(&t.to), "cudaEventCreate");
    warm_up(&t, &r[0].algo);
    for (int i = 0; i < n; i++)
        best[i] = INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        const double limit = round < 2 ? INFINITY : hopeless * least;
        for (int i = 0; i < n; i++) {
            if (r[i].state != CUBLAS_STATUS_SUCCESS || best[i] > limit)
                continue;
            best[i] = fmin(best[i], seconds(&t, &r[i].algo, REPEATS));
            least = fmin(least, best[i]);
        }
    }
    for (int i = n - 1; i >= 0; i--)
        chosen = best[i] <= least ? i : chosen;
    cuda__check(cudaEventDestroy(t.from), "cudaEventDestroy");
    cuda__check(cudaEventDestroy(t.to), "cudaEventDestroy");
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
    if (old && (old->timed || !time || !lt.choose)) {
        const cublasLtMatmulAlgo_t a = algorithm_of(old);
        old->wanted |= time;
        if (fits(&d, &a, p->work_bytes))
            return ST_OK;
    }
    cublasLtMatmulHeuristicResult_t r[CANDIDATES];
    const int n = candidates(&d, &new.shape, r, CANDIDATES);
    if (n == 0)
        return err_set(e, ST_DEVICE, "cuBLASLt",
                       "has no algorithm for a product (%llu,%llu) x (%llu,%llu) of %s in %llu KiB of workspace; "
                       "widths that are multiples of 8, another version of cuBLAS or --device cpu may help",
                       (unsigned long long)like.m, (unsigned long long)like.k, (unsigned long long)like.k,
                       (unsigned long long)like.n, ir_dtype_name(p->type), (unsigned long long)(p->work_bytes >> 10));
    new.timed = (time && lt.choose);
    new.wanted = time;
    memcpy(new.algorithm, &r[new.timed ? fastest(&like, &d, r, n) : 0].algo, sizeof new.algorithm);
    if (old)
        *old = new;
    else
        vec_add(&lt.choices, new);
    return ST_OK;
}

/* Seconds of REPEATS products, each with what follows it, after one that is not counted. */
static double seconds_with(const struct timing *t, const struct cuda_matmul *p, void (*rest)(const struct op_args *arg),
                           const struct op_args *arg)
{
    for (int i = -1; i < REPEATS; i++) {
        if (i == 0)
            cuda__check(cudaEventRecord(t->from, p->stream), "cudaEventRecord");
        cuda_matmul(p);
        if (rest)
            rest(arg);
    }
    return seconds_since(t->from, t->to, p->stream);
}

/* Is p faster than `plain` and rest(arg)? In rounds, as products are. */
static bool is_faster(const struct cuda_matmul *p, const struct cuda_matmul *plain,
                      void (*rest)(const struct op_args *arg), const struct op_args *arg)
{
    struct timing t = { .p = p };
    double one = INFINITY, two = INFINITY;
    cuda__check(cudaEventCreate(&t.from), "cudaEventCreate");
    cuda__check(cudaEventCreate(&t.to), "cudaEventCreate");
    for (int round = 0; round < ROUNDS; round++) {
        one = fmin(one, seconds_with(&t, p, NULL, NULL));
        two = fmin(two, seconds_with(&t, plain, rest, arg));
    }
    cuda__check(cudaEventDestroy(t.from), "cudaEventDestroy");
    cuda__check(cudaEventDestroy(t.to), "cudaEventDestroy");
    return one < two;
}

bool cuda_matmul_pays(const struct cuda_matmul *p, const struct cuda_matmul *plain,
                      void (*rest)(const struct op_args *arg), const struct op_args *arg)
{
    static const uint64_t none[CUDA__ALGORITHM_WORDS];
    const struct cuda__shape shape = shape_of(p);
    const struct cuda__choice *known = find(&shape);
    const bool chosen = known && known->timed;
    struct err e = { 0 };
    if (chosen && memcmp(known->algorithm, none, sizeof none) == 0)
        return false;
    if (cuda_matmul_prepare(p, true, &e) != ST_OK)
        return false;
    if (chosen || !lt.choose || is_faster(p, plain, rest, arg))
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

enum status cuda__matmul_open(const char *path, const char *device, void *stream, struct err *e)
{
    const cublasStatus_t status = cublasLtCreate(&lt.handle);
    if (status != CUBLAS_STATUS_SUCCESS)
        return err_set(e, ST_DEVICE, "cuBLASLt", "launch failed: %s", cublasLtGetStatusString(status));
    lt.stream = stream;
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

void cuda__matmul_choose(bool choose)
{
    lt.choose = choose;
}

uint32_t cuda__matmul_unchosen(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < lt.choices.n; i++)
        n += lt.choices.at[i].wanted && !lt.choices.at[i].timed;
    return n;
}

void cuda__matmul_tell(const char *device, void **text, uint64_t *bytes)
{
    char *at = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&at, &size);
    CHECK(f);
    cuda__choices_print(&lt.choices, f, cuda__matmul_version(), device);
    CHECK(fclose(f) == 0);
    *bytes = size;
    *text = memcpy(mem_alloc(size), at, size);
    free(at);
}

enum status cuda__matmul_hear(const void *text, uint64_t bytes, const char *from, const char *device, struct err *e)
{
    FILE *f = fmemopen((void *)(uintptr_t)text, bytes, "r");
    CHECK(f);
    const enum status st = cuda__choices_scan(&lt.choices, f, from, cuda__matmul_version(), device, e);
    fclose(f);
    return st;
}

void cuda__matmul_tune(uint32_t multiprocessors)
{
    lt.multiprocessors = multiprocessors;
}

uint64_t cuda__matmul_version(void)
{
    return cublasLtGetVersion();
}
