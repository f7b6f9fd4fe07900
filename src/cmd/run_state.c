#include "cmd/run_state.h"

#include <stdio.h>
#include <string.h>

#include "rundir/lock.h"

enum status run_state_of(const struct dir *run, bool has_log, bool done, struct run_state *out, struct err *e)
{
    struct lock_owner owner;
    *out = (struct run_state){ .killed = false };
    TRY(lock_look(run, &out->running, &owner, e));
    const bool in_job = strcmp(owner.job, "none") != 0;
    if (out->running) {
        snprintf(out->text, sizeof out->text, "running since %s, %s%sprocess %ld on %s", owner.since,
                 in_job ? owner.job : "", in_job ? ", " : "", owner.pid, owner.host);
        return ST_OK;
    }
    out->killed = owner.run[0];
    if (out->killed)
        snprintf(out->text, sizeof out->text, "killed: process %ld on %s is gone; rerun its command to resume",
                 owner.pid, owner.host);
    else
        snprintf(out->text, sizeof out->text, "%s",
                 dir_has(run, "halted") ? "stopped by piper halt; rerun its command to resume"
                 : done                 ? "finished"
                 : has_log              ? "ended; rerun its command to resume"
                                        : "nothing has run here yet");
    return ST_OK;
}
