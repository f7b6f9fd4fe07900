/* Opening and closing: a plan is bound to this rank, its machine and the communication. */
#include "exec/private.h"

/* ---- channels ------------------------------------------------------------------------------------------------- */

/* Members as a range where they are one, else as a list. */
static struct comm_group group_of(struct exec *x, uint32_t group)
{
    const struct plan *p = x->plan;
    uint32_t n = plan_group_size(p, group, x->rank);
    uint32_t *list = arena_array(&x->memory, uint32_t, n);
    bool regular = true;
    for (uint32_t i = 0; i < n; i++) {
        list[i] = plan_group_at(p, group, x->rank, i);
        regular = regular && (i < 2 || list[i] - list[i - 1] == list[1] - list[0]);
    }
    if (regular && (n < 2 || list[1] > list[0]))
        return (struct comm_group){ .start = list[0], .stride = n > 1 ? list[1] - list[0] : 1, .count = n };
    return (struct comm_group){ .count = n, .list = list };
}

/* Communications of the longest list. */
static uint32_t most_calls(const struct plan *p)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < p->h->count[PLAN_S_LISTS]; i++) {
        uint32_t calls = 0;
        for (uint32_t k = 0; k < p->lists[i].n_instr; k++)
            calls += exec__is_communication(&p->instrs[p->lists[i].first_instr + k]);
        most = calls > most ? calls : most;
    }
    return most;
}

static enum status open_comm(struct exec *x, const struct exec_setup *s, struct err *e)
{
    const struct plan *p = x->plan;
    const uint32_t n = (uint32_t)p->h->count[PLAN_S_CHANNELS], n_streams = (uint32_t)p->h->count[PLAN_S_STREAMS];
    x->channels = arena_array(&x->memory, struct comm_channel, n);
    uint32_t *ctas = arena_array(&x->memory, uint32_t, n_streams);
    for (uint32_t i = 0; i < n; i++)
        x->channels[i] = (struct comm_channel){ p->channels[i].id, group_of(x, p->channels[i].group),
                                                p->channels[i].stream };
    for (uint32_t i = 0; i < n_streams; i++)
        ctas[i] = exec__ctas(x, i);
    struct comm_setup setup = {
        .channels = x->channels,
        .n_channels = n,
        .n_channels_world = p->h->n_channels_world,
        .lanes = x->lanes.at,
        .n_lanes = x->lanes.n,
        .n_streams = n_streams,
        .max_ctas = ctas,
        .max_calls = most_calls(p),
        .events = { .at = x->events, .n = x->n_events + 1, .times = x->times },
        .overflow = exec__overflow,
        .self = x,
    };
    TRY(x->machine->connect(x, s, &setup, e));
    return x->comm_backend->open(&setup, &x->comm, e);
}

/* ---- opening and closing -------------------------------------------------------------------------------------- */

static struct exec *new_exec(const struct exec_setup *s)
{
    const struct plan_header *h = s->plan->h;
    struct exec *x = mem_alloc(sizeof *x);
    x->machine = s->machine;
    x->plan = s->plan;
    x->graph = s->graph;
    x->compute = s->compute;
    x->comm_backend = s->comm;
    x->rank = world_rank();
    x->optimizer = s->optimizer;
    x->clip_norm = s->clip_norm;
    x->balance_rate = s->balance_rate;
    x->check_numbers = s->check_numbers;
    x->tell_number = s->tell_number;
    x->inputs[EXEC_TOKENS] = ir_graph_find_input(s->graph, "tokens");
    x->inputs[EXEC_TARGETS] = ir_graph_find_input(s->graph, "targets");
    x->inputs[EXEC_DOCUMENTS] = ir_graph_find_input(s->graph, "documents");
    arena_init(&x->memory);
    x->calls = arena_array(&x->memory, struct comm_call, h->count[PLAN_S_INSTRS]);
    x->wakes = arena_array(&x->memory, unsigned char, h->count[PLAN_S_INSTRS]);
    x->replica = arena_array(&x->memory, uint32_t, h->count[PLAN_S_INSTRS]);
    x->row = h->share ? arena_array(&x->memory, int32_t, s->graph->seq_len) : NULL;
    for (uint32_t i = 0; i < h->count[PLAN_S_LISTS]; i++)
        x->n_events = s->plan->lists[i].n_instr > x->n_events ? s->plan->lists[i].n_instr : x->n_events;
    if (!s->compute->device)
        x->spent = arena_array(&x->memory, double, h->count[PLAN_S_LISTS] * (uint64_t)EXEC_SPENT);
    x->times = s->times ? arena_array(&x->memory, double, 2 * (size_t)x->n_events + 2) : NULL;
    return x;
}

/* All that this rank does alone. */
static enum status bind(struct exec *x, const struct exec_setup *s, struct err *e)
{
    x->keeps_sums = s->checksums && s->compute->checksum;
    TRY(x->machine->open(x, s, e));
    for (uint32_t i = 0; i < x->plan->h->count[PLAN_S_LISTS]; i++)
        exec__bind_list(x, &x->plan->lists[i]);
    return ST_OK;
}

/* The plan was compiled for such a job. */
static enum status check_job(const struct exec_setup *s, struct err *e)
{
    if (s->plan->h->clip == (s->clip_norm > 0))
        return ST_OK;
    return err_set(e, ST_BUG, "plan",
                   "its updates %s for the norm of the gradients, but clip_norm of the job is %g; compile it again",
                   s->plan->h->clip ? "wait" : "do not wait", s->clip_norm);
}

enum status exec_open(const struct exec_setup *s, struct exec **out, struct err *e)
{
    TRY(world_agree(check_job(s, e), e));
    struct exec *x = new_exec(s);
    enum status st = world_agree(bind(x, s, e), e);
    if (st == ST_OK)
        st = open_comm(x, s, e);
    if (st == ST_OK)
        *out = x;
    else
        exec_close(x);
    return st;
}

void exec_close(struct exec *x)
{
    if (!x)
        return;
    x->machine->disconnect(x);
    if (x->comm)
        x->comm_backend->close(x->comm);
    x->machine->close(x);
    vec_free(&x->lanes);
    vec_free(&x->lane_numbers);
    arena_release(&x->memory);
    mem_free(x);
}

/* ---- what the machine knows ----------------------------------------------------------------------------------- */

unsigned char *const *exec_arenas(const struct exec *x)
{
    return x->machine->arenas(x);
}

void exec_download(struct exec *x)
{
    x->machine->download(x);
}

void exec_upload(struct exec *x)
{
    x->machine->upload(x);
}

void exec_copy_begin(struct exec *x, const struct exec_copy *list, uint32_t n)
{
    if (x->sums)
        x->sums->kept_step = x->sums->step;
    x->machine->copy_begin(x, list, n);
}

void exec_copy_wait(struct exec *x)
{
    x->machine->copy_wait(x);
}

double exec_copy_waited(const struct exec *x)
{
    return x->copy_waited;
}

struct exec_memory exec_memory(const struct exec *x)
{
    return x->machine->memory(x);
}

const char *exec_notes(const struct exec *x)
{
    return x->machine->notes(x);
}
