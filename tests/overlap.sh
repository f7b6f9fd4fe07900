#!/bin/sh
# Groups that overlap (piper-strategy(5), order): how much of a pair's communication is hidden, on links where the all-to-alls of experts
# take four fifths of the time of computation, and regions of tensor groups on the sheet of the H100; what "peak" makes of it; and that results are
# those of the same passes one after the other: loss and gradient norm of three steps, to the last digit printed.
# time-limit: 120
. "${top_srcdir:-.}/tests/train/lib.sh" || exit 99

# pairs NAME LAYOUT PEAK [DIRECTIVE]: NAME.json
pairs()
{
    echo "[{\"op\":\"layout\",\"placement\":\"v\",$2},{\"op\":\"schedule\",\"kind\":\"dualpipev\",\"microbatches\":$microbatches$3}${4-}]" >"$1.json"
}
# figures OPTION...: of plan --simulate: step, hidden share in steady state of all-to-alls and regions, GiB of the rank that takes most
figures()
{
    "$piper" plan "$@" --simulate --json >json 2>out || return 1
    awk 'function number() { v = $2; sub(",", "", v); return v + 0 }
        /^  "mean"/ { mean = 1 } /"steady_state"/ && mean { steady = 1 } /"exposed_seconds"/ { what = "e" }
        /"communication_seconds"/ { what = "c" }
        /"all-to-all"|"regions"/ && steady && mean { sum[what] += number() } /^  "classes"/ { mean = 0 }
        /^  "step_seconds"/ { step = number() } /"total": [0-9]/ && number() > most { most = number() }
        END { printf "%.6f %.4f %.6f\n", step, (sum["c"] > 0 ? 1 - sum["e"] / sum["c"] : 0), most / 1024 ^ 3 }' json
}

# hides NAME MODEL LEAST WHAT: NAME.json hides so much of what travels in pairs in steady state, on the sheet of the H100
hides()
{
    figures -m "$2.json" -s "$1.json" -t train.json --device cuda --machine h100 >"$1" && read -r _ hidden _ <"$1" &&
        awk -v h="$hidden" -v least="$3" 'BEGIN { exit !(h >= least) }'
    result "$4: $hidden of what travels in pairs is hidden, at least $3"
}

# ---- simulated ----
echo '{"model_type": "qwen3_moe", "vocab_size": 4096, "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
 "num_key_value_heads": 8, "head_dim": 64, "num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 1024,
 "tie_word_embeddings": false}' >model.json
echo '{"batch_size": 256, "seq_len": 2048, "steps": 1, "dtype": "bfloat16"}' >train.json
echo '{"name": "links", "source": "all-to-alls alone on their links", "flops": {"float32": 6e13, "bfloat16": 6e14}, "bandwidth": 2.7e12,
 "launch": 0, "ranks_per_node": 16, "links": {"node": {"latency": 0, "bandwidth": 175e9}, "network": {"latency": 0, "bandwidth": 1e15}}}' >machine.json
microbatches=16 cell='"pp":4,"dp":16,"ep":16'
pairs most "$cell" ',"peak":1000'
pairs default "$cell" ''
for k in most default; do
    figures -m model.json -s $k.json -t train.json --machine machine.json >$k || { cat out; exit 99; }
done
read -r step hidden _ <most
read -r longer less takes <default
awk -v h="$hidden" 'BEGIN { exit !(h >= 0.95) }'
result "experts: $hidden of the all-to-alls of pairs are hidden, at least 0.95"
awk -v a="$step" -v b="$longer" -v h="$hidden" -v l="$less" 'BEGIN { exit !(a <= b && h >= l) }'
result "with memory to spare a step is not longer: $step s, by default $longer s"
pairs least "$cell" ",\"peak\":$(awk -v t="$takes" 'BEGIN { printf "%.6f", t + 0.000001 }')"
figures -m model.json -s least.json -t train.json --machine machine.json >least && read -r _ _ kept <least &&
    awk -v a="$kept" -v b="$takes" 'BEGIN { exit !(a <= b + 0.000002) }'
result "a peak of what it takes by default is kept: $kept GiB"
pairs none "$cell" ',"peak":1'
! figures -m model.json -s none.json -t train.json --machine machine.json >none &&
    grep -q '\$\[1\]\.peak: found 1 GiB, but a rank takes at least [0-9.]* GiB in this order; allow that much' out
