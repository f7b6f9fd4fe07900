#include "job/expert_note.h"

#include <stdio.h>
#include <string.h>

/* Of the rank that needs most. */
static double most_bytes(const struct sched_output *out)
{
    double most = 0;
    for (uint32_t i = 0; i < out->n_classes; i++) {
        const struct plan_header *h = out->classes[i].blob;
        most = (double)h->total_bytes > most ? (double)h->total_bytes : most;
    }
    return most;
}

/* Does a directive send rows to experts on other devices, and set no bound for them? */
static bool is_unbounded(const json_t *d)
{
    const char *op = json_string_value(json_object_get(d, "op"));
    if (!op || json_object_get(d, "expert_bound"))
        return false;
    if (strcmp(op, "layout") == 0)
        return json_integer_value(json_object_get(d, "ep")) > 1;
    const char *dim = json_string_value(json_object_get(d, "dim"));
    return strcmp(op, "shard") == 0 && (!dim || strcmp(dim, "expert") == 0);
}

bool expert_note_applies(const struct ir_graph *g, const json_t *strategy)
{
    bool experts = false;
    size_t i;
    const json_t *d;
    for (uint32_t k = 0; k < g->ops.n; k++)
        experts = experts || g->ops.at[k].op == IR_OP_EXPERTS;
    json_array_foreach(strategy, i, d)
    {
        if (experts && is_unbounded(d))
            return true;
    }
    return false;
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

/* Bytes of a rank with the bound; 0: there is no such plan. Compiling cuts the model into stages, so it is made anew from its image. */
static double bytes_with(const struct expert_note *n, double bound)
{
    struct job j;
    struct sched_input in;
    struct sched_output out = { 0 };
    struct err e = { 0 };
    double bytes = 0;
    if (job_decode("job", n->image, n->bytes, &j, &e) != ST_OK)
        return 0;
    if (compile_input(&j, n->device, n->ranks, n->comm_scratch, &in, &e) == ST_OK) {
        if (set_bound(in.strategy, bound) && sched_compile(&in, &out, &e) == ST_OK)
            bytes = most_bytes(&out);
        sched_output_release(&out);
        json_decref(in.strategy);
    }
    job_release(&j);
    return bytes;
}

bool expert_note_write(const struct expert_note *n, char text[EXPERT_NOTE])
{
    enum { BOUNDS = 3 };
    static const double bounds[BOUNDS] = { 1.25, 1.5, 2 }, longest = 1; /* seconds of a compilation */
    const double worst = most_bytes(n->out);
    char now[32], with[BOUNDS][32];
    if (n->out->compile_seconds > longest)
        return false;
    for (int i = 0; i < BOUNDS; i++) {
        const double bytes = bytes_with(n, bounds[i]);
        if (bytes <= 0 || (i == 0 && bytes > 0.9 * worst))
            return false;
        compile_bytes(bytes, with[i]);
    }
    snprintf(text, EXPERT_NOTE,
             "no \"expert_bound\" is set, so memory is planned for the worst case, all tokens at the experts of one "
             "rank: %s per rank. "
             "With expert_bound 1.25, 1.5 or 2 it is %s, %s or %s, and a step that needs more rows stops the run",
             compile_bytes(worst, now), with[0], with[1], with[2]);
    return true;
}
