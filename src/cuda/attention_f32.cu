/* Causal attention without tensor cores: all of ir/op.h's attributes, any head size, float32 inside. For tests in
 * float32 and for what cuDNN refuses; scores of a query (or of a key) lie in shared memory, so T is limited.
 *
 * Ring: o, dq, dk and dv so far are float32, in save[1] and stash; the softmax goes on from the log-sum-exp of what came before.
 *
 * Query head h reads key/value head h / (heads / kv_heads). work of BI: (b, heads, T) float32, the sum of dO O. */
#include "cuda/attention.cuh"

namespace
{
enum { ATTENTION_THREADS = 64 };

/* Rows of one operand: element e of head h of token (or key) i of sequence s at at[s*step_s + i*step_i + h*d + e]. */
template <typename T> struct attention_heads {
    T *at;
    uint64_t step_s, step_i;
    __device__ __forceinline__ T *row(unsigned s, unsigned i, unsigned h, unsigned d) const
    {
        return at + s * step_s + i * step_i + h * d;
    }
};

template <typename T> struct attention_operands {
    attention_heads<const T> q, k, v, dout, acc[3];
    attention_heads<T> o, dx[3];          /* acc, dx: of q, k, v */
    attention_heads<float> o_far, far[3]; /* ring: o, and gradients so far; NULL: no ring */
    float *lse, *delta;                   /* (b, heads, T); lse NULL: not kept */
    const T *sinks;                       /* (heads); NULL: none */
    attention_place place;
    unsigned t, d, dv, heads, group;
    bool later, last; /* ring: not the first phase, the last of F */
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

/* sum over j in [first, end) of weight[j] * row j, element e of head h of sequence s; queries: rows are those of queries. */
template <typename T>
__device__ __forceinline__ float attention_weigh(const float *weight, const attention_heads<T> &x, unsigned s,
                                                 unsigned first, unsigned end, unsigned h, unsigned d, unsigned e)
{
    float sum = 0, v[1];
    for (unsigned j = first; j < end; j++) {
        load(v, x.row(s, j, h, d) + e);
        sum += weight[j] * v[0];
    }
    return sum;
}

/* Element e of the gradient of q, k or v (which), row i of head h. */
template <typename T>
__device__ __forceinline__ void attention_write(const attention_operands<T> &p, unsigned which, unsigned s, unsigned i,
                                                unsigned h, unsigned d, unsigned e, float value)
{
    if (p.far[which].at) {
        float *const to = p.far[which].row(s, i, h, d) + e;
        *to = p.later ? *to + value : value;
        return;
    }
    float v[1] = { value };
    add_acc(v, p.acc[which].at ? p.acc[which].row(s, i, h, d) : nullptr, e);
    store(p.dx[which].row(s, i, h, d) + e, v);
}

/* Of the keys of which query i of sequence s sees some: none before *first, none from the one returned on. */
template <typename T>
__device__ __forceinline__ unsigned attention_end(const attention_operands<T> &p, unsigned s, unsigned i,
                                                  unsigned *first)
{
    const attention_place &w = p.place;
    const unsigned at = w.position(i), document = w.document_of(s, at);
    const unsigned from = at < w.window ? 0 : at - w.window + 1, low = document > from ? document : from;
    unsigned end = 0;
    *first = 0;
    for (unsigned j = 0; j < 2; j++) { /* keys that stand before `low`, and up to `at` */
        const unsigned begin = j ? w.key_first1 : w.key_first0, n = j ? w.keys - w.key0 : w.key0;
        *first += low > begin ? min(low - begin, n) : 0;
        end += at + 1 > begin ? min(at + 1 - begin, n) : 0;
    }
    return end;
}

/* A block has the query blockIdx.x of head blockIdx.y of sequence blockIdx.z. */
template <typename T> __global__ void __launch_bounds__(ATTENTION_THREADS) attention_f_kernel(attention_operands<T> p)
{
    SHARED(float, room, MAX_WARPS);
    DYNAMIC_SHARED(float, shared);
    float *const q = shared, *const weight = q + p.d;
    const unsigned i = blockIdx.x, h = blockIdx.y, s = blockIdx.z, kv = h / p.group;
    const uint64_t stat = (static_cast<uint64_t>(s) * p.heads + h) * p.t + i;
    unsigned first;
    const unsigned end = attention_end(p, s, i, &first);
    float most = -INFINITY, sum = 0;
    if (p.later) {
        most = p.lse[stat];
    } else if (p.sinks) {
        float sink[1];
        load(sink, p.sinks + h);
        most = sink[0];
    }
    const float before = most; /* the logarithm of what is in the sum already */
    attention_fetch(q, p.q.row(s, i, h, p.d), p.d);
    __syncthreads();
    for (unsigned j = first + threadIdx.x; j < end; j += ATTENTION_THREADS) {
        weight[j] = attention_score(p, attention_dot(q, p.k.row(s, j, kv, p.d), p.d));
        most = fmaxf(most, weight[j]);
    }
    most = block_max(most, room);
    for (unsigned j = first + threadIdx.x; j < end; j += ATTENTION_THREADS)
        sum += weight[j] = expf(weight[j] - most);
    const float down = expf(before - most);
    sum = block_sum(sum, room) + down;
    for (unsigned e = threadIdx.x; e < p.dv; e += ATTENTION_THREADS) {
        float v[1] = { attention_weigh(weight, p.v, s, first, end, kv, p.dv, e) };
        float *const far = p.o_far.at ? p.o_far.row(s, i, h, p.dv) + e : nullptr;
        v[0] = (p.later ? *far * down + v[0] : v[0]) / sum;
        if (far)
            *far = v[0];
        if (!far || p.last)
            store(p.o.row(s, i, h, p.dv) + e, v);
    }
    if (threadIdx.x == 0 && p.lse)
        p.lse[stat] = most + logf(sum);
}

template <typename T>
__device__ __forceinline__ float attention_delta(const attention_operands<T> &p, const float *dout, unsigned s,
                                                 unsigned i, unsigned h, double *room)
{
    double sum = 0;
    for (unsigned e = threadIdx.x; e < p.dv; e += ATTENTION_THREADS) {
        float o[1];
        load(o, p.o.row(s, i, h, p.dv) + e);
        sum += static_cast<double>(o[0]) * static_cast<double>(dout[e]);
    }
    return static_cast<float>(block_sum(sum, room));
}

/* Gradient of a query, and the sum of dO O; blocks as in the forward. */
template <typename T>
__global__ void __launch_bounds__(ATTENTION_THREADS, 16) attention_dq_kernel(attention_operands<T> p)
{
    SHARED(double, room, MAX_WARPS);
    DYNAMIC_SHARED(float, shared);
    float *const q = shared, *const dout = q + p.d, *const ds = dout + p.dv;
    const unsigned i = blockIdx.x, h = blockIdx.y, s = blockIdx.z, kv = h / p.group;
    const uint64_t stat = (static_cast<uint64_t>(s) * p.heads + h) * p.t + i;
    unsigned first;
    const unsigned end = attention_end(p, s, i, &first);
    attention_fetch(q, p.q.row(s, i, h, p.d), p.d);
    attention_fetch(dout, p.dout.row(s, i, h, p.dv), p.dv);
    __syncthreads();
    const float delta = attention_delta(p, dout, s, i, h, room);
    for (unsigned j = first + threadIdx.x; j < end; j += ATTENTION_THREADS) {
        const float x = attention_score(p, attention_dot(q, p.k.row(s, j, kv, p.d), p.d));
        ds[j] = expf(x - p.lse[stat]) * (attention_dot(dout, p.v.row(s, j, kv, p.dv), p.dv) - delta) *
                attention_slope(p, x);
    }
    __syncthreads();
    for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS)
        attention_write(p, 0, s, i, h, p.d, e, attention_weigh(ds, p.k, s, first, end, kv, p.d, e));
    if (threadIdx.x == 0)
        p.delta[stat] = delta;
}

/* Gradients of the key and value blockIdx.x of head blockIdx.y: over the heads that read it, then the queries. */
template <typename T>
__global__ void __launch_bounds__(ATTENTION_THREADS, 16) attention_dkv_kernel(attention_operands<T> p)
{
    DYNAMIC_SHARED(float, shared);
    float *const k = shared, *const v = k + p.d, *const dk = v + p.dv, *const dv = dk + p.d;
    float *const weight = dv + p.dv, *const ds = weight + p.t;
    const unsigned j = blockIdx.x, kv = blockIdx.y, s = blockIdx.z, at = p.place.key_position(j);
    /* of whole sequences those before the key do not see it, nor those behind its window */
    const bool whole = p.place.run0 == p.t && p.place.first0 == 0 && at == j;
    const unsigned first = whole ? min(j, p.t) : 0,
                   end = whole && p.t - first >= p.place.window ? first + p.place.window : p.t;
    attention_fetch(k, p.k.row(s, j, kv, p.d), p.d);
    attention_fetch(v, p.v.row(s, j, kv, p.dv), p.dv);
    for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS)
        dk[e] = 0;
    for (unsigned e = threadIdx.x; e < p.dv; e += ATTENTION_THREADS)
        dv[e] = 0;
    __syncthreads();
    for (unsigned h = kv * p.group; h < (kv + 1) * p.group; h++) {
        const uint64_t stat = (static_cast<uint64_t>(s) * p.heads + h) * p.t;
        for (unsigned i = first + threadIdx.x; i < end; i += ATTENTION_THREADS) {
            const unsigned position = p.place.position(i);
            weight[i] = ds[i] = 0;
            if (!p.place.sees(position, at, p.place.document_of(s, position)))
                continue;
            const float x = attention_score(p, attention_dot(k, p.q.row(s, i, h, p.d), p.d));
            weight[i] = expf(x - p.lse[stat + i]);
            ds[i] = weight[i] * (attention_dot(v, p.dout.row(s, i, h, p.dv), p.dv) - p.delta[stat + i]) *
                    attention_slope(p, x);
        }
        __syncthreads();
        for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS)
            dk[e] += attention_weigh(ds, p.q, s, first, end, h, p.d, e);
        for (unsigned e = threadIdx.x; e < p.dv; e += ATTENTION_THREADS)
            dv[e] += attention_weigh(weight, p.dout, s, first, end, h, p.dv, e);
        __syncthreads();
    }
    for (unsigned e = threadIdx.x; e < p.d; e += ATTENTION_THREADS)
        attention_write(p, 1, s, j, kv, p.d, e, dk[e]);
    for (unsigned e = threadIdx.x; e < p.dv; e += ATTENTION_THREADS)
        attention_write(p, 2, s, j, kv, p.dv, e, dv[e]);
}

