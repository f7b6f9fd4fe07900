#!/bin/sh
# time-limit: 900
# On a real device: training as on the CPU, twice with the same bits, captured and not, going on after a stop, and with ranks that
# share the device. Prints TAP; 77 without a device.
LAUNCH_EACH=1 # a device of a process of its own
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
if ! "$piper" info | grep -q 'cuda  *available'; then
    "$piper" info | sed -n 's/.*cuda  *//p'
    exit 77
fi
PIPER_SHARE_DEVICES=1
export PIPER_SHARE_DEVICES
sed 's/"capacity_factor": 1.25, //' moe.json >dropless.json
for model in llama gpt2 moe dropless; do
    build "$model-f32" "$model" one train.steps=40 'train.trace_steps=[39,40]' train.checkpoint_every=20
    build "$model-bf16" "$model" one train.steps=40 train.dtype=bfloat16 train.checkpoint_every=20
done
build pp2dp2 llama pp2dp2
build ep2 dropless ep2

# loss NAME RUN RUN LIMIT: the curves lie within a relative deviation
loss()
{
    column "$2" loss >a && column "$3" loss >b && near a b "$4"
    result "$1:" tail -n 1 out
}
for model in llama gpt2 moe dropless; do
    train 1 "$model-f32" "$model-cpu" --device cpu
    result "$model: the CPU trains"
    train 1 "$model-f32" "$model-cuda" --device cuda
    result "$model: the device trains, float32"
    loss "$model: float32 as on the CPU" "$model-cpu" "$model-cuda" 1e-4
    train 1 "$model-f32" "$model-again" --device cuda && same_bits "$model-cuda" "$model-again"
    result "$model: twice the same bits"
    train 1 "$model-f32" "$model-pieces" --device cuda --cuda-graph off && same_bits "$model-cuda" "$model-pieces"
    result "$model: captured and not, the same bits"
    train 1 "$model-f32" "$model-parts" --device cuda --steps 20 && train 1 "$model-f32" "$model-parts" --device cuda &&
        same_bits "$model-cuda" "$model-parts"
    result "$model: going on after a stop gives the same bits"
    train 1 "$model-bf16" "$model-half" --device cuda
    result "$model: the device trains, bfloat16"
    loss "$model: bfloat16 near the CPU's float32" "$model-cpu" "$model-half" 1e-2
    train 1 "$model-bf16" "$model-half-parts" --device cuda --steps 20 &&
        train 1 "$model-bf16" "$model-half-parts" --device cuda && same_bits "$model-half" "$model-half-parts"
    result "$model: bfloat16, going on gives the same bits"
done
# a residual and a norm in one round as the two do; GELU in a product is of a sum that is not rounded
train 1 llama-f32 llama-alone --device cuda --fuse off && same_bits llama-cuda llama-alone
result 'llama: each operator alone, the same bits'
for type in f32:gpt2-cuda:1e-4 bf16:gpt2-half:1e-2; do
    train 1 "gpt2-${type%%:*}" gpt2-alone --device cuda --fuse off
    result "gpt2: each operator alone, ${type%%:*}"
    fused=${type#*:}
    loss "gpt2: GELU in products or alone, ${type%%:*}" "${fused%:*}" gpt2-alone "${type##*:}"
    rm -rf gpt2-alone
done
train 1 llama-f32 checked --device cuda --check-numbers --steps 20
result 'every kernel is waited for and looked at'
"$piper" trace llama-cuda --summary >out 2>&1
result 'its trace can be read'

# the curve of a wider model; 64 equal microbatches against one (the sum of 64 gradients, each scaled by 1/64, is one)
sed 's/"hidden_size": 32/"hidden_size": 256/; s/"intermediate_size": 72/"intermediate_size": 640/' llama.json >wide.json
# a rate at which this width trains calmly: at 1e-3 the two types drift apart by 3 to 6% on the CPU too
rate='train.lr={"kind":"cosine","peak":3e-4,"min":1e-4,"warmup_steps":20}'
build wide-f32 wide one train.steps=200 "$rate"
build wide-bf16 wide one train.steps=200 train.dtype=bfloat16 "$rate"
train 1 wide-f32 wide-cpu --device cpu && train 1 wide-bf16 wide-half --device cuda
result "4 layers, 256 wide: 200 steps"
loss "bfloat16 on the device against float32 on the CPU" wide-cpu wide-half 1e-2
awk 'BEGIN { for (i = 0; i < 4000; i++) printf "the same again. " }' >period
"$piper" data text period -o period.h5 >out 2>&1
echo '[{"op":"split","filter":{},"dim_name":"MB","num_microbatches":64}]' >mb64.json
build mb1 llama one train.dtype=bfloat16 train.batch_size=1 train.steps=1
build mb64 llama mb64 train.dtype=bfloat16 train.batch_size=64 train.steps=1
train 1 mb1 mb1 --device cuda --data period.h5 && train 1 mb64 mb64 --device cuda --data period.h5 &&
    column mb1 grad_norm >a && column mb64 grad_norm >b && near a b 1e-3
result "64 equal microbatches against one: the gradient within 1e-3"

# ranks that share the device, messages through host memory
for job in pp2dp2:4 ep2:2; do
    ranks=${job#*:} job=${job%:*}
    train "$ranks" "$job" "$job-cpu" --device cpu && train "$ranks" "$job" "$job-cuda" --device cuda --comm mpi
    result "$job: $ranks ranks train"
    loss "$job: as on the CPU" "$job-cpu" "$job-cuda" 1e-3
done
echo "1..$n"
