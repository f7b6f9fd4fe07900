/* Causal attention without tensor cores: all of ir/op.h's attributes, any head size, float32 inside. For tests in
 * float32 and for what cuDNN refuses; scores of a query (or of a key) lie in shared memory, so T is limited.
 *
 * Query head h reads key/value head h / (heads / kv_heads). work of BI: (b, heads, T) float32, the sum of dO O. */
#include "cuda/kernel.cuh"

namespace
{
enum { ATTENTION_THREADS = 64 };

/* Rows of one operand: element e of head h of row r at at[r*ld + h*d + e]. */
template <typename T> struct attention_heads {
    T *at;
    unsigned ld;
    __device__ __forceinline__ T *row(uint64_t r, unsigned h, unsigned d) const
    {
        return at + r * ld + h * d;
    }
};

template <typename T> struct attention_operands {
    attention_heads<const T> q, k, v, dout, acc[3];
    attention_heads<T> o, dx[3]; /* acc, dx: of q, k, v */
    float *lse, *delta;          /* (b, heads, T); lse NULL: not kept */
    const T *sinks;              /* (heads); NULL: none */
    unsigned t, d, dv, heads, group;
    unsigned window; /* T: none */
    float scale, cap;
};

/* The score of a product, and its derivative by it. */
template <typename T> __device__ __forceinline__ float attention_score(const attention_operands<T> &p, float product)
{
    const float s = p.scale * product;
    return p.cap > 0 ? p.cap * tanhf(s / p.cap) : s;
}

template <typename T> __device__ __forceinline__ float attention_slope(const attention_operands<T> &p, float score)
{
    return p.cap > 0 ? p.scale * (1 - score / p.cap * (score / p.cap)) : p.scale;
}

/* to (d) = row, by a block. */
template <typename T> __device__ __forceinline__ void attention_fetch(float *to, const T *row, unsigned d)
{
    for (unsigned e = threadIdx.x; e < d; e += ATTENTION_THREADS) {
        float v[1];
        load(v, row + e);
        to[e] = v[0];
    }
}

/* In float64: the gradient of a score is a difference of such products that nearly cancel. */
template <typename T> __device__ __forceinline__ float attention_dot(const float *x, const T *row, unsigned d)
{
    double sum = 0;
    float v[1];
    for (unsigned e = 0; e < d; e++) {
        load(v, row + e);
        sum += static_cast<double>(x[e]) * static_cast<double>(v[0]);
    }
    return static_cast<float>(sum);
}

/* sum over j in [first, end) of weight[j] * row j, element e. */
template <typename T>
__device__ __forceinline__ float attention_weigh(const float *weight, const attention_heads<T> &x, uint64_t row0,
                                                 unsigned first, unsigned end, unsigned h, unsigned d, unsigned e)
{
    float sum = 0, v[1];
    for (unsigned j = first; j < end; j++) {
        load(v, x.row(row0 + j, h, d) + e);
        sum += weight[j] * v[0];
    }
    return sum;
}

template <typename T>
__device__ __forceinline__ void attention_write(const attention_heads<T> &x, const attention_heads<const T> &acc,
                                                uint64_t row, unsigned h, unsigned d, unsigned e, float value)
{
    float v[1] = { value };
    add_acc(v, acc.at ? acc.row(row, h, d) : nullptr, e);
    store(x.row(row, h, d) + e, v);
}

/* A block has the query blockIdx.x of head blockIdx.y of sequence blockIdx.z. */
template <typename T> __global__ void __launch_bounds__(ATTENTION_THREADS) attention_f_kernel(attention_operands<T> p)
{
    SHARED(float, room, MAX_WARPS);
    DYNAMIC_SHARED(float, shared);
    float *const q = shared, *const weight = q + p.d;
    const unsigned i = blockIdx.x, h = blockIdx.y, kv = h / p.group;
    const uint64_t row0 = static_cast<uint64_t>(blockIdx.z) * p.t;
    const unsigned first = i < p.window ? 0 : i - p.window + 1;
    float most = -INFINITY, sum = 0;
    if (p.sinks) {
        float sink[1];
        load(sink, p.sinks + h);
        most = sink[0];
    }
    const float sink = most;
    attention_fetch(q, p.q.row(row0 + i, h, p.d), p.d);
    __syncthreads();
    for (unsigned j = first + threadIdx.x; j <= i; j += ATTENTION_THREADS) {
        weight[j] = attention_score(p, attention_dot(q, p.k.row(row0 + j, kv, p.d), p.d));
        most = fmaxf(most, weight[j]);
    }
    most = block_max(most, room);
    for (unsigned j = first + threadIdx.x; j <= i; j += ATTENTION_THREADS)
        sum += weight[j] = expf(weight[j] - most);
    sum = block_sum(sum, room) + expf(sink - most);
    for (unsigned e = threadIdx.x; e < p.dv; e += ATTENTION_THREADS) {
        const float v[1] = { attention_weigh(weight, p.v, row0, first, i + 1, kv, p.dv, e) / sum };
        store(p.o.row(row0 + i, h, p.dv) + e, v);
    }
    if (threadIdx.x == 0 && p.lse)
        p.lse[(static_cast<uint64_t>(blockIdx.z) * p.heads + h) * p.t + i] = most + logf(sum);
}

template <typename T>
__device__ __forceinline__ float attention_delta(const attention_operands<T> &p, const float *dout, uint64_t row,
                                                 unsigned h, double *room)
{
    double sum = 0;
    for (unsigned e = threadIdx.x; e < p.dv; e += ATTENTION_THREADS) {
        float o[1];
        load(o, p.o.row(row, h, p.dv) + e);
        sum += static_cast<double>(o[0]) * static_cast<double>(dout[e]);
    }
    return static_cast<float>(block_sum(sum, room));
}

/* Gradient of a query, and the sum of dO O; blocks as in the forward. */
template <typename T> __global__ void __launch_bounds__(ATTENTION_THREADS) attention_dq_kernel(attention_operands<T> p)
{
    SHARED(double, room, MAX_WARPS);
    DYNAMIC_SHARED(float, shared);
    float *const q = shared, *const dout = q + p.d, *const ds = dout + p.dv;
    const unsigned i = blockIdx.x, h = blockIdx.y, kv = h / p.group;
    const uint64_t row0 = static_cast<uint64_t>(blockIdx.z) * p.t;
    const uint64_t stat = (static_cast<uint64_t>(blockIdx.z) * p.heads + h) * p.t + i;
    const unsigned first = i < p.window ? 0 : i - p.window + 1;
    attention_fetch(q, p.q.row(row0 + i, h, p.d), p.d);
    attention_fetch(dout, p.dout.row(row0 + i, h, p.dv), p.dv);
    __syncthreads();
    const float delta = attention_delta(p, dout, row0 + i, h, room);
    for (unsigned j = first + threadIdx.x; j <= i; j += ATTENTION_THREADS) {
        const float s = attention_score(p, attention_dot(q, p.k.row(row0 + j, kv, p.d), p.d));
        ds[j] = expf(s - p.lse[stat]) * (attention_dot(dout, p.v.row(row0 + j, kv, p.dv), p.dv) - delta) *
                attention_slope(p, s);
    }
    __syncthreads();
    for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS)
        attention_write(p.dx[0], p.acc[0], row0 + i, h, p.d, e,
                        attention_weigh(ds, p.k, row0, first, i + 1, kv, p.d, e));
    if (threadIdx.x == 0)
        p.delta[stat] = delta;
}

