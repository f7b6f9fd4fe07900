/* The executor seen from outside, by threads that watch it: what is done, what is under way, what has not begun. Nothing is
 * written here, and what is read are the events and the plan. */
#include "exec/private.h"

uint32_t exec_streams(const struct exec *x)
{
    return (uint32_t)x->plan->h->count[PLAN_S_STREAMS];
}

uint32_t exec_lists(const struct exec *x)
{
    return (uint32_t)x->plan->h->count[PLAN_S_LISTS];
}

uint32_t exec_list_length(const struct exec *x, uint32_t list)
{
    return x->plan->lists[list].n_instr;
}

bool exec_is_load(const struct exec *x, uint32_t list, uint32_t i)
{
    return x->plan->instrs[x->plan->lists[list].first_instr + i].op == PLAN_LOAD;
}

static bool is_done(const struct exec *x, const struct exec_place *p, uint32_t i)
{
    return atomic_load_explicit(&x->events[i], memory_order_acquire) == p->epoch;
}

struct exec_place exec_look(const struct exec *x, uint32_t *first)
{
    uint64_t running = atomic_load(&x->running);
    struct exec_place p = {
        .inside = running & EXEC__RUNS,
        .epoch = (uint32_t)running,
        .list = (uint32_t)((running & ~EXEC__RUNS) >> 32),
        .step = atomic_load(&x->running_step),
    };
    const struct plan_list *l = &x->plan->lists[p.list];
    uint32_t n_streams = exec_streams(x), left = n_streams;
    for (uint32_t s = 0; s < n_streams; s++)
        first[s] = l->n_instr;
    for (uint32_t i = 0; p.inside && i < l->n_instr && left; i++) {
        uint32_t s = x->plan->instrs[l->first_instr + i].stream;
        if (first[s] != l->n_instr || is_done(x, &p, i))
            continue;
        first[s] = i;
        left--;
    }
    p.at = first[PLAN_COMPUTE_STREAM];
    p.mark = (uint64_t)atomic_load_explicit(&x->kernel, memory_order_relaxed) << 32;
    for (uint32_t s = 0; s < n_streams; s++)
        p.mark += first[s];
    return p;
}

/* Instruction i is the first of its stream: is anything that it waits for not done? */
static bool is_held(const struct exec *x, const struct exec_place *p, const struct plan_instr *in)
{
    for (uint32_t w = 0; w < in->n_waits; w++)
        if (!is_done(x, p, x->plan->waits[in->first_wait + w]))
            return true;
    return false;
}

static const struct plan_instr *instr_at(const struct exec *x, const struct exec_place *p, uint32_t i)
{
    return &x->plan->instrs[x->plan->lists[p->list].first_instr + i];
}

/* Launched, the first of its stream, and nothing of this rank holds it up. */
static bool is_under_way(const struct exec *x, const struct exec_place *p, const uint32_t *first, uint32_t i)
{
    const struct plan_instr *in = instr_at(x, p, i);
    return i <= p->at && first[in->stream] == i && !is_held(x, p, in);
}

static struct exec_task task_of(const struct exec *x, const struct exec_place *p, uint32_t i)
{
    const struct plan_instr *in = instr_at(x, p, i);
    const struct comm_call *call = &x->calls[in - x->plan->instrs];
    struct exec_task t = { .instr = i, .stream = in->stream, .node = in->node, .peer = -1, .from = -1 };
    t.host = (!exec__is_communication(in) && in->op != PLAN_ROUNDS) || in->op == PLAN_ADD;
    if (t.host)
        return t;
    if (call->channel == UINT32_MAX) {
        t.peer = (int32_t)call->peer;
        t.from = in->op == PLAN_EXCHANGE ? (int32_t)call->from : -1;
        return t;
    }
    const struct comm_group *group = &x->channels[call->channel].group;
    t.group_size = group->count;
    t.start = group->list ? group->list[0] : group->start;
    t.stride = group->list ? 0 : group->stride;
    return t;
}

/* Marks the streams whose first instruction holds up instruction `i`, over any number of steps. Each stream is marked once,
 * so the queue has room for all. */
static void mark_holders(const struct exec *x, const struct exec_place *p, const uint32_t *first, uint32_t i,
                         unsigned char *marked, uint32_t *queue)
{
    uint32_t n = 0;
    if (i == x->plan->lists[p->list].n_instr)
        return;
    queue[n++] = instr_at(x, p, i)->stream;
    marked[queue[0]] = 1;
    for (uint32_t k = 0; k < n; k++) {
        if (first[queue[k]] == x->plan->lists[p->list].n_instr)
            continue;
        const struct plan_instr *in = instr_at(x, p, first[queue[k]]);
        for (uint32_t w = 0; w < in->n_waits; w++) {
            uint32_t other = x->plan->waits[in->first_wait + w], s = instr_at(x, p, other)->stream;
            if (is_done(x, p, other) || marked[s])
                continue;
            marked[s] = 1;
            queue[n++] = s;
        }
    }
}

uint32_t exec_tasks(const struct exec *x, const struct exec_place *p, const uint32_t *first, struct exec_task *tasks,
                    uint32_t max)
{
    uint32_t n_streams = exec_streams(x), n = 0;
    unsigned char marked[n_streams];
    uint32_t queue[n_streams];
    if (!p->inside)
        return 0;
    memset(marked, 0, n_streams);
    mark_holders(x, p, first, p->at, marked, queue);
    for (int needed = 1; needed >= 0; needed--)
        for (uint32_t s = 0; s < n_streams && n < max; s++)
            if (marked[s] == needed && first[s] < x->plan->lists[p->list].n_instr &&
                is_under_way(x, p, first, first[s]))
                tasks[n++] = task_of(x, p, first[s]);
    return n;
}

enum exec_arrival exec_arrival(const struct exec *x, const struct exec_place *p, const uint32_t *first, uint32_t epoch,
                               uint32_t node)
{
    if (p->epoch != epoch)
        return p->epoch > epoch ? EXEC_DONE : EXEC_NOT_YET;
    enum exec_arrival worst = EXEC_NO_PART;
    for (uint32_t i = 0; i < x->plan->lists[p->list].n_instr; i++) {
        if (instr_at(x, p, i)->node != node)
            continue;
        enum exec_arrival a = !p->inside || is_done(x, p, i) ? EXEC_DONE
                              : is_under_way(x, p, first, i) ? EXEC_UNDER_WAY
                                                             : EXEC_NOT_YET;
        if (worst == EXEC_NO_PART || a < worst)
            worst = a;
    }
    return worst;
}
