#!/bin/sh
# time-limit: 400
# Every signal that a run answers, at every phase of it. A rank of piper-fault stops itself where a phase begins, gets the signal
# and goes on: so it is there for certain. Here: TERM and USR2 on one rank, the other signals in some phases, and TERM on four ranks;
# signals_all.sh has the rest.
. "${top_srcdir:-.}"/tests/fault/lib.sh || exit 99
unset SLURM_JOB_ID SLURM_JOB_END_TIME PBS_JOBID
head -c 600 text >few && "$piper" data text few -o few.h5 >out 2>&1 || exit 99
settings='train.steps=6 train.checkpoint_every=3 train.eval_data=few.h5 train.eval_every=2'
# shellcheck disable=SC2086 # words
build job1 tiny one $settings
# shellcheck disable=SC2086 # words
build job4 tiny pp2dp2 $settings

default='env --default-signal=INT' # a script's background ignores it
$default true 2>/dev/null || { echo 'this env cannot set the default of a signal'; exit 77; }

phases=phases
# PHASE CALL: the call before which the rank stops. Runs 1 and 2 are steps, the next is a batch of evaluation
cat >phases <<'P'
start     MPI_Init_thread:1
read      phase@start:1
compile   phase@compile:1
open      phase@open:1
resume    phase@resume:1
first     run:1
step      run:2
evaluate  run:3
save      phase@checkpoint:1
write     fsync@step-:1
end       phase@end:1
P

# What has to come of it: a stop with a checkpoint of the last step, from which the run goes on; at the end, the end.
stopped_well()
{
    [ "$status" -eq 75 ] && grep -q 'rerun the same command to resume' run/log.txt && [ "$(last_step run)" -lt 6 ] && kept &&
        go_on && kept
}
go_on()
{
    train "$ranks" job run
}
ended_well()
{
    [ "$status" -eq 0 ] && [ "$(last_step run)" -eq 6 ] && kept
}
kept()
{
    "$piper" checkpoint verify "run/checkpoints/step-$(printf %06d "$(last_step run)").h5" >>out 2>&1
}
# Signal USR2: one checkpoint more; PIPE: nothing. Both go on to the end.
judge()
{
    case $1-$2 in
    USR2-first) ended_well && [ "$(checkpoints run)" -eq 3 ] ;;
    USR2-* | PIPE-* | *-end) ended_well ;;
    *-write) ended_well || { [ "$status" -eq 75 ] && kept && go_on && kept; } ;; # the steps may have been made meanwhile
    *) stopped_well ;;
    esac
}

# at PHASE CALL RANKS SIGNAL...: the last rank stops there, gets the signals, and goes on
at()
{
    phase=$1 call=$2 ranks=$3
    shift 3
    cp "job$ranks.h5" job.h5
    rm -rf run mark pid.*
    if [ "$ranks" -eq 1 ]; then
        PIPER_FAULT=0:$call:stop PIPER_FAULT_MARK=$dir/mark $default ./piper-fault train job.h5 -o run --hang-timeout 60 >out 2>&1 &
        launched=$!
        echo $launched >pid.0
    else
        good=$piper piper=$dir/piper-fault
        PIPER_FAULT=$((ranks - 1)):$call:stop PIPER_FAULT_MARK=$dir/mark expect=199 launch "$ranks" job run --hang-timeout 60
        piper=$good
    fi
    tries=$((300 * ${TEST_TIME_SCALE:-1}))
    until [ -s mark ] && read -r pid <"pid.$((ranks - 1))" && grep -q '^State:.T' "/proc/$pid/status" 2>/dev/null; do
        sleep 0.05
        tries=$((tries - 1))
        [ $tries -gt 0 ] || break
    done
    for signal; do
        kill -"$signal" "$pid"
    done
    kill -CONT "$pid"
    wait "$launched"
    status=$?
    [ "$ranks" -eq 1 ] || status=$(sed -n 's/^run-mpi: .* ranks: exit status \([0-9]*\), expected 199$/\1/p' out)
    status=${status:-0}
    echo "$* at $phase ($call) on $ranks ranks: exit status $status, last step $(last_step run)" >>out
    [ $tries -gt 0 ]
}
wait_for_mark()
{
    tries=$((300 * ${TEST_TIME_SCALE:-1}))
    until [ -s mark ]; do
        sleep 0.05
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
    done
}
# table RANKS SIGNAL...: a case a phase
table()
{
    ranks=$1
    shift
    for signal; do
        while read -r phase call <&3; do
            at "$phase" "$call" "$ranks" "$signal" && judge "$signal" "$phase"
            result "$signal at $phase, $ranks ranks"
        done 3<"$phases"
    done
}

if [ -n "${ALL-}" ]; then
    table 1 INT HUP USR1 PIPE
    table 4 INT HUP USR1 USR2 PIPE
else
    table 1 TERM USR2
    grep -E '^(start|first|save|end) ' phases >some
    table 4 TERM
    phases=some
    table 1 INT HUP USR1 PIPE
    at step run:2 1 TERM INT HUP && judge TERM step
    result 'TERM, INT and HUP at once are one wish'
    # a step without end: the first is noted and never obeyed
    for signal in TERM INT HUP; do
        rm -rf run mark
        PIPER_FAULT=0:run:2:spin PIPER_FAULT_MARK=$dir/mark $default ./piper-fault train job1.h5 -o run --hang-timeout 60 >out 2>&1 &
        pid=$!
        wait_for_mark && kill -$signal $pid && sleep 1.5 && kill -USR1 $pid && sleep 0.1 && kill -0 $pid && kill -$signal $pid
        wait $pid
        status=$?
        echo "exit status $status" >>out
        [ $status -eq $((128 + $(env kill -l $signal))) ] && grep -q "^piper: $signal again: ending at once" out
        result "$signal, and once more later, ends at once"
    done
fi
echo "1..$n"
