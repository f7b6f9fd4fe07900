/* Elementwise kernels: activations, sums, conversions. One thread has 16 bytes of each operand, so a full SM has 32 KiB
 * of each under way, twice what the memory's latency asks for. */
#include "cuda/gate.cuh"

namespace
{
enum { MAP_THREADS = 256, MAP_IN = 3, MAP_OUT = 2 };

template <typename T> struct map_args {
    const T *in[MAP_IN];
    const T *acc[MAP_OUT]; /* addends of out; NULL: none. One may be out itself */
    T *out[MAP_OUT];
    uint64_t n;
    map_how how;
};

struct swiglu { /* gate, up */
    static constexpr int IN = 2, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &, const float *x, float *y)
    {
        y[0] = swiglu_of(x[0], x[1]);
    }
};

struct swiglu_grad { /* gate, up, dy -> dgate, dup */
    static constexpr int IN = 3, OUT = 2;
    static __device__ __forceinline__ void at(const map_how &, const float *x, float *y)
    {
        swiglu_gradient_of(x[0], x[1], x[2], y[0], y[1]);
    }
};

struct act {
    static constexpr int IN = 1, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &how, const float *x, float *y)
    {
        float slope;
        y[0] = activation(how, x[0], slope);
    }
};

struct act_grad { /* x, dy */
    static constexpr int IN = 2, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &how, const float *x, float *y)
    {
        float slope;
        activation(how, x[0], slope);
        y[0] = x[1] * slope;
    }
};

struct scaled {
    static constexpr int IN = 1, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &how, const float *x, float *y)
    {
        y[0] = how.scale * x[0];
    }
};

struct clamped {
    static constexpr int IN = 1, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &how, const float *x, float *y)
    {
        y[0] = fmaxf(-how.limit, fminf(x[0], how.limit));
    }
};

struct clamped_grad { /* x, dy */
    static constexpr int IN = 2, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &how, const float *x, float *y)
    {
        y[0] = fabsf(x[0]) > how.limit ? 0 : x[1];
    }
};

struct plus {
    static constexpr int IN = 2, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &, const float *x, float *y)
    {
        y[0] = x[0] + x[1];
    }
};

template <typename F, int V, typename T> __device__ __forceinline__ void map_at(const map_args<T> &p, uint64_t at)
{
    float in[F::IN][V], out[F::OUT][V];
#pragma unroll
    for (int k = 0; k < F::IN; k++)
        load(in[k], p.in[k] + at);
#pragma unroll
    for (int v = 0; v < V; v++) {
        float x[F::IN], y[F::OUT];
#pragma unroll
        for (int k = 0; k < F::IN; k++)
            x[k] = in[k][v];
        F::at(p.how, x, y);
#pragma unroll
        for (int k = 0; k < F::OUT; k++)
            out[k][v] = y[k];
    }
#pragma unroll
    for (int k = 0; k < F::OUT; k++) {
        add_acc(out[k], p.acc[k], at);
        store(p.out[k] + at, out[k]);
    }
}