result 'a peak below what it takes is refused, with that'
least=$(sed -n 's/.*at least \([0-9.]*\) GiB.*/\1/p' out)
pairs enough "$cell" ",\"peak\":$least"
figures -m model.json -s enough.json -t train.json --machine machine.json >enough
result "and that is enough: $least GiB"
"$piper" plan -m model.json -s most.json -t train.json --expand >expanded.json 2>out &&
    figures -m model.json -s expanded.json -t train.json --machine machine.json | cmp - most
result 'the primitives of --expand have the same peak, and the same plan'

# 8 stages: neighbours are out of step where some run pairs and others a backward alone
sed 's/"num_hidden_layers": 16/"num_hidden_layers": 32/' model.json >deep.json
for k in most default; do
    sed 's/"pp":4/"pp":8/' $k.json >deep-$k.json
    figures -m deep.json -s deep-$k.json -t train.json --machine machine.json >deep-$k || { cat out; exit 99; }
done
read -r step hidden _ <deep-most
read -r longer _ <deep-default
awk -v a="$step" -v b="$longer" -v h="$hidden" 'BEGIN { exit !(a <= b && h >= 0.94) }'
result "8 stages: $hidden of the all-to-alls of pairs are hidden, and a step takes $step s, by default $longer s"

# groups ROW DUMP: of this order what breaks it on the first rank: all that a group runs, but BW of its B, comes before what the next one runs, and these
# before the one behind that; then how many BW run in the next one. A rank has two stages, the chunks of the lower one have the lower numbers.
groups()
{
    awk -v row="$1" 'BEGIN {
            gsub(/\)[A-Z_]*/, ")", row)
            for (n = 1; row != ""; n++) {
                end = substr(row, 1, 1) == "(" ? index(row, ")") + 1 : index(row ",", ",")
                cells = substr(row, 1, end - 1)
                row = substr(row, end + 1)
                gsub(/[()]/, "", cells)
                for (k = split(cells, cell, ";"); k > 0; k--) {
                    group[cell[k]] = n
                    stage = cell[k] + 0
                    low = low == "" || stage < low ? stage : low
                    high = stage > high ? stage : high
                }
            }
        }
        /^ *program 0 / { class++ }
        class == 1 && /op=RUN/ {
            match($0, /pass=[A-Z]*/); pass[++runs] = substr($0, RSTART + 5, RLENGTH - 5)
            mb[runs] = match($0, / mb=[0-9]*/) ? substr($0, RSTART + 4, RLENGTH - 4) : 0
            match($0, /: chunk [0-9]*/); chunk[runs] = substr($0, RSTART + 8, RLENGTH - 8) + 0
            of[chunk[runs]] = 1
        }
        END {
            for (border = 0; border in of; border++) { }
            for (k = 1; k <= runs; k++) {
                s = chunk[k] < border ? low : high
                whole = (s "B" mb[k]) in group
                g = group[s (pass[k] == "F" ? "F" : whole ? "B" : pass[k] == "BW" ? "W" : "I") mb[k]]
                late = whole && pass[k] == "BW"
                wrong += !g || g < now - late
                waited += late && g < now
                now = !late && g > now ? g : now
            }
            print wrong + 0, waited + 0
        }' "$2"
}
sed 's/"num_hidden_layers": 16/"num_hidden_layers": 13/' model.json >uneven.json
echo "[{\"op\":\"layout\",\"placement\":\"two-way\",$cell},{\"op\":\"schedule\",\"kind\":\"dualpipe\",\"microbatches\":16,\"peak\":1000}]" >uneven-order.json
"$piper" plan -m uneven.json -s uneven-order.json -t train.json --csv rows --dump >dump 2>out
wrong=$(groups "$(head -n 1 rows)" dump)
[ "${wrong%% *}" = 0 ] && [ "${wrong#* }" -gt 0 ]
result "passes of a group come before those of the next but for BW, of which wait ${wrong#* }"

"$piper" plan -m model.json -s default.json -t train.json --csv rows --dump >dump 2>out
wrong=$(groups "$(head -n 1 rows)" dump)
[ "$wrong" = '0 0' ]
result "by default BW wait in the next group only where that takes no memory: of these ${wrong#* }"

