#!/bin/sh
# time-limit: 600
# Every mistake gets one message that says the place, what was found and what was expected, and its exit code;
# under MPI the message is printed once and all ranks are gone soon. Prints TAP: a case a mistake.
. "${top_srcdir:-.}/tests/cli/lib.sh" || exit 99
trap 'ranks_end; rm -rf "$dir"' EXIT

# ---- judging --------------------------------------------------------------------------------------------------------

# verdict NAME WHY: good where there is no reason why not
verdict()
{
    [ -z "$2" ] || { echo "$2" && cat "$dir/out" "$dir/message"; } >"$shown"
    [ -z "$2" ]
    result "$1"
}

# judge NAME STATUS EXPECTED-STATUS PATTERN: $dir/message has one line, from piper, which matches the extended regular
# expression; $dir/out, what else was printed, is no concern
judge()
{
    why=
    if [ "$2" -ne "$3" ]; then
        why="exit status $2, expected $3"
    elif [ "$(wc -l <"$dir/message")" -ne 1 ] || ! grep -q '^piper: ' "$dir/message"; then
        why="expected one line that begins with \"piper: \""
    elif ! grep -Eq -e "$4" "$dir/message"; then
        why="expected a message like: $4"
    fi
    verdict "$1" "$why"
}

# bad NAME STATUS PATTERN ARGUMENT...: one piper, without a launcher
bad()
{
    name=$1 expected=$2 pattern=$3
    shift 3
    status=0
    (cd "$dir" && timeout 20 "$piper" "$@") >"$dir/out" 2>"$dir/message" </dev/null || status=$?
    judge "$name" $status "$expected" "$pattern"
}

# strategy NAME STATUS PATTERN DIRECTIVES [MODEL]: piper build with these directives between [ and ]
strategy()
{
    echo "[$4]" >"$dir/strategy.json"
    bad "$1" "$2" "^piper: strategy\.json: $3" build -m "${5:-llama}.json" -s strategy.json -t train.json -o bad.h5
}

# model NAME PATTERN JSON; settings NAME PATTERN JSON: piper build with this model or train.json
model()
{
    echo "$3" >"$dir/model.json"
    bad "$1" 65 "^piper: model\.json: $2" build -m model.json -s one.json -t train.json -o bad.h5
}
settings()
{
    echo "$3" >"$dir/settings.json"
    bad "$1" 65 "^piper: settings\.json: $2" build -m llama.json -s one.json -t settings.json -o bad.h5
}

# launch N STATUS ARGUMENT...: piper train on N ranks of its own; sets why, and took, in seconds
launch()
{
    many=$1 expected=$2
    shift 2
    began=$(date +%s) why=
    (cd "$dir" && sh "$run_mpi" -t 60 -x "$expected" "$piper" "$many" train "$@") >"$dir/all" 2>&1 ||
        why=$(grep '^run-mpi: ' "$dir/all")
    took=$(($(date +%s) - began))
}

# ranks N NAME STATUS PATTERN ARGUMENT...: piper train on N ranks that wait for work, judged
ranks()
{
    many=$1 name="$1 ranks: $2" expected=$3 pattern=$4
    shift 4
    on_ranks "$expected" "$many" train "$@" >"$dir/all" 2>&1
    status=$?
    grep '^piper: ' "$dir/all" >"$dir/message"
    grep -v '^piper: ' "$dir/all" >"$dir/out"
    if [ $status -ne 0 ]; then
        verdict "$name" "$(grep '^run-mpi: ' "$dir/all")"
    else
        judge "$name" "$expected" "$expected" "$pattern"
    fi
}

# left: there are processes of the program that work in $dir
left()
{
    find /proc/[0-9]*/exe -lname "$piper" 2>/dev/null | while read -r exe; do
        [ "$(readlink "${exe%/exe}/cwd")" != "$dir" ] || echo "$exe"
    done | grep . >"$dir/left"
}

# launched N NAME STATUS PATTERN ARGUMENT...: the same with a launch of its own; it ends within 5 s more than a good run takes. A
# busy machine may stall once, ranks that wait for each other do so again.
launched()
{
    many=$1 name=$2 expected=$3 pattern=$4
    shift 4
    launch "$many" "$expected" "$@"
    [ $took -le $((start + 5)) ] || launch "$many" "$expected" "$@"
    grep '^piper: ' "$dir/all" >"$dir/message"
    grep -v '^piper: ' "$dir/all" >"$dir/out"
    if [ -z "$why" ] && [ $took -gt $((start + 5)) ]; then
        why="ended after $took s, a good run takes $start s"
    elif [ -z "$why" ] && left; then
        why="ranks are left"
    fi
    name="$many ranks: $name"
    if [ -n "$why" ]; then
        verdict "$name" "$why"
    else
        judge "$name" "$expected" "$expected" "$pattern"
    fi
}

# ---- material -------------------------------------------------------------------------------------------------------

run_mpi=$src/tests/run-mpi
llama='"model_type": "llama", "vocab_size": 256, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
 "intermediate_size": 24'
moe='"model_type": "qwen3_moe", "vocab_size": 256, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
 "num_key_value_heads": 1, "head_dim": 8, "moe_intermediate_size": 8, "num_experts": 4, "num_experts_per_tok": 2'
