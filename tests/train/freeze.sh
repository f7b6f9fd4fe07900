#!/bin/sh
# Frozen parameters stay as they were, bit by bit, under every strategy, and the others train as on one rank: losses and norms, and the
# first step of SGD as without "freeze". They have no moments, and thaw when a run is resumed by a job without the key.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

shape='"vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "initializer_range": 0.2'
echo "{\"model_type\": \"qwen3\", $shape, \"intermediate_size\": 48, \"tie_word_embeddings\": true}" >dense.json
echo "{\"model_type\": \"qwen3_moe\", $shape, \"moe_intermediate_size\": 16, \"num_experts\": 8, \"num_experts_per_tok\": 2,
    \"tie_word_embeddings\": false, \"router_aux_loss_coef\": 0.01, \"output_router_logits\": true}" >experts.json
# of FREEZE JOB MODEL STRATEGY [KEY=VALUE...]
of()
{
    key=$1 name=$2 model=$3 strategy=$4
    shift 4
    build "$name" "$model" "$strategy" train.batch_size=16 train.steps=4 train.lr=1e-2 train.clip_norm=0.5 train.checkpoint_every=1 \
        train.checkpoint_keep=9 "train.freeze=$key" "$@"
}
strategy() # NAME LAYOUT KIND MICROBATCHES [DIRECTIVE]
{
    echo "[{\"op\":\"layout\",$2},{\"op\":\"schedule\",\"kind\":\"$3\",\"microbatches\":$4}${5-}]" >"$1.json"
}
at() { echo "$1/checkpoints/step-00000$2.h5"; }
names_of() # JOB OF ONE RANK: the names of its parameters
{
    "$piper" plan "$1.h5" --dump >plan.out 2>&1
    sed -n 's/^ *piece .* # //p' plan.out | sort -u >names
    [ -s names ]
}
# stays FROM TO PATTERN: of two checkpoints exactly the parameters differ that the pattern does not match
stays()
{
    "$piper" checkpoint diff "$1" "$2" >differences 2>&1
    sed -n 's/^params\/\([^:]*\): .*/\1/p' differences >got
    echo "$(wc -l <got) of $(wc -l <names) parameters differ" >>out
    [ "$(wc -l <got)" -eq "$(grep -cvE "^($3)\$" names)" ] && ! grep -E "^($3)\$" got >>out
}
# moments PATTERN: of what it matches none differ
moments()
{
    ! grep -E "^optimizer/./($1):" differences >>out
}
# all_stay MODEL FREEZE PATTERN STRATEGY:RANKS...
all_stay()
{
    model=$1 freeze=$2 pattern=$3
    shift 3
    of "$freeze" "$model" "$model" one && names_of "$model" && train 1 "$model" "$model" && stays "$(at "$model" 1)" "$(at "$model" 4)" "$pattern" && moments "$pattern"
    result "$model: one rank"
    for run; do
        s=${run%:*}
        of "$freeze" "$s" "$model" "$s" && train "${run#*:}" "$s" "$s" --check-replicas 1 && stays "$(at "$model" 1)" "$(at "$s" 4)" "$pattern" && moments "$pattern"
        good=$?
        for c in loss grad_norm; do
            column "$model" $c >want
            column "$s" $c >got
            near want got 2e-5 || good=1
        done
        [ $good -eq 0 ]
        result "$model: $s"
    done
}
strategy stage '"pp":2,"dp":2,"zero":3' 1f1b 2
strategy halves '"pp":2,"dp":2,"zero":1' zb-h1 4
strategy tensor '"pp":1,"dp":2,"tp":2,"vocab":true,"zero":2' gpipe 2
strategy context '"pp":2,"dp":1,"cp":2' 1f1b 2 ',{"op":"recompute","filter":{}}'
strategy groups '"pp":1,"dp":4,"zero":3,"zero_group":2,"zero_optimizer":"all"' gpipe 1
# all of the first stage: nothing goes backward there
all_stay dense '["model.layers.[01].*"]' 'model\.layers\.[01]\..*' stage:4 halves:4 tensor:4 context:4 groups:4
# queries, keys and values of one weight, which is taken apart where sequences are shared
cp gpt2.json packed.json
cp tensor.json columns.json
all_stay packed '["*.attn.c_attn.*"]' '.*\.attn\.c_attn\..*' columns:4
strategy routed '"pp":2,"dp":2,"ep":2,"zero":1,"placement":"v"' dualpipev 4
strategy again '"pp":1,"dp":4,"ep":2,"zero":3' gpipe 2 ',{"op":"recompute","filter":{}}'
all_stay experts '["model.embed_tokens.weight", "model.layers.0.*", "*.experts.*", "*norm.weight", "lm_head.weight"]' \
    'model\.embed_tokens\.weight|model\.layers\.0\..*|.*\.experts\..*|.*norm\.weight|lm_head\.weight' routed:4 again:4
of '["*mlp*"]' half dense stage train.dtype=bfloat16 && names_of dense && train 4 half half && stays "$(at half 1)" "$(at half 4)" '.*mlp.*'
result 'bfloat16: the float32 values stay'

of '[]' all dense one 'train.optimizer={"kind":"sgd"}' train.clip_norm=0 && train 1 all all --steps 1 &&
    of '["model.layers.[13].*", "*norm.weight"]' some dense one 'train.optimizer={"kind":"sgd"}' train.clip_norm=0 && train 1 some some --steps 1 &&
    stays "$(at all 1)" "$(at some 1)" 'model\.embed_tokens\.weight|model\.layers\.[02]\..*proj\.weight'
result 'the first step of SGD moves what is trained as without the key'

# what was frozen begins without moments; what freezes is left as it is
of '[]' thawed dense halves && cp -r stage hop && rm "$(at hop 3)" "$(at hop 4)" && train 4 thawed hop && names_of dense && stays "$(at stage 2)" "$(at hop 4)" 'none' &&
    of '["*mlp*"]' again_frozen dense tensor && cp -r hop back && rm "$(at back 4)" && train 4 again_frozen back && stays "$(at hop 3)" "$(at back 4)" '.*mlp.*'
result 'thawed, and frozen again, on other ranks'

"$piper" build -m dense.json -s one.json -t adamw.json -o short.h5 --set 'train.freeze=["*mlp*"]' >out 2>&1 && grep -q '(18432 frozen)' out &&
    "$piper" plan short.h5 >out 2>&1 && grep -q '(18432 frozen)' out
result 'the number of frozen parameters is told'
# wrong NAME FREEZE SENTENCE
wrong()
{
    "$piper" build -m dense.json -s one.json -t adamw.json -o wrong.h5 --set "train.freeze=$2" >out 2>&1
    [ $? -eq 65 ] && grep -qE "^piper: adamw.json: $3" out
    result "$1"
}
wrong 'a pattern of nothing' '["*mlp*", "layers.0"]' '\$.freeze\[1\]: "layers.0" matches none of the 46 parameters of the model, from model.embed_tokens.weight to model.norm.weight$'
wrong 'nothing left' '["*"]' '\$.freeze: all parameters are frozen: there is nothing to train$'
wrong 'no list' '"*"' '\$.freeze: found "\*", expected a list'
echo '{"model_type": "gpt2", "vocab_size": 256, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 16}' >dense.json
wrong 'weights without their bias' '["*.c_fc.weight"]' '\$.freeze: transformer.h.0.mlp.c_fc.weight is frozen and transformer.h.0.mlp.c_fc.bias is not, but both are of .*, which computes their gradients together: match both or neither$'
echo "1..$n"
