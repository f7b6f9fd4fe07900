/* Filters: which nodes a directive means (piper-strategy(5), FILTERS). Private to sched/. */
#ifndef PIPER_SCHED_FILTER_H
#define PIPER_SCHED_FILTER_H

#include "base/json.h"
#include "ir/dag.h"

enum match_mode { MATCH_ANY, MATCH_NONE, MATCH_RANGE };
struct match {
    uint8_t mode; /* enum match_mode: any value or none; lacks the tag; lo, lo + step, .. up to hi */
    bool given;   /* the filter names this key: then MATCH_ANY asks for some value */
    int32_t lo, hi, step;
};
struct filter {
    struct match tag[IR_MAX_TAGS], mb;
    uint8_t pass; /* enum ir_pass; IR_PASS_NONE: any */
};

struct match filter_index(uint32_t index);
struct sched;
enum status filter_parse(struct sched *s, const struct js *js, struct filter *f, struct err *e);
bool filter_chunk(const struct sched *s, const struct filter *f, uint32_t chunk);
/* Chunks that it may match, ascending: those with the index that it names under a tag, else all. Borrowed from the compilation. */
struct chunk_list {
    const uint32_t *at;
    uint32_t n;
};
struct chunk_list filter_chunks(const struct sched *s, const struct filter *f);
/* Once the chunks are there: what filter_chunks() needs. */
void filter_index_chunks(struct sched *s);
bool filter_match(const struct sched *s, const struct filter *f, uint32_t chunk, uint32_t mb, enum ir_pass pass);
/* Microbatches of the job that the filter names: every step-th from first on, before end; none where first >= end. */
struct mb_range {
    uint32_t first, end, step;
};
struct mb_range filter_microbatches(const struct sched *s, const struct filter *f);
/* Matched chunks > 0, else the error with the tags that exist. */
enum status filter_check(const struct sched *s, const struct filter *f, const struct js *js, struct err *e);
/* "PP=0 MB=1 F": what a node is called in messages; text of the caller. */
const char *node_text(const struct sched *s, const struct ir_dag *d, uint32_t node, char *text, size_t size);
const char *chunk_text(const struct sched *s, uint32_t chunk, char *text, size_t size);

#endif
