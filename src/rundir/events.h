/* Scalars of a run as TensorBoard reads them: RUNDIR/tensorboard/events.out.tfevents.TIME.HOST, a new file a start.
 *
 * Records (tensorflow/core/lib/io/record_writer.h): length, uint64; CRC-32C of it, masked; bytes; CRC-32C of them, masked. The bytes are
 * an Event (tensorflow/core/util/event.proto). */
#ifndef PIPER_RUNDIR_EVENTS_H
#define PIPER_RUNDIR_EVENTS_H

#include <stdint.h>
#include <stdio.h>

#include "base/dir.h"

struct events {
    FILE *file; /* NULL: nothing is written */
};
/* ST_IO. */
enum status events_open(struct events *ev, const struct dir *run, struct err *e);
/* One event with n values; those that are no numbers are left out. False: it could not be written, and the file is closed. */
struct events_value {
    const char *tag; /* "train/loss" */
    double value;
};
bool events_write(struct events *ev, uint64_t step, const struct events_value *values, uint32_t n);
void events_close(struct events *ev);

#endif
