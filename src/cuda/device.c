/* The device by the CUDA runtime. The driver's library is not linked, so that the program starts where there is none: the
 * one function that the runtime lacks comes through cudaGetDriverEntryPointByVersion(). */
#include "exec/device_ops.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#if defined __has_include
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define HAVE_NVTX 1
#endif
#endif

#include "base/fail.h"
#include "base/mem.h"
#include "cuda/cuda.h"
#include "cuda/fail.h"

/* cuStreamWaitValue32() of the driver (CUDA driver API, "Stream Memory Operations"); CUstream is cudaStream_t, CUdeviceptr
 * an integer, 0 success. */
typedef int (*wait_value_fn)(cudaStream_t stream, unsigned long long address, uint32_t value, unsigned flags);
enum { WAIT_EQUAL = 1, ENTRY_VERSION = 12000 };

static struct {
    cudaStream_t *streams;
    cudaEvent_t *events, *stamps, start;
    uint32_t n_streams, n_events, n_stamps;
    int number;
    wait_value_fn wait_value;
    bool capturing;
    void (*failed)(void *self);
    void *self;
    char error[512];
} dev;

/* ---- errors --------------------------------------------------------------------------------------------------- */

static bool good(cudaError_t code, const char *call)
{
    if (code != cudaSuccess && !dev.error[0])
        snprintf(dev.error, sizeof dev.error, "%s: %s (%s, CUDA error %d)", call, cudaGetErrorString(code),
                 cudaGetErrorName(code), (int)code);
    return code == cudaSuccess;
}
#define GOOD(call) good((call), #call)

static const char *cuda_error(void)
{
    good(cudaGetLastError(), "a kernel");
    return dev.error[0] ? dev.error : NULL;
}

void cuda__failed(const char *call, const char *words)
{
    if (!dev.error[0])
        snprintf(dev.error, sizeof dev.error, "%s: %s", call, words);
    if (dev.failed)
        dev.failed(dev.self);
    process_fail(ST_DEVICE, dev.error);
}

void cuda__check(cudaError_t code, const char *call)
{
    if (!good(code, call))
        cuda__failed(call, dev.error);
}

static enum status failed(struct err *e)
{
    return err_set(e, ST_DEVICE, "cuda", "%s", dev.error);
}

/* ---- which device --------------------------------------------------------------------------------------------- */

static enum status choose(uint32_t local_rank, int *number, struct err *e)
{
    int n = 0;
    cudaError_t code = cudaGetDeviceCount(&n);
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (code == cudaErrorInsufficientDriver)
        return err_set(e, ST_DEVICE, "cuda", "this machine has no NVIDIA driver, or one older than this build's CUDA");
    if (code == cudaErrorNoDevice || (code == cudaSuccess && n == 0))
        return err_set(e, ST_DEVICE, "cuda", "this machine has no visible GPU (CUDA_VISIBLE_DEVICES is %s%s)",
                       visible ? "" : "not set", visible ? visible : "");
    if (code != cudaSuccess)
        return err_set(e, ST_DEVICE, "cuda", "the GPUs cannot be used: %s (CUDA error %d)", cudaGetErrorString(code),
                       (int)code);
    *number = (int)(local_rank % (uint32_t)n);
    return ST_OK;
}

static enum status cuda_find(uint32_t local_rank, struct device_found *found, struct err *e)
{
    struct cudaDeviceProp p;
    int number = 0;
    TRY(choose(local_rank, &number, e));
    cudaError_t code = cudaGetDeviceProperties(&p, number);
    if (code != cudaSuccess)
        return err_set(e, ST_DEVICE, "cuda", "GPU %d cannot be used: %s (CUDA error %d)", number,
                       cudaGetErrorString(code), (int)code);
    uint64_t halves[2];
    memcpy(halves, &p.uuid, sizeof halves);
    *found = (struct device_found){ .id = halves[0] ^ halves[1],
                                    .bytes = p.totalGlobalMem,
                                    .multiprocessors = (uint32_t)p.multiProcessorCount };
    snprintf(found->name, sizeof found->name, "%.80s, compute capability %d.%d, %d multiprocessors", p.name, p.major,
             p.minor, p.multiProcessorCount);
    return ST_OK;
}

static struct device_memory cuda_memory(void)
{
    size_t free_bytes = 0, total = 0;
    GOOD(cudaMemGetInfo(&free_bytes, &total));
    return (struct device_memory){ free_bytes, total };
}

/* ---- opening -------------------------------------------------------------------------------------------------- */

static void find_wait_value(void)
{
    enum cudaDriverEntryPointQueryResult found;
    void *entry = NULL;
    if (cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &entry, ENTRY_VERSION, cudaEnableDefault, &found) ==
            cudaSuccess &&
        found == cudaDriverEntryPointSuccess)
        memcpy(&dev.wait_value, &entry, sizeof entry); /* an object's pointer and a function's: alike in POSIX */
    cudaGetLastError();
}

/* Queues of the device: streams beyond them share one, and then a stream that waits for a word holds up another one, which may
 * have the work that the word is waited for. */
