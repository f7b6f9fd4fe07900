#!/bin/sh
# time-limit: 1500
# The slower half of the job scripts in a real Slurm: limits of time, a node that dies, many nodes, a sweep, srun.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
. "$src/tests/batch/cluster.sh"
trap 'cluster_down; ranks_end; rm -rf "$dir"' EXIT
trap 'exit 99' HUP INT TERM

export PIPER="$piper" PIPER_JOBSCRIPTS="$src/jobscripts"
cluster_expire=5 cluster_silence=10
cluster_up
# shows RUN STEPS: the run has made so many steps, each once, and its last checkpoint is whole
shows()
{
    cat piper-"$jobid".txt >>out
    [ "$(last_step "$1")" -eq "$2" ] && awk -F, 'NR > 1 && $1 != NR - 1 { exit 1 }' "$1/metrics.csv" &&
        "$piper" checkpoint verify "$1/checkpoints/step-$(printf %06d "$2").h5" >>out 2>&1
}

# ---- launchers: what scancel, a lost rank and a lost node come to. The table in piper-train(1) has the figures
# A checkpoint that takes longer than the second that mpirun would give its ranks.
cat >slow.c <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int fsync(int fd)
{
    int (*real)(int);
    *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    sleep(4);
    return real(fd);
}
C
${CC:-cc} -O1 -fPIC -shared -o slow.so slow.c -ldl || exit 99
layout 1 2 gpipe 1 >dp2.json
build pair gpt2 dp2 train.steps=1000000
launchers='mpirun srun'
launched_by() # LAUNCHER NODES: submits a job of two ranks on so many nodes, and waits for its first steps
{
    run=$1-$2-$3
    case $1 in
    mpirun) LAUNCH='mpirun -q -n 2 --bind-to none' ;;
    srun) LAUNCH='srun --mpi=pmix' ;;
    esac
    LAUNCH="$LAUNCH env LD_PRELOAD=$dir/slow.so" options="-w n1 --nodes=$2 --ntasks-per-node=$((2 / $2)) --time=10" \
        submit "$src/jobscripts/piper.slurm" pair.h5 "$run"
    await 20 "$run"
}
# ended_by TEXT: seconds until the job's output says so go to $took
ended_by()
{
    began=$(date +%s%N)
    wait_until 900 grep -qs "$1" "piper-$jobid.txt"
    good=$?
    took=$((($(date +%s%N) - began) / 100000000))
    took=${took%?}.${took#"${took%?}"}
    cat "piper-$jobid.txt" >>out
    return $good
}
for l in $launchers; do
    for nodes in 1 2; do
        launched_by "$l" $nodes scancel && scancel "$jobid" && ended_by 'stopped by request' && finish "$jobid" &&
            shows "$run" "$(last_step "$run")" && grep -q 'exit status 75' out
        result "$l, $nodes nodes: scancel: a slow checkpoint, and the end, after $took s"
    done
    launched_by "$l" 2 lost && kill -9 "$(sed -n 's/^pid //p' "$run/lock")" && ended_by 'piper ended with exit status' &&
        ! grep -q 'exit status 75' "piper-$jobid.txt"
    result "$l: a lost rank: the end of the others after $took s"
    scancel "$jobid"
    finish "$jobid" 100
done
for l in $launchers; do
    launched_by "$l" 2 node && cluster_kill_node n2 && ended_by 'piper ended with exit status'
    result "$l: a lost node: the end of the others after $took s"
    scancel "$jobid"
    cluster_start_node n2
    finish "$jobid" 200
    wait_until 900 both_idle
done

# ---- a node dies under its job, which goes on on the other one
build job gpt2 pp2dp2 train.steps=3000 train.checkpoint_every=100
train 4 job whole
options='--ntasks=4 --time=10' submit "$src/jobscripts/piper.slurm" job.h5 died
await 110 died
node=$(squeue -h -j "$jobid" -o %N)
cluster_kill_node "$node"
began=$(date +%s)
wait_until 1200 job_is "$jobid" PD && echo "# the loss of $node was noticed after $(($(date +%s) - began)) s"
finish "$jobid" 200 && shows died 3000 && grep -q 'start 2, on n' out && [ -f "$dir/died/log.txt" ] &&
    [ "$(grep -c "start .*, on $node" out)" -eq 1 ] && same_bits died whole
result 'a node dies: restart on the other node, and the same bits'
cluster_start_node "$node"
wait_until 600 both_idle
result 'the node comes back'

# ---- limits of time: by --max-time auto, and by Slurm's signal
build minute gpt2 pp2dp2 train.steps=1000000
sed 's/ --max-time auto//' "$src/jobscripts/piper.slurm" >signal.slurm
options='--ntasks=4 --time=1 --signal=B:CONT@1' submit "$src/jobscripts/piper.slurm" minute.h5 limit
by_auto=$jobid
options='--ntasks=4 --time=2 --signal=B:USR1@60' submit signal.slurm minute.h5 signal
by_signal=$jobid
for what in limit:$by_auto signal:$by_signal; do
    run=${what%%:*} jobid=${what##*:}
    wait_until 2000 grep -qs 'requeueing' "piper-$jobid.txt"
    scancel "$jobid"
    cat "piper-$jobid.txt" >>out
    finish "$jobid" && grep -q 'piper ended with exit status 75' "piper-$jobid.txt" && shows "$run" "$(last_step "$run")"
    result "$run: it stops with a checkpoint before the time is up"
done
grep -q 'time: Slurm job .* has \(1:00\|0:[345].\) left' limit/log.txt && ! grep -q 'got USR1' "piper-$by_auto.txt" &&
    grep -q 'got USR1' "piper-$by_signal.txt"
result 'the one by itself, the other by the signal'

# ---- many nodes, by mpirun and by srun, and a sweep over both of them
build wide gpt2 pp2dp2 train.steps=100
options='--nodes=2 --ntasks-per-node=2 --time=5' submit "$src/jobscripts/piper.slurm" wide.h5 wide
finish "$jobid" 120 && shows wide 100 && grep -q 'on n\[1-2\]' out
result 'two nodes'
LAUNCH='srun --mpi=pmix' options='--nodes=2 --ntasks-per-node=2 --time=5' submit "$src/jobscripts/piper.slurm" wide.h5 srun
finish "$jobid" 120 && shows srun 100 && same_bits wide srun
result 'two nodes by srun: the same bits'
build narrow gpt2 one train.steps=50
printf 'narrow.h5 sweep-1\nwide.h5 sweep-2 --steps 60\n' >list
options='--array=1-2 --time=5' submit "$src/jobscripts/piper-array.slurm" list
finish "$jobid" 120
cat piper-*.txt >>out
"$piper" checkpoint verify sweep-2/checkpoints/step-000060.h5 >>out 2>&1 && [ "$(last_step sweep-2)" -eq 60 ]
result 'a sweep: each task its own job and folder'

# ---- taken away by its owner: a checkpoint, and no second start
options='--ntasks=4 --time=5' submit "$src/jobscripts/piper.slurm" minute.h5 gone
await 20 gone && scancel --batch --signal=TERM "$jobid" && finish "$jobid" && shows gone "$(last_step gone)" &&
    grep -q 'stopped by request' out && ! grep -q "job $jobid, start 2" out
result 'TERM: a checkpoint, and the job does not come back'
options='--ntasks=4 --time=5' submit "$src/jobscripts/piper.slurm" minute.h5 gone
await "$(($(last_step gone) + 20))" gone && "$piper" halt gone >>out 2>&1 && finish "$jobid" && shows gone "$(last_step gone)" &&
    grep -q 'stopped by request' "piper-$jobid.txt"
result 'piper halt: so too'
echo "1..$n"
