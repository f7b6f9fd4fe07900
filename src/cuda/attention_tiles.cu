/* Attention in bfloat16 on tensor cores, without a matrix of T x T in memory (Dao et al. 2022), for all of ir/op.h's attributes and
 * src/exec/compute.h's positions and documents. Every sum has the order of its tiles.
 *
 * Tiles: a block has a tile of rows x, of which a warp has 16, and takes the rows y that they see through shared memory, STEP at
 * a time. What a product leaves in registers is, rounded to bfloat16, what the next one reads from there.
 * F: x is q, y are k and v: S = q k', an online softmax, o += P v.
 * BI, two launches, each with its gradients in registers: x are k and v, y are q and dO of all heads that read them: S' = k q',
 * dP' = v dO', dk += dS' q, dv += P' dO; then x are q and dO, y are k and v: S, dP, dq += dS k. P comes from the kept log-sum-exp.
 * So no sum crosses a block, and no workspace but the sums of dO O is needed. That is 7 products instead of the 5 of one launch that
 * adds dq in memory: 1.4 times the arithmetic; in return no float32 copy of dq (heads x T x head_dim), no semaphores that put blocks
 * in an order and let them wait for each other. Heads of more than 128 elements: dk and dv in parts of 128 columns, 9 products.
 *
 * Ring: o, dq, dk and dv so far are float32, in save[1] and stash; a phase goes on from them and from the log-sum-exp.
 *
 * work: BI, the sum of dO O, (b, heads, T) float32. */
#include "cuda/attention.cuh"
#include "cuda/tensor.cuh"

