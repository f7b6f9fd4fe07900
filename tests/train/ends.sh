#!/bin/sh
# time-limit: 300
# How runs end: divergence, time, signals. All ranks are gone, the status is the documented one, what is kept can be used.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

# ---- divergence
build good gpt2 pp2dp2 train.steps=3
for kind in sgd adamw; do # AdamW's steps are bounded, so what blows up is the decay
    build wild gpt2 pp2dp2 train.optimizer.kind=$kind train.lr=1e6 train.clip_norm=0 train.optimizer.weight_decay=1
    rm -rf w
    train 4 good w && ends 65 4 wild w && grep -q 'step [0-9]*: .* diverged.* the checkpoint of step 3 is kept' out &&
        [ "$(ls w/checkpoints)" = step-000003.h5 ] && tail -n 1 w/metrics.csv | grep -q -i 'nan\|inf' &&
        "$piper" checkpoint verify w/checkpoints/step-000003.h5 >>out 2>&1
    result "$kind: divergence ends with 65, the last good checkpoint is kept"
    build tame gpt2 pp2dp2 train.steps=6 && train 4 tame w && [ "$(column w loss | awk '$2 > 0' | wc -l)" -eq 6 ]
    result "$kind: with a lower rate it goes on from there"
done
for lr in NaN Infinity 1e999 -1; do
    "$piper" build -m gpt2.json -s one.json -t adamw.json -o never.h5 --set train.lr=$lr >out 2>&1
    status=$?
    [ $status -eq 65 ] || [ $status -eq 64 ]
    result "learning rate $lr is refused"
done

# ---- time
build long gpt2 pp2dp2 train.steps=1000000
begin=$(date +%s)
ends 75 4 long t --max-time 6 && [ $(($(date +%s) - begin)) -le $((9 * ${TEST_TIME_SCALE:-1})) ] &&
    [ -f t/checkpoints/step-"$(printf %06d "$(last_step t)")".h5 ] && grep -q 'rerun the same command to resume' t/log.txt
result 'max-time: 75 in time, with a checkpoint of the last step'
train 4 long t --steps $(($(last_step t) + 2))
result 'it goes on after max-time'
ends 75 4 long z --max-time 1 && [ "$(last_step z)" -ge 1 ] && [ "$(last_step z)" -le 3 ]
result 'max-time shorter than a start: a step is made and kept'

# ---- limits of memory
build solo gpt2 one train.steps=1
told=0
for cap in $(seq 250000 50000 900000); do
    rm -rf m
    # shellcheck disable=SC3045 # dash and bash have it
    (ulimit -v "$cap" && OMP_NUM_THREADS=2 exec timeout -s KILL $((30 * ${TEST_TIME_SCALE:-1})) "$piper" train solo.h5 -o m) >out 2>&1
    status=$?
    echo "ulimit -v $cap: exit status $status" >>out
    ! grep -q '^piper: .*ulimit -v leaves [0-9]* MiB' out || told=1
    [ $status -eq 0 ] || [ $status -eq 71 ] || break
done
[ $status -eq 0 ] && [ $told -eq 1 ]
result_limited 'ulimit -v: a run of one step, or a sentence and 71, and never a hang'

# ---- signals
expect=75 launch 4 long u
await 3 u && kill -USR1 "$(cat pid.2)"
wait "$launched" && [ -f u/checkpoints/step-"$(printf %06d "$(last_step u)")".h5 ]
result 'USR1 to one rank of four stops all with 75'
expect=75 launch 4 long v
await 3 v && kill -TERM "$(cat pid.1)"
wait "$launched" && [ -f v/checkpoints/step-"$(printf %06d "$(last_step v)")".h5 ]
result 'TERM to one rank of four stops all with 75'
expect=75 launch 4 long s
await 3 s && kill -USR2 "$(cat pid.0)" && from=$(last_step s) && await $((from + 5)) s && kill -USR1 "$(cat pid.launcher)"
wait "$launched" && [ "$(checkpoints s)" -eq 2 ]
result 'USR2 writes a checkpoint and goes on'
echo "1..$n"
