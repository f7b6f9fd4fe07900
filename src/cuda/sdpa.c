/* See sdpa.h: the choice of an engine, plans by shape, running them. */
#include "cuda/sdpa.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "cuda/fail.h"
#include "cuda/libs_private.h"
#include "cuda/sdpa_graph.h"

enum { CONFIGS = 16, NOTES = 32 };

struct plan {
    struct cuda_sdpa_shape shape;
    struct cuda__sdpa_graph graph; /* owns the descriptors of the plan */
    cudnnBackendDescriptor_t plan; /* NULL: no engine */
    char *refused;                 /* then why */
    int64_t workspace;
};

static struct {
    cudnnHandle_t handle;         /* NULL: plans are built, none can run */
    struct cuda__sdpa_graph root; /* owns device */
    cudnnBackendDescriptor_t device;
    struct {
        VEC(struct plan *);
    } plans;
} dnn;

/* ---- engines ------------------------------------------------------------------------------------------------------------ */

static bool nondeterministic(cudnnBackendDescriptor_t config, struct cuda__sdpa_graph *g)
{
    cudnnBackendNumericalNote_t notes[NOTES];
    int64_t n = 0;
    cudnnBackendDescriptor_t engine = cuda__sdpa_new(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    if (!engine ||
        cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine) !=
            CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, NOTES, &n,
                                 notes) != CUDNN_STATUS_SUCCESS)
        return true;
    for (int64_t i = 0; i < n; i++)
        if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)
            return true;
    return false;
}

