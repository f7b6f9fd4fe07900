#!/bin/sh
# piper report: a page about one run and about two, with what a run's names and log may contain. Prints TAP.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

# closed FILE: nothing in it comes from elsewhere, and nothing runs
closed()
{
    grep -v base64 "$1" | grep -oE '<[a-zA-Z][^>]*>' >tags
    ! grep -qiE '^<(script|link|iframe|object|embed|form|a )|[ "]on[a-z]+=|href=|javascript:' tags && ! grep -q '@import\|url(' "$1" &&
        ! sed -n 's/.*src="\([^"]\{1,16\}\).*/\1/p' "$1" | grep -qv '^data:image/svg+x' &&
        grep -q "default-src 'none'" "$1" && [ "$(grep -c '</html>$' "$1")" -eq 1 ]
}

build job gpt2 pp2dp2 train.steps=12 train.checkpoint_every=4 train.eval_data=tokens.h5 train.eval_every=6 'train.trace_steps=[5]'
train 4 job run && "$piper" report run >out 2>&1 && grep -q '^report.html: 1 run, [0-9]* KB' out && closed report.html &&
    for part in '<td>finished</td>' '>loss</figcaption>' '>learning rate</figcaption>' 'class="curve"' 'class="dot"' 'exposed: messages' \
        'slowest rank: ' 'data:image/svg+xml;base64,' '3 written, in ' 'starting at step 1' 'hosts: \|[(]4 ranks[)]'; do
        grep -q -- "$part" report.html || { echo "no $part" >>out; false; } || break
    done
result 'a page about a run'
sed -n 's/.*base64,\([A-Za-z0-9+/=]*\)".*/\1/p' report.html | base64 -d >trace.svg 2>>out && head -c 5 trace.svg | grep -q '<svg' && tail -n 1 trace.svg | grep -q '</svg>'
result 'the picture of its traced step is whole'

evil='run"<script>alert(1)</script>&'
cp -r run "$(printf '%s' "$evil" | tr / _)" && evil=$(printf '%s' "$evil" | tr / _) &&
    printf '2026-01-01 00:00:00  warning: <img src=x onerror=alert(2)> \033[31m & "quotes"\n' >>"$evil/log.txt" &&
    sed "1s/\$/,eval_loss.<b>/;2,\$s/\$/,1/" run/metrics.csv >"$evil/metrics.csv" &&
    "$piper" report run "$evil" -o two.html >>out 2>&1 && grep -v base64 two.html >text.html && closed two.html &&
    ! grep -q '<img src=x\|<b>eval\|eval_loss.<b>' text.html && ! grep -q "$(printf '\033')" two.html && grep -q 'warning: &lt;img src=x onerror=alert(2)&gt;' two.html &&
    grep -q '<title>run, run&quot;&lt;script&gt;' two.html && grep -q 'eval_loss.&lt;b&gt;' two.html
result 'two runs; what they are called and say is text'

mkdir long && cp run/log.txt long && awk 'BEGIN { srand(1); print "step,loss,grad_norm,lr,tokens,step_seconds,tokens_per_second,eval_loss"
    for (i = 1; i <= 20000; i++) printf "%d,%.6f,%.5f,0.0003,%d,0.1,1280.%d,\n", i, 2 + 800 / (100 + i) + rand() / 10, rand(), i * 128, i % 997 }' >long/metrics.csv &&
    "$piper" report long long long -o long.html >>out 2>&1 && [ "$(wc -c <long.html)" -lt 1000000 ] && grep -q 'class="band"' long.html && closed long.html
result '20,000 steps: bands, and a small file'

mkdir hollow && got=0
"$piper" report run hollow >said 2>&1 || got=$?
[ "$got" -eq 66 ] && grep -q 'hollow: has neither log.txt nor metrics.csv' said && got=0
"$piper" report run nowhere >said 2>&1 || got=$?
[ "$got" -eq 66 ] && grep -q 'nowhere: no such directory' said && { "$piper" report >said 2>&1 || grep -q 'RUNDIR' said; } &&
    ! "$piper" report run -o /nosuch/page.html >said 2>&1 && grep -q '/nosuch' said
result 'what is no run, and where no page can be'
mkdir young && printf 'step,loss\n' >young/metrics.csv && "$piper" report young -o young.html >>out 2>&1 && closed young.html &&
    sed -i 's/,[^,]*,/,,/' young/metrics.csv && "$piper" report young -o - >young.html && closed young.html
result 'a run without a step'
echo "1..$n"
