/* Libraries that choose algorithms before the first step: the first rank that has a kernel times it and tells the others, and rank
 * 0 stores what was chosen, so that all ranks and all restarts compute the same bits. */
#include "exec/device.h"

#include "base/number.h"

static enum status prepare_program(struct exec *x, const struct plan_list *l, const struct plan_instr *in,
                                   struct err *e)
{
    struct exec__device *d = x->own;
    const struct plan_program *program = &x->plan->programs[in->program];
    for (uint32_t i = program->first_kernel; i < program->first_kernel + program->n_kernels; i++) {
        const struct plan_kernel *k = &x->plan->kernels[i];
        const struct op_args a = exec__device_args(x, l, in, i);
        if (k->op < IR_OP_GRAPH_COUNT)
            TRY(x->compute->libraries->prepare(&a, (enum ir_op)k->op, (enum ir_pass)k->pass, e));
    }
    for (uint32_t i = program->first_kernel; i < program->first_kernel + program->n_kernels; i++) {
        struct op_args a[2];
        if (!d->fusions[i].pair)
            continue;
        exec__device_pair_args(x, l, in, i, a);
        void *work = exec__device_args(x, l, in, i).work;
        if (!x->compute->libraries->prepare_pair(&a[0], &a[1], (enum ir_pass)x->plan->kernels[i].pass, work))
            d->fusions[i].pair = NULL;
    }
    return ST_OK;
}

/* Each program once a list: lists differ in the size of a microbatch. */
static enum status prepare_list(struct exec *x, const struct plan_list *l, unsigned char *seen, struct err *e)
{
    for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++) {
        const struct plan_instr *in = &x->plan->instrs[i];
        if (in->op != PLAN_RUN || seen[in->program])
            continue;
        seen[in->program] = 1;
        TRY(prepare_program(x, l, in, e));
    }
    return ST_OK;
}

/* Thread blocks that are away while a product runs: those of the stream with most. More than one communication beside a
 * product is rare, and a product that is tuned for less than it has loses too. */
static uint64_t beside_compute(const struct exec *x)
{
    const struct exec__device *d = x->own;
    uint32_t most = 0;
    for (uint32_t i = 0; world_size() > 1 && i < x->plan->h->count[PLAN_S_STREAMS]; i++) {
        uint32_t ctas = i == PLAN_COMPUTE_STREAM ? 0 : exec__ctas(x, i);
        most = ctas > most ? ctas : most;
    }
    return d->by_host ? 0 : most;
}

/* What products are timed on. Zeros, which arenas begin as, let a device run faster than it does in a step. Any two bytes are a
 * bfloat16 between -1 and 1, so any four a float32. */
static void fill(const struct exec *x)
{
    enum { NUMBERS = 4 << 20 };
    const struct exec__device *d = x->own;
    void *stream = d->streams[PLAN_COMPUTE_STREAM];
    uint16_t *numbers = mem_alloc(NUMBERS * sizeof *numbers);
    for (uint32_t i = 0; i < NUMBERS; i++)
        numbers[i] = number_to_bf16(0.99f * ((float)(number_mix(i + 1) >> 40) / (1 << 23) - 1));
    for (uint32_t a = 0; a < ARENA_COUNT; a++) {
        uint64_t bytes = x->arena[a] && a != ARENA_SCALARS ? x->plan->h->arena_bytes[a] : 0;
        uint64_t done = bytes < NUMBERS * sizeof *numbers ? bytes : NUMBERS * sizeof *numbers;
        d->ops->copy(x->arena[a], numbers, done, stream);
        for (uint64_t n; done < bytes; done += n) {
            n = done < bytes - done ? done : bytes - done;
            d->ops->copy(x->arena[a] + done, x->arena[a], n, stream);
        }
    }
    d->ops->synchronize();
    mem_free(numbers);
}

