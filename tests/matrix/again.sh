#!/bin/sh
# time-limit: 300
# recompute with "received":"again": rows that experts have received are sent to them once more before their backward. The same bits as
# with "keep", weights and metrics, under every schedule, expert groups of 2 and 4 ranks, ZeRO 0 to 3, with and without a capacity, with shared
# sequences, with all of the model recomputed or the experts alone. Prints TAP.
# CELLS=pairs (default): every schedule once; CELLS=all: every schedule with every level and group size.
steps=3
. "${top_srcdir:-.}"/tests/matrix/lib.sh || exit 99
sed 's/"batch_size"/"dtype": "bfloat16", "batch_size"/' "$dir/sgd.json" >"$dir/bf16.json"

# same NAME RANKS MODEL SETTINGS LAYOUT SCHEDULE FILTER
same()
{
    for how in keep again; do
        train $how "$2" "$3" "$4" "[$5, $6, {\"op\":\"recompute\",\"filter\":$7,\"received\":\"$how\"}]" || { result "$1: $how" || return 0; }
        cut -d, -f1-4,9,10 "$dir/$how/metrics.csv" >"$dir/$how.csv"
    done
    apart=$(weights again keep)
    sent=$("$piper" plan "$dir/again.h5" --dump 2>"$dir/log" | awk '/^after / { on = $2 == "again:" } on && / kind=again / { n++ } END { print n + 0 }')
    diff "$dir/keep.csv" "$dir/again.csv" >"$dir/log" && [ "$apart" = 0.00e+00 ] && [ "$sent" -gt 0 ]
    result "$1: weights differ by $apart, $sent dispatches run again"
    rm -rf "${dir:?}/keep" "${dir:?}/again"
}

# cell SCHEDULE ZERO EP MODEL SETTINGS FILTER
cell()
{
    same "$1 zero=$2 ep=$3 $4 $5 $6" $((2 * $3)) "$4" "$5" \
        "{\"op\":\"layout\",\"pp\":2,\"dp\":$3,\"ep\":$3,\"zero\":$2,\"placement\":\"$(place_of "$1")\"}" \
        "{\"op\":\"schedule\",\"kind\":\"$1\",\"microbatches\":4}" "$6"
}

i=0
for schedule in $schedules; do
    if [ "${CELLS:-pairs}" = all ]; then
        for zero in 0 1 2 3; do
            for ep in 2 4; do
                cell "$schedule" $zero $ep dropless sgd '{}'
                cell "$schedule" $zero $ep qwen3_moe bf16 '{"EP":"*"}'
            done
        done
        continue
    fi
    case $((i % 4)) in
    0) cell "$schedule" 0 2 dropless sgd '{}' ;;
    1) cell "$schedule" 3 2 dropless bf16 '{"EP":"*"}' ;;
    2) cell "$schedule" 1 2 qwen3_moe sgd '{"EP":"*"}' ;;
    3) cell "$schedule" 2 4 dropless sgd '{}' ;;
    esac
    i=$((i + 1))
done
same "tp=2 cp=2 ep=4" 4 dropless sgd '{"op":"layout","pp":1,"dp":1,"tp":2,"cp":2,"ep":4,"zero":1}' \
    '{"op":"schedule","kind":"1f1b","microbatches":2}' '{}'
same "tp=2 ep=2, counted over whole sequences, some microbatches" 4 qwen3_moe sgd '{"op":"layout","pp":2,"dp":1,"tp":2,"ep":2}' \
    '{"op":"schedule","kind":"zb-h1","microbatches":4}' '{"MB":"1-2"}'
# two regions of experts beside each other
same "two dispatches of a sub-chunk, of different microbatches" 2 beside sgd '{"op":"layout","dp":2,"ep":2}' \
    '{"op":"schedule","kind":"1f1b","microbatches":4},{"op":"recompute","filter":{}},
     {"op":"recompute","filter":{"EP":0,"MB":0},"received":"again"}' '{"EP":1,"MB":1}'
echo "1..$n"
