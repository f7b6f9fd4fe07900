#include "view/trace_words.h"

#include <stdlib.h>
#include <string.h>

enum trace_kind trace_kind_of(const char *name)
{
    static const struct {
        const char *begin;
        enum trace_kind kind;
    } names[] = { { "F ", TRACE_F },
                  { "B ", TRACE_B },
                  { "BI ", TRACE_BI },
                  { "BW ", TRACE_BW },
                  { "update ", TRACE_UPDATE },
                  { "norm of ", TRACE_UPDATE },
                  { "add ", TRACE_ADD },
                  { "send ", TRACE_SEND },
                  { "receive ", TRACE_RECEIVE },
                  { "exchange ", TRACE_EXCHANGE },
                  { "shift ", TRACE_SHIFT },
                  { "all-to-all ", TRACE_ALL_TO_ALL },
                  { "all-reduce ", TRACE_ALL_REDUCE },
                  { "reduce-scatter ", TRACE_REDUCE_SCATTER },
                  { "all-gather ", TRACE_ALL_GATHER } };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(name, names[i].begin, strlen(names[i].begin)) == 0)
            return names[i].kind;
    return TRACE_OTHER;
}

size_t trace_name_length(const char *name)
{
    const char *mb = strstr(name, " mb");
    return mb ? (size_t)(mb - name) : strlen(name);
}

const char *trace_tag_next(const char *from, struct trace_tag_text *tag)
{
    for (from += strspn(from, " "); *from; from += strspn(from, " ")) {
        const size_t word = strcspn(from, " "), key = strcspn(from, "= ");
        if (key < word) {
            *tag = (struct trace_tag_text){ from, from + key + 1, key, word - key - 1 };
            return from + word;
        }
        from += word;
    }
    return NULL;
}

uint32_t trace_tag(const char *tags, const char *key)
{
    struct trace_tag_text tag;
    while ((tags = trace_tag_next(tags, &tag)))
        if (tag.key_length == strlen(key) && strncmp(tag.key, key, tag.key_length) == 0)
            return (uint32_t)strtoul(tag.value, NULL, 10);
    return UINT32_MAX;
}
