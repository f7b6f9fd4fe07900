/* piper halt: asks a running job to checkpoint and stop. */
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/command.h"
#include "base/duration.h"
#include "rundir/halt.h"
#include "rundir/lock.h"
#include "cmd/options.h"

/* ---- times ---------------------------------------------------------------------------------------------------- */

static bool matches(const char *text, const char *format, struct tm *tm)
{
    const char *end = strptime(text, format, tm);
    return end && !*end;
}

/* "+H:M:S" from now; "2026-11-21T18:30", with or without seconds; "18:30": when the clock shows that next. Local times. */
static bool read_time(const char *text, time_t now, time_t *out)
{
    uint64_t seconds;
    if (*text == '+' && duration_read(text + 1, &seconds)) {
        *out = now + (time_t)seconds;
        return true;
    }
    struct tm tm = { .tm_isdst = -1 }, today;
    if (matches(text, "%Y-%m-%dT%H:%M:%S", &tm) || matches(text, "%Y-%m-%dT%H:%M", &tm)) {
        *out = mktime(&tm);
        return true;
    }
    localtime_r(&now, &today);
    today.tm_sec = 0;
    if (!matches(text, "%H:%M:%S", &today) && !matches(text, "%H:%M", &today))
        return false;
    today.tm_isdst = -1;
    *out = mktime(&today);
    if (*out <= now) {
        today.tm_mday++;
        today.tm_isdst = -1;
        *out = mktime(&today);
    }
    return true;
}

static enum status read_before(const char *text, struct halt_request *r, struct err *e)
{
    time_t now = time(NULL), at;
    if (!read_time(text, now, &at))
        return err_set(e, ST_USAGE, "--before",
                       "found \"%s\", expected a time such as 18:30 or 2026-11-21T18:30, or +1:30:00 from now", text);
    if (at <= now)
        return err_set(e, ST_USAGE, "--before", "%s is in the past; omit --before to stop after the current step",
                       text);
    r->kind = HALT_BEFORE;
    r->number = (uint64_t)at;
    return ST_OK;
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static void sign(struct halt_request *r)
{
    char host[32] = "";
    const struct passwd *who = getpwuid(getuid());
    gethostname(host, sizeof host - 1);
    snprintf(r->by, sizeof r->by, "%.24s on %s", who ? who->pw_name : "a user", host);
}

static enum status ask(const struct dir *dir, const struct halt_request *r, struct err *e)
{
    bool running;
    struct lock_owner owner;
    TRY(lock_look(dir, &running, &owner, e));
    if (!running)
        return err_set(e, ST_USAGE, dir->path, "no run is active in this directory: nothing to stop");
    TRY(halt_write(dir, owner.run, r, e));
    printf("asked process %ld on %s, running since %s, to stop", owner.pid, owner.host, owner.since);
    if (r->kind == HALT_NOW) {
        printf(" after the current step\n");
    } else if (r->kind == HALT_CHECKPOINTS) {
        printf(" after %llu more %s\n", (unsigned long long)r->number, r->number == 1 ? "checkpoint" : "checkpoints");
    } else {
        char when[32];
        struct tm tm;
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&(time_t){ (time_t)r->number }, &tm));
        printf(" before %s\n", when);
    }
    return ST_OK;
}

struct halt_options {
    struct option_common common;
    uint64_t checkpoints;
    const char *before;
};
#define AT(member) offsetof(struct halt_options, member)
static const struct option options[] = {
    NUMBER("checkpoints", 0, AT(checkpoints), "N", 1, "stop after N more checkpoints"),
    TEXT("before", 0, AT(before), "TIME", "stop before 18:30, 2026-11-21T18:30 or +H:M:S from now"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "halt",
    .synopsis = "RUNDIR [--checkpoints N|--before TIME]",
    .about = "Asks the run in RUNDIR to write a checkpoint and stop: after its current step, or as the options say.",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
};

static enum status halt_command(int argc, char **argv, struct err *e)
{
    struct halt_options o = { 0 };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.common.help) {
        struct halt_request r = { .kind = o.checkpoints ? HALT_CHECKPOINTS : HALT_NOW, .number = o.checkpoints };
        if (o.checkpoints && o.before)
            st = err_set(e, ST_USAGE, "halt", "--checkpoints and --before are mutually exclusive");
        else if (o.before)
            st = read_before(o.before, &r, e);
        sign(&r);
        struct dir dir = { .fd = -1 };
        if (st == ST_OK)
            st = dir_open(o.common.operands.at[0], &dir, e);
        if (st == ST_OK)
            st = ask(&dir, &r, e);
        dir_close(&dir);
    }
    vec_free(&o.common.operands);
    return st;
}

const struct command command_halt = { "halt", "ask a running job to checkpoint and stop", halt_command };
