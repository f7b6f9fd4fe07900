#!/bin/sh
# piper tune against an enumeration of its own: strategies from raw directives (place, replicate, split, order), which awk writes, each
# planned and simulated. What tune finds is at least as good as the best of them; with the same dimensions as they it compiles less than a
# tenth of their number, over all problems. PROBLEMS (default 1; tests/tune_all.sh: 20) of the list below. Then what it says of bad input, a starting strategy, and --measure. Prints TAP.
piper=$(realpath "${PIPER:-./piper}")
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
problems=${PROBLEMS:-1}
src=$(realpath "${top_srcdir:-.}")
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
log=$dir/log
. "$src/tests/tap.sh" || exit 99
shown=$log
: >"$log"

# clean NAME: good when the log has no line
clean()
{
    [ ! -s "$log" ]
    result "$1"
    : >"$log"
}

# layers width heads seq ranks batch machine's network in bytes per second
cat >table <<'END'
2 512 8 512 2 4 50e9
4 1024 16 1024 4 16 50e9
4 1024 16 1024 4 16 1e9
4 512 8 1024 4 8 2e8
8 1024 16 512 8 16 50e9
8 1024 16 512 8 32 1e9
6 768 12 1024 6 12 50e9
4 2048 16 512 4 8 50e9
4 2048 16 512 4 32 5e9
8 512 8 2048 8 8 5e9
8 512 8 2048 4 16 5e8
2 1024 16 1024 4 8 1e9
3 1024 16 1024 3 6 1e9
12 768 12 512 4 16 5e9
12 768 12 512 6 24 5e9
4 1024 16 2048 2 8 1e9
8 1024 16 1024 2 16 1e9
4 512 8 512 8 32 5e8
5 1024 16 512 5 20 1e9
6 1024 16 512 4 24 2e9
END

# strategies RANKS LAYERS BATCH: one a line. The order of a rank: all forwards first, or at most warm-up forwards ahead: 1f1b, one more, twice.
strategies()
{
    awk -v ranks="$1" -v layers="$2" -v batch="$3" '
    function cell(s, mb, pass) { return "[{\"PP\":" s ",\"MB\":" mb ",\"PASS\":\"" pass "\"}]" }
    function row(s, pp, m, ahead, text, f, b) {
        f = b = 0
        text = ""
        while (b < m) {
            if (f < m && f - b < ahead) text = text (text == "" ? "" : ",") cell(s, f++, "F")
            else text = text (text == "" ? "" : ",") cell(s, b++, "B")
        }
        return "{\"op\":\"order\",\"filters\":[" text "]}"
    }
    BEGIN {
        for (pp = 1; pp <= layers && pp <= ranks; pp++) {
            if (ranks % pp) continue
            dp = ranks / pp
            for (m = 1; m * dp <= batch; m++) {
                if (batch % (m * dp)) continue
                for (kind = 0; kind < (pp > 1 && m > 1 ? 4 : 1); kind++)
                for (zero = 0; zero < (dp > 1 ? 4 : 1); zero++)
                for (bucket = 0; bucket < (dp > 1 ? 3 : 1); bucket++)
                for (again = 0; again < 2; again++) {
                    line = "{\"op\":\"split\",\"filter\":{},\"dim_name\":\"MB\",\"num_microbatches\":" m "}"
                    if (again) line = line ",{\"op\":\"recompute\",\"filter\":{}}"
                    for (s = 0; s < pp; s++) {
                        devices = ""
                        for (r = 0; r < dp; r++) devices = devices (r ? "," : "") s + pp * r
                        line = line ",{\"op\":\"place\",\"filter\":{\"PP\":" s "},\"devices\":[" devices "],\"stream\":\"pp\",\"lanes\":true}"
                        line = line ",{\"op\":\"replicate\",\"filter\":{\"PP\":" s "},\"devices\":[" devices "],\"reduce_stream\":\"dp\",\"gather_stream\":\"ag\",\"zero\":" zero ",\"bucket_size\":" (bucket == 0 ? "\"layer\"" : bucket == 1 ? 16 : 256) "}"
                        line = line "," row(s, pp, m, kind == 0 ? pp - s : kind == 1 ? pp - s + 1 : kind == 2 ? 2 * (pp - s) - 1 : m)
                    }
                    print "[" line "]"
                }
            }
        }
    }'
}

