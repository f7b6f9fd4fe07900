#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cmd/data.h"

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

void data_progress_begin(struct data_progress *p, const struct data_files *files)
{
    *p = (struct data_progress){ .begin = now(), .terminal = isatty(STDERR_FILENO) };
    p->next = p->begin + (p->terminal ? 0.5 : 30);
    for (uint32_t i = 0; i < files->n; i++) {
        struct stat about;
        if (stat(files->at[i], &about) != 0) {
            p->all = 0; /* standard input: nobody knows */
            return;
        }
        p->all += (uint64_t)about.st_size;
    }
}

void data_progress(struct data_progress *p, uint64_t bytes, uint64_t tokens)
{
    const double at = now(), seconds = at - p->begin;
    if (at < p->next)
        return;
    p->next = at + (p->terminal ? 0.5 : 30);
    char all[80] = "";
    if (p->all)
        snprintf(all, sizeof all, " of %.1f MB (%.0f s left)", (double)p->all / 1e6,
                 bytes ? seconds * ((double)p->all - (double)bytes) / (double)bytes : 0.0);
    fprintf(stderr, "%s%.1f MB%s, %.4g tokens, %.1f MB/s%s", p->terminal ? "\r\033[K" : "", (double)bytes / 1e6, all,
            (double)tokens, (double)bytes / 1e6 / seconds, p->terminal ? "" : "\n");
    fflush(stderr);
}

void data_progress_end(const struct data_progress *p)
{
    if (p->terminal)
        fprintf(stderr, "\r\033[K");
}