/* Gradients of the key and value blockIdx.x of head blockIdx.y: over the heads that read it, then the queries. */
template <typename T> __global__ void __launch_bounds__(ATTENTION_THREADS) attention_dkv_kernel(attention_operands<T> p)
{
    DYNAMIC_SHARED(float, shared);
    float *const k = shared, *const v = k + p.d, *const dk = v + p.dv, *const dv = dk + p.d;
    float *const weight = dv + p.dv, *const ds = weight + p.t;
    const unsigned j = blockIdx.x, kv = blockIdx.y, end = p.t - j < p.window ? p.t : j + p.window;
    const uint64_t row0 = static_cast<uint64_t>(blockIdx.z) * p.t;
    attention_fetch(k, p.k.row(row0 + j, kv, p.d), p.d);
    attention_fetch(v, p.v.row(row0 + j, kv, p.dv), p.dv);
    for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS)
        dk[e] = 0;
    for (unsigned e = threadIdx.x; e < p.dv; e += ATTENTION_THREADS)
        dv[e] = 0;
    __syncthreads();
    for (unsigned h = kv * p.group; h < (kv + 1) * p.group; h++) {
        const uint64_t stat = (static_cast<uint64_t>(blockIdx.z) * p.heads + h) * p.t;
        for (unsigned i = j + threadIdx.x; i < end; i += ATTENTION_THREADS) {
            const float s = attention_score(p, attention_dot(k, p.q.row(row0 + i, h, p.d), p.d));
            weight[i] = expf(s - p.lse[stat + i]);
            ds[i] = weight[i] * (attention_dot(v, p.dout.row(row0 + i, h, p.dv), p.dv) - p.delta[stat + i]) *
                    attention_slope(p, s);
        }
        __syncthreads();
        for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS)
            dk[e] += attention_weigh(ds, p.q, row0, j, end, h, p.d, e);
        for (unsigned e = threadIdx.x; e < p.dv; e += ATTENTION_THREADS)
            dv[e] += attention_weigh(weight, p.dout, row0, j, end, h, p.dv, e);
        __syncthreads();
    }
    for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS)
        attention_write(p.dx[1], p.acc[1], row0 + j, kv, p.d, e, dk[e]);
    for (unsigned e = threadIdx.x; e < p.dv; e += ATTENTION_THREADS)
        attention_write(p.dx[2], p.acc[2], row0 + j, kv, p.dv, e, dv[e]);
}

