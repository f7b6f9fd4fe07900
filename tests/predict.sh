#!/bin/sh
# Does the simulator rank strategies as the machine does? Calibrates this machine with 2 ranks of one thread each, predicts three models under
# 16 and more strategies, trains each a few steps, ROUNDS (3) times in turns, and prints a table. A strategy's step is the median of its
# runs', its noise how far these are apart. Pairs of strategies of a model count whose steps differ by more than the larger noise of the
# two; if fewer than half of them do, the machine was too busy and the model is skipped. TAP: for each model Kendall's tau over the pairs
# that count is at least TAU (0.8), and no prediction is further off than LIMIT percent (50). Wants two cores and nothing beside it, and takes
# about eight minutes. KEEP=DIR keeps the runs, with traces; TABLE=FILE replaces the table at the end of FILE, such as
# tests/speed/PREDICTED.md; ONLY=PATTERN (grep -E) of "model strategy" leaves out the others.
# time-limit: 1800
piper=$(realpath "${PIPER:-./piper}")
limit=${LIMIT:-50} least=${TAU:-0.8} rounds=${ROUNDS:-3} steps=${STEPS:-6} table=${TABLE:+$(realpath "$TABLE")}
[ "$(getconf _NPROCESSORS_ONLN)" -ge 2 ] || { echo "1..0 # SKIP one core: two ranks would share it"; exit 77; }
dir=${KEEP:-$(mktemp -d)} || exit 99
[ -n "${KEEP-}" ] || trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir" && cd "$dir" || exit 99
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMP_NUM_THREADS OPENBLAS_NUM_THREADS OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM

# on2 COMMAND...: piper on two ranks, each bound to a core
on2()
{
    # shellcheck disable=SC2086 # a command and options of several words
    ${MPIEXEC:-mpirun} ${MPIEXEC_FLAGS:--q --bind-to core} -n 2 "$piper" "$@" >log 2>&1 || { cat log; exit 99; }
}

# ---- what is trained -----------------------------------------------------------------------------------------------------

cat >gpt2.json <<'END_OF_MODEL'
{"model_type": "gpt2", "vocab_size": 4096, "n_embd": 384, "n_layer": 4, "n_head": 6, "n_positions": 256}
END_OF_MODEL
cat >llama.json <<'END_OF_MODEL'
{"model_type": "llama", "vocab_size": 2048, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 4,
 "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 512, "tie_word_embeddings": false}
END_OF_MODEL
# The simulator spreads tokens evenly over experts. So that routers do too, their weights are large and hardly learn, and text is random.
cat >moe.json <<'END_OF_MODEL'
{"model_type": "qwen3_moe", "vocab_size": 2048, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8,
 "num_key_value_heads": 4, "head_dim": 32, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 512,
 "initializer_range": 0.3, "max_position_embeddings": 512, "tie_word_embeddings": false}
END_OF_MODEL
for model in gpt2 llama moe; do
    tokens=64
    [ $model != moe ] || tokens=128
    echo "{\"batch_size\": 8, \"seq_len\": $tokens, \"steps\": 1000, \"lr\": 1e-6, \"clip_norm\": 1.0, \"data\": \"tokens.h5\",
        \"trace_steps\": [3, 4]}" >$model.train.json
done
awk 'BEGIN { srand(7); for (i = 0; i < 80000; i++) printf "%c", 32 + int(rand() * 95) }' >text
"$piper" data text text -o tokens.h5 >log 2>&1 || { cat log; exit 99; }

# NAME MODELS LAYOUT SCHEDULE [MORE]: layout and schedule without what all have
cat >strategies <<'END_OF_STRATEGIES'
dp-1        gpt2,llama,moe "dp":2                     "kind":"1f1b","microbatches":1
dp-4        gpt2,llama,moe "dp":2                     "kind":"1f1b","microbatches":4
dp-2-again  gpt2,llama,moe "dp":2                     "kind":"1f1b","microbatches":2        ,{"op":"recompute","filter":{}}
zero2-4     gpt2,llama,moe "dp":2,"zero":2,"reduce":"each" "kind":"1f1b","microbatches":4
zero3-1     gpt2,llama,moe "dp":2,"zero":3            "kind":"1f1b","microbatches":1
zero3-4     gpt2,llama,moe "dp":2,"zero":3            "kind":"1f1b","microbatches":4
tp-2        gpt2,llama,moe "dp":1,"tp":2              "kind":"1f1b","microbatches":2
1f1b-1      gpt2,llama,moe "pp":2,"dp":1                     "kind":"1f1b","microbatches":1
gpipe-2     gpt2,llama,moe "pp":2,"dp":1                     "kind":"gpipe","microbatches":2
1f1b-4      gpt2,llama,moe "pp":2,"dp":1                     "kind":"1f1b","microbatches":4
1f1b-8      gpt2,llama,moe "pp":2,"dp":1                     "kind":"1f1b","microbatches":8
gpipe-2-again gpt2,llama,moe "pp":2,"dp":1                   "kind":"gpipe","microbatches":2       ,{"op":"recompute","filter":{}}
1f1b-4-again gpt2,llama,moe "pp":2,"dp":1                    "kind":"1f1b","microbatches":4        ,{"op":"recompute","filter":{}}
inter-4     gpt2,llama,moe "pp":2,"dp":1,"placement":"interleaved" "kind":"interleaved","microbatches":4
zb-h1-2     gpt2,llama,moe "pp":2,"dp":1                     "kind":"zb-h1","microbatches":2
zb-v-4      gpt2,llama,moe "pp":2,"dp":1,"placement":"v"     "kind":"zb-v","microbatches":4
dualpipev-4 gpt2,llama,moe "pp":2,"dp":1,"placement":"v"     "kind":"dualpipev","microbatches":4
ep-1        moe            "dp":2,"ep":2              "kind":"1f1b","microbatches":1
ep-4        moe            "dp":2,"ep":2              "kind":"1f1b","microbatches":4
END_OF_STRATEGIES

: >joblist
while read -r name models layout schedule more; do
    echo "[{\"op\":\"layout\",$layout},{\"op\":\"schedule\",$schedule}$more]" >strategy.json
    for model in $(echo "$models" | tr , ' '); do
        echo "$model $name" | grep -qE "${ONLY:-.}" || continue
        "$piper" build -m "$model.json" -s strategy.json -t "$model.train.json" -o "$model.$name.h5" >log 2>&1 || { cat log; exit 99; }
        echo "$model $name" >>joblist
    done
done <strategies
[ -s joblist ] || { echo "1..0 # SKIP no model and strategy match $ONLY"; exit 77; }

# ---- predicted, measured -------------------------------------------------------------------------------------------------

if ! [ -s machine.h5 ]; then
    on2 calibrate -o machine.h5
    mv log calibrate.log
fi
grep '^warning' calibrate.log | sed 's/^/# /'
round=0
while [ $round -lt "$rounds" ]; do
    round=$((round + 1))
    while read -r model name; do
        on2 train "$model.$name.h5" -o "run.$model.$name" --machine machine.h5 --steps "$steps" --fresh --no-checkpoint </dev/null
        awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "step_seconds") c = i } NR > 3 { print $c }' \
            "run.$model.$name/metrics.csv" | sort -g | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }' >>"$model.$name.times"
    done <joblist
