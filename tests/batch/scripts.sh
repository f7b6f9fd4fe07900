#!/bin/sh
# time-limit: 200
# What the job scripts do with each exit status and signal, with stand-ins for piper, mpirun and the batch systems; and the
# #PBS lines against what OpenPBS knows.
src=${top_srcdir:-.}
case $src in /*) ;; *) src=$PWD/$src ;; esac
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
n=0
unset SLURM_JOB_ID SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID SLURM_RESTART_COUNT PBS_JOBID PBS_NODEFILE PIPER LAUNCH

# expect NAME STATUS LINE...: $got is the status, and the file `out` has all these lines
expect()
{
    name=$1 status=$2 why=
    shift 2
    [ "$got" -eq "$status" ] || why="exit status $got, expected $status"
    for line; do
        grep -q -e "$line" out || why="$why; no line like: $line"
    done
    n=$((n + 1))
    if [ -z "$why" ]; then
        echo "ok $n - $name"
    else
        echo "not ok $n - $name: $why"
        sed 's/^/# /' out
    fi
}
stand_in()
{
    { echo '#!/bin/sh'; cat; } >"$1"
    chmod +x "$1"
}
mkdir bin
# The I-th start of piper ends with the I-th word of `ends`, the last word stays. step-*.h5 before one makes that checkpoint.
stand_in bin/piper <<'E2'
echo "start: $*" >>starts
set -- $(cat ends)
case $1 in
step-*)
    mkdir -p run/checkpoints && : >"run/checkpoints/$1"
    shift
    echo "$*" >ends
    ;;
esac
code=$1
[ $# -eq 1 ] || { shift && echo "$*" >ends; }
[ "$code" != waits ] || {
    trap 'exit 75' USR1
    trap 'exit 1' TERM
    : >waiting
    while :; do sleep 0.1; done
}
exit "$code"
E2
stand_in bin/mpirun <<'E2'
while [ "${1##*/}" != piper ]; do shift; done
exec "$@"
E2
stand_in bin/sleep <<'E2'
[ "$1" = 5 ] || exec /bin/sleep "$@"
E2
for name in scontrol scancel qsub; do
    stand_in bin/$name <<E2
echo "$name \$*"
E2
done
PATH=$dir/bin:$PATH
export PATH PIPER_JOBSCRIPTS="$src/jobscripts"

# begin ENDS...: a new run folder, and how the starts of piper will end
begin()
{
    rm -rf run waiting
    : >starts
    echo "$*" >ends
}
# here, slurm, pbs: the script with its usual arguments; the number of starts goes to the end of `out`
judged()
{
    got=0
    "$@" >out 2>&1 || got=$?
    echo "starts: $(wc -l <starts)" >>out
}
here()
{
    judged sh "$src/jobscripts/piper.sh" 2 job.h5 run
}
restarts=0
slurm()
{
    judged env SLURM_JOB_ID=7 SLURM_NTASKS=2 SLURM_RESTART_COUNT=$restarts sh "$src/jobscripts/piper.slurm" job.h5 run "$@"
}
pbs()
{
    judged env PBS_JOBID=12.server PBS_NODEFILE="$dir/nodes" JOB=job.h5 RUN=run sh "$src/jobscripts/piper.pbs"
}
array() # TASK [ARGUMENT...]
{
    task=$1
    shift
    judged env SLURM_JOB_ID=9 SLURM_ARRAY_JOB_ID=8 SLURM_ARRAY_TASK_ID="$task" SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=3 \
        sh "$src/jobscripts/piper-array.slurm" "$@"
}
printf 'a\na\nb\n' >nodes

# ---- exit statuses
begin 0 && slurm --steps 5
expect 'slurm: 0 is the end' 0 'starts: 1' 'exit status 0'
grep -q '^start: train job.h5 -o run --max-time auto --steps 5$' starts && got=0 || got=1
cp starts out
expect 'slurm: options of piper train are passed on' 0
begin 75 && slurm
expect 'slurm: 75 goes back into the queue' 75 'scontrol requeue 7' 'starts: 1'
for code in 64 65 66 70 71; do
    begin $code && slurm
    expect "slurm: $code stops with a message" $code 'not retrying' 'starts: 1'