# pairs of which each begins with what the other one gives
printf '%s\n' '0F0,(0F1;0B0)OVERLAP_F_B,0B1' '1F0,(1F1;1B0)OVERLAP_F_B,1B1' >facing
microbatches=2
echo '[{"op":"layout","pp":2,"dp":2,"ep":2},{"op":"schedule","kind":"csv","file":"facing"}]' >facing.json
"$piper" plan -m model.json -s facing.json -t train.json >out 2>&1
result 'pairs that wait for each other have an order'
microbatches=16

# comm RECEIVED: MiB of communication of the rank that takes most, in pairs of a recompute with these rows
comm()
{
    pairs received "$cell" ',"peak":1000' ",{\"op\":\"recompute\",\"filter\":{\"EP\":\"*\"},\"received\":\"$1\"}"
    "$piper" plan -m model.json -s received.json -t train.json --json 2>out |
        awk '/"comm": [0-9]/ && $2 + 0 > most { most = $2 + 0 } END { print int(most / 1024 ^ 2) }'
}
again=$(comm again) keep=$(comm keep)
[ "$again" -gt 0 ] && [ "$again" -lt "$keep" ]
result "rows that are received again are not kept for any part of a BW: $again MiB of communication, with those kept $keep"

# one_by_one: of a csv schedule pairs are two cells, and a B is BI and then BW
one_by_one()
{
    sed 's/(\([^;]*\);\([^)]*\))OVERLAP_F_B/\1,\2/g; s/\([0-9]*\)B\([0-9]*\)/\1I\2,\1W\2/g'
}
# apart JOB...: apart.json, the 1f1b of alone.json whose B are BI and then BW, one after the other
apart()
{
    "$piper" plan "$@" --csv - 2>out | one_by_one >order &&
        sed 's/"kind":"1f1b",[^}]*/"kind":"csv","file":"order"/' alone.json >apart.json
}
# alone LAYOUT PEAK [DIRECTIVE]: alone.json, 1f1b
alone()
{
    echo "[{\"op\":\"layout\",$1},{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":$microbatches$2}${3-}]" >alone.json
}
alone "$cell" ''
apart -m model.json -s alone.json -t train.json && for k in alone apart; do
    figures -m model.json -s $k.json -t train.json --machine machine.json >$k || { cat out; exit 99; }
done
read -r step _ <alone
read -r longer _ <apart
awk -v a="$step" -v b="$longer" 'BEGIN { exit !(a < 0.92 * b) }'
result "1f1b: BW of a B run under its own all-to-alls: $step s, BI and then BW $longer s"
# ranks that recompute take more then, but not more than another takes with every B whole
alone "$cell" '' ',{"op":"recompute","filter":{"PP":0}}'
cut=$("$piper" plan -m model.json -s alone.json -t train.json --dump 2>out | grep -c 'op=RUN pass=BI')
[ "$cut" -gt 0 ]
result "a rank may take as much as any other does with every B whole: $cut B in halves"

sed 's/"num_hidden_layers": 16/"num_hidden_layers": 8/; s/qwen3_moe/llama/; s/2048/8192/; s/"moe_intermediate_size"/"intermediate_size": 28672, "x"/' \
    model.json | sed 's/"x": [0-9]*,//; s/"num_experts[a-z_]*": [0-9]*,//g; s/"num_attention_heads": 32/"num_attention_heads": 64/; s/"head_dim": 64/"head_dim": 128/' >dense.json
echo '{"batch_size": 8, "seq_len": 8192, "steps": 1, "dtype": "bfloat16"}' >train.json
microbatches=8
pairs tensor '"pp":4,"dp":1,"tp":8' ',"peak":1000'
hides tensor dense 0.8 'tensor groups'
# what a neighbour waits for does not stand behind the next pair: ranks would take turns
microbatches=16
echo '{"batch_size": 16, "seq_len": 8192, "steps": 1, "dtype": "bfloat16"}' >train.json
pairs context '"pp":4,"dp":1,"cp":2' ''
"$piper" plan -m dense.json -s context.json -t train.json --device cuda --machine h100 --simulate --json >json 2>out
idle=$(awk '/^  "mean"/ { mean = 1 } mean && /"idle_seconds"/ { idle = $2 + 0; mean = 0 } /^  "step_seconds"/ { step = $2 + 0 } END { printf "%.3f", idle / step }' json)
awk -v i="$idle" 'BEGIN { exit !(i > 0 && i < 0.15) }'
result "context groups: ranks idle for $idle of a step, less than 0.15"
# experts over nodes beside tensor groups, whose links are faster
sed 's/"num_experts": 64/"num_experts": 128/; s/"num_attention_heads": 32/"num_attention_heads": 64/; s/"head_dim": 64/"head_dim": 128/; s/"hidden_size": 2048/"hidden_size": 4096/
    s/"num_key_value_heads": 8/"num_key_value_heads": 4/; s/"num_hidden_layers": 16/"num_hidden_layers": 8/; s/"moe_intermediate_size": 1024/"moe_intermediate_size": 1536/' model.json >both.json
