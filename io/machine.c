#include "io/machine.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "io/h5.h"

enum { VERSION = 1 };
static const char schema[] = "piper-machine";

/* Numbers of the machine, each a scalar. */
static const struct scalar {
    const char *name, *units;
    size_t offset;
    bool real;     /* else uint32_t */
    bool may_lack; /* then it is 0 */
} scalars[] = {
#define AT(field) offsetof(struct machine, field)
    { "compute/flops_float32", "1/s", AT(flops[0]), true, false },
    { "compute/flops_bfloat16", "1/s", AT(flops[1]), true, false },
    { "compute/bandwidth", "B/s", AT(bandwidth), true, false },
    { "compute/memory", "B", AT(memory), true, true },
    { "compute/launch", "s", AT(launch), true, false },
    { "compute/sum", "s/B", AT(sum), true, false },
    { "compute/units", NULL, AT(units), false, false },
    { "compute/comm_units", NULL, AT(comm_units), false, false },
    { "compute/compute_beside", NULL, AT(compute_beside), true, false },
    { "compute/transfer_beside", NULL, AT(transfer_beside), true, false },
    { "compute/latency_beside", "s", AT(latency_beside), true, true },
    { "runs/spread", NULL, AT(spread), true, true },
    { "runs/noisy", NULL, AT(noisy), false, true },
    { "topology/ranks_per_node", "ranks", AT(ranks_per_node), false, false },
    { "topology/nodes_per_island", "nodes", AT(nodes_per_island), false, false },
#undef AT
};
enum { SCALARS = sizeof scalars / sizeof *scalars };

