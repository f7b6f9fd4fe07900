#!/bin/sh
# tests/speed/audit.sh [PIPER [NUMBER]]: what the bounds of `piper tune` drop, compiled and simulated all the same, as the table of
# tests/speed/SIMULATED.md: of each problem, or of this one, AUDIT (500) candidates, spread evenly. None may fit and be better than the best. It
# takes minutes.
piper=$(realpath "${1:-./piper}") only=${2-} number=0
PIPER_MACHINES=$(realpath "$(dirname "$0")/../../src/machines")
export PIPER_MACHINES
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
good=true

# audit NAME RANKS LIMIT BATCH SEQUENCE: of model.json; with start.json, where there is one
audit()
{
    number=$((number + 1))
    [ "${only:-$number}" = $number ] || return
    echo "{\"batch_size\": $4, \"seq_len\": $5, \"steps\": 1, \"dtype\": \"bfloat16\"}" >train.json
    [ -f start.json ] && start='-s start.json' || start=
    # shellcheck disable=SC2086 # an option and its argument
    "$piper" tune -m model.json -t train.json -n "$2" --machine h100 --limit "$3" --best 1 --audit "${AUDIT:-500}" --json $start >out.json 2>log &&
        python3 - "$1" "$2" out.json <<'END' && return
import json
import sys

found = json.load(open(sys.argv[3]))
audit, rules = found["audit"], found["rules"]
time = sum(rules.get(rule, 0) for rule in ("compute", "order", "links", "saves"))
print(f"| {sys.argv[1]}, {int(sys.argv[2]):,} ranks | {found['candidates']:,} | {rules.get('memory', 0):,} | {time:,} | {found['compilations']:,} "
      f"| {'yes' if found['exact'] else 'no'} | {found['best'][0]['step_seconds']:.4g} | {audit['compiled']} | {audit['refused']} "
      f"| {audit['planned']} | {audit['best_step_seconds']:.4g} | {audit['better']} |", flush=True)
sys.exit(audit["better"] > 0)
END
    cat log
    good=false
}

echo '| job | candidates | dropped by memory | by time | compiled | exact | best step, s | dropped ones compiled | refused | beyond memory | their best step, s | better |'
echo '|---|---|---|---|---|---|---|---|---|---|---|---|'
echo '{"model_type": "llama", "vocab_size": 128256, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
    "num_attention_heads": 64, "num_key_value_heads": 8, "tie_word_embeddings": false}' >model.json
audit 'llama 70B' 16384 100 2048 8192
echo '[{"op":"layout","pp":"?","zero":"?","bucket_size":"?"},{"op":"schedule","kind":"?","microbatches":"?"},
    {"op":"recompute","filter":"?"}]' >start.json
audit 'llama 70B without tp, cp and vocab' 256 2000 512 4096
$good
