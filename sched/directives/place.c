/* place: device sets of nodes (piper-strategy(5), place), and what replicate says of them: it places what it matches on exactly
 * its devices.
 *
 * Needs: chunks, microbatches. Gives: set_of and stream_of, classes, replicas. A later directive overrides an earlier one,
 * and replicate overrides place. Without any placement everything is on device 0. */
#include <stdio.h>

#include "sched/passes.h"

static enum status parse_place(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    const char *stream;
    TRY(placement_sets(s, js, d, "the devices of replica 0, 1, ... in order", e));
    TRY(js_str_or(js, "stream", "pp_stream", &stream, e));
    bool lanes;
    TRY(js_bool_or(js, "lanes", false, &lanes, e));
    d->stream = stream_number(s, lanes ? arena_printf(&s->arena, "%s*", stream) : stream);
    return ST_OK;
}

/* lanes: `stream` is the first part of one stream per (peer, direction, kind). */
static const char *const keys[] = { "op", "filter", "devices", "device", "rotate", "stream", "lanes", NULL };
const struct directive_kind directive_place = { .name = "place", .keys = keys, .parse = parse_place };

enum { PASSES = IR_PASS_COUNT };

/* Does a directive place a chunk that it matches? A sequence group where no replicate covers it. */
static bool places(const struct sched *s, const struct directive *d, uint32_t chunk)
{
    return filter_chunk(s, &d->filter, chunk) &&
           (d->kind != &directive_shard || s->replicate_of[chunk] == (uint32_t)(d - s->directives.at));
}

static void apply(struct sched *s, const struct directive *d, uint16_t *sets)
{
    uint32_t m = s->microbatches;
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++) {
        if (!places(s, d, c))
            continue;
        if (d->kind == &directive_place)
            s->stream_of[c] = (uint16_t)d->stream;
        for (uint32_t mb = 0; mb < m; mb++)
            for (int p = 0; p < PASSES; p++)
                if (filter_match(s, &d->filter, c, mb, (enum ir_pass)p))
                    sets[(c * m + mb) * PASSES + p] = (uint16_t)placement_set(s, d, mb);
    }
}

/* All passes of one copy of a chunk share one device set, and every copy has one. */
static enum status settle(struct sched *s, const uint16_t *sets, bool any, struct err *e)
{
    uint32_t device_0 = 0, m = s->microbatches;
    uint16_t only = any ? IR_NO_SET : (uint16_t)devices_intern(s, &device_0, 1);
    for (uint32_t i = 0; i < s->chunks.chunks.n * m; i++) {
        const uint16_t *of = sets + i * PASSES;
        bool split = s->backward_split[i];
        uint16_t back = of[split ? IR_PASS_BI : IR_PASS_B], set = any ? of[IR_PASS_F] : only;
        char text[160];
        if (any && (back != set || (split && of[IR_PASS_BW] != set)))
            return err_set(e, ST_INPUT, s->in->strategy_name,
                           "the passes of %s %s=%u are placed on different devices; all passes of a replica of a chunk "
                           "share one device set: omit PASS from the filter",
                           chunk_text(s, i / m, text, sizeof text), s->mb_name, i % m);
        if (set == IR_NO_SET)
            return err_set(e, ST_INPUT, s->in->strategy_name, "%s %s=%u has no device: add a place directive for it",
                           chunk_text(s, i / m, text, sizeof text), s->mb_name, i % m);
        s->set_of[i] = set;
    }
    return ST_OK;
}

static enum status count_replicas(struct sched *s, struct err *e)
{
    s->replicas = s->sets.at[s->set_of[0]].n;
    for (uint32_t i = 0; i < s->chunks.chunks.n * s->microbatches; i++)
        if (s->sets.at[s->set_of[i]].n != s->replicas) {
            char a[160], b[160];
            return err_set(e, ST_INPUT, s->in->strategy_name,
                           "device sets %s and %s differ in size; all stages must have the same number of devices",
                           devices_text(s, s->set_of[0], a, sizeof a), devices_text(s, s->set_of[i], b, sizeof b));
        }
    s->replicas /= s->share.n;
    uint32_t parts = s->replicas * s->microbatches;
    if (s->in->batch_size % parts)
        return err_set(
            e, ST_INPUT, s->in->strategy_name,
            "a batch of %u sequences is not divisible by %u replicas x %u microbatches; choose a multiple of %u",
            s->in->batch_size, s->replicas, s->microbatches, parts);
    s->microbatch_size = s->in->batch_size / parts;
    return ST_OK;
}

enum status pass_place(struct sched *s, struct err *e)
{
    uint32_t n = s->chunks.chunks.n * s->microbatches;
    uint16_t *sets = arena_array(&s->arena, uint16_t, n * PASSES);
    memset(sets, 0xff, n * PASSES * sizeof *sets);
    s->set_of = arena_array(&s->arena, uint16_t, n);
    s->stream_of = arena_array(&s->arena, uint16_t, s->chunks.chunks.n);
    uint16_t dflt = (uint16_t)stream_number(s, "pp_stream");
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++)
        s->stream_of[c] = dflt;
    bool any = false;
    const struct directive_kind *const kinds[] = { &directive_place, &directive_replicate, &directive_shard };
    for (int k = 0; k < 3; k++)
        for (uint32_t i = 0; i < s->directives.n; i++) {
            const struct directive *d = &s->directives.at[i];
            if (d->kind != kinds[k] || (d->kind == &directive_shard && d->dim != DIM_SEQUENCE))
                continue;
            TRY(filter_check(s, &d->filter, &d->js, e));
            for (uint32_t turn = 0; turn == 0 || turn < d->n_turns; turn++)
                if (placement_set(s, d, turn) >= IR_NO_SET)
                    return js_wrong(&d->js, e, "more than %u device sets and groups are listed before", IR_NO_SET - 1);
            apply(s, d, sets);
            any = true;
        }
    TRY(settle(s, sets, any, e));
    TRY(devices_classes(s, e));
    TRY(rows_check_devices(s, e));
    TRY(shard_check_devices(s, e));
    return count_replicas(s, e);
}