echo '{"batch_size": 64, "seq_len": 4096, "steps": 1, "dtype": "bfloat16"}' >train.json
microbatches=8
pairs beside '"pp":2,"dp":8,"tp":2,"ep":16,"expert_bound":1.25' ',"peak":1000'
hides beside both 0.93 'experts and tensor groups'
# and in a node, over the same links
echo '{"batch_size": 8, "seq_len": 4096, "steps": 1, "dtype": "bfloat16"}' >train.json
pairs near '"pp":2,"dp":1,"tp":8,"ep":8,"expert_bound":1.25' ',"peak":1000'
hides near both 0.93 'experts and tensor groups in a node'

# ---- trained ----
# metrics NAME MODEL: of three steps of this job on 4 ranks
metrics()
{
    build "$1" "$2" "$1" model.num_hidden_layers=8 train.batch_size=8 train.steps=3 && train 4 "$1" "$1-run" &&
        cut -d, -f1-5 "$1-run/metrics.csv" >"$1.csv"
}
# halves NAME: B of this job that run as BI and BW
halves()
{
    "$piper" plan "$1.h5" --dump | grep -c 'op=RUN pass=BI'
}
# weights NAME: BW of experts of this job that are of one of their weights
weights()
{
    "$piper" plan "$1.h5" --dump | grep -c ' pass=BW .* part=[123] '
}
# same NAME MODEL LAYOUT [DIRECTIVE]: pairs whose BW wait, and the same passes one after the other
same()
{
    microbatches=4
    pairs halves "$3" ',"peak":1000' "${4-}"
    rm -rf apart-run halves-run
    metrics halves "$2" && "$piper" plan halves.h5 --csv - | one_by_one >order &&
        sed 's/"kind":"dualpipev","microbatches":4,"peak":1000/"kind":"csv","file":"order"/' halves.json >apart.json && metrics apart "$2" &&
        [ "$(halves halves)" -gt 0 ] && cmp apart.csv halves.csv
    result "$1: the same bits in pairs"
}
same experts moe '"pp":2,"dp":2,"ep":2,"zero":2'
parts=$(weights halves)
[ "$parts" -gt 0 ] && [ "$(weights apart)" = 0 ]
result "in pairs a BW of experts is of one weight, so are $parts"
same recompute moe '"pp":2,"dp":2,"ep":2,"zero":3' ',{"op":"recompute","filter":{"PP":"*"}}'
# without memory to spare, of longer sequences
pairs whole '"pp":2,"dp":2,"ep":2,"zero":3' ''
build whole moe whole model.num_hidden_layers=8 train.batch_size=128 train.seq_len=512 && "$piper" plan whole.h5 --dot dot >out 2>&1
less=$(halves whole) all=$(halves halves)
[ "$less" -lt "$all" ] && [ "$(grep -c BI dot)" = "$less" ]
result "more B run whole where that takes less memory, $less and not $all in halves, and --dot shows it"
same received moe '"pp":2,"dp":2,"ep":2,"zero":1' ',{"op":"recompute","filter":{"EP":"*"},"received":"again"}'
same regions llama '"pp":2,"dp":1,"tp":2'

microbatches=4
alone '"pp":2,"dp":2,"ep":2,"zero":1' ',"peak":1000'
rm -rf apart-run
metrics alone moe && apart alone.h5 && metrics apart moe && [ "$(halves alone)" -gt 0 ] && cmp apart.csv alone.csv
result 'experts: the same bits where the BW of a B run under its own all-to-alls'
echo "1..$n"
