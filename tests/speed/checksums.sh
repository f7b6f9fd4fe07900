#!/bin/sh
# checksums.sh PIPER [PAIRS [STEPS]]: what --checksums costs a step of GPT-2's 124M parameters (2,048 tokens a rank, float32, as many threads
# as there are processors). RANKS: "1 2".
# Runs with and without them take turns; each pair gives one ratio of the sums of its steps (the first step, which warms up, apart). ZeRO 0 on one
# rank: the update alone; ZeRO 1 on two: before each gather too, which is a pass of its own over the parameters.
[ $# -ge 1 ] || { echo "usage: checksums.sh PIPER [PAIRS [STEPS]]" >&2; exit 64; }
piper=$(realpath "$1")
pairs=${2:-9}
steps=${3:-6}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export OPENBLAS_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
echo '{"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}' >model.json
echo '[]' >1.json
echo '[{"op": "layout", "dp": 2, "zero": 1}]' >2.json
seq 20000 >text
"$piper" data text text -o tokens.h5 >log || exit 1
# took RANKS on|off: seconds of its steps but the first
took()
{
    rm -rf run
    mpirun -q -n "$1" --bind-to none "$piper" train "job$1.h5" -o run --checksums "$2" >log 2>&1 || { cat log >&2; exit 1; }
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "step_seconds") column = i; next } $1 > 1 { sum += $column } END { print sum }' run/metrics.csv
}
for ranks in ${RANKS:-1 2}; do
    export OMP_NUM_THREADS=$(($(nproc) / ranks))
    echo "{\"batch_size\": $((4 * ranks)), \"seq_len\": 512, \"steps\": $((steps + 1)), \"data\": \"tokens.h5\", \"checkpoint_every\": 0}" >train.json
    "$piper" build -m model.json -s "$ranks.json" -t train.json -o "job$ranks.h5" >log || exit 1
    : >ratios
    for pair in $(seq "$pairs"); do
        # who begins changes, as a machine that others use drifts
        if [ $((pair % 2)) -eq 0 ]; then
            without=$(took "$ranks" off) && with=$(took "$ranks" on) || exit 1
        else
            with=$(took "$ranks" on) && without=$(took "$ranks" off) || exit 1
        fi
        echo "$with $without" | awk -v n="$steps" '{ print $1 / $2, $1 / n, $2 / n }' | tee -a ratios
    done
    sort -n ratios | awk -v ranks="$ranks" '{ ratio[NR] = $1 } END {
        printf "%d rank(s): %+.2f%% (median of %d pairs; quartiles %+.2f%%, %+.2f%%)\n", ranks, 100 * (ratio[int((NR + 1) / 2)] - 1), NR,
            100 * (ratio[int((NR + 3) / 4)] - 1), 100 * (ratio[int((3 * NR + 3) / 4)] - 1) }'
done
