/* What the kernels of src/cuda share: loads and stores of 16 bytes, reductions in a fixed order, launches.
 *
 * The .cu files are compiled by nvcc, or by a C++ compiler with tests/cuda/host in front of the include path, which
 * runs them on the host; SHARED, launch() and tensor.cuh are the places where the languages differ. */
#ifndef PIPER_CUDA_KERNEL_CUH
#define PIPER_CUDA_KERNEL_CUH

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define _Noreturn [[noreturn]]
#include "cuda/cuda.h"
#include "ir/target_cuda_own.h"

typedef __nv_bfloat16 bf16;

#ifdef __CUDACC__
/* n elements of shared memory of a block; DYNAMIC_SHARED: as many bytes as the launch says. Both 16-byte aligned, so that the
 * compiler reads neighbours at once. */
#define SHARED(T, name, n) __shared__ __align__(16) T name[n]
#define DYNAMIC_SHARED(T, name)                    \
    extern __shared__ uint4 cuda_dynamic_shared[]; \
    T *const name = reinterpret_cast<T *>(cuda_dynamic_shared)

constexpr size_t DYNAMIC_SHARED_FREE = 48 << 10; /* more is asked for, as sm_80 has it: up to 163 KiB */

/* Enqueues kernel(args...) on blocks of `block` threads; nothing where the grid is empty. */
template <typename... P, typename... A>
static void launch(const char *name, void (*kernel)(P...), dim3 grid, unsigned block, size_t shared, void *stream,
                   A... args)
{
    if (grid.x == 0 || grid.y == 0)
        return;
    if (shared > DYNAMIC_SHARED_FREE)
        cuda__check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
                    name);
    kernel<<<grid, block, shared, static_cast<cudaStream_t>(stream)>>>(static_cast<P>(args)...);
    cuda__check(cudaGetLastError(), name);
}
#endif

enum { WARP = 32, MAX_WARPS = 32 };
#define ALL_LANES 0xffffffffu

/* Elements of T in 16 bytes. */
template <typename T> constexpr int vector_of = 16 / static_cast<int>(sizeof(T));

/* ---- V elements at p, 16-byte aligned unless V is 1, to and from float32 ----------------------------------------- */

template <int V> __device__ __forceinline__ void load(float (&to)[V], const float *p)
{
    if constexpr (V == 1) {
        to[0] = *p;
    } else {
#pragma unroll
        for (int i = 0; i < V; i += 4) {
            const float4 q = *reinterpret_cast<const float4 *>(p + i);
            to[i] = q.x, to[i + 1] = q.y, to[i + 2] = q.z, to[i + 3] = q.w;
        }
    }
}

template <int V> __device__ __forceinline__ void load(float (&to)[V], const bf16 *p)
{
    if constexpr (V == 1) {
        to[0] = __bfloat162float(*p);
    } else {
#pragma unroll
        for (int i = 0; i < V; i += 8) {
            const uint4 q = *reinterpret_cast<const uint4 *>(p + i);
            const unsigned w[4] = { q.x, q.y, q.z, q.w };
#pragma unroll
            for (int j = 0; j < 4; j++) {
                to[i + 2 * j] = __uint_as_float(w[j] << 16);
                to[i + 2 * j + 1] = __uint_as_float(w[j] & 0xffff0000u);
            }
        }
    }
}

template <int V> __device__ __forceinline__ void store(float *p, const float (&from)[V])
{
    if constexpr (V == 1) {
        *p = from[0];
    } else {
#pragma unroll
        for (int i = 0; i < V; i += 4)
            *reinterpret_cast<float4 *>(p + i) = make_float4(from[i], from[i + 1], from[i + 2], from[i + 3]);
    }
}

/* Two floats as bfloat16 in one word, a in the low half. */
__device__ __forceinline__ unsigned two_bf16(float a, float b)
{
    const __nv_bfloat162 two = __floats2bfloat162_rn(a, b);
    unsigned word;
    memcpy(&word, &two, sizeof word);
    return word;
}

template <int V> __device__ __forceinline__ void store(bf16 *p, const float (&from)[V])
{
    if constexpr (V == 1) {
        *p = __float2bfloat16_rn(from[0]);
    } else {
#pragma unroll
        for (int i = 0; i < V; i += 8)
            *reinterpret_cast<uint4 *>(p + i) = make_uint4(
                two_bf16(from[i], from[i + 1]), two_bf16(from[i + 2], from[i + 3]), two_bf16(from[i + 4], from[i + 5]),
                two_bf16(from[i + 6], from[i + 7]));
    }
}

/* Two neighbours of a row, as lanes have them of a tensor core's result. */
__device__ __forceinline__ void load_two(float (&to)[2], const float *p)
{
    const float2 q = *reinterpret_cast<const float2 *>(p);
    to[0] = q.x, to[1] = q.y;
}

__device__ __forceinline__ void load_two(float (&to)[2], const bf16 *p)
{
    const unsigned word = *reinterpret_cast<const unsigned *>(p);
    to[0] = __uint_as_float(word << 16), to[1] = __uint_as_float(word & 0xffff0000u);
}

__device__ __forceinline__ void store_two(float *p, float a, float b)
{
    *reinterpret_cast<float2 *>(p) = make_float2(a, b);
}

