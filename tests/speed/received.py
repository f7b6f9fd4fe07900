#!/usr/bin/env python3
"""received.py PIPER: DeepSeek-V3 on 2,048 GPUs, planned and simulated, with rows that experts receive kept or sent again: the table of
SIMULATED.md. PIPER_MACHINES says where data sheets are."""
import json
import pathlib
import subprocess
import sys
import tempfile

GIB = 2.0**30
CASES = [(kind, backward, received) for kind, backward in (("dualpipe", "split"), ("dualpipe", "whole"), ("1f1b", "split"))
         for received in ("keep", "again")]


def plan(folder, *options):
    files = [folder / name for name in ("model.json", "strategy.json", "train.json")]
    command = [sys.argv[1], "plan", "-m", files[0], "-s", files[1], "-t", files[2], "--machine", "h100", "--device", "cuda"]
    return json.loads(subprocess.run(command + list(options), check=True, capture_output=True, text=True).stdout)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "model.json").write_text('{"model_type": "deepseek_v3"}')
        (folder / "train.json").write_text('{"batch_size": 8192, "seq_len": 4096, "steps": 1, "dtype": "bfloat16"}')
        for kind, backward, received in CASES:
            layout = {"op": "layout", "pp": 16, "dp": 128, "ep": 64, "zero": 1, "expert_bound": 1.5,
                      "placement": "two-way" if kind == "dualpipe" else "standard"}
            schedule = {"op": "schedule", "kind": kind, "backward": backward, "microbatches": 64}
            recompute = {"op": "recompute", "filter": {}, "received": received}
            (folder / "strategy.json").write_text(json.dumps([layout, schedule, recompute]))
            most = max((c["peak_bytes"] for c in plan(folder, "--json=classes")["per_class"]), key=lambda p: p["device"])
            step = plan(folder, "--simulate", "--json=classes")["step_seconds"]
            print("| {} | {} | {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} |".format(
                kind, backward, received, *(most[k] / GIB for k in ("device", "comm", "activations")), step))


main()