static void clear(const struct exec *x)
{
    const struct exec__device *d = x->own;
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        if (x->arena[a] && a != ARENA_SCALARS)
            d->ops->clear(x->arena[a], x->plan->h->arena_bytes[a], d->streams[PLAN_COMPUTE_STREAM]);
    d->ops->synchronize();
}

static enum status open_libraries(struct exec *x, const char *path, uint64_t beside, struct err *e)
{
    struct exec__device *d = x->own;
    TRY(x->compute->libraries->open(d->streams[PLAN_COMPUTE_STREAM], path, e));
    d->libraries = true;
    x->compute->libraries->leave((uint32_t)beside);
    return ST_OK;
}

/* All kernels; choose: what nobody has chosen yet is timed. */
static enum status prepare(struct exec *x, bool choose, struct err *e)
{
    uint64_t n = x->plan->h->count[PLAN_S_PROGRAMS];
    unsigned char *seen = mem_alloc(n);
    enum status st = ST_OK;
    x->compute->libraries->choose(choose);
    for (uint32_t i = 0; st == ST_OK && i < x->plan->h->count[PLAN_S_LISTS]; i++) {
        memset(seen, 0, n);
        st = prepare_list(x, &x->plan->lists[i], seen, e);
    }
    mem_free(seen);
    return st;
}

static enum status choose(struct exec *x, struct err *e)
{
    fill(x);
    enum status st = prepare(x, true, e);
    clear(x);
    return st;
}

/* What rank `from` knows is known to all. */
static enum status share(struct exec *x, uint32_t from, struct err *e)
{
    void *text = NULL;
    uint64_t bytes = 0;
    if (world_size() == 1)
        return ST_OK;
    if (x->rank == from)
        x->compute->libraries->tell(&text, &bytes);
    world_share_from(from, &text, &bytes);
    enum status st = x->rank == from ? ST_OK
                                     : x->compute->libraries->hear(text, bytes, "the choice of another rank", e);
    mem_free(text);
    return world_agree(st, e);
}

/* The first rank where something is so; PLAN_NONE: it is nowhere. */
static uint32_t first_rank(const struct exec *x, bool is_so)
{
    uint64_t before = is_so ? PLAN_NONE - x->rank : 0;
    world_max_u64(&before, 1);
    return PLAN_NONE - (uint32_t)before;
}

/* With kernels that nobody has chosen for. */
static uint32_t first_unchosen(const struct exec *x)
{
    return first_rank(x, x->compute->libraries->unchosen() > 0);
}

/* Ranks have the same kinds of layers: one speaks for all. */
static void share_notes(struct exec *x)
{
    struct exec__device *d = x->own;
    const char *mine = x->compute->libraries->notes();
    uint32_t from = first_rank(x, *mine != '\0');
    if (from == PLAN_NONE)
        return;
    uint64_t bytes = strlen(mine) + 1;
    void *text = x->rank == from ? mem_strdup(mine) : NULL;
    world_share_from(from, &text, &bytes);
    d->notes = text;
}

enum status exec__device_libraries(struct exec *x, const char *cache_path, struct err *e)
{
    bool first = x->rank == 0;
    if (!x->compute->libraries)
        return ST_OK;
    uint64_t beside = beside_compute(x);
    world_max_u64(&beside, 1); /* all choose for the same device */
    TRY(world_agree(open_libraries(x, first ? cache_path : NULL, beside, e), e));
    TRY(share(x, 0, e));
    TRY(world_agree(prepare(x, false, e), e));
    for (uint32_t r = first_unchosen(x); r != PLAN_NONE; r = first_unchosen(x)) {
        TRY(world_agree(x->rank == r ? choose(x, e) : ST_OK, e));
        TRY(share(x, r, e));
        TRY(world_agree(prepare(x, false, e), e));
    }
    share_notes(x);
    return world_agree(first ? x->compute->libraries->store(e) : ST_OK, e);
}

const char *exec__device_notes(const struct exec *x)
{
    const struct exec__device *d = x->own;
    return d->notes ? d->notes : "";
}
