#!/bin/sh
# time-limit: 300
# Which checkpoints a run keeps, what it does with damaged ones, when it cannot write one, and what it leaves when it cannot
# start. A folder in the place of a file stands for a disk that does not take it.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

steps_of()
{
    find "$1/checkpoints" -type f | sed 's|.*/||; s/^step-0*//; s/\.h5$//' | sort -n | tr '\n' ' '
}
# damage FILE [PERCENT]: one byte, in the middle, which is one of HDF5's own, or behind so much of the file: at 90 it is one of a tensor's
damage()
{
    middle=$(($(wc -c <"$1") * ${2:-50} / 100))
    byte=$(od -An -tu1 -j $middle -N 1 "$1")
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\$(printf %o $(((byte + 1) % 256)))" | dd of="$1" bs=1 seek=$middle conv=notrunc 2>>out
}

# ---- the last K and every Mth
for how in async sync; do
    build k gpt2 pp2dp2 train.steps=13 train.checkpoint_every=2 train.checkpoint_keep=2 train.checkpoint_keep_every=6
    train 4 k k-$how --checkpoint $how && [ "$(steps_of k-$how)" = '6 12 13 ' ] && grep -q "checkpoint .*($how)" k-$how/log.txt
    result "$how: the last 2 of 13 steps and every 6th stay"
done
same_bits k-async k-sync
result 'async and sync write the same'

# ---- what cannot be written
build f gpt2 zero3 train.steps=9 train.checkpoint_every=2 train.checkpoint_keep=1
train 2 f whole
for how in async sync; do
    train 2 f d-$how --steps 4
    mkdir d-$how/checkpoints/step-000008.h5
    ends 74 2 f d-$how --checkpoint $how && grep -q 'step-000008.h5: cannot be read: it is a folder, not a regular file; .* nothing is changed' \
        out && [ "$(steps_of d-$how)" = '4 ' ]
    result "$how: a folder that has the name of a newer one: 74, nothing is changed"
    rmdir d-$how/checkpoints/step-000008.h5
    train 2 f d-$how --checkpoint $how && same_bits whole d-$how
    result "$how: and then it goes on"
done
rm -rf d-sync

# ---- damaged ones
build h gpt2 pp2dp2 train.steps=9 train.checkpoint_every=3
train 4 h named && [ "$(sed -n 's/.*checkpoint of step \([0-9]*\) written.*/\1/p' named/log.txt | tr '\n' ' ')" = "$(steps_of named)" ]
result 'the log names each by the step of its file'
train 4 h h && cp -r h good && damage h/checkpoints/step-000009.h5 && ! "$piper" checkpoint verify h/checkpoints/step-000009.h5 \
    >>out 2>&1 && train 4 h h && grep -q 'warning: .*step-000009.h5: /' h/log.txt &&
    grep -q 'resuming from the checkpoint of step 6' h/log.txt && same_bits good h
result 'the newest is damaged: a warning, and on from the one before, with the same bits'
build more gpt2 pp2dp2 train.steps=12 train.checkpoint_every=3 train.checkpoint_keep=3
for at in 50 90; do
    rm -rf older && cp -r good older && damage older/checkpoints/step-000006.h5 $at && train 4 more older &&
        [ "$(steps_of older)" = '3 6 9 12 ' ]
    result "an older one is damaged at $at%: it counts for none of the last 3"
done
for step in 3 6 9; do damage h/checkpoints/step-00000$step.h5; done
cp -r h before
ends 65 4 h h && grep -q 'none of its 3 checkpoints is usable.*step-000009.h5.*--fresh' out && diff -r -x log.txt -x ring before h >>out
result 'all are damaged: 65, nothing is touched, --fresh is named'
train 4 h h --fresh && same_bits good h && [ -f h/old.1/checkpoints/step-000009.h5 ]
result 'and --fresh begins anew'

# ---- another model
sed 's/"n_layer": 4/"n_layer": 3/' gpt2.json >three.json
build t three one train.steps=9
ends 65 1 t h && grep -q 'is a checkpoint of another model: .*--fresh' out
result 'a checkpoint of another model is refused'

# ---- none at all
train 4 h none --no-checkpoint && [ ! -e none/checkpoints ] && [ "$(find none -name '*.h5')" = none/job.h5 ] &&
    numbers good >a && numbers none >b && diff a b >>out && grep -q 'no checkpoints are written' none/log.txt
result '--no-checkpoint: the same steps, and none is written'
planned()
{
    sed -n 's/.*peak memory per rank: \([0-9.]*\) MiB planned.*/\1/p' "$1/log.txt" | tail -n 1
}
awk -v none="$(planned none)" -v kept="$(planned good)" 'BEGIN { print none, kept; exit !(none > 0 && none < kept) }' >out
result 'and no memory is planned for one'
train 4 h none --no-checkpoint --steps 2 && [ "$(last_step none)" -eq 2 ] && [ "$(last_step none/old.1)" -eq 9 ]
result 'it starts over each time, and keeps what was there'
rm -rf before && cp -r good before && ends 64 4 h good --no-checkpoint && grep -q 'contains the checkpoints .*--fresh' out &&
    diff -r -x log.txt -x ring before good >>out
result 'a folder with checkpoints is refused: 64, and nothing is touched'
build stops gpt2 one train.steps=100000
expect=75 launch 1 stops stops --no-checkpoint
await 3 stops && kill -USR1 "$(cat pid.0)"
wait $launched && [ ! -e stops/checkpoints ] && grep -q 'stopped after .*; not resumable (--no-checkpoint)' stops/log.txt
result 'a signal stops it, with nothing kept'

# ---- no run folder where no run began
ends 64 3 h new && [ ! -e new ]
result 'wrong number of ranks: 64 and no run folder'
ends 66 4 h new --data none.h5 && [ ! -e new ]
result 'no data: 66 and no run folder'
echo no >wrong.safetensors
"$piper" checkpoint import h.h5 wrong.safetensors -o new >out 2>&1
[ $? -eq 65 ] && [ ! -e new ]
result 'what cannot be imported: 65 and no run folder'
mkdir empty && ! "$piper" checkpoint import h.h5 none.safetensors -o empty >out 2>&1 && [ -d empty ] && [ -z "$(ls empty)" ]
result 'a folder that was there stays as it was'
echo "1..$n"
