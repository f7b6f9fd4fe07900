#!/bin/sh
# How long training stands still for an asynchronous checkpoint: GPT-2 124M with moments on 4 ranks, each with a quarter of the
# optimizer's state. Not a test: prints what the log says of each checkpoint, and the median time of a step.
#     PIPER=./piper top_srcdir=. sh tests/train/bench_stall.sh
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

echo '{"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}' >big.json
echo '[{"op":"replicate","filter":{},"devices":["0-3"],"zero":1}]' >shared.json
build big big shared train.batch_size=8 train.seq_len=64 train.steps="${STEPS:-9}" train.checkpoint_every=3 train.checkpoint_keep=1
for how in async sync; do
    TEST_TIME_SCALE=${TEST_TIME_SCALE:-10} train 4 big $how --checkpoint $how || cat out
    echo "$how:"
    sed -n 's/.*\(checkpoint of step .*\)/  \1/p' $how/log.txt
    column $how step_seconds | cut -d' ' -f2 | tail -n +2 | sort -n | awk '{ x[NR] = $1 }
        END { printf "  median of %d steps: %.3f s\n", NR, x[int((NR + 1) / 2)] }'
    column $how step_seconds | sed 's/^/  step /'
    rm -rf $how
done
