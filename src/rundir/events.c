#include "rundir/events.h"

#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EVENT_BYTES = 8192, TAG_BYTES = 200 };

/* ---- records ---------------------------------------------------------------------------------------------------- */

/* Castagnoli's polynomial, reflected. */
static uint32_t crc32c(const unsigned char *p, size_t n)
{
    uint32_t crc = UINT32_MAX;
    while (n--) {
        crc ^= *p++;
        for (int i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static uint32_t masked_crc(const void *p, size_t n)
{
    const uint32_t crc = crc32c(p, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static bool put_record(struct events *ev, const unsigned char *bytes, size_t n)
{
    const uint64_t length = n;
    const uint32_t crcs[] = { masked_crc(&length, sizeof length), masked_crc(bytes, n) };
    fwrite(&length, sizeof length, 1, ev->file);
    fwrite(&crcs[0], sizeof crcs[0], 1, ev->file);
    fwrite(bytes, 1, n, ev->file);
    fwrite(&crcs[1], sizeof crcs[1], 1, ev->file);
    if (fflush(ev->file) == 0 && !ferror(ev->file))
        return true;
    events_close(ev);
    return false;
}

/* ---- messages (protobuf's wire format) -------------------------------------------------------------------------- */

struct message {
    unsigned char at[EVENT_BYTES];
    size_t n;
};
enum { WIRE_NUMBER = 0, WIRE_8 = 1, WIRE_BYTES = 2, WIRE_4 = 5 };

static void put_varint(struct message *m, uint64_t x)
{
    for (; x >= 0x80; x >>= 7)
        m->at[m->n++] = (unsigned char)(x | 0x80);
    m->at[m->n++] = (unsigned char)x;
}

static void put_field(struct message *m, unsigned field, unsigned wire)
{
    put_varint(m, field << 3 | wire);
}

static void put_fixed(struct message *m, unsigned field, unsigned wire, const void *value, size_t bytes)
{
    put_field(m, field, wire);
    memcpy(m->at + m->n, value, bytes);
    m->n += bytes;
}

static void put_bytes(struct message *m, unsigned field, const void *value, size_t bytes)
{
    put_field(m, field, WIRE_BYTES);
    put_varint(m, bytes);
    memcpy(m->at + m->n, value, bytes);
    m->n += bytes;
}

/* Event.wall_time */
static void put_time(struct message *m)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const double seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    put_fixed(m, 1, WIRE_8, &seconds, sizeof seconds);
}

/* Summary.value, with tag and simple_value. */
static void put_value(struct message *m, const struct events_value *v)
{
    struct message one = { .n = 0 };
    const float value = (float)v->value;
    put_bytes(&one, 1, v->tag, strnlen(v->tag, TAG_BYTES));
    put_fixed(&one, 2, WIRE_4, &value, sizeof value);
    put_bytes(m, 1, one.at, one.n);
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

bool events_write(struct events *ev, uint64_t step, const struct events_value *values, uint32_t n)
{
    enum { MOST = TAG_BYTES + 16, ROOM = EVENT_BYTES - 64 };
    struct message event = { .n = 0 }, summary = { .n = 0 };
    if (!ev->file)
        return true;
    for (uint32_t i = 0; i < n && summary.n + MOST < ROOM; i++)
        if (isfinite(values[i].value))
            put_value(&summary, &values[i]);
    put_time(&event);
    put_field(&event, 2, WIRE_NUMBER);
    put_varint(&event, step);
    put_bytes(&event, 5, summary.at, summary.n);
    return put_record(ev, event.at, event.n);
}

enum status events_open(struct events *ev, const struct dir *run, struct err *e)
{
    static const char version[] = "brain.Event:2";
    char name[DIR_NAME], host[64] = "";
    struct dir in = { .fd = -1 };
    struct message event = { .n = 0 };
    int fd = -1;
    gethostname(host, sizeof host - 1);
    *ev = (struct events){ .file = NULL };
    for (long second = (long)time(NULL);; second++) {
        snprintf(name, sizeof name, "events.out.tfevents.%ld.%s", second, host);
        TRY(dir_enter(run, "tensorboard", DIR_MAKE, &in, e));
        const bool taken = dir_has(&in, name); /* by a start within the same second */
        const enum status st = taken ? ST_OK : dir_make(&in, name, &fd, e);
        dir_close(&in);
        TRY(st);
        if (!taken)
            break;
    }
    ev->file = fdopen(fd, "w");
    put_time(&event);
    put_bytes(&event, 3, version, sizeof version - 1);
    return put_record(ev, event.at, event.n) ? ST_OK
                                             : err_set(e, ST_IO, run->path, "cannot write tensorboard/%s", name);
}

void events_close(struct events *ev)
{
    if (ev->file)
        fclose(ev->file);
    ev->file = NULL;
}
