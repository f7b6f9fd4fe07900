#!/usr/bin/env python3
"""What transformers computes for tiny models of every family: parity.json, against which tests/parity/parity.c holds Piper.

    make_parity.py                writes parity.json anew (needs torch, transformers, safetensors: see README)
    make_parity.py NAME...        these models alone, the others stay
    make_parity.py --piper PIPER [NAME...]
                                  the way of a user: PIPER imports transformers' files and exports a folder with a config.json of its
                                  own; every byte is compared, and transformers loads the folder as it is and computes the
                                  same loss: exported.txt

A weight is a function of the name and the place that it has in the file that transformers saves, a token of its place in the
text: hash64() below, hash_at() in model.c. All numbers are computed in float64.
"""

import contextlib
import copy
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

import equations
from models import MODELS, TRAINING

HERE = pathlib.Path(__file__).parent
STEPS, BATCH, T, VOCAB = 10, 8, 13, 61
BETAS, EPS, DECAY, CLIP, PEAK, WARMUP = (0.9, 0.95), 1e-8, 0.1, 1.0, 1e-3, 3
SAMPLES = 3  # of a tensor, in parity.json; of an expert's 1
MARGIN = 1e-4  # of routing
MASK = (1 << 64) - 1


# ---- weights and tokens from nothing


def mix(x):
    x = np.atleast_1d(np.asarray(x, np.uint64))
    x = (x ^ x >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ x >> np.uint64(33)) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ x >> np.uint64(33)


def hash64(name, i):
    """Of a name and places in it: FNV-1a of the bytes, then a mix with each place."""
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = (h ^ b) * 0x100000001B3 & MASK
    return mix(np.uint64(h) ^ mix(np.asarray(i, np.uint64) + np.uint64(1)))


def uniform(name, n):
    """n float32 of 24 bits in [-1, 1)."""
    return (hash64(name, np.arange(n)) >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def spread(name, shape, config):
    """Middle and largest deviation of a tensor's elements: every term shows in the logits."""
    if name.endswith("e_score_correction_bias"):
        return 0.0, 0.05
    if name.endswith("bias") or name.endswith("sinks"):
        return 0.0, 0.3
    gemma = config["model_type"].startswith("gemma")  # norm weights are stored less 1, embeddings multiplied
    if len(shape) == 1:
        return 0.0 if gemma else 1.0, 0.5
    if "embed" in name or "wte" in name or "wpe" in name:
        return 0.0, 0.15 if gemma else 0.7
    router = name.endswith(("gate.weight", "router.weight", "router.layer.weight"))
    return 0.0, (6.0 if router else 1.7) * shape[-1] ** -0.5


def weight(name, shape, config):
    middle, most = spread(name, shape, config)
    return (middle + most * uniform(name, int(np.prod(shape)))).astype(np.float32).reshape(shape)


def tokens(seed, steps=STEPS, batch=BATCH):
    """(steps, batch, T + 1): token t of sample s of a step; a target is the token that follows."""
    n = steps * batch * (T + 1)
    return (hash64("tokens %d" % seed, np.arange(n)) % np.uint64(VOCAB)).astype(np.int64).reshape(steps, batch, T + 1)


# ---- transformers, in float64


class Torch64:
    """The module torch with float32 meaning float64: transformers casts norms, softmax and rotations to float32."""

    def __getattr__(self, name):
        return torch.float64 if name in ("float32", "float") else getattr(torch, name)


@contextlib.contextmanager
def precision(model, dtype):
    """Everything inside `with` that `model` computes is computed in dtype."""
    if dtype == torch.float32:
        yield
        return
    names = {type(m).__module__ for m in model.modules()} | {"transformers.integrations.moe"}
    patched = [sys.modules[n] for n in names if n in sys.modules and hasattr(sys.modules[n], "torch")]
    patched = [m for m in patched if m.__name__.startswith("transformers.")]
    to_float = torch.Tensor.float
    try:
        torch.Tensor.float = torch.Tensor.double
        for m in patched:
            m.torch = Torch64()
        yield
    finally:
        torch.Tensor.float = to_float
        for m in patched:
            m.torch = torch


def on_disk(model):
    """Tensors under the names, and in the packings, of the files that transformers saves."""
    if type(model) in equations.CLASSES.values():
        return {k: v.detach().clone().numpy() for k, v in sorted(model.state_dict().items())}
    with tempfile.TemporaryDirectory() as tmp:
        model.save_pretrained(tmp)
        return dict(sorted(load_file(tmp + "/model.safetensors").items()))


def save(config, folder, half=False):
    """The folder of a model with weights by hash64(), half: rounded to bfloat16; returns its tensors."""
    config = {**copy.deepcopy(config), "pad_token_id": None}  # else that row of the embedding has no gradient
    given = copy.deepcopy(config)  # transformers writes into the objects that it is given
    if config["model_type"] in equations.CLASSES:
        model = equations.CLASSES[config["model_type"]](config)
    else:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    shapes = {k: v.shape for k, v in on_disk(model).items()}
    tensors = {k: weight(k, s, config) for k, s in sorted(shapes.items())}
    if half:
        tensors = {k: torch.as_tensor(x).bfloat16().float().numpy() for k, x in tensors.items()}
    save_file(tensors, folder + "/model.safetensors", metadata={"format": "pt"})
    pathlib.Path(folder, "config.json").write_text(json.dumps(given))
    return tensors


def load(folder, dtype):
    config = json.loads(pathlib.Path(folder, "config.json").read_text())
    if config["model_type"] in equations.CLASSES:
        model = equations.CLASSES[config["model_type"]](config)
        files = pathlib.Path(folder).glob("*.safetensors")
        model.load_state_dict({k: torch.as_tensor(v) for f in files for k, v in load_file(f).items()})
        return model.to(dtype).train()
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    )
    return model.to(dtype).train()


