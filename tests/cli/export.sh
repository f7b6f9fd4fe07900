#!/bin/sh
# time-limit: 120
# Exported folders: the config.json that goes with the weights, files of a size with an index, tokenizer files; what is refused.
piper=${PIPER:-./piper}
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
shown=out
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
case $piper in /*) ;; *) piper=$PWD/$piper ;; esac
cd "$dir" || exit 99
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1

cat >model.json <<'JSON'
{"model_type": "qwen3_moe", "vocab_size": 256, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "eos_token_id": 7,
 "num_key_value_heads": 2, "head_dim": 6, "intermediate_size": 16, "moe_intermediate_size": 5, "num_experts": 4, "num_experts_per_tok": 2,
 "capacity_factor": 1.5, "rope_scaling": null, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16", "dtype": "bfloat16", "_name_or_path": "here",
 "quantization_config": {"quant_method": "fp8"}, "annotate": [{"tag": "PP", "index": 0, "match": ["embed", "layers.0"]},
 {"tag": "PP", "index": 1, "match": ["layers.1", "norm", "head"]}]}
JSON
cat >expected.json <<'JSON'
{
  "_name_or_path": "here",
  "architectures": [
    "Qwen3MoeForCausalLM"
  ],
  "dtype": "float32",
  "eos_token_id": 7,
  "head_dim": 6,
  "hidden_size": 24,
  "intermediate_size": 16,
  "model_type": "qwen3_moe",
  "moe_intermediate_size": 5,
  "num_attention_heads": 4,
  "num_experts": 4,
  "num_experts_per_tok": 2,
  "num_hidden_layers": 2,
  "num_key_value_heads": 2,
  "rms_norm_eps": 1e-5,
  "rope_scaling": null,
  "rope_theta": 5000,
  "torch_dtype": "float32",
  "vocab_size": 256
}
JSON
echo '{"batch_size": 2, "seq_len": 8, "steps": 1, "data": "tokens.h5"}' >train.json
echo '[]' >one.json
cat model.json expected.json train.json >text

"$piper" data text text -o tokens.h5 >out 2>&1 &&
    "$piper" build -m model.json -s one.json -t train.json --set model.rope_theta=5000 -o job.h5 >>out 2>&1 &&
    "$piper" train job.h5 -o run >>out 2>&1 && "$piper" checkpoint export run -o one.safetensors >>out 2>&1
result 'a run, and its weights in one file'

"$piper" checkpoint export run --job job.h5 -o whole >out 2>&1 && diff expected.json whole/config.json >>out &&
    cmp one.safetensors whole/model.safetensors >>out 2>&1 && [ "$(ls whole)" = "$(printf 'config.json\nmodel.safetensors')" ]
result 'a folder: the keys of model.json and --set, without ours, and the same weights'

"$piper" checkpoint export run --job job.h5 -o whole --file-bytes 30000 >out 2>&1 && [ ! -e whole/model.safetensors ] &&
    files=$(find whole -name '*.safetensors' | wc -l) && [ "$files" -gt 2 ] && [ -s "whole/model-00001-of-0000$files.safetensors" ] &&
    [ -z "$(find whole -name '*.safetensors' -size +33000c)" ] &&
    grep -c 'self_attn.q_proj.weight": "model-0000' whole/model.safetensors.index.json | grep -qx 2
result 'files of a size, and an index'

echo '{"a": 1}' >whole/tokenizer.json
awk 'BEGIN { while (i++ < 400000) print i }' >whole/merges.txt # more than what is copied at a time
echo '{"eos_token_id": 7}' >whole/generation_config.json
echo 'import os' >whole/modeling.py
"$piper" checkpoint import job.h5 whole -o back >out 2>&1 &&
    "$piper" checkpoint export back -o back.safetensors >>out 2>&1 && cmp one.safetensors back.safetensors >>out 2>&1
result 'and in again: the same bits'
"$piper" checkpoint export back --job job.h5 -o out2 >out 2>&1 &&
    [ "$(ls out2)" = "$(printf 'config.json\ngeneration_config.json\nmerges.txt\nmodel.safetensors\ntokenizer.json')" ] &&
    cmp whole/tokenizer.json out2/tokenizer.json >>out && cmp whole/merges.txt out2/merges.txt >>out && cmp whole/generation_config.json out2/generation_config.json >>out
result 'tokenizer and generation files come along, code does not'
mkdir other
echo '{"a": 2}' >tokenizer-file
ln -s ../tokenizer-file other/tokenizer.json
"$piper" checkpoint export back/checkpoints/step-000000.h5 --job job.h5 -o out3 --tokenizer other >out 2>&1 &&
    cmp tokenizer-file out3/tokenizer.json >>out 2>&1 && [ ! -L out3/tokenizer.json ] && [ ! -e out3/merges.txt ]
result 'of --tokenizer, links as in a cache followed'

# refuses NAME STATUS PATTERN WORD...
refuses()
{
    name=$1 expected=$2 pattern=$3
    shift 3
    "$piper" checkpoint "$@" >out 2>&1
    got=$?
    { [ $got -eq "$expected" ] && grep -q -e "$pattern" out; } || { echo "exit status $got, looked for: $pattern" >>out; false; }
    result "$name"
}
refuses 'a tokenizer for a single file' 64 'tokenizer: requires a directory: -o DIR/' export run -o x.safetensors --tokenizer other
refuses 'no tokenizer' 66 'found no tokenizer files' export run --job job.h5 -o out4 --tokenizer run
sed 's/"intermediate_size": 16/"intermediate_size": 16, "attention_bias": true/' model.json >biased.json
"$piper" build -m biased.json -s one.json -t train.json --set model.rope_theta=5000 -o biased.h5 >out 2>&1
refuses "another model's job" 65 'is a checkpoint of another model than the job' export run --job biased.h5 -o out5
cat >graph.json <<'JSON'
{"vocab_size": 256, "graph": [{"op": "embed", "name": "e", "in": ["tokens"], "features": 8},
 {"op": "linear", "name": "l", "in": ["e"], "out_features": 8}, {"op": "head_loss", "name": "h", "in": ["l", "targets"]}]}
JSON
"$piper" build -m graph.json -s one.json -t train.json -o graph.h5 >out 2>&1 && "$piper" train graph.h5 -o graph >>out 2>&1
refuses 'a graph of no family' 65 'that no family of transformers has' export graph --job graph.h5 -o out6
[ ! -e out6/config.json ] && "$piper" checkpoint export graph -o graph.safetensors >out 2>&1
result 'its weights alone'
echo "1..$n"
