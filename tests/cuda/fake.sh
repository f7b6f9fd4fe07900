#!/bin/sh
# time-limit: 300
# Training on a device that is not there: the module of tests/cuda/fake runs the CPU's kernels in the worst order that streams,
# events and graphs allow. The numbers are the CPU's to the bit, whatever the order; and a wait that is left out shows.
LAUNCH_EACH=1 # the environment counts
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
# shellcheck disable=SC2034 # of lib.sh
PIPER_CUDA_MODULE=${top_builddir:-.}/tests/cuda/.libs/piper_fake.so
export PIPER_CUDA_MODULE
[ -f "$PIPER_CUDA_MODULE" ] || { echo "there is no $PIPER_CUDA_MODULE"; exit 99; }

head -c 2000 text >little
"$piper" data text little -o tokens.h5 >out 2>&1 || { echo 'Bail out! piper data text failed'; exit 1; }
sed 's/"capacity_factor": 1.25, //' moe.json >dropless.json
layout 2 1 zb-h1 2 >zb2.json
echo '[{"op":"layout","dp":2,"ep":2,"expert_bound":1,"overflow":"rounds"},{"op":"schedule","kind":"zb-h1","microbatches":2}]' >rounds.json
echo '[{"op":"recompute","filter":{}}]' >recompute.json
echo '[{"op":"layout","dp":2,"ep":2},{"op":"split","filter":{},"num_microbatches":2},{"op":"recompute","filter":{},"received":"again"}]' >received.json
echo '[{"op":"layout","cp":2,"exchange":"all-to-all"},{"op":"split","filter":{},"num_microbatches":2}]' >turned.json
echo '[{"op":"layout","cp":2,"exchange":"ring","zero":1},{"op":"split","filter":{},"num_microbatches":2}]' >around.json
# of these neighbours only the first two are a pair: "other" is of another product, "act" is read twice
cat >graph.json <<'JSON'
{"vocab_size": 256, "graph": [
  {"op": "embed", "name": "embed", "in": ["tokens"], "features": 8},
  {"op": "linear", "name": "up", "in": ["embed"], "out_features": 16},
  {"op": "gelu", "name": "act", "in": ["up"]},
  {"op": "linear", "name": "left", "in": ["act"], "out_features": 8},
  {"op": "linear", "name": "right", "in": ["act"], "out_features": 8},
  {"op": "gelu", "name": "other", "in": ["left"]},
  {"op": "add", "name": "sum", "in": ["right", "other"]},
  {"op": "head_loss", "name": "head", "in": ["sum", "targets"]}]}
JSON
settings="train.steps=4 train.eval_data=tokens.h5 train.eval_every=4 train.checkpoint_every=2 train.trace_steps=[3,4]"
# shellcheck disable=SC2086 # settings are words
build one llama one $settings
# shellcheck disable=SC2086
build two llama zero3 $settings
# shellcheck disable=SC2086
build four llama pp2dp2 $settings
# shellcheck disable=SC2086
build alone dropless one $settings
# shellcheck disable=SC2086
build experts dropless ep2 $settings
# shellcheck disable=SC2086
build sent dropless received $settings
# shellcheck disable=SC2086
build rounds dropless rounds $settings
# shellcheck disable=SC2086
build gpt gpt2 one $settings
# shellcheck disable=SC2086
build stages gpt2 zb2 $settings
# shellcheck disable=SC2086
build heads gpt2 turned $settings
# shellcheck disable=SC2086
build ring llama around $settings
# shellcheck disable=SC2086
build neighbours graph one $settings
# shellcheck disable=SC2086
build again gpt2 recompute train.dtype=bfloat16 $settings

# of the report: value of a word, of the first process
count()
{
    awk -v word="$1" '{ for (i = 1; i < NF; i++) if ($i == word) { print $(i + 1); exit } }' report
}
# same NAME RANKS JOB [OPTION...]: like the CPU; $fake: settings of the fake
same()
{
    name=$1 ranks=$2 job=$3
    shift 3
    rm -rf report "$job-cuda"
    [ -d "$job-cpu" ] || train "$ranks" "$job" "$job-cpu" --device cpu
    # shellcheck disable=SC2086 # settings are words
    export FAKE_CUDA_REPORT="$dir/report" FAKE_CUDA_SEED=${fake:-1} &&
        train "$ranks" "$job" "$job-cuda" --device cuda "$@" && cat "$job-cuda/log.txt" >out &&
        grep -q 'allocations in steps: 0' out && same_bits "$job-cpu" "$job-cuda"
    result "$name"
}

