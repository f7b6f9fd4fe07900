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

# ---- which data
train 1 one changed --steps 2 && head -c 3000 text >longer && "$piper" data text longer -o more.h5 >>out &&
    train 1 one changed --steps 3 --data more.h5 &&
    grep -q 'warning: the data were few (385 tokens) and are more (3000 tokens)' changed/log.txt
result 'another token file at a resume is warned of, by both names'
{ head -c 200 few; printf x; tail -c +202 few; } >edited && "$piper" data text edited -o edited.h5 >>out &&
    rm -rf changed && train 1 one changed --steps 2 && mkdir moved && cp few.h5 moved/small.h5 &&
    train 1 one changed --steps 3 --data moved/small.h5 && ! grep -q warning changed/log.txt &&
    train 1 one changed --steps 4 --data edited.h5 &&
    grep -q 'warning: the data were small (385 tokens) and are edited (385 tokens, other contents)' changed/log.txt
result 'so is one of the same length, and a file of another name with the same contents is not'
build two gpt2 zero3 train.data=here.h5 train.eval_data=few.h5
for case in 'tokens.h5:few.h5: 385 tokens of 2 bytes' 'few.h5:edited.h5:, with other contents' 'few.h5:nowhere.h5:No such file'; do
    first=${case%%:*} rest=${case#*:}
    cat >rank <<SCRIPT
#!/bin/sh
file=$first
[ "\${OMPI_COMM_WORLD_RANK:-\${PMI_RANK:-0}}" = 1 ] && file=${rest%%:*}
exec "$piper" "\$@" --data \$file
SCRIPT
    chmod +x rank
    rm -rf apart
    expect=65
    case $case in *nowhere*) expect=66 ;; esac
    sh "$src/tests/run-mpi" -x $expect "$dir/rank" 2 train two.h5 -o apart >out 2>&1 && grep -q "${rest#*:}" out &&
        [ ! -e apart/metrics.csv ]
    result "ranks that would read other data are refused: ${rest%%:*} instead of $first"
done

# ---- evaluation while weights change
for s in one:1 pp2dp2:4; do
    name=${s%:*}
    build "$name" gpt2 "$name" train.eval_data=few.h5 train.eval_every=4
    train "${s#*:}" "$name" "e-$name" && [ "$(column "e-$name" eval_loss | cut -d' ' -f1 | tr '\n' ' ')" = '4 8 12 ' ]
    result "$name: eval_loss in rows 4, 8, 12 and in no other"
done
head -c 161 text >ten && "$piper" data text ten -o ten.h5 >out 2>&1
build nine gpt2 one train.eval_data=ten.h5 && train 1 nine e-nine &&
    grep -q 'evaluation data ten.h5: 10 sequences, the last 2 of them not evaluated' e-nine/log.txt &&
    grep -q 'evaluation data few.h5: 24 sequences$' e-one/log.txt
result 'the log says what evaluation leaves out'
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
