#!/bin/sh
# time-limit: 120
# Several sources: which sequence of which source a sample is depends on settings and its number alone; several sets to evaluate on; the
# length of a run in tokens and epochs; a disk that is slow.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

head -c 4000 text >web && head -c 9000 text | tail -c 3000 >code && head -c 20000 text | tail -c 500 >books
for f in web code books; do "$piper" data text $f -o $f.h5 >>out 2>&1; done
result 'three sources'
mix='train.data=[[0.6,"web.h5"],[0.3,"code.h5"],[1e-1,"books.h5","novels"]]'
still='train.eval_data={"a":"web.h5","b":"books.h5"}'
samples()
{
    for s in web code novels; do column "$1" "samples.$s"; done
}

# ---- a blend
build whole gpt2 one "$mix" "$still" train.eval_every=6 && train 1 whole whole && samples whole >want &&
    [ "$(wc -l <want)" -eq 36 ] && awk '$1 == 12 { n[k++] = $2 } END { exit !(n[0] + n[1] + n[2] == 96 && n[0] > 54 && n[0] < 62) }' want
result 'the samples of each source, by their weights'
grep -q 'data novels, books.h5: 31 sequences, .* of the samples' whole/log.txt &&
    grep -q 'data web: [0-9]* of 96 samples so far' whole/log.txt
result 'the log says so, before and after'
column whole loss >losses
for s in pp2dp2:4 dp4:4 zero3:2; do
    name=${s%:*}
    build "$name" gpt2 "$name" "$mix" "$still" train.eval_every=6
    rm -rf run && train "${s#*:}" "$name" run && samples run | cmp -s want - && column run loss >got && near losses got 1e-5
    result "$name: the same samples"
    train 1 whole again --steps 5 && train "${s#*:}" "$name" again && samples again | cmp -s want - &&
        column again loss >got && near losses got 1e-5
    result "$name: the same after a restart on another number of ranks"
    rm -rf again
done
build other gpt2 one 'train.data=[[0.1,"web.h5"],[0.9,"code.h5"]]' && cp -r whole more && train 1 other more --steps 16 &&
    grep -q 'data web: its share has changed, continuing at its sample 5[0-9]' more/log.txt &&
    column more samples.web | awk '$1 == 12 { a = $2 } $1 == 16 { exit !($2 - a > 1 && $2 - a < 6) }' &&
    column more samples.code | awk '$1 == 12 { a = $2 } $1 == 16 { exit !($2 - a > 26 && $2 - a < 31) }' &&
    head -n 1 more/metrics.csv | grep -q ',samples.web,samples.code,samples.novels,eval_loss.a,eval_loss.b$' &&
    tail -n 1 more/metrics.csv | awk -F, '{ exit !(NF == 17 && $15 == "") }'
result 'other weights at a resume: each source goes on where it was, columns stay'
train 1 whole more --steps 20 &&
    column more samples.web | awk '$1 == 16 { a = $2 } $1 == 20 { exit !($2 - a > 16 && $2 - a < 22) }' &&
    column more samples.code | awk '$1 == 16 { a = $2 } $1 == 20 { exit !($2 - a > 7 && $2 - a < 13) }'
result 'and once more: from where it was left the second time'

# ---- a list, lengths
cat web code books >all && "$piper" data text all -o all.h5 >>out
build list gpt2 one 'train.data=["web.h5","code.h5"]' train.shuffle=false train.lr=0 train.steps=20 && train 1 list list &&
    build single gpt2 one train.data=all.h5 train.shuffle=false train.lr=0 train.steps=20 && train 1 single single &&
    column list loss | head -n 31 >got && column single loss | head -n 31 >want && head -n 20 got >g && head -n 20 want >w && near w g 1e-7
result 'files of a list follow each other'
cat >length.json <<'SETTINGS'
{"batch_size": 8, "seq_len": 16, "tokens": 1000, "data": "web.h5"}
SETTINGS
"$piper" build -m gpt2.json -s one.json -t length.json -o length.h5 >out && grep -q ', 8 steps$' out
result 'a length in tokens'
"$piper" build -m gpt2.json -s one.json -t length.json --set train.tokens=null --set train.epochs=0.5 -o length.h5 >out &&
    grep -q ', 0.5 epochs$' out && train 1 length length && [ "$(last_step length)" -eq 16 ]
result 'a length in epochs: half of 249 sequences are 16 steps'

# ---- sets to evaluate on
column whole eval_loss >all && column whole eval_loss.a >a && column whole eval_loss.b >b && [ "$(wc -l <a)" -eq 2 ] &&
    paste -d' ' all a b | awk '{ w = (248 * $4 + 24 * $6) / 272; d = $2 - w; if (d < 0) d = -d; if (d > 1e-6) exit 1 }'
result 'eval_loss is that of all sets together, each has its column'
build named gpt2 one train.data=web.h5 'train.eval_data={"a":"web.h5"}' train.eval_every=6 && train 1 named named &&
    build plain gpt2 one train.data=web.h5 train.eval_data=web.h5 train.eval_every=6 && train 1 plain plain &&
    column named eval_loss >want && column plain eval_loss >got && near want got 1e-9 && column named eval_loss.a >got && near want got 1e-9
result 'a set with a name'

# ---- a disk that takes 0.2 ms for each of the 16 sequences of a step: 0.6 MB/s, a hundredth of what a slow disk gives
fault=${piper%/*}/tests/fault/piper-fault
if [ -x "$fault" ]; then
    build slow gpt2 one train.data=tokens.h5 train.batch_size=16 train.seq_len=64 train.steps=30
    PIPER_FAULT='0:pread@tokens.h5:1:late+' PIPER_FAULT_LATE=0.0002 "$fault" train slow.h5 -o slow >out 2>&1 &&
        sed -n 's/.*training waited \([0-9.]*\) s per rank for its data/\1/p' slow/log.txt >waited &&
        awk -F, 'NR > 1 { s += $6 } END { print s }' slow/metrics.csv >seconds &&
        paste waited seconds | awk '{ print "waited " $1 " of " $2 " s"; exit !($1 < 0.2 * $2) }' >>out
    result 'steps do not wait for a slow disk'
fi
echo "1..$n"
