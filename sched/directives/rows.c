/* shard with "dim":"sequence": the devices of a sequence group share the sequences of one replica (piper-strategy(5), shard). Outside of
 * regions a device computes its tokens with whole parameters; that is data parallelism over tokens, so the holders of a parameter
 * are all devices of all groups, and nothing else needs a new rule.
 *
 * pass_unpack needs primitives and changes the graph. pass_rows needs parsed directives, chunks. Gives: sequence_of, and share.n and zigzag; share.context and tensor follow from regions
 * (sched/directives/region.c). Behind place: that the groups are the devices of their chunks, and groups of a device set. */
#include <stdio.h>
#include <stdlib.h>

#include "sched/passes.h"

/* Where sequences are shared, keys and values go other ways than queries, and are in other numbers of blocks. */
enum status pass_unpack(struct sched *s, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < json_array_size(s->primitives); i++) {
        const json_t *d = json_array_get(s->primitives, i);
        const char *op = json_string_value(json_object_get(d, "op")),
                   *dim = json_string_value(json_object_get(d, "dim"));
        if (op && dim && !strcmp(op, directive_shard.name) && !strcmp(dim, "sequence")) {
            ir_graph_unpack(s->in->graph);
            break;
        }
    }
    return ST_OK;
}

/* How many devices share the sequences of a chunk. */
static uint32_t shared_by(const struct sched *s, uint32_t chunk)
{
    uint32_t d = s->sequence_of[chunk];
    return d == IR_NONE ? 1 : s->sets.at[s->listed_sets.at[s->directives.at[d].first_shard_set]].n;
}

static enum status take_chunks(struct sched *s, uint32_t directive, struct err *e)
{
    const struct directive *d = &s->directives.at[directive];
    char text[160];
    TRY(filter_check(s, &d->filter, &d->js, e));
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++) {
        if (!filter_chunk(s, &d->filter, c))
            continue;
        if (s->sequence_of[c] != IR_NONE)
            return js_wrong(&d->js, e, "two shard directives with \"dim\":\"sequence\" match %s",
                            chunk_text(s, c, text, sizeof text));
        s->sequence_of[c] = directive;
    }
    return ST_OK;
}

/* Replica r sends to replica r, which has the same tokens: so all chunks share alike. */
static enum status check_alike(struct sched *s, const struct directive *first, struct err *e)
{
    char here[160], there[160];
    s->share.n = shared_by(s, 0);
    s->share.zigzag = first->zigzag;
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++) {
        uint32_t n = shared_by(s, c);
        const struct directive *d = s->sequence_of[c] == IR_NONE ? first : &s->directives.at[s->sequence_of[c]];
        if (n != s->share.n)
            return js_wrong(&d->js, e,
                            "%s shares its sequences over %u devices, %s over %u; for now all stages share them alike",
                            chunk_text(s, 0, here, sizeof here), s->share.n, chunk_text(s, c, there, sizeof there), n);
        if (d->zigzag != s->share.zigzag)
            return js_wrong(&d->js, e, "%s shares its sequences %s, %s %s; for now all stages share them alike",
                            chunk_text(s, 0, here, sizeof here), s->share.zigzag ? "zigzag" : "contiguous",
                            chunk_text(s, c, there, sizeof there), d->zigzag ? "zigzag" : "contiguous");
    }
    if (s->g->seq_len % s->share.n)
        return js_wrong(&first->js, e, "sequences of %u tokens do not divide by %u devices", s->g->seq_len, s->share.n);
    return ST_OK;
}

enum status pass_rows(struct sched *s, struct err *e)
{
    uint32_t n = s->chunks.chunks.n;
    const struct directive *first = NULL;
    s->share = (struct share){ 1, 1, 1, false };
    s->sequence_of = arena_array(&s->arena, uint32_t, n + 1);
    memset(s->sequence_of, 0xff, (n + 1) * sizeof *s->sequence_of);
    for (uint32_t i = 0; i < s->directives.n; i++) {
        const struct directive *d = &s->directives.at[i];
        if (d->kind != &directive_shard || d->dim != DIM_SEQUENCE)
            continue;
        first = first ? first : d;
        TRY(take_chunks(s, i, e));
    }
    return first ? check_alike(s, first, e) : ST_OK;
}

/* ---- behind place ------------------------------------------------------------------------------------------------- */

/* "0,2,1,3" */
static const char *list_text(const struct sched *s, uint32_t set, char *text, size_t size)
{
    char brackets[160];
    devices_text(s, set, brackets, sizeof brackets);
    snprintf(text, size, "%.*s", (int)strlen(brackets) - 2, brackets + 1);
    return text;
}

