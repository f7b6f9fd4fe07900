"""python3 tests/speed/zero_group.py ./piper: the table of tests/speed/ZERO_GROUP.md. A step of an 8B llama on 2,048 ranks under zero 3,
sharded over all of them and in groups of 8, a node: simulated for the data sheet h100, nothing is measured. Seconds on one core."""

import json
import os
import subprocess
import sys
import tempfile

MODEL = {"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "rope_theta": 500000.0, "max_position_embeddings": 8192, "tie_word_embeddings": False}
RANKS, TOKENS = 2048, 8192
CHOICES = [("over all 2,048", {}), ("in groups of 8", {"zero_group": 8}),
           ("in groups of 8, state over all", {"zero_group": 8, "zero_optimizer": "all"})]


def plan(piper, folder, microbatches, keys):
    strategy = [{"op": "layout", "dp": RANKS, "zero": 3, **keys}, {"op": "schedule", "kind": "gpipe", "microbatches": microbatches},
                {"op": "recompute", "filter": {}}]
    train = {"batch_size": RANKS * microbatches, "seq_len": TOKENS, "steps": 1, "dtype": "bfloat16"}
    for name, what in [("model", MODEL), ("strategy", strategy), ("train", train)]:
        with open(os.path.join(folder, name + ".json"), "w") as f:
            json.dump(what, f)
    subprocess.run([piper, "build", "-m", "model.json", "-s", "strategy.json", "-t", "train.json", "-o", "job.h5"], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL)
    out = subprocess.run([piper, "plan", "job.h5", "--device", "cuda", "--simulate", "--machine", "h100", "--json"], cwd=folder, check=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(out.stdout)


def main():
    piper = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else "./piper")
    print("| microbatches | zero 3 | step, ms | exposed gathers, ms | exposed reductions, ms | exposed, % of the step | memory of a rank, GiB "
          "| compiled and verified, s |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for microbatches in (1, 4):
            for name, keys in CHOICES:
                p = plan(piper, folder, microbatches, keys)
                exposed, step = p["mean"]["exposed_seconds"], p["step_seconds"]
                print(f"| {microbatches} | {name} | {1e3 * step:.0f} | {1e3 * exposed['gathers']:.1f} | {1e3 * exposed['reductions']:.1f} "
                      f"| {100 * sum(exposed.values()) / step:.1f} | {p['per_rank'][0]['peak_bytes']['device'] / 2**30:.1f} "
                      f"| {p['compile_seconds'] + p['verify_seconds']:.2f} |", flush=True)


main()
