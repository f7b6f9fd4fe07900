/* Causal attention without tensor cores: any head size, grouped queries, packed or not, float32 inside. For tests in
 * float32 and for what cuDNN refuses; scores of a query (or of a key) lie in shared memory, so T is limited.
 *
 * Query head h reads key/value head h / (heads / kv_heads). work of BI: (b, heads, T) float32, the sum of dO O. */
#include "cuda/kernel.cuh"

namespace
{
enum { ATTENTION_THREADS = 128 };

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
    unsigned t, d, heads, group;
    float scale;
};

/* to (d) = row, by a block. */
template <typename T> __device__ __forceinline__ void attention_fetch(float *to, const T *row, unsigned d)
{
    for (unsigned e = threadIdx.x; e < d; e += ATTENTION_THREADS) {
        float v[1];
        load(v, row + e);
        to[e] = v[0];
    }
}

template <typename T> __device__ __forceinline__ float attention_dot(const float *x, const T *row, unsigned d)
{
    float sum = 0, v[1];
    for (unsigned e = 0; e < d; e++) {
        load(v, row + e);
        sum += x[e] * v[0];
    }
    return sum;
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
    float most = -INFINITY, sum = 0;
    attention_fetch(q, p.q.row(row0 + i, h, p.d), p.d);
    __syncthreads();
    for (unsigned j = threadIdx.x; j <= i; j += ATTENTION_THREADS) {
        weight[j] = p.scale * attention_dot(q, p.k.row(row0 + j, kv, p.d), p.d);
        most = fmaxf(most, weight[j]);
    }
    most = block_max(most, room);
    for (unsigned j = threadIdx.x; j <= i; j += ATTENTION_THREADS)
        sum += weight[j] = expf(weight[j] - most);
    sum = block_sum(sum, room);
    for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS) {
        const float v[1] = { attention_weigh(weight, p.v, row0, 0, i + 1, kv, p.d, e) / sum };
        store(p.o.row(row0 + i, h, p.d) + e, v);
    }
    if (threadIdx.x == 0 && p.lse)
        p.lse[(static_cast<uint64_t>(blockIdx.z) * p.heads + h) * p.t + i] = most + logf(sum);
}

/* Gradient of a query, and the sum of dO O; blocks as in the forward. */
template <typename T> __global__ void __launch_bounds__(ATTENTION_THREADS) attention_dq_kernel(attention_operands<T> p)
{
    SHARED(float, room, MAX_WARPS);
    DYNAMIC_SHARED(float, shared);
    float *const q = shared, *const dout = q + p.d, *const ds = dout + p.d;
    const unsigned i = blockIdx.x, h = blockIdx.y, kv = h / p.group;
    const uint64_t row0 = static_cast<uint64_t>(blockIdx.z) * p.t;
    const uint64_t stat = (static_cast<uint64_t>(blockIdx.z) * p.heads + h) * p.t + i;
    float delta = 0;
    attention_fetch(q, p.q.row(row0 + i, h, p.d), p.d);
    attention_fetch(dout, p.dout.row(row0 + i, h, p.d), p.d);
    __syncthreads();
    for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS) {
        float o[1];
        load(o, p.o.row(row0 + i, h, p.d) + e);
        delta += o[0] * dout[e];
    }
    delta = block_sum(delta, room);
    for (unsigned j = threadIdx.x; j <= i; j += ATTENTION_THREADS) {
        const float w = expf(p.scale * attention_dot(q, p.k.row(row0 + j, kv, p.d), p.d) - p.lse[stat]);
        ds[j] = w * (attention_dot(dout, p.v.row(row0 + j, kv, p.d), p.d) - delta) * p.scale;
    }
    __syncthreads();
    for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS)
        attention_write(p.dx[0], p.acc[0], row0 + i, h, p.d, e, attention_weigh(ds, p.k, row0, 0, i + 1, kv, p.d, e));
    if (threadIdx.x == 0)
        p.delta[stat] = delta;
}

