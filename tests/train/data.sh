#!/bin/sh
# time-limit: 300
# Every window of the data is seen once an epoch, in whatever order and on however many ranks, and a run that goes on reads
# on where it stopped. With learning rate 0 the losses of the steps of an epoch have the mean that evaluation finds.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

# 24 windows of 16 tokens: 3 steps of 8
head -c 385 text >few && "$piper" data text few -o few.h5 >out 2>&1
result 'a set of 24 windows'
still='train.lr=0 train.data=few.h5 train.eval_data=few.h5 train.eval_every=3 train.steps=6'
# mean RUN FIRST LAST: of the losses of those steps, as a list of one
mean()
{
    column "$1" loss | awk -v a="$2" -v b="$3" '$1 >= a && $1 <= b { s += $2; k++ } END { printf "1 %.12g\n", s / k }'
}
for s in one:1 pp2dp2:4 dp4:4 zero3:2; do
    name=${s%:*} ranks=${s#*:}
    # shellcheck disable=SC2086 # settings are words
    build "$name" gpt2 "$name" $still
    train "$ranks" "$name" "$name" && column "$name" eval_loss | sed 's/^[0-9]* /1 /' >evals && [ "$(wc -l <evals)" -eq 2 ] &&
        sed -n 1p evals >want && mean "$name" 1 3 >got && near want got 2e-7 &&
        sed -n 2p evals >want && mean "$name" 4 6 >got && near want got 2e-7
    result "$name: mean loss of each epoch is the loss of evaluation"
    column one loss >want && column "$name" loss >got && near want got 1e-6
    result "$name: the samples of every step are those of one rank"
done
column one loss | awk '$1 <= 3 { printf "%s ", $2 } END { print "" }' >epoch.1
column one loss | awk '$1 > 3 { printf "%s ", $2 } END { print "" }' >epoch.2
! cmp -s epoch.1 epoch.2
result 'the second epoch has another order'
train 1 one on --steps 2 && train 1 one on --steps 4 && train 4 pp2dp2 on &&
    column one loss >want && column on loss >got && near want got 1e-6
result 'stopped after 2 and 4 of 6 steps, it reads on where it stopped'
# shellcheck disable=SC2086
build order gpt2 one $still train.shuffle=false && train 1 order order && column order loss | awk '{ a[$1] = $2 }
    END { exit !(a[1] == a[4] && a[2] == a[5] && a[3] == a[6] && a[1] != a[2]) }'
result 'without shuffle the epochs are alike'
# shellcheck disable=SC2086
build seed gpt2 one $still train.seed=8 && cp -r one seed && train 1 seed seed --steps 9 &&
    grep -q 'warning: the seed was 7 and is 8' seed/log.txt
result 'another seed is warned of'

# ---- evaluation while weights change
for s in one:1 pp2dp2:4; do
    name=${s%:*}
    build "$name" gpt2 "$name" train.eval_data=few.h5 train.eval_every=4
    train "${s#*:}" "$name" "e-$name" && [ "$(column "e-$name" eval_loss | cut -d' ' -f1 | tr '\n' ' ')" = '4 8 12 ' ]
    result "$name: eval_loss in rows 4, 8, 12 and in no other"
done
column e-one eval_loss >want && column e-pp2dp2 eval_loss >got && near want got 1e-4
result 'eval_loss is the same under pp2 dp2'
build none gpt2 one && train 1 none none && numbers e-one | cut -d, -f1-5 >with &&
    numbers none | cut -d, -f1-5 >without && diff with without >>out
result 'evaluation does not change training'
# What evaluation finds after step 4 is what a run from its checkpoint finds at learning rate 0.
build still gpt2 one train.lr=0 train.eval_data=few.h5 train.eval_every=5 train.data=few.h5 &&
    build four gpt2 one train.eval_data=few.h5 train.eval_every=4 && train 1 four again --steps 4 &&
    train 1 still again --steps 5 && column again eval_loss | awk '$1 == 4 { print 1, $2 }' >want &&
    column again eval_loss | awk '$1 == 5 { print 1, $2 }' >got && near want got 1e-9
result 'eval_loss is that of the weights after the step'
echo "1..$n"