# step FILE: of a strategy, in seconds; nothing where it is refused
step()
{
    "$piper" plan -m model.json -t train.json -s "$1" --device cuda --simulate --machine machine.json --json 2>/dev/null |
        sed -n 's/^  "step_seconds": \([0-9.e+-]*\),*$/\1/p'
}

# search NAME ARGUMENT...: the best, as NAME/best-01.json, and NAME.json
search()
{
    name=$1
    shift
    "$piper" tune -m model.json -t train.json -n "$ranks" --machine machine.json --best 1 --limit 100000 -o "$name" --json "$@" >"$name.json" 2>>"$log" ||
        echo "tune failed" >>"$log"
}

compilations()
{
    sed -n 's/^  "compilations": \([0-9]*\),*$/\1/p' "$1.json"
}

# judge NAME: what was found against $best; its step and compilations
judge()
{
    found=$(step "$1/best-01.json")
    said=$(sed -n '/"best": \[/,/\]/s/^ *"step_seconds": \([0-9.e+-]*\),*$/\1/p' "$1.json" | head -n 1)
    echo "$found s, $(compilations "$1") compiled"
    awk -v f="$found" -v b="$best" -v s="$said" 'BEGIN { exit !(f > 0 && b > 0 && f <= b * 1.000001 && f == s) }' ||
        { echo "found $found (tune says $said), the best by hand takes $best:"; cat "$1/best-01.json" best.json; } >>"$log"
}

# What the strategies below choose.
cat >dimensions.json <<'END'
[{"op":"layout","pp":"?","zero":"?","bucket_size":"?"},{"op":"schedule","kind":"?","microbatches":"?"},{"op":"recompute","filter":"?"}]
END
number=0
compiled=0
looked=0
while read -r layers width heads seq ranks batch network && [ $number -lt "$problems" ]; do
    number=$((number + 1))
    echo "{\"model_type\": \"llama\", \"vocab_size\": 8192, \"hidden_size\": $width, \"intermediate_size\": $((width * 3)), \"num_hidden_layers\": $layers,
        \"num_attention_heads\": $heads, \"num_key_value_heads\": $heads, \"max_position_embeddings\": 4096, \"tie_word_embeddings\": false}" >model.json
    echo "{\"batch_size\": $batch, \"seq_len\": $seq, \"steps\": 1, \"dtype\": \"bfloat16\"}" >train.json
    sed "s/\"ranks_per_node\": 8/\"ranks_per_node\": 2/; s/\"bandwidth\": 50e9/\"bandwidth\": $network/" "$src/src/machines/h100.json" >machine.json
    search all
    search same -s dimensions.json
    strategies "$ranks" "$layers" "$batch" >list
    best=
    count=0
    while read -r line; do
        count=$((count + 1))
        echo "$line" >one.json
        took=$(step one.json)
        if awk -v a="$best" -v b="$took" 'BEGIN { exit !(b != "" && (a == "" || b + 0 < a + 0)) }'; then
            best=$took
            cp one.json best.json
        fi
    done <list
    looked=$((looked + count))
    echo "# problem $number, $ranks ranks, $layers layers: best of $count by hand $best s; tune $(judge all); of the same dimensions $(judge same)"
    compiled=$((compiled + $(compilations same)))
    clean "problem $number: no worse than the best of $count strategies made by hand"
done <table
echo "# in all: $compiled compiled by tune of the same dimensions, $looked made by hand"
if [ "$problems" -ge 20 ]; then
    [ $((compiled * 10)) -lt $looked ] || echo "$compiled of $looked" >>"$log"
    clean 'tune compiles less than a tenth of what is made by hand'