namespace
{
/* Rows of an operand: that of head h of token i of sequence s at at + s*step_s + i*step_i + h*size. */
template <typename T> struct tile_rows {
    T *at;
    uint64_t step_s, step_i;
    unsigned size;
    __device__ __forceinline__ T *row(unsigned s, unsigned i, unsigned h) const
    {
        return at + s * step_s + static_cast<uint64_t>(i) * step_i + h * size;
    }
};

struct tile_args {
    tile_rows<const bf16> q, k, v, dout, acc[3];
    tile_rows<bf16> dx[3]; /* acc, dx: of q, k, v */
    tile_rows<bf16> o;
    tile_rows<float> o_far, far[3]; /* ring: o, and gradients so far; NULL: no ring */
    bool later, last;               /* not the first phase; the last of F */
    float *lse;                     /* (b, heads, t); F: NULL: not kept */
    const float *delta;
    const bf16 *sinks; /* (heads); NULL: none */
    attention_place place;
    unsigned t, keys, heads, group;
    float scale, cap; /* cap 0: none */
};

/* D: elements of a head that there is room for; ROWS of x, STEP of y; COLUMNS of dK and dV at a time. */
template <unsigned D> struct tile_shape {
    static constexpr unsigned ROWS = D > 128 ? 64 : 128, THREADS = 2 * ROWS, STEP = D > 64 ? 32 : 64;
    static constexpr unsigned COLUMNS = D > 128 ? 128 : D, X = ROWS * D * 2, Y = STEP * D * 2;
    static constexpr unsigned SHARED_BYTES = 2 * X + 2 * 2 * Y + 2 * 2 * STEP * sizeof(float);
};
constexpr float LOG2E = 1.4426950408889634f;

/* Byte of a piece of 8 elements in a tile: neighbours along the rows lie in eight different banks. */
template <unsigned D> __device__ __forceinline__ unsigned tile_byte(unsigned row, unsigned piece)
{
    return row * (2 * D) + (piece ^ (row % 8)) * 16;
}

/* Rows [first, first + N) of head h; zeros behind `n` rows and behind the head's size. */
template <unsigned D, unsigned N, unsigned THREADS, typename T>
__device__ __forceinline__ void tile_copy(char *tile, const tile_rows<T> &x, unsigned s, unsigned h, unsigned first,
                                          unsigned n)
{
#pragma unroll
    for (unsigned c = 0; c < N * (D / 8) / THREADS; c++) {
        const unsigned id = c * THREADS + threadIdx.x, row = id / (D / 8), piece = id % (D / 8);
        copy_async(tile + tile_byte<D>(row, piece), x.row(s, first + row, h) + 8 * piece,
                   first + row < n && 8 * piece < x.size);
    }
}

/* c += x y' over `size` elements of a head: a warp's 16 rows of x from `row` on, all rows of y. */
template <unsigned D, unsigned STEP>
__device__ __forceinline__ void tile_scores(float (&c)[STEP / 8][4], const char *x, const char *y, unsigned row,
                                            unsigned size)
{
    const unsigned r = lane_id() % 8, low = lane_id() / 8 % 2, high = lane_id() / 16;
#pragma unroll
    for (unsigned e = 0; e < D; e += 16) {
        if (e >= size)
            break;
        unsigned a[4], b[4];
        load_matrices<false>(a, x + tile_byte<D>(row + 8 * low + r, e / 8 + high));
#pragma unroll
        for (unsigned j = 0; j < STEP / 16; j++) {
            load_matrices<false>(b, y + tile_byte<D>(16 * j + 8 * high + r, e / 8 + low));
            multiply_add(c[2 * j], a, b[0], b[1]);
            multiply_add(c[2 * j + 1], a, b[2], b[3]);
        }
    }
}

/* c += w y, columns from `first` of the head's `size`; w: a warp's 16 rows, as tile_pack() leaves them. */
template <unsigned D, unsigned STEP, unsigned COLUMNS>
__device__ __forceinline__ void tile_times(float (&c)[COLUMNS / 8][4], const unsigned (&w)[STEP / 16][4], const char *y,
                                           unsigned first, unsigned size)
{
    const unsigned r = lane_id() % 8, low = lane_id() / 8 % 2, high = lane_id() / 16;
#pragma unroll
    for (unsigned i = 0; i < COLUMNS / 16; i++) {
        if (first + 16 * i >= size)
            break;
#pragma unroll
        for (unsigned j = 0; j < STEP / 16; j++) {
            unsigned b[4];
            load_matrices<true>(b, y + tile_byte<D>(16 * j + 8 * low + r, first / 8 + 2 * i + high));
            multiply_add(c[2 * i], w[j], b[0], b[1]);
            multiply_add(c[2 * i + 1], w[j], b[2], b[3]);
        }
    }
}

template <unsigned STEP>
__device__ __forceinline__ void tile_pack(unsigned (&w)[STEP / 16][4], const float (&c)[STEP / 8][4])
{
#pragma unroll
    for (unsigned j = 0; j < STEP / 8; j++) {
        w[j / 2][j % 2 * 2] = two_bf16(c[j][0], c[j][1]);
        w[j / 2][j % 2 * 2 + 1] = two_bf16(c[j][2], c[j][3]);
    }
}

/* Where the stream of y is: tile from y of head h. */
struct tile_place {
    unsigned h, y;
};

/* What a block knows of its tile of x. */
struct tile_block {
    unsigned s, h, chunk;   /* of x */
    unsigned first, n, n_y; /* rows from `first`, of n; y has n_y rows a head */
    unsigned h0, h_end;     /* heads of y */
};

/* The first and last position of rows [first, first + N) of n. */
template <bool QUERIES, unsigned N>
__device__ __forceinline__ void tile_ends(const tile_args &p, unsigned first, unsigned n, unsigned &low, unsigned &high)
{
    const unsigned last = min(first + N, n) - 1;
    low = QUERIES ? p.place.position(first) : p.place.key_position(first);
    high = QUERIES ? p.place.position(last) : p.place.key_position(last);
}

/* Does some of N rows of x and some of STEP of y see each other; do all? */
template <unsigned N, unsigned STEP, bool KEYS>
__device__ __forceinline__ bool tile_meets(const tile_args &p, const tile_block &b, unsigned x, unsigned y, bool &all)
{
    unsigned q[2], k[2];
    tile_ends<!KEYS, N>(p, x, b.n, KEYS ? k[0] : q[0], KEYS ? k[1] : q[1]);
    tile_ends<KEYS, STEP>(p, y, b.n_y, KEYS ? q[0] : k[0], KEYS ? q[1] : k[1]);
    all = k[1] <= q[0] && q[1] < k[0] + p.place.window && p.place.document_of(b.s, q[1]) <= k[0] && y + STEP <= b.n_y;
    return k[0] <= q[1] && q[0] < k[1] + p.place.window && p.place.document_of(b.s, q[0]) <= k[1];
}

/* From `at` on, the next place where something is seen; h == h_end where there is none. */
template <unsigned D, bool KEYS>
__device__ __forceinline__ tile_place tile_next(const tile_args &p, const tile_block &b, tile_place at)
{
    typedef tile_shape<D> shape;
    bool all;
    /* whole sequences: no query before a key sees it */
    const unsigned start = KEYS && p.place.run0 == p.t && p.place.first0 == 0 ? b.first / shape::STEP * shape::STEP : 0;
    while (at.h < b.h_end) {
        at.y = max(at.y, start);
        for (; at.y < b.n_y; at.y += shape::STEP)
            if (tile_meets<shape::ROWS, shape::STEP, KEYS>(p, b, b.first, at.y, all))
                return at;
        at.y = 0;
        at.h++;
    }
    return at;
}

/* Columns from `first` of a warp's 16 rows, of which the lane has x and x + 8. */
template <unsigned COLUMNS, typename T, typename A>
__device__ __forceinline__ void tile_store(const tile_rows<T> &to, const tile_rows<A> &acc, const tile_block &b,
                                           const float (&c)[COLUMNS / 8][4], unsigned x, unsigned first)
{
#pragma unroll
    for (unsigned j = 0; j < COLUMNS / 8; j++)
#pragma unroll
        for (unsigned i = 0; i < 2; i++) {
            const unsigned column = first + 8 * j + lane_id() % 4 * 2, row = x + 8 * i;
            if (row >= b.n || column >= to.size)
                continue;
            float more[2] = {};
            if (acc.at)
                load_two(more, acc.row(b.s, row, b.h) + column);
            store_two(to.row(b.s, row, b.h) + column, c[j][2 * i] + more[0], c[j][2 * i + 1] + more[1]);
        }
}

/* A gradient: of q, k or v (which). */
template <unsigned COLUMNS>
__device__ __forceinline__ void tile_give(const tile_args &p, unsigned which, const tile_block &b,
                                          const float (&c)[COLUMNS / 8][4], unsigned x, unsigned first)
{
    if (!p.far[which].at)
        tile_store<COLUMNS>(p.dx[which], p.acc[which], b, c, x, first);
    else if (p.later)
        tile_store<COLUMNS>(p.far[which], p.far[which], b, c, x, first);
    else
        tile_store<COLUMNS>(p.far[which], tile_rows<const float>{}, b, c, x, first);
}

/* ---- forward ---------------------------------------------------------------------------------------------------------- */

/* Of the lane's two rows: maximum and sum of the softmax so far, the sum of the lane's own columns; scores in units of ln 2. */
struct tile_running {
    float max[2], sum[2];
};

/* A new maximum for row i: what was summed is brought down to it. Returns what is to be subtracted from scores. */
template <unsigned D>
__device__ __forceinline__ float tile_raise(tile_running &r, float (&o)[D / 8][4], unsigned i, float most)
{
    const float base = most > -INFINITY ? most : 0, down = exp2f(r.max[i] - base);
    r.max[i] = most;
    r.sum[i] *= down;
#pragma unroll
    for (unsigned j = 0; j < D / 8; j++)
        o[j][2 * i] *= down, o[j][2 * i + 1] *= down;
    return base;
}

__device__ __forceinline__ float tile_row_max(float v)
{
    v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 1));
    return fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 2));
}