same 'one rank, captured' 1 one
# steps 2 to 4 and all but one of the evaluation's batches are launches of one graph each; 3 and 4 are traced
[ "$(count graphs)" -eq 3 ] && [ "$(count launches)" -gt 3 ] && [ "$(count captured)" -gt 50 ]
result 'a list is captured once, and once to be traced'
"$piper" trace one-cuda --summary >out 2>&1 && grep -q 'step' out
result 'its trace can be read'
[ "$(count queues)" -eq 32 ]
result 'streams do not share queues'
[ "$(count timed)" -gt 3 ] && [ "$(count poor)" -eq 0 ]
result 'products are timed on random numbers'
same 'one rank, not captured' 1 one --cuda-graph off
[ "$(count graphs)" -eq 0 ]
result 'nothing is captured'

# step 2 is checkpointed beside step 3, whose update waits until all is copied; here nothing is copied before something waits
between()
{
    "$piper" checkpoint diff one-cpu/checkpoints/step-000002.h5 one-cuda/checkpoints/step-000002.h5 >out 2>&1 &&
        grep -q 'checkpoint of step 2 written' one-cuda/log.txt
}
fake=0
same 'copies come last, captured' 1 one
between
result 'the checkpoint of a step is not that of the next'
same 'copies come last, not captured' 1 one --cuda-graph off
between
result 'the checkpoint of a step is not that of the next, not captured'
unset fake
# reads of a window of 17 tokens of 2 bytes: of the main thread (m), which launches, and of others (r)
cat >note.c <<'EOS'
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>
void fake_note(char what)
{
    int fd = open(getenv("NOTES"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0 && write(fd, &what, 1) == 1)
        close(fd);
}
ssize_t pread64(int fd, void *to, size_t n, off_t at)
{
    if (n == 34)
        fake_note(syscall(SYS_gettid) == getpid() ? 'm' : 'r');
    return syscall(SYS_pread64, fd, to, n, at);
}
ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    return pread64(fd, to, n, at);
}
EOS
build plain llama one train.steps=6
if ${CC:-cc} -shared -fPIC -o note.so note.c 2>out; then
    (export LD_PRELOAD="$dir/note.so" NOTES="$dir/notes" && train 1 plain plain --device cuda)
    { cat notes && echo; } >>out
    [ "$(tr -dc r <notes | wc -c)" -ge 48 ] && ! grep -q m notes
    result 'tokens are read by a thread beside the one that launches'
else
    result 'no compiler # SKIP'
fi
# a token that the model does not know ends the run with the step before, though it is read in the one before that: a step is 8
# windows of 16 tokens and their targets
head -c 8000 text >some && "$piper" data text some -o spoilt-data.h5 >out 2>&1
printf '\377\377' | dd of=spoilt-data.h5 bs=2 seek=$(($(wc -c <spoilt-data.h5) / 4)) conv=notrunc 2>>out
build bad llama one train.steps=60 train.shuffle=false train.data=spoilt-data.h5
for device in cpu cuda; do
    rm -rf bad
    sh "$src/tests/run-mpi" -x 65 "$piper" 1 train bad.h5 -o bad --device $device >out 2>&1
    at=$(sed -n 's/^piper: spoilt-data.h5: token \([0-9]*\) is 65535, .*/\1/p' out)
    good=$(((at - 1) / (8 * 16)))
    [ "$good" -gt 5 ] && grep -q "the checkpoint of step $good is kept" out && [ "$(last_step bad)" -eq "$good" ] &&
        "$piper" checkpoint verify "bad/checkpoints/step-$(printf %06d "$good").h5" >>out 2>&1
    result "a token that cannot be: the steps before its own are kept, $device"
