/* Optimizer steps, the norm of gradients, clipping, progress. AdamW: Loshchilov, Hutter 2019. */
#include "cuda/kernel.cuh"

namespace
{
enum { UPDATE_THREADS = 256, UPDATE_BLOCKS = 2048, SUMSQ_PARTS = 1024, SUMSQ_EACH = 4096 };

/* Constants of one step: struct vec_update of src/cpu/vec.h, computed by the device from step_inputs. */
struct update_constants {
    float grad_scale;
    float beta1, beta2, rest1, rest2; /* rest = 1 - beta */
    float step;                       /* lr / (1 - beta1^t); SGD: lr */
    float root;                       /* 1 / sqrt(1 - beta2^t) */
    float eps;
    float keep;  /* AdamW: 1 - lr*weight_decay */
    float decay; /* SGD: weight_decay */
};

struct update_operands {
    struct optimizer_args opt;
    uint64_t n, n_decay;
    float *master, *m, *v;
    const float *grad;
    void *param;
};

/* x^n; the library's pow would be a call, for which the kernel would have to put registers away. */
__device__ __forceinline__ double update_power(double x, uint64_t n)
{
    double y = 1;
    for (; n; n >>= 1, x *= x)
        if (n & 1)
            y *= x;
    return y;
}

__device__ __forceinline__ void update_constants_of(const struct optimizer_args &o, const struct step_inputs *s,
                                                    update_constants *c)
{
    const double correct1 = 1 - update_power(o.beta1, s->update);
    const double correct2 = 1 - update_power(o.beta2, s->update);
    c->grad_scale = static_cast<float>(s->grad_scale);
    c->beta1 = o.beta1;
    c->beta2 = o.beta2;
    c->rest1 = static_cast<float>(1 - static_cast<double>(o.beta1));
    c->rest2 = static_cast<float>(1 - static_cast<double>(o.beta2));
    c->step = static_cast<float>(o.kind == OPT_ADAMW ? s->lr / correct1 : s->lr);
    c->root = static_cast<float>(1 / sqrt(correct2));
    c->eps = o.eps;
    c->keep = static_cast<float>(1 - s->lr * o.weight_decay);
    c->decay = o.weight_decay;
}

/* Sums over the bits of elements as they were read and as they were written. */
struct update_bits {
    uint64_t was[UPDATE_ARRAYS], is[UPDATE_ARRAYS];
};

template <int V> __device__ __forceinline__ void bits_add(uint64_t *sum, const float (&x)[V])
{
#pragma unroll
    for (int k = 0; k < V; k++)
        *sum += __float_as_uint(x[k]);
}

/* Of V elements of T at p, as they stand there. */
template <int V, typename T> __device__ __forceinline__ void bits_read(uint64_t *sum, const T *p)
{
    float x[V];
    load(x, p);
#pragma unroll
    for (int k = 0; k < V; k++)
        *sum += __float_as_uint(x[k]) >> (32 - 8 * sizeof(T));
}

/* Of what store() makes of x. */
template <int V> __device__ __forceinline__ void bits_stored(uint64_t *sum, const float *, const float (&x)[V])
{
    bits_add(sum, x);
}

template <int V> __device__ __forceinline__ void bits_stored(uint64_t *sum, const bf16 *, const float (&x)[V])
{
#pragma unroll
    for (int k = 0; k < V; k++)
        *sum += two_bf16(x[k], 0) & 0xffffu;
}

/* V elements from i on. Multiply-adds are written out: the bits of an element must not depend on V. bits: NULL, nobody asks. */
template <bool ADAM, int V, typename T>
__device__ __forceinline__ void update_at(const update_operands &u, const update_constants &c, uint64_t i,
                                          update_bits *bits)
{
    float p[V], g[V], m[V], v[V];
    T *const param = static_cast<T *>(u.param) + i;
    const bool copied = u.param != u.master;
    load(p, u.master + i);
    load(g, u.grad + i);
    if (ADAM) {
        load(m, u.m + i);
        load(v, u.v + i);
    }
    if (bits) {
        bits_add(&bits->was[UPDATE_MASTER], p);
        if (ADAM) {
            bits_add(&bits->was[UPDATE_M], m);
            bits_add(&bits->was[UPDATE_V], v);
        }
        if (copied)
            bits_read<V>(&bits->was[UPDATE_PARAM], param);
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        const bool decays = i + k < u.n_decay;
        const float grad = g[k] * c.grad_scale;
        if (ADAM) {
            m[k] = fmaf(c.beta1, m[k], c.rest1 * grad);
            v[k] = fmaf(c.beta2, v[k], c.rest2 * grad * grad);
            const float step = c.step * m[k] / fmaf(sqrtf(v[k]), c.root, c.eps);
            p[k] = fmaf(decays ? c.keep : 1, p[k], -step);
        } else {
            p[k] = fmaf(-c.step, fmaf(decays ? c.decay : 0, p[k], grad), p[k]);
        }
    }
    if (ADAM) {
        store(u.m + i, m);
        store(u.v + i, v);
    }
    store(u.master + i, p);
    if (copied)
        store(param, p);
    if (bits) {
        bits_add(&bits->is[UPDATE_MASTER], p);
        if (ADAM) {
            bits_add(&bits->is[UPDATE_M], m);
            bits_add(&bits->is[UPDATE_V], v);
        }
        if (copied)
            bits_stored(&bits->is[UPDATE_PARAM], param, p);
    }
}

/* Blocks walk over the elements, so that few compute the constants. */
template <bool ADAM, int V, typename T>
__global__ void __launch_bounds__(UPDATE_THREADS, 4) update_kernel(update_operands u, const struct step_inputs *s)
{
    SHARED(update_constants, shared, 1);
    if (s->skip)
        return;
    if (threadIdx.x == 0)
        update_constants_of(u.opt, s, shared);
    __syncthreads();
    const update_constants c = shared[0];
    const uint64_t stride = static_cast<uint64_t>(gridDim.x) * UPDATE_THREADS * V;
    for (uint64_t i = (static_cast<uint64_t>(blockIdx.x) * UPDATE_THREADS + threadIdx.x) * V; i < u.n; i += stride)
        if (i + V <= u.n)
            update_at<ADAM, V, T>(u, c, i, nullptr);
        else
            for (uint64_t k = i; k < u.n; k++)
                update_at<ADAM, 1, T>(u, c, k, nullptr);
}

/* ---- with checksums ------------------------------------------------------------------------------------------------- */

/* f(width) for the elements of a stretch, V at once where it begins as aligned as the arrays do. */
template <int V, typename F> __device__ __forceinline__ void stretch_walk(const update_stretch &at, F f)
{
    const uint64_t end = at.first + at.count;
    if (at.first % V == 0) {
        for (uint64_t i = at.first + threadIdx.x * V; i < end; i += UPDATE_THREADS * V)
            if (i + V <= end)
                f.template at<V>(i);
            else
                for (uint64_t k = i; k < end; k++)
                    f.template at<1>(k);
    } else {
        for (uint64_t i = at.first + threadIdx.x; i < end; i += UPDATE_THREADS)
            f.template at<1>(i);
    }
}

template <bool ADAM, typename T> struct summed_step {
    const update_operands &u;
    const update_constants &c;
    update_bits *bits;
    template <int V> __device__ __forceinline__ void at(uint64_t i)
    {
        update_at<ADAM, V, T>(u, c, i, bits);
    }
};

template <typename T> struct summed_read {
    const update_operands &u;
    unsigned arrays;
    update_bits *bits;
    template <int V> __device__ __forceinline__ void at(uint64_t i)
    {
        if (arrays >> UPDATE_MASTER & 1)
            bits_read<V>(&bits->was[UPDATE_MASTER], u.master + i);
        if (arrays >> UPDATE_M & 1 && u.m)
            bits_read<V>(&bits->was[UPDATE_M], u.m + i);
        if (arrays >> UPDATE_V & 1 && u.v)
            bits_read<V>(&bits->was[UPDATE_V], u.v + i);
        if (arrays >> UPDATE_PARAM & 1 && u.param != u.master)
            bits_read<V>(&bits->was[UPDATE_PARAM], static_cast<const T *>(u.param) + i);
    }
};

/* The whole block's sums, compared by one thread with those of the stretch, which become `is` if so wanted. */
__device__ __forceinline__ void stretch_judge(const update_sums &sums, unsigned stretch, unsigned arrays, bool check,
                                              bool take, const uint64_t (&was)[UPDATE_ARRAYS],
                                              const uint64_t (&is)[UPDATE_ARRAYS], uint64_t *room)
{
    unsigned bad = 0;
#pragma unroll
    for (int k = 0; k < UPDATE_ARRAYS; k++) {
        const uint64_t found = block_sum(was[k], room), made = block_sum(is[k], room);
        if (threadIdx.x != 0 || !(arrays >> k & 1))
            continue;
        if (check && found != sums.sums[stretch][k])
            bad |= 1u << k;
        if (take)
            sums.sums[stretch][k] = made;
    }
    if (!bad)
        return;
    sums.faults[stretch] |= bad;
    *sums.any = 1;
}

template <int V, typename T>
__device__ __forceinline__ void stretches_check(const update_operands &u, const update_sums &sums, unsigned arrays,
                                                bool check, uint64_t *room)
{
    for (unsigned i = blockIdx.x; i < sums.n; i += gridDim.x) {
        update_bits bits = {};
        stretch_walk<V>(sums.at[i], summed_read<T>{ u, arrays, &bits });
        stretch_judge(sums, i, arrays, check, !check, bits.was, bits.was, room);
    }
}

template <bool ADAM, int V, typename T>
__global__ void __launch_bounds__(UPDATE_THREADS)
    update_summed_kernel(update_operands u, struct update_sums sums, const struct step_inputs *s)
{
    SHARED(update_constants, shared, 1);
    SHARED(uint64_t, room, MAX_WARPS);
    if (s->skip) {
        stretches_check<V, T>(u, sums, UPDATE_ALL, true, room);
        return;
    }
    if (threadIdx.x == 0)
        update_constants_of(u.opt, s, shared);
    __syncthreads();
    const update_constants c = shared[0];
    for (unsigned i = blockIdx.x; i < sums.n; i += gridDim.x) {
        update_bits bits = {};
        stretch_walk<V>(sums.at[i], summed_step<ADAM, T>{ u, c, &bits });
        stretch_judge(sums, i, UPDATE_ALL, true, true, bits.was, bits.is, room);
    }
}

template <int V, typename T>
__global__ void __launch_bounds__(UPDATE_THREADS)
    checksum_kernel(update_operands u, struct update_sums sums, unsigned arrays, bool check)
{
    SHARED(uint64_t, room, MAX_WARPS);
    stretches_check<V, T>(u, sums, arrays, check, room);
}

/* ---- launches ------------------------------------------------------------------------------------------------------- */

unsigned update_blocks(uint64_t n)
{
    return static_cast<unsigned>(n < UPDATE_BLOCKS ? n : static_cast<uint64_t>(UPDATE_BLOCKS));
}

update_operands update_operands_of(const struct update_args *a, const struct optimizer_args &opt)
{
    return { opt, a->n, a->n_decay, a->master, a->m, a->v, a->grad, a->param };
}

template <bool ADAM, int V, typename T> void update_as(const struct update_args *a, const struct step_inputs *s)
{
    const update_operands u = update_operands_of(a, *a->opt);
    if (a->sums.n)
        launch("update", update_summed_kernel<ADAM, V, T>, update_blocks(a->sums.n), UPDATE_THREADS, 0, a->stream, u,
               a->sums, s);
    else
        launch("update", update_kernel<ADAM, V, T>,
               update_blocks((a->n + UPDATE_THREADS * V - 1) / (UPDATE_THREADS * V)), UPDATE_THREADS, 0, a->stream, u,
               s);
}

template <typename T> void checksum(const struct update_args *a, unsigned arrays, bool check)
{
    enum { V = vector_of<T> };
    const update_operands u = update_operands_of(a, {});
    if (a->sums.n)
        launch("checksum", wide<T>(0, a->master, a->m, a->v, a->param) ? checksum_kernel<V, T> : checksum_kernel<1, T>,
               update_blocks(a->sums.n), UPDATE_THREADS, 0, a->stream, u, a->sums, arrays, check);
}

template <bool ADAM, typename T> void update(const struct update_args *a, const struct step_inputs *s)
{
    enum { V = vector_of<T> };
    if (wide<T>(0, a->master, a->m, a->v, a->grad, a->param))
        update_as<ADAM, V, T>(a, s);
    else
        update_as<ADAM, 1, T>(a, s);
}

/* ---- norm of the gradients ------------------------------------------------------------------------------------------ */

/* Partial sums have no place among the operands, so they have one here, by turns. */
struct sumsq_part {
    double sum[SUMSQ_PARTS];
    unsigned bad[SUMSQ_PARTS];
};
__device__ sumsq_part sumsq_parts[CUDA_SUMSQ_AT_ONCE];

template <int V> __device__ __forceinline__ void sumsq_add(const float *x, double *sum, unsigned *bad)
{
    float v[V];
    load(v, x);
#pragma unroll
    for (int k = 0; k < V; k++) {
        *sum += static_cast<double>(v[k]) * static_cast<double>(v[k]);
        *bad += (__float_as_uint(v[k]) & 0x7f800000u) == 0x7f800000u;
    }
}

template <int V>
__global__ void __launch_bounds__(UPDATE_THREADS)
    sumsq_kernel(const float *__restrict__ x, uint64_t n, uint64_t each, unsigned turn)
{
    SHARED(double, room, MAX_WARPS);
    SHARED(unsigned, room_bad, MAX_WARPS);
    const uint64_t first = blockIdx.x * each, end = first + each < n ? first + each : n;
    double sum = 0;
    unsigned bad = 0;
#pragma unroll 4
    for (uint64_t i = first + threadIdx.x * V; i < end; i += UPDATE_THREADS * V)
        if (i + V <= end)
            sumsq_add<V>(x + i, &sum, &bad);
        else
            for (uint64_t k = i; k < end; k++)
                sumsq_add<1>(x + k, &sum, &bad);
    sum = block_sum(sum, room);
    bad = block_sum(bad, room_bad);
    if (threadIdx.x == 0) {
        sumsq_parts[turn].sum[blockIdx.x] = sum;
        sumsq_parts[turn].bad[blockIdx.x] = bad;
    }
}

__global__ void __launch_bounds__(SUMSQ_PARTS)
    sumsq_join_kernel(double *sum, double *nonfinite, unsigned parts, unsigned turn)
{
    SHARED(double, room, MAX_WARPS);
    SHARED(unsigned, room_bad, MAX_WARPS);
    const sumsq_part *p = &sumsq_parts[turn];
    const double all = block_sum(threadIdx.x < parts ? p->sum[threadIdx.x] : 0.0, room);
    const unsigned bad = block_sum(threadIdx.x < parts ? p->bad[threadIdx.x] : 0u, room_bad);
    if (threadIdx.x == 0) {
        *sum += all;
        *nonfinite += bad;
    }
}

/* ---- one thread ------------------------------------------------------------------------------------------------------ */

__global__ void clip_kernel(struct step_inputs *s, const double *scalars, double clip_norm)
{
    const double norm = sqrt(scalars[SCALAR_NORM2]);
    s->skip = s->skip || !isfinite(norm) || !isfinite(scalars[SCALAR_LOSS]) || !isfinite(scalars[SCALAR_AUX]) ||
              scalars[SCALAR_NONFINITE] != 0;
    s->grad_scale = norm > clip_norm ? clip_norm / norm : 1;
}

/* One block: threads take the experts in turns. Whole numbers below 2^53 are added without rounding, in any order. */
__global__ void __launch_bounds__(UPDATE_THREADS)
    balance_kernel(float *bias, const double *__restrict__ load, unsigned experts, float rate,
                   const struct step_inputs *s)
{
    SHARED(double, sum, 1);
    if (s->skip)
        return;
    if (threadIdx.x == 0)
        *sum = 0;
    __syncthreads();
    for (unsigned e = threadIdx.x; e < experts; e += blockDim.x)
        atomicAdd(sum, load[e]);
    __syncthreads();
    for (unsigned e = threadIdx.x; e < experts; e += blockDim.x) {
        const double mine = load[e] * experts;
        bias[e] += mine < *sum ? rate : mine > *sum ? -rate : 0;
    }
}

__global__ void progress_kernel(volatile uint32_t *word, const struct step_inputs *s)
{
    *word = s->epoch;
    __threadfence_system();
}
} // namespace

