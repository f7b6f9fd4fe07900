/* Kernels of the fake device: those of the CPU, run when their turn comes. */
#include "fake.h"

#include <math.h>
#include <stdlib.h>

#include "cuda/cuda.h"
#include "cuda/libs.h"
#include "ir/target.h"

struct kernel {
    op_kernel run;
    struct op_args args;
};

static void run_kernel(const void *arg)
{
    const struct kernel *k = arg;
    k->run(&k->args);
}

static void launch(const struct op_args *a, enum ir_op op, enum ir_pass pass)
{
    struct kernel k = { compute_cpu.kernel(op, pass), *a };
    fake_launch(run_kernel, &k, sizeof k, a->stream);
}

#define KERNEL(name, op, pass)                \
    void cuda_##name(const struct op_args *a) \
    {                                         \
        launch(a, op, pass);                  \
    }
KERNEL(embed_f, IR_OP_EMBED, IR_PASS_F)
KERNEL(embed_bw, IR_OP_EMBED, IR_PASS_BW)
KERNEL(pos_embed_f, IR_OP_POS_EMBED, IR_PASS_F)
KERNEL(pos_embed_bw, IR_OP_POS_EMBED, IR_PASS_BW)
KERNEL(layernorm_f, IR_OP_LAYERNORM, IR_PASS_F)
KERNEL(layernorm_bi, IR_OP_LAYERNORM, IR_PASS_BI)
KERNEL(layernorm_bw, IR_OP_LAYERNORM, IR_PASS_BW)
KERNEL(rmsnorm_f, IR_OP_RMSNORM, IR_PASS_F)
KERNEL(rmsnorm_bi, IR_OP_RMSNORM, IR_PASS_BI)
KERNEL(rmsnorm_bw, IR_OP_RMSNORM, IR_PASS_BW)
KERNEL(linear_f, IR_OP_LINEAR, IR_PASS_F)
KERNEL(linear_bi, IR_OP_LINEAR, IR_PASS_BI)
KERNEL(linear_bw, IR_OP_LINEAR, IR_PASS_BW)
KERNEL(rope_f, IR_OP_ROPE, IR_PASS_F)
KERNEL(rope_bi, IR_OP_ROPE, IR_PASS_BI)
KERNEL(attention_f, IR_OP_ATTENTION, IR_PASS_F)
KERNEL(attention_bi, IR_OP_ATTENTION, IR_PASS_BI)
KERNEL(attention_bw, IR_OP_ATTENTION, IR_PASS_BW)
KERNEL(scale_f, IR_OP_SCALE, IR_PASS_F)
KERNEL(scale_bi, IR_OP_SCALE, IR_PASS_BI)
KERNEL(clamp_f, IR_OP_CLAMP, IR_PASS_F)
KERNEL(clamp_bi, IR_OP_CLAMP, IR_PASS_BI)
KERNEL(row_gate_f, IR_OP_ROW_GATE, IR_PASS_F)
KERNEL(row_gate_bi, IR_OP_ROW_GATE, IR_PASS_BI)
KERNEL(join_heads_f, IR_OP_JOIN_HEADS, IR_PASS_F)
KERNEL(join_heads_bi, IR_OP_JOIN_HEADS, IR_PASS_BI)
KERNEL(act_f, IR_OP_ACT, IR_PASS_F)
KERNEL(act_bi, IR_OP_ACT, IR_PASS_BI)
KERNEL(swiglu_f, IR_OP_SWIGLU, IR_PASS_F)
KERNEL(swiglu_bi, IR_OP_SWIGLU, IR_PASS_BI)
KERNEL(add_f, IR_OP_ADD, IR_PASS_F)
KERNEL(router_f, IR_OP_ROUTER, IR_PASS_F)
KERNEL(router_bi, IR_OP_ROUTER, IR_PASS_BI)
KERNEL(router_bw, IR_OP_ROUTER, IR_PASS_BW)
KERNEL(dispatch_f, IR_OP_DISPATCH, IR_PASS_F)
KERNEL(dispatch_bi, IR_OP_DISPATCH, IR_PASS_BI)
KERNEL(combine_f, IR_OP_COMBINE, IR_PASS_F)
KERNEL(combine_bi, IR_OP_COMBINE, IR_PASS_BI)
KERNEL(head_loss_f, IR_OP_HEAD_LOSS, IR_PASS_F)
KERNEL(head_loss_bi, IR_OP_HEAD_LOSS, IR_PASS_BI)
KERNEL(head_loss_bw, IR_OP_HEAD_LOSS, IR_PASS_BW)
KERNEL(sum_f, IR_OP_SUM, IR_PASS_F)
KERNEL(copy_f, IR_OP_COPY, IR_PASS_F)
KERNEL(to_blocks_f, IR_OP_TO_BLOCKS, IR_PASS_F)
KERNEL(from_blocks_f, IR_OP_FROM_BLOCKS, IR_PASS_F)

/* Two kernels in one, in an order that the contract allows: the second's output is written before anything is read, the workspace
 * at the end, and nothing is left of a gradient that only the second reads. */
struct pair {
    struct op_args first, second;
    enum ir_pass pass;
};

