/* Top-k router (ir/op.h): scores in float32, the softmax over the experts or sigmoids, ties to the lower index; its losses are in
 * router_loss.cuh. What is saved are the scores of all rows, and behind them the logits of all where z_coef asks for them.
 *
 * A warp has a row of scores, in shared memory, and what its groups are worth. IR_COUNTS: phase 0 counts the choices of the tokens here,
 * run by run; phase 1 has those of all devices. */
#include "cuda/product.cuh"
#include "cuda/router_loss.cuh"

namespace
{
/* How experts are chosen. */
template <typename T> struct router_choice {
    const T *bias;               /* (experts), added to the logits; NULL: none */
    const float *select;         /* (experts), added to the scores for the choice alone; NULL: none */
    unsigned groups, top_groups; /* 0: none */
    bool best;                   /* a group is as good as its best, not its two best */
};

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

/* out (experts): the scores of the logits, which get their bias; they may lie in its place. p (experts): what they are chosen by. */
template <typename T>
__device__ __forceinline__ void router_scores(float *p, float *out, float *logits, const router_shape &s,
                                              const router_choice<T> &how)
{
    float most = -INFINITY, sum = 0;
    for (unsigned e = lane_id(); e < s.experts; e += WARP) {
        float bias[1] = {};
        if (how.bias)
            load(bias, how.bias + e);
        p[e] = logits[e] += bias[0];
        most = fmaxf(most, p[e]);
    }
    most = warp_max(most);
    for (unsigned e = lane_id(); e < s.experts && !s.sigmoid; e += WARP)
        sum += p[e] = expf(p[e] - most);
    const float scale = s.sigmoid ? 1 : 1 / warp_sum(sum);
    for (unsigned e = lane_id(); e < s.experts; e += WARP) {
        const float select = how.select ? how.select[e] : 0;
        out[e] = s.sigmoid ? 1 / (1 + expf(-p[e])) : p[e] * scale;
        p[e] = router_wish(out[e], select);
    }
    __syncwarp();
}

/* probs (rows, experts): the scores of logits, which may lie in their place. weight, index (rows, k). load (experts) or NULL: choices
 * are counted. */
template <typename T>
__global__ void __launch_bounds__(ROUTER_THREADS)
    router_choose_kernel(float *probs, float *logits, float *weight, int32_t *index, double *load, router_shape s,
                         router_choice<T> how)
{
    DYNAMIC_SHARED(float, shared);
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * ROUTER_WARPS + threadIdx.x / WARP;
    if (row >= s.rows)
        return;
    float *const p = router_row(shared, s.experts + how.groups), *const out = probs + row * s.experts;
    router_scores(p, out, logits + row * s.experts, s, how);
    if (how.groups)
        router_shut(p, p + s.experts, s.experts, how);
    int32_t *const chosen = index + row * s.k;
    router_take(chosen, p, s.experts, s.k);
    float sum = s.eps;
    for (unsigned j = 0; j < s.k; j++)
        sum += out[chosen[j]];
    for (unsigned j = lane_id(); j < s.k; j += WARP) {
        weight[row * s.k + j] = out[chosen[j]];
        if (load)
            atomicAdd(&load[chosen[j]], 1.0); /* whole numbers: any order gives the same */
    }
    for (unsigned j = lane_id(); j < s.k && (s.norm || s.scale != 1); j += WARP)
        weight[row * s.k + j] = (s.norm ? weight[row * s.k + j] / sum : weight[row * s.k + j]) * s.scale;
}

/* ---- backward ------------------------------------------------------------------------------------------------------ */

/* dlogits (rows, experts) from the gradients of the weights (rows, k), aux (sequences, experts), of each score or of its part of their sum,
 * and z_factor times the squared log-sum-exp of the logits (rows, experts); NULL: none. */
__global__ void __launch_bounds__(ROUTER_THREADS)
    router_logits_grad_kernel(float *__restrict__ dlogits, const float *__restrict__ probs,
                              const int32_t *__restrict__ index, const float *__restrict__ dweight, const float *aux,
                              bool parts, const float *__restrict__ logits, float z_factor, router_shape s)
{
    DYNAMIC_SHARED(float, shared);
    const uint64_t row = static_cast<uint64_t>(blockIdx.x) * ROUTER_WARPS + threadIdx.x / WARP;
    if (row >= s.rows)
        return;
    const float *const p = probs + row * s.experts, *const dw = dweight + row * s.k;
    const int32_t *const chosen = index + row * s.k;
    float *const dp = router_row(shared, s.experts);
    const float *const g = aux ? aux + s.map.sequence(static_cast<unsigned>(row)) * s.experts : nullptr;
    for (unsigned e = lane_id(); e < s.experts && !(g && parts); e += WARP)
        dp[e] = g ? g[e] : 0;
    if (g && parts)
        router_parts_grad(dp, g, p, s.experts);
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
        dp[e] = s.sigmoid ? dp[e] * p[e] * (1 - p[e]) : p[e] * (dp[e] - inner);
    if (logits) {
        const float *const l = logits + row * s.experts;
        const float z = router_log_sum_exp(l, s.experts);
        for (unsigned e = lane_id(); e < s.experts; e += WARP)
            dp[e] += 2 * z_factor * z * expf(l[e] - z);
    }
    for (unsigned e = lane_id(); e < s.experts; e += WARP)
        dlogits[row * s.experts + e] = dp[e];
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
                       a->positions ? a->positions->t_all : a->t,
                       nullptr,
                       0,
                       1,
                       1 };
    if (p) {
        s.told = static_cast<const int32_t *>(a->save[1]);
        s.part = p->part;
        s.parts = p->parts;
        s.sets = op_sets(p);
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

/* Scratch of a pass (router_bytes() in ir/target_cuda_own.c), each where an attribute asks for it, else NULL. */
struct router_work {
    double *loss;   /* F: (b) */
    float *aux;     /* BI: (b, experts) */
    float *probs;   /* F, not kept: (rows, experts), and behind them as many logits where z_coef asks for them */
    float *total;   /* F: (rows) */
    float *z;       /* F: (rows) */
    int32_t *plain; /* (rows, k) */
};

router_work router_work_of(const struct op_args *a, const router_shape &s, bool forward)
{
    const struct ir_attrs *at = a->attrs;
    const bool parts = (at->flags & IR_SEQUENCE_LOSS) != 0;
    router_work w = {};
    float *next = static_cast<float *>(a->work);
    if (forward) {
        w.loss = static_cast<double *>(a->work);
        next += (a->b * sizeof *w.loss + 63) / 64 * 64 / sizeof *next;
        w.probs = static_cast<float *>(a->save[0]);
        if (!w.probs) {
            w.probs = next;
            next += s.rows * s.experts * (at->z_coef > 0 ? 2 : 1);
        }
        w.total = parts ? next : nullptr;
        next += parts ? s.rows : 0;
        w.z = at->z_coef > 0 ? next : nullptr;
        next += at->z_coef > 0 ? s.rows : 0;
    } else if (at->aux_coef > 0) {
        w.aux = next;
        next += static_cast<uint64_t>(a->b) * s.experts;
    }
    if (ir_op_counts_apart(at))
        w.plain = reinterpret_cast<int32_t *>(next);
    return w;
}

/* plain and total, as far as they are asked for. */
void router_plain(const struct op_args *a, const router_shape &s, int32_t *plain, float *total, const float *probs)
{
    if (plain || total)
        launch("router balance", router_plain_kernel, blocks_for(s.rows, ROUTER_WARPS), ROUTER_THREADS,
               router_shared(s.experts), a->stream, plain, total, probs, s);
}

/* The weights are float32 where the operator says so (W), whatever the job's type T. */
template <typename T, typename W>
void router_choose(const struct op_args *a, const router_shape &s, const router_work &w)
{
    const unsigned c = a->attrs->features;
    float *logits = w.z ? w.probs + s.rows * s.experts : w.probs;
    const product_operands<T, W, float> p = { logits,
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
           router_shared(s.experts + how.groups), a->stream, w.probs, logits, static_cast<float *>(a->out[0]),
           static_cast<int32_t *>(a->out[1]), a->load, s, how);
    if (!w.z)
        return;
    launch("router F z", router_z_kernel, blocks_for(s.rows, ROUTER_WARPS), ROUTER_THREADS, 0, a->stream, w.z, logits,
           s);
    launch("router F z", router_z_sum_kernel, 1, BALANCE_THREADS, 0, a->stream, a->scalars + SCALAR_AUX, w.z, s.rows,
           static_cast<double>(a->attrs->z_coef) / s.whole);
}

/* The balance loss is of all experts, and of parts of a sum over the k chosen too. */
double router_balance_factor(const struct ir_attrs *at)
{
    const double factor = static_cast<double>(at->aux_coef) * at->experts;
    return at->flags & IR_SEQUENCE_LOSS ? factor / at->top_k : factor;
}

template <typename T> void router_f(const struct op_args *a)
{
    const router_shape s = router_of(a);
    const router_work w = router_work_of(a, s, true);
    const bool counted = a->positions && a->positions->split == IR_COUNTS; /* s.told NULL: F computed again */
    const int32_t *index = w.plain ? w.plain : static_cast<const int32_t *>(a->out[1]);
    if (a->phase == 0 && (a->attrs->flags & IR_FLOAT32) != 0)
        router_choose<T, float>(a, s, w);
    else if (a->phase == 0)
        router_choose<T, T>(a, s, w);
    router_plain(a, s, counted && !(s.told && a->phase == 0) ? nullptr : w.plain,
                 counted && a->phase == 0 ? nullptr : w.total, w.probs);
    for (unsigned set = 0; s.told && a->phase == 0 && set < s.sets; set++) /* the last is what the loss counts */
        launch("router F counts", router_tell_kernel, dim3(a->b, 2), BALANCE_THREADS, 0, a->stream,
               static_cast<int32_t *>(a->save[1]), set + 1 < s.sets ? static_cast<const int32_t *>(a->out[1]) : index,
               set, s);
    if (!(a->attrs->aux_coef > 0) || (counted && (a->phase == 0 || !s.told)))
        return;
    launch("router F balance", router_balance_kernel, a->b, BALANCE_THREADS, 0, a->stream, w.loss, w.probs, w.total,
           index, s);
    launch("router F balance", router_aux_kernel, 1, 1, 0, a->stream, a->scalars + SCALAR_AUX, w.loss, a->b,
           router_balance_factor(a->attrs));
}

template <typename T, typename W> void router_inputs(const struct op_args *a)
{
    const router_shape s = router_of(a);
    const router_work w = router_work_of(a, s, false);
    const unsigned c = a->attrs->features;
    const int32_t *index = static_cast<const int32_t *>(a->out[1]);
    const float *probs = static_cast<const float *>(a->save[0]);
    float *dlogits = static_cast<float *>(a->stash[0]);
    if (!s.told)
        router_plain(a, s, w.plain, nullptr, probs);
    if (w.aux)
        launch("router BI balance", router_balance_grad_kernel, a->b, BALANCE_THREADS, 0, a->stream, w.aux,
               w.plain ? w.plain : index, s, router_balance_factor(a->attrs) * a->loss_scale);
    launch("router BI", router_logits_grad_kernel, blocks_for(s.rows, ROUTER_WARPS), ROUTER_THREADS,
           router_shared(s.experts), a->stream, dlogits, probs, index, static_cast<const float *>(a->dout[0]), w.aux,
           (a->attrs->flags & IR_SEQUENCE_LOSS) != 0, a->attrs->z_coef > 0 ? probs + s.rows * s.experts : nullptr,
           static_cast<float>(a->attrs->z_coef * a->loss_scale), s);
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
