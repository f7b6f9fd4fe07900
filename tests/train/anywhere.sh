#!/bin/sh
# time-limit: 3600
# Checkpoints under every pair of strategies (tests/train/anywhere.c), and every byte of one turned over.
top=${top_builddir:-.}
run="sh ${top_srcdir:-.}/tests/run-mpi -t 1700"
$run "$top/tests/train/anywhere" 8 1 && echo "ok 1 - all pairs of strategies" || echo "not ok 1 - all pairs of strategies"
CHECKPOINT_FLIP_STEP=1 $run "$top/tests/mpi/test_checkpoint" 1 && echo "ok 2 - every byte" || echo "not ok 2 - every byte"
echo "1..2"
