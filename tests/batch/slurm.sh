#!/bin/sh
# time-limit: 200
# The job scripts in a real Slurm, on a private cluster: a stop by signal, back into the queue, and the same bits in the
# end; a limit that piper asks for itself; parts of a job array.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
. "$src/tests/batch/cluster.sh"
trap 'cluster_down; ranks_end; rm -rf "$dir"' EXIT
trap 'exit 99' HUP INT TERM

export PIPER="$piper" PIPER_JOBSCRIPTS="$src/jobscripts"
cluster_up

# A run that ends when it is stopped, at no step of its own before, however late the signal comes; resumed, it makes 400 steps more.
mkdir "$dir/endless"
cat >"$dir/endless/piper" <<SCRIPT
#!/bin/sh
[ "\$1" = train ] && newest=\$(ls "\$4/checkpoints" 2>/dev/null | sed -n 's/^step-0*\([0-9]*\)\.h5\$/\1/p' | sort -n | tail -n 1) &&
    [ -n "\$newest" ] && set -- "\$@" --steps \$((newest + 400))
exec "$piper" "\$@"
SCRIPT
chmod +x "$dir/endless/piper"

# ---- USR1, 75, requeue, resume, against a run without a stop
build job gpt2 pp2dp2 train.steps=100000000 train.checkpoint_every=0
PIPER=$dir/endless/piper options='--ntasks=4 --time=5' submit "$src/jobscripts/piper.slurm" job.h5 run
first=$jobid
await 10 run && scancel --batch --signal=USR1 "$first"
result 'a job runs and gets USR1'

# ---- while that one waits for its second start: Slurm's reader of #PBS lines
build one gpt2 one train.steps=20
JOB=one.h5 RUN=pbs submit "$src/jobscripts/piper.pbs" && scontrol show job "$jobid" >>out &&
    scontrol show job "$jobid" | tr ' ' '\n' | grep -cxE 'JobName=piper|TimeLimit=01:00:00|NumCPUs=4' | grep -qx 3 &&
    finish "$jobid" && cat piper-"$jobid".txt >>out && [ "$(last_step pbs)" -eq 20 ] &&
    grep -q 'time: Slurm job .* has \(1:00:00\|59:..\) left' pbs/log.txt
result 'piper.pbs, read by Slurm; piper asks for the time that is left'

# ---- a chain of parts: the first one is asked to stop, the second one goes on, the third has nothing to do
build chain gpt2 pp2dp2 train.steps=100000000 train.checkpoint_every=0
PIPER=$dir/endless/piper options='--array=1-3%1 --ntasks=4 --time=5' submit "$src/jobscripts/piper-array.slurm" chain.h5 chain
await 10 chain && kill -USR1 "$(sed -n 's/^pid //p' chain/lock)" && finish "$jobid"
cat piper-*.txt >>out
stopped=$(sed -n 's/.*resuming from the checkpoint of step \([0-9]*\).*/\1/p' chain/log.txt)
[ "$(last_step chain)" -eq $((stopped + 400)) ] && grep -q 'the next task resumes it' out && grep -q 'chain, task 2' out &&
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
    stopped=$(sed -n 's/.*resuming from the checkpoint of step \([0-9]*\).*/\1/p' run/log.txt) &&
    [ "$(last_step run)" -eq $((stopped + 400)) ]
result 'USR1: a checkpoint, exit status 75, requeue, and on to the end'
train 4 job whole --steps $((stopped + 400)) && same_bits run whole
result 'the bits of a run without a stop'
echo "1..$n"
