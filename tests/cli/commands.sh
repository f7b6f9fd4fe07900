#!/bin/sh
# time-limit: 300
# The commands as a user runs them: what they make, what they refuse and with which exit status, going on after a stop.
piper=${PIPER:-./piper}
src=${top_srcdir:-.}
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
shown=out
dir=$(mktemp -d) || exit 99
trap 'ranks_end; rm -rf "$dir"' EXIT

case $piper in /*) ;; *) piper=$PWD/$piper ;; esac
case $src in /*) ;; *) src=$PWD/$src ;; esac
cd "$dir" || exit 99
. "$src/tests/jobs/lib.sh"

cat >model.json <<'JSON'
{"model_type": "llama", "vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
 "num_key_value_heads": 2, "intermediate_size": 64, "tie_word_embeddings": false}
JSON
cat >train.json <<'JSON'
{"lr": {"kind": "cosine", "peak": 1e-3, "min": 1e-4, "warmup_steps": 3}, "clip_norm": 1.0, "batch_size": 8, "seq_len": 16,
 "steps": 12, "data": "tokens.h5", "eval_data": "tokens.h5", "eval_every": 6, "checkpoint_every": 4, "trace_steps": [2, 3]}
JSON
echo '[]' >one.json
echo '[{"op":"layout","pp":2,"dp":1},{"op":"schedule","kind":"1f1b","microbatches":4}]' >pp2.json
echo '[{"op":"layout","pp":2,"dp":2},{"op":"schedule","kind":"gpipe","microbatches":2}]' >four.json
cat "$src/README" >text

# refuses NAME STATUS PATTERN COMMAND...: the command ends with STATUS and a sentence that matches, within 5 seconds (a
# process takes a second or so to start and to end MPI)
refuses()
{
    name=$1 expected=$2 pattern=$3
    shift 3
    begin=$(date +%s)
    "$@" >out 2>&1 </dev/null
    got=$?
    seconds=$(($(date +%s) - begin))
    limit=$((5 * ${TEST_TIME_SCALE:-1}))
    { [ $got -eq "$expected" ] && grep -q -e "$pattern" out && [ $seconds -le $limit ]; } ||
        { echo "exit status $got, expected $expected; after $seconds s, limit $limit; looked for: $pattern" >>out; false; }
    result "$name"
}
mpi()
{
    sh "$src/tests/run-mpi" "$@"
}
# fails STATUS RANKS WORD...: piper on so many ranks, as seen by refuses(): status and message of the program itself
fails()
{
    on_ranks "$@" && return "$1"
}
without_times()
{
    cut -d, -f1-5,8- "$1/metrics.csv"
}

# ---- making things
"$piper" data text text -o tokens.h5 >out 2>&1
result 'data text'
for s in one pp2 four; do
    "$piper" build -m model.json -s $s.json -t train.json -o $s.h5 >out 2>&1
    result "build $s"
done
"$piper" build -m model.json -s one.json -t train.json --set train.steps=5 --set=train.batch_size=4 -o set.h5 >out 2>&1 &&
    grep -q 'batch 4 x 16 tokens, 5 steps' out
result 'build --set'
"$piper" build -m model.json -s one.json -t train.json --set train.steps=2 -o set.h5 >out 2>&1 &&
    grep -q '^note: train.json: $.lr.warmup_steps: .* .3 steps. .*2 steps.* ends at 0.000666667 and never reaches its peak 0.001' out &&
    "$piper" build -m model.json -s one.json -t train.json --set train.steps=3 -o set.h5 >out 2>&1 && ! grep note out
result 'a warm-up that is longer than the training is noted'

"$piper" version >out 2>&1 && grep -q "^piper [0-9.]* (" out && grep -q '^optional: [+-]PCRE2 .*[+-]OTF2$' out && "$piper" -V >x 2>&1 && cmp out x
result 'version'
"$piper" help build >out 2>&1 && "$piper" build --help >x 2>&1 && cmp out x && grep -q '^usage: piper build' out
result 'help of a command'
"$piper" help tutorial >out 2>&1 && grep -q '^piper-tutorial(7): .*; man piper-tutorial$' out && "$piper" help train-config >out 2>&1 && grep -q '^piper-train-config(5): ' out &&
    "$piper" help parallelism.pipeline_parallel_degree >out 2>&1 && grep -q '^parallelism.pipeline_parallel_degree: the strategy has it: {"op":"layout","pp":...}$' out
result 'help of a topic, and of a word of another program'
(for page in "$src"/src/man/piper-*.[57]; do
    page=${page##*/piper-}
    "$piper" help "${page%.*}" || exit 1