__device__ __forceinline__ float tile_row_sum(float v)
{
    v += __shfl_xor_sync(ALL_LANES, v, 1);
    return v + __shfl_xor_sync(ALL_LANES, v, 2);
}

/* Turns S into exponentials, and brings o and the sums to their maximum. */
template <unsigned D, unsigned STEP>
__device__ __forceinline__ void tile_online(const tile_args &p, const tile_block &b, float (&s)[STEP / 8][4],
                                            float (&o)[D / 8][4], tile_running &r, unsigned x, unsigned y, bool all)
{
#pragma unroll
    for (unsigned i = 0; i < 2; i++) {
        const unsigned position = p.place.position(min(x + 8 * i, b.n - 1)),
                       document = p.place.document_of(b.s, position);
        float most = r.max[i];
#pragma unroll
        for (unsigned j = 0; j < 2 * (STEP / 8); j++) {
            float &v = s[j / 2][2 * i + j % 2];
            const unsigned key = y + j / 2 * 8 + lane_id() % 4 * 2 + j % 2;
            v = p.cap > 0 ? p.cap * tanhf(v * p.scale / p.cap) * LOG2E : v * (p.scale * LOG2E);
            if (!all && (key >= b.n_y || !p.place.sees(position, p.place.key_position(key), document)))
                v = -INFINITY;
            most = fmaxf(most, v);
        }
        const float base = tile_raise<D>(r, o, i, tile_row_max(most));
#pragma unroll
        for (unsigned j = 0; j < 2 * (STEP / 8); j++) {
            float &v = s[j / 2][2 * i + j % 2];
            v = exp2f(v - base);
            r.sum[i] += v;
        }
    }
}

