#!/bin/sh
# time-limit: 120
# Documents and masks: what a small model learns of conversations, against PyTorch (documents.py, documents.txt), under every
# strategy the same. Windows of 32 tokens; long questions leave whole microbatches, and all of a rank, without a target.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
numbers=$src/tests/train/documents.txt
tok=$src/tests/text/small/llama3.json

# Conversations of one turn; every fifth question is of 300 words and more, and three in a row are.
awk 'BEGIN {
    while ((getline line < "text") > 0 && i < 160) {
        gsub(/["\\]/, "", line)
        line = substr(line, 1, 60)
        lines[i++] = line
    }
    for (k = 0; k < 80; k++) {
        q = lines[2 * k]
        more = k % 5 == 1 || k == 7 || k == 8 ? 3 : 0
        for (j = 0; j < more; j++) q = q " " lines[(3 * k + 5 * j) % 160]
        printf "{\"messages\": [{\"role\": \"user\", \"content\": \"%s\"}, {\"role\": \"assistant\", \"content\": \"%s\"}]}\n", q, lines[2 * k + 1]
    }
}' >talk.jsonl
"$piper" data chat talk.jsonl --tokenizer "$tok" --template chatml -o talk.h5 >out 2>&1
result 'conversations with masks'
sed 's/^{"messages": .*"user", "content": /{"text": /; s/}, {"role.*/}/' talk.jsonl >plain.jsonl &&
    "$piper" data jsonl plain.jsonl --tokenizer "$tok" -o plain.h5 >>out 2>&1
result 'their questions as documents'

# job NAME MODEL STRATEGY [KEY=VALUE...]
job()
{
    name=$1 of=$2 by=$3
    shift 3
    build "$name" "$of" "$by" train.data=talk.h5 train.shuffle=false train.seq_len=32 train.steps=20 train.lr=1e-3 \
        model.vocab_size=384 train.documents=join "$@"
}
# What PyTorch needs to make the numbers, for documents.py: the tokens, and the first weights of both models.
if [ "${KEEP-}" ]; then
    for m in gpt2 llama; do
        job first "$m" one train.lr=0 train.steps=1 && train 1 first "first.$m" &&
            "$piper" checkpoint export "first.$m/checkpoints/step-000001.h5" -o "$KEEP/$m.safetensors" >>out 2>&1
        result "weights of $m"
    done
    cp plain.h5 talk.h5 gpt2.json llama.json "$KEEP"
fi

for m in gpt2 llama; do
    for how in plain-join plain-separate talk-join talk-separate; do
        for s in one:1 pp2dp2:4; do
            job case "$m" "${s%:*}" train.data="${how%-*}.h5" train.documents="${how#*-}"
            rm -rf run && train "${s#*:}" case run && column run loss >got &&
                awk -v of="$m $how" '$1 " " $2 == of { print $3, $4 }' "$numbers" >want && [ "$(wc -l <want)" -eq 20 ] &&
                head -n 1 want >want.1 && head -n 1 got >got.1 && near want.1 got.1 1e-6 && near want got 1e-5
            result "$m, $how, ${s%:*}: the losses of PyTorch"
        done
    done
done
job case gpt2 one train.documents=separate && rm -rf run && train 1 case run --steps 7 &&
    job other gpt2 pp2dp2 train.documents=separate && train 4 other run && column run loss >got &&
    awk '$1 " " $2 == "gpt2 talk-separate" { print $3, $4 }' "$numbers" >want && near want got 1e-5
result 'so after a restart on another number of ranks'
job joined gpt2 one train.steps=22 && train 1 joined run && [ "$(last_step run)" -eq 22 ]
result 'the same run goes on with documents joined'

"$piper" data import talk.h5 -o again.h5 >out 2>&1 && job case gpt2 one train.data=again.h5 && rm -rf run && train 1 case run &&
    column run loss >got && awk '$1 " " $2 == "gpt2 talk-join" { print $3, $4 }' "$numbers" >want && near want got 1e-5
result 'an import keeps the mask'
# Experts: their own loss counts every token, masked or not.
job masked moe one train.steps=3 && rm -rf run && train 1 masked run &&
    job case moe pp2dp2 train.steps=3 && rm -rf other && train 4 case other && column run loss >want && column other loss >got &&
    near want got 1e-5 && column run aux_loss >want && column other aux_loss >got && near want got 1e-5
result 'experts under a mask: the same on 4 ranks'
# Small steps, of which some have no target at all.
job few gpt2 one train.batch_size=1 train.seq_len=8 train.checkpoint_every=1 train.checkpoint_keep=99 && rm -rf run && train 1 few run && [ "$(last_step run)" -eq 20 ] && grep -q 'none of its tokens is a target that counts' run/log.txt
result 'steps without a target'
: >steps
# shellcheck disable=SC2013 # numbers
for s in $(sed -n 's/.*step \([0-9]*\): none of its tokens is a target.*/\1/p' run/log.txt); do
    [ "$s" -eq 1 ] || "$piper" checkpoint diff "$(printf run/checkpoints/step-%06d.h5 $((s - 1)))" "$(printf run/checkpoints/step-%06d.h5 "$s")" \
        >out 2>&1 || break
    echo "$s" >>steps
done
[ -s steps ] && [ "$(wc -l <steps)" -eq "$(grep -c 'none of its tokens is a target' run/log.txt)" ]
result 'leave weights and moments as they were'
"$piper" data chat talk.jsonl --tokenizer "$tok" --template chatml --pad 32 -o filled.h5 >out 2>&1 &&
    job padded llama one train.data=filled.h5 && job padded4 llama pp2dp2 train.data=filled.h5 && rm -rf run other &&
    train 1 padded run && train 4 padded4 other && column run loss >want && column other loss >got && near want got 1e-5
result 'conversations that are padded'
echo "1..$n"
