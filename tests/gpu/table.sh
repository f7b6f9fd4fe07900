#!/bin/sh
# table.sh [FOLDER]: prints RESULTS.md from what measure.sh left in FOLDER; without it, the table that is to be filled.
#
# facts: "KEY<tab>VALUE" a line; a row of the table of models is "row NAME", its cells with "|" between them. summary: of
# tests/gpu/check.sh. NAME.trace: of piper trace --summary.
folder=${1:-/nowhere}
models='gpt2-124M gpt2-1.5B qwen3-moe-1B'

# missing STEP: what is said in the place of a figure
missing()
{
    echo "not measured: \`STEPS=$1 sh tests/gpu/bench.sh\`"
}
# fact KEY STEP
fact()
{
    value=$(sed -n "s/^$1	//p" "$folder/facts" 2>/dev/null | tail -n 1)
    echo "${value:-$(missing "$2")}"
}
row() # NAME STEP SIZES
{
    cells=$(sed -n "s/^row $1	//p" "$folder/facts" 2>/dev/null | tail -n 1)
    echo "| $1 | ${cells:-$3 | $(missing "$2") | | | | | |} |"
}
check() # TEST STEP
{
    line=$(grep " $1 " "$folder/summary" 2>/dev/null | tail -n 1)
    if [ -n "$line" ]; then
        echo "$line" | while read -r result name cases seconds why; do
            echo "| $name | $result | $cases | $seconds | $why |"
        done
    else
        echo "| $1 | not run: \`STEPS=$2 sh tests/gpu/bench.sh\` | | | |"
    fi
}

if [ -s "$folder/facts" ]; then
    echo '# Measured on a GPU'
else
    cat <<'TEXT'
# To be measured on a GPU

Nothing has been measured yet: no GPU was there. On a machine with one, in an empty folder,

    sh SOURCE/tests/gpu/bench.sh        (LLMC=FOLDER in front: a checkout of llm.c to be timed beside it)

builds, checks, measures, and writes this file anew, to be committed in this place. For a host without compilers and MPI, or for a few
minutes, pack here and start there:

    sh SOURCE/tests/gpu/pack.sh piper-gpu.tar.gz --without-libraries        (in the build folder)
    sh first.sh piper-gpu.tar.gz 480                                        (tests/gpu/first.sh; 480 seconds)

What is not measured below says which step measures it; STEPS=NAMES in front of first.sh does the same.
TEXT
fi
cat <<TEXT

| machine | |
|---|---|
| device and libraries | $(fact device device) |
| driver | $(fact driver device) |
| program | $(fact program device) |
| bfloat16 products, data sheet | $(fact sheet_peak device) |
| bfloat16 products, measured | $(fact peak peak) |
| device memory, data sheet | $(fact sheet_bandwidth device) |
| device memory, measured (copies, read and written) | $(fact bandwidth peak) |

## Training, bfloat16, one GPU

| model | batch x length | step, s | MFU | clock, MHz | power, W | tokens/s | floor by the data sheet, s | floor as measured, s |
|---|---|---|---|---|---|---|---|---|
TEXT
row gpt2-124M gpt2-124M '64 x 1024'
row 'llm.c, gpt2-124M' llm.c '64 x 1024'
row gpt2-1.5B gpt2-1.5B '32 x 1024'
row qwen3-moe-1B qwen3-moe-1B '32 x 1024'
cat <<TEXT

gpt2-124M, tokens/s of this program over llm.c's in the same run (goal 1.0): $(fact ratio llm.c)

A step is the median of steps 11 to 20, before those that are traced; no checkpoint is written. Clock and power of nvidia-smi are
medians over the time in which the device was busy. A token costs 6 operations for each parameter that it meets in a product, and 6 x
layers x width x length for causal attention, as llm.c counts (the column mfu of metrics.csv counts attention over all positions, 12 x);
MFU is these operations over the data sheet's peak. The floor of a step: these operations over the peak, and the bytes of
parameters, gradients and optimizer state, each moved once, over the bandwidth; once with the data sheet's figures, once with those
measured on this device.

## Gradients of GPT-2 124M against PyTorch's in float32

| type | batch x length, worst tensor, loss |
|---|---|
| bfloat16 | $(fact 'gradients bfloat16' gradients) |
| float32 | $(fact 'gradients float32' gradients) |

## Where the time goes
TEXT
for model in $models; do
    printf '\n%s:' "$model"
    if [ -s "$folder/$model.trace" ]; then
        printf '\n\n'
        sed 's/^/    /' "$folder/$model.trace"
    else
        echo " $(missing "$model")"
    fi
done
cat <<'TEXT'

## Checks

| test | result | cases | seconds | |
|---|---|---|---|---|
TEXT
for name in test_products test_update test_parts test_ops test_members; do
    check "tests/gpu/$name" $name
done
check memcheck memcheck
for name in gradients train nccl sanitize; do
    check "tests/gpu/$name.sh" $name
done
cat <<TEXT

## Start-up and checkpoints

| gpt2-124M | |
|---|---|
| new run: start-up, products timed, s | $(fact start_new start) |
| run that goes on: start-up, products and checkpoint read, s | $(fact start_again start) |
| checkpoint written beside training, in memory, s | $(fact checkpoint start) |
| training waited for it, s | $(fact waited start) |
| 64 NCCL communicators of 4 ranks | $(fact nccl nccl) |
TEXT
