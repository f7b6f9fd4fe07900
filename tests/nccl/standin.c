#include <stdatomic.h>
#include "standin.h"

#include <nccl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "comm/comm.h"
#include "comm/nccl_private.h"

struct ncclComm {
    struct standin_comm what;
    uint32_t me;
    uint32_t busy;           /* so often asked until the last call is through */
    bool finalized, grouped; /* grouped: it has calls in the group that is open */
};

struct standin_calls standin_calls;
struct standin_comms standin_comms;
uint32_t standin_splits;
double standin_through;
bool standin_missing;
static uint32_t depth, groups, alive;
static char wrong[256];
static struct {
    VEC(struct ncclComm *);
} grouped;

void standin_say_wrong(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!wrong[0])
        vsnprintf(wrong, sizeof wrong, fmt, ap);
    va_end(ap);
}

const char *standin_wrong(void)
{
    return wrong[0] ? wrong : NULL;
}

void standin_reset(void)
{
    standin_calls.n = 0;
    groups = 0;
}

const char *standin_left(void)
{
    return depth ? "a group is not ended" : alive ? "communicators are not destroyed" : NULL;
}

void standin_forget(void)
{
    standin_comms.n = standin_splits = 0;
    wrong[0] = '\0';
}

/* ---- communicators --------------------------------------------------------------------------------------------- */

enum status comm__nccl_load(struct err *e)
{
    return standin_missing ? err_set(e, ST_DEVICE, "comm nccl", "libnccl.so.2 cannot be loaded") : ST_OK;
}

const char *ncclGetErrorString(ncclResult_t r)
{
    return r == ncclSuccess ? "no error" : "an error";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return wrong;
}

static void check_config(const ncclConfig_t *c)
{
    if (c->magic != 0xcafebeef || c->blocking != 0 || c->splitShare != 0)
        standin_say_wrong("a communicator's configuration blocks, shares, or is not initialized");
}

static struct ncclComm *new_comm(uint32_t id, const ncclConfig_t *config)
{
    struct ncclComm *c = mem_alloc(sizeof *c);
    check_config(config);
    c->what.id = id;
    c->what.max_ctas = config->maxCTAs == INT_MIN ? 0 : (uint32_t)config->maxCTAs;
    c->busy = 2;
    alive++;
    return c;
}

/* Rank 0's bytes must reach all. */
ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    *id = (ncclUniqueId){ { 'p', 'i', 'p' } };
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    if (id.internal[0] != 'p' || (uint32_t)rank != world_rank() || (uint32_t)ranks != world_size())
        standin_say_wrong("the world's communicator has another id, rank or size");
    struct ncclComm *c = *comm = new_comm(0, config);
    c->me = (uint32_t)rank;
    for (c->what.n = 0; c->what.n < (uint32_t)ranks; c->what.n++)
        c->what.members[c->what.n] = c->what.n;
    vec_add(&standin_comms, c->what);
    return ncclInProgress;
}

static void check_idle(const struct ncclComm *c, const char *call)
{
    if (c->busy)
        standin_say_wrong("%s on communicator %u, whose last call is not through", call, c->what.id);
    if (c->finalized)
        standin_say_wrong("%s on communicator %u, which is finalized", call, c->what.id);
}

ncclResult_t ncclCommSplit(ncclComm_t parent, int color, int key, ncclComm_t *made, ncclConfig_t *config)
{
    int mine[2] = { color, key }, all[STANDIN_RANKS][2];
    check_idle(parent, "split");
    check_config(config);
    world_all_gather(mine, sizeof mine, all);
    parent->busy = 2;
    standin_splits++;
    *made = NULL;
    if (color == NCCL_SPLIT_NOCOLOR)
        return ncclInProgress;
    struct ncclComm *c = *made = new_comm(standin_splits << 16 | (uint32_t)color, config);
    for (int k = 0; k < (int)world_size(); k++)
        for (uint32_t r = 0; r < world_size(); r++)
            if (all[r][0] == color && all[r][1] == k) {
                if (r == world_rank())
                    c->me = c->what.n;
                c->what.members[c->what.n++] = r;
            }
    if (c->me >= c->what.n || c->what.n < 2 || c->what.members[c->me] != world_rank())
        standin_say_wrong("a split gives a communicator of %u members in which this rank is number %u", c->what.n,
                          c->me);
    vec_add(&standin_comms, c->what);
    return ncclInProgress;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    check_idle(comm, "finalize");
    if (standin_graphs) /* NCCL would wait for their end (commDestroySync) */
        standin_say_wrong("communicator %u is finalized before %u captured graphs are released", comm->what.id,
                          standin_graphs);
    comm->finalized = true;
    comm->busy = 1;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (comm->busy || !comm->finalized)
        standin_say_wrong("communicator %u is destroyed before it is finalized", comm->what.id);
    alive--;
    mem_free(comm);
    return ncclSuccess;
}

