/* Sums over the rows of a matrix: bias gradients, parameter gradients of norms; and the addition of a bias.
 *
 * Two steps, so that all of the GPU reads: blocks sum parts of the rows of a strip of columns into `work`, (2, parts,
 * width) float32, then a block sums the parts of 32 columns. */
#include "cuda/kernel.cuh"

namespace
{
enum { COLUMN_THREADS = 256, JOIN_COLUMNS = 32, JOIN_LANES = COLUMN_THREADS / JOIN_COLUMNS };

template <typename T> struct column_operands {
    const T *dy, *x;
    const float *mean, *rstd;
    float *dw, *db; /* (parts, width), NULL: not asked for */
    uint64_t rows, part_rows;
    unsigned width, ld, group, groups; /* groups: statistics of a row */
};

/* A block has lanes_x vectors of columns and COLUMN_THREADS/lanes_x rows at a time. WEIGHT: dw is asked for. */
template <typename T, int V, bool WEIGHT>
__global__ void __launch_bounds__(COLUMN_THREADS) column_kernel(column_operands<T> p, unsigned lanes_x)
{
    SHARED(float, room, COLUMN_THREADS *V);
    const unsigned lx = threadIdx.x % lanes_x, ly = threadIdx.x / lanes_x, lanes_y = COLUMN_THREADS / lanes_x;
    const uint64_t first = blockIdx.y * p.part_rows;
    const uint64_t end = first + p.part_rows < p.rows ? first + p.part_rows : p.rows;
    const unsigned column = (blockIdx.x * lanes_x + lx) * V;
    float dw[V] = {}, db[V] = {};
    if (column < p.width)
#pragma unroll 4
        for (uint64_t r = first + ly; r < end; r += lanes_y) {
            float d[V], v[V];
            load(d, p.dy + r * p.ld + column);
            if (WEIGHT)
                load(v, p.x + r * p.ld + column);
            const uint64_t of = WEIGHT ? r * p.groups + column / p.group : 0;
            const float mean = WEIGHT && p.mean ? p.mean[of] : 0, rstd = WEIGHT ? p.rstd[of] : 0;
#pragma unroll
            for (int k = 0; k < V; k++) {
                db[k] += d[k];
                if (WEIGHT)
                    dw[k] += d[k] * ((v[k] - mean) * rstd);
            }
        }
    for (int which = WEIGHT ? 0 : 1; which < 2; which++) {
        float *to = which ? p.db : p.dw;
        if (!to)
            continue;
#pragma unroll
        for (int k = 0; k < V; k++)
            room[k * COLUMN_THREADS + threadIdx.x] = which ? db[k] : dw[k];
        __syncthreads();
        for (unsigned i = threadIdx.x; i < lanes_x * V; i += COLUMN_THREADS) {
            const unsigned at = blockIdx.x * lanes_x * V + i;
            float sum = 0;
            for (unsigned y = 0; y < lanes_y; y++)
                sum += room[i % V * COLUMN_THREADS + y * lanes_x + i / V];
            if (at < p.width)
                to[static_cast<uint64_t>(blockIdx.y) * p.width + at] = sum;
        }
        __syncthreads();
    }
}

__global__ void __launch_bounds__(COLUMN_THREADS)
    column_join_kernel(float *to, const float *__restrict__ part, unsigned parts, unsigned width, bool add)
{
    SHARED(float, room, COLUMN_THREADS);
    const unsigned x = threadIdx.x % JOIN_COLUMNS, y = threadIdx.x / JOIN_COLUMNS;
    const unsigned column = blockIdx.x * JOIN_COLUMNS + x;
    float sum = 0;
    if (column < width)
#pragma unroll 8
        for (unsigned i = y; i < parts; i += JOIN_LANES)
            sum += part[static_cast<uint64_t>(i) * width + column];
    room[threadIdx.x] = sum;
    __syncthreads();
    if (y > 0 || column >= width)
        return;
    for (unsigned i = 1; i < JOIN_LANES; i++)
        sum += room[i * JOIN_COLUMNS + x];
    to[column] = add ? to[column] + sum : sum;
}

template <typename T, int V> void column_parts(const struct cuda_columns *c, float *const work[2], unsigned parts)
{
    unsigned lanes_x = 1;
    while (lanes_x < WARP && lanes_x * V < c->width)
        lanes_x *= 2;
    const column_operands<T> p = { static_cast<const T *>(c->dy),
                                   static_cast<const T *>(c->x),
                                   c->mean,
                                   c->rstd,
                                   c->dw ? work[0] : nullptr,
                                   c->db ? work[1] : nullptr,
                                   c->rows,
                                   (c->rows + parts - 1) / parts,
                                   c->width,
                                   c->ld ? c->ld : c->width,
                                   c->group ? c->group : c->width,
                                   c->group ? c->width / c->group : 1 };
    launch("column sums", c->dw ? column_kernel<T, V, true> : column_kernel<T, V, false>,
           dim3(blocks_for(c->width, lanes_x * V), parts), COLUMN_THREADS, 0, c->stream, p, lanes_x);
}

template <typename T> void column_sums(const struct cuda_columns *c)
{
    const unsigned parts = cuda_parts(c->rows, CUDA_COLUMN_ROWS, CUDA_COLUMN_PARTS);
    float *const first = static_cast<float *>(c->work);
    float *const work[2] = { first, first + static_cast<uint64_t>(parts) * c->width };
    if (wide<T>(c->width, c->dy, c->x) && wide<T>(c->ld) && wide<T>(c->group))
        column_parts<T, vector_of<T>>(c, work, parts);
    else
        column_parts<T, 1>(c, work, parts);
    for (int which = 0; which < 2; which++) {
        float *to = which ? c->db : c->dw;
        if (to)
            launch("column sums", column_join_kernel, blocks_for(c->width, JOIN_COLUMNS), COLUMN_THREADS, 0, c->stream,
                   to, work[which], parts, c->width, which ? c->add_db : c->add_dw);
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(COLUMN_THREADS)
    column_bias_kernel(T *y, const T *__restrict__ bias, unsigned width, const ir_run rows)
{
    T *const row = y + static_cast<uint64_t>(blockIdx.x) * width;
    const bool biased = blockIdx.x - rows.first < rows.count;
    for (unsigned i = threadIdx.x * V; i < width; i += blockDim.x * V) {
        float v[V] = {};
        if (biased)
            load(v, bias + i);
        store(row + i, v);
    }
}

template <typename T> void column_bias(const struct cuda_bias_rows *c)
{
    enum { V = vector_of<T> };
    const bool fits = wide<T>(c->width, c->y, c->bias);
    launch("bias", fits ? column_bias_kernel<T, V> : column_bias_kernel<T, 1>, static_cast<unsigned>(c->rows),
           threads_for(fits ? c->width / V : c->width, COLUMN_THREADS), 0, c->stream, static_cast<T *>(c->y),
           static_cast<const T *>(c->bias), c->width, c->biased);
}
} // namespace

extern "C" void cuda_column_sums(const struct cuda_columns *c)
{
    if (c->compute == IR_BF16)
        column_sums<bf16>(c);
    else
        column_sums<float>(c);
}

extern "C" void cuda_bias_rows(const struct cuda_bias_rows *c)
{
    if (c->compute == IR_BF16)
        column_bias<bf16>(c);
    else
        column_bias<float>(c);
}
