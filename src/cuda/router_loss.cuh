/* Losses of a router (src/cpu/router.c has the equations): the balance of a sequence, counted by what was chosen or, with SEQUENCE_LOSS, by
 * the best k by score alone; and that of the log-sum-exp of the logits. */
#ifndef PIPER_CUDA_ROUTER_LOSS_CUH
#define PIPER_CUDA_ROUTER_LOSS_CUH

#include "cuda/router.cuh"

namespace
{
/* ---- balance of a sequence ----------------------------------------------------------------------------------------- */

/* Of a row of scores: plain (rows,k), the best k by score alone, and total (rows), their sum; NULL: not asked for. */
__global__ void __launch_bounds__(ROUTER_THREADS)
    router_plain_kernel(int32_t *plain, float *total, const float *__restrict__ probs, router_shape s)
{
    DYNAMIC_SHARED(float, shared);
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * ROUTER_WARPS + threadIdx.x / WARP;
    if (row >= s.rows)
        return;
    float *const p = router_row(shared, s.experts);
    float sum = 0;
    for (unsigned e = lane_id(); e < s.experts; e += WARP) {
        const float score = probs[row * s.experts + e];
        sum += score;
        p[e] = router_wish(score, 0);
    }
    sum = warp_sum(sum);
    if (total && lane_id() == 0)
        total[row] = sum;
    __syncwarp();
    if (plain)
        router_take(plain + row * s.k, p, s.experts, s.k);
}

/* count (experts) in shared memory: choices of each by tokens [from, to) of the sequence blockIdx.x. */
__device__ __forceinline__ void router_count_here(int *count, const int32_t *index, const router_shape &s,
                                                  unsigned from, unsigned to)
{
    const uint64_t n = static_cast<uint64_t>(to - from) * s.k;
    for (unsigned e = threadIdx.x; e < s.experts; e += blockDim.x)
        count[e] = 0;
    __syncthreads();
    for (uint64_t i = threadIdx.x; i < n; i += blockDim.x)
        atomicAdd(&count[index[s.map.row(blockIdx.x, from + static_cast<unsigned>(i / s.k)) * s.k + i % s.k]],
                  1); /* integers: any order gives the same */
    __syncthreads();
}

/* Where the counts of a run of the block's sequence begin. */
__device__ __forceinline__ uint64_t router_told(const router_shape &s, unsigned part, unsigned set, unsigned run)
{
    return (((static_cast<uint64_t>(part) * s.sets + set) * 2 + run) * s.b + blockIdx.x) * s.experts;
}

/* Of the whole sequence. */
__device__ __forceinline__ void router_count(int *count, const int32_t *index, const router_shape &s)
{
    if (!s.told) {
        router_count_here(count, index, s, 0, s.map.t);
        return;
    }
    for (unsigned e = threadIdx.x; e < s.experts; e += blockDim.x) {
        count[e] = 0;
        for (unsigned i = 0; i < 2 * s.parts; i++)
            count[e] += s.told[router_told(s, i / 2, s.sets - 1, i % 2) + e];
    }
    __syncthreads();
}

/* Own part of told. Blocks (sequences, runs). */
__global__ void __launch_bounds__(BALANCE_THREADS)
    router_tell_kernel(int32_t *told, const int32_t *__restrict__ index, unsigned set, router_shape s)
{
    SHARED(int, count, CUDA_MAX_EXPERTS);
    const unsigned from = blockIdx.y ? s.map.run0 : 0, to = blockIdx.y ? s.map.t : s.map.run0;
    router_count_here(count, index, s, from, to);
    for (unsigned e = threadIdx.x; e < s.experts; e += blockDim.x)
        told[router_told(s, s.part, set, blockIdx.y) + e] = count[e];
}

/* loss (sequences): without its factor. Threads are (lanes, experts); each sums a share of the tokens. total (rows): scores count as
 * parts of it; NULL: as they are. */
__global__ void __launch_bounds__(BALANCE_THREADS)
    router_balance_kernel(double *loss, const float *__restrict__ probs, const float *__restrict__ total,
                          const int32_t *__restrict__ index, router_shape s)
{
    SHARED(int, count, CUDA_MAX_EXPERTS);
    SHARED(double, part, BALANCE_THREADS);
    SHARED(double, room, MAX_WARPS);
    const unsigned e = threadIdx.x % s.experts, lane = threadIdx.x / s.experts, lanes = BALANCE_THREADS / s.experts;
    double sum = 0;
    router_count(count, index, s);
    if (lane < lanes)
#pragma unroll 8
        for (unsigned i = lane; i < s.map.t; i += lanes) {
            const uint64_t row = s.map.row(blockIdx.x, i);
            const double score = probs[row * s.experts + e];
            sum += total ? score / total[row] : score;
        }
    part[threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    if (lane == 0) {
        for (unsigned l = 0; l < lanes; l++)
            sum += part[l * s.experts + e];
        sum *= static_cast<double>(count[e]) / s.whole / s.whole;
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        loss[blockIdx.x] = sum;
}

__global__ void router_aux_kernel(double *scalar, const double *loss, unsigned n, double factor)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += loss[i];
    *scalar += factor * sum;
}

/* aux (sequences, experts): gradient of each probability from the balance loss. */
__global__ void __launch_bounds__(BALANCE_THREADS)
    router_balance_grad_kernel(float *aux, const int32_t *__restrict__ index, router_shape s, double factor)
{
    SHARED(int, count, CUDA_MAX_EXPERTS);
    router_count(count, index, s);
    for (unsigned e = threadIdx.x; e < s.experts; e += blockDim.x)
        aux[blockIdx.x * s.experts + e] = static_cast<float>(factor * (static_cast<double>(count[e]) / s.whole));
}

/* dp (experts) of the scores p from g, the gradient of each as a part of their sum: (g - sum of g p / sum of p) / sum of p. */
__device__ __forceinline__ void router_parts_grad(float *dp, const float *g, const float *p, unsigned experts)
{
    float sum = 0, inner = 0;
    for (unsigned e = lane_id(); e < experts; e += WARP) {
        sum += p[e];
        inner += g[e] * p[e];
    }
    sum = warp_sum(sum);
    inner = warp_sum(inner) / sum;
    for (unsigned e = lane_id(); e < experts; e += WARP)
        dp[e] = (g[e] - inner) / sum;
}

/* ---- of the logits --------------------------------------------------------------------------------------------------- */

__device__ __forceinline__ float router_log_sum_exp(const float *logits, unsigned experts)
{
    float most = -INFINITY, sum = 0;
    for (unsigned e = lane_id(); e < experts; e += WARP)
        most = fmaxf(most, logits[e]);
    most = warp_max(most);
    for (unsigned e = lane_id(); e < experts; e += WARP)
        sum += expf(logits[e] - most);
    return most + logf(warp_sum(sum));
}

/* z (rows) of the logits (rows, experts). */
__global__ void __launch_bounds__(ROUTER_THREADS)
    router_z_kernel(float *z, const float *__restrict__ logits, router_shape s)
{
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * ROUTER_WARPS + threadIdx.x / WARP;
    if (row >= s.rows)
        return;
    const float of_row = router_log_sum_exp(logits + row * s.experts, s.experts);
    if (lane_id() == 0)
        z[row] = of_row;
}

/* One block. */
__global__ void __launch_bounds__(BALANCE_THREADS)
    router_z_sum_kernel(double *scalar, const float *__restrict__ z, uint64_t rows, double coefficient)
{
    SHARED(double, room, MAX_WARPS);
    double sum = 0;
    for (uint64_t i = threadIdx.x; i < rows; i += BALANCE_THREADS)
        sum += static_cast<double>(z[i]) * z[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        *scalar += coefficient * sum;
}
} // namespace

#endif
