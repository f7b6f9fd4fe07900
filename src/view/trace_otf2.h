/* An OTF2 archive on its way: what trace_otf2.c and trace_otf2_defs.c share. */
#ifndef PIPER_TRACE_OTF2_H
#define PIPER_TRACE_OTF2_H

#include <otf2/otf2.h>

#include "view/text_table.h"
#include "view/trace_files.h"
#include "view/trace_words.h"

/* What OTF2 calls the kinds of instructions. */
struct trace__otf2_kind {
    const char *group; /* of regions, as viewers colour them */
    OTF2_RegionRole role;
    OTF2_Paradigm paradigm;       /* OTF2_PARADIGM_USER: that of the device */
    int collective;               /* OTF2_CollectiveOp; -1: none */
    bool sends_all, receives_all; /* the bytes of an event are those of one member: it sends, receives them for all */
};
extern const struct trace__otf2_kind trace__otf2_kinds[TRACE_KINDS];

/* Attributes of events; further ones are tags that the strategy has beside PP, MB and PASS. */
enum trace__otf2_attribute {
    OTF2_OF_STEP,
    OTF2_OF_MICROBATCH,
    OTF2_OF_PASS,
    OTF2_OF_STAGE,
    OTF2_OF_CHUNK,
    OTF2_OF_BYTES,
    OTF2_OF_PEER,
    OTF2_OF_WAITED,
    OTF2_OF_PREDICTED,
    OTF2_OF_TAGS
};

/* A communicator: a group of a launch, as far as its ranks are in the archive. */
struct trace__otf2_comm {
    uint32_t id, n_members;
    const char *name;
    bool *members; /* by process; owned */
};

/* Instructions of a name, but for their microbatch. */
struct trace__otf2_region {
    enum trace_kind kind;
    uint32_t chunk; /* string: the part of the model that it computes; UINT32_MAX: none */
};

struct trace__otf2 {
    const struct trace_walk *w;
    OTF2_Archive *archive;
    OTF2_GlobalDefWriter *defs;
    struct text_table strings, names, tags, keys; /* names: of regions; keys: of communicators but the first */
    struct {
        VEC(struct trace__otf2_region);
    } regions;
    struct {
        VEC(struct trace__otf2_comm); /* number 0 is that of all processes */
    } comms;
    uint32_t **region_of;          /* [view][instruction]; UINT32_MAX: of an instruction that is not in the archive */
    uint32_t **ends;               /* [view][match]: ends of a communication that are in the archive */
    uint32_t **first;              /* [view][match]: the least rank of these */
    uint32_t *process_of;          /* [rank]; UINT32_MAX: not in the archive */
    uint32_t *main_track;          /* [process]: its first track, which stands for the rank in communicators */
    uint64_t *n_events;            /* [tracks + 1]: of each location; the last is that of the steps */
    uint32_t n_processes, written; /* written: strings */
    bool accelerator;              /* the device is no CPU */
    OTF2_ErrorCode failed;
    char why[256]; /* of the first failure */
};

/* Notes the first failure; later calls go on and fail too. */
static inline void trace__otf2_did(struct trace__otf2 *o, OTF2_ErrorCode code)
{
    if (code != OTF2_SUCCESS && o->failed == OTF2_SUCCESS)
        o->failed = code;
}
#define DID(call) trace__otf2_did(o, call)
static inline uint64_t trace__otf2_tick(const struct trace__otf2 *o, int64_t ns)
{
    return (uint64_t)(ns - o->w->begin);
}
/* Of a communication that all its members in the archive have recorded: its communicator; UINT32_MAX: it is none. */
uint32_t trace__otf2_comm_of(struct trace__otf2 *o, const struct trace_slice *s);

uint32_t trace__otf2_string(struct trace__otf2 *o, const char *text);  /* its number */
void trace__otf2_index(struct trace__otf2 *o);                         /* regions, processes, communicators */
void trace__otf2_definitions(struct trace__otf2 *o, const char *name); /* after the events */
void trace__otf2_release(struct trace__otf2 *o);

#endif
