/* LayerNorm and RMSNorm. Ba, Kiros, Hinton 2016; Zhang, Sennrich 2019. Statistics are float32.
 *
 * A row is read from memory once: it stays in shared memory between its sums and its outputs. A warp has a row, or a
 * block has one that is long. */
#include "cuda/kernel.cuh"

namespace
{
/* NORM_SHARED: for rows, of the 48 KiB that a block has, beside the room of its sums. */
enum { NORM_THREADS = 256, NORM_WARP_BYTES = 4096, NORM_SHARED = (48 << 10) - MAX_WARPS * sizeof(float) };

/* One row of c elements of `copies` operands, and the threads that share it. */
struct norm_shape {
    uint64_t rows;
    unsigned c;
    unsigned heads; /* rows that follow each other have weights of their own, so many; 1: all have the same */
    bool kept;      /* the row fits in shared memory */
};

/* Row of this thread's group, its index in the group, the group's size. */
template <bool BLOCK> struct norm_group {
    uint64_t row;
    unsigned lane, size, warp;
    __device__ norm_group()
    {
        warp = BLOCK ? 0 : threadIdx.x / WARP;
        row = BLOCK ? blockIdx.x : static_cast<uint64_t>(blockIdx.x) * (blockDim.x / WARP) + warp;
        lane = BLOCK ? threadIdx.x : lane_id();
        size = BLOCK ? blockDim.x : static_cast<unsigned>(WARP);
    }
    __device__ float sum(float v, float *room) const
    {
        return BLOCK ? block_sum(v, room) : warp_sum(v);
    }
};

/* x + p.other, rounded, is written to p.sum, and the norm is of it. */
template <typename T> struct norm_sum {
    const T *other;
    T *sum;
};

template <typename T, int V, int N>
__device__ __forceinline__ void add_to(float (&v)[N], const norm_sum<T> &p, uint64_t at)
{
    float more[V];
    load(more, p.other + at);
#pragma unroll
    for (int k = 0; k < V; k++) {
        v[k] += more[k];
        if constexpr (sizeof(T) == sizeof(bf16))
            v[k] = __bfloat162float(__float2bfloat16_rn(v[k]));
    }
    store(p.sum + at, v);
}

/* plus + w[at..], w NULL: 1. */
template <typename T, int V>
__device__ __forceinline__ void load_weight(float (&v)[V], const T *w, float plus, unsigned at)
{
    if (w)
        load(v, w + at);
#pragma unroll
    for (int k = 0; k < V; k++)
        v[k] = w ? plus + v[k] : 1;
}

/* What a norm is made of beside its weights. round: (x - mean) rstd is rounded before the weight. */
struct norm_kind {
    float eps, plus;
    bool round;
};

/* y = (x - mean) rstd (plus + w) + b; without MEAN (RMSNorm) mean and b are 0. w NULL: 1; b NULL: 0. mean, rstd (rows), NULL: not
 * kept. With SUM x is a sum. */
template <typename T, int V, bool BLOCK, bool MEAN, bool SUM>
__global__ void __launch_bounds__(NORM_THREADS)
    norm_f_kernel(T *__restrict__ y, const T *__restrict__ x, const T *__restrict__ w, const T *__restrict__ b,
                  float *mean, float *rstd, norm_shape s, norm_kind kind, norm_sum<T> p)
{
    SHARED(float, room, MAX_WARPS);
    DYNAMIC_SHARED(T, shared);
    const norm_group<BLOCK> g;
    if (g.row >= s.rows)
        return;
    const T *from = x + g.row * s.c;
    T *kept = shared + g.warp * s.c, *to = y + g.row * s.c;
    float v[V], sum = 0;
#pragma unroll 4
    for (unsigned i = g.lane * V; i < s.c; i += g.size * V) {
        load(v, from + i);
        if (SUM)
            add_to<T, V>(v, p, g.row * s.c + i);
        if (s.kept)
            store(kept + i, v);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum += MEAN ? v[k] : v[k] * v[k];
    }
    if (s.kept)
        from = kept;
    else if (SUM)
        from = p.sum + g.row * s.c; /* each thread reads what it wrote itself */
    sum = g.sum(sum, room);
    const float m = MEAN ? sum / s.c : 0;
    if (MEAN) {
        sum = 0;
        for (unsigned i = g.lane * V; i < s.c; i += g.size * V) {
            load(v, from + i);
#pragma unroll
            for (int k = 0; k < V; k++)
                sum += (v[k] - m) * (v[k] - m);
        }
        sum = g.sum(sum, room);
    }
    const float r = rsqrtf(sum / s.c + kind.eps);
    const unsigned own = static_cast<unsigned>(g.row % s.heads) * s.c;
    for (unsigned i = g.lane * V; i < s.c; i += g.size * V) {
        float scale[V], shift[V] = {};
        load(v, from + i);
        load_weight(scale, w, kind.plus, own + i);
        if (MEAN && b)
            load(shift, b + own + i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            v[k] = (v[k] - m) * r;
            if (sizeof(T) == sizeof(bf16) && kind.round)
                v[k] = __bfloat162float(__float2bfloat16_rn(v[k]));
            v[k] = v[k] * scale[k] + shift[k];
        }
        store(to + i, v);
    }
    if (g.lane == 0 && rstd) {
        rstd[g.row] = r;
        if (MEAN)
            mean[g.row] = m;
    }
}

template <typename T> struct norm_bi_operands {
    T *dx;
    const T *acc, *x, *w, *dy;
    const float *mean, *rstd;
    float plus;
};

/* With h = (x - mean) rstd and g = dy w: dx = acc + rstd (g - average of g - h * average of g h). */
template <typename T, int V, bool BLOCK, bool MEAN>
__global__ void __launch_bounds__(NORM_THREADS) norm_bi_kernel(norm_bi_operands<T> p, norm_shape s)
{
    SHARED(float, room, MAX_WARPS);
    DYNAMIC_SHARED(T, shared);
    const norm_group<BLOCK> g;
    if (g.row >= s.rows)
        return;
    const T *x = p.x + g.row * s.c, *dy = p.dy + g.row * s.c;
    T *kept_x = shared + g.warp * 2 * s.c, *kept_dy = kept_x + s.c;
    const float m = MEAN ? p.mean[g.row] : 0, r = p.rstd[g.row];
    const unsigned own = static_cast<unsigned>(g.row % s.heads) * s.c;
    float sum_g = 0, sum_gh = 0, v[V], d[V], w[V];
#pragma unroll 2
    for (unsigned i = g.lane * V; i < s.c; i += g.size * V) {
        load(v, x + i);
        load(d, dy + i);
        load_weight(w, p.w, p.plus, own + i);
        if (s.kept) {
            store(kept_x + i, v);
            store(kept_dy + i, d);
        }
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float grad = d[k] * w[k];
            sum_g += grad;
            sum_gh += grad * (v[k] - m) * r;
        }
    }
    if (s.kept) {
        x = kept_x;
        dy = kept_dy;
    }
    sum_g = MEAN ? g.sum(sum_g, room) / s.c : 0;
    sum_gh = g.sum(sum_gh, room) / s.c;
    for (unsigned i = g.lane * V; i < s.c; i += g.size * V) {
        load(v, x + i);
        load(d, dy + i);
        load_weight(w, p.w, p.plus, own + i);
#pragma unroll
        for (int k = 0; k < V; k++)
            d[k] = r * (d[k] * w[k] - sum_g - (v[k] - m) * r * sum_gh);
        add_acc(d, p.acc, g.row * s.c + i);
        store(p.dx + g.row * s.c + i, d);
    }
}