static uint32_t queues(void)
{
    const char *set = getenv("CUDA_DEVICE_MAX_CONNECTIONS");
    const int n = set ? atoi(set) : 0;
    return n >= 1 && n <= 32 ? (uint32_t)n : 8; /* what CUDA takes where nothing is said */
}

/* A driver may have the function and refuse the operation (virtual devices): a word that is there already is waited for. */
static void try_wait_value(void)
{
    void *word = NULL;
    if (dev.n_streams > queues())
        dev.wait_value = NULL;
    if (!dev.wait_value || !dev.n_streams ||
        !GOOD(cudaHostAlloc(&word, sizeof(uint32_t), cudaHostAllocMapped | cudaHostAllocPortable)))
        return;
    memset(word, 0, sizeof(uint32_t));
    if (dev.wait_value(dev.streams[0], (unsigned long long)(uintptr_t)word, 0, WAIT_EQUAL) != 0)
        dev.wait_value = NULL;
    GOOD(cudaStreamSynchronize(dev.streams[0]));
    GOOD(cudaFreeHost(word));
}

static bool make_streams(const struct device_setup *s)
{
    int least = 0, greatest = 0; /* greatest priority: the lower number */
    if (!GOOD(cudaDeviceGetStreamPriorityRange(&least, &greatest)))
        return false;
    dev.streams = mem_alloc(s->n_streams * sizeof *dev.streams);
    for (; dev.n_streams < s->n_streams; dev.n_streams++)
        if (!GOOD(cudaStreamCreateWithPriority(&dev.streams[dev.n_streams], cudaStreamNonBlocking,
                                               s->priority[dev.n_streams] > 0 ? greatest : least)))
            return false;
    return true;
}

static bool make_events(cudaEvent_t **to, uint32_t *made, uint32_t n, unsigned flags)
{
    *to = mem_alloc(n * sizeof **to);
    for (; *made < n; ++*made)
        if (!GOOD(cudaEventCreateWithFlags(&(*to)[*made], flags)))
            return false;
    return true;
}

static void cuda_close(void)
{
    if (dev.n_streams)
        GOOD(cudaDeviceSynchronize());
    for (uint32_t i = 0; i < dev.n_streams; i++)
        GOOD(cudaStreamDestroy(dev.streams[i]));
    for (uint32_t i = 0; i < dev.n_events; i++)
        GOOD(cudaEventDestroy(dev.events[i]));
    for (uint32_t i = 0; i < dev.n_stamps; i++)
        GOOD(cudaEventDestroy(dev.stamps[i]));
    if (dev.start)
        GOOD(cudaEventDestroy(dev.start));
    mem_free(dev.streams);
    mem_free(dev.events);
    mem_free(dev.stamps);
    memset(&dev, 0, sizeof dev);
}

static enum status cuda_open(const struct device_setup *s, struct err *e)
{
    int number = 0;
    TRY(choose(s->local_rank, &number, e));
    dev.failed = s->failed;
    dev.self = s->self;
    dev.number = number;
    if (!GOOD(cudaSetDevice(number)) || !make_streams(s) ||
        !make_events(&dev.events, &dev.n_events, s->n_events, cudaEventDisableTiming) ||
        !make_events(&dev.stamps, &dev.n_stamps, s->n_stamps, cudaEventDefault) ||
        !GOOD(cudaEventCreateWithFlags(&dev.start, cudaEventDefault))) {
        failed(e);
        cuda_close();
        return ST_DEVICE;
    }
    find_wait_value();
    try_wait_value();
    return ST_OK;
}

/* A thread's first call must name the device, else the runtime makes a context on another one. */
static void cuda_attach(void)
{
    GOOD(cudaSetDevice(dev.number));
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

static void *cuda_alloc(uint64_t bytes)
{
    void *p = NULL;
    if (cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess) {
        cudaGetLastError(); /* no memory is the caller's to tell */
        return NULL;
    }
    GOOD(cudaMemset(p, 0, bytes));
    return p;
}

static void cuda_release(void *p)
{
    GOOD(cudaFree(p));
}

/* All devices of today's systems with 64-bit addresses see mapped memory at the host's address (unified addressing). */
static void *cuda_host_alloc(uint64_t bytes)
{
    void *p = NULL;
    if (cudaHostAlloc(&p, bytes ? bytes : 1, cudaHostAllocMapped | cudaHostAllocPortable) != cudaSuccess) {
        cudaGetLastError();
        return NULL;
    }
    return memset(p, 0, bytes);
}

static void cuda_host_release(void *p)
{
    GOOD(cudaFreeHost(p));
}

static void cuda_copy(void *to, const void *from, uint64_t bytes, void *stream)
{
    if (bytes)
        GOOD(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream));
}

static void cuda_clear(void *p, uint64_t bytes, void *stream)
{
    if (bytes)
        GOOD(cudaMemsetAsync(p, 0, bytes, stream));
}

/* ---- order ---------------------------------------------------------------------------------------------------- */

static void *cuda_stream(uint32_t i)
{
    CHECK(i < dev.n_streams);
    return dev.streams[i];
}

