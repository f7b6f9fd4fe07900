#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "io/trace_private.h"

enum { ROWS_MOST = 1 << 27 };

struct trace_reader {
    const struct h5_at *at; /* the group */
    struct trace *t;
    struct arena scratch;
    struct err *e;
};

/* Columns; *n is H5_ANY for the first one of a table. */
static enum status ints(struct trace_reader *r, const char *name, int64_t lo, int64_t hi, uint64_t *n, int64_t **out)
{
    struct h5_data d = { .name = name, .rank = 1, .dim = { *n } };
    TRY(h5_get_i64(r->at, &d, lo, hi, &r->scratch, out, r->e));
    *n = d.dim[0];
    return ST_OK;
}

static enum status reals(struct trace_reader *r, const char *name, uint64_t *n, double **out)
{
    struct h5_data d = { .name = name, .rank = 1, .dim = { *n } };
    TRY(h5_get_f64(r->at, &d, &r->scratch, out, r->e));
    *n = d.dim[0];
    for (uint64_t i = 0; i < *n; i++)
        if (!isfinite((*out)[i]))
            return err_set(r->e, ST_INPUT, r->at->where, "%s, row %" PRIu64 ": found %g, expected a time", name, i,
                           (*out)[i]);
    return ST_OK;
}

static enum status texts(struct trace_reader *r, const char *name, uint64_t *n, const char ***out)
{
    return h5_get_strings(r->at, name, n, &r->t->arena, out, r->e);
}

static enum status read_hosts(struct trace_reader *r)
{
    r->t->n_hosts = H5_ANY;
    return texts(r, "name", &r->t->n_hosts, &r->t->hosts);
}

static enum status read_ranks(struct trace_reader *r)
{
    uint64_t n = H5_ANY;
    const char **device;
    int64_t *host, *dropped;
    double *os, *oe, *cs, *ce;
    TRY(texts(r, "device", &n, &device));
    TRY(ints(r, "host", 0, (int64_t)r->t->n_hosts - 1, &n, &host));
    TRY(reals(r, "clock_offset_start", &n, &os));
    TRY(reals(r, "clock_offset_end", &n, &oe));
    TRY(reals(r, "clock_start", &n, &cs));
    TRY(reals(r, "clock_end", &n, &ce));
    TRY(ints(r, "dropped", 0, INT64_MAX - 1, &n, &dropped));
    r->t->n_ranks = n;
    r->t->ranks = arena_array(&r->t->arena, struct trace_rank, n);
    for (uint64_t i = 0; i < n; i++)
        r->t->ranks[i] = (struct trace_rank){ (uint32_t)host[i],   device[i], os[i], oe[i], cs[i], ce[i],
                                              (uint64_t)dropped[i] };
    return ST_OK;
}

static enum status read_streams(struct trace_reader *r)
{
    r->t->n_streams = H5_ANY;
    return texts(r, "name", &r->t->n_streams, &r->t->streams);
}

static enum status read_locations(struct trace_reader *r)
{
    uint64_t n = H5_ANY;
    int64_t *rank, *stream;
    TRY(ints(r, "rank", 0, (int64_t)r->t->n_ranks - 1, &n, &rank));
    TRY(ints(r, "stream", 0, (int64_t)r->t->n_streams - 1, &n, &stream));
    r->t->n_locations = n;
    r->t->locations = arena_array(&r->t->arena, struct trace_location, n);
    for (uint64_t i = 0; i < n; i++)
        r->t->locations[i] = (struct trace_location){ (uint32_t)rank[i], (uint32_t)stream[i] };
    return ST_OK;
}

static enum status read_instructions(struct trace_reader *r)
{
    uint64_t n = H5_ANY;
    const char **name, **tags;
    int64_t *stream;
    double *predicted, *start;
    TRY(texts(r, "name", &n, &name));
    TRY(texts(r, "tags", &n, &tags));
    TRY(ints(r, "stream", 0, (int64_t)r->t->n_streams - 1, &n, &stream));
    TRY(reals(r, "predicted", &n, &predicted));
    TRY(reals(r, "predicted_start", &n, &start));
    r->t->n_instructions = n;
    r->t->instructions = arena_array(&r->t->arena, struct trace_instruction, n);
    for (uint64_t i = 0; i < n; i++)
        r->t->instructions[i] = (struct trace_instruction){ name[i], tags[i], (uint32_t)stream[i], predicted[i],
                                                            start[i] };
    return ST_OK;
}

static enum status read_groups(struct trace_reader *r)
{
    uint64_t n = H5_ANY;
    int64_t *id, *size;
    const char **name;
    TRY(ints(r, "id", 0, INT32_MAX, &n, &id));
    TRY(ints(r, "size", 1, UINT32_MAX, &n, &size));
    TRY(texts(r, "name", &n, &name));
    r->t->n_groups = n;
    r->t->groups = arena_array(&r->t->arena, struct trace_group, n);
    for (uint64_t i = 0; i < n; i++) {
        if (i && id[i] <= id[i - 1])
            return err_set(r->e, ST_INPUT, r->at->where, "id, row %" PRIu64 ": the numbers do not ascend", i);
        r->t->groups[i] = (struct trace_group){ (uint32_t)id[i], (uint32_t)size[i], name[i] };
    }
    return ST_OK;
}

