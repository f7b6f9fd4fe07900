#include "train/head.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/version.h"
#include "comm/world.h"
#include "io/h5_version.h"

void head_versions(char text[HEAD_VERSIONS])
{
    char mpi[128], hdf5[32];
    world_library(mpi, sizeof mpi);
    h5_version(hdf5, sizeof hdf5);
    snprintf(text, HEAD_VERSIONS, "%s; %s; HDF5 %s", piper_compiler, mpi, hdf5);
}

/* ---- hosts ------------------------------------------------------------------------------------------------------ */

typedef char host_name[64];

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* "2 hosts: n1 (4 ranks), n2 (4 ranks)" */
static void describe_hosts(host_name *hosts, uint32_t n, char *text, size_t size)
{
    enum { SHOWN = 8 };
    uint32_t different = 0, first;
    size_t end = 0;
    qsort(hosts, n, sizeof *hosts, by_name);
    for (uint32_t i = 0; i < n; i = first) {
        for (first = i; first < n && strcmp(hosts[first], hosts[i]) == 0;)
            first++;
        if (different++ < SHOWN && end < size)
            end += (size_t)snprintf(text + end, size - end, "%s%s (%u rank%s)", i ? ", " : "", hosts[i], first - i,
                                    first - i == 1 ? "" : "s");
    }
    if (different > SHOWN && end < size)
        snprintf(text + end, size - end, " and %u others", different - SHOWN);
}

static void report_hosts(struct log *l)
{
    const uint32_t n = world_size();
    host_name me = "", *all = mem_alloc(n * sizeof *all);
    char text[1024] = "";
    gethostname(me, sizeof me - 1);
    world_all_gather(me, sizeof me, all);
    describe_hosts(all, n, text, sizeof text);
    log_line(l, "hosts: %s", text);
    mem_free(all);
}

/* ---- the command ------------------------------------------------------------------------------------------------ */

/* As one would type it: words with other characters than these in quotes. */
static void add_word(char *text, size_t size, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%[]";
    const bool quoted = !*word || word[strspn(word, plain)];
    const size_t end = strlen(text);
    snprintf(text + end, size - end, "%s%s%s%s", end ? " " : "", quoted ? "'" : "", word, quoted ? "'" : "");
}

static void report_command(struct log *l, int argc, char *const *argv)
{
    char text[1536] = "piper";
    for (int i = 0; i < argc; i++)
        add_word(text, sizeof text, argv[i]);
    text_printable(text);
    log_note(l, "command: %s", text);
}

void head_report(struct log *l, int argc, char *const *argv)
{
    char versions[HEAD_VERSIONS];
    head_versions(versions);
    log_note(l, "piper %s (%s); %s", piper_version, piper_commit, versions);
    report_command(l, argc, argv);
    report_hosts(l);
}
