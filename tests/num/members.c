/* Operators of which a device has a part: ir/split.h, struct op_positions. A problem is cut by hand into the parts of n members of a
 * sequence group, n/p context parts of p members each; what members tell each other is handed on as an all-gather does; what they
 * compute is joined and compared with the float64 oracle of the whole. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "num/members.h"

enum { MOST_MEMBERS = 8 };

/* ---- where the parts are ------------------------------------------------------------------------------------------- */

/* `count` columns, or rows of a parameter, from `whole` on, which are all that a member has. */
struct stretch {
    size_t whole, count;
};

static size_t block_of(const struct member_case *c, size_t whole, size_t local, uint32_t j)
{
    const size_t blocks = (whole + local - 1) / local;
    return j * blocks / c->p;
}

/* The block of `local` of `whole` that member j of a tensor group has. */
static struct stretch stretch_of(const struct member_case *c, size_t whole, size_t local, uint32_t j)
{
    const size_t from = block_of(c, whole, local, j) * local;
    return (struct stretch){ from, whole - from < local ? whole - from : local };
}

/* The tokens of a layout on member m, by position; *t of them. part: of the keys that are there, by ring. */
static void positions_of(const struct member_case *c, enum ir_layout layout, uint32_t m, uint32_t part,
                         struct ir_run run[2])
{
    const struct ir_rows own = { c->op.t, c->n, c->n / c->p, c->zigzag },
                         joined = { c->op.t, c->n / c->p, c->n / c->p, c->zigzag };
    if (layout == IR_LAYOUT_KEYS && !c->ring) {
        run[0] = (struct ir_run){ 0, c->op.t };
        run[1] = (struct ir_run){ 0, 0 };
    } else if (layout == IR_LAYOUT_KEYS) {
        ir_rows_of(&joined, part, run);
    } else if (layout == IR_LAYOUT_TOKENS) {
        ir_rows_of(&own, m, run);
    } else {
        ir_rows_of(&joined, m / c->p, run);
    }
}

static uint32_t tokens(const struct ir_run run[2])
{
    return run[0].count + run[1].count;
}

static uint32_t at_position(const struct ir_run run[2], uint32_t i)
{
    return i < run[0].count ? run[0].first + i : run[1].first + i - run[0].count;
}

/* ---- a member ------------------------------------------------------------------------------------------------------ */

struct part {
    struct op_positions positions;
    struct ir_attrs attrs;
    uint32_t t;
    struct guarded in[IR_MAX_IN], out[IR_MAX_OUT], save[IR_MAX_SAVE], stash[IR_MAX_STASH], param[IR_MAX_PARAM],
        dout[IR_MAX_OUT], din[IR_MAX_IN], acc[IR_MAX_IN], dparam[IR_MAX_PARAM], scalars;
    struct ir_op_shapes shapes;
};

struct group {
    const struct member_case *c;
    struct problem whole;
    struct ir_op_shapes shapes; /* of the whole */
    enum ir_layout in[IR_MAX_IN], out[IR_MAX_OUT];
    struct part part[MOST_MEMBERS];
    double tolerance, size; /* of gradients, about */
    bool train;             /* else an evaluation: what only gradients need is not kept */
    struct guarded document;
    bool added; /* a gradient has been added to another of that size and rounded */
};

/* An operand of the whole and of a member. */
struct view {
    const struct tensor *whole;
    const struct ir_shape *shape; /* of the whole */
    struct guarded *here;
    const struct ir_shape *local;
    enum ir_layout layout;
    const double *less; /* taken off what is added back; NULL: nothing */
};
enum way { TO_MEMBER, BACK };

static enum ir_dtype type_of(const struct ir_shape *s)
{
    return s->dtype == IR_COMPUTE ? machine->compute : (enum ir_dtype)s->dtype;
}

static void move_one(const struct view *v, size_t w, size_t h, enum way way)
{
    if (v->whole->i && way == TO_MEMBER)
        ((int32_t *)v->here->at)[h] = v->whole->i[w];
    else if (v->whole->i)
        v->whole->i[w] += ((int32_t *)v->here->at)[h];
    else if (way == TO_MEMBER)
        set_element(v->here, type_of(v->local), h, v->whole->x[w]);
    else
        v->whole->x[w] += element(v->here, type_of(v->local), h) - (v->less ? v->less[h] : 0);
}