extern "C" void cuda_update(const struct update_args *u, const struct step_inputs *s)
{
    const bool adam = u->opt->kind == OPT_ADAMW;
    if (u->compute == IR_BF16)
        adam ? update<true, bf16>(u, s) : update<false, bf16>(u, s);
    else
        adam ? update<true, float>(u, s) : update<false, float>(u, s);
}

extern "C" void cuda_checksum(const struct update_args *u, uint32_t arrays, bool check)
{
    if (u->compute == IR_BF16)
        checksum<bf16>(u, arrays, check);
    else
        checksum<float>(u, arrays, check);
}

extern "C" void cuda_sumsq(const float *x, uint64_t n, double *sum, double *nonfinite, void *stream)
{
    static unsigned calls;
    const unsigned turn = calls++ % CUDA_SUMSQ_AT_ONCE, parts = cuda_parts(n, SUMSQ_EACH, SUMSQ_PARTS);
    const uint64_t each = ((n + parts - 1) / parts + 3) / 4 * 4; /* a part begins as aligned as x */
    launch("sumsq", wide<float>(0, x) ? sumsq_kernel<4> : sumsq_kernel<1>, parts, UPDATE_THREADS, 0, stream, x, n, each,
           turn);
    launch("sumsq", sumsq_join_kernel, 1, SUMSQ_PARTS, 0, stream, sum, nonfinite, parts, turn);
}

extern "C" void cuda_balance(const struct balance_args *b, const struct step_inputs *s)
{
    launch("balance", balance_kernel, 1, UPDATE_THREADS, 0, b->stream, b->bias, b->load, b->experts, b->rate, s);
}

extern "C" void cuda_clip(struct step_inputs *s, const double *scalars, double clip_norm, void *stream)
{
    launch("clip", clip_kernel, 1, 1, 0, stream, s, scalars, clip_norm);
}

extern "C" void cuda_progress(uint32_t *mapped_word, const struct step_inputs *s, void *stream)
{
    launch("progress", progress_kernel, 1, 1, 0, stream, mapped_word, s);
}
