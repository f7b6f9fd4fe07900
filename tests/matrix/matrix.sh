#!/bin/sh
# time-limit: 600
# The matrix: every schedule x ZeRO 0-3 x {dense, MoE with ep=1,2,4} x recompute off and on, on up to 8 ranks, against the 1-rank
# run over 10 SGD steps, auxiliary loss and capacity drops on, clipping active. All copies of every parameter are compared at
# the end, and recompute gives the same bits as none. Prints TAP: a case a cell, with the worst deviations.
# CELLS=pairs (default): every pair of values of the four axes occurs; CELLS=all: every cell.
steps=10
. "${top_srcdir:-.}"/tests/matrix/lib.sh || exit 99
train_options="--check-replicas $steps"

base llama sgd
base qwen3_moe sgd

# cell SCHEDULE ZERO EXPERTS RECOMPUTE; EXPERTS 0: dense
cell()
{
    model=qwen3_moe dp=4 ep=$3 recompute=''
    if [ "$3" = 0 ]; then
        model=llama dp=2 ep=1
    fi
    [ "$4" = on ] && recompute=',{"op":"recompute","filter":{}}'
    case_of "$1 zero=$2 $([ "$3" = 0 ] && echo dense || echo "ep=$3") recompute=$4" $((2 * dp)) $model sgd 1e-4 \
        "[{\"op\":\"layout\",\"pp\":2,\"dp\":$dp,\"ep\":$ep,\"zero\":$2,\"placement\":\"$(place_of "$1")\"},
          {\"op\":\"schedule\",\"kind\":\"$1\",\"microbatches\":4}$recompute]"
}

if [ "${CELLS:-pairs}" = all ]; then
    for schedule in $schedules; do
        for zero in 0 1 2 3; do
            for experts in 0 1 2 4; do
                keep=1
                cell "$schedule" $zero $experts off
                cp "$dir/kept.csv" "$dir/off.csv" 2>/dev/null
                cell "$schedule" $zero $experts on
                cmp "$dir/off.csv" "$dir/kept.csv" >"$dir/log" 2>&1
                result "$schedule zero=$zero experts=$experts: recompute gives the same bits"
            done
        done
    done
else
    # Every schedule with every level, and within these all pairs of (schedule, experts), (level, experts), (., recompute).
    i=0
    for schedule in $schedules; do
        for zero in 0 1 2 3; do
            case $(((i + zero) % 4)) in
            0) experts=0 ;;
            1) experts=1 ;;
            2) experts=2 ;;
            3) experts=4 ;;
            esac
            recompute=off
            [ $(((i / 2 + zero + i) % 2)) = 1 ] && recompute=on
            cell "$schedule" $zero "$experts" $recompute
        done
        i=$((i + 1))
    done
fi

# Further rows.
base gpt2 sgd
for zero in 0 1 2 3; do
    case_of "tied gpt2 zero=$zero pp=2 dp=2" 4 gpt2 sgd 1e-4 \
        "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"zero\":$zero},{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":4}]"
    case_of "tied gpt2 zero=$zero pp=2 dp=2 v" 4 gpt2 sgd 1e-4 \
        "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"zero\":$zero,\"placement\":\"v\"},{\"op\":\"schedule\",\"kind\":\"zb-v\",\"microbatches\":4}]"
    case_of "tied gpt2 zero=$zero pp=4 dp=2" 8 gpt2 sgd 1e-4 \
        "[{\"op\":\"layout\",\"pp\":4,\"dp\":2,\"zero\":$zero},{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":8}]"
done
case_of "dp=4 ep=2, reduce each with zero 0" 4 qwen3_moe sgd 1e-4 \
    '[{"op":"layout","pp":1,"dp":4,"ep":2,"reduce":"each"},{"op":"split","filter":{},"num_microbatches":2}]'
case_of "reduce last with zero 3, prefetch 2" 4 llama sgd 1e-4 \
    '[{"op":"layout","pp":1,"dp":4,"zero":3,"reduce":"last","prefetch":2},{"op":"split","filter":{},"num_microbatches":2}]'
case_of "encoder and head spread, dp=2 zero=1" 4 llama sgd 1e-4 \
    '[{"op":"layout","pp":2,"dp":2,"zero":1,"encoder":"spread","head":"spread"},{"op":"schedule","kind":"1f1b","microbatches":4}]'
case_of "head spread, tied, zb-h1 zero=2" 4 gpt2 sgd 1e-4 \
    '[{"op":"layout","pp":4,"dp":1,"zero":2,"head":"spread"},{"op":"schedule","kind":"zb-h1","microbatches":8}]'
case_of "encoder spread, ep=2 zero=3" 4 qwen3_moe sgd 1e-4 \
    '[{"op":"layout","pp":2,"dp":2,"ep":2,"zero":3,"encoder":"spread"},{"op":"schedule","kind":"gpipe","microbatches":4}]'
base dropless sgd
case_of "dropless dp=4 ep=4 zero=3" 4 dropless sgd 1e-4 \
    '[{"op":"layout","pp":1,"dp":4,"ep":4,"zero":3},{"op":"split","filter":{},"num_microbatches":2}]'
case_of "dropless dualpipev ep=2 recompute" 8 dropless sgd 1e-4 \
    '[{"op":"layout","pp":2,"dp":4,"ep":2,"zero":2,"placement":"v"},{"op":"schedule","kind":"dualpipev","microbatches":4},{"op":"recompute","filter":{}}]'

for kind in dualpipe zb-v zb-h2; do
    case_of "$kind, backward whole, ep=2 recompute" 4 dropless sgd 1e-4 \
        "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2,\"placement\":\"$(place_of $kind)\"},{\"op\":\"schedule\",\"kind\":\"$kind\",\"microbatches\":4,\"backward\":\"whole\"},{\"op\":\"recompute\",\"filter\":{},\"received\":\"again\"}]"
done

# Text of one letter: all positions are alike, so one expert gets all tokens, the others none.
awk 'BEGIN { for (i = 0; i < 40000; i++) printf "a" }' >"$dir/text"
"$piper" data text "$dir/text" -o "$dir/alike.h5" >/dev/null || { echo "Bail out! piper data text failed"; exit 1; }
sed 's/"num_experts_per_tok": 2/"num_experts_per_tok": 1/' "$dir/qwen3_moe.json" >"$dir/collapsed.json"
sed 's/"capacity_factor": 1.25, //' "$dir/collapsed.json" >"$dir/collapsed-dropless.json"
data=alike.h5
for model in collapsed collapsed-dropless; do
    base $model sgd
    case_of "$model: one expert with all tokens, ep=4 zero=2" 4 $model sgd 1e-4 \
        '[{"op":"layout","pp":1,"dp":4,"ep":4,"zero":2},{"op":"split","filter":{},"num_microbatches":2}]'
    case_of "$model: one expert with all tokens, zb-v ep=2 zero=3" 4 $model sgd 1e-4 \
        '[{"op":"layout","pp":2,"dp":2,"ep":2,"zero":3,"placement":"v"},{"op":"schedule","kind":"zb-v","microbatches":4}]'
done
echo "1..$n"
