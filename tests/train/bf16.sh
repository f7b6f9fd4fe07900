#!/bin/sh
# bfloat16: the curve of float32 within 1%, the same under every strategy, the same bits after a restart.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

half="train.dtype=bfloat16"
build full llama one train.steps=200
build half llama one train.steps=200 $half
train 1 full full && train 1 half half && column full loss >want && column half loss >got && near want got 0.01
result "200 steps within 1% of float32"
column half loss >got && ! cmp -s want got
result "and not the same numbers"

build moe1 moe one $half
echo '[{"op":"layout","pp":2,"dp":2,"ep":2,"zero":3},{"op":"schedule","kind":"zb-h1","microbatches":4}]' \
    >zb.json
build moe4 moe zb $half train.steps=12
train 1 moe1 moe1 && train 4 moe4 moe4 --check-replicas 3 && column moe1 loss >want && column moe4 loss >got &&
    near want got 2e-3
result "experts, zb-h1 with ZeRO-3 on 4 ranks against 1 rank"

# The weights of one router are read in two chunks, so a kernel adds their gradients: float32 tensors in a bfloat16 job.
# After one long step of SGD the router's weights are its gradient.
cat >twice.json <<'JSON'
{"vocab_size": 256, "graph": [
 {"op": "embed", "name": "embed", "in": ["tokens"], "features": 32, "block": 0},
 {"op": "rmsnorm", "name": "a.norm", "in": ["embed"], "block": 1},
 {"op": "router", "name": "a.router", "in": ["a.norm"], "experts": 4, "top_k": 2},
 {"op": "dispatch", "name": "a.rows", "in": ["a.norm", "a.router.1"]},
 {"op": "experts", "name": "a.experts", "in": ["a.rows", "a.rows.2"], "experts": 4, "top_k": 2, "ffn": 24},
 {"op": "combine", "name": "a.combine", "in": ["a.experts", "a.rows.1", "a.router"], "experts": 4, "top_k": 2},
 {"op": "add", "name": "a.add", "in": ["embed", "a.combine"]},
 {"op": "rmsnorm", "name": "b.norm", "in": ["a.add"], "block": 2},
 {"op": "dispatch", "name": "b.rows", "in": ["b.norm", "a.router.1"]},
 {"op": "experts", "name": "b.experts", "in": ["b.rows", "b.rows.2"], "experts": 4, "top_k": 2, "ffn": 24},
 {"op": "combine", "name": "b.combine", "in": ["b.experts", "b.rows.1", "a.router"], "experts": 4, "top_k": 2},
 {"op": "add", "name": "b.add", "in": ["a.add", "b.combine"]},
 {"op": "rmsnorm", "name": "norm", "in": ["b.add"], "block": 3},
 {"op": "head_loss", "name": "head", "in": ["norm", "targets"]}]}
JSON
long() # JOB [SETTING...]
{
    build "$@" 'train.optimizer={"kind":"sgd","weight_decay":0}' 'train.lr={"kind":"constant","peak":1e5}' train.clip_norm=0 \
        train.steps=1
}
long twice-full twice one
long twice-half twice one $half
"$piper" plan twice-half.h5 --dump >out 2>&1 && grep -q 'kernel.* op=sum .*type=float32' out
result "gradients of one router's weights from two chunks are added as float32"
router() # RUN: "number value" of its router's weights
{
    train 1 "$1" "$1" && "$piper" checkpoint export "$1" -o weights.safetensors >>out 2>&1 || return
    at=$(head -c 20000 weights.safetensors | tr -d '\0' | grep -aoE '"a.router.weight":\{[^}]*\}' |
        sed 's/.*"data_offsets": *\[ *\([0-9]*\).*/\1/')
    tail -c +$((9 + $(od -An -N8 -tu8 weights.safetensors) + at)) weights.safetensors | head -c 512 |
        od -An -v -tf4 -w4 | awk '{ print NR, $1 }'
}
router twice-full >want && router twice-half >got &&
    awk 'NR == FNR { a[$1] = $2; next } { d += ($2 - a[$1]) ^ 2; s += a[$1] ^ 2 }
        END { print "relative deviation", sqrt(d / s); exit !(FNR == 128 && d < 0.01 * s) }' want got >>out
result "and the router's gradient is that of a float32 job"

for s in one:1 zero3:2 pp2dp2:4; do
    ranks=${s#*:} s=${s%:*}
    build "$s" gpt2 "$s" $half
    train "$ranks" "$s" "$s-whole" && train "$ranks" "$s" "$s-half" --steps 5 && train "$ranks" "$s" "$s-half" &&
        same_bits "$s-whole" "$s-half"
    result "$s: a continued run has the same bits"
done

# The sum of 64 equal gradients, each scaled by 1/64, is one gradient.
awk 'BEGIN { for (i = 0; i < 4000; i++) printf "the same again. " }' >period
"$piper" data text period -o period.h5 >out 2>&1
echo '[{"op":"split","filter":{},"dim_name":"MB","num_microbatches":64}]' >mb64.json
build mb1 llama one $half train.batch_size=1 train.steps=1
build mb64 llama mb64 $half train.batch_size=64 train.steps=1
train 1 mb1 mb1 --data period.h5 && train 1 mb64 mb64 --data period.h5 &&
    column mb1 grad_norm >want && column mb64 grad_norm >got && near want got 1e-3
result "64 equal microbatches against one: the gradient within 1e-3"

echo "1..$n"