done
same 'experts without capacity: the graph is cut where the host reads' 1 alone
[ "$(count graphs)" -gt 3 ]
result 'into several graphs'
fake=2
same 'two ranks, messages through host memory' 2 two
fake=3
same 'experts on two ranks, other order' 2 experts
same 'rows of experts that are sent again' 2 sent
same 'experts with more rows than a round has room for' 2 rounds
[ "$(tail -n 1 rounds-cuda/metrics.csv | cut -d, -f13)" -gt 0 ]
result 'and there are further rounds'
same 'four ranks' 4 four
same 'two stages, each with products of its own' 2 stages
# shellcheck disable=SC2016 # of awk
awk '{ for (i = 1; i < NF; i++) { n += $i == "timed" && $(i + 1) > 0; left += $i == "unchosen" && $(i + 1) > 0 } }
    END { exit !(n == 2 && !left) }' report
result 'whoever has a product first times it, and nobody is left without'
same 'heads exchanged between two ranks' 2 heads
same 'keys and values in a ring of two ranks' 2 ring

# an MPI that takes device memory: of the fake one any does. Fewer copies, the same bits
echo 'int MPIX_Query_cuda_support(void) { return 1; }' >aware.c
if ${CC:-cc} -shared -fPIC -o aware.so aware.c 2>out; then
    "$piper" info >out && grep -q 'mpi .*(MPI is not GPU-aware)' out &&
        LD_PRELOAD="$dir/aware.so" "$piper" info >out && grep -q 'mpi .*(GPU-aware MPI)' out
    result 'piper info says whether MPI is GPU-aware'
    for pair in two:2 four:4 experts:2 stages:2; do
        same "staged: $pair" "${pair#*:}" "${pair%:*}"
        staged=$(count copies) && grep -q '(auto: through host memory' "$job-cuda/log.txt"
        result 'it is in the log'
        LD_PRELOAD=$dir/aware.so
        export LD_PRELOAD
        same "GPU-aware MPI: $pair" "$ranks" "$job" --checkpoint sync # no other thread meets the device
        unset LD_PRELOAD
        echo "$staged copies staged, $(count copies) not" >>out
        [ "$(count copies)" -lt "$staged" ] && [ "$(count attached)" -gt 0 ] && grep -q 'by a GPU-aware MPI' "$job-cuda/log.txt"
        result 'and its copies are left out'
    done
    (LD_PRELOAD=$dir/aware.so PIPER_GPU_MPI=0 && export LD_PRELOAD PIPER_GPU_MPI && same 'not allowed to' 2 two)
    n=$((n + 1))
    grep -q '(auto: through host memory' two-cuda/log.txt
    result 'it is in the log'
else
    result 'no compiler # SKIP'
fi
FAKE_CUDA_NOTES=1
export FAKE_CUDA_NOTES
same 'a rank that has notes' 2 two
[ "$(grep -c ' one kernel is slow$' two-cuda/log.txt)" -eq 1 ] && grep -q ' and so is another$' two-cuda/log.txt
result 'they are in the log'
unset FAKE_CUDA_NOTES
same 'two replicas of all products' 2 two
awk '{ for (i = 1; i < NF; i++) n += $i == "timed" && $(i + 1) > 0 } END { exit n != 1 }' report
result 'and only the first one'
FAKE_CUDA_NO_WAIT_VALUE=1
export FAKE_CUDA_NO_WAIT_VALUE
same 'a device that cannot wait for a word of memory' 2 two
unset FAKE_CUDA_NO_WAIT_VALUE
CUDA_DEVICE_MAX_CONNECTIONS=1
export CUDA_DEVICE_MAX_CONNECTIONS
same 'streams that share a queue' 2 two
[ "$(count queues)" -eq 1 ]
result 'as the user has set it'
unset CUDA_DEVICE_MAX_CONNECTIONS

