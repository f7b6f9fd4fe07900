#!/bin/sh
# table.sh [FOLDER]: prints RESULTS.md from what bench.sh left in FOLDER; without it, the table that is to be filled.
#
# facts: "KEY<tab>VALUE" a line; a row of the table of models is "row NAME", its cells with "|" between them. summary: of
# tests/gpu/check.sh. NAME.trace: of piper trace --summary.
folder=${1:-/nowhere}
tests='tests/gpu/test_ops tests/gpu/test_update tests/gpu/test_parts tests/gpu/test_products tests/gpu/nccl.sh tests/gpu/train.sh
    tests/gpu/sanitize.sh'
models='gpt2-124M gpt2-1.5B qwen3-moe-1B'

fact()
{
    value=$(sed -n "s/^$1	//p" "$folder/facts" 2>/dev/null | tail -n 1)
    echo "${value:-not measured}"
}
row()
{
    cells=$(fact "row $1")
    [ "$cells" != 'not measured' ] || cells="$2"
    echo "| $1 | $cells |"
}

if [ -s "$folder/facts" ]; then
    echo '# Measured on a GPU'
else
    cat <<'TEXT'
# To be measured on a GPU

Nothing has been measured yet: no GPU was there. On a machine with one, in an empty folder,

    sh SOURCE/tests/gpu/bench.sh        (LLMC=FOLDER in front: a checkout of llm.c to be timed beside it)

builds, checks, times, and writes this file anew, to be committed in this place. For a host without compilers and MPI,
tests/gpu/pack.sh packs a folder whose bench.sh does the same.
TEXT
fi
cat <<TEXT

| machine | |
|---|---|
| device and libraries | $(fact device) |
| driver | $(fact driver) |
| program | $(fact program) |
| bfloat16 products, data sheet | $(fact sheet_peak) |
| bfloat16 products, measured | $(fact peak) |
| device memory, data sheet | $(fact sheet_bandwidth) |
| device memory, measured (copies, read and written) | $(fact bandwidth) |

## Training, bfloat16, one GPU

| model | batch x length | tokens/s | MFU | step, s | floor by the data sheet, s | floor as measured, s |
|---|---|---|---|---|---|---|
TEXT
unknown='not measured | | | |'
row gpt2-124M "64 x 1024 | $unknown"
row 'llm.c, gpt2-124M' "64 x 1024 | $unknown"
row gpt2-1.5B "32 x 1024 | $unknown"
row qwen3-moe-1B "32 x 1024 | $unknown"
cat <<TEXT

gpt2-124M, tokens/s of this program over llm.c's in the same run (goal 1.0): $(fact ratio)

Steps are averages of the second half of a run. A token costs 6 operations for each parameter that it meets in a product, and 6 x
layers x width x length for causal attention, as llm.c counts (the column mfu of metrics.csv counts attention over all positions, 12 x);
MFU is these operations over the data sheet's peak. The floor of a step: these operations over the peak, and the bytes of
parameters, gradients and optimizer state, each moved once, over the bandwidth; once with the data sheet's figures, once with those
measured on this device.

## Where the time goes
TEXT
for model in $models; do
    printf '\n%s:' "$model"
    if [ -s "$folder/$model.trace" ]; then
        printf '\n\n'
        sed 's/^/    /' "$folder/$model.trace"
    else
        echo ' not measured'
    fi
done
cat <<'TEXT'

## Checks

| test | result | cases | seconds | |
|---|---|---|---|---|
TEXT
if [ -s "$folder/summary" ]; then
    while read -r result name cases seconds why; do
        echo "| $name | $result | $cases | $seconds | $why |"
    done <"$folder/summary"
else
    for name in $tests; do
        echo "| $name | not run | | | |"
    done
fi
cat <<TEXT

## Start-up and checkpoints

| gpt2-124M | seconds |
|---|---|
| new run: start-up, products timed | $(fact start_new) |
| run that goes on: start-up, products and checkpoint read | $(fact start_again) |
| checkpoint written beside training | $(fact checkpoint) |
| training waited for it | $(fact waited) |
| 64 NCCL communicators of 4 ranks | $(fact nccl) |
TEXT
