#!/bin/sh
# Where the time went: the table at the end of a run, against times that are known, and the head of log.txt.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

# spent RUN ROW COLUMN: seconds in the table of the newest part of a run; 1 mean, 3 least, 4 its rank, 5 most, 6 its rank; 0: no such row
spent()
{
    tac "$1/log.txt" | sed -n "/time per rank, seconds/q;s/^[-0-9]* [:0-9]*    *$2   *\([0-9].*\)/\1/p" |
        awk -v column="$3" 'NR == 1 { found = $column } END { print found + 0 }'
}
# between A X B
between()
{
    echo "expected $1 to $3, found $2" >>out
    awk "BEGIN { exit !($1 <= $2 && $2 <= $3) }"
}
# adds_up RUN: the rows are all of the time
adds_up()
{
    tac "$1/log.txt" | sed '/time per rank, seconds/q' | tac >table
    awk '$3 == "" || /time per rank/ { next } /^[-0-9]* [:0-9]*   / { for (i = 3; $i !~ /^-?[0-9.]+$/; i++) { }
         if ($3 == "all") all = $i; else { sum += $i; part += $(i + 1) } }
         END { print "sum " sum " of " all ", " part "%"; exit !(all > 0 && sum > 0.97 * all && sum < 1.03 * all && part > 97 && part < 103) }' table >>out
}

# ---- kernels that take their time: 1f1b, 2 stages, 4 microbatches of 10 and 20 ms, so 3 of each are the bubble
layout 2 1 1f1b 4 >pp2.json
build known gpt2 pp2 train.steps=6
train 2 known known --device emulate --emulate-forward 0.01
cat known/log.txt >>out
waits=$(awk "BEGIN { print $(spent known 'exposed: messages' 1) + $(spent known 'exposed: reductions' 1) + $(spent known 'exposed: sums of a step' 1) }")
between 0.235 "$(spent known forward 1)" 0.5 && between 0.47 "$(spent known backward 1)" 1 && between 0.17 "$waits" 0.7 && adds_up known
result 'forward, backward and waiting, as long as they are known to be'
grep -q 'slowest rank: [01], computing for [01]\.[0-9]' known/log.txt && grep -q 'mean step: 0\.[1-3][0-9]* s, ' known/log.txt
result 'the slowest rank, a step'

# ---- a real run: every kind is in its row
build all gpt2 pp2dp2 train.steps=40 train.checkpoint_every=10 train.eval_data=tokens.h5 train.eval_every=20
train 4 all all
cat all/log.txt >>out
adds_up all && for row in forward backward 'norm and update' 'exposed: messages' 'exposed: reductions' 'exposed: sums of a step' \
    checkpoints evaluations start-up; do
    between 0.0001 "$(spent all "$row" 5)" 60 || { echo "row $row" >>out; false; } || break
done
result 'each kind has its row'
build gathers gpt2 zero3 train.steps=20
train 2 gathers gathers --no-checkpoint && between 0.0001 "$(spent gathers 'exposed: gathers' 5)" 60 &&
    between 0 "$(spent gathers checkpoints 5)" 0 && between 0 "$(spent gathers 'exposed: all-to-all' 5)" 0
result 'gathers, and no row of what there was not'
build alone gpt2 one train.steps=5
"$piper" train alone.h5 -o alone >out 2>&1 && ! grep -q 'slowest rank' alone/log.txt && adds_up alone && train 1 alone alone --steps 7 && adds_up alone &&
    train 1 alone alone --steps 7 && ! grep -q 'mean step' out && ! grep -q 'inf\|nan' out
result 'one rank; a run that goes on; one that has nothing to do'

# ---- the head of the log
grep -q "piper [0-9.]* (.*); .*; .*; HDF5 [0-9.]*\$" all/log.txt && grep -q 'command: .*piper.* train alone.h5 -o alone$' alone/log.txt &&
    grep -q "hosts: $(hostname) (4 ranks)\$" all/log.txt
result 'the head of the log: program, command, hosts'
echo "1..$n"