static void move_view(const struct group *g, uint32_t m, uint32_t ring_part, const struct view *v, enum way way)
{
    const struct member_case *c = g->c;
    const struct op_positions *p = &g->part[m].positions;
    const size_t w = v->shape->ndim > 1 ? v->shape->dim[1] : 1, l = v->local->ndim > 1 ? v->local->dim[1] : 1;
    struct ir_run run[2];
    positions_of(c, v->layout, m, ring_part, run);
    const bool keys = v->layout == IR_LAYOUT_KEYS;
    const struct stretch s = stretch_of(c, w, l, m % c->p);
    for (uint32_t q = 0; q < c->op.b; q++)
        for (uint32_t i = 0; i < tokens(run); i++)
            for (size_t e = 0; e < s.count; e++)
                move_one(v, ((size_t)q * c->op.t + at_position(run, i)) * w + s.whole + e,
                         (keys ? q * p->key_s + i * p->key_i : q * p->row_s + i * p->row_i) * l + e, way);
}

static void move_param(const struct group *g, uint32_t m, int i, const struct view *v, enum way way)
{
    const struct member_case *c = g->c;
    const int cut = ir_op_param_cut(c->op.op, &c->op.a, c->split, (uint32_t)i);
    const struct ir_shape *w = v->shape, *l = v->local;
    const size_t across = w->ndim > 1 ? w->dim[1] : 1, across_here = l->ndim > 1 ? l->dim[1] : 1;
    struct stretch rows = { 0, w->dim[0] }, columns = { 0, across };
    if (cut == 0)
        rows = stretch_of(c, w->dim[0], l->dim[0], m % c->p);
    else if (cut == 1)
        columns = stretch_of(c, across, across_here, m % c->p);
    for (size_t r = 0; r < rows.count; r++)
        for (size_t e = 0; e < columns.count; e++)
            move_one(v, (rows.whole + r) * across + columns.whole + e, r * across_here + e, way);
}

static void place_member(struct group *g, uint32_t m)
{
    const struct member_case *c = g->c;
    struct part *x = &g->part[m];
    struct op_positions *p = &x->positions;
    const bool counts = c->split == IR_COUNTS;
    *p = (struct op_positions){ .t_all = c->op.t,
                                .split = c->split,
                                .part = counts ? m : m % c->p,
                                .parts = counts ? c->n : c->p,
                                .vocab = c->op.a.vocab,
                                .capacity = c->op.a.capacity,
                                .ring = c->ring ? c->n / c->p : 0,
                                .sets = c->sets,
                                .rows = { c->op.t, c->n, c->n / c->p, c->zigzag } };
    positions_of(c, counts || c->split == IR_WHOLE ? IR_LAYOUT_TOKENS : IR_LAYOUT_WHOLE, m, 0, p->run);
    x->t = tokens(p->run);
    p->keys = c->ring ? x->t : c->op.t;
    p->row_s = c->batch_major ? x->t : 1;
    p->row_i = c->batch_major ? 1 : c->op.b;
    p->key_s = c->batch_major ? p->keys : 1;
    p->key_i = p->row_i;
    x->attrs = ir_op_local(c->op.op, &c->op.a, c->split, c->p);
    const struct ir_share share = { p->split, p->parts, p->keys, p->ring, p->sets };
    ir_op_part_shapes(c->op.op, &x->attrs, x->t, &share, &x->shapes);
}

static struct guarded blank(const struct ir_shape *s, size_t times)
{
    return machine_elements(ir_shape_elements(s) * times, (enum ir_dtype)s->dtype);
}

static const struct ir_shape *as_float(struct ir_shape *room, const struct ir_shape *s)
{
    *room = *s;
    room->dtype = IR_F32;
    return room;
}