/* Configurations that the library proposes, best guess first; returns how many. */
static int64_t propose(struct cuda__sdpa_graph *g, cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                       cudnnBackendDescriptor_t configs[CONFIGS])
{
    int64_t n = 0, got = 0;
    cudnnBackendDescriptor_t h = cuda__sdpa_new(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    cuda__sdpa_point(g, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    cuda__sdpa_set(g, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    cuda__sdpa_point(g, h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, dnn.device);
    cuda__sdpa_finalize(g, h);
    if (g->status != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &n, NULL) !=
            CUDNN_STATUS_SUCCESS)
        return 0;
    n = n < CONFIGS ? n : CONFIGS;
    for (int64_t i = 0; i < n; i++)
        configs[i] = cuda__sdpa_new(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (n == 0 || cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, &got,
                                           configs) != CUDNN_STATUS_SUCCESS)
        return 0;
    return got;
}

/* The plan of one configuration; NULL when it cannot be or wants more than `limit`. */
static cudnnBackendDescriptor_t try_config(struct plan *p, cudnnBackendDescriptor_t config, uint64_t limit)
{
    int64_t n;
    struct cuda__sdpa_graph *g = &p->graph;
    cudnnBackendDescriptor_t plan = cuda__sdpa_new(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    cuda__sdpa_point(g, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    cuda__sdpa_point(g, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, dnn.device);
    cuda__sdpa_finalize(g, plan);
    const bool made = g->status == CUDNN_STATUS_SUCCESS;
    g->status = CUDNN_STATUS_SUCCESS; /* the next one may do */
    if (!made || cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                          &p->workspace) != CUDNN_STATUS_SUCCESS)
        return NULL;
    return (uint64_t)p->workspace <= limit ? plan : NULL;
}

static void build(struct plan *p, uint64_t limit)
{
    static const cudnnBackendHeurMode_t modes[] = { CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK };
    cudnnBackendDescriptor_t configs[CONFIGS];
    cudnnBackendDescriptor_t graph = cuda__sdpa_graph(&p->graph, &p->shape);
    for (size_t m = 0; m < sizeof modes / sizeof *modes && p->graph.status == CUDNN_STATUS_SUCCESS; m++) {
        const int64_t n = propose(&p->graph, graph, modes[m], configs);
        for (int64_t i = 0; i < n && !p->plan; i++)
            if (!nondeterministic(configs[i], &p->graph))
                p->plan = try_config(p, configs[i], limit);
        if (p->plan)
            return;
    }
}

/* ---- plans -------------------------------------------------------------------------------------------------------------- */

static struct plan *find(const struct cuda_sdpa_shape *s)
{
    for (uint32_t i = 0; i < dnn.plans.n; i++)
        if (memcmp(&dnn.plans.at[i]->shape, s, sizeof *s) == 0)
            return dnn.plans.at[i];
    return NULL;
}

static void refuse(struct plan *p, uint64_t limit)
{
    const struct cuda_sdpa_shape *s = &p->shape;
    struct err e = { 0 };
    err_set(&e, ST_DEVICE, "cuDNN",
            "has no deterministic engine for the attention %s of %lld sequences of %lld, heads %lld/%lld of "
            "%lld, within %llu MiB%s%s",
            s->backward ? "backward" : "forward", (long long)s->b, (long long)s->t, (long long)s->heads,
            (long long)s->kv_heads, (long long)s->d, (unsigned long long)(limit >> 20),
            p->graph.failed[0] ? "; the last error: " : "", p->graph.failed);
    p->refused = mem_strdup(e.text);
    cuda__sdpa_release(&p->graph);
}

enum status cuda_sdpa_prepare(const struct cuda_sdpa_shape *s, uint64_t limit, struct err *e)
{
    struct plan *p = find(s);
    if (!dnn.device)
        TRY(cuda__sdpa_open(NULL, e));
    if (!p) {
        p = mem_alloc(sizeof *p);
        p->shape = *s;
        build(p, limit);
        if (!p->plan)
            refuse(p, limit);
        vec_add(&dnn.plans, p);
    }
    return p->plan ? ST_OK : err_set(e, ST_DEVICE, NULL, "%s", p->refused);
}

bool cuda_sdpa_ready(const struct cuda_sdpa_shape *s)
{
    const struct plan *p = find(s);
    return p && p->plan;
}

bool cuda_sdpa_refused(const struct cuda_sdpa_shape *s)
{
    const struct plan *p = find(s);
    return p && p->refused;
}

void cuda_sdpa(const struct cuda_sdpa *a)
{
    static const float one = 1;
    /* what engines before cuDNN 9.10 expect in its place */
    const float minus_infinity = cudnnGetVersion() < 91000 ? -FLT_MAX : -INFINITY;
    const struct plan *p = find(&a->shape);
    CHECK(p && p->plan && dnn.handle);
    const int64_t numbers[] = { SDPA_Q,
                                SDPA_K,
                                SDPA_V,
                                SDPA_O,
                                SDPA_STATS,
                                SDPA_SCALE,
                                SDPA_MINUS_INFINITY,
                                /* backward */ SDPA_DOUT,
                                SDPA_DQ,
                                SDPA_DK,
                                SDPA_DV,
                                SDPA_SUMS,
                                SDPA_ONE };
    const void *const memory[] = { a->q,    a->k,  a->v,  a->o,  a->stats, &a->scale, &minus_infinity,
                                   a->dout, a->dq, a->dk, a->dv, a->sums,  &one };
    const int64_t n = a->shape.backward ? 13 : 7;
    struct cuda__sdpa_graph g = { 0 };
    cudnnBackendDescriptor_t pack = cuda__sdpa_new(&g, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    cuda__sdpa_set(&g, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, numbers);
    cuda__sdpa_set(&g, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, memory);
    cuda__sdpa_set(&g, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &a->work);
    cuda__sdpa_finalize(&g, pack);
    if (g.status != CUDNN_STATUS_SUCCESS)
        cuda__failed("cuDNN's variant pack", g.failed);
    cudnnStatus_t status = cudnnSetStream(dnn.handle, a->stream);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendExecute(dnn.handle, p->plan, pack);
    if (status != CUDNN_STATUS_SUCCESS)
        cuda__failed("cudnnBackendExecute", cudnnGetErrorString(status));
    cuda__sdpa_release(&g);
}

/* ---- the process's handle -------------------------------------------------------------------------------------------------- */

enum status cuda__sdpa_open(const char *properties, struct err *e)
{
    struct cuda__sdpa_graph *g = &dnn.root;
    TRY(cuda__cudnn_load(e));
    if (!properties) {
        const cudnnStatus_t status = cudnnCreate(&dnn.handle);
        if (status != CUDNN_STATUS_SUCCESS)
            return err_set(e, ST_DEVICE, "cuDNN", "launch failed: %s", cudnnGetErrorString(status));
    }
    dnn.device = cuda__sdpa_new(g, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    if (properties)
        cuda__sdpa_set(g, dnn.device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                       (int64_t)strlen(properties), properties);
    else
        cuda__sdpa_set(g, dnn.device, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn.handle);
    cuda__sdpa_finalize(g, dnn.device);
    if (g->status == CUDNN_STATUS_SUCCESS)
        return ST_OK;
    err_set(e, ST_DEVICE, "cuDNN", "%s", g->failed);
    cuda__sdpa_close();
    return ST_DEVICE;
}

void cuda__sdpa_close(void)
{
    for (uint32_t i = 0; i < dnn.plans.n; i++) {
        cuda__sdpa_release(&dnn.plans.at[i]->graph);
        mem_free(dnn.plans.at[i]->refused);
        mem_free(dnn.plans.at[i]);
    }
    vec_free(&dnn.plans);
    cuda__sdpa_release(&dnn.root);
    if (dnn.handle)
        cudnnDestroy(dnn.handle);
    memset(&dnn, 0, sizeof dnn);
}

uint64_t cuda__sdpa_version(void)
{
    return cuda__cudnn_load(NULL) == ST_OK ? cudnnGetVersion() : 0;
}
