#include "rundir/flight.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/number.h"

static uint64_t header_check(const struct flight_header *h)
{
    return number_hash(h, offsetof(struct flight_header, check), FLIGHT_MAGIC);
}

static uint64_t record_check(const struct flight_record *r)
{
    return number_hash(r, offsetof(struct flight_record, check), FLIGHT_MAGIC);
}

static const char folder_name[] = "ring";
enum { NAME = 16 };

static void name_of(uint32_t rank, char name[NAME])
{
    snprintf(name, NAME, "%04u", rank);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static bool write_header(struct flight *f)
{
    f->header.alive = clock_of(CLOCK_REALTIME);
    f->header.check = header_check(&f->header);
    return pwrite(f->file, &f->header, sizeof f->header, 0) == (ssize_t)sizeof f->header;
}

enum status flight_open(struct flight *f, const struct dir *run, const struct flight_header *header, struct err *e)
{
    char name[NAME];
    static const struct flight_record empty[FLIGHT_RECORDS];
    struct dir folder;
    *f = (struct flight){ .file = -1, .header = *header };
    f->header.magic = FLIGHT_MAGIC;
    f->header.version = FLIGHT_VERSION;
    TRY(dir_enter(run, folder_name, DIR_MAKE, &folder, e));
    name_of(header->rank, name);
    enum status st = dir_replace(&folder, name, &f->file, e);
    dir_close(&folder);
    if (st == ST_OK &&
        (!write_header(f) || pwrite(f->file, empty, sizeof empty, sizeof f->header) != (ssize_t)sizeof empty))
        st = err_set(e, ST_IO, run->path, "ring/%s cannot be written: %s", name, strerror(errno));
    if (st != ST_OK)
        flight_close(f);
    return st;
}

void flight_close(struct flight *f)
{
    if (f->file >= 0)
        close(f->file);
    f->file = -1;
}

void flight_add(struct flight *f, struct flight_record *record)
{
    record->number = ++f->number;
    record->time = clock_of(CLOCK_REALTIME);
    record->check = record_check(record);
    uint64_t at = (record->number - 1) % FLIGHT_RECORDS;
    if (pwrite(f->file, record, sizeof *record, (off_t)(sizeof f->header + at * sizeof *record)) < 0)
        return;
}

void flight_alive(struct flight *f)
{
    write_header(f);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

struct contents {
    struct flight_header header;
    struct flight_record at[FLIGHT_RECORDS];
};

enum { WHY = 512 };

/* NULL: good; else what is wrong with it, which `text` may hold. *missing: there is no such file. */
static const char *read_flight(const struct dir *run, uint32_t rank, struct contents *c, bool *missing, char text[WHY])
{
    char name[NAME], more;
    struct dir folder;
    struct err e = { 0 };
    uint64_t bytes;
    int f = -1;
    name_of(rank, name);
    bool folder_is_there = dir_enter(run, folder_name, 0, &folder, &e) == ST_OK;
    *missing = folder_is_there ? !dir_has(&folder, name) : !dir_has(run, folder_name);
    if (folder_is_there && !*missing)
        dir_read(&folder, name, &f, &bytes, &e);
    dir_close(&folder);
    if (*missing)
        return strerror(ENOENT);
    if (f < 0) {
        snprintf(text, WHY, "%.*s", WHY - 1, e.text);
        return text;
    }
    ssize_t n = read(f, c, sizeof *c);
    bool longer = n == (ssize_t)sizeof *c && read(f, &more, 1) != 0;
    close(f);
    if (n != (ssize_t)sizeof *c || longer)
        return "its size is not that of a flight recorder";
    const struct flight_header *h = &c->header;
    if (h->magic != FLIGHT_MAGIC || h->version != FLIGHT_VERSION)
        return "it is not a flight recorder of this version of piper";
    if (h->check != header_check(h) || h->rank != rank || h->rank >= h->ranks ||
        memchr(h->host, 0, sizeof h->host) == NULL)
        return "its header is damaged";
    text_printable(c->header.host);
    return NULL;
}

static bool is_good(const struct contents *c, uint64_t i)
{
    const struct flight_record *r = &c->at[i];
    return r->number && (r->number - 1) % FLIGHT_RECORDS == i && r->check == record_check(r) &&
           memchr(r->name, 0, sizeof r->name);
}

/* The slot of the newest record; UINT64_MAX: there is none. */
static uint64_t newest(const struct contents *c)
{
    uint64_t found = UINT64_MAX;
    for (uint64_t i = 0; i < FLIGHT_RECORDS; i++)
        if (is_good(c, i) && (found == UINT64_MAX || c->at[i].number > c->at[found].number))
            found = i;
    return found;
}

static void place_in_words(const struct flight_record *r, char *text, size_t size)
{
    if (r->step)
        snprintf(text, size, "step %llu, %s", (unsigned long long)r->step, r->name);
    else
        snprintf(text, size, "%s", r->name);
    text_printable(text);
}

void flight_last(const struct dir *run, uint32_t rank, char *text, size_t size)
{
    struct contents c;
    char why[WHY];
    bool missing;
    text[0] = '\0';
    if (run->fd < 0 || read_flight(run, rank, &c, &missing, why))
        return;
    uint64_t i = newest(&c);
    if (i != UINT64_MAX)
        place_in_words(&c.at[i], text, size);
}

/* "2026-11-21 12:30:05.913" */
static void clock_text(double t, char text[40])
{
    time_t s = (time_t)t;
    struct tm tm;
    size_t n = 0;
    if (localtime_r(&s, &tm))
        n = strftime(text, 32, "%Y-%m-%d %H:%M:%S", &tm);
    snprintf(text + n, 40 - n, ".%03d", (int)((t - (double)s) * 1000));
}

static void print_records(const struct contents *c, FILE *out)
{
    uint64_t last = newest(c), damaged = 0;
    uint64_t from = last == UINT64_MAX ? 0 : last + 1;
    for (uint64_t k = 0; k < FLIGHT_RECORDS; k++) {
        uint64_t i = (from + k) % FLIGHT_RECORDS;
        char when[40], place[128];
        if (!is_good(c, i)) {
            static const struct flight_record empty;
            damaged += memcmp(&c->at[i], &empty, sizeof empty) != 0;
            continue;
        }
        clock_text(c->at[i].time, when);
        place_in_words(&c->at[i], place, sizeof place);
        fprintf(out, "  %s  %s%s\n", when, place, c->at[i].waits ? " (waits)" : "");
    }
    if (last == UINT64_MAX)
        fputs("  no records\n", out);
    if (damaged)
        fprintf(out, "  %llu damaged records skipped\n", (unsigned long long)damaged);
}

enum status flight_print(const struct dir *run, bool (*wanted)(void *self, uint32_t rank), void *self, FILE *out,
                         struct err *e)
{
    struct contents c;
    char text[WHY];
    bool missing;
    uint32_t ranks = 1, shown = 0;
    double began = 0;
    for (uint32_t r = 0; r < ranks; r++) {
        const char *why = read_flight(run, r, &c, &missing, text);
        if (r == 0 && why)
            return err_set(e, missing ? ST_MISSING : ST_INPUT, run->path,
                           "ring/0000 cannot be read: %s; a run records there where each rank was last", why);
        if (r == 0) {
            ranks = c.header.ranks;
            began = c.header.began;
        }
        if (!wanted(self, r))
            continue;
        shown++;
        if (why || c.header.began != began || c.header.ranks != ranks) {
            fprintf(out, "rank %u: ring/%04u cannot be used: %s\n", r, r, why ? why : "it is of another run");
            continue;
        }
        char when[40];
        clock_text(c.header.alive, when);
        fprintf(out, "rank %u of %u (node %s, process %d), last seen %s\n", r, ranks, c.header.host, (int)c.header.pid,
                when);
        print_records(&c, out);
    }
    return shown ? ST_OK
                 : err_set(e, ST_INPUT, run->path, "found ranks 0 to %u, but none of those in --ranks", ranks - 1);
}
