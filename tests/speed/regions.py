#!/usr/bin/env python3
"""Steps of pairs whose layers have regions of tensor or context groups, beside experts or not: regions.py PIPER [PIPER...]

Llama 70B, Llama 8B, Mixtral 8x22B, DeepSeek-V3 and a Qwen3 of 96 layers, dualpipev, sequences of 4,096 tokens, simulated on the sheet of the H100 with
200 GB/s in a node, by default and with memory to spare ("peak"): a table with a column for each program. Two minutes a program.
"""
import json
import os
import subprocess
import sys
import tempfile

TREE = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
LLAMA = {"model_type": "llama", "vocab_size": 128256, "tie_word_embeddings": False, "num_key_value_heads": 8, "max_position_embeddings": 4096}
MODELS = {
    "llama 70B": {**LLAMA, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64},
    "llama 8B": {**LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "mixtral": {"model_type": "mixtral", "vocab_size": 32768, "hidden_size": 6144, "intermediate_size": 16384, "num_hidden_layers": 56,
                "num_attention_heads": 48, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "tie_word_embeddings": False},
    "qwen3_moe": {"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 4096, "num_hidden_layers": 96, "num_attention_heads": 64,
                  "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536,
                  "tie_word_embeddings": False},
    "deepseek_v3": {"model_type": "deepseek_v3", "max_position_embeddings": 4096},
}
# model, ranks, sequences a step, pp, tp, cp, ep, microbatches
CELLS = [
    ("llama 70B", 256, 512, 4, 8, 1, 1, 64), ("llama 70B", 256, 512, 4, 4, 1, 1, 32), ("llama 70B", 256, 512, 8, 8, 1, 1, 128),
    ("llama 70B", 64, 128, 4, 1, 4, 1, 32), ("llama 70B", 256, 512, 4, 8, 2, 1, 128), ("llama 8B", 64, 256, 2, 2, 1, 1, 16),
    ("llama 8B", 64, 256, 2, 8, 1, 1, 64), ("llama 8B", 64, 256, 2, 4, 2, 1, 64), ("llama 8B", 64, 256, 2, 2, 4, 1, 64),
    ("mixtral", 256, 1024, 4, 8, 1, 8, 128), ("mixtral", 256, 1024, 8, 4, 1, 8, 128), ("mixtral", 256, 1024, 4, 2, 1, 8, 32),
    ("qwen3_moe", 512, 2048, 4, 4, 1, 64, 64), ("qwen3_moe", 512, 2048, 8, 2, 1, 32, 64), ("qwen3_moe", 512, 2048, 4, 4, 1, 8, 64),
    ("qwen3_moe", 512, 2048, 4, 2, 1, 8, 32), ("qwen3_moe", 512, 2048, 8, 8, 1, 8, 256), ("deepseek_v3", 2048, 15360, 8, 4, 1, 32, 240),
    ("deepseek_v3", 2048, 15360, 4, 2, 1, 64, 60), ("deepseek_v3", 2048, 15360, 2, 4, 1, 128, 60), ("deepseek_v3", 2048, 15360, 2, 8, 1, 128, 120),
]


def write(name, what):
    with open(name, "w") as f:
        json.dump(what, f)


def step(piper, cell, peak):
    model, ranks, batch, pp, tp, cp, ep, microbatches = cell
    experts = {"ep": ep, "expert_bound": 1.25} if ep > 1 else {}
    write("m.json", MODELS[model])
    write("t.json", {"batch_size": batch, "seq_len": 4096, "steps": 1, "dtype": "bfloat16",
                     **({"moe_router_bias_update_rate": 0.001} if model == "deepseek_v3" else {})})
    write("s.json", [{"op": "layout", "pp": pp, "dp": ranks // (pp * tp * cp), "tp": tp, "cp": cp, "zero": 1, "placement": "v", **experts},
                     {"op": "schedule", "kind": "dualpipev", "microbatches": microbatches, **({"peak": 1000} if peak else {})}])
    done = subprocess.run([piper, "plan", "-m", "m.json", "-t", "t.json", "-s", "s.json", "-n", str(ranks), "--device", "cuda", "--machine",
                           "machine.json", "--simulate", "--json=classes"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)["step_seconds"]


def main():
    pipers = [os.path.realpath(p) for p in sys.argv[1:] or ["./piper"]]
    with open(f"{TREE}/src/machines/h100.json") as f:
        sheet = json.load(f)
    sheet["links"]["node"]["bandwidth"] = 200e9
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write("machine.json", sheet)
        names = [f"{k}{i or ''}" for i in range(len(pipers)) for k in ("by default, s", "to spare, s")]
        print(f"| model | ranks | pp | tp | cp | ep | microbatches | {' | '.join(names)} |\n|{'---|' * (7 + len(names))}")
        for cell in CELLS:
            steps = [step(piper, cell, peak) for piper in pipers for peak in (False, True)]
            print(f"| {' | '.join(map(str, cell[:2] + cell[3:]))} | {' | '.join(f'{s:.3f}' for s in steps)} |", flush=True)


main()
