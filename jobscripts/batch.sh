# shellcheck shell=sh
# Read by the job scripts beside it: starts piper, passes on the wish to stop, and judges how it ended.
#
# The caller sets
#     piper, job, run    the program, the job file, the run folder
#     launch             the command that starts the ranks: mpirun or srun with its options
#     attempts           (3) starts in a row that may end without a new checkpoint
# and calls: piper_train [OPTION OF piper train...]. It sets `status`, piper's exit status, and `verdict`:
#     finished    the last step is done
#     again       the time is up, there is a good checkpoint: the same again, as a new job
#     elsewhere   a rank was lost or hangs: the same again, better on other nodes
#     halted      a person asked for the stop: nothing more
#     failed      trying again would not help; the reason stands above

say()
{
    echo "$(date '+%F %T') $*"
}

# mpirun gives its ranks one second after a TERM. A USR1 it passes on, and piper answers that with a checkpoint and exit
# status 75. So every wish to stop reaches mpirun (or srun, which passes on all signals) as USR1.
pid='' asked=''
# shellcheck disable=SC2317 # called by trap
pass_on()
{
    asked="$asked $1"
    say "got $1: asking piper for a checkpoint and an end"
    [ -z "$pid" ] || kill -USR1 "$pid" 2>/dev/null
}
trap 'pass_on USR1' USR1
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT
trap '[ -z "$pid" ] || kill -USR2 "$pid"' USR2 # a checkpoint, and on

# One start; sets status. A trapped signal ends `wait` early, so it waits until the process is gone.
start()
{
    # shellcheck disable=SC2086,SC2154 # the launcher and its options; set by the caller
    $launch "$piper" train "$job" -o "$run" "$@" &
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

# Starts are counted in RUNDIR/failures until one ends well: so a job that loses its node at every start, which kills
# this script too, comes to an end. A new checkpoint begins the count anew.
count_start()
{
    mkdir -p "$run" || return
    newest=$(find "$run/checkpoints" -name 'step-*.h5' 2>/dev/null | LC_ALL=C sort | tail -n 1)
    count=0 before=''
    [ ! -f "$run/failures" ] || read -r count before <"$run/failures"
    [ "$before" = "${newest##*/}" ] || count=0
    count=$((count + 1))
    echo "$count ${newest##*/}" >"$run/failures"
}

# 74 is often a file system's bad moment; so is a launch that fails, or a requeued job's first one.
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
        if [ -n "$asked" ]; then
            verdict=again # there was no time for a checkpoint: it goes on from the one before
        elif [ "$count" -ge "${attempts:-3}" ]; then
            say "$count starts in a row have ended without a new checkpoint: giving up"
            verdict=failed
        fi
        ;;
    esac
    # Slurm and PBS send TERM when a person deletes the job. What they want back they start again themselves.
    case "$verdict $asked" in
    again*TERM* | again*INT*) verdict=halted ;;
    again*) [ ! -e "$run/halted" ] || verdict=halted ;;
    esac
    [ $verdict = elsewhere ] || rm -f "$run/failures"
}

piper_train()
{
    count_start || { status=74 verdict=failed; return; }
    if [ "$count" -gt "${attempts:-3}" ]; then
        say "the last $((count - 1)) starts have ended without a new checkpoint: giving up"
        rm -f "$run/failures"
        status=76 verdict=failed
        return
    fi
    began=$(date +%s)
    start "$@"
    if worth_a_second_start; then
        say 'starting it once more'
        sleep 5
        start "$@"
    fi
    judge
}
