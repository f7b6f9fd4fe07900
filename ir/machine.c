#include "ir/machine.h"

#include <stdlib.h>

const char *machine_kind_name(uint32_t kind)
{
    if (kind < IR_OP_COUNT)
        return ir_op_info[kind].name;
    return kind == MACHINE_SUMSQ ? "sumsq" : optimizer_name(kind - MACHINE_UPDATE);
}

uint32_t machine_kind_by_name(const char *name)
{
    uint32_t kind = 0;
    while (kind < MACHINE_KINDS && strcmp(machine_kind_name(kind), name))
        kind++;
    return kind;
}

bool machine_by_flops(uint32_t kind)
{
    return kind == IR_OP_LINEAR || kind == IR_OP_ATTENTION || kind == IR_OP_ROUTER || kind == IR_OP_EXPERTS ||
           kind == IR_OP_HEAD_LOSS;
}

const char *machine_link_name(enum machine_link l)
{
    static const char *const names[] = { "node", "network", "islands" };
    return names[l];
}

void machine_generic(struct machine *m)
{
    *m = (struct machine){ .name = "generic",
                           .source = "round figures, not a real machine: 400 Tflop/s bfloat16, 2 TB/s of memory, 8 "
                                     "ranks per node with 200 GB/s between them and 25 GB/s to other nodes",
                           .flops = { 100e12, 400e12 },
                           .bandwidth = 2e12,
                           .launch = 5e-6,
                           .sum = 1 / 2e12,
                           .ring = 1,
                           .compute_beside = 1,
                           .transfer_beside = 1,
                           .ranks_per_node = 8,
                           .links = { { 5e-6, 200e9, 0 }, { 10e-6, 25e9, 0 }, { 10e-6, 25e9, 0 } } };
}

void machine_release(struct machine *m)
{
    vec_free(&m->points);
    vec_free(&m->link_points);
}

static int by_number(double a, double b)
{
    return (a > b) - (a < b);
}

static int compare_points(const void *x, const void *y)
{
    const struct machine_point *a = x, *b = y;
    int d = by_number(a->kind, b->kind);
    d = d ? d : by_number(a->pass, b->pass);
    d = d ? d : by_number(a->dtype, b->dtype);
    d = d ? d : by_number(a->width, b->width);
    return d ? d : by_number(a->work, b->work);
}

static int compare_link_points(const void *x, const void *y)
{
    const struct machine_link_point *a = x, *b = y;
    int d = by_number(a->link, b->link);
    return d ? d : by_number(a->bytes, b->bytes);
}

void machine_sort(struct machine *m)
{
    if (m->points.n)
        qsort(m->points.at, m->points.n, sizeof *m->points.at, compare_points);
    if (m->link_points.n)
        qsort(m->link_points.at, m->link_points.n, sizeof *m->link_points.at, compare_link_points);
}

static bool positive(double x)
{
    return x > 1e-15 && x < 1e21; /* false for NaN */
}

static bool share(double x)
{
    return x >= 0.01 && x <= 1;
}

static bool good_links(const struct machine *m)
{
    for (int i = 0; i < LINK_COUNT; i++) {
        const struct machine_links *l = &m->links[i];
        if (!(l->latency >= 0 && l->latency < 10) || !positive(l->bandwidth) ||
            !(l->shared == 0 || positive(l->shared)))
            return false;
    }
    for (uint32_t i = 0; i < m->link_points.n; i++)
        if (m->link_points.at[i].link >= LINK_COUNT || !positive(m->link_points.at[i].bytes) ||
            !positive(m->link_points.at[i].seconds))
            return false;
    return true;
}

static bool good_points(const struct machine *m)
{
    for (uint32_t i = 0; i < m->points.n; i++) {
        const struct machine_point *p = &m->points.at[i];
        bool kernel = p->kind < IR_OP_COUNT ? p->pass < IR_PASS_NONE && p->pass != IR_PASS_B : p->pass == IR_PASS_NONE;
        if (p->kind >= MACHINE_KINDS || !kernel || (p->dtype != IR_F32 && p->dtype != IR_BF16) ||
            !(p->width >= 0 && p->width < 1e12) || !positive(p->work) || !positive(p->seconds))
            return false;
    }
    return true;
}

enum status machine_validate(const struct machine *m, const char *where, struct err *e)
{
    const struct {
        bool good;
        const char *what;
    } rules[] = {
        { positive(m->flops[0]) && positive(m->flops[1]), "flops must be positive" },
        { positive(m->bandwidth), "bandwidth must be positive" },
        { m->memory >= 0 && m->memory < 1e18, "memory must be from 0 (not known) to 1e18 bytes" },
        { m->launch >= 0 && m->launch < 1, "launch must be from 0 to 1 second" },
        { m->sum >= 0 && m->sum < 1, "sum must be from 0 to 1 second per byte" },
        { m->ring <= 1, "collectives must be ring or pairwise" },
        { m->units < 1u << 20 && (!m->units || m->comm_units < m->units), "comm_units must be fewer than units" },
        { share(m->compute_beside) && share(m->transfer_beside),
          "compute_beside and transfer_beside must be from 0.01 to 1" },
        { m->latency_beside >= 0 && m->latency_beside < 10, "latency_beside must be from 0 to 10 seconds" },
        { m->spread >= 0 && m->spread < 1e9, "spread must be from 0 to 1e9" },
        { m->ranks_per_node >= 1 && m->ranks_per_node < 1u << 20, "ranks_per_node must be from 1 to 2^20" },
        { m->nodes_per_island < 1u << 28, "nodes_per_island must be below 2^28" },
        { good_links(m), "latency, bandwidth or a point of a link is out of range" },
        { good_points(m), "a point of a kernel names no kernel, or is out of range" },
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!rules[i].good)
            return err_set(e, ST_INPUT, where, "%s", rules[i].what);
    return ST_OK;
}

enum machine_link machine_link_between(const struct machine *m, uint32_t a, uint32_t b)
{
    uint32_t node_a = a / m->ranks_per_node, node_b = b / m->ranks_per_node;
    if (node_a == node_b)
        return LINK_NODE;
    return m->nodes_per_island && node_a / m->nodes_per_island != node_b / m->nodes_per_island ? LINK_ISLANDS
                                                                                               : LINK_NETWORK;
}