static void open_member(struct group *g, uint32_t m, struct rng *r)
{
    struct part *x = &g->part[m];
    struct ir_op_shapes *s = &x->shapes;
    struct ir_shape room;
    const uint32_t b = g->c->op.b;
    place_member(g, m);
    for (int i = 0; i < IR_MAX_IN; i++) {
        x->in[i] = blank(&s->in[i], b);
        x->din[i] = blank(&s->in[i], b);
        x->acc[i] = blank(&s->in[i], b);
        if (s->in[i].dtype != IR_I32)
            for (size_t e = 0; e < ir_shape_elements(&s->in[i]) * b; e++)
                set_element(&x->acc[i], type_of(&s->in[i]), e, g->size * rng_normal(r));
        if (s->in[i].ndim)
            move_view(g, m, m / g->c->p,
                      &(struct view){ &g->whole.in[i], &g->shapes.in[i], &x->in[i], &s->in[i], g->in[i], NULL },
                      TO_MEMBER);
    }
    for (int i = 0; i < IR_MAX_OUT; i++) {
        x->out[i] = blank(&s->out[i], b);
        x->dout[i] = blank(&s->out[i], b);
        if (g->whole.dout[i].n)
            move_view(g, m, 0,
                      &(struct view){ &g->whole.dout[i], &g->shapes.out[i], &x->dout[i], &s->out[i], g->out[i], NULL },
                      TO_MEMBER);
    }
    for (int i = 0; i < IR_MAX_PARAM; i++) {
        x->param[i] = blank(&s->param[i], 1);
        x->dparam[i] = blank(as_float(&room, &s->param[i]), 1);
        memset(x->param[i].at, 0, x->param[i].bytes); /* padding */
        if (s->param[i].ndim)
            move_param(g, m, i,
                       &(struct view){ &g->whole.param[i], &g->shapes.param[i], &x->param[i], &s->param[i], 0, NULL },
                       TO_MEMBER);
    }
    for (int i = 0; i < IR_MAX_SAVE; i++) {
        x->save[i] = blank(&s->save[i], b);
        x->stash[i] = blank(&s->stash[i], b);
    }
    x->scalars = machine_buffer(machine, SCALAR_COUNT * sizeof(double));
    memset(x->scalars.at, 0, x->scalars.bytes);
}

enum { GROUPS = 9 };
static struct guarded *buffer(struct part *x, size_t i)
{
    struct guarded *const at[] = { x->in, x->din, x->acc, x->out, x->dout, x->param, x->dparam, x->save, x->stash };
    static const size_t n[] = { IR_MAX_IN,    IR_MAX_IN,    IR_MAX_IN,   IR_MAX_OUT,  IR_MAX_OUT,
                                IR_MAX_PARAM, IR_MAX_PARAM, IR_MAX_SAVE, IR_MAX_STASH };
    for (int k = 0; k < GROUPS; i -= n[k++])
        if (i < n[k])
            return &at[k][i];
    return i == 0 ? &x->scalars : NULL;
}

static void copy_buffers(struct part *x, void (*how)(const struct machine *, const struct guarded *))
{
    for (size_t i = 0; buffer(x, i); i++)
        how(machine, buffer(x, i));
}

static void pointers(void **to, const struct guarded *from, int n, uint32_t bits)
{
    for (int i = 0; i < n; i++)
        to[i] = bits >> i & 1 && from[i].bytes ? from[i].device : NULL;
}

/* ---- running ------------------------------------------------------------------------------------------------------- */

enum addend { NO_ADDEND, IN_PLACE, BESIDE };

/* Of what is saved. */
static bool phases_need(const struct group *g, int i)
{
    const struct ir_share share = { .split = g->c->split, .ring = g->part[0].positions.ring };
    const enum ir_op op = g->c->op.op;
    return ir_op_phases(op, IR_PASS_F, &share) > 1 && (i || (op != IR_OP_HEAD_LOSS && op != IR_OP_RMSNORM));
}

