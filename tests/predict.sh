#!/bin/sh
# Predicted beside measured step times on the CPU: calibrates this machine with 1 and with 2 ranks, predicts three models on as
# many ranks, trains them a few steps, and prints a table. Prints TAP: a prediction further off than LIMIT percent (default 50:
# the machine may be shared) fails. QUIET (a command, as "nice -n -5") starts what is measured.
piper=$(realpath "${PIPER:-./piper}")
limit=${LIMIT:-50} rounds=${ROUNDS:-3} steps=${STEPS:-6}
dir=${KEEP:-$(mktemp -d)} || exit 99
[ -n "${KEEP-}" ] || trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir" && cd "$dir" || exit 99
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMP_NUM_THREADS OPENBLAS_NUM_THREADS OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM

# run RANKS COMMAND...
run()
{
    ranks=$1
    shift
    # shellcheck disable=SC2086 # options and commands of several words
    ${QUIET-} ${MPIEXEC:-mpirun} ${MPIEXEC_FLAGS:--q --oversubscribe --bind-to none} -n "$ranks" "$piper" "$@"
}

cat >gpt2.json <<'END'
{"model_type": "gpt2", "vocab_size": 8192, "n_embd": 384, "n_layer": 6, "n_head": 6, "n_positions": 256}
END
cat >llama.json <<'END'
{"model_type": "llama", "vocab_size": 4096, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 6,
 "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 512, "tie_word_embeddings": false}
END
# With a capacity: the model predicts balanced experts, and what a dropless router sends to each rank is known only when it runs.
cat >qwen3_moe.json <<'END'
{"model_type": "qwen3_moe", "vocab_size": 4096, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8,
 "num_key_value_heads": 4, "head_dim": 32, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 512,
 "capacity_factor": 1.0, "max_position_embeddings": 512, "tie_word_embeddings": false}
END
cat >train.json <<'END'
{"batch_size": 8, "seq_len": 128, "steps": 1000, "clip_norm": 1.0, "data": "tokens.h5", "trace_steps": [4]}
END
cat >gpt2.2.json <<'END'
[{"op": "layout", "pp": 2, "dp": 1}, {"op": "schedule", "kind": "1f1b", "microbatches": 4}]
END
cat >llama.2.json <<'END'
[{"op": "layout", "pp": 1, "dp": 2, "zero": 1}]
END
cat >qwen3_moe.2.json <<'END'
[{"op": "layout", "pp": 1, "dp": 2, "ep": 2}]
END
echo '[]' >one.json
awk 'BEGIN { for (i = 0; i < 40000; i++) printf "%d ", i * i % 997 }' >text
"$piper" data text text -o tokens.h5 >log 2>&1 || { cat log; exit 99; }

models='gpt2 llama qwen3_moe'
for ranks in 1 2; do
    run $ranks calibrate -o "machine$ranks.h5" >"calibrate$ranks" 2>&1 || { cat "calibrate$ranks"; exit 99; }
    for model in $models; do
        strategy=one.json
        [ "$ranks" -eq 1 ] || strategy=$model.2.json
        "$piper" build -m "$model.json" -s "$strategy" -t train.json -o "$model$ranks.h5" >log 2>&1 || { cat log; exit 99; }
    done
done

# Measured in turns, so that what else the machine does falls on all of them.
round=0
while [ $round -lt "$rounds" ]; do
    round=$((round + 1))
    for ranks in 1 2; do
        for model in $models; do
            run $ranks train "$model$ranks.h5" -o "run.$model$ranks" --steps "$steps" --fresh >log 2>&1 || { cat log; exit 99; }
            awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "step_seconds") c = i } NR > 3 { print $c }' \
                "run.$model$ranks/metrics.csv" >>"$model$ranks.times"
        done
    done
done

n=0
printf '# %-12s %5s %12s %12s %8s\n' model ranks 'predicted s' 'measured s' 'off by'
for ranks in 1 2; do
    for model in $models; do
        predicted=$("$piper" plan "$model$ranks.h5" --simulate --machine "machine$ranks.h5" --json |
            sed -n 's/.*"step_seconds": \([0-9.e+-]*\).*/\1/p' | head -1)
        measured=$(sort -g "$model$ranks.times" | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }')
        off=$(awk -v p="$predicted" -v m="$measured" 'BEGIN { printf "%.1f", 100 * (p / m - 1) }')
        printf '# %-12s %5d %12.4f %12.4f %7s%%\n' "$model" $ranks "$predicted" "$measured" "$off"
        n=$((n + 1))
        awk -v o="$off" -v l="$limit" 'BEGIN { exit !(o < l && o > -l) }' || printf 'not '
        echo "ok $n - $model on $ranks ranks is predicted within $limit%"
    done
done
echo "1..$n"