/* Goes on from o so far, whose sum is 1. */
template <unsigned D>
__device__ __forceinline__ void tile_resume(const tile_args &p, const tile_block &b, float (&o)[D / 8][4],
                                            tile_running &r, unsigned x)
{
#pragma unroll
    for (unsigned i = 0; i < 2; i++) {
        const unsigned row = x + 8 * i;
        if (row >= b.n)
            continue;
        r.max[i] = p.lse[(static_cast<uint64_t>(b.s) * p.heads + b.h) * p.t + row] * LOG2E;
        r.sum[i] = lane_id() % 4 == 0 ? 1 : 0;
#pragma unroll
        for (unsigned j = 0; j < D / 8; j++) {
            const unsigned column = 8 * j + lane_id() % 4 * 2;
            float before[2] = {};
            if (column < p.o_far.size)
                load_two(before, p.o_far.row(b.s, row, b.h) + column);
            o[j][2 * i] = before[0], o[j][2 * i + 1] = before[1];
        }
    }
}

/* Divides by the sum, a sink's share in it. */
template <unsigned D>
__device__ __forceinline__ void tile_finish(const tile_args &p, const tile_block &b, float (&o)[D / 8][4],
                                            tile_running &r, unsigned x)
{
#pragma unroll
    for (unsigned i = 0; i < 2; i++) {
        r.sum[i] = tile_row_sum(r.sum[i]);
        if (p.sinks && !p.later) {
            const float sink = __bfloat162float(p.sinks[b.h]) * LOG2E;
            r.sum[i] += exp2f(sink - tile_raise<D>(r, o, i, fmaxf(r.max[i], sink)));
        }
        const float share = 1 / r.sum[i];
#pragma unroll
        for (unsigned j = 0; j < D / 8; j++)
            o[j][2 * i] *= share, o[j][2 * i + 1] *= share;
        if (p.lse && lane_id() % 4 == 0 && x + 8 * i < b.n)
            p.lse[(static_cast<uint64_t>(b.s) * p.heads + b.h) * p.t + x + 8 * i] = r.max[i] / LOG2E + logf(r.sum[i]);
    }
}

