/* cuBLASLt on host memory, in float64: what descriptors mean, and what the real library would refuse. Also the few calls of the CUDA
 * runtime. */
#include <cublasLt.h>
#include <math.h>
#include <string.h>

#include "fake.h"
#include "base/number.h"

double fake_clock, fake_epilogue_seconds, fake_rising_until, fake_disturbance;
uint64_t fake_fastest = 2, fake_disturbed;
bool fake_no_epilogues;
char fake_device[256] = "Fake";
int fake_waits, fake_searches, fake_last_multiprocessors;
uint64_t fake_library_version = 130100, fake_last_algorithm;
const char *fake_complaint;

bool fake_complain(const char *what)
{
    if (!fake_complaint)
        fake_complaint = what;
    return false;
}

double fake_load(const void *p, int64_t i, bool bf16)
{
    return bf16 ? (double)number_from_bf16(((const uint16_t *)p)[i]) : (double)((const float *)p)[i];
}

void fake_store(void *p, int64_t i, bool bf16, double x)
{
    if (bf16)
        ((uint16_t *)p)[i] = number_to_bf16((float)x);
    else
        ((float *)p)[i] = (float)x;
}

/* ---- descriptors: column-major, as the library's ---- */

struct layout {
    int32_t type, batch;
    int64_t rows, cols, ld, offset;
};
struct product {
    int32_t compute, trans_a, trans_b, epilogue, multiprocessors;
    void *bias, *aux;
    int64_t aux_ld;
};
struct preference {
    uint64_t workspace;
    uint32_t aligned, reductions;
};
enum { ALGORITHMS = 3, FAKE_WORK = 64 << 10 };
/* A chosen algorithm remembers what it was chosen for. */
struct algorithm {
    uint64_t number, aligned, work, type, trans, epilogue;
};

static struct layout *layout_of(cublasLtMatrixLayout_t l)
{
    return (struct layout *)(void *)l->data;
}

static struct product *product_of(cublasLtMatmulDesc_t d)
{
    return (struct product *)(void *)d->data;
}

static struct preference *preference_of(cublasLtMatmulPreference_t p)
{
    return (struct preference *)(void *)p->data;
}

