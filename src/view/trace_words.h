/* What the names and tags of traced instructions say: they are written by src/exec/text.c. */
#ifndef PIPER_TRACE_WORDS_H
#define PIPER_TRACE_WORDS_H

#include <stddef.h>
#include <stdint.h>

enum trace_kind {
    TRACE_OTHER,
    TRACE_F,
    TRACE_B,
    TRACE_BI,
    TRACE_BW,
    TRACE_UPDATE,
    TRACE_ADD, /* local */
    TRACE_SEND,
    TRACE_RECEIVE,
    TRACE_EXCHANGE, /* sends and receives */
    TRACE_SHIFT,    /* sends to the next member of a group and receives from the one before */
    TRACE_ALL_TO_ALL,
    TRACE_ALL_REDUCE,
    TRACE_REDUCE_SCATTER,
    TRACE_ALL_GATHER,
    TRACE_KINDS
};
enum trace_kind trace_kind_of(const char *name);

/* Bytes of the name without its microbatch: "F layers.1" of "F layers.1 mb3". */
size_t trace_name_length(const char *name);

/* The number of tag KEY in "PP=1 MB=3 PASS=F"; UINT32_MAX: there is none. */
uint32_t trace_tag(const char *tags, const char *key);
/* Steps through tags: from is tags, then what the call before returned; NULL: there is no more. Key and value are parts of
 * the text. */
struct trace_tag_text {
    const char *key, *value;
    size_t key_length, value_length;
};
const char *trace_tag_next(const char *from, struct trace_tag_text *tag);

#endif
