/* The device and the kernels that do nothing: see standin.h. */
#include <stdlib.h>
#include <string.h>

#include "exec/device_ops.h"
#include "standin.h"

enum { STREAMS = 64 };
static char streams[STREAMS];
static struct allocation {
    unsigned char *at;
    uint64_t bytes;
} memory[16];

uint32_t standin_graphs;

bool standin_memory(const void *p, uint64_t bytes)
{
    const unsigned char *at = p;
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i].at && at >= memory[i].at && at + bytes <= memory[i].at + memory[i].bytes)
            return true;
    return false;
}

uint32_t standin_stream(const void *stream)
{
    const char *s = stream;
    return s >= streams && s < streams + STREAMS ? (uint32_t)(s - streams) : UINT32_MAX;
}

static enum status find(uint32_t local_rank, struct device_found *found, struct err *e)
{
    (void)local_rank, (void)e;
    *found = (struct device_found){ .name = "nothing", .id = 1 };
    return ST_OK;
}

static enum status device_open(const struct device_setup *s, struct err *e)
{
    (void)e;
    CHECK(s->n_streams <= STREAMS);
    return ST_OK;
}

static void nothing(void)
{
}

static struct device_memory amount(void)
{
    return (struct device_memory){ .free = 1ull << 40, .total = 1ull << 40 };
}

static void *take(uint64_t bytes)
{
    size_t i = 0;
    while (i < sizeof memory / sizeof *memory && memory[i].at)
        i++;
    CHECK(i < sizeof memory / sizeof *memory);
    memory[i] = (struct allocation){ calloc(1, bytes + 1), bytes };
    return memory[i].at;
}

static void release(void *p)
{
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i].at == p)
            memory[i].at = NULL;
    free(p);
}

static void *host_take(uint64_t bytes)
{
    return calloc(1, bytes + 1);
}

static void *stream(uint32_t i)
{
    return &streams[i];
}

static void order(uint32_t event, void *s)
{
    (void)event, (void)s;
}

static void wait_for(void *s, uint32_t event)
{
    (void)event, (void)s;
}

static const char *happened(uint32_t event)
{
    (void)event;
    return NULL;
}

static void on_stream(void *s)
{
    (void)s;
}

static double clock_read(uint32_t stamp)
{
    return stamp;
}

static void copy(void *to, const void *from, uint64_t bytes, void *s)
{
    static const int32_t one = 1;
    (void)s;
    if (standin_memory(from, bytes) && !standin_memory(to, bytes))
        for (uint64_t i = 0; i + sizeof one <= bytes; i += sizeof one)
            memcpy((char *)to + i, &one, sizeof one);
}

static void clear(void *p, uint64_t bytes, void *s)
{
    (void)p, (void)bytes, (void)s;
}

static void mark(uint32_t *word, const struct step_inputs *in, void *s)
{
    (void)word, (void)in, (void)s;
}

static bool no(void)
{
    return false;
}

static void wait_word(const uint32_t *word, uint32_t value, void *s)
{
    (void)word, (void)value, (void)s;
}

static void *graph_captured(void *s)
{
    standin_graphs++;
    return s;
}

static void graph_released(void *graph)
{
    (void)graph;
    standin_graphs--;
}

static void graph_launch(void *graph, void *s)
{
    (void)graph, (void)s;
}

static const char *no_error(void)
{
    return NULL;
}

static void range_begin(const char *name)
{
    (void)name;
}

static const struct device_ops device = {
    .find = find,
    .open = device_open,
    .close = nothing,
    .memory = amount,
    .alloc = take,
    .release = release,
    .host_alloc = host_take,
    .host_release = free,
    .stream = stream,
    .record = order,
    .wait = wait_for,
    .wait_outside = wait_for,
    .await = happened,
    .stamp = order,
    .clock_zero = on_stream,
    .clock_read = clock_read,
    .copy = copy,
    .clear = clear,
    .mark = mark,
    .can_wait_word = no,
    .wait_word = wait_word,
    .capture_begin = on_stream,
    .capture_end = graph_captured,
    .graph_launch = graph_launch,
    .graph_release = graph_released,
    .synchronize_stream = on_stream,
    .synchronize = nothing,
    .error = no_error,
    .profiled = no,
    .range_begin = range_begin,
    .range_end = nothing,
};

/* ---- kernels --------------------------------------------------------------------------------------------------- */

static void run(const struct op_args *a)
{
    (void)a;
}

static op_kernel kernel(enum ir_op op, enum ir_pass pass)
{
    (void)op, (void)pass;
    return run;
}

static void update(const struct update_args *u, const struct step_inputs *s)
{
    (void)u, (void)s;
}

static void clip(struct step_inputs *s, const double *scalars, double norm, void *on)
{
    (void)s, (void)scalars, (void)norm, (void)on;
}

static void sumsq(const float *x, uint64_t n, double *sum, double *nonfinite, void *on)
{
    (void)x, (void)n, (void)sum, (void)nonfinite, (void)on;
}

const struct compute_backend standin_compute = {
    .name = "nothing",
    .target = "cuda",
    .kernel = kernel,
    .update = update,
    .clip = clip,
    .sumsq = sumsq,
    .device = &device,
};
