#!/bin/sh
# tests/speed/deepseek.sh [PIPER]: DeepSeek-V3 on 2,048 GPUs, 4,096 tokens x 15,360 sequences a step: what `piper tune` finds, beside the
# strategy that was published (arXiv 2412.19437, 3.2: pp 16, ep 64, zero 1, DualPipe), as the table of tests/speed/SIMULATED.md. All is simulated
# for a data sheet: H100 with half of its links within a node, which is what is said of H800. LIMIT (64): compilations of the search with
# everything open; NEAR (60): of that near the published layout, tp 1 and 16 stages.
piper=$(realpath "${1:-./piper}")
src=$(realpath "$(dirname "$0")/../..")
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
echo '{"model_type": "deepseek_v3", "max_position_embeddings": 4096}' >model.json
echo '{"batch_size": 15360, "seq_len": 4096, "steps": 1, "dtype": "bfloat16", "moe_router_bias_update_rate": 0.001}' >train.json
sed 's/"name": "H100"/"name": "H800"/; s/\("node": {[^}]*"bandwidth": \)[0-9.e]*/\1200e9/' "$src/src/machines/h100.json" >h800.json
grep -q '"bandwidth": 200e9' h800.json || { echo "src/machines/h100.json has no link of a node on one line" && exit 1; }

# published RECEIVED SCHEDULE-KEY...: with recompute of the whole model
published()
{
    echo "[{\"op\":\"layout\",\"pp\":16,\"dp\":128,\"ep\":64,\"zero\":1,\"placement\":\"two-way\",\"expert_bound\":1.25},
        {\"op\":\"recompute\",\"filter\":{},\"received\":\"$1\"},{\"op\":\"schedule\",\"kind\":\"dualpipe\",\"microbatches\":120$2}]"
}
published keep '' >published.json
published again ',"backward":"whole"' >fits.json
echo '[{"op":"layout","pp":16,"ep":"?","zero":{"in":[0,1]},"bucket_size":{"in":["layer",256]},"expert_bound":1.25},
    {"op":"schedule","kind":"?","microbatches":"?","backward":"?"},{"op":"recompute","filter":"?"}]' >near.json

# row NAME STRATEGY
row()
{
    "$piper" plan -m model.json -t train.json -s "$2" -n 2048 --device cuda --machine h800.json --simulate --json=classes >out.json 2>log || cat log
    python3 - "$1" out.json <<'END'
import json
import sys

plan = json.load(open(sys.argv[2]))
peaks = max((c["peak_bytes"] for c in plan["per_class"]), key=lambda p: p["device"])
gib = " | ".join(f"{peaks[k] / 2**30:.1f}" for k in ("device", "params", "grads", "optimizer", "activations", "comm"))
mean, step = plan["mean"], plan["step_seconds"]
print(f"| {sys.argv[1]} | {step:.2f} | {plan['tokens_per_second'] / 2048:.0f} | {gib} | {mean['compute_seconds']:.1f} "
      f"| {mean['exposed_seconds']['all-to-all']:.1f} | {sum(mean['exposed_seconds'].values()):.1f} | {mean['idle_seconds']:.1f} |", flush=True)
END
}
# search NAME LIMIT ARGUMENT...: what was said of candidates on standard error
search()
{
    name=$1 limit=$2
    shift 2
    "$piper" tune -m model.json -t train.json -n 2048 --machine h800.json --limit "$limit" --best 3 -o "$name" "$@" >said 2>log || cat log
    sed "s/^/# $name: /" said >&2
}
echo '| strategy | step, s | tokens/s a GPU | device, GiB | params | grads | optimizer | activations | comm | computing, s | all-to-all exposed, s | exposed, s | idle, s |'
echo '|---|---|---|---|---|---|---|---|---|---|---|---|---|'
row 'published, backward split' published.json
row 'published, as it fits: backward whole, rows received again' fits.json
search near "${NEAR:-60}" -s near.json
search open "${LIMIT:-64}"
for name in near open; do
    row "found, $name: $(sed -n 's/.*"text": "\(.*\)".*/\1/p' "$name/tune.json" | head -n 1)" "$name/best-01.json"
done
