/* Cross-entropy of rows of logits, and its gradient in their place.
 *
 * A block has a row: it reads it for maximum and sum (both at once: Milakov, Gimelshein 2018), and again, from the
 * cache, to write the gradient. Rows of the vocabulary's own length begin anywhere, so a row is a head, 16-byte pieces
 * and a tail. */
#include "cuda/kernel.cuh"

namespace
{
enum { LOSS_THREADS = 1024 };

/* f(x, index of x[0]) for all of row (n), V elements at a time where they are aligned; WRITE: x goes back. */
template <bool WRITE, int V, typename T, typename F>
__device__ __forceinline__ void loss_piece(T *row, unsigned at, F f)
{
    float x[V];
    load(x, row + at);
    f(x, at);
    if (WRITE)
        store(row + at, x);
}

template <bool WRITE, typename T, typename F> __device__ __forceinline__ void loss_row(T *row, unsigned n, F f)
{
    enum { V = vector_of<T> };
    const unsigned off = static_cast<unsigned>(reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T));
    const unsigned head = off == 0 ? 0 : V - off < n ? V - off : n, tail = head + (n - head) / V * V;
    if (threadIdx.x < head)
        loss_piece<WRITE, 1>(row, threadIdx.x, f);
#pragma unroll 2
    for (unsigned i = head + threadIdx.x * V; i < tail; i += blockDim.x * V)
        loss_piece<WRITE, V>(row, i, f);
    if (tail + threadIdx.x < n)
        loss_piece<WRITE, 1>(row, tail + threadIdx.x, f);
}

/* The logit of a product: times a factor, bounded by cap tanh(z/cap) where cap > 0; slope: the derivative. */
struct loss_shape {
    float scale, cap;
    __device__ __forceinline__ float of(float x) const
    {
        return cap > 0 ? cap * tanhf(scale * x / cap) : scale * x;
    }
    __device__ __forceinline__ float slope(float z) const
    {
        const float y = cap > 0 ? z / cap : 0;
        return scale * (1 - y * y);
    }
};

/* Maximum, and the sum of exponentials against it. */
struct loss_running {
    float max, sum;
    loss_shape shape;
    template <int V> __device__ __forceinline__ void operator()(float (&x)[V], unsigned)
    {
        float most = max;
#pragma unroll
        for (int i = 0; i < V; i++)
            x[i] = shape.of(x[i]);
#pragma unroll
        for (int i = 0; i < V; i++)
            most = fmaxf(most, x[i]);
        if (most > max) {
            sum *= expf(max - most);
            max = most;
        }
#pragma unroll
        for (int i = 0; i < V; i++)
            sum += expf(x[i] - max);
    }
};

struct loss_gradient {
    float max, scale, one; /* scale: of exponentials; one: of the target's element */
    unsigned target;
    loss_shape shape;
    template <int V> __device__ __forceinline__ void operator()(float (&x)[V], unsigned at) const
    {
#pragma unroll
        for (int i = 0; i < V; i++) {
            const float z = shape.of(x[i]);
            x[i] = (expf(z - max) * scale - (at + i == target ? one : 0)) * shape.slope(z);
        }
    }
};

struct loss_zero {
    template <int V> __device__ __forceinline__ void operator()(float (&x)[V], unsigned) const
    {
#pragma unroll
        for (int i = 0; i < V; i++)
            x[i] = 0;
    }
};

/* loss (rows). */
template <typename T>
__global__ void __launch_bounds__(LOSS_THREADS)
    loss_kernel(T *logits, const int32_t *__restrict__ target, double *loss, unsigned vocab, unsigned ld, bool gradient,
                double loss_scale, const double *weight, loss_shape shape)
{
    SHARED(float, room, MAX_WARPS);
    T *const row = logits + static_cast<uint64_t>(blockIdx.x) * ld;
    const int32_t t = target[blockIdx.x];
    if (t < 0) {
        if (threadIdx.x == 0)
            loss[blockIdx.x] = 0;
        if (gradient)
            loss_row<true>(row, ld, loss_zero());
        return;
    }
    loss_running run = { -INFINITY, 0, shape };
    loss_row<false>(row, vocab, [&run](auto &x, unsigned at) { run(x, at); });
    float at_target[1];
    load(at_target, row + t);
    const float most = block_max(run.max, room);
    const float sum = block_sum(run.sum * expf(run.max - most), room); /* from here on no thread reads the target's */
    if (threadIdx.x == 0)
        loss[blockIdx.x] = log(static_cast<double>(sum)) + most - shape.of(at_target[0]);
    if (!gradient)
        return;
    const float scale = static_cast<float>(weight ? loss_scale * *weight : loss_scale);
    const loss_gradient grad = { most, scale / sum, scale, static_cast<unsigned>(t), shape };
    loss_row<true>(row, vocab, grad);
    loss_row<true>(row + vocab, ld - vocab, loss_zero());
}

/* ---- words of several parts -------------------------------------------------------------------------------------- */

/* What a part tells of a row. */
struct loss_told {
    float max, sum, at_target;
};

/* Where a target is among `words` from `first` on; -1: elsewhere. */
__device__ __forceinline__ int loss_target(int32_t target, unsigned first, unsigned words)
{
    const unsigned at = static_cast<unsigned>(target) - first;
    return target >= 0 && at < words ? static_cast<int>(at) : -1;
}

