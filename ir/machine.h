/* What the cost model knows of a machine: plain data, as a machine file (piper-machine(5)) or a data sheet gives it. */
#ifndef PIPER_IR_MACHINE_H
#define PIPER_IR_MACHINE_H

#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"
#include "ir/op.h"
#include "ir/optimizer.h"

enum { MACHINE_NAME = 64, MACHINE_TEXT = 512 };
#define MACHINE_NOISY 0.1

/* What points are of: the kernels of ir/op.h by (operator, pass), and these beside them, with pass IR_PASS_NONE. */
enum machine_extra {
    MACHINE_UPDATE = IR_OP_COUNT, /* + enum optimizer: one update; work: bytes of what it reads and writes */
    MACHINE_SUMSQ = MACHINE_UPDATE + OPTIMIZERS, /* work: bytes read */
    MACHINE_KINDS
};
/* "linear", ..., "adamw", "sgd", "sumsq"; MACHINE_KINDS when there is no such name. */
const char *machine_kind_name(uint32_t kind);
uint32_t machine_kind_by_name(const char *name);

/* One measurement of a kernel. work: floating-point operations where products dominate, else bytes moved at least
 * (machine_by_flops). width: its narrowest side, which decides how well products run; 0 where nothing but bytes counts. */
struct machine_point {
    uint32_t kind, pass, dtype; /* IR_F32 or IR_BF16 */
    double width, work, seconds;
};
bool machine_by_flops(uint32_t kind);

/* Links between ranks, from near to far. */
enum machine_link { LINK_NODE, LINK_NETWORK, LINK_ISLANDS, LINK_COUNT };
const char *machine_link_name(enum machine_link l); /* "node", "network", "islands" */
struct machine_link_point {                         /* a message of so many bytes takes so long, latency included */
    uint32_t link;
    double bytes, seconds;
};
struct machine_links {
    double latency;   /* seconds until the first byte of a message is there */
    double bandwidth; /* bytes per second that a rank sends, and receives at the same time */
    double shared;    /* bytes per second of all ranks of a node together (islands: of an island); 0: no such limit */
};

struct machine {
    char name[MACHINE_NAME], source[MACHINE_TEXT]; /* source: where the figures come from, a sentence */
    char device[MACHINE_NAME];                     /* names of devices that have this in them are its; empty: none */
    double flops[2];                               /* per second of large matrix products: float32, bfloat16 */
    double peak[2];                                /* what its maker says of them; 0: not known */
    double bandwidth;                              /* bytes per second of a rank's memory */
    double memory;                                 /* bytes that a rank has; 0: not known */
    double launch;                                 /* seconds that every kernel takes beside its work */
    double sum;                                    /* seconds per byte that a reduction reads to add its terms */
    uint32_t ring;              /* collectives: 1 rings (NCCL), 0 every member with every other (mpi) */
    uint32_t units, comm_units; /* processors of a device, and how many of them a communication takes unless its stream
                                   says so (max_ctas); 0: communication takes none */
    double compute_beside;      /* where units is 0: speed of computing while bytes move at transfer_beside; 1: full */
    double transfer_beside;     /* speed at which bytes move while all ends of a transfer compute; 1: full */
    double latency_beside; /* seconds that a message waits for an end that computes; 0: no longer than for others */
    double spread;         /* the largest spread of a measurement, of which noisy ones are above MACHINE_NOISY: the */
    uint32_t noisy;        /* middle half of its runs, in parts of their median; 0: all agree, or nobody measured */
    uint32_t ranks_per_node;
    uint32_t nodes_per_island; /* 0: one island */
    struct machine_links links[LINK_COUNT];
    struct {
        VEC(struct machine_point);
    } points; /* ordered by kind, pass, dtype, width, work */
    struct {
        VEC(struct machine_link_point);
    } link_points; /* ordered by link, bytes */
};

/* The machine that stands in where none is given: round figures of a GPU cluster, named as such. Ends with release. */
void machine_generic(struct machine *m);
void machine_release(struct machine *m);
/* Puts the points in order. To be called after they have been added. */
void machine_sort(struct machine *m);
/* For a reader that trusts nothing: every figure in range. `where` opens the message. */
enum status machine_validate(const struct machine *m, const char *where, struct err *e);

/* The link that joins two ranks. */
enum machine_link machine_link_between(const struct machine *m, uint32_t a, uint32_t b);

#endif
