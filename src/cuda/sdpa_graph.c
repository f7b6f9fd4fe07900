/* The operations of causal attention, forward and backward, in the order that cuDNN's engines look for. Equations: Dao et al. 2022,
 * "FlashAttention". P and dS are bfloat16 where they enter a product; all else inside is float32. */
#include "cuda/sdpa_graph.h"

#include <stdio.h>
#include <string.h>

typedef cudnnBackendDescriptor_t desc;

/* ---- descriptors ------------------------------------------------------------------------------------------------------ */

static void check(struct cuda__sdpa_graph *g, cudnnStatus_t status, const char *call)
{
    char words[224] = "";
    if (status == CUDNN_STATUS_SUCCESS || g->status != CUDNN_STATUS_SUCCESS)
        return;
    cudnnGetLastErrorString(words, sizeof words);
    g->status = status;
    snprintf(g->failed, sizeof g->failed, "%s: %s %s", call, cudnnGetErrorString(status), words);
}

desc cuda__sdpa_new(struct cuda__sdpa_graph *g, cudnnBackendDescriptorType_t type)
{
    desc d = NULL;
    if (g->status != CUDNN_STATUS_SUCCESS)
        return NULL;
    check(g, cudnnBackendCreateDescriptor(type, &d), "cudnnBackendCreateDescriptor");
    if (d)
        vec_add(&g->all, d);
    return d;
}

void cuda__sdpa_set(struct cuda__sdpa_graph *g, desc d, cudnnBackendAttributeName_t name,
                    cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        check(g, cudnnBackendSetAttribute(d, name, type, n, values), "cudnnBackendSetAttribute");
}

void cuda__sdpa_point(struct cuda__sdpa_graph *g, desc d, cudnnBackendAttributeName_t name, desc to)
{
    cuda__sdpa_set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &to);
}

void cuda__sdpa_finalize(struct cuda__sdpa_graph *g, desc d)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        check(g, cudnnBackendFinalize(d), "cudnnBackendFinalize");
}

void cuda__sdpa_release(struct cuda__sdpa_graph *g)
{
    while (g->all.n > 0)
        cudnnBackendDestroyDescriptor(g->all.at[--g->all.n]);
    vec_free(&g->all);
}

/* ---- tensors ------------------------------------------------------------------------------------------------------------ */

struct box {
    int64_t dim[4], stride[4];
};

static desc tensor(struct cuda__sdpa_graph *g, int64_t number, cudnnDataType_t type, const struct box *b)
{
    const bool inside = number >= SDPA_INSIDE, by_value = number >= SDPA_SCALE && !inside;
    const int64_t alignment = number == SDPA_STATS ? 4 : 16; /* slices of statistics start at any row */
    desc d = cuda__sdpa_new(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    cuda__sdpa_set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &number);
    cuda__sdpa_set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    cuda__sdpa_set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    cuda__sdpa_set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, b->dim);
    cuda__sdpa_set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, b->stride);
    cuda__sdpa_set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &inside);
    cuda__sdpa_set(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    cuda__sdpa_finalize(g, d);
    return d;
}

/* (b, heads, rows, columns) without gaps. */
static struct box dense(int64_t b, int64_t heads, int64_t rows, int64_t columns)
{
    return (struct box){ { b, heads, rows, columns }, { heads * rows * columns, rows * columns, columns, 1 } };
}

static struct box transposed(struct box b)
{
    return (struct box){ { b.dim[0], b.dim[1], b.dim[3], b.dim[2] },
                         { b.stride[0], b.stride[1], b.stride[3], b.stride[2] } };
}

static desc inside(struct cuda__sdpa_graph *g, cudnnDataType_t type, struct box b)
{
    return tensor(g, SDPA_INSIDE + g->n_inside++, type, &b);
}

/* Scores (b, heads, t, t) or a column of them (b, heads, t, 1), float32. */
static desc scores(struct cuda__sdpa_graph *g, const struct cuda_sdpa_shape *s, int64_t columns)
{
    return inside(g, CUDNN_DATA_FLOAT, dense(s->b, s->heads, s->t, columns));
}

static desc column(struct cuda__sdpa_graph *g, const struct cuda_sdpa_shape *s, enum cuda__sdpa_tensor number)
{
    struct box b = dense(s->b, s->heads, s->t, 1);
    if (number == SDPA_STATS)
        b.stride[0] = s->step_stats;
    return tensor(g, number, CUDNN_DATA_FLOAT, &b);
}

static desc scalar(struct cuda__sdpa_graph *g, enum cuda__sdpa_tensor number)
{
    const struct box b = { { 1, 1, 1, 1 }, { 1, 1, 1, 1 } };
    return tensor(g, number, CUDNN_DATA_FLOAT, &b);
}