template <typename T>
__global__ void __launch_bounds__(LOSS_THREADS)
    loss_tell_kernel(T *logits, const int32_t *__restrict__ target, loss_told *told, unsigned words,
                     unsigned first_word, unsigned ld, loss_shape shape)
{
    SHARED(float, room, MAX_WARPS);
    T *const row = logits + static_cast<uint64_t>(blockIdx.x) * ld;
    const int t = loss_target(target[blockIdx.x], first_word, words);
    loss_running run = { -INFINITY, 0, shape };
    loss_row<false>(row, words, [&run](auto &x, unsigned at) { run(x, at); });
    const float most = block_max(run.max, room);
    const float sum = block_sum(run.max > -INFINITY ? run.sum * expf(run.max - most) : 0, room);
    if (threadIdx.x > 0)
        return;
    float at_target[1] = {};
    if (t >= 0)
        load(at_target, row + t);
    told[blockIdx.x] = { most, sum, t >= 0 ? shape.of(at_target[0]) : 0 };
}

/* told: of these rows, parts `all` apart. */
template <typename T>
__global__ void __launch_bounds__(LOSS_THREADS)
    loss_hear_kernel(T *logits, const int32_t *__restrict__ target, const loss_told *__restrict__ told, double *loss,
                     const cuda_words w, loss_shape shape)
{
    const int32_t t = target[blockIdx.x];
    float most = -INFINITY, at_target = 0;
    double sum = 0;
    for (unsigned p = 0; p < w.parts; p++)
        most = fmaxf(most, told[p * w.all + blockIdx.x].max);
    for (unsigned p = 0; p < w.parts; p++) {
        const loss_told x = told[p * w.all + blockIdx.x];
        sum += static_cast<double>(x.sum * expf(x.max - most));
        at_target += x.at_target;
    }
    if (threadIdx.x == 0)
        loss[blockIdx.x] = t >= 0 && w.first + blockIdx.x - w.own.first < w.own.count ? log(sum) + most - at_target : 0;
    if (!w.c.gradient)
        return;
    const float scale = static_cast<float>(w.c.weight ? w.c.loss_scale * *w.c.weight : w.c.loss_scale);
    T *const row = logits + static_cast<uint64_t>(blockIdx.x) * w.c.ld;
    const unsigned words = t >= 0 ? w.c.vocab : 0;
    const loss_gradient grad = { most, scale / static_cast<float>(sum), scale,
                                 static_cast<unsigned>(loss_target(t, w.first_word, w.c.vocab)), shape };
    loss_row<true>(row, words, grad);
    loss_row<true>(row + words, w.c.ld - words, loss_zero());
}

template <typename T> void words_tell(const struct cuda_words *w)
{
    const struct cuda_cross_entropy *c = &w->c;
    launch("cross-entropy", loss_tell_kernel<T>, static_cast<unsigned>(c->rows),
           threads_for(blocks_for(c->vocab, vector_of<T>), LOSS_THREADS), 0, c->stream, static_cast<T *>(c->logits),
           c->target, reinterpret_cast<loss_told *>(w->told) + w->part * w->all + w->first, c->vocab, w->first_word,
           c->ld, loss_shape{ c->scale > 0 ? c->scale : 1, c->cap });
}

/* *sum += x[0..n), in an order that depends on n alone. One block. */
__global__ void __launch_bounds__(LOSS_THREADS) loss_sum_kernel(double *sum, const double *__restrict__ x, uint64_t n)
{
    SHARED(double, room, MAX_WARPS);
    double mine = 0;
    for (uint64_t i = threadIdx.x; i < n; i += LOSS_THREADS)
        mine += x[i];
    mine = block_sum(mine, room);
    if (threadIdx.x == 0)
        *sum += mine;
}

template <typename T> void cross_entropy(const struct cuda_cross_entropy *c)
{
    launch("cross-entropy", loss_kernel<T>, static_cast<unsigned>(c->rows),
           threads_for(blocks_for(c->vocab, vector_of<T>), LOSS_THREADS), 0, c->stream, static_cast<T *>(c->logits),
           c->target, c->work, c->vocab, c->ld, c->gradient, c->loss_scale, c->weight,
           loss_shape{ c->scale > 0 ? c->scale : 1, c->cap });
    launch("cross-entropy", loss_sum_kernel, 1, LOSS_THREADS, 0, c->stream, c->loss, c->work, c->rows);
}

template <typename T> void words_hear(const struct cuda_words *w)
{
    const struct cuda_cross_entropy *c = &w->c;
    launch("cross-entropy", loss_hear_kernel<T>, static_cast<unsigned>(c->rows),
           threads_for(blocks_for(c->vocab, vector_of<T>), LOSS_THREADS), 0, c->stream, static_cast<T *>(c->logits),
           c->target, reinterpret_cast<const loss_told *>(w->told) + w->first, c->work, *w,
           loss_shape{ c->scale > 0 ? c->scale : 1, c->cap });
    launch("cross-entropy", loss_sum_kernel, 1, LOSS_THREADS, 0, c->stream, c->loss, c->work, c->rows);
}
} // namespace

extern "C" void cuda_words_tell(const struct cuda_words *w)
{
    (w->c.compute == IR_BF16 ? words_tell<bf16> : words_tell<float>)(w);
}

extern "C" void cuda_words_hear(const struct cuda_words *w)
{
    (w->c.compute == IR_BF16 ? words_hear<bf16> : words_hear<float>)(w);
}

extern "C" void cuda_cross_entropy(const struct cuda_cross_entropy *c)
{
    if (c->compute == IR_BF16)
        cross_entropy<bf16>(c);
    else
        cross_entropy<float>(c);
}