fi

# refuses CODE WORDS ARGUMENT...: exit code and what the sentence has
refuses()
{
    code=$1
    words=$2
    shift 2
    "$piper" tune "$@" >out 2>&1
    have=$?
    [ $have -eq "$code" ] || echo "exit code $have, expected $code: $*" >>"$log"
    grep -qF -- "$words" out || { echo "expected: $words"; cat out; } >>"$log"
}
same='-m model.json -t train.json -n 2 --machine h100'
# shellcheck disable=SC2086 # several words
{
    refuses 64 'missing required option -n RANKS' -m model.json -t train.json --machine h100
    refuses 64 'missing required option --machine FILE' -m model.json -t train.json -n 2
    refuses 64 'found cpu, but the machine H100 is a GPU' $same --device cpu
    refuses 64 'found "80X", expected bytes per rank such as 80G' $same --memory 80X
    refuses 64 'requires -o DIR' $same --measure 1
    refuses 65 'strategies fits into' $same --memory 100M
    refuses 65 'In the way: ' $same --memory 100M
    refuses 65 'no strategy divides the model and the batch over 97 ranks' -m model.json -t train.json -n 97 --machine h100
    echo '[{"op":"layout","pp":{"in":[]}},{"op":"schedule","kind":"?","microbatches":"?"}]' >start.json
    refuses 65 'expected a list with one value or more' $same -s start.json
    echo '[{"op":"layout","pp":"?","outer":"pp"},{"op":"schedule","kind":"?","microbatches":"?"}]' >start.json
    refuses 65 'tune knows layouts with the default of this key only' $same -s start.json
    echo '[{"op":"layout"},{"op":"schedule"},{"op":"recompute","filter":"?","received":"again"}]' >start.json
    refuses 65 'tune tries "again" where a candidate that recomputes does not fit' $same -s start.json
    echo '[{"op":"layout"},{"op":"schedule"},{"op":"recompute","filter":"?","recieved":"again"}]' >start.json
    refuses 65 'recieved' $same -s start.json
    echo '[{"op":"layout","pp":"?"}]' >start.json
    refuses 65 'found no "schedule"' $same -s start.json
}
clean 'bad input'

# A start with open values: those alone change; twice the same; every candidate has a rule; a second look finds nothing better.
echo '[{"op":"layout","pp":{"in":[1,2]},"zero":1},{"op":"schedule","kind":"1f1b","microbatches":"?"},{"op":"recompute","filter":"?"}]' >start.json
# shellcheck disable=SC2086
for i in 1 2; do
    "$piper" tune $same -s start.json --csv all$i.csv -o start$i --audit 500 >said$i 2>>"$log" || echo "tune failed" >>"$log"
done
{
    cmp said1 said2
    cmp all1.csv all2.csv
    diff -r start1 start2
    grep -q '"zero": 1' start1/best-01.json || cat start1/best-01.json
    grep -q ', 0 better than the best' said1 || cat said1
    [ "$(grep -c ',open,' all1.csv)" -eq 0 ] || echo 'a candidate without a rule'
    ! grep -q null all1.csv || echo 'a rule without a name'
    awk '/"candidates"/ { all = $2 + 0 } /"rules": {/ { in_rules = 1; next } /}/ { in_rules = 0 } in_rules { n += $2 } END { exit !(n && n == all) }' \
        start1/tune.json || { echo 'the rules of tune.json are not all candidates'; cat start1/tune.json; }
    grep -q '<svg' start1/frontier.svg || echo 'no picture'
} >>"$log"
clean 'a starting strategy: deterministic, with files, and nothing better among the dropped'

# Room for rows of dropless experts: all of it where it fits, else the most that does, and no compilation beyond --limit.
echo '{"model_type": "qwen3_moe", "vocab_size": 1024, "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
    "head_dim": 64, "moe_intermediate_size": 512, "num_experts": 16, "num_experts_per_tok": 4}' >model.json
