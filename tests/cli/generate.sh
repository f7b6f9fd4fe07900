#!/bin/sh
# time-limit: 120
# piper generate and piper eval: the same text however the prompt and the model come, draws that a seed repeats, what a terminal gets;
# the loss of an evaluation in training, to its digits; and what is refused. Prints TAP.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

# says NAME WANT WORD...: piper generate prints WANT, and nothing on stderr
says()
{
    name=$1 want=$2
    shift 2
    "$piper" generate "$@" >said 2>out </dev/null && printf '%s\n' "$want" | cmp said - >>out 2>&1 && [ ! -s out ]
    result "$name"
}
# refuses NAME STATUS PATTERN COMMAND WORD...
refuses()
{
    name=$1 expected=$2 pattern=$3
    shift 3
    "$piper" "$@" >said 2>out </dev/null
    got=$?
    { [ $got -eq "$expected" ] && [ "$(wc -l <out)" -eq 1 ] && grep -Eq -e "$pattern" out; } ||
        { echo "exit status $got, looked for: $pattern" >>out; false; }
    result "$name"
}

# ---- a model of bytes, tables of 64 positions
build small tiny one train.steps=200 model.n_positions=64 train.lr=1e-2 train.eval_data=tokens.h5
train 1 small r
"$piper" generate r --prompt 'the ' -n 24 >first 2>out
[ "$(wc -c <first)" -eq 25 ] && [ ! -s out ]
result '24 bytes and a line end'
text=$(cat first)
says 'the same again, on two threads' "$text" r --prompt 'the ' -n 24 --threads 2
printf 'the ' >prompt
says 'from a file' "$text" r --file prompt -n 24
"$piper" generate r -n 24 <prompt >said 2>out && cmp first said >>out
result 'from standard input'
says 'of a checkpoint file' "$text" r/checkpoints/step-000200.h5 -n 24 --prompt 'the '
says 'with top-k 1' "$text" r --prompt 'the ' -n 24 --top-k 1 --temperature 3
says 'with the smallest nucleus' "$text" r --prompt 'the ' -n 24 --top-p 0 --temperature 3
"$piper" generate r --ids --prompt '116, 104 101 32' -n 24 --time >said 2>out && grep -q '^prompt: 4 tokens in .*; then 23 tokens in' out &&
    [ "$(wc -w <said)" -eq 24 ] && awk '{ for (i = 1; i <= NF; i++) printf "%c", $i + 0 }' said >bytes && head -c 24 first | cmp bytes - >>out
result 'token ids for token ids'
"$piper" checkpoint export r --job small.h5 -o published >out 2>&1
refuses 'beyond the table of a directory' 65 'its table has 64 positions, prompt and new tokens are up to 101' generate published --prompt a -n 100
says 'the exported directory' "$text" published --prompt 'the ' -n 24
"$piper" generate r --prompt 'the ' >said 2>out && [ "$(wc -c <said)" -eq 61 ]
result 'without -n to the end of the table'
refuses 'beyond the table' 65 'its table has 64 positions, prompt and new tokens are up to 65' generate r --prompt a -n 64
for seed in 1 1 2; do
    "$piper" generate r --prompt 'the ' -n 40 --temperature 50 --seed $seed >"drawn.$seed$seed" 2>>out
    [ -f drawn.1 ] || mv drawn.11 drawn.1
done
cmp drawn.1 drawn.11 >out 2>&1 && ! cmp -s drawn.1 drawn.22
result 'draws: a seed repeats them'

# ---- on a terminal: nothing that it would obey
control=$(printf '\001-\010\013\014\016-\037\177')
tr -cd "$control" <drawn.1 >controls
wc -c <controls >controls.n
if command -v script >/dev/null 2>&1; then
    script -qec "'$piper' generate r --prompt 'the ' -n 40 --temperature 50 --seed 1" /dev/null >typed 2>out </dev/null
    [ -s controls ] && tr -cd "$control" <typed >left && [ ! -s left ] && grep -q '\\x[01]' typed
    result 'on a terminal control characters are written as codes; of them came' cat controls.n
else
    echo "# script is not here: no terminal"
fi

