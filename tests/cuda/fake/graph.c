/* Captured graphs. */
#include "fake.h"

#include <pthread.h>

struct CUgraphExec_st {
    uint32_t n;
    struct fake_node *nodes;
    struct fake_piece **pieces; /* [n] of a launch */
};

struct CUgraph_st *fake_capture;
static pthread_t capturing;

bool fake_captures(void)
{
    return fake_capture && pthread_equal(capturing, pthread_self());
}

static struct fake_work copy_of(const struct fake_work *w)
{
    struct fake_work copy = *w;
    copy.arg = memcpy(mem_alloc(w->bytes), w->bytes ? w->arg : "", w->bytes);
    return copy;
}

int64_t fake_node_new(struct CUgraph_st *g, const struct fake_work *work, const int64_t *before, uint32_t n)
{
    struct fake_node node = { .work = copy_of(work), .before = { -1, -1 } };
    for (uint32_t i = 0; i < n; i++)
        node.before[i] = before[i];
    vec_add(&g->nodes, node);
    return (int64_t)g->nodes.n - 1;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    static uint64_t number;
    (void)mode;
    if (fake_capture)
        return fake_error(cudaErrorStreamCaptureUnsupported);
    fake_capture = mem_alloc(sizeof *fake_capture);
    fake_capture->number = ++number;
    capturing = pthread_self();
    stream->into = fake_capture;
    stream->tail = -1;
    vec_add(&fake_capture->streams, stream);
    return cudaSuccess;
}

/* Is the last node of every stream before the last one of the first? */
static bool joined(const struct CUgraph_st *g)
{
    bool *seen = mem_alloc(g->nodes.n), all = true;
    int64_t last = g->streams.at[0]->tail;
    if (last >= 0)
        seen[last] = true;
    for (int64_t i = last; i >= 0; i--) /* nodes stand behind those that are before them */
        for (uint32_t k = 0; seen[i] && k < 2; k++)
            if (g->nodes.at[i].before[k] >= 0)
                seen[g->nodes.at[i].before[k]] = true;
    for (uint32_t s = 0; s < g->streams.n; s++)
        all = all && (g->streams.at[s]->tail < 0 || seen[g->streams.at[s]->tail]);
    mem_free(seen);
    return all;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    struct CUgraph_st *g = fake_capture;
    if (!g || g->streams.at[0] != stream)
        return fake_error(cudaErrorInvalidValue);
    bool good = joined(g) || fake_setting("FAKE_CUDA_DEAF", 0);
    for (uint32_t s = 0; s < g->streams.n; s++)
        g->streams.at[s]->into = NULL;
    fake_capture = NULL;
    *graph = good ? g : NULL;
    if (!good)
        cudaGraphDestroy(g);
    return good ? cudaSuccess : fake_error(cudaErrorStreamCaptureUnjoined);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    struct CUgraphExec_st *x = mem_alloc(sizeof *x);
    x->n = graph->nodes.n;
    x->nodes = mem_alloc(x->n * sizeof *x->nodes);
    x->pieces = mem_alloc((x->n + 1) * sizeof(struct fake_piece *));
    fake_counts.graphs++;
    fake_counts.nodes += x->n;
    fake_counts.with_priorities += (flags & cudaGraphInstantiateFlagUseNodePriority) != 0;
    for (uint32_t i = 0; i < x->n; i++) {
        x->nodes[i] = graph->nodes.at[i];
        x->nodes[i].work = copy_of(&graph->nodes.at[i].work);
        fake_counts.edges += (x->nodes[i].before[0] >= 0) + (x->nodes[i].before[1] >= 0);
    }
    *exec = x;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    for (uint32_t i = 0; i < graph->nodes.n; i++)
        mem_free(graph->nodes.at[i].work.arg);
    vec_free(&graph->nodes);
    vec_free(&graph->streams);
    mem_free(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    (void)exec, (void)stream;
    return cudaSuccess;
}

/* The nodes without one before them run after what is on the stream, and the stream goes on after all of them. */
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t stream)
{
    static const struct fake_work nothing = { .run = NULL };
    FAKE_LOCKED;
    if (stream->into)
        return fake_error(cudaErrorStreamCaptureUnsupported);
    fake_counts.launches++;
    if (fake_note)
        fake_note('l');
    for (uint32_t i = 0; i < x->n; i++) {
        const int64_t *before = x->nodes[i].before;
        struct fake_piece *after[] = { before[0] >= 0 ? x->pieces[before[0]] : NULL,
                                       before[1] >= 0 ? x->pieces[before[1]] : NULL, stream->last,
                                       x->nodes[i].outside ? x->nodes[i].outside->after : NULL };
        x->pieces[i] = fake_piece_new(&x->nodes[i].work, after, 4);
    }
    x->pieces[x->n] = stream->last;
    struct fake_piece *end = fake_piece_new(&nothing, x->pieces, x->n + 1);
    for (uint32_t i = 0; i < x->n; i++)
        fake_piece_drop(x->pieces[i]);
    fake_piece_drop(stream->last);
    stream->last = end;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x)
{
    for (uint32_t i = 0; i < x->n; i++)
        mem_free(x->nodes[i].work.arg);
    mem_free(x->nodes);
    mem_free(x->pieces);
    mem_free(x);
    return cudaSuccess;
}
