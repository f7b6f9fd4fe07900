/* CUDA's language on the host: what src/cuda need of it, for a C++ compiler.
 *
 * A block's threads are fibers of one thread of the host: each runs until it comes to a barrier or an operation of its
 * warp, then the next one runs. Blocks run one after the other. Shared memory is filled with NaN before each block. Two
 * orders of threads and blocks (host_cuda_order) show what depends on an order that CUDA does not promise. A barrier or
 * a warp operation that not all threads reach ends the process. */
#ifndef PIPER_TESTS_CUDA_RUNTIME_H
#define PIPER_TESTS_CUDA_RUNTIME_H

#include <functional>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cuda_on_host.h"
#include "cuda_runtime_api.h"

/* ---- language ----------------------------------------------------------------------------------------------------- */

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c)
    {
    }
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y)
{
    return { x, y };
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return { x, y, z, w };
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return { x, y, z, w };
}

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

/* ---- shared memory: one place for each declaration, poisoned when a block's first thread comes to it --------------- */

struct host_site {
    size_t bytes;
    unsigned char *at;
    uint64_t block; /* the last one that came here */
    void *enter();
};
void *host_dynamic_shared();
#define SHARED(T, name, n)                                          \
    static host_site name##_site = { sizeof(T) * (n), nullptr, 0 }; \
    T *const name = static_cast<T *>(name##_site.enter())
#define DYNAMIC_SHARED(T, name) T *const name = static_cast<T *>(host_dynamic_shared())

/* ---- barriers and warps ------------------------------------------------------------------------------------------- */

void __syncthreads();
/* What all 32 lanes of the warp gave, by lane; valid until the warp's operation after next. */
const uint64_t *host_gather(unsigned mask, uint64_t mine);
unsigned host_lane();

template <typename T> static inline uint64_t host_bits(T v)
{
    static_assert(sizeof v <= 8, "a shuffle moves 8 bytes at most");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    return bits;
}

template <typename T> static inline T __shfl_sync(unsigned mask, T v, unsigned lane)
{
    const uint64_t bits = host_gather(mask, host_bits(v))[lane % 32];
    memcpy(&v, &bits, sizeof v);
    return v;
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, unsigned with)
{
    return __shfl_sync(mask, v, host_lane() ^ with);
}

template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by)
{
    const unsigned lane = host_lane();
    return __shfl_sync(mask, v, lane < by ? lane : lane - by);
}

static inline unsigned __match_any_sync(unsigned mask, unsigned v)
{
    const uint64_t *all = host_gather(mask, v);
    unsigned same = 0;
    for (unsigned i = 0; i < 32; i++)
        same |= (all[i] == v) << i;
    return same;
}

static inline unsigned __ballot_sync(unsigned mask, bool v)
{
    const uint64_t *all = host_gather(mask, v);
    unsigned set = 0;
    for (unsigned i = 0; i < 32; i++)
        set |= (all[i] != 0) << i;
    return set;
}

static inline void __syncwarp()
{
    host_gather(0xffffffffu, 0);
}

/* ---- tensor cores: src/cuda/tensor.cuh says what they do ------------------------------------------------------------- */

/* Until the copy is waited for its place holds NaN: who reads too early, or writes over what others still read, shows. */
void copy_async(void *shared, const void *global, bool inside);
void copy_commit();
void host_copy_wait(unsigned groups);
template <int N> static inline void copy_wait()
{
    host_copy_wait(N);
}
void host_load_matrices(unsigned to[4], const void *row, bool turned);
template <bool TURNED> static inline void load_matrices(unsigned (&to)[4], const void *row)
{
    host_load_matrices(to, row, TURNED);
}
void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);

/* ---- functions ---------------------------------------------------------------------------------------------------- */

template <typename T> static inline T min(T a, T b)
{
    return b < a ? b : a;
}
template <typename T> static inline T max(T a, T b)
{
    return a < b ? b : a;
}
template <typename T> static inline T atomicAdd(T *p, T v)
{
    const T old = *p;
    *p += v;
    return old;
}
static inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}
static inline float __uint_as_float(unsigned v)
{
    float f;
    memcpy(&f, &v, sizeof f);
    return f;
}
static inline unsigned __float_as_uint(float v)
{
    unsigned u;
    memcpy(&u, &v, sizeof u);
    return u;
}
static inline float __fdividef(float a, float b)
{
    return a / b;
}
static inline float rsqrtf(float v)
{
    return 1 / sqrtf(v);
}
#define __sincosf host_sincosf /* the C library has one of its own under that name */
static inline void host_sincosf(float v, float *s, float *c)
{
    *s = sinf(v);
    *c = cosf(v);
}
static inline void __threadfence_system()
{
}

/* ---- launches ----------------------------------------------------------------------------------------------------- */

template <typename... P, typename... A>
static void launch(const char *name, void (*kernel)(P...), dim3 grid, unsigned block, size_t shared, void *stream,
                   A... args)
{
    if (grid.x == 0 || grid.y == 0)
        return;
    std::function<void()> body = [=] { kernel(static_cast<P>(args)...); };
    host_cuda_enqueue(stream, new host_launch{ name, { grid.x, grid.y, grid.z }, block, shared, body });
}

#endif
