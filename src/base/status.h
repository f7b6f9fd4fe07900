/* Status codes and error sentences.
 *
 * Every function that can fail for a reason a user can cause returns an enum status and takes a struct err as its
 * last argument. 0 is good, negative is bad; -status is the exit code of the program (sysexits where one fits).
 * The function that first decides that something is wrong writes the sentence; callers pass it on unchanged. */
#ifndef PIPER_BASE_STATUS_H
#define PIPER_BASE_STATUS_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

enum status {
    ST_OK = 0,
    ST_USAGE = -64,   /* wrong command line, wrong number of ranks */
    ST_INPUT = -65,   /* bad contents: directive, tag, device, token, file */
    ST_MISSING = -66, /* an input file does not exist or cannot be read */
    ST_BUG = -70,     /* an invariant of ours does not hold */
    ST_DEVICE = -71,  /* device or memory missing */
    ST_IO = -74,      /* reading or writing failed */
    ST_STOPPED = -75, /* stopped with a good checkpoint: run the same command again */
    ST_HANG = -76,    /* a hang, or a lost peer */
};

/* One error: a status and a sentence that says the place, what was found, what was expected and what to do. */
struct err {
    enum status status;
    char text[2048];
};

/* Sets e to `where: sentence` (where may be NULL) and returns status, so that callers write `return err_set(...)`.
 * An error that is already set is kept: the first cause is the one a person wants to read. e may be NULL. */
enum status err_set(struct err *e, enum status status, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void err_clear(struct err *e);
/* Text of others, for a terminal or a log: control characters, in one byte or as UTF-8 has those from U+0080 on, become "?". Messages
 * are made so by err_set(). */
void text_printable(char *text);
/* fprintf() for lines that name what others named: all but the end of the line, where `format` has one, is made so. */
void text_print(FILE *to, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "0 done", "bad input", ...: the kind in words, static storage. */
const char *status_name(enum status status);

/* Invariant, always on: prints file, line and condition, and ends all ranks: process_fail() in fail.h. */
#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))
_Noreturn void check_failed(const char *file, int line, const char *cond);

/* Invariant of debug builds. The condition must have no side effect. */
#ifdef PIPER_DEBUG
#define ASSERT(cond) CHECK(cond)
#else
#define ASSERT(cond) ((void)sizeof(cond))
#endif

/* Propagate: TRY(f(x, e)); returns from the caller with the status of f when it is not ST_OK. */
#define TRY(call)                         \
    do {                                  \
        enum status try_status_ = (call); \
        if (try_status_ != ST_OK)         \
            return try_status_;           \
    } while (0)

#endif