static struct box box_of(const struct cuda_sdpa_shape *s, enum cuda__sdpa_tensor number)
{
    const int64_t d = s->d;
    switch (number) {
    case SDPA_Q:
    case SDPA_DQ:
        return (struct box){ { s->b, s->heads, s->t, d }, { s->step_q, d, s->row_q, 1 } };
    case SDPA_K:
    case SDPA_DK:
        return (struct box){ { s->b, s->kv_heads, s->t, d }, { s->step_k, d, s->row_k, 1 } };
    case SDPA_V:
    case SDPA_DV:
        return (struct box){ { s->b, s->kv_heads, s->t, d }, { s->step_v, d, s->row_v, 1 } };
    default:
        return (struct box){ { s->b, s->heads, s->t, d }, { s->step_o, d, s->row_o, 1 } };
    }
}

static desc operand(struct cuda__sdpa_graph *g, const struct cuda_sdpa_shape *s, enum cuda__sdpa_tensor number,
                    bool turned)
{
    struct box b = box_of(s, number);
    if (turned)
        b = transposed(b);
    return tensor(g, number, CUDNN_DATA_BFLOAT16, &b);
}

/* ---- operations ----------------------------------------------------------------------------------------------------------- */

static void add(struct cuda__sdpa_graph *g, desc op)
{
    cuda__sdpa_finalize(g, op);
    if (g->status == CUDNN_STATUS_SUCCESS)
        g->ops[g->n_ops++] = op;
}

