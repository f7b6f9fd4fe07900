/* The part of a product C (m,n) = A (m,k) B (k,n) that one block computes: GROUP_TILE x GROUP_TILE of C. Steps over k go through a
 * queue of GROUP_DEPTH pairs of tiles in shared memory, which copies in the background fill; 8 warps have 64 x 32 of C each,
 * bfloat16 on tensor cores, float32 on plain ones. Every sum goes over k in order, so its bits depend on operands alone.
 *
 * An operand's index outside k is called i. Where k is its contiguous index (K_NEAR), a tile is (GROUP_TILE, a step of k) in
 * shared memory, else (a step of k, GROUP_TILE); pieces of 16 bytes are exchanged inside so that eight neighbours along the outer
 * index lie in eight different banks. */
#ifndef PIPER_CUDA_GROUPED_CUH
#define PIPER_CUDA_GROUPED_CUH

#include "cuda/tensor.cuh"

namespace
{
constexpr unsigned GROUP_TILE = CUDA_GROUP_ROWS, GROUP_THREADS = 256, GROUP_DEPTH = 3;
constexpr unsigned GROUP_STEP = 64; /* bytes of k in a step */
constexpr unsigned GROUP_OPERAND = GROUP_TILE * GROUP_STEP;
constexpr unsigned GROUP_SHARED = GROUP_DEPTH * 2 * GROUP_OPERAND; /* 48 KiB: what a kernel may have without asking */
constexpr unsigned GROUP_PIECES = GROUP_OPERAND / 16 / GROUP_THREADS;

/* Where a block's tile of an operand begins; all rows 16-byte aligned. PAIR: two matrices, whose i alternate in runs of 16. */
template <typename T> struct group_side {
    const T *at, *pair;
    uint64_t ld;
    unsigned first, n; /* i of the tile's first, and their end */
};

/* Byte of a piece in a tile; outer: the index that is not contiguous. */
template <typename T, bool K_NEAR> __device__ __forceinline__ unsigned group_piece(unsigned outer, unsigned piece)
{
    if constexpr (K_NEAR)
        return outer * GROUP_STEP + (piece ^ (outer / 2 % 4)) * 16;
    else
        return outer * (GROUP_TILE * sizeof(T)) + (piece ^ (outer % 8)) * 16;
}

/* Copies the pieces of a tile that are this thread's, step after step. */
template <typename T, bool K_NEAR, bool PAIR> struct group_feed {
    const char *from[GROUP_PIECES];
    unsigned to[GROUP_PIECES], k[GROUP_PIECES];
    bool inside[GROUP_PIECES];
    uint64_t bytes; /* from one step to the next */

    __device__ __forceinline__ explicit group_feed(const group_side<T> &s)
    {
        constexpr unsigned each = vector_of<T>, row = (K_NEAR ? GROUP_STEP / sizeof(T) : GROUP_TILE) / each;
        bytes = K_NEAR ? GROUP_STEP : GROUP_STEP * s.ld;
#pragma unroll
        for (unsigned q = 0; q < GROUP_PIECES; q++) {
            const unsigned id = q * GROUP_THREADS + threadIdx.x, outer = id / row, piece = id % row;
            const unsigned i = K_NEAR ? outer : piece * each;
            const unsigned from_i = s.first + (PAIR ? i / 32 * 16 + i % 16 : i);
            k[q] = K_NEAR ? piece * each : outer;
            to[q] = group_piece<T, K_NEAR>(outer, piece);
            inside[q] = from_i < s.n;
            from[q] = reinterpret_cast<const char *>((PAIR && i / 16 % 2 ? s.pair : s.at) +
                                                     (K_NEAR ? from_i * s.ld + k[q] : k[q] * s.ld + from_i));
        }
    }

    /* The next step, of which there are `left` of k. */
    __device__ __forceinline__ void copy(char *tile, unsigned left)
    {
#pragma unroll
        for (unsigned q = 0; q < GROUP_PIECES; q++) {
            copy_async(tile + to[q], from[q], inside[q] && k[q] < left);
            from[q] += bytes;
        }
    }
};

/* c[i][j]: rows 16i, columns 8j of the warp's part, as multiply_add() has them. */
typedef float group_sums[4][4][4];

struct group_place {
    unsigned row, column, g, t;
};

__device__ __forceinline__ group_place group_here()
{
    const unsigned warp = threadIdx.x / WARP;
    return { warp / 4 * 64, warp % 4 * 32, lane_id() / 4, lane_id() % 4 };
}

template <bool A_K, bool B_K>
__device__ __forceinline__ void group_step(group_sums &c, const char *a, const char *b, bf16)
{
    const group_place p = group_here();
    const unsigned row = lane_id() % 8, low = lane_id() / 8 % 2, high = lane_id() / 16;
#pragma unroll
    for (unsigned k = 0; k < GROUP_STEP / 2; k += 16) {
        unsigned x[4][4], y[2][4];
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            const unsigned first = p.row + 16 * i;
            load_matrices<!A_K>(x[i], a + (A_K ? group_piece<bf16, true>(first + 8 * low + row, k / 8 + high)
                                               : group_piece<bf16, false>(k + 8 * high + row, first / 8 + low)));
        }
#pragma unroll
        for (unsigned j = 0; j < 2; j++) {
            const unsigned first = p.column + 16 * j;
            load_matrices<!B_K>(y[j], b + (B_K ? group_piece<bf16, true>(first + 8 * high + row, k / 8 + low)
                                               : group_piece<bf16, false>(k + 8 * low + row, first / 8 + high)));
        }
#pragma unroll
        for (unsigned i = 0; i < 4; i++)
#pragma unroll
            for (unsigned j = 0; j < 4; j++)
                multiply_add(c[i][j], x[i], y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1]);
    }
}

