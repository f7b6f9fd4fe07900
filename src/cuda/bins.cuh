/* Stable placement of keys in bins, in three steps that use all of the GPU: counts of every tile of keys, one scan over
 * them, ranks inside the tiles. A key's place is what a sequential counting sort gives it, so it is the same every time.
 * The sort of tokens and the dispatch to experts are made of it. Included by the .cu files that launch it. */
#ifndef PIPER_CUDA_BINS_CUH
#define PIPER_CUDA_BINS_CUH

#include "cuda/kernel.cuh"

namespace
{
enum {
    BIN_THREADS = 256,
    BIN_WARPS = BIN_THREADS / WARP,
    BIN_ROUNDS = CUDA_BIN_TILE / BIN_THREADS,
    SCAN_THREADS = 1024
};

/* Keys (sequences, n), or, with step > 0, (n/each, step, each) where step is at least as many as sequences; the bin of a key:
 * (key >> shift) % bins where bins is CUDA_SORT_BINS, else the key. */
struct bins {
    const int32_t *key;
    uint64_t n;
    unsigned sequences, tiles; /* tiles: of a sequence */
    unsigned bins, shift;
    unsigned step, each;
};

struct bins bins_of(const int32_t *key, uint64_t n, unsigned sequences, unsigned bins, unsigned shift)
{
    return { key, n, sequences, blocks_for(n, CUDA_BIN_TILE), bins, shift, 0, 1 };
}

/* Where key i of the sequence blockIdx.y lies. */
__device__ __forceinline__ uint64_t bin_key(const bins &b, uint64_t i)
{
    return b.step ? (i / b.each * b.step + blockIdx.y) * b.each + i % b.each : blockIdx.y * b.n + i;
}

__device__ __forceinline__ unsigned bin_at(const bins &b, uint64_t i)
{
    return (static_cast<unsigned>(b.key[bin_key(b, i)]) >> b.shift) % b.bins;
}

/* counts (bins, sequences, tiles). A block has the tile blockIdx.x of the sequence blockIdx.y. */
__global__ void __launch_bounds__(BIN_THREADS) bin_count_kernel(bins b, int *counts)
{
    DYNAMIC_SHARED(int, count);
    for (unsigned i = threadIdx.x; i < b.bins; i += BIN_THREADS)
        count[i] = 0;
    __syncthreads();
    for (unsigned j = 0; j < BIN_ROUNDS; j++) {
        const uint64_t i = static_cast<uint64_t>(blockIdx.x) * CUDA_BIN_TILE + j * BIN_THREADS + threadIdx.x;
        if (i < b.n)
            atomicAdd(&count[bin_at(b, i)], 1); /* integers: any order gives the same */
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < b.bins; i += BIN_THREADS)
        counts[(static_cast<uint64_t>(i) * b.sequences + blockIdx.y) * b.tiles + blockIdx.x] = count[i];
}

/* x[0..n) becomes the sum of what stood before; x[n] the sum of all. One block: a thread has a run of neighbours. */
__global__ void __launch_bounds__(SCAN_THREADS) bin_scan_kernel(int *x, uint64_t n)
{
    SHARED(int, room, MAX_WARPS);
    const uint64_t each = (n + SCAN_THREADS - 1) / SCAN_THREADS, first = threadIdx.x * each;
    const uint64_t end = first + each < n ? first + each : n;
    int sum = 0;
    for (uint64_t i = first; i < end; i++)
        sum += x[i];
    const int upto = warp_upto(sum);
    if (lane_id() == WARP - 1)
        room[threadIdx.x / WARP] = upto;
    __syncthreads();
    int running = upto - sum;
    for (unsigned w = 0; w < threadIdx.x / WARP; w++)
        running += room[w];
    for (uint64_t i = first; i < end; i++) {
        const int count = x[i];
        x[i] = running;
        running += count;
    }
    if (threadIdx.x == SCAN_THREADS - 1)
        x[n] = running;
}

/* Index in the sequence of this thread's key number j of the tile. A warp has a run of the tile. */
__device__ __forceinline__ uint64_t bin_index(unsigned j)
{
    return static_cast<uint64_t>(blockIdx.x) * CUDA_BIN_TILE + threadIdx.x / WARP * (BIN_ROUNDS * WARP) + j * WARP +
           lane_id();
}

/* place[j]: of key bin_index(j), where it is one; start: the scanned counts. count (BIN_WARPS, bins) in shared memory.
 * By all threads of a block. */
__device__ __forceinline__ void bin_places(const bins &b, const int *start, int *count, int (&place)[BIN_ROUNDS])
{
    int *const mine = count + threadIdx.x / WARP * b.bins;
    unsigned bin[BIN_ROUNDS];
    for (unsigned i = threadIdx.x; i < BIN_WARPS * b.bins; i += BIN_THREADS)
        count[i] = 0;
    __syncthreads();
#pragma unroll
    for (unsigned j = 0; j < BIN_ROUNDS; j++) {
        const bool here = bin_index(j) < b.n;
        bin[j] = here ? bin_at(b, bin_index(j)) : b.bins;
        const unsigned same = __match_any_sync(ALL_LANES, bin[j]);
        const int rank = __popc(same & ((1u << lane_id()) - 1));
        place[j] = here ? mine[bin[j]] + rank : 0;
        __syncwarp();
        if (here && rank == 0)
            mine[bin[j]] += __popc(same);
        __syncwarp();
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < b.bins; i += BIN_THREADS) {
        int running = start[(static_cast<uint64_t>(i) * b.sequences + blockIdx.y) * b.tiles + blockIdx.x];
        for (unsigned w = 0; w < BIN_WARPS; w++) {
            const int n = count[w * b.bins + i];
            count[w * b.bins + i] = running;
            running += n;
        }
    }
    __syncthreads();
#pragma unroll
    for (unsigned j = 0; j < BIN_ROUNDS; j++)
        if (bin[j] < b.bins)
            place[j] += mine[bin[j]];
}

/* Fills start (bins*sequences*tiles + 1). */
void bin_starts(const char *name, const bins &b, int *start, void *stream)
{
    launch(name, bin_count_kernel, dim3(b.tiles, b.sequences), BIN_THREADS, b.bins * sizeof(int), stream, b, start);
    launch(name, bin_scan_kernel, 1, SCAN_THREADS, 0, stream, start,
           static_cast<uint64_t>(b.bins) * b.sequences * b.tiles);
}

size_t bin_shared(const bins &b)
{
    return sizeof(int) * BIN_WARPS * b.bins;
}
} // namespace

#endif