#define REFUSE(condition)                                                               \
    do {                                                                                \
        if (condition)                                                                  \
            return fake_complain("cuBLASLt: " #condition), CUBLAS_STATUS_INVALID_VALUE; \
    } while (0)

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t l, size_t size, cudaDataType type,
                                                 uint64_t rows, uint64_t cols, int64_t ld)
{
    _Static_assert(sizeof(struct layout) <= sizeof l->data, "a layout is too large");
    REFUSE(size != sizeof *l);
    REFUSE(type != CUDA_R_32F && type != CUDA_R_16BF);
    REFUSE(rows == 0 || cols == 0 || ld < (int64_t)rows);
    *layout_of(l) = (struct layout){ (int32_t)type, 1, (int64_t)rows, (int64_t)cols, ld, 0 };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t what,
                                                const void *value, size_t size)
{
    struct layout *x = layout_of(l);
    if (what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) {
        REFUSE(size != sizeof(int32_t));
        memcpy(&x->batch, value, size);
        REFUSE(x->batch < 1);
        return CUBLAS_STATUS_SUCCESS;
    }
    REFUSE(what != CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET || size != sizeof(int64_t));
    memcpy(&x->offset, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t d, size_t size, cublasComputeType_t compute,
                                               cudaDataType_t scale)
{
    REFUSE(size != sizeof *d);
    REFUSE(scale != CUDA_R_32F);
    REFUSE(compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_FAST_TF32);
    *product_of(d) = (struct product){ .compute = (int32_t)compute, .epilogue = CUBLASLT_EPILOGUE_DEFAULT };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t size)
{
    struct product *p = product_of(d);
    struct {
        cublasLtMatmulDescAttributes_t what;
        void *to;
        size_t size;
    } const known[] = {
        { CUBLASLT_MATMUL_DESC_TRANSA, &p->trans_a, 4 },
        { CUBLASLT_MATMUL_DESC_TRANSB, &p->trans_b, 4 },
        { CUBLASLT_MATMUL_DESC_EPILOGUE, &p->epilogue, 4 },
        { CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, 8 },
        { CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &p->aux, 8 },
        { CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p->aux_ld, 8 },
        { CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, &p->multiprocessors, 4 },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].what == what && known[i].size == size) {
            memcpy(known[i].to, value, size);
            return CUBLAS_STATUS_SUCCESS;
        }
    fake_complain("cuBLASLt: an attribute of a product that is not known, or of another size");
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t p, size_t size)
{
    REFUSE(size != sizeof *p);
    *preference_of(p) = (struct preference){ .aligned = 256, .reductions = 7 };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void *value,
                                                    size_t size)
{
    struct preference *x = preference_of(p);
    if (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
        REFUSE(size != sizeof x->workspace);
        memcpy(&x->workspace, value, size);
        return CUBLAS_STATUS_SUCCESS;
    }
    uint32_t word;
    REFUSE(size != sizeof word);
    memcpy(&word, value, size);
    if (what == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) {
        x->reductions = word;
        return CUBLAS_STATUS_SUCCESS;
    }
    REFUSE(what < CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES || what > CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
    REFUSE(word == 0 || (word & (word - 1)) != 0);
    x->aligned = word < x->aligned ? word : x->aligned;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- products ---- */

struct call {
    const struct product *p;
    const struct layout *a, *b, *c, *d;
};

static cublasStatus_t check_call(const struct call *x)
{
    const struct product *p = x->p;
    const int64_t m = x->d->rows, n = x->d->cols;
    const int64_t k = p->trans_a ? x->a->rows : x->a->cols;
    REFUSE(p->trans_a < 0 || p->trans_a > 1 || p->trans_b < 0 || p->trans_b > 1);
    REFUSE((p->trans_a ? x->a->cols : x->a->rows) != m);
    REFUSE((p->trans_b ? x->b->rows : x->b->cols) != n);
    REFUSE((p->trans_b ? x->b->cols : x->b->rows) != k);
    REFUSE(x->c->rows != m || x->c->cols != n || x->c->type != x->d->type);
    REFUSE(x->a->batch != x->d->batch || x->b->batch != x->d->batch || x->c->batch != x->d->batch);
    REFUSE(x->a->type != x->b->type);
    REFUSE(x->a->type == CUDA_R_32F && x->d->type != CUDA_R_32F);
    REFUSE(p->compute == CUBLAS_COMPUTE_32F_FAST_TF32 && x->a->type != CUDA_R_32F);
    REFUSE(p->epilogue & 4 && (!p->bias || x->d->batch > 1));
    REFUSE(p->epilogue & 128 && (!p->aux || p->aux_ld < m || p->aux_ld % 8 != 0 || (uintptr_t)p->aux % 16 != 0));
    return CUBLAS_STATUS_SUCCESS;
}

static struct algorithm made_for(const struct call *x, uint64_t number, uint64_t aligned, uint64_t work)
{
    return (struct algorithm){ number,
                               aligned,
                               work,
                               (uint64_t)x->a->type << 8 | (uint64_t)x->d->type,
                               (uint64_t)(x->p->trans_a << 1 | x->p->trans_b),
                               (uint64_t)x->p->epilogue };
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t want, int most,
                                              cublasLtMatmulHeuristicResult_t *results, int *n)
{
    const struct call x = { product_of(product), layout_of(a), layout_of(b), layout_of(c), layout_of(d) };
    const struct preference *w = preference_of(want);
    REFUSE(!handle);
    REFUSE(w->reductions & 4); /* sums rounded to the type of the output on their way */
    *n = 0;
    fake_searches++;
    const cublasStatus_t status = check_call(&x);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    if (fake_no_epilogues && x.p->epilogue & 128)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (; *n < ALGORITHMS && *n < most; (*n)++) {
        const struct algorithm algorithm = made_for(&x, (uint64_t)*n, w->aligned,
                                                    w->workspace < FAKE_WORK ? w->workspace : FAKE_WORK);
        results[*n] = (cublasLtMatmulHeuristicResult_t){ .workspaceSize = w->workspace,
                                                         .state = CUBLAS_STATUS_SUCCESS };
        memcpy(results[*n].algo.data, &algorithm, sizeof algorithm);
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result)
{
    const struct call x = { product_of(product), layout_of(a), layout_of(b), layout_of(c), layout_of(d) };
    struct algorithm have;
    REFUSE(!handle);
    memcpy(&have, algo->data, sizeof have);
    const struct algorithm need = made_for(&x, have.number, have.aligned, have.work);
    *result = (cublasLtMatmulHeuristicResult_t){ .algo = *algo, .workspaceSize = have.work };
    return have.number < ALGORITHMS && memcmp(&have, &need, sizeof need) == 0 ? check_call(&x)
                                                                              : CUBLAS_STATUS_NOT_SUPPORTED;
}

double fake_gelu(double x)
{
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

double fake_gelu_grad(double x)
{
    const double h = 1e-6;
    return (fake_gelu(x + h) - fake_gelu(x - h)) / (2 * h);
}

/* One element of D, before it is rounded. */
static double finish(const struct product *p, double x, int64_t i, int64_t j, bool bf16)
{
    if (p->epilogue & 4)
        x += fake_load(p->bias, i, bf16);
    if (!(p->epilogue & 128))
        return x;
    const int64_t at = i + j * p->aux_ld;
    if (p->epilogue & 64)
        return x * fake_gelu_grad(fake_load(p->aux, at, bf16));
    fake_store(p->aux, at, bf16, x);
    return fake_gelu(x);
}

static void multiply(const struct call *x, double alpha, const void *a, const void *b, double beta, const void *c,
                     void *d, int64_t batch)
{
    const bool in = x->a->type == CUDA_R_16BF, out = x->d->type == CUDA_R_16BF;
    const int64_t k = x->p->trans_a ? x->a->rows : x->a->cols;
    const int64_t a1 = x->p->trans_a ? 1 : x->a->ld, b1 = x->p->trans_b ? x->b->ld : 1;
    for (int64_t j = 0; j < x->d->cols; j++)
        for (int64_t i = 0; i < x->d->rows; i++) {
            const int64_t a0 = batch * x->a->offset + i * (x->p->trans_a ? x->a->ld : 1);
            const int64_t b0 = batch * x->b->offset + j * (x->p->trans_b ? 1 : x->b->ld);
            double sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum += fake_load(a, a0 + l * a1, in) * fake_load(b, b0 + l * b1, in);
            sum *= alpha;
            if (beta != 0)
                sum += beta * fake_load(c, batch * x->c->offset + i + j * x->c->ld, out);
            fake_store(d, batch * x->d->offset + i + j * x->d->ld, out, finish(x->p, sum, i, j, out));
        }
}

static void pass_time(uint64_t algorithm, bool epilogue)
{
    static uint64_t products;
    double s = (algorithm == fake_fastest ? 1e-3 : 2e-3) + (epilogue ? fake_epilogue_seconds : 0);
    if (fake_clock < fake_rising_until)
        s *= 3;
    if (fake_disturbed && ++products % fake_disturbed == 0)
        s += fake_disturbance;
    fake_clock += s;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t lc, void *d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes, cudaStream_t stream)
{
    const struct call x = { product_of(product), layout_of(la), layout_of(lb), layout_of(lc), layout_of(ld) };
    cublasLtMatmulHeuristicResult_t r;
    struct algorithm have;
    (void)stream;
    memcpy(&have, algo->data, sizeof have);
    const void *const at[] = { a, b, c, d };
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        REFUSE(!at[i] || (uintptr_t)at[i] % have.aligned != 0);
    REFUSE(cublasLtMatmulAlgoCheck(handle, product, la, lb, lc, ld, algo, &r) != CUBLAS_STATUS_SUCCESS);
    REFUSE(bytes < r.workspaceSize || (bytes && (!workspace || (uintptr_t)workspace % 16 != 0)));
    REFUSE(c == d && (x.c->ld != x.d->ld || x.c->offset != x.d->offset));
    if (bytes)
        memset(workspace, 0xa5, bytes < 4096 ? bytes : 4096); /* it may be written */
    fake_last_algorithm = have.number;
    fake_last_multiprocessors = x.p->multiprocessors;
    pass_time(have.number, (x.p->epilogue & 128) != 0);
    for (int64_t i = 0; i < x.d->batch; i++)
        multiply(&x, (double)*(const float *)alpha, a, b, (double)*(const float *)beta, c, d, i);
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return fake_library_version;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "success" : fake_complaint ? fake_complaint : "refused";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    static int there;
    *handle = (cublasLtHandle_t)(void *)&there;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    REFUSE(!handle);
    return CUBLAS_STATUS_SUCCESS;
}