# ---- bfloat16: matrices as they are
build half llama one train.steps=20 train.lr=1e-2 train.dtype=bfloat16 'train.eval_data={"a": "tokens.h5", "b": "tokens.h5"}'
train 1 half h
"$piper" generate h --prompt 'the ' -n 30 --time >said 2>out && "$piper" generate h --prompt 'the ' -n 30 --dtype float32 --time >wide 2>>out &&
    awk '{ sub(/.*parameters of /, ""); print $1 }' out | tr '\n' ' ' | awk '{ exit !($1 < 0.6 * $2) }'
result 'a job in bfloat16 keeps its matrices so, and --dtype float32 does not'

# ---- the loss of an evaluation
# evaluated RUN JOB COLUMN [NAME]: the number that piper eval prints is that of metrics.csv, to 1e-7
evaluated()
{
    "$piper" eval "$1" --job "$2.h5" >said 2>out
    column "$1" "$3" >there
    sed -n "s|^${4-tokens.h5}: loss \([^,]*\), .*|\1|p" said >here
    cat said there >>out
    tail -n 1 there | paste -d ' ' - here | awk 'NF != 3 { exit 1 } { d = $3 - $2; d = d < 0 ? -d : d; exit !($2 > 0 && d <= 1e-7 * $2) }'
}
evaluated r small eval_loss
result 'eval: of gpt2'
perplexity=$(sed -n 's/.*perplexity \([^,]*\),.*/\1/p' said) bits=$(sed -n 's/.*, \([^ ]*\) bits per byte.*/\1/p' said)
awk -v p="$perplexity" -v b="$bits" '{ l = $1; exit !((p - exp(l)) ^ 2 < 1e-8 * p * p && (b - l / log(2)) ^ 2 < 1e-9) }' here
result 'perplexity, and bits per byte of bytes'
evaluated h half eval_loss.b b && grep -q '^all: ' said
result 'eval: in bfloat16, of named sets'
build moe qwen3_moe ep2 train.steps=3 train.eval_data=tokens.h5
train 2 moe m
evaluated m moe eval_loss
result 'eval: of experts with a capacity, trained by two ranks'
"$piper" checkpoint export m --job moe.h5 -o dropless >out 2>&1 # the capacity is none of transformers'
head -c 80 text >long
"$piper" generate m --file long -n 20 >said 2>>out && "$piper" generate dropless --file long -n 20 >other 2>>out && cmp said other >>out
result 'a prompt that would fill an expert: none is dropped'
printf '%s\n' one two three four five six seven eight nine ten >lines
for i in 1 2 3 4 5 6; do cat lines text; done | head -c 20000 | tr ' ' '\n' | sed 's/.*/{"text": "&"}/' >docs.jsonl
"$piper" data jsonl docs.jsonl -o docs.h5 >out 2>&1
build apart llama one train.steps=2 train.documents=separate train.data=docs.h5 train.eval_data=docs.h5
train 1 apart d
evaluated d apart eval_loss docs.h5
result 'eval: of documents apart'
cp here trained
"$piper" checkpoint export d --job apart.h5 -o apart >out 2>&1 && "$piper" eval apart --job apart.h5 >said 2>>out &&
    sed -n 's/^docs.h5: loss \([^,]*\), .*/\1/p' said | cmp trained - >>out
result 'eval: of documents apart, exported'
mv r/job.h5 small.kept
"$piper" eval published --data tokens.h5 --seq-len 16 >said 2>out && "$piper" eval r --data tokens.h5 >other 2>>out &&
    cut -d, -f1,2 said >a && cut -d, -f1,2 other | cmp a - >>out
result 'eval: of the exported directory'

