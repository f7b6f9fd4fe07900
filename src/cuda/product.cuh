/* A small matrix product in float32 for the router, whose logits must not depend on a library's choice of algorithm:
 * C (m,n) = acc + A (m,k) B (k,n), operands in any compute type, each contiguous along k or along the other index.
 * 64 x 64 outputs a block, 4 x 4 a thread; every sum goes over k in order. */
#ifndef PIPER_CUDA_PRODUCT_CUH
#define PIPER_CUDA_PRODUCT_CUH

#include "cuda/kernel.cuh"

namespace
{
enum { TILE = 64, TILE_K = 16, TILE_LD = TILE + 4, TILE_THREADS = 256, TILE_EACH = 4 };

template <typename TA, typename TB, typename TC> struct product_operands {
    TC *c;         /* (m,n), or (parts,m,n) */
    const TC *acc; /* (m,n) or NULL */
    const TA *a;   /* element (i,k): a[i*lda + k], or a[k*lda + i] */
    const TB *b;   /* element (k,j): b[j*ldb + k], or b[k*ldb + j] */
    unsigned m, n;
    uint64_t k, part_k; /* blockIdx.z has part_k of the k */
    uint64_t lda, ldb;
};

/* tile (TILE_K, TILE_LD) = elements (first + i, k0 + k) of x, 0 beyond (n, k_end). */
template <bool K_CONTIGUOUS, typename T>
__device__ __forceinline__ void product_tile(float *tile, const T *x, uint64_t ld, unsigned first, unsigned n,
                                             uint64_t k0, uint64_t k_end)
{
#pragma unroll
    for (unsigned q = 0; q < TILE * TILE_K / TILE_THREADS; q++) {
        const unsigned e = q * TILE_THREADS + threadIdx.x;
        const unsigned k = K_CONTIGUOUS ? e % TILE_K : e / TILE, i = K_CONTIGUOUS ? e / TILE_K : e % TILE;
        float v[1] = { 0 };
        if (first + i < n && k0 + k < k_end)
            load(v, x + (K_CONTIGUOUS ? (first + i) * ld + k0 + k : (k0 + k) * ld + first + i));
        tile[k * TILE_LD + i] = v[0];
    }
}

template <typename TA, typename TB, typename TC, bool A_K, bool B_K>
__global__ void __launch_bounds__(TILE_THREADS) product_kernel(product_operands<TA, TB, TC> p)
{
    SHARED(float, a, TILE_K *TILE_LD);
    SHARED(float, b, TILE_K *TILE_LD);
    const unsigned i0 = blockIdx.x * TILE, j0 = blockIdx.y * TILE;
    const unsigned ti = threadIdx.x / (TILE / TILE_EACH) * TILE_EACH, tj = threadIdx.x % (TILE / TILE_EACH) * TILE_EACH;
    const uint64_t k_first = blockIdx.z * p.part_k, k_end = k_first + p.part_k < p.k ? k_first + p.part_k : p.k;
    float sum[TILE_EACH][TILE_EACH] = {};
    for (uint64_t k0 = k_first; k0 < k_end; k0 += TILE_K) {
        product_tile<A_K>(a, p.a, p.lda, i0, p.m, k0, k_end);
        product_tile<B_K>(b, p.b, p.ldb, j0, p.n, k0, k_end);
        __syncthreads();
#pragma unroll
        for (unsigned k = 0; k < TILE_K; k++) {
            float x[TILE_EACH], y[TILE_EACH];
#pragma unroll
            for (int e = 0; e < TILE_EACH; e++) {
                x[e] = a[k * TILE_LD + ti + e];
                y[e] = b[k * TILE_LD + tj + e];
            }
#pragma unroll
            for (int i = 0; i < TILE_EACH; i++)
#pragma unroll
                for (int j = 0; j < TILE_EACH; j++)
                    sum[i][j] += x[i] * y[j];
        }
        __syncthreads();
    }
    for (unsigned i = 0; i < TILE_EACH && i0 + ti + i < p.m; i++)
        for (unsigned j = 0; j < TILE_EACH && j0 + tj + j < p.n; j++) {
            const uint64_t at = (static_cast<uint64_t>(blockIdx.z) * p.m + i0 + ti + i) * p.n + j0 + tj + j;
            float v[1] = { sum[i][j] };
            add_acc(v, p.acc, at);
            store(p.c + at, v);
        }
}

/* n is at most 65535 * TILE. */
template <bool A_K, bool B_K, typename TA, typename TB, typename TC>
void product(const char *name, const product_operands<TA, TB, TC> &p, void *stream)
{
    launch(name, product_kernel<TA, TB, TC, A_K, B_K>,
           dim3(blocks_for(p.m, TILE), blocks_for(p.n, TILE), blocks_for(p.k, p.part_k)), TILE_THREADS, 0, stream, p);
}
} // namespace

#endif
