/* cuDNN's backend interface on the host: what the real one would refuse, engines to choose from. */
#include "fake_cudnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

int fake_last_engine = -1;
bool fake_no_good_engine, fake_no_cudnn;
static bool loaded;
enum { ENGINES = 3, GOOD_WORKSPACE = 256 };
static const int64_t big_workspace = INT64_C(1) << 40;

#define REFUSE(condition)                                                       \
    do {                                                                        \
        if (condition)                                                          \
            return fake_complain("cuDNN: " #condition), CUDNN_STATUS_BAD_PARAM; \
    } while (0)

/* ---- attributes ---- */

struct fake_desc *fake_points(const struct fake_desc *d, cudnnBackendAttributeName_t name, int64_t i)
{
    return i < d->at[name].n ? ((struct fake_desc **)d->at[name].values)[i] : NULL;
}

int64_t fake_int(const struct fake_desc *d, cudnnBackendAttributeName_t name, int64_t i)
{
    return i < d->at[name].n ? ((const int64_t *)d->at[name].values)[i] : -1;
}

bool fake_bool(const struct fake_desc *d, cudnnBackendAttributeName_t name)
{
    return d->at[name].n && *(const bool *)d->at[name].values;
}

int fake_enum(const struct fake_desc *d, cudnnBackendAttributeName_t name)
{
    return d->at[name].n ? *(const int *)d->at[name].values : -1;
}

void *fake_bound(const struct fake_desc *pack, int64_t number)
{
    for (int64_t i = 0; i < pack->at[CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS].n; i++)
        if (fake_int(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i) == number)
            return ((void **)pack->at[CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS].values)[i];
    return NULL;
}

static size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
        return 1;
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_VOID_PTR:
        return 8;
    default:
        return 4;
    }
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t desc, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    struct fake_desc *d = desc;
    REFUSE(!d || d->finalized || n <= 0 || !values);
    struct fake_attribute *a = &d->at[name];
    free(a->values);
    *a = (struct fake_attribute){ type, n, malloc((size_t)n * size_of(type)) };
    memcpy(a->values, values, (size_t)n * size_of(type));
    for (int64_t i = 0; type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < n; i++)
        REFUSE(!fake_points(d, name, i) || !fake_points(d, name, i)->finalized);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d)
{
    REFUSE(!loaded);
    struct fake_desc *x = calloc(1, sizeof *x);
    x->type = type;
    *d = x;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t desc)
{
    struct fake_desc *d = desc;
    for (int i = 0; i < CUDNN_ATTR_COUNT; i++)
        free(d->at[i].values);
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

/* ---- what makes a descriptor whole ---- */

static bool all_set(const struct fake_desc *d, const int *names)
{
    for (; *names >= 0; names++)
        if (!d->at[*names].n)
            return false;
    return true;
}

static cudnnStatus_t check_tensor(const struct fake_desc *d)
{
    static const int need[] = { CUDNN_ATTR_TENSOR_UNIQUE_ID,      CUDNN_ATTR_TENSOR_DATA_TYPE,
                                CUDNN_ATTR_TENSOR_DIMENSIONS,     CUDNN_ATTR_TENSOR_STRIDES,
                                CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, -1 };
    REFUSE(!all_set(d, need));
    REFUSE(d->at[CUDNN_ATTR_TENSOR_DIMENSIONS].n != 4 || d->at[CUDNN_ATTR_TENSOR_STRIDES].n != 4);
    for (int i = 0; i < 4; i++)
        REFUSE(fake_int(d, CUDNN_ATTR_TENSOR_DIMENSIONS, i) < 1 || fake_int(d, CUDNN_ATTR_TENSOR_STRIDES, i) < 1);
    REFUSE(fake_bool(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL) && fake_bool(d, CUDNN_ATTR_TENSOR_IS_BY_VALUE));
    return CUDNN_STATUS_SUCCESS;
}

static int64_t dim(const struct fake_desc *t, int i)
{
    return fake_int(t, CUDNN_ATTR_TENSOR_DIMENSIONS, i);
}

int fake_operands(const struct fake_desc *op, struct fake_desc *out[FAKE_OPERANDS])
{
    static const int names[][FAKE_OPERANDS + 1] = {
        [CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR] = { CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
                                                           CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                                                           CUDNN_ATTR_OPERATION_POINTWISE_TDESC,
                                                           CUDNN_ATTR_OPERATION_POINTWISE_YDESC, -1 },
        [CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR] = { CUDNN_ATTR_OPERATION_MATMUL_ADESC,
                                                        CUDNN_ATTR_OPERATION_MATMUL_BDESC,
                                                        CUDNN_ATTR_OPERATION_MATMUL_CDESC, -1 },
        [CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR] = { CUDNN_ATTR_OPERATION_REDUCTION_XDESC,
                                                           CUDNN_ATTR_OPERATION_REDUCTION_YDESC, -1 },
        [CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR] = { CUDNN_ATTR_OPERATION_RESHAPE_XDESC,
                                                         CUDNN_ATTR_OPERATION_RESHAPE_YDESC, -1 },
    };
    int n = 0;
    for (const int *name = names[op->type]; *name >= 0; name++)
        if (op->at[*name].n)
            out[n++] = fake_points(op, (cudnnBackendAttributeName_t)*name, 0);
    return n;
}

static cudnnStatus_t check_operation(const struct fake_desc *op)
{
    struct fake_desc *t[FAKE_OPERANDS];
    const int n = fake_operands(op, t);
    REFUSE(n < 2);
    const struct fake_desc *y = t[n - 1];
    for (int k = 0; k + 1 < n; k++)
        for (int i = 0; i < 4; i++) {
            if (op->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
                REFUSE(dim(t[k], i) != 1 && dim(t[k], i) != dim(y, i));
            if (op->type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)
                REFUSE(dim(y, i) != 1 && dim(y, i) != dim(t[k], i) && (i != 1 || dim(t[k], i) % dim(y, i) != 0));
        }
    if (op->type != CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)
        return CUDNN_STATUS_SUCCESS;
    REFUSE(n != 3 || !op->at[CUDNN_ATTR_OPERATION_MATMUL_DESC].n);
    REFUSE(dim(t[0], 2) != dim(y, 2) || dim(t[1], 3) != dim(y, 3) || dim(t[0], 3) != dim(t[1], 2));
    REFUSE(dim(t[0], 0) != dim(y, 0) || dim(t[1], 0) != dim(y, 0));
    REFUSE(dim(y, 1) % dim(t[0], 1) != 0 || dim(y, 1) % dim(t[1], 1) != 0);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_graph(const struct fake_desc *g)
{
    struct fake_desc *t[FAKE_OPERANDS], *seen[128];
    int n_seen = 0;
    for (int64_t o = 0; o < g->at[CUDNN_ATTR_OPERATIONGRAPH_OPS].n; o++) {
        const int n = fake_operands(fake_points(g, CUDNN_ATTR_OPERATIONGRAPH_OPS, o), t);
        for (int i = 0; i < n; i++) {
            bool known = false;
            for (int k = 0; k < n_seen; k++) {
                known |= seen[k] == t[i];
                REFUSE(seen[k] != t[i] && fake_int(seen[k], CUDNN_ATTR_TENSOR_UNIQUE_ID, 0) ==
                                              fake_int(t[i], CUDNN_ATTR_TENSOR_UNIQUE_ID, 0));
            }
            REFUSE(n_seen == 128);
            if (!known)
                seen[n_seen++] = t[i];
            const bool inside = fake_bool(t[i], CUDNN_ATTR_TENSOR_IS_VIRTUAL);
            REFUSE(inside && i + 1 < n && !t[i]->written); /* read before it is computed */
            REFUSE(i + 1 == n && t[i]->written);           /* computed twice */
        }
        t[n - 1]->written = true;
    }
    for (int k = 0; k < n_seen; k++)
        seen[k]->written = false;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_whole(const struct fake_desc *d)
{
    static const int need[][4] = {
        [CUDNN_BACKEND_POINTWISE_DESCRIPTOR] = { CUDNN_ATTR_POINTWISE_MODE, CUDNN_ATTR_POINTWISE_MATH_PREC, -1 },
        [CUDNN_BACKEND_MATMUL_DESCRIPTOR] = { CUDNN_ATTR_MATMUL_COMP_TYPE, -1 },
        [CUDNN_BACKEND_REDUCTION_DESCRIPTOR] = { CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_ATTR_REDUCTION_COMP_TYPE, -1 },
        [CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR] = { CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR,
                                                           CUDNN_ATTR_OPERATION_POINTWISE_YDESC, -1 },
        [CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR] = { CUDNN_ATTR_OPERATION_MATMUL_DESC, -1 },
        [CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR] = { CUDNN_ATTR_OPERATION_REDUCTION_DESC, -1 },
        [CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR] = { CUDNN_ATTR_OPERATION_RESHAPE_XDESC,
                                                         CUDNN_ATTR_OPERATION_RESHAPE_YDESC, -1 },
        [CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR] = { CUDNN_ATTR_OPERATIONGRAPH_OPS, -1 },
        [CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR] = { CUDNN_ATTR_DEVICEPROP_HANDLE, -1 },
        [CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR] = { CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_ATTR_ENGINEHEUR_MODE,
                                                  CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, -1 },
        [CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR] = { CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                                      CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, -1 },
        [CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR] = { CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                                                    CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                                    CUDNN_ATTR_VARIANT_PACK_WORKSPACE, -1 },
    };
    if (d->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR)
        return check_tensor(d);
    REFUSE(!all_set(d, need[d->type]));
    if (d->type >= CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR &&
        d->type <= CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR)
        return check_operation(d);
    return d->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR ? check_graph(d) : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t desc)
{
    struct fake_desc *d = desc;
    REFUSE(!d || d->finalized);
    const cudnnStatus_t status = check_whole(d);
    d->finalized = status == CUDNN_STATUS_SUCCESS;
    return status;
}

/* ---- engines ---- */

static cudnnStatus_t get_descriptors(struct fake_desc *d, cudnnBackendAttributeName_t name, int64_t most, int64_t *n,
                                     struct fake_desc **out)
{
    if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {
        REFUSE(most != 1 || !out || !out[0]);
        out[0]->engine = d->engine;
        *n = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    REFUSE(name != CUDNN_ATTR_ENGINEHEUR_RESULTS);
    const bool any = fake_enum(d, CUDNN_ATTR_ENGINEHEUR_MODE) == CUDNN_HEUR_MODE_A;
    const int engines = fake_no_good_engine ? FAKE_GOOD_ENGINE : ENGINES;
    *n = any ? engines : 0;
    for (int i = 0; i < most && i < *n; i++) {
        REFUSE(!out[i]);
        out[i]->engine = i;
        out[i]->finalized = true;
        out[i]->at[CUDNN_ATTR_ENGINE_OPERATION_GRAPH].n = 1;
        free(out[i]->at[CUDNN_ATTR_ENGINE_OPERATION_GRAPH].values);
        void **graph = malloc(sizeof *graph);
        *graph = fake_points(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, 0);
        out[i]->at[CUDNN_ATTR_ENGINE_OPERATION_GRAPH].values = graph;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t desc, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t most, int64_t *n, void *values)
{
    struct fake_desc *d = desc;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        return get_descriptors(d, name, most, n, values);
    *n = 1;
    if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        *(cudnnBackendNumericalNote_t *)values = d->engine == FAKE_RANDOM_ENGINE ? CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC
                                                                                 : CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        return CUDNN_STATUS_SUCCESS;
    }
    REFUSE(name != CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE || !d->finalized);
    const struct fake_desc *config = fake_points(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, 0);
    *(int64_t *)values = config->engine == FAKE_BIG_ENGINE ? big_workspace : GOOD_WORKSPACE;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t desc)
{
    const struct fake_desc *p = plan, *pack = desc;
    struct fake_desc *t[FAKE_OPERANDS];
    REFUSE(!handle || !p->finalized || !pack->finalized);
    const struct fake_desc *config = fake_points(p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, 0);
    const struct fake_desc *graph = fake_points(config, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, 0);
    for (int64_t o = 0; o < graph->at[CUDNN_ATTR_OPERATIONGRAPH_OPS].n; o++) {
        const int n = fake_operands(fake_points(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, o), t);
        for (int i = 0; i < n; i++) {
            const void *at = fake_bound(pack, fake_int(t[i], CUDNN_ATTR_TENSOR_UNIQUE_ID, 0));
            REFUSE(!fake_bool(t[i], CUDNN_ATTR_TENSOR_IS_VIRTUAL) && !at);
            REFUSE(!fake_bool(t[i], CUDNN_ATTR_TENSOR_IS_BY_VALUE) && at &&
                   (uintptr_t)at % (uintptr_t)fake_int(t[i], CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0) != 0);
        }
    }
    void *work = *(void **)pack->at[CUDNN_ATTR_VARIANT_PACK_WORKSPACE].values;
    REFUSE(!work);
    memset(work, 0xa5, GOOD_WORKSPACE);
    fake_last_engine = config->engine;
    fake_run(graph, pack);
    return CUDNN_STATUS_SUCCESS;
}

/* ---- the rest ---- */

size_t cudnnGetVersion(void)
{
    return 91900;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    return status == CUDNN_STATUS_SUCCESS ? "success" : "bad parameter";
}

void cudnnGetLastErrorString(char *text, size_t size)
{
    snprintf(text, size, "%s", fake_complaint ? fake_complaint : "");
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    static int there;
    REFUSE(!loaded);
    *handle = (cudnnHandle_t)(void *)&there;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    REFUSE(!handle);
    return CUDNN_STATUS_SUCCESS;
}

enum status cuda__cudnn_load(struct err *e)
{
    loaded = !fake_no_cudnn;
    return loaded ? ST_OK : err_set(e, ST_DEVICE, "cuDNN", "libcudnn.so.9 cannot be loaded");
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    (void)stream;
    REFUSE(!handle);
    return CUDNN_STATUS_SUCCESS;
}