# ---- sample_every: what piper generate says with the checkpoint, whoever held its parameters
# sampled RUN JOB RANKS
sampled()
{
    train "$3" "$2" "$1"
    cp out said
    grep -c 'step [0-9]*  sample [12]: ' "$1/log.txt" >out
    grep -qx 4 out || return 1
    for i in 1 2; do
        [ $i -eq 1 ] && text='the ' || text='a'
        "$piper" generate "$1" --job "$2.h5" --prompt "$text" -n 12 | tr '\n\t' '@' | sed 's/@$//; s/@/\\n/g' >want
        sed -n "s/.*step 40  sample $i: //p" "$1/log.txt" | tr -d '\n' >got
        cmp want got >>out 2>&1 || { cat want got >>out; echo >>out; return 1; }
    done
}
# asks JOB MODEL STRATEGY [KEY=VALUE...]
asks()
{
    build "$@" train.sample_every=20 train.lr=1e-2 'train.sample_prompts=["the ", "a"]' train.sample_tokens=12 train.steps=40
}
asks stages llama pp2dp2
sampled s stages 4
result 'samples in training: over stages and replicas'
asks shared llama zero3 train.dtype=bfloat16
sampled z shared 2
result 'samples in training: parameters shared out, in bfloat16'
asks spread qwen3_moe ep2 train.documents=separate train.data=docs.h5
sampled x spread 2
result 'samples in training: experts on two ranks, documents apart'

# ---- a run has its job, and the tokenizer of its data, wherever it lies
# heard RUN: what it says; lost RUN: its loss, without the name of the file
heard()
{
    "$piper" generate "$1" --prompt 'the ' -n 12 2>>out
}
lost()
{
    "$piper" eval "$1" 2>>out | sed 's/.*: loss/loss/'
}
mkdir place
cp "$src/tests/text/small/chat.json" place
(
    cd place || exit 1
    head -c 4000 ../text >words && "$piper" data text words --tokenizer chat.json -o words.h5 &&
        "$piper" build -m ../llama.json -s ../one.json -t ../adamw.json --set model.vocab_size=384 --set train.steps=3 \
            --set train.data=words.h5 --set train.eval_data=words.h5 -o kept.h5 && "$piper" train kept.h5 -o run &&
        mkdir ../elsewhere && "$piper" train kept.h5 -o ../elsewhere/run
) >out 2>&1
heard place/run >saying && lost place/run >loss && [ "$(wc -c <saying)" -gt 12 ] && [ -s loss ] && cmp place/chat.json place/run/tokenizer/tokenizer.json >>out
result 'generate, eval: the job and the tokenizer of a run are in it'
heard elsewhere/run | cmp saying - >>out && lost elsewhere/run | cmp loss - >>out
result 'a run in another directory than its data'
mv place project && heard project/run | cmp saying - >>out && lost project/run | cmp loss - >>out && (cd project/run && lost .) | cmp loss - >>out
result 'moved with its data'
mv project/run alone && heard alone | cmp saying - >>out
result 'moved without its data: it speaks'
refuses 'moved without its data: nothing to evaluate' 66 'words.h5: .*the job.s eval_data, relative to the job file' eval alone
"$piper" checkpoint export alone -o alone.hf/ >out 2>&1 && heard alone.hf | cmp saying - >>out && cmp project/chat.json alone.hf/tokenizer.json >>out
result 'exported from its own job, with the tokenizer of its data'
mv alone project/run && rm project/kept.h5 && (cd project && "$piper" train run/job.h5 -o run --steps 5) >out 2>&1 && grep -q 'starting at step 4' out &&
    lost project/run >later && ! cmp -s loss later
result 'trained further with its own job'
(cd project && "$piper" train run/job.h5 -o run --fresh --steps 2) >>out 2>&1 && lost project/run/old.1 | cmp later - >>out && lost project/run >new &&
    [ -s new ] && ! cmp -s later new
result '--fresh: what was moved to old.1 has its own'
{ cat project/chat.json && echo; } >project/other.json
(
    cd project && "$piper" data text words --tokenizer other.json -o words.h5 &&
        : >run/tokenizer/tokenizer.json.0123456789abcdef.tmp && "$piper" train run/job.h5 -o run && # of a write that was killed
        cmp other.json run/tokenizer/tokenizer.json && echo '{}' >run/tokenizer/tokenizer_config.json &&
        "$piper" data text words --tokenizer chat.json -o words.h5 && "$piper" train run/job.h5 -o run --steps 6 &&
        cmp other.json run/tokenizer/tokenizer.json && grep 'warning: .*words.h5 was made with another tokenizer' run/log.txt
) >>out 2>&1
result 'another tokenizer: it follows the data, but imported files stay'
refuses 'a directory from a run without a job' 64 'has no job.h5; name it with --job JOB' checkpoint export r/checkpoints/step-000200.h5 -o published