__device__ __forceinline__ void store_two(bf16 *p, float a, float b)
{
    *reinterpret_cast<unsigned *>(p) = two_bf16(a, b);
}

/* to += the addend at p + at; nothing without one. */
template <int V, typename T> __device__ __forceinline__ void add_acc(float (&to)[V], const T *p, uint64_t at)
{
    if (!p)
        return;
    float more[V];
    load(more, p + at);
#pragma unroll
    for (int i = 0; i < V; i++)
        to[i] += more[i];
}

/* Whether rows of c elements of T, at all these pointers (NULL counts as aligned), can be read 16 bytes at a time. */
template <typename T, typename... P> static bool wide(uint64_t c, P... pointers)
{
    const uintptr_t all = (reinterpret_cast<uintptr_t>(pointers) | ... | 0);
    return all % 16 == 0 && c % vector_of<T> == 0;
}

/* ---- sums over a warp or a block, in an order that depends on the block's size alone ------------------------------ */

__device__ __forceinline__ unsigned lane_id()
{
    return threadIdx.x % WARP;
}

template <typename N> __device__ __forceinline__ N warp_sum(N v)
{
#pragma unroll
    for (int o = WARP / 2; o; o /= 2)
        v += __shfl_xor_sync(ALL_LANES, v, o);
    return v;
}

/* Of this lane and those before it. */
template <typename N> __device__ __forceinline__ N warp_upto(N v)
{
#pragma unroll
    for (unsigned o = 1; o < WARP; o *= 2) {
        const N before = __shfl_up_sync(ALL_LANES, v, o);
        v += lane_id() >= o ? before : N(0);
    }
    return v;
}

__device__ __forceinline__ float warp_max(float v)
{
#pragma unroll
    for (int o = WARP / 2; o; o /= 2)
        v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, o));
    return v;
}

/* Every thread gets the sum over the block, whole warps; room: MAX_WARPS in shared memory. */
template <typename N> __device__ __forceinline__ N block_sum(N v, N *room)
{
    v = warp_sum(v);
    if (lane_id() == 0)
        room[threadIdx.x / WARP] = v;
    __syncthreads();
    v = warp_sum(lane_id() < blockDim.x / WARP ? room[lane_id()] : N(0));
    __syncthreads(); /* room may be written again */
    return v;
}

__device__ __forceinline__ float block_max(float v, float *room)
{
    v = warp_max(v);
    if (lane_id() == 0)
        room[threadIdx.x / WARP] = v;
    __syncthreads();
    v = warp_max(lane_id() < blockDim.x / WARP ? room[lane_id()] : -INFINITY);
    __syncthreads();
    return v;
}

/* ---- silu(gate) * up, and its gradients -------------------------------------------------------------------------- */

__device__ __forceinline__ float swiglu_of(float gate, float up)
{
    return __fdividef(gate, 1 + expf(-gate)) * up;
}

__device__ __forceinline__ void swiglu_gradient_of(float gate, float up, float dy, float &dgate, float &dup)
{
    const float s = __fdividef(1, 1 + expf(-gate));
    dgate = dy * up * s * (1 + gate * (1 - s));
    dup = dy * gate * s;
}

/* ---- which token a row is, and where it stands ------------------------------------------------------------------- */

/* Of operands by rows: (b,t) order, or, with step > 0, (t,step). Token i stands at first0 + i for i < run0, then at first1 + i - run0. */
struct row_map {
    unsigned t, step, run0, first0, first1;
    __device__ __forceinline__ unsigned token(unsigned row) const
    {
        return step ? row / step : row % t;
    }
    __device__ __forceinline__ unsigned sequence(unsigned row) const
    {
        return step ? row % step : row / t;
    }
    __device__ __forceinline__ uint64_t row(unsigned s, unsigned i) const
    {
        return step ? static_cast<uint64_t>(i) * step + s : static_cast<uint64_t>(s) * t + i;
    }
    __device__ __forceinline__ unsigned position(unsigned i) const
    {
        return i < run0 ? first0 + i : first1 + (i - run0);
    }
};

/* ---- host side ---------------------------------------------------------------------------------------------------- */

static inline uint64_t rows_of(const struct op_args *a)
{
    return static_cast<uint64_t>(a->b) * a->t;
}

static inline row_map row_map_of(const struct op_args *a)
{
    const struct op_positions *p = a->positions;
    row_map m = { a->t, 0, a->t, 0, 0 };
    if (p) {
        m.step = p->row_s == 1 && a->t > 1 ? p->row_i : 0;
        m.run0 = p->run[0].count;
        m.first0 = p->run[0].first;
        m.first1 = p->run[1].first;
    }
    return m;
}

static inline unsigned blocks_for(uint64_t n, uint64_t each)
{
    return static_cast<unsigned>((n + each - 1) / each);
}

/* Threads of a block that walks over n things: whole warps, at most `most`. */
static inline unsigned threads_for(uint64_t n, unsigned most)
{
    return n >= most ? most : static_cast<unsigned>((n + WARP - 1) / WARP * WARP);
}

/* cuda_NAME(a) calls NAME<type>(a) for the compute type. */
#define FOR_BOTH_TYPES(name)                             \
    extern "C" void cuda_##name(const struct op_args *a) \
    {                                                    \
        if (a->compute == IR_BF16)                       \
            name<bf16>(a);                               \
        else                                             \
            name<float>(a);                              \
    }

#endif