# neighbouring kernels in one, which the module runs in the worst order that they allow; pairs N NAME: so many by a rank. A training
# step has one of GELU forward and back and, but where a layer is a program of its own, two of sum and norm for each layer;
# an evaluation or a recomputed layer, where memory is used again at once, those of GELU forward
pairs()
{
    echo "$(count pairs) pairs, expected $1" >>out
    [ "$(count pairs)" -eq "$1" ]
    result "$2"
}
batches=15 # of the evaluation
fake=4
same 'GPT-2, neighbours as one' 1 gpt --cuda-graph off
pairs $((4 * 4 * 4 + batches * 4)) 'pairs of GELU and of norms'
same 'two stages, BI and BW apart' 2 stages
pairs $((4 * 2 * 2 * 3 + batches * 2 * 2)) 'pairs of a stage'
same 'recomputed, bfloat16' 1 again --cuda-graph off
pairs $((4 * 4 * 3 + batches * 4)) 'pairs of GELU, both times'
same 'neighbours that are no pairs' 1 neighbours --cuda-graph off
pairs $((4 + batches)) 'one of them'
same 'each kernel alone' 1 gpt --fuse off
pairs 0 'no pairs'
FAKE_CUDA_NO_EPILOGUE=1
export FAKE_CUDA_NO_EPILOGUE
same 'no epilogues in the library' 1 gpt --cuda-graph off
pairs $((4 * 4 * 2)) 'pairs of norms'
unset FAKE_CUDA_NO_EPILOGUE
train 1 gpt gpt-checked --device cuda --check-numbers && cat gpt-checked/log.txt >out && same_bits gpt-cpu gpt-checked
result 'each is looked at alone'

deaf()
{
    for FAKE_CUDA_SEED in 1 2 3; do
        rm -rf two-cuda
        export FAKE_CUDA_SEED FAKE_CUDA_DEAF=2
        expect=0 train 2 two two-cuda --device cuda --steps 2 || return 0
        same_bits two-cpu two-cuda || return 0
    done
    return 1
}
deaf
result 'waits that are left out are seen'
unset FAKE_CUDA_DEAF

