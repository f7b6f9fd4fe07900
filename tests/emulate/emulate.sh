#!/bin/sh
# time-limit: 240
# Emulation: real ranks and messages, kernels that only take their time; and what traces of it look like. How well its times
# follow the simulator's is makespan.sh's.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

# pipeline JOB MODEL RANKS PLACEMENT KIND MICROBATCHES [KEY=VALUE...]
pipeline()
{
    job=$1 model=$2
    echo "[{\"op\":\"layout\",\"pp\":$3,\"dp\":1,\"placement\":\"$4\"},
        {\"op\":\"schedule\",\"kind\":\"$5\",\"microbatches\":$6}]" >"$job.json"
    shift 6
    build "$job" "$model" "$job" "$@"
}
# refuses STATUS RANKS JOB RUN TEXT [OPTION...]
refuses()
{
    status=$1 ranks=$2 job=$3 folder=$4 text=$5
    shift 5
    sh "$src/tests/run-mpi" -x "$status" "$piper" "$ranks" train "$job.h5" -o "$folder" "$@" >out 2>&1 && grep -q -e "$text" out
}

# ---- a run
pipeline v llama 2 v dualpipev 4 train.steps=3 'train.trace_steps=[2,3]' train.checkpoint_every=1
train 2 v v --device emulate --emulate-forward 0.004 && [ "$(last_step v)" -eq 3 ] && [ ! -e v/checkpoints ] &&
    [ "$(cut -d, -f2,3 v/metrics.csv | sort -u | tr '\n' ' ')" = 'loss,grad_norm nan,nan ' ] &&
    grep -q 'nothing is computed' v/log.txt && rm tokens.h5
result 'three steps, without data, loss or checkpoints'
# 25 units of time are 4 ms each; how much longer it takes is up to the machine
column v step_seconds | awk '{ if (!best || $2 < best) best = $2 } END { print best; exit !(best >= 0.0999 && best < 1) }' >out
result 'a step takes its predicted time at least'
train 2 v v --device emulate --emulate-forward 0 && [ -e v/old.1/trace.0000.h5 ] && [ -e v/trace.0000.h5 ] &&
    [ "$(wc -l <v/metrics.csv)" -eq 4 ]
result 'it starts over each time, and keeps what was there'
mkdir w w/checkpoints
refuses 64 2 v w 'checkpoints of a training run' --device emulate && [ -d w/checkpoints ]
result 'checkpoints of a training run are left alone'
train 2 v w --device emulate --emulate-forward 0 --fresh && [ -d w/old.1/checkpoints ]
result '--fresh puts them aside'

# a step of 1 s: the second ends within 4 s, if the start is not slow, a third would not
begin=$(date +%s)
ends 75 2 v slow --device emulate --emulate-forward 0.04 --max-time 4 && [ "$(last_step slow)" -le 2 ] &&
    [ "$(last_step slow)" -ge $((${TEST_TIME_SCALE:-1} > 1 ? 1 : 2)) ] &&
    [ $(($(date +%s) - begin)) -le $((4 * ${TEST_TIME_SCALE:-1})) ]
result '--max-time: no step begins that would not end in time'

# ---- no memory is touched, messages are envelopes: a model of 9 billion parameters
cat >large.json <<'JSON'
{"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32,
 "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 7168, "moe_intermediate_size": 7168, "num_experts": 8,
 "num_experts_per_tok": 2, "norm_topk_prob": true, "capacity_factor": 1.25, "tie_word_embeddings": false}
JSON
echo '[{"op":"layout","pp":2,"dp":2,"ep":2,"zero":2,"placement":"v"},{"op":"schedule","kind":"dualpipev","microbatches":4}]' >large-s.json
build large large large-s train.seq_len=1024 train.steps=2 'train.trace_steps=[2]'
train 4 large large --device emulate --emulate-forward 0.01 &&
    awk '/planned/ { for (i = 1; i < NF; i++) { if ($i ~ /^planned/) planned = $(i - 2); if ($i ~ /^touched/) touched = $(i - 2) }
        print planned, touched; exit !(planned > 20000 && touched < 1) }' large/log.txt >>out
result 'nine billion parameters: planned, not touched'
"$piper" trace large --summary >out 2>&1 && grep -q ' 240  group [0-9]*: ep, 2 ranks' out &&
    grep -q 'group [0-9]*: dp, 2 ranks' out && grep -q 'group [0-9]*: ag, 2 ranks' out
result 'its collectives are matched and summed up'

# ---- with a machine's times, also beside a real run
train 4 large m --device emulate --machine "$src/src/machines/h100.json" --steps 1 && grep -q 'the machine .*h100' m/log.txt
result 'times of a machine'
"$piper" data text text -o tokens.h5 >out 2>&1 && train 2 v real --machine "$src/src/machines/h100.json" &&
    "$piper" trace real --summary >out 2>&1 && grep -q 'largest prediction errors' out &&
    "$piper" trace real --svg real.svg >>out 2>&1 && grep -q '>expected<' real.svg
result 'predictions in the trace of a real run'

# ---- mistakes
refuses 64 2 v x 'requires --device emulate' --emulate-forward 0.01
result '--emulate-forward without emulation'
refuses 64 2 v x 'expected seconds' --device emulate --emulate-forward soon
result '--emulate-forward soon'
refuses 64 2 v x 'conflicts with --machine' --device emulate --emulate-forward 1 --machine h100
result '--emulate-forward and --machine'
refuses 64 2 v x 'no numbers to check' --device emulate --check-numbers
result '--check-numbers'
refuses 66 2 v x 'none.h5' --device emulate --machine none.h5
result 'a machine file that is not there'
echo "1..$n"
