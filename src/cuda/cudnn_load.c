/* cuDNN's functions, from a library that is loaded when attention wants it: models of other operators, float32 and other head
 * sizes do without it. */
#include "cuda/sdpa_graph.h"

#include "base/library.h"
#include "build-config.h"

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)

#define CALLS(X)                                                                                                      \
    X(size_t, cudnnGetVersion, (void), ())                                                                            \
    X(const char *, cudnnGetErrorString, (cudnnStatus_t status), (status))                                            \
    X(void, cudnnGetLastErrorString, (char *text, size_t size), (text, size))                                         \
    X(cudnnStatus_t, cudnnCreate, (cudnnHandle_t * handle), (handle))                                                 \
    X(cudnnStatus_t, cudnnDestroy, (cudnnHandle_t handle), (handle))                                                  \
    X(cudnnStatus_t, cudnnSetStream, (cudnnHandle_t handle, cudaStream_t stream), (handle, stream))                   \
    X(cudnnStatus_t, cudnnBackendCreateDescriptor, (cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t * d), \
      (type, d))                                                                                                      \
    X(cudnnStatus_t, cudnnBackendDestroyDescriptor, (cudnnBackendDescriptor_t d), (d))                                \
    X(cudnnStatus_t, cudnnBackendFinalize, (cudnnBackendDescriptor_t d), (d))                                         \
    X(cudnnStatus_t, cudnnBackendSetAttribute,                                                                        \
      (cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n,     \
       const void *values),                                                                                           \
      (d, name, type, n, values))                                                                                     \
    X(cudnnStatus_t, cudnnBackendGetAttribute,                                                                        \
      (cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t most,  \
       int64_t * n, void *values),                                                                                    \
      (d, name, type, most, n, values))                                                                               \
    X(cudnnStatus_t, cudnnBackendExecute,                                                                             \
      (cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack), (handle, plan, pack))

static struct {
    CALLS(LIBRARY_POINTER)
} table;

enum status cuda__cudnn_load(struct err *e)
{
    static const char *const names[] = { CALLS(LIBRARY_NAME) };
    static const struct library cudnn = { .name = "cuDNN",
                                          .file = "libcudnn.so." TEXT(CUDNN_MAJOR),
                                          .folder = CUDA_LIBDIR,
                                          .wheel = "nvidia/cudnn/lib",
                                          .oldest = "9.8",
                                          .instead = "train in float32 or with --device cpu, which do not need it",
                                          .names = names,
                                          .n = sizeof names / sizeof *names };
    return table.cudnnCreate ? ST_OK : library_load(&cudnn, &table, e);
}

CALLS(LIBRARY_CALL)