/* Blocks (tiles of queries, heads, sequences); the longest first. */
template <unsigned D>
__global__ void __launch_bounds__(tile_shape<D>::THREADS, 1) attention_tiles_f_kernel(const tile_args p)
{
    typedef tile_shape<D> shape;
    constexpr unsigned STEP = shape::STEP;
    DYNAMIC_SHARED(char, shared);
    char *const ys = shared + shape::X;
    tile_block b = {};
    b.s = blockIdx.z;
    b.h = blockIdx.y;
    b.first = (gridDim.x - 1 - blockIdx.x) * shape::ROWS;
    b.n = p.t;
    b.n_y = p.keys;
    b.h0 = b.h / p.group;
    b.h_end = b.h0 + 1;
    const unsigned row = threadIdx.x / WARP * 16, x = b.first + row + lane_id() / 4;
    tile_running r = { { -INFINITY, -INFINITY }, { 0, 0 } };
    float o[D / 8][4] = {};
    tile_copy<D, shape::ROWS, shape::THREADS>(shared, p.q, b.s, b.h, b.first, b.n);
    const auto copy = [&](unsigned turn, tile_place at) {
        char *const y = ys + turn * (2 * shape::Y);
        tile_copy<D, STEP, shape::THREADS>(y, p.k, b.s, at.h, at.y, b.n_y);
        tile_copy<D, STEP, shape::THREADS>(y + shape::Y, p.v, b.s, at.h, at.y, b.n_y);
        copy_commit();
    };
    tile_place at = tile_next<D, false>(p, b, { b.h0, 0 });
    if (p.later)
        tile_resume<D>(p, b, o, r, x);
    if (at.h < b.h_end) { /* a query sees itself, but for a ring's other parts */
        copy(0, at);
    } else {
        copy_commit();
        copy_wait<0>();
    }
    for (unsigned turn = 0; at.h < b.h_end; turn ^= 1) {
        const tile_place next = tile_next<D, false>(p, b, { at.h, at.y + STEP });
        copy_wait<0>();
        __syncthreads();
        if (next.h < b.h_end)
            copy(turn ^ 1, next);
        bool all;
        if (b.first + row < b.n && tile_meets<16, STEP, false>(p, b, b.first + row, at.y, all)) {
            const char *const y0 = ys + turn * (2 * shape::Y), *const y1 = y0 + shape::Y;
            float s[STEP / 8][4] = {};
            unsigned w[STEP / 16][4];
            tile_scores<D, STEP>(s, shared, y0, row, p.q.size);
            tile_online<D, STEP>(p, b, s, o, r, x, at.y, all);
            tile_pack<STEP>(w, s);
            tile_times<D, STEP, D>(o, w, y1, 0, p.v.size);
        }
        at = next;
    }
    if (b.first + row < b.n) {
        tile_finish<D>(p, b, o, r, x);
        if (p.o_far.at)
            tile_store<D>(p.o_far, tile_rows<const float>{}, b, o, x, 0);
        if (!p.o_far.at || p.last)
            tile_store<D>(p.o, tile_rows<const bf16>{}, b, o, x, 0);
    }
}

/* ---- backward --------------------------------------------------------------------------------------------------------- */

/* Turns S and dP into P and dS. stat: of y's queries, log-sum-exp then delta; of x's: in lse, delta. */
template <unsigned STEP, bool KEYS>
__device__ __forceinline__ void tile_softmax(const tile_args &p, const tile_block &b, float (&s)[STEP / 8][4],
                                             float (&dp)[STEP / 8][4], unsigned x, unsigned y, const float *stat,
                                             const float (&lse)[2], const float (&delta)[2], bool all)
{
    const float scale2 = p.scale * LOG2E;
    unsigned position[2], document[2]; /* of x's queries */
#pragma unroll
    for (unsigned i = 0; i < 2 && !KEYS; i++) {
        position[i] = p.place.position(min(x + 8 * i, b.n - 1));
        document[i] = p.place.document_of(b.s, position[i]);
    }
#pragma unroll
    for (unsigned j = 0; j < STEP / 8; j++)
#pragma unroll
        for (unsigned e = 0; e < 4; e++) {
            const unsigned column = 8 * j + lane_id() % 4 * 2 + e % 2;
            const float l = KEYS ? stat[column] : lse[e / 2], sum = KEYS ? stat[STEP + column] : delta[e / 2];
            float slope = p.scale, w;
            if (p.cap > 0) {
                const float th = tanhf(s[j][e] * p.scale / p.cap);
                slope *= 1 - th * th;
                w = exp2f(p.cap * th * LOG2E - l);
            } else {
                w = exp2f(s[j][e] * scale2 - l);
            }
            if (!all) {
                bool seen = y + column < b.n_y;
                if (KEYS) {
                    const unsigned at = p.place.position(min(y + column, b.n_y - 1));
                    seen = seen &&
                           p.place.sees(at, p.place.key_position(x + 8 * (e / 2)), p.place.document_of(b.s, at));
                } else {
                    seen = seen && p.place.sees(position[e / 2], p.place.key_position(y + column), document[e / 2]);
                }
                w = seen ? w : 0;
            }
            s[j][e] = w;
            dp[j][e] = w == 0 ? 0 : w * (dp[j][e] - sum) * slope;
        }
}