static void spoil(void *p, const struct op_args *a, const struct ir_shape *s)
{
    memset(p, 0xff, ir_shape_elements(s) * a->b * ir_dtype_size((enum ir_dtype)s->dtype, (enum ir_dtype)a->compute));
}

static void run_pair(const void *arg)
{
    struct pair p = *(const struct pair *)arg;
    const bool f = p.pass == IR_PASS_F;
    struct ir_op_shapes s;
    ir_op_shapes((enum ir_op)p.second.op, p.second.attrs, p.second.t, &s);
    spoil(f ? p.second.out[0] : p.second.din[0], &p.second, &s.in[0]);
    for (int i = 0; f && i < IR_MAX_SAVE; i++)
        if (p.second.save[i])
            spoil(p.second.save[i], &p.second, &s.save[i]);
    const uint64_t bytes = ir_cpu_workspace(&(struct ir_kernel){ (enum ir_op)p.first.op,
                                                                 p.pass,
                                                                 p.first.attrs,
                                                                 p.first.b,
                                                                 p.first.t,
                                                                 1,
                                                                 (enum ir_dtype)p.first.compute,
                                                                 { 0 } });
    void *work = p.first.work;
    if (!work)
        p.first.work = fake_alloc(bytes + 1);
    compute_cpu.kernel((enum ir_op)p.first.op, p.pass)(&p.first);
    compute_cpu.kernel((enum ir_op)p.second.op, p.pass)(&p.second);
    if (work)
        memset(work, 0xff, bytes);
    else
        fake_free(p.first.work);
    if (!f)
        spoil(p.second.dout[0], &p.second, &s.in[0]);
}

static void launch_pair(const struct op_args *first, const struct op_args *second, enum ir_pass pass)
{
    struct pair p = { *first, *second, pass };
    fake_counts.pairs++;
    fake_launch(run_pair, &p, sizeof p, first->stream);
}

#define PAIR(name, pass)                                                        \
    void cuda_##name(const struct op_args *first, const struct op_args *second) \
    {                                                                           \
        launch_pair(first, second, pass);                                       \
    }
PAIR(add_layernorm_f, IR_PASS_F)
PAIR(add_rmsnorm_f, IR_PASS_F)
PAIR(linear_gelu_f, IR_PASS_F)
PAIR(linear_gelu_bi, IR_PASS_BI)

/* Sizes are read on the host, where experts have no capacity: so this waits for what is before it. */
bool cuda_host_reads(enum ir_op op, const struct ir_attrs *a)
{
    return op == IR_OP_EXPERTS && !a->capacity;
}

static void experts(const struct op_args *a, enum ir_pass pass)
{
    if (cuda_host_reads(IR_OP_EXPERTS, a->attrs))
        cudaStreamSynchronize(a->stream);
    launch(a, IR_OP_EXPERTS, pass);
}

void cuda_experts_f(const struct op_args *a)
{
    experts(a, IR_PASS_F);
}

void cuda_experts_bi(const struct op_args *a)
{
    experts(a, IR_PASS_BI);
}

void cuda_experts_bw(const struct op_args *a)
{
    experts(a, IR_PASS_BW);
}

/* ---- a step's other work --------------------------------------------------------------------------------------- */

struct update {
    struct update_args args;
    const struct step_inputs *inputs;
};

static void run_update(const void *arg)
{
    const struct update *u = arg;
    static uint64_t updates;
    compute_cpu.update(&u->args, u->inputs);
    if (++updates == fake_setting("FAKE_CUDA_SPOIL", 0))
        u->args.master[0] = NAN;
}

void cuda_update(const struct update_args *u, const struct step_inputs *s)
{
    struct update arg = { *u, s };
    fake_launch(run_update, &arg, sizeof arg, u->stream);
}

struct checksum {
    struct update_args args;
    uint32_t arrays;
    bool check;
};

static void run_checksum(const void *arg)
{
    const struct checksum *c = arg;
    compute_cpu.checksum(&c->args, c->arrays, c->check);
}

void cuda_checksum(const struct update_args *u, uint32_t arrays, bool check)
{
    struct checksum arg = { *u, arrays, check };
    fake_launch(run_checksum, &arg, sizeof arg, u->stream);
}

struct balance {
    struct balance_args args;
    const struct step_inputs *inputs;
};

static void run_balance(const void *arg)
{
    const struct balance *b = arg;
    compute_cpu.balance(&b->args, b->inputs);
}

void cuda_balance(const struct balance_args *b, const struct step_inputs *s)
{
    struct balance arg = { *b, s };
    fake_launch(run_balance, &arg, sizeof arg, b->stream);
}

struct clip {
    struct step_inputs *inputs;
    const double *scalars;
    double norm;
};

static void run_clip(const void *arg)
{
    const struct clip *c = arg;
    compute_cpu.clip(c->inputs, c->scalars, c->norm, NULL);
}

void cuda_clip(struct step_inputs *s, const double *scalars, double clip_norm, void *stream)
{
    struct clip arg = { s, scalars, clip_norm };
    fake_launch(run_clip, &arg, sizeof arg, stream);
}

