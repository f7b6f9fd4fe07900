#!/bin/sh
# time-limit: 300
# piper halt, one run at a time in a folder, limits of time from the batch system, and signals in bad moments.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
unset SLURM_JOB_ID SLURM_JOB_END_TIME PBS_JOBID

# newest RUN: the checkpoint of the last step is there and whole
newest_is_whole()
{
    "$piper" checkpoint verify "$1/checkpoints/step-$(printf %06d "$(last_step "$1")").h5" >>out 2>&1
}
# asks RUN [OPTION...]: piper halt, with its answer in `said`
asks()
{
    "$piper" halt "$@" >said 2>&1 || { cat said >>out && return 1; }
}
# refuses STATUS PATTERN COMMAND...: ends so, with one line like that on stderr
refuses()
{
    status=$1 pattern=$2
    shift 2
    got=0
    "$@" >said 2>&1 || got=$?
    cat said >>out
    [ $got -eq "$status" ] && [ "$(grep -c '^piper: ' said)" -eq 1 ] && grep -q "$pattern" said
}

# ---- piper halt
build long gpt2 zero3 train.steps=1000000 train.checkpoint_every=50
expect=75 launch 2 long h
await 10 h && asks h && grep -q 'to stop after the current step' said && wait "$launched" && newest_is_whole h &&
    grep -q 'piper halt' h/halted && [ ! -e h/halt ]
result 'halt: 75 with a checkpoint, and the folder says who asked'
printf 'run 0123456789abcdef\nnow 0\nby an old one\n' >h/halt
expect=75 launch 2 long h
from=$(last_step h)
await $((from + 20)) h && [ ! -e h/halt ] && [ ! -e h/halted ] && printf 'run 0123456789abcdef\nnow 0\nby an old one\n' >h/halt &&
    sleep 1.5 && await "$(($(last_step h) + 10))" h && asks h --checkpoints 2 && wait "$launched" &&
    [ $(($(last_step h) % 50)) -eq 0 ] && newest_is_whole h &&
    written=$(tac h/log.txt | sed -n '/: will stop after 2 more/q;/checkpoint of step/p' | wc -l) &&
    [ "$written" -ge 2 ] && [ "$written" -le 3 ] # one may have been under way
result 'halt --checkpoints 2; requests for earlier runs change nothing'
expect=75 launch 2 long h
from=$(last_step h)
await $((from + 20)) h && asks h --before +0:0:6 && wait "$launched" && newest_is_whole h &&
    [ "$(stat -c %Y h/halted)" -le "$(date -d "$(sed 's/.*before //' said)" +%s)" ]
result 'halt --before'
refuses 64 'no run is active' "$piper" halt h && refuses 66 'no such directory' "$piper" halt nowhere &&
    refuses 66 'h/log.txt: is a regular file, expected a run directory' "$piper" halt h/log.txt &&
    refuses 66 'no such directory' "$piper" halt h/log.txt/run &&
    refuses 64 'mutually exclusive' "$piper" halt h --before 18:30 --checkpoints 1 &&
    refuses 64 'is in the past' "$piper" halt h --before 2001-01-01T12:00 &&
    refuses 64 'expected a time' "$piper" halt h --before tomorrow && refuses 64 'expected a time' "$piper" halt h --before 25:00
result 'halt: what it refuses'

# ---- one run at a time
expect=75 launch 2 long h
from=$(last_step h)
await $((from + 20)) h && pid=$(cat pid.0) &&
    refuses 64 "another run is active in this directory: process $pid on $(hostname) since" \
        sh "$src/tests/run-mpi" -x 64 "$piper" 2 train long.h5 -o h --fresh
await "$(($(last_step h) + 20))" h && [ ! -d h/old.1 ] && asks h && wait "$launched" && newest_is_whole h
result 'a second run in the folder is refused and leaves the first alone'
launch 2 long h
from=$(last_step h)
await $((from + 20)) h && kill -9 "$(cat pid.0)" "$(cat pid.1)"
wait "$launched"
[ -s h/lock ] && train 2 long h --steps "$(($(last_step h) + 5))" && [ ! -s h/lock ] && ! grep -q 'checking whether' out
result 'after kill -9 the next run takes the folder over'

build short gpt2 one train.steps=10 train.checkpoint_every=4
"$piper" train short.h5 -o f --steps 6 >out 2>&1
foreign() # SECONDS: the lock of a run elsewhere that changed it so long ago
{
    printf 'run 0123456789abcdef\nhost elsewhere.invalid\npid 1\nsince 2001-01-01 00:00:00\njob none\n' >f/lock
    touch -d "$1 seconds ago" f/lock
}
foreign 0
while sleep 1; do touch f/lock; done &
alive=$!
refuses 64 'process 1 on elsewhere.invalid since 2001-01-01' "$piper" train short.h5 -o f && asks f --before 00:00 && rm f/halt # that is over, whatever the clock shows
result 'a run on another host that changes its lock is alive'
kill $alive
foreign 13
"$piper" train short.h5 -o f >out 2>&1 &
pid=$!
waited=no
tries=60
while [ $tries -gt 0 ] && [ $waited = no ]; do
    sleep 0.1
    tries=$((tries - 1))
    grep -q 'checking whether it is alive' out && waited=yes && kill -USR1 $pid
