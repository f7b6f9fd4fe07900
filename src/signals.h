/* What a batch system or a person asks of a running job. Handlers only take a note; the step loop reads it, and all ranks
 * agree through the sums of the step. */
#ifndef PIPER_SIGNALS_H
#define PIPER_SIGNALS_H

#include <stdbool.h>

/* USR1 and TERM: write a checkpoint and stop. USR2: write one and go on. A second TERM ends the process at once. */
void signals_install(void);
bool signals_stop(void);
bool signals_save(void); /* and forgets it */

#endif
