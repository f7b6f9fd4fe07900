/* Inside the watchdog: what ranks tell each other, and what is concluded from it. */
#ifndef PIPER_WATCH_PRIVATE_H
#define PIPER_WATCH_PRIVATE_H

#include <pthread.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/thread.h"
#include "comm/liveness.h"
#include "watch/watch.h"

/* The state of a process that does little but call the system, for nothing: no page of memory comes of it. A BLAS library does
 * that without end when it gets no memory for its buffers. */
enum { WATCH_VAIN = 'V' };

enum { WATCH_TASKS = 6, WATCH_KEYS = 16, WATCH_SILENT = 16 };

/* ---- what a rank does: watch/look.c --------------------------------------------------------------------------- */

/* Samples of one rank, taken by one thread. */
struct watch_look {
    const struct exec *x;
    struct exec_place place;
    const char *phase;
    bool known;        /* sampled before */
    double now, moved; /* seconds: of the last sample; when something was last seen to move */
    uint32_t *first;   /* [streams] as exec_look() gives them */
    double *since;     /* [streams] when that was first seen */
    double **worst; /* [lists][length + 1] seconds that the loop was seen to stand at an instruction; NULL: not kept */
    uint32_t *runs; /* [lists] whole runs seen */
};
void watch_look_begin(struct watch_look *l, const struct exec *x, bool worst);
void watch_look_end(struct watch_look *l);
/* A sample; true: something has moved since the last one. */
bool watch_look_at(struct watch_look *l, const char *phase, double now);
/* The clock stood still for this process: nothing of the time that passed counts. */
void watch_look_forgive(struct watch_look *l, double now);
/* Seconds that the rank may stand where it is. */
double watch_look_limit(const struct watch_look *l, double timeout, char state);

/* Where a rank stands, as far as it counts for how long it may. */
struct watch_stand {
    bool inside, works, loads; /* in a step; has work of its own there; which reads data */
    char state;                /* of its main thread: D waits for a disk or a network file system */
    double worst;              /* seconds that it was seen to stand there before */
    uint32_t runs;             /* of the list, so far */
};
double watch_limit(const struct watch_stand *s, double timeout); /* watch/verdict.c */

/* ---- what ranks tell each other ------------------------------------------------------------------------------- */

struct watch_task {
    struct exec_task task;
    float seconds; /* since when it is under way */
    char name[80];
};
struct watch_report {
    struct exec_place place;
    uint32_t n_tasks;
    uint32_t overdue; /* 1: by its own measure */
    float seconds;    /* since something moved */
    char state;       /* of its main thread, as in /proc: R, S, D, ...; or WATCH_VAIN */
    char phase[23];
    struct watch_task tasks[WATCH_TASKS]; /* those that the loop depends on first */
};
/* A collective that somebody waits in: how far are the others? */
struct watch_key {
    uint32_t epoch, node;
};

/* What is known of a rank after an inquiry. */
struct watch_answer {
    bool answered;
    struct watch_report report;
    unsigned char arrival[WATCH_KEYS]; /* enum exec_arrival */
    char state;     /* of one that did not answer: T stopped, t traced, Z or X ended, D, R, S; 0: nobody could look */
    double silent;  /* seconds without a sign */
    char last[160]; /* of one that did not answer: where it was, in words; or empty */
};
struct watch_table {
    uint32_t ranks, self;
    const struct liveness_peer *peers; /* [ranks] */
    struct watch_answer *at;           /* [ranks] */
    struct watch_key keys[WATCH_KEYS];
    uint32_t n_keys;
    double timeout;
};

/* ---- what is concluded: watch/verdict.c. A pure function of the table. ----------------------------------------- */

struct watch_verdict {
    bool guilty;      /* false: the job moves, or may still */
    uint32_t culprit; /* rank */
    char text[1600];  /* the chain that leads to it, and what to do */
};
void watch_judge(const struct watch_table *t, struct watch_verdict *v);
/* What a rank does, in words: "has been in BW layers.1 mb3 for 41 s". */
void watch_describe(const struct watch_table *t, uint32_t rank, char *text, size_t size);

/* ---- processes of this machine: watch/process.c ------------------------------------------------------------------ */

struct watch_process {
    char state, name[32];
    long parent;
    uint64_t faults, user, system; /* so far: pages; clock ticks */
};
/* What /proc/PID/stat says. False: there is no such process. */
bool watch_process_of(long pid, struct watch_process *p);
/* The state letter of a process, or of a thread of this one; 0: there is none, or another program has it. */
char watch_process_state(int32_t pid);
char watch_thread_state(int tid);

/* ---- the thread: watch.c, and its inquiries: watch/inquiry.c --------------------------------------------------- */

struct watch_inquiry {
    bool active;
    uint32_t number, round;
    double begun; /* seconds */
    struct watch_table table;
    uint32_t *rounds; /* [ranks] the last round that a rank has answered */
    uint32_t n_silent, silent[WATCH_SILENT];
};

struct watch {
    struct liveness *line; /* NULL: alone */
    const struct dir *dir;
    double timeout;
    uint32_t rank, ranks;
    int main_thread; /* id of the thread that runs the steps */
    struct liveness_peer *peers;
    struct watch_look look;
    struct watch_inquiry inquiry;
    double heard; /* when the rank before was last heard */
    double asked; /* when somebody's inquiry was last seen */
    struct {
        struct watch_process before; /* this one, */
        double at;                   /* when it was read */
        double since;                /* from then on all was in vain; 0: it is not */
    } vain;
};

/* Keeps watch->vain. */
void watch_look_in_vain(struct watch *w, double now);

void watch_inquire(struct watch *w, double now, uint32_t suspect);
/* Moves an inquiry on; true: it is over, *v says how. */
bool watch_inquiry_step(struct watch *w, double now, struct watch_verdict *v);
void watch_inquiry_end(struct watch_inquiry *q);
/* A message of an inquiry has come. */
void watch_inquiry_take(struct watch *w, const void *message, uint32_t bytes, uint32_t from, double now);
void watch_report_fill(struct watch *w, struct watch_report *r);

/* ---- the thread that keeps the ring: watch/record.c ------------------------------------------------------------- */

void watch_record_begin(const struct liveness_peer *me);             /* collective */
enum status watch_record_open(const struct dir *dir, struct err *e); /* dir is borrowed until close */
void watch_record_close(void);
void *watch_recorder(void *unused);
void watch_record_attach(const struct exec *x); /* under the lock */

/* Both threads look while they hold this, so that main does not close the executor meanwhile. */
void watch_lock(void);
void watch_unlock(void);
/* A nap that the end cuts short; false: it has come. */
bool watch_sleep(double seconds);

#endif
