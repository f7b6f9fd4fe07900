#!/bin/sh
# generate.sh PIPER [THREADS]: tokens of GPT-2's 124M parameters beside the floor, which is the time to read them once: bytes of parameters over the
# bandwidth that read.c measures before and after. float32, then bfloat16. The values are those of a first step: they do not matter here.
[ $# -ge 1 ] || { echo "usage: generate.sh PIPER [THREADS]" >&2; exit 64; }
piper=$(realpath "$1")
threads=${2:-$(nproc)}
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
"${CC:-cc}" -O3 -march=native -fopenmp "$here/read.c" -o read || exit 1
echo '{"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}' >model.json
echo '[]' >one.json
echo '{"batch_size": 1, "seq_len": 16, "steps": 1, "data": "tokens.h5"}' >train.json
seq 200 >text
"$piper" data text text -o tokens.h5 && "$piper" build -m model.json -s one.json -t train.json -o job.h5 && "$piper" train job.h5 -o run >log || exit 1
for type in float32 bfloat16; do
    before=$(./read 500 "$threads")
    "$piper" generate run --ids --prompt '464 3290 318' -n "${TOKENS:-64}" --threads "$threads" --dtype $type --time --ignore-end 2>took >/dev/null || exit 1
    after=$(./read 500 "$threads")
    cat took
    echo "$type: memory is read at $before before, $after after"
    awk -v a="$before" -v b="$after" '{ sub(/.*: /, ""); ms = $1; sub(/.*fastest /, ""); best = $1 + 0; sub(/.*parameters of /, ""); mb = $1; gb = (a + 0 > b + 0 ? a : b) + 0
        printf "%.2f ms a token, floor %.2f ms: %.2f times; the fastest %.2f times\n", ms, mb / gb, ms / (mb / gb), best / (mb / gb) }' took
done