def loss_of(model, ids, dtype):
    with precision(model, dtype):
        if type(model) in equations.CLASSES.values():
            logits = model(torch.as_tensor(ids[:, :-1]))
        else:
            logits = model(input_ids=torch.as_tensor(ids[:, :-1]), use_cache=False).logits
    target = torch.as_tensor(ids[:, 1:]).reshape(-1)
    return F.cross_entropy(logits.to(dtype).reshape(target.numel(), -1), target)


def decays(name, p):
    """By role: biases, norms and sinks never do, whatever their shape."""
    return p.ndim >= 2 and not name.endswith(("bias", "sinks", "norm.weight"))


class Balance:
    """The rule of DeepSeek-V3 (arXiv 2412.19437, 2.1.2), which transformers leaves to who trains: after each step the selection
    bias of every expert moves by the rate, up where fewer tokens than the mean chose it, down where more did."""

    def __init__(self, model, rate):
        self.rate, self.load = rate, {}
        for m in model.modules():
            if rate and hasattr(m, "e_score_correction_bias"):
                m.register_forward_hook(self.count)

    def count(self, router, inputs, output):
        chosen = output[2].detach().reshape(-1)
        self.load[router] = self.load.get(router, 0) + torch.bincount(chosen, minlength=router.num_experts)

    def step(self):
        for router, load in self.load.items():
            load = load.double()
            router.e_score_correction_bias += self.rate * torch.sign(load.mean() - load)
        self.load = {}


def train(folder, seed, dtype, how):
    """Losses before each update, norms of the gradients, and the last weights as they lie in files."""
    steps = how.get("steps", STEPS)
    model, text = load(folder, dtype), tokens(seed, steps, how.get("batch", BATCH))
    balance = Balance(model, how.get("bias_update_rate", 0))
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in named if decays(n, p)], "weight_decay": DECAY},
        {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=BETAS, eps=EPS, foreach=False)
    losses, norms, margin = [], [], routing_margin(model)
    for step in range(steps):
        for g in optimizer.param_groups:
            g["lr"] = PEAK * min(1.0, (step + 1) / WARMUP)
        optimizer.zero_grad()
        loss = loss_of(model, text[step], dtype)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_([p for _, p in named], CLIP)))
        losses.append(float(loss.detach()))
        if np.min(margin, initial=1.0) < MARGIN:
            break
        optimizer.step()
        balance.step()
    return {"losses": losses, "norms": norms, "weights": on_disk(model), "margin": float(np.min(margin, initial=1.0))}