sizes='"batch_size": 8, "seq_len": 16, "steps": 4'
. "$src/tests/jobs/lib.sh"
echo "{$llama}" >llama.json
echo "{$moe}" >moe.json
echo "{$llama, \"annotate\": [{\"tag\": \"PP\", \"index\": 0, \"match\": [\"embed\", \"layers.0-1\"]},
 {\"tag\": \"PP\", \"index\": 1, \"match\": [\"layers.2-3\", \"norm\", \"head\"]}]}" >annotated.json
echo "{$sizes, \"data\": \"tokens.h5\"}" >train.json
echo '[]' >one.json
echo '[{"op":"layout","pp":2,"dp":1},{"op":"schedule","kind":"1f1b","microbatches":2}]' >two.json
cat "$src/README" "$src/tests/cli/errors.sh" >text
{
    "$piper" data text text -o tokens.h5 &&
        "$piper" build -m llama.json -s one.json -t train.json -o one.h5 &&
        "$piper" build -m llama.json -s two.json -t train.json -o two.h5 &&
        "$piper" build -m llama.json -s two.json -t train.json -o other.h5 --set model.hidden_size=32 &&
        "$piper" build -m llama.json -s two.json -t train.json -o small.h5 --set model.vocab_size=64 &&
        "$piper" build -m llama.json -s one.json -t train.json -o small-1.h5 --set model.vocab_size=64
} >log 2>&1 || { sed 's/^/# /' log; echo "Bail out! the good job could not be built"; exit 1; }
head -c 3000 two.h5 >cut.h5
echo hello >no.h5
head -c 5 text >short
"$piper" data text short -o short.h5 >log || { echo "Bail out! no short token file"; exit 1; }

# ---- strategies -----------------------------------------------------------------------------------------------------

two='{"op":"split","filter":{},"num_microbatches":2},
 {"op":"place","filter":{"PP":0},"devices":[0]},{"op":"place","filter":{"PP":1},"devices":[1]}'
# order PP,MB,PASS...: an order directive, a group a word
order()
{
    echo ',{"op":"order","filters":['
    comma=
    for word; do
        echo "$word" | sed "s/\(.*\),\(.*\),\(.*\)/${comma}[{\"PP\":\1,\"MB\":\2,\"PASS\":\"\3\"}]/"
        comma=,
    done
    echo ']}'
}

strategy "orders that contradict each other across stages" 65 \
    '\$\[[34]\].*PP=. MB=. [FB] is ordered before PP=. MB=. [FB], but data flow together with the order .*can never run' \
    "$two $(order 0,0,F 0,0,B 0,1,F) $(order 1,1,F 1,0,B)"
strategy "an order against data flow" 65 \
    '\$\[3\].*group 1: PP=0 MB=0 B is ordered before PP=0 MB=0 F, but data flow requires the reverse' \
    "$two $(order 0,0,B 0,0,F)"
strategy "an order across device sets" 65 '\$\[3\].*group 1: PP=1 MB=0 F is on another device set' "$two $(order 0,0,F 1,0,F)"
strategy "an order of one group" 65 '\$\[3\]\.filters: found a list of 1, expected at least two groups' "$two $(order 0,0,F)"
strategy "an order of a microbatch that does not exist" 65 '\$\[3\].*group 1: .*matches no node; microbatches are 0 to 1' \
    "$two $(order 0,0,F 0,7,F)"
strategy "an order of an unknown pass" 65 '\$\[3\]\.filters\[1\]\[0\]\.PASS: found "X", expected one of "F", "B", "BI", "BW"' \
    "$two $(order 0,0,F 0,0,X)"
strategy "a peak that is no size" 65 '\$\[3\]\.peak: found "much", expected a number from 1e-06' \
    "$two ,{\"op\":\"order\",\"peak\":\"much\",\"filters\":[[{\"MB\":0}],[{\"MB\":1}]]}"
strategy "a peak below what the order takes" 65 \
    '\$\[3\]\.peak: found 1e-05 GiB, but a rank takes at least [0-9.]* GiB in this order; allow that much' \
    "$two $(order 0,0,F 0,1,F | sed 's/"filters"/"peak":0.00001,&/')"
printf '{"batch_size":2147483647,"seq_len":2147483647,"steps":1}' >vast.json
bad "values of a step beyond all sizes" 65 '^piper: a step of 2147483647 sequences of 2147483647 tokens computes [0-9.e+]* values, expected at most 2\^56; use' build -m llama.json -s one.json -t vast.json -o bad.h5
bad "memory beyond all sizes" 65 '^piper: a rank of rank class 0 needs [0-9.e+]* TiB of memory, expected at most 256; use more ranks' build -m llama.json -s one.json -t train.json --set model.hidden_size=8388608 --set model.head_dim=8 --set model.intermediate_size=8388608 -o bad.h5
bad "control characters" 66 '^piper: a\?\[31mb\?\?: cannot be read' build -m llama.json -s "$(printf 'a\033[31mb\302\233')" -t train.json -o bad.h5
strategy "a tag that is true" 65 '\$\[0\]\.filter\.PP: found true, expected a number, a numeric string, a range "8-15" or "0-62:2", "\*", "-" or null' \
    '{"op":"place","filter":{"PP":true},"devices":[0]}'
strategy "experts on a device, no list" 65 '\$\[0\]\.devices: found 0, expected a list of devices: .*, or a list of such lists' \
    '{"op":"shard","filter":{"EP":"*"},"devices":0}' moe
strategy "stages beyond all integers" 65 'the strategy has 1073741824 pipeline stages, but the model has 4 layers' \
    '{"op":"layout","pp":2147483649,"dp":1,"placement":"interleaved","chunks":1024}'
strategy "a stage beyond all integers" 65 'the strategy has 1073741825 pipeline stages, but the model has 4 layers' \
    '{"op":"place","filter":{"PP":"0-4294967297"},"devices":[0]}'
strategy "BI without BW" 65 '\$\[3\]: BI of PP=0 MB=0 has no BW in this order' "$two $(order 0,0,F 0,0,BI)"
strategy "BW before BI" 65 '\$\[3\]: BW of PP=0 MB=0 precedes its BI' "$two $(order 0,0,F 0,0,BW 0,0,BI)"
strategy "B beside BI and BW" 65 '\$\[4\]: PP=0 MB=0 is ordered both as B and as the pair BI, BW' \
    "$two $(order 0,0,F 0,0,BI 0,0,BW) $(order 0,0,F 0,0,B)"

strategy "a tag that does not exist" 65 '\$\[0\]\.filter\.XX: the model has no tag "XX"; a filter may use .*PASS.*MB' \
    '{"op":"place","filter":{"XX":0},"devices":[0]}'
strategy "a filter that matches nothing" 65 '\$\[0\]: this filter matches nothing; the model.s chunks are: PP=0, PP=1' \
    '{"op":"place","filter":{"PP":2},"devices":[0]}' annotated
strategy "a filter of experts that do not exist" 65 '\$\[0\]: this filter matches nothing; the model.s chunks are: .*EP=1' \
    '{"op":"place","filter":{"EP":7},"devices":[0]}' moe
strategy "a filter that is no object" 65 '\$\[0\]\.filter: found 7, expected a filter' '{"op":"place","filter":7,"devices":[0]}'
strategy "a filter with an index that is none" 65 '\$\[0\]\.filter\.PP: found "a", expected a number' \
    '{"op":"place","filter":{"PP":"a"},"devices":[0]}'

strategy "a device out of range" 65 '\$\[0\]\.devices\[0\]: found 99999999, expected a device number' \
    '{"op":"place","filter":{},"devices":[99999999]}'
strategy "a negative device" 65 '\$\[0\]\.devices\[1\]: found -1, expected a device number' \
    '{"op":"place","filter":{},"devices":[0,-1]}'
strategy "a device twice" 65 '\$\[0\]\.devices: device 0 is listed twice' '{"op":"place","filter":{},"devices":[0,0]}'
strategy "devices that are no list" 65 '\$\[0\]\.devices: found 9, expected a list of devices' \
    '{"op":"place","filter":{},"devices":9}'
strategy "no devices" 65 '\$\[0\]: "devices" is missing' '{"op":"place","filter":{}}'
strategy "overlapping device sets" 65 'device set \[1,2\] partly overlaps another' \
    '{"op":"place","filter":{"PP":0},"devices":[0,1]},{"op":"place","filter":{"PP":1},"devices":[1,2]}'
strategy "a device that nothing uses" 65 'device 2 is used, device 1 is not' \
    '{"op":"place","filter":{"PP":0},"devices":[0]},{"op":"place","filter":{"PP":1},"devices":[2]}'
strategy "device sets of different sizes" 65 'device sets \[0,1\] and \[2\] differ in size' \
    '{"op":"place","filter":{"PP":0},"devices":[0,1]},{"op":"place","filter":{"PP":1},"devices":[2]}'
strategy "place without replicate" 65 'PP=0 is on devices \[0,1\].* no replicate directive covers it' \
    '{"op":"place","filter":{"PP":0},"devices":[0,1]}'
strategy "a stage without a place" 65 'PP=0 MB=0 has no device: add a place directive' \
    '{"op":"place","filter":{"PP":1},"devices":[0]}'
strategy "passes of a chunk on different devices" 65 'the passes of PP=0 MB=0 are placed on different devices' \
    '{"op":"place","filter":{"PP":0,"PASS":"F"},"devices":[0]},{"op":"place","filter":{"PP":0,"PASS":"B"},"devices":[1]}'

strategy "a batch that does not divide" 65 'a batch of 8 .*is not divisible by 3 replicas x 2 microbatches; choose a multiple of 6' \
    '{"op":"layout","pp":1,"dp":3},{"op":"schedule","kind":"gpipe","microbatches":2}'
strategy "no microbatches" 65 '\$\[0\]\.num_microbatches: found 0, expected an integer from 1' \
    '{"op":"split","filter":{},"num_microbatches":0}'
strategy "splits that do not agree" 65 '\$\[1\]: an earlier split makes 2 microbatches' \
    '{"op":"split","filter":{},"num_microbatches":2},{"op":"split","filter":{},"num_microbatches":4}'
strategy "a split of part of the model" 65 '\$\[0\]: the split does not cover PP=1' \
    '{"op":"split","filter":{"PP":0},"num_microbatches":2},{"op":"place","filter":{"PP":1},"devices":[0]}'
strategy "more stages than layers" 65 'the strategy has 5 pipeline stages, but the model has 4 layers: use at most 4' \
    '{"op":"layout","pp":5,"dp":1}'
strategy "a placement that does not exist" 65 '\$\[0\]\.placement: found "x", expected "standard", "interleaved"' \
    '{"op":"layout","pp":2,"dp":1,"placement":"x"}'
strategy "an unknown directive" 65 '\$\[0\]\.op: unknown directive "palce", known: place, .*; did you mean "place"\?' \
    '{"op":"palce","filter":{},"devices":[0]}'
strategy "an unknown key" 65 '\$\[0\]: unknown key "strem"; did you mean "stream"\?' \
    '{"op":"place","filter":{},"devices":[0],"strem":"x"}'
strategy "a missing key" 65 '\$\[0\]: missing key "filter"' '{"op":"place","devices":[0]}'
strategy "a directive that is none" 65 '\$\[0\]: found 42, expected a directive' 42
strategy "an unknown schedule" 65 '\$\[1\]\.kind: unknown schedule "1b1f", known: gpipe, .*; did you mean "1f1b"\?' \
    '{"op":"layout","pp":2,"dp":1},{"op":"schedule","kind":"1b1f","microbatches":2}'
strategy "a schedule that needs another placement" 65 '\$\[1\]: schedule "zb-v" requires the placement "v"' \
    '{"op":"layout","pp":2,"dp":1},{"op":"schedule","kind":"zb-v","microbatches":2}'
strategy "a schedule file that does not exist" 66 '.*nope\.csv' '{"op":"schedule","kind":"csv","file":"nope.csv"}'
strategy "a bucket of no size" 65 '\$\[0\]\.bucket_size: found -1, expected a number from' \
    '{"op":"replicate","filter":{},"devices":[0,1],"bucket_size":-1}'
strategy "experts that do not divide" 65 '\$\[1\]: EP=0 has 4 experts, which do not split evenly over 3 devices' \
    '{"op":"replicate","filter":{},"devices":["0-2"]},{"op":"shard","filter":{"EP":"*"},"devices":["0-2"]}' moe
strategy "two layouts" 65 '\$\[1\]: found a second "layout"' '{"op":"layout","pp":1,"dp":1},{"op":"layout","pp":2,"dp":1}'
strategy "a shard of more than experts" 65 '\$\[1\]: the filter matches PP=0.*only expert regions can be sharded' \
    '{"op":"replicate","filter":{},"devices":[0,1]},{"op":"shard","filter":{"PP":0},"devices":[0,1]}' moe

# ---- models ---------------------------------------------------------------------------------------------------------

model "a model that is cut off" 'line [0-9]+, column [0-9]+: invalid JSON' "{$llama,"
model "a missing comma" 'line 2, column [0-9]+: invalid JSON: .}. expected near .*vocab_size' '{"model_type": "llama"
 "vocab_size": 256}'
