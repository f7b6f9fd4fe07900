#!/usr/bin/env python3
"""Steps of training on this CPU, by piper and by PyTorch: table.py PIPER [--threads N] [--rounds N] [--steps N]
[--only NAME,...] [--families] [--peers NAME,...] [--cpu-time]

A row a shape, a column a peer, seconds a step: forward, backward, clipping and AdamW. In each round the peers take turns, a few
steps each, of which the shortest counts; a figure is the median of the rounds. Both get the same config.json (transformers builds
PyTorch's model); PyTorch has its fused AdamW and scaled_dot_product_attention. --families: a model of each family instead, 1,024
wide, 4 layers, 512 tokens. --cpu-time, with one thread, counts what the process had of a core, for a machine that others use.
Needs torch and transformers beside piper; nothing of make check does.
"""
import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

LLAMA = {"model_type": "llama", "vocab_size": 32000, "hidden_size": 1024, "num_hidden_layers": 4,
         "num_attention_heads": 16, "num_key_value_heads": 4, "intermediate_size": 2816, "tie_word_embeddings": False}
QWEN3 = {"model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "num_hidden_layers": 2,
         "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 3072,
         "tie_word_embeddings": True}
MOE = {"model_type": "qwen3_moe", "vocab_size": 32000, "hidden_size": 768, "num_hidden_layers": 2,
       "num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 2048,
       "moe_intermediate_size": 768, "num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": True,
       "tie_word_embeddings": False}
GPT2 = {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}


def but(model, **changes):
    return {**model, **changes}


# name: model, sequences, length
SHAPES = {
    "gpt2-124m-4x64": (GPT2, 4, 64),
    "gpt2-124m-1x1024": (GPT2, 1, 1024),
    "gpt2-short-8x16": (but(GPT2, n_layer=2), 8, 16),
    "gpt2-long-1x4096": (but(GPT2, n_layer=1, n_positions=4096, vocab_size=4096), 1, 4096),
    "llama-4x128": (LLAMA, 4, 128),
    "llama-1x2048": (but(LLAMA, num_hidden_layers=1), 1, 2048),
    "vocab151936-2x64": (QWEN3, 2, 64),
    "vocab151936-1x512": (but(QWEN3, num_hidden_layers=1), 1, 512),
    "moe-4x128": (MOE, 4, 128),
    "moe-1x1024": (but(MOE, num_hidden_layers=1, num_experts=16), 1, 1024),
}
DENSE = {"vocab_size": 32000, "hidden_size": 1024, "num_hidden_layers": 4, "intermediate_size": 2816,
         "max_position_embeddings": 2048}
EXPERTS = {**DENSE, "moe_intermediate_size": 512, "num_experts_per_tok": 4, "norm_topk_prob": True}
FAMILIES = {
    "qwen2": {"model_type": "qwen2", **DENSE, "num_attention_heads": 16, "num_key_value_heads": 4},
    "gemma3": {"model_type": "gemma3_text", **DENSE, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128,
               "query_pre_attn_scalar": 128, "sliding_window": 256},
    "qwen3_moe": {"model_type": "qwen3_moe", **EXPERTS, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64,
                  "num_experts": 16},
    "deepseek_v3": {"model_type": "deepseek_v3", **EXPERTS, "num_attention_heads": 16, "num_key_value_heads": 16,
                    "q_lora_rank": 512, "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64,
                    "n_routed_experts": 16, "n_shared_experts": 1, "n_group": 4, "topk_group": 2, "first_k_dense_replace": 1,
                    "num_nextn_predict_layers": 0},
}
SHAPES.update({name: (model, 1, 512) for name, model in FAMILIES.items()})
PEERS = ["piper", "eager", "compile", "piper-bf16", "autocast", "autocast-compile"]


