/* The device of this process: memory, streams, events, captured graphs. A compute back end that does not work on host
 * memory has one of these tables (src/cuda/device.c); the executor (src/exec/device.c) is all that calls it.
 *
 * One device a process. Functions that enqueue do not wait for the device. What goes wrong in one of them, or in a kernel
 * since, is kept: error() tells the first of it. Streams are the back end's own (op_args.stream). */
#ifndef PIPER_DEVICE_H
#define PIPER_DEVICE_H

#include <stdbool.h>

#include "base/status.h"
#include "exec/compute.h"

struct device_setup {
    uint32_t local_rank; /* among the ranks of this machine: the device of that number, of those that are visible */
    uint32_t n_streams;
    const int32_t *priority; /* [n_streams] 0 normal, 1 high */
    uint32_t n_events;       /* order between streams */
    uint32_t n_stamps;       /* times */
    /* What a kernel calls that cannot go on; error() says why. Must not return. */
    void (*failed)(void *self);
    void *self;
};

struct device_found {
    char name[128];
    uint64_t id; /* equal where ranks see one and the same device */
    uint64_t bytes;
    uint32_t multiprocessors;
};
struct device_memory {
    uint64_t free, total; /* bytes of the device, for all programs on it */
};

struct device_ops {
    /* The device that open() would take, untouched; ST_DEVICE with a sentence why there is none. */
    enum status (*find)(uint32_t local_rank, struct device_found *found, struct err *e);
    /* ST_DEVICE. close() also frees what was not given back. */
    enum status (*open)(const struct device_setup *s, struct err *e);
    void (*close)(void);
    struct device_memory (*memory)(void);
    /* Another thread of the process will use its memory. */
    void (*attach)(void);

    /* Memory of the device, zeroed; NULL: there is not so much. */
    void *(*alloc)(uint64_t bytes);
    void (*release)(void *p);
    /* Memory of the host that the device reads and writes at the same address, zeroed; NULL: there is not so much. */
    void *(*host_alloc)(uint64_t bytes);
    void (*host_release)(void *p);

    void *(*stream)(uint32_t i);
    /* Event i happens when what is on the stream now is done; a stream that waits for it goes on then. */
    void (*record)(uint32_t event, void *stream);
    void (*wait)(void *stream, uint32_t event);
    /* As wait(); captured, each run of the graph waits for what was recorded last, outside of captures, before its launch. */
    void (*wait_outside)(void *stream, uint32_t event);
    /* The host waits, in any thread. What went wrong, in words; NULL: nothing. */
    const char *(*await)(uint32_t event);
    /* As record(), with the time; a captured one is taken anew each time the graph runs. */
    void (*stamp)(uint32_t stamp, void *stream);
    /* Takes the zero of the stamps' clock; waits for the stream. */
    void (*clock_zero)(void *stream);
    /* Seconds from the zero to a stamp that has happened. */
    double (*clock_read)(uint32_t stamp);

    /* Between any two memories. */
    void (*copy)(void *to, const void *from, uint64_t bytes, void *stream);
    /* To zero. */
    void (*clear)(void *p, uint64_t bytes, void *stream);
    /* *word = s->epoch, visible to the host after all that the stream has done before it. word: of host_alloc(). */
    void (*mark)(uint32_t *word, const struct step_inputs *s, void *stream);
    /* The stream goes on when *word == value, which the host writes. False: this device cannot, or not with so many streams.
     * Cannot be captured. */
    bool (*can_wait_word)(void);
    void (*wait_word)(const uint32_t *word, uint32_t value, void *stream);

    /* From begin to end what is enqueued on the stream, and on others that wait for it, goes into a graph and does not run.
     * end() wants the others joined to it again. NULL: failed, see error(). */
    void (*capture_begin)(void *stream);
    void *(*capture_end)(void *stream);
    void (*graph_launch)(void *graph, void *stream);
    void (*graph_release)(void *graph);

    void (*synchronize_stream)(void *stream);
    void (*synchronize)(void); /* the whole device */
    /* The first thing that went wrong, in words; NULL: nothing. */
    const char *(*error)(void);
    /* Ranges in a profiler's picture of the calling thread; profiled: there is one. */
    bool (*profiled)(void);
    void (*range_begin)(const char *name);
    void (*range_end)(void);
};

extern const struct device_ops cuda_device; /* in the module */

#endif
