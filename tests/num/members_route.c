/* Tokens to experts where a sequence is on several devices: which of them stay is decided by their place in the whole sequence. Dispatch, then
 * combine, and dispatch's gradient, of members against the whole: the same bits. */
#include <check.h>
#include <string.h>

#include "base/mem.h"
#include "num/members.h"

enum { B = 2, T = 24, E = 5, K = 2, C = 8, MOST = 8, ROWS = B * T, CHOICES = ROWS * K };

/* Operands of a member, or of the whole; rows in its own order. */
struct route {
    struct ir_attrs attrs;
    struct op_positions positions;
    uint32_t t;
    bool whole;
    struct guarded x, index, rows, slot, counts, told, y, dx, weights, scalars;
};

static void open_route(struct route *r, uint32_t capacity)
{
    const struct ir_attrs all = { .experts = E, .top_k = K, .features = C, .capacity = capacity };
    r->attrs = r->whole ? all : ir_op_local(IR_OP_DISPATCH, &all, IR_COUNTS, 1);
    const size_t rows = B * r->t, room = r->attrs.capacity ? B * E * (size_t)capacity : rows * K;
    r->x = machine_elements(rows * C, IR_COMPUTE);
    r->y = machine_elements(rows * C, IR_COMPUTE);
    r->dx = machine_elements(rows * C, IR_COMPUTE);
    r->rows = machine_elements(room * C, IR_COMPUTE);
    r->index = machine_elements(rows * K, IR_I32);
    r->slot = machine_elements(rows * K, IR_I32);
    r->weights = machine_elements(rows * K, IR_F32);
    r->counts = machine_elements(B * E, IR_I32);
    r->told = machine_elements(r->whole ? 0 : (size_t)r->positions.parts * r->positions.sets * 2 * B * E, IR_I32);
    r->scalars = machine_buffer(machine, SCALAR_COUNT * sizeof(double));
    memset(r->scalars.at, 0, r->scalars.bytes);
}

enum { BUFFERS = 10 };
static struct guarded *route_buffer(struct route *r, int i)
{
    struct guarded *const at[BUFFERS] = { &r->x,    &r->y,       &r->dx,     &r->rows, &r->index,
                                          &r->slot, &r->weights, &r->counts, &r->told, &r->scalars };
    return at[i];
}

static void call(struct route *r, enum ir_op op, enum ir_pass pass, struct op_args a)
{
    const struct ir_share share = { .split = IR_COUNTS, .parts = r->positions.parts, .sets = r->positions.sets };
    struct ir_kernel k = { op, pass, &r->attrs, B, r->t, 1, machine->compute, share };
    if (r->whole)
        k.share = (struct ir_share){ .split = IR_WHOLE };
    struct guarded work = machine_buffer(machine, machine->workspace(&k));
    a.attrs = &r->attrs;
    a.op = op;
    a.b = B;
    a.t = r->t;
    a.ep = 1;
    a.compute = machine->compute;
    a.work = work.device;
    a.scalars = r->scalars.device;
    a.stream = machine->stream;
    a.train = true;
    a.positions = r->whole ? NULL : &r->positions;
    for (int i = 0; i < BUFFERS; i++)
        machine_put(machine, route_buffer(r, i));
    machine->backend->kernel(op, pass)(&a);
    for (int i = 0; i < BUFFERS; i++) {
        machine_get(machine, route_buffer(r, i));
        ck_assert(guarded_intact(route_buffer(r, i)));
    }
    machine_get(machine, &work);
    ck_assert(guarded_intact(&work));
    machine_free(machine, &work);
}

static void run_route(struct route *r)
{
    call(r, IR_OP_DISPATCH, IR_PASS_F,
         (struct op_args){ .in = { r->x.device, r->index.device, r->whole ? NULL : r->told.device },
                           .out = { r->rows.device, r->slot.device, r->counts.device } });
    call(r, IR_OP_COMBINE, IR_PASS_F,
         (struct op_args){ .in = { r->rows.device, r->slot.device, r->weights.device }, .out = { r->y.device } });
    call(r, IR_OP_DISPATCH, IR_PASS_BI,
         (struct op_args){ .out = { NULL, r->slot.device }, .dout = { r->rows.device }, .din = { r->dx.device } });
}

/* Row of the whole that row i*B + s of a member is. */
static size_t whole_row(const struct route *r, size_t s, size_t i)
{
    return s * T + op_position(&r->positions, (uint32_t)i);
}

