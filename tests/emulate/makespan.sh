#!/bin/sh
# time-limit: 900
# Emulated runs of 8 ranks with kernels of 10 ms take as long as the simulator says, and have the bubbles of the papers'
# formulas, within 5 %: of the best of their steps, since other programs disturb single ones. Also 64 ranks.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
sed 's/"num_hidden_layers": 4/"num_hidden_layers": 16/' llama.json >deep.json
sed 's/"num_hidden_layers": 4/"num_hidden_layers": 64/' llama.json >deeper.json

# follows NAME MODEL RANKS PLACEMENT KIND MICROBATCHES UNIT_MS LIMIT EXPECTED_UNITS STEPS: the formula's time, and the trace's
follows()
{
    echo "[{\"op\":\"layout\",\"pp\":$3,\"dp\":1,\"placement\":\"$4\"},
        {\"op\":\"schedule\",\"kind\":\"$5\",\"microbatches\":$6}]" >"$1.json"
    build "$1" "$2" "$1" train.batch_size="$6" train.steps="${10}" "train.trace_steps=[${10}]"
    simulated=$("$piper" plan "$1.h5" | sed -n 's/^schedule  *\([0-9.]*\) units.*/\1/p')
    for _ in 1 2 3; do
        sh "$src/tests/run-mpi" -t 120 "$piper" "$3" train "$1.h5" -o "$1" --device emulate \
            --emulate-forward "$(awk "BEGIN { print $7 / 1000 }")" >out 2>&1 || return 1
        column "$1" step_seconds | awk -v simulated="$simulated" -v units="$9" -v ms="$7" -v limit="$8" '
            !best || $2 < best { best = $2 }
            END { printf "measured %.1f ms, simulated %.1f (%+.1f %%), by the formula %.1f\n", 1000 * best, simulated * ms,
                    100 * (1000 * best / (simulated * ms) - 1), units * ms
                exit !(simulated == units && best * 1000 >= 0.99 * units * ms && best * 1000 <= (1 + limit) * units * ms) }' >>out &&
            tail -n 1 out | sed "s/^/# $1: /" && return 0
    done
    return 1
}

# work: 3 units a microbatch and stage; bubbles of SCHEDULES: (p-1)(tF+tB+tW), (p-1)tF, (P/2-1)(F&B+B-3W) with parts of a V
follows 1f1b deep 8 standard 1f1b 20 10 0.05 81 6
result '1f1b: 60 + 21 units'
follows zb-v deep 8 v zb-v 20 10 0.05 127 6
result 'zb-v: 120 + 7 units'
follows dualpipev deep 8 v dualpipev 20 10 0.05 127 6
result 'dualpipev: 120 + 7 units'
follows wide deeper 64 standard 1f1b 64 25 0.15 381 2
result '64 ranks on whatever there is: 1f1b, 192 + 189 units'
echo "1..$n"