# ---- mistakes
refuses 'no prompt for two options' 64 'prompt and --file are mutually exclusive' generate r --prompt a --file b
refuses 'an empty prompt' 65 'is empty, expected at least one token' generate r --prompt ''
refuses 'a command of another program' 64 'did you mean "generate"' inference r
refuses 'an option of another program' 64 'max-tokens' generate r --max-new-tokens 5
refuses 'no ids' 65 'found "x", expected token ids' generate r --ids --prompt '1 x'
refuses 'an id that is none' 65 'token 1 is 256, expected ids below 256' generate r --ids --prompt '1 256'
refuses 'a temperature' 64 'temperature: found "hot", expected a number from 0' generate r --prompt a --temperature hot
refuses 'a probability' 64 'top-p: found "1.5", expected a number from 0 to 1' generate r --prompt a --top-p 1.5
refuses 'threads' 64 'threads: found 4294967296, expected at most 1024' generate r --prompt a --threads 4294967296
refuses 'a system text without a conversation' 64 'system requires --chat' generate r --prompt a --system b
refuses 'a conversation of bytes' 64 'chat: requires a tokenizer' generate r --prompt a --chat
refuses 'no such file' 66 'nosuch.txt: cannot be read' generate r --file nosuch.txt
refuses 'no such model' 66 'nosuch' generate nosuch --prompt a
mkdir empty
refuses 'a directory with nothing in it' 66 'found no checkpoints' generate empty --prompt a
refuses 'a file that is no checkpoint' 65 'tokens.h5' generate tokens.h5 --prompt a
"$piper" build -m tiny.json -s one.json -t adamw.json --set model.vocab_size=300 -o wide.h5 >out 2>&1 && train 1 wide w --steps 1
refuses 'no tokenizer' 64 'does not say which tokenizer its model has \(vocabulary 300\)' generate w --prompt a
# damaged: bad.h5 with four other bytes, in its parameters wherever these lie.
damaged()
{
    for part in $(seq 19); do
        cp r/checkpoints/step-000200.h5 bad.h5
        printf '\377\377\377\377' | dd of=bad.h5 bs=1 seek=$(($(wc -c <bad.h5) * part / 20)) conv=notrunc 2>/dev/null
        "$piper" checkpoint verify bad.h5 >out 2>&1
        grep -q ' /params/.*hash' out && return 0
    done
    return 1
}
damaged
result 'damage in the parameters'
refuses 'a damaged file' 65 'the file is damaged' generate bad.h5 --prompt a
(
    # shellcheck disable=SC3045 # dash and bash have it
    ulimit -v 4000000
    "$piper" generate h --prompt a -n 16000000
) >said 2>out </dev/null
got=$?
[ $got -eq 71 ] && grep -q 'model: the keys and values of 16000001 tokens take .* MiB of memory, .* has .* MiB: shorten the prompt' out
result_limited 'keys and values beyond a limit of the process'
"$piper" build -m tiny.json -s one.json -t adamw.json --set model.vocab_size=300 --set train.sample_every=1 --set 'train.sample_prompts=["a"]' \
    -o unknown.h5 >out 2>&1 && ends 65 1 unknown u && grep -q 'does not contain the tokenizer that sample_prompts require' out
result 'samples without a tokenizer'
refuses 'eval: nothing to evaluate on' 64 'name the job with --job JOB, or a token file' eval r
mv small.kept r/job.h5
awk 'BEGIN { for (i = 0; i < 2000; i++) print "{\"text\": \"a\"}" }' >letters.jsonl
"$piper" data jsonl letters.jsonl -o letters.h5 >out 2>&1
refuses 'eval: documents of one token' 65 'letters.h5: no token of its [0-9]* sequences is a target' eval d --job apart.h5 --data letters.h5
refuses 'eval: of another job' 65 'is a model of another job' eval r --job half.h5
refuses 'eval: sequences that are too long' 64 'found 65, expected at most 64, the positions of the model' eval published --data tokens.h5 --seq-len 65
refuses 'eval: --seq-len of a checkpoint' 64 'is for a directory that transformers loads' eval r --data tokens.h5 --seq-len 8
echo "1..$n"
