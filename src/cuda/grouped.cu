/* Experts without capacity: gated layers of as many rows as the router sent each of them. One launch computes the products of
 * all experts, and reads on the device how many rows each has: no host waits, and a graph can hold it.
 *
 * Why not a library: cuBLAS 13.1's grouped product has one kernel for bfloat16, made for sm_80, which writes bfloat16 (gradients
 * of weights are float32), and it takes sizes from the host; cuDNN 9.19 has no gradient of weights.
 *
 * Rows stand in segments, (ep, local experts), as experts.c says. work: the rows' first of each segment, its tiles of
 * GROUP_TILE rows, then CUDA_EXPERT_ROWS rows of the hidden layer. */
#include "cuda/gate.cuh"
#include "cuda/grouped.cuh"

namespace
{
constexpr unsigned GROUP_MAP_THREADS = CUDA_MAX_EXPERTS, GROUP_HIDDEN_BLOCKS = 1024;
constexpr unsigned GROUP_CHUNK = CUDA_EXPERT_ROWS / GROUP_TILE; /* tiles whose hidden layer is in memory at a time */

struct group_tile {
    unsigned row, n, expert; /* n 0: there is none */
};
static_assert(sizeof(group_tile) == CUDA_GROUP_TILE_BYTES, "the plan makes room for another size");

/* start (segments + 1), map (tiles): in the order of rows. One block. */
__global__ void __launch_bounds__(GROUP_MAP_THREADS)
    grouped_map_kernel(const int32_t *__restrict__ counts, unsigned b, unsigned segments, unsigned local, int *start,
                       group_tile *map, unsigned tiles)
{
    SHARED(uint64_t, room, MAX_WARPS);
    const unsigned segment = threadIdx.x;
    unsigned rows = 0;
    for (unsigned s = 0; s < b && segment < segments; s++)
        rows += static_cast<unsigned>(counts[static_cast<uint64_t>(segment) * b + s]);
    /* one scan for both: tiles in the high half */
    const uint64_t mine = static_cast<uint64_t>((rows + GROUP_TILE - 1) / GROUP_TILE) << 32 | rows;
    const uint64_t upto = warp_upto(mine);
    if (lane_id() == WARP - 1)
        room[threadIdx.x / WARP] = upto;
    __syncthreads();
    uint64_t before = upto - mine, all = 0;
    for (unsigned w = 0; w < GROUP_MAP_THREADS / WARP; w++) {
        before += w < threadIdx.x / WARP ? room[w] : 0;
        all += room[w];
    }
    unsigned row = static_cast<unsigned>(before), at = static_cast<unsigned>(before >> 32);
    if (segment < segments)
        start[segment] = static_cast<int>(row);
    if (segment == 0)
        start[segments] = static_cast<int>(all & 0xffffffffu);
    for (; rows > 0; at++) {
        const unsigned n = rows < GROUP_TILE ? rows : GROUP_TILE;
        map[at] = { row, n, segment % local };
        row += n;
        rows -= n;
    }
    for (unsigned i = static_cast<unsigned>(all >> 32) + threadIdx.x; i < tiles; i += GROUP_MAP_THREADS)
        map[i] = { 0, 0, 0 };
}

/* ---- products whose rows are the tokens' ------------------------------------------------------------------------------ */

enum group_end {
    END_HIDDEN,  /* gate and up -> their layer, and silu(gate) up */
    END_PLAIN,   /* + acc */
    END_GRADIENT /* of the hidden layer -> of gate and up */
};

template <typename T> struct grouped_rows {
    const group_tile *map;
    const T *a[2], *b[2]; /* b: matrices of expert 0 */
    unsigned sums;        /* 2: a[0] b[0] + a[1] b[1] */
    uint64_t expert;      /* elements of a matrix */
    unsigned lda, ldb, n, k, columns;
    T *c, *gate, *up, *dgate, *dup; /* NULL: nobody asks */
    const T *acc, *bias[2];         /* bias: of what a b makes, of expert 0; NULL: none */
    map_how how;                    /* of gate and up */
    bool plain;                     /* silu(gate) up */
    unsigned first; /* tile of block 0; the rows of c (END_HIDDEN), or of a (from_chunk), begin with it */
    bool from_chunk;
};

template <typename T> __device__ __forceinline__ float grouped_gate(const grouped_rows<T> &p, float gate, float up)
{
    const float x[2] = { gate, up };
    float y;
    if (p.plain)
        return swiglu_of(gate, up);
    gated::at(p.how, x, &y);
    return y;
}

template <typename T>
__device__ __forceinline__ void grouped_gate_gradient(const grouped_rows<T> &p, float gate, float up, float dy,
                                                      float &dgate, float &dup)
{
    const float x[3] = { gate, up, dy };
    float y[2];
    if (p.plain) {
        swiglu_gradient_of(gate, up, dy, dgate, dup);
        return;
    }
    gated_grad::at(p.how, x, y);
    dgate = y[0];
    dup = y[1];
}

/* What a tile's place of the output is of: row, row of the chunk, column, expert. */
struct grouped_at {
    unsigned row, in_chunk, column, expert;
};

/* x + the bias of two columns. */
template <typename T>
__device__ __forceinline__ void grouped_bias(float (&to)[2], const float *x, const grouped_rows<T> &p, int which,
                                             const grouped_at &here)
{
    float bias[2] = {};
    if (p.bias[which])
        load_two(bias, p.bias[which] + static_cast<uint64_t>(here.expert) * p.n + here.column);
    to[0] = x[0] + bias[0];
    to[1] = x[1] + bias[1];
}

template <typename T, int END>
__device__ __forceinline__ void grouped_end(const grouped_rows<T> &p, const grouped_at &here, const float *x,
                                            const float *pair)
{
    const uint64_t at = static_cast<uint64_t>(here.row) * p.n + here.column;
    if constexpr (END == END_PLAIN) {
        float more[2] = {}, y[2];
        grouped_bias(y, x, p, 0, here);
        if (p.acc)
            load_two(more, p.acc + at);
        store_two(p.c + at, y[0] + more[0], y[1] + more[1]);
    } else if constexpr (END == END_HIDDEN) {
        float gate[2], up[2]; /* as the backward pass will read them */
        T rounded[4];
        grouped_bias(gate, x, p, 0, here);
        grouped_bias(up, pair, p, 1, here);
        store_two(rounded, gate[0], gate[1]);
        store_two(rounded + 2, up[0], up[1]);
        load_two(gate, rounded);
        load_two(up, rounded + 2);
        if (p.gate)
            store_two(p.gate + at, gate[0], gate[1]);
        if (p.up)
            store_two(p.up + at, up[0], up[1]);
        store_two(p.c + static_cast<uint64_t>(here.in_chunk) * p.n + here.column, grouped_gate(p, gate[0], up[0]),
                  grouped_gate(p, gate[1], up[1]));
    } else {
        float gate[2], up[2], d[2][2];
        load_two(gate, p.gate + at);
        load_two(up, p.up + at);
        for (int e = 0; e < 2; e++)
            grouped_gate_gradient(p, gate[e], up[e], x[e], d[0][e], d[1][e]);
        store_two(p.dgate + at, d[0][0], d[0][1]);
        store_two(p.dup + at, d[1][0], d[1][1]);
    }
}

/* Blocks (tiles * columns): those of a tile are neighbours, they share its rows. */
template <typename T, bool B_K, int END>
__global__ void __launch_bounds__(GROUP_THREADS, 2) grouped_rows_kernel(grouped_rows<T> p)
{
    constexpr bool PAIR = END == END_HIDDEN;
    DYNAMIC_SHARED(char, shared);
    const group_tile tile = p.map[p.first + blockIdx.x / p.columns];
    if (tile.n == 0)
        return;
    const unsigned chunk = p.map[p.first].row, width = PAIR ? GROUP_TILE / 2 : GROUP_TILE;
    const unsigned column = blockIdx.x % p.columns * width;
    group_sums c = {};
    for (unsigned s = 0; s < p.sums; s++) {
        const T *b = p.b[s] + tile.expert * p.expert, *pair = PAIR ? p.b[1] + tile.expert * p.expert : nullptr;
        const uint64_t row = p.from_chunk ? tile.row - chunk : tile.row;
        group_product<T, true, B_K, PAIR>(c, { p.a[s] + row * p.lda, nullptr, p.lda, 0, tile.n },
                                          { b, pair, p.ldb, column, p.n }, p.k, shared);
    }
    const group_place at = group_here();
#pragma unroll
    for (unsigned i = 0; i < 8; i++) {
        const unsigned row = at.row + 8 * i + at.g;
#pragma unroll
        for (unsigned j = 0; j < (PAIR ? 2 : 4); j++) {
            const unsigned to = column + (PAIR ? at.column / 2 : at.column) + 8 * j + 2 * at.t;
            if (row < tile.n && to < p.n)
                grouped_end<T, END>(p, { tile.row + row, tile.row + row - chunk, to, tile.expert },
                                    &c[i / 2][j][i % 2 * 2], &c[i / 2][PAIR ? j + 2 : j][i % 2 * 2]);
        }
    }
}

/* ---- gradients of weights ---------------------------------------------------------------------------------------------- */

template <typename T> struct grouped_weights {
    const int *start;
    unsigned parts, local, columns;
    unsigned first, end; /* rows; b begins with row `first` */
    const T *a[2], *b;   /* (rows, m), (rows, n) */
    float *c[2];         /* (local, m, n) */
    bool add[2];
    unsigned m, n;
};

/* c = a' b over the rows of each expert, of all parts. Blocks (tiles of c, experts, matrices). */
template <typename T> __global__ void __launch_bounds__(GROUP_THREADS, 2) grouped_weights_kernel(grouped_weights<T> p)
{
    DYNAMIC_SHARED(char, shared);
    const unsigned i0 = blockIdx.x / p.columns * GROUP_TILE, j0 = blockIdx.x % p.columns * GROUP_TILE;
    const unsigned expert = blockIdx.y;
    const bool second = blockIdx.z == 1, add = second ? p.add[1] : p.add[0];
    const T *const a = second ? p.a[1] : p.a[0];
    float *const out = (second ? p.c[1] : p.c[0]) + static_cast<uint64_t>(expert) * p.m * p.n;
    group_sums c = {};
    bool any = !add; /* else what is there stays */
    for (unsigned part = 0; part < p.parts; part++) {
        const int *const start = p.start + part * p.local + expert;
        const unsigned first = max(static_cast<unsigned>(start[0]), p.first);
        const unsigned end = min(static_cast<unsigned>(start[1]), p.end);
        if (first >= end)
            continue;
        any = true;
        group_product<T, false, false, false>(
            c, { a + static_cast<uint64_t>(first) * p.m, nullptr, p.m, i0, p.m },
            { p.b + static_cast<uint64_t>(first - p.first) * p.n, nullptr, p.n, j0, p.n }, end - first, shared);
    }
    if (!any)
        return;
    const group_place at = group_here();
#pragma unroll
    for (unsigned i = 0; i < 8; i++)
#pragma unroll
        for (unsigned j = 0; j < 4; j++) {
            const unsigned row = i0 + at.row + 8 * i + at.g, column = j0 + at.column + 8 * j + 2 * at.t;
            if (row >= p.m || column >= p.n)
                continue;
            float *const to = out + static_cast<uint64_t>(row) * p.n + column, more[2] = {};
            if (add)
                load_two(more, to);
            store_two(to, c[i / 2][j][i % 2 * 2] + more[0], c[i / 2][j][i % 2 * 2 + 1] + more[1]);
        }
}

/* The hidden layer of rows [first, end), of those that are there. */
template <typename T>
__global__ void __launch_bounds__(GROUP_THREADS)
    grouped_hidden_kernel(grouped_rows<T> p, const int *__restrict__ rows, unsigned first, unsigned end, unsigned f)
{
    constexpr int V = vector_of<T>;
    const uint64_t n = min(static_cast<unsigned>(*rows), end) * static_cast<uint64_t>(f),
                   from = static_cast<uint64_t>(first) * f;
    for (uint64_t i = from + (static_cast<uint64_t>(blockIdx.x) * GROUP_THREADS + threadIdx.x) * V; i < n;
         i += static_cast<uint64_t>(gridDim.x) * GROUP_THREADS * V) {
        float g[V], u[V];
        load(g, p.gate + i);
        load(u, p.up + i);
#pragma unroll
        for (int v = 0; v < V; v++)
            g[v] = grouped_gate(p, g[v], u[v]);
        store(p.c + (i - from), g);
    }
}

/* ---- host side --------------------------------------------------------------------------------------------------------- */

/* A layer on its rows: sizes, and what lies in its workspace. */
template <typename T> struct layer {
    const struct op_args *a;
    unsigned c, f, local, segments, tiles;
    int *start;
    group_tile *map;
    T *hidden;
};

template <typename T> layer<T> layer_of(const char *name, const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const struct cuda_group_work w = cuda_group_work(at, a->b, a->t, a->ep);
    char *const work = static_cast<char *>(a->work);
    const layer<T> l = { a,
                         at->features,
                         at->ffn,
                         at->experts / a->ep,
                         at->experts,
                         static_cast<unsigned>(w.tiles),
                         reinterpret_cast<int *>(work),
                         reinterpret_cast<group_tile *>(work + w.map),
                         reinterpret_cast<T *>(work + w.hidden) };
    launch(name, grouped_map_kernel, 1, GROUP_MAP_THREADS, 0, a->stream, static_cast<const int32_t *>(a->in[1]), a->b,
           l.segments, l.local, l.start, l.map, l.tiles);
    return l;
}

template <typename T> const T *in(const void *p)
{
    return static_cast<const T *>(p);
}

template <typename T> T *out(void *p)
{
    return static_cast<T *>(p);
}

/* Operands that all products of a layer have. */
template <typename T> grouped_rows<T> operands_of(const layer<T> &l)
{
    grouped_rows<T> p = {};
    p.sums = 1;
    p.how = map_how_of(l.a->attrs, 1);
    p.plain = plain_gate(l.a->attrs);
    return p;
}

/* The bias of parameter `which`, NULL: none. */
template <typename T> const T *bias_of(const layer<T> &l, int which)
{
    return l.a->attrs->flags & IR_BIAS ? in<T>(l.a->param[3 + which]) : nullptr;
}

/* Tiles [first, first + n) of rows. */
template <bool B_K, int END, typename T>
void rows_product(const char *name, const layer<T> &l, grouped_rows<T> p, unsigned n)
{
    p.map = l.map;
    p.expert = static_cast<uint64_t>(l.c) * l.f;
    p.columns = blocks_for(p.n, END == END_HIDDEN ? GROUP_TILE / 2 : GROUP_TILE);
    launch(name, grouped_rows_kernel<T, B_K, END>, n * p.columns, GROUP_THREADS, GROUP_SHARED, l.a->stream, p);
}

template <typename T> void grouped_f(const struct op_args *a)
{
    const layer<T> l = layer_of<T>("experts F", a);
    for (unsigned first = 0; first < l.tiles; first += GROUP_CHUNK) {
        const unsigned n = min(l.tiles - first, GROUP_CHUNK);
        grouped_rows<T> p = operands_of(l);
        p.first = first;
        p.a[0] = in<T>(a->in[0]);
        p.b[0] = in<T>(a->param[0]);
        p.b[1] = in<T>(a->param[1]);
        p.lda = p.ldb = p.k = l.c;
        p.n = l.f;
        p.c = l.hidden;
        p.gate = out<T>(a->save[0]);
        p.up = out<T>(a->save[1]);
        p.bias[0] = bias_of(l, 0);
        p.bias[1] = bias_of(l, 1);
        rows_product<true, END_HIDDEN>("experts F", l, p, n);
        p.from_chunk = true;
        p.bias[0] = bias_of(l, 2);
        p.a[0] = l.hidden;
        p.b[0] = in<T>(a->param[2]);
        p.lda = p.ldb = p.k = l.f;
        p.n = l.c;
        p.c = out<T>(a->out[0]);
        rows_product<true, END_PLAIN>("experts F", l, p, n);
    }
}

template <typename T> void grouped_bi(const struct op_args *a)
{
    const layer<T> l = layer_of<T>("experts BI", a);
    grouped_rows<T> p = operands_of(l);
    p.a[0] = in<T>(a->dout[0]);
    p.b[0] = in<T>(a->param[2]);
    p.lda = p.k = l.c;
    p.ldb = p.n = l.f;
    p.gate = out<T>(a->save[0]);
    p.up = out<T>(a->save[1]);
    p.dgate = out<T>(a->stash[0]);
    p.dup = out<T>(a->stash[1]);
    rows_product<false, END_GRADIENT>("experts BI", l, p, l.tiles);
    p.sums = 2;
    for (int i = 0; i < 2; i++) {
        p.a[i] = in<T>(a->stash[i]);
        p.b[i] = in<T>(a->param[i]);
    }
    p.lda = p.k = l.f;
    p.ldb = p.n = l.c;
    p.c = out<T>(a->din[0]);
    p.acc = in<T>(a->acc[0]);
    rows_product<false, END_PLAIN>("experts BI", l, p, l.tiles);
}

template <typename T> void weights_product(const layer<T> &l, grouped_weights<T> p, unsigned matrices)
{
    p.start = l.start;
    p.parts = l.a->ep;
    p.local = l.local;
    p.columns = blocks_for(p.n, GROUP_TILE);
    launch("experts BW", grouped_weights_kernel<T>, dim3(blocks_for(p.m, GROUP_TILE) * p.columns, l.local, matrices),
           GROUP_THREADS, GROUP_SHARED, l.a->stream, p);
}

/* Of the third weight: the hidden layer is computed again, so many rows at a time. */
template <typename T> void grouped_bw_down(const layer<T> &l, const struct op_args *a, grouped_weights<T> p)
{
    const uint64_t rows = rows_of(a) * a->ep * a->attrs->top_k;
    p.a[0] = in<T>(a->dout[0]);
    p.b = l.hidden;
    p.c[0] = out<float>(a->dparam[2]);
    p.add[0] = a->dparam_add >> 2 & 1;
    p.m = l.c;
    p.n = l.f;
    grouped_rows<T> hidden = operands_of(l);
    hidden.c = l.hidden;
    hidden.gate = out<T>(a->save[0]);
    hidden.up = out<T>(a->save[1]);
    for (uint64_t first = 0; first < rows; first += CUDA_EXPERT_ROWS) {
        p.first = static_cast<unsigned>(first);
        p.end = static_cast<unsigned>(first + CUDA_EXPERT_ROWS < rows ? first + CUDA_EXPERT_ROWS : rows);
        const unsigned blocks = blocks_for(static_cast<uint64_t>(p.end - p.first) * l.f, GROUP_THREADS * vector_of<T>);
        launch("experts BW", grouped_hidden_kernel<T>, min(blocks, GROUP_HIDDEN_BLOCKS), GROUP_THREADS, 0, a->stream,
               hidden, l.start + l.segments, p.first, p.end, l.f);
        weights_product(l, p, 1);
        p.add[0] = true;
    }
}

template <typename T> void grouped_bw(const struct op_args *a)
{
    const layer<T> l = layer_of<T>("experts BW", a);
    grouped_weights<T> p = {};
    unsigned matrices = 0;
    for (int i = 0; i < 2; i++)
        if (a->dparam[i]) {
            p.a[matrices] = in<T>(a->stash[i]);
            p.c[matrices] = out<float>(a->dparam[i]);
            p.add[matrices++] = a->dparam_add >> i & 1;
        }
    p.b = in<T>(a->in[0]);
    p.end = static_cast<unsigned>(rows_of(a) * a->ep * a->attrs->top_k);
    p.m = l.f;
    p.n = l.c;
    if (matrices)
        weights_product(l, p, matrices);
    if (a->dparam[2])
        grouped_bw_down(l, a, grouped_weights<T>{});
    if (a->attrs->flags & IR_BIAS)
        cuda_expert_bias_sums(a);
}
} // namespace

FOR_BOTH_TYPES(grouped_f)
FOR_BOTH_TYPES(grouped_bi)
FOR_BOTH_TYPES(grouped_bw)
