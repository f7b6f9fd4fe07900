/* Memory, devices, errors, the driver. */
#include "fake.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct fake_counts fake_counts;
static _Thread_local cudaError_t last_error;
static int chosen;

/* ---- errors ---------------------------------------------------------------------------------------------------- */

cudaError_t fake_error(cudaError_t code)
{
    last_error = code;
    return code;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t code = last_error;
    last_error = cudaSuccess;
    return code;
}

const char *cudaGetErrorName(cudaError_t code)
{
    switch (code) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    default:
        return "cudaError";
    }
}

const char *cudaGetErrorString(cudaError_t code)
{
    return code == cudaErrorLaunchFailure ? "unspecified launch failure" : "fake error";
}

/* ---- devices --------------------------------------------------------------------------------------------------- */

static size_t device_bytes(void)
{
    return (size_t)fake_setting("FAKE_CUDA_BYTES", UINT64_C(1) << 34);
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = (int)fake_setting("FAKE_CUDA_DEVICES", 8);
    if (!fake_counts.queues)
        fake_counts.queues = fake_setting("CUDA_DEVICE_MAX_CONNECTIONS", 8);
    return *n < 0 ? fake_error(cudaErrorInsufficientDriver) : *n == 0 ? fake_error(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    *p = (struct cudaDeviceProp){ .totalGlobalMem = device_bytes(),
                                  .major = 9,
                                  .multiProcessorCount = (int)fake_setting("FAKE_CUDA_MULTIPROCESSORS", 132) };
    snprintf(p->name, sizeof p->name, "Fake GPU");
    p->uuid.bytes[0] = (char)(device + 1);
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    chosen = device;
    fake_counts.attached += fake_is_other_thread();
    return device >= 0 && device < (int)fake_setting("FAKE_CUDA_DEVICES", 8) ? cudaSuccess
                                                                             : fake_error(cudaErrorInvalidValue);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static size_t taken;
struct block {
    size_t bytes;
    _Alignas(64) unsigned char data[];
};

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = device_bytes();
    *free_bytes = *total - taken;
    return cudaSuccess;
}

void *fake_alloc(size_t bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);
    CHECK(p);
    return p;
}

void fake_free(void *p)
{
    free(p);
}

void fake_reserve(void **at, uint32_t *cap, uint32_t need, size_t size)
{
    if (need <= *cap)
        return;
    *cap = need < 8 ? 8 : 2 * need;
    *at = realloc(*at, *cap * size);
    CHECK(*at);
}

static void *poisoned(size_t bytes)
{
    struct block *b = aligned_alloc(64, round_up(sizeof *b + bytes, 64));
    CHECK(b);
    b->bytes = bytes;
    return memset(b->data, 0xff, bytes);
}

static struct block *block_of(void *p)
{
    return (struct block *)(void *)((unsigned char *)p - offsetof(struct block, data));
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    if (fake_capture)
        return fake_error(cudaErrorStreamCaptureUnsupported);
    if (bytes > device_bytes() - taken)
        return fake_error(cudaErrorMemoryAllocation);
    fake_counts.allocations++;
    taken += bytes;
    *p = poisoned(bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    taken -= block_of(p)->bytes;
    free(block_of(p));
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags)
{
    (void)flags;
    fake_counts.allocations++;
    *p = poisoned(bytes);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    free(block_of(p));
    return cudaSuccess;
}

struct copy {
    void *to;
    const void *from;
    size_t bytes;
    int value;
};

static void run_copy(const void *arg)
{
    const struct copy *c = arg;
    memcpy(c->to, c->from, c->bytes);
}

static void run_set(const void *arg)
{
    const struct copy *c = arg;
    memset(c->to, c->value, c->bytes);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    (void)kind;
    struct copy c = { .to = to, .from = from, .bytes = bytes };
    fake_counts.copies++;
    return fake_enqueue(stream, &(struct fake_work){ .run = run_copy, .arg = &c, .bytes = sizeof c });
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    struct copy c = { .to = p, .bytes = bytes, .value = value };
    return fake_enqueue(stream, &(struct fake_work){ .run = run_set, .arg = &c, .bytes = sizeof c });
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes, NULL);
}

/* ---- the driver ------------------------------------------------------------------------------------------------ */

struct word {
    _Atomic uint32_t *at;
    uint32_t value;
};

static bool has_value(const void *arg)
{
    const struct word *w = arg;
    return atomic_load_explicit(w->at, memory_order_acquire) == w->value;
}

static int stream_wait_value(cudaStream_t stream, unsigned long long address, uint32_t value, unsigned flags)
{
    struct word w = { (_Atomic uint32_t *)(uintptr_t)address, value };
    if (fake_setting("FAKE_CUDA_NO_WAIT_VALUE", 0) == 2)
        return 801;
    if (flags != 1 || stream->into)
        return 1;
    return (int)fake_enqueue(stream, &(struct fake_work){ .may_run = has_value, .arg = &w, .bytes = sizeof w });
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **entry, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *found)
{
    (void)version, (void)flags;
    int (*function)(cudaStream_t, unsigned long long, uint32_t, unsigned) = stream_wait_value;
    bool there = strcmp(symbol, "cuStreamWaitValue32") == 0 && fake_setting("FAKE_CUDA_NO_WAIT_VALUE", 0) != 1;
    *found = there ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    if (there)
        memcpy(entry, &function, sizeof function);
    return there ? cudaSuccess : fake_error(cudaErrorSymbolNotFound);
}

/* ---- kernels, and the end -------------------------------------------------------------------------------------- */

void fake_launch(void (*run)(const void *arg), const void *arg, size_t bytes, void *stream)
{
    cudaStream_t s = stream;
    if (++fake_counts.kernels == fake_setting("FAKE_CUDA_FAIL", 0)) {
        fake_error(cudaErrorLaunchFailure);
        return;
    }
    fake_counts.kernels_captured += s->into != NULL;
    fake_enqueue(s, &(struct fake_work){ .run = run, .arg = (void *)(uintptr_t)arg, .bytes = bytes });
}

static void __attribute__((destructor)) report(void)
{
    const char *path = getenv("FAKE_CUDA_REPORT");
    const struct fake_counts *c = &fake_counts;
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f)
        return;
    fprintf(
        f,
        "device %d kernels %llu captured %llu pairs %llu copies %llu waits %llu graphs %llu nodes %llu edges %llu "
        "launches %llu "
        "synchronizes %llu allocations %llu left %zu queues %llu timed %llu unchosen %llu poor %llu attached %llu\n",
        chosen, (unsigned long long)c->kernels, (unsigned long long)c->kernels_captured, (unsigned long long)c->pairs,
        (unsigned long long)c->copies, (unsigned long long)c->waits, (unsigned long long)c->graphs,
        (unsigned long long)c->nodes, (unsigned long long)c->edges, (unsigned long long)c->launches,
        (unsigned long long)c->synchronizes, (unsigned long long)c->allocations, taken, (unsigned long long)c->queues,
        (unsigned long long)c->timed, (unsigned long long)c->unchosen, (unsigned long long)c->not_random,
        (unsigned long long)c->attached);
    fclose(f);
}
