#!/bin/sh
# time-limit: 600
# Random legal strategies (random_strategy.c) on tiny models, against the 1-rank run of the same model over 6 SGD steps: first
# loss and norm within 1e-5, all losses within 1e-4; all copies of every parameter equal at the end. Every third without clipping. Prints TAP,
# a case a seed.
# SEEDS (default 25) strategies from FIRST_SEED (0) on, every STRIDE-th seed.
steps=6
. "${top_srcdir:-.}"/tests/matrix/lib.sh || exit 99
train_options="--check-replicas $steps"
random=${top_builddir:-.}/tests/matrix/random_test

seed=${FIRST_SEED:-0} left=${SEEDS:-25} ranks_seen=""
while [ "$left" -gt 0 ]; do
    mkdir -p "$dir/random"
    "$random" write "$seed" "$dir/random" >"$dir/what" || { echo "Bail out! the generator failed on seed $seed"; exit 1; }
    read -r model ranks batch seq what <"$dir/what"
    cp "$dir/random/model.json" "$dir/model$model.json"
    settings=sgd$model
    [ $((seed % 3)) -ne 2 ] || settings=unclipped$model
    sed "s/\"batch_size\": 16, \"seq_len\": 24/\"batch_size\": $batch, \"seq_len\": $seq/" "$dir/sgd.json" |
        case $settings in sgd*) cat ;; *) sed 's/"clip_norm": 1.0, *//' ;; esac >"$dir/$settings.json"
    base "model$model" "$settings"
    case_of "seed $seed: $what, ranks=$ranks" "$ranks" "model$model" "$settings" 1e-4 "$(cat "$dir/random/strategy.json")"
    case $ranks_seen in
    *" $ranks "*) ;;
    *) ranks_seen="$ranks_seen $ranks " ;;
    esac
    seed=$((seed + ${STRIDE:-1}))
    left=$((left - 1))
done
echo "# numbers of ranks:$ranks_seen"
echo "1..$n"