def torch_stepper(model, sequences, length, peer, threads):
    """A function that makes one step of a peer."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(**model)
    for key in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if hasattr(config, key):
            setattr(config, key, 0.0)
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float().train()
    network.config.use_cache = False
    adamw = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.randint(0, 256, (sequences, length + 1))

    def loss_of(x, y):
        logits = network(x).logits
        return torch.nn.functional.cross_entropy(logits.float().view(-1, logits.shape[-1]), y.reshape(-1))

    if peer.endswith("compile"):
        loss_of = torch.compile(loss_of)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=peer.startswith("autocast")):
            loss = loss_of(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()
        loss.item()

    return step


def torch_serve(model, sequences, length, peer, a):
    """For each line of stdin: some steps, and the seconds of the shortest."""
    step = torch_stepper(model, sequences, length, peer, a.threads)
    clock = time.process_time if a.cpu_time else time.perf_counter
    step()
    step()
    print("ready", flush=True)
    for _ in sys.stdin:
        seconds = []
        for _ in range(a.steps):
            begin = clock()
            step()
            seconds.append(clock() - begin)
        print(min(seconds), flush=True)


class Torch:
    """A peer of PyTorch in a process of its own, which waits while others have their turn."""

    def __init__(self, name, peer, a):
        command = [sys.executable, __file__, a.piper, "--threads", str(a.threads), "--steps", str(a.steps), "--one", name,
                   "--peers", peer] + ["--cpu-time"] * a.cpu_time
        self.what = f"{name}, {peer}"
        self.errors = tempfile.TemporaryFile("w+")
        self.run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.line()

    def line(self):
        for text in iter(self.run.stdout.readline, ""):
            if re.match(r"ready|[0-9.e-]+$", text):
                return text
        self.errors.seek(0)
        sys.exit(f"{self.what}: {self.errors.read()[-2000:]}")

    def turn(self):
        self.run.stdin.write("go\n")
        self.run.stdin.flush()
        return float(self.line())

    def close(self):
        self.run.stdin.close()
        self.run.wait()


def piper_run(a, folder, steps):
    """Seconds of each step by metrics.csv, or those that the process had of a core from row to row."""
    env = {**os.environ, "OMP_NUM_THREADS": str(a.threads), "OMPI_ALLOW_RUN_AS_ROOT": "1",
           "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    metrics, used = folder + "/run/metrics.csv", []
    with subprocess.Popen([a.piper, "train", folder + "/job.h5", "-o", folder + "/run", "--no-checkpoint", "--steps",
                           str(steps)], env=env,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        while run.poll() is None:
            time.sleep(0.002)
            text = open(metrics).read() if os.path.exists(metrics) else ""
            if text.count("\n") > len(used):
                used.append(1e-9 * int(open(f"/proc/{run.pid}/schedstat").read().split()[0]))
        if run.returncode:
            sys.exit(run.stderr.read().decode())
    rows = [r.split(",") for r in open(metrics).read().splitlines()]
    if a.cpu_time:
        return [y - x for x, y in zip(used[1:], used[2:])]
    return [float(r[rows[0].index("step_seconds")]) for r in rows[1:]]


class Piper:
    """A peer of ours: a job in a folder, run anew for each turn."""

    def __init__(self, name, peer, a):
        model, sequences, length = SHAPES[name]
        self.a, self.folder = a, tempfile.TemporaryDirectory()
        folder = self.folder.name
        train = {"optimizer": {"kind": "adamw", "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1},
                 "lr": {"kind": "constant", "peak": 1e-4}, "clip_norm": 1.0, "batch_size": sequences,
                 "seq_len": length, "steps": a.steps + 2, "seed": 1, "data": folder + "/tokens.h5",
                 "dtype": "bfloat16" if peer == "piper-bf16" else "float32"}
        files = {"model.json": json.dumps(model), "strategy.json": "[]", "train.json": json.dumps(train),
                 "text": "to be or not to be " * 20000}
        for file, text in files.items():
            open(f"{folder}/{file}", "w").write(text)
        for command in (["data", "text", "text", "-o", "tokens.h5"],
                        ["build", "-m", "model.json", "-s", "strategy.json", "-t", "train.json", "-o", "job.h5"]):
            made = subprocess.run([a.piper, *command], capture_output=True, text=True, cwd=folder)
            if made.returncode:
                sys.exit(f"{name}: {made.stderr}")

    def turn(self):
        shutil.rmtree(self.folder.name + "/run", ignore_errors=True)
        return min(piper_run(self.a, self.folder.name, self.a.steps + 2)[2:])

    def close(self):
        self.folder.cleanup()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("piper")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--only")
    p.add_argument("--families", action="store_true")
    p.add_argument("--peers", default=",".join(PEERS))
    p.add_argument("--cpu-time", action="store_true")
    p.add_argument("--one", help=argparse.SUPPRESS)
    a = p.parse_args()
    a.piper = os.path.abspath(a.piper)
    if a.cpu_time and a.threads != 1:
        p.error("--cpu-time counts the time of one thread: add --threads 1")
    if a.one:
        torch_serve(*SHAPES[a.one], a.peers, a)
        return
    names = a.only.split(",") if a.only else [x for x in SHAPES if (x in FAMILIES) == a.families]
    info = subprocess.run([a.piper, "info"], capture_output=True, text=True).stdout
    versions = subprocess.run([sys.executable, "-c", "import torch, transformers; print(torch.__version__, "
                               "transformers.__version__, torch.backends.cpu.get_cpu_capability())"],
                              capture_output=True, text=True).stdout.strip()
    facts = dict(re.findall(r"^(\w[\w ]*\w)\s*: (.*)", open("/proc/cpuinfo").read(), re.M))
    print(f"{facts.get('model name', platform.machine())}, family {facts.get('cpu family', '?')} model {facts.get('model', '?')}, "
          f"{a.threads} threads, "
          f"{'CPU time' if a.cpu_time else 'wall time'}; torch, transformers, its instructions: {versions}")
    print("\n".join(line for line in info.splitlines() if "products" in line))
    peers = a.peers.split(",")
    print(f"{'seconds a step':18s}" + "".join(f"{x:>18s}" for x in peers), flush=True)
    for name in names:
        turns = {x: (Piper if x.startswith("piper") else Torch)(name, x, a) for x in peers}
        seconds = {x: [] for x in peers}
        for _ in range(a.rounds):
            for x in peers:
                seconds[x].append(turns[x].turn())
        for x in turns.values():
            x.close()
        print(f"{name:18s}" + "".join(f"{statistics.median(seconds[x]):18.3f}" for x in peers), flush=True)


if __name__ == "__main__":
    main()
