#!/bin/sh
# time-limit: 12000
# No false alarm: 8 ranks on two cores (all there are, where there are fewer) train for SOAK_MINUTES (30).
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

minutes=${SOAK_MINUTES:-30}
layout 4 2 1f1b 4 >pp4dp2.json
build soak gpt2 pp4dp2 train.steps=1000000000 train.batch_size=32 train.checkpoint_every=2000
cores=$(env -u OMP_NUM_THREADS nproc) # which it would obey
[ "$cores" -gt 2 ] && cores=2
taskset -c 0-$((cores - 1)) sh "$src/tests/run-mpi" -t $((60 * minutes + 120)) -x 75 "$piper" 8 train soak.h5 -o s \
    --max-time $((60 * minutes)) >out 2>&1
result "8 ranks on $cores cores, $minutes minutes, no alarm"
echo "# $(last_step s) steps"
echo "1..$n"