/* Blocks (tiles of x, heads of x times parts of their columns, sequences); the longest first. */
template <unsigned D, bool KEYS> __device__ __forceinline__ tile_block tile_block_here(const tile_args &p)
{
    typedef tile_shape<D> shape;
    constexpr unsigned COLUMNS = KEYS ? shape::COLUMNS : D, PARTS = D / COLUMNS;
    tile_block b;
    b.s = blockIdx.z;
    b.h = blockIdx.y / PARTS;
    b.chunk = blockIdx.y % PARTS * COLUMNS;
    b.first = (KEYS ? blockIdx.x : gridDim.x - 1 - blockIdx.x) * shape::ROWS;
    b.n = KEYS ? p.keys : p.t;
    b.n_y = KEYS ? p.t : p.keys;
    b.h0 = KEYS ? b.h * p.group : b.h / p.group;
    b.h_end = KEYS ? b.h0 + p.group : b.h0 + 1;
    return b;
}

/* Of queries x and x + 8. */
__device__ __forceinline__ void tile_statistics(const tile_args &p, const tile_block &b, unsigned x, float lse[2],
                                                float delta[2])
{
#pragma unroll
    for (unsigned i = 0; i < 2; i++)
        if (x + 8 * i < b.n) {
            const uint64_t at = (static_cast<uint64_t>(b.s) * p.heads + b.h) * p.t + x + 8 * i;
            lse[i] = p.lse[at] * LOG2E;
            delta[i] = p.delta[at];
        }
}

template <unsigned D, bool KEYS>
__global__ void __launch_bounds__(tile_shape<D>::THREADS, 1) attention_tiles_kernel(const tile_args p)
{
    typedef tile_shape<D> shape;
    constexpr unsigned STEP = shape::STEP, COLUMNS = KEYS ? shape::COLUMNS : D;
    DYNAMIC_SHARED(char, shared);
    char *const x0 = shared, *const x1 = x0 + shape::X, *const ys = x1 + shape::X;
    float *const stats = reinterpret_cast<float *>(ys + 4 * shape::Y);
    const tile_block b = tile_block_here<D, KEYS>(p);
    const tile_rows<const bf16> &from_x0 = KEYS ? p.k : p.q, &from_x1 = KEYS ? p.v : p.dout;
    const tile_rows<const bf16> &from_y0 = KEYS ? p.q : p.k, &from_y1 = KEYS ? p.dout : p.v;
    const unsigned row = threadIdx.x / WARP * 16, x = b.first + row + lane_id() / 4;
    float lse[2] = {}, delta[2] = {}, c0[COLUMNS / 8][4] = {}, c1[KEYS ? COLUMNS / 8 : 1][4] = {};
    if constexpr (!KEYS)
        tile_statistics(p, b, x, lse, delta);
    tile_copy<D, shape::ROWS, shape::THREADS>(x0, from_x0, b.s, b.h, b.first, b.n);
    tile_copy<D, shape::ROWS, shape::THREADS>(x1, from_x1, b.s, b.h, b.first, b.n);
    copy_commit();
    const auto copy = [&](unsigned turn, tile_place at) {
        char *const y = ys + turn * (2 * shape::Y);
        float *const stat = stats + turn * (2 * STEP);
        tile_copy<D, STEP, shape::THREADS>(y, from_y0, b.s, at.h, at.y, b.n_y);
        tile_copy<D, STEP, shape::THREADS>(y + shape::Y, from_y1, b.s, at.h, at.y, b.n_y);
        copy_commit();
        if (KEYS && threadIdx.x < STEP) {
            const unsigned i = at.y + threadIdx.x;
            const uint64_t from = (static_cast<uint64_t>(b.s) * p.heads + at.h) * p.t + i;
            stat[threadIdx.x] = i < p.t ? p.lse[from] * LOG2E : INFINITY;
            stat[STEP + threadIdx.x] = i < p.t ? p.delta[from] : 0;
        }
    };
    tile_place at = tile_next<D, KEYS>(p, b, { b.h0, 0 });
    if (at.h < b.h_end)
        copy(0, at);
    for (unsigned turn = 0; at.h < b.h_end; turn ^= 1) {
        const tile_place next = tile_next<D, KEYS>(p, b, { at.h, at.y + STEP });
        copy_wait<0>();
        __syncthreads(); /* this place is here for all, and all have done the one before, whose room is filled next */
        if (next.h < b.h_end)
            copy(turn ^ 1, next);
        bool all;
        if (b.first + row < b.n && tile_meets<16, STEP, KEYS>(p, b, b.first + row, at.y, all)) {
            const char *const y0 = ys + turn * (2 * shape::Y), *const y1 = y0 + shape::Y;
            float s[STEP / 8][4] = {}, dp[STEP / 8][4] = {};
            unsigned w[STEP / 16][4];
            tile_scores<D, STEP>(s, x0, y0, row, from_x0.size);
            tile_scores<D, STEP>(dp, x1, y1, row, from_x1.size);
            tile_softmax<STEP, KEYS>(p, b, s, dp, x, at.y, stats + turn * (2 * STEP), lse, delta, all);
            if constexpr (KEYS) {
                tile_pack<STEP>(w, s);
                tile_times<D, STEP, COLUMNS>(c1, w, y1, b.chunk, p.v.size);
            }
            tile_pack<STEP>(w, dp);
            tile_times<D, STEP, COLUMNS>(c0, w, y0, b.chunk, p.q.size);
        }
        at = next;
    }
    copy_wait<0>(); /* of x, where nothing was seen */
    tile_give<COLUMNS>(p, KEYS ? 1 : 0, b, c0, x, b.chunk);
    if constexpr (KEYS)
        tile_give<COLUMNS>(p, 2, b, c1, x, b.chunk);
}

