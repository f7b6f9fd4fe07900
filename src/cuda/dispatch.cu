/* Tokens to rows by expert, and back: permutation, capacity, weighted sum. Layouts: ir/op.h.
 *
 * Places come from bins.cuh with an expert for a bin: its order (expert, sequence, token) is the dropless order, and a
 * place less the first of its expert and sequence is the rank that capacity limits.
 *
 * IR_COUNTS: ranks begin behind those of the runs in front, on whatever device; rows that stay lie as without a capacity. */
#include "cuda/bins.cuh"

namespace
{
enum { ROWS_THREADS = 256, ROWS_WARPS = ROWS_THREADS / WARP, COUNT_THREADS = 1024, ZERO_BLOCKS = 8 };

/* ---- capacities of whole sequences --------------------------------------------------------------------------------- */

struct dispatch_whole {
    const int32_t
        *told; /* (parts,sets,2,b,experts): choices of each expert in each run of each member, in the first set */
    ir_rows rows;
    ir_run run[2];
    unsigned part, parts, sets, b, experts, capacity;
    __device__ __forceinline__ int choices(unsigned member, unsigned run, unsigned s, unsigned e) const
    {
        return told[((2ull * sets * member + run) * b + s) * experts + e];
    }
    /* How many of own run `own` stay. */
    __device__ int kept(unsigned own, unsigned s, unsigned e) const
    {
        int before = 0;
        for (unsigned m = 0; m < parts; m++) {
            ir_run runs[2];
            ir_rows_of(&rows, m, runs);
            for (unsigned i = 0; i < 2; i++)
                before += runs[i].count && runs[i].first < run[own].first ? choices(m, i, s, e) : 0;
        }
        const int room = static_cast<int>(capacity) - before, here = choices(part, own, s, e);
        return room <= 0 ? 0 : room < here ? room : here;
    }
};

/* counts and first (experts, sequences): rows that stay; kept: of the first run. One block. */
__global__ void __launch_bounds__(COUNT_THREADS)
    dispatch_keep_kernel(int32_t *counts, int *first, int *kept, dispatch_whole w, double *dropped)
{
    SHARED(int, room, MAX_WARPS);
    int beyond = 0;
    for (unsigned i = threadIdx.x; i < w.experts * w.b; i += COUNT_THREADS) {
        const unsigned e = i / w.b, s = i % w.b;
        const int second = w.run[1].count ? w.kept(1, s, e) : 0;
        kept[i] = w.kept(0, s, e);
        counts[i] = first[i] = kept[i] + second;
        beyond += w.choices(w.part, 0, s, e) + w.choices(w.part, 1, s, e) - counts[i];
    }
    beyond = block_sum(beyond, room);
    if (threadIdx.x == 0)
        *dropped += beyond;
}

__global__ void __launch_bounds__(BIN_THREADS)
    dispatch_admit_kernel(bins b, const int *__restrict__ start, int32_t *__restrict__ slot, const int32_t *counts,
                          const int *first, const int *kept, dispatch_whole w)
{
    DYNAMIC_SHARED(int, count);
    int place[BIN_ROUNDS];
    bin_places(b, start, count, place);
#pragma unroll
    for (unsigned j = 0; j < BIN_ROUNDS; j++) {
        const uint64_t i = bin_index(j);
        if (i >= b.n)
            continue;
        const unsigned e = bin_at(b, i);
        const uint64_t at = static_cast<uint64_t>(e) * b.sequences + blockIdx.y;
        const bool second = i / b.each >= w.run[0].count;
        const int rank = place[j] - start[at * b.tiles] - (second ? w.choices(w.part, 0, blockIdx.y, e) : 0);
        const int most = second ? counts[at] - kept[at] : kept[at];
        slot[bin_key(b, i)] = rank < most ? first[at] + (second ? kept[at] : 0) + rank : -1;
    }
}

/* ---- forward ------------------------------------------------------------------------------------------------------- */

/* slot (sequences, n), or as the keys. */
__global__ void __launch_bounds__(BIN_THREADS)
    dispatch_slot_kernel(bins b, const int *__restrict__ start, int32_t *__restrict__ slot, unsigned capacity)
{
    DYNAMIC_SHARED(int, count);
    int place[BIN_ROUNDS];
    bin_places(b, start, count, place);
#pragma unroll
    for (unsigned j = 0; j < BIN_ROUNDS; j++) {
        const uint64_t i = bin_index(j);
        if (i >= b.n)
            continue;
        if (capacity) {
            const uint64_t run = static_cast<uint64_t>(bin_at(b, i)) * b.sequences + blockIdx.y;
            const unsigned rank = static_cast<unsigned>(place[j] - start[run * b.tiles]);
            place[j] = rank < capacity ? static_cast<int>(run * capacity + rank) : -1;
        }
        slot[bin_key(b, i)] = place[j];
    }
}

/* counts (experts, sequences): rows of each, at most the capacity; what is beyond is added to *dropped. One block. */
__global__ void __launch_bounds__(COUNT_THREADS)
    dispatch_count_kernel(int32_t *counts, const int *__restrict__ start, unsigned n, unsigned tiles, unsigned capacity,
                          double *dropped)
{
    SHARED(int, room, MAX_WARPS);
    int beyond = 0;
    for (unsigned i = threadIdx.x; i < n; i += COUNT_THREADS) {
        const int all = start[static_cast<uint64_t>(i + 1) * tiles] - start[static_cast<uint64_t>(i) * tiles];
        const int kept = capacity && all > static_cast<int>(capacity) ? static_cast<int>(capacity) : all;
        counts[i] = kept;
        beyond += all - kept;
    }
    beyond = block_sum(beyond, room);
    if (threadIdx.x == 0 && capacity)
        *dropped += beyond;
}

/* Row of a token to its k slots: read once, written up to k times. */
template <typename T, int V>
__global__ void __launch_bounds__(ROWS_THREADS)
    dispatch_rows_kernel(T *__restrict__ rows, const T *__restrict__ x, const int32_t *__restrict__ slot, unsigned k,
                         unsigned c)
{
    const uint64_t token = blockIdx.x;
    for (unsigned i = threadIdx.x * V; i < c; i += blockDim.x * V) {
        float v[V];
        load(v, x + token * c + i);
        for (unsigned j = 0; j < k; j++) {
            const int32_t at = slot[token * k + j];
            if (at >= 0)
                store(rows + static_cast<uint64_t>(at) * c + i, v);
        }
    }
}

/* Rows beyond the counts. Blocks (expert and sequence, ZERO_BLOCKS). */
template <typename T, int V>
__global__ void __launch_bounds__(ROWS_THREADS)
    dispatch_zero_kernel(T *rows, const int32_t *__restrict__ counts, unsigned capacity, unsigned c)
{
    const float zero[V] = {};
    for (unsigned r = static_cast<unsigned>(counts[blockIdx.x]) + blockIdx.y; r < capacity; r += gridDim.y)
        for (unsigned i = threadIdx.x * V; i < c; i += blockDim.x * V)
            store(rows + (static_cast<uint64_t>(blockIdx.x) * capacity + r) * c + i, zero);
}

template <typename T, int V> void dispatch_rows(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const unsigned threads = threads_for(at->features / V, ROWS_THREADS);
    T *rows = static_cast<T *>(a->out[0]);
    launch("dispatch F", dispatch_rows_kernel<T, V>, static_cast<unsigned>(rows_of(a)), threads, 0, a->stream, rows,
           static_cast<const T *>(a->in[0]), static_cast<const int32_t *>(a->out[1]), at->top_k, at->features);
    if (at->capacity)
        launch("dispatch F", dispatch_zero_kernel<T, V>, dim3(at->experts * a->b, ZERO_BLOCKS), threads, 0, a->stream,
               rows, static_cast<const int32_t *>(a->out[2]), at->capacity, at->features);
}

void dispatch_slots_whole(const struct op_args *a, const bins &b, int *start)
{
    const struct op_positions *p = a->positions;
    const unsigned n = a->attrs->experts * a->b;
    const dispatch_whole w = { static_cast<const int32_t *>(a->in[2]),
                               p->rows,
                               { p->run[0], p->run[1] },
                               p->part,
                               p->parts,
                               op_sets(p),
                               a->b,
                               a->attrs->experts,
                               p->capacity };
    int32_t *const counts = static_cast<int32_t *>(a->out[2]);
    int *const first = start + static_cast<uint64_t>(n) * b.tiles + 1, *const kept = first + n + 1;
    launch("dispatch F", dispatch_keep_kernel, 1, COUNT_THREADS, 0, a->stream, counts, first, kept, w,
           a->scalars + SCALAR_DROPPED);
    launch("dispatch F", bin_scan_kernel, 1, SCAN_THREADS, 0, a->stream, first, static_cast<uint64_t>(n));
    launch("dispatch F", dispatch_admit_kernel, dim3(b.tiles, b.sequences), BIN_THREADS, bin_shared(b), a->stream, b,
           start, static_cast<int32_t *>(a->out[1]), counts, first, kept, w);
}

void dispatch_slots(const struct op_args *a, const bins &b, int *start)
{
    const struct ir_attrs *at = a->attrs;
    launch("dispatch F", dispatch_slot_kernel, dim3(b.tiles, b.sequences), BIN_THREADS, bin_shared(b), a->stream, b,
           start, static_cast<int32_t *>(a->out[1]), at->capacity);
    launch("dispatch F", dispatch_count_kernel, 1, COUNT_THREADS, 0, a->stream, static_cast<int32_t *>(a->out[2]),
           start, at->experts * a->b, b.tiles, at->capacity, a->scalars + SCALAR_DROPPED);
}

template <typename T> void dispatch_f(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const struct op_positions *p = a->positions;
    int *start = static_cast<int *>(a->work);
    bins b = bins_of(static_cast<const int32_t *>(a->in[1]), static_cast<uint64_t>(a->t) * at->top_k, a->b, at->experts,
                     0);
    b.step = row_map_of(a).step;
    b.each = at->top_k;
    bin_starts("dispatch F", b, start, a->stream);
    if (p && p->split == IR_COUNTS && p->capacity)
        dispatch_slots_whole(a, b, start);
    else
        dispatch_slots(a, b, start);
    if (wide<T>(at->features, a->in[0], a->out[0]))
        dispatch_rows<T, vector_of<T>>(a);
    else
        dispatch_rows<T, 1>(a);
}

/* ---- sums over a token's rows -------------------------------------------------------------------------------------- */

/* y (tokens, c) = acc + sum over k of weight * row; weight NULL: 1. A slot of -1 has no row. */
template <typename T, int V>
__global__ void __launch_bounds__(ROWS_THREADS)
    gather_kernel(T *y, const T *acc, const T *__restrict__ rows, const int32_t *__restrict__ slot,
                  const float *__restrict__ weight, unsigned k, unsigned c)
{
    const uint64_t token = blockIdx.x;
    for (unsigned i = threadIdx.x * V; i < c; i += blockDim.x * V) {
        float sum[V] = {}, v[V];
        add_acc(sum, acc, token * c + i);
#pragma unroll 4
        for (unsigned j = 0; j < k; j++) {
            const int32_t at = slot[token * k + j];
            if (at < 0)
                continue;
            const float w = weight ? weight[token * k + j] : 1;
            load(v, rows + static_cast<uint64_t>(at) * c + i);
#pragma unroll
            for (int e = 0; e < V; e++)
                sum[e] += w * v[e];
        }
        store(y + token * c + i, sum);
    }
}

template <typename T>
void gather(const char *name, const struct op_args *a, void *y, const void *acc, const void *rows, const void *slot,
            const void *weight)
{
    enum { V = vector_of<T> };
    const unsigned c = a->attrs->features;
    const bool fits = wide<T>(c, y, acc, rows);
    launch(name, fits ? gather_kernel<T, V> : gather_kernel<T, 1>, static_cast<unsigned>(rows_of(a)),
           threads_for(fits ? c / V : c, ROWS_THREADS), 0, a->stream, static_cast<T *>(y), static_cast<const T *>(acc),
           static_cast<const T *>(rows), static_cast<const int32_t *>(slot), static_cast<const float *>(weight),
           a->attrs->top_k, c);
}

template <typename T> void dispatch_bi(const struct op_args *a)
{
    gather<T>("dispatch BI", a, a->din[0], a->acc[0], a->dout[0], a->out[1], nullptr);
}

template <typename T> void combine_f(const struct op_args *a)
{
    gather<T>("combine F", a, a->out[0], nullptr, a->in[0], a->in[1], a->in[2]);
}

/* ---- backward of combine ------------------------------------------------------------------------------------------- */

template <typename T> struct combine_operands {
    T *dx;                 /* (rows, c) */
    const T *acc, *x, *dy; /* acc, x: as dx; dy (tokens, c) */
    float *dw;             /* (tokens, k) */
    const float *acc_w, *weight;
    const int32_t *slot;
    unsigned char *used; /* (rows): 1 where a slot is; NULL: every row has one */
    uint64_t n;          /* tokens * k */
    unsigned k, c;
};

/* A warp has a token's choice: the product of row and gradient is the weight's gradient. */
template <typename T, int V> __global__ void __launch_bounds__(ROWS_THREADS) combine_bi_kernel(combine_operands<T> p)
{
    const uint64_t i = static_cast<uint64_t>(blockIdx.x) * ROWS_WARPS + threadIdx.x / WARP;
    if (i >= p.n)
        return;
    const int32_t slot = p.slot[i];
    const uint64_t row = static_cast<uint64_t>(slot < 0 ? 0 : slot) * p.c, token = i / p.k * p.c;
    const float weight = p.weight[i];
    float dot = 0;
    for (unsigned j = lane_id() * V; j < p.c && slot >= 0; j += WARP * V) {
        float d[V], x[V];
        load(d, p.dy + token + j);
        load(x, p.x + row + j);
#pragma unroll
        for (int e = 0; e < V; e++) {
            dot += d[e] * x[e];
            d[e] *= weight;
        }
        add_acc(d, p.acc, row + j);
        store(p.dx + row + j, d);
    }
    dot = warp_sum(dot);
    if (lane_id() > 0)
        return;
    p.dw[i] = p.acc_w ? p.acc_w[i] + dot : dot;
    if (p.used && slot >= 0)
        p.used[slot] = 1;
}

/* Rows without a token: the addend, or zero. A warp has a row. */
template <typename T, int V>
__global__ void __launch_bounds__(ROWS_THREADS) combine_fill_kernel(combine_operands<T> p, uint64_t rows)
{
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * ROWS_WARPS + threadIdx.x / WARP;
    if (row >= rows || p.used[row])
        return;
    for (unsigned j = lane_id() * V; j < p.c; j += WARP * V) {
        float v[V] = {};
        add_acc(v, p.acc, row * p.c + j);
        store(p.dx + row * p.c + j, v);
    }
}

template <typename T, int V> void combine_bi_as(const struct op_args *a, const combine_operands<T> &p)
{
    const uint64_t rows = p.used ? static_cast<uint64_t>(a->b) * a->attrs->experts * a->attrs->capacity : 0;
    if (p.used)
        cuda__check(cudaMemsetAsync(p.used, 0, rows, static_cast<cudaStream_t>(a->stream)), "combine BI");
    launch("combine BI", combine_bi_kernel<T, V>, blocks_for(p.n, ROWS_WARPS), ROWS_THREADS, 0, a->stream, p);
    if (p.acc != p.dx)
        launch("combine BI", combine_fill_kernel<T, V>, blocks_for(rows, ROWS_WARPS), ROWS_THREADS, 0, a->stream, p,
               rows);
}

template <typename T> void combine_bi(const struct op_args *a)
{
    const combine_operands<T> p = { static_cast<T *>(a->din[0]),
                                    static_cast<const T *>(a->acc[0]),
                                    static_cast<const T *>(a->in[0]),
                                    static_cast<const T *>(a->dout[0]),
                                    static_cast<float *>(a->din[2]),
                                    static_cast<const float *>(a->acc[2]),
                                    static_cast<const float *>(a->in[2]),
                                    static_cast<const int32_t *>(a->in[1]),
                                    a->attrs->capacity ? static_cast<unsigned char *>(a->work) : nullptr,
                                    rows_of(a) * a->attrs->top_k,
                                    a->attrs->top_k,
                                    a->attrs->features };
    if (wide<T>(p.c, p.dx, p.acc, p.x, p.dy))
        combine_bi_as<T, vector_of<T>>(a, p);
    else
        combine_bi_as<T, 1>(a, p);
}
} // namespace

FOR_BOTH_TYPES(dispatch_f)
FOR_BOTH_TYPES(dispatch_bi)
FOR_BOTH_TYPES(combine_f)
FOR_BOTH_TYPES(combine_bi)