echo '{"batch_size": 32, "seq_len": 1024, "steps": 1, "dtype": "bfloat16"}' >train.json
echo '[{"op":"layout","pp":1,"ep":4,"zero":1,"expert_bound":"?"},{"op":"schedule","kind":"1f1b","microbatches":2}]' >start.json
# room MEMORY LIMIT VALUE COMPILATIONS
room()
{
    "$piper" tune -m model.json -t train.json -s start.json -n 4 --machine h100 --memory "$1" --limit "$2" --json >out 2>&1
    have=$(sed -n 's/, peak [0-9.]*//; s/.*"text": ".*1f1b of 2\(.*\)".*/\1/p; s/.*"compilations": \([0-9]*\),/\1/p' out | uniq | tr '\n' ';')
    [ "$have" = "$4;$3;" ] || echo "--memory $1 --limit $2: $have, expected $4;$3;" >>"$log"
}
room 80G 10 '' 3
room 1.65GiB 10 ', expert_bound 1.5' 5
room 80G 1 ', expert_bound 1.25' 1
clean 'expert_bound: the loosest that fits'

# Where recomputing does not make it fit, rows of experts are received again, and no longer where there is room.
sed 's/"num_hidden_layers": 2/"num_hidden_layers": 4/; s/"num_experts": 16/"num_experts": 8/; s/"moe_intermediate_size": 512/"moe_intermediate_size": 256/' model.json >deep.json
echo '{"batch_size": 64, "seq_len": 1024, "steps": 1, "dtype": "bfloat16"}' >deep-train.json
echo '[{"op":"layout","pp":1,"ep":4,"expert_bound":2},{"op":"schedule","kind":"gpipe","microbatches":8},{"op":"recompute","filter":"?"}]' >start.json
"$piper" tune -m deep.json -t deep-train.json -s start.json -n 4 --machine h100 --memory 80G -o roomy >out 2>&1
kept=$(sed -n 's/^ *[0-9]* .* ms *\([0-9.]*\) GiB .*, recompute, expert_bound 2\(, peak [0-9.]*\)*$/\1/p' out)
for memory in "$(awk -v n="${kept:-0}" 'BEGIN { print 0.9 * n }')" 1000; do # GiB
    rm -rf fits
    "$piper" tune -m deep.json -t deep-train.json -s start.json -n 4 --machine h100 --memory "${memory}GiB" -o fits >out 2>&1
    grep -q '"received": "again"' fits/best-01.json && said=again || said=keep
    [ "$said" = "$([ "$memory" = 1000 ] && echo keep || echo again)" ] || { echo "memory $memory GiB, $kept GiB are needed: $said"; cat out; } >>"$log"
done
clean 'received: again where it takes that to fit'

# Memory that is there makes pairs faster, which a "peak" in the strategy says; where there is none to spare the order is the one by default.
sed 's/"num_hidden_layers": 2/"num_hidden_layers": 8/; s/"hidden_size": 512/"hidden_size": 2048/; s/"moe_intermediate_size": 512/"moe_intermediate_size": 1024/; s/"num_experts": 16/"num_experts": 64/' model.json >pairs.json
echo '{"batch_size": 64, "seq_len": 2048, "steps": 1, "dtype": "bfloat16"}' >pairs-train.json
echo '{"name": "links", "source": "all-to-alls alone on their links", "flops": {"float32": 6e13, "bfloat16": 6e14}, "bandwidth": 2.7e12, "launch": 0,
    "ranks_per_node": 8, "links": {"node": {"latency": 0, "bandwidth": 175e9}, "network": {"latency": 0, "bandwidth": 1e15}}}' >links.json
