#!/bin/sh
# time-limit: 200
# The job scripts in a real Slurm, on a private cluster: a stop by signal, back into the queue, and the same bits in the
# end; a limit that piper asks for itself; parts of a job array.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
. "$src/tests/batch/cluster.sh"
trap 'cluster_down; rm -rf "$dir"' EXIT
trap 'exit 99' HUP INT TERM

export PIPER="$piper" PIPER_JOBSCRIPTS="$src/jobscripts"
cluster_up

# ---- USR1, 75, requeue, resume, against a run without a stop
build job gpt2 pp2dp2 train.steps=4000 train.checkpoint_every=1000
options='--ntasks=4 --time=5' submit "$src/jobscripts/piper.slurm" job.h5 run
stop_once()
{
    await 50 run && scancel --batch --signal=USR1 "$jobid"
}
stop_once && finish "$jobid" && cat piper-"$jobid".txt >>out && grep -q 'piper ended with exit status 75' piper-"$jobid".txt &&
    grep -q 'start 2' piper-"$jobid".txt && [ "$(last_step run)" -eq 4000 ] && grep -q 'going on from' run/log.txt &&
    grep -q 'time: Slurm job .* left' run/log.txt
result 'USR1: a checkpoint, exit status 75, requeue, and on to the end'
train 4 job whole && same_bits run whole
result 'the bits of a run without a stop'
echo "1..$n"