/* The operands that the operator's row says; of phases all that members tell each other. */
static struct op_args arguments(struct part *x, const struct group *g, enum ir_pass pass, const enum addend *addend)
{
    const struct ir_op_info *info = &ir_op_info[g->c->op.op];
    const uint32_t reads = pass == IR_PASS_F    ? 0x3f0000fu
                           : pass == IR_PASS_BI ? info->bi_reads | 0x7000u
                                                : info->bw_reads;
    struct op_args a = { .train = g->train };
    pointers(a.in, x->in, IR_MAX_IN, reads & 0xf);
    pointers(a.param, x->param, IR_MAX_PARAM, reads >> 20 & 0x3f);
    pointers(a.out, x->out, IR_MAX_OUT, pass == IR_PASS_F ? 0xf : reads >> 4 & 0xf);
    pointers(a.save, x->save, IR_MAX_SAVE, pass == IR_PASS_F ? 0xf : reads >> 8 & 0xf);
    for (int i = 0; i < IR_MAX_SAVE && !g->train; i++) /* what the phases do not need */
        if (!phases_need(g, i))
            a.save[i] = NULL;
    pointers(a.dout, x->dout, IR_MAX_OUT, reads >> 12 & 0xf);
    pointers(a.stash, x->stash, IR_MAX_STASH, pass == IR_PASS_BI ? 0xf : reads >> 16 & 0xf);
    if (pass == IR_PASS_BI)
        pointers(a.din, x->din, IR_MAX_IN, info->grad_in & ~info->alias_in);
    if (pass == IR_PASS_BW)
        pointers(a.dparam, x->dparam, IR_MAX_PARAM, 0x3f);
    for (int i = 0; i < IR_MAX_IN && pass == IR_PASS_BI; i++)
        a.acc[i] = !a.din[i] || addend[i] == NO_ADDEND ? NULL : addend[i] == IN_PLACE ? a.din[i] : x->acc[i].device;
    return a;
}

/* One call, in scratch of exactly the planned size. */
static void call(struct group *g, uint32_t m, enum ir_pass pass, uint32_t phase, struct op_args *a)
{
    const struct member_case *c = g->c;
    struct part *x = &g->part[m];
    const struct ir_kernel k = { c->op.op,
                                 pass,
                                 &x->attrs,
                                 c->op.b,
                                 x->t,
                                 1,
                                 machine->compute,
                                 { x->positions.split, x->positions.parts, x->positions.keys, x->positions.ring,
                                   x->positions.sets } };
    const uint64_t bytes = machine->workspace(&k);
    struct guarded work = machine_buffer(machine, bytes);
    a->attrs = &x->attrs;
    a->op = c->op.op;
    a->b = c->op.b;
    a->t = x->t;
    a->ep = 1;
    a->compute = machine->compute;
    a->work = bytes ? work.device : NULL;
    a->scalars = x->scalars.device;
    a->loss_scale = g->whole.loss_scale;
    a->stream = machine->stream;
    a->phase = phase;
    a->positions = &x->positions;
    a->document = c->op.document ? g->document.device : NULL;
    machine_put(machine, &work);
    copy_buffers(x, machine_put);
    machine->backend->kernel(c->op.op, pass)(a);
    copy_buffers(x, machine_get);
    machine_get(machine, &work);
    if (!guarded_intact(&work))
        ck_abort_msg("%s %s: wrote outside its workspace", ir_op_info[c->op.op].name, ir_pass_name(pass));
    machine_free(machine, &work);
}

/* Nothing was written outside of an operand. */
static void look_at_guards(struct group *g)
{
    for (uint32_t m = 0; m < g->c->n; m++)
        for (size_t i = 0; buffer(&g->part[m], i); i++)
            if (buffer(&g->part[m], i)->base && !guarded_intact(buffer(&g->part[m], i)))
                ck_abort_msg("%s: wrote outside of buffer %zu", ir_op_info[g->c->op.op].name, i);
}

/* Each member's own part goes to all with whom it shares parts. */
static void hand_on(struct group *g, struct guarded *(*of)(struct part *x))
{
    for (uint32_t m = 0; m < g->c->n; m++) {
        const struct op_positions *p = &g->part[m].positions;
        const struct guarded *from = of(&g->part[m]);
        const size_t bytes = from->bytes / p->parts;
        for (uint32_t to = 0; to < g->c->n; to++)
            if (p->parts == g->c->n || to / g->c->p == m / g->c->p)
                memcpy((char *)of(&g->part[to])->at + p->part * bytes, (char *)from->at + p->part * bytes, bytes);
    }
}