def routers(model):
    return [m for m in model.modules() if hasattr(getattr(m, "layer", m), "weight") and "Router" in type(m).__name__]


def routing_margin(model, each=1):
    """Fills a list with the smallest distance between what a token takes, experts or groups of them, and the best that it does not: of
    each of so many sequences, a call of a router after the other."""
    gaps, ffn = [], getattr(getattr(model, "config", None), "ffn_config", None)

    def hook(module, inputs, output):
        x = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).double()
        logits = x @ getattr(module, "layer", module).weight.detach().double().T
        if getattr(module, "bias", None) is not None:
            logits = logits + module.bias.detach().double()
        bias = inputs[1] if len(inputs) > 1 else getattr(module, "e_score_correction_bias", None)
        statics = getattr(module, "moe_statics", None)
        scores = logits if bias is None else logits.sigmoid() + bias.double()
        if statics is not None:
            scores = logits.softmax(-1) + statics.e_score_correction_bias.detach().double()
        k = ffn.moe_top_k if ffn else module.top_k
        gap = torch.full(scores.shape[:1], torch.inf, dtype=torch.float64)
        groups = getattr(module, "num_group", None) or 1
        if groups > 1 and getattr(module, "topk_method", "") != "greedy":
            of_group = scores.unflatten(-1, (groups, -1))
            best = of_group.topk(2, dim=-1).values.sum(-1) if bias is not None else of_group.max(-1).values
            n = module.topk_group
            gap, chosen = distance(best, n, gap), best.topk(n, dim=-1).indices
            shut = torch.ones_like(best, dtype=torch.bool).scatter(1, chosen, False)
            scores = of_group.masked_fill(shut[..., None], -torch.inf).flatten(1)
        gaps.append(distance(scores, k, gap).reshape(each, -1).min(1).values.numpy())

    def distance(scores, k, gap):
        top = scores.topk(min(k + 1, scores.shape[-1]), dim=-1).values
        return torch.minimum(gap, top[:, k - 1] - top[:, k]) if top.shape[-1] > k else gap

    for m in routers(model):
        m.register_forward_hook(hook)
    return gaps


# ---- the table


def firm(exact, single, most):
    """Elements that torch's own float32 moves as its float64 does. Where a gradient is zero in exact arithmetic, or nearly (the bias
    of k where positions hardly turn it, a row that no token reaches), Adam makes whole steps of its rounding errors, and no
    two programs agree; samples are not taken there."""
    return np.abs(single - exact) <= 5e-7 * most


def describe(name, config, row):
    how = TRAINING.get(name, {})
    with tempfile.TemporaryDirectory() as folder:
        tensors = save(config, folder)
        for seed in range(100):
            exact = train(folder, seed, torch.float64, how)
            if exact["margin"] >= MARGIN:
                break
        else:
            raise RuntimeError(f"tokens are routed by a hair under every seed")
        single = train(folder, seed, torch.float32, how)
    row.update(name=name, config=config, seed=seed, losses=[float("%.10g" % x) for x in exact["losses"]], tensors={})
    if how:
        row.update(how, norms=[float("%.10g" % x) for x in exact["norms"]])
    worst, soft, of = 0.0, 0, 0
    for k, w in exact["weights"].items():
        most = float(np.abs(w).max())
        good = firm(w, single["weights"][k], most).reshape(-1)
        loud = np.flatnonzero(good)
        assert len(loud) * 4 >= w.size or "k_proj.bias" in k or "key_value.bias" in k, (
            f"{k}: torch's float32 agrees with its float64 in {len(loud)} of {w.size} elements")
        soft, of = soft + w.size - len(loud), of + w.size
        n = 1 if ".experts." in k else SAMPLES
        at = sorted({int(loud[int(hash64(k, i)[0]) % len(loud)]) for i in range(n if len(loud) else 0)})
        worst = max(worst, float(np.abs(single["weights"][k] - w).reshape(-1)[at].max(initial=0)) / most)
        middle, spreads = spread(k, tensors[k].shape, config)
        row["tensors"][k] = [w.size, middle, float(spreads), float("%.4g" % most), at,
                             [float("%.8g" % w.reshape(-1)[i]) for i in at]]
    off = max(abs(a / b - 1) for a, b in zip(single["losses"], exact["losses"]))
    print(f"{name:28} loss {exact['losses'][0]:.6f} -> {exact['losses'][-1]:.6f}, seed {seed}, margin {exact['margin']:.1e};"
          f" torch's float32 is off by {off:.1e} in losses, {worst:.1e} in samples, soft elements {soft} of {of}", flush=True)
    return row


