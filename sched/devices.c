/* Device sets: parsing, interning, and the classes of devices that run the same program. */
#include <stdio.h>
#include <stdlib.h>

#include "base/number.h"
#include "base/parse.h"
#include "sched/compile.h"

enum { MAX_DEVICES = 1 << 20 };

struct numbers {
    VEC(uint32_t);
};

/* A number or a range of numbers. */
static enum status add_devices(const struct js *v, uint32_t ranks, struct numbers *list, struct err *e)
{
    struct parse_range r = { .step = 1 };
    bool good = json_is_integer(v->v) && json_integer_value(v->v) >= 0;
    if (good)
        r.lo = r.hi = (uint64_t)json_integer_value(v->v);
    else
        good = json_is_string(v->v) && parse_range(json_string_value(v->v), &r);
    if (!good || r.hi >= MAX_DEVICES)
        return js_expected(v, e, "a device number or a range \"0-511\" or \"0-1023:4\" below %d", MAX_DEVICES);
    if (ranks && r.hi >= ranks)
        return js_wrong(v, e, "device %u does not exist: the job has %u ranks, devices 0 to %u", (uint32_t)r.hi, ranks,
                        ranks - 1);
    for (uint64_t d = r.lo; d <= r.hi; d += r.step)
        vec_add(list, (uint32_t)d);
    return ST_OK;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void devices_sort(uint32_t *devices, uint32_t n)
{
    if (n)
        qsort(devices, n, sizeof *devices, by_value);
}

/* Where these members stand in the table, or the free place where they belong. */
static uint32_t *table_place(const struct sched *s, const uint32_t *list, uint32_t n)
{
    uint64_t h = number_hash(list, n * sizeof *list, n);
    for (;; h++) {
        uint32_t *at = &s->sets.table[h & (s->sets.slots - 1)];
        const struct device_set *set = *at ? &s->sets.at[*at - 1] : NULL;
        if (!set || (set->n == n && !memcmp(devices_of(s, *at - 1), list, n * sizeof *list)))
            return at;
    }
}

static void grow_table(struct sched *s)
{
    mem_free(s->sets.table);
    s->sets.slots = s->sets.slots ? 2 * s->sets.slots : 64;
    s->sets.table = mem_alloc(s->sets.slots * sizeof *s->sets.table);
    for (uint32_t i = 0; i < s->sets.n; i++)
        *table_place(s, devices_of(s, i), s->sets.at[i].n) = i + 1;
}

uint32_t devices_intern(struct sched *s, const uint32_t *list, uint32_t n)
{
    if (2 * s->sets.n >= s->sets.slots)
        grow_table(s);
    uint32_t *at = table_place(s, list, n);
    if (*at)
        return *at - 1;
    uint32_t first = vec_grow(&s->sets.pool, n);
    memcpy(s->sets.pool.at + first, list, n * sizeof *list);
    *vec_push(&s->sets) = (struct device_set){ first, n, IR_NONE };
    *at = s->sets.n;
    return s->sets.n - 1;
}

/* Sorts a copy: the order of the list is the strategy's. */
static enum status check_twice(struct sched *s, const struct js *js, const struct numbers *list, struct err *e)
{
    uint32_t *sorted = arena_copy(&s->arena, list->at, list->n * sizeof *sorted);
    devices_sort(sorted, list->n);
    for (uint32_t i = 1; i < list->n; i++)
        if (sorted[i] == sorted[i - 1])
            return js_wrong(js, e, "device %u is listed twice", sorted[i]);
    return ST_OK;
}

enum status devices_parse(struct sched *s, const struct js *js, uint32_t *set, struct err *e)
{
    uint32_t count;
    struct numbers list = { 0 };
    if (!json_is_array(js->v))
        return js_expected(js, e, "a list of devices: numbers and ranges \"0-511\"");
    TRY(js_count(js, &count, e));
    enum status st = ST_OK;
    for (uint32_t i = 0; i < count && st == ST_OK; i++) {
        struct js v = js_at(js, i);
        st = add_devices(&v, s->in->ranks, &list, e);
    }
    if (st == ST_OK && !list.n)
        st = js_expected(js, e, "at least one device");
    if (st == ST_OK)
        st = check_twice(s, js, &list, e);
    if (st == ST_OK)
        *set = devices_intern(s, list.at, list.n);
    vec_free(&list);
    return st;
}

enum status devices_parse_sets(struct sched *s, const struct js *js, uint32_t *first, uint32_t *n, struct err *e)
{
    uint32_t count, set;
    TRY(js_count(js, &count, e));
    *first = s->listed_sets.n;
    for (uint32_t i = 0; i < count; i++) {
        struct js one = js_at(js, i);
        TRY(devices_parse(s, &one, &set, e));
        vec_add(&s->listed_sets, set);
    }
    *n = count;
    return ST_OK;
}

/* "rotate": set k mod n for microbatch k. */
static enum status parse_rotation(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    if (!json_is_array(js->v) || !json_is_array(json_array_get(js->v, 0)))
        return js_expected(js, e,
                           "a list of device sets such as [[0],[1]]: microbatch k is on set k modulo their "
                           "number");
    TRY(devices_parse_sets(s, js, &d->first_turn, &d->n_turns, e));
    d->set = s->listed_sets.at[d->first_turn];
    for (uint32_t i = 1; i < d->n_turns; i++) {
        const struct js one = js_at(js, i);
        if (s->sets.at[s->listed_sets.at[d->first_turn + i]].n != s->sets.at[d->set].n)
            return js_expected(&one, e, "%u device%s, as in the first set", s->sets.at[d->set].n,
                               s->sets.at[d->set].n == 1 ? "" : "s");
    }
    return ST_OK;
}

enum status placement_sets(struct sched *s, const struct js *js, struct directive *d, const char *meaning,
                           struct err *e)
{
    struct js v, rotate;
    TRY(js_opt(js, "rotate", &rotate, e));
    if (!rotate.v) {
        TRY(placement_keys(s, js, d, &v, meaning, e));
        return devices_parse(s, &v, &d->set, e);
    }
    if (js_has(js, "devices") || js_has(js, "device"))
        return js_wrong(js, e,
                        "\"devices\" and \"rotate\" are mutually exclusive: the one is a device set for all "
                        "microbatches, the other a list of them in turn");
    TRY(js_need(js, "filter", &v, e));
    TRY(filter_parse(s, &v, &d->filter, e));
    return parse_rotation(s, &rotate, d, e);
}

uint32_t placement_set(const struct sched *s, const struct directive *d, uint32_t mb)
{
    return d->n_turns ? s->listed_sets.at[d->first_turn + mb % d->n_turns] : d->set;
}

enum status placement_keys(struct sched *s, const struct js *js, struct directive *d, struct js *devices,
                           const char *meaning, struct err *e)
{
    struct js v;
    TRY(js_need(js, "filter", &v, e));
    TRY(filter_parse(s, &v, &d->filter, e));
    TRY(js_opt(js, "devices", devices, e));
    if (!devices->v)
        TRY(js_opt(js, "device", devices, e)); /* older files */
    return devices->v ? ST_OK : js_wrong(js, e, "\"devices\" is missing: %s", meaning);
}

const char *devices_text(const struct sched *s, uint32_t set, char *text, size_t size)
{
    const uint32_t *d = devices_of(s, set);
    uint32_t n = s->sets.at[set].n;
    snprintf(text, size, "[");
    for (uint32_t i = 0; i < n && strlen(text) + 24 < size; i++) {
        if (i == 8 && n > 10) {
            snprintf(text + strlen(text), size - strlen(text), ",... %u devices", n);
            break;
        }
        snprintf(text + strlen(text), size - strlen(text), "%s%u", i ? "," : "", d[i]);
    }
    snprintf(text + strlen(text), size - strlen(text), "]");
    return text;
}

/* By set: does some pass run there? */
static uint8_t *sets_in_use(const struct sched *s)
{
    uint8_t *used = mem_alloc(s->sets.n + 1);
    for (uint32_t i = 0; i < s->chunks.chunks.n * s->microbatches; i++)
        used[s->set_of[i]] = 1;
    return used;
}

/* The highest device of these sets, plus one. */
static uint32_t count_devices(const struct sched *s, const uint8_t *used)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->sets.n; i++)
        for (uint32_t k = 0; used[i] && k < s->sets.at[i].n; k++)
            n = devices_of(s, i)[k] + 1 > n ? devices_of(s, i)[k] + 1 : n;
    return n;
}

