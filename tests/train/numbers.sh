#!/bin/sh
# time-limit: 240
# Numbers that are none: --on-nan, --check-numbers, and failures in a step in the log.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

# The embedding of one byte is NaN; it occurs once in the data, in step 3, on the second replica.
layout 2 2 1f1b 2 >pp2dp2.json
tr '~' ' ' <text | head -c $((16 * 20 + 3)) >data
printf '~' >>data
tr '~' ' ' <text >>data
"$piper" data text data -o one.h5 >out 2>&1
build rare llama pp2dp2 train.shuffle=false train.data=one.h5
train 4 rare seed --steps 1 && "$piper" checkpoint export seed -o weights.safetensors >out 2>&1
begin=$(head -c 20000 weights.safetensors | tr -d '\0' | grep -aoE '"model.embed_tokens.weight":\{[^}]*\}' |
    sed 's/.*"data_offsets": *\[ *\([0-9]*\).*/\1/')
header=$(od -An -N8 -tu8 weights.safetensors)
printf '\000\000\300\177' | dd of=weights.safetensors bs=1 seek=$((8 + header + begin + 126 * 32 * 4)) conv=notrunc 2>/dev/null
poisoned() # RUN
{
    "$piper" checkpoint import rare.h5 weights.safetensors -o "$1" >out 2>&1
}

poisoned a && ends 65 4 rare a &&
    grep -q '^piper: step 3: the loss is nan .* diverged' out && [ "$(last_step a)" -eq 3 ]
result 'stop: the first such step ends training'

poisoned b && train 4 rare b --on-nan skip --check-replicas 1 && [ "$(last_step b)" -eq 12 ] &&
    [ "$(awk -F, '$2 == "nan"' b/metrics.csv | cut -d, -f1)" = 3 ] &&
    [ "$(grep -c 'step 3: the loss is nan .* its update is skipped, 1 so far' b/log.txt)" -eq 1 ]
result 'skip: that step is left out, the others are made'
poisoned c && train 4 rare c --on-nan skip --steps 3 && train 4 rare c --on-nan skip --steps 2 --fresh &&
    "$piper" checkpoint diff c/checkpoints/step-000002.h5 c/old.1/checkpoints/step-000003.h5 >out 2>&1
[ $? -eq 65 ] # --fresh has lost the imported weights, so the two must differ
result 'skip: a comparison that can fail'
poisoned d && train 4 rare d --on-nan skip --steps 2 && cp d/checkpoints/step-000002.h5 before.h5 &&
    train 4 rare d --on-nan skip --steps 3 && "$piper" checkpoint diff before.h5 d/checkpoints/step-000003.h5 >out 2>&1
result 'skip: weights and moments are those of the step before'

# A step without update is none in Adam's bias correction: the first one moves a weight by the learning rate.
{ printf '~'; tr '~' ' ' <text; } >poison && "$piper" data text poison -o poison.h5 >out 2>&1
constant='train.shuffle=false train.lr=1e-3 train.optimizer.weight_decay=0 train.data=poison.h5'
echo '[{"op":"layout","pp":2,"dp":2,"zero":3},{"op":"schedule","kind":"zb-h1","microbatches":2}]' >zb.json
# shellcheck disable=SC2086 # settings are words
build first llama one $constant && build firstzb llama zb $constant
poisoned h && train 1 first h --on-nan skip --steps 1 && cp h/checkpoints/step-000001.h5 before.h5 &&
    train 1 first h --on-nan skip --steps 2 && echo 1 1e-3 >want &&
    moved before.h5 h/checkpoints/step-000002.h5 >got && near want got 1e-3 && train 1 first h --on-nan skip --steps 8 &&
    "$piper" checkpoint list h >>out && grep -q 'step 8 .* 7 updates' out
result 'skip: the first update after it moves a weight by the learning rate'
poisoned i && train 4 firstzb i --on-nan skip --steps 8 && column h loss | sed 1d >want && column i loss | sed 1d >got &&
    near want got 1e-4 && "$piper" checkpoint list i >>out && grep -q 'step 8 .* 7 updates' out