done
wait $pid
[ $? -eq 75 ] && [ $waited = yes ] && [ "$(last_step f)" -eq 6 ] && grep -q 'resuming from the checkpoint of step 6' out
result 'one that does not is taken over; USR1 while it starts: 75 and not a step'
foreign 3600
"$piper" train short.h5 -o f >out 2>&1 && [ "$(last_step f)" -eq 10 ] && ! grep -q 'checking whether' out
result 'one that has not for an hour is taken over at once'

# ---- signals in bad moments
build evals gpt2 one train.steps=1000000 train.eval_data=tokens.h5 train.eval_every=1
expect=75 launch 1 evals e
await 2 e && kill -USR1 "$(cat pid.0)" && wait "$launched" && newest_is_whole e &&
    { [ "$(column e eval_loss | tail -n 1 | cut -d' ' -f1)" = "$(last_step e)" ] || grep -q "after step $(last_step e) is deferred" e/log.txt; }
result 'USR1 while it evaluates: 75, and the evaluation is made or said to be left'
build saves gpt2 zero3 train.steps=1000000 train.checkpoint_every=1
expect=75 launch 2 saves s
await 5 s && kill -TERM "$(cat pid.1)" && wait "$launched" && newest_is_whole s
result 'TERM while it writes checkpoints'

# ---- --max-time auto, with stand-ins for the batch systems' programs
mkdir bin
program() # NAME <TEXT: prints that
{
    { echo '#!/bin/sh'; echo "cat <<'TEXT'"; cat; echo TEXT; } >bin/"$1"
    chmod +x bin/"$1"
}
# auto STATUS PATTERN [SETTING...]: a run of one rank in such an environment; its log has a line like that
auto()
{
    expected=$1 pattern=$2
    shift 2
    rm -rf a
    got=0
    env PATH="$dir/bin:$PATH" "$@" timeout 60 "$piper" train "$job.h5" -o a --max-time auto >out 2>&1 || got=$?
    echo "status $got, expected a line with: $pattern, settings: $*" >>out
    [ $got -eq "$expected" ] && grep -q "$pattern" a/log.txt && newest_is_whole a
}
build endless gpt2 one train.steps=1000000
job=short
auto 0 'not in a Slurm or PBS job, so there is no time limit'
result 'auto outside a batch job'
program squeue <<'T'
8 7:00
7 UNLIMITED
T
auto 0 'no time limit for Slurm job 7' SLURM_JOB_ID=7
result 'auto: a Slurm job without a limit'
program squeue <<'T'
77 7:00
9 7:00
7 6:19
17 5:00
T
auto 0 'Slurm job 7 has 6:19 left (squeue)' SLURM_JOB_ID=7 && auto 0 'could not find out the time limit' SLURM_JOB_ID=1
result 'auto: the line of this task, among those of an array that has its number'
printf '#!/bin/sh\nexit 1\n' >bin/squeue
program scontrol <<'T'
JobId=9 ArrayJobId=7 JobName=x RunTime=00:00:00 TimeLimit=00:07:00 Command=/bin/true
JobId=7 ArrayJobId=7 JobName=x RunTime=1-00:00:10 TimeLimit=1-00:00:30 Command=/bin/true
T
auto 0 'Slurm job 7 has 0:20 left (scontrol)' SLURM_JOB_ID=7 && auto 0 'could not find out the time limit' SLURM_JOB_ID='7;touch evil' &&
    auto 0 'could not find out the time limit' SLURM_JOB_ID='-h' && [ ! -e evil ]
result 'auto: scontrol; a job id that is none is not asked for'
program qstat <<T
Job Id: 12.server
    resources_used.walltime = 00:00:03
    Resource_List.select = 1:ncpus=4
    Resource_List.walltime = 00:20:00
    stime = $(LC_ALL=C date -d '10 minutes ago' '+%a %b %e %H:%M:%S %Y')
T
auto 0 'PBS job 12.server has \(10:00\|9:5[0-9]\) left (qstat)' PBS_JOBID=12.server
result 'auto: qstat, counted from the start of the job'
printf '#!/bin/sh\nexit 1\n' >bin/qstat
touch -d '100 seconds ago' nodes
auto 0 'PBS job 12.server has 1:[0-4][0-9] left (PBS_WALLTIME)' PBS_JOBID=12.server PBS_WALLTIME=200 PBS_NODEFILE="$dir/nodes" &&
    auto 0 'could not find out the time limit of PBS job 12.server' PBS_JOBID=12.server
result 'auto: PBS_WALLTIME, and no answer at all'
job=endless
end=$(($(date +%s) + 9))
auto 75 'left (SLURM_JOB_END_TIME)' SLURM_JOB_ID=7 SLURM_JOB_END_TIME=$end && [ "$(date +%s)" -le $end ] &&
    grep -q 'rerun the same command to resume' a/log.txt
result 'auto: it stops with 75 before the end of the job'
echo "1..$n"
