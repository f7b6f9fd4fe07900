#!/bin/sh
# time-limit: 200
# The job scripts in a real Slurm, on a private cluster: a stop by signal, back into the queue, and the same bits in the
# end; a limit that piper asks for itself; parts of a job array.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
. "$src/tests/batch/cluster.sh"
trap 'ranks_end; cluster_down; rm -rf "$dir"' EXIT
trap 'exit 99' HUP INT TERM

export PIPER="$piper" PIPER_JOBSCRIPTS="$src/jobscripts"
cluster_up

# ---- USR1, 75, requeue, resume, against a run without a stop
# long enough for a signal that the scheduler puts off by 5 s when it is busy
build job gpt2 pp2dp2 train.steps=1200 train.batch_size=32 train.checkpoint_every=400
options='--ntasks=4 --time=5' submit "$src/jobscripts/piper.slurm" job.h5 run
first=$jobid
await 10 run && { scancel --batch --signal=USR1 "$first" || { sleep 1 && scancel --batch --signal=USR1 "$first"; }; } >>out 2>&1
result 'a job runs and gets USR1'

# ---- while that one waits for its second start: Slurm's reader of #PBS lines
build one gpt2 one train.steps=20
JOB=one.h5 RUN=pbs submit "$src/jobscripts/piper.pbs" && scontrol show job "$jobid" >>out &&
    scontrol show job "$jobid" | tr ' ' '\n' | grep -cxE 'JobName=piper|TimeLimit=01:00:00|NumCPUs=4' | grep -qx 3 &&
    finish "$jobid" && cat piper-"$jobid".txt >>out && [ "$(last_step pbs)" -eq 20 ] &&
    grep -q 'time: Slurm job .* has \(1:00:00\|59:..\) left' pbs/log.txt
result 'piper.pbs, read by Slurm; piper asks for the time that is left'

# ---- a chain of parts: the first one is asked to stop, the second one goes on, the third has nothing to do
build chain gpt2 pp2dp2 train.steps=8000
options='--array=1-3%1 --ntasks=4 --time=5' submit "$src/jobscripts/piper-array.slurm" chain.h5 chain
# asked again until its end has been written: a busy machine may be late with a signal
await 1 chain
for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
    grep -q 'metrics: *chain/metrics.csv' piper-*.txt && break
    kill -USR1 "$(sed -n 's/^pid //p' chain/lock)" 2>>out
    sleep 0.5
done
finish "$jobid"
cat piper-*.txt >>out
[ "$(last_step chain)" -eq 8000 ] && grep -q 'the next task resumes it' out && grep -q 'chain, task 2' out &&
    grep -q 'cancelling the pending tasks' out && ! grep -q 'chain, task 3' out
result 'array: a chain of parts'

# ---- what people type: it signals every process of the job, mpirun too
build gone gpt2 dp4 train.steps=100000000
options='-w n1 --nodes=1 --ntasks-per-node=4 --time=5' submit "$src/jobscripts/piper.slurm" gone.h5 gone
await 20 gone && scancel "$jobid" && finish "$jobid" && cat piper-"$jobid".txt >>out && grep -q 'stopped by request' out &&
    "$piper" checkpoint verify "gone/checkpoints/step-$(printf %06d "$(last_step gone)").h5" >>out 2>&1
result 'scancel: a checkpoint, and the job does not come back'
options='--nodes=2 --ntasks-per-node=3 --time=5' LAUNCH=env PIPER=/bin/true submit "$src/jobscripts/piper.slurm" gone.h5 wide
finish "$jobid" && scontrol show job "$jobid" | tr ' ' '\n' >>out && grep -qx 'NumTasks=6' out
result 'nodes and tasks of a node, as the head of the script says: as many ranks as both make'

finish "$first" && cat piper-"$first".txt >>out && grep -q 'piper ended with exit status 75' out && grep -q 'start 2' out &&
    [ "$(last_step run)" -eq 1200 ] && grep -q 'resuming from' run/log.txt
result 'USR1: a checkpoint, exit status 75, requeue, and on to the end'
train 4 job whole && same_bits run whole
result 'the bits of a run without a stop'
echo "1..$n"