/* Gradient of the sink of head blockIdx.x: its probability is exp(sink - lse), its dP 0. */
template <typename T>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    attention_sinks_kernel(attention_operands<T> p, unsigned b, unsigned row_s, unsigned row_i, float *dsinks, bool add)
{
    SHARED(double, room, MAX_WARPS);
    const unsigned h = blockIdx.x;
    float sink[1], o[1], dout[1];
    double sum = 0;
    load(sink, p.sinks + h);
    for (uint64_t n = threadIdx.x; n < static_cast<uint64_t>(b) * p.t; n += ATTENTION_THREADS) {
        const uint64_t row = n / p.t * row_s + n % p.t * row_i;
        double delta = 0;
        for (unsigned e = 0; e < p.dv; e++) {
            load(o, p.o.row(row, h, p.dv) + e);
            load(dout, p.dout.row(row, h, p.dv) + e);
            delta += static_cast<double>(o[0]) * static_cast<double>(dout[0]);
        }
        sum -= static_cast<double>(expf(sink[0] - p.lse[(n / p.t * p.heads + h) * p.t + n % p.t])) * delta;
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        dsinks[h] = static_cast<float>(add ? dsinks[h] + sum : sum);
}

/* q, k, v in x: one packed operand, or three; NULL stays NULL. */
template <typename T>
void attention_split(const struct ir_attrs *a, void *const x[3], attention_heads<T> *q, attention_heads<T> *k,
                     attention_heads<T> *v)
{
    const unsigned wq = a->heads * a->head_dim, wk = a->kv_heads * a->head_dim, wv = a->kv_heads * ir_op_v_dim(a);
    T *const first = static_cast<T *>(x[0]);
    if (a->flags & IR_PACKED) {
        const unsigned ld = wq + wk + wv;
        *q = attention_heads<T>{ first, ld };
        *k = attention_heads<T>{ first ? first + wq : nullptr, ld };
        *v = attention_heads<T>{ first ? first + wq + wk : nullptr, ld };
    } else {
        *q = attention_heads<T>{ first, wq };
        *k = attention_heads<T>{ static_cast<T *>(x[1]), wk };
        *v = attention_heads<T>{ static_cast<T *>(x[2]), wv };
    }
}

template <typename T> attention_operands<T> attention_of(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    attention_operands<T> p = {};
    attention_split(at, a->in, &p.q, &p.k, &p.v);
    attention_split(at, a->din, &p.dx[0], &p.dx[1], &p.dx[2]);
    attention_split(at, a->acc, &p.acc[0], &p.acc[1], &p.acc[2]);
    p.dv = ir_op_v_dim(at);
    p.o = { static_cast<T *>(a->out[0]), at->heads * p.dv };
    p.dout = { static_cast<const T *>(a->dout[0]), at->heads * p.dv };
    p.sinks = at->flags & IR_SINKS ? static_cast<const T *>(a->param[0]) : nullptr;
    p.window = at->window ? at->window : a->t;
    p.cap = at->score_cap;
    p.lse = static_cast<float *>(a->save[0]);
    p.delta = static_cast<float *>(a->work);
    p.t = a->t;
    p.d = at->head_dim;
    p.heads = at->heads;
    p.group = at->heads / at->kv_heads;
    p.scale = at->scale;
    return p;
}

template <typename T> void attention_f32_f(const struct op_args *a)
{
    const attention_operands<T> p = attention_of<T>(a);
    launch("attention F", attention_f_kernel<T>, dim3(a->t, p.heads, a->b), ATTENTION_THREADS,
           (p.d + p.t) * sizeof(float), a->stream, p);
}

template <typename T> void attention_f32_bi(const struct op_args *a)
{
    const attention_operands<T> p = attention_of<T>(a);
    launch("attention BI", attention_dq_kernel<T>, dim3(a->t, p.heads, a->b), ATTENTION_THREADS,
           (p.d + p.dv + p.t) * sizeof(float), a->stream, p);
    launch("attention BI", attention_dkv_kernel<T>, dim3(a->t, a->attrs->kv_heads, a->b), ATTENTION_THREADS,
           (2 * p.d + 2 * p.dv + 2 * p.t) * sizeof(float), a->stream, p);
}

template <typename T> void attention_bw(const struct op_args *a)
{
    const struct op_positions *p = a->positions;
    launch("attention BW", attention_sinks_kernel<T>, a->attrs->heads, ATTENTION_THREADS, 0, a->stream,
           attention_of<T>(a), a->b, p ? p->row_s : a->t, p ? p->row_i : 1u, static_cast<float *>(a->dparam[0]),
           (a->dparam_add & 1) != 0);
}
} // namespace

FOR_BOTH_TYPES(attention_bw)
FOR_BOTH_TYPES(attention_f32_f)
FOR_BOTH_TYPES(attention_f32_bi)
