/* Biases of experts: added to rows behind a product of the library, and their gradients, sums over the rows that each expert has.
 * Rows stand as experts.c says; counts are read on the device. */
#include "cuda/kernel.cuh"

namespace
{
enum { BIAS_THREADS = 256, BIAS_COLUMNS = 32, BIAS_LANES = BIAS_THREADS / BIAS_COLUMNS };

struct expert_rows {
    const int32_t *count; /* (ep, local, b) */
    unsigned b, local, ep, capacity;
};

expert_rows expert_rows_of(const struct op_args *a)
{
    return { static_cast<const int32_t *>(a->in[1]), a->b, a->attrs->experts / a->ep, a->ep, a->attrs->capacity };
}

/* y (rows, width): row blockIdx.x of a run of experts e, e+1, .. of n rows each, the first of which is row `first` of all. */
template <typename T>
__global__ void __launch_bounds__(BIAS_THREADS)
    expert_bias_kernel(T *y, const T *__restrict__ bias, expert_rows r, unsigned e, unsigned n, uint64_t first,
                       unsigned width)
{
    const unsigned expert = e + blockIdx.x / n, at = blockIdx.x % n;
    if (r.capacity) {
        const uint64_t part = first / (static_cast<uint64_t>(r.local) * r.b * r.capacity);
        const uint64_t segment = (part * r.local + expert) * r.b + at / r.capacity;
        if (static_cast<int>(at % r.capacity) >= r.count[segment])
            return; /* stays zero */
    }
    T *const row = y + static_cast<uint64_t>(blockIdx.x) * width;
    const T *const own = bias + static_cast<uint64_t>(expert) * width;
    for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
        float v[1];
        load(v, row + i);
        add_acc(v, own, i);
        store(row + i, v);
    }
}

/* Rows of the segments before `segment`, in every thread. */
__device__ __forceinline__ uint64_t rows_before(const expert_rows &r, unsigned segment, int *room)
{
    int rows = 0;
    for (unsigned i = threadIdx.x; i < segment * r.b; i += blockDim.x)
        rows += r.count[i];
    return static_cast<uint64_t>(block_sum(rows, room));
}

/* db (local, width): a block has 32 columns of the expert blockIdx.y, a thread every eighth of its rows. */
template <typename T>
__global__ void __launch_bounds__(BIAS_THREADS)
    expert_bias_sums_kernel(float *db, const T *__restrict__ dy, expert_rows r, unsigned width, bool add)
{
    SHARED(int, room, MAX_WARPS);
    SHARED(float, part_sum, BIAS_THREADS);
    const unsigned x = threadIdx.x % BIAS_COLUMNS, y = threadIdx.x / BIAS_COLUMNS, expert = blockIdx.y;
    const unsigned column = blockIdx.x * BIAS_COLUMNS + x;
    float sum = 0;
    for (unsigned part = 0; part < r.ep; part++) {
        const unsigned segment = part * r.local + expert;
        uint64_t row = r.capacity ? static_cast<uint64_t>(segment) * r.b * r.capacity : rows_before(r, segment, room);
        for (unsigned s = 0; s < r.b; s++) {
            const unsigned n = static_cast<unsigned>(r.count[static_cast<uint64_t>(segment) * r.b + s]);
            for (unsigned i = y; i < n && column < width; i += BIAS_LANES) {
                float v[1];
                load(v, dy + (row + i) * width + column);
                sum += v[0];
            }
            row += r.capacity ? r.capacity : n;
        }
    }
    part_sum[threadIdx.x] = sum;
    __syncthreads();
    if (y > 0 || column >= width)
        return;
    for (unsigned i = 1; i < BIAS_LANES; i++)
        sum += part_sum[i * BIAS_COLUMNS + x];
    float *const to = db + static_cast<uint64_t>(expert) * width + column;
    *to = add ? *to + sum : sum;
}

template <typename T> void expert_bias_add(const struct cuda_expert_bias *b)
{
    const unsigned rows = static_cast<unsigned>(b->n * b->batch);
    if (rows)
        launch("expert bias", expert_bias_kernel<T>, rows, threads_for(b->width, BIAS_THREADS), 0, b->a->stream,
               static_cast<T *>(b->y), static_cast<const T *>(b->bias), expert_rows_of(b->a), b->e,
               static_cast<unsigned>(b->n), b->row, b->width);
}

template <typename T> void expert_bias_sums(const struct op_args *a)
{
    const expert_rows r = expert_rows_of(a);
    for (int i = 0; i < 3; i++) {
        const unsigned width = i < 2 ? a->attrs->ffn : a->attrs->features;
        if (!a->dparam[3 + i])
            continue;
        launch("expert bias BW", expert_bias_sums_kernel<T>, dim3(blocks_for(width, BIAS_COLUMNS), r.local),
               BIAS_THREADS, 0, a->stream, static_cast<float *>(a->dparam[3 + i]),
               static_cast<const T *>(i < 2 ? a->stash[i] : a->dout[0]), r, width, (a->dparam_add >> (3 + i) & 1) != 0);
    }
}
} // namespace

extern "C" void cuda_expert_bias_add(const struct cuda_expert_bias *b)
{
    if (b->a->compute == IR_BF16)
        expert_bias_add<bf16>(b);
    else
        expert_bias_add<float>(b);
}

extern "C" void cuda_expert_bias_sums(const struct op_args *a)
{
    if (a->compute == IR_BF16)
        expert_bias_sums<bf16>(a);
    else
        expert_bias_sums<float>(a);
}
