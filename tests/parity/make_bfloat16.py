#!/usr/bin/env python3
"""How far PyTorch's losses and gradients in bfloat16 are from those in float32, for the models of models.py: bfloat16.json, beside which
`parity --bfloat16` (bfloat16.c) holds Piper's. The distances are explained there, and in README.

    make_bfloat16.py              writes bfloat16.json anew
    make_bfloat16.py NAME...      these models alone, the others stay

"loss" and "gradient": weights, activations and gradients in bfloat16, as transformers loads a model with dtype="bfloat16" (weights of
routers, and what else a class keeps in float32, stay so), with the attention that it chooses by itself, and the experts by a loop: PyTorch's
grouped products want other widths. That is what a job of Piper with "dtype": "bfloat16" computes in: its activations, the residual
stream among them, are bfloat16. "autocast": float32 weights under torch.autocast, which leaves norms and the residual stream in
float32; for comparison.
"""

import contextlib
import json
import sys
import tempfile

import make_parity
import numpy as np
import torch
import torch.nn.functional as F
import transformers
from make_parity import HERE, T, load, routers, routing_margin, save, tokens
from models import MODELS
from transformers import AutoModelForCausalLM

LOSSES, GRADIENTS, SEED = 384, 48, 1000
CANDIDATES = 4096  # sequences, of which a model with experts takes the LOSSES that are routed most clearly


def load_half(folder, config):
    if config["model_type"] in make_parity.equations.CLASSES:
        return load(folder, torch.float32).to(torch.bfloat16)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, experts_implementation="eager").train()


def losses_of(model, ids, autocast=False):
    """Of each sequence of ids."""
    with torch.autocast("cpu", dtype=torch.bfloat16) if autocast else contextlib.nullcontext():
        given = torch.as_tensor(ids[:, :-1])
        known = type(model) in make_parity.equations.CLASSES.values()
        logits = model(given) if known else model(input_ids=given, use_cache=False).logits
    target = torch.as_tensor(ids[:, 1:])
    return F.cross_entropy(logits.float().transpose(1, 2), target, reduction="none").mean(1)


def choices(model):
    """Fills a list with what each router chooses, a call after the other."""
    chosen, ffn = [], getattr(getattr(model, "config", None), "ffn_config", None)

    def hook(module, inputs, output):
        index = output.float().topk(ffn.moe_top_k, dim=-1).indices if ffn else output[-1]
        chosen.append(index.sort(-1).values)

    for m in routers(model):
        m.register_forward_hook(hook)
    return chosen


def numbers(model, ids, autocast=False):
    """Of each sequence its loss, what its tokens are routed to, and of the first GRADIENTS the gradient: a vector, all parameters one after
    the other."""
    chosen = choices(model)
    with torch.no_grad():
        losses = losses_of(model, ids, autocast).double().numpy()
    routes = torch.cat([c.reshape(len(ids), -1) for c in chosen], 1).numpy() if chosen else np.zeros((len(ids), 1))
    named = sorted((n, p) for n, p in model.named_parameters() if p.requires_grad)
    grads = []
    for i in range(GRADIENTS):
        model.zero_grad()
        losses_of(model, ids[i:i + 1], autocast).mean().backward()
        grads.append(torch.cat([p.grad.float().reshape(-1) for _, p in named if p.grad is not None]).numpy())
    return losses, routes, grads


def distance(half, full):
    """As bfloat16.c has it; and in how many sequences a token goes to another expert."""
    same = (half[1] == full[1]).all(1)
    pairs = [(h.astype(np.float64), f.astype(np.float64)) for h, f, s in zip(half[2], full[2], same) if s]
    off, all_ = (sum(float(x @ x) for x in xs) for xs in ([h - f for h, f in pairs], [f for _, f in pairs]))
    return float(np.sqrt(np.mean((half[0] - full[0])[same] ** 2))), float(np.sqrt(off / all_)), int((~same).sum())


def clear(model, ids):
    """The sequences whose experts are chosen by the largest margins, ascending, so that rounding chooses no others; None: no routers."""
    gaps = routing_margin(model, each=len(ids))
    with torch.no_grad():
        losses_of(model, ids)
    if not gaps:
        return None
    margin = np.min(gaps, axis=0)
    return sorted(int(i) for i in np.argsort(-margin, kind="stable")[:LOSSES])


def describe(name, config):
    with tempfile.TemporaryDirectory() as folder:
        save(config, folder, half=True)
        ids = tokens(SEED, 1, CANDIDATES)[0]
        order = clear(load(folder, torch.float32), ids)
        ids = ids[order if order else slice(LOSSES)]
        full = numbers(load(folder, torch.float32), ids)
        loss, gradient, moved = distance(numbers(load_half(folder, config), ids), full)
        try:
            light = distance(numbers(load(folder, torch.float32), ids, True), full)[:2]
        except RuntimeError:  # dbrx adds bfloat16 to float32
            light = ()
    row = {"loss": float("%.4g" % loss), "gradient": float("%.4g" % gradient), "moved": moved,
           "autocast": [float("%.4g" % x) for x in light]}
    print(f"{name:28} {json.dumps(row)}", flush=True)
    return {**row, "sequences": order} if order else row


def write(rows):
    head = {"losses": LOSSES, "gradients": GRADIENTS, "seq_len": T, "seed": SEED}
    text = ",\n".join(json.dumps(n) + ": " + json.dumps(rows[n], separators=(",", ":")) for n in MODELS if n in rows)
    (HERE / "bfloat16.json").write_text(json.dumps(head)[:-1] + ', "models": {\n' + text + "\n}}\n")


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    names, path = sys.argv[1:], HERE / "bfloat16.json"
    rows = json.loads(path.read_text())["models"] if path.exists() else {}
    for name, config in sorted(MODELS.items(), key=lambda m: m[0] != m[1]["model_type"]):  # one of each family first
        if not names or any(name == n or name.startswith(n + "-") for n in names):
            rows[name] = describe(name, config)
            write(rows)


if __name__ == "__main__":
    main()