/* ---- a row on several devices (IR_WIDTH) ----------------------------------------------------------------------------- */

/* told (parts, rows): what each part found of a row. */
struct norm_told {
    float *at;
    unsigned part, parts;
    uint64_t rows;
    __device__ __forceinline__ float sum(uint64_t row) const
    {
        float all = 0;
        for (unsigned p = 0; p < parts; p++)
            all += at[p * rows + row];
        return all;
    }
};

template <typename T> struct norm_part_operands {
    T *to; /* y, or dx */
    const T *acc, *x, *w, *dy;
    float *rstd;
    norm_told told;
    norm_kind kind;
    unsigned c;
};

/* Phase 0: the sum of x*x; BACKWARD: of x w dy. A block has a row. */
template <typename T, bool BACKWARD>
__global__ void __launch_bounds__(NORM_THREADS) norm_tell_kernel(norm_part_operands<T> p)
{
    SHARED(float, room, MAX_WARPS);
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * p.c;
    float sum = 0;
    for (unsigned i = threadIdx.x; i < p.c; i += blockDim.x) {
        float x[1], d[1], w[1];
        load(x, p.x + row + i);
        if (BACKWARD) {
            load(d, p.dy + row + i);
            load_weight(w, p.w, p.kind.plus, i);
        }
        sum += BACKWARD ? d[0] * w[0] * x[0] : x[0] * x[0];
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        p.told.at[p.told.part * p.told.rows + blockIdx.x] = sum;
}

/* Phase 1. */
template <typename T, bool BACKWARD>
__global__ void __launch_bounds__(NORM_THREADS) norm_hear_kernel(norm_part_operands<T> p)
{
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * p.c;
    const bool known = !BACKWARD && !p.told.at; /* computed again from the statistics of the forward */
    const float mean = known ? 0 : p.told.sum(blockIdx.x) / (static_cast<float>(p.c) * p.told.parts);
    const float r = BACKWARD || known ? p.rstd[blockIdx.x] : rsqrtf(mean + p.kind.eps);
    for (unsigned i = threadIdx.x; i < p.c; i += blockDim.x) {
        float x[1], d[1], w[1];
        load(x, p.x + row + i);
        load_weight(w, p.w, p.kind.plus, i);
        if (BACKWARD) {
            load(d, p.dy + row + i);
            d[0] = r * (d[0] * w[0] - x[0] * r * r * mean);
            add_acc(d, p.acc, row + i);
        } else {
            d[0] = x[0] * r;
            if (sizeof(T) == sizeof(bf16) && p.kind.round)
                d[0] = __bfloat162float(__float2bfloat16_rn(d[0]));
            d[0] *= w[0];
        }
        store(p.to + row + i, d);
    }
    if (!BACKWARD && threadIdx.x == 0 && p.rstd && !known)
        p.rstd[blockIdx.x] = r;
}

struct norm_launch {
    norm_shape shape;
    unsigned grid, threads;
    size_t shared;
    bool block;
};

/* Groups of a row that have weights of their own; 1: all have the same. */
unsigned own_weights(const struct op_args *a)
{
    return a->attrs->flags & IR_PER_HEAD && a->attrs->heads ? a->attrs->heads : 1;
}

/* copies: operands of a row that are kept. */
template <typename T, int V> norm_launch norm_plan(const struct op_args *a, uint64_t rows, unsigned copies)
{
    const unsigned c = a->attrs->features, heads = own_weights(a);
    const size_t bytes = static_cast<size_t>(c) * sizeof(T) * copies;
    norm_launch l = { { rows, c, heads, bytes <= NORM_SHARED }, 0, NORM_THREADS, 0, bytes > NORM_WARP_BYTES };
    if (l.block) {
        l.grid = static_cast<unsigned>(rows);
        l.threads = threads_for((c + V - 1) / V, NORM_THREADS);
        l.shared = l.shape.kept ? bytes : 0;
    } else {
        l.grid = blocks_for(rows, NORM_THREADS / WARP);
        l.shared = NORM_THREADS / WARP * bytes;
    }
    return l;
}

float plus_of(const struct op_args *a)
{
    return a->attrs->flags & IR_ONE_PLUS ? 1 : 0;
}

/* add: NULL, or what sums x first. */
template <typename T, int V, bool MEAN, bool SUM>
void norm_f_as(const struct op_args *add, const struct op_args *a, uint64_t rows)
{
    const norm_launch l = norm_plan<T, V>(a, rows, 1);
    float *mean = static_cast<float *>(a->save[0]), *rstd = MEAN ? static_cast<float *>(a->save[1]) : mean;
    const norm_kind kind = { a->attrs->eps, plus_of(a), (a->attrs->flags & IR_ROUND_FIRST) != 0 };
    norm_sum<T> sum = {};
    if (SUM)
        sum = { static_cast<const T *>(add->in[1]), static_cast<T *>(add->out[0]) };
    launch(MEAN ? "layernorm F" : "rmsnorm F",
           l.block ? norm_f_kernel<T, V, true, MEAN, SUM> : norm_f_kernel<T, V, false, MEAN, SUM>, l.grid, l.threads,
           l.shared, a->stream, static_cast<T *>(a->out[0]), static_cast<const T *>(SUM ? add->in[0] : a->in[0]),
           static_cast<const T *>(a->param[0]), static_cast<const T *>(a->param[1]), mean, rstd, l.shape, kind, sum);
}

template <typename T, int V, bool MEAN> void norm_bi_as(const struct op_args *a, uint64_t rows)
{
    const norm_launch l = norm_plan<T, V>(a, rows, 2);
    const float *first = static_cast<const float *>(a->save[0]), *second = static_cast<const float *>(a->save[1]);
    const norm_bi_operands<T> p = { static_cast<T *>(a->din[0]),
                                    static_cast<const T *>(a->acc[0]),
                                    static_cast<const T *>(a->in[0]),
                                    static_cast<const T *>(a->param[0]),
                                    static_cast<const T *>(a->dout[0]),
                                    MEAN ? first : nullptr,
                                    MEAN ? second : first,
                                    plus_of(a) };
    launch(MEAN ? "layernorm BI" : "rmsnorm BI",
           l.block ? norm_bi_kernel<T, V, true, MEAN> : norm_bi_kernel<T, V, false, MEAN>, l.grid, l.threads, l.shared,
           a->stream, p, l.shape);
}

template <typename T, bool MEAN> void norm_f(const struct op_args *a, uint64_t rows)
{
    if (wide<T>(a->attrs->features, a->in[0], a->out[0], a->param[0], a->param[1]))
        norm_f_as<T, vector_of<T>, MEAN, false>(nullptr, a, rows);
    else
        norm_f_as<T, 1, MEAN, false>(nullptr, a, rows);
}

template <typename T, bool MEAN> void add_norm_f(const struct op_args *add, const struct op_args *a, uint64_t rows)
{
    if (wide<T>(a->attrs->features, add->in[0], add->in[1], add->out[0], a->out[0], a->param[0], a->param[1]))
        norm_f_as<T, vector_of<T>, MEAN, true>(add, a, rows);
    else
        norm_f_as<T, 1, MEAN, true>(add, a, rows);
}

template <typename T, bool MEAN> void norm_bi(const struct op_args *a, uint64_t rows)
{
    if (wide<T>(a->attrs->features, a->in[0], a->dout[0], a->param[0], a->din[0], a->acc[0]))
        norm_bi_as<T, vector_of<T>, MEAN>(a, rows);
    else
        norm_bi_as<T, 1, MEAN>(a, rows);
}

template <typename T, bool BACKWARD> void norm_part(const struct op_args *a)
{
    const struct op_positions *p = a->positions;
    const norm_told told = { static_cast<float *>(BACKWARD ? a->stash[0] : a->save[1]), p->part, p->parts, rows_of(a) };
    const norm_part_operands<T> o = { static_cast<T *>(BACKWARD ? a->din[0] : a->out[0]),
                                      static_cast<const T *>(a->acc[0]),
                                      static_cast<const T *>(a->in[0]),
                                      static_cast<const T *>(a->param[0]),
                                      static_cast<const T *>(a->dout[0]),
                                      static_cast<float *>(a->save[0]),
                                      told,
                                      { a->attrs->eps, plus_of(a), (a->attrs->flags & IR_ROUND_FIRST) != 0 },
                                      a->attrs->features };
    launch(BACKWARD ? "rmsnorm BI" : "rmsnorm F",
           a->phase == 0 ? norm_tell_kernel<T, BACKWARD> : norm_hear_kernel<T, BACKWARD>,
           static_cast<unsigned>(rows_of(a)), threads_for(o.c, NORM_THREADS), 0, a->stream, o);
}

/* A row holds one group, or one for each head. */
uint64_t norm_groups(const struct op_args *a)
{
    return rows_of(a) * (a->attrs->heads ? a->attrs->heads : 1);
}

template <typename T> void layernorm_f(const struct op_args *a)
{
    norm_f<T, true>(a, norm_groups(a));
}

template <typename T> void layernorm_bi(const struct op_args *a)
{
    norm_bi<T, true>(a, norm_groups(a));
}

template <typename T> void rmsnorm_f(const struct op_args *a)
{
    if (cuda_norm_is_part(a))
        norm_part<T, false>(a);
    else
        norm_f<T, false>(a, norm_groups(a));
}

template <typename T> void rmsnorm_bi(const struct op_args *a)
{
    if (cuda_norm_is_part(a))
        norm_part<T, true>(a);
    else
        norm_bi<T, false>(a, norm_groups(a));
}

void norm_bw(const struct op_args *a, const void *mean, const void *rstd)
{
    const unsigned heads = own_weights(a);
    struct cuda_columns c = {};
    c.dy = a->dout[0];
    c.x = a->in[0];
    c.mean = static_cast<const float *>(mean);
    c.rstd = static_cast<const float *>(rstd);
    c.dw = static_cast<float *>(a->dparam[0]);
    c.db = static_cast<float *>(a->dparam[1]);
    c.add_dw = a->dparam_add & 1;
    c.add_db = a->dparam_add >> 1 & 1;
    c.rows = norm_groups(a) / heads;
    c.width = heads * a->attrs->features;
    c.group = a->attrs->features;
    c.compute = a->compute;
    c.work = a->work;
    c.stream = a->stream;
    cuda_column_sums(&c);
}
} // namespace

FOR_BOTH_TYPES(layernorm_f)
FOR_BOTH_TYPES(layernorm_bi)
FOR_BOTH_TYPES(rmsnorm_f)
FOR_BOTH_TYPES(rmsnorm_bi)

extern "C" void cuda_add_layernorm_f(const struct op_args *add, const struct op_args *norm)
{
    (norm->compute == IR_BF16 ? add_norm_f<bf16, true> : add_norm_f<float, true>)(add, norm, norm_groups(norm));
}

extern "C" void cuda_add_rmsnorm_f(const struct op_args *add, const struct op_args *norm)
{
    (norm->compute == IR_BF16 ? add_norm_f<bf16, false> : add_norm_f<float, false>)(add, norm, norm_groups(norm));
}

extern "C" void cuda_layernorm_bw(const struct op_args *a)
{
    norm_bw(a, a->save[0], a->save[1]);
}

extern "C" void cuda_rmsnorm_bw(const struct op_args *a)
{
    norm_bw(a, nullptr, a->save[0]);
}
