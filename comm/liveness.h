/* Small messages between the watchdogs of the ranks, out of band: on a communicator of their own, used by one thread of
 * every rank and by nothing else, so that they travel also while everything else hangs. Nothing here blocks but open and
 * close, which are collective over the world. */
#ifndef PIPER_COMM_LIVENESS_H
#define PIPER_COMM_LIVENESS_H

#include <stdbool.h>
#include <stdint.h>

enum { LIVENESS_BYTES = 2048 }; /* of a message at most: below what MPI sends without asking the other end first */

struct liveness;
struct liveness_peer {
    char host[60]; /* name of its machine, cut to size */
    int32_t pid;
};

/* NULL: a world of one rank, or an MPI without MPI_THREAD_MULTIPLE (liveness_works() tells). Owned until close. */
struct liveness *liveness_open(void);
bool liveness_works(void);
/* Before close, the threads of all ranks have come to the same end: what is still under way is dropped. */
void liveness_close(struct liveness *l);

/* [world_size()], also of this rank; l may be NULL in a world of one. Filled by the caller's collective call. */
void liveness_peers(struct liveness_peer *peers);

/* Copies the message. With `skip` nothing is sent while an earlier message to that rank has not left. */
void liveness_send(struct liveness *l, uint32_t to, const void *message, uint32_t bytes, bool skip);
/* The next message, if one is there: message[LIVENESS_BYTES]. */
bool liveness_receive(struct liveness *l, void *message, uint32_t *bytes, uint32_t *from);

#endif