done
begin 74 0 && slurm
expect 'slurm: 74 is tried once more' 0 'retrying once' 'starts: 2'
begin 74 && slurm
expect 'slurm: 74 twice is the end' 74 'not retrying' 'starts: 2'
begin 1 0 && slurm
expect 'slurm: a launch that fails is tried once more' 0 'retrying once' 'starts: 2'
begin 127 && slurm
expect 'slurm: a launcher that is missing is not' 127 'not retrying' 'starts: 1'
begin 76 && slurm
expect 'slurm: 76 is tried elsewhere' 76 'scontrol requeue 7' 'starts: 1'
slurm && slurm
expect 'slurm: three times without a checkpoint at most' 76 'giving up' 'not retrying' 'starts: 3'
begin 76 step-0001.h5 76 && slurm && slurm && slurm
expect 'slurm: a new checkpoint begins the count anew' 76 'scontrol requeue 7' 'starts: 3'
begin 76 step-0100.h5 76 step-0200.h5 76 step-0300.h5 76
mkdir -p scratch run && ln -s ../scratch run/checkpoints && slurm && slurm && slurm && slurm
expect 'slurm: so too where the checkpoints lie on another disk' 76 'scontrol requeue 7' 'starts: 4'
rm -rf scratch
begin 76 step-999999.h5 76 step-1000000.h5 76 && slurm && slurm && slurm && slurm
expect 'slurm: and beyond step 999,999' 76 'scontrol requeue 7' 'starts: 4'
begin 75 && slurm && slurm
expect 'slurm: 75 without a newer checkpoint goes back twice' 75 'scontrol requeue 7' 'starts: 2'
slurm
expect 'slurm: and is no progress the third time' 75 'giving up' 'not retrying' 'starts: 3'
begin step-0001.h5 75 step-0002.h5 75 step-0003.h5 75 step-0004.h5 75 && slurm && slurm && slurm && slurm
expect 'slurm: 75 with one each time goes on' 75 'scontrol requeue 7' 'starts: 4'
# shellcheck disable=SC2016 # that nothing expands is the point
for text in 'a[$(touch evil)] x' 'a[`touch evil`]' '-1' '08' '1e3' '99999999999999999999' '$(touch evil)' '' "$(printf '\\033[2J')"; do
    begin 75
    mkdir run && printf '%s\n' "$text" >run/failures && slurm
    [ ! -e evil ] || got=99
    case $text in
    08) expect "failures: \"$text\" counts as 8" 76 'giving up' 'starts: 0' ;;
    *) expect "failures: text is no number and no command ($n)" 75 'scontrol requeue 7' 'starts: 1' ;;
    esac
done
begin 75
mkdir run && echo precious >target && ln -s ../target run/failures && slurm
grep -q precious target || got=98
expect 'failures: a link is replaced, not written through' 75 'scontrol requeue 7'

# ---- what later starts of a job are asked for
options_of() # START: the options of that start go to the end of `out`
{
    sed -n "$1s/^start: train job.h5 -o run --max-time auto/options: /p" starts | sed 's/$/ ./' >>out
}
restarts=0
begin step-0001.h5 75 && slurm --fresh && options_of 1
expect 'a first start: --fresh is passed' 75 '^options:  --fresh \.$'
restarts=1
slurm --fresh && options_of 2
expect 'a start after a checkpoint: --resume instead of --fresh' 75 '^options:  --resume \.$'
restarts=0
slurm --steps 9 && options_of 3
expect 'the job submitted again: neither' 75 '^options:  --steps 9 \.$'
restarts=1
slurm --steps 9 --resume && options_of 4
expect 'and after that --resume, once' 75 '^options:  --steps 9 --resume \.$'
restarts=0
begin 76 && mkdir -p run/checkpoints && : >run/checkpoints/step-0005.h5 && slurm --fresh
restarts=1
slurm --fresh && options_of 2
expect 'a first start that put nothing aside: --fresh holds for the next' 76 '^options:  --fresh \.$'
mkdir run/old.1 && mv run/checkpoints run/old.1
slurm --fresh && options_of 3
expect 'one that did, without a checkpoint: neither' 76 '^options:  \.$'
restarts=0
begin 1 step-0001.h5 0 && slurm --fresh && options_of 2
expect 'a launch that failed: --fresh holds' 0 '^options:  --fresh \.$'
begin step-0001.h5 74 0 && slurm --fresh && options_of 2
expect 'a second start after a checkpoint: --resume' 0 '^options:  --resume \.$'
restarts=3
begin 75 && slurm
expect 'a requeued job whose run folder is missing does not begin' 66 'run does not exist, but this job was started before' 'starts: 0'
restarts=1
begin 75 && mkdir run && echo '1 step-0005.h5' >run/failures && slurm && options_of 1
expect 'checkpoints that were there before the job was requeued must be there' 75 '^options:  --resume \.$'
restarts=0
begin 75 && array 2 job.h5 run
expect 'chain: a later part whose run folder is missing does not begin' 66 'run does not exist'
begin step-0001.h5 75 && array 1 job.h5 run --fresh && array 2 job.h5 run --fresh && options_of 2
expect 'chain: the second part gets --resume' 0 '^options:  --resume \.$'