template <typename F, typename T, int V> __global__ void __launch_bounds__(MAP_THREADS) map_kernel(map_args<T> p)
{
    uint64_t i = (static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * V;
    if (i + V <= p.n)
        map_at<F, V>(p, i);
    else
        for (; i < p.n; i++)
            map_at<F, 1>(p, i);
}

template <typename F, typename T> void map(const char *name, const map_args<T> &p, void *stream)
{
    const bool fits = wide<T>(0, p.in[0], p.in[1], p.in[2], p.acc[0], p.acc[1], p.out[0], p.out[1]);
    if (fits)
        launch(name, map_kernel<F, T, vector_of<T>>, blocks_for(p.n, MAP_THREADS * vector_of<T>), MAP_THREADS, 0,
               stream, p);
    else
        launch(name, map_kernel<F, T, 1>, blocks_for(p.n, MAP_THREADS), MAP_THREADS, 0, stream, p);
}

/* The factor in the job's type where it is to be rounded. */
template <typename T> float scale_of(const struct ir_attrs *a)
{
    if (sizeof(T) == sizeof(bf16) && a->flags & IR_ROUND_FIRST)
        return __bfloat162float(__float2bfloat16_rn(a->scale));
    return a->scale;
}

template <typename T> map_args<T> map_operands(const struct op_args *a)
{
    map_args<T> p = {};
    for (int i = 0; i < 2; i++) {
        p.in[i] = static_cast<const T *>(a->in[i]);
        p.out[i] = static_cast<T *>(a->out[i]);
    }
    const struct ir_attrs *at = a->attrs;
    p.how = map_how_of(at, scale_of<T>(at));
    p.n = rows_of(a) * at->features;
    return p;
}

/* Input gradients of an operator with n inputs: x.., dy -> din, with addends. */
template <typename T> map_args<T> map_gradients(const struct op_args *a, int n)
{
    map_args<T> p = map_operands<T>(a);
    p.in[n] = static_cast<const T *>(a->dout[0]);
    for (int i = 0; i < 2; i++) {
        p.out[i] = static_cast<T *>(a->din[i]);
        p.acc[i] = static_cast<const T *>(a->acc[i]);
    }
    return p;
}

/* gelu too; its forms have code of their own. */
template <typename T> void act_f(const struct op_args *a)
{
    const uint32_t kind = ir_op_act(a->op, a->attrs);
    if (kind == IR_ACT_GELU)
        map<gelu_erf>("act F", map_operands<T>(a), a->stream);
    else if (kind == IR_ACT_GELU_TANH)
        map<gelu_tanh>("act F", map_operands<T>(a), a->stream);
    else
        map<act>("act F", map_operands<T>(a), a->stream);
}

template <typename T> void act_bi(const struct op_args *a)
{
    const uint32_t kind = ir_op_act(a->op, a->attrs);
    if (kind == IR_ACT_GELU)
        map<gelu_erf_grad>("act BI", map_gradients<T>(a, 1), a->stream);
    else if (kind == IR_ACT_GELU_TANH)
        map<gelu_tanh_grad>("act BI", map_gradients<T>(a, 1), a->stream);
    else
        map<act_grad>("act BI", map_gradients<T>(a, 1), a->stream);
}

template <typename T> void scale_f(const struct op_args *a)
{
    map<scaled>("scale F", map_operands<T>(a), a->stream);
}

template <typename T> void scale_bi(const struct op_args *a)
{
    map<scaled>("scale BI", map_gradients<T>(a, 0), a->stream);
}

template <typename T> void clamp_f(const struct op_args *a)
{
    map<clamped>("clamp F", map_operands<T>(a), a->stream);
}

template <typename T> void clamp_bi(const struct op_args *a)
{
    map<clamped_grad>("clamp BI", map_gradients<T>(a, 1), a->stream);
}

template <typename T> void swiglu_f(const struct op_args *a)
{
    if (plain_gate(a->attrs))
        map<swiglu>("swiglu F", map_operands<T>(a), a->stream);
    else
        map<gated>("swiglu F", map_operands<T>(a), a->stream);
}

template <typename T> void swiglu_bi(const struct op_args *a)
{
    if (plain_gate(a->attrs))
        map<swiglu_grad>("swiglu BI", map_gradients<T>(a, 2), a->stream);
    else
        map<gated_grad>("swiglu BI", map_gradients<T>(a, 2), a->stream);
}

template <typename T> void add_f(const struct op_args *a)
{
    map<plus>("add F", map_operands<T>(a), a->stream);
}

template <typename T> void sum_f(const struct op_args *a)
{
    map_args<T> p = {};
    p.in[0] = static_cast<const T *>(a->in[0]);
    p.in[1] = static_cast<const T *>(a->in[1]);
    p.out[0] = static_cast<T *>(a->out[0]);
    p.n = a->n;
    map<plus>("sum", p, a->stream);
}

/* ---- blocks of columns --------------------------------------------------------------------------------------------- */

struct block_args {
    uint64_t n, rows;
    unsigned width, blocks; /* columns of a block */
};

/* An element of rows, and where it is in the blocks. */
template <typename T, bool TO>
__global__ void __launch_bounds__(MAP_THREADS) block_kernel(const T *from, T *to, block_args p)
{
    const uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= p.n)
        return;
    const uint64_t part = i / p.width, at = (part % p.blocks * p.rows + part / p.blocks) * p.width + i % p.width;
    if (TO)
        to[at] = from[i];
    else
        to[i] = from[at];
}