pairs='-m pairs.json -t pairs-train.json --machine links.json'
echo '[{"op":"layout","pp":2,"dp":8,"ep":8,"placement":"v"},{"op":"schedule","kind":"dualpipev","microbatches":8}]' >start.json
# shellcheck disable=SC2086
{
    "$piper" tune $pairs -s start.json -n 16 --memory 1000G -o roomy || echo 'no candidate with memory to spare'
    takes=$("$piper" plan $pairs -s start.json --json | awk '/"total": [0-9]/ && $2 + 0 > n { n = $2 + 0 } END { printf "%.0f", n + 110 * 2 ^ 20 }') # with libraries
    "$piper" tune $pairs -s start.json -n 16 --memory "$takes" -o tight || echo 'no candidate with what it takes by default'
    takes=$(awk '/"memory_bytes"/ { printf "%.0f", $2 - 2 ^ 20; exit }' roomy/tune.json) # libraries are in the way
    "$piper" tune $pairs -s start.json -n 16 --memory "$takes" -o short || echo 'no candidate with a MiB less than it takes'
} >out 2>&1
# seconds DIR: of the plan of its best strategy, and by its report
seconds()
{
    # shellcheck disable=SC2086
    { "$piper" plan $pairs -s "$1/best-01.json" --simulate --json 2>>"$log" | sed -n 's/^  "step_seconds": \(.*\),$/\1/p' && sed -n 's/.*"step_seconds": \(.*\),$/\1/p' "$1/tune.json"; } | uniq
}
if ! grep -q '"peak": ' roomy/best-01.json || [ ! -f short/best-01.json ] || grep '"peak": ' tight/best-01.json short/best-01.json ||
    ! echo "$(seconds roomy) $(seconds tight)" | awk '{ exit !(NF == 2 && $1 < 0.99 * $2) }'; then
    { cat out && seconds roomy && seconds tight; } >>"$log"
fi
clean 'peak: in pairs what the memory allows'

# Of kinds that split backwards the whole ones are candidates, and of others there are none.
echo '[{"op":"layout","pp":2},{"op":"schedule","kind":{"in":["1f1b","zb-h1"]},"microbatches":2,"backward":"?"}]' >start.json
"$piper" tune -m model.json -t train.json -s start.json -n 2 --machine h100 --csv all.csv >out 2>>"$log" || cat out >>"$log"
sed -n 's/.*; \([^"]*\)"$/\1/p' all.csv | sort | tr '\n' ';' >kinds
[ "$(cat kinds)" = '1f1b of 2;zb-h1 of 2;zb-h1 of 2, backward whole;' ] || cat kinds all.csv >>"$log"
clean 'backward: split, and whole where a kind splits it'

# The two best, trained here.
echo '{"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128}' >model.json
echo '{"batch_size": 8, "seq_len": 32, "steps": 10, "data": "tokens.h5"}' >train.json
echo '{"name": "small", "flops": {"float32": 5e10, "bfloat16": 5e10}, "bandwidth": 1e10, "ranks_per_node": 2,
    "links": {"node": {"latency": 2e-6, "bandwidth": 4e9}, "network": {"latency": 1e-5, "bandwidth": 1e9}}}' >cpu.json
{
    awk 'BEGIN { for (i = 0; i < 4000; i++) printf "%d ", i * i % 997 }' >text
    "$piper" data text text -o tokens.h5 >out 2>&1 || cat out
    MPIEXEC_FLAGS=${MPIEXEC_FLAGS:--q --oversubscribe --bind-to none}
    export MPIEXEC_FLAGS
    "$piper" tune -m model.json -t train.json -n 2 --machine cpu.json --best 3 --measure 2 -o measured >said 2>&1 || cat said measured/*.log
    [ "$(grep -c '^     measured ' said)" -eq 2 ] || cat said
    [ "$(grep -c '"measured_seconds"' measured/tune.json)" -ge 2 ] || echo 'tune.json has not both measurements'
    awk '/"measured_seconds"/ { t[++n] = $2 + 0 } END { exit !(t[1] <= t[2]) }' measured/tune.json || echo 'not in the order of what was measured'
} >>"$log"
clean '--measure: the best are trained, and stand in the order of their steps'
echo "1..$n"