begin 0
mkdir run && echo '3 ' >run/failures && : >starts && slurm
expect 'slurm: starts that ended without a word count too' 76 'giving up' 'starts: 0'
begin 75
mkdir run && : >run/halted && slurm
expect 'slurm: after piper halt the job does not go back' 75 'stopped by request' 'starts: 1'
begin 76 76 0 && here
expect 'workstation: a lost rank, started again' 0 'starts: 3'
begin 76 && here
expect 'workstation: three times at most' 76 'giving up' 'starts: 3'
begin 75 && pbs
expect 'pbs: 75 submits the next part' 75 'qsub -W depend=afterany:12.server -v JOB=job.h5,RUN=run,PIPER=.*,PIPER_JOBSCRIPTS=' \
    'job 12.server: 3 ranks'
begin 75 && LAUNCH="mpirun -n 2" OMP_NUM_THREADS=8 pbs
expect 'pbs: with the launcher and the threads of this part' 75 '^qsub .*,LAUNCH=mpirun -n 2,OMP_NUM_THREADS=8 ' 'PART=2'
begin 75 && PART=2 pbs
expect 'pbs: a second part needs what the first has left' 66 'run does not exist'
begin 75 && pbs && PART=7 pbs
expect 'pbs: parts are counted' 75 'PART=8'
judged env PBS_JOBID=12.server JOB=job.h5 RUN=a,b sh "$src/jobscripts/piper.pbs"
expect 'pbs: a comma is refused' 64 'found a comma in "a,b"'
begin 65 && pbs
expect 'pbs: 65 does not' 65 'not retrying'
begin 75 && array 1 job.h5 run
expect 'chain: 75 leaves the rest to the next task' 0 'the next task resumes it'
for code in 75 76; do
    begin $code && mkdir run && array 3 job.h5 run
    expect "chain: $code of the last task is not the end" $code 'no task is left'
    ! grep -q 'the next task resumes it' out || got=99
    expect "chain: and does not say that one goes on ($code)" $code
done
begin 65 && array 1 job.h5 run
expect 'chain: 65 takes the waiting tasks away' 65 'scancel --state=PENDING 8'
begin 0 && array 1 job.h5 run
expect 'chain: so does the end' 0 'scancel --state=PENDING 8'
printf 'one.h5 run\ntwo.h5 run --steps 3\n' >list
begin 75 && array 2 list && cat starts >>out
expect 'sweep: a line for each task; 75 goes back into the queue' 75 'scontrol requeue 9' \
    '^start: train two.h5 -o run --max-time auto --steps 3$'
for script in piper.slurm piper-array.slurm piper.pbs piper.sh; do
    got=0
    sh "$src/jobscripts/$script" >out 2>&1 || got=$?
    expect "$script without arguments" 64 '^usage: '
    got=0
    JOB=a RUN=b PIPER_JOBSCRIPTS=nowhere sh "$src/jobscripts/$script" 1 a b >out 2>&1 || got=$?
    expect "$script without batch.sh" 66 'nowhere/batch.sh is missing'
done

# ---- signals
# signalled SIGNAL COMMAND...: the script gets it when piper runs
signalled()
{
    signal=$1
    shift
    begin waits
    "$@" >out 2>&1 &
    script=$!
    until [ -e waiting ]; do /bin/sleep 0.1; done
    kill -"$signal" $script
    wait $script
    got=$?
}
export SLURM_JOB_ID=7
signalled USR1 sh "$src/jobscripts/piper.slurm" job.h5 run
expect 'slurm: USR1 reaches piper as USR1, and the job goes back' 75 'got USR1' 'scontrol requeue 7'
signalled TERM sh "$src/jobscripts/piper.slurm" job.h5 run
expect 'slurm: TERM reaches piper as USR1, and the job does not go back' 75 'got TERM' 'stopped by request'
signalled TERM sh "$src/jobscripts/piper.sh" 2 job.h5 run
expect 'workstation: TERM reaches piper as USR1' 75 'got TERM'

