/* Writing the schedule of a compiled plan as text.
 *
 * A line is what one device dispatches: the devices that are replica 0 of some stage, in their order. A stage of which a
 * line's device is replica k > 0 belongs to another direction through the pipeline and is numbered stage + k * stages. Cells
 * are chunk-level: the parts into which the compiler cuts a stage, and a fused backward, come once, where the first begins. */
#include "sched/directives/csv.h"

enum { LETTERS = 4 }; /* F, B, I, W */

struct writer {
    const struct sched *s;
    uint32_t stages, m;
    uint32_t *stage_of;  /* by chunk */
    uint8_t *split;      /* [stage * m + mb]: some chunk of it has BI and BW */
    uint32_t *partner;   /* [stage * m + mb]: of the F there: stage * m + mb of the B in its group, IR_NONE */
    uint32_t *partner_f; /* the same the other way: of the B there, the F */
    struct {
        VEC(uint32_t);
    } devices;        /* by line */
    uint32_t *index;  /* by set: where the line's device stands in it, IR_NONE */
    uint8_t *written; /* [(stage * m + mb) * LETTERS + letter] */
    FILE *to;
};

static void find_stages(struct writer *w)
{
    const struct sched *s = w->s;
    uint32_t pp = ir_graph_find_tag(s->g, "PP"), n = s->chunks.chunks.n;
    w->stage_of = mem_alloc((n + 1) * sizeof *w->stage_of);
    w->stages = 1;
    for (uint32_t c = 0; c < n; c++) {
        int32_t i = pp == IR_NONE ? 0 : s->chunks.chunks.at[c].tag[pp];
        w->stage_of[c] = i < 0 ? 0 : (uint32_t)i;
        w->stages = w->stage_of[c] >= w->stages ? w->stage_of[c] + 1 : w->stages;
    }
    w->split = mem_alloc((size_t)w->stages * w->m);
    for (uint32_t i = 0; i < n * w->m; i++)
        w->split[w->stage_of[i / w->m] * w->m + i % w->m] |= s->backward_split[i];
}

/* The one F and the one B of a group, if that is all it has. */
struct keys {
    uint32_t f, b; /* stage * m + mb */
    bool other;
};

static void add_keys(const struct writer *w, const struct filter *f, struct keys *k)
{
    const struct mb_range r = filter_microbatches(w->s, f);
    k->other |= f->pass != IR_PASS_F && f->pass != IR_PASS_B;
    for (uint32_t c = 0; c < w->s->chunks.chunks.n && !k->other; c++)
        for (uint32_t mb = r.first; mb < r.end && !k->other; mb += r.step) {
            if (!filter_match(w->s, f, c, mb, (enum ir_pass)f->pass))
                continue;
            uint32_t key = w->stage_of[c] * w->m + mb, *at = f->pass == IR_PASS_F ? &k->f : &k->b;
            k->other |= *at != IR_NONE && *at != key;
            *at = key;
        }
}

static void find_pairs(struct writer *w)
{
    size_t n = (size_t)w->stages * w->m;
    w->partner = mem_alloc(n * sizeof *w->partner);
    w->partner_f = mem_alloc(n * sizeof *w->partner_f);
    memset(w->partner, 0xff, n * sizeof *w->partner);
    memset(w->partner_f, 0xff, n * sizeof *w->partner_f);
    for (uint32_t g = 0; g < w->s->groups.n; g++) {
        const struct order_group *group = &w->s->groups.at[g];
        struct keys k = { IR_NONE, IR_NONE, false };
        if (group->n_filters < 2)
            continue;
        for (uint32_t i = 0; i < group->n_filters; i++)
            add_keys(w, &w->s->filters.at[group->first_filter + i], &k);
        if (k.other || k.f == IR_NONE || k.b == IR_NONE)
            continue;
        w->partner[k.f] = k.b;
        w->partner_f[k.b] = k.f;
    }
}

static void find_devices(struct writer *w)
{
    const struct sched *s = w->s;
    uint32_t *first = mem_alloc(s->sets.n * sizeof *first); /* by set: its first stage */
    memset(first, 0xff, s->sets.n * sizeof *first);
    for (uint32_t i = 0; i < s->chunks.chunks.n * w->m; i++) {
        uint32_t *f = &first[s->set_of[i]], stage = w->stage_of[i / w->m];
        *f = stage < *f ? stage : *f;
    }
    for (uint32_t stage = 0; stage < w->stages; stage++)
        for (uint32_t i = 0; i < s->sets.n; i++) {
            uint32_t k = 0;
            while (first[i] == stage && k < w->devices.n && w->devices.at[k] != *devices_of(s, i))
                k++;
            if (first[i] == stage && k == w->devices.n)
                vec_add(&w->devices, *devices_of(s, i));
        }
    devices_sort(w->devices.at, w->devices.n);
    mem_free(first);
}