/* axis: of GEN_INDEX, else -1. Precisions are those of NVIDIA's own graphs. */
static desc point(struct cuda__sdpa_graph *g, cudnnPointwiseMode_t mode, int64_t axis)
{
    const cudnnDataType_t precision = mode == CUDNN_POINTWISE_CMP_GE ? CUDNN_DATA_BOOLEAN : CUDNN_DATA_FLOAT;
    desc how = cuda__sdpa_new(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    cuda__sdpa_set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    cuda__sdpa_set(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    if (axis >= 0)
        cuda__sdpa_set(g, how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
    cuda__sdpa_finalize(g, how);
    return how;
}

/* y = how(x, b, t); b, t may be NULL. */
static desc apply(struct cuda__sdpa_graph *g, desc how, desc x, desc b, desc t, desc y)
{
    desc op = cuda__sdpa_new(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b)
        cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    if (t)
        cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    add(g, op);
    return y;
}

static desc pointwise(struct cuda__sdpa_graph *g, cudnnPointwiseMode_t mode, desc x, desc b, desc y)
{
    return apply(g, point(g, mode, -1), x, b, NULL, y);
}

static desc product(struct cuda__sdpa_graph *g, desc a, desc b, desc c)
{
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    desc how = cuda__sdpa_new(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    cuda__sdpa_set(g, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    cuda__sdpa_finalize(g, how);
    desc op = cuda__sdpa_new(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    add(g, op);
    return c;
}

/* Over the dimensions in which y has size 1; over groups of heads where y has fewer of them. */
static desc reduce(struct cuda__sdpa_graph *g, cudnnReduceTensorOp_t what, desc x, desc y)
{
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    desc how = cuda__sdpa_new(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    cuda__sdpa_set(g, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &what);
    cuda__sdpa_set(g, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    cuda__sdpa_finalize(g, how);
    desc op = cuda__sdpa_new(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    add(g, op);
    return y;
}

static desc reshape(struct cuda__sdpa_graph *g, desc x, desc y)
{
    desc op = cuda__sdpa_new(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    cuda__sdpa_point(g, op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    add(g, op);
    return y;
}

/* x where the row is not before the column, else minus infinity. */
static desc causal(struct cuda__sdpa_graph *g, const struct cuda_sdpa_shape *s, desc x)
{
    const struct box all = dense(s->b, s->heads, s->t, s->t);
    desc row = inside(g, CUDNN_DATA_INT32, all), col = inside(g, CUDNN_DATA_INT32, all);
    desc seen = inside(g, CUDNN_DATA_BOOLEAN, all);
    apply(g, point(g, CUDNN_POINTWISE_GEN_INDEX, 2), x, NULL, NULL, row);
    apply(g, point(g, CUDNN_POINTWISE_GEN_INDEX, 3), x, NULL, NULL, col);
    pointwise(g, CUDNN_POINTWISE_CMP_GE, row, col, seen);
    return apply(g, point(g, CUDNN_POINTWISE_BINARY_SELECT, -1), x, scalar(g, SDPA_MINUS_INFINITY), seen,
                 scores(g, s, s->t));
}

/* ---- the two graphs ------------------------------------------------------------------------------------------------------- */

static void forward(struct cuda__sdpa_graph *g, const struct cuda_sdpa_shape *s)
{
    desc q = operand(g, s, SDPA_Q, false), k = operand(g, s, SDPA_K, true), v = operand(g, s, SDPA_V, false);
    desc o = operand(g, s, SDPA_O, false), stats = column(g, s, SDPA_STATS);
    desc x = product(g, q, k, scores(g, s, s->t));
    x = pointwise(g, CUDNN_POINTWISE_MUL, x, scalar(g, SDPA_SCALE), scores(g, s, s->t));
    x = causal(g, s, x);
    desc most = reduce(g, CUDNN_REDUCE_TENSOR_MAX, x, scores(g, s, 1));
    x = pointwise(g, CUDNN_POINTWISE_SUB, x, most, scores(g, s, s->t));
    x = pointwise(g, CUDNN_POINTWISE_EXP, x, NULL, scores(g, s, s->t));
    desc sum = reduce(g, CUDNN_REDUCE_TENSOR_ADD, x, scores(g, s, 1));
    desc log = pointwise(g, CUDNN_POINTWISE_LOG, sum, NULL, scores(g, s, 1));
    pointwise(g, CUDNN_POINTWISE_ADD, most, log, stats);
    desc p = inside(g, CUDNN_DATA_BFLOAT16, dense(s->b, s->heads, s->t, s->t));
    pointwise(g, CUDNN_POINTWISE_DIV, x, sum, p);
    product(g, p, v, o);
}

/* dk or dv = x' y, x (t, t): transposed by a reshape, and summed over the query heads that share a key/value head. */
static void key_gradient(struct cuda__sdpa_graph *g, const struct cuda_sdpa_shape *s, desc x, desc y,
                         enum cuda__sdpa_tensor to)
{
    desc turned = inside(g, CUDNN_DATA_BFLOAT16, transposed(dense(s->b, s->heads, s->t, s->t)));
    desc out = operand(g, s, to, false);
    reshape(g, x, turned);
    if (s->heads == s->kv_heads) {
        product(g, turned, y, out);
        return;
    }
    desc full = inside(g, CUDNN_DATA_BFLOAT16, dense(s->b, s->heads, s->t, s->d));
    product(g, turned, y, full);
    reduce(g, CUDNN_REDUCE_TENSOR_ADD, full, out);
}

static void backward(struct cuda__sdpa_graph *g, const struct cuda_sdpa_shape *s)
{
    desc q = operand(g, s, SDPA_Q, false), kt = operand(g, s, SDPA_K, true), vt = operand(g, s, SDPA_V, true);
    desc o = operand(g, s, SDPA_O, false), dout = operand(g, s, SDPA_DOUT, false), stats = column(g, s, SDPA_STATS);
    desc sums = column(g, s, SDPA_SUMS), scale = scalar(g, SDPA_SCALE);

    desc x = pointwise(g, CUDNN_POINTWISE_MUL, dout, o, inside(g, CUDNN_DATA_FLOAT, dense(s->b, s->heads, s->t, s->d)));
    x = reduce(g, CUDNN_REDUCE_TENSOR_ADD, x, scores(g, s, 1));
    pointwise(g, CUDNN_POINTWISE_MUL, x, scalar(g, SDPA_ONE), sums);

    x = product(g, q, kt, scores(g, s, s->t));
    x = pointwise(g, CUDNN_POINTWISE_MUL, x, scale, scores(g, s, s->t));
    x = pointwise(g, CUDNN_POINTWISE_SUB, x, stats, scores(g, s, s->t));
    x = causal(g, s, x);
    desc p = pointwise(g, CUDNN_POINTWISE_EXP, x, NULL, scores(g, s, s->t));
    key_gradient(g, s, p, dout, SDPA_DV);

    x = product(g, dout, vt, scores(g, s, s->t));
    x = pointwise(g, CUDNN_POINTWISE_SUB, x, sums, scores(g, s, s->t));
    x = pointwise(g, CUDNN_POINTWISE_MUL, x, p, scores(g, s, s->t));
    desc ds = pointwise(g, CUDNN_POINTWISE_MUL, x, scale, scores(g, s, s->t));
    key_gradient(g, s, ds, q, SDPA_DK);

    desc k = reshape(g, kt, inside(g, CUDNN_DATA_BFLOAT16, box_of(s, SDPA_K)));
    product(g, ds, k, operand(g, s, SDPA_DQ, false));
}

desc cuda__sdpa_graph(struct cuda__sdpa_graph *g, const struct cuda_sdpa_shape *s)
{
    (s->backward ? backward : forward)(g, s);
    desc graph = cuda__sdpa_new(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    cuda__sdpa_set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_ops, g->ops);
    cuda__sdpa_finalize(g, graph);
    return graph;
}
