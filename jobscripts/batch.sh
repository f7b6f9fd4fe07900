# shellcheck shell=sh
# Sourced by the job scripts next to it: starts piper, forwards signals that ask it to stop, and judges how it ended.
#
# The caller sets
#     piper, job, run    the program, the job file, the run directory
#     launch             the command that starts the ranks: mpirun or srun with its options
#     attempts           (3) consecutive starts that may end without a new checkpoint
#     later              not empty: this job was started before, by this script or by the previous part
#     session            setsid: run the launcher in a session of its own, out of reach of the terminal's signals
# and calls: piper_train [OPTION OF piper train...]. --fresh applies to the first start of a job; once a start has written a
# checkpoint, later ones get --resume: there must be one. It sets `status`, piper's exit status, and `verdict`:
#     finished    the last step is done
#     again       out of time, with a good checkpoint: run the same again, as a new job
#     elsewhere   a rank was lost or hangs: run the same again, preferably on other nodes
#     halted      stopped by a user: do not restart
#     failed      a retry would not help; the reason is above

say()
{
    echo "$(date '+%F %T') $*"
}

# number TEXT [OTHERWISE]: a number of up to nine digits, as the shell counts with it; of anything else OTHERWISE (0). Files and
# the environment hold text, which must not reach $(( )).
number()
{
    case $1 in
    '' | *[!0-9]* | ??????????*) echo "${2-0}" ;;
    *) echo "$1" | sed 's/^00*\(.\)/\1/' ;;
    esac
}

# ---- launchers

# scancel and a time limit signal every process of a job: ranks, this script and the launcher. mpirun reacts to a TERM by killing
# its ranks within a second or two, in the middle of a checkpoint; a longer grace period would delay it as much when a rank is
# lost. So launchers run with TERM, INT and HUP blocked: ranks get them directly or, from this script, as USR1, which every
# launcher forwards and piper answers with a checkpoint and exit status 75. The launcher still sees a lost rank at once.
block='env --block-signal=TERM --block-signal=INT --block-signal=HUP'
$block true 2>/dev/null || block='' # coreutils before 8.31
deafly()
{
    # shellcheck disable=SC2086 # words
    if [ -n "$block" ]; then
        exec $block "$@"
    elif command -v perl >/dev/null; then
        exec perl -MPOSIX -e 'sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM, SIGINT, SIGHUP)); exec { $ARGV[0] } @ARGV; exit 127' "$@"
    fi
    exec "$@"
}
# Open MPI's daemons on other nodes, which batch systems signal too: of version 4, and 5.
if [ -n "$block" ] && [ -n "${SLURM_JOB_ID-}${PBS_JOBID-}" ]; then
    export OMPI_MCA_orte_launch_agent="${OMPI_MCA_orte_launch_agent:-$block orted}" \
        PRTE_MCA_prte_launch_agent="${PRTE_MCA_prte_launch_agent:-$block prted}"
fi

# ---- signals

# A second INT, HUP or TERM, later than a second after the first, ends the launcher too.
pid='' asked='' asked_at=''
# shellcheck disable=SC2317 # called by trap
pass_on()
{
    if [ "$1" != USR1 ] && [ -n "$asked_at" ] && [ $(($(date +%s) - asked_at)) -gt 1 ]; then
        say "got $1 again: terminating now"
        [ -n "$pid" ] || return
        kill -TERM "$pid" 2>/dev/null
        [ -n "${session-}" ] || { sleep 1 && kill -KILL "$pid" 2>/dev/null; }
        return
    fi
    [ "$1" = USR1 ] || asked_at=${asked_at:-$(date +%s)}
    asked="$asked $1"
    say "got $1: asking piper to checkpoint and stop"
    [ -z "$pid" ] || kill -USR1 "$pid" 2>/dev/null
}
trap 'pass_on USR1' USR1
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT
trap 'pass_on HUP' HUP
trap '[ -z "$pid" ] || kill -USR2 "$pid"' USR2 # checkpoint and continue
trap '' PIPE                                   # the reader of the output may go away

# ---- starts

# One start; sets status. A trapped signal ends `wait` early, so it waits until the process is gone.
start()
{
    # shellcheck disable=SC2086,SC2154 # the launcher and its options; set by the caller
    ${session:-deafly} $launch "$piper" train "$job" -o "$run" "$@" &
    pid=$!
    [ -z "$asked" ] || kill -USR1 "$pid" # it came while the launcher was not there yet
    while :; do
        wait "$pid"
        status=$?
        kill -0 "$pid" 2>/dev/null || break
    done
    # a signal between the end of wait and here has left its own status: ask again
    wait "$pid" 2>/dev/null
    last=$?
    [ $last -eq 127 ] || status=$last
    pid=''
    say "piper ended with exit status $status"
}

