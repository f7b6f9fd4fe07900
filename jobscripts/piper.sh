#!/bin/sh
# Trains a job on this machine, without a batch system:
#
#     jobscripts/piper.sh 4 job.h5 run
#     nohup jobscripts/piper.sh 4 job.h5 run >out.txt 2>&1 &      survives logout
#
# 4 is the number of ranks (`piper plan job.h5` says how many the strategy needs), job.h5 comes from `piper build`, run
# is the directory for checkpoints, metrics and traces. The same command starts and resumes a job.
# Ctrl-C, closing the terminal, or kill (TERM or USR1) of this script: a checkpoint is written and training stops, exit
# status 75. A second Ctrl-C, more than a second after the first, terminates it at once.
# A run that loses a rank is restarted, at most three times without a new checkpoint.

ranks=${1:-} job=${2:-} run=${3:-}
if [ -z "$ranks" ] || [ -z "$job" ] || [ -z "$run" ]; then
    echo 'usage: piper.sh RANKS JOB.h5 RUNDIR [OPTION OF piper train...]' >&2
    exit 64
fi
shift 3

scripts=${PIPER_JOBSCRIPTS:-$(dirname "$0")}
piper=${PIPER:-$(command -v piper || echo "$scripts/../build/piper")}
# --oversubscribe: allows more ranks than cores, which is slow
launch=${LAUNCH:-mpirun -q -n $ranks --oversubscribe --bind-to none}
# the terminal's signals are for this script: mpirun would kill its ranks a second after a Ctrl-C
# shellcheck disable=SC2034 # for batch.sh
session=$(command -v setsid)

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export OPENBLAS_NUM_THREADS="$OMP_NUM_THREADS"

installed=$(dirname "$(dirname "$piper")")/share/piper/jobscripts
[ -r "$scripts/batch.sh" ] || [ ! -r "$installed/batch.sh" ] || scripts=$installed
[ -r "$scripts/batch.sh" ] || {
    echo "$scripts/batch.sh is missing: set PIPER_JOBSCRIPTS to its directory" >&2
    exit 66
}
# shellcheck source=jobscripts/batch.sh
. "$scripts/batch.sh"

piper_train "$@"
while [ "$verdict" = elsewhere ]; do
    sleep 5
    piper_train "$@"
done
exit "$status"
