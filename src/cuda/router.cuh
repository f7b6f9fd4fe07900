/* The router's rows and how it picks from them, for the choice of experts (router.cu) and the losses (router_loss.cuh). */
#ifndef PIPER_CUDA_ROUTER_CUH
#define PIPER_CUDA_ROUTER_CUH

#include "cuda/kernel.cuh"

namespace
{
enum { ROUTER_WARPS = 8, ROUTER_THREADS = ROUTER_WARPS * WARP, BALANCE_THREADS = 1024 };

struct router_shape {
    uint64_t rows;
    unsigned experts, k;
    bool norm; /* weights are divided by their sum + eps */
    bool sigmoid;
    float eps, scale;
    row_map map;
    unsigned b, whole;   /* sequences; T */
    const int32_t *told; /* (parts,sets,2,b,experts); NULL: all tokens are here */
    unsigned part, parts, sets;
};

/* Lane's row of shared memory of its warp. */
__device__ __forceinline__ float *router_row(float *shared, unsigned width)
{
    return shared + threadIdx.x / WARP * width;
}

/* What is not chosen from; all that may be chosen is larger. */
constexpr float ROUTER_TAKEN = -INFINITY, ROUTER_LEAST = -3.4e38f;

/* Index of the largest of p (experts), the lowest of equals, in every lane. */
__device__ __forceinline__ unsigned router_best(const float *p, unsigned experts)
{
    float most = -INFINITY;
    unsigned best = experts;
    for (unsigned e = lane_id(); e < experts; e += WARP)
        if (p[e] > most) {
            most = p[e];
            best = e;
        }
#pragma unroll
    for (int o = WARP / 2; o; o /= 2) {
        const float other = __shfl_xor_sync(ALL_LANES, most, o);
        const unsigned at = __shfl_xor_sync(ALL_LANES, best, o);
        if (other > most || (other == most && at < best)) {
            most = other;
            best = at;
        }
    }
    return best;
}

/* index (k) = the k best of p, which become ROUTER_TAKEN, in every lane. */
__device__ __forceinline__ void router_take(int32_t *index, float *p, unsigned experts, unsigned k)
{
    for (unsigned j = 0; j < k; j++) {
        const unsigned best = router_best(p, experts);
        __syncwarp();
        if (lane_id() == 0) {
            index[j] = static_cast<int32_t>(best);
            p[best] = ROUTER_TAKEN;
        }
        __syncwarp();
    }
}

/* By what a score is chosen: a NaN must choose an expert that exists. */
__device__ __forceinline__ float router_wish(float score, float select)
{
    const float wish = (score >= 0 ? score : 0) + select;
    return wish > ROUTER_LEAST ? wish : ROUTER_LEAST;
}

inline size_t router_shared(unsigned width)
{
    return ROUTER_WARPS * width * sizeof(float);
}
} // namespace

#endif