static struct guarded *told_save(struct part *x)
{
    return &x->save[1];
}
static struct guarded *told_stash(struct part *x)
{
    return &x->stash[0];
}

static void exchange(struct group *g, enum ir_pass pass)
{
    if (pass == IR_PASS_F)
        hand_on(g, told_save);
    else
        hand_on(g, told_stash);
}

static void swap(struct guarded *a, struct guarded *b)
{
    const struct guarded x = *a;
    *a = *b;
    *b = x;
}

/* Ring: k and v, and what there is of dk and dv, go to the next context part; the last phase finds its own at home. */
static void shift(struct group *g)
{
    const uint32_t p = g->c->p;
    for (uint32_t j = 0; j < p; j++)
        for (uint32_t m = g->c->n - p + j; m >= p; m -= p) {
            struct part *x = &g->part[m], *y = &g->part[m - p];
            swap(&x->in[1], &y->in[1]);
            swap(&x->in[2], &y->in[2]);
            swap(&x->stash[1], &y->stash[1]);
            for (int i = 0; i < 2; i++) {
                const struct ir_run run = x->positions.key_run[i];
                x->positions.key_run[i] = y->positions.key_run[i];
                y->positions.key_run[i] = run;
            }
        }
}

static void run_pass(struct group *g, enum ir_pass pass, const enum addend *addend, uint32_t dparam_add)
{
    const struct ir_share share = { .split = g->c->split, .ring = g->part[0].positions.ring };
    const uint32_t phases = ir_op_phases(g->c->op.op, pass, &share);
    for (uint32_t m = 0; m < g->c->n && share.ring; m++)
        memcpy(g->part[m].positions.key_run, g->part[m].positions.run, sizeof g->part[m].positions.run);
    for (uint32_t phase = 0; phase < phases; phase++) {
        for (uint32_t m = 0; m < g->c->n; m++) {
            struct op_args a = arguments(&g->part[m], g, pass, addend);
            a.dparam_add = dparam_add;
            call(g, m, pass, phase, &a);
        }
        if (!share.ring && phase + 1 < phases)
            exchange(g, pass);
        if (share.ring && phase < share.ring)
            shift(g);
    }
}

/* ---- comparison ---------------------------------------------------------------------------------------------------- */

static struct tensor like(const struct tensor *x)
{
    struct tensor y = { .n = x->n };
    if (x->i)
        y.i = mem_alloc(x->n * sizeof *y.i);
    else if (x->n)
        y.x = mem_alloc(x->n * sizeof *y.x);
    return y;
}

static void compare(const struct group *g, const char *what, int i, struct tensor *got, const struct tensor *want)
{
    double error = want->i && memcmp(got->i, want->i, want->n * sizeof *want->i) != 0 ? INFINITY : 0;
    if (want->x) {
        const double floor = (g->added && machine->compute == IR_BF16 ? 1 : 0.05) * g->size;
        float *x = mem_alloc(want->n * sizeof *x);
        for (size_t e = 0; e < want->n; e++)
            x[e] = (float)got->x[e];
        error = worst_error(x, want->x, want->n, floor);
        mem_free(x);
    }
    if (!(error <= g->tolerance))
        ck_abort_msg("%s, split %u, %u members, %u parts%s, %s %d: error %.3g", ir_op_info[g->c->op.op].name,
                     g->c->split, g->c->n, g->c->p, g->c->zigzag ? ", zigzag" : "", what, i, error);
    mem_free(got->x);
    mem_free(got->i);
}