static uint32_t new_class(struct sched *s, const struct device_set *set, const uint32_t *d)
{
    uint32_t first = vec_grow(&s->class_pool, set->n);
    memcpy(s->class_pool.at + first, d, set->n * sizeof *d);
    qsort(s->class_pool.at + first, set->n, sizeof *d, by_value);
    *vec_push(&s->classes) = (struct device_class){ first, set->n };
    return s->classes.n - 1;
}

/* Two sets are equal or disjoint: all members of a set are in one class of its size, or none is in any. */
static enum status find_class(struct sched *s, uint32_t i, uint32_t *class_of, struct err *e)
{
    struct device_set *set = &s->sets.at[i];
    const uint32_t *d = devices_of(s, i);
    uint32_t c = class_of[d[0]];
    bool fits = c == IR_NONE || s->classes.at[c].n == set->n;
    char text[160];
    for (uint32_t k = 0; k < set->n; k++)
        fits = fits && class_of[d[k]] == c;
    if (!fits)
        return err_set(e, ST_INPUT, s->in->strategy_name,
                       "device set %s partly overlaps another one; two device sets must be equal or disjoint",
                       devices_text(s, i, text, sizeof text));
    set->class_id = c != IR_NONE ? c : new_class(s, set, d);
    for (uint32_t k = 0; k < set->n; k++)
        class_of[d[k]] = set->class_id;
    return ST_OK;
}

static enum status check_ranks(const struct sched *s, const uint32_t *class_of, struct err *e)
{
    for (uint32_t d = 0; d < s->ranks; d++)
        if (class_of[d] == IR_NONE)
            return err_set(e, ST_INPUT, s->in->strategy_name,
                           "device %u is used, device %u is not: devices are numbered from 0 without gaps",
                           s->ranks - 1, d);
    if (s->in->ranks && s->in->ranks != s->ranks)
        return err_set(e, ST_USAGE, s->in->strategy_name,
                       "the strategy uses %u devices, the job has %u ranks; launch %u ranks", s->ranks, s->in->ranks,
                       s->ranks);
    return ST_OK;
}

enum status devices_classes(struct sched *s, struct err *e)
{
    uint8_t *used = sets_in_use(s);
    s->ranks = count_devices(s, used);
    uint32_t *class_of = mem_alloc(s->ranks * sizeof *class_of);
    memset(class_of, 0xff, s->ranks * sizeof *class_of);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < s->sets.n && st == ST_OK; i++)
        if (used[i])
            st = find_class(s, i, class_of, e);
    if (st == ST_OK)
        st = check_ranks(s, class_of, e);
    mem_free(used);
    mem_free(class_of);
    return st;
}

uint32_t stream_number(struct sched *s, const char *name)
{
    for (uint32_t i = 0; i < s->streams.n; i++)
        if (!strcmp(s->streams.at[i], name))
            return i;
    CHECK(s->streams.n < UINT16_MAX);
    vec_add(&s->streams, arena_strdup(&s->arena, name));
    return s->streams.n - 1;
}
