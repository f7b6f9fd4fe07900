#!/bin/sh
# time-limit: 240
# From a published model to one of your own, and back: the commands of README's section of that name, for tiny models shaped as llama 3.2,
# qwen2.5, qwen3_moe and gemma3. What is said in the end is what was learned; with PyTorch here, transformers says it too. Prints TAP.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
small=$src/tests/text/small

# The commands, a file each; the last is python's.
awk '/^From a published model/ { on = 1; next }
    on && /^----/ && seen++ { exit }
    on && /^    (piper|mpirun|python3) / { n++ }
    on && n && /^    / { print substr($0, 5) >("line." n) }
    END { print n }' "$src/README" >commands
[ "$(cat commands)" -eq 9 ] || { echo "Bail out! README has $(cat commands) commands, expected 9"; exit 99; }

# As they stand there, but for the program and the launcher.
piper()
{
    "$piper" "$@"
}
mpirun() # -n 4 piper train job.h5 -o run
{
    ranks=$2
    shift 3
    on_ranks 0 "$ranks" "$@"
}
# shellcheck disable=SC2317 # called by the commands
python3()
{
    "${PYTHON:-/bin/false}" "$@"
}
# do_line N: the output goes to `said`
do_line()
{
    sed '1s/^/$ /' "line.$1" >>out
    eval "$(cat "line.$1")" >said 2>said.err
    ok=$?
    cat said said.err >>out
    return $ok
}

cat >talk.jsonl <<'JSON'
{"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A small model."}]}
{"messages": [{"role": "user", "content": "What is a stage?"}, {"role": "assistant", "content": "Some of the layers, on some of the ranks."}]}
{"messages": [{"role": "user", "content": "What is a bubble?"}, {"role": "assistant", "content": "Time in which a rank waits\nfor its neighbour."}]}
{"messages": [{"role": "user", "content": "What is zero?"}, {"role": "assistant", "content": "The optimizer, shared out."}]}
{"messages": [{"role": "user", "content": "Bye."}, {"role": "assistant", "content": "Bye."}]}
JSON
layout 2 2 1f1b 2 >strategy.json
cat >train.json <<'JSON'
{"batch_size": 4, "seq_len": 96, "steps": 60, "lr": 5e-3, "clip_norm": 1.0, "data": "talk.h5", "eval_data": "talk.h5", "checkpoint_every": 10}
JSON
common='"vocab_size": 384, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 64, "initializer_range": 0.1'
cat >llama.json <<JSON
{"model_type": "llama", $common, "rope_theta": 500000.0, "max_position_embeddings": 131072, "tie_word_embeddings": true, "rms_norm_eps": 1e-5,
 "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}
JSON
cat >qwen2.json <<JSON
{"model_type": "qwen2", $common, "rope_theta": 1000000.0, "tie_word_embeddings": true, "use_sliding_window": false}
JSON
cat >qwen3_moe.json <<JSON
{"model_type": "qwen3_moe", $common, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": true}
JSON
cat >gemma3_text.json <<JSON
{"model_type": "gemma3_text", $common, "sliding_window": 16, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8, "rope_local_base_freq": 10000.0}
JSON

# token NAME: its id
token()
{
    sed 's/{"id"/\n&/g' "$small/chat.json" | sed -n "s/^{\"id\":\([0-9]*\),\"content\":\"$1\".*/\1/p"
}

# published NAME END TEMPLATE: the directory hf: weights of one step, a tokenizer, which token ends a turn, and the template
published()
{
    rm -rf hf run mine seed seed.h5 job.h5
    mkdir tok
    cp "$small/chat.json" tok/tokenizer.json
    echo "{\"eos_token_id\": $(token "$2")}" >tok/generation_config.json
    cat >tok/tokenizer_config.json <<JSON
{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "$2", "chat_template": "$3"}
JSON
    piper data chat talk.jsonl --tokenizer tok --pad 96 -o talk.h5 >out 2>&1 &&
        piper build -m "$1.json" -s one.json -t train.json --set train.eval_data=null -o seed.h5 >>out 2>&1 &&
        on_ranks 0 1 train seed.h5 -o seed --steps 1 >>out 2>&1 &&
        piper checkpoint export seed --job seed.h5 -o hf --tokenizer tok >>out 2>&1
    ok=$?
    rm -rf tok
    [ $ok -eq 0 ]
    result "$1: as published"
}
# The answer to a question of talk.jsonl.
answer()
{
    sed -n "s/.*\"$1\"}.*\"assistant\", \"content\": \"\(.*\)\"}.*/\1/p" talk.jsonl | sed 's/\\n/\n/g'
}

# path NAME
path()
{
    name=$1
    : >out
    do_line 1 && grep -q "targets" said && do_line 2 && do_line 3
    result "$name: conversations, a job, the weights"
    do_line 4
    result "$name: trained by 4 ranks"
    do_line 5 && answer 'What is a stage[?]' >want && cmp want said >>out
    result "$name: says what it has learned"
    do_line 6 && loss=$(sed -n 's/^talk.h5: loss \([^,]*\),.*/\1/p' said) && tail -n 1 run/metrics.csv >>out &&
        column run eval_loss >losses && awk -v x="$loss" 'END { d = $2 - x; exit !(x > 0 && d * d < 1e-14 * x * x) }' losses
    result "$name: the loss of piper eval is that of the training"
    do_line 7 && do_line 8 && cmp want said >>out
    result "$name: the exported directory says the same"
    if [ -n "${PYTHON-}" ]; then
        do_line 9 && cmp want said >>out
        result "$name: so does transformers"
    fi
}

# In each the assistant is asked to speak.
asked='{% if add_generation_prompt %}'
llama3="{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\\n\\n{{ m.content }}<|eot_id|>{% endfor %}$asked<|start_header_id|>assistant<|end_header_id|>\\n\\n{% endif %}"
chatml="{% for m in messages %}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>\\n{% endfor %}$asked<|im_start|>assistant\\n{% endif %}"
gemma="{% for m in messages %}<start_of_turn>{{ m.role }}\\n{{ m.content }}<end_of_turn>\\n{% endfor %}$asked<start_of_turn>model\\n{% endif %}"

# ---- the four, the first of them killed on the way

if published llama '<|eot_id|>' "$llama3"; then
    for i in 1 2 3; do do_line $i; done
    expect=137 launch 4 job run
    tries=$((600 * ${TEST_TIME_SCALE:-1}))
    until ls run/checkpoints/step-*0.h5 >said 2>&1 && [ "$(tail -n 1 said)" != run/checkpoints/step-000000.h5 ] || [ $tries -eq 0 ]; do
        sleep 0.02
        tries=$((tries - 1))
    done
    cat pid.[0-3] | xargs kill -KILL 2>>out
    wait "$launched"
    at=$(last_step run)
    cat said >>out
    [ "$at" -ge 10 ] && [ "$at" -lt 60 ] && mpirun -n 4 piper train job.h5 -o run >>out 2>&1 && [ "$(last_step run)" -eq 60 ]
    result "llama: killed after step $at, and started again"
    mv run killed
fi
path llama
same_bits run killed
result 'llama: the run that was killed has the bits of the one that was not'
published qwen2 '<|im_end|>' "$chatml" && path qwen2
published qwen3_moe '<|im_end|>' "$chatml" && path qwen3_moe
published gemma3_text '<end_of_turn>' "$gemma" && path gemma3_text
[ -n "${PYTHON-}" ] || echo '# transformers is not asked: PYTHON, an interpreter that has it, is not set'
echo "1..$n"
