/* Rotary position embedding (Su et al. 2021): ir/op.h.
 *
 * Angles are float64 products, brought to one turn in float64, then float32: a table would cost more traffic than they
 * cost arithmetic, because a thread turns the same pairs of several heads. */
#include "cuda/kernel.cuh"

namespace
{
enum { ROPE_THREADS = 256, ROPE_HEADS = 4 }; /* heads of a thread, about */

/* Turns per position of each pair; a kernel's argument, so it lies in constant memory. */
struct rope_turns {
    double at[CUDA_MAX_ROPE_DIM / 2];
};

template <typename T> struct rope_operands {
    T *y;
    const T *acc, *x;
    row_map rows;
    unsigned heads, half, d, first; /* d: of a head; first: the first element that turns */
    unsigned step, apart;           /* pair i: elements step*i and step*i + apart */
    float scale, sign;              /* sign -1 turns back */
};

/* The elements of a row's heads that stay. */
template <typename T> __device__ __forceinline__ void rope_keep(const rope_operands<T> &p, uint64_t row)
{
    const unsigned rest = p.d - 2 * p.half;
    for (unsigned i = threadIdx.x; i < p.heads * rest; i += blockDim.x) {
        const unsigned e = i % rest;
        const uint64_t at = row + i / rest * p.d + (e < p.first ? e : e + 2 * p.half);
        float x[1];
        load(x, p.x + at);
        add_acc(x, p.acc, at);
        store(p.y + at, x);
    }
}

/* A block has a row; its threads are (lanes_y, vectors of half a head). */
template <typename T, int V>
__global__ void __launch_bounds__(ROPE_THREADS) rope_kernel(rope_operands<T> p, rope_turns turns)
{
    const unsigned vectors = p.half / V, lanes_y = blockDim.x / vectors, i = threadIdx.x % vectors * V;
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * p.heads * p.d;
    const double position = p.rows.position(p.rows.token(blockIdx.x));
    rope_keep(p, row);
    if (threadIdx.x / vectors >= lanes_y)
        return;
    float c[V], s[V];
#pragma unroll
    for (int k = 0; k < V; k++) {
        const double turn = position * turns.at[i + k];
        __sincosf(static_cast<float>((turn - rint(turn)) * 6.283185307179586477), &s[k], &c[k]);
        s[k] *= p.scale * p.sign;
        c[k] *= p.scale;
    }
    for (unsigned h = threadIdx.x / vectors; h < p.heads; h += lanes_y) {
        const uint64_t low = row + h * p.d + p.first + i * p.step, high = low + p.apart;
        float u[V], v[V], a[V], b[V];
        load(u, p.x + low);
        load(v, p.x + high);
#pragma unroll
        for (int k = 0; k < V; k++) {
            a[k] = u[k] * c[k] - v[k] * s[k];
            b[k] = v[k] * c[k] + u[k] * s[k];
        }
        add_acc(a, p.acc, low);
        add_acc(b, p.acc, high);
        store(p.y + low, a);
        store(p.y + high, b);
    }
}

template <typename T>
void rope(const char *name, const struct op_args *a, void *y, const void *acc, const void *x, float sign)
{
    enum { V = vector_of<T> };
    const struct ir_attrs *at = a->attrs;
    const unsigned half = ir_op_rotary(at) / 2, heads = at->heads, d = at->head_dim, first = at->rotary_offset;
    const bool pairs = (at->flags & IR_PAIRS) != 0;
    rope_operands<T> p = {};
    p.y = static_cast<T *>(y);
    p.acc = static_cast<const T *>(acc);
    p.x = static_cast<const T *>(x);
    p.rows = row_map_of(a);
    p.heads = heads;
    p.half = half;
    p.d = d;
    p.first = first;
    p.step = pairs ? 2 : 1;
    p.apart = pairs ? 1 : half;
    p.scale = at->scale > 0 ? at->scale : 1;
    p.sign = sign;
    rope_turns turns = {};
    for (unsigned i = 0; i < half; i++)
        turns.at[i] = ir_op_rope_frequency(at, i) / 6.283185307179586477;
    const bool fits = !pairs && wide<T>(half | d | first, y, acc, x); /* V is a power of two */
    const unsigned vectors = fits ? half / V : half, most = ROPE_THREADS / vectors;
    const unsigned lanes = blocks_for(heads, ROPE_HEADS) < most ? blocks_for(heads, ROPE_HEADS) : most;
    launch(name, fits ? rope_kernel<T, V> : rope_kernel<T, 1>, static_cast<unsigned>(rows_of(a)),
           threads_for(lanes * vectors, ROPE_THREADS), 0, a->stream, p, turns);
}

template <typename T> void rope_f(const struct op_args *a)
{
    rope<T>("rope F", a, a->out[0], nullptr, a->in[0], 1);
}

/* The gradient turns back. */
template <typename T> void rope_bi(const struct op_args *a)
{
    rope<T>("rope BI", a, a->din[0], a->acc[0], a->dout[0], -1);
}
} // namespace

FOR_BOTH_TYPES(rope_f)
FOR_BOTH_TYPES(rope_bi)
