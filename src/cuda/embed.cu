/* Token and position embeddings.
 *
 * The gradient of the token table is a sum over the rows that have the token. Rows are sorted by token, then in their
 * own order; a block sums the runs of equal tokens among CUDA_EMBED_ROWS sorted rows. A run that lies in one block goes
 * to the table; of one that goes over several, each block leaves its part in `work`, and the block where it begins adds
 * them in order. */
#include "cuda/bins.cuh"

namespace
{
enum { EMBED_THREADS = 256 };

template <typename T, int V>
__global__ void __launch_bounds__(EMBED_THREADS) embed_kernel(T *__restrict__ x, const int32_t *__restrict__ token,
                                                              const T *__restrict__ w, unsigned c, const ir_run words)
{
    const unsigned word = static_cast<unsigned>(token[blockIdx.x]) - words.first;
    const uint64_t from = static_cast<uint64_t>(word) * c, to = static_cast<uint64_t>(blockIdx.x) * c;
    for (unsigned i = threadIdx.x * V; i < c; i += blockDim.x * V) {
        float v[V] = {}; /* another device's word */
        if (word < words.count)
            load(v, w + from + i);
        store(x + to + i, v);
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(EMBED_THREADS)
    pos_embed_kernel(T *__restrict__ y, const T *__restrict__ x, const T *__restrict__ p,
                     const int32_t *__restrict__ document, unsigned t_all, unsigned c, row_map rows)
{
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * c;
    const unsigned at = rows.position(rows.token(blockIdx.x));
    const uint64_t position =
        static_cast<uint64_t>(
            at - (document ? document[static_cast<uint64_t>(rows.sequence(blockIdx.x)) * t_all + at] : 0)) *
        c;
    for (unsigned i = threadIdx.x * V; i < c; i += blockDim.x * V) {
        float v[V];
        load(v, x + row + i);
        add_acc(v, p, position + i);
        store(y + row + i, v);
    }
}

/* dp (positions, c), whose row `head` is that of position 0: a block has a token, or, without add, a row, and sums over the b sequences; rows of
 * no token have no gradient. */
template <typename T, int V>
__global__ void __launch_bounds__(EMBED_THREADS) pos_embed_bw_kernel(float *dp, const T *__restrict__ dy, unsigned b,
                                                                     row_map rows, unsigned c, unsigned head, bool add)
{
    const unsigned second = blockIdx.x - head - rows.first1, first = blockIdx.x - head - rows.first0;
    const unsigned token = add                 ? blockIdx.x
                           : first < rows.run0 ? first
                                               : (second < rows.t - rows.run0 ? rows.run0 + second : rows.t);
    const uint64_t to = static_cast<uint64_t>(add ? head + rows.position(token) : blockIdx.x) * c;
    const uint64_t from = rows.row(0, token) * c, sequence = rows.row(1, token) * c - from;
    for (unsigned i = threadIdx.x * V; i < c; i += blockDim.x * V) {
        float sum[V] = {}, v[V];
        if (add)
            load(sum, dp + to + i);
        if (token < rows.t)
#pragma unroll 8
            for (unsigned s = 0; s < b; s++) {
                load(v, dy + s * sequence + from + i);
#pragma unroll
                for (int k = 0; k < V; k++)
                    sum[k] += v[k];
            }
        store(dp + to + i, sum);
    }
}

/* The same where positions begin anew with each document, of (b, t_all): a block has a position, and looks for its rows. */
template <typename T, int V>
__global__ void __launch_bounds__(EMBED_THREADS)
    pos_embed_bw_documents_kernel(float *dp, const T *__restrict__ dy, const int32_t *__restrict__ document,
                                  unsigned t_all, unsigned b, row_map rows, unsigned c, unsigned head, bool add)
{
    const uint64_t to = static_cast<uint64_t>(blockIdx.x) * c;
    for (unsigned i = threadIdx.x * V; i < c; i += blockDim.x * V) {
        float sum[V] = {}, v[V];
        if (add)
            load(sum, dp + to + i);
        for (unsigned s = 0; s < b; s++)
            for (unsigned k = 0; k < rows.t; k++) {
                const unsigned at = rows.position(k);
                if (head + at - document[static_cast<uint64_t>(s) * t_all + at] != blockIdx.x)
                    continue;
                load(v, dy + rows.row(s, k) * c + i);
#pragma unroll
                for (int j = 0; j < V; j++)
                    sum[j] += v[j];
            }
        store(dp + to + i, sum);
    }
}

/* ---- gradient of the token table ---------------------------------------------------------------------------------- */

/* One pass of the sort: key and row to their places; row NULL: they are the indices. */
__global__ void __launch_bounds__(BIN_THREADS)
    embed_sort_kernel(bins b, const int *start, const int32_t *__restrict__ row, int32_t *key_to, int32_t *row_to)
{
    DYNAMIC_SHARED(int, count);
    int place[BIN_ROUNDS];
    bin_places(b, start, count, place);
#pragma unroll
    for (unsigned j = 0; j < BIN_ROUNDS; j++) {
        const uint64_t i = bin_index(j);
        if (i >= b.n)
            continue;
        key_to[place[j]] = b.key[i];
        row_to[place[j]] = row ? row[i] : static_cast<int32_t>(i);
    }
}

/* n rows sorted: key (n) the tokens, row (n). */
struct sorted_rows {
    const int32_t *key, *row;
    uint64_t n;
};

/* part (blocks, 2, c): [0] of a run that began before, [1] of one that goes on after. Tokens that are not among the words here are left
 * out. */
template <typename T, int V>
__global__ void __launch_bounds__(EMBED_THREADS)
    embed_sum_kernel(float *__restrict__ dw, float *__restrict__ part, const T *__restrict__ dy, sorted_rows s,
                     unsigned c, const ir_run words)
{
    const uint64_t first = static_cast<uint64_t>(blockIdx.x) * CUDA_EMBED_ROWS;
    const uint64_t end = first + CUDA_EMBED_ROWS < s.n ? first + CUDA_EMBED_ROWS : s.n;
    for (unsigned i = threadIdx.x * V; i < c; i += blockDim.x * V) {
        bool began_before = first > 0 && s.key[first - 1] == s.key[first];
        float sum[V] = {}, v[V];
#pragma unroll 4
        for (uint64_t r = first; r < end; r++) {
            const int32_t token = s.key[r], next = r + 1 < s.n ? s.key[r + 1] : -1;
            load(v, dy + static_cast<uint64_t>(s.row[r]) * c + i);
#pragma unroll
            for (int k = 0; k < V; k++)
                sum[k] += v[k];
            if (token == next && r + 1 < end)
                continue;
            const unsigned word = static_cast<unsigned>(token) - words.first;
            float *to = dw + static_cast<uint64_t>(word) * c + i;
            if (began_before || token == next)
                to = part + (static_cast<uint64_t>(blockIdx.x) * 2 + !began_before) * c + i;
            else if (word < words.count)
                add_acc(sum, to, 0);
            else
                to = nullptr;
            if (to)
                store(to, sum);
            began_before = false;
#pragma unroll
            for (int k = 0; k < V; k++)
                sum[k] = 0;
        }
    }
}

/* First index from i on whose key is not `token`. */
__device__ __forceinline__ uint64_t end_of_run(const sorted_rows &s, uint64_t i, int32_t token)
{
    uint64_t low = i, high = s.n;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (s.key[middle] == token)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The block in whose rows a run begins that goes on after them adds its parts. */
template <int V>
__global__ void __launch_bounds__(EMBED_THREADS)
    embed_join_kernel(float *__restrict__ dw, const float *__restrict__ part, sorted_rows s, unsigned c,
                      const ir_run words)
{
    const uint64_t first = static_cast<uint64_t>(blockIdx.x) * CUDA_EMBED_ROWS, end = first + CUDA_EMBED_ROWS;
    if (end >= s.n || s.key[end] != s.key[end - 1])
        return;
    const int32_t token = s.key[end];
    const unsigned word = static_cast<unsigned>(token) - words.first;
    if ((first > 0 && s.key[first - 1] == token) || word >= words.count)
        return;
    const uint64_t last = (end_of_run(s, end, token) - 1) / CUDA_EMBED_ROWS;
    for (unsigned i = threadIdx.x * V; i < c; i += blockDim.x * V) {
        float sum[V], v[V];
        load(sum, part + (static_cast<uint64_t>(blockIdx.x) * 2 + 1) * c + i);
#pragma unroll 4
        for (uint64_t j = blockIdx.x + 1; j <= last; j++) {
            load(v, part + j * 2 * c + i);
#pragma unroll
            for (int k = 0; k < V; k++)
                sum[k] += v[k];
        }
        add_acc(sum, dw, static_cast<uint64_t>(word) * c + i);
        store(dw + static_cast<uint64_t>(word) * c + i, sum);
    }
}

/* work: keys and rows, twice; starts of bins; parts. */
struct embed_work {
    int32_t *key[2], *row[2];
    int *start;
    float *part;
};

embed_work embed_places(const struct op_args *a, uint64_t rows)
{
    unsigned char *at = static_cast<unsigned char *>(a->work);
    const uint64_t each = (rows * sizeof(int32_t) + 63) / 64 * 64;
    const uint64_t counts = CUDA_SORT_BINS * static_cast<uint64_t>(blocks_for(rows, CUDA_BIN_TILE)) + 1;
    embed_work w;
    for (int i = 0; i < 2; i++) {
        w.key[i] = reinterpret_cast<int32_t *>(at + 2 * i * each);
        w.row[i] = reinterpret_cast<int32_t *>(at + (2 * i + 1) * each);
    }
    w.start = reinterpret_cast<int *>(at + 4 * each);
    w.part = reinterpret_cast<float *>(at + 4 * each + (counts * sizeof(int) + 63) / 64 * 64);
    return w;
}

sorted_rows embed_sort(const struct op_args *a, const embed_work &w, uint64_t rows)
{
    const bool split = a->positions && a->positions->split == IR_WORDS;
    const unsigned passes = cuda_sort_passes(split ? a->positions->vocab : a->attrs->vocab);
    sorted_rows s = { static_cast<const int32_t *>(a->in[0]), nullptr, rows };
    for (unsigned pass = 0; pass < passes; pass++) {
        const bins b = bins_of(s.key, rows, 1, CUDA_SORT_BINS, 8 * pass);
        int32_t *const key = w.key[pass % 2], *const row = w.row[pass % 2];
        bin_starts("embed BW sort", b, w.start, a->stream);
        launch("embed BW sort", embed_sort_kernel, dim3(b.tiles), BIN_THREADS, bin_shared(b), a->stream, b, w.start,
               s.row, key, row);
        s.key = key;
        s.row = row;
    }
    return s;
}

template <typename T> void embed_bw(const struct op_args *a)
{
    const uint64_t rows = rows_of(a);
    const unsigned c = a->attrs->features, blocks = blocks_for(rows, CUDA_EMBED_ROWS);
    float *dw = static_cast<float *>(a->dparam[0]);
    const T *dy = static_cast<const T *>(a->dout[0]);
    const embed_work w = embed_places(a, rows);
    if (!(a->dparam_add & 1)) /* most rows of the table have no token */
        cuda__check(cudaMemsetAsync(dw, 0, static_cast<uint64_t>(a->attrs->vocab) * c * sizeof *dw,
                                    static_cast<cudaStream_t>(a->stream)),
                    "embed BW");
    const sorted_rows s = embed_sort(a, w, rows);
    enum { V = vector_of<T> };
    const bool fits = wide<T>(c, dy, dw, w.part);
    const unsigned threads = threads_for(fits ? c / V : c, EMBED_THREADS);
    launch("embed BW", fits ? embed_sum_kernel<T, V> : embed_sum_kernel<T, 1>, blocks, threads, 0, a->stream, dw,
           w.part, dy, s, c, op_words(a));
    launch("embed BW", fits ? embed_join_kernel<V> : embed_join_kernel<1>, blocks, threads, 0, a->stream, dw, w.part, s,
           c, op_words(a));
}

/* ---- the other passes ---------------------------------------------------------------------------------------------- */

template <typename T> void embed_f(const struct op_args *a)
{
    enum { V = vector_of<T> };
    const unsigned c = a->attrs->features;
    const bool fits = wide<T>(c, a->param[0], a->out[0]);
    launch("embed F", fits ? embed_kernel<T, V> : embed_kernel<T, 1>, static_cast<unsigned>(rows_of(a)),
           threads_for(fits ? c / V : c, EMBED_THREADS), 0, a->stream, static_cast<T *>(a->out[0]),
           static_cast<const int32_t *>(a->in[0]), static_cast<const T *>(a->param[0]), c, op_words(a));
}

template <typename T> void pos_embed_f(const struct op_args *a)
{
    enum { V = vector_of<T> };
    const unsigned c = a->attrs->features;
    const bool fits = wide<T>(c, a->param[0], a->in[0], a->out[0]);
    const T *p = static_cast<const T *>(a->param[0]) + static_cast<uint64_t>(a->attrs->first_position) * c;
    launch("pos_embed F", fits ? pos_embed_kernel<T, V> : pos_embed_kernel<T, 1>, static_cast<unsigned>(rows_of(a)),
           threads_for(fits ? c / V : c, EMBED_THREADS), 0, a->stream, static_cast<T *>(a->out[0]),
           static_cast<const T *>(a->in[0]), p, a->document, a->positions ? a->positions->t_all : a->t, c,
           row_map_of(a));
}

template <typename T> void pos_embed_bw(const struct op_args *a)
{
    enum { V = vector_of<T> };
    const unsigned c = a->attrs->features, add = a->dparam_add & 1;
    const bool fits = wide<T>(c, a->dparam[0], a->dout[0]);
    if (a->document) {
        launch("pos_embed BW", fits ? pos_embed_bw_documents_kernel<T, V> : pos_embed_bw_documents_kernel<T, 1>,
               a->attrs->positions, threads_for(fits ? c / V : c, EMBED_THREADS), 0, a->stream,
               static_cast<float *>(a->dparam[0]), static_cast<const T *>(a->dout[0]), a->document,
               a->positions ? a->positions->t_all : a->t, a->b, row_map_of(a), c, a->attrs->first_position, add != 0);
        return;
    }
    launch("pos_embed BW", fits ? pos_embed_bw_kernel<T, V> : pos_embed_bw_kernel<T, 1>,
           add ? a->t : a->attrs->positions, threads_for(fits ? c / V : c, EMBED_THREADS), 0, a->stream,
           static_cast<float *>(a->dparam[0]), static_cast<const T *>(a->dout[0]), a->b, row_map_of(a), c,
           a->attrs->first_position, add != 0);
}
} // namespace

FOR_BOTH_TYPES(embed_f)
FOR_BOTH_TYPES(embed_bw)
FOR_BOTH_TYPES(pos_embed_f)
FOR_BOTH_TYPES(pos_embed_bw)
