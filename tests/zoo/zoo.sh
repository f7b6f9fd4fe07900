#!/bin/sh
# time-limit: 240
# Published strategies (piper-zoo(7)), each against the 1-rank run: losses and gradient norms of 3 SGD steps, with clipping but for one, and all copies of
# every parameter compared at the end. Where a schedule as csv can say the order, what `piper plan --csv` wrote of it is read again and is the
# same. Prints TAP. ZOO=quick (default): those of a kind that no other test trains; ZOO=all: all.
steps=3
. "${top_srcdir:-.}"/tests/matrix/lib.sh || exit 99
train_options="--check-replicas $steps"
zoo=$src/tests/zoo
cp "$zoo"/*.csv "$dir"
for m in "$zoo"/model-*.json; do
    name=${m##*/model-}
    cp "$m" "$dir/zoo-$name"
done
for batch in 12 16 24; do
    sed "s/\"batch_size\": 16/\"batch_size\": $batch/" "$src/tests/jobs/sgd.json" >"$dir/sgd$batch.json"
done
sed 's/"clip_norm": 1.0, *//' "$src/tests/jobs/sgd.json" >"$dir/sgd16-unclipped.json"

# again NAME MODEL SETTINGS: the schedule as text, in place of what orders and splits, gives that text again
again()
{
    n=$((n + 1))
    {
        sed 's/^\[\(.*\)/\1/; s/,$//; s/\]$//; s/^ //' "$zoo/$1.json" | grep -v '"op": "\(order\|split\|schedule\)"' | sed 's/$/,/'
        echo '{"op": "schedule", "kind": "csv", "file": "first.csv"}'
    } | sed '1s/^/[/; $s/$/]/' >"$dir/again.json"
    if "$piper" build -m "$dir/zoo-$2.json" -s "$zoo/$1.json" -t "$dir/sgd$3.json" -o "$dir/first.h5" >"$dir/log" 2>&1 &&
        "$piper" plan "$dir/first.h5" --csv "$dir/first.csv" >>"$dir/log" 2>&1 &&
        "$piper" build -m "$dir/zoo-$2.json" -s "$dir/again.json" -t "$dir/sgd$3.json" -o "$dir/again.h5" >>"$dir/log" 2>&1 &&
        "$piper" plan "$dir/again.h5" --csv "$dir/again.csv" >>"$dir/log" 2>&1 &&
        cmp "$dir/first.csv" "$dir/again.csv" >>"$dir/log" 2>&1; then
        echo "ok $n - $1: its schedule as text is read again"
    else
        echo "not ok $n - $1: its schedule as text is read again"
        sed 's/^/# /' "$dir/log"
    fi
}

# NAME RANKS MODEL SETTINGS, whether a quick one, whether csv can say the order
while read -r name ranks model batch quick text; do
    [ "${ZOO:-quick}" = all ] || [ "$quick" = quick ] || continue
    base "zoo-$model" "sgd$batch"
    case_of "$name" "$ranks" "zoo-$model" "sgd$batch" 1e-5 "$(cat "$zoo/$name.json")"
    [ "$text" = - ] || again "$name" "$model" "$batch"
done <<ZOO
attention-ffn        2 ffn              16 all   -
bitpipe              4 dense            16 all   text
bitpipe-v            4 dense            16 all   -
breadth-first        4 dense            16 all   text
chimera              4 dense            16 all   text
chimera-4            4 dense            16 quick -
dhelix               2 experts          16 all   -
eager-1f1b           4 dense            16 all   text
encoder-bubbles      3 encoder          12 quick text
expert-folding       4 experts          16 all   -
gems                 4 dense            16 quick text
gems-experts         4 experts-stages   16 quick text
gems-replicas        8 dense            16 all   text
gems-zero1           4 dense            16 all   text
gems-zero3           4 dense            16 quick text
hanayo               2 dense            16 all   text
head-spread          2 head             16 quick text
helixpipe            2 attention-stages 16 quick -
hetero-dp            2 dense            16 all   text
kfkb                 4 dense            16 all   text
lomo                 2 dense            16-unclipped quick -
partial-recompute    2 mlp              16 quick text
permuted-sets        2 dense            16 all   -
pipedream            3 dense            16 all   text
pipedream-bw         3 dense            16 all   text
pipedream-zero3      3 dense            16 quick text
replica-microbatches 4 attention        12 quick text
roundpipe            3 dense            24 quick text
selective-attention  1 attention        16 all   -
selective-mlp        2 mlp              16 all   -
two-batch-overlap    2 experts          16 all   -
uneven-stages        4 uneven           16 all   text
v-half               4 dense            24 all   text
v-min                4 dense            24 all   text
zero-by-part         2 ends             16 all   -
zeropp               4 dense            16 all   text
ZOO
echo "1..$n"
