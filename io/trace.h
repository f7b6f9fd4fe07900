/* Traces: what every rank did when, in segments RUNDIR/trace.0000.h5, trace.0001.h5, ... Layout: piper-trace(5).
 *
 * A rank records events into a buffer made once; a segment is written collectively when the caller says so (after the
 * traced steps), in the way of checkpoints: rank 0 makes the HDF5 structure, every rank writes its slice of each
 * column. Ranks with the same definitions share one copy. Times are each rank's own clock; the offset to rank 0's is
 * measured at the start and at the end of a segment, and readers interpolate. */
#ifndef PIPER_IO_TRACE_H
#define PIPER_IO_TRACE_H

#include <stdint.h>

#include "base/dir.h"
#include "base/mem.h"
#include "base/status.h"

/* One run of an instruction. When recording, location is the rank's stream and instruction its own number; when
 * reading, both are rows of the segment's tables. */
struct trace_event {
    double t, dur; /* seconds; recording: the rank's clock; reading: rank 0's, from the start of the trace */
    uint64_t step, bytes;
    uint32_t location, instruction;
    int32_t group; /* id of the group in the job; -1: no collective. (group, seq) is one collective on all ranks */
    uint32_t seq;  /* of the call on its group within the step; of a message between two ranks: its tag */
    int32_t peer;  /* rank; -1: none */
};

/* ---- recording ---- */

struct trace_instruction {
    const char *name;       /* "F 0.1 mb 3" */
    const char *tags;       /* "PP=0 MB=3 PASS=F"; may be "" */
    uint32_t stream;        /* of the rank; reading: row of the streams' table */
    double predicted;       /* seconds; 0: no prediction */
    double predicted_start; /* seconds from the start of the step; -1: no prediction */
};
struct trace_group {
    uint32_t id, size; /* number in the whole job; members */
    const char *name;
};
struct trace_setup {
    const struct dir *dir; /* of the run; borrowed until close */
    const char *device;    /* "cpu" */
    double (*now)(void);   /* the clock of the events, seconds */
    const char *const *streams;
    const struct trace_instruction *instructions;
    const struct trace_group *groups; /* those that contain this rank */
    uint32_t n_streams, n_instructions, n_groups;
    uint32_t max_events; /* of a segment; further ones are counted and dropped */
};

struct trace_writer {
    struct trace_event *events;
    uint32_t n, max;
    uint64_t dropped;
    struct trace_private *p;
};

/* Collective. Copies the setup; measures clocks. Segments are numbered on from those in the folder. */
enum status trace_open(const struct trace_setup *s, struct trace_writer *w, struct err *e);
/* No allocation, no lock: one thread. */
static inline void trace_add(struct trace_writer *w, const struct trace_event *ev)
{
    if (w->n < w->max)
        w->events[w->n++] = *ev;
    else
        w->dropped++;
}
/* Collective: writes a segment when any rank has an event, and empties the buffers. ST_IO when it cannot be written;
 * then the events are lost. */
enum status trace_flush(struct trace_writer *w, struct err *e);
/* trace_flush, and frees; collective. Safe on a zeroed struct on all ranks. */
enum status trace_close(struct trace_writer *w, struct err *e);

/* ---- reading, serial ---- */

struct trace_rank {
    uint32_t host; /* row of hosts */
    const char *device;
    double offset_start, offset_end; /* rank 0's clock minus this rank's, seconds */
    double clock_start, clock_end;   /* this rank's clock at these measurements, seconds */
    uint64_t dropped;
};
struct trace_location {
    uint32_t rank, stream; /* row of streams */
};
struct trace {
    struct arena arena;
    const char **hosts, **streams;
    struct trace_rank *ranks;
    struct trace_location *locations;
    struct trace_instruction *instructions;
    struct trace_group *groups; /* by ascending id */
    struct trace_event *events; /* by rank, in order of recording */
    uint64_t n_hosts, n_streams, n_ranks, n_locations, n_instructions, n_groups, n_events;
    uint64_t segment;
    double zero;     /* clock of rank 0 at the start of the trace, seconds: the same in all segments of one launch */
    int64_t written; /* when the segment was written, seconds of UTC since 1970; -1: that cannot be read */
};
/* A file of that path, or a segment of a run. ST_MISSING, ST_INPUT. On success ends with trace_release. */
enum status trace_read(const char *path, struct trace *t, struct err *e);
enum status trace_read_segment(const struct dir *run, uint32_t segment, struct trace *t, struct err *e);
void trace_release(struct trace *t);
/* "trace.0003.h5" */
enum { TRACE_NAME = 32 };
void trace_name(uint32_t segment, char name[TRACE_NAME]);
/* Segments in the folder: 0.. n-1, without gaps. */
uint32_t trace_count(const struct dir *run);

#endif