/* What the router would have told: choices of each expert by (member, run, sequence), in the first set. */
static void tell(struct route *r, const struct route *whole)
{
    int32_t *const told = r->told.at;
    memset(told, 0, r->told.bytes);
    for (uint32_t m = 0; m < r->positions.parts; m++) {
        struct ir_run run[2];
        ir_rows_of(&r->positions.rows, m, run);
        for (uint32_t q = 0; q < 2; q++)
            for (uint32_t s = 0; s < B; s++)
                for (uint32_t i = 0; i < run[q].count * K; i++) {
                    const size_t at = (s * T + run[q].first) * K + i;
                    told[((2 * m * r->positions.sets + q) * B + s) * E + (size_t)((int32_t *)whole->index.at)[at]]++;
                }
    }
}

static void fill_whole(struct route *r)
{
    struct rng g = { 5 };
    for (size_t i = 0; i < ROWS * C; i++)
        set_element(&r->x, machine->compute, i, rng_normal(&g));
    for (size_t i = 0; i < CHOICES; i += K) {
        int32_t *index = (int32_t *)r->index.at + i;
        index[0] = (int32_t)rng_below(&g, rng_below(&g, 2) ? 2 : E); /* some experts have too many */
        index[1] = (index[0] + 1 + (int32_t)rng_below(&g, E - 1)) % E;
        set_element(&r->weights, IR_F32, i, rng_normal(&g));
        set_element(&r->weights, IR_F32, i + 1, rng_normal(&g));
    }
}

static void member_inputs(struct route *r, const struct route *whole)
{
    const size_t size = ir_dtype_size(IR_COMPUTE, machine->compute) * C, small = 4 * K;
    for (size_t s = 0; s < B; s++)
        for (size_t i = 0; i < r->t; i++) {
            const size_t from = whole_row(r, s, i), to = i * B + s;
            memcpy((char *)r->x.at + to * size, (char *)whole->x.at + from * size, size);
            memcpy((char *)r->index.at + to * small, (char *)whole->index.at + from * small, small);
            memcpy((char *)r->weights.at + to * small, (char *)whole->weights.at + from * small, small);
        }
    tell(r, whole);
}

static void same_rows(const struct route *r, const struct route *whole)
{
    const size_t size = ir_dtype_size(IR_COMPUTE, machine->compute) * C;
    for (size_t s = 0; s < B; s++)
        for (size_t i = 0; i < r->t; i++) {
            const size_t want = whole_row(r, s, i) * size, got = (i * B + s) * size;
            ck_assert(memcmp((char *)r->y.at + got, (char *)whole->y.at + want, size) == 0);
            ck_assert(memcmp((char *)r->dx.at + got, (char *)whole->dx.at + want, size) == 0);
        }
}

static double dropped(const struct route *r)
{
    return ((const double *)r->scalars.at)[SCALAR_DROPPED];
}

static void close_route(struct route *r)
{
    for (int i = 0; i < BUFFERS; i++)
        machine_free(machine, route_buffer(r, i));
}

static void route(uint32_t n, uint32_t c, bool zigzag, uint32_t capacity)
{
    struct route whole = { .whole = true, .t = T };
    double sum = 0;
    open_route(&whole, capacity);
    fill_whole(&whole);
    run_route(&whole);
    for (uint32_t m = 0; m < n; m++) {
        struct route r = { .t = T / n };
        r.positions = (struct op_positions){ .t_all = T,
                                             .row_s = 1,
                                             .row_i = B,
                                             .split = IR_COUNTS,
                                             .part = m,
                                             .parts = n,
                                             .sets = 1 + (capacity == 6),
                                             .capacity = capacity,
                                             .rows = { T, n, c, zigzag } };
        ir_rows_of(&r.positions.rows, m, r.positions.run);
        open_route(&r, capacity);
        member_inputs(&r, &whole);
        run_route(&r);
        same_rows(&r, &whole);
        sum += dropped(&r);
        close_route(&r);
    }
    ck_assert(sum == dropped(&whole));
    ck_assert(capacity == 0 || capacity >= T || sum > 0);
    close_route(&whole);
}

START_TEST(routes)
{
    static const uint32_t capacities[] = { 0, 1, 6, 9, T };
    if (!has_kernels(machine, IR_OP_DISPATCH, &(struct ir_attrs){ 0 }))
        return;
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        route(1, 1, false, capacities[i]);
        route(4, 1, false, capacities[i]);
        route(2, 2, true, capacities[i]);
        route(6, 2, true, capacities[i]); /* members with a token of each run */
        route(4, 2, true, capacities[i]);
        route(4, 2, false, capacities[i]);
    }
}
END_TEST

void add_routes(struct TCase *t)
{
    tcase_add_test(t, routes);
}
