#!/bin/sh
# time-limit: 240
# Ranks that are stopped, spin, sleep or are slow: who is named, who is let alone, and what is found afterwards.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
. "$src/tests/train/hang_lib.sh"

build long gpt2 pp2dp2 train.steps=1000000
stopped 4 long 3
result 'a stopped rank is named'
build often gpt2 pp2dp2 train.steps=1000000 train.checkpoint_every=1
stopped 4 often 2 --hang-timeout 2
result 'a rank that is stopped while checkpoints are written is named'
stopped 4 long start --hang-timeout 2
result 'a rank that is stopped at start is named'

if [ -z "$preload" ] || [ -n "${TEST_WRAPPER-}" ]; then
    echo 'ok # SKIP no preloaded library here'
    n=$((n + 1))
else
    expect=76 misbehaves spin 1 long 4 x --hang-timeout 2 &&
        grep -q '^piper: rank [023] (.*) has been blocked in .* waiting for rank 1 ([^)]*), which has been in [FB] .* for .* slow or spinning' out &&
        grep -q 'rank 1 (.*) has been in [FB] ' x/log.txt
    result 'a rank that computes without end is named, and who waits for it'
    expect=76 misbehaves sleep 2 long 4 y --hang-timeout 2 &&
        grep -q '^piper: .*rank 2 ([^)]*),* \(which \)*has been in [FB] .* for .* is alive and sleeping' out
    result 'a rank that sleeps is told apart'
    begin=$(date +%s)
    from=1 expect=76 misbehaves vain 1 long 4 v --hang-timeout 1 &&
        grep -q '^piper: .*rank 1 ([^)]*),* \(which \)*has been in [FB] .* for .* like a library that cannot get memory' out &&
        [ $(($(date +%s) - begin)) -le $((40 * ${TEST_TIME_SCALE:-1})) ]
    result 'a library that asks for memory without end, in the first step, is told within seconds, not minutes'
    from=2000 misbehaves 20 1 long 4 l --hang-timeout $((1 + ${TEST_TIME_SCALE:-1} / 5)) --steps 16
    result 'a rank that is slow and moves is let alone'
fi

# The whole job stops and goes on, as with Ctrl-Z.
expect=75 launch 4 long z --hang-timeout 1
await 3 z && kill -STOP "$(cat pid.0)" "$(cat pid.1)" "$(cat pid.2)" "$(cat pid.3)" && sleep 3 &&
    kill -CONT "$(cat pid.0)" "$(cat pid.1)" "$(cat pid.2)" "$(cat pid.3)" && from=$(last_step z) && await $((from + 20)) z &&
    sleep 2 && kill -USR1 "$(cat pid.0)"
wait "$launched" && ! grep -q 'rank.*has been' z/log.txt
result 'a job that is stopped whole for 3 s goes on'

# What is left of a crash.
expect=137 launch 4 long k
await 30 k
"$piper" trace k --last >out 2>&1 && [ "$(grep -c '^rank [0-3] of 4' out)" -eq 4 ] && ! grep 'no records' out
result 'trace --last: no ring of a job that runs is empty'
# in_steps: each rank has been seen in a step; where they are is looked at ten times a second
in_steps()
{
    [ "$("$piper" trace k --last 2>&1 | awk '/^rank/ { rank = $2 } / step [0-9]*, / { n += !seen[rank]++ } END { print n + 0 }')" -eq 4 ]
}
tries=0
until in_steps || [ $((tries += 1)) -gt 300 ]; do sleep 0.1; done
kill -9 "$(cat pid.1)"
wait "$launched"
"$piper" trace k --last >out 2>&1 && [ "$(grep -c '^rank [0-3] of 4 (node .*, process [0-9]*), last seen' out)" -eq 4 ] &&
    [ "$(grep -c '^  20.* step [0-9]*, ' out)" -ge 4 ]
result 'trace --last: the last places of all ranks after a kill'
"$piper" trace k --last --ranks 2 >out 2>&1 && [ "$(grep -c '^rank' out)" -eq 1 ]
result 'trace --last --ranks'
"$piper" trace k --last --ranks 9 >out 2>&1
[ $? -eq 65 ] && grep -q 'found ranks 0 to 3' out
result 'trace --last --ranks of a rank that there is not'
printf damaged | dd of=k/ring/0001 bs=1 seek=500 conv=notrunc 2>/dev/null
head -c 300 k/ring/0002 >ring && cp ring k/ring/0002
rm k/ring/0003
"$piper" trace k --last >out 2>&1 && [ "$(grep -c '^  1 damaged records skipped' out)" -eq 1 ] &&
    grep -q '^rank 2: ring/0002 cannot be used: its size' out && grep -q '^rank 3: ring/0003 cannot be used: No such' out
result 'trace --last: damaged rings are said to be so'
i=0
while [ $i -lt 110 ]; do # every second byte of the header
    cp k/ring/0000 ring && printf '\245' | dd of=ring bs=1 seek=$i conv=notrunc 2>/dev/null
    mkdir -p h/ring && cp ring h/ring/0000
    "$piper" trace h --last >out 2>&1
    [ $? -eq 65 ] || break
    grep -q '^piper: h: ring/0000 cannot be read' out || break
    i=$((i + 10))
done
[ $i -eq 110 ]
result 'trace --last: a damaged header'
rm h/ring/0000 && mkfifo h/ring/0000
timeout 20 "$piper" trace h --last >out 2>&1
[ $? -eq 65 ] && grep -q '^piper: h: ring/0000 cannot be read' out
result 'trace --last: a ring that is no file'
rm -r h
"$piper" trace h --last >out 2>&1
[ $? -eq 66 ] && grep -q '^piper: h: no such directory' out && mkdir h && ! "$piper" trace h --last >out 2>&1 &&
    grep -q '^piper: h: ring/0000 cannot be read: No such file' out
result 'trace --last: no ring'
echo "1..$n"