# A profiler: the stand-in of NVTX writes the ranges of each rank to a file.
rm -rf profiled ranges.*
(NVTX_INJECTION64_PATH=$dir/ranges && export NVTX_INJECTION64_PATH && train 2 stages profiled --device cuda --cuda-graph off)
"$piper" trace profiled --perfetto - 2>>out | tr '{' '\n' | sed -n 's/.*"cat":"com[a-z]*","name":"\([^"]*\)".*/\1/p' | sort -u >traced
cat ranges.* | sed -n 's/^push //p' | sort -u >named
comm -23 traced named >>out && [ -z "$(comm -23 traced named)" ] && [ "$(wc -l <traced)" -gt 20 ] && grep -q '^BW .* mb1$' named && grep -q '^send F .* mb0$' named
result 'a range around each instruction, named as in the trace: pass, part of the model, microbatch'
set -- ranges.*
[ $# -eq 2 ] && for file; do
    awk '/^push/ && open++ { exit bad = 1 } /^pop/ && open-- != 1 { exit bad = 1 } END { exit bad || open || NR < 100 }' "$file" || { echo "$file" >>out; false; break; }
done
result 'its end comes before the next'

# --comm nccl where it cannot be: a sentence, once, and exit code 71
sh "$src/tests/run-mpi" -x 71 "$piper" 2 train two.h5 -o none --device cpu --comm nccl >out 2>&1 &&
    [ "$(grep -c 'requires device memory' out)" -eq 1 ]
result '--comm nccl wants device memory'
sh "$src/tests/run-mpi" -x 71 "$piper" 2 train two.h5 -o none --device cuda --comm nccl >out 2>&1 &&
    [ "$(grep -c 'this build has no back end nccl' out)" -eq 1 ]
result '--comm nccl wants a build with it'

# going on: on a device from the CPU's state, and back
rm -rf mixed
train 1 one mixed --device cuda --steps 1 && train 1 one mixed --device cpu --steps 2 && train 1 one mixed --device cuda &&
    same_bits one-cpu mixed
result 'a run goes on from the other device with the same bits'
rm -rf checked
train 1 one checked --device cuda --check-numbers --check-replicas 2 && same_bits one-cpu checked
result 'every kernel is waited for and looked at'

# update 3 writes a NaN: it is found where it is written, and told where training is to go on
FAKE_CUDA_SPOIL=3
export FAKE_CUDA_SPOIL
rm -rf spoilt
sh "$src/tests/run-mpi" -x 65 "$piper" 1 train one.h5 -o spoilt --device cuda --check-numbers >out 2>&1 &&
    grep -q 'rank 0, step [0-9]*, update .*: wrote a parameter = nan at element 0' out
result 'check-numbers looks at what an update wrote'
rm -rf spoilt
sh "$src/tests/run-mpi" -x 65 "$piper" 1 train one.h5 -o spoilt --device cuda --check-numbers --on-nan skip \
    >out 2>&1
grep -q 'rank 0, step [0-9]*, update .*: wrote a parameter = nan at element 0' spoilt/log.txt
result 'and tells it once a step with --on-nan skip'
unset FAKE_CUDA_SPOIL

# fails NAME PATTERN SETTING RANKS [OPTION...]: ends with 71 and a sentence
fails()
{
    name=$1 pattern=$2 setting=$3 ranks=$4
    shift 4
    job=one
    [ "$ranks" = 1 ] || job=two
    rm -rf failed
    (
        export "${setting?}"
        expect=71
        export expect
        sh "$src/tests/run-mpi" -x 71 "$piper" "$ranks" train "$job.h5" -o failed "$@" >out 2>&1
    ) && grep -qE "$pattern" out
    result "$name"
}
fails 'no driver' 'no NVIDIA driver' FAKE_CUDA_DEVICES=-1 1 --device cuda
fails 'no GPU' 'has no visible GPU' FAKE_CUDA_DEVICES=0 1 --device cuda
fails 'no module' 'PIPER_CUDA_MODULE names /none' PIPER_CUDA_MODULE=/none 1 --device cuda
fails 'more ranks than GPUs' 'ranks 0 and 1 would use the same device' FAKE_CUDA_DEVICES=1 2 --device cuda
fails 'too little memory' 'rank 0: the plan needs [0-9]+ MiB of device memory' FAKE_CUDA_BYTES=1000000 1 --device cuda
# an update writes a NaN behind what it has summed up: the first, and one that is captured
for spoilt in 1 3; do
    fails "memory that changes, update $spoilt" 'rank 0, step [0-9]: the parameters of .* changed in memory after step' \
        FAKE_CUDA_SPOIL=$spoilt 1 --device cuda
done
fails 'memory that changes, gathered' 'rank [01], step [0-9]: the parameters of .* changed in memory after step' \
    FAKE_CUDA_SPOIL=3 2 --device cuda
# communications of a stream want more thread blocks at once than the device has
echo '[{"op": "layout", "dp": 2}, {"op": "stream", "name": "dp", "max_ctas": 120}]' >many.json
build many llama many train.steps=1
rm -rf failed
train 2 many failed --device cuda
result 'they are counted on the device that is there'
(
    FAKE_CUDA_MULTIPROCESSORS=119
    export FAKE_CUDA_MULTIPROCESSORS
    sh "$src/tests/run-mpi" -x 65 "$piper" 2 train many.h5 -o failed2 --device cuda >out 2>&1
) && grep -q 'max_ctas 120: .* runs 119 thread blocks' out
result 'and refused where it is smaller'
fails 'a kernel that fails' 'rank 0, step 1, [FB].*: a kernel: unspecified launch failure' FAKE_CUDA_FAIL=30 1 --device cuda
rm -rf auto
(FAKE_CUDA_DEVICES=-1 && export FAKE_CUDA_DEVICES && train 1 one auto --steps 1) &&
    grep -q 'device: cpu (auto: cuda: this machine has no NVIDIA driver' out
result 'auto takes the CPU and says why'
rm -rf auto
train 1 one auto --steps 1 && grep -q 'device: cuda, Fake GPU' out && "$piper" info >out && grep -q 'cuda  *available: Fake GPU' out
result 'auto takes the device, piper info shows it'
sed 's/"device": "[^"]*"/"device": "Fake GPU"/' "$src/src/machines/h100.json" >fake.json
rm -rf auto
(PIPER_MACHINES=. && export PIPER_MACHINES && train 1 one auto --steps 1) &&
    awk -F, -v tokens=128 -v weights=48128 -v attention=$((12 * 16 * 32 * 4)) 'NR == 2 {
        off = $11 * $6 * 67e12 / (tokens * (6 * weights + attention)) - 1
        exit off < -0.001 || off > 0.001 }' auto/metrics.csv &&
    grep -q 'mfu is relative to 67 Tflop/s per rank in float32, the peak of H100' auto/log.txt
result 'mfu is of the peak of the data sheet of the device'
echo "1..$n"