static void cuda_record(uint32_t event, void *stream)
{
    CHECK(event < dev.n_events);
    GOOD(cudaEventRecord(dev.events[event], stream));
}

static void cuda_wait(void *stream, uint32_t event)
{
    CHECK(event < dev.n_events);
    GOOD(cudaStreamWaitEvent(stream, dev.events[event], 0));
}

static void cuda_wait_outside(void *stream, uint32_t event)
{
    CHECK(event < dev.n_events);
    GOOD(cudaStreamWaitEvent(stream, dev.events[event], dev.capturing ? cudaEventWaitExternal : cudaEventWaitDefault));
}

/* By any thread: see cuda_attach(). */
static const char *cuda_await(uint32_t event)
{
    CHECK(event < dev.n_events);
    cudaError_t code = cudaSetDevice(dev.number);
    if (code == cudaSuccess)
        code = cudaEventSynchronize(dev.events[event]);
    return code == cudaSuccess ? NULL : cudaGetErrorString(code);
}

static void cuda_stamp(uint32_t stamp, void *stream)
{
    CHECK(stamp < dev.n_stamps);
    GOOD(cudaEventRecordWithFlags(dev.stamps[stamp], stream,
                                  dev.capturing ? cudaEventRecordExternal : cudaEventRecordDefault));
}

static void cuda_clock_zero(void *stream)
{
    if (GOOD(cudaEventRecord(dev.start, stream)))
        GOOD(cudaEventSynchronize(dev.start));
}

static double cuda_clock_read(uint32_t stamp)
{
    float ms = 0;
    CHECK(stamp < dev.n_stamps);
    GOOD(cudaEventElapsedTime(&ms, dev.start, dev.stamps[stamp]));
    return (double)ms * 1e-3;
}

static bool cuda_can_wait_word(void)
{
    return dev.wait_value != NULL;
}

static void cuda_wait_word(const uint32_t *word, uint32_t value, void *stream)
{
    int code = dev.wait_value(stream, (unsigned long long)(uintptr_t)word, value, WAIT_EQUAL);
    if (code != 0 && !dev.error[0])
        snprintf(dev.error, sizeof dev.error, "cuStreamWaitValue32: CUDA driver error %d", code);
}

static void cuda_synchronize_stream(void *stream)
{
    GOOD(cudaStreamSynchronize(stream));
}

static void cuda_synchronize(void)
{
    GOOD(cudaDeviceSynchronize());
}

/* ---- graphs --------------------------------------------------------------------------------------------------- */

/* Thread local: other threads (communication) may use the runtime meanwhile. */
static void cuda_capture_begin(void *stream)
{
    dev.capturing = GOOD(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}

static void *cuda_capture_end(void *stream)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    dev.capturing = false;
    if (!GOOD(cudaStreamEndCapture(stream, &graph)))
        return NULL;
    /* nodes keep their streams' priorities, else all have that of the stream of the launch */
    GOOD(cudaGraphInstantiate(&exec, graph, cudaGraphInstantiateFlagUseNodePriority));
    GOOD(cudaGraphDestroy(graph));
    if (exec)
        GOOD(cudaGraphUpload(exec, stream));
    return exec;
}

static void cuda_graph_launch(void *graph, void *stream)
{
    GOOD(cudaGraphLaunch(graph, stream));
}

static void cuda_graph_release(void *graph)
{
    GOOD(cudaGraphExecDestroy(graph));
}

/* ---- a profiler's ranges -------------------------------------------------------------------------------------- */

/* Tools are loaded into the process by this variable (NVTX 3, nvtxInit). */
static bool cuda_profiled(void)
{
    return getenv("NVTX_INJECTION64_PATH") != NULL;
}

static void cuda_range_begin(const char *name)
{
#ifdef HAVE_NVTX
    nvtxRangePushA(name);
#else
    (void)name;
#endif
}

static void cuda_range_end(void)
{
#ifdef HAVE_NVTX
    nvtxRangePop();
#endif
}

const struct device_ops cuda_device = {
    .find = cuda_find,
    .open = cuda_open,
    .close = cuda_close,
    .memory = cuda_memory,
    .attach = cuda_attach,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .host_alloc = cuda_host_alloc,
    .host_release = cuda_host_release,
    .stream = cuda_stream,
    .record = cuda_record,
    .wait = cuda_wait,
    .wait_outside = cuda_wait_outside,
    .await = cuda_await,
    .stamp = cuda_stamp,
    .clock_zero = cuda_clock_zero,
    .clock_read = cuda_clock_read,
    .copy = cuda_copy,
    .clear = cuda_clear,
    .mark = cuda_progress,
    .can_wait_word = cuda_can_wait_word,
    .wait_word = cuda_wait_word,
    .capture_begin = cuda_capture_begin,
    .capture_end = cuda_capture_end,
    .graph_launch = cuda_graph_launch,
    .graph_release = cuda_graph_release,
    .synchronize_stream = cuda_synchronize_stream,
    .synchronize = cuda_synchronize,
    .error = cuda_error,
    .profiled = cuda_profiled,
    .range_begin = cuda_range_begin,
    .range_end = cuda_range_end,
};
