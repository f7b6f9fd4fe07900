#!/bin/sh
# time-limit: 120
# What is refused of shared sequences, and of the regions that split operators (piper-strategy(5), shard), with its exact sentence.
# Prints TAP: a case a sentence.
. "${top_srcdir:-.}"/tests/cli/lib.sh || exit 99

sed 's/"num_attention_heads": 4/"num_attention_heads": 14/; s/"num_key_value_heads": 2/"num_key_value_heads": 14/
     s/"hidden_size": 32/"hidden_size": 56/' llama.json >h14.json
sed 's/"num_attention_heads": 4/"num_attention_heads": 6/; s/"num_key_value_heads": 2/"num_key_value_heads": 3/
     s/"hidden_size": 32/"hidden_size": 48/' llama.json >kv3.json
sed 's/"intermediate_size": 72/"intermediate_size": 90/' llama.json >f90.json
sed 's/"vocab_size": 256/"vocab_size": 8/' llama.json >words8.json
# experts whose dispatch is in the layer after their router's
cat >apart.json <<'EOF'
{"vocab_size": 256, "graph": [
  {"op": "embed", "name": "embed", "in": ["tokens"], "features": 32},
  {"op": "router", "name": "r", "in": ["embed"], "experts": 4, "top_k": 2, "block": 1},
  {"op": "dispatch", "name": "d", "in": ["embed", "r.1"], "experts": 4, "top_k": 2, "capacity": 8, "block": 2},
  {"op": "experts", "name": "e", "in": ["d", "d.2"], "experts": 4, "top_k": 2, "capacity": 8, "ffn": 24, "block": 2},
  {"op": "combine", "name": "c", "in": ["e", "d.1", "r"], "experts": 4, "top_k": 2, "capacity": 8, "block": 2},
  {"op": "head_loss", "name": "head", "in": ["c", "targets"], "block": 2}
]}
EOF
# a layernorm over all heads of the queries
cat >joint.json <<'EOF'
{"vocab_size": 256, "graph": [
  {"op": "embed", "name": "embed", "in": ["tokens"], "features": 32},
  {"op": "linear", "name": "q", "in": ["embed"], "out_features": 32, "block": 1},
  {"op": "layernorm", "name": "n", "in": ["q"]},
  {"op": "linear", "name": "k", "in": ["embed"], "out_features": 32},
  {"op": "linear", "name": "v", "in": ["embed"], "out_features": 32},
  {"op": "attention", "name": "core", "in": ["n", "k", "v"], "heads": 4},
  {"op": "linear", "name": "o", "in": ["core"], "out_features": 32},
  {"op": "head_loss", "name": "head", "in": ["o", "targets"], "block": 2}
]}
EOF
cat >graph.json <<'EOF'
{"vocab_size": 256, "graph": [
  {"op": "embed", "name": "embed", "in": ["tokens"], "features": 32},
  {"op": "linear", "name": "a.q", "in": ["embed"], "out_features": 32, "block": 1},
  {"op": "linear", "name": "a.k", "in": ["embed"], "out_features": 32},
  {"op": "linear", "name": "a.v", "in": ["embed"], "out_features": 32},
  {"op": "attention", "name": "a.core", "in": ["a.q", "a.k", "a.v"], "heads": 4},
  {"op": "linear", "name": "a.o", "in": ["a.core"], "out_features": 32},
  {"op": "add", "name": "extra", "in": ["a.o", "a.v"]},
  {"op": "head_loss", "name": "head", "in": ["extra", "targets"], "block": 2}
]}
EOF

