#!/bin/sh
# time-limit: 600
# A run that stops and goes on is the run that never stopped: the same bits in metrics.csv and in the last checkpoint, however
# it was stopped. Under another strategy: the same weights to the bit, and the losses of the same training.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

# ---- the same command again, in processes of its own
for s in one pp2dp2 zero3; do
    ranks=4
    [ $s = one ] && ranks=1
    [ $s = zero3 ] && ranks=2
    build $s gpt2 $s
    train "$ranks" $s $s-whole && train "$ranks" $s $s-half --steps 6 &&
        [ "$(last_step $s-half)" = 6 ] && start "$ranks" $s $s-half && same_bits $s-whole $s-half
    result "$s: 12 steps, and 6 and 6"
    build $s gpt2 $s train.steps=1000000 train.checkpoint_every=5 train.checkpoint_keep=2
    expect=75 launch "$ranks" $s $s-usr1
    await 3 $s-usr1 && kill -USR1 "$(cat pid.launcher)"
    wait "$launched" && stop=$(last_step $s-usr1) && [ -f $s-usr1/checkpoints/step-"$(printf %06d "$stop")".h5 ] &&
        train "$ranks" $s $s-usr1 --steps $((stop + 7)) && train "$ranks" $s $s-ref --steps $((stop + 7)) &&
        same_bits $s-ref $s-usr1
    result "$s: USR1 to the launcher gives 75, and it goes on"
    expect=137 launch "$ranks" $s $s-kill
    await 12 $s-kill && kill -KILL "$(cat pid.$((ranks - 1)))"
    wait "$launched"
    stop=$(last_step $s-kill)
    rm -rf $s-ref
    train "$ranks" $s $s-kill --steps $((stop + 3)) && grep -q 'resuming from' $s-kill/log.txt &&
        train "$ranks" $s $s-ref --steps $((stop + 3)) && same_bits $s-ref $s-kill && [ "$(checkpoints $s-kill)" -le 3 ]
    result "$s: killed without warning, it goes on from the last checkpoint"
done

# ---- another strategy
# The weights are not touched by a step with learning rate 0, so what was loaded is what is written.
build a gpt2 one
train 1 a hop --steps 4 && cp -r hop straight && train 1 a straight
result "1 rank, 12 steps"
for next in pp2dp2:4:6 zero3:2:9 dp4:4:10 one:1:12; do
    s=${next%%:*} ranks=${next#*:} to=${next##*:}
    ranks=${ranks%:*}
    from=$(last_step hop)
    build still gpt2 "$s" train.lr=0
    rm -rf look
    cp -r hop look
    train "$ranks" still look --steps $((from + 1)) &&
        "$piper" checkpoint diff look/checkpoints/step-"$(printf %06d "$from")".h5 \
            look/checkpoints/step-"$(printf %06d $((from + 1)))".h5 >diff.txt 2>/dev/null
    [ -s diff.txt ] && cat diff.txt >>out && ! grep '^/params/\|^params/' diff.txt >>out
    result "from step $from on $s: weights as they were written"
    build b gpt2 "$s"
    train "$ranks" b hop --steps "$to" --check-replicas 1
    result "on $s to step $to"
done
column straight loss >want && column hop loss >got && near want got 1e-4
result "losses over 5 strategies as on 1 rank"
column straight grad_norm >want && column hop grad_norm >got && near want got 1e-3
result "norms of the gradients over 5 strategies as on 1 rank"

# ---- another optimizer: moments begin at zero, and so does the count of updates
build sgd gpt2 one 'train.optimizer={"kind":"sgd"}' train.lr=1e-3
build adam gpt2 one train.lr=1e-3 train.optimizer.weight_decay=0
train 1 sgd other --steps 7 && train 1 adam other --steps 8 && echo 1 1e-3 >want &&
    moved other/checkpoints/step-000007.h5 other/checkpoints/step-000008.h5 >got && near want got 1e-3 &&
    "$piper" checkpoint list other >>out && grep -q 'step 8 .* 1 updates' out
result 'sgd, then adamw: its first update moves a weight by the learning rate'

# ---- a checkpoint of version 1 is read: it counts steps as updates
cat >tiny.json <<'JSON'
{"vocab_size": 16, "graph": [{"op": "embed", "name": "embed", "in": ["tokens"], "features": 4},
 {"op": "rmsnorm", "name": "norm", "in": ["embed"]}, {"op": "head_loss", "name": "head", "in": ["norm", "targets"]}]}
JSON
awk 'BEGIN { for (i = 0; i < 101; i++) { x = (x * 13 + 5) % 16; printf "%c", 1 + x * 7 % 15 } }' >small
"$piper" data text small -o small.h5 >out 2>&1
build v1 tiny one train.lr=1e-2 train.batch_size=2 train.seq_len=4 train.data=small.h5 train.shuffle=false
mkdir -p v1/checkpoints && cp "$src/tests/train/version-1.h5" v1/checkpoints/step-000003.h5 &&
    "$piper" checkpoint verify v1/checkpoints/step-000003.h5 >>out && grep -q 'step 3, 3 updates' out &&
    cp -r v1 v1-again && train 1 v1 v1 --steps 4 && "$piper" checkpoint list v1 >>out &&
    grep -q 'step 4 .*data small$' out && "$piper" checkpoint export v1 -o v1.safetensors >>out &&
    "$piper" checkpoint diff v1/checkpoints/step-000003.h5 v1/checkpoints/step-000004.h5 2>>out |
    grep -q '^optimizer/updates: 1 of 1 elements differ, by at most 1'
result 'a checkpoint of version 1 is read, gone on from, listed, compared and exported'

# ---- experts on 2 ranks, on 4 ranks, on one
build m1 moe one
build m2 moe ep2
build m4 moe ep4
for ranks in 2 4; do
    s=m$ranks
    train "$ranks" "$s" "$s-whole" --check-replicas 6 && train "$ranks" "$s" "$s-half" --steps 6 && start "$ranks" "$s" "$s-half" &&
        same_bits "$s-whole" "$s-half"
    result "experts over $ranks ranks, ZeRO-1: 12 steps, and 6 and 6; copies are equal"
done
train 1 m1 m1 && train 2 m2 mix --steps 4 && train 4 m4 mix --steps 8 && train 1 m1 mix
result "experts over 2, then over 4 ranks, then on one"
for c in loss aux_loss; do
    column m1 $c >want && column mix $c >got && near want got 1e-4
    result "$c as on one rank"
done
column m1 dropped_tokens >want && column mix dropped_tokens >got && diff want got >>out
result "dropped tokens as on one rank"
echo "1..$n"