model "a key twice" 'line 2, column [0-9]+: .*duplicate object key near .*vocab_size' "{$llama, \"vocab_size\": 3}"
model "an unknown model_type" '\$\.model_type: found "lama", expected one of gpt2, llama, .*"graph"' '{"model_type": "lama"}'
model "a model_type that no operator computes" '\$\.model_type: a bert cannot be described here: it has an encoder' \
    '{"model_type": "bert"}'
model "a key of another family" '\$\.logits_scaling: found 8.0, expected 1 or no such key: a llama has no logits_scaling, as has granite' \
    "{$llama, \"logits_scaling\": 8.0}"
model "a window in a llama" '\$\.sliding_window: found 64, expected no such key: a llama' "{$llama, \"sliding_window\": 64}"
model "no model_type" '\$: found neither "model_type".*nor "graph"' '{}'
model "rope_scaling" '\$\.rope_scaling\.rope_type: found "ntk", expected default, linear' \
    "{$llama, \"rope_scaling\": {\"rope_type\": \"ntk\", \"factor\": 8.0}}"
model "rope_scaling without its numbers" '\$\.rope_scaling: low_freq_factor must be above 0' \
    "{$llama, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0}}"
model "too many layers" '\$: num_hidden_layers is 4097, expected at most 4096' \
    '{"model_type": "llama", "vocab_size": 256, "hidden_size": 16, "num_hidden_layers": 4097, "num_attention_heads": 2,
     "intermediate_size": 32}'
