#include "io/world.h"

#include <float.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* One MPI call moves at most this many bytes: counts are int. */
enum { PART = 1 << 28, TAG = 77 };

static bool running(void)
{
    int on = 0, over = 0;
    MPI_Initialized(&on);
    if (on)
        MPI_Finalized(&over);
    return on && !over;
}

/* Ranks cannot agree on this one: it ends them all. */
static void check(int code, const char *call)
{
    if (code == MPI_SUCCESS)
        return;
    char why[MPI_MAX_ERROR_STRING] = "", text[MPI_MAX_ERROR_STRING + 128];
    int n = 0;
    MPI_Error_string(code, why, &n);
    snprintf(text, sizeof text,
             "rank %u: %s failed: %s; a rank or the network was lost; rerun the same command to resume", io_rank(),
             call, why);
    process_fail(ST_HANG, text);
}
#define CALL(name, ...) check(name(__VA_ARGS__), #name)

uint32_t io_rank(void)
{
    int r = 0;
    if (running())
        MPI_Comm_rank(MPI_COMM_WORLD, &r);
    return (uint32_t)r;
}

uint32_t io_size(void)
{
    int n = 1;
    if (running())
        MPI_Comm_size(MPI_COMM_WORLD, &n);
    return (uint32_t)n;
}

bool io_parallel(void)
{
    return io_size() > 1;
}

static enum status take(struct err *e, uint32_t from, enum status st)
{
    char text[sizeof e->text] = "";
    if (e && io_rank() == from)
        memcpy(text, e->text, sizeof text);
    CALL(MPI_Bcast, text, (int)sizeof text, MPI_CHAR, (int)from, MPI_COMM_WORLD);
    if (e && io_rank() != from) {
        e->status = st;
        memcpy(e->text, text, sizeof text);
    }
    return st;
}

enum status io_agree(enum status mine, struct err *e)
{
    if (!io_parallel())
        return mine;
    struct {
        int failed, rank;
    } in = { mine == ST_OK ? 0 : 1, (int)io_rank() }, out;
    CALL(MPI_Allreduce, &in, &out, 1, MPI_2INT, MPI_MAXLOC, MPI_COMM_WORLD); /* of equal values the lowest rank */
    if (!out.failed)
        return ST_OK;
    int st = (int)mine;
    CALL(MPI_Bcast, &st, 1, MPI_INT, out.rank, MPI_COMM_WORLD);
    return take(e, (uint32_t)out.rank, (enum status)st);
}

enum status io_agree_root(enum status root, struct err *e)
{
    if (!io_parallel())
        return root;
    int st = (int)root;
    CALL(MPI_Bcast, &st, 1, MPI_INT, 0, MPI_COMM_WORLD);
    return st == ST_OK ? ST_OK : take(e, 0, (enum status)st);
}

void io_broadcast(void *data, uint64_t bytes)
{
    if (!io_parallel())
        return;
    for (uint64_t at = 0; at < bytes; at += PART)
        CALL(MPI_Bcast, (char *)data + at, (int)(bytes - at < PART ? bytes - at : PART), MPI_BYTE, 0, MPI_COMM_WORLD);
}

void io_barrier(void)
{
    if (io_parallel())
        CALL(MPI_Barrier, MPI_COMM_WORLD);
}

void io_all_sum_u64(uint64_t *values, uint64_t n)
{
    enum { WORDS = PART / 8 };
    if (!io_parallel())
        return;
    for (uint64_t at = 0; at < n; at += WORDS)
        CALL(MPI_Allreduce, MPI_IN_PLACE, values + at, (int)(n - at < WORDS ? n - at : WORDS), MPI_UINT64_T, MPI_SUM,
             MPI_COMM_WORLD);
}

void io_reduce_sum_u64(uint64_t *values, uint64_t n)
{
    enum { WORDS = PART / 8 };
    if (!io_parallel())
        return;
    for (uint64_t at = 0; at < n; at += WORDS) {
        int count = (int)(n - at < WORDS ? n - at : WORDS);
        if (io_rank() == 0)
            CALL(MPI_Reduce, MPI_IN_PLACE, values + at, count, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
        else
            CALL(MPI_Reduce, values + at, NULL, count, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    }
}

void io_all_max_u64(uint64_t *values, uint32_t n)
{
    if (io_parallel())
        CALL(MPI_Allreduce, MPI_IN_PLACE, values, (int)n, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD);
}

void io_all_gather(const void *mine, uint32_t bytes, void *all)
{
    if (io_parallel())
        CALL(MPI_Allgather, mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD);
    else
        memcpy(all, mine, bytes);
}

static void send_bytes(const void *data, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += PART)
        CALL(MPI_Send, (const char *)data + at, (int)(bytes - at < PART ? bytes - at : PART), MPI_BYTE, 0, TAG,
             MPI_COMM_WORLD);
}

static void receive_bytes(void *data, uint64_t bytes, uint32_t from)
{
    for (uint64_t at = 0; at < bytes; at += PART)
        CALL(MPI_Recv, (char *)data + at, (int)(bytes - at < PART ? bytes - at : PART), MPI_BYTE, (int)from, TAG,
             MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

void io_collect(const void *mine, const uint64_t *bytes, void **out)
{
    uint32_t rank = io_rank(), size = io_size();
    if (rank != 0) {
        send_bytes(mine, bytes[rank]);
        return;
    }
    for (uint32_t r = 0; r < size; r++) {
        out[r] = bytes[r] ? mem_alloc(bytes[r]) : NULL;
        if (r)
            receive_bytes(out[r], bytes[r], r);
        else if (bytes[0])
            memcpy(out[0], mine, bytes[0]);
    }
}

double io_clock_offset(double (*now)(void))
{
    enum { TURNS = 12 };
    double offset = 0, best = DBL_MAX, theirs = 0;
    if (!io_parallel())
        return 0;
    if (io_rank() == 0) { /* answers each rank in turn with its time */
        for (uint32_t r = 1; r < io_size(); r++)
            for (int i = 0; i < TURNS; i++) {
                CALL(MPI_Recv, NULL, 0, MPI_BYTE, (int)r, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
                theirs = now();
                CALL(MPI_Send, &theirs, 1, MPI_DOUBLE, (int)r, TAG, MPI_COMM_WORLD);
            }
        return 0;
    }
    for (int i = 0; i < TURNS; i++) {
        double sent = now();
        CALL(MPI_Send, NULL, 0, MPI_BYTE, 0, TAG, MPI_COMM_WORLD);
        CALL(MPI_Recv, &theirs, 1, MPI_DOUBLE, 0, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        double got = now();
        if (i > 1 && got - sent < best) { /* the first ones warm up, and wait for rank 0 to come to us */
            best = got - sent;
            offset = theirs - (sent + got) / 2;
        }
    }
    return offset;
}