/* Gradients of the key and value blockIdx.x of head blockIdx.y: over the heads that read it, then the queries. */
template <typename T> __global__ void __launch_bounds__(ATTENTION_THREADS) attention_dkv_kernel(attention_operands<T> p)
{
    DYNAMIC_SHARED(float, shared);
    float *const k = shared, *const v = k + p.d, *const dk = v + p.d, *const dv = dk + p.d;
    float *const weight = dv + p.d, *const ds = weight + p.t;
    const unsigned j = blockIdx.x, kv = blockIdx.y;
    const uint64_t row0 = static_cast<uint64_t>(blockIdx.z) * p.t;
    attention_fetch(k, p.k.row(row0 + j, kv, p.d), p.d);
    attention_fetch(v, p.v.row(row0 + j, kv, p.d), p.d);
    for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS)
        dk[e] = dv[e] = 0;
    __syncthreads();
    for (unsigned h = kv * p.group; h < (kv + 1) * p.group; h++) {
        const uint64_t stat = (static_cast<uint64_t>(blockIdx.z) * p.heads + h) * p.t;
        for (unsigned i = j + threadIdx.x; i < p.t; i += ATTENTION_THREADS) {
            weight[i] = expf(p.scale * attention_dot(k, p.q.row(row0 + i, h, p.d), p.d) - p.lse[stat + i]);
            ds[i] = weight[i] * (attention_dot(v, p.dout.row(row0 + i, h, p.d), p.d) - p.delta[stat + i]) * p.scale;
        }
        __syncthreads();
        for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS) {
            dk[e] += attention_weigh(ds, p.q, row0, j, p.t, h, p.d, e);
            dv[e] += attention_weigh(weight, p.dout, row0, j, p.t, h, p.d, e);
        }
        __syncthreads();
    }
    for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS) {
        attention_write(p.dx[1], p.acc[1], row0 + j, kv, p.d, e, dk[e]);
        attention_write(p.dx[2], p.acc[2], row0 + j, kv, p.d, e, dv[e]);
    }
}

/* q, k, v in x: one packed operand, or three; NULL stays NULL. */
template <typename T>
void attention_split(const struct ir_attrs *a, void *const x[3], attention_heads<T> *q, attention_heads<T> *k,
                     attention_heads<T> *v)
{
    const unsigned d = a->head_dim, heads = a->heads, kv = a->kv_heads;
    T *const first = static_cast<T *>(x[0]);
    if (a->flags & IR_PACKED) {
        const unsigned ld = (heads + 2 * kv) * d;
        *q = attention_heads<T>{ first, ld };
        *k = attention_heads<T>{ first ? first + heads * d : nullptr, ld };
        *v = attention_heads<T>{ first ? first + (heads + kv) * d : nullptr, ld };
    } else {
        *q = attention_heads<T>{ first, heads * d };
        *k = attention_heads<T>{ static_cast<T *>(x[1]), kv * d };
        *v = attention_heads<T>{ static_cast<T *>(x[2]), kv * d };
    }
}

template <typename T> attention_operands<T> attention_of(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    attention_operands<T> p = {};
    attention_split(at, a->in, &p.q, &p.k, &p.v);
    attention_split(at, a->din, &p.dx[0], &p.dx[1], &p.dx[2]);
    attention_split(at, a->acc, &p.acc[0], &p.acc[1], &p.acc[2]);
    p.o = { static_cast<T *>(a->out[0]), at->heads * at->head_dim };
    p.dout = { static_cast<const T *>(a->dout[0]), at->heads * at->head_dim };
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
           (2 * p.d + p.t) * sizeof(float), a->stream, p);
    launch("attention BI", attention_dkv_kernel<T>, dim3(a->t, a->attrs->kv_heads, a->b), ATTENTION_THREADS,
           (4 * p.d + 2 * p.t) * sizeof(float), a->stream, p);
}
} // namespace

FOR_BOTH_TYPES(attention_f32_f)
FOR_BOTH_TYPES(attention_f32_bi)
