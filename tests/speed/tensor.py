#!/usr/bin/env python3
"""Tensor parallelism on this CPU: tensor.py PIPER [--rounds N] [--steps N] [--trace DIR]

A step of a llama-like model, 1,024 wide, 512 tokens, float32: on one rank with two threads, and on two ranks with one thread each that
split every layer ("tp": 2), with and without the vocabulary. The jobs take turns, a few steps each, of which the shortest counts; a
figure is the median of the rounds. Prints seconds and the ratio to one rank. Wants two cores for itself. --trace keeps a run of each
job in DIR, with a traced step, for `piper trace DIR/... --summary`.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

MODEL = {"model_type": "llama", "vocab_size": 32000, "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 16,
         "num_key_value_heads": 4, "intermediate_size": 2816, "tie_word_embeddings": False}
# name: ranks, threads of each, strategy
JOBS = {
    "one": (1, 2, []),
    "tp2": (2, 1, [{"op": "layout", "pp": 1, "dp": 1, "tp": 2}]),
    "tp2-vocab": (2, 1, [{"op": "layout", "pp": 1, "dp": 1, "tp": 2, "vocab": True}]),
}


def command(*words, cwd, env=None):
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")


def make(piper, folder, steps):
    train = {"optimizer": {"kind": "adamw", "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1},
             "lr": {"kind": "constant", "peak": 1e-4}, "clip_norm": 1.0, "batch_size": 1, "seq_len": 512, "steps": steps, "seed": 1,
             "data": "tokens.h5", "dtype": "float32", "trace_steps": [steps]}
    files = {"model.json": json.dumps(MODEL), "train.json": json.dumps(train), "text": "to be or not to be " * 20000}
    files.update({f"{name}.json": json.dumps(job[2]) for name, job in JOBS.items()})
    for file, text in files.items():
        with open(f"{folder}/{file}", "w") as f:
            f.write(text)
    command(piper, "data", "text", "text", "-o", "tokens.h5", cwd=folder)
    for name in JOBS:
        command(piper, "build", "-m", "model.json", "-s", f"{name}.json", "-t", "train.json", "-o", f"{name}.h5", cwd=folder)


def turn(piper, folder, name, keep):
    """The shortest step but the first two and the traced one."""
    ranks, threads, _ = JOBS[name]
    run = f"{keep}/{name}" if keep else f"{folder}/{name}.run"
    shutil.rmtree(run, ignore_errors=True)
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "OMPI_ALLOW_RUN_AS_ROOT": "1",
           "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command("mpirun", "-q", "--bind-to", "none", "-n", str(ranks), piper, "train", f"{name}.h5", "-o", run,
            "--no-checkpoint", cwd=folder, env=env)
    with open(run + "/metrics.csv") as f:
        rows = [line.split(",") for line in f.read().splitlines()]
    return min(float(r[rows[0].index("step_seconds")]) for r in rows[3:-1])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("piper")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=4)
    p.add_argument("--trace")
    a = p.parse_args()
    piper = os.path.abspath(a.piper)
    with tempfile.TemporaryDirectory() as folder:
        make(piper, folder, a.steps + 3)
        seconds = {name: [] for name in JOBS}
        for _ in range(a.rounds):
            for name in JOBS:
                seconds[name].append(turn(piper, folder, name, a.trace and os.path.abspath(a.trace)))
        one = statistics.median(seconds["one"])
        for name, job in JOBS.items():
            s = statistics.median(seconds[name])
            print(f"{name:10s} {job[0]} x {job[1]} threads  {s:.4f} s a step ({min(seconds[name]):.4f} at least)  {s / one:.3f}")


if __name__ == "__main__":
    main()
