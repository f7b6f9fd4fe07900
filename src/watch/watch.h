/* The watchdog: a thread of every rank that sees whether the job still moves, and ends a job that does not with the name of
 * the culprit and exit code 76. It samples what the rank does from the events of the executor, so a step pays nothing.
 *
 * Two detectors. Heartbeats: each rank hears from the one before it; silence means a stopped process, a dead machine or a
 * lost network. Progress: an instruction is overdue when it takes many times as long as it ever took. Either only starts
 * an inquiry: all ranks are asked where they are, and the job ends only when one of them is found that is silent, or that is
 * overdue itself and that others wait for. A rank that is slow and moves is let alone. */
#ifndef PIPER_WATCH_H
#define PIPER_WATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/dir.h"
#include "exec/exec.h"

struct watch_setup {
    const struct dir *dir; /* of the run, borrowed until close; it need not be open yet */
    double timeout;        /* seconds: of silence, and the least that makes an instruction overdue; 0: no watchdog */
};

/* Before MPI starts, where no rank can ask another: looks for stopped ranks of this machine, until open. Close begins it again,
 * for the end of MPI. */
void watch_beside_begin(double timeout);
void watch_beside_end(void);

/* Collective; so is close, which comes when no rank has anything more to do. */
enum status watch_open(const struct watch_setup *setup, struct err *e);
void watch_close(void);

/* From here on what this rank does is kept in RUNDIR/ring, which exists then: see flight.h. Not collective. */
enum status watch_record(struct err *e);
/* The run folder had been removed and is made again: a new file there. */
void watch_record_again(void);

/* What this rank does outside of steps: "compile", "checkpoint"; a string that stays. Any thread, any time. */
void watch_phase(const char *phase);
const char *watch_phase_now(void);
/* The executor that is looked at; NULL before it is closed. */
void watch_attach(const struct exec *x);
/* "rank 2, step 7, BW layers.1 mb3" or "rank 2, checkpoint". */
void watch_where(char *text, size_t size);
/* A note for the log on what watches, or why nothing does. */
const char *watch_note(void);

#endif
