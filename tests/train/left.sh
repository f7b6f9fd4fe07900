#!/bin/sh
# time-limit: 300
# What a run must not lose: the steps before an evaluation that takes long, before data that cannot be read, and those of a long
# time without a checkpoint by steps.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

# kept RUN: a checkpoint of the last row, which is sound
kept()
{
    "$piper" checkpoint verify "$1/checkpoints/step-$(printf %06d "$(last_step "$1")").h5" >>out 2>&1
}
# appears FILE
appears()
{
    tries=$((300 * ${TEST_TIME_SCALE:-1}))
    until [ -f "$1" ] || [ $((tries -= 1)) -eq 0 ]; do sleep 0.05; done
    [ -f "$1" ]
}

# ---- an evaluation of two thousand batches after steps 5 and 10
i=0
head -c 60000 text >part
while [ $((i += 1)) -le 4 ]; do cat part; done >long-text && "$piper" data text long-text -o long.h5 >out 2>&1
build eval gpt2 zero3 train.steps=10 train.eval_data=long.h5 train.eval_every=5 train.checkpoint_every=5
train 2 eval whole && [ "$(column whole eval_loss | cut -d' ' -f1 | tr '\n' ' ')" = '5 10 ' ]
result 'evaluations after steps 5 and 10'
tries_left=3 # a disk may be slower than the evaluation
until [ $((tries_left -= 1)) -lt 0 ]; do
    rm -rf killed
    launch 2 eval killed
    appears killed/checkpoints/step-000005.h5 && ! column killed eval_loss | grep . >>out && kill -KILL "$(cat pid.1)"
    wait "$launched"
    [ "$(last_step killed)" -ne 5 ] || break
done
[ "$(last_step killed)" -eq 5 ] && train 2 eval killed && grep -q 'resuming from the checkpoint of step 5,' killed/log.txt && same_bits whole killed
result 'killed while it evaluates: the checkpoint of the step is there, and the evaluation is made again'
expect=75 launch 2 eval asked
appears asked/checkpoints/step-000005.h5 && kill -TERM "$(cat pid.0)"
wait "$launched" && [ "$(last_step asked)" -eq 5 ] && ! column asked eval_loss | grep . >>out &&
    grep -q 'the evaluation after step 5 is deferred' asked/log.txt && train 2 eval asked && same_bits whole asked
result 'TERM while it evaluates: 75 between two batches, and the evaluation is made again'
build last gpt2 zero3 train.steps=5 train.eval_data=long.h5
expect=75 launch 2 last final
await 5 final && sleep 0.2 && kill -USR1 "$(cat pid.1)"
wait "$launched" && kept final && grep -q 'stopped after step 5 of 5, before its evaluation, after writing a checkpoint' final/log.txt &&
    train 2 last final && train 2 last never && same_bits never final && [ "$(column final eval_loss | cut -d' ' -f1)" = 5 ]
result 'the same after the last step: 75, then the evaluation alone'

# of more than the limit: it is not begun, since there is no time for it
i=0
while [ $((i += 1)) -le 20 ]; do cat long-text; done >huge-text && "$piper" data text huge-text -o huge.h5 >out 2>&1
build limit gpt2 one train.steps=100000 train.eval_data=huge.h5 train.eval_every=40
begin=$(date +%s)
ends 75 1 limit t --max-time 8 && [ $(($(date +%s) - begin)) -le 10 ] && kept t && [ "$(last_step t)" -eq 40 ]
result '--max-time knows of an evaluation before the first one was made'

# ---- data
# spoil FILE: a token of its middle that no model has
spoil()
{
    printf '\377\377' | dd of="$1" bs=2 seek=$(($(wc -c <"$1") / 4)) conv=notrunc 2>>out
}
"$piper" data text part -o part.h5 >out 2>&1 && build data gpt2 zero3 train.steps=400 train.shuffle=false train.data=part.h5
cp part.h5 bad.h5 && spoil bad.h5 && ends 65 2 data d --data bad.h5 &&
    grep -q '^piper: bad.h5: token [0-9]* is 65535, .* the checkpoint of step [0-9]* is kept' out && kept d && at=$(last_step d) &&
    [ "$at" -gt 100 ] && ends 65 2 data d --data bad.h5 && [ "$(last_step d)" -eq "$at" ] && train 2 data d --steps $((at + 3)) &&
    train 2 data good --steps $((at + 3)) && same_bits good d
result 'a token beyond the vocabulary, late: 65 with the checkpoint of the step before'
build many gpt2 zero3 train.steps=1000000
cp tokens.h5 short.h5
expect=65 launch 2 many cut --data short.h5
await 20 cut && truncate -s 20000 short.h5
wait "$launched" && kept cut && grep -q 'short.h5: ends at byte .* is kept' cut/log.txt && train 2 many cut --steps $(($(last_step cut) + 2))
result 'a token file that is cut off while it is read: 65 with a checkpoint'
{ # a shard of uint32 tokens, whose header says nothing of a vocabulary
    printf '\241\331\064\001\007\000\000\000\000\020\000\000'
    head -c 1012 /dev/zero
    head -c 16384 /dev/zero
} >zero.bin && cp zero.bin late.bin && printf '\000\001' | dd of=late.bin bs=1 seek=17000 conv=notrunc 2>>out &&
    train 2 data z --data zero.bin --steps 2 && grep -q 'data zero.bin: all 4096 tokens are below 256' z/log.txt &&
    ends 65 2 data late --data late.bin --steps 2 && grep -q '^piper: late.bin: token 3994 is 256, ' out && [ ! -e late/metrics.csv ]
result 'a file that does not say its vocabulary is looked through at the start'

# ---- checkpoints by time
build often gpt2 zero3 train.steps=1000000 train.checkpoint_minutes=0.01 train.checkpoint_keep=1000
expect=75 launch 2 often o
await 1 o && sleep 3 && kill -USR1 "$(cat pid.0)"
wait "$launched" && [ "$(checkpoints o)" -ge 3 ] && [ "$(checkpoints o)" -le $((3 + 6 * ${TEST_TIME_SCALE:-1})) ] &&
    grep -q '  checkpoint every 0.01 minutes, after the last step (async)' o/log.txt
result 'checkpoint_minutes: one every 0.6 s'
build never gpt2 zero3 train.steps=1000000 train.checkpoint_minutes=0
expect=75 launch 2 never v
await 1 v && sleep 1 && [ ! -d v/checkpoints ] && kill -USR1 "$(cat pid.0)"
wait "$launched" && [ "$(checkpoints v)" -eq 1 ] && grep -q '  checkpoint after the last step (async)' v/log.txt
result 'checkpoint_minutes 0: none'
train 2 data u --steps 2 && grep -q '  checkpoint every 30 minutes, after the last step (async)' u/log.txt
result 'every 30 minutes where nothing is said'
echo "1..$n"
