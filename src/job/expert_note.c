#include "job/expert_note.h"

#include <stdio.h>
#include <string.h>

static const char again[] = "{\"op\":\"recompute\",\"filter\":{\"EP\":\"*\"},\"received\":\"again\"}";

/* The rank that needs most. */
static const struct plan_header *largest(const struct sched_output *out)
{
    const struct plan_header *most = out->classes[0].blob;
    for (uint32_t i = 1; i < out->n_classes; i++) {
        const struct plan_header *h = out->classes[i].blob;
        most = h->total_bytes > most->total_bytes ? h : most;
    }
    return most;
}

/* Does a directive send rows to experts on other devices? */
static bool sends_rows(const json_t *d)
{
    const char *op = json_string_value(json_object_get(d, "op")), *dim = json_string_value(json_object_get(d, "dim"));
    if (!op)
        return false;
    if (strcmp(op, "layout") == 0)
        return json_integer_value(json_object_get(d, "ep")) > 1;
    return strcmp(op, "shard") == 0 && (!dim || strcmp(dim, "expert") == 0);
}

static bool is_unbounded(const json_t *d)
{
    return sends_rows(d) && !json_object_get(d, "expert_bound");
}

bool expert_note_applies(const struct ir_graph *g, const json_t *strategy)
{
    bool experts = false, sends = false;
    size_t i;
    const json_t *d;
    for (uint32_t k = 0; k < g->ops.n; k++)
        experts = experts || g->ops.at[k].op == IR_OP_EXPERTS;
    json_array_foreach(strategy, i, d)
    {
        sends = sends || sends_rows(d);
    }
    return experts && sends;
}

/* Sets the bound wherever there is none; false: nowhere. */
static bool set_bound(json_t *strategy, double bound)
{
    bool any = false;
    size_t i;
    json_t *d;
    json_array_foreach(strategy, i, d)
    {
        if (!is_unbounded(d))
            continue;
        json_object_set_new(d, "expert_bound", json_real(bound));
        any = true;
    }
    return any;
}

/* What experts receive is sent again; bound 0. False: it is already. */
static bool set_again(json_t *strategy, double bound)
{
    size_t i;
    json_t *d;
    (void)bound;
    json_array_foreach(strategy, i, d)
    {
        const char *received = json_string_value(json_object_get(d, "received"));
        if (received && strcmp(received, "again") == 0)
            return false;
    }
    json_array_append_new(strategy, json_loads(again, 0, NULL));
    return true;
}

/* Bytes of a rank with a change of the strategy; 0: there is no such plan. Compiling cuts the model into stages, so it is made anew from its image. */
static double bytes_with(const struct expert_note *n, bool (*change)(json_t *strategy, double bound), double bound)
{
    struct job j;
    struct sched_input in;
    struct sched_output out = { 0 };
    struct err e = { 0 };
    double bytes = 0;
    if (job_decode("job", n->image, n->bytes, &j, &e) != ST_OK)
        return 0;
    if (compile_input(&j, n->device, n->ranks, n->comm_scratch, &in, &e) == ST_OK) {
        if (change(in.strategy, bound) && sched_compile(&in, &out, &e) == ST_OK)
            bytes = (double)largest(&out)->total_bytes;
        sched_output_release(&out);
        json_decref(in.strategy);
    }
    job_release(&j);
    return bytes;
}

static const double longest = 1; /* seconds of a compilation */

/* What bounds make of the worst case; false: they make less than a tenth of it, or there are some. */
static bool write_bounds(const struct expert_note *n, char text[EXPERT_NOTE])
{
    enum { BOUNDS = 3 };
    static const double bounds[BOUNDS] = { 1.25, 1.5, 2 };
    const double worst = (double)largest(n->out)->total_bytes;
    char now[32], with[BOUNDS][32];
    for (int i = 0; i < BOUNDS; i++) {
        const double bytes = bytes_with(n, set_bound, bounds[i]);
        if (bytes <= 0 || (i == 0 && bytes > 0.9 * worst))
            return false;
        compile_bytes(bytes, with[i]);
    }
    snprintf(text, EXPERT_NOTE,
             "no \"expert_bound\" is set, so memory is planned for the worst case, all tokens at the experts of one "
             "rank: %s per rank. "
             "With expert_bound 1.25, 1.5 or 2 it is %s, %s or %s, and a step that needs more rows stops the run, or "
             "with \"overflow\": \"rounds\" takes longer",
             compile_bytes(worst, now), with[0], with[1], with[2]);
    return true;
}

/* What it saves that received rows are sent again, where they are the largest kind of memory. */
static bool write_again(const struct expert_note *n, char text[EXPERT_NOTE])
{
    const struct plan_header *h = largest(n->out);
    char now[32], comm[32], with[32];
    for (int k = 0; k < MEM_KINDS; k++)
        if (h->peak_bytes[k] > h->peak_bytes[MEM_COMM])
            return false;
    const double worst = (double)h->total_bytes, bytes = bytes_with(n, set_again, 0);
    if (bytes <= 0 || bytes > 0.9 * worst)
        return false;
    snprintf(text, EXPERT_NOTE,
             "rows that experts receive are kept until their backward: comm is %s of the %s per rank. With %s they are "
             "sent again, and it is %s",
             compile_bytes((double)h->peak_bytes[MEM_COMM], comm), compile_bytes(worst, now), again,
             compile_bytes(bytes, with));
    return true;
}

bool expert_note_write(const struct expert_note *n, char text[EXPERT_NOTE])
{
    return n->out->compile_seconds <= longest && (write_bounds(n, text) || write_again(n, text));
}
