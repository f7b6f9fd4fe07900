#!/bin/sh
# time-limit: 240
# What metrics.csv says, judged by itself: the manual's words for its columns, and that the samples of a run follow each other under
# another batch size, and in the order of its seed.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
export OMP_NUM_THREADS=1

# ---- the columns: 8 sequences of 16 tokens; cosine from 1e-3 to 1e-4 over 12 steps, 3 of warm-up
cat >columns.awk <<'AWK'
function near(name, found, want) {
    if (found - want <= 1e-7 * want && want - found <= 1e-7 * want || name == "mfu" && found / want < 1.001 && want / found < 1.001) return
    print "step " $1 ": " name " is " found ", expected " want
    bad = 1
}
NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
{
    near("tokens", $at["tokens"], $1 * batch * length_)
    near("tokens_per_second x step_seconds", $at["tokens_per_second"] * $at["step_seconds"], batch * length_)
    near("lr", $at["lr"], $1 <= 3 ? 1e-3 * $1 / 3 : 1e-4 + 9e-4 * (1 + cos(3.141592653589793 * ($1 - 3) / 9)) / 2)
    near("mfu", $at["mfu"], flops / $at["step_seconds"] / (peak * ranks))
}
END { exit bad || NR != 13 }
AWK
# a token: twice a multiplication by each weight that multiplies, and twice 16 positions x 32 in each of 4 blocks, forward; backward
# as much twice
flops=$((3 * 8 * 16 * (2 * (4 * 12 * 32 * 32 + 256 * 32) + 4 * 4 * 16 * 32)))
for s in one:1 zero3:2; do
    build columns gpt2 "${s%:*}"
    train "${s#*:}" columns "c-${s%:*}" --machine h100 &&
        peak=$(sed -n 's/.*mfu is relative to \([0-9.e+]*\) Tflop.*/\1e12/p' "c-${s%:*}/log.txt") && [ -n "$peak" ] &&
        awk -F, -v ranks="${s#*:}" -v batch=8 -v length_=16 -v flops=$flops -v peak="$peak" -f columns.awk "c-${s%:*}/metrics.csv" >>out
    result "${s%:*}: tokens, tokens_per_second, lr and mfu are what the manual says"
done

# ---- means: where every sequence is the same, how many there are makes no difference
i=0
while [ $((i += 1)) -le 60 ]; do printf 'abcdefghijklmnop'; done >same && "$piper" data text same -o same.h5 >out 2>&1
layout 1 1 gpipe 4 >four.json
for s in one:8 one:4 four:8; do
    build "m$s" moe "${s%:*}" train.batch_size="${s#*:}" train.lr=0 train.steps=1 train.data=same.h5 model.capacity_factor=0
    train 1 "m$s" "m$s" || cat out
done
: >out
good=0
for c in loss aux_loss; do
    column mone:8 $c >want
    [ -s want ] || good=1
    for s in one:4 four:8; do
        column "m$s" $c >got
        near want got 1e-6 || good=1
    done
done
[ $good -eq 0 ]
result 'loss and aux_loss are means: of 4 or 8 equal sequences, in one microbatch or four'

# ---- another batch size at a resume: the samples follow those that were seen
still='train.lr=0 train.shuffle=false train.steps=12'
# shellcheck disable=SC2086 # settings are words
build eight gpt2 one $still && build four gpt2 one $still train.batch_size=4 && train 1 four straight &&
    train 1 eight hop --steps 3 && train 1 four hop --steps 9 && train 1 eight hop --steps 10 &&
    grep -q 'warning: the batch size changed: the data continue at sample 24' hop/log.txt
column straight loss | awk '{ a[$1] = $2 } END { for (s = 1; s <= 3; s++) print s, (a[2 * s - 1] + a[2 * s]) / 2
    for (s = 4; s <= 9; s++) print s, a[s + 3] }' >want
column hop loss | sed 10d >got && near want got 1e-6 &&
    [ "$(awk -F, 'NR > 1 { print $5 / 16 }' hop/metrics.csv | tr '\n' ' ')" = '8 16 24 28 32 36 40 44 48 56 ' ]
result 'another batch size: samples go on where they were, none twice, none left out'

# ---- the order is that of the seed: 24 sequences, weights that do not change
head -c 385 text >few && "$piper" data text few -o few.h5 >out 2>&1
# shellcheck disable=SC2086
{ build seven gpt2 one train.lr=0 train.data=few.h5 && build nine gpt2 one train.lr=0 train.data=few.h5 train.seed=9; } &&
    train 1 seven from --steps 3 && cp -r from other && cp -r from again && train 1 seven from --steps 6 && train 1 nine other --steps 6 &&
    train 1 seven again --steps 6 && column from loss >want && column again loss >got && cmp want got && column other loss >got &&
    head -n 3 want >a && head -n 3 got >b && cmp a b && sed 1,3d want >a && sed 1,3d got >b && ! cmp -s a b &&
    awk '{ s += $2 } END { print 1, s }' a >want && awk '{ s += $2 } END { print 1, s }' b >got && near want got 1e-6
result 'another seed: the same sequences in another order'
echo "1..$n"