# The name of the latest checkpoint, or nothing. The directory may be a link to another disk.
newest_checkpoint()
{
    find "$run/checkpoints/" -name 'step-*.h5' 2>/dev/null | sed -n 's,^.*/step-\([0-9][0-9]*\)\.h5$,\1,p' |
        awk '$1 + 0 >= most { most = $1 + 0; name = $1 } END { if (name != "") printf "step-%s.h5", name }'
}
folders_aside()
{
    find "$run/" -maxdepth 1 -name 'old.*' 2>/dev/null | grep -c .
}

# RUNDIR/failures, while a job is in progress: how many starts left no newer checkpoint, which one was the latest before
# the last of them, and what the directory had when --fresh was given: "COUNT NEWEST", "fresh FOLDERS NEWEST". The count ends
# a job that loses its node at every start, which kills this script too, or that is stopped before it completes a step.
read_note()
{
    count=0 before='' aside='' replaced=''
    [ -f "$run/failures" ] || return 0
    {
        read -r count before
        read -r word aside replaced && [ "$word" = fresh ] || aside=''
    } <"$run/failures"
    count=$(number "$count")
}
write_note()
{
    note=$(mktemp "$run/failures.XXXXXX") || return
    {
        printf '%s %s\n' "$count" "$before"
        [ -z "$aside" ] || printf 'fresh %s %s\n' "$aside" "$replaced"
    } >"$note" && mv -f "$note" "$run/failures"
}

count_start()
{
    if [ -n "${later-}" ] && [ ! -d "$run" ]; then
        say "$run does not exist, but this job was started before: is its file system mounted? If nothing is missing: mkdir $run and resubmit"
        return 66
    fi
    mkdir -p "$run" || return 74
    read_note
    newest=$(newest_checkpoint)
    made=$before
    if [ "$before" != "$newest" ]; then
        count=0 before=$newest
        made=${newest:-$made}
    fi
    count=$((count + 1))
}

# Options of this start: --fresh only until something was moved aside or written, --resume only if an earlier start left a
# checkpoint.
choose_options()
{
    fresh=no
    for word; do
        [ "$word" != --fresh ] || fresh=yes
    done
    if [ -z "${later-}" ]; then
        [ $fresh = no ] || { aside=$(folders_aside) replaced=$newest; }
    elif [ -z "$aside" ]; then
        fresh=no
    elif [ "$aside" != "$(folders_aside)" ] || [ "$replaced" != "$newest" ]; then
        fresh=no aside='' made=$newest
    fi
    resume=no
    [ -z "${later-}" ] || [ -z "$made" ] || [ $fresh = yes ] || resume=yes
}

# start_as_chosen OPTION...: as start, without --fresh or with --resume
start_as_chosen()
{
    turns=$#
    while [ "$turns" -gt 0 ]; do
        word=$1
        shift
        { [ "$word" = --fresh ] && [ "$fresh" = no ]; } || { [ "$word" = --resume ] && [ "$resume" = yes ]; } || set -- "$@" "$word"
        turns=$((turns - 1))
    done
    [ "$resume" = no ] || set -- "$@" --resume
    start "$@"
    later=yes
}

# 74 is often a transient failure of a file system; so is a failed launch, or the first one of a requeued job.
worth_a_second_start()
{
    [ -z "$asked" ] || return 1
    case $status in
    74) ;;
    0 | 6[4-9] | 7[0-6] | 126 | 127) return 1 ;;
    *) [ $(($(date +%s) - began)) -lt 60 ] ;;
    esac
}

judge()
{
    case $status in
    0) verdict=finished ;;
    75) verdict=again ;;
    6[4-9] | 7[0-4] | 126 | 127) verdict=failed ;;
    *) # 76, or ranks or launcher were killed
        verdict=elsewhere
        [ -z "$asked" ] || verdict=again # no time for a checkpoint: it resumes from the one before
        ;;
    esac
    # Slurm and PBS send TERM when a user deletes the job. What they requeue they start again themselves.
    case "$verdict $asked" in
    again*TERM* | again*INT* | again*HUP*) verdict=halted ;;
    again*) [ ! -e "$run/halted" ] || verdict=halted ;;
    esac
    case $verdict in
    again | elsewhere)
        if [ "$count" -ge "${attempts:-3}" ] && [ "$(newest_checkpoint)" = "$before" ]; then
            say "$count consecutive starts ended without a new checkpoint: giving up"
            verdict=failed
        fi
        ;;
    esac
    case $verdict in
    finished | halted | failed) rm -f "$run/failures" ;;
    esac
}

piper_train()
{
    count_start || {
        status=$? verdict=failed
        return
    }
    if [ "$count" -gt "${attempts:-3}" ]; then
        say "the last $((count - 1)) starts ended without a new checkpoint: giving up"
        rm -f "$run/failures"
        status=76 verdict=failed
        return
    fi
    choose_options "$@"
    write_note || {
        status=74 verdict=failed
        return
    }
    began=$(date +%s)
    start_as_chosen "$@"
    if worth_a_second_start; then
        say 'retrying once'
        sleep 5
        newest=$(newest_checkpoint)
        made=${newest:-$made}
        choose_options "$@"
        start_as_chosen "$@"
    fi
    judge
}