/* delta (b, heads, t): sum of dO O; 8 lanes a row. */
constexpr unsigned DELTA_THREADS = 256;
__global__ void __launch_bounds__(DELTA_THREADS)
    attention_delta_kernel(const tile_rows<bf16> o, const tile_rows<const bf16> dout, float *delta, unsigned b,
                           unsigned t, unsigned heads)
{
    const uint64_t r = (static_cast<uint64_t>(blockIdx.x) * DELTA_THREADS + threadIdx.x) / 8;
    const bool inside = r < static_cast<uint64_t>(b) * t * heads;
    const unsigned h = static_cast<unsigned>(r % heads), s = static_cast<unsigned>(r / heads / t);
    const unsigned i = static_cast<unsigned>(r / heads % t);
    float sum = 0;
    for (unsigned e = threadIdx.x % 8 * 8; inside && e < o.size; e += 64) {
        float u[8], v[8];
        load(u, o.row(s, i, h) + e);
        load(v, dout.row(s, i, h) + e);
#pragma unroll
        for (unsigned k = 0; k < 8; k++)
            sum += u[k] * v[k];
    }
    for (unsigned lanes = 4; lanes; lanes /= 2)
        sum += __shfl_xor_sync(ALL_LANES, sum, lanes);
    if (inside && threadIdx.x % 8 == 0)
        delta[(static_cast<uint64_t>(s) * heads + h) * t + i] = sum;
}

/* ---- host side ---------------------------------------------------------------------------------------------------- */

template <typename T>
tile_rows<T> tile_operand(const struct op_args *a, void *at, uint64_t offset, uint64_t width, unsigned size, bool keys)
{
    const struct op_positions *p = a->positions;
    const uint64_t step_s = !p ? a->t : keys ? p->key_s : p->row_s, step_i = !p ? 1 : keys ? p->key_i : p->row_i;
    return { at ? static_cast<T *>(at) + offset : nullptr, step_s * width, step_i * width, size };
}

/* q, k, v in x: one packed operand, or three. */
template <typename T> void tile_split(const struct op_args *a, void *const x[3], tile_rows<T> *const to[3])
{
    const struct ir_attrs *at = a->attrs;
    const unsigned size[3] = { at->head_dim, at->head_dim, ir_op_v_dim(at) };
    const uint64_t width[3] = { static_cast<uint64_t>(at->heads) * size[0],
                                static_cast<uint64_t>(at->kv_heads) * size[1],
                                static_cast<uint64_t>(at->kv_heads) * size[2] };
    const uint64_t first[3] = { 0, width[0], width[0] + width[1] };
    const bool packed = (at->flags & IR_PACKED) != 0;
    for (int i = 0; i < 3; i++)
        *to[i] = tile_operand<T>(a, packed ? x[0] : x[i], packed ? first[i] : 0,
                                 packed ? width[0] + width[1] + width[2] : width[i], size[i], i > 0);
}

