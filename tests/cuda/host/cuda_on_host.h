/* Launches of kernels on the host: what a test, or a stand-in for the CUDA runtime, may want to hold. */
#ifndef PIPER_TESTS_CUDA_ON_HOST_H
#define PIPER_TESTS_CUDA_ON_HOST_H

#ifdef __cplusplus
#include <functional>

struct host_launch {
    const char *name;
    unsigned grid[3];
    unsigned block;
    size_t shared;
    std::function<void()> body; /* of one thread */
};

extern "C" {
#else
struct host_launch;
#endif

/* Takes the launch over. This one runs it at once and deletes it; it is weak, so that a stand-in for streams and graphs
 * can keep launches and run them later, any number of times. */
void host_cuda_enqueue(void *stream, struct host_launch *l);
void host_cuda_run(const struct host_launch *l);
void host_cuda_delete(struct host_launch *l);

/* 0: threads and blocks run in the order of their indices; 1: the other way round. */
void host_cuda_order(int backwards);
/* Launches so far. */
unsigned long host_cuda_launches(void);

#ifdef __cplusplus
}
#endif
#endif