result 'skip: the same on four ranks'

build wild gpt2 pp2dp2 train.lr=1e6 train.clip_norm=1e9 train.optimizer.weight_decay=1
ends 65 4 wild w --on-nan skip --steps 100 &&
    grep -q 'the updates of 10 consecutive steps were skipped. step [0-9]*: ' out && [ "$(last_step w)" -lt 40 ]
result 'skip: ten in a row end training'
# Steps of 8 sequences of 16 tokens: 6 with the byte, one without, 6 with it, one without.
six=0
while [ $((six += 1)) -le 14 ]; do
    case $six in
    7 | 14) tr '~' ' ' <text | head -c 128 ;;
    *) { printf '~' && tr '~' ' ' <text; } | head -c 128 ;;
    esac
done >apart && printf ' ' >>apart && "$piper" data text apart -o sixes.h5 >out 2>&1
# shellcheck disable=SC2086
build apart llama one $constant train.data=sixes.h5 train.steps=14 && poisoned j && train 1 apart j --on-nan skip &&
    [ "$(awk -F, '$2 == "nan"' j/metrics.csv | wc -l)" -eq 12 ] && [ "$(last_step j)" -eq 14 ] && "$piper" checkpoint list j >>out &&
    grep -q 'step 14 .* 2 updates' out
result 'skip: more than ten in all, not in a row, do not'
build free gpt2 pp2dp2 train.clip_norm=0
ends 64 4 free f --on-nan skip && grep -q 'on-nan skip: .*clip_norm' out
result 'skip: refused where updates do not wait for the norm'

first='rank [0-3], step 3, F .* mb[01]: operator [^ ]*embed[^ ]* (embed.*, kernel F) wrote an output = nan at element'
poisoned e && ends 65 4 rare e --check-numbers &&
    grep -q "^piper: $first" out && grep -q "  $first" e/log.txt
result 'check-numbers: rank and operator of the first one, on the console and in the log'
poisoned g && train 4 rare g --check-numbers --on-nan skip && grep "  rank" g/log.txt | head -n 1 | grep -q "$first" &&
    [ "$(last_step g)" -eq 12 ]
result 'check-numbers with skip: the first one is logged, training goes on'
ends 65 4 wild v --check-numbers &&
    grep -q 'rank [0-3], step [0-9]*, ' v/log.txt
result 'check-numbers: a run that blows up'

# A failure that only one rank sees, inside a step, stands in the log with rank and instruction.
build tight moe ep2 train.steps=4 model.capacity_factor=0 && sed 's/"op":"shard"/"expert_bound":1.0001,&/' ep2.json >bound.json &&
    build bound moe bound train.steps=50 model.capacity_factor=0 &&
    ends 65 2 bound t
grep -q 'rank [01], step [0-9]*, all-to-all .*: [0-9]* rows arrive' t/log.txt
result 'a failure inside a step is in the log'
# The bound that it names is enough for that step; two hundredths less, more than one row of 128, are not.
bound=$(sed -n 's/.*"expert_bound": \([0-9]*\)\.\([0-9][0-9]\) .*/\1\2/p' t/log.txt | head -n 1)
step=$(sed -n 's/.*rank [01], step \([0-9]*\), .*rows arrive.*/\1/p' t/log.txt | head -n 1)
for try in "$bound:0" "$((bound - 2)):65"; do
    sed "s/\"op\":\"shard\"/\"expert_bound\":$((${try%:*} / 100)).$(printf %02d $((${try%:*} % 100))),&/" ep2.json >bound.json &&
        build bound moe bound train.steps=50 model.capacity_factor=0 && rm -rf t &&
        ends "${try#*:}" 2 bound t --steps "$step"
    result "with expert_bound ${try%:*} hundredths step $step ends with ${try#*:}"
done
echo "1..$n"
