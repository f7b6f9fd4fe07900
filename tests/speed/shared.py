#!/usr/bin/env python3
"""Jobs that share sequences, planned and simulated: shared.py PIPER [--only activations|steps|overlap]

Prints the tables of tests/speed/SIMULATED.md: what a layer of a model of 70 billion parameters keeps, beside the formula of sequence
parallelism; steps on the data sheet of the H100, simulated, beside what others measured; communication of regions that is exposed, a
layer and microbatch, with streams of its own and on the stream of computation. No figure is measured here: all are `piper plan
--device cuda`, and times of it `--simulate --machine h100`.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

LLAMA70 = {"model_type": "llama", "vocab_size": 128256, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
           "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 131072, "rope_theta": 500000.0,
           "tie_word_embeddings": False}
LLAMA405 = {**LLAMA70, "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128}
GPT = {"model_type": "gpt2", "vocab_size": 51200, "n_embd": 8192, "n_layer": 80, "n_head": 64, "n_positions": 8192}
MIXTRAL = {"model_type": "mixtral", "vocab_size": 32768, "hidden_size": 6144, "intermediate_size": 16384, "num_hidden_layers": 56,
           "num_attention_heads": 48, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2,
           "router_aux_loss_coef": 0.0, "max_position_embeddings": 65536, "rope_theta": 1000000.0, "tie_word_embeddings": False}


def plan(piper, model, layout, schedule, batch, tokens, simulate=True):
    with tempfile.TemporaryDirectory() as at:
        for name, what in (("m", model), ("s", [{"op": "layout", **layout}, {"op": "schedule", **schedule}]),
                           ("t", {"batch_size": batch, "seq_len": tokens, "steps": 1, "dtype": "bfloat16"})):
            with open(f"{at}/{name}.json", "w") as f:
                json.dump(what, f)
        subprocess.run([piper, "build", "-m", f"{at}/m.json", "-s", f"{at}/s.json", "-t", f"{at}/t.json", "-o", f"{at}/job.h5"], check=True,
                       stdout=subprocess.DEVNULL)
        how = ["--simulate", "--machine", "h100"] if simulate else []
        done = subprocess.run([piper, "plan", f"{at}/job.h5", "--device", "cuda", "--json", *how], check=True,
                              capture_output=True, text=True)
        return json.loads(done.stdout)


# ---- activations ----------------------------------------------------------------------------------------------------------


def activations(piper):
    """A layer and microbatch: what one layer more on each stage adds to the peak."""
    print("| layer | formula | bytes | planned | planned / formula |\n|---|---|---|---|---|")
    s, h, t, sheet = 8192, 8192, 8, []
    for model, layers, formula, share in (
            (GPT, "n_layer", "34 s b h / t", 34.0),
            (LLAMA70, "num_hidden_layers", "s b (12 h + 4 kv + 6 f) / t", 12 + (4 * 1024 + 6 * 28672) / h)):
        peak = []
        for n in (80, 84):
            out = plan(piper, {**model, layers: n}, {"pp": 4, "dp": 2, "tp": t},
                       {"kind": "1f1b", "microbatches": 1}, 2, s, simulate=False)
            peak.append(max(r["peak_bytes"]["activations"] for r in out["per_rank"]))
        bound, planned = int(share * s * h / t), peak[1] - peak[0]
        print(f"| {model['model_type']} | {formula} = {share:g} s b h / t | {bound:,} | {planned:,} | {planned / bound:.4f} |")
        sheet.append(planned)
    return sheet


# ---- steps ----------------------------------------------------------------------------------------------------------------


def model_flops(m, tokens):
    """Of a token, forward and backward: 6 a parameter of a product, and attention (the causal half of it)."""
    h, heads = m["hidden_size"], m["num_attention_heads"]
    kv = m["num_key_value_heads"] * h // heads
    ffn = 3 * h * m["intermediate_size"] * m.get("num_experts_per_tok", 1)
    layer = 2 * h * h + 2 * h * kv + ffn
    return 6 * (m["num_hidden_layers"] * layer + h * m["vocab_size"]) + 6 * m["num_hidden_layers"] * tokens * h


STEPS = (  # model, name, layout, stages of a pipeline rank, microbatches, batch, tokens, published
    (LLAMA405, "llama 405B", {"pp": 16, "dp": 4, "tp": 8}, 4, 32, 128, 8192, "430: Llama 3, with dp 64"),
    (LLAMA405, "llama 405B", {"pp": 16, "dp": 4, "tp": 8}, 4, 16, 64, 8192, "400: Llama 3, with dp 128"),
    (LLAMA405, "llama 405B", {"pp": 16, "dp": 1, "tp": 8, "cp": 16}, 4, 16, 16, 131072, "380: Llama 3, with dp 8"),
    (LLAMA405, "llama 405B", {"pp": 8, "dp": 8, "tp": 8, "cp": 2}, 8, 64, 512, 8192, "763 in FP8: NeMo 25.09"),
    (LLAMA70, "llama 70B", {"pp": 4, "dp": 2, "tp": 4, "cp": 2}, 5, 64, 128, 8192, "738 in FP8: NeMo 24.07"),
    (LLAMA70, "llama 70B", {"pp": 8, "dp": 2, "tp": 4}, 5, 64, 128, 8192, "727 in FP8: NeMo 25.09"),
    (LLAMA70, "llama 70B", {"pp": 4, "dp": 2, "tp": 8}, 5, 64, 128, 8192, None),
    (LLAMA70, "llama 70B", {"pp": 4, "dp": 1, "tp": 8, "cp": 2}, 5, 64, 64, 8192, None),
    (MIXTRAL, "mixtral 8x22B", {"pp": 8, "dp": 8, "tp": 2, "ep": 8}, 7, 32, 256, 4096, "487: MoE parallel folding"),
    (MIXTRAL, "mixtral 8x22B", {"pp": 8, "dp": 2, "tp": 8, "ep": 8}, 7, 128, 256, 4096, None),
    (MIXTRAL, "mixtral 8x22B", {"pp": 8, "dp": 8, "cp": 2, "ep": 8}, 7, 32, 256, 4096, None),
)


def steps(piper):
    print("| model | GPUs | pp, tp, cp, dp, ep | stages of a rank | tokens | microbatches | tokens/s a GPU, simulated | "
          "TFLOP/s, simulated | of a step: regions exposed; idle | TFLOP/s, measured by others |\n|" + "---|" * 10)
    for model, name, layout, chunks, microbatches, batch, tokens, published in STEPS:
        options = {"zero": 1, "placement": "interleaved", "chunks": chunks, **({"vocab": True} if "tp" in layout else {})}
        out = plan(piper, model, {**layout, **options}, {"kind": "interleaved", "microbatches": microbatches}, batch, tokens)
        rate = out["tokens_per_second"] / out["ranks"]
        step, mean = out["step_seconds"], out["mean"]
        grid = ", ".join(str(layout.get(k, 1)) for k in ("pp", "tp", "cp", "dp", "ep"))
        print(f"| {name} | {out['ranks']} | {grid} | {chunks} | {tokens} | {microbatches} | {rate:.0f} | "
              f"{rate * model_flops(model, tokens) / 1e12:.0f} | {100 * mean['exposed_seconds']['regions'] / step:.1f}%; "
              f"{100 * mean['idle_seconds'] / step:.1f}% | {published or ''} |", flush=True)


# ---- overlap --------------------------------------------------------------------------------------------------------------


def overlap(piper):
    """Milliseconds a layer and microbatch: of a rank's regions, and of these what is exposed."""
    print("| job | streams | regions, ms | exposed, ms | overlapped |\n|---|---|---|---|---|")
    for model, name, layout, microbatches in (
            (LLAMA70, "llama 70B", {"pp": 4, "dp": 2, "tp": 8}, 8),
            (LLAMA70, "llama 70B", {"pp": 4, "dp": 2, "tp": 8, "cp": 2}, 8),
            (MIXTRAL, "mixtral 8x22B", {"pp": 8, "dp": 2, "tp": 8, "ep": 8}, 16)):
        for own in (True, False):
            streams = {} if own else {"tp_stream": "default_stream", **({"cp_stream": "default_stream"} if "cp" in layout else {})}
            out = plan(piper, model, {**layout, **streams, "zero": 1}, {"kind": "1f1b", "microbatches": microbatches},
                       microbatches * layout["dp"], 8192)
            n = model["num_hidden_layers"] / layout["pp"] * microbatches / 1e3
            total, exposed = (out["mean"][k]["regions"] / n for k in ("communication_seconds", "exposed_seconds"))
            grid = ", ".join(f"{k} {v}" for k, v in layout.items())
            print(f"| {name}, {grid} | {'their own' if own else 'that of computation'} | {total:.2f} | {exposed:.2f} | "
                  f"{100 * (1 - exposed / total):.0f}% |", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("piper")
    tables = {"activations": activations, "steps": steps, "overlap": overlap}
    p.add_argument("--only", choices=list(tables))
    o = p.parse_args()
    for name, table in tables.items():
        if o.only in (None, name):
            print(f"\n{name}\n")
            table(os.path.abspath(o.piper))


if __name__ == "__main__":
    sys.exit(main())