static void find_index(struct writer *w, uint32_t device)
{
    const struct sched *s = w->s;
    for (uint32_t i = 0; i < s->sets.n; i++) {
        w->index[i] = IR_NONE;
        for (uint32_t k = 0; k < s->sets.at[i].n && w->index[i] == IR_NONE; k++)
            w->index[i] = devices_of(s, i)[k] == device ? k : IR_NONE;
    }
}

static uint8_t *mark(struct writer *w, uint32_t key, char letter)
{
    return &w->written[(size_t)key * LETTERS + (size_t)(letter == 'F' ? 0 : letter == 'B' ? 1 : letter == 'I' ? 2 : 3)];
}

/* The pair of a cell, both numbered in the direction (k of index) in which this line's device has their stages. */
static bool write_pair(struct writer *w, uint32_t key, char letter)
{
    uint32_t f = letter == 'F' ? key : w->partner_f[key], b = letter == 'F' ? w->partner[key] : key;
    if (f == IR_NONE || b == IR_NONE)
        return false;
    uint32_t number[2] = { IR_NONE, IR_NONE }, of[2] = { f, b };
    for (int i = 0; i < 2; i++)
        for (uint32_t c = 0; c < w->s->chunks.chunks.n && number[i] == IR_NONE; c++)
            if (w->stage_of[c] == of[i] / w->m) {
                uint32_t k = w->index[w->s->set_of[c * w->m + of[i] % w->m]];
                number[i] = k == IR_NONE ? IR_NONE : of[i] / w->m + k * w->stages;
            }
    if (number[0] == IR_NONE || number[1] == IR_NONE)
        return false;
    fprintf(w->to, "(%uF%u;%uB%u)OVERLAP_F_B", number[0], f % w->m, number[1], b % w->m);
    *mark(w, f, 'F') = 1;
    *mark(w, b, 'B') = 1;
    return true;
}

static void write_line(struct writer *w, uint32_t device)
{
    const struct sched *s = w->s;
    const struct ir_dag *d = &s->train.dag;
    const char *comma = "";
    find_index(w, device);
    memset(w->written, 0, (size_t)w->stages * w->m * LETTERS);
    for (uint32_t i = 0; i < d->nodes.n; i++) {
        const struct ir_node *n = &d->nodes.at[s->train.order[i]];
        if (n->kind != IR_NODE_RUN || w->index[n->set] == IR_NONE)
            continue;
        uint32_t stage = w->stage_of[s->chunks.subs.at[n->what].chunk], key = stage * w->m + n->mb;
        uint32_t number = stage + w->index[n->set] * w->stages;
        char letter = n->pass == IR_PASS_F ? 'F' : !w->split[key] ? 'B' : n->pass == IR_PASS_BW ? 'W' : 'I';
        if (*mark(w, key, letter))
            continue;
        fputs(comma, w->to);
        comma = ",";
        if (letter == 'I' || letter == 'W' || !write_pair(w, key, letter)) {
            fprintf(w->to, "%u%c%u", number, letter, n->mb);
            *mark(w, key, letter) = 1;
        }
    }
    fputc('\n', w->to);
}

enum status csv_write(const struct sched *s, FILE *to, struct err *e)
{
    struct writer w = { .s = s, .m = s->microbatches, .to = to };
    find_stages(&w);
    find_pairs(&w);
    find_devices(&w);
    w.index = mem_alloc(s->sets.n * sizeof *w.index);
    w.written = mem_alloc((size_t)w.stages * w.m * LETTERS);
    for (uint32_t i = 0; i < w.devices.n; i++)
        write_line(&w, w.devices.at[i]);
    mem_free(w.stage_of);
    mem_free(w.split);
    mem_free(w.partner);
    mem_free(w.partner_f);
    vec_free(&w.devices);
    mem_free(w.index);
    mem_free(w.written);
    return fflush(to) || ferror(to) ? err_set(e, ST_IO, NULL, "the schedule could not be written as text") : ST_OK;
}