static void compare_out(struct group *g)
{
    double sums[3] = { 0 };
    const double want[3] = { g->whole.loss, g->whole.aux, g->whole.dropped };
    for (int i = 0; i < IR_MAX_OUT; i++) {
        struct tensor joined = like(&g->whole.out[i]);
        for (uint32_t m = 0; m < g->c->n && joined.n; m++)
            move_view(g, m, 0,
                      &(struct view){ &joined, &g->shapes.out[i], &g->part[m].out[i], &g->part[m].shapes.out[i],
                                      g->out[i], NULL },
                      BACK);
        if (joined.n)
            compare(g, "output", i, &joined, &g->whole.out[i]);
    }
    for (uint32_t m = 0; m < g->c->n; m++)
        for (int i = 0; i < 3; i++)
            sums[i] += ((double *)g->part[m].scalars.at)[i];
    for (int i = 0; i < 3; i++)
        if (!(fabs(sums[i] - want[i]) <= g->tolerance * (1 + fabs(want[i]))))
            ck_abort_msg("%s: scalar %d is %g, expected %g", ir_op_info[g->c->op.op].name, i, sums[i], want[i]);
}

/* A norm from the statistics that it kept: nobody tells anything, and these stay. */
static void run_again(struct group *g)
{
    for (uint32_t m = 0; m < g->c->n; m++) {
        struct part *x = &g->part[m];
        struct op_args a = arguments(x, g, IR_PASS_F, NULL);
        float *kept = mem_alloc(x->save[0].bytes);
        memcpy(kept, x->save[0].at, x->save[0].bytes);
        guarded_poison(&x->out[0]);
        a.save[1] = NULL;
        call(g, m, IR_PASS_F, 1, &a);
        ck_assert_mem_eq(kept, x->save[0].at, x->save[0].bytes);
        mem_free(kept);
    }
    compare_out(g);
}

static void run_forward(struct group *g, bool train)
{
    for (uint32_t m = 0; m < g->c->n; m++) {
        struct part *x = &g->part[m];
        memset(x->scalars.at, 0, x->scalars.bytes);
        for (int i = 0; i < IR_MAX_OUT; i++)
            guarded_poison(&x->out[i]);
        for (int i = 0; i < IR_MAX_SAVE; i++)
            guarded_poison(&x->save[i]);
    }
    g->train = train;
    run_pass(g, IR_PASS_F, NULL, 0);
    compare_out(g);
    if (train && g->c->op.op == IR_OP_RMSNORM && g->c->split == IR_WIDTH)
        run_again(g);
}

static void run_bi(struct group *g, const enum addend *addend)
{
    for (uint32_t m = 0; m < g->c->n; m++) {
        struct part *x = &g->part[m];
        for (int i = 0; i < IR_MAX_IN; i++) {
            guarded_poison(&x->din[i]);
            if (addend[i] == IN_PLACE)
                memcpy(x->din[i].at, x->acc[i].at, x->din[i].bytes);
        }
        for (int i = 0; i < IR_MAX_STASH; i++)
            guarded_poison(&x->stash[i]);
    }
    run_pass(g, IR_PASS_BI, addend, 0);
    for (int i = 0; i < IR_MAX_IN; i++) {
        if (!(ir_op_info[g->c->op.op].grad_in >> i & 1) || !g->whole.din[i].n)
            continue;
        struct tensor joined = like(&g->whole.din[i]);
        for (uint32_t m = 0; m < g->c->n; m++) {
            struct part *x = &g->part[m];
            const size_t n = ir_shape_elements(&x->shapes.in[i]) * g->c->op.b;
            double *less = mem_alloc(n * sizeof *less);
            for (size_t e = 0; e < n && addend[i] != NO_ADDEND; e++)
                less[e] = element(&x->acc[i], type_of(&x->shapes.in[i]), e);
            move_view(g, m, m / g->c->p,
                      &(struct view){ &joined, &g->shapes.in[i], &x->din[i], &x->shapes.in[i], g->in[i], less }, BACK);
            mem_free(less);
        }
        g->added = addend[i] != NO_ADDEND;
        compare(g, "din", i, &joined, &g->whole.din[i]);
        g->added = false;
    }
}

/* Every subset of the inputs' gradients is added to another, in place or beside. Where a kernel's threads are run one after the other, none
 * and all (tests/num/test_ops.c has the others). */