template <typename T, bool TO> void turn(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const block_args p = { a->n, a->n / at->features, at->features / at->heads, at->heads };
    launch(TO ? "to blocks" : "from blocks", block_kernel<T, TO>, blocks_for(p.n, MAP_THREADS), MAP_THREADS, 0,
           a->stream, static_cast<const T *>(a->in[0]), static_cast<T *>(a->out[0]), p);
}

template <typename T> void to_blocks_f(const struct op_args *a)
{
    turn<T, true>(a);
}

template <typename T> void from_blocks_f(const struct op_args *a)
{
    turn<T, false>(a);
}

/* ---- rows: a gate for each, and heads that share a part ---------------------------------------------------------- */

template <typename T> struct rows_args {
    const T *in[2], *acc[2], *dout;
    T *out[2]; /* out[0] of F; din */
    unsigned c, heads, d, shared;
};

template <typename T> rows_args<T> rows_operands(const struct op_args *a, bool backward)
{
    rows_args<T> p = {};
    for (int i = 0; i < 2; i++) {
        p.in[i] = static_cast<const T *>(a->in[i]);
        p.acc[i] = static_cast<const T *>(a->acc[i]);
        p.out[i] = static_cast<T *>(backward ? a->din[i] : i ? nullptr : a->out[0]);
    }
    p.dout = static_cast<const T *>(a->dout[0]);
    p.c = a->attrs->features;
    p.heads = a->attrs->heads;
    p.d = a->attrs->head_dim;
    p.shared = a->attrs->rotary_dim;
    return p;
}

template <typename T> __device__ __forceinline__ float element(const T *p, uint64_t at)
{
    float x[1];
    load(x, p + at);
    return x[0];
}

template <typename T> __device__ __forceinline__ void put(T *p, const T *acc, uint64_t at, float value)
{
    float x[1] = { value };
    add_acc(x, acc, at);
    store(p + at, x);
}

/* A block has a row. */
template <typename T, bool BACKWARD> __global__ void __launch_bounds__(MAP_THREADS) row_gate_kernel(rows_args<T> p)
{
    SHARED(float, room, MAX_WARPS);
    const uint64_t row = blockIdx.x, at = row * p.c;
    const float s = __fdividef(1, 1 + expf(-element(p.in[1], row)));
    const T *from = BACKWARD ? p.dout : p.in[0];
    float sum = 0;
    for (unsigned i = threadIdx.x; i < p.c; i += blockDim.x) {
        const float x = element(from, at + i);
        if (BACKWARD)
            sum += x * element(p.in[0], at + i);
        put(p.out[0], BACKWARD ? p.acc[0] : static_cast<const T *>(nullptr), at + i, s * x);
    }
    if (!BACKWARD)
        return;
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        put(p.out[1], p.acc[1], row, s * (1 - s) * sum);
}

template <typename T> __global__ void __launch_bounds__(MAP_THREADS) join_heads_f_kernel(rows_args<T> p)
{
    const uint64_t row = blockIdx.x;
    const unsigned own = p.d - p.shared;
    for (unsigned i = threadIdx.x; i < p.heads * p.d; i += blockDim.x) {
        const unsigned h = i / p.d, e = i % p.d;
        const float x = e < own ? element(p.in[0], (row * p.heads + h) * own + e)
                                : element(p.in[1], row * p.shared + e - own);
        put(p.out[0], static_cast<const T *>(nullptr), row * p.heads * p.d + i, x);
    }
}

template <typename T> __global__ void __launch_bounds__(MAP_THREADS) join_heads_bi_kernel(rows_args<T> p)
{
    const uint64_t row = blockIdx.x;
    const unsigned own = p.d - p.shared;
    const T *dy = p.dout + row * p.heads * p.d;
    for (unsigned i = threadIdx.x; i < p.heads * own; i += blockDim.x)
        put(p.out[0], p.acc[0], row * p.heads * own + i, element(dy, i / own * p.d + i % own));
    for (unsigned e = threadIdx.x; e < p.shared; e += blockDim.x) {
        float sum = 0;
        for (unsigned h = 0; h < p.heads; h++)
            sum += element(dy, h * p.d + own + e);
        put(p.out[1], p.acc[1], row * p.shared + e, sum);
    }
}