/* Ring: what there is so far. */
void tile_far(const struct op_args *a, tile_args *p)
{
    const struct ir_attrs *at = a->attrs;
    const unsigned d = at->head_dim, dv = ir_op_v_dim(at);
    const uint64_t k = static_cast<uint64_t>(at->kv_heads) * d, v = static_cast<uint64_t>(at->kv_heads) * dv;
    p->o_far = tile_operand<float>(a, a->save[1], 0, static_cast<uint64_t>(at->heads) * dv, dv, false);
    p->far[0] = tile_operand<float>(a, a->stash[0], 0, static_cast<uint64_t>(at->heads) * d, d, false);
    p->far[1] = tile_operand<float>(a, a->stash[1], 0, k + v, d, true);
    p->far[2] = tile_operand<float>(a, a->stash[1], k, k + v, dv, true);
    p->later = a->phase > 0;
    p->last = attention_last_phase(a, false);
}

tile_args tile_args_of(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const unsigned dv = ir_op_v_dim(at);
    tile_args p = {};
    tile_rows<const bf16> *const x[3] = { &p.q, &p.k, &p.v }, *const acc[3] = { &p.acc[0], &p.acc[1], &p.acc[2] };
    tile_rows<bf16> *const dx[3] = { &p.dx[0], &p.dx[1], &p.dx[2] };
    tile_split(a, a->in, x);
    tile_split(a, a->acc, acc);
    tile_split(a, a->din, dx);
    p.dout = tile_operand<const bf16>(a, a->dout[0], 0, static_cast<uint64_t>(at->heads) * dv, dv, false);
    p.o = tile_operand<bf16>(a, a->out[0], 0, static_cast<uint64_t>(at->heads) * dv, dv, false);
    p.sinks = at->flags & IR_SINKS ? static_cast<const bf16 *>(a->param[0]) : nullptr;
    p.lse = static_cast<float *>(a->save[0]);
    p.delta = static_cast<const float *>(a->work);
    p.place = attention_place_of(a);
    p.t = a->t;
    p.keys = p.place.keys;
    if (attention_ring(a))
        tile_far(a, &p);
    p.heads = at->heads;
    p.group = at->heads / at->kv_heads;
    p.scale = at->scale;
    p.cap = at->score_cap;
    return p;
}

template <unsigned D> void tile_launch_bi(const struct op_args *a, const tile_args &p)
{
    typedef tile_shape<D> shape;
    launch("attention BI", attention_tiles_kernel<D, true>,
           dim3(blocks_for(p.keys, shape::ROWS), a->attrs->kv_heads * (D / shape::COLUMNS), a->b), shape::THREADS,
           shape::SHARED_BYTES, a->stream, p);
    launch("attention BI", attention_tiles_kernel<D, false>, dim3(blocks_for(p.t, shape::ROWS), p.heads, a->b),
           shape::THREADS, shape::SHARED_BYTES, a->stream, p);
}

template <unsigned D> void tile_launch_f(const struct op_args *a, const tile_args &p)
{
    typedef tile_shape<D> shape;
    launch("attention F", attention_tiles_f_kernel<D>, dim3(blocks_for(p.t, shape::ROWS), p.heads, a->b),
           shape::THREADS, shape::X + 4 * shape::Y, a->stream, p);
}

unsigned tile_width(const struct ir_attrs *a)
{
    const unsigned dv = ir_op_v_dim(a);
    return a->head_dim > dv ? a->head_dim : dv;
}
} // namespace

extern "C" void cuda_attention_tiles_f(const struct op_args *a)
{
    const tile_args p = tile_args_of(a);
    const unsigned d = tile_width(a->attrs);
    if (d <= 64)
        tile_launch_f<64>(a, p);
    else if (d <= 128)
        tile_launch_f<128>(a, p);
    else
        tile_launch_f<256>(a, p);
}

extern "C" void cuda_attention_tiles_bi(const struct op_args *a)
{
    if (!cuda_attention_start(a))
        return;
    const tile_args p = tile_args_of(a);
    const unsigned d = tile_width(a->attrs);
    launch("attention BI", attention_delta_kernel, blocks_for(rows_of(a) * p.heads * 8, DELTA_THREADS), DELTA_THREADS,
           0, a->stream, p.o, p.dout, static_cast<float *>(a->work), a->b, p.t, p.heads);
    if (d <= 64)
        tile_launch_bi<64>(a, p);
    else if (d <= 128)
        tile_launch_bi<128>(a, p);
    else
        tile_launch_bi<256>(a, p);
}