done) >out 2>&1
result 'help of each page of the manual'
"$piper" build -m model.json -s four.json -t train.json -o set.h5 --set 'strategy[1].microbatches=4' >out 2>&1 &&
    "$piper" plan set.h5 >out 2>&1 && grep -q '4 microbatches of 1' out &&
    "$piper" plan -m model.json -s four.json -t train.json --set 'strategy[1].microbatches=4' >x 2>>out && grep -q '4 microbatches of 1' x
result '--set of the strategy, and plan without a job file'
"$piper" plan -m model.json -s four.json -t train.json --simulate --json >x 2>out && grep -q step_seconds x
result 'plan --simulate without a job file'
echo '[{"op":"layout","pp":2,"dp":1}]' >bare.json
"$piper" build -m model.json -s bare.json -t train.json -o set.h5 --set train.lr.peak=30 >out 2>&1 &&
    grep -q '^note: bare.json: .*2 pipeline stages and one microbatch' out && grep -q '^note: train.json: .*lr: 30 is a large' out
result 'what seldom is meant is noted'
echo '{"model_type": "minimax_m2", "vocab_size": 256, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}' >biased.json
rated() # MODEL [SETTING]
{
    "$piper" build -m "$1" -s one.json -t train.json -o set.h5 --set train.steps=3 ${2:+--set "train.moe_router_bias_update_rate=$2"} >out 2>&1
}
rated biased.json && grep -q '^note: train.json: $.moe_router_bias_update_rate: missing, so the selection biases of 2 routers do not move' out &&
    rated biased.json 0 && ! grep note out && rated biased.json 0.001 && ! grep note out && rated model.json && ! grep note out &&
    rated model.json 0.001 && grep -q '^note: train.json: $.moe_router_bias_update_rate: 0.001 has no effect' out
result 'selection biases that nothing moves are noted'

mkdir settings jobs && cp model.json one.json train.json settings && cp tokens.h5 settings/here.h5 && cp tokens.h5 jobs/there.h5 &&
    "$piper" build -m settings/model.json -s settings/one.json -t settings/train.json --set train.data=here.h5 --set train.eval_every=0 \
        -o jobs/here.h5 >out 2>&1 && ! grep -q 'note: .*\$.data' out && mpi "$piper" 1 train jobs/here.h5 -o beside --steps 1 >out 2>&1 &&
    "$piper" build -m model.json -s one.json -t train.json --set train.data=there.h5 --set train.eval_every=0 -o jobs/job.h5 >out 2>&1 &&
    (cd settings && mpi "$piper" 1 train ../jobs/job.h5 -o ../beside2 --steps 1) >out 2>&1
result 'data beside the file that names them'

# ---- plan
"$piper" plan four.h5 --json >out 2>&1 && for key in ranks nodes instructions compile_seconds verify_seconds plan_bytes per_rank \
    rank peak_bytes params grads optimizer activations comm workspace snapshot device host total; do
    grep -q "\"$key\":" out || { echo "no key $key" >>out; false; break; }
done
result 'plan --json has its keys'
echo '[{"op": "layout", "pp": 4, "dp": 262144}, {"op": "schedule", "kind": "1f1b", "microbatches": 2}]' >million.json
"$piper" plan -m model.json -s million.json -t train.json --set train.batch_size=524288 --json=classes >out 2>&1 &&
    [ "$(grep -c '"ranks": 262144' out)" -eq 4 ] && grep -q '"first_rank": 3' out && [ "$(wc -l <out)" -lt 100 ]
