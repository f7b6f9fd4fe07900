#!/bin/sh
# time-limit: 300
# Every reader answers mutated files: FUZZ_INPUTS each (default 300), of the readers FUZZ_TARGETS. Files that people write are in tests/fuzz/corpus, those
# that piper writes are made here.
piper=${PIPER:-./piper}
src=${top_srcdir:-.}
fuzz=${top_builddir:-.}/tests/fuzz/fuzz
case $piper in /*) ;; *) piper=$PWD/$piper ;; esac
case $src in /*) ;; *) src=$PWD/$src ;; esac
case $fuzz in /*) ;; *) fuzz=$PWD/$fuzz ;; esac
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 HDF5_USE_FILE_LOCKING=FALSE

bail()
{
    echo "Bail out! $1"
    cat log
    exit 1
}
mkdir corpus || exit 99
cp "$src"/tests/fuzz/corpus/* "$src"/tests/text/small/pieces-*.model corpus/
cp "$src/tests/text/small/chat.json" corpus/tokenizer-chat.json
# a model of each family
sed -n 's/^{"name": "\([a-z0-9_.-]*\)", "config": \({.*}\), "seed".*/\1 \2/p' "$src/tests/parity/parity.json" |
    while read -r name config; do
        echo "$config" >"corpus/model-$name.json"
    done
[ -f corpus/model-llama.json ] || bail 'no models in parity.json'
for file in "$src"/tests/zoo/*; do
    case $file in
    */model-*) ;;
    *.json) cp "$file" "corpus/strategy-${file##*/}" ;;
    *.csv) cp "$file" "corpus/csv-${file##*/}" ;;
    esac
done
"$piper" data text "$src/README" -o corpus/tokens.h5 >log 2>&1 || bail "piper data failed"
"$piper" data jsonl corpus/lines-few.jsonl --tokenizer corpus/tokenizer-bytes.json -o corpus/tokens-2.h5 >log 2>&1 ||
    bail "piper data jsonl failed"
"$piper" build -m corpus/model-moe.json -s corpus/strategy-one.json -t corpus/train-all.json -o corpus/job.h5 \
    --set train.data=corpus/tokens.h5 >log 2>&1 || bail "piper build failed"
"$piper" train corpus/job.h5 -o run >log 2>&1 || bail "piper train failed"
cp run/checkpoints/step-000003.h5 corpus/checkpoint.h5
cp run/trace.0000.h5 corpus/trace.h5
cp run/ring/0000 corpus/ring.bin
cp "$src"/src/machines/h100.json corpus/sheet-h100.json
"$piper" checkpoint export run -o corpus/safetensors.safetensors >log 2>&1 || bail "piper checkpoint export failed"
"$piper" plan corpus/job.h5 --dump >dump 2>log || bail "piper plan failed"
sed -n '/^plan /,$p' dump >corpus/plan-text.txt

mkdir corpus/run && cp -r run/metrics.csv run/log.txt run/trace.0000.h5 run/checkpoints corpus/run/
{ echo metrics.csv && cat run/metrics.csv; } >corpus/run-metrics.txt
{ echo log.txt && cat run/log.txt; } >corpus/run-log.txt
for kind in gpt2 moe; do
    { echo config.json && cat corpus/model-$kind.json; } >corpus/folder-$kind.txt
done
echo 'tokenizer_config.json
{"bos_token": {"content": "a"}, "add_bos_token": true}' >corpus/folder-tokenizer.txt

n=0
all="job checkpoint tokens trace safetensors model strategy train csv plan-text machine sheet topology products ring halt lock
    tokenizer pieces chat ranks pattern lines packed ids index options environment folder run"
for target in ${FUZZ_TARGETS:-$all}; do
    n=$((n + 1))
    if "$fuzz" "$target" corpus "${FUZZ_INPUTS:-300}" "${FUZZ_SEED:-1}" >log 2>&1; then
        echo "ok $n - $(tail -n 1 log)"
    else
        echo "not ok $n - $target"
        tail -n 20 log | sed 's/^/# /'
        [ "${FUZZ_KEEP-}" ] && cp fuzz-"$target".crash "$FUZZ_KEEP"/
    fi
done

# its checksums are right, and libhdf5 1.10.8 crashes on it
mkdir hostile && cp "$src/tests/fuzz/hostile/trace.h5" hostile/trace.0000.h5
"$piper" trace hostile --summary >log 2>&1
status=$? n=$((n + 1))
if [ $status -eq 65 ] && grep -q 'hostile/trace.0000.h5' log; then
    echo "ok $n - a file on which the HDF5 library crashes"
else
    echo "not ok $n - a file on which the HDF5 library crashes: exit status $status"
fi
echo "1..$n"