static void all_bi(struct group *g)
{
    const uint32_t n = ir_op_inputs(g->c->op.op, &g->c->op.a);
    for (uint32_t set = 0; set < 1u << n; set++)
        for (uint32_t way = 0; way < (set ? 2u : 1u); way++) {
            if (machine->order && set && (set + 1 < 1u << n || way))
                continue;
            enum addend addend[IR_MAX_IN] = { NO_ADDEND };
            for (uint32_t i = 0; i < n; i++)
                addend[i] = !(set >> i & 1) ? NO_ADDEND : (i + way) % 2 ? IN_PLACE : BESIDE;
            run_bi(g, addend);
        }
}

static void run_bw(struct group *g, uint32_t add)
{
    static const enum addend none[IR_MAX_IN];
    const struct ir_shape number = { IR_F32, 1, { 0, 0, 0 } };
    for (uint32_t m = 0; m < g->c->n; m++)
        for (int i = 0; i < IR_MAX_PARAM; i++) {
            guarded_poison(&g->part[m].dparam[i]);
            if (add)
                memset(g->part[m].dparam[i].at, 0, g->part[m].dparam[i].bytes);
        }
    run_pass(g, IR_PASS_BW, none, add);
    for (int i = 0; i < IR_MAX_PARAM; i++) {
        if (!g->whole.dparam[i].n)
            continue;
        struct tensor joined = like(&g->whole.dparam[i]);
        for (uint32_t m = 0; m < g->c->n; m++) {
            struct part *x = &g->part[m];
            struct ir_shape local = x->shapes.param[i];
            local.dtype = number.dtype;
            move_param(g, m, i, &(struct view){ &joined, &g->shapes.param[i], &x->dparam[i], &local, 0, NULL }, BACK);
            for (size_t e = 0; e < ir_shape_elements(&local); e++) /* padding too is a number */
                if (!isfinite(element(&x->dparam[i], IR_F32, e)))
                    ck_abort_msg("%s: gradient of parameter %d is no number", ir_op_info[g->c->op.op].name, i);
        }
        compare(g, add ? "dparam added" : "dparam", i, &joined, &g->whole.dparam[i]);
    }
}

static void round_problem(struct problem *p)
{
    for (int i = 0; i < PROBLEM_TENSORS; i++) {
        struct tensor *const all[] = { &p->in[i], &p->param[i], &p->dout[i] };
        for (size_t j = 0; j < sizeof all / sizeof *all; j++)
            for (size_t e = 0; all[j]->x && e < all[j]->n; e++)
                all[j]->x[e] = rounded(machine->compute, all[j]->x[e]);
    }
}

void run_members(const struct member_case *c, uint64_t seed, double tolerance)
{
    struct rng r = { seed };
    struct group *g = mem_alloc(sizeof *g);
    *g = (struct group){ .c = c, .whole = problem_new(&c->op, seed), .tolerance = tolerance };
    g->size = c->op.op == IR_OP_HEAD_LOSS ? g->whole.loss_scale : 1;
    ck_assert(c->n <= MOST_MEMBERS && ir_op_splits(c->op.op, &c->op.a, c->split, c->p));
    round_problem(&g->whole);
    ir_op_shapes(c->op.op, &c->op.a, c->op.t, &g->shapes);
    ir_op_layouts(c->op.op, c->split, g->in, g->out);
    oracle_forward(&g->whole);
    oracle_backward(&g->whole);
    g->document = machine_elements(c->op.document ? c->op.b * (size_t)c->op.t : 0, IR_I32);
    if (c->op.document)
        memcpy(g->document.at, c->op.document, g->document.bytes);
    machine_put(machine, &g->document);
    for (uint32_t m = 0; m < c->n; m++)
        open_member(g, m, &r);
    run_forward(g, false);
    run_forward(g, true);
    if (ir_op_has_kernel(c->op.op, IR_PASS_BI))
        all_bi(g);
    if (ir_op_runs(c->op.op, &c->op.a, IR_PASS_BW)) {
        run_bw(g, 0);
        run_bw(g, 0x3f);
    }
    look_at_guards(g);
    for (uint32_t m = 0; m < c->n; m++)
        for (size_t i = 0; buffer(&g->part[m], i); i++)
            machine_free(machine, buffer(&g->part[m], i));
    machine_free(machine, &g->document);
    problem_free(&g->whole);
    mem_free(g);
}