result 'a million ranks, by class'
"$piper" plan four.h5 >out 2>&1 && grep -q '^ranks .* 4 in 2 rank classes' out
result 'plan for people'
"$piper" plan four.h5 --expand >expanded.json 2>out && "$piper" build -m model.json -s expanded.json -t train.json -o expanded.h5 >out 2>&1
result 'plan --expand can be built again'
"$piper" plan pp2.h5 --dump >out 2>&1 && "$piper" plan pp2.h5 --dot - >dag.dot 2>out && grep -q '^digraph' dag.dot
result 'plan --dump and --dot'
# libraries take 104 MiB of it
sed 's/"memory": 80e9/"memory": 110e6/' "$src/src/machines/h100.json" >small.json && "$piper" plan four.h5 --machine small.json >out 2>&1 &&
    grep -q '^note: rank.* need .* with the libraries, H100 has 105 MiB per rank; [12] of 2 rank class.* not fit. In the way' out &&
    [ "$(sed '1,/^note:/d' out | grep -cE '^  (params|grads|optimizer|activations|comm|workspace) .*B  ')" -ge 1 ] &&
    "$piper" plan four.h5 --machine h100 >out 2>&1 && ! grep '^note' out
result 'plan --machine: the kinds of memory that are in the way'
# DeepSeek-V3: the defaults of its class
echo '{"model_type": "deepseek_v3"}' >v3.json
echo '{"batch_size": 8192, "seq_len": 4096, "steps": 10, "dtype": "bfloat16", "moe_router_bias_update_rate": 0.001}' >v3-train.json
echo '[{"op": "layout", "pp": 16, "dp": 128, "ep": 64, "zero": 1, "placement": "two-way"},
    {"op": "schedule", "kind": "dualpipe", "microbatches": 64}, {"op": "recompute", "filter": {}}]' >v3-strategy.json
"$piper" build -m v3.json -s v3-strategy.json -t v3-train.json -o v3.h5 >out 2>&1 && "$piper" plan v3.h5 --machine h100 >out 2>&1 &&
    grep -q '671026419200 parameters' out && grep -q '^ranks .* 2048 in 8 rank classes' out && grep -q '8 of 8 rank classes do not fit' out &&
    sed '1,/^note:/d' out | head -n 1 | grep -q '^  comm ' &&
    sed -n 's/^compiled .*in \([0-9.]*\) s, verified in \([0-9.]*\) s.*/\1 \2/p' out |
    awk -v limit=$((3 * ${TEST_TIME_SCALE:-1})) '{ exit !($1 + $2 < limit) }'
result 'plan of DeepSeek-V3 on 2,048 ranks: within 3 s, and what is in the way of 80 GB'

# What experts receive is sent again, and no BW waits: 113 GiB without, 72 of them received rows.
sed 's/"two-way"/"two-way", "expert_bound": 1.5/; s/"dualpipe"/"dualpipe", "backward": "whole"/' v3-strategy.json >v3-keep.json
sed 's/"filter": {}/"filter": {}, "received": "again"/' v3-keep.json >v3-again.json
device() # the largest of a rank, GiB
{
    "$piper" plan -m v3.json -s "v3-$1.json" -t v3-train.json --device cuda --json=classes 2>out |
        sed -n 's/.*"device": *\([0-9]*\).*/\1/p' | awk '$1 > most { most = $1 } END { printf "%d", most / 1024 / 1024 / 1024 }'
}
keep=$(device keep) again=$(device again) && echo "kept $keep GiB, sent again $again GiB" >>out && [ "$keep" -ge 108 ] && [ "$again" -gt 0 ] && [ "$again" -lt 74 ] &&
    "$piper" plan -m v3.json -s v3-again.json -t v3-train.json --device cuda --machine h100 >out 2>&1 && ! grep -q 'not fit' out
result 'plan of DeepSeek-V3 on 2,048 ranks: with rows that are sent again it fits into 74.5 GiB'

