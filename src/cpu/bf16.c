/* bfloat16 for operators without products of their own (ir/target_cpu.h): operands are widened to float32, the float32 kernel
 * computes, what it wrote is rounded. So every tensor is rounded where a device rounds it, and nothing inside a kernel is.
 *
 * work: the float32 copies, each 64-byte aligned (ir/target_cpu.c plans for all operands of the pass), then the kernel's
 * own. Operands of another type than IR_COMPUTE are used where they are. */
#include "cpu/cpu.h"
#include "base/number.h"

struct wide {
    struct op_args args; /* of the float32 kernel */
    struct ir_op_shapes shapes;
    unsigned char *free;
    uint32_t n;
    struct { /* to be rounded afterwards */
        uint16_t *to;
        const float *from;
        uint64_t count;
    } out[IR_MAX_OUT + IR_MAX_SAVE + IR_MAX_IN + IR_MAX_STASH];
};

static void widen(float *to, const uint16_t *from, uint64_t n)
{
    const struct vec *v = cpu_vec();
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (uint64_t i = 0; i < n; i += CPU_PIECE)
        v->widen(to + i, from + i, n - i < CPU_PIECE ? n - i : CPU_PIECE);
}

void cpu_round(uint16_t *to, const float *from, uint64_t n)
{
    const struct vec *v = cpu_vec();
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (uint64_t i = 0; i < n; i += CPU_PIECE)
        v->round(to + i, from + i, n - i < CPU_PIECE ? n - i : CPU_PIECE);
}

static uint64_t elements(const struct wide *w, const struct ir_shape *s)
{
    return w->args.b * ir_shape_elements(s);
}

static bool is_wide(const struct ir_shape *s, const void *p)
{
    return p && s->ndim && s->dtype == IR_COMPUTE;
}

static float *take(struct wide *w, uint64_t n)
{
    float *p = (float *)(void *)w->free;
    w->free += (n * sizeof *p + 63) / 64 * 64;
    return p;
}

/* What the kernel reads. */
static void in(struct wide *w, void **p, const struct ir_shape *s, uint64_t n)
{
    if (!is_wide(s, *p))
        return;
    float *to = take(w, n);
    widen(to, *p, n);
    *p = to;
}

static void ins(struct wide *w, void **p, const struct ir_shape *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        in(w, &p[i], &s[i], elements(w, &s[i]));
}

/* What it writes. */
static void outs(struct wide *w, void **p, const struct ir_shape *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!is_wide(&s[i], p[i]))
            continue;
        uint64_t count = elements(w, &s[i]);
        float *from = take(w, count);
        w->out[w->n].to = p[i];
        w->out[w->n].from = from;
        w->out[w->n++].count = count;
        p[i] = from;
    }
}

/* The addend of a gradient stands where the gradient will. */
static void addends(struct wide *w)
{
    struct op_args *a = &w->args;
    for (uint32_t i = 0; i < IR_MAX_IN; i++)
        if (a->acc[i] && is_wide(&w->shapes.in[i], a->din[i])) {
            widen(a->din[i], a->acc[i], elements(w, &w->shapes.in[i]));
            a->acc[i] = a->din[i];
        }
}

/* Before the last phase neither outputs nor gradients are there, but for integers and float32. */
static void nothing_yet(struct wide *w, enum ir_pass pass)
{
    for (uint32_t i = 0; i < IR_MAX_OUT; i++)
        if (pass == IR_PASS_F && is_wide(&w->shapes.out[i], w->args.out[i]))
            w->args.out[i] = NULL;
    for (uint32_t i = 0; i < IR_MAX_IN; i++)
        w->args.din[i] = NULL;
}

void cpu_bf16(const struct op_args *given, enum ir_pass pass, op_kernel kernel)
{
    struct wide w = { .args = *given, .free = given->work };
    struct op_args *a = &w.args;
    const struct ir_share share = op_share(a);
    ir_op_part_shapes((enum ir_op)a->op, a->attrs, a->t, &share, &w.shapes);
    if (a->phase + 1 < ir_op_phases((enum ir_op)a->op, pass, &share))
        nothing_yet(&w, pass);
    ins(&w, a->in, w.shapes.in, IR_MAX_IN);
    for (uint32_t i = 0; i < IR_MAX_PARAM; i++)
        in(&w, &a->param[i], &w.shapes.param[i], ir_shape_elements(&w.shapes.param[i]));
    if (pass == IR_PASS_F) {
        outs(&w, a->out, w.shapes.out, IR_MAX_OUT);
        outs(&w, a->save, w.shapes.save, IR_MAX_SAVE);
    } else {
        ins(&w, a->out, w.shapes.out, IR_MAX_OUT);
        ins(&w, a->save, w.shapes.save, IR_MAX_SAVE);
        ins(&w, a->dout, w.shapes.out, IR_MAX_OUT);
    }
    if (pass == IR_PASS_BI) {
        outs(&w, a->din, w.shapes.in, IR_MAX_IN);
        outs(&w, a->stash, w.shapes.stash, IR_MAX_STASH);
        addends(&w);
    } else {
        ins(&w, a->stash, w.shapes.stash, IR_MAX_STASH);
    }
    a->work = w.free;
    a->compute = IR_F32;
    a->widened = true;
    kernel(a);
    for (uint32_t i = 0; i < w.n; i++)
        cpu_round(w.out[i].to, w.out[i].from, w.out[i].count);
}

void cpu_bf16_sum(const struct op_args *a)
{
    const uint16_t *x = a->in[0], *y = a->in[1];
    uint16_t *to = a->out[0];
#pragma omp parallel for schedule(static) num_threads(cpu_team(a->n, 1))
    for (uint64_t i = 0; i < a->n; i++)
        to[i] = number_to_bf16(number_from_bf16(x[i]) + number_from_bf16(y[i]));
}