# ---- launchers: with what they do when scancel, a limit of time or a lost rank comes
mkdir real
if ${CC:-cc} -O1 -o real/launcher "$src/tests/batch/launcher.c" 2>out && ln real/launcher real/piper; then
    default='env --default-signal=INT --default-signal=HUP' # a script's background ignores INT
    $default true 2>/dev/null || default=
    # job KIND SIGNAL WHOM COMMAND...: the script in a session of its own gets the signal when its rank runs; WHOM: every, as scancel
    # does, or script
    job()
    {
        kind=$1 signal=$2 whom=$3
        shift 3
        rm -rf run && mkdir run
        # shellcheck disable=SC2086 # words
        LAUNCH="$dir/real/launcher $kind" PIPER=$dir/real/piper setsid $default "$@" >out 2>&1 &
        script=$!
        until [ -e run/running ]; do /bin/sleep 0.1; done
        [ "$whom" != every ] || env kill -"$signal" -- -$script
        [ "$whom" != script ] || kill -"$signal" $script
        wait $script
        got=$?
        ls run/checkpoints >>out 2>&1
    }
    for kind in openmpi4 openmpi5 hydra pals srun; do
        job "$kind" TERM every sh "$src/jobscripts/piper.slurm" job.h5 run
        expect "$kind: scancel, which signals all processes: a checkpoint" 75 'step-000007.h5' 'stopped by request'
        job "$kind" USR1 script sh "$src/jobscripts/piper.slurm" job.h5 run
        expect "$kind: USR1 to the script: a checkpoint, and back into the queue" 75 'step-000007.h5' 'scontrol requeue 7'
        began=$(date +%s)
        RANK_DIES=1 job "$kind" none none sh "$src/jobscripts/piper.slurm" job.h5 run
        [ $(($(date +%s) - began)) -le $((6 * ${TEST_TIME_SCALE:-1})) ] || got=99
        expect "$kind: a lost rank: the end at once" 137 'requeueing'
    done
    job openmpi4 INT every sh "$src/jobscripts/piper.slurm" job.h5 run
    expect 'INT to all: a checkpoint' 75 'step-000007.h5' 'stopped by request'
    unset SLURM_JOB_ID
    for signal in INT TERM HUP; do
        job openmpi5 $signal every sh "$src/jobscripts/piper.sh" 2 job.h5 run
        expect "workstation: $signal from the terminal: a checkpoint" 75 'step-000007.h5'
    done
    rm -rf run && mkdir run
    # shellcheck disable=SC2086 # words
    SAVE_SECONDS=60 LAUNCH="$dir/real/launcher openmpi4" PIPER=$dir/real/piper setsid $default \
        sh "$src/jobscripts/piper.sh" 2 job.h5 run >out 2>&1 &
    script=$!
    until [ -e run/running ]; do /bin/sleep 0.1; done
    began=$(date +%s)
    kill -INT $script && /bin/sleep 2.5 && kill -INT $script
    wait $script
    got=$?
    [ $(($(date +%s) - began)) -le $((10 * ${TEST_TIME_SCALE:-1})) ] || got=99
    expect 'workstation: a second Ctrl-C ends at once' 1 'got INT again'
fi

# ---- directives of OpenPBS: names, and the resources that qsub(1B) and pbs_resources(7B) have
known()
{
    awk '
    function bad(what) { print FILENAME ":" FNR ": " what ": " $0; wrong = 1 }
    function resource(r,   pair, chunks, parts, i, j) {
        split(r, pair, "=")
        if (pair[1] == "walltime") {
            if (r !~ /^walltime=([0-9]+:[0-5][0-9]|[0-9]+):[0-5][0-9]$/) bad("no walltime")
        } else if (pair[1] == "select") {
            sub(/^select=/, "", r)
            j = split(r, chunks, "+")
            for (i = 1; i <= j; i++)
                if (chunks[i] !~ /^[0-9]+(:(ncpus|mpiprocs|ompthreads|ngpus)=[0-9]+|:mem=[0-9]+[kmgt]b)+$/) bad("no chunk")
        } else if (r !~ /^place=(free|pack|scatter)(:(excl|shared|exclhost))?$/) bad("no resource of a job")
    }
    /^#PBS/ {
        lines++
        if ($0 !~ /^#PBS -[A-Za-z] [^ ]+$/) { bad("not -X VALUE"); next }
        if ($2 == "-l") resource($3)
        else if ($2 == "-N") { if ($3 !~ /^[A-Za-z][A-Za-z0-9_.+-]*$/ || length($3) > 230) bad("no name") }
        else if ($2 == "-S") { if ($3 !~ /^\//) bad("no path of a shell") }
        else if ($2 == "-j") { if ($3 !~ /^(oe|eo|n)$/) bad("not oe, eo, n") }
        else if ($2 == "-r") { if ($3 !~ /^[yn]$/) bad("not y or n") }
        else bad("unknown option")
        if (code) bad("after the first command, where PBS does not look")
    }
    !/^#/ && NF { code = 1 }
    END { if (lines < 5) { print "found " lines + 0 " #PBS lines"; wrong = 1 }; exit wrong }' "$1" >out
}
got=0
known "$src/jobscripts/piper.pbs" || got=$?
expect 'piper.pbs: every directive is one of OpenPBS' 0
for wrong in '-l nodes=1:ppn=4' '-l select=1:ncpu=4' '-l select=1:ncpus=4:mem=4' '-Q x' '-j eoe' '-l walltime=1:75:00'; do
    sed "s/^#PBS -j oe/#PBS $wrong/" "$src/jobscripts/piper.pbs" >wrong.pbs
    got=0
    known wrong.pbs || got=$?
    expect "\"$wrong\" is none" 1 'wrong.pbs:[0-9]*: '
done
echo "1..$n"