/* "[0,1],[2,3]" */
static const char *groups_text(const struct sched *s, const struct directive *d, char *text, size_t size)
{
    text[0] = '\0';
    for (uint32_t g = 0; g < d->n_shard_sets; g++) {
        size_t n = strlen(text);
        if (g == 8 && d->n_shard_sets > 10) {
            snprintf(text + n, size - n, ",... %u groups", d->n_shard_sets);
            return text;
        }
        if (n + 180 > size)
            return text;
        if (g)
            text[n++] = ',';
        devices_text(s, s->listed_sets.at[d->first_shard_set + g], text + n, 160);
    }
    return text;
}

/* A device has the same slice of a sequence in all chunks that are placed on its rank class. */
static enum status check_slices(struct sched *s, uint32_t a, uint32_t b, struct err *e)
{
    const struct directive *d = &s->directives.at[s->sequence_of[b / s->microbatches]];
    const uint32_t set = s->set_of[a], other = s->set_of[b];
    uint32_t n, m;
    char here[160], there[160], one[200], two[200];
    if (set == other || s->sets.at[set].class_id != s->sets.at[other].class_id)
        return ST_OK;
    const uint32_t *x = share_groups(s, set, SHARE_SEQUENCE, &n), *y = share_groups(s, other, SHARE_SEQUENCE, &m);
    if (n == m && memcmp(x, y, n * sizeof *x) == 0)
        return ST_OK;
    return js_wrong(
        &d->js, e,
        "%s is placed on %s and %s on %s: where sequences are shared, what is on the same devices lists each "
        "sequence group in one order",
        chunk_text(s, a / s->microbatches, here, sizeof here), list_text(s, set, one, sizeof one),
        chunk_text(s, b / s->microbatches, there, sizeof there), list_text(s, other, two, sizeof two));
}

enum status rows_check_devices(struct sched *s, struct err *e)
{
    uint32_t *first = arena_array(&s->arena, uint32_t,
                                  s->classes.n + 1); /* by class: index in set_of of its first chunk */
    memset(first, 0xff, (s->classes.n + 1) * sizeof *first);
    for (uint32_t i = 0; i < s->chunks.chunks.n * s->microbatches; i++) {
        uint32_t c = i / s->microbatches;
        char text[160], set[200], groups[1400];
        if (s->sequence_of[c] == IR_NONE || (i % s->microbatches && s->set_of[i] == s->set_of[i - 1]))
            continue;
        const struct directive *d = &s->directives.at[s->sequence_of[c]];
        uint32_t *alike = &first[s->sets.at[s->set_of[i]].class_id];
        *alike = *alike == IR_NONE ? i : *alike;
        if (d->set == s->set_of[i]) {
            TRY(check_slices(s, *alike, i, e));
            continue;
        }
        return js_wrong(&d->js, e,
                        "%s is placed on %s and its sequence groups are %s: list the groups one after the other",
                        chunk_text(s, c, text, sizeof text), list_text(s, s->set_of[i], set, sizeof set),
                        groups_text(s, d, groups, sizeof groups));
    }
    return ST_OK;
}

/* Member k of group g of a device set, of those of one kind: blocks of neighbours, or the devices at one place of the tensor groups of a
 * sequence group. */
static uint32_t member_of(const struct share *share, enum share_kind kind, uint32_t g, uint32_t k)
{
    const uint32_t p = share->n / share->context;
    switch (kind) {
    case SHARE_SEQUENCE:
        return g * share->n + k;
    case SHARE_TENSOR:
        return g * share->tensor + k;
    case SHARE_CONTEXT:
        return g / p * share->n + k * p + g % p;
    case SHARE_HEADS:
        return g * share->n + k % share->context * p + k / share->context;
    default:
        return g / p * share->n + (share->context - 1 - k) * p + g % p;
    }
}

struct by_first {
    uint32_t first, set;
};

static int first_device(const void *a, const void *b)
{
    const struct by_first *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

const uint32_t *share_groups(struct sched *s, uint32_t set, enum share_kind kind, uint32_t *n_groups)
{
    const uint32_t size = kind == SHARE_SEQUENCE || kind == SHARE_HEADS ? s->share.n
                          : kind == SHARE_TENSOR                        ? s->share.tensor
                                                                        : s->share.context;
    const uint32_t n = s->sets.at[set].n / size;
    uint32_t *list = mem_alloc(size * sizeof *list), *sets = arena_array(&s->arena, uint32_t, n);
    struct by_first *found = mem_alloc(n * sizeof *found);
    for (uint32_t g = 0; g < n; g++) {
        uint32_t first = IR_NONE;
        for (uint32_t k = 0; k < size; k++) {
            list[k] = devices_of(s, set)[member_of(&s->share, kind, g, k)];
            first = list[k] < first ? list[k] : first;
        }
        found[g] = (struct by_first){ first, devices_intern(s, list, size) };
    }
    qsort(found, n, sizeof *found, first_device);
    for (uint32_t g = 0; g < n; g++)
        sets[g] = found[g].set;
    mem_free(list);
    mem_free(found);
    *n_groups = n;
    return sets;
}