done
while read -r model name; do
    "$piper" plan "$model.$name.h5" --simulate --machine machine.h5 --json >plan.json 2>log || { cat log; exit 99; }
    predicted=$(sed -n 's/^  "step_seconds": \([0-9.e+-]*\).*/\1/p' plan.json)
    sort -g "$model.$name.times" | awk -v m="$model" -v n="$name" -v p="$predicted" '{ x[NR] = $1 }
        END { print m, n, p, x[int((NR + 1) / 2)], x[NR] - x[1] }'
done <joblist >results

# ---- judged ------------------------------------------------------------------------------------------------------------------

if [ -n "$table" ]; then
    sed '/^| model /,$d' "$table" >before
    cp before "$table"
fi
# Columns of results: model, strategy, predicted, measured, noise.
awk -v least="$least" -v limit="$limit" -v table="$table" '
    function abs(x) { return x < 0 ? -x : x }
    function show(line) { print "# " line; if (table) print line >>table }
    function ok(good, what) { printf "%sok %d - %s\n", good ? "" : "not ", ++tests, what }
    { model[NR] = $1; name[NR] = $2; predicted[NR] = $3; measured[NR] = $4; noise[NR] = $5
      off[NR] = 100 * ($3 / $4 - 1); if (!($1 in seen)) { seen[$1] = 1; order[++models] = $1 } }
    END {
        show("| model | strategy | predicted, ms | measured, ms | its runs apart, ms | predicted off by |")
        show("|---|---|---|---|---|---|")
        for (i = 1; i <= NR; i++) {
            show(sprintf("| %s | %s | %.1f | %.1f | %.1f | %+.1f%% |", model[i], name[i], 1e3 * predicted[i], 1e3 * measured[i],
                1e3 * noise[i], off[i]))
            for (k = i; k > 1 && abs(sorted[k - 1]) > abs(off[i]); k--)
                sorted[k] = sorted[k - 1]
            sorted[k] = off[i]
        }
        show("")
        show(sprintf("Predictions are off by %.1f%% in the median, by %.1f%% at most.", abs(sorted[int((NR + 1) / 2)]), abs(sorted[NR])))
        for (m = 1; m <= models; m++) {
            pairs = counted = agree = 0
            for (i = 1; i <= NR; i++)
                for (j = 1; j < i; j++) {
                    if (model[i] != order[m] || model[j] != order[m])
                        continue
                    pairs++
                    d = measured[i] - measured[j]
                    if (abs(d) <= (noise[i] > noise[j] ? noise[i] : noise[j]))
                        continue
                    counted++
                    p = d * (predicted[i] - predicted[j])
                    agree += (p > 0) - (p < 0)
                }
            tau[m] = counted ? agree / counted : 0
            few[m] = 2 * counted < pairs
            show(sprintf("%s: tau %.2f over %d of %d pairs.", order[m], tau[m], counted, pairs))
        }
        for (m = 1; m <= models; m++) {
            if (few[m]) {
                printf "ok %d - %s # SKIP the machine is busy: most pairs differ by less than the noise\n", ++tests, order[m]
                continue
            }
            ok(tau[m] >= least, order[m] ": strategies rank as predicted, tau at least " least)
            for (i = 1; i <= NR; i++)
                if (model[i] == order[m] && abs(off[i]) > limit)
                    ok(0, order[m] " under " name[i] " is predicted within " limit "%")
        }
        print "1.." tests
    }' results