# A schedule that splits no backward; rows beyond a bound, which a prediction knows nothing of.
sed 's/"dualpipe"/"1f1b", "backward": "whole"/; s/"two-way"/"standard"/' v3-strategy.json >v3-whole.json
sed 's/"two-way"/"two-way", "expert_bound": "auto"/' v3-strategy.json >v3-rounds.json
note='note: v3-whole.json: $[1].backward: "whole" has no effect: no rank of "1f1b" splits a backward into BI and BW'
simulated() # STRATEGY: exit code of a search for the key
{
    "$piper" plan -m v3.json -s "$1.json" -t v3-train.json --device cuda --simulate --json=classes 2>notes | grep -q '^  "simulated_rounds": 1'
}
"$piper" plan -m v3.json -s v3-whole.json -t v3-train.json >out 2>&1 && [ "$(grep -cF "$note" out)" -eq 1 ] && ! simulated v3-whole &&
    simulated v3-rounds && ! grep 'has no effect' notes
result 'plan: a note where "backward": "whole" has no effect; with --json the rounds that are simulated'

# ---- training
mpi "$piper" 1 train one.h5 -o a >out 2>&1 && [ "$(wc -l <a/metrics.csv)" -eq 13 ] &&
    [ "$(sed -n 1p a/metrics.csv)" = step,loss,grad_norm,lr,tokens,step_seconds,tokens_per_second,eval_loss,aux_loss,dropped_tokens,mfu,expert_load ] &&
    grep -q 'allocations in steps: 0' a/log.txt
result 'train: metrics, and no allocation in the steps'
"$piper" plan a >out 2>&1 && "$piper" plan a/job.h5 >said 2>&1 && grep -q '^ranks' out && [ "$(grep '^rank' out)" = "$(grep '^rank' said)" ] &&
    cp -r a again && mpi "$piper" 1 train again --steps 13 >out 2>&1 && [ "$(wc -l <again/metrics.csv)" -eq 14 ]
result 'plan and train: a run directory stands for its job, and is trained further'
[ "$(cut -d, -f8 a/metrics.csv | grep -c '[0-9]')" -eq 2 ] && [ -f a/checkpoints/step-000012.h5 ] && [ -f a/trace.0000.h5 ]
result 'train: evaluation, checkpoint, trace'
mpi "$piper" 2 train -m model.json -s pp2.json -t train.json --set train.steps=3 -o built >out 2>&1 && "$piper" plan built/job.h5 >out 2>&1 &&
    mpi "$piper" 2 train -m model.json -s pp2.json -t train.json --set train.steps=5 -o built >out 2>&1 &&
    grep -q 'starting at step 4' built/log.txt && [ "$(wc -l <built/metrics.csv)" -eq 6 ]
result 'train without a job file: starts, resumes, keeps the job'
mpi "$piper" 1 train one.h5 -o b --steps 7 >out 2>&1 && mpi "$piper" 1 train one.h5 -o b >out 2>&1 &&
    without_times a >x && without_times b >y && cmp x y >>out 2>&1 &&
    "$piper" checkpoint diff a/checkpoints/step-000012.h5 b/checkpoints/step-000012.h5 >>out 2>&1
result 'stopped after 7 of 12 steps and continued: the same bits'
mpi "$piper" 4 train four.h5 -o c --steps 6 --check-replicas 2 >out 2>&1 && mpi "$piper" 2 train pp2.h5 -o c --check-numbers >out 2>&1 &&
    [ "$(cut -d, -f1 c/metrics.csv | tail -n +2 | tr '\n' ' ')" = '1 2 3 4 5 6 7 8 9 10 11 12 ' ]
result 'from 4 ranks to 2 ranks on the way: no step twice, none missing'
mpi "$piper" 2 train pp2.h5 -o c --fresh --steps 2 >out 2>&1 && [ -f c/old.1/metrics.csv ] && [ -d c/old.1/checkpoints ] &&
    [ "$(wc -l <c/metrics.csv)" -eq 3 ]
result 'train --fresh puts aside what was there'

