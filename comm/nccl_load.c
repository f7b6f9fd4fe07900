/* NCCL's functions, from a library that is loaded when a communicator is wanted: one rank, or --comm mpi, does without it. */
#include "comm/nccl_private.h"

#include "base/library.h"
#include "build-config.h"

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)

#define CALLS(X)                                                                                                     \
    X(const char *, ncclGetErrorString, (ncclResult_t r), (r))                                                       \
    X(const char *, ncclGetLastError, (ncclComm_t comm), (comm))                                                     \
    X(ncclResult_t, ncclGetUniqueId, (ncclUniqueId * id), (id))                                                      \
    X(ncclResult_t, ncclCommInitRankConfig,                                                                          \
      (ncclComm_t * comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config),                               \
      (comm, ranks, id, rank, config))                                                                               \
    X(ncclResult_t, ncclCommSplit, (ncclComm_t comm, int color, int key, ncclComm_t *made, ncclConfig_t *config),    \
      (comm, color, key, made, config))                                                                              \
    X(ncclResult_t, ncclCommFinalize, (ncclComm_t comm), (comm))                                                     \
    X(ncclResult_t, ncclCommDestroy, (ncclComm_t comm), (comm))                                                      \
    X(ncclResult_t, ncclCommAbort, (ncclComm_t comm), (comm))                                                        \
    X(ncclResult_t, ncclCommGetAsyncError, (ncclComm_t comm, ncclResult_t * r), (comm, r))                           \
    X(ncclResult_t, ncclGroupStart, (void), ())                                                                      \
    X(ncclResult_t, ncclGroupEnd, (void), ())                                                                        \
    X(ncclResult_t, ncclAllReduce,                                                                                   \
      (const void *src, void *dst, size_t n, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm, cudaStream_t s),  \
      (src, dst, n, type, op, comm, s))                                                                              \
    X(ncclResult_t, ncclReduceScatter,                                                                               \
      (const void *src, void *dst, size_t n, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm, cudaStream_t s),  \
      (src, dst, n, type, op, comm, s))                                                                              \
    X(ncclResult_t, ncclAllGather,                                                                                   \
      (const void *src, void *dst, size_t n, ncclDataType_t type, ncclComm_t comm, cudaStream_t s),                  \
      (src, dst, n, type, comm, s))                                                                                  \
    X(ncclResult_t, ncclSend,                                                                                        \
      (const void *src, size_t n, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t s),                   \
      (src, n, type, peer, comm, s))                                                                                 \
    X(ncclResult_t, ncclRecv, (void *dst, size_t n, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t s), \
      (dst, n, type, peer, comm, s))

static struct {
    CALLS(LIBRARY_POINTER)
} table;

enum status comm__nccl_load(struct err *e)
{
    static const char *const names[] = { CALLS(LIBRARY_NAME) };
    static const struct library nccl = { .name = "comm nccl",
                                         .file = "libnccl.so." TEXT(NCCL_MAJOR),
                                         .folder = CUDA_LIBDIR,
                                         .wheel = "nvidia/nccl/lib",
                                         .oldest = "2.18",
                                         .instead = "use --comm mpi, which does not need it",
                                         .names = names,
                                         .n = sizeof names / sizeof *names };
    return table.ncclSend ? ST_OK : library_load(&nccl, &table, e);
}

CALLS(LIBRARY_CALL)