/* Outside of a group NCCL waits here for the kernels of the communicator, which may stand behind another's. */
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    if (!depth && alive > 1) {
        fprintf(stderr, "communicators are aborted one after the other\n");
        _exit(99);
    }
    alive--;
    mem_free(comm);
    return ncclSuccess;
}

_Atomic int standin_lost;

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *r)
{
    if (standin_through > 0)
        comm->busy = clock_now() < standin_through;
    else if (comm->busy)
        comm->busy--;
    *r = comm->busy ? ncclInProgress : atomic_load(&standin_lost) ? ncclRemoteError : ncclSuccess;
    return ncclSuccess;
}

/* ---- calls ----------------------------------------------------------------------------------------------------- */

ncclResult_t ncclGroupStart(void)
{
    if (!depth++)
        groups++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (!depth) {
        standin_say_wrong("a group is ended that was not begun");
        return ncclInvalidArgument;
    }
    if (--depth)
        return ncclSuccess;
    if (grouped.n > 1) /* their kernels would run one after the other on a stream, each waiting for its peers */
        standin_say_wrong("a group has calls on %u communicators", grouped.n);
    ncclResult_t r = grouped.n ? ncclInProgress : ncclSuccess;
    for (uint32_t i = 0; i < grouped.n; i++) {
        grouped.at[i]->busy = 2;
        grouped.at[i]->grouped = false;
    }
    grouped.n = 0;
    return r;
}

static uint32_t size_of(ncclDataType_t type)
{
    static const uint32_t size[] = {
        [ncclUint8] = 1, [ncclInt32] = 4, [ncclFloat32] = 4, [ncclFloat64] = 8, [ncclBfloat16] = 2
    };
    return (size_t)type < sizeof size / sizeof *size ? size[type] : 0;
}

static void check_operand(const void *p, uint64_t count, ncclDataType_t type, const char *which)
{
    uint64_t bytes = count * size_of(type);
    if (!bytes || !standin_memory(p, bytes))
        standin_say_wrong("%s of %llu elements of type %u lies outside of the device's memory", which,
                          (unsigned long long)count, (unsigned)type);
}

static ncclResult_t record(ncclComm_t c, enum standin_op op, ncclDataType_t type, int peer, size_t count,
                           const void *stream)
{
    bool alone = !depth, message = op == REC_SEND || op == REC_RECV;
    check_idle(c, "a call");
    if (message && ((uint32_t)peer >= c->what.n || peer < 0))
        standin_say_wrong("peer %d of communicator %u, which has %u members", peer, c->what.id, c->what.n);
    if (standin_stream(stream) == UINT32_MAX)
        standin_say_wrong("a call on a stream that the device does not have");
    if (alone)
        groups++;
    vec_add(&standin_calls, ((struct standin_record){
                                .comm = c->what.id,
                                .op = op,
                                .type = type,
                                .peer = message ? c->what.members[(uint32_t)peer % c->what.n] : UINT32_MAX,
                                .stream = standin_stream(stream),
                                .group = groups,
                                .count = count,
                            }));
    if (alone) {
        c->busy = 2;
        return ncclInProgress;
    }
    if (!c->grouped)
        vec_add(&grouped, c);
    c->grouped = true;
    return ncclSuccess;
}

static void check_reduction(ncclDataType_t type, ncclRedOp_t op)
{
    if (op != ncclSum || (type != ncclFloat32 && type != ncclFloat64 && type != ncclInt32))
        standin_say_wrong("a reduction of type %u", (unsigned)type);
}

/* Operands of `whole` and of a block: apart, or the block is this member's part. */
static void check_block(const struct ncclComm *c, const void *whole, const void *block, size_t count,
                        ncclDataType_t type)
{
    const char *w = whole, *b = block;
    uint64_t bytes = count * size_of(type);
    if (b + bytes > w && b < w + bytes * c->what.n && b != w + bytes * c->me)
        standin_say_wrong("operands overlap, and not as this member's block");
    check_operand(whole, count * c->what.n, type, "the whole");
    check_operand(block, count, type, "a block");
}

ncclResult_t ncclAllReduce(const void *src, void *dst, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream)
{
    check_reduction(type, op);
    check_operand(src, count, type, "what is reduced");
    check_operand(dst, count, type, "the sum");
    return record(comm, REC_ALL_REDUCE, type, -1, count, stream);
}

ncclResult_t ncclReduceScatter(const void *src, void *dst, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream)
{
    check_reduction(type, op);
    check_block(comm, src, dst, count, type);
    return record(comm, REC_REDUCE_SCATTER, type, -1, count, stream);
}

ncclResult_t ncclAllGather(const void *src, void *dst, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream)
{
    check_block(comm, dst, src, count, type);
    return record(comm, REC_ALL_GATHER, type, -1, count, stream);
}

ncclResult_t ncclSend(const void *src, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    check_operand(src, count, type, "what is sent");
    return record(comm, REC_SEND, type, peer, count, stream);
}

ncclResult_t ncclRecv(void *dst, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    check_operand(dst, count, type, "what is received");
    return record(comm, REC_RECV, type, peer, count, stream);
}