static const char *dtype_name(uint32_t dtype)
{
    return ir_dtype_name((enum ir_dtype)dtype);
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static enum status put_scalars(const struct machine *m, const struct h5_at *at, struct err *e)
{
    static const char zero[sizeof(double)] = { 0 };
    for (int i = 0; i < SCALARS; i++) {
        const struct scalar *s = &scalars[i];
        struct h5_data d = { .name = s->name, .units = s->units };
        const char *from = (const char *)m + s->offset;
        if (s->may_lack && !memcmp(from, zero, s->real ? sizeof(double) : sizeof(uint32_t)))
            continue;
        TRY(h5_put(at, &d, s->real ? H5_F64 : H5_U32, from, e));
    }
    return ST_OK;
}

/* n numbers that stand `stride` bytes apart. */
static enum status put_column(const struct h5_at *at, const char *name, const char *units, uint64_t n,
                              const double *first, size_t stride, struct err *e)
{
    double *column = mem_alloc(n * sizeof *column);
    for (uint64_t i = 0; i < n; i++)
        memcpy(&column[i], (const char *)first + i * stride, sizeof *column);
    struct h5_data d = { .name = name, .units = units, .rank = 1, .dim = { n } };
    enum status st = h5_put(at, &d, H5_F64, column, e);
    mem_free(column);
    return st;
}

static enum status put_points(const struct machine *m, const struct h5_at *at, struct err *e)
{
    uint64_t n = m->points.n;
    const struct machine_point *p = m->points.at;
    const char **text = mem_alloc(3 * (n + 1) * sizeof *text);
    for (uint64_t i = 0; i < n; i++) {
        text[i] = machine_kind_name(p[i].kind);
        text[n + i] = ir_pass_name((enum ir_pass)p[i].pass);
        text[2 * n + i] = dtype_name(p[i].dtype);
    }
    enum status st = n ? h5_put_strings(at, "kernels/kernel", text, n, e) : ST_OK;
    if (n && st == ST_OK)
        st = h5_put_strings(at, "kernels/pass", text + n, n, e);
    if (n && st == ST_OK)
        st = h5_put_strings(at, "kernels/dtype", text + 2 * n, n, e);
    mem_free(text);
    TRY(st);
    if (!n)
        return ST_OK;
    TRY(put_column(at, "kernels/width", NULL, n, &p->width, sizeof *p, e));
    TRY(put_column(at, "kernels/work", NULL, n, &p->work, sizeof *p, e));
    return put_column(at, "kernels/seconds", "s", n, &p->seconds, sizeof *p, e);
}

static enum status put_links(const struct machine *m, const struct h5_at *at, struct err *e)
{
    const char *names[LINK_COUNT];
    uint64_t n = m->link_points.n;
    for (int i = 0; i < LINK_COUNT; i++)
        names[i] = machine_link_name((enum machine_link)i);
    TRY(h5_put_strings(at, "links/link", names, LINK_COUNT, e));
    TRY(put_column(at, "links/latency", "s", LINK_COUNT, &m->links->latency, sizeof *m->links, e));
    TRY(put_column(at, "links/bandwidth", "B/s", LINK_COUNT, &m->links->bandwidth, sizeof *m->links, e));
    TRY(put_column(at, "links/shared", "B/s", LINK_COUNT, &m->links->shared, sizeof *m->links, e));
    TRY(h5_put_text(at, "links/collectives", m->ring ? "ring" : "pairwise", e));
    if (!n)
        return ST_OK;
    const struct machine_link_point *p = m->link_points.at;
    const char **text = mem_alloc(n * sizeof *text);
    for (uint64_t i = 0; i < n; i++)
        text[i] = machine_link_name((enum machine_link)p[i].link);
    enum status st = h5_put_strings(at, "messages/link", text, n, e);
    mem_free(text);
    TRY(st);
    TRY(put_column(at, "messages/bytes", "B", n, &p->bytes, sizeof *p, e));
    return put_column(at, "messages/seconds", "s", n, &p->seconds, sizeof *p, e);
}

static enum status put_machine(const struct machine *m, const struct h5_at *at, struct err *e)
{
    TRY(h5_put_text(at, "name", m->name, e));
    TRY(h5_put_text(at, "source", m->source, e));
    TRY(put_scalars(m, at, e));
    TRY(put_points(m, at, e));
    return put_links(m, at, e);
}

enum status machine_write(const struct machine *m, const char *path, struct err *e)
{
    struct h5_out o;
    TRY(machine_validate(m, path, e));
    TRY(h5_create(path, schema, VERSION, &o, e));
    enum status st = put_machine(m, &o.root, e);
    if (st == ST_OK)
        return h5_commit(&o, e);
    h5_abandon(&o);
    return st;
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

struct machine_reader {
    const struct h5_at *at;
    struct arena scratch;
    struct machine *m;
    struct err *e;
};

/* The scalars of the group that is open. */
static enum status get_scalars(struct machine_reader *r, const char *group)
{
    size_t n_group = strlen(group);
    for (int i = 0; i < SCALARS; i++) {
        const struct scalar *s = &scalars[i];
        if (strncmp(s->name, group, n_group) || s->name[n_group] != '/')
            continue;
        struct h5_data d = { .name = s->name + n_group + 1 };
        if (s->may_lack && !h5_has(r->at, d.name))
            continue;
        char *to = (char *)r->m + s->offset;
        double *x;
        int64_t *n;
        if (s->real) {
            TRY(h5_get_f64(r->at, &d, &r->scratch, &x, r->e));
            memcpy(to, x, sizeof *x);
        } else {
            TRY(h5_get_i64(r->at, &d, 0, UINT32_MAX, &r->scratch, &n, r->e));
            memcpy(to, &(uint32_t){ (uint32_t)*n }, sizeof(uint32_t));
        }
    }
    return ST_OK;
}

static enum status get_column(struct machine_reader *r, const char *name, uint64_t n, double **out)
{
    struct h5_data d = { .name = name, .rank = 1, .dim = { n } };
    return h5_get_f64(r->at, &d, &r->scratch, out, r->e);
}

static enum status no_such(const struct machine_reader *r, const char *column, uint64_t row, const char *found)
{
    return err_set(r->e, ST_INPUT, r->at->where, "%s, row %" PRIu64 ": found \"%s\", which is unknown", column, row,
                   found);
}

static enum status get_points(struct machine_reader *r)
{
    uint64_t n = H5_ANY;
    const char **kernel, **pass, **dtype;
    double *width, *work, *seconds;
    TRY(h5_get_strings(r->at, "kernel", &n, &r->scratch, &kernel, r->e));
    TRY(h5_get_strings(r->at, "pass", &n, &r->scratch, &pass, r->e));
    TRY(h5_get_strings(r->at, "dtype", &n, &r->scratch, &dtype, r->e));
    TRY(get_column(r, "width", n, &width));
    TRY(get_column(r, "work", n, &work));
    TRY(get_column(r, "seconds", n, &seconds));
    for (uint64_t i = 0; i < n; i++) {
        struct machine_point p = { .kind = machine_kind_by_name(kernel[i]),
                                   .dtype = strcmp(dtype[i], dtype_name(IR_F32)) ? IR_BF16 : IR_F32,
                                   .width = width[i],
                                   .work = work[i],
                                   .seconds = seconds[i] };
        while (p.pass < IR_PASS_NONE && strcmp(ir_pass_name((enum ir_pass)p.pass), pass[i]))
            p.pass++;
        if (p.kind == MACHINE_KINDS)
            return no_such(r, "kernel", i, kernel[i]);
        if (strcmp(ir_pass_name((enum ir_pass)p.pass), pass[i]))
            return no_such(r, "pass", i, pass[i]);
        if (strcmp(dtype_name(p.dtype), dtype[i]))
            return no_such(r, "dtype", i, dtype[i]);
        vec_add(&r->m->points, p);
    }
    return ST_OK;
}

static uint32_t link_by_name(const char *name)
{
    uint32_t l = 0;
    while (l < LINK_COUNT && strcmp(machine_link_name((enum machine_link)l), name))
        l++;
    return l;
}

static enum status get_links(struct machine_reader *r)
{
    uint64_t n = LINK_COUNT;
    const char **name, *collectives;
    double *latency, *bandwidth, *shared;
    TRY(h5_get_strings(r->at, "link", &n, &r->scratch, &name, r->e));
    TRY(get_column(r, "latency", n, &latency));
    TRY(get_column(r, "bandwidth", n, &bandwidth));
    TRY(get_column(r, "shared", n, &shared));
    for (uint32_t i = 0; i < n; i++) {
        if (link_by_name(name[i]) != i)
            return no_such(r, "link", i, name[i]);
        r->m->links[i] = (struct machine_links){ latency[i], bandwidth[i], shared[i] };
    }
    TRY(h5_get_text(r->at, "collectives", &r->scratch, &collectives, r->e));
    r->m->ring = strcmp(collectives, "pairwise") != 0;
    return strcmp(collectives, "ring") && r->m->ring ? no_such(r, "collectives", 0, collectives) : ST_OK;
}

static enum status get_messages(struct machine_reader *r)
{
    uint64_t n = H5_ANY;
    const char **link;
    double *bytes, *seconds;
    TRY(h5_get_strings(r->at, "link", &n, &r->scratch, &link, r->e));
    TRY(get_column(r, "bytes", n, &bytes));
    TRY(get_column(r, "seconds", n, &seconds));
    for (uint64_t i = 0; i < n; i++) {
        struct machine_link_point p = { link_by_name(link[i]), bytes[i], seconds[i] };
        if (p.link == LINK_COUNT)
            return no_such(r, "link", i, link[i]);
        vec_add(&r->m->link_points, p);
    }
    return ST_OK;
}

static enum status get_compute(struct machine_reader *r)
{
    return get_scalars(r, "compute");
}

static enum status get_runs(struct machine_reader *r)
{
    return get_scalars(r, "runs");
}

static enum status get_topology(struct machine_reader *r)
{
    return get_scalars(r, "topology");
}

static const struct group {
    const char *name;
    bool may_lack;
    enum status (*get)(struct machine_reader *r);
    const char *members[12];
} groups[] = {
    { "compute",
      false,
      get_compute,
      { "flops_float32", "flops_bfloat16", "bandwidth", "launch", "sum", "units", "comm_units", "compute_beside",
        "transfer_beside", "latency_beside", "memory" } },
    { "runs", true, get_runs, { "spread", "noisy" } },
    { "topology", false, get_topology, { "ranks_per_node", "nodes_per_island" } },
    { "kernels", true, get_points, { "kernel", "pass", "dtype", "width", "work", "seconds" } },
    { "links", false, get_links, { "link", "latency", "bandwidth", "shared", "collectives" } },
    { "messages", true, get_messages, { "link", "bytes", "seconds" } },
};

static enum status get_group(struct machine_reader *r, const struct group *g)
{
    struct h5_at at;
    const struct h5_at *root = r->at;
    if (g->may_lack && !h5_has(root, g->name))
        return ST_OK;
    TRY(h5_group(root, g->name, &at, r->e));
    r->at = &at;
    enum status st = h5_only(&at, g->members, r->e);
    if (st == ST_OK)
        st = g->get(r);
    r->at = root;
    h5_close(&at);
    return st;
}

static enum status get_machine(struct machine_reader *r)
{
    static const char *const known[] = { "name",    "source", "compute",  "runs", "topology",
                                         "kernels", "links",  "messages", NULL };
    const char *name, *source;
    TRY(h5_only(r->at, known, r->e));
    TRY(h5_get_text(r->at, "name", &r->scratch, &name, r->e));
    TRY(h5_get_text(r->at, "source", &r->scratch, &source, r->e));
    snprintf(r->m->name, sizeof r->m->name, "%s", name);
    snprintf(r->m->source, sizeof r->m->source, "%s", source);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        TRY(get_group(r, &groups[i]));
    TRY(machine_validate(r->m, r->at->where, r->e));
    machine_sort(r->m);
    return ST_OK;
}

enum status machine_read(const char *path, struct machine *m, struct err *e)
{
    struct h5_at root;
    struct machine_reader r = { .at = &root, .m = m, .e = e };
    *m = (struct machine){ 0 };
    TRY(h5_open(path, schema, VERSION, &root, e));
    arena_init(&r.scratch);
    enum status st = get_machine(&r);
    arena_release(&r.scratch);
    h5_close(&root);
    if (st != ST_OK)
        machine_release(m);
    return st;
}