template <typename T, typename K>
void each_row(const char *name, K kernel, const struct op_args *a, bool backward, unsigned n)
{
    launch(name, kernel, static_cast<unsigned>(rows_of(a)), threads_for(n, MAP_THREADS), 0, a->stream,
           rows_operands<T>(a, backward));
}

template <typename T> void row_gate_f(const struct op_args *a)
{
    each_row<T>("row_gate F", row_gate_kernel<T, false>, a, false, a->attrs->features);
}

template <typename T> void row_gate_bi(const struct op_args *a)
{
    each_row<T>("row_gate BI", row_gate_kernel<T, true>, a, true, a->attrs->features);
}

template <typename T> void join_heads_f(const struct op_args *a)
{
    each_row<T>("join_heads F", join_heads_f_kernel<T>, a, false, a->attrs->heads * a->attrs->head_dim);
}

template <typename T> void join_heads_bi(const struct op_args *a)
{
    each_row<T>("join_heads BI", join_heads_bi_kernel<T>, a, true, a->attrs->heads * a->attrs->head_dim);
}

template <typename To, typename From, int V>
__global__ void __launch_bounds__(MAP_THREADS) convert_kernel(To *to, const From *from, uint64_t n)
{
    uint64_t i = (static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * V;
    if (i + V <= n) {
        float x[V];
        load(x, from + i);
        store(to + i, x);
        return;
    }
    for (; i < n; i++) {
        float x[1];
        load(x, from + i);
        store(to + i, x);
    }
}

template <typename To, typename From> void convert(void *to, const void *from, uint64_t n, void *stream)
{
    enum { V = vector_of<bf16> };
    if (wide<bf16>(0, to, from))
        launch("convert", convert_kernel<To, From, V>, blocks_for(n, MAP_THREADS * V), MAP_THREADS, 0, stream,
               static_cast<To *>(to), static_cast<const From *>(from), n);
    else
        launch("convert", convert_kernel<To, From, 1>, blocks_for(n, MAP_THREADS), MAP_THREADS, 0, stream,
               static_cast<To *>(to), static_cast<const From *>(from), n);
}
} // namespace

FOR_BOTH_TYPES(scale_f)
FOR_BOTH_TYPES(scale_bi)
FOR_BOTH_TYPES(clamp_f)
FOR_BOTH_TYPES(clamp_bi)
FOR_BOTH_TYPES(row_gate_f)
FOR_BOTH_TYPES(row_gate_bi)
FOR_BOTH_TYPES(join_heads_f)
FOR_BOTH_TYPES(join_heads_bi)
FOR_BOTH_TYPES(act_f)
FOR_BOTH_TYPES(act_bi)
FOR_BOTH_TYPES(swiglu_f)
FOR_BOTH_TYPES(swiglu_bi)
FOR_BOTH_TYPES(add_f)
FOR_BOTH_TYPES(sum_f)
FOR_BOTH_TYPES(to_blocks_f)
FOR_BOTH_TYPES(from_blocks_f)

extern "C" void cuda_copy_f(const struct op_args *a)
{
    const size_t size = a->compute == IR_BF16 ? sizeof(bf16) : sizeof(float);
    cuda__check(cudaMemcpyAsync(a->out[0], a->in[0], a->n * size, cudaMemcpyDeviceToDevice,
                                static_cast<cudaStream_t>(a->stream)),
                "copy");
}

extern "C" void cuda_convert(void *to, enum ir_dtype to_type, const void *from, enum ir_dtype from_type, uint64_t n,
                             void *stream)
{
    if (to_type == IR_BF16 && from_type == IR_BF16)
        convert<bf16, bf16>(to, from, n, stream);
    else if (to_type == IR_BF16)
        convert<bf16, float>(to, from, n, stream);
    else if (from_type == IR_BF16)
        convert<float, bf16>(to, from, n, stream);
    else
        convert<float, float>(to, from, n, stream);
}