model "a window for every layer" '\$\.layer_types: found 1 kinds, expected one for each of the 4 layers' \
    "{$(echo "$llama" | sed 's/llama/ministral/'), \"num_key_value_heads\": 2, \"layer_types\": [\"full_attention\"]}"
model "another activation" '\$\.hidden_act: found "mish", expected silu, gelu' "{$llama, \"hidden_act\": \"mish\"}"
model "a size that is text" '\$\.rms_norm_eps: found "small", expected a number' "{$llama, \"rms_norm_eps\": \"small\"}"
model "a negative size" '\$\.num_key_value_heads: found -3, expected an integer' "{$llama, \"num_key_value_heads\": -3}"
model "heads that do not divide" '\$: num_attention_heads 2 is not a multiple of num_key_value_heads 3' \
    "{$llama, \"num_key_value_heads\": 3}"
model "an annotation of nothing" '\$\.annotate\[0\]\.match\[0\]: found "layer\.0", expected a region of the model: embed' \
    "{$llama, \"annotate\": [{\"tag\": \"PP\", \"index\": 0, \"match\": [\"layer.0\"]}]}"
model "stages with a gap" 'PP goes up to 2, but no operator has PP 1' \
    "{$llama, \"annotate\": [{\"tag\": \"PP\", \"index\": 0, \"match\": [\"embed\"]},
     {\"tag\": \"PP\", \"index\": 2, \"match\": [\"layers.*\", \"norm\", \"head\"]}]}"
model "positions that are too few" '\$: seq_len is 16, but n_positions is 8' \
    '{"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 8}'

# ---- training settings ----------------------------------------------------------------------------------------------

settings "an unknown setting" '\$: unknown key "stepz"; did you mean "steps"\?' "{$sizes, \"stepz\": 3}"
settings "a missing setting" '\$: missing key "seq_len"' '{"batch_size": 8, "steps": 1}'
settings "an unknown optimizer" '\$\.optimizer\.kind: found "adam", expected "adamw" or "sgd"' \
    "{$sizes, \"optimizer\": {\"kind\": \"adam\"}}"
settings "an optimizer that is text" '\$\.optimizer: found "adamw", expected an object such as \{"kind": "adamw"\}' "{$sizes, \"optimizer\": \"adamw\"}"
settings "betas out of range" '\$\.optimizer\.betas\[1\]: found 1\.5, expected a number from 0 to 1' \
    "{$sizes, \"optimizer\": {\"betas\": [0.9, 1.5]}}"
settings "an unknown learning-rate schedule" '\$\.lr\.kind: found "cosin", expected .*"cosine"' "{$sizes, \"lr\": {\"kind\": \"cosin\"}}"
settings "a learning rate that is text" '\$\.lr\.peak: found "1", expected a number' "{$sizes, \"lr\": {\"peak\": \"1\"}}"
settings "a batch of nothing" '\$\.batch_size: found 0, expected an integer from 1' '{"batch_size": 0, "seq_len": 16, "steps": 1}'
settings "an unknown dtype" '\$\.dtype: found "float16", expected "float32" or "bfloat16"' "{$sizes, \"dtype\": \"float16\"}"
settings "trace steps out of order" '\$\.trace_steps\[1\]: found 1, expected an integer from 4' "{$sizes, \"trace_steps\": [3, 1]}"
settings "evaluation without data" '\$\.eval_every: requires eval_data' "{$sizes, \"eval_every\": 1}"
settings "a switch that is text" '\$\.shuffle: found "yes", expected true or false' "{$sizes, \"shuffle\": \"yes\"}"
settings "max_steps" '\$: unknown key "max_steps"; did you mean "steps"\?' "{$sizes, \"max_steps\": 3}"
settings "a key of the optimizer" '\$: unknown key "weight_decay"; did you mean "optimizer\.weight_decay"\?' "{$sizes, \"weight_decay\": 0}"
settings "what is left out" '\$: unknown key "label_smoothing"; it is not offered: piper-train-config\(5\), NOT HERE' "{$sizes, \"label_smoothing\": 0.1}"
settings "what the strategy says" '\$: unknown key "gradient_checkpointing"; the directive recompute' \
    "{$sizes, \"gradient_checkpointing\": true}"
settings "bf16" '\$\.dtype: found "bf16", expected "float32" or "bfloat16"; did you mean "bfloat16"\?' "{$sizes, \"dtype\": \"bf16\"}"
settings "cos" '\$\.lr\.kind: found "cos", expected .*; did you mean "cosine"\?' "{$sizes, \"lr\": {\"kind\": \"cos\"}}"
settings "a learning rate that is none" '\$\.lr: found "NaN", expected a number, or an object' "{$sizes, \"lr\": \"NaN\"}"
settings "a source that is a number" '\$\.data\[0\]: found 3, expected a file name, \[weight, file\] or \[weight, file, name\]' \
    "{$sizes, \"data\": [3]}"
settings "a comment" 'line 1, column [0-9]+: invalid JSON: .*; JSON has no comments' "{$sizes, // longer
\"seed\": 3}"
settings "a trailing comma" 'line 1, column [0-9]+: invalid JSON: .*; JSON has no comma behind' "{$sizes,}"
settings "a list" '\$: found a list of 0, expected an object' '[]'

# ---- files ----------------------------------------------------------------------------------------------------------

b="build -m llama.json -s one.json -t train.json"
bad "a model that is missing" 66 '^piper: missing\.json: ' build -m missing.json -s one.json -t train.json -o bad.h5
bad "a folder as model" 66 '^piper: \.: .*regular file' build -m . -s one.json -t train.json -o bad.h5
bad "a directory without a job" 66 '^piper: \.: this directory has no job\.h5; expected a job file, or the directory of a run' plan .
bad "a directory without a job, 1 rank" 66 '^piper: \.: this directory has no job\.h5' train . -o run
bad "a job that is missing" 66 '^piper: missing\.h5: .*No such file' plan missing.h5
bad "a job that is cut off" 65 '^piper: cut\.h5: .*truncated or damaged' plan cut.h5
bad "a job that is no HDF5" 65 '^piper: no\.h5: is text, expected a job file \(piper build writes one\)' plan no.h5
echo '{"name": "x", "flopz": 1}' >"$dir/sheet.json"
echo '{"ranks_per_node": 0}' >"$dir/topology.json"
bad "an unknown key of a data sheet" 65 '^piper: sheet\.json: \$: unknown key "flopz"' plan tokens.h5 --simulate --machine sheet.json
sed 's/67e12/1/' "$src/src/machines/h100.json" >slow.json
"$piper" build -m llama.json -s one.json -t train.json -o wide.h5 --set model.hidden_size=8192 --set model.head_dim=64 --set model.intermediate_size=65536 >out 2>&1
bad "a data sheet of a machine that takes forever" 65 '^piper: H100: a part of a step would take more than 1e\+09 s; use a machine file with other speeds' plan wide.h5 --simulate --machine slow.json
bad "a data sheet that is missing" 66 '^piper: b200: no such file, and no data sheet of that name: piper has a100 and h100' plan tokens.h5 --simulate --machine b200
bad "a machine that is missing" 66 '^piper: no-such\.h5: ' plan tokens.h5 --simulate --machine no-such.h5
bad "another file than a machine" 65 'found "piper-tokens", expected "piper-machine"' plan tokens.h5 --simulate --machine tokens.h5
bad "a topology without ranks" 65 '^piper: topology\.json: \$\.ranks_per_node: found 0' plan tokens.h5 --simulate --topology topology.json
bad "a topology without a machine" 64 '^piper: --topology: ' plan tokens.h5 --topology topology.json
bad "two outputs of plan" 64 '^piper: --simulate: ' plan tokens.h5 --simulate --dump
bad "calibrate without a file" 64 'expected|missing' calibrate
bad "another file than a job" 65 '^piper: tokens\.h5: attribute schema: found "piper-tokens", expected "piper-job"' plan tokens.h5
bad "a text that is missing" 66 '^piper: missing: ' data text missing -o bad.h5
: >empty
bad "a text without bytes" 65 '^piper: empty: contains no text' data text empty -o bad.h5
bad "tokens that are none" 65 '^piper: text: ' data import text -o bad.h5
echo '{"text": "a"}' >lines.jsonl
bad "JSONL as tokens" 65 '^piper: lines\.jsonl: is JSON or JSONL, expected token ids; piper data jsonl' data import lines.jsonl -o bad.h5
# shellcheck disable=SC2086 # $b is words
{
    bad "a folder that is missing" 74 '^piper: none/bad\.h5.*: cannot be created' $b -o none/bad.h5
    bad "a folder that takes no file" 74 '^piper: /proc/bad\.h5.*: cannot be created' $b -o /proc/bad.h5
    bad "--set of an unknown setting" 65 '^piper: train\.json: \$: unknown key "stpes"; did you mean "steps"\?' \
        $b -o bad.h5 --set train.stpes=3
    bad "--set of a strategy" 65 '^piper: two\.json: \$\[1\]: unknown key "micro_batches"; did you mean "microbatches"' \
        build -m llama.json -s two.json -t train.json -o bad.h5 --set 'strategy[1].micro_batches=4'
    bad "--set beyond a strategy" 64 '^piper: --set: found strategy\[9\]\.op=x, but the list has [0-9]+ elements' $b -o bad.h5 --set 'strategy[9].op=x'
    bad "a job and its sources" 64 '^piper: plan: job file one\.h5 conflicts with -m, -s and -t' plan one.h5 -m llama.json -s one.json -t train.json
    bad "sources without a strategy" 64 '^piper: plan: missing required option -s' plan -m llama.json -t train.json
    bad "neither job nor sources" 64 '^piper: plan: missing job\.h5, or the files' plan
    bad "--set of a job file" 64 '^piper: --set: requires -m, -s and -t' plan one.h5 --set train.steps=3
    bad "a model as job" 65 '^piper: llama\.json: is JSON text, expected a job file \(piper build' plan llama.json
    bad "--set without a file" 64 '^piper: --set: found steps=3, expected model\.KEY=VALUE, train\.KEY=VALUE' $b -o bad.h5 --set steps=3
    bad "--set of another type" 65 '^piper: train\.json: \$\.steps: found "abc", expected an integer' $b -o bad.h5 --set train.steps=abc
    bad "a word too many" 64 '^piper: build: .*usage: piper build' $b -o bad.h5 extra
}

# A flipped byte is found wherever it stands: the whole file, 61 places.
size=$(wc -c <two.h5)
missed=
"$piper" plan two.h5 --dump >good 2>/dev/null
for i in $(seq 0 60); do
    at=$((size * i / 61))
    old=$(od -An -tu1 -j $at -N 1 two.h5)
    cp two.h5 flip.h5
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\$(printf %03o $((old ^ 16)))" | dd of=flip.h5 bs=1 seek=$at conv=notrunc 2>/dev/null
    status=0
    "$piper" plan flip.h5 --dump >out 2>message || status=$?
    if [ $status -eq 0 ] && cmp -s out good; then
        continue # a byte that nobody reads
    fi
    [ $status -eq 65 ] && [ "$(grep -c '^piper: flip.h5: ' message)" -eq 1 ] || missed="$missed $at:$status"
done
verdict "a flipped byte in a job" "${missed:+not refused with 65 (byte:status):$missed}"

# ---- the command line -----------------------------------------------------------------------------------------------

bad "ls" 64 '^piper: checkpoint: unknown subcommand "ls"; did you mean "list"\?' checkpoint ls run
bad "help for no command" 64 '^piper: unknown command "buld"; did you mean "build"\?' help buld
bad "a word of Megatron as option" 64 '^piper: train: unknown option --tensor-model-parallel-size; here it is no option: the strategy has it: \{"op":"layout","tp":' \
    train --tensor-model-parallel-size 2
bad "a key of another program as option" 64 '^piper: train: unknown option --min-lr; here it is no option: "lr\.min"' train --min-lr 1e-5
bad "help for a word that nobody has" 64 '^piper: unknown command "--xyzzy"' help --xyzzy
bad "no command" 64 '^piper: missing command'
bad "an unknown command" 64 '^piper: unknown command "trian"; did you mean "train"\?' trian
bad "an unknown option" 64 '^piper: plan: unknown option --jsno; did you mean --json\?' plan one.h5 --jsno
bad "an option without its value" 64 '^piper: plan: --dot requires a value' plan one.h5 --dot
bad "a flag with a value" 64 '^piper: plan: --dump takes no value' plan one.h5 --dump=yes
bad "an option with another value" 64 '^piper: plan: --json: found "yes", expected "classes"' plan one.h5 --json=yes
bad "a number that is none" 64 '^piper: plan: --ranks: found "x", expected an integer >= 1' plan one.h5 -n x
bad "no operand" 64 '^piper: trace: found 0 operands; usage: piper trace RUNDIR' trace
bad "a missing option" 64 '^piper: build: missing required option -t train\.json' build -m llama.json -s one.json -o bad.h5
bad "plan for other ranks" 64 '^piper: two\.json: \$\[0\]: pp=2 x dp=1 needs 2 ranks, the job has 3' plan two.h5 -n 3
bad "plan for an unknown device" 71 '^piper: --device: this build cannot plan for the back end tpu' plan one.h5 --device tpu

# ---- training -------------------------------------------------------------------------------------------------------

bad "checkpoints of a folder that is not there" 66 '^piper: .*nowhere' checkpoint list nowhere
bad "1 rank of 2" 64 '^piper: two\.json: \$\[0\]: .*needs 2 ranks, the job has 1' train two.h5 -o run
bad "a job that is missing, 1 rank" 66 '^piper: missing\.h5: ' train missing.h5 -o run
bad "no run folder, 1 rank" 64 '^piper: train: missing required option -o RUNDIR' train one.h5
bad "a run folder that cannot be made, 1 rank" 74 '^piper: /proc/none: ' train one.h5 -o /proc/none

# ---- the environment

# OpenMP's own library reads the first of these too, and says what it thinks of it, on stderr
# environment NAME PATTERN VARIABLE=VALUE...: a training that does not begin
environment()
{
    name=$1 pattern=$2 status=0
    shift 2
    (cd "$dir" && timeout 20 env "$@" "$piper" train one.h5 -o never) >"$dir/out" 2>"$dir/all" </dev/null || status=$?
    grep -v '^$\|libgomp\|^OMP: ' "$dir/all" >"$dir/message"
    judge "$name" $status 64 "$pattern"
}
for value in 1000000 1025 0 -1 four 4x 99999999999999999999999 '4 '; do
    environment "OMP_NUM_THREADS=$value" \
        "^piper: environment variable OMP_NUM_THREADS: found \"$value\", expected an integer from 1 to 1024" OMP_NUM_THREADS="$value"
done
OMP_NUM_THREADS=2000 bad "OMP_NUM_THREADS of calibrate" 64 '^piper: environment variable OMP_NUM_THREADS: found "2000"' calibrate -o never.h5
alone='has started 4 processes .*, but MPI sees 1: '
environment "srun that does not know this MPI" "^piper: MPI: srun $alone.*--mpi=pmix" SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0
environment "mpiexec that does not know this MPI" "^piper: MPI: mpiexec $alone" PMI_SIZE=4 PMI_RANK=0
status=0
SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=3 timeout 20 "$piper" train one.h5 -o never >out 2>&1 || status=$?
[ $status -eq 64 ] && [ ! -s out ] && why='' || why="exit status $status, expected 64 and no word"
verdict "only the first of them says it" "$why"
[ ! -e never ] && why='' || why='it has made the run folder'
verdict "none of them has made the run folder" "$why"

if ! command -v "${MPIEXEC:-mpirun}" >/dev/null 2>&1; then
    echo "ok $((n + 1)) - on several ranks # SKIP no MPI launcher on this machine"
    echo "1..$((n + 1))"
    exit 0
fi
began=$(date +%s)
sh "$run_mpi" "$piper" 2 train two.h5 -o run >out 2>&1 || { sed 's/^/# /' out; echo "Bail out! the good job does not run"; exit 1; }
start=$(($(date +%s) - began))

# The number of replicas is left to the ranks: the job is good for 2 of them, which is what piper build tries.
open='{"op":"layout","pp":2},{"op":"schedule","kind":"1f1b","microbatches":2}'
echo "[$open]" >open.json
echo "[$open,{\"op\":\"replicate\",\"filter\":{\"PP\":0},\"devices\":[0]}]" >fixed.json
for i in open fixed; do
    "$piper" build -m llama.json -s $i.json -t train.json -o $i.h5 >log 2>&1 || { sed 's/^/# /' log; echo "Bail out! $i.json"; exit 1; }
done
launched 3 "ranks that do not divide by the stages" 64 '^piper: open\.json: \$\[0\]: 3 ranks are not a multiple of pp=2' open.h5 -o run-open
ranks 6 "a batch that does not divide" 65 '^piper: open\.json: a batch of 8 .*is not divisible by 3 replicas x 2 microbatches' \
    open.h5 -o run-open
ranks 4 "device sets that fit fewer ranks only" 65 '^piper: fixed\.json: device ' fixed.h5 -o run-fixed
ranks 3 "more ranks than devices" 64 '^piper: two\.json: \$\[0\]: pp=2 x dp=1 needs 2 ranks, the job has 3' two.h5 -o run
ranks 2 "more ranks than devices, without directives" 64 '^piper: one\.json: .*1 devices?, the job has 2 ranks' one.h5 -o run1
ranks 1 "fewer ranks than devices" 64 '(needs 2 ranks, the job has 1|uses 2 devices, the job has 1 ranks; .*); launch it with mpirun -n 2 piper train two\.h5 -o run' two.h5 -o run
launched 2 "a job that is missing" 66 '^piper: missing\.h5: .*No such file' missing.h5 -o run
ranks 2 "a job that is cut off" 65 '^piper: cut\.h5: .*truncated or damaged' cut.h5 -o run
ranks 2 "a job that is no HDF5" 65 '^piper: no\.h5: is text, expected a job file \(piper build writes one\)' no.h5 -o run
launched 2 "data that is missing" 66 '^piper: missing\.h5: ' two.h5 -o run --data missing.h5
ranks 2 "data that is none" 65 '^piper: text: ' two.h5 -o run --data text
ranks 2 "data that is too short" 65 '^piper: short\.h5: found 5 tokens, expected at least 17' two.h5 -o run --data short.h5
ranks 1 "a token beyond the vocabulary" 65 \
    '^piper: .*tokens\.h5: token [0-9]+ is [0-9]+, but the model.s vocabulary has 64 entries' small-1.h5 -o run-small-1
ranks 2 "a token beyond the vocabulary" 65 \
    '^piper: .*tokens\.h5: token [0-9]+ is [0-9]+, but the model.s vocabulary has 64 entries' small.h5 -o run-small
ranks 2 "a run folder that cannot be made" 74 '^piper: /proc/none: ' two.h5 -o /proc/none
ranks 2 "a file as run folder" 74 '^piper: text: is not a directory; name another' two.h5 -o text
ranks 2 "the run folder of another model" 65 'step-000004\.h5: is a checkpoint of another model: .*\(256,16\).*\(256,32\)' \
    other.h5 -o run
launched 2 "an unknown option" 64 '^piper: train: unknown option --step; did you mean --steps\?' two.h5 -o run --step 3
ranks 2 "an option without its value" 64 '^piper: train: --steps requires a value' two.h5 -o run --steps
ranks 2 "no run folder" 64 '^piper: train: missing required option -o RUNDIR' two.h5
ranks 1 "checkpoints wanted and not" 64 '^piper: --no-checkpoint: conflicts with --checkpoint, .* drop one of them' two.h5 -o run \
    --no-checkpoint --checkpoint sync
ranks 1 "a stop with a checkpoint, and none" 64 '^piper: --no-checkpoint: conflicts with --max-time' two.h5 -o run --no-checkpoint \
    --max-time 1:00
ranks 2 "an unknown device" 64 '^piper: train: --device: found "gpu", expected "auto", .*; did you mean "cuda"\?' two.h5 -o run --device gpu
if "$piper" info | grep -q 'cuda  *unavailable'; then
    ranks 2 "a device that is not there" 71 '^piper: --device cuda: cuda: (built without CUDA|this machine)' two.h5 -o run \
        --device cuda
fi
echo '[{"op":"replicate","filter":{},"devices":[0,1]},{"op":"shard","filter":{"EP":"*"},"devices":[0,1],"expert_bound":1}]' >bound.json
"$piper" build -m moe.json -s bound.json -t train.json -o bound.h5 >log 2>&1 || cat log
launched 2 "more rows for the experts than expert_bound plans" 65 'rank [01], step 1, all-to-all F .*rows arrive .*"expert_bound": [0-9.]+' \
    bound.h5 -o bound
echo "1..$n"
