/* Top-k router (ir/op.h): scores in float32, the softmax over the experts or sigmoids, ties to the lower index, auxiliary load-balance loss per sequence:
 * experts * sum over e of (tokens that chose e / T) * (mean probability of e), as in Switch Transformer (Fedus et al.
 * 2021) and Mixtral. The training loss takes aux_coef times its mean over sequences.
 *
 * A warp has a row of scores, in shared memory, and what its groups are worth. IR_COUNTS: phase 0 counts the choices of the tokens here, run by run; phase 1 has those
 * of all devices. */
#include "cuda/product.cuh"

namespace
{
enum { ROUTER_WARPS = 8, ROUTER_THREADS = ROUTER_WARPS * WARP, BALANCE_THREADS = 1024 };

struct router_shape {
    uint64_t rows;
    unsigned experts, k;
    bool norm; /* weights are divided by their sum + eps */
    bool sigmoid;
    float eps, scale;
    row_map map;
    unsigned b, whole;   /* sequences; T */
    const int32_t *told; /* (parts,2,b,experts); NULL: all tokens are here */
    unsigned part, parts;
};

/* How experts are chosen. */
template <typename T> struct router_choice {
    const T *bias;               /* (experts), added to the logits; NULL: none */
    const float *select;         /* (experts), added to the scores for the choice alone; NULL: none */
    unsigned groups, top_groups; /* 0: none */
    bool best;                   /* a group is as good as its best, not its two best */
};

/* Lane's row of shared memory of its warp. */
__device__ __forceinline__ float *router_row(float *shared, unsigned width)
{
    return shared + threadIdx.x / WARP * width;
}

/* What is not chosen from; all that may be chosen is larger. */
constexpr float ROUTER_TAKEN = -INFINITY, ROUTER_LEAST = -3.4e38f;

/* Index of the largest of p (experts), the lowest of equals, in every lane. */
__device__ __forceinline__ unsigned router_best(const float *p, unsigned experts)
{
    float most = -INFINITY;
    unsigned best = experts;
    for (unsigned e = lane_id(); e < experts; e += WARP)
        if (p[e] > most) {
            most = p[e];
            best = e;
        }
#pragma unroll
    for (int o = WARP / 2; o; o /= 2) {
        const float other = __shfl_xor_sync(ALL_LANES, most, o);
        const unsigned at = __shfl_xor_sync(ALL_LANES, best, o);
        if (other > most || (other == most && at < best)) {
            most = other;
            best = at;
        }
    }
    return best;
}

/* What the groups of p (experts) are worth: their two best, or their best. */
__device__ __forceinline__ void router_worth(float *worth, const float *p, unsigned size, unsigned groups, bool best)
{
    for (unsigned g = lane_id(); g < groups; g += WARP) {
        float first = -INFINITY, second = -INFINITY;
        for (unsigned e = g * size; e < (g + 1) * size; e++) {
            second = fmaxf(second, fminf(first, p[e]));
            first = fmaxf(first, p[e]);
        }
        worth[g] = fmaxf(best ? first : first + second, ROUTER_LEAST);
    }
    __syncwarp();
}

/* Shuts the groups of p that are not among the best. */
template <typename T>
__device__ __forceinline__ void router_shut(float *p, float *worth, unsigned experts, const router_choice<T> &how)
{
    const unsigned size = experts / how.groups;
    router_worth(worth, p, size, how.groups, how.best);
    for (unsigned j = 0; j < how.top_groups; j++) {
        const unsigned best = router_best(worth, how.groups);
        __syncwarp();
        if (lane_id() == 0)
            worth[best] = ROUTER_TAKEN;
        __syncwarp();
    }
    for (unsigned e = lane_id(); e < experts; e += WARP)
        if (worth[e / size] != ROUTER_TAKEN)
            p[e] = ROUTER_TAKEN;
    __syncwarp();
}

/* out (experts): logits become scores. p (experts): what they are chosen by. */
template <typename T>
__device__ __forceinline__ void router_scores(float *p, float *out, const router_shape &s, const router_choice<T> &how)
{
    float most = -INFINITY, sum = 0;
    for (unsigned e = lane_id(); e < s.experts; e += WARP) {
        float bias[1] = {};
        if (how.bias)
            load(bias, how.bias + e);
        p[e] = out[e] + bias[0];
        most = fmaxf(most, p[e]);
    }
    most = warp_max(most);
    for (unsigned e = lane_id(); e < s.experts && !s.sigmoid; e += WARP)
        sum += p[e] = expf(p[e] - most);
    const float scale = s.sigmoid ? 1 : 1 / warp_sum(sum);
    for (unsigned e = lane_id(); e < s.experts; e += WARP) {
        const float select = how.select ? how.select[e] : 0;
        out[e] = s.sigmoid ? 1 / (1 + expf(-p[e])) : p[e] * scale;
        const float wish = (out[e] >= 0 ? out[e] : 0) + select; /* a NaN must choose an expert that exists */
        p[e] = wish > ROUTER_LEAST ? wish : ROUTER_LEAST;
    }
    __syncwarp();
}

/* probs (rows, experts): logits become scores. weight, index (rows, k). load (experts) or NULL: choices are counted. */
template <typename T>
__global__ void __launch_bounds__(ROUTER_THREADS)
    router_choose_kernel(float *probs, float *weight, int32_t *index, double *load, router_shape s,
                         router_choice<T> how)
{
    DYNAMIC_SHARED(float, shared);
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * ROUTER_WARPS + threadIdx.x / WARP;
    if (row >= s.rows)
        return;
    float *const p = router_row(shared, s.experts + how.groups), *const out = probs + row * s.experts;
    router_scores(p, out, s, how);
    if (how.groups)
        router_shut(p, p + s.experts, s.experts, how);
    float sum = s.eps;
    for (unsigned j = 0; j < s.k; j++) {
        const unsigned best = router_best(p, s.experts);
        sum += out[best];
        __syncwarp();
        if (lane_id() == 0) {
            index[row * s.k + j] = static_cast<int32_t>(best);
            weight[row * s.k + j] = out[best];
            p[best] = ROUTER_TAKEN;
            if (load)
                atomicAdd(&load[best], 1.0); /* whole numbers: any order gives the same */
        }
        __syncwarp();
    }
    for (unsigned j = lane_id(); j < s.k && (s.norm || s.scale != 1); j += WARP)
        weight[row * s.k + j] = (s.norm ? weight[row * s.k + j] / sum : weight[row * s.k + j]) * s.scale;
}

/* ---- balance of a sequence ----------------------------------------------------------------------------------------- */

/* count (experts) in shared memory: choices of each by tokens [from, to) of the sequence blockIdx.x. */
__device__ __forceinline__ void router_count_here(int *count, const int32_t *index, const router_shape &s,
                                                  unsigned from, unsigned to)
{
    const uint64_t n = static_cast<uint64_t>(to - from) * s.k;
    for (unsigned e = threadIdx.x; e < s.experts; e += blockDim.x)
        count[e] = 0;
    __syncthreads();
    for (uint64_t i = threadIdx.x; i < n; i += blockDim.x)
        atomicAdd(&count[index[s.map.row(blockIdx.x, from + static_cast<unsigned>(i / s.k)) * s.k + i % s.k]],
                  1); /* integers: any order gives the same */
    __syncthreads();
}

/* Of the whole sequence. */
__device__ __forceinline__ void router_count(int *count, const int32_t *index, const router_shape &s)
{
    if (!s.told) {
        router_count_here(count, index, s, 0, s.map.t);
        return;
    }
    for (unsigned e = threadIdx.x; e < s.experts; e += blockDim.x) {
        count[e] = 0;
        for (unsigned i = 0; i < 2 * s.parts; i++)
            count[e] += s.told[(static_cast<uint64_t>(i) * s.b + blockIdx.x) * s.experts + e];
    }
    __syncthreads();
}

/* Own part of told. Blocks (sequences, runs). */
__global__ void __launch_bounds__(BALANCE_THREADS)
    router_tell_kernel(int32_t *told, const int32_t *__restrict__ index, router_shape s)
{
    SHARED(int, count, CUDA_MAX_EXPERTS);
    const unsigned from = blockIdx.y ? s.map.run0 : 0, to = blockIdx.y ? s.map.t : s.map.run0;
    router_count_here(count, index, s, from, to);
    for (unsigned e = threadIdx.x; e < s.experts; e += blockDim.x)
        told[((2ull * s.part + blockIdx.y) * s.b + blockIdx.x) * s.experts + e] = count[e];
}

/* loss (sequences): without coefficient. Threads are (lanes, experts); each sums a share of the tokens. */
__global__ void __launch_bounds__(BALANCE_THREADS)
    router_balance_kernel(double *loss, const float *__restrict__ probs, const int32_t *__restrict__ index,
                          router_shape s)
{
    SHARED(int, count, CUDA_MAX_EXPERTS);
    SHARED(double, part, BALANCE_THREADS);
    SHARED(double, room, MAX_WARPS);
    const unsigned e = threadIdx.x % s.experts, lane = threadIdx.x / s.experts, lanes = BALANCE_THREADS / s.experts;
    double sum = 0;
    router_count(count, index, s);
    if (lane < lanes)
#pragma unroll 8
        for (unsigned i = lane; i < s.map.t; i += lanes)
            sum += probs[s.map.row(blockIdx.x, i) * s.experts + e];
    part[threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    if (lane == 0) {
        for (unsigned l = 0; l < lanes; l++)
            sum += part[l * s.experts + e];
        sum *= static_cast<double>(count[e]) / s.whole / s.whole;
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        loss[blockIdx.x] = sum * s.experts;
}

__global__ void router_aux_kernel(double *scalar, const double *loss, unsigned n, double coefficient)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += loss[i];
    *scalar += coefficient * sum;
}

/* aux (sequences, experts): gradient of each probability from the balance loss. */
__global__ void __launch_bounds__(BALANCE_THREADS)
    router_balance_grad_kernel(float *aux, const int32_t *__restrict__ index, router_shape s, double factor)
{
    SHARED(int, count, CUDA_MAX_EXPERTS);
    router_count(count, index, s);
    for (unsigned e = threadIdx.x; e < s.experts; e += blockDim.x)
        aux[blockIdx.x * s.experts + e] = static_cast<float>(factor * (static_cast<double>(count[e]) / s.whole));
}

/* ---- backward ------------------------------------------------------------------------------------------------------ */

/* dlogits (rows, experts) from the gradients of the weights (rows, k) and aux (sequences, experts), NULL: none. */
__global__ void __launch_bounds__(ROUTER_THREADS)
    router_logits_grad_kernel(float *__restrict__ dlogits, const float *__restrict__ probs,
                              const int32_t *__restrict__ index, const float *__restrict__ dweight, const float *aux,
                              router_shape s)
{
    DYNAMIC_SHARED(float, shared);
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * ROUTER_WARPS + threadIdx.x / WARP;
    if (row >= s.rows)
        return;
    const float *const p = probs + row * s.experts, *const dw = dweight + row * s.k;
    const int32_t *const chosen = index + row * s.k;
    float *const dp = router_row(shared, s.experts);
    for (unsigned e = lane_id(); e < s.experts; e += WARP)
        dp[e] = aux ? aux[s.map.sequence(static_cast<unsigned>(row)) * s.experts + e] : 0;
    float sum = 0, mean = 0, inner = 0;
    for (unsigned j = lane_id(); j < s.k; j += WARP) {
        sum += p[chosen[j]];
        mean += dw[j] * p[chosen[j]];
    }
    sum = s.norm ? s.eps + warp_sum(sum) : 1;
    mean = s.norm ? warp_sum(mean) / sum : 0;
    __syncwarp();
    for (unsigned j = lane_id(); j < s.k; j += WARP)
        dp[chosen[j]] += s.scale * (dw[j] - mean) / sum;
    __syncwarp();
    for (unsigned e = lane_id(); e < s.experts && !s.sigmoid; e += WARP)
        inner += p[e] * dp[e];
    inner = warp_sum(inner);
    for (unsigned e = lane_id(); e < s.experts; e += WARP)
        dlogits[row * s.experts + e] = s.sigmoid ? dp[e] * p[e] * (1 - p[e]) : p[e] * (dp[e] - inner);
}

/* dw = the parts (parts, n), in order. */
__global__ void __launch_bounds__(ROUTER_THREADS)
    router_join_kernel(float *dw, const float *__restrict__ part, unsigned parts, uint64_t n, bool add)
{
    const uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    float sum = 0;
    for (unsigned j = 0; j < parts; j++)
        sum += part[j * n + i];
    dw[i] = add ? dw[i] + sum : sum;
}

router_shape router_of(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const struct op_positions *p = a->positions && a->positions->split == IR_COUNTS ? a->positions : nullptr;
    router_shape s = { rows_of(a),
                       at->experts,
                       at->top_k,
                       (at->flags & IR_NORM_TOPK) != 0,
                       (at->flags & IR_SIGMOID) != 0,
                       at->eps,
                       at->scale > 0 ? at->scale : 1,
                       row_map_of(a),
                       a->b,
                       a->t,
                       nullptr,
                       0,
                       1 };
    if (p) {
        s.whole = p->t_all;
        s.told = static_cast<const int32_t *>(a->save[1]);
        s.part = p->part;
        s.parts = p->parts;
    }
    return s;
}

template <typename T> router_choice<T> router_choice_of(const struct op_args *a)
{
    const struct ir_attrs *at = a->attrs;
    const bool bias = (at->flags & IR_BIAS) != 0, select = (at->flags & IR_SELECT_BIAS) != 0;
    return { bias ? static_cast<const T *>(a->param[1]) : nullptr,
             select ? static_cast<const float *>(a->param[bias ? 2 : 1]) : nullptr, at->groups, at->top_groups,
             (at->flags & IR_GROUP_BEST) != 0 };
}

size_t router_shared(unsigned width)
{
    return ROUTER_WARPS * width * sizeof(float);
}

template <typename T, typename W> void router_choose(const struct op_args *a, const router_shape &s, float *probs)
{
    const unsigned c = a->attrs->features;
    float *weight = static_cast<float *>(a->out[0]);
    int32_t *index = static_cast<int32_t *>(a->out[1]);
    const product_operands<T, W, float> p = { probs,
                                              nullptr,
                                              static_cast<const T *>(a->in[0]),
                                              static_cast<const W *>(a->param[0]),
                                              static_cast<unsigned>(s.rows),
                                              s.experts,
                                              c,
                                              c,
                                              c,
                                              c };
    product<true, true>("router F", p, a->stream);
    const router_choice<T> how = router_choice_of<T>(a);
    launch("router F", router_choose_kernel<T>, blocks_for(s.rows, ROUTER_WARPS), ROUTER_THREADS,
           router_shared(s.experts + how.groups), a->stream, probs, weight, index, a->load, s, how);
    if (s.told)
        launch("router F counts", router_tell_kernel, dim3(a->b, 2), BALANCE_THREADS, 0, a->stream,
               static_cast<int32_t *>(a->save[1]), index, s);
}

/* The weights are float32 where the operator says so, whatever the job's type T.
 * work: balance loss of each sequence, then the probabilities that evaluation does not keep. */
template <typename T> void router_f(const struct op_args *a)
{
    const router_shape s = router_of(a);
    const bool counted = a->positions && a->positions->split == IR_COUNTS;
    double *loss = static_cast<double *>(a->work);
    float *probs = static_cast<float *>(a->save[0]);
    if (!probs)
        probs = static_cast<float *>(a->work) + (a->b * sizeof *loss + 63) / 64 * 64 / sizeof *probs;
    if (a->phase == 0 && (a->attrs->flags & IR_FLOAT32) != 0)
        router_choose<T, float>(a, s, probs);
    else if (a->phase == 0)
        router_choose<T, T>(a, s, probs);
    if (!(a->attrs->aux_coef > 0) || (counted && a->phase == 0))
        return;
    launch("router F balance", router_balance_kernel, a->b, BALANCE_THREADS, 0, a->stream, loss, probs,
           static_cast<const int32_t *>(a->out[1]), s);
    launch("router F balance", router_aux_kernel, 1, 1, 0, a->stream, a->scalars + SCALAR_AUX, loss, a->b,
           a->attrs->aux_coef);
}

template <typename T, typename W> void router_inputs(const struct op_args *a)
{
    const router_shape s = router_of(a);
    const unsigned c = a->attrs->features;
    const int32_t *index = static_cast<const int32_t *>(a->out[1]);
    float *aux = a->attrs->aux_coef > 0 ? static_cast<float *>(a->work) : nullptr;
    float *dlogits = static_cast<float *>(a->stash[0]);
    if (aux)
        launch("router BI balance", router_balance_grad_kernel, a->b, BALANCE_THREADS, 0, a->stream, aux, index, s,
               static_cast<double>(a->attrs->aux_coef) * a->loss_scale * s.experts);
    launch("router BI", router_logits_grad_kernel, blocks_for(s.rows, ROUTER_WARPS), ROUTER_THREADS,
           router_shared(s.experts), a->stream, dlogits, static_cast<const float *>(a->save[0]), index,
           static_cast<const float *>(a->dout[0]), aux, s);
    const product_operands<float, W, T> p = { static_cast<T *>(a->din[0]),
                                              static_cast<const T *>(a->acc[0]),
                                              dlogits,
                                              static_cast<const W *>(a->param[0]),
                                              static_cast<unsigned>(s.rows),
                                              c,
                                              s.experts,
                                              s.experts,
                                              s.experts,
                                              c };
    product<true, false>("router BI", p, a->stream);
}

template <typename T> void router_bi(const struct op_args *a)
{
    if (a->attrs->flags & IR_FLOAT32)
        router_inputs<T, float>(a);
    else
        router_inputs<T, T>(a);
}

/* The bias of the logits; the one of the choice has no gradient. */
void bias_bw(const struct op_args *a, const router_shape &s)
{
    if (!(a->attrs->flags & IR_BIAS))
        return;
    struct cuda_columns c = {};
    c.dy = a->stash[0];
    c.db = static_cast<float *>(a->dparam[1]);
    c.add_db = a->dparam_add >> 1 & 1;
    c.rows = s.rows;
    c.width = s.experts;
    c.compute = IR_F32;
    c.work = a->work; /* the product's parts are joined */
    c.stream = a->stream;
    cuda_column_sums(&c);
}

template <typename T> void router_bw(const struct op_args *a)
{
    const router_shape s = router_of(a);
    const unsigned c = a->attrs->features, parts = cuda_parts(s.rows, CUDA_PRODUCT_ROWS, CUDA_PRODUCT_PARTS);
    const uint64_t n = static_cast<uint64_t>(s.experts) * c, each = (s.rows + parts - 1) / parts;
    float *part = static_cast<float *>(a->work);
    const product_operands<float, T, float> p = { part,
                                                  nullptr,
                                                  static_cast<const float *>(a->stash[0]),
                                                  static_cast<const T *>(a->in[0]),
                                                  s.experts,
                                                  c,
                                                  s.rows,
                                                  each,
                                                  s.experts,
                                                  c };
    product<false, false>("router BW", p, a->stream);
    launch("router BW", router_join_kernel, blocks_for(n, ROUTER_THREADS), ROUTER_THREADS, 0, a->stream,
           static_cast<float *>(a->dparam[0]), part, blocks_for(s.rows, each), n, (a->dparam_add & 1) != 0);
    bias_bw(a, s);
}
} // namespace

FOR_BOTH_TYPES(router_f)
FOR_BOTH_TYPES(router_bi)
FOR_BOTH_TYPES(router_bw)