/* Gradient of the sink of head blockIdx.x: its probability is exp(sink - lse), its dP 0. */
template <typename T>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    attention_sinks_kernel(attention_operands<T> p, unsigned b, float *dsinks, bool add)
{
    SHARED(double, room, MAX_WARPS);
    const unsigned h = blockIdx.x;
    float sink[1], o[1], dout[1];
    double sum = 0;
    load(sink, p.sinks + h);
    for (uint64_t n = threadIdx.x; n < static_cast<uint64_t>(b) * p.t; n += ATTENTION_THREADS) {
        const unsigned s = static_cast<unsigned>(n / p.t), i = static_cast<unsigned>(n % p.t);
        double delta = 0;
        for (unsigned e = 0; e < p.dv; e++) {
            load(o, p.o.row(s, i, h, p.dv) + e);
            load(dout, p.dout.row(s, i, h, p.dv) + e);
            delta += static_cast<double>(o[0]) * static_cast<double>(dout[0]);
        }
        sum -= static_cast<double>(expf(sink[0] - p.lse[(static_cast<uint64_t>(s) * p.heads + h) * p.t + i])) * delta;
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        dsinks[h] = static_cast<float>(add ? dsinks[h] + sum : sum);
}

/* ---- host side ---------------------------------------------------------------------------------------------------- */

template <typename T>
attention_heads<T> attention_operand(const struct op_args *a, void *at, uint64_t offset, uint64_t width, bool keys)
{
    const struct op_positions *p = a->positions;
    const uint64_t step_s = !p ? a->t : keys ? p->key_s : p->row_s, step_i = !p ? 1 : keys ? p->key_i : p->row_i;
    return { at ? static_cast<T *>(at) + offset : nullptr, step_s * width, step_i * width };
}

/* q, k, v in x: one packed operand, or three; NULL stays NULL. */
template <typename T> void attention_split(const struct op_args *a, void *const x[3], attention_heads<T> *const to[3])
{
    const struct ir_attrs *at = a->attrs;
    const uint64_t width[3] = { static_cast<uint64_t>(at->heads) * at->head_dim,
                                static_cast<uint64_t>(at->kv_heads) * at->head_dim,
                                static_cast<uint64_t>(at->kv_heads) * ir_op_v_dim(at) };
    const uint64_t first[3] = { 0, width[0], width[0] + width[1] };
    const bool packed = (at->flags & IR_PACKED) != 0;
    for (int i = 0; i < 3; i++)
        *to[i] = attention_operand<T>(a, packed ? x[0] : x[i], packed ? first[i] : 0,
                                      packed ? width[0] + width[1] + width[2] : width[i], i > 0);
}

template <typename T> attention_operands<T> attention_of(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    attention_operands<T> p = {};
    attention_heads<const T> *const x[3] = { &p.q, &p.k, &p.v }, *const acc[3] = { &p.acc[0], &p.acc[1], &p.acc[2] };
    attention_heads<T> *const dx[3] = { &p.dx[0], &p.dx[1], &p.dx[2] };
    attention_split(a, a->in, x);
    attention_split(a, a->din, dx);
    attention_split(a, a->acc, acc);
    p.dv = ir_op_v_dim(at);
    const uint64_t width = static_cast<uint64_t>(at->heads) * p.dv, q = static_cast<uint64_t>(at->heads) * at->head_dim,
                   k = static_cast<uint64_t>(at->kv_heads) * at->head_dim,
                   v = static_cast<uint64_t>(at->kv_heads) * p.dv;
    p.o = attention_operand<T>(a, a->out[0], 0, width, false);
    p.dout = attention_operand<const T>(a, a->dout[0], 0, width, false);
    if (attention_ring(a)) {
        p.o_far = attention_operand<float>(a, a->save[1], 0, width, false);
        p.far[0] = attention_operand<float>(a, a->stash[0], 0, q, false);
        p.far[1] = attention_operand<float>(a, a->stash[1], 0, k + v, true);
        p.far[2] = attention_operand<float>(a, a->stash[1], k, k + v, true);
    }
    p.later = attention_ring(a) && a->phase > 0;
    p.last = attention_last_phase(a, false);
    p.sinks = at->flags & IR_SINKS ? static_cast<const T *>(a->param[0]) : nullptr;
    p.place = attention_place_of(a);
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

/* to (rows, width) = acc + from, whose rows are ld apart. */
template <typename T>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    attention_give_kernel(T *to, const T *acc, const float *from, unsigned width, unsigned ld)
{
    const uint64_t row = blockIdx.x;
    for (unsigned e = threadIdx.x; e < width; e += ATTENTION_THREADS) {
        float v[1] = { from[row * ld + e] };
        add_acc(v, acc, row * width + e);
        store(to + row * width + e, v);
    }
}

/* Ring, the last phase of BI. */
template <typename T> void attention_give(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const unsigned q = at->heads * at->head_dim, k = at->kv_heads * at->head_dim, v = at->kv_heads * ir_op_v_dim(at);
    const float *const dq = static_cast<const float *>(a->stash[0]), *const dkv = static_cast<const float *>(
                                                                         a->stash[1]);
    const float *const from[3] = { dq, dkv, dkv + k };
    const unsigned width[3] = { q, k, v }, ld[3] = { q, k + v, k + v };
    for (int i = 0; i < 3; i++)
        launch("attention BI", attention_give_kernel<T>, i ? a->b * a->positions->keys : a->b * a->t, ATTENTION_THREADS,
               0, a->stream, static_cast<T *>(a->din[i]), static_cast<const T *>(a->acc[i]), from[i], width[i], ld[i]);
}

template <typename T> void attention_f32_f(const struct op_args *a)
{
    const attention_operands<T> p = attention_of<T>(a);
    launch("attention F", attention_f_kernel<T>, dim3(a->t, p.heads, a->b), ATTENTION_THREADS,
           (p.d + p.place.keys) * sizeof(float), a->stream, p);
}

template <typename T> void attention_f32_bi(const struct op_args *a)
{
    if (!cuda_attention_start(a))
        return;
    const attention_operands<T> p = attention_of<T>(a);
    launch("attention BI", attention_dq_kernel<T>, dim3(a->t, p.heads, a->b), ATTENTION_THREADS,
           (p.d + p.dv + p.place.keys) * sizeof(float), a->stream, p);
    launch("attention BI", attention_dkv_kernel<T>, dim3(p.place.keys, a->attrs->kv_heads, a->b), ATTENTION_THREADS,
           (2 * p.d + 2 * p.dv + 2 * p.t) * sizeof(float), a->stream, p);
}

template <typename T> void attention_bw(const struct op_args *a)
{
    launch("attention BW", attention_sinks_kernel<T>, a->attrs->heads, ATTENTION_THREADS, 0, a->stream,
           attention_of<T>(a), a->b, static_cast<float *>(a->dparam[0]), (a->dparam_add & 1) != 0);
}
} // namespace

/* The last phase of a ring, in which no keys come, gives its gradients. */
extern "C" bool cuda_attention_start(const struct op_args *a)
{
    if (!attention_last_phase(a, true))
        return op_sees_keys(a);
    (a->compute == IR_BF16 ? attention_give<bf16> : attention_give<float>)(a);
    return false;
}

FOR_BOTH_TYPES(attention_bw)
FOR_BOTH_TYPES(attention_f32_f)
FOR_BOTH_TYPES(attention_f32_bi)