# ---- stopping
"$piper" build -m model.json -s one.json -t train.json --set train.steps=1000000 --set train.eval_every=0 -o long.h5 >out 2>&1
result 'build a long job'
for signal in USR1 TERM; do
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 "$piper" train long.h5 -o s-$signal >out 2>&1 &
    pid=$!
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        sleep 1
        [ -s s-$signal/metrics.csv ] && [ "$(wc -l <s-$signal/metrics.csv)" -gt 2 ] && break
    done
    kill -$signal $pid
    wait $pid
    [ $? -eq 75 ] && step=$(tail -n 1 s-$signal/metrics.csv | cut -d, -f1) &&
        [ -f "s-$signal/checkpoints/step-$(printf %06d "$step").h5" ]
    result "$signal: a checkpoint and status 75"
done
mpi -x 75 "$piper" 1 train long.h5 -o s-time --max-time 0:04 >out 2>&1
result 'train --max-time'

# ---- traces, checkpoints
"$piper" trace a --summary >out 2>&1 && grep -q 'rank .* compute' out && "$piper" trace a --perfetto p.json --steps 2 >out 2>&1 &&
    grep -q '"ph":"X"' p.json
result 'trace --summary and --perfetto'
"$piper" checkpoint list a >out 2>&1 && [ "$(wc -l <out)" -eq 3 ] && "$piper" checkpoint verify a/checkpoints/*.h5 >out 2>&1
result 'checkpoint list and verify'
"$piper" checkpoint list a/checkpoints/ >out 2>&1 && [ "$(wc -l <out)" -eq 3 ] && "$piper" checkpoint verify a >out 2>&1 &&
    [ "$(grep -c ': OK: ' out)" -eq 3 ]
result 'checkpoint list of the directory of checkpoints, verify of a run'
"$piper" trace a/trace.0000.h5 >out 2>&1 && grep -q 'rank .* compute' out
result 'trace of a file'
refuses 'steps that are not traced' 65 'found no events of these ranks and steps; traced are steps 2, 3 of ranks 0-0' "$piper" trace a --steps 7
"$piper" checkpoint export a -o w.safetensors >out 2>&1 && "$piper" checkpoint import one.h5 w.safetensors -o imported >out 2>&1 &&
    "$piper" checkpoint export imported -o w2.safetensors >out 2>&1 && cmp w.safetensors w2.safetensors >>out 2>&1
result 'checkpoint export and import: the same weights'
mpi "$piper" 2 train pp2.h5 -o imported --steps 1 >out 2>&1
result 'training begins with imported weights'

# ---- refusals: place, found, expected; all ranks gone
refuses 'instructions that do not exist' 64 'PIPER_ISA is "sse", expected base, avx2, avx512, avx512_bf16 or amx_bf16' \
    env PIPER_ISA=sse "$piper" info
PIPER_ISA=base "$piper" info >out 2>&1 && grep -q '^compute *cpu *available: base; products: float32 .*, bfloat16 ' out
result 'instructions by name'
refuses 'unknown command' 64 'did you mean "plan"' "$piper" plam
refuses 'unknown option' 64 'did you mean --steps' fails 64 2 train pp2.h5 -o r --step 3
refuses 'no run folder given' 64 'missing required option -o RUNDIR' fails 64 2 train pp2.h5
refuses 'wrong number of ranks' 64 '4 ranks' fails 64 3 train four.h5 -o r
refuses 'no such job' 66 'nothere.h5' fails 66 2 train nothere.h5 -o r
refuses 'no such data' 66 'nothere.h5' fails 66 2 train pp2.h5 -o r --data nothere.h5
refuses 'cuda' 71 'cuda' fails 71 2 train pp2.h5 -o r --device cuda
head -c 5000 pp2.h5 >cut.h5
refuses 'truncated job' 65 'cut.h5' fails 65 2 train cut.h5 -o r
"$piper" build -m model.json -s pp2.json -t train.json -o small.h5 --set model.vocab_size=100 >out 2>&1
refuses 'token beyond the vocabulary' 65 'vocabulary' fails 65 2 train small.h5 -o r
refuses 'run folder that cannot be made' 74 'out: is not a directory' fails 74 2 train pp2.h5 -o out/run
refuses 'checkpoint of another model' 65 'vocab\|shape\|embed' fails 65 2 train small.h5 -o b
"$piper" build -m model.json -s pp2.json -t train.json -o wild.h5 --set train.lr=1e6 --set train.clip_norm=0 --set train.optimizer.kind=sgd >out 2>&1
refuses 'diverged' 65 'diverged' fails 65 2 train wild.h5 -o w
refuses 'diverged, --check-numbers' 65 'operator .* wrote' fails 65 2 train wild.h5 -o w --check-numbers
refuses 'differing checkpoints' 65 'differ in' "$piper" checkpoint diff a/checkpoints/step-000008.h5 a/checkpoints/step-000012.h5
cp a/checkpoints/step-000008.h5 bad.h5
printf 'XXXX' | dd of=bad.h5 bs=1 seek=$(($(wc -c <bad.h5) / 2)) conv=notrunc 2>/dev/null
refuses 'damaged checkpoint' 65 'bad.h5' "$piper" checkpoint verify bad.h5
# Memory of experts is planned for the worst case where nothing bounds it: plan and train say what a bound makes of it.
echo '[{"op":"layout","pp":1,"dp":4,"ep":4}]' >ep4.json
echo '[{"op":"layout","pp":1,"dp":4,"ep":4,"expert_bound":1.5}]' >bound.json
echo '[{"op":"replicate","filter":{},"devices":[0,1,2,3]},{"op":"shard","dim":"expert","filter":{"EP":"*"},"devices":[0,1,2,3]}]' >named.json
experts() # STRATEGY
{
    "$piper" plan -m "$src/tests/jobs/dropless.json" -s "$1" -t train.json --set train.batch_size=32 --set train.seq_len=256
}
experts ep4.json >out 2>&1 && experts bound.json >bounded 2>>out && ! grep -q '^note' bounded &&
    bound=$(sed -n 's/^ranks 0-3 .* \([0-9.]* [KM]iB\) *[0-9.]* [KM]iB$/\1/p' bounded) && [ -n "$bound" ] && grep -q "^note: no \"expert_bound\" is set.* is [^,]*, $bound or " out &&
    ! experts one.json 2>&1 | grep -q 'expert_bound' && experts named.json >out 2>&1 && grep -q '^note: no "expert_bound"' out
result 'plan: what a bound for the rows of experts would make of the memory'
received() # DIRECTIVE: plans of rows with a bound, eight microbatches under way
{
    echo "[{\"op\":\"layout\",\"dp\":4,\"ep\":4,\"expert_bound\":2},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":8},{\"op\":\"recompute\",\"filter\":{}}${1:+,$1}]" >received.json
    "$piper" plan -m "$src/tests/jobs/dropless.json" -s received.json -t train.json --set train.batch_size=64 --set train.seq_len=1024 -n 4
}
received >out 2>&1 && note=$(sed -n 's/^note: rows that experts receive .* With \({.*}\) they are sent again, and it is \(.*\)$/\2/p' out) && [ -n "$note" ] &&
    advice=$(sed -n 's/^note: .* With \({.*}\) they are .*/\1/p' out) && received "$advice" >out 2>&1 && ! grep -q '^note: rows' out && grep -q "^ranks 0-3 .* $note  *[0-9.]* [KM]iB$" out
result 'plan: what rows that are sent again would make of the memory, and do'
on_ranks 0 4 train -m "$src/tests/jobs/dropless.json" -s ep4.json -t train.json --set train.batch_size=32 --set train.seq_len=256 --set train.steps=1 \
    --set train.eval_every=0 -o worst >out 2>&1 && grep -q 'note: memory: no "expert_bound" is set' worst/log.txt
result 'train: the same in its log'
# Data sheets are found by name beside a program that was moved.
mkdir -p moved/bin moved/share/piper/machines && cp "$piper" moved/bin/piper && cp "$src"/src/machines/h100.json moved/share/piper/machines/ &&
    (unset PIPER_MACHINES && moved/bin/piper plan pp2.h5 --simulate --machine h100) >out 2>&1 && grep -q H100 out
result 'data sheets beside a program that was moved'
echo "1..$n"