/* To rank 0's clock, from the start of the trace: the offset is interpolated between its two measurements. */
static double to_common_clock(const struct trace_rank *k, double t, double zero)
{
    double span = k->clock_end - k->clock_start;
    double part = span > 0 ? (t - k->clock_start) / span : 0;
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    return t + k->offset_start + part * (k->offset_end - k->offset_start) - zero;
}

static enum status read_events(struct trace_reader *r)
{
    struct trace *t = r->t;
    uint64_t n = H5_ANY;
    for (int c = 0; c < TRACE_COLUMNS; c++) {
        const struct trace__column *col = &trace__columns[c];
        int64_t lo = col->type == H5_I32 ? -1 : 0, hi = col->width == 8       ? INT64_MAX - 1
                                                        : col->type == H5_I32 ? INT32_MAX
                                                                              : UINT32_MAX;
        int64_t *whole = NULL;
        double *real = NULL;
        if (strcmp(col->name, "location") == 0)
            hi = (int64_t)t->n_locations - 1;
        if (strcmp(col->name, "instruction") == 0)
            hi = (int64_t)t->n_instructions - 1;
        if (strcmp(col->name, "peer") == 0)
            hi = (int64_t)t->n_ranks - 1;
        TRY(col->type == H5_F64 ? reals(r, col->name, &n, &real) : ints(r, col->name, lo, hi, &n, &whole));
        if (n > ROWS_MOST)
            return err_set(r->e, ST_INPUT, r->at->where, "has %" PRIu64 " events, expected at most %d", n, ROWS_MOST);
        if (c == 0)
            t->events = arena_array(&t->arena, struct trace_event, n);
        for (uint64_t i = 0; i < n; i++) {
            const void *x = real ? (const void *)&real[i]
                                 : (const void *)&whole[i]; /* little-endian: low bytes first */
            memcpy((char *)&t->events[i] + col->offset, x, col->width);
        }
    }
    t->n_events = n;
    return ST_OK;
}

static int64_t seconds_of(const char *time)
{
    struct tm tm = { 0 };
    const char *end = strptime(time, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return end && !*end ? (int64_t)timegm(&tm) : -1;
}

static enum status finish(struct trace *t, const struct h5_at *root, struct err *e)
{
    const char *time;
    TRY(h5_get_attr_f64(root, "zero", &t->zero, e));
    TRY(h5_get_attr_text(root, "time", &t->arena, &time, e));
    t->written = seconds_of(time);
    TRY(h5_get_attr_u64(root, "segment", UINT32_MAX, &t->segment, e));
    for (uint64_t i = 0; i < t->n_events; i++) {
        struct trace_event *ev = &t->events[i];
        if (ev->dur < 0)
            return err_set(e, ST_INPUT, root->where, "/events/dur, row %" PRIu64 ": found %g, expected 0 or more", i,
                           ev->dur);
        ev->t = to_common_clock(&t->ranks[t->locations[ev->location].rank], ev->t, t->zero);
    }
    return ST_OK;
}

static enum status read_all(struct trace *t, const struct h5_at *root, struct err *e)
{
    static const char *const attrs[] = { "schema", "schema_version", "segment", "zero", "time", NULL };
    static const char *const names[] = { "hosts",        "ranks",  "streams", "locations",
                                         "instructions", "groups", "events",  NULL };
    static enum status (*const readers[])(struct trace_reader *) = { read_hosts,     read_ranks,        read_streams,
                                                                     read_locations, read_instructions, read_groups,
                                                                     read_events };
    TRY(h5_only(root, names, e));
    TRY(h5_only_attrs(root, attrs, e));
    for (int i = 0; names[i]; i++) {
        struct h5_at group;
        TRY(h5_group(root, names[i], &group, e));
        struct trace_reader r = { .at = &group, .t = t, .e = e };
        arena_init(&r.scratch);
        enum status st = readers[i](&r);
        arena_release(&r.scratch);
        h5_close(&group);
        TRY(st);
    }
    return finish(t, root, e);
}

static enum status read_file(const struct dir *in, const char *name, struct trace *t, struct err *e)
{
    struct h5_at root;
    *t = (struct trace){ 0 };
    arena_init(&t->arena);
    enum status st = h5_open_in(in, name, trace__schema, TRACE_VERSION, &root, e);
    if (st == ST_OK)
        st = read_all(t, &root, e);
    h5_close(&root);
    if (st != ST_OK)
        trace_release(t);
    return st;
}

enum status trace_read(const char *path, struct trace *t, struct err *e)
{
    return read_file(NULL, path, t, e);
}

enum status trace_read_segment(const struct dir *run, uint32_t segment, struct trace *t, struct err *e)
{
    char name[TRACE_NAME];
    trace_name(segment, name);
    return read_file(run, name, t, e);
}

void trace_release(struct trace *t)
{
    arena_release(&t->arena);
    *t = (struct trace){ 0 };
}