template <bool K_NEAR> __device__ __forceinline__ float group_element(const char *tile, unsigned i, unsigned k)
{
    const unsigned outer = K_NEAR ? i : k, inner = K_NEAR ? k : i;
    return *reinterpret_cast<const float *>(tile + group_piece<float, K_NEAR>(outer, inner / 4) +
                                            inner % 4 * sizeof(float));
}

template <bool A_K, bool B_K>
__device__ __forceinline__ void group_step(group_sums &c, const char *a, const char *b, float)
{
    const group_place p = group_here();
    for (unsigned k = 0; k < GROUP_STEP / 4; k++) {
        float x[8], y[8];
#pragma unroll
        for (unsigned i = 0; i < 8; i++) {
            x[i] = group_element<A_K>(a, p.row + 8 * i + p.g, k);
            y[i] = group_element<B_K>(b, p.column + i / 2 * 8 + 2 * p.t + i % 2, k);
        }
#pragma unroll
        for (unsigned i = 0; i < 8; i++)
#pragma unroll
            for (unsigned j = 0; j < 8; j++)
                c[i / 2][j / 2][i % 2 * 2 + j % 2] += x[i] * y[j];
    }
}

/* c += A B, over k elements. By all threads of a block; shared: GROUP_SHARED bytes, free again afterwards. */
template <typename T, bool A_K, bool B_K, bool PAIR>
__device__ __forceinline__ void group_product(group_sums &c, const group_side<T> &a, const group_side<T> &b, unsigned k,
                                              char *shared)
{
    constexpr unsigned step = GROUP_STEP / sizeof(T);
    group_feed<T, A_K, false> feed_a(a);
    group_feed<T, B_K, PAIR> feed_b(b);
    const group_place at = group_here(); /* a warp beyond the ends has nothing to compute */
    const bool here = a.first + at.row < a.n && b.first + (PAIR ? at.column / 2 : at.column) < b.n;
    const unsigned steps = (k + step - 1) / step;
    unsigned copied = 0;
    const auto copy = [&]() {
        if (copied < steps) {
            char *tile = shared + copied % GROUP_DEPTH * (2 * GROUP_OPERAND);
            feed_a.copy(tile, k - copied * step);
            feed_b.copy(tile + GROUP_OPERAND, k - copied * step);
            copied++;
        }
        copy_commit(); /* maybe an empty group, so that the wait counts steps */
    };
    for (unsigned s = 0; s + 1 < GROUP_DEPTH; s++)
        copy();
    for (unsigned s = 0; s < steps; s++) {
        copy_wait<GROUP_DEPTH - 2>();
        __syncthreads(); /* step s is here for all, and all have done step s - 1, whose place is filled next */
        copy();
        const char *tile = shared + s % GROUP_DEPTH * (2 * GROUP_OPERAND);
        if (here)
            group_step<A_K, B_K>(c, tile, tile + GROUP_OPERAND, T());
    }
    copy_wait<0>();
    __syncthreads();
}
} // namespace

#endif
