/* What a batch system or a person asks of a running job. Handlers only take a note; the step loop reads it, and all ranks
 * agree through the sums of the step. */
#ifndef PIPER_SIGNALS_H
#define PIPER_SIGNALS_H

#include <stdbool.h>

/* USR1, TERM, INT, HUP: write a checkpoint and stop. USR2: write one and go on. A second TERM, INT or HUP, later than a second
 * after the first of them, ends the process at once. INT and HUP that are ignored when it starts (nohup, a script's background)
 * stay so. PIPE is ignored: log.h. All of them are let in, also where the launcher was made deaf to them. */
void signals_install(void);
bool signals_stop(void);
bool signals_save(void); /* and forgets it */

#endif
