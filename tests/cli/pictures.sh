#!/bin/sh
# Pictures of piper plan, piper trace and piper plot: what of them is drawn, how wide, and what they mark. Prints TAP.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

# rows FILE: labels of rows, a line
rows()
{
    sed -n 's/^<text class="l[ vx]*" [^>]*>\([^<]*\)<.*/\1/p' "$1" | grep -v '^\(units\|ms\)$' | tr '\n' ' '
}
# refuses PATTERN OPTION...: piper plan ends with 64 and that
refuses()
{
    pattern=$1 got=0
    shift
    "$piper" plan job.h5 "$@" >said 2>&1 || got=$?
    cat said >>out
    [ "$got" -eq 64 ] && grep -q -- "$pattern" said
}

layout 4 1 1f1b 8 >pp4.json
build job gpt2 pp4
"$piper" plan job.h5 --svg all.svg >out 2>&1 && grep -q '^all.svg: the schedule of 4 ranks' out && rows all.svg >>out &&
    [ "$(rows all.svg | tr ' ' '\n' | grep -c '^rank')" -eq 4 ] && grep -q '>exposed communication<' all.svg && grep -q '<title>exposed communication, ' all.svg
result 'all of it; what is exposed is marked'
build alone gpt2 one
"$piper" plan alone.h5 --svg alone.svg >>out 2>&1 && ! grep -q 'exposed' alone.svg
result 'one rank has nothing to wait for'
"$piper" plan job.h5 --svg few.svg --rows 0,2-3 --lanes none >>out 2>&1 && [ "$(rows few.svg)" = 'rank 0 rank 2 rank 3 ' ] && ! grep -q 'class="m0"' few.svg &&
    "$piper" plan job.h5 --svg merged.svg --rows 1 --lanes merged >>out 2>&1 && [ "$(rows merged.svg)" = 'rank 1 streams ' ] && grep -q 'class="m0"' merged.svg
result 'some ranks, streams in no row, or in one'
"$piper" plan job.h5 --svg - --time 6:10 --width 800 >window.svg && grep -q '^<svg [^>]*width="800"' window.svg &&
    sed -n 's/^<rect class="[a-z]*0" x="\([0-9.]*\)" y="[0-9.]*" width="\([0-9.]*\)".*/\1 \2/p; s/^.*<rect x="\([0-9.]*\)" y="[0-9.]*" width="\([0-9.]*\)".*/\1 \2/p' window.svg >boxes &&
    [ -s boxes ] && awk '$1 < 99.5 || $1 + $2 > 785 { print "box " $0; bad = 1 } END { exit bad }' boxes >>out && grep -q '>6<' window.svg && grep -q '>10<' window.svg
result 'a window of time, as wide as asked for'
"$piper" plan job.h5 --svg memory.svg --memory >>out 2>&1 && [ "$(grep -c '<path class="c"' memory.svg)" -eq 4 ] &&
    rows memory.svg | tr ' ' '\n' | grep -A1 -x to | grep '^[0-9]' >most && [ "$(wc -l <most)" -eq 4 ] && sort -rn most | diff - most >>out
result 'memory: the first stage of 1f1b needs most, the last one least'

sed 's/"n_layer": *[0-9]*/"n_layer": 64/' gpt2.json >deep.json && layout 64 1 1f1b 64 >pp64.json && build deep deep pp64 train.batch_size=64 &&
    "$piper" plan deep.h5 --svg wide.svg --width 1200 >>out 2>&1 && [ "$(rows wide.svg | tr ' ' '\n' | grep -c '^streams')" -eq 64 ] &&
    grep -q 'font-size:8.0px">8<' wide.svg && grep -q 'font-size:8.0px">56<' wide.svg && ! grep -q 'px">9<' wide.svg
result '64 ranks and microbatches at 1,200 pixels: streams merged, every eighth number'

refuses 'requires --svg' --time 1:2 && refuses 'requires --svg' --memory && refuses 'expected two times' --svg x.svg --time 5 && refuses 'expected two times' --svg x.svg --time 9:3 &&
    refuses 'expected two times' --svg x.svg --time 1:2:3 && refuses 'expected two times' --svg x.svg --time a:b && refuses 'expected numbers and ranges' --svg x.svg --rows 1- &&
    refuses 'merged' --svg x.svg --lanes some && refuses '>= 300' --svg x.svg --width 5 && [ ! -e x.svg ]
result 'what is refused'

build traced gpt2 pp4 'train.trace_steps=[2]' train.steps=3
train 4 traced t --device emulate --emulate-forward 0.004 && "$piper" trace t --svg - --ranks 1-2 --lanes merged --time 5:60 --width 900 >t.svg 2>>out &&
    [ "$(rows t.svg)" = 'rank 1 expected streams rank 2 expected streams ' ] && grep -q '^<svg [^>]*width="900"' t.svg && grep -q '<title>exposed' t.svg &&
    got=0 && { "$piper" trace t --lanes none >said 2>&1 || got=$?; } && [ "$got" -eq 64 ] && grep -q 'requires --svg' said
result 'a trace'

build short gpt2 one train.steps=8 train.eval_data=tokens.h5 train.eval_every=4
train 1 short a && cp -r a 'b<&' && "$piper" plot a 'b<&' --columns loss,tokens_per_second >out 2>&1 && grep -q '^plot.svg: loss,tokens_per_second of 2 runs' out &&
    [ "$(grep -c 'class="curve"' plot.svg)" -eq 4 ] && grep -q 'class="dot"' plot.svg && grep -q 'b&lt;&amp;' plot.svg && ! grep -q 'b<' plot.svg && ! grep -q 'NaN\|nan\|inf' plot.svg
result 'plot: two runs, two columns'
"$piper" plot a -o "$(printf 'a\033[31m\302\233.svg')" --columns loss >out 2>&1 && grep -qx 'a?\[31m??\.svg: loss of 1 run' out
result 'plot: control characters of a name are not printed'
for one in 'none --columns loss|no such directory' 'a --columns los|in these runs; their metrics.csv has loss, grad_norm' 'a --columns ,|names no column' 'a -o /nosuch/x.svg|/nosuch/x.svg: cannot be written'; do
    # shellcheck disable=SC2086 # words
    { ! "$piper" plot ${one%%|*} >said 2>&1 && grep -q -- "${one##*|}" said; } || { echo "$one" && cat said && false; } >>out || break
done
result 'plot: what is refused'
echo "1..$n"