sed 's/"model_type": "llama"/"model_type": "mistral", "sliding_window": 5/' llama.json >mistral.json
sed 's/"name": "a.q", "in": \["embed"\], "out_features": 32/"name": "a.q", "in": ["embed"], "out_features": 96/
     s/"in": \["a.q", "a.k", "a.v"\], "heads": 4/"in": ["a.q"], "heads": 4, "kv_heads": 4, "head_dim": 8, "packed": true/
     s/  {"op": "linear", "name": "a.o", "in": \["a.core"\]/  {"op": "attention", "name": "b.core", "in": ["a.core", "a.k", "a.q"], "heads": 4, "v_head_dim": 24},\
  {"op": "linear", "name": "a.o", "in": ["b.core"]/' graph.json >packed.json
sed 's/"in": \["a.q", "a.k", "a.v"\]/"in": ["a.q", "a.q", "a.k"]/' graph.json >twice.json
# nothing but the region reads what is made inside
sed 's/"a.o", "a.v"/"a.o", "embed"/' graph.json >inside.json
sed 's/"heads": 4/"heads": 1/' inside.json >one.json
sed '/"name": "a.o"/d; s/"a.o", "embed"/"a.core", "embed"/' inside.json >bare.json
# stages FIRST SECOND: a graph in two
stages()
{
    sed "1s/{/{\"annotate\": [{\"tag\": \"PP\", \"index\": 0, \"match\": [$1]}, {\"tag\": \"PP\", \"index\": 1, \"match\": [$2]}], /"
}
stages '"embed", "a.q", "a.k", "a.v", "a.core"' '"a.o", "extra", "head"' <inside.json >cut.json
stages '"embed", "r"' '"d", "e", "c", "head"' <apart.json >routed.json

# tokens N [KEY]: sequences of so many, and a key of train.json
tokens()
{
    sed "s/\"seq_len\": 16/${2-}\"seq_len\": $1/" adamw.json >train.json
}
tokens 24

s2='{"op":"shard","dim":"sequence","filter":{"PP":0},"devices":[0,1]}'
s4='{"op":"shard","dim":"sequence","filter":{"PP":0},"devices":[0,1,2,3]}'
zigzag='{"op":"shard","dim":"sequence","filter":{"PP":0},"devices":[0,1],"order":"zigzag"}'
context='{"op":"shard","dim":"context","filter":{"PP":0}}'
head='{"op":"shard","dim":"head","filter":{"PP":0}}'
ffn='{"op":"shard","dim":"ffn","filter":{"PP":0}}'

# ---- keys ---------------------------------------------------------------------------------------------------------------

refused llama '$[0]: "dim": found "heads", expected "expert", "sequence", "head", "ffn", "vocab" or "context"' \
    '{"op":"shard","dim":"heads","filter":{"PP":0}}'
refused llama '$[0].order: found "random", expected "contiguous" or "zigzag"' \
    '{"op":"shard","dim":"sequence","filter":{"PP":0},"devices":[0,1],"order":"random"}'
refused llama '$[1].keep: found "all", expected "part" or "whole"' "$s2" \
    '{"op":"shard","dim":"head","filter":{"PP":0},"keep":"all"}'
refused llama '$[1].exchange: found "star", expected "gather", "all-to-all" or "ring"' "$s2" \
    '{"op":"shard","dim":"context","filter":{"PP":0},"exchange":"star"}'
refused llama '$[1]: unknown key "exchange", expected "op", "dim", "filter", "devices", "stream" or "keep"' "$s2" \
    '{"op":"shard","dim":"head","filter":{"PP":0},"exchange":"ring"}'
refused llama '$[1]: shard acts on chunks: leave MB and PASS out of the filter' "$s2" \
    '{"op":"shard","dim":"head","filter":{"PP":0,"PASS":"F"}}'
refused llama '$[0]: "exchange" has no effect without "cp" > 1' '{"op":"layout","tp":2,"dp":1,"exchange":"gather"}'
refused llama '$[0]: "keep" has no effect without "tp" or "cp" > 1' '{"op":"layout","dp":1,"keep":"part"}'

# ---- groups -------------------------------------------------------------------------------------------------------------

refused llama '$[1]: "dim":"head" needs a shard with "dim":"sequence" that covers PP=0' \
    '{"op":"place","filter":{"PP":0},"devices":[0]}' "$head"
refused llama '$[0].devices: group 1 has 3 devices, expected 2 as in the first: a sequence is shared evenly' \
    '{"op":"shard","dim":"sequence","filter":{"PP":0},"devices":[[0,1],[2,3,4]]}'
refused llama '$[1]: PP=0 is placed on 0,2,1,3 and its sequence groups are [0,1],[2,3]: list the groups one after the other' \
    '{"op":"replicate","filter":{"PP":0},"devices":[0,2,1,3]}' \
    '{"op":"shard","dim":"sequence","filter":{"PP":0},"devices":[[0,1],[2,3]]}' "$context"
refused llama '$[1]: PP=0 is placed on 0,1 and PP=1 on 1,0: where sequences are shared, what is on the same devices lists each sequence group in one order' \
    "$s2" '{"op":"shard","dim":"sequence","filter":{"PP":1},"devices":[1,0]}' '{"op":"shard","dim":"context","filter":{}}'
refused llama '$[1]: [1,2] is no block of neighbours of the sequence group [0,1,2,3]; these are [0,1] and [2,3]' "$s4" \
    '{"op":"shard","dim":"ffn","filter":{"PP":0},"devices":[[1,2],[0,3]]}' "$context"
refused llama '$[1]: 1 groups of 2 devices, expected 2: all devices of the sequence groups' "$s4" \
    '{"op":"shard","dim":"ffn","filter":{"PP":0},"devices":[0,1]}' "$context"
refused llama '$[1]: PP=0 shares its sequences over 2 devices, PP=1 over 4; for now all stages share them alike' "$s2" \
    '{"op":"shard","dim":"sequence","filter":{"PP":1},"devices":[2,3,4,5]}'
refused llama '$[1]: PP=0 shares its sequences zigzag, PP=1 contiguous; for now all stages share them alike' "$zigzag" \
    '{"op":"shard","dim":"sequence","filter":{"PP":1},"devices":[2,3]}'
refused llama '$[1]: [0,1,2] is no block of neighbours of the sequence group [0,1,2,3]: 3 does not divide 4' "$s4" \
    '{"op":"shard","dim":"ffn","filter":{"PP":0},"devices":[0,1,2]}' "$context"
refused llama '$[0]: layers.2.attn.core works on sequences in 4 parts, other attention on 2; for now head regions match all attention or none' "$s4" \
    '{"op":"shard","dim":"sequence","filter":{"PP":1},"devices":["4-7"]}' '{"op":"shard","dim":"head","filter":{"PP":0},"devices":[[0,1],[2,3]]}' \
    '{"op":"shard","dim":"context","filter":{}}'
refused llama '$[1]: two shard directives with "dim":"sequence" match PP=0' "$s2" "$s2"
refused llama '$[2]: two shard directives with "dim":"ffn" match layers.0.mlp' "$s2" "$ffn" "$ffn" "$head"
refused llama '$[2]: two shard directives with "dim":"context" match layers.0.attn.core' "$s2" "$context" "$context"
refused llama '$[2]: tensor groups of 4 devices, of another region 2; they are the same for all regions' "$s4" \
    '{"op":"shard","dim":"head","filter":{"PP":0},"devices":[[0,1],[2,3]]}' "$ffn" "$context"

# ---- exchange -----------------------------------------------------------------------------------------------------------

turned='{"op":"shard","dim":"context","filter":{"PP":0},"exchange":"all-to-all"}'
ring='{"op":"shard","dim":"context","filter":{"PP":0},"exchange":"ring"}'
refused llama '$[0]: "order":"zigzag" balances nothing where "exchange" is "all-to-all": every device has all tokens of some heads; use "contiguous"' \
    "$zigzag" "$turned"
refused kv3 '$[1]: layers.0.attn.core has 3 key/value heads for 2 devices, expected a multiple of 2; use "gather" or "ring"' "$s2" "$turned"
refused llama '$[1]: layers.0.attn.core has 2 key/value heads for 4 devices, expected a multiple of 4; use "gather" or "ring"' "$s4" "$turned"
refused h14 '$[1]: layers.0.attn.core has 14 heads, which do not split over 4 devices; use 2, 7 or 14, or "gather" or "ring"' "$s4" "$turned"
refused mistral '$[1]: layers.0.attn.core has a window, which "exchange":"ring" does not take; use "gather" or "all-to-all"' "$s2" "$ring"
refused packed '$[0]: a.core has packed q, k and v, which are taken apart where sequences are shared: this needs one linear operator that makes them for attention alone; give q, k and v as three inputs' "$s2" "$turned"
refused twice '$[1]: a.core reads its queries as keys too; a context region needs them apart' "$s2" "$ring"
tokens 24 '"documents": "separate", '
refused llama '$[1]: layers.0.attn.core has documents that are kept apart, which "exchange":"ring" does not take; use "gather" or "all-to-all"' \
    "$s2" "$ring"
tokens 24

# ---- spellings of the reference -------------------------------------------------------------------------------------------

tensor='"op":"shard_tensor","filter":{"TP":"*"},"devices":[0,1]'
shift='"op":"ring_exchange","filter":{"CP":"*"},"devices":[0,1]'
refused llama '$[0]: omit "mesh": write the groups as lists in "devices"' "{$tensor,\"mesh\":[2]}"
refused llama '$[0]: omit "inputs": what a region gathers and sums follows from its operators' "{$tensor,\"inputs\":{\"0\":\"shard(1)\"}}"
refused llama '$[0].params: "q_proj": found "rowwise", but layers.0.attn.q_proj is split by its output features: "colwise"' \
    "{$tensor,\"params\":{\"q_proj\":\"rowwise\"}}"
refused llama '$[0].params: no linear operator has a parameter called "w13"' "{$tensor,\"params\":{\"w13\":\"colwise\"}}"
refused llama '$[0].params: "q_proj": expected "colwise" or "rowwise"' "{$tensor,\"params\":{\"q_proj\":2}}"
refused llama '$[0]: omit "derive": k and v are found' "{$shift,\"derive\":true}"
refused llama '$[0]: omit "mesh": write the groups as lists in "devices"' "{$shift,\"mesh\":[2]}"
refused llama '$[0].tensors[1]: found "q", expected "k" or "v": keys and values travel' "{$shift,\"tensors\":[\"k\",\"q\"]}"
refused llama '$[0]: there are no meshes: write the groups as lists in "devices" of shard' '{"op":"mesh","devices":[0,1]}'
refused llama '$[0]: omit it: tensors go to their readers anyway' '{"op":"route","filter":{}}'
refused llama '$[0]: here layout is a grid: pp, dp, tp, cp; omit "filter"' '{"op":"layout","filter":{},"axis":0}'
refused llama '$[0]: here layout is a grid: pp, dp, tp, cp; omit "axis"' '{"op":"layout","axis":0}'
refused llama '$[0]: the model has no tag SP; for attention by heads write "dim":"context","exchange":"all-to-all", with a "dim":"sequence"' \
    '{"op":"shard","filter":{"SP":"*"},"devices":[0,1]}'
refused llama '$[1] expanded, directive 3: two shard directives with "dim":"sequence" match chunk 0 (embed ..)' "{$tensor}" "{$shift}"
refused llama '$[1] expanded, directive 2: two shard directives with "dim":"sequence" match chunk 0 (embed ..)' "{$shift}" "{$tensor}"

# ---- sizes --------------------------------------------------------------------------------------------------------------

tokens 30
refused llama '$[0]: sequences of 30 tokens do not divide by 4 devices' "$s4" "$context"
refused llama '$[0]: zigzag cuts a sequence into 2 x 2 equal chunks, 30 tokens do not divide; use "contiguous"' "$zigzag" "$context"
tokens 24
refused llama '$[0]: "order":"zigzag" needs a shard with "dim":"context"; use "contiguous"' "$zigzag" "$head" "$ffn"
refused h14 '$[1]: layers.0.attn.core has 14 heads, which do not split over 4 devices; use 2, 7 or 14, or leave "head" out and use "context"' \
    "$s4" "$head"
refused one '$[1]: a.core has 1 heads, which do not split over 2 devices; use 1, or leave "head" out and use "context"' "$s2" "$head"
refused kv3 '$[1]: layers.0.attn.core has 3 key/value heads for 2 devices; one of the two must divide the other' "$s2" "$head"
refused f90 '$[1]: layers.0.mlp.gate_proj makes 90 features, which do not split over 4 devices' "$s4" "$ffn" "$context"

# ---- regions ------------------------------------------------------------------------------------------------------------

refused llama '$[0]: attention of PP=0 needs all tokens of its sequences; 4 devices share them, its head region joins 2: add "dim":"context"' \
    "$s4" '{"op":"shard","dim":"head","filter":{"PP":0},"devices":[[0,1],[2,3]]}'
refused llama '$[0]: attention of PP=0 needs all tokens of its sequences; 4 devices share them: add "dim":"context"' "$s4" "$ffn"
refused graph '$[1]: the filter matches PP=0, which has no swiglu or gelu between linear operators: nothing to split by "ffn"' \
    "$s2" "$ffn" "$context"
refused bare '$[1]: the filter matches PP=0, which has no attention between linear operators: nothing to split by "head"' \
    "$s2" "$head" "$context"
refused cut '$[2]: the filter matches PP=1, which has no attention: nothing to split by "context"' "$s2" \
    '{"op":"shard","dim":"sequence","filter":{"PP":1},"devices":[2,3]}' '{"op":"shard","dim":"context","filter":{"PP":1}}'
refused llama '$[3]: the filter matches PP=1, which has no embedding or head: nothing to split by "vocab"' "$s2" \
    '{"op":"shard","dim":"sequence","filter":{"PP":1},"devices":[2,3]}' '{"op":"shard","dim":"sequence","filter":{"PP":2},"devices":[4,5]}' \
    '{"op":"shard","dim":"vocab","filter":{"PP":1}}'
refused qwen3_moe '$[2]: the experts of EP=0 are split by "dim":"expert", not by "ffn"' \
    '{"op":"replicate","filter":{},"devices":[0,1]}' '{"op":"shard","dim":"sequence","filter":{},"devices":[0,1]}' \
    '{"op":"shard","dim":"ffn","filter":{"EP":0}}'
refused joint '$[1]: n norms several heads together, which is split for one rmsnorm of all of them only: leave "head" out and use "context"' \
    "$s2" "$head"
refused graph '$[1]: a.v is read outside of its region, by extra' "$s2" "$head"
refused cut '$[2]: a lies in PP=1 and PP=0; a region lies in one chunk' "$s2" \
    '{"op":"shard","dim":"sequence","filter":{"PP":1},"devices":[2,3]}' '{"op":"shard","dim":"head","filter":{}}'
refused gpt2 '$[2]: transformer.wte.weight is tied: "vocab" matches the embedding and the head, or neither' \
    '{"op":"shard","dim":"sequence","filter":{"PP":0},"devices":[0,1]}' \
    '{"op":"shard","dim":"sequence","filter":{"PP":1},"devices":[2,3]}' '{"op":"shard","dim":"vocab","filter":{"PP":1}}'
tokens 25
refused words8 '$[1]: 8 words in 5 blocks of 2 leave device 4 without any' \
    '{"op":"shard","dim":"sequence","filter":{"PP":0},"devices":["0-4"]}' '{"op":"shard","dim":"vocab","filter":{"PP":0}}'
tokens 24
refused routed '$[1]: d lies in PP=1 and its router r in PP=0; where sequences are shared, a capacity needs both in one chunk' "$s2" \
    '{"op":"shard","dim":"sequence","filter":{"PP":1},"devices":[2,3]}'
refused apart '$[1]: d and its router r are in different pieces of PP=0, cut by "bucket_size" or by a region between them; where sequences are shared, a capacity needs them next to each other' \
    '{"op":"replicate","filter":{},"devices":[0,1],"bucket_size":"layer"}' "$s2"
echo "1..$n"