def write(rows):
    """A model's head on a line, a tensor a line below it: elements, middle and largest deviation of the first weights; then, of the last
    weights, the largest, and places and values of samples."""
    with open(HERE / "parity.json", "w") as f:
        f.write('{"steps": %d, "batch": %d, "seq_len": %d, "lr": %g, "warmup": %d, "weight_decay": %g, "clip": %g,\n "models": [\n'
                % (STEPS, BATCH, T, PEAK, WARMUP, DECAY, CLIP))
        for i, r in enumerate(rows):
            head = {k: r[k] for k in ("name", "config", "seed", *TRAINING.get(r["name"], ()), "losses", "norms") if k in r}
            f.write(json.dumps(head)[:-1] + ', "tensors": {\n')
            f.write(",\n".join(json.dumps(k) + ": " + json.dumps(v, separators=(",", ":")) for k, v in r["tensors"].items()))
            f.write("}}%s\n" % ("," if i + 1 < len(rows) else ""))
        f.write("]}\n")


# ---- the way of a user


def run(*args):
    r = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    if r.returncode:
        raise RuntimeError(f"{' '.join(map(str, args))}: {r.stdout}{r.stderr}")


def check_user(piper, name, config):
    train_json = {"batch_size": BATCH, "seq_len": T, "steps": STEPS}
    with tempfile.TemporaryDirectory() as d:
        os.mkdir(d + "/hf")
        was = save(config, d + "/hf")
        loss = float(loss_of(load(d + "/hf", torch.float64), tokens(0)[0], torch.float64).detach())
        pathlib.Path(d, "train.json").write_text(json.dumps(train_json))
        pathlib.Path(d, "one.json").write_text("[]")
        run(piper, "build", "-m", d + "/hf/config.json", "-s", d + "/one.json", "-t", d + "/train.json", "-o", d + "/job.h5")
        run(piper, "checkpoint", "import", d + "/job.h5", d + "/hf", "-o", d + "/run")
        run(piper, "checkpoint", "export", d + "/run", "--job", d + "/job.h5", "-o", d + "/out", "--file-bytes", "20000")
        files = sorted(pathlib.Path(d, "out").glob("*.safetensors"))
        back = {k: v for f in files for k, v in load_file(f).items()}
        assert set(was) == set(back), set(was) ^ set(back)
        for k in was:
            assert was[k].tobytes() == back[k].tobytes() and was[k].shape == back[k].shape, k
        again = float(loss_of(load(d + "/out", torch.float64), tokens(0)[0], torch.float64).detach())
        assert again == loss, (loss, again)
    return f"{name:28} {len(was):4} tensors in {len(files):2} files: the same bits; the folder loads, loss {again:.10g}"


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    args = sys.argv[1:]
    piper = args[1] if args[:1] == ["--piper"] else None
    names = args[2:] if piper else args
    path = HERE / "parity.json"
    rows = {r["name"]: r for r in json.loads(path.read_text())["models"]} if path.exists() else {}
    path = HERE / "exported.txt"
    lines = {r.split()[0]: r for r in path.read_text().splitlines()} if path.exists() else {}
    failed = []
    for name, config in MODELS.items():
        if names and not any(name == n or name.startswith(n + "-") for n in names):
            continue
        try:
            if piper:
                lines[name] = check_user(piper, name, config)
                print(lines[name], flush=True)
                (HERE / "exported.txt").write_text("".join(lines[n] + "\n" for n in MODELS if n in lines))
            else:
                rows[name] = describe(name, config, {})
                write([rows[n] for n in MODELS if n in rows])
        except Exception as e:  # the others are worth having
            print(f"{name}: {type(e).__name__}: {e}", file=sys.stderr, flush=True)
            failed.append(name)
    if failed:
        raise SystemExit("failed: " + " ".join(failed))


if __name__ == "__main__":
    main()
