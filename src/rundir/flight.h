/* RUNDIR/ring/0003: the last places of rank 3, in a file of fixed size that survives the process. A record is written when the
 * rank is seen in another place than before, ten times a second at most; the oldest one is overwritten.
 *
 * Layout, native byte order: struct flight_header, then FLIGHT_RECORDS of struct flight_record. */
#ifndef PIPER_FLIGHT_H
#define PIPER_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/dir.h"
#include "base/status.h"

enum { FLIGHT_MAGIC = 0x474e5250, FLIGHT_VERSION = 1, FLIGHT_RECORDS = 128 };

struct flight_header {
    uint32_t magic, version;
    uint32_t rank, ranks;
    int32_t pid;
    char host[60];
    double began; /* seconds since 1970, of rank 0: the same in all rings of a run */
    double alive; /* when the rank was last seen, seconds since 1970 */
    uint64_t check;
};
struct flight_record {
    uint64_t number; /* from 1, ascending; record i stands at (number - 1) % FLIGHT_RECORDS */
    double time;     /* when it was first seen there, seconds since 1970 */
    uint64_t step;   /* 0: outside of steps */
    uint32_t instr;  /* of the list; UINT32_MAX: outside of steps */
    uint32_t waits;  /* 1: a communication */
    char name[88];   /* as exec_describe() gives it, or the phase; ends with 0 */
    uint64_t check;
};

struct flight {
    int file; /* -1: none */
    uint64_t number;
    struct flight_header header;
};
/* Makes the folder and the file. header: rank, ranks, pid, host and began are the caller's. */
enum status flight_open(struct flight *f, const struct dir *run, const struct flight_header *header, struct err *e);
void flight_close(struct flight *f);
/* number, time and check are filled in here. A full disk is nobody's failure: the record is missing then. */
void flight_add(struct flight *f, struct flight_record *record);
/* The rank is seen now. */
void flight_alive(struct flight *f);

/* "step 12, BW layers.1 mb3": the newest record of a rank; empty: there is none. */
void flight_last(const struct dir *run, uint32_t rank, char *text, size_t size);
/* The last places of all ranks that wanted(self, rank) names, oldest first. A ring that is damaged or of an earlier run is
 * answered with a line instead of its records. ST_MISSING: the folder has none; ST_INPUT: none of a rank that is wanted. */
enum status flight_print(const struct dir *run, bool (*wanted)(void *self, uint32_t rank), void *self, FILE *out,
                         struct err *e);

#endif
