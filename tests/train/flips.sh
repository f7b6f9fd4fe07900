#!/bin/sh
# time-limit: 120
# One bit of what a rank keeps from update to update changes in its memory: the run ends with 71, and names rank, tensor and step; a
# checkpoint of it does not get its name. tests/train/flips_all.sh: 200 of them, and 20,000 steps without.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
flip=${top_builddir:-.}/tests/train/flip
case $flip in /*) ;; *) flip=$OLDPWD/$flip ;; esac
if ! ${CC:-cc} -O1 -fPIC -shared -o maps.so "$src/tests/train/flip_maps.c" 2>out; then
    echo "1..0 # SKIP no compiler for a preloaded library"
    exit 0
fi
if nm -D "$piper" 2>/dev/null | grep -q ' [TVW] mmap$'; then
    echo "1..0 # SKIP the program has an mmap of its own (clang's sanitizer): a preloaded one is not asked"
    exit 0
fi

zero() # LEVEL
{
    echo "[{\"op\":\"replicate\",\"filter\":{},\"devices\":[0,1],\"zero\":$1}]"
}
for z in 0 1 2 3; do
    zero $z >zero$z.json
done
long=train.steps=1000000
build z0 tiny zero0 $long
build z1 tiny zero1 $long train.dtype=bfloat16
build z2 tiny zero2 $long
build z3 moe zero3 $long train.dtype=bfloat16
build pp tiny pp2dp2 $long
build ice tiny zero1 $long 'train.freeze=["transformer.h.*"]'
build keep tiny zero1 $long train.checkpoint_every=20
build eval tiny zero3 $long train.eval_data=tokens.h5 train.eval_every=20

# flips JOB RANKS RANK WHAT SEED: $said, what was flipped, after step $step; the run is expected to end with 71
flips()
{
    rm -rf run maps.*[0-9]
    said=
    "$piper" plan "$1.h5" --dump >dump 2>>out
    # shellcheck disable=SC2086 # options are words
    FLIP_MAPS=$dir/maps LD_PRELOAD=$dir/maps.so expect=71 launch "$2" "$1" run ${options-}
    if await "${rows:-3}" run; then
        pid=$(cat "pid.$3")
        said=$("$flip" "$1.h5" dump "maps.$pid" "$pid" "$3" run/metrics.csv "$4" "$5" 2>flip.out)
    fi
    [ -n "$said" ] || kill "$(cat pid.launcher)"
    step=${said%% *} said=${said#* }
    tries=$((200 * ${TEST_TIME_SCALE:-1})) # a fault that nobody finds: the run has no end
    while [ $tries -gt 0 ] && kill -0 "$launched" 2>/dev/null; do
        tries=$((tries - 1))
        sleep 0.1
    done
    [ $tries -gt 0 ] || kill "$(cat pid.launcher)"
    wait "$launched" || return
    cat flip.out >>out
    echo "step $step: $said" >>out
    [ -n "$said" ] && grep -qF "rank $3" out && grep -qF "$said changed in memory after step" out
}
# found_soon: the update that was under way, or the next one, has found it
found_soon()
{
    after=$(sed -n 's/.* changed in memory after step \([0-9]*\) .*/\1/p' out | head -n 1)
    [ "$after" -ge $((step - 1)) ] && [ "$after" -le $((step + 1)) ]
}

seed=${SEED:-1}
flip_case() # JOB RANKS WHAT
{
    seed=$((seed + 7))
    flips "$1" "$2" $((seed % $2)) "$3" $seed && found_soon
    result "$1, rank $((seed % $2)), seed $seed: ${said:-nothing was flipped}"
}
options=--no-checkpoint
if [ -n "${FLIPS-}" ]; then
    while [ "$n" -lt "$FLIPS" ]; do
        for job in z0 z1 z2 z3 pp; do
            ranks=2
            [ $job != pp ] || ranks=4
            flip_case $job $ranks kept
        done
    done
    train 2 z1 clean $options --steps "$CLEAN" && [ "$(last_step clean)" -eq "$CLEAN" ]
    result "$CLEAN steps in which nothing changes"
    echo "1..$n"
    exit 0
fi

flip_case z0 2 kept
flip_case z1 2 kept
flip_case z3 2 kept
flip_case pp 4 kept
seed=100
flip_case ice 2 params
case $said in *transformer.h.*) ;; *) false ;; esac
result 'a frozen parameter'

# the evaluation of step 20 takes long: it is the gather of its next batch that is not made of that
options=--no-checkpoint rows=20
flips eval 2 1 params 3 && grep -q 'rank 1, step 20, all-gather' out && ! grep -q 'update bucket' out
result 'found before the parameters are gathered'

# while the checkpoint of step 20 is written, a tensor after the other, from the state itself and from a copy of it
for how in 'sync kept' 'async snapshot'; do
    options="--checkpoint ${how% *}" rows=20 FLIP_SLOW=40
    export FLIP_SLOW
    flips keep 2 0 "${how#* }" 5 && grep -q 'rank 0: the checkpoint of step 20 is not written' out &&
        [ ! -e run/checkpoints/step-000020.h5 ]
    result "a checkpoint of memory that changed is not written: $how"
done
unset options FLIP_SLOW rows

train 2 z2 off --checksums off --steps 5 && train 2 z2 on --steps 5 && same_bits off on
result '--checksums off: the same numbers'
ends 64 1 z2 off --checksums maybe
result 'another word is refused'
echo "1..$n"
