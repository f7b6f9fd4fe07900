#!/bin/sh
# time-limit: 300
# Ranks are killed at random moments, one or all of them, a third of the times while a checkpoint is written, and the same
# command is given again: all checkpoints that have a name are whole, and what comes of it in the end has the bits of the run
# that never stopped. KILLS times. What is redone: the steps since the newest durable checkpoint. One becomes durable some time
# after its step, as the log says, so these are at most one interval and the steps made while one is written; where writing
# ends before the next one is due, no more than one of them is missing.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
kills=${KILLS:-3}
every=3

# random N: 0 to N-1
random()
{
    echo $(($(od -An -N 4 -tu4 /dev/urandom) % $1))
}
# 0: there is none yet
newest()
{
    find "$1/checkpoints" -name 'step-*.h5' 2>/dev/null | sed 's|.*/step-0*||; s/\.h5$//' | sort -n | tail -n 1 |
        grep . || echo 0
}
# the most steps from the step of a checkpoint to the one after which it was durable, in all runs so far
slowest_lag()
{
    sed -n 's/.*checkpoint of step .* written in .*, \([0-9]*\) steps* later; .*/\1/p' r/log.txt | sort -n | tail -n 1 | grep . || echo 0
}
unfinished()
{
    ls "$1"/checkpoints/*.tmp >/dev/null 2>&1
}

# large enough that a checkpoint takes some time to write
build long llama pp2dp2 train.steps=1000000 train.checkpoint_every=$every train.checkpoint_keep=3
writing=0 longest=0 most=0 beyond=0
: >log
k=0
while [ $k -lt "$kills" ]; do
    before=0
    [ $k -eq 0 ] || before=$(last_step r)
    expect=137 launch 4 long r
    await "$((before + 1 + $(random 7)))" r || break
    if [ $((k % 3)) -eq 0 ]; then
        tries=2000
        until unfinished r || [ $tries -eq 0 ]; do tries=$((tries - 1)); done
    else
        sleep "0.$(random 3)$(random 10)"
    fi
    unfinished r && writing=$((writing + 1))
    if [ "$(random 2)" -eq 0 ]; then
        kill -KILL "$(cat pid."$(random 4)")" 2>>log
    else
        cat pid.[0-3] | xargs kill -KILL 2>>log
    fi
    wait "$launched"
    [ "$(newest r)" -eq 0 ] || "$piper" checkpoint verify r/checkpoints/step-*.h5 >verified 2>&1 ||
        { cat verified >>log; break; }
    redone=$(($(last_step r) - $(newest r)))
    lag=$(slowest_lag)
    echo "kill $k: step $(last_step r), checkpoint $(newest r), $lag steps until one is durable" >>log
    [ "$lag" -le "$longest" ] || longest=$lag
    [ $redone -le $most ] || most=$redone
    # the one that was killed may have been slower than those before it, but the next is not begun before it ends
    [ $redone -le $((2 * every)) ] || { echo "$redone steps are lost" >>log; break; }
    [ $redone -le $((every + lag + 1)) ] || beyond=$((beyond + 1))
    k=$((k + 1))
done
cp log out
echo "$beyond times more than an interval and the longest time to write a checkpoint so far" >>out
[ $k -eq "$kills" ] && [ $beyond -le $((kills / 10 + 1)) ]
result "$kills kills, $writing of them while a checkpoint was written: none is lost"
echo "# at most $most steps were redone; interval $every, a checkpoint was durable at most $longest steps after its own"
stop=$(($(newest r) + 4))
train 4 long r --steps $stop && train 4 long whole --steps $stop && same_bits whole r && ! unfinished r
result "after $kills restarts $stop steps have the bits of the run that never stopped"
echo "1..$n"
