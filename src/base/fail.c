#include "base/fail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"

enum { PATIENCE_MS = 1000 };

struct process_ways process_ways;

static struct {
    const char *text;
    void (*log)(const char *text);
    _Atomic uint32_t written;
} words; /* the thread may outlive the call */

static void *write_words(void *unused)
{
    (void)unused;
    words.log(words.text);
    fflush(NULL); /* what others have buffered */
    atomic_store(&words.written, 1);
    return NULL;
}

/* The log gets a second, in a thread of its own: the file system may be what hangs. */
void last_words(const char *text)
{
    pthread_t thread;
    dprintf(STDERR_FILENO, "piper: %s\n", text);
    words.text = text;
    words.log = process_ways.log;
    if (!words.log)
        return;
    atomic_store(&words.written, 0);
    if (thread_start(&thread, write_words, NULL) != 0)
        write_words(NULL);
    else
        pthread_detach(thread);
    for (int ms = 0; ms < PATIENCE_MS && !atomic_load(&words.written); ms++)
        clock_nap(1e-3);
}

void process_end(enum status status, const char *text, void (*leave)(int code))
{
    if (atomic_fetch_add(&process_ways.ending, 1) == 0)
        last_words(text);
    else
        clock_nap(4e-3 * PATIENCE_MS); /* another thread says why, and leaves */
    leave(-status);
    abort();
}

void process_fail(enum status status, const char *text)
{
    char where[256] = "", line[2560];
    if (process_ways.where && strncmp(text, "rank ", 5) != 0)
        process_ways.where(where, sizeof where);
    snprintf(line, sizeof line, "%s%s%s", where, *where ? ": " : "", text);
    process_end(status, line, process_ways.leave ? process_ways.leave : exit);
}

void check_failed(const char *file, int line, const char *cond)
{
    char text[512];
    snprintf(text, sizeof text, "%s:%d: internal error: assertion failed: %s; please report this bug", file, line,
             cond);
    process_fail(ST_BUG, text);
}