struct sumsq {
    const float *x;
    uint64_t n;
    double *sum, *nonfinite;
};

static void run_sumsq(const void *arg)
{
    const struct sumsq *s = arg;
    compute_cpu.sumsq(s->x, s->n, s->sum, s->nonfinite, NULL);
}

void cuda_sumsq(const float *x, uint64_t n, double *sum, double *nonfinite, void *stream)
{
    struct sumsq arg = { x, n, sum, nonfinite };
    fake_launch(run_sumsq, &arg, sizeof arg, stream);
}

struct mark {
    uint32_t *word;
    const struct step_inputs *inputs;
};

static void run_mark(const void *arg)
{
    const struct mark *m = arg;
    __atomic_store_n(m->word, m->inputs->epoch, __ATOMIC_RELEASE);
}

void cuda_progress(uint32_t *mapped_word, const struct step_inputs *s, void *stream)
{
    struct mark arg = { mapped_word, s };
    fake_launch(run_mark, &arg, sizeof arg, stream);
}

/* ---- libraries ------------------------------------------------------------------------------------------------- */

/* Products by their sizes. The choice that was made for one travels as text, as it does between real libraries. */
struct product {
    uint32_t op, pass, b, in, out;
    uint32_t chosen; /* 1: somebody has timed it */
};
static struct {
    VEC(struct product);
} products;
static bool times;

static struct product *find_product(const struct product *p)
{
    for (uint32_t i = 0; i < products.n; i++) {
        struct product one = products.at[i];
        one.chosen = p->chosen;
        if (memcmp(&one, p, sizeof one) == 0)
            return &products.at[i];
    }
    vec_add(&products, *p);
    return &products.at[products.n - 1];
}

enum status cuda_libs_open(void *stream, const char *cache_path, struct err *e)
{
    (void)stream, (void)cache_path, (void)e;
    return ST_OK;
}

void cuda_libs_choose(bool choose)
{
    times = choose;
}

uint32_t cuda_libs_unchosen(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < products.n; i++)
        n += !products.at[i].chosen;
    return fake_counts.unchosen = n;
}

/* The program's allocation, which the program gives back. */
#undef mem_alloc
void cuda_libs_tell(void **text, uint64_t *bytes)
{
    *bytes = products.n * sizeof *products.at;
    *text = mem_alloc(*bytes);
    if (products.n)
        memcpy(*text, products.at, *bytes);
}
#define mem_alloc fake_alloc

enum status cuda_libs_hear(const void *text, uint64_t bytes, const char *from, struct err *e)
{
    (void)from, (void)e;
    for (uint64_t i = 0; i < bytes / sizeof(struct product); i++) {
        const struct product *p = (const struct product *)text + i;
        if (p->chosen)
            find_product(p)->chosen = 1;
    }
    return ST_OK;
}

/* Are these what products may be timed on: different numbers between -1 and 1? */
static bool are_random(const float *x, uint64_t n)
{
    uint64_t different = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (!(fabsf(x[i]) < 1))
            return false;
        different += x[i] != x[0];
    }
    return different > n / 2;
}

/* What a library times writes nonsense into the operands. */
static void choose(const struct op_args *a, enum ir_pass pass)
{
    cudaStreamSynchronize(a->stream);
    if (a->compute == IR_F32 && pass == IR_PASS_F)
        fake_counts.not_random += !are_random(a->in[0], (uint64_t)a->b * a->t * a->attrs->in_features);
    if (pass == IR_PASS_BW)
        memset(a->dparam[0], 0xff, sizeof(float));
    if (pass == IR_PASS_F)
        memset(a->out[0], 0xff, sizeof(float));
}

enum status cuda_libs_prepare(const struct op_args *a, enum ir_op op, enum ir_pass pass, struct err *e)
{
    (void)e;
    if (op != IR_OP_LINEAR && op != IR_OP_HEAD_LOSS)
        return ST_OK;
    struct product *p = find_product(
        &(struct product){ op, pass, a->b, a->attrs->in_features, a->attrs->out_features + a->attrs->vocab, 0 });
    if (p->chosen || !times)
        return ST_OK;
    p->chosen = 1;
    fake_counts.timed++;
    if (op == IR_OP_LINEAR)
        choose(a, pass);
    return ST_OK;
}

bool cuda_libs_prepare_pair(const struct op_args *first, const struct op_args *second, enum ir_pass pass, void *work)
{
    (void)second, (void)pass, (void)work;
    return first->op != IR_OP_LINEAR || !fake_setting("FAKE_CUDA_NO_EPILOGUE", 0);
}

void cuda_libs_leave(uint32_t n)
{
    (void)n;
}

enum status cuda_libs_store(struct err *e)
{
    (void)e;
    return ST_OK;
}

void cuda_libs_close(void)
{
}

/* FAKE_CUDA_NOTES: what a library has to say. On the second of two ranks alone. */
const char *cuda_libs_notes(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    return fake_setting("FAKE_CUDA_NOTES", 0) && rank && *rank == '1' ? "one kernel is slow\nand so is another\n" : "";
}

const char *cuda_libs_versions(void)
{
    return "fake libraries";
}
